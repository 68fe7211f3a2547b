//! Transactions in our hands: waiting for a node, or submitted and waiting for its verdict.
//!
//! Invariants: `waiting` and `submitted` together name each of `held` exactly once; `by_txid` names each of `held` under its
//! txid; `bytes` is their sum; `shares` names each under its host, `turns` each that waits. When there is no room, the newest
//! transactions of the host that holds the most give way, so that a few hosts cannot keep the others out. A transaction may be here with several witnesses: those are different wtxids.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::recent::Recent;
use super::shares::Shares;
use super::{Bounds, Received, Refused, RefusedWhy, Submission, SubmissionCounters, Verdict};
use crate::admission::{Fair, Host};
use crate::base::Instant;
use crate::base::limits::{
    MAX_QUICK_LOSSES, MAX_TX_WEIGHT, QUICK_LOSS, REFUSED_COST_FACTOR, SUBMIT_COST, SUBMIT_COST_PER_BYTE,
    VERDICT_TIMEOUT, WAITING_TX_EXPIRY,
};
use crate::wire::{Hash, tx};

#[derive(Debug)]
struct Held {
    what: Submission,
    /// Order of coming; kept when it is put back, so that parents go before children.
    seq: u64,
    came: Instant,
    /// When it was submitted, to the last node, if it is.
    submitted: Option<Instant>,
    /// Times the link it went over was lost within `QUICK_LOSS` of it.
    losses: u8,
    /// True exactly when its host has been charged as for a refused one.
    doubted: bool,
}

impl Held {
    /// What the node's work on it costs.
    fn cost(&self) -> u64 {
        SUBMIT_COST + SUBMIT_COST_PER_BYTE * self.what.tx.len() as u64
    }

    /// What it costs in addition when it is refused.
    fn fine(&self) -> u64 {
        self.cost() * (REFUSED_COST_FACTOR - 1)
    }
}

#[derive(Debug)]
pub(super) struct Custody {
    bounds: Bounds,
    held: HashMap<Hash, Held>,
    by_txid: HashMap<Hash, Vec<Hash>>,
    waiting: BTreeMap<u64, Hash>,
    turns: Fair,
    submitted: BTreeSet<(Instant, Hash)>,
    bytes: usize,
    shares: Shares,
    next_seq: u64,
    recent: Recent,
    /// Gave way and not yet told.
    displaced: Vec<Refused>,
}

impl Default for Custody {
    fn default() -> Custody {
        Custody::new(Bounds::default())
    }
}

impl Custody {
    pub(super) fn new(bounds: Bounds) -> Custody {
        Custody {
            bounds,
            held: HashMap::new(),
            by_txid: HashMap::new(),
            waiting: BTreeMap::new(),
            turns: Fair::new(),
            submitted: BTreeSet::new(),
            bytes: 0,
            shares: Shares::default(),
            next_seq: 0,
            recent: Recent::new(bounds.recent),
            displaced: Vec::new(),
        }
    }

    /// True when the transaction is here, or has a verdict that is remembered.
    pub(super) fn knows(&mut self, now: Instant, hash: &Hash) -> bool {
        self.by_txid.contains_key(hash)
            || self.held.contains_key(hash)
            || self.recent.get(now, hash).is_some()
    }

    pub(super) fn received(
        &mut self,
        now: Instant,
        what: Submission,
        counters: &mut SubmissionCounters,
    ) -> Received {
        let verdict = self.recent.get(now, &what.wtxid);
        if self.held.contains_key(&what.wtxid) || verdict == Some(Verdict::Accepted) {
            counters.duplicate += 1;
            return Received::Duplicate;
        }
        if verdict == Some(Verdict::Refused) {
            counters.recently_refused += 1;
            return Received::RecentlyRefused;
        }
        if is_too_heavy(&what.tx) {
            counters.too_heavy += 1;
            // Nobody is asked for it again: it may have been long.
            self.recent.put(now, what.wtxid, Verdict::Refused);
            return Received::TooHeavy;
        }
        if !self.make_room(now, what.host, what.tx.len(), counters) {
            counters.full += 1;
            return Received::Full;
        }
        counters.received += 1;
        let seq = self.next_seq;
        self.next_seq += 1;
        self.bytes += what.tx.len();
        self.shares.add(what.host, seq, what.wtxid, what.tx.len());
        self.waiting.insert(seq, what.wtxid);
        self.by_txid.entry(what.txid).or_default().push(what.wtxid);
        let held = Held { what, seq, came: now, submitted: None, losses: 0, doubted: false };
        self.turns.push(now, held.what.host, seq, held.cost());
        self.held.insert(held.what.wtxid, held);
        Received::New
    }

