//! The Bitcoin network behind the relay: one chain that everybody agrees on in the end, and the stub nodes that follow it.
//!
//! Blocks are mined on the common chain and reach each node after a delay of its own; transactions that a node accepts
//! reach the others likewise. Nodes crash, hang, come back and catch up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Transaction;
use bitcoin::hashes::Hash as _;
use breakwater::base::{Instant, UnixTime};
use breakwater::stub::node::{Options, Output, PeerId, StubNode};
use breakwater::stub::{MAGIC, StubBlock, StubChain};
use breakwater::transport::{Kind, Pipe};
use breakwater::wire::Hash;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::kernel::SharedNet;
use super::net::News;
use super::pipe::TcpId;
use super::transport::to_v1;
use super::truth::{Truth, short};

/// Number of the first node's actor; the next has the next number.
pub const FIRST_NODE: u64 = 2_000_000;

/// Something on its way between nodes.
#[derive(Debug)]
enum Gossip {
    Block(usize, Arc<StubBlock>),
    Tx(usize, Transaction),
    /// To the miners.
    Mine(Transaction),
}

/// A node, up or down.
#[derive(Debug)]
struct Node {
    up: Option<StubNode>,
    /// What is on its disk while it is down.
    down: Option<StubChain>,
    options: Options,
    links: BTreeSet<TcpId>,
    /// True exactly when it knows BIP324.
    v2: bool,
    /// The transport of each link, then.
    pipes: BTreeMap<TcpId, Pipe>,
    /// The last arrival in its mempool that the others were told of.
    told: u64,
}

/// The network behind.
#[derive(Debug)]
pub struct Backend {
    net: SharedNet,
    chain: StubChain,
    nodes: Vec<Node>,
    gossip: BTreeMap<(Instant, u64), Gossip>,
    seq: u64,
    rng: SmallRng,
}

impl Backend {
    /// Nodes on a chain, one for each of `options`.
    pub fn new(
        net: SharedNet,
        chain: StubChain,
        options: Vec<Options>,
        seed: u64,
        truth: &mut Truth,
    ) -> Backend {
        for height in 0..=chain.height() {
            accept_block(chain.at(height).expect("a height of the best chain"), truth);
        }
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x6e6f_6465);
        let node = |options| Node {
            up: None,
            down: Some(chain.clone()),
            options,
            links: BTreeSet::new(),
            v2: rng.random_bool(0.6),
            pipes: BTreeMap::new(),
            told: 0,
        };
        let nodes = options.into_iter().map(node).collect();
        let mut backend = Backend { net, chain, nodes, gossip: BTreeMap::new(), seq: 0, rng };
        (0..backend.nodes.len()).for_each(|node| backend.start(node, truth));
        backend
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The chain that the nodes follow.
    pub fn chain(&self) -> &StubChain {
        &self.chain
    }

