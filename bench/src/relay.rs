//! A production shard on the production ring, whose hub is the benchmark: both on the thread that measures.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use breakwater::admission::{Costs, ProbeLimits};
use breakwater::base::limits::{BUFFER_BUDGET, TX_INTERVAL};
use breakwater::base::sizes::sweep_per_turn;
use breakwater::base::{Nonces, ShardId};
use breakwater::link::{self, Answer, Doorbell, Extent, HouseRules, HubEnd, Policy, ToHub, ToShard, Want};
use breakwater::ring::{self, Ring, RingConfig};
use breakwater::shard::counters::Counters;
use breakwater::shard::{HandshakeLimits, ListenerKind, Service, Shard, ShardConfig};
use breakwater::transport::tls;
use breakwater::wire::Services;

use crate::certificate::Certificate;
use crate::made::{self, Chain};
use crate::rig::scenario::Transport;
use crate::{MAGIC, Outcome, alloc};

/// Longest wait for anything that a benchmark waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Slots beyond the clients: a shard leaves the listening group before its table is full.
const MARGIN: u32 = 160;

/// Allocations of a report to the hub, one a second whatever happens: a box and three vectors.
const REPORT_ALLOCATIONS: u64 = 4;

/// What a shard's listener speaks besides v1.
#[derive(Debug, Clone, Default)]
pub(crate) struct Speaks {
    /// BIP324, told from v1 by the first bytes.
    pub(crate) v2: bool,
    /// TLS and nothing else.
    pub(crate) tls: Option<Arc<tls::Server>>,
}

impl Speaks {
    /// For clients of one transport; `certificate`: what is shown to those of TLS.
    pub(crate) fn to(transport: Transport, certificate: &Certificate) -> Outcome<Speaks> {
        Ok(match transport {
            Transport::Plain => Speaks::default(),
            Transport::V2 => Speaks { v2: true, tls: None },
            Transport::Tls => Speaks { v2: false, tls: Some(certificate.server()?) },
        })
    }
}

/// A shard that listens.
pub(crate) struct Relay {
    shard: Shard<Ring>,
    hub: HubEnd,
    chain: Chain,
    next_tx: u64,
    /// What the store has: the block at a height is the one at that index, over and over.
    files: Vec<Extent>,
    /// Allocations made inside of turns, without those of the reports.
    pub(crate) allocations: u64,
}

/// A port of 127.0.0.1 for a group of shards, held as long as the descriptor lives.
pub(crate) fn reserve() -> Outcome<(SocketAddr, OwnedFd)> {
    Ok(ring::reserve(SocketAddr::from(([127, 0, 0, 1], 0)))?)
}

impl Relay {
    /// A shard with room for `clients`, listening at `address` as soon as its first turn is over. Call it on the
    /// thread that runs it.
    pub(crate) fn open(id: u16, address: SocketAddr, clients: u32) -> Outcome<Relay> {
        let chain = Chain::new();
        let introduction = chain.introduction();
        Relay::with(id, address, clients, 1, (chain, introduction), Speaks::default())
    }

    /// As [`Relay::open`], for clients of another transport.
    pub(crate) fn speaking(address: SocketAddr, clients: u32, speaks: Speaks) -> Outcome<Relay> {
        let chain = Chain::new();
        let introduction = chain.introduction();
        Relay::with(0, address, clients, 1, (chain, introduction), speaks)
    }

    /// As [`Relay::open`], for one of several shards on a core.
    pub(crate) fn crowded(id: u16, address: SocketAddr, clients: u32, on_core: usize) -> Outcome<Relay> {
        ring::ask_for_short_slices();
        let chain = Chain::new();
        let introduction = chain.introduction();
        Relay::with(id, address, clients, on_core, (chain, introduction), Speaks::default())
    }

    /// As [`Relay::open`], with the chain of somebody else: it announces what it is given, and shares the picture with
    /// the other shards as in the product.
    pub(crate) fn follow(
        id: u16,
        address: SocketAddr,
        clients: u32,
        chain: ToShard,
        speaks: Speaks,
    ) -> Outcome<Relay> {
        Relay::with(id, address, clients, 1, (Chain::none(), chain), speaks)
    }