    /// Makes room for `len` bytes of a host; false, and nothing has changed, when nobody holds more than it would.
    fn make_room(&mut self, now: Instant, host: Host, len: usize, counters: &mut SubmissionCounters) -> bool {
        let (held, most) = (self.bounds.held, self.bounds.held_bytes);
        let fits = |custody: &Custody| (custody.held.len() < held, custody.bytes + len <= most);
        let (count_fits, bytes_fit) = fits(self);
        let by_count = self.shares.more_entries_than(host).filter(|_| !count_fits);
        let by_bytes = self.shares.more_bytes_than(host, len).filter(|_| !bytes_fit);
        if len > most || (!count_fits && by_count.is_none()) || (!bytes_fit && by_bytes.is_none()) {
            return false;
        }
        while !fits(self).1
            && let Some(wtxid) = by_bytes.and_then(|holder| self.shares.newest(holder))
        {
            self.displace(now, &wtxid, counters);
        }
        if !fits(self).0
            && let Some(wtxid) = by_count.and_then(|holder| self.shares.newest(holder))
        {
            self.displace(now, &wtxid, counters);
        }
        fits(self) == (true, true)
    }

    fn displace(&mut self, now: Instant, wtxid: &Hash, counters: &mut SubmissionCounters) {
        let refused = self.refuse(now, wtxid, RefusedWhy::Displaced, counters);
        self.displaced.extend(refused);
    }

    pub(super) fn to_submit(&self) -> Option<Submission> {
        let wtxid = self.waiting.get(&self.turns.next()?.1)?;
        self.held.get(wtxid).map(|held| held.what.clone())
    }

    pub(super) fn submitted(
        &mut self,
        now: Instant,
        wtxid: &Hash,
        counters: &mut SubmissionCounters,
    ) -> bool {
        let Some(held) = self.held.get_mut(wtxid).filter(|held| held.submitted.is_none()) else {
            return false;
        };
        held.submitted = Some(now);
        self.waiting.remove(&held.seq);
        self.turns.serve(now, held.what.host, held.seq);
        self.submitted.insert((now, *wtxid));
        counters.submitted += 1;
        true
    }

    /// By wtxid, else by txid (the first that came when there are several witnesses).
    pub(super) fn get(&self, hash: &Hash) -> Option<&Submission> {
        self.held.get(&self.resolve(hash)?).map(|held| &held.what)
    }

    fn resolve(&self, hash: &Hash) -> Option<Hash> {
        match self.held.contains_key(hash) {
            true => Some(*hash),
            false => self.by_txid.get(hash)?.first().copied(),
        }
    }

    pub(super) fn accepted(
        &mut self,
        now: Instant,
        hash: &Hash,
        counters: &mut SubmissionCounters,
    ) -> Option<Submission> {
        let Some(wtxid) = self.resolve(hash) else {
            if self.recent.get(now, hash) == Some(Verdict::Refused) {
                self.recent.put(now, *hash, Verdict::Accepted);
                counters.accepted_late += 1;
            }
            return None;
        };
        let held = self.remove(now, &wtxid)?;
        if held.doubted {
            self.turns.forgive(now, held.what.host, held.fine());
        }
        self.recent.put(now, wtxid, Verdict::Accepted);
        counters.accepted += 1;
        Some(held.what)
    }

    pub(super) fn rejected(
        &mut self,
        now: Instant,
        hash: &Hash,
        counters: &mut SubmissionCounters,
    ) -> Option<Refused> {
        let wtxid = self.resolve(hash)?;
        self.refuse(now, &wtxid, RefusedWhy::Rejected, counters)
    }

    pub(super) fn doubted(&mut self, now: Instant, hash: &Hash, counters: &mut SubmissionCounters) {
        let wtxid = self.resolve(hash);
        let held = wtxid.and_then(|wtxid| self.held.get_mut(&wtxid));
        if let Some(held) = held.filter(|held| held.submitted.is_some() && !held.doubted) {
            held.doubted = true;
            counters.doubted += 1;
            self.turns.charge(now, held.what.host, held.fine());
        }
    }

    pub(super) fn handed_on(
        &mut self,
        now: Instant,
        wtxid: &Hash,
        counters: &mut SubmissionCounters,
    ) -> Option<Submission> {
        let held = self.held.get_mut(wtxid)?;
        let before = held.submitted?;
        held.submitted = Some(now);
        self.submitted.remove(&(before, *wtxid));
        self.submitted.insert((now, *wtxid));
        counters.handed_on += 1;
        Some(held.what.clone())
    }

    pub(super) fn put_back(&mut self, now: Instant, wtxid: &Hash, counters: &mut SubmissionCounters) -> bool {
        let Some(held) = self.held.get_mut(wtxid) else { return false };
        let Some(at) = held.submitted else { return false };
        if now.since(at) < QUICK_LOSS {
            held.losses += 1;
            if held.losses >= MAX_QUICK_LOSSES {
                let refused = self.refuse(now, wtxid, RefusedWhy::CostsLinks, counters);
                self.displaced.extend(refused);
                return false;
            }
        }
        held.submitted = None;
        self.submitted.remove(&(at, *wtxid));
        self.waiting.insert(held.seq, *wtxid);
        self.turns.push(now, held.what.host, held.seq, held.cost());
        counters.put_back += 1;
        true
    }

