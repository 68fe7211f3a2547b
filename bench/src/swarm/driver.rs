//! The swarm's ring: connects, receives, sends, keeps the schedule of pings.
//!
//! A client's number is its slot in the file table. Connecting is one chain of linked operations (socket, options, bind,
//! connect); receiving is multishot with provided buffers; one send per client is outstanding, more bytes wait behind.

#![allow(unsafe_code)]

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use breakwater::wire::write;
use hdrhistogram::Histogram;
use io_uring::squeue::{self, Flags};
use io_uring::types::{DestinationSlot, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, types};

use super::heard::{Schedule, note};
use super::peer::{self, Manner};
use super::secure::{Channel, Secure};
use super::{Command, Commands, Plan, Seen, Summary};
use crate::buffers::{self, Buffers};
use crate::os::{self, Wake};
use crate::{MAGIC, Outcome};

/// Connects outstanding at a time: within the backlog of a listener.
const CONNECTING: u32 = 256;
/// Clients per source address: far below the ports of one.
const PER_SOURCE: u32 = 10_000;
/// Operations of the connect chain.
const CHAIN: usize = 5;
/// Longest latency told apart from longer ones, nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// Longest stay in the kernel.
const TICK: Duration = Duration::from_millis(200);
/// Receive buffers.
const BUFFERS: u16 = 4_096;
/// Completions handled between two entries into the kernel.
const REAP: usize = 256;

/// Kinds of operations, the upper half of the user data; the lower is the client.
const CONNECT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const WAKE: u64 = 4 << 32;
/// Links of the connect chain before the connect; seen only when they fail, and then the connect fails, too.
const LINK: u64 = 5 << 32;

/// One client.
#[derive(Debug, Default)]
struct Client {
    /// Being sent; not touched before its completion.
    sending: Vec<u8>,
    /// Sent next.
    pending: Vec<u8>,
    /// The beginning of a message.
    input: Vec<u8>,
    /// TLS, where there is any.
    channel: Option<Box<Channel>>,
    open: bool,
}

struct Driver<'a> {
    ring: IoUring,
    /// After the ring, so that it is dropped after it.
    buffers: Buffers,
    plan: Plan,
    secure: Option<Secure>,
    /// What TLS opens to; empty between two turns.
    plain: Vec<u8>,
    seen: &'a Seen,
    clients: Vec<Client>,
    sources: Vec<libc::sockaddr_in>,
    target: libc::sockaddr_in,
    begun: u32,
    connecting: u32,
    schedule: Option<Schedule>,
    latency: Histogram<u64>,
    lateness: Histogram<u64>,
    over: bool,
}

/// Runs a swarm to its end.
pub(super) fn run(
    plan: Plan,
    secure: Option<Secure>,
    seen: &Seen,
    wake: &Wake,
    commands: &Commands,
) -> Outcome<Summary> {
    let mut driver = Driver::new(plan, secure, seen)?;
    driver.arm(wake)?;
    while !driver.over {
        driver.connect_some()?;
        driver.ping_due()?;
        driver.enter()?;
        driver.reap(wake)?;
        while let Ok(command) = commands.try_recv() {
            driver.obey(command)?;
        }
    }
    Ok(driver.summary())
}

impl<'a> Driver<'a> {
    fn new(plan: Plan, secure: Option<Secure>, seen: &'a Seen) -> Outcome<Driver<'a>> {
        breakwater::ring::raise_file_limit()?;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(16_384)
            .build(1_024)?;
        ring.submitter()
            .register_files_sparse(plan.clients)
            .map_err(|error| format!("a table for {} clients: {error} (see ulimit -n)", plan.clients))?;
        let buffers = Buffers::register(&ring, BUFFERS)?;
        if plan.pings.is_some_and(|pings| pings.urgent) {
            os::urgent();
        }
        let std::net::SocketAddr::V4(to) = plan.target else { return Err("the target is not IPv4".into()) };
        let sources = (0..=plan.clients / PER_SOURCE)
            .map(|n| address([127, 0, 1, plan.source.wrapping_add(n as u8)], 0))
            .collect();
        Ok(Driver {
            ring,
            buffers,
            seen,
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            sources,
            target: address(to.ip().octets(), to.port()),
            begun: 0,
            connecting: 0,
            schedule: None,
            latency: Histogram::new_with_bounds(1, LONGEST, 3)?,
            lateness: Histogram::new_with_bounds(1, LONGEST, 3)?,
            over: false,
            plan,
            secure,
            plain: Vec::new(),
        })
    }

    /// Queues an operation, making room for it when there is none.
    ///
    /// # Safety
    /// What the entry points to stays valid until its completion has been reaped.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> Outcome {
        // SAFETY: the caller's promise is passed on.
        if unsafe { self.ring.submission().push(entry) }.is_err() {
            self.ring.submit()?;
            // SAFETY: as above.
            unsafe { self.ring.submission().push(entry) }?;
        }
        Ok(())
    }

