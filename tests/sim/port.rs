//! The network's half of one shard's kernel: its listeners, connection numbers, provided buffers and what is
//! outstanding. Checks that the shard keeps the rules of `io`, and panics with the rule's name when it does not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use breakwater::base::limits::RECV_BUFFER;
use breakwater::base::{ClientId, Conn, Instant};
use breakwater::io::{BufferId, Done, FileRef, IoEnd, KernelCounters, ListenerId, Op, Payload};
use breakwater::link::Doorbell;
use rand::Rng;

use super::net::{Event, Net};
use super::pipe::{Owner, TcpId};

const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
const EIO: i32 = 5;
const ENOBUFS: i32 = 105;
const ETIMEDOUT: i32 = 110;

/// How long a kernel waits after an accept failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A completion on its way to the shard.
#[derive(Debug)]
pub(super) enum Pending {
    /// As it is.
    Done(Done),
    /// Bytes that go into a provided buffer.
    Received { client: ClientId, buffer: BufferId, data: Vec<u8> },
    /// A file read, done when it completes.
    Read { client: ClientId, file: FileRef, offset: u64, len: u32, buffer: Vec<u8>, fail: bool },
}

#[derive(Debug)]
struct Sending {
    client: ClientId,
    payload: Payload,
    at: usize,
}

/// A connection number in use.
#[derive(Debug)]
struct Slot {
    tcp: TcpId,
    receive: Option<ClientId>,
    /// Of that, most bytes.
    most: usize,
    send: Option<Sending>,
}

/// One kernel's state.
#[derive(Debug)]
pub struct Port {
    pub(super) staged: VecDeque<Op>,
    pub(super) pending: BTreeMap<(Instant, u64), Pending>,
    pub(super) counters: KernelCounters,
    /// Until when the shard last said it waits.
    pub(super) until: Instant,
    /// True exactly when the last `wait` handed out something.
    pub(super) busy: bool,
    pub(super) bell: Doorbell,
    /// True exactly when the shard's last `wait` was a sleep: it had announced it on its bell.
    pub(super) asleep: bool,
    /// True exactly when the bell was rung during that sleep and `Doorbell` is still owed.
    pub(super) rung: bool,
    pub(super) backlog: VecDeque<(TcpId, ListenerId)>,
    listening: BTreeSet<u8>,
    /// Listeners whose newcomers wait.
    held: BTreeSet<u8>,
    /// Connections whose `Close` the shard has asked for since they were last taken.
    pub(super) closing: Vec<TcpId>,
    paused_until: Instant,
    conns: BTreeMap<u32, Slot>,
    free_buffers: BTreeSet<u16>,
    buffers: u16,
    no_buffers_until: Instant,
    starving: VecDeque<u32>,
}

impl Port {
    /// True exactly when it is in the listening group.
    pub fn listens(&self, listener: ListenerId) -> bool {
        self.listening.contains(&listener.0)
    }

    /// True exactly when newcomers of a listener wait until the shard listens again.
    pub fn holds(&self, listener: ListenerId) -> bool {
        self.held.contains(&listener.0)
    }

    /// Receive buffers neither free nor recycled yet.
    pub fn buffers_out(&self) -> usize {
        usize::from(self.buffers) - self.free_buffers.len()
    }

    /// Connections the shard holds.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// When the shard has something to do at the latest.
    pub fn next_wake(&self) -> Instant {
        if self.busy || (self.asleep && !self.bell.sleeping()) || !self.staged.is_empty() {
            return Instant(0);
        }
        self.pending.keys().next().map_or(self.until, |(at, _)| self.until.min(*at))
    }
}

impl Net {
    /// Adds a kernel; `bell` is its shard's doorbell.
    pub fn add_port(&mut self, bell: Doorbell) -> usize {
        let buffers = self.faults.buffers;
        self.ports.push(Port {
            staged: VecDeque::new(),
            pending: BTreeMap::new(),
            counters: KernelCounters::default(),
            until: Instant(0),
            busy: true,
            bell,
            asleep: false,
            rung: false,
            backlog: VecDeque::new(),
            listening: BTreeSet::new(),
            held: BTreeSet::new(),
            closing: Vec::new(),
            paused_until: Instant(0),
            conns: BTreeMap::new(),
            free_buffers: (0..buffers).collect(),
            buffers,
            no_buffers_until: Instant(0),
            starving: VecDeque::new(),
        });
        self.ports.len() - 1
    }

    /// The kernels, for checks and for the one that runs the shards.
    pub fn port(&self, port: usize) -> &Port {
        &self.ports[port]
    }

    /// To be called before a shard's turn: ends its sleep.
    pub fn turn_begins(&mut self, port: usize) {
        let port = &mut self.ports[port];
        port.rung = std::mem::take(&mut port.asleep) && !port.bell.sleeping();
        port.bell.awake();
    }

