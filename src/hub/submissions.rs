//! The life of a transaction that clients announce or send, over all shards:
//!
//! ```text
//!   announced -> asked -> (silent or notfound: another announcer) -> received
//!   received -> waiting -> submitted -> accepted (heard on a second link, or in a block)
//!                  ^           |    \-> refused (rejected, or no verdict in VERDICT_TIMEOUT)
//!                  \-----------/        waiting too long: refused too
//!         put back: its links are lost
//! ```
//!
//! - `wanted`: who announced what, who is asked
//! - `custody`: transactions here, on their way to a node
//! - `shares`: which host holds how much of either; the one with the most gives way when there is no room
//! - `recent`: verdicts remembered for a while
//!
//! Sans-IO: the instant is an argument, what to send is a value. Knows neither the mempool nor the nodes: the hub asks its
//! mempool before it calls [`Submissions::announced`], and chooses the link.
//!
//! ## Invariants
//! - A transaction is given out by `to_submit` once, until `put_back` or its verdict has been forgotten.
//! - What `received` answered with `New` leaves by `accepted`, or as [`Refused`] from `tick` or `rejected`: never silently.
//! - What waits goes to a node in fair turns of hosts (`admission::Fair`), a host's own in the order they came. A refused one counts
//!   `REFUSED_COST_FACTOR` times: what follows it stands as much further behind.
//! - Every table is bounded by [`Bounds`], and what does not fit is counted.

#![forbid(unsafe_code)]

mod counters;
mod custody;
mod recent;
mod shares;
#[cfg(test)]
mod tests;
mod wanted;

use bytes::Bytes;

use crate::admission::Host;
use crate::base::{ClientRef, Instant, limits};
use crate::wire::{Hash, Inv};
pub use counters::SubmissionCounters;
use custody::Custody;
use recent::Verdict;
use wanted::Wanted;

/// How much is followed at a time. The defaults are `base::limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Transactions announced and not yet received.
    pub wanted: usize,
    /// Announcers of one of them, the one asked included.
    pub announcers: usize,
    /// Announcements remembered per host.
    pub announcements: usize,
    /// Transactions asked of one host at a time.
    pub in_flight: usize,
    /// Transactions here, waiting for a node or for its verdict.
    pub held: usize,
    /// Their bytes.
    pub held_bytes: usize,
    /// Verdicts remembered.
    pub recent: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            wanted: limits::MAX_TX_WANTED,
            announcers: limits::MAX_ANNOUNCERS,
            announcements: limits::MAX_TX_ANNOUNCEMENTS,
            in_flight: limits::MAX_TX_IN_FLIGHT,
            held: limits::MAX_WAITING_TX,
            held_bytes: limits::MAX_WAITING_TX_BYTES,
            recent: limits::MAX_RECENT_VERDICTS,
        }
    }
}

/// Who announces or sends: a client, and the host that answers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The client.
    pub client: ClientRef,
    /// Its host: what has a share of the room and of the turns.
    pub host: Host,
}

/// Ask this client for this transaction (`link::AskTx` over its shard's link).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub client: ClientRef,
    /// What, in the form this client announced it.
    pub inv: Inv,
}

/// What became of a transaction a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is in our hands now.
    New,
    /// It is here already, or was accepted lately.
    Duplicate,
    /// A node refused it lately; it is not submitted again yet.
    RecentlyRefused,
    /// Heavier than nodes relay; it is dropped.
    TooHeavy,
    /// Too many wait already, and nobody holds more of them than this client would; it is dropped.
    Full,
}

/// A transaction to give to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Hash without witness.
    pub txid: Hash,
    /// Hash with witness.
    pub wtxid: Hash,
    /// The payload of its `tx` message, with witness.
    pub tx: Bytes,
    /// The client it came from.
    pub origin: ClientRef,
    /// Whose client that is.
    pub host: Host,
}

/// Why a client's transaction is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedWhy {
    /// The node said so.
    Rejected,
    /// No verdict within `VERDICT_TIMEOUT` of its submission to the last node.
    NoVerdict,
    /// No node within `WAITING_TX_EXPIRY`.
    NoNode,
    /// There was no room, and its host held the most: it gave way to another host's.
    Displaced,
    /// The node left right after it, several times over.
    CostsLinks,
}

/// A client's transaction that is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Hash without witness.
    pub txid: Hash,
    /// Hash with witness.
    pub wtxid: Hash,
    /// The client it came from.
    pub origin: ClientRef,
    /// Why.
    pub why: RefusedWhy,
}

/// What a tick brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// To be asked.
    pub asks: Vec<Ask>,
    /// Given up.
    pub refused: Vec<Refused>,
}

/// All transactions of clients that have no verdict yet.
#[derive(Debug, Default)]
pub struct Submissions {
    wanted: Wanted,
    custody: Custody,
    counters: SubmissionCounters,
}

impl Submissions {
    /// Nothing yet, with the bounds of `base::limits`.
    pub fn new() -> Submissions {
        Submissions::default()
    }

