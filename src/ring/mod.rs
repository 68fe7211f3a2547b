//! io_uring: the product's kernel for shards.
//!
//! One [`Ring`] per shard, made and used on the shard's thread. It owns the shard's listening sockets, the file
//! table with its clients' sockets (direct descriptors), the receive buffers, and every payload being sent. It
//! knows no protocol and no policy: what an [`Op`] asks it does, what the kernel says it reports.
//!
//! Invariants:
//! - Memory the kernel may touch is owned here until the completion is reaped, and the ring waits for such
//!   operations when it is dropped.
//! - A completion is matched by kind, index and generation (`token`), so one that comes after the close of its
//!   connection finds nothing and does nothing, except to give back what it holds.
//! - Nothing is dropped when a queue is full (`queue`), no buffer is left (`receive`) or the table is full (`accept`).
//!
//! ```text
//!   setup     Ring::new, its flags and errors      probe    can this kernel do it? if not, why
//!   queue     the two queues, entering the kernel  token    what a completion carries
//!   conns     what is outstanding per connection   buffers  the provided buffers
//!   socket    listening sockets, reserve           accept, receive, send, read: one operation each
//!   bind      listeners that come and go           host     what is asked of Linux for the process and the thread
//! ```

mod accept;
mod bind;
mod buffers;
mod conns;
mod host;
mod probe;
mod queue;
mod read;
mod receive;
mod send;
mod setup;
mod socket;
mod token;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use io_uring::{cqueue, opcode, types};
use slotmap::{DefaultKey, SlotMap};

pub use conns::CONN_BYTES;
pub use host::{ask_for_short_slices, give_memory_back, raise_file_limit, refuse_huge_pages};
pub use probe::{KernelFeatures, ProbeError, probe};
pub use setup::{RingConfig, RingError};
pub use socket::{reserve, reserve_now};

use self::accept::Listener;
use self::buffers::Buffers;
use self::conns::Conns;
use self::queue::{Queue, Stay};
use self::read::ReadState;
use self::send::SendState;
use self::token::{Kind, Token};
use crate::base::limits::DONES_PER_TURN;
use crate::base::{Conn, Instant, UnixTime};
use crate::io::{BufferId, Done, Kernel, KernelCounters, ListenerId, Op};
use crate::link::{Doorbell, monotonic};

/// A shard's io_uring. Stays on the thread that made it (IORING_SETUP_SINGLE_ISSUER).
pub struct Ring {
    /// First, so that it is dropped before the memory the kernel was given.
    queue: Queue,
    buffers: Buffers,
    conns: Conns,
    sends: SlotMap<DefaultKey, SendState>,
    reads: SlotMap<DefaultKey, ReadState>,
    listeners: Vec<Listener>,
    max_clients: u32,
    /// Receives waiting for a buffer, by connection and generation.
    parked: VecDeque<(Conn, u32)>,
    /// Answers that needed no kernel; at most one per operation outstanding.
    ready: VecDeque<Done>,
    /// Completions being handled; empty between calls.
    scratch: Vec<cqueue::Entry>,
    doorbell: Doorbell,
    shares_core: bool,
    /// True exactly while the kernel is believed to know SO_LINGER as a ring command.
    linger: bool,
    /// True exactly when receives were queued because polls had fired, since the last entry into the kernel.
    polled: bool,
    /// True exactly when the ring is being dropped: nothing is submitted any more but cancellations.
    closing: bool,
    no_buffers: u64,
    short_sends: u64,
    accept_errors: u64,
    aborted_accepts: u64,
    /// Time in the kernel with nothing to do.
    asleep: Duration,
}

impl Ring {
    /// The address a listener is bound to, with the port the kernel chose for port 0. `None` for an unknown listener.
    pub fn local_addr(&self, listener: ListenerId) -> Option<SocketAddr> {
        self.listeners.get(usize::from(listener.0)).map(Listener::addr)
    }

    /// Listens to the doorbell. A poll, because its descriptor is non-blocking, and a read would end at once.
    #[allow(unsafe_code)]
    fn arm_doorbell(&mut self) {
        let Some(fd) = self.doorbell.raw_fd() else { return };
        let poll = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
            .build()
            .user_data(Token::new(Kind::Doorbell, 0, 0).pack());
        // SAFETY: a poll points to nothing; the descriptor lives as long as `self.doorbell`.
        unsafe { self.queue.push(poll) };
    }

    /// Clears the eventfd and listens again.
    #[allow(unsafe_code)]
    fn on_doorbell(&mut self, dones: &mut Vec<Done>) {
        if self.closing {
            return;
        }
        if let Some(fd) = self.doorbell.raw_fd() {
            let mut count = [0u8; 8];
            // SAFETY: eight bytes are writable at `count`; the descriptor is non-blocking.
            unsafe { libc::read(fd, count.as_mut_ptr().cast(), count.len()) };
        }
        dones.push(Done::Doorbell);
        self.arm_doorbell();
    }

