//! Headers off the best chain: a bounded forest whose roots hang on blocks of the best chain.
//!
//! Invariants: every header here has its parent here or in the best chain; `children` counts the headers here by
//! their parent; `leaves` holds exactly the headers here without a child here. Only leaves are thrown out, the
//! one with the least work first, so that no header ever loses its parent.

use std::collections::{BTreeSet, HashMap};

use bitcoin::Work;

use super::rules;
use crate::wire::Hash;

/// A header off the best chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) header: [u8; 80],
    pub(super) height: u32,
    /// Of the whole chain up to this block.
    pub(super) work: Work,
}

#[derive(Debug)]
pub(super) struct Sides {
    most: usize,
    by_hash: HashMap<Hash, Side>,
    children: HashMap<Hash, u32>,
    leaves: BTreeSet<(Work, Hash)>,
    /// Headers thrown out for want of room.
    pub(super) evicted: u64,
}

impl Sides {
    pub(super) fn new(most: usize) -> Sides {
        Sides { most, by_hash: HashMap::new(), children: HashMap::new(), leaves: BTreeSet::new(), evicted: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<&Side> {
        self.by_hash.get(hash)
    }

    /// Throws leaves with less work than `work` out until `count` more headers fit; never `keep`, which the new ones
    /// hang on. False, and nothing thrown out, when there is no room all the same.
    pub(super) fn make_room(&mut self, count: usize, keep: &Hash, work: Work) -> bool {
        if count > self.most {
            return false;
        }
        let mut out = Vec::new();
        while self.by_hash.len() + count > self.most {
            let weakest =
                self.leaves.iter().find(|(_, hash)| hash != keep).filter(|(least, _)| *least < work);
            let Some((_, hash)) = weakest.copied() else {
                // Thrown out for nothing: back, parents first.
                out.into_iter().rev().for_each(|(hash, side)| self.insert(hash, side));
                return false;
            };
            out.extend(self.remove(&hash).map(|side| (hash, side)));
        }
        self.evicted += out.len() as u64;
        true
    }

    /// Adds a header; the caller has made room.
    pub(super) fn insert(&mut self, hash: Hash, side: Side) {
        if self.by_hash.contains_key(&hash) {
            return;
        }
        let parent = rules::previous(&side.header);
        if let Some(above) = self.by_hash.get(&parent) {
            self.leaves.remove(&(above.work, parent));
        }
        *self.children.entry(parent).or_insert(0) += 1;
        if !self.children.contains_key(&hash) {
            self.leaves.insert((side.work, hash));
        }
        self.by_hash.insert(hash, side);
    }

    /// Takes a header out: a leaf, or one that joins the best chain.
    pub(super) fn remove(&mut self, hash: &Hash) -> Option<Side> {
        let side = self.by_hash.remove(hash)?;
        self.leaves.remove(&(side.work, *hash));
        let parent = rules::previous(&side.header);
        if let Some(count) = self.children.get_mut(&parent) {
            *count -= 1;
            if *count == 0 {
                self.children.remove(&parent);
                if let Some(above) = self.by_hash.get(&parent) {
                    self.leaves.insert((above.work, parent));
                }
            }
        }
        Some(side)
    }

    #[cfg(test)]
    pub(super) fn check(&self, in_best: impl Fn(&Hash) -> bool) {
        assert!(self.by_hash.len() <= self.most);
        let mut children: HashMap<Hash, u32> = HashMap::new();
        for (hash, side) in &self.by_hash {
            let parent = rules::previous(&side.header);
            *children.entry(parent).or_insert(0) += 1;
            assert!(self.by_hash.contains_key(&parent) || in_best(&parent), "a side header lost its parent");
            assert!(!in_best(hash), "a side header is in the best chain");
        }
        assert_eq!(children, self.children);
        let leaves = self.by_hash.iter().filter(|(hash, _)| !children.contains_key(*hash));
        assert_eq!(leaves.map(|(hash, side)| (side.work, *hash)).collect::<BTreeSet<_>>(), self.leaves);
    }
}
