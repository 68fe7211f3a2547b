//! The production shard on the scripted kernel, with a hub that says what the test says.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;

use breakwater::admission::{Costs, ProbeLimits};
use breakwater::base::{End, Fault, Nonces, ShardId};
use breakwater::feed::{BlockNews, ChainView, FilterRecord, Record, TxNews};
use breakwater::hub::compact;
use breakwater::io::{File, IoEnd};
use breakwater::link::{
    Answer, Ask, AskId, ClientInfo, Doorbell, Extent, Filter, HouseRules, HubEnd, Policy, ShardReport, ToHub,
    ToShard, Told, Want, WantId, pair,
};
use breakwater::shard::counters::Counters;
use breakwater::shard::{HandshakeLimits, ListenerKind, Service, Shard, ShardConfig};
use breakwater::stub::{MAGIC, StubChain};
use breakwater::wire::{self, Hash, Services, Step, Version, split, write};
use bytes::Bytes;

use super::script::{Script, secs};

/// Blocks of the chain when a test begins.
pub const HEIGHT: u32 = 20;

pub struct Rig {
    pub kernel: Script,
    pub shard: Shard<Script>,
    pub hub: HubEnd,
    pub chain: StubChain,
    /// What the shard told its hub, reports apart.
    pub heard: VecDeque<ToHub>,
    /// What it told of who comes, uses and goes.
    pub house: VecDeque<ToHub>,
    pub report: Option<Box<ShardReport>>,
    pub ended: bool,
    /// True exactly while the hub takes nothing out of its queue.
    pub deaf: bool,
    /// False once `turn` has said that the shard is over.
    pub runs: bool,
}

/// What `version` says, and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub relay: bool,
    pub wtxid: bool,
    pub headers: bool,
    /// `sendcmpct` of version 2: high bandwidth or not.
    pub compact: Option<bool>,
}

pub const PLAIN: Manner = Manner { relay: true, wtxid: true, headers: false, compact: None };

