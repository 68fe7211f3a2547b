//! A hub, stub nodes and a simulated disk in one thread: virtual time that jumps to the next thing due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use breakwater::admission::Host;
use breakwater::base::limits::SEGMENT_BYTES;
use breakwater::base::{ClientId, Instant, Nonces, ShardId};
use breakwater::feed::{BlockNews, ChainView};
use breakwater::hub::store::{Keep, Store, StoreConfig};
use breakwater::hub::{Hub, HubConfig, HubEvent, Input, LinkId, NodeAddr, Output, chain};
use breakwater::link::{Answer, AskTx, Policy, ToHub, ToShard, Want, WantId};
use breakwater::stub::node::{Options, Output as NodeOutput, PeerId, StubNode};
use breakwater::stub::{MAGIC, StubChain};
use breakwater::transport::Pipe;
use breakwater::wire::{Hash, Services};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::disk::SimDisk;

/// Unix time at `Instant(0)`.
pub const START: u64 = 1_700_000_000;

/// What a shard has been told.
#[derive(Default)]
pub struct Shard {
    pub view: Option<Arc<ChainView>>,
    pub blocks: Vec<Arc<BlockNews>>,
    pub filters_to: Option<u32>,
    pub txs: Vec<Hash>,
    pub gone: Vec<Hash>,
    pub asks: Vec<AskTx>,
    pub answers: BTreeMap<u32, Answer>,
    pub policy: Option<Arc<Policy>>,
    pub addresses: u32,
    pub open: bool,
    pub draining: bool,
}

pub struct World {
    pub hub: Option<Hub>,
    pub disk: SimDisk,
    pub config: HubConfig,
    /// `None` while it is down; its chain waits in `chains` then.
    pub nodes: Vec<Option<StubNode>>,
    pub chains: Vec<Option<StubChain>>,
    pub options: Options,
    links: BTreeMap<LinkId, usize>,
    /// The transports of links in BIP324: the hub's end and the node's.
    pipes: BTreeMap<LinkId, (Pipe, Pipe)>,
    /// True exactly when the nodes know BIP324.
    pub v2: bool,
    /// So many key exchanges get no answer all the same.
    pub busy: u32,
    /// The oldest link of this node, its main one, carries no transactions to it any more.
    pub half_dead: Option<usize>,
    /// How long nodes take for a transaction; nothing else is handled meanwhile.
    pub verdict: Duration,
    /// When each node is done with what it has been sent, and what that is.
    busy_until: Vec<Instant>,
    to_nodes: VecDeque<(Instant, LinkId, Vec<u8>)>,
    pub now: Instant,
    pub shard: Shard,
    pub ready: Option<(u32, Hash)>,
    pub events: Vec<HubEvent>,
    next_want: u32,
    /// Ticks of the hub, to notice one that never sleeps.
    pub ticks: u64,
}

pub fn node_addr(n: usize) -> NodeAddr {
    NodeAddr(format!("127.0.0.1:{}", 18_000 + n))
}

/// Which node an address names, whatever may be spoken with it.
fn number(addr: &NodeAddr) -> usize {
    (0..100).find(|n| node_addr(*n).host_port() == addr.host_port()).unwrap()
}

