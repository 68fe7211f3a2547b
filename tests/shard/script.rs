//! A scripted kernel: no sockets, no files, a clock that moves when told. It keeps the rules of `io` and checks that
//! the shard does.
//!
//! What the shard asks is carried out at once, unless a test holds a connection's sends or all reads back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use breakwater::base::limits::{DONES_PER_TURN, RECV_BUFFER};
use breakwater::base::{ClientId, Conn, Instant, UnixTime};
use breakwater::io::{BufferId, Done, FileRef, IoEnd, Kernel, KernelCounters, ListenerId, Op, Payload};

/// A port that somebody else has.
pub const TAKEN_PORT: u16 = 1;

/// A connection as the other side sees it.
#[derive(Debug, Default)]
pub struct Peer {
    /// Bytes on their way to the shard.
    pub inbox: VecDeque<u8>,
    /// The peer has closed its side: reported when the inbox is empty.
    pub closes: Option<IoEnd>,
    /// What the shard has sent so far and nobody has looked at.
    pub out: Vec<u8>,
    /// Sends wait until the test lets them go.
    pub holds: bool,
    /// The shard has closed it; true with a reset.
    pub closed: Option<bool>,
    receive: Option<ClientId>,
    /// Of that, most bytes.
    most: usize,
    send: Option<(ClientId, Payload)>,
}

#[derive(Debug)]
struct FileRead {
    client: ClientId,
    file: FileRef,
    offset: u64,
    len: u32,
    buffer: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct State {
    pub now: Instant,
    /// Nanoseconds that pass whenever the clock is read.
    pub tick: u64,
    /// What passes in a wait that finds nothing done and may sleep.
    pub nap: Duration,
    /// Passed in such waits.
    pub asleep: Duration,
    pub peers: BTreeMap<u32, Peer>,
    pub listening: BTreeSet<u8>,
    /// Listeners made at run time.
    pub bound: BTreeSet<u8>,
    /// Of these, those told to accept nobody.
    pub held: BTreeSet<u8>,
    /// Reads of files wait until the test lets them go.
    pub holds_reads: bool,
    /// Bytes given per receive, at most [`RECV_BUFFER`].
    pub piece: usize,
    pub counters: KernelCounters,
    /// Operations taken so far: a shard that asks for nothing more has settled.
    pub operations: u64,
    next_conn: u32,
    dones: VecDeque<Done>,
    reads: VecDeque<FileRead>,
    buffers: BTreeMap<u16, Vec<u8>>,
    next_buffer: u16,
}

/// The kernel, and the test's hand on it.
#[derive(Clone, Debug, Default)]
pub struct Script(pub Rc<RefCell<State>>, BTreeMap<u16, Vec<u8>>);

impl Script {
    pub fn new() -> Script {
        let script = Script::default();
        script.0.borrow_mut().piece = RECV_BUFFER;
        script.0.borrow_mut().now = Instant(1_000_000_000);
        script
    }

    /// Another hand on the same kernel.
    pub fn hand(&self) -> Script {
        Script(self.0.clone(), BTreeMap::new())
    }

    /// A connection comes.
    pub fn connect(&self, peer: SocketAddr) -> u32 {
        self.connect_to(0, peer)
    }

    /// A connection comes to this listener.
    pub fn connect_to(&self, listener: u8, peer: SocketAddr) -> u32 {
        let state = &mut *self.0.borrow_mut();
        let conn = state.next_conn;
        state.next_conn += 1;
        state.peers.insert(conn, Peer::default());
        state.dones.push_back(Done::Accepted { listener: ListenerId(listener), conn: Conn(conn), peer });
        conn
    }

    pub fn done(&self, done: Done) {
        self.0.borrow_mut().dones.push_back(done);
    }

    /// Lets bytes, closes, held sends and held reads come to the shard as far as it wants them.
    pub fn deliver(&self) {
        let state = &mut *self.0.borrow_mut();
        let piece = state.piece;
        for peer in state.peers.values_mut() {
            if peer.closed.is_none()
                && !peer.holds
                && let Some((client, payload)) = peer.send.take()
            {
                peer.out.extend_from_slice(payload.as_slice());
                state.dones.push_back(Done::Sent { client, payload, result: Ok(()) });
            }
            let Some(client) = peer.receive else { continue };
            if !peer.inbox.is_empty() {
                let count = peer.inbox.len().min(piece).min(peer.most);
                let bytes: Vec<u8> = peer.inbox.drain(..count).collect();
                while state.buffers.contains_key(&state.next_buffer) {
                    state.next_buffer = state.next_buffer.wrapping_add(1);
                }
                state.buffers.insert(state.next_buffer, bytes);
                let buffer = BufferId(state.next_buffer);
                state.dones.push_back(Done::Received { client, buffer, len: count as u32 });
                peer.receive = None;
            } else if let Some(why) = peer.closes.take() {
                state.dones.push_back(Done::ReceiveEnded { client, why });
                peer.receive = None;
            }
        }
        if !state.holds_reads {
            for read in std::mem::take(&mut state.reads) {
                state.dones.push_back(perform(read));
            }
        }
    }

    /// The send that waits fails, and no other waits.
    pub fn fail_send(&self, conn: u32, errno: i32) {
        let state = &mut *self.0.borrow_mut();
        let peer = state.peers.get_mut(&conn).expect("a connection");
        peer.holds = false;
        let (client, payload) = peer.send.take().expect("a send that waits");
        state.dones.push_back(Done::Sent { client, payload, result: Err(IoEnd::Error(errno)) });
    }

