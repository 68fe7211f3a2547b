//! What nodes are busy with: transactions that have been sent to them and that they have not dealt with.
//!
//! A node handles the messages of a link in their order, so a ping goes behind each transaction, and its pong says that the node
//! has dealt with that one and all before it, whatever the verdict. A link carries at most `MAX_SUBMITTED_AT_ONCE` of them: who has
//! waited for no turn then waits only for those.
//!
//! Invariants: a transaction is under way on a link at most once; nothing is kept of a link without any.

use std::collections::BTreeMap;

use super::LinkId;
use crate::base::limits::{MAX_SUBMITTED_AT_ONCE, MAX_SUBMITTED_AT_ONCE_BYTES};
use crate::wire::Hash;

/// Under way on a link, by the nonces of the pings behind them, which count up.
#[derive(Debug, Default)]
struct Way {
    flights: BTreeMap<u64, (Hash, usize)>,
    bytes: usize,
}

/// Everything under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    ways: BTreeMap<LinkId, Way>,
    /// The links of each, by wtxid.
    links: BTreeMap<Hash, Vec<(LinkId, u64)>>,
    next: u64,
}

impl Flights {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ways.values().map(|way| way.flights.len()).sum()
    }

    /// True exactly when so many bytes may be sent on this link now.
    pub(super) fn has_room(&self, link: LinkId, bytes: usize) -> bool {
        self.ways.get(&link).is_none_or(|way| {
            way.flights.len() < MAX_SUBMITTED_AT_ONCE && way.bytes + bytes <= MAX_SUBMITTED_AT_ONCE_BYTES
        })
    }

    /// A transaction, or its announcement, goes out; gives the nonce of the ping that goes behind it. Where it was under way on this link
    /// already, only the later ping counts.
    pub(super) fn begin(&mut self, link: LinkId, wtxid: Hash, bytes: usize) -> u64 {
        self.end_one(link, &wtxid);
        self.next += 1;
        let way = self.ways.entry(link).or_default();
        way.flights.insert(self.next, (wtxid, bytes));
        way.bytes += bytes;
        self.links.entry(wtxid).or_default().push((link, self.next));
        self.next
    }

    /// True exactly when it is under way on this link.
    pub(super) fn is_on(&self, link: LinkId, wtxid: &Hash) -> bool {
        self.links.get(wtxid).is_some_and(|links| links.iter().any(|(on, _)| *on == link))
    }

    /// A pong has come: what went before its ping is dealt with. True when that is something.
    pub(super) fn pong(&mut self, link: LinkId, nonce: u64) -> bool {
        let Some(way) = self.ways.get(&link).filter(|way| way.flights.contains_key(&nonce)) else {
            return false;
        };
        let over: Vec<Hash> = way.flights.range(..=nonce).map(|(_, (wtxid, _))| *wtxid).collect();
        over.iter().for_each(|wtxid| self.end_one(link, wtxid));
        true
    }

    /// There is a verdict on it.
    pub(super) fn end(&mut self, wtxid: &Hash) {
        for (link, _) in self.links.get(wtxid).cloned().unwrap_or_default() {
            self.end_one(link, wtxid);
        }
    }

    /// The link is gone.
    pub(super) fn lost(&mut self, link: LinkId) {
        let Some(way) = self.ways.get(&link) else { return };
        let over: Vec<Hash> = way.flights.values().map(|(wtxid, _)| *wtxid).collect();
        over.iter().for_each(|wtxid| self.end_one(link, wtxid));
    }

    fn end_one(&mut self, link: LinkId, wtxid: &Hash) {
        let Some(links) = self.links.get_mut(wtxid) else { return };
        let Some(at) = links.iter().position(|(on, _)| *on == link) else { return };
        let (_, nonce) = links.swap_remove(at);
        if links.is_empty() {
            self.links.remove(wtxid);
        }
        let Some(way) = self.ways.get_mut(&link) else { return };
        if let Some((_, bytes)) = way.flights.remove(&nonce) {
            way.bytes -= bytes;
        }
        if way.flights.is_empty() {
            self.ways.remove(&link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_ends_what_went_before_its_ping() {
        let (one, two) = (LinkId(1), LinkId(2));
        let mut flights = Flights::default();
        let nonces: Vec<u64> = (0..8).map(|n| flights.begin(one, [n; 32], 10)).collect();
        assert!(!flights.has_room(one, 10) && flights.has_room(two, MAX_SUBMITTED_AT_ONCE_BYTES));
        // The same on another link, and anew on this one: it is behind the others now.
        flights.begin(two, [3; 32], MAX_SUBMITTED_AT_ONCE_BYTES);
        assert!(!flights.has_room(two, 1));
        flights.begin(one, [0; 32], 10);
        assert!(!flights.pong(one, 999) && !flights.pong(two, nonces[3]) && !flights.pong(one, nonces[0]));
        assert!(flights.pong(one, nonces[4]));
        assert_eq!((flights.len(), flights.has_room(one, 10)), (5, true));
        assert!(flights.is_on(two, &[3; 32]) && !flights.is_on(one, &[3; 32]));
        flights.end(&[3; 32]);
        flights.lost(one);
        assert!(flights.ways.is_empty() && flights.links.is_empty());
    }
}