    /// To be called after a shard's turn: its `wait` did not block, so if it was a sleep, the sleep begins now.
    pub fn turn_ends(&mut self, port: usize) {
        let port = &mut self.ports[port];
        if port.asleep {
            port.bell.will_sleep();
        }
    }

    /// The process of this kernel has died: its connections are reset, nothing completes any more.
    pub fn kill_port(&mut self, port: usize) {
        self.note(format_args!("k{port} dies"));
        let conns: Vec<TcpId> = self.ports[port].conns.values().map(|slot| slot.tcp).collect();
        let backlog = std::mem::take(&mut self.ports[port].backlog);
        for tcp in conns.into_iter().chain(backlog.into_iter().map(|(tcp, _)| tcp)) {
            self.close_end(tcp, 1, true);
        }
        let dead = &mut self.ports[port];
        dead.staged.clear();
        dead.pending.clear();
        dead.listening.clear();
        dead.held.clear();
        dead.conns.clear();
        dead.starving.clear();
        dead.until = Instant::FAR;
        dead.busy = false;
        dead.asleep = false;
    }

    pub(super) fn complete(&mut self, port: usize, pending: Pending) {
        let late = if self.chance(self.faults.late_done) { self.rng.random_range(0..5_000) } else { 0 };
        self.complete_in(port, Duration::from_micros(late), pending);
    }

    fn complete_in(&mut self, port: usize, delay: Duration, pending: Pending) {
        let seq = self.ports[port].counters.submitted + self.ports[port].pending.len() as u64;
        let mut key = (self.now + delay, seq);
        while self.ports[port].pending.contains_key(&key) {
            key.1 += 1;
        }
        self.ports[port].pending.insert(key, pending);
    }

    /// The shard asks for something; the kernel hears of it with the next `wait`.
    pub(super) fn stage(&mut self, port: usize, op: Op) {
        if let Op::Close { conn, .. } = &op {
            let tcp = self.slot(port, conn.0, "close").tcp;
            self.ports[port].closing.push(tcp);
        }
        self.ports[port].staged.push_back(op);
    }

    /// Connections whose end the shard has asked for since the last call, in order.
    pub fn take_closing(&mut self, port: usize) -> Vec<TcpId> {
        std::mem::take(&mut self.ports[port].closing)
    }

    /// Hands the kernel what the shard has queued.
    pub fn submit_staged(&mut self, port: usize) {
        while let Some(op) = self.ports[port].staged.pop_front() {
            self.submit(port, op);
        }
    }

    fn submit(&mut self, port: usize, op: Op) {
        self.ports[port].counters.submitted += 1;
        match op {
            Op::Listen(listener) => {
                self.note(format_args!("k{port} listen {}", listener.0));
                self.ports[port].listening.insert(listener.0);
                self.ports[port].held.remove(&listener.0);
                self.after(Duration::ZERO, Event::Accept { port });
            }
            Op::Hold(listener) => {
                self.note(format_args!("k{port} hold {}", listener.0));
                // One may have been taken already when the accepts under way are called back.
                if self.rng.random_bool(0.3) {
                    self.accept_one(port, listener);
                }
                self.ports[port].held.insert(listener.0);
            }
            Op::Bind { listener, .. } => {
                self.complete(port, Pending::Done(Done::Bound { listener, result: Ok(()) }));
            }
            Op::Unbind(listener) => {
                self.ports[port].listening.remove(&listener.0);
                self.ports[port].held.remove(&listener.0);
                self.complete(port, Pending::Done(Done::Unbound(listener)));
            }
            Op::StopListening(listener) => {
                self.note(format_args!("k{port} stop listening {}", listener.0));
                // Who is in the queue is taken before the socket closes, held or not.
                self.ports[port].listening.remove(&listener.0);
                self.ports[port].held.remove(&listener.0);
                self.after(Duration::ZERO, Event::Accept { port });
            }
            Op::Recycle(buffer) => {
                let new = self.ports[port].free_buffers.insert(buffer.0);
                assert!(new && buffer.0 < self.ports[port].buffers, "recycled a buffer not held: {buffer:?}");
                self.feed_starving(port);
            }
            Op::ReceivePart { client, conn, most } => {
                self.slot(port, conn.0, "receive").most = usize::from(most);
                self.submit(port, Op::Receive { client, conn });
            }
            Op::Receive { client, conn } => {
                let slot = self.slot(port, conn.0, "receive");
                assert!(slot.receive.is_none(), "two receives outstanding on {conn:?}");
                slot.receive = Some(client);
                self.try_receive(port, conn.0);
            }
            Op::Send { client, conn, payload } => self.begin_send(port, client, conn, payload),
            Op::Close { client, conn, reset } => self.close_conn(port, client, conn, reset),
            Op::Read { client, file, offset, len, buffer } => {
                let fail = self.chance(self.faults.read);
                let delay = Duration::from_micros(self.rng.random_range(10..3_000));
                self.complete_in(port, delay, Pending::Read { client, file, offset, len, buffer, fail });
            }
        }
    }