    /// True exactly when the node runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].up.is_some()
    }

    fn now(&self) -> (Instant, UnixTime) {
        let net = self.net.borrow();
        (net.now(), net.unix())
    }

    fn note(&self, args: std::fmt::Arguments<'_>) {
        self.net.borrow_mut().note(args);
    }

    /// Mines a block on the tip.
    pub fn mine(&mut self) {
        let (_, unix) = self.now();
        let hash = self.chain.mine(unix);
        self.spread(&[hash]);
    }

    /// Replaces the last `depth` blocks by one more.
    pub fn reorganise(&mut self, depth: u32) {
        let (_, unix) = self.now();
        let Some(parent) = self.chain.height().checked_sub(depth).and_then(|height| self.chain.at(height))
        else {
            return;
        };
        let parent = *parent.hash();
        self.note(format_args!("reorganisation {depth} deep"));
        let made = self.chain.mine_on(&parent, depth + 1, unix).expect("a parent in the chain");
        self.spread(&made);
    }

    fn spread(&mut self, hashes: &[Hash]) {
        for hash in hashes {
            let block = self.chain.block(hash).expect("a block just mined").clone();
            self.note(format_args!("block {} at {}", short(hash), block.height()));
            for node in 0..self.nodes.len() {
                self.later(1_000_000, Gossip::Block(node, block.clone()));
            }
        }
    }

    fn later(&mut self, most_us: u64, gossip: Gossip) {
        let delay = Duration::from_micros(self.rng.random_range(0..most_us));
        self.seq += 1;
        let at = self.net.borrow().now() + delay;
        self.gossip.insert((at, self.seq), gossip);
    }

    /// A valid transaction that nobody has heard of.
    pub fn make_tx(&mut self, bytes: usize) -> Option<Transaction> {
        self.chain.make_tx(&mut self.rng, bytes)
    }

    /// Somebody elsewhere makes a transaction; it reaches a node.
    pub fn send_tx(&mut self) {
        let bytes = self.rng.random_range(200..5_000);
        if let Some(tx) = self.make_tx(bytes) {
            let node = self.rng.random_range(0..self.nodes.len());
            self.later(100_000, Gossip::Tx(node, tx));
        }
    }

    /// The node dies, its connections with it.
    pub fn crash(&mut self, node: usize) {
        let Some(stub) = self.nodes[node].up.take() else { return };
        self.note(format_args!("node {node} crashes"));
        self.nodes[node].down = Some(stub.into_chain());
        let mut net = self.net.borrow_mut();
        net.listening.remove(&(FIRST_NODE + node as u64));
        self.nodes[node].pipes.clear();
        for tcp in std::mem::take(&mut self.nodes[node].links) {
            net.close(tcp, FIRST_NODE + node as u64, true);
        }
    }

    /// The node starts again and catches up.
    pub fn start(&mut self, node: usize, truth: &mut Truth) {
        let Some(mut chain) = self.nodes[node].down.take() else { return };
        self.note(format_args!("node {node} starts"));
        follow(&mut chain, &self.chain, self.chain.tip(), truth);
        let seed = self.rng.random();
        self.nodes[node].told = chain.mempool().arrivals();
        self.nodes[node].up = Some(StubNode::new(chain, seed, self.nodes[node].options.clone()));
        self.net.borrow_mut().listening.insert(FIRST_NODE + node as u64);
    }

    /// The node hangs, or goes on.
    pub fn set_silent(&mut self, node: usize, silent: bool, truth: &mut Truth) {
        let Some(stub) = self.nodes[node].up.as_mut() else { return };
        stub.set_silent(silent);
        self.note(format_args!("node {node} {}", if silent { "hangs" } else { "goes on" }));
        self.after(node, truth);
    }

    /// How long the node's filter index lags from now on.
    pub fn set_filter_delay(&mut self, node: usize, delay: Duration) {
        self.nodes[node].options.filter_delay = delay;
        if let Some(stub) = self.nodes[node].up.as_mut() {
            stub.options_mut().filter_delay = delay;
        }
    }

    /// When something is due here.
    pub fn next_wake(&self) -> Instant {
        let nodes = self.nodes.iter().filter_map(|node| node.up.as_ref()).map(StubNode::next_wake).min();
        let gossip = self.gossip.keys().next().map(|(at, _)| *at);
        nodes.into_iter().chain(gossip).min().unwrap_or(Instant::FAR)
    }

    /// Does what is due.
    pub fn run(&mut self, truth: &mut Truth) -> Result<(), String> {
        let (now, _) = self.now();
        while let Some(entry) = self.gossip.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Gossip::Block(node, block) => self.adopt(node, &block, truth),
                Gossip::Tx(node, tx) => {
                    if let Some(stub) = self.nodes[node].up.as_mut() {
                        let _ = stub.chain_mut().accept_tx(&tx);
                        self.after(node, truth);
                    }
                }
                Gossip::Mine(tx) => _ = self.chain.accept_tx(&tx),
            }
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].up.as_ref().is_some_and(|stub| stub.next_wake() <= now) {
                self.after(node, truth);
            }
        }
        Ok(())
    }

    fn adopt(&mut self, node: usize, block: &Arc<StubBlock>, truth: &mut Truth) {
        if let Some(stub) = self.nodes[node].up.as_mut() {
            follow(stub.chain_mut(), &self.chain, block, truth);
            self.after(node, truth);
        }
    }

    /// News of one of a node's connections.
    pub fn hear(&mut self, node: usize, tcp: TcpId, news: News, truth: &mut Truth) -> Result<(), String> {
        let (now, _) = self.now();
        let peer = PeerId(u64::from(tcp));
        let Node { up: Some(stub), links, v2, pipes, .. } = &mut self.nodes[node] else { return Ok(()) };
        match news {
            News::Incoming => {
                links.insert(tcp);
                if *v2 {
                    pipes.insert(tcp, Pipe::accept(MAGIC, &mut self.rng));
                }
                stub.connected(now, peer, ([127, 0, 0, 1], 1).into());
            }
            News::Bytes(mut bytes) => {
                if let Some(pipe) = pipes.get_mut(&tcp) {
                    let (mut opened, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
                    let complain = |why: &dyn std::fmt::Debug| format!("node {node} on net {tcp}: {why:?}");
                    pipe.received(&mut bytes, &mut opened, &mut out).map_err(|end| complain(&end))?;
                    match pipe.kind() {
                        Kind::V2 => to_v1(&mut opened, &mut plain).map_err(|over| complain(&over))?,
                        _ => plain = opened,
                    }
                    bytes = plain;
                    self.net.borrow_mut().send(tcp, FIRST_NODE + node as u64, &out);
                }
                stub.received(now, peer, &bytes);
            }
            News::Fin | News::Reset => {
                stub.disconnected(now, peer);
                self.drop_link(node, tcp);
            }
            News::Connected | News::Refused => {}
        }
        self.after(node, truth);
        Ok(())
    }

    fn drop_link(&mut self, node: usize, tcp: TcpId) {
        self.nodes[node].links.remove(&tcp);
        self.nodes[node].pipes.remove(&tcp);
        self.net.borrow_mut().close(tcp, FIRST_NODE + node as u64, false);
    }

    /// Lets a node do what is due, and carries away what it says and what it has accepted.
    fn after(&mut self, node: usize, truth: &mut Truth) {
        let (now, _) = self.now();
        let Node { up: Some(stub), told, .. } = &mut self.nodes[node] else { return };
        stub.tick(now);
        let told = std::mem::replace(told, stub.chain().mempool().arrivals());
        let news: Vec<_> = stub.chain().mempool().since(told).cloned().collect();
        let mut outputs = Vec::new();
        while let Some(output) = stub.next_output() {
            outputs.push(output);
        }
        for tx in news {
            truth.accept_tx(tx.txid, tx.wtxid);
            self.note(format_args!("node {node} accepts tx {}", short(&tx.wtxid)));
            for other in (0..self.nodes.len()).filter(|other| *other != node) {
                self.later(2_000_000, Gossip::Tx(other, tx.tx.clone()));
            }
            self.later(2_000_000, Gossip::Mine(tx.tx.clone()));
        }
        for output in outputs {
            match output {
                Output::Send(PeerId(peer), bytes) => {
                    let mut sealed = Vec::new();
                    match self.nodes[node].pipes.get_mut(&(peer as TcpId)) {
                        Some(pipe) => pipe.send(&bytes, &mut sealed),
                        None => sealed.extend_from_slice(&bytes),
                    }
                    self.net.borrow_mut().send(peer as TcpId, FIRST_NODE + node as u64, &sealed);
                }
                Output::Disconnect(PeerId(peer), why) => {
                    self.note(format_args!("node {node} drops net {peer}: {why}"));
                    self.drop_link(node, peer as TcpId);
                }
            }
        }
    }
}

/// Brings `chain` all blocks up to `to` that it lacks.
fn follow(chain: &mut StubChain, from: &StubChain, to: &Arc<StubBlock>, truth: &mut Truth) {
    let mut missing = vec![to.clone()];
    while let Some(block) = missing.last()
        && chain.block(block.parent()).is_none()
        && let Some(parent) = from.block(block.parent())
    {
        missing.push(parent.clone());
    }
    for block in missing.iter().rev() {
        accept_block(block, truth);
        chain.adopt(block);
    }
}

fn accept_block(block: &Arc<StubBlock>, truth: &mut Truth) {
    truth.accept_block(*block.hash(), block.height());
    for tx in &block.block().txdata {
        truth.accept_tx(tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
    }
}