    fn with(
        id: u16,
        address: SocketAddr,
        clients: u32,
        on_core: usize,
        (chain, first): (Chain, ToShard),
        speaks: Speaks,
    ) -> Outcome<Relay> {
        let limit = u32::try_from(ring::raise_file_limit()?).unwrap_or(u32::MAX);
        // A file table may be as large as the limit; below, the margin is kept.
        let max_clients = clients.saturating_add(MARGIN).min(limit);
        let bell = Doorbell::new()?;
        let (hub, end) = link::pair(bell.clone(), Doorbell::silent())?;
        let ring = Ring::new(RingConfig {
            listeners: vec![address],
            doorbell: bell,
            shares_core: on_core > 1,
            ..RingConfig::sized(max_clients)
        })?;
        let config = ShardConfig {
            id: ShardId(id),
            magic: MAGIC,
            max_clients,
            max_per_address: 0,
            listeners: vec![
                if speaks.tls.is_some() { ListenerKind::Tls } else { ListenerKind::Plain }.into(),
            ],
            v2: speaks.v2,
            tls: speaks.tls,
            // All may come at once: whoever is turned away does not try again.
            handshakes: HandshakeLimits::free((max_clients / 2).max(1_024)),
            secret: [7; 32],
            services: vec![Service::open(b"/breakwater:bench/")],
            probe_limits: ProbeLimits::none(),
            capacity: u64::MAX,
            house: HouseRules::open(),
            probe_exempt: Vec::new(),
            costs: Costs::default(),
            tx_interval: TX_INTERVAL,
            buffer_budget: BUFFER_BUDGET,
            sweep: sweep_per_turn(on_core),
            nonces: Nonces::new(0x5eed_0000_0000_0000),
            seed: u64::from(id),
        };
        let mut relay = Relay {
            shard: Shard::new(config, ring, end),
            hub,
            chain,
            next_tx: 0,
            files: Vec::new(),
            allocations: 0,
        };
        let policy = Policy {
            services: Services::NETWORK | Services::WITNESS | Services::NETWORK_LIMITED,
            fee_filter: 0,
            mempool: false,
        };
        relay.tell(ToShard::Policy(Arc::new(policy)))?;
        relay.tell(first)?;
        relay.tell(ToShard::Open)?;
        relay.turn();
        Ok(relay)
    }

    fn tell(&mut self, entry: ToShard) -> Outcome {
        self.hub.push(entry).map_err(|_| "the queue to the shard is full")?;
        self.hub.ring_shard();
        Ok(())
    }

    /// One turn of the shard; its reports are thrown away.
    pub(crate) fn turn(&mut self) {
        let before = alloc::count();
        self.shard.turn();
        self.allocations += alloc::count() - before;
        while let Some(entry) = self.hub.pop() {
            match entry {
                ToHub::Report(_) => {
                    self.allocations = self.allocations.saturating_sub(REPORT_ALLOCATIONS);
                }
                ToHub::Want { client, id, want: Want::Block(hash) } => {
                    let height = self.chain.height(&hash).unwrap_or(0);
                    let answer = match self.files.get(height % self.files.len().max(1)) {
                        Some(extent) => Answer::Extents(Box::new([extent.clone()])),
                        None => Answer::Missing,
                    };
                    // The queue has room for one want of each client.
                    let _ = self.tell(ToShard::Answer { client, id, answer });
                }
                _ => {}
            }
        }
    }

    /// Answers wants for blocks from now on as the store does.
    pub(crate) fn serve_files(&mut self, files: Vec<Extent>) {
        self.chain.index();
        self.files = files;
    }

    /// A block of so many bytes, to be announced with [`Relay::announce`].
    pub(crate) fn make_large_block(&mut self, bytes: usize) -> ToShard {
        self.chain.large_block(bytes)
    }

    /// Turns until `done`, at most [`PATIENCE`].
    pub(crate) fn turn_until(&mut self, what: &str, mut done: impl FnMut(&Relay) -> bool) -> Outcome {
        let start = Instant::now();
        while !done(self) {
            if start.elapsed() > PATIENCE {
                return Err(format!("not within {PATIENCE:?}: {what}").into());
            }
            self.turn();
        }
        Ok(())
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.shard.core().counters()
    }

    /// Clients connected.
    pub(crate) fn clients(&self) -> u32 {
        self.shard.core().clients()
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The next block, to be announced with [`Relay::announce`].
    pub(crate) fn make_block(&mut self) -> ToShard {
        self.chain.block()
    }

    /// The next transactions, to be announced with [`Relay::announce`].
    pub(crate) fn make_txs(&mut self, count: u64) -> ToShard {
        let first = self.next_tx;
        self.next_tx += count;
        ToShard::Txs((first..self.next_tx).map(made::tx).collect())
    }

    /// Puts an announcement into the link; the next turn takes it.
    pub(crate) fn announce(&mut self, entry: ToShard) -> Outcome {
        self.tell(entry)
    }
}
