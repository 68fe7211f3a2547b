//! Several stub nodes with one chain, in this process: the library behind `breakwater-rig node`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use breakwater::stub::node::{Counters, Options};
use breakwater::stub::{StubChain, StubNode};
use breakwater::stub_host::{Gone, StubServer, Totals, unix_time};
use breakwater::wire::Hash;

use super::instance::{Instance, Observer};
use super::maker::{Made, Maker, Short};

/// Bytes beyond which a block was filled: a coinbase alone is below.
const FILLED: usize = 1_000;
/// Seconds of a day: the chain made at the start ends at the midnight (UTC) before.
const DAY: u64 = 86_400;

/// What is wanted.
#[derive(Clone)]
pub struct Plan {
    /// Where instance 0 listens; instance i listens on the i-th port after it, or on a free one when the port is 0.
    pub listen: SocketAddr,
    /// How many nodes.
    pub instances: usize,
    /// Blocks on genesis at the start.
    pub blocks: u32,
    /// Wanted size of a block, bytes; 0: no filling. Coins to fill with exist from height 101.
    pub block_bytes: usize,
    /// Instance 0 mines this often.
    pub block_every: Option<Duration>,
    /// Instance 0 makes so many transactions a second.
    pub tx_rate: f64,
    /// From one instance to another.
    pub relay_delay: Duration,
    /// Connections each instance takes.
    pub max_peers: usize,
    /// Equal seeds give, on the same day (UTC), equal chains at the start, and equal transactions in equal order.
    pub seed: u64,
    /// Told of every announcement.
    pub observer: Option<Observer>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            instances: 1,
            blocks: 150,
            block_bytes: 0,
            block_every: None,
            tx_rate: 0.0,
            relay_delay: Duration::from_millis(50),
            max_peers: 10_000,
            seed: 1,
            observer: None,
        }
    }
}

/// A block was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mined {
    /// Its hash.
    pub hash: Hash,
    /// Its height.
    pub height: u32,
    /// When instance 0 began to announce it.
    pub at: Instant,
}

/// Transactions were made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MadeTxs {
    /// Txid and wtxid of each.
    pub hashes: Vec<[Hash; 2]>,
    /// When instance 0 began to announce them.
    pub at: Instant,
    /// Why there are not as many as wanted.
    pub short: Option<Short>,
}

/// What an instance has done since its start, and where it is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Numbers {
    /// Height of its tip.
    pub height: u32,
    /// Peers connected.
    pub peers: usize,
    /// Blocks announced.
    pub blocks: u64,
    /// Transactions that wait for a block.
    pub mempool: usize,
    /// Transactions made here at the rate or by `make_txs`; only instance 0 makes any.
    pub made: Made,
    /// Transactions of other instances refused because of a double spend.
    pub conflicts: u64,
    /// Connections and bytes.
    pub totals: Totals,
    /// What was served and submitted.
    pub node: Counters,
}

/// Nodes that run. They end when it is dropped. Its methods block: not for tasks of an async runtime.
pub struct Fleet {
    servers: Vec<StubServer<Instance>>,
    height: u32,
    filled: Option<(u32, usize)>,
}

impl Fleet {
    /// Makes the chain and starts the nodes.
    ///
    /// # Errors
    /// An address cannot be had; the text names it.
    pub fn start(plan: &Plan) -> Result<Fleet, String> {
        let (start, now) = (Instant::now(), unix_time());
        let midnight = now - now % DAY;
        let mut chain = StubChain::new(plan.seed, midnight.saturating_sub(u64::from(plan.blocks)));
        chain.set_block_bytes(plan.block_bytes);
        chain.grow(plan.blocks, midnight);
        let big = |height: &u32| chain.at(*height).is_some_and(|block| block.bytes().len() > FILLED);
        let filled = (101..=chain.height()).find(big).map(|height| (height, chain.tip().bytes().len()));
        let height = chain.height();
        let mut servers = Vec::new();
        for number in 0..plan.instances {
            let listen = address(plan.listen, number)?;
            let maker = (number == 0).then(|| Maker::new(plan.seed, plan.block_every, plan.tx_rate));
            let work = Instance::new(number, &chain, plan.relay_delay, maker, plan.observer.clone());
            let options = Options { unix_start: now, ..Options::default() };
            let node = StubNode::new(chain.clone(), plan.seed.wrapping_add(number as u64), options);
            let server = StubServer::start(node, listen, start, plan.max_peers, work)
                .map_err(|error| format!("node {number} cannot listen on {listen}: {error}"))?;
            servers.push(server);
        }
        let fleet = Fleet { servers, height, filled };
        for (number, server) in fleet.servers.iter().enumerate() {
            let others = fleet.servers.iter().enumerate().filter(|(other, _)| *other != number);
            let desks = others.map(|(_, other)| other.desk().clone()).collect();
            let joined = server.desk().with(move |host, instance| instance.join(host, desks));
            joined.map_err(|gone| gone.to_string())?;
        }
        Ok(fleet)
    }