    fn slot(&mut self, port: usize, conn: u32, what: &str) -> &mut Slot {
        let slot = self.ports[port].conns.get_mut(&conn);
        slot.unwrap_or_else(|| panic!("{what} on connection {conn} that the shard does not hold"))
    }

    fn begin_send(&mut self, port: usize, client: ClientId, conn: Conn, payload: Payload) {
        assert!(!payload.as_slice().is_empty(), "empty send on {conn:?}");
        let slot = self.slot(port, conn.0, "send");
        assert!(slot.send.is_none(), "two sends outstanding on {conn:?}");
        let tcp = slot.tcp;
        slot.send = Some(Sending { client, payload, at: 0 });
        if let Some(why) = self.end(tcp, 1).dead {
            self.fail_send(port, conn.0, why);
        } else if self.chance(self.faults.send) {
            self.note(format_args!("k{port} send {} fails", conn.0));
            self.fail_send(port, conn.0, IoEnd::Error(ENOBUFS));
        } else {
            self.pump_port(port, conn.0);
        }
    }

    /// Moves bytes of an outstanding send into the socket.
    pub(super) fn pump_port(&mut self, port: usize, conn: u32) {
        let Some(slot) = self.ports[port].conns.get_mut(&conn) else { return };
        let tcp = slot.tcp;
        let Some(mut sending) = slot.send.take() else { return };
        let before = sending.at;
        sending.at += self.flow(tcp, 1, &sending.payload.as_slice()[before..]);
        if sending.at == sending.payload.as_slice().len() {
            let Sending { client, payload, .. } = sending;
            self.complete(port, Pending::Done(Done::Sent { client, payload, result: Ok(()) }));
        } else {
            self.ports[port].counters.short_sends += u64::from(before == 0);
            self.slot(port, conn, "send").send = Some(sending);
        }
    }

    /// Ends an outstanding send with an error.
    pub(super) fn fail_send(&mut self, port: usize, conn: u32, why: IoEnd) {
        let Some(slot) = self.ports[port].conns.get_mut(&conn) else { return };
        if let Some(Sending { client, payload, .. }) = slot.send.take() {
            self.complete(port, Pending::Done(Done::Sent { client, payload, result: Err(why) }));
        }
    }

    /// Completes an outstanding receive if there is something to say.
    pub(super) fn try_receive(&mut self, port: usize, conn: u32) {
        let Some(slot) = self.ports[port].conns.get(&conn) else { return };
        let (tcp, Some(client)) = (slot.tcp, slot.receive) else { return };
        let dead = self.end(tcp, 1).dead;
        let (waiting, fin) = {
            let pipe = &self.end(tcp, 0).pipe;
            (pipe.arrived.len(), pipe.fin_arrived)
        };
        let ended = match (dead, waiting, fin) {
            (Some(why), ..) => Some(why),
            (None, 0, true) => Some(IoEnd::Closed),
            (None, 0, false) => return,
            _ if self.chance(self.faults.receive) => Some(IoEnd::Error(ETIMEDOUT)),
            _ => None,
        };
        if let Some(why) = ended {
            self.slot(port, conn, "receive").receive = None;
            return self.complete(port, Pending::Done(Done::ReceiveEnded { client, why }));
        }
        let Some(buffer) = self.take_buffer(port, conn) else { return };
        let slot = self.slot(port, conn, "receive");
        slot.receive = None;
        let len = waiting.min(std::mem::replace(&mut slot.most, RECV_BUFFER));
        let data: Vec<u8> = self.end(tcp, 0).pipe.arrived.drain(..len).collect();
        self.freed(tcp, 0, len);
        self.complete(port, Pending::Received { client, buffer, data });
    }

    fn take_buffer(&mut self, port: usize, conn: u32) -> Option<BufferId> {
        if self.ports[port].no_buffers_until <= self.now && self.chance(self.faults.no_buffers) {
            let pause = Duration::from_micros(self.rng.random_range(100..50_000));
            self.ports[port].no_buffers_until = self.now + pause;
            self.note(format_args!("k{port} no buffers for {} us", pause.as_micros()));
            self.after(pause, Event::BuffersBack { port });
        }
        let port = &mut self.ports[port];
        if port.no_buffers_until > self.now || port.free_buffers.is_empty() {
            port.counters.no_buffers += 1;
            if !port.starving.contains(&conn) {
                port.starving.push_back(conn);
            }
            return None;
        }
        port.free_buffers.pop_first().map(BufferId)
    }

