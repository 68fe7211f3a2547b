//! What node, relay and clients report, and what the view shows of it.
//!
//! One lock, taken for a few additions at a time by the demo's own threads; the relay's shards never see it. Bounded: what
//! is remembered of transactions and blocks, to measure how long they travel, by constants; the rest are sums and one
//! small entry per client.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::transport::Transport;
use crate::base::{Instant, ShardId};
use crate::cli::Failure;
use crate::hub::{Hub, HubEvent};
use crate::link::ShardReport;
use crate::shard::counters::NAMES;
use crate::stub::client::{Event, Kind};
use crate::stub::node::Counters;
use crate::wire::Hash;

/// Blocks and transactions whose birth is remembered; two hashes for a transaction.
const MAX_BORN: usize = 40_000;
/// Reasons why clients broke that are told apart; the rest are counted as one.
const MAX_REASONS: usize = 20;
/// Longest time a histogram tells from longer ones, microseconds.
const LONGEST: u64 = 600_000_000;

/// The shared board.
#[derive(Debug)]
pub(super) struct Board {
    start: std::time::Instant,
    numbers: Mutex<Numbers>,
}

/// Where a transaction came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum From {
    /// Made and accepted by the node.
    Node,
    /// Submitted by a wallet through the relay.
    Wallet,
}

/// Everything reported so far.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    /// One per client.
    pub(super) followers: Vec<Follower>,
    /// Connections open now.
    pub(super) connected: usize,
    /// Blocks mined since the start.
    pub(super) mined: u32,
    /// Height of the node's tip.
    pub(super) height: u32,
    /// From mined to heard, microseconds.
    pub(super) block_delay: Histogram<u64>,
    /// From accepted by the node to heard, microseconds.
    pub(super) node_tx_delay: Histogram<u64>,
    /// From announced by a wallet to heard by another client, microseconds.
    pub(super) wallet_tx_delay: Histogram<u64>,
    /// From ping to pong, microseconds.
    pub(super) pong_delay: Histogram<u64>,
    /// Transactions the node made.
    pub(super) node_txs: u64,
    /// Transactions wallets submitted.
    pub(super) wallet_txs: u64,
    /// Blocks light clients fetched and verified.
    pub(super) fetched: u64,
    /// The node's own counters.
    pub(super) node: Counters,
    /// Links the node has.
    pub(super) node_peers: usize,
    /// Why clients broke, and how many.
    pub(super) broken: BTreeMap<String, u64>,
    /// What the relay says of its hub.
    pub(super) relay: Relay,
    born: HashMap<Hash, (Instant, Option<From>)>,
    order: VecDeque<Hash>,
    shards: BTreeMap<ShardId, ShardReport>,
}

/// What the relay's hub reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Relay {
    /// Height of its tip.
    pub(super) height: u32,
    /// Transactions in its mempool.
    pub(super) mempool: usize,
    /// Announcements it dropped because shards were slow.
    pub(super) dropped: u64,
    /// Links to the node lost.
    pub(super) links_lost: u64,
}

/// How far a client is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Follower {
    /// What it is.
    pub(super) kind: Kind,
    /// How it reaches the relay.
    pub(super) transport: Transport,
    /// True exactly when handshake and first synchronisation are complete.
    pub(super) ready: bool,
    /// Height known when it became ready.
    first: u32,
    /// Blocks heard of since.
    heard: u32,
    /// Height to which filters are verified, for a light client.
    filters: u32,
    /// Filters verified.
    pub(super) filters_verified: u32,
}

impl Follower {
    /// True exactly when it has heard of each block up to `height`, and verified its filters where it wants them.
    fn is_at(&self, height: u32) -> bool {
        let filters = !matches!(self.kind, Kind::Light { .. }) || self.filters == height;
        self.ready && self.first + self.heard == height && filters
    }
}

/// The clients of one transport.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over {
    /// How many there are.
    pub(super) clients: usize,
    /// Of these, those that have heard of each block up to the node's tip.
    pub(super) at_tip: usize,
    /// Blocks they have heard of, all together.
    pub(super) heard: u64,
}

impl Board {
    /// A board for clients of these kinds.
    pub(super) fn new(kinds: Vec<Kind>) -> Result<Board, Failure> {
        let delays = Histogram::new_with_bounds(1, LONGEST, 3)
            .map_err(|error| Failure::Other(format!("no histogram: {error}")))?;
        let follower = |(number, kind)| Follower {
            kind,
            transport: Transport::of(number),
            ready: false,
            first: 0,
            heard: 0,
            filters: 0,
            filters_verified: 0,
        };
        let numbers = Numbers {
            followers: kinds.into_iter().enumerate().map(follower).collect(),
            connected: 0,
            mined: 0,
            height: 0,
            block_delay: delays.clone(),
            node_tx_delay: delays.clone(),
            wallet_tx_delay: delays.clone(),
            pong_delay: delays,
            node_txs: 0,
            wallet_txs: 0,
            fetched: 0,
            node: Counters::default(),
            node_peers: 0,
            broken: BTreeMap::new(),
            relay: Relay::default(),
            born: HashMap::new(),
            order: VecDeque::new(),
            shards: BTreeMap::new(),
        };
        Ok(Board { start: std::time::Instant::now(), numbers: Mutex::new(numbers) })
    }