    /// Where each listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(StubServer::address).collect()
    }

    /// Height of the chain at the start.
    pub fn first_height(&self) -> u32 {
        self.height
    }

    /// First height with a filled block and the size of the last block in bytes; `None` when no block was filled.
    pub fn filled(&self) -> Option<(u32, usize)> {
        self.filled
    }

    /// Instance 0 mines a block now.
    ///
    /// # Errors
    /// Its thread has ended.
    pub fn mine(&self) -> Result<Mined, Gone> {
        self.first()?.desk().with(|host, instance| {
            let chain = host.node_mut().chain_mut();
            let hash = chain.mine(unix_time());
            let height = chain.height();
            let at = Instant::now();
            instance.observe(host);
            Mined { hash, height, at }
        })
    }

    /// Instance 0 makes so many transactions now.
    ///
    /// # Errors
    /// Its thread has ended.
    pub fn make_txs(&self, count: usize) -> Result<MadeTxs, Gone> {
        self.first()?.desk().with(move |host, instance| {
            let (hashes, short) = match &mut instance.maker {
                Some(maker) => maker.make(count, host.node_mut().chain_mut()),
                None => (Vec::new(), None),
            };
            let at = Instant::now();
            instance.observe(host);
            MadeTxs { hashes, at, short }
        })
    }

    /// Closes listener and connections of an instance, as if it had died. It keeps the chain of the others.
    ///
    /// # Errors
    /// There is none of this number, or its thread has ended.
    pub fn close(&self, number: usize) -> Result<(), Gone> {
        self.servers.get(number).ok_or(Gone)?.desk().with(|host, _| host.close())
    }

    /// Opens an instance that was closed, at the same address.
    ///
    /// # Errors
    /// There is none of this number, its address cannot be had, or its thread has ended.
    pub fn reopen(&self, number: usize) -> std::io::Result<()> {
        self.servers.get(number).ok_or(Gone).map_err(std::io::Error::other)?.reopen()
    }

    /// How each is doing.
    ///
    /// # Errors
    /// The thread of one has ended.
    pub fn numbers(&self) -> Result<Vec<Numbers>, Gone> {
        let ask = |server: &StubServer<Instance>| {
            server.desk().with(|host, instance| Numbers {
                height: host.node().chain().height(),
                peers: host.peers(),
                blocks: instance.blocks,
                mempool: host.node().chain().mempool().len(),
                made: instance.maker.as_ref().map_or_else(Made::default, |maker| maker.made),
                conflicts: instance.conflicts,
                totals: *host.totals(),
                node: *host.node().counters(),
            })
        };
        self.servers.iter().map(ask).collect()
    }

    fn first(&self) -> Result<&StubServer<Instance>, Gone> {
        self.servers.first().ok_or(Gone)
    }
}

/// Where an instance listens.
pub(super) fn address(first: SocketAddr, number: usize) -> Result<SocketAddr, String> {
    let mut address = first;
    if first.port() != 0 {
        let port = usize::from(first.port()) + number;
        let port = u16::try_from(port).map_err(|_| {
            format!("--listen is {first}: instance {number} would need port {port}, the last is 65535")
        })?;
        address.set_port(port);
    }
    Ok(address)
}