pub fn config() -> ShardConfig {
    ShardConfig {
        sweep: breakwater::base::limits::SWEEP_PER_TURN,
        id: ShardId(0),
        magic: MAGIC,
        max_clients: 1_000,
        max_per_address: 0,
        listeners: vec![ListenerKind::Plain.into()],
        v2: false,
        tls: None,
        handshakes: HandshakeLimits::free(1_024),
        secret: [7; 32],
        services: vec![Service::open(b"/breakwater:test/")],
        probe_limits: ProbeLimits::none(),
        capacity: u64::MAX,
        house: HouseRules::open(),
        probe_exempt: Vec::new(),
        costs: Costs::default(),
        tx_interval: secs(1),
        buffer_budget: 64 << 20,
        nonces: Nonces::new(0xdead_beef_0000_0000),
        seed: 1,
    }
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(config())
    }

    /// A shard that has its chain, its policy and its filters, and listens.
    pub fn with(config: ShardConfig) -> Rig {
        let mut chain = StubChain::new(3, 1_690_000_000);
        chain.grow(HEIGHT, 1_690_100_000);
        Rig::on(config, chain)
    }

    pub fn on(config: ShardConfig, chain: StubChain) -> Rig {
        let kernel = Script::new();
        let (hub, end) = pair(Doorbell::silent(), Doorbell::silent()).expect("a link without descriptors");
        let shard = Shard::new(config, kernel.hand(), end);
        let mut rig = Rig {
            kernel,
            shard,
            hub,
            chain,
            heard: VecDeque::new(),
            house: VecDeque::new(),
            report: None,
            ended: false,
            deaf: false,
            runs: true,
        };
        let services = Services::NETWORK | Services::WITNESS | Services::COMPACT_FILTERS;
        rig.tell(ToShard::Policy(Arc::new(Policy { services, fee_filter: 1_000, mempool: false })));
        let first = rig.chain.height().saturating_sub(9);
        rig.publish(first);
        rig.tell(ToShard::FiltersTo(rig.chain.height()));
        rig.tell(ToShard::Open);
        rig.settle();
        rig
    }

    pub fn tell(&mut self, entry: ToShard) {
        self.hub.push(entry).expect("room in the link");
    }

    /// Publishes the chain as it is, and announces its blocks from height `from` on.
    pub fn publish(&mut self, from: u32) {
        let record = |height| {
            let block = self.chain.at(height).expect("a block");
            let filter = FilterRecord { header: *block.filter_header(), hash: *block.filter_hash() };
            Record { header: *block.header(), hash: *block.hash(), filter: Some(filter) }
        };
        let records = (0..=self.chain.height()).map(record).collect();
        let blocks: Vec<Arc<BlockNews>> =
            (from..=self.chain.height()).map(|height| self.news(height)).collect();
        let view = Arc::new(ChainView::new(Arc::default(), records));
        let had = self.kernel.0.borrow().now;
        self.tell(ToShard::Chain { view, blocks: blocks.into(), had });
    }

    /// Another branch of `blocks` blocks from `depth` below the tip takes over, with its filters.
    pub fn reorganise(&mut self, depth: u32, blocks: u32) {
        let fork = self.chain.height() - depth;
        let parent = *self.chain.at(fork).expect("a block").hash();
        self.chain.mine_on(&parent, blocks, 1_690_300_000).expect("a known parent");
        self.tell(ToShard::FiltersTo(fork));
        self.publish(fork + 1);
        self.tell(ToShard::FiltersTo(self.chain.height()));
        self.settle();
    }

    fn news(&self, height: u32) -> Arc<BlockNews> {
        let message = self.chain.at(height).expect("a block").message().clone();
        Arc::new(compact::news(message, height, MAGIC, 5).expect("a valid block"))
    }

    /// Mines one block, publishes it with its filter; its hash.
    pub fn mine(&mut self) -> Hash {
        let hash = self.mine_unfiltered();
        self.tell(ToShard::FiltersTo(self.chain.height()));
        hash
    }

    /// The same, but the filter comes later.
    pub fn mine_unfiltered(&mut self) -> Hash {
        let hash = self.chain.mine(1_690_200_000);
        self.publish(self.chain.height());
        hash
    }

    /// One turn of the shard, with what the kernel has for it.
    pub fn turn(&mut self) {
        self.kernel.deliver();
        self.runs = self.runs && self.shard.turn();
        while !self.deaf
            && let Some(entry) = self.hub.pop()
        {
            match entry {
                ToHub::Report(report) => self.report = Some(report),
                ToHub::Ended => self.ended = true,
                entry @ (ToHub::Came(_) | ToHub::Gone(_) | ToHub::Used(_) | ToHub::Changed(_)) => {
                    self.house.push_back(entry);
                }
                other => self.heard.push_back(other),
            }
        }
    }

    /// Turns until the shard asks for nothing more. The clock stands still.
    pub fn settle(&mut self) {
        let mut still = 0;
        for _ in 0..100_000 {
            let before = self.kernel.0.borrow().operations;
            self.turn();
            let quiet = self.kernel.is_quiet() && self.kernel.0.borrow().operations == before;
            still = if quiet { still + 1 } else { 0 };
            if still > 3 || !self.runs {
                return;
            }
        }
        panic!("the shard does not come to rest");
    }

    /// Lets time pass, a second at a time.
    pub fn advance(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let now = self.kernel.0.borrow().now;
            self.kernel.0.borrow_mut().now = now + secs(1);
            self.settle();
        }
    }

    pub fn stranger(&mut self) -> u32 {
        let conn = self.kernel.connect(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 40_000)));
        self.settle();
        conn
    }

    /// A client that has shaken hands; what it was told until then is dropped.
    pub fn client(&mut self, manner: Manner) -> u32 {
        let conn = self.stranger();
        self.greet(conn, manner);
        self.messages(conn);
        conn
    }

    pub fn greet(&mut self, conn: u32, manner: Manner) {
        let mut out = version(manner.relay, 7);
        if manner.wtxid {
            write::empty(&mut out, MAGIC, "wtxidrelay");
        }
        write::empty(&mut out, MAGIC, "verack");
        if manner.headers {
            write::empty(&mut out, MAGIC, "sendheaders");
        }
        if let Some(announce) = manner.compact {
            write::send_cmpct(&mut out, MAGIC, announce, 2);
        }
        self.send(conn, &out);
    }

    /// The client asks for headers behind our tip and so is known to have it.
    pub fn sync(&mut self, conn: u32) {
        let tip = self.chain.tip_hash();
        let mut out = Vec::new();
        write::locator(&mut out, MAGIC, "getheaders", [&tip].into_iter(), &[0; 32]);
        self.send(conn, &out);
        assert_eq!(self.commands(conn), ["headers"]);
    }

    /// Bytes from a client, read as far as the shard reads.
    pub fn send(&mut self, conn: u32, bytes: &[u8]) {
        self.kernel.0.borrow_mut().peers.get_mut(&conn).expect("a peer").inbox.extend(bytes);
        self.settle();
    }

    pub fn leave(&mut self, conn: u32) {
        self.kernel.0.borrow_mut().peers.get_mut(&conn).expect("a peer").closes = Some(IoEnd::Closed);
        self.settle();
    }

    /// Holds a client's sends back, or lets them go.
    pub fn hold(&mut self, conn: u32, holds: bool) {
        self.kernel.0.borrow_mut().peers.get_mut(&conn).expect("a peer").holds = holds;
        self.settle();
    }

    /// The whole messages a client has been sent since the last call. Torn ones fail the test.
    pub fn messages(&mut self, conn: u32) -> Vec<(String, Vec<u8>)> {
        let out = std::mem::take(&mut self.kernel.0.borrow_mut().peers.get_mut(&conn).expect("a peer").out);
        let (mut found, mut at) = (Vec::new(), 0);
        while at < out.len() {
            match split(MAGIC, &out[at..]) {
                Step::Message { command, payload, used } => {
                    found.push((command.name().to_owned(), payload.to_vec()));
                    at += used;
                }
                other => panic!("{} bytes at {at} are no message: {other:?}", out.len() - at),
            }
        }
        found
    }

    pub fn commands(&mut self, conn: u32) -> Vec<String> {
        self.messages(conn).into_iter().map(|(command, _)| command).collect()
    }

    /// How the shard closed it: `None` while it is open, true with a reset.
    pub fn closed(&self, conn: u32) -> Option<bool> {
        self.kernel.0.borrow().peers[&conn].closed
    }

    /// What the shard answers to an operator's question.
    pub fn ask(&mut self, ask: Ask) -> Told {
        self.tell(ToShard::Ask(AskId(7), Arc::new(ask)));
        self.settle();
        match self.heard.pop_back() {
            Some(ToHub::Told(AskId(7), told)) => *told,
            other => panic!("{other:?}"),
        }
    }

    /// Its clients that match, from this slot on, and where the next page begins.
    pub fn list(&mut self, filter: Filter, from: u32, limit: u32) -> (Vec<ClientInfo>, Option<u32>) {
        match self.ask(Ask::List { filter, from, limit }) {
            Told::Page { clients, next } => (clients, next),
            other => panic!("{other:?}"),
        }
    }

    /// Its clients as an operator sees them.
    pub fn everybody(&mut self) -> Vec<ClientInfo> {
        self.list(Filter::default(), 0, 1_000).0
    }

    pub fn counters(&self) -> &Counters {
        self.shard.core().counters()
    }

    pub fn ends(&self, end: End) -> u64 {
        self.counters().ends[end as usize]
    }

    pub fn faults(&self, fault: Fault) -> u64 {
        self.counters().faults[fault as usize]
    }

    /// The next question of a client to the hub.
    pub fn want(&mut self) -> (ToHubWant, Want) {
        let at = self.heard.iter().position(|entry| matches!(entry, ToHub::Want { .. }));
        match at.and_then(|at| self.heard.remove(at)) {
            Some(ToHub::Want { client, id, want }) => (ToHubWant { client, id }, want),
            _ => panic!("no question; heard {:?}", self.heard),
        }
    }

    pub fn answer(&mut self, to: ToHubWant, answer: Answer) {
        self.tell(ToShard::Answer { client: to.client, id: to.id, answer });
        self.settle();
    }

    /// The clients leave; everything the shard took must be back.
    pub fn finish(mut self) {
        self.kernel.0.borrow_mut().holds_reads = false;
        let conns: Vec<u32> = self.kernel.0.borrow().peers.keys().copied().collect();
        for conn in conns {
            self.kernel.0.borrow_mut().peers.get_mut(&conn).expect("a peer").closes = Some(IoEnd::Reset);
        }
        self.settle();
        // Those whose input is not read are not heard of before their deadline or the drain.
        self.tell(ToShard::Drain);
        self.settle();
        self.advance(4);
        self.assert_over();
    }

    pub fn assert_over(&self) {
        assert!(self.ended && !self.runs, "the shard has not ended");
        assert_eq!(self.shard.core().clients(), 0, "clients left");
        assert_eq!(self.kernel.buffers_out(), 0, "receive buffers not recycled");
        // The last answers come when the shard is over already; it does not look at them any more.
        let late = self.kernel.undelivered();
        assert_eq!(self.shard.core().buffer_bytes(), late, "buffers of the pool not given back");
        let counters = self.counters();
        let ended: u64 = counters.ends.iter().sum();
        assert_eq!(counters.accepted, ended, "accepted and ended: {:?}", counters.ends);
    }
}

