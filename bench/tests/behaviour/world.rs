//! Clients of the rig connected to a stub node in memory: bytes both ways, on a clock that jumps to what is due next.
//!
//! Plays the engine: connects, delivers, closes, reconnects, and counts what the engine counts. A millisecond passes from one
//! end to the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use breakwater::base::Instant;
use breakwater::stub::node::{Options as NodeOptions, Output};
use breakwater::stub::{MAGIC, PeerId, StubChain, StubNode};
use breakwater_rig::rig::behaviour::shared::Shared;
use breakwater_rig::rig::behaviour::{OnEnd, Options, find};
use breakwater_rig::rig::client::{Client, Context, Flow, Reading};
use breakwater_rig::rig::measure::Tally;
use breakwater_rig::rig::origin::{Known, Origins};
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Unix time at `Instant(0)`.
pub const START: u64 = 1_700_100_000;

pub struct Peer {
    pub client: Client,
    pub tally: Tally,
    /// What it has sent, when `World::record` was asked for.
    pub sent: Vec<u8>,
    number: u32,
    input: Vec<u8>,
    id: Option<PeerId>,
    /// When it connects (again).
    connect: Instant,
}

pub struct World {
    pub node: StubNode,
    pub now: Instant,
    pub peers: Vec<Peer>,
    pub shared: Shared,
    pub origins: Origins,
    pub record: bool,
    known: Known,
    rng: SmallRng,
    next_id: u64,
}

/// A chain of so many blocks on genesis.
pub fn chain(blocks: u32) -> StubChain {
    let mut chain = StubChain::new(7, START - 100_000);
    chain.grow(blocks, START - 60);
    chain
}

impl World {
    pub fn new(blocks: u32) -> World {
        let addresses = vec!["1.2.3.4:8333".parse().unwrap()];
        World::with(chain(blocks), NodeOptions { addresses, ..NodeOptions::default() })
    }

    pub fn with(chain: StubChain, options: NodeOptions) -> World {
        World {
            node: StubNode::new(chain, 7, NodeOptions { unix_start: START, ..options }),
            now: Instant(1_000_000),
            peers: Vec::new(),
            shared: Shared::new(5, MAGIC),
            origins: Origins::default(),
            record: false,
            known: Known::default(),
            rng: SmallRng::seed_from_u64(3),
            next_id: 0,
        }
    }

    /// A client that connects now; its place among the peers.
    pub fn add(&mut self, name: &str, options: &Options) -> usize {
        let kind = find(name).unwrap_or_else(|| panic!("no behaviour {name}"));
        self.peers.push(Peer {
            client: Client::new((kind.make)(options)),
            tally: Tally::default(),
            sent: Vec::new(),
            number: self.peers.len() as u32,
            input: Vec::new(),
            id: None,
            connect: self.now,
        });
        self.peers.len() - 1
    }

