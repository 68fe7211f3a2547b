//! The order in which wants go upstream: first come, first served, per node and kind; and what is under way per link.
//!
//! Knows no nodes and no messages: `wants` says where a want may go. Every operation costs the logarithm of what waits,
//! however much that is; `steps` counts them, so that a test can tell.
//!
//! Invariants: each want in here stands in exactly one lane or is under way on exactly one link; no lane and no link is
//! kept without any.

use std::collections::{BTreeMap, BTreeSet};

use super::LinkId;

/// Where a want waits: the node it is to go to, and what kind it is (kinds may have to wait for different things).
pub(super) type Lane<D> = (usize, D);

#[derive(Clone, Copy, Debug)]
enum Place<D> {
    Lane(Lane<D>, u64),
    Link(LinkId),
}

/// Wants named by `K`, of kinds `D`.
#[derive(Debug)]
pub(super) struct Line<K, D> {
    places: BTreeMap<K, Place<D>>,
    lanes: BTreeMap<Lane<D>, BTreeMap<u64, K>>,
    links: BTreeMap<LinkId, BTreeSet<K>>,
    next: u64,
    steps: u64,
}

impl<K, D> Default for Line<K, D> {
    fn default() -> Line<K, D> {
        let (places, lanes, links) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Line { places, lanes, links, next: 0, steps: 0 }
    }
}

impl<K: Copy + Ord, D: Copy + Ord> Line<K, D> {
    /// The want waits in this lane, behind all others; wherever it was.
    pub(super) fn join(&mut self, key: K, lane: Lane<D>) {
        let at = self.next;
        self.next += 1;
        self.put(key, lane, at);
    }

    /// The want waits in this lane instead, in its old order.
    pub(super) fn change_lane(&mut self, key: K, lane: Lane<D>) {
        if let Some(Place::Lane(_, at)) = self.places.get(&key) {
            self.put(key, lane, *at);
        }
    }

    fn put(&mut self, key: K, lane: Lane<D>, at: u64) {
        self.remove(&key);
        self.places.insert(key, Place::Lane(lane, at));
        self.lanes.entry(lane).or_default().insert(at, key);
    }

    /// The want is under way.
    pub(super) fn sent(&mut self, key: K, link: LinkId) {
        self.remove(&key);
        self.places.insert(key, Place::Link(link));
        self.links.entry(link).or_default().insert(key);
    }

    /// The want is answered or given up.
    pub(super) fn remove(&mut self, key: &K) {
        self.steps += 1;
        match self.places.remove(key) {
            Some(Place::Lane(lane, at)) => {
                if let Some(inside) = self.lanes.get_mut(&lane) {
                    inside.remove(&at);
                    if inside.is_empty() {
                        self.lanes.remove(&lane);
                    }
                }
            }
            Some(Place::Link(link)) => {
                if let Some(inside) = self.links.get_mut(&link) {
                    inside.remove(key);
                    if inside.is_empty() {
                        self.links.remove(&link);
                    }
                }
            }
            None => {}
        }
    }

    /// The first want of each lane, the oldest first: at most as many as there are nodes and kinds.
    pub(super) fn heads(&mut self) -> Vec<(Lane<D>, K)> {
        let first = |(lane, inside): (&Lane<D>, &BTreeMap<u64, K>)| {
            inside.first_key_value().map(|(at, key)| (*at, *lane, *key))
        };
        let mut heads: Vec<_> = self.lanes.iter().filter_map(first).collect();
        heads.sort_unstable_by_key(|(at, ..)| *at);
        self.steps += heads.len() as u64;
        heads.into_iter().map(|(_, lane, key)| (lane, key)).collect()
    }

    /// What is under way on a link.
    pub(super) fn on(&self, link: LinkId) -> impl Iterator<Item = K> + '_ {
        self.links.get(&link).into_iter().flatten().copied()
    }

    /// How many those are.
    pub(super) fn count_on(&self, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, BTreeSet::len)
    }

    /// Wants put, moved, removed or looked at since the start.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served_in_each_lane() {
        let mut line = Line::<u32, bool>::default();
        let (a, b) = ((0, false), (1, true));
        [(7, b), (3, a), (5, a), (1, b)].into_iter().for_each(|(key, lane)| line.join(key, lane));
        assert_eq!(line.heads(), [(b, 7), (a, 3)]);
        line.sent(7, LinkId(1));
        line.sent(3, LinkId(1));
        assert_eq!(line.heads(), [(a, 5), (b, 1)]);
        assert_eq!((line.count_on(LinkId(1)), line.on(LinkId(1)).collect()), (2, vec![3, 7]));
        // What failed is behind the others, what changes lanes keeps its turn.
        line.join(3, b);
        line.change_lane(5, b);
        assert_eq!(line.heads(), [(b, 5)]);
        for key in [5, 1, 3] {
            assert_eq!(line.heads(), [(b, key)]);
            line.remove(&key);
        }
        line.remove(&7);
        assert!(line.places.is_empty() && line.lanes.is_empty() && line.links.is_empty());
    }
}