    /// When the clock all threads of the demo share began.
    pub(super) fn start(&self) -> std::time::Instant {
        self.start
    }

    /// Now, on the clock all threads of the demo share.
    pub(super) fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long until an instant of that clock.
    pub(super) fn until(&self, at: Instant) -> Duration {
        at.since(self.now())
    }

    /// A copy, to be looked at in peace.
    pub(super) fn look(&self) -> Numbers {
        self.lock().clone()
    }

    /// Numbers are sums: whatever a thread that panicked left behind is still readable.
    pub(super) fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbers {
    /// The node has mined a block.
    pub(super) fn mined(&mut self, at: Instant, hash: Hash, height: u32) {
        (self.mined, self.height) = (self.mined + 1, height);
        self.remember(at, hash, None);
    }

    /// A transaction was made; its two hashes, because clients name it by either.
    pub(super) fn tx(&mut self, at: Instant, hashes: [Hash; 2], from: From) {
        match from {
            From::Node => self.node_txs += 1,
            From::Wallet => self.wallet_txs += 1,
        }
        hashes.into_iter().for_each(|hash| self.remember(at, hash, Some(from)));
    }

    fn remember(&mut self, at: Instant, hash: Hash, from: Option<From>) {
        if self.born.insert(hash, (at, from)).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > MAX_BORN {
            self.order.pop_front().map(|hash| self.born.remove(&hash));
        }
    }

    /// What a client has from its start on.
    pub(super) fn begins(&mut self, client: usize, height: u32) {
        self.connected += 1;
        if let Some(follower) = self.followers.get_mut(client) {
            (follower.first, follower.filters) = (height, height);
        }
    }

    /// What a client has seen.
    pub(super) fn seen(&mut self, client: usize, events: &[Event]) {
        let Some(follower) = self.followers.get_mut(client) else { return };
        for event in events {
            match event {
                Event::Ready { .. } => follower.ready = true,
                Event::HeadersTo(height) if !follower.ready => follower.first = *height,
                Event::Block { hash, at, .. } => {
                    follower.heard += 1;
                    if let Some((born, _)) = self.born.get(hash) {
                        self.block_delay.saturating_record(micros(at.since(*born)));
                    }
                }
                Event::Tx { hash, at } => {
                    let delay = |born: &Instant| micros(at.since(*born));
                    match self.born.get(hash) {
                        Some((born, Some(From::Node))) => self.node_tx_delay.saturating_record(delay(born)),
                        Some((born, Some(From::Wallet))) => {
                            self.wallet_tx_delay.saturating_record(delay(born));
                        }
                        _ => {}
                    }
                }
                Event::FiltersTo(height) => {
                    follower.filters_verified += height.saturating_sub(follower.filters);
                    follower.filters = *height;
                }
                Event::Fetched { .. } => self.fetched += 1,
                Event::Pong { after, .. } => self.pong_delay.saturating_record(micros(*after)),
                Event::HeadersTo(_) | Event::Given { .. } => {}
            }
        }
    }

    /// A client is of no use any more.
    pub(super) fn broke(&mut self, reason: String) {
        let known = self.broken.len() < MAX_REASONS || self.broken.contains_key(&reason);
        let reason = if known { reason } else { "other reasons".to_owned() };
        *self.broken.entry(reason).or_default() += 1;
    }

    /// A shard's totals.
    pub(super) fn shard(&mut self, shard: ShardId, report: &ShardReport) {
        self.shards.insert(shard, report.clone());
    }

    /// How the hub is doing.
    pub(super) fn hub(&mut self, hub: &Hub, dropped: u64) {
        (self.relay.height, self.relay.mempool) = (hub.tip().0, hub.mempool_size().0);
        self.relay.dropped = dropped;
    }

    /// Something the hub says.
    pub(super) fn hub_event(&mut self, event: &HubEvent) {
        match event {
            HubEvent::NodeDown { .. } => self.relay.links_lost += 1,
            HubEvent::StoreFailed(text) => self.broke(format!("the store failed: {text}")),
            HubEvent::Damage(text) => self.broke(format!("the store is damaged: {text}")),
            _ => {}
        }
    }

    /// A counter of `shard::counters`, of all shards; 0 for a name that is none.
    pub(super) fn counter(&self, name: &str) -> u64 {
        let Some(at) = NAMES.iter().position(|(known, _)| *known == name) else { return 0 };
        self.shards.values().filter_map(|report| report.counters.get(at)).sum()
    }

    /// Shards that have reported.
    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Messages of clients the relay dropped.
    pub(super) fn faults(&self) -> u64 {
        self.shards.values().flat_map(|report| &report.faults).sum()
    }

    /// What is known of the clients of a transport.
    pub(super) fn over(&self, transport: Transport) -> Over {
        let own = self.followers.iter().filter(|follower| follower.transport == transport);
        let at_tip = own.clone().filter(|follower| follower.is_at(self.height)).count();
        Over {
            clients: own.clone().count(),
            at_tip,
            heard: own.map(|follower| u64::from(follower.heard)).sum(),
        }
    }

    /// Clients of a transport that are connected now, as the relay counts them.
    pub(super) fn accepted(&self, transport: Transport) -> u32 {
        let of = |report: &ShardReport| match transport {
            Transport::Plain => report.clients.saturating_sub(report.tls + report.v2),
            Transport::V2 => report.v2,
            Transport::Tls => report.tls,
        };
        self.shards.values().map(of).sum()
    }

    /// Clients whose first synchronisation is complete.
    pub(super) fn ready(&self) -> usize {
        self.followers.iter().filter(|follower| follower.ready).count()
    }

    /// Clients that have heard every block since they became ready.
    pub(super) fn following(&self) -> usize {
        self.followers.iter().filter(|follower| follower.is_at(self.height)).count()
    }

    /// True exactly when a block was mined, all clients know all blocks, and the node has all transactions of wallets.
    pub(super) fn is_settled(&self) -> bool {
        let all = self.following() == self.followers.len() && self.node.txs_accepted >= self.wallet_txs;
        self.mined > 0 && all
    }

    /// Why the demo failed, as one sentence; `None` when it did not.
    pub(super) fn complaint(&self) -> Option<String> {
        let (all, ready, following) = (self.followers.len(), self.ready(), self.following());
        if let Some((reason, count)) = self.broken.iter().max_by_key(|(_, count)| **count) {
            let kinds = self.broken.len();
            return Some(format!("{count} times: {reason} (of {kinds} kinds of error)"));
        }
        if ready < all {
            return Some(format!("only {ready} of {all} clients became ready"));
        }
        if following < all {
            return Some(format!("only {following} of {all} clients heard every block"));
        }
        let accepted = self.node.txs_accepted;
        if accepted < self.wallet_txs {
            let sent = self.wallet_txs;
            return Some(format!("wallets submitted {sent} transactions, the node accepted {accepted}"));
        }
        None
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(kinds: &[Kind]) -> Numbers {
        Board::new(kinds.to_vec()).unwrap().look()
    }

    fn block(height: u8) -> Event {
        Event::Block { hash: [height; 32], height: u32::from(height), at: Instant(9_000_000) }
    }

    #[test]
    fn a_client_that_misses_one_block_is_found() {
        let mut n = numbers(&[Kind::Listener, Kind::Light { every: 0 }]);
        (0..2).for_each(|client| n.begins(client, 100));
        for height in 102..105 {
            n.mined(Instant(4_000_000), [height as u8; 32], height);
        }
        assert!(n.complaint().is_some_and(|text| text.contains("became ready")));
        let sync = [Event::HeadersTo(101), Event::Ready { at: Instant(0) }];
        n.seen(0, &sync);
        n.seen(1, &sync);
        n.seen(0, &[block(102), block(103), block(104)]);
        n.seen(1, &[block(102), block(103), Event::FiltersTo(104)]);
        assert!(!n.is_settled());
        assert!(n.complaint().is_some_and(|text| text.contains("1 of 2 clients heard")));
        n.seen(1, &[block(104)]);
        assert!(n.is_settled());
        assert_eq!(n.complaint(), None);
        assert_eq!(n.block_delay.max() / 1_000, 5);
        n.broke("pong".into());
        assert!(n.complaint().is_some_and(|text| text.contains("pong")));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut n = numbers(&[Kind::Listener]);
        for i in 0..(MAX_BORN as u64) {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&i.to_le_bytes());
            let mut other = hash;
            other[31] = 1;
            n.tx(Instant(0), [hash, other], From::Wallet);
        }
        assert_eq!((n.born.len(), n.order.len()), (MAX_BORN, MAX_BORN));
        (0..100).for_each(|i| n.broke(format!("{i}")));
        assert_eq!(n.broken.len(), MAX_REASONS + 1);
    }
}
