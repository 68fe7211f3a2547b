//! One stub node among several: makes blocks and transactions when it is the one that does, tells the others, hears from
//! them after a delay, and says when it begins to announce something.
//!
//! Bounded: what waits to be heard by the delay (at most [`SHARES_PER_DELAY`] parcels of each other instance are on their
//! way), what is made in one turn by a constant. Nothing is lost when an instance is busy: what it was not told is told
//! with the next parcel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use breakwater::base::Instant;
use breakwater::stub::mempool::StubTx;
use breakwater::stub::{Refused, StubBlock, StubChain};
use breakwater::stub_host::server::Desk;
use breakwater::stub_host::{StubHost, Work, unix_time};
use breakwater::wire::Hash;

use super::maker::Maker;

/// Parcels for one other instance that can be on their way at a time.
const SHARES_PER_DELAY: u32 = 32;
/// From one parcel to the next, at least.
const LEAST_PAUSE: Duration = Duration::from_millis(2);

/// What is announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A block at this height.
    Block(u32),
    /// A transaction.
    Tx,
}

/// An instance begins to announce something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// Which instance.
    pub node: usize,
    /// What.
    pub kind: Kind,
    /// Hash of the block, txid of the transaction.
    pub hash: Hash,
    /// Hash of the block, wtxid of the transaction.
    pub wtxid: Hash,
    /// When: for what is made here or came from another instance, before the first byte is given to a connection; for
    /// what a peer sent, in the same turn of the node's loop.
    pub at: std::time::Instant,
}

/// Told of every announcement on the node's thread, which waits meanwhile: put it into a queue and return.
pub type Observer = Arc<dyn Fn(&Announcement) + Send + Sync>;

/// Blocks and transactions from another instance, blocks first.
struct Parcel {
    due: Instant,
    blocks: Vec<Arc<StubBlock>>,
    txs: Vec<Arc<StubTx>>,
}

/// Another instance, and how far it was told.
struct Other {
    desk: Desk<Instance>,
    tip: Hash,
    arrival: u64,
    /// When it may be told again.
    next: Instant,
}

/// The work of one stub node.
pub(super) struct Instance {
    number: usize,
    delay: Duration,
    others: Vec<Other>,
    coming: VecDeque<Parcel>,
    pub(super) maker: Option<Maker>,
    observer: Option<Observer>,
    /// Tip and last transaction that the observer was told of.
    seen: (Hash, u64),
    /// Blocks announced.
    pub(super) blocks: u64,
    /// Transactions of other instances that were refused here: two wallets spent the same output.
    pub(super) conflicts: u64,
}

impl Instance {
    pub(super) fn new(
        number: usize,
        chain: &StubChain,
        delay: Duration,
        maker: Option<Maker>,
        observer: Option<Observer>,
    ) -> Instance {
        Instance {
            number,
            delay,
            others: Vec::new(),
            coming: VecDeque::new(),
            maker,
            observer,
            seen: (chain.tip_hash(), chain.mempool().arrivals()),
            blocks: 0,
            conflicts: 0,
        }
    }

    /// Tells those at these desks from now on what is new here.
    pub(super) fn join(&mut self, host: &StubHost, desks: Vec<Desk<Instance>>) {
        let (tip, arrival) = self.seen;
        let other = |desk| Other { desk, tip, arrival, next: host.now() };
        self.others = desks.into_iter().map(other).collect();
    }

    /// Takes what another instance has told, when the delay is over.
    fn hear(&mut self, host: &mut StubHost) {
        let now = host.now();
        while self.coming.front().is_some_and(|parcel| parcel.due <= now) {
            let Some(parcel) = self.coming.pop_front() else { return };
            let chain = host.node_mut().chain_mut();
            for block in &parcel.blocks {
                chain.adopt(block);
            }
            for tx in &parcel.txs {
                // What both have is the rule; an input that is missing was spent by a block that came meanwhile.
                match chain.accept_tx(&tx.tx) {
                    Ok(()) | Err(Refused::Known | Refused::Missing(_)) => {}
                    Err(_) => self.conflicts += 1,
                }
            }
        }
    }

    /// Says what is about to be announced.
    pub(super) fn observe(&mut self, host: &StubHost) {
        let at = std::time::Instant::now();
        let (chain, node) = (host.node().chain(), self.number);
        let tell = |kind, hash, wtxid| {
            if let Some(observer) = &self.observer {
                observer(&Announcement { node, kind, hash, wtxid, at });
            }
        };
        for block in since(chain, &self.seen.0) {
            self.blocks += 1;
            tell(Kind::Block(block.height()), *block.hash(), *block.hash());
        }
        chain.mempool().since(self.seen.1).for_each(|tx| tell(Kind::Tx, tx.txid, tx.wtxid));
        self.seen = (chain.tip_hash(), chain.mempool().arrivals());
    }

    /// Tells the others. When it has something for one that may not be told yet: when that is over.
    fn share(&mut self, host: &StubHost) -> Instant {
        let (now, chain) = (host.now(), host.node().chain());
        let (tip, arrival) = (chain.tip_hash(), chain.mempool().arrivals());
        let mut wake = Instant::FAR;
        for other in self.others.iter_mut().filter(|other| (other.tip, other.arrival) != (tip, arrival)) {
            if other.next <= now {
                let blocks = since(chain, &other.tip);
                let txs = chain.mempool().since(other.arrival).cloned().collect();
                let parcel = Parcel { due: now + self.delay, blocks, txs };
                other.next = now + (self.delay / SHARES_PER_DELAY).max(LEAST_PAUSE);
                // One that is too busy is told next time; one that has ended needs nothing.
                if other.desk.try_errand(move |_, instance| instance.coming.push_back(parcel)) {
                    (other.tip, other.arrival) = (tip, arrival);
                    continue;
                }
            }
            wake = wake.min(other.next);
        }
        wake
    }
}

impl Work for Instance {
    fn turn(&mut self, host: &mut StubHost) -> Instant {
        self.hear(host);
        let make = match &mut self.maker {
            Some(maker) => maker.turn(host.now(), host.node_mut().chain_mut(), unix_time()),
            None => Instant::FAR,
        };
        self.observe(host);
        let share = self.share(host);
        let hear = self.coming.front().map_or(Instant::FAR, |parcel| parcel.due);
        make.min(share).min(hear)
    }
}

/// The blocks of the best chain that one who knows `tip` does not have.
fn since(chain: &StubChain, tip: &Hash) -> Vec<Arc<StubBlock>> {
    let first = chain.block(tip).map_or(1, |known| chain.fork(known).height() + 1);
    (first..=chain.height()).filter_map(|height| chain.at(height).cloned()).collect()
}
