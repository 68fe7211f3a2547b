//! Verdicts remembered for a while, so that a transaction clients send over and over is not submitted each time.
//! Bounded by number and by age; the oldest are forgotten first.

use std::collections::{HashMap, VecDeque};

use crate::base::Instant;
use crate::base::limits::RECENT_VERDICT_TIME;
use crate::wire::Hash;

/// What a node made of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Refused,
}

/// Invariant: `order` names each key of `verdicts` exactly once.
#[derive(Debug)]
pub(super) struct Recent {
    most: usize,
    verdicts: HashMap<Hash, Verdict>,
    order: VecDeque<(Instant, Hash)>,
}

impl Recent {
    pub(super) fn new(most: usize) -> Recent {
        Recent { most, verdicts: HashMap::new(), order: VecDeque::new() }
    }

    /// The verdict on a wtxid, if it is remembered. Forgets what is too old.
    pub(super) fn get(&mut self, now: Instant, wtxid: &Hash) -> Option<Verdict> {
        while let Some((at, _)) = self.order.front()
            && now.since(*at) > RECENT_VERDICT_TIME
        {
            self.forget_oldest();
        }
        self.verdicts.get(wtxid).copied()
    }

    /// Remembers a verdict; a later one replaces the earlier but keeps its age.
    pub(super) fn put(&mut self, now: Instant, wtxid: Hash, verdict: Verdict) {
        if self.verdicts.insert(wtxid, verdict).is_none() {
            self.order.push_back((now, wtxid));
        }
        while self.order.len() > self.most {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, wtxid)) = self.order.pop_front() {
            self.verdicts.remove(&wtxid);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.verdicts.len(), self.order.len());
        self.order.len()
    }
}