    /// Lets so much time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.node.tick(self.now);
            let mut busy = self.deliver();
            for at in 0..self.peers.len() {
                busy |= self.attend(at);
            }
            if busy {
                self.now = self.now + Duration::from_millis(1);
                continue;
            }
            let due = self.peers.iter().map(|peer| match peer.id {
                Some(_) => peer.client.next_wake(),
                None => peer.connect,
            });
            let due = due.min().unwrap_or(Instant::FAR).min(self.node.next_wake()).min(end);
            self.now = due.max(self.now + Duration::from_micros(10));
        }
    }

    /// What a peer counted.
    pub fn tally(&self, at: usize) -> &Tally {
        &self.peers[at].tally
    }

    #[track_caller]
    pub fn assert_no_errors(&self) {
        for (at, peer) in self.peers.iter().enumerate() {
            assert!(peer.tally.errors.is_empty(), "peer {at}: {:?}", peer.tally.errors);
        }
    }

    /// Hands bytes to a client as if the node had sent them; what it answers, and what becomes of it.
    pub fn tell(&mut self, at: usize, bytes: &[u8]) -> (Vec<u8>, Flow) {
        let mut out = Vec::new();
        let (_, flow) = self.call(at, &mut out, |client, cx| client.received(cx, bytes));
        (out, flow)
    }

    /// Begins a connection of a client by hand.
    pub fn start(&mut self, at: usize) -> Flow {
        self.call(at, &mut Vec::new(), |client, cx| client.start(cx))
    }

    /// Delivers what the node has said.
    fn deliver(&mut self) -> bool {
        let outputs: Vec<Output> = std::iter::from_fn(|| self.node.next_output()).collect();
        let busy = !outputs.is_empty();
        for output in outputs {
            match output {
                Output::Send(id, bytes) => {
                    let Some(at) = self.peers.iter().position(|peer| peer.id == Some(id)) else { continue };
                    if self.peers[at].client.reading() == Reading::Never {
                        continue;
                    }
                    self.peers[at].input.extend_from_slice(&bytes);
                    let input = std::mem::take(&mut self.peers[at].input);
                    self.peers[at].tally.counts.bytes_in += bytes.len() as u64;
                    let mut out = Vec::new();
                    let (used, flow) = self.call(at, &mut out, |client, cx| client.received(cx, &input));
                    self.peers[at].input = input[used..].to_vec();
                    self.settle(at, &out, flow);
                }
                Output::Disconnect(id, _) => {
                    let Some(at) = self.peers.iter().position(|peer| peer.id == Some(id)) else { continue };
                    self.target_ended(at);
                }
            }
        }
        busy
    }

    /// Connects a peer or wakes it, if it is time.
    fn attend(&mut self, at: usize) -> bool {
        let mut out = Vec::new();
        let peer = &mut self.peers[at];
        let flow = match peer.id {
            None if peer.connect <= self.now => {
                self.next_id += 1;
                let id = PeerId(self.next_id);
                (peer.id, peer.connect) = (Some(id), Instant::FAR);
                self.node.connected(self.now, id, SocketAddr::from((Ipv4Addr::LOCALHOST, 4_000)));
                self.call(at, &mut out, |client, cx| client.start(cx))
            }
            Some(_) if peer.client.next_wake() <= self.now => {
                self.call(at, &mut out, |client, cx| client.wake(cx))
            }
            _ => return false,
        };
        self.settle(at, &out, flow);
        true
    }

    fn settle(&mut self, at: usize, out: &[u8], flow: Flow) {
        let Some(id) = self.peers[at].id else { return };
        if self.record {
            self.peers[at].sent.extend_from_slice(out);
        }
        self.node.received(self.now, id, out);
        let again = match flow {
            Flow::Go => return,
            Flow::Leave => {
                self.peers[at].tally.counts.left += 1;
                self.peers[at].client.again_us()
            }
            Flow::Broken(why) => {
                self.peers[at].tally.error(why);
                None
            }
        };
        self.node.disconnected(self.now, id);
        self.close(at, again);
    }

    fn target_ended(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if let Some(error) = peer.client.complaint() {
            peer.tally.error(error);
        }
        let again = match peer.client.on_end() {
            OnEnd::Lost => {
                peer.tally.counts.lost += 1;
                None
            }
            OnEnd::Deserved { again_us } => {
                peer.tally.counts.thrown_out += 1;
                Some(again_us)
            }
        };
        self.close(at, again);
    }

    fn close(&mut self, at: usize, again_us: Option<u32>) {
        let peer = &mut self.peers[at];
        peer.client.ended(&mut peer.tally);
        peer.id = None;
        peer.input.clear();
        peer.connect = again_us.map_or(Instant::FAR, |us| self.now + Duration::from_micros(us.into()));
    }

    fn call<R>(
        &mut self,
        at: usize,
        out: &mut Vec<u8>,
        act: impl FnOnce(&mut Client, &mut Context<'_>) -> R,
    ) -> R {
        let peer = &mut self.peers[at];
        let mut cx = Context {
            now: self.now,
            ping_every: std::time::Duration::ZERO,
            unix_start: START,
            magic: MAGIC,
            framing: breakwater::wire::Framing::V1(MAGIC),
            target: SocketAddr::from((Ipv4Addr::LOCALHOST, 18_444)),
            number: peer.number,
            out,
            tally: &mut peer.tally,
            shared: &self.shared,
            origins: &self.origins,
            known: &mut self.known,
            rng: &mut self.rng,
        };
        act(&mut peer.client, &mut cx)
    }
}