/// Who asked what; see [`Rig::want`].
#[derive(Clone, Copy, Debug)]
pub struct ToHubWant {
    pub client: breakwater::base::ClientId,
    pub id: WantId,
}

pub fn version(relay: bool, nonce: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let ours = Version {
        version: 70_016,
        services: Services::empty(),
        time: 1_700_000_000,
        receiver: SocketAddr::from((Ipv4Addr::LOCALHOST, 8333)),
        nonce,
        user_agent: b"/test/",
        start_height: 0,
        relay,
    };
    write::version(&mut out, MAGIC, &ours);
    out
}

/// A transaction that is told apart from others by `n`. Nobody checks it further.
pub fn tx_news(n: u8) -> Arc<TxNews> {
    let mut payload = vec![2, 0, 0, 0, 1];
    payload.extend_from_slice(&[n; 32]);
    payload.extend_from_slice(&[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]);
    payload.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 0x51, 0, 0, 0, 0]);
    let txid = wire::sha256d(&payload);
    let mut message = Vec::new();
    write::raw(&mut message, MAGIC, "tx", &payload);
    Arc::new(TxNews { txid, wtxid: txid, message: message.into(), origin: None })
}

/// A file in memory.
#[derive(Debug)]
pub struct MemFile(pub Vec<u8>);

impl File for MemFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::Error::other("read only"))
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::Error::other("read only"))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, len: u64) -> io::Result<Bytes> {
        Ok(Bytes::copy_from_slice(&self.0[..len as usize]))
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

/// Files that hold these messages, one extent each.
pub fn extents(messages: &[Vec<u8>]) -> Answer {
    let extent = |message: &Vec<u8>| Extent {
        file: Arc::new(MemFile(message.clone())),
        offset: 0,
        len: message.len() as u32,
    };
    Answer::Extents(messages.iter().map(extent).collect())
}