/// Both ends of an open connection.
fn pipes(link: LinkId) -> (Pipe, Pipe) {
    let mut rng = StdRng::seed_from_u64(link.0);
    let (mut to_b, mut to_a, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut a = Pipe::v2(MAGIC, &mut rng, &mut to_b);
    let mut b = Pipe::accept(MAGIC, &mut rng);
    b.received(&mut to_b, &mut plain, &mut to_a).unwrap();
    to_b.clear();
    a.received(&mut to_a, &mut plain, &mut to_b).unwrap();
    b.received(&mut to_b, &mut plain, &mut Vec::new()).unwrap();
    assert!(a.is_open() && b.is_open() && plain.is_empty());
    (a, b)
}

impl World {
    /// Nodes with these chains, and a hub on an empty disk.
    pub fn new(chains: Vec<StubChain>, keep: Keep, options: Options) -> World {
        let config = HubConfig {
            network: bitcoin::Network::Regtest,
            nodes: (0..chains.len()).map(node_addr).collect(),
            shards: 1,
            keep,
            mempool_bytes: 10_000_000,
            siblings: vec!["127.0.0.9:8333".parse().unwrap()],
            v2: false,
            allow_mempool: true,
            user_agent: "/breakwater:test/".into(),
            nonces: Nonces::new(0x1234_5678_9abc_0000),
            seed: 7,
        };
        let nodes = chains.len();
        let mut world = World {
            hub: None,
            disk: SimDisk::new(),
            config,
            nodes: chains.iter().map(|_| None).collect(),
            chains: chains.into_iter().map(Some).collect(),
            options,
            links: BTreeMap::new(),
            pipes: BTreeMap::new(),
            v2: false,
            busy: 0,
            half_dead: None,
            verdict: Duration::ZERO,
            busy_until: vec![Instant(0); nodes],
            to_nodes: VecDeque::new(),
            now: Instant(1),
            shard: Shard::default(),
            ready: None,
            events: Vec::new(),
            next_want: 0,
            ticks: 0,
        };
        for n in 0..world.nodes.len() {
            world.start_node(n);
        }
        world.start_hub();
        world
    }

    pub fn one(blocks: u32, keep: Keep) -> World {
        let mut chain = StubChain::new(1, START - 100_000);
        chain.grow(blocks, START - 10);
        World::new(vec![chain], keep, Options::default())
    }

    pub fn unix(&self) -> u64 {
        START + u64::from(self.now.secs())
    }

    pub fn start_hub(&mut self) {
        let config = StoreConfig {
            magic: MAGIC,
            genesis: chain::genesis(self.config.network),
            keep: self.config.keep,
            cache_bytes: 1 << 30,
            segment_bytes: SEGMENT_BYTES,
        };
        let (store, opened) = Store::open(Box::new(self.disk.clone()), config).unwrap();
        self.shard = Shard::default();
        self.ready = None;
        self.hub = Some(Hub::new(self.config.clone(), store, opened, self.now, self.unix()).unwrap());
    }

    /// The process is killed: what is in memory is lost.
    pub fn kill_hub(&mut self) {
        self.hub = None;
        self.disk.kill();
        for (link, node) in std::mem::take(&mut self.links) {
            if let Some(node) = &mut self.nodes[node] {
                node.disconnected(self.now, PeerId(link.0));
            }
        }
    }

    pub fn start_node(&mut self, n: usize) {
        let chain = self.chains[n].take().unwrap();
        self.nodes[n] = Some(StubNode::new(chain, n as u64, self.options.clone()));
    }

    pub fn kill_node(&mut self, n: usize) {
        self.chains[n] = Some(self.nodes[n].take().unwrap().into_chain());
        let gone: Vec<LinkId> = self.links.iter().filter(|(_, node)| **node == n).map(|(l, _)| *l).collect();
        for link in gone {
            self.links.remove(&link);
            self.give(Input::Closed { link, error: Some("reset".into()) });
        }
    }

    pub fn node(&mut self, n: usize) -> &mut StubNode {
        self.nodes[n].as_mut().unwrap()
    }

    /// Mines on a node.
    pub fn mine(&mut self, n: usize, blocks: u32) -> Hash {
        let (unix, now) = (self.unix(), self.now);
        let node = self.node(n);
        let mut hash = [0; 32];
        for _ in 0..blocks {
            hash = node.chain_mut().mine(unix);
        }
        node.tick(now);
        hash
    }

    pub fn give(&mut self, input: Input<'_>) {
        let (now, unix) = (self.now, self.unix());
        if let Some(hub) = &mut self.hub {
            hub.handle(now, unix, input);
        }
    }

    pub fn client_says(&mut self, entry: ToHub) {
        self.give(Input::FromShard { shard: ShardId(0), entry });
    }

    /// Asks what a client asks; the answer is in `shard.answers` under the number.
    pub fn want(&mut self, want: Want) -> u32 {
        self.next_want += 1;
        let id = self.next_want;
        self.client_says(ToHub::Want { client: client(1), id: WantId(id), want });
        id
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.settle();
            let wakes = self.nodes.iter().flatten().map(StubNode::next_wake);
            let hub = self.hub.as_ref().map(Hub::next_wake);
            let sent = self.to_nodes.front().map(|(at, ..)| *at);
            let next = wakes
                .chain(hub)
                .chain(sent)
                .min()
                .unwrap_or(Instant::FAR)
                .max(self.now + Duration::from_micros(100));
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            let (now, unix) = (self.now, self.unix());
            for node in self.nodes.iter_mut().flatten() {
                node.tick(now);
            }
            while self.to_nodes.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, link, bytes) = self.to_nodes.pop_front().unwrap();
                self.reach_node(link, &bytes);
            }
            if let Some(hub) = &mut self.hub
                && now >= hub.next_wake()
            {
                hub.tick(now, unix);
                self.ticks += 1;
                // A busy hub wakes some 100 times a second, for a while; with each transaction when they come one by one.
                let most = if self.verdict.is_zero() { 100 } else { 1_000 };
                assert!(self.ticks < 2_000 + most * u64::from(now.secs()), "the hub does not sleep");
            }
        }
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    /// Runs until it is so, at most `secs`.
    #[track_caller]
    pub fn until(&mut self, what: &str, secs: u64, mut so: impl FnMut(&mut World) -> bool) {
        let end = self.now + Duration::from_secs(secs);
        while !so(self) {
            assert!(self.now < end, "after {secs} s still not: {what}\nevents: {:#?}", self.events);
            self.run_ms(10);
        }
    }

    /// Delivers everything that is under way.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(output) = self.hub.as_mut().and_then(Hub::next_output) {
                moved = true;
                self.hub_output(output);
            }
            for n in 0..self.nodes.len() {
                while let Some(output) = self.nodes[n].as_mut().and_then(StubNode::next_output) {
                    moved = true;
                    self.node_output(output);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn hub_output(&mut self, output: Output) {
        let now = self.now;
        match output {
            Output::Connect { link, v2: true, node }
                if self.is_there(&node) && (!self.v2 || self.busy > 0) =>
            {
                self.busy = self.busy.saturating_sub(1);
                self.give(Input::NotV2 { link });
            }
            Output::Connect { link, node, v2 } => {
                let n = number(&node);
                let Some(stub) = &mut self.nodes[n] else {
                    return self.give(Input::ConnectFailed { link, error: "refused".into() });
                };
                stub.connected(now, PeerId(link.0), SocketAddr::from(([127, 0, 0, 1], 40_000)));
                self.links.insert(link, n);
                if v2 {
                    self.pipes.insert(link, pipes(link));
                }
                let v2 = self.pipes.get(&link).and_then(|(pipe, _)| pipe.session_id().copied());
                self.give(Input::Connected { link, v2 });
            }
            Output::Send { link, bytes } if self.is_swallowed(link, &bytes) => {}
            Output::Send { link, bytes } => {
                let mut bytes = bytes.to_vec();
                if let Some((ours, theirs)) = self.pipes.get_mut(&link) {
                    let (mut wire, mut frames) = (Vec::new(), Vec::new());
                    ours.send(&bytes, &mut wire);
                    theirs.received_v1(&mut wire, &mut frames, &mut Vec::new()).unwrap();
                    bytes = frames;
                }
                self.send_to_node(link, bytes);
            }
            Output::Close { link } => {
                if let Some(node) = self.links.remove(&link).and_then(|n| self.nodes[n].as_mut()) {
                    node.disconnected(now, PeerId(link.0));
                }
            }
            Output::ToShard { entry, .. } => self.tell(entry),
            Output::Ready { height, hash } => {
                assert!(self.ready.is_none(), "ready twice");
                self.ready = Some((height, hash));
            }
            Output::Event(event) => self.events.push(event),
        }
    }

    /// At once, or when the node has dealt with what came before and with this.
    fn send_to_node(&mut self, link: LinkId, bytes: Vec<u8>) {
        let Some(n) = self.links.get(&link).copied() else { return };
        if self.verdict.is_zero() {
            return self.reach_node(link, &bytes);
        }
        let txs = u32::from(&bytes[4..7] == b"tx\0");
        self.busy_until[n] = self.busy_until[n].max(self.now) + self.verdict * txs;
        self.to_nodes.push_back((self.busy_until[n], link, bytes));
    }

    fn reach_node(&mut self, link: LinkId, bytes: &[u8]) {
        let now = self.now;
        if let Some(node) = self.links.get(&link).and_then(|n| self.nodes[*n].as_mut()) {
            node.received(now, PeerId(link.0), bytes);
        }
    }

    fn is_there(&self, addr: &NodeAddr) -> bool {
        self.nodes[number(addr)].is_some()
    }

    fn is_swallowed(&self, link: LinkId, bytes: &[u8]) -> bool {
        let main = self.links.iter().find(|(_, n)| Some(**n) == self.half_dead).map(|(link, _)| *link);
        main == Some(link) && matches!(&bytes[4..7], b"inv" | b"tx\0")
    }

    fn node_output(&mut self, output: NodeOutput) {
        match output {
            NodeOutput::Send(peer, bytes) => {
                let mut bytes = bytes.to_vec();
                if let Some((ours, theirs)) = self.pipes.get_mut(&LinkId(peer.0)) {
                    let (mut wire, mut plain) = (Vec::new(), Vec::new());
                    theirs.send(&bytes, &mut wire);
                    ours.received(&mut wire, &mut plain, &mut Vec::new()).unwrap();
                    bytes = plain;
                }
                // In two pieces, so that messages are put together.
                let (a, b) = bytes.split_at(bytes.len() / 3);
                for data in [a, b].into_iter().filter(|data| !data.is_empty()) {
                    self.give(Input::Bytes { link: LinkId(peer.0), data });
                }
            }
            NodeOutput::Disconnect(peer, why) => {
                self.links.remove(&LinkId(peer.0));
                self.give(Input::Closed { link: LinkId(peer.0), error: Some(why.to_string()) });
            }
        }
    }

    fn tell(&mut self, entry: ToShard) {
        let shard = &mut self.shard;
        match entry {
            ToShard::Chain { view, blocks, .. } => {
                check_news(shard.view.as_deref(), &view, &blocks);
                shard.view = Some(view);
                shard.blocks.extend(blocks.iter().cloned());
            }
            ToShard::FiltersTo(to) => {
                let view = shard.view.as_ref().unwrap();
                assert!(view.filter(to).is_some(), "filters to {to}, which the picture does not have");
                shard.filters_to = Some(to);
            }
            ToShard::Txs(txs) => shard.txs.extend(txs.iter().map(|tx| tx.txid)),
            ToShard::TxsGone(gone) => shard.gone.extend(gone.iter()),
            ToShard::AskTx(ask) => shard.asks.push(ask),
            ToShard::Answer { id, answer, .. } => {
                assert!(shard.answers.insert(id.0, answer).is_none(), "want {id:?} answered twice");
            }
            ToShard::Policy(policy) => shard.policy = Some(policy),
            ToShard::Addresses { .. } => shard.addresses += 1,
            // The driver's, not the hub's.
            ToShard::Tls(_)
            | ToShard::Ask(..)
            | ToShard::Bans(_)
            | ToShard::Known(_)
            | ToShard::Rank(_)
            | ToShard::House(_)
            | ToShard::HouseRules(_)
            | ToShard::Slots(_) => {}
            ToShard::Open => shard.open = true,
            ToShard::Drain => shard.draining = true,
        }
    }

    pub fn services(&self) -> Services {
        self.shard.policy.as_ref().map_or(Services::empty(), |policy| policy.services)
    }

    /// The bytes of an answer, wherever they lie.
    pub fn answer(&self, id: u32) -> Vec<u8> {
        match self.shard.answers.get(&id) {
            Some(Answer::Bytes(bytes)) => bytes.to_vec(),
            Some(Answer::Extents(extents)) => extents
                .iter()
                .flat_map(|extent| {
                    let mut bytes = vec![0; extent.len as usize];
                    assert_eq!(extent.file.read_at(extent.offset, &mut bytes).unwrap(), bytes.len());
                    bytes
                })
                .collect(),
            other => panic!("want {id}: {other:?}"),
        }
    }

    /// The shard's tip is that of the node, with its block and its filter.
    pub fn at_tip(&mut self, n: usize) -> bool {
        let tip = self.node(n).chain().tip_hash();
        self.shard.view.as_ref().is_some_and(|view| view.tip_hash() == tip)
    }
}

pub fn client(slot: u32) -> ClientId {
    ClientId { slot, generation: 1 }
}

/// Each client in a network of its own.
pub fn host(slot: u32) -> Host {
    Host::V4(slot << 8)
}

/// News come in chain order, belong to the picture, and leave no gap behind the fork.
fn check_news(old: Option<&ChainView>, view: &ChainView, blocks: &[Arc<BlockNews>]) {
    for pair in blocks.windows(2) {
        assert_eq!(pair[0].height + 1, pair[1].height);
    }
    for news in blocks {
        assert_eq!(view.hash(news.height), Some(&news.hash));
    }
    let Some(old) = old else { return };
    if old.tip_hash() == view.tip_hash() {
        assert!(blocks.is_empty(), "a block announced again");
        return;
    }
    let fork =
        (0..=old.tip_height().min(view.tip_height())).rev().find(|h| old.hash(*h) == view.hash(*h)).unwrap();
    let told: BTreeSet<u32> = blocks.iter().map(|news| news.height).collect();
    let first = (fork + 1).max((view.tip_height() + 1).saturating_sub(64));
    assert!((first..=view.tip_height()).all(|h| told.contains(&h)), "gap in the announcement from {first}");
    assert_eq!(told.len() as u32, view.tip_height() + 1 - first);
}
