//! A stub node on TCP, on tokio: for `breakwater demo`, the load rig and the tests.
//!
//! Purpose: accepts, reads, writes and keeps time for one [`StubNode`]. What the node does of its own accord (mining,
//! transactions) is the owner's business: between two turns of [`StubHost`] it may do with the node what it likes, and
//! `flush` says it to the peers. v1 and BIP324 are told apart by a connection's first bytes. [`server`] runs a host on a thread of its own.
//!
//! Bounded, and what happens at the bound:
//! - peers: more are closed at once (`refused`);
//! - what waits for a peer: above the window its requests stay in the kernel's buffers unread and it hears of no
//!   transactions until it has taken what waits, as with Bitcoin Core; nobody is dropped for being slow. Only who takes
//!   nothing at all for 20 minutes, or lets [`PEER_QUEUE`] messages wait, is dropped (`slow`);
//! - events of connections: their tasks wait.

mod link;
pub mod server;
mod transport;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::link::{Event, Flow};
use crate::base::Instant;
use crate::stub::node::{Dropped, Output};
use crate::stub::{MAGIC, PeerId, StubNode};

pub use self::server::{Gone, StubServer, Work};
pub use self::transport::Transport;

/// Messages that may wait for a peer. The longest answer is to a `getdata` of 50,000 entries, and the window holds no more
/// than as many again.
pub const PEER_QUEUE: usize = 131_072;
/// What may wait for a peer before its requests have to wait, bytes. Blocks are shared by all who wait for them.
pub const WINDOW: usize = 8 * 1024 * 1024;
/// Events of connections that wait for the node.
const EVENTS: usize = 256;
/// Events taken in one turn, so that announcements and errands have theirs.
const EVENTS_PER_TURN: usize = 64;
/// Longest sleep of a turn.
const LONGEST: Duration = Duration::from_secs(60);

/// Seconds since 1970.
pub fn unix_time() -> crate::base::UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// What happened on the sockets, as totals since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Connections accepted.
    pub accepted: u64,
    /// Of these, closed at once because there were peers enough.
    pub refused: u64,
    /// Peers dropped because they took nothing of what was sent to them.
    pub slow: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the kernel for peers.
    pub bytes_out: u64,
}

/// A node and its connections. Lives inside a tokio runtime.
#[derive(Debug)]
pub struct StubHost {
    node: StubNode,
    /// Where the clock of the node begins.
    start: std::time::Instant,
    max_peers: usize,
    peers: BTreeMap<PeerId, Connection>,
    /// The number of the next connection.
    next: u64,
    accepting: Option<JoinHandle<()>>,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    dropped: Vec<Dropped>,
    totals: Totals,
}

#[derive(Debug)]
struct Connection {
    queue: mpsc::Sender<Bytes>,
    flow: Arc<Flow>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl StubHost {
    /// A host without an address; it gives the node its window and lets it say that BIP324 is known. `start`: `Instant(0)` of the node's clock.
    pub fn new(mut node: StubNode, start: std::time::Instant, max_peers: usize) -> StubHost {
        let (events, inbox) = mpsc::channel(EVENTS);
        node.options_mut().window = WINDOW;
        node.options_mut().v2 = true;
        StubHost {
            node,
            start,
            max_peers,
            peers: BTreeMap::new(),
            next: 0,
            accepting: None,
            events,
            inbox,
            dropped: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Accepts connections from now on, in the place of an earlier listener.
    pub fn listen(&mut self, listener: TcpListener) {
        self.stop_listening();
        self.accepting = Some(tokio::spawn(link::accept(listener, self.events.clone())));
    }

    /// Closes the listener and all connections. The node lives on.
    pub fn close(&mut self) {
        self.stop_listening();
        let now = self.now();
        for peer in std::mem::take(&mut self.peers).into_keys() {
            self.node.disconnected(now, peer);
        }
    }

    fn stop_listening(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
    }

    /// The node.
    pub fn node(&self) -> &StubNode {
        &self.node
    }

    /// The node, to be changed; `flush` tells the peers.
    pub fn node_mut(&mut self) -> &mut StubNode {
        &mut self.node
    }

    /// Now, on the node's clock.
    pub fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Connections open.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// What happened on the sockets.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Why the node dropped peers since the last call; at most the last few hundred.
    pub fn take_dropped(&mut self) -> Vec<Dropped> {
        std::mem::take(&mut self.dropped)
    }

    /// Lets the node do what is due and hands what it says to the connections.
    pub fn flush(&mut self) {
        let now = self.now();
        self.node.tick(now);
        let mut lost = Vec::new();
        while let Some(output) = self.node.next_output() {
            match output {
                Output::Send(id, bytes) => {
                    if self.peers.get(&id).is_some_and(|peer| peer.queue.try_send(bytes).is_err()) {
                        lost.push(id);
                    }
                }
                Output::Disconnect(id, why) => {
                    self.peers.remove(&id);
                    if self.dropped.len() < EVENTS {
                        self.dropped.push(why);
                    }
                }
            }
        }
        for id in lost {
            if let Some(peer) = self.peers.remove(&id) {
                self.totals.slow += u64::from(!peer.queue.is_closed());
                self.node.disconnected(now, id);
            }
        }
        for (id, peer) in &self.peers {
            peer.flow.set_full(self.node.is_full(*id));
        }
    }

    /// Waits until something happens on a connection or the node's time has come, takes it, and flushes. May be
    /// cancelled while it waits: nothing is lost.
    pub async fn turn(&mut self) {
        let wait = self.node.next_wake().since(self.now()).min(LONGEST);
        tokio::select! {
            Some(event) = self.inbox.recv() => self.take(event),
            () = tokio::time::sleep(wait) => {}
        }
        for _ in 1..EVENTS_PER_TURN {
            let Ok(event) = self.inbox.try_recv() else { break };
            self.take(event);
        }
        self.flush();
    }

    fn take(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Accepted(stream, address) => {
                self.totals.accepted += 1;
                if self.accepting.is_none() || self.peers.len() >= self.max_peers {
                    // Dropping the stream closes it.
                    self.totals.refused += 1;
                    return;
                }
                let id = PeerId(self.next);
                self.next += 1;
                let (queue, outgoing) = mpsc::channel(PEER_QUEUE);
                let flow = Arc::new(Flow::default());
                let serving = link::serve(id, stream, outgoing, self.events.clone(), flow.clone(), MAGIC);
                self.peers.insert(id, Connection { queue, flow, task: tokio::spawn(serving) });
                self.node.connected(now, id, address);
            }
            Event::Received(id, bytes) => {
                self.totals.bytes_in += bytes.len() as u64;
                // Of a peer that is gone already nothing more is heard.
                self.node.received(now, id, &bytes);
            }
            Event::Sent { id, messages, bytes } => {
                self.totals.bytes_out += bytes as u64;
                self.node.sent(id, messages, bytes);
            }
            Event::Closed { id, stalled } => {
                if self.peers.remove(&id).is_some() {
                    self.totals.slow += u64::from(stalled);
                    self.node.disconnected(now, id);
                }
            }
        }
    }
}

impl Drop for StubHost {
    fn drop(&mut self) {
        self.stop_listening();
    }
}