    /// Nothing yet, with other bounds.
    pub fn with_bounds(bounds: Bounds) -> Submissions {
        Submissions {
            wanted: Wanted::new(bounds),
            custody: Custody::new(bounds),
            counters: SubmissionCounters::default(),
        }
    }

    /// A client announces a transaction the mempool does not have. Gives whom to ask, if somebody is to be asked
    /// now. Entries that name no transaction are ignored.
    pub fn announced(&mut self, now: Instant, from: Sender, inv: Inv) -> Option<Ask> {
        if !inv.kind.is_tx() {
            return None;
        }
        if self.custody.knows(now, &inv.hash) {
            self.counters.announced_known += 1;
            return None;
        }
        self.wanted.announced(now, from, inv, &mut self.counters)
    }

    /// The client asked does not have it, or has left. Gives the next announcer to ask.
    pub fn not_found(&mut self, now: Instant, client: ClientRef, inv: Inv) -> Option<Ask> {
        self.wanted.not_found(now, client, &inv.hash, &mut self.counters)
    }

    /// A client sends a transaction (asked or not): `tx` is the payload of its `tx` message with witness. Asks that this makes
    /// possible come with the next `tick` or [`take_asks`](Submissions::take_asks).
    pub fn received(&mut self, now: Instant, from: Sender, txid: Hash, wtxid: Hash, tx: Bytes) -> Received {
        self.settle(now, &txid, &wtxid);
        let Sender { client: origin, host } = from;
        self.custody.received(now, Submission { txid, wtxid, tx, origin, host }, &mut self.counters)
    }

    /// Asks that became possible because clients have delivered.
    pub fn take_asks(&mut self) -> Vec<Ask> {
        self.wanted.take_asks()
    }

    /// The transaction whose turn it is to go to a node. Call [`submitted`](Submissions::submitted) when it is on its way;
    /// until then it is given again.
    pub fn to_submit(&self) -> Option<Submission> {
        self.custody.to_submit()
    }

    /// The transaction is on its way to a node: the verdict's time begins. False when it does not wait.
    pub fn submitted(&mut self, now: Instant, wtxid: &Hash) -> bool {
        self.custody.submitted(now, wtxid, &mut self.counters)
    }

    /// A transaction in our hands, by wtxid or txid: for a node that asks for what was announced to it by inv.
    pub fn get(&self, hash: &Hash) -> Option<&Submission> {
        self.custody.get(hash)
    }

    /// A second link or a block names this transaction (by wtxid or txid). Gives it when it was in our hands: then it
    /// goes into the mempool and to the clients. Whoever was to be asked for it no longer is.
    pub fn accepted(&mut self, now: Instant, hash: &Hash) -> Option<Submission> {
        let taken = self.custody.accepted(now, hash, &mut self.counters);
        match &taken {
            Some(tx) => self.settle(now, &tx.txid, &tx.wtxid),
            None => self.settle(now, hash, hash),
        }
        taken
    }

    /// The node said no (by wtxid or txid).
    pub fn rejected(&mut self, now: Instant, hash: &Hash) -> Option<Refused> {
        self.custody.rejected(now, hash, &mut self.counters)
    }

    /// The node has dealt with what it was given (by wtxid or txid) and does not have it: its host is charged as for a refused one, until
    /// it is accepted after all.
    pub fn doubted(&mut self, now: Instant, hash: &Hash) {
        self.custody.doubted(now, hash, &mut self.counters);
    }

    /// A submitted transaction without verdict goes to another node, too: the verdict's time begins anew.
    pub fn handed_on(&mut self, now: Instant, wtxid: &Hash) -> Option<Submission> {
        self.custody.handed_on(now, wtxid, &mut self.counters)
    }

    /// The links to all nodes that were given the transaction are gone: without verdict it waits again, in its old
    /// order. False when it was not submitted.
    ///
    /// One that has lost its link within seconds of it several times over is refused instead (told by the next `tick`): a
    /// node may well leave whoever sends an invalid transaction, and no client shall cost the relay its links.
    pub fn put_back(&mut self, now: Instant, wtxid: &Hash) -> bool {
        self.custody.put_back(now, wtxid, &mut self.counters)
    }

    /// Time passes: silent clients are left for other announcers, late transactions are given up.
    pub fn tick(&mut self, now: Instant) -> Ticked {
        self.wanted.tick(now, &mut self.counters);
        Ticked { asks: self.wanted.take_asks(), refused: self.custody.tick(now, &mut self.counters) }
    }

    /// When `tick` has something to do next; [`Instant::FAR`] when nothing is due.
    pub fn next_wake(&self) -> Instant {
        self.wanted.next_wake().min(self.custody.next_wake())
    }

    /// What has been counted.
    pub fn counters(&self) -> SubmissionCounters {
        self.counters
    }

    /// Transactions in our hands: waiting for a node, and waiting for its verdict.
    pub fn held(&self) -> (usize, usize) {
        self.custody.held()
    }

    /// Transactions announced and not received.
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    fn settle(&mut self, now: Instant, txid: &Hash, wtxid: &Hash) {
        self.wanted.settle(now, txid, &mut self.counters);
        if txid != wtxid {
            self.wanted.settle(now, wtxid, &mut self.counters);
        }
    }
}