    /// How long the kernel may be waited for.
    fn stay(&self, now: Instant, until: Instant) -> Stay {
        let until = self.listeners.iter().filter_map(Listener::due).fold(until, Instant::min);
        match until {
            Instant::FAR => Stay::Forever,
            until if until <= now => Stay::Look,
            until => Stay::AtMost(until.since(now)),
        }
    }

    /// Enters the kernel. Before a sleep what is queued is submitted apart: sends are done while they are submitted, and that is no sleep.
    fn enter(&mut self, stay: Stay) {
        if matches!(stay, Stay::Look) {
            return self.queue.enter(stay);
        }
        self.queue.flush();
        let lay_down = monotonic();
        self.queue.enter(stay);
        self.asleep += monotonic().since(lay_down);
    }

    /// Handles at most `limit` completions; each gives at most one `Done`.
    fn reap(&mut self, limit: usize, dones: &mut Vec<Done>) {
        let mut completions = std::mem::take(&mut self.scratch);
        self.queue.reap(limit, &mut completions);
        for completion in completions.drain(..) {
            self.handle(&completion, dones);
        }
        self.scratch = completions;
    }

    fn handle(&mut self, completion: &cqueue::Entry, dones: &mut Vec<Done>) {
        let (result, flags) = (completion.result(), completion.flags());
        let Some(token) = Token::unpack(completion.user_data()) else { return };
        match token.kind {
            Kind::Poll => self.on_poll(token, result, dones),
            Kind::Receive => self.on_receive(token, result, flags, dones),
            Kind::Send => self.on_send(token, result, dones),
            Kind::Read => self.on_read(token, result, dones),
            Kind::Accept => self.on_accept(token, result, monotonic(), dones),
            Kind::Doorbell => self.on_doorbell(dones),
            Kind::Linger => self.on_linger(result),
            // A cancellation that found nothing: the operation was over already.
            Kind::Control => {}
        }
    }

    /// Gives answers that needed no kernel, as far as `limit` allows.
    fn give_ready(&mut self, limit: usize, dones: &mut Vec<Done>) {
        let count = limit.min(self.ready.len());
        dones.extend(self.ready.drain(..count));
    }
}

impl Kernel for Ring {
    /// CLOCK_MONOTONIC: the same for all rings of the host.
    fn now(&self) -> Instant {
        monotonic()
    }

    fn unix_time(&self) -> UnixTime {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn push(&mut self, op: Op) {
        match op {
            Op::Listen(listener) => self.listen(listener),
            Op::Hold(listener) => self.hold(listener),
            Op::StopListening(listener) => self.stop_listening(listener),
            Op::Bind { listener, at } => self.bind(listener, at),
            Op::Unbind(listener) => self.unbind(listener),
            Op::Receive { client, conn } => self.receive(client, conn, 0),
            Op::ReceivePart { client, conn, most } => self.receive(client, conn, most),
            Op::Recycle(buffer) => self.buffers.recycle(buffer),
            Op::Send { client, conn, payload } => self.send(client, conn, payload),
            Op::Close { client, conn, reset } => self.close(client, conn, reset),
            Op::Read { client, file, offset, len, buffer } => self.read(client, file, offset, len, buffer),
        }
    }

    fn wait(&mut self, until: Instant, dones: &mut Vec<Done>) {
        let limit = dones.len() + DONES_PER_TURN;
        let start = dones.len();
        loop {
            let now = monotonic();
            self.tend(now);
            self.unpark();
            // Tried once for a crowd, when the last buffer is back; never when somebody has been accepted meanwhile.
            if self.conns.is_emptied() && self.buffers.give_back() {
                self.conns.noted();
            }
            self.give_ready(limit - dones.len(), dones);
            let stay = if dones.len() > start { Stay::Look } else { self.stay(now, until) };
            if self.shares_core && matches!(stay, Stay::Look) {
                host::give_way();
            }
            self.enter(stay);
            self.reap(limit - dones.len(), dones);
            // What the polls announced is read now: behind the next batch of sends a ping would wait twice as long.
            if std::mem::take(&mut self.polled) && dones.len() < limit {
                self.queue.enter(Stay::Look);
                self.reap(limit - dones.len(), dones);
            }
            if dones.len() > start || monotonic() >= until {
                return;
            }
        }
    }

    fn asleep(&self) -> Duration {
        self.asleep
    }

    fn received(&mut self, buffer: BufferId, len: u32) -> &mut [u8] {
        self.buffers.bytes(buffer, len)
    }

    fn counters(&self) -> KernelCounters {
        KernelCounters {
            no_buffers: self.no_buffers,
            cq_overflow: self.queue.cq_overflow,
            short_sends: self.short_sends,
            accept_errors: self.accept_errors,
            accepts_aborted: self.aborted_accepts,
            enters: self.queue.enters,
            submitted: self.queue.submitted,
        }
    }
}