    fn feed_starving(&mut self, port: usize) {
        if self.ports[port].no_buffers_until <= self.now
            && let Some(conn) = self.ports[port].starving.pop_front()
        {
            self.try_receive(port, conn);
        }
    }

    pub(super) fn buffers_back(&mut self, port: usize) {
        for conn in std::mem::take(&mut self.ports[port].starving) {
            self.try_receive(port, conn);
        }
    }

    fn close_conn(&mut self, port: usize, client: ClientId, conn: Conn, reset: bool) {
        let Some(slot) = self.ports[port].conns.remove(&conn.0) else {
            panic!("close of {conn:?}, which the shard does not hold ({client:?})");
        };
        self.note(format_args!("k{port} close {} {}", conn.0, if reset { "reset" } else { "fin" }));
        self.ports[port].starving.retain(|&c| c != conn.0);
        // What was outstanding completes later, with the old id, perhaps after the number is in use again.
        let mut late = || Duration::from_micros(self.rng.random_range(0..3_000));
        let (receive, send) = (late(), late());
        if let Some(client) = slot.receive {
            let why = IoEnd::Reset;
            self.complete_in(port, receive, Pending::Done(Done::ReceiveEnded { client, why }));
        }
        if let Some(Sending { client, payload, .. }) = slot.send {
            let result = Err(IoEnd::Reset);
            self.complete_in(port, send, Pending::Done(Done::Sent { client, payload, result }));
        }
        self.close_end(slot.tcp, 1, reset);
    }

    pub(super) fn accept(&mut self, port: usize) {
        while self.ports[port].paused_until <= self.now {
            let first = |p: &Port| p.backlog.iter().map(|(_, listener)| *listener).find(|l| !p.holds(*l));
            let Some(listener) = first(&self.ports[port]) else { return };
            if !self.accept_one(port, listener) {
                return;
            }
        }
    }

    /// Takes the first newcomer of a listener; false when there is none, or when that failed.
    fn accept_one(&mut self, port: usize, listener: ListenerId) -> bool {
        let queue = &self.ports[port].backlog;
        let Some(place) = queue.iter().position(|(_, l)| *l == listener) else { return false };
        let full = self.ports[port].conns.len() >= self.faults.table as usize;
        if full || self.chance(self.faults.accept) {
            let errno = if full { ENFILE } else { EMFILE };
            self.note(format_args!("k{port} accept fails {errno}"));
            self.ports[port].counters.accept_errors += 1;
            self.ports[port].paused_until = self.now + ACCEPT_PAUSE;
            self.after(ACCEPT_PAUSE, Event::Accept { port });
            self.complete(port, Pending::Done(Done::AcceptFailed { listener, errno }));
            return false;
        }
        let Some((tcp, _)) = self.ports[port].backlog.remove(place) else { return false };
        let Some(entry) = self.tcps.get_mut(&tcp) else { return true };
        let peer = entry.peer;
        let conns = &mut self.ports[port].conns;
        let conn = (0..).find(|n| !conns.contains_key(n)).unwrap_or(u32::MAX);
        conns.insert(conn, Slot { tcp, receive: None, most: RECV_BUFFER, send: None });
        entry.ends[1].owner = Owner::Port(port, conn);
        self.note(format_args!("k{port} accept {conn} = net {tcp} from {peer}"));
        self.complete(port, Pending::Done(Done::Accepted { listener, conn: Conn(conn), peer }));
        true
    }

    /// Moves what is due to `dones`, at most `most`; received bytes go to `held`.
    pub(super) fn reap(
        &mut self,
        port: usize,
        most: usize,
        dones: &mut Vec<Done>,
        held: &mut BTreeMap<u16, Vec<u8>>,
    ) {
        for _ in 0..most {
            let Some(entry) = self.ports[port].pending.first_entry() else { break };
            if entry.key().0 > self.now {
                break;
            }
            dones.push(match entry.remove() {
                Pending::Done(done) => done,
                Pending::Received { client, buffer, data } => {
                    let len = data.len() as u32;
                    held.insert(buffer.0, data);
                    Done::Received { client, buffer, len }
                }
                Pending::Read { client, file, offset, len, mut buffer, fail } => {
                    let result = if fail { Err(EIO) } else { read(&file, offset, len, &mut buffer) };
                    Done::Read { client, buffer, result }
                }
            });
        }
    }
}

fn read(file: &FileRef, offset: u64, len: u32, buffer: &mut Vec<u8>) -> Result<u32, i32> {
    let start = buffer.len();
    buffer.resize(start + len as usize, 0);
    match file.read_at(offset, &mut buffer[start..]) {
        Ok(count) => {
            buffer.truncate(start + count);
            Ok(count as u32)
        }
        Err(error) => {
            buffer.truncate(start);
            Err(error.raw_os_error().unwrap_or(EIO))
        }
    }
}
