//! Transactions in our hands: waiting for a node, or submitted and waiting for its verdict.
//!
//! Invariants: `waiting` and `submitted` together name each of `held` exactly once; `by_txid` names each of `held` under its
//! txid; `bytes` is their sum. A transaction may be here with several witnesses: those are different wtxids.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::recent::Recent;
use super::{Bounds, Received, Refused, RefusedWhy, Submission, SubmissionCounters, Verdict};
use crate::base::Instant;
use crate::base::limits::{VERDICT_TIMEOUT, WAITING_TX_EXPIRY};
use crate::wire::Hash;

#[derive(Debug)]
struct Held {
    what: Submission,
    /// Order of coming; kept when it is put back, so that parents go before children.
    seq: u64,
    came: Instant,
    /// When it was submitted, to the last node, if it is.
    submitted: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Custody {
    bounds: Bounds,
    held: HashMap<Hash, Held>,
    by_txid: HashMap<Hash, Vec<Hash>>,
    waiting: BTreeMap<u64, Hash>,
    submitted: BTreeSet<(Instant, Hash)>,
    bytes: usize,
    next_seq: u64,
    recent: Recent,
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
            submitted: BTreeSet::new(),
            bytes: 0,
            next_seq: 0,
            recent: Recent::new(bounds.recent),
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
        if self.held.len() >= self.bounds.held || self.bytes + what.tx.len() > self.bounds.held_bytes {
            counters.full += 1;
            return Received::Full;
        }
        counters.received += 1;
        let seq = self.next_seq;
        self.next_seq += 1;
        self.bytes += what.tx.len();
        self.waiting.insert(seq, what.wtxid);
        self.by_txid.entry(what.txid).or_default().push(what.wtxid);
        self.held.insert(what.wtxid, Held { what, seq, came: now, submitted: None });
        Received::New
    }

    pub(super) fn to_submit(&self) -> Option<Submission> {
        let wtxid = self.waiting.values().next()?;
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
        let what = self.remove(&wtxid)?;
        self.recent.put(now, wtxid, Verdict::Accepted);
        counters.accepted += 1;
        Some(what)
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

    pub(super) fn put_back(&mut self, wtxid: &Hash, counters: &mut SubmissionCounters) -> bool {
        let Some(held) = self.held.get_mut(wtxid) else { return false };
        let Some(at) = held.submitted.take() else { return false };
        self.submitted.remove(&(at, *wtxid));
        self.waiting.insert(held.seq, *wtxid);
        counters.put_back += 1;
        true
    }

    pub(super) fn tick(&mut self, now: Instant, counters: &mut SubmissionCounters) -> Vec<Refused> {
        let mut refused = Vec::new();
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
        let Submission { txid, wtxid, origin, .. } = self.remove(wtxid)?;
        *match why {
            RefusedWhy::Rejected => &mut counters.rejected,
            RefusedWhy::NoVerdict => &mut counters.no_verdict,
            RefusedWhy::NoNode => &mut counters.no_node,
        } += 1;
        // Nobody judged what no node has seen: its sender may try again at once.
        if why != RefusedWhy::NoNode {
            self.recent.put(now, wtxid, Verdict::Refused);
        }
        Some(Refused { txid, wtxid, origin, why })
    }

    fn remove(&mut self, wtxid: &Hash) -> Option<Submission> {
        let held = self.held.remove(wtxid)?;
        self.waiting.remove(&held.seq);
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
        Some(held.what)
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.held.len() <= self.bounds.held && self.bytes <= self.bounds.held_bytes);
        assert_eq!(self.bytes, self.held.values().map(|held| held.what.tx.len()).sum::<usize>());
        assert_eq!(self.waiting.len() + self.submitted.len(), self.held.len());
        assert_eq!(self.by_txid.values().map(Vec::len).sum::<usize>(), self.held.len());
        for (wtxid, held) in &self.held {
            match held.submitted {
                Some(at) => assert!(self.submitted.contains(&(at, *wtxid))),
                None => assert_eq!(self.waiting.get(&held.seq), Some(wtxid)),
            }
        }
        assert!(self.recent.len() <= self.bounds.recent);
    }
}