    fn summary(&self) -> Summary {
        Summary { latency: self.latency.clone(), lateness: self.lateness.clone(), cpu: os::thread_cpu() }
    }

    fn arm(&mut self, wake: &Wake) -> Outcome {
        let poll = opcode::PollAdd::new(types::Fd(wake.fd()), libc::POLLIN as u32).build().user_data(WAKE);
        // SAFETY: it points to nothing.
        unsafe { self.push(&poll) }
    }

    fn connect_some(&mut self) -> Outcome {
        while self.begun < self.plan.clients && self.connecting < CONNECTING {
            // The chain goes in whole: a link must not be cut by a submission.
            let queue = self.ring.submission();
            let room = queue.capacity() - queue.len();
            drop(queue);
            if room < CHAIN {
                self.ring.submit()?;
            }
            let client = self.begun;
            (self.begun, self.connecting) = (client + 1, self.connecting + 1);
            self.connect(client)?;
        }
        Ok(())
    }

    fn connect(&mut self, client: u32) -> Outcome {
        static ON: i32 = 1;
        let length = size_of::<libc::sockaddr_in>() as u32;
        let source = (client / PER_SOURCE) as usize;
        let source: *const libc::sockaddr_in = &raw const self.sources[source];
        let target: *const libc::sockaddr_in = &raw const self.target;
        let link = |entry: squeue::Entry| {
            entry.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS).user_data(LINK | u64::from(client))
        };
        let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0)
            .file_index(Some(DestinationSlot::try_from_slot_target(client).map_err(|_| "slot")?))
            .build();
        let nodelay = opcode::SetSockOpt::new(
            Fixed(client),
            libc::IPPROTO_TCP as u32,
            libc::TCP_NODELAY as u32,
            (&raw const ON).cast(),
            4,
        )
        .build();
        // The port is chosen by the connect, which knows both ends: the bind would look through all sockets of the source.
        let no_port = opcode::SetSockOpt::new(
            Fixed(client),
            libc::IPPROTO_IP as u32,
            libc::IP_BIND_ADDRESS_NO_PORT as u32,
            (&raw const ON).cast(),
            4,
        )
        .build();
        let bind = opcode::Bind::new(Fixed(client), source.cast(), length).build();
        let connect = opcode::Connect::new(Fixed(client), target.cast(), length).build();
        // SAFETY: the option is static; the addresses live in `self` and are copied by the kernel at submission.
        unsafe {
            self.push(&link(socket))?;
            self.push(&link(nodelay))?;
            self.push(&link(no_port))?;
            self.push(&link(bind))?;
            self.push(&connect.user_data(CONNECT | u64::from(client)))
        }
    }

    /// Submits, and stays until something is done or due.
    fn enter(&mut self) -> Outcome {
        let stay = match (&self.schedule, self.plan.pings) {
            (Some(schedule), Some(pings)) => {
                let due = schedule.start + pings.every * (schedule.next - schedule.first) as u32;
                due.saturating_duration_since(Instant::now()).min(TICK)
            }
            _ => TICK,
        };
        let stay = Timespec::from(stay);
        match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&stay)) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error.into()),
            },
        }
    }

    fn reap(&mut self, wake: &Wake) -> Outcome {
        loop {
            let done: Vec<cqueue::Entry> = self.ring.completion().take(REAP).collect();
            if done.is_empty() {
                return Ok(());
            }
            for entry in &done {
                let client = entry.user_data() as u32;
                match entry.user_data() & !0xffff_ffff {
                    CONNECT => self.connected(client, entry.result())?,
                    RECEIVE => self.received(client, entry)?,
                    SEND => self.sent(client, entry.result())?,
                    WAKE => {
                        wake.clear();
                        self.arm(wake)?;
                    }
                    _ => {}
                }
            }
        }
    }

    fn connected(&mut self, client: u32, result: i32) -> Outcome {
        self.connecting -= 1;
        if result < 0 {
            self.end(client);
            return Ok(());
        }
        self.clients[client as usize].open = true;
        self.seen.connected.fetch_add(1, Ordering::Release);
        self.receive(client)?;
        let Some(secure) = &self.secure else { return self.greet(client) };
        let mut out = Vec::new();
        match Channel::begin(secure, &mut out) {
            Ok(channel) => self.clients[client as usize].channel = Some(Box::new(channel)),
            Err(end) => {
                let _ = self.seen.why.set(end);
                self.end(client);
                return Ok(());
            }
        }
        self.send_as_is(client, &out)
    }

    /// The client may speak.
    fn greet(&mut self, client: u32) -> Outcome {
        let mut out = Vec::new();
        let nonce = u64::from(self.plan.source) << 32 | u64::from(client) | 1 << 48;
        peer::greet(self.plan.manner, self.plan.target, nonce, &mut out);
        if self.plan.manner == Manner::Mute {
            self.seen.ready.fetch_add(1, Ordering::Release);
        }
        self.send(client, &out)
    }

    fn receive(&mut self, client: u32) -> Outcome {
        let recv = opcode::RecvMulti::new(Fixed(client), buffers::GROUP)
            .build()
            .user_data(RECEIVE | u64::from(client));
        // SAFETY: the kernel picks a provided buffer; those outlive the ring.
        unsafe { self.push(&recv) }
    }

    fn received(&mut self, client: u32, entry: &cqueue::Entry) -> Outcome {
        let (result, flags) = (entry.result(), entry.flags());
        if result <= 0 && -result != libc::ENOBUFS {
            self.end(client);
            return Ok(());
        }
        if let Some(number) = cqueue::buffer_select(flags) {
            let len = result.unsigned_abs() as usize;
            let mut out = Vec::new();
            let good = match self.secure {
                Some(_) => self.open(client, number, len)?,
                None => true,
            };
            let good = good && self.read(client, number, len, &mut out);
            self.buffers.give(number);
            if !good {
                self.end(client);
                return Ok(());
            }
            self.send(client, &out)?;
        }
        if !cqueue::more(flags) && self.clients[client as usize].open {
            self.receive(client)?;
        }
        Ok(())
    }

    /// Opens what has come into `plain`, and answers what TLS asks; false when it cannot be opened.
    fn open(&mut self, number: u32, buffer: u16, len: usize) -> Outcome<bool> {
        let Driver { buffers, clients, secure, plain, .. } = self;
        let (Some(client), Some(secure)) = (clients.get_mut(number as usize), secure) else {
            return Ok(false);
        };
        let Some(channel) = &mut client.channel else { return Ok(false) };
        plain.clear();
        let mut out = Vec::new();
        let opened = channel.received(secure, buffers.bytes(buffer, len), plain, &mut out);
        self.send_as_is(number, &out)?;
        match opened {
            Ok(None) => Ok(true),
            Ok(Some(resumed)) => {
                self.seen.handshakes.fetch_add(1, Ordering::Release);
                self.seen.resumed.fetch_add(resumed.into(), Ordering::Release);
                self.greet(number)?;
                Ok(true)
            }
            Err(end) => {
                // The first is enough for people.
                let _ = self.seen.why.set(end);
                Ok(false)
            }
        }
    }

    /// Reads what has come, or what it opened to; false when it cannot be read.
    fn read(&mut self, client: u32, number: u16, len: usize, out: &mut Vec<u8>) -> bool {
        let Driver { buffers, clients, seen, schedule, latency, plan, secure, plain, .. } = self;
        let Some(client) = clients.get_mut(client as usize) else { return false };
        let bytes = if secure.is_some() { plain } else { buffers.bytes(number, len) };
        let hear = |heard| note(heard, seen, schedule.as_ref(), plan, latency);
        if client.input.is_empty() {
            let Ok(used) = peer::read(plan.manner, bytes, out, hear) else { return false };
            client.input.extend_from_slice(bytes.get(used..).unwrap_or(&[]));
            return true;
        }
        client.input.extend_from_slice(bytes);
        let Ok(used) = peer::read(plan.manner, &client.input, out, hear) else { return false };
        client.input.drain(..used);
        if client.input.is_empty() {
            client.input = Vec::new();
        }
        true
    }

    /// Sends bytes, behind what is being sent.
    fn send(&mut self, number: u32, bytes: &[u8]) -> Outcome {
        let Some(client) = self.clients.get_mut(number as usize) else { return Ok(()) };
        if !client.open || bytes.is_empty() {
            return Ok(());
        }
        match &mut client.channel {
            Some(channel) => channel.seal(bytes, &mut client.pending),
            None => client.pending.extend_from_slice(bytes),
        }
        if client.sending.is_empty() { self.send_pending(number) } else { Ok(()) }
    }

    /// Sends what is sealed already.
    fn send_as_is(&mut self, number: u32, bytes: &[u8]) -> Outcome {
        let Some(client) = self.clients.get_mut(number as usize) else { return Ok(()) };
        client.pending.extend_from_slice(bytes);
        if client.sending.is_empty() { self.send_pending(number) } else { Ok(()) }
    }

    fn send_pending(&mut self, number: u32) -> Outcome {
        let client = &mut self.clients[number as usize];
        client.sending = std::mem::take(&mut client.pending);
        if client.sending.is_empty() {
            return Ok(());
        }
        let send = opcode::Send::new(Fixed(number), client.sending.as_ptr(), client.sending.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(SEND | u64::from(number));
        // SAFETY: the bytes are on the heap and are not touched before the completion; at the end `drop` leaks those
        // that are still with the kernel.
        unsafe { self.push(&send) }
    }

    fn sent(&mut self, number: u32, result: i32) -> Outcome {
        let client = &mut self.clients[number as usize];
        let whole = result == client.sending.len() as i32;
        client.sending = Vec::new();
        // A failed send is followed by the end of the receive, which is counted.
        if whole { self.send_pending(number) } else { Ok(()) }
    }

    /// Sends the pings whose time has come.
    fn ping_due(&mut self) -> Outcome {
        let Some(pings) = self.plan.pings else { return Ok(()) };
        while let Some(schedule) = &mut self.schedule {
            let now = Instant::now();
            let due = schedule.start + pings.every * (schedule.next - schedule.first) as u32;
            if due > now {
                break;
            }
            let number = schedule.next;
            schedule.next += 1;
            self.lateness.saturating_record(now.duration_since(due).as_nanos() as u64);
            let mut out = Vec::new();
            write::ping(&mut out, MAGIC, number);
            self.send((number % u64::from(self.plan.clients)) as u32, &out)?;
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> Outcome {
        match command {
            Command::Send { client, bytes } => self.send(client, &bytes)?,
            Command::Ping => {
                self.latency.reset();
                self.lateness.reset();
                let first = self.seen.pongs.load(Ordering::Acquire);
                self.schedule = Some(Schedule { start: Instant::now(), first, next: first });
            }
            Command::Pause(give) => {
                self.schedule = None;
                // Whoever asked may be gone.
                let _ = give.send(self.summary());
            }
            Command::Stop => self.over = true,
        }
        Ok(())
    }

    fn end(&mut self, client: u32) {
        self.clients[client as usize].open = false;
        self.seen.ended.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        for client in &mut self.clients {
            std::mem::forget(std::mem::take(&mut client.sending));
        }
        // Closes all connections now: the ring itself ends in the background.
        let _ = self.ring.submitter().unregister_files();
    }
}

fn address(ip: [u8; 4], port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip) },
        sin_zero: [0; 8],
    }
}