    /// True exactly when nothing is on its way to the shard.
    pub fn is_quiet(&self) -> bool {
        self.0.borrow().dones.is_empty()
    }

    /// Receive buffers the shard has not given back.
    pub fn buffers_out(&self) -> usize {
        self.0.borrow().buffers.len()
    }

    /// Capacity of the shard's buffers in answers that it has not taken.
    pub fn undelivered(&self) -> usize {
        let capacity = |done: &Done| match done {
            Done::Sent { payload: Payload::Owned(buffer), .. } | Done::Read { buffer, .. } => {
                buffer.capacity()
            }
            _ => 0,
        };
        self.0.borrow().dones.iter().map(capacity).sum()
    }
}

fn perform(mut read: FileRead) -> Done {
    let before = read.buffer.len();
    read.buffer.resize(before + read.len as usize, 0);
    let result = match read.file.read_at(read.offset, &mut read.buffer[before..]) {
        Ok(count) => {
            read.buffer.truncate(before + count);
            Ok(count as u32)
        }
        Err(error) => {
            read.buffer.truncate(before);
            Err(error.raw_os_error().unwrap_or(5))
        }
    };
    Done::Read { client: read.client, buffer: read.buffer, result }
}

impl State {
    fn take(&mut self, op: Op) {
        self.operations += 1;
        match op {
            Op::Listen(listener) => {
                let held = self.held.remove(&listener.0);
                assert!(self.listening.insert(listener.0) || held, "{listener:?} listens already");
            }
            Op::Hold(listener) => {
                assert!(self.listening.contains(&listener.0), "{listener:?} does not listen");
                self.held.insert(listener.0);
            }
            Op::Bind { listener, at } => {
                let taken = at.port() == TAKEN_PORT;
                assert!(taken || self.bound.insert(listener.0), "{listener:?} is bound already");
                let result = if taken { Err(98) } else { Ok(()) };
                self.dones.push_back(Done::Bound { listener, result });
            }
            Op::Unbind(listener) => {
                self.bound.remove(&listener.0);
                self.listening.remove(&listener.0);
                self.held.remove(&listener.0);
                self.dones.push_back(Done::Unbound(listener));
            }
            Op::StopListening(listener) => {
                assert!(self.listening.remove(&listener.0), "{listener:?} did not listen");
            }
            Op::ReceivePart { client, conn, most } => {
                self.take(Op::Receive { client, conn });
                self.peers.get_mut(&conn.0).expect("a connection").most = usize::from(most);
            }
            Op::Receive { client, conn } => {
                let peer = self.peers.get_mut(&conn.0).expect("a connection that exists");
                assert!(peer.closed.is_none(), "receive on a closed connection");
                assert!(peer.receive.replace(client).is_none(), "two receives on one connection");
                peer.most = usize::MAX;
            }
            Op::Recycle(buffer) => {
                assert!(self.buffers.remove(&buffer.0).is_some(), "{buffer:?} was not out");
            }
            Op::Send { client, conn, payload } => {
                let peer = self.peers.get_mut(&conn.0).expect("a connection that exists");
                assert!(peer.closed.is_none(), "send on a closed connection");
                assert!(!payload.as_slice().is_empty(), "an empty send");
                assert!(peer.send.replace((client, payload)).is_none(), "two sends on one connection");
            }
            Op::Close { conn, reset, .. } => {
                let peer = self.peers.get_mut(&conn.0).expect("a connection that exists");
                assert!(peer.closed.replace(reset).is_none(), "closed twice");
                if let Some(client) = peer.receive.take() {
                    self.dones.push_back(Done::ReceiveEnded { client, why: IoEnd::Reset });
                }
                if let Some((client, payload)) = peer.send.take() {
                    // A socket with room has taken it at once.
                    let taken = !peer.holds && !reset;
                    if taken {
                        peer.out.extend_from_slice(payload.as_slice());
                    }
                    let result = if taken { Ok(()) } else { Err(IoEnd::Reset) };
                    self.dones.push_back(Done::Sent { client, payload, result });
                }
            }
            Op::Read { client, file, offset, len, buffer } => {
                self.reads.push_back(FileRead { client, file, offset, len, buffer });
            }
        }
    }
}

impl Kernel for Script {
    fn now(&self) -> Instant {
        let state = &mut *self.0.borrow_mut();
        state.now = Instant(state.now.0 + state.tick);
        state.now
    }

    fn unix_time(&self) -> UnixTime {
        1_700_000_000 + u64::from(self.now().secs())
    }

    fn push(&mut self, op: Op) {
        if let Op::Recycle(buffer) = &op {
            self.1.remove(&buffer.0);
        }
        self.0.borrow_mut().take(op);
    }

    fn wait(&mut self, until: Instant, dones: &mut Vec<Done>) {
        let state = &mut *self.0.borrow_mut();
        if state.dones.is_empty() && until > state.now {
            state.now = state.now + state.nap;
            state.asleep += state.nap;
        }
        let count = state.dones.len().min(DONES_PER_TURN);
        for done in state.dones.drain(..count) {
            if let Done::Received { buffer, .. } = &done {
                self.1.insert(buffer.0, state.buffers[&buffer.0].clone());
            }
            dones.push(done);
        }
    }

    fn asleep(&self) -> Duration {
        self.0.borrow().asleep
    }

    fn received(&mut self, buffer: BufferId, len: u32) -> &mut [u8] {
        let data = self.1.get_mut(&buffer.0).expect("a buffer that was received and not recycled");
        &mut data[..len as usize]
    }

    fn counters(&self) -> KernelCounters {
        self.0.borrow().counters
    }
}

/// Whole seconds.
pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