    pub(super) fn tick(&mut self, now: Instant, counters: &mut SubmissionCounters) -> Vec<Refused> {
        let mut refused = std::mem::take(&mut self.displaced);
        while let Some((at, wtxid)) = self.submitted.first().copied()
            && now >= at + VERDICT_TIMEOUT
        {
            refused.extend(self.refuse(now, &wtxid, RefusedWhy::NoVerdict, counters));
        }
        while let Some(wtxid) = self.waiting.values().next().copied()
            && self.held.get(&wtxid).is_some_and(|held| now >= held.came + WAITING_TX_EXPIRY)
        {
            refused.extend(self.refuse(now, &wtxid, RefusedWhy::NoNode, counters));
        }
        refused
    }

    pub(super) fn next_wake(&self) -> Instant {
        if !self.displaced.is_empty() {
            return Instant(0);
        }
        let verdict = self.submitted.first().map_or(Instant::FAR, |(at, _)| *at + VERDICT_TIMEOUT);
        let oldest = self.waiting.values().next().and_then(|wtxid| self.held.get(wtxid));
        verdict.min(oldest.map_or(Instant::FAR, |held| held.came + WAITING_TX_EXPIRY))
    }

    pub(super) fn held(&self) -> (usize, usize) {
        (self.waiting.len(), self.submitted.len())
    }

    fn refuse(
        &mut self,
        now: Instant,
        wtxid: &Hash,
        why: RefusedWhy,
        counters: &mut SubmissionCounters,
    ) -> Option<Refused> {
        let judged = why == RefusedWhy::Rejected || self.held.get(wtxid)?.submitted.is_some();
        let held = self.remove(now, wtxid)?;
        if judged && !held.doubted {
            self.turns.charge(now, held.what.host, held.fine());
        }
        let Submission { txid, wtxid, origin, .. } = held.what;
        *match why {
            RefusedWhy::Rejected => &mut counters.rejected,
            RefusedWhy::NoVerdict => &mut counters.no_verdict,
            RefusedWhy::NoNode => &mut counters.no_node,
            RefusedWhy::Displaced => &mut counters.displaced,
            RefusedWhy::CostsLinks => &mut counters.costs_links,
        } += 1;
        // Nobody judged what no node has seen: its sender may try again at once. What a node has is not submitted again.
        if judged {
            self.recent.put(now, wtxid, Verdict::Refused);
        }
        Some(Refused { txid, wtxid, origin, why })
    }

    fn remove(&mut self, now: Instant, wtxid: &Hash) -> Option<Held> {
        let held = self.held.remove(wtxid)?;
        self.waiting.remove(&held.seq);
        self.turns.remove(now, held.what.host, held.seq);
        if let Some(at) = held.submitted {
            self.submitted.remove(&(at, *wtxid));
        }
        if let Some(same) = self.by_txid.get_mut(&held.what.txid) {
            same.retain(|other| other != wtxid);
            if same.is_empty() {
                self.by_txid.remove(&held.what.txid);
            }
        }
        self.bytes -= held.what.tx.len();
        self.shares.remove(held.what.host, held.seq, held.what.tx.len());
        Some(held)
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.held.len() <= self.bounds.held && self.bytes <= self.bounds.held_bytes);
        assert_eq!(self.bytes, self.held.values().map(|held| held.what.tx.len()).sum::<usize>());
        assert_eq!(self.waiting.len() + self.submitted.len(), self.held.len());
        assert_eq!(self.turns.len(), self.waiting.len());
        assert_eq!(self.by_txid.values().map(Vec::len).sum::<usize>(), self.held.len());
        for (wtxid, held) in &self.held {
            match held.submitted {
                Some(at) => assert!(self.submitted.contains(&(at, *wtxid))),
                None => assert_eq!(self.waiting.get(&held.seq), Some(wtxid)),
            }
        }
        assert!(self.recent.len() <= self.bounds.recent);
        let held = self.held.values();
        self.shares.check(held.map(|h| (h.what.host, h.seq, h.what.wtxid, h.what.tx.len())));
    }
}

/// True exactly when no node takes it by its policy. The weight is at most four times the length, so that short ones need
/// not be read; what cannot be read (shards give none such) counts as all without witness.
fn is_too_heavy(payload: &[u8]) -> bool {
    let most = payload.len().saturating_mul(4);
    most > MAX_TX_WEIGHT && tx::Tx::parse(payload).map_or(most, |tx| tx.weight()) > MAX_TX_WEIGHT
}
