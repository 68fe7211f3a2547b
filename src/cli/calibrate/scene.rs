//! What is asked for: a regtest chain with blocks of known shapes, the node that has it, and transactions to submit.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bitcoin::Transaction;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::cli::Failure;
use crate::stub::node::Options;
use crate::stub::{MAGIC, StubChain, StubNode};
use crate::stub_host::{StubHost, StubServer, unix_time};
use crate::wire::{Hash, write};

/// The same chain every time.
const SEED: u64 = 1;
/// Coins are mature after 100 blocks: filled blocks come later.
const MATURE: u32 = 110;
/// Filled blocks below the recent ones.
const LARGE: u32 = 16;
/// Bytes of a filled block.
const LARGE_BYTES: usize = 1_000_000;
/// Empty blocks above them: more than one answer with headers or filter headers holds.
const EMPTY: u32 = 2_000;
/// Small transactions in one recent block: makes its compact form long.
const SMALL_TXS: usize = 3_000;
/// Small transactions to be submitted.
const TO_SUBMIT: usize = 5_000;
/// Large ones, and their bytes.
const LARGE_TO_SUBMIT: usize = 150;
const LARGE_TX: usize = 90_000;
/// Connections the node takes; the relay needs a few.
const MAX_PEERS: usize = 16;
/// Longest wait for the node to have taken what was submitted.
const PATIENCE: Duration = Duration::from_secs(60);

/// A transaction as a message, and by what it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Tx {
    /// The `tx` message, v1 frame included.
    pub(super) message: Vec<u8>,
    /// Its wtxid.
    pub(super) wtxid: Hash,
}

/// The node and what is known of its chain.
#[derive(Debug)]
pub(super) struct Scene {
    server: StubServer,
    /// Hashes by height.
    pub(super) hashes: Vec<Hash>,
    /// Height of a filled block among the recent ones.
    pub(super) recent_large: u32,
    /// Height of the recent block with many small transactions.
    pub(super) recent_many: u32,
    /// Transactions that no node has seen yet, small and large.
    pub(super) small: Vec<Tx>,
    pub(super) large: Vec<Tx>,
}

impl Scene {
    /// Makes the chain and starts the node.
    pub(super) fn start() -> Result<Scene, Failure> {
        let now = unix_time();
        let mut chain = StubChain::new(SEED, now.saturating_sub(86_400));
        chain.grow(MATURE, now);
        chain.set_block_bytes(LARGE_BYTES);
        chain.grow(LARGE, now);
        chain.set_block_bytes(0);
        chain.grow(EMPTY, now);
        let options = Options { unix_start: now, ..Options::default() };
        let node = StubNode::new(chain, SEED, options);
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = StubServer::start(node, listen, Instant::now(), MAX_PEERS, ())
            .map_err(|error| Failure::Other(format!("the node to be served from cannot run: {error}")))?;
        let (hashes, small, large) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Scene { server, hashes, recent_large: 0, recent_many: 0, small, large })
    }

    /// Mines the last blocks, while the relay listens: it keeps in memory what is announced to it. Makes what is submitted.
    pub(super) fn go_on(&mut self) -> Result<(), Failure> {
        let work = |host: &mut StubHost, (): &mut ()| Recent::make(host.node_mut().chain_mut());
        let made = self.server.desk().with(work).map_err(|error| Failure::Other(error.to_string()))?;
        let made = made
            .ok_or_else(|| Failure::Other("the chain to be served cannot be made: too few coins".into()))?;
        let Recent { hashes, large_at, many_at, small, large } = made;
        (self.hashes, self.recent_large, self.recent_many) = (hashes, large_at, many_at);
        (self.small, self.large) = (small, large);
        Ok(())
    }

    /// Where the node listens.
    pub(super) fn node(&self) -> SocketAddr {
        self.server.address()
    }

    /// Height of the tip.
    pub(super) fn tip(&self) -> u32 {
        // Genesis is always there.
        self.hashes.len().saturating_sub(1) as u32
    }

    /// Hashes of the blocks of these heights.
    pub(super) fn at(&self, heights: impl IntoIterator<Item = u32>) -> Vec<Hash> {
        heights.into_iter().filter_map(|height| self.hashes.get(height as usize).copied()).collect()
    }

    /// Heights of `n` empty blocks of long ago.
    pub(super) fn old(&self, n: u32) -> std::ops::Range<u32> {
        1..(1 + n).min(MATURE)
    }

    /// Heights of `n` filled blocks of long ago.
    pub(super) fn old_large(&self, n: u32) -> std::ops::Range<u32> {
        MATURE + 1..MATURE + 1 + n.min(LARGE)
    }

    /// Transactions that the node has accepted.
    pub(super) fn accepted(&self) -> Result<u64, Failure> {
        let count = |host: &mut StubHost, (): &mut ()| host.node().counters().txs_accepted;
        self.server.desk().with(count).map_err(|error| Failure::Other(error.to_string()))
    }

    /// Waits until it has accepted so many.
    pub(super) fn wait_accepted(&self, wanted: u64) -> Result<(), Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            let accepted = self.accepted()?;
            if accepted >= wanted {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Failure::Other(format!(
                    "the node has got {accepted} of {wanted} submitted transactions within {} s",
                    PATIENCE.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What is made last.
struct Recent {
    hashes: Vec<Hash>,
    large_at: u32,
    many_at: u32,
    small: Vec<Tx>,
    large: Vec<Tx>,
}

impl Recent {
    /// None if there are too few coins.
    fn make(chain: &mut StubChain) -> Option<Recent> {
        let (now, mut rng) = (unix_time(), SmallRng::seed_from_u64(SEED));
        // The last eight blocks: compact ones can be had five deep, single transactions ten.
        chain.set_block_bytes(LARGE_BYTES);
        chain.grow(1, now);
        chain.set_block_bytes(0);
        let large_at = chain.height();
        chain.grow(3, now);
        for _ in 0..SMALL_TXS {
            let tx = chain.make_small_tx(&mut rng)?;
            chain.accept_tx(&tx).ok()?;
        }
        chain.grow(1, now);
        let many_at = chain.height();
        chain.grow(3, now);
        let large = (0..LARGE_TO_SUBMIT).map(|_| Some(Tx::of(&chain.make_tx(&mut rng, LARGE_TX)?)));
        let large = large.collect::<Option<_>>()?;
        let small = (0..TO_SUBMIT).map(|_| Some(Tx::of(&chain.make_small_tx(&mut rng)?)));
        let small = small.collect::<Option<_>>()?;
        let hash = |height| chain.at(height).map(|block| *block.hash());
        let hashes = (0..=chain.height()).filter_map(hash).collect();
        Some(Recent { hashes, large_at, many_at, small, large })
    }
}

impl Tx {
    fn of(tx: &Transaction) -> Tx {
        let mut message = Vec::new();
        write::raw(&mut message, MAGIC, "tx", &serialize(tx));
        Tx { message, wtxid: tx.compute_wtxid().to_byte_array() }
    }
}
