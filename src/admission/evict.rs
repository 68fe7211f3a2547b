//! Who gives way when no session slot is free. A shard's side, for free clients; priority clients are not entered.
//!
//! As Bitcoin Core's eviction (src/node/eviction.cpp, SelectNodeToEvict): an attacker can fill slots, but hardly be better than
//! all honest clients at everything at once. So those are protected who are best at something that is hard to forge:
//!
//! | what | how many | Core |
//! |---|---|---|
//! | network group, by a keyed hash that the attacker does not know | 4 | `keyed_net_group`, 4 |
//! | lowest round trip | 8 | `m_min_ping_time`, 8 |
//! | last gave a transaction that the node took | 4 | `m_last_tx_time`, 4 |
//! | last gave a block before others | 4 | `m_last_block_time`, 4 |
//! | connected longest | the older half | half of those left, some of it for Tor, I2P and local |
//!
//! Of the rest, the group with the most members loses its youngest; of groups of equal size the one that was joined last.
//!
//! Core sorts all its 125 peers for a decision. Here each is kept in order of coming (lists), groups by the number of their
//! younger members, and of each skill only the best few are known: a decision looks at no more than those protected, a change
//! is O(log groups). If more than 4 times as many as are protected have left, somebody once good may be forgotten until he is
//! good again.

use std::collections::{BTreeSet, HashMap};

use super::identity::Keys;
use super::top::Top;
use crate::base::Instant;

/// No client.
const NONE: u32 = u32::MAX;
/// Marks a client of the younger half, in its group's key.
const YOUNG: u64 = 1 << 63;

/// A client's place in the lists.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The one who came before it, and after it.
    older: u32,
    younger: u32,
    /// The same in its group.
    older_in_group: u32,
    younger_in_group: u32,
    /// The key of its group, without its highest bit, and `YOUNG`. All ones for a slot that is empty.
    group: u64,
}

const _: () = assert!(size_of::<Node>() == 24);

impl Node {
    const EMPTY: Node =
        Node { older: NONE, younger: NONE, older_in_group: NONE, younger_in_group: NONE, group: u64::MAX };

    fn is_in(&self) -> bool {
        self.group != u64::MAX
    }

    fn key(&self) -> u64 {
        self.group & !YOUNG
    }
}

/// A group that has members.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// Its youngest member.
    youngest: u32,
    members: u32,
    /// Of them in the younger half.
    young: u32,
    /// Counts joins of all groups.
    joined: u64,
}

/// The clients with a session slot that may have to give it up.
#[derive(Debug)]
pub struct Evict {
    /// By slot in the shard's table.
    nodes: Vec<Node>,
    youngest: u32,
    /// The oldest of the younger half.
    median: u32,
    clients: usize,
    groups: HashMap<u64, Group>,
    /// Groups with more than one young member: by their number, then by who joined last.
    crowds: BTreeSet<(u32, u64, u64)>,
    joins: u64,
    by_group: Top<4>,
    by_ping: Top<8>,
    by_tx: Top<4>,
    by_block: Top<4>,
}

impl Default for Evict {
    fn default() -> Evict {
        Evict {
            nodes: Vec::new(),
            youngest: NONE,
            median: NONE,
            clients: 0,
            groups: HashMap::new(),
            crowds: BTreeSet::new(),
            joins: 0,
            by_group: Top::default(),
            by_ping: Top::default(),
            by_tx: Top::default(),
            by_block: Top::default(),
        }
    }
}

impl Evict {
    /// A client has got a session slot. It is the youngest.
    pub fn enter(&mut self, slot: u32, keys: Keys) {
        self.leave(slot);
        if self.nodes.len() <= slot as usize {
            self.nodes.resize(slot as usize + 1, Node::EMPTY);
        }
        // A group's key is never all ones without its highest bit and `YOUNG` together: that is an empty slot.
        let key = (keys.group & !YOUNG).min(!YOUNG - 1);
        self.joins += 1;
        let group =
            self.groups.entry(key).or_insert(Group { youngest: NONE, members: 0, young: 0, joined: 0 });
        crowd(&mut self.crowds, key, group, false);
        let before = group.youngest;
        (group.youngest, group.joined) = (slot, self.joins);
        group.members += 1;
        group.young += 1;
        crowd(&mut self.crowds, key, group, true);
        self.nodes[slot as usize] = Node {
            older: self.youngest,
            younger: NONE,
            older_in_group: before,
            younger_in_group: NONE,
            group: key | YOUNG,
        };
        if let Some(node) = self.nodes.get_mut(before as usize) {
            node.younger_in_group = slot;
        }
        if let Some(node) = self.nodes.get_mut(self.youngest as usize) {
            node.younger = slot;
        }
        self.youngest = slot;
        self.clients += 1;
        if self.clients == 1 {
            self.median = slot;
        } else if self.clients.is_multiple_of(2) {
            self.age_one();
        }
        self.by_group.offer(slot, keys.group);
    }

    /// A client has gone, or has become a priority client. Nothing happens if it was not in.
    pub fn leave(&mut self, slot: u32) {
        let Some(node) = self.nodes.get(slot as usize).copied().filter(Node::is_in) else { return };
        // The younger half has one more than the older when their sum is odd, before and after.
        match (self.clients.is_multiple_of(2), node.group & YOUNG != 0) {
            (true, true) => self.rejuvenate_one(),
            (false, false) => self.age_one(),
            (false, true) if self.median == slot => self.median = node.younger,
            _ => {}
        }
        self.unlink(slot);
        self.clients -= 1;
        self.by_group.forget(slot);
        self.by_ping.forget(slot);
        self.by_tx.forget(slot);
        self.by_block.forget(slot);
    }

    /// A client has answered a ping; the lowest counts, in nanoseconds.
    pub fn ping(&mut self, slot: u32, round_trip: u64) {
        if self.is_in(slot) {
            self.by_ping.offer(slot, !round_trip);
        }
    }

    /// The node has taken a transaction that this client gave.
    pub fn useful_tx(&mut self, slot: u32, now: Instant) {
        if self.is_in(slot) {
            self.by_tx.offer(slot, now.0);
        }
    }

    /// This client gave a block before others.
    pub fn useful_block(&mut self, slot: u32, now: Instant) {
        if self.is_in(slot) {
            self.by_block.offer(slot, now.0);
        }
    }

    /// Who has to go, if somebody has to; none if all are protected. It stays in until [`Evict::leave`].
    pub fn victim(&self) -> Option<u32> {
        // Each step but the last passes somebody who is protected, or a group in which all young members are.
        let crowds = self.crowds.iter().rev();
        let of_crowds = crowds.filter_map(|(young, _, key)| self.unprotected(*key, *young)).next();
        of_crowds.or_else(|| {
            let lone = std::iter::successors(self.some(self.youngest), |at| self.some(self.node(*at).older));
            lone.take_while(|at| self.node(*at).group & YOUNG != 0).find(|at| !self.is_protected(*at))
        })
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        self.clients
    }

    /// True exactly when nobody is in.
    pub fn is_empty(&self) -> bool {
        self.clients == 0
    }

    /// The youngest member of a group that is not protected, of its `young` youngest.
    fn unprotected(&self, key: u64, young: u32) -> Option<u32> {
        let youngest = self.groups.get(&key)?.youngest;
        let members = std::iter::successors(Some(youngest), |at| self.some(self.node(*at).older_in_group));
        members.take(young as usize).find(|at| !self.is_protected(*at))
    }

    fn is_protected(&self, slot: u32) -> bool {
        self.by_group.holds(slot)
            || self.by_ping.holds(slot)
            || self.by_tx.holds(slot)
            || self.by_block.holds(slot)
    }

    fn is_in(&self, slot: u32) -> bool {
        self.nodes.get(slot as usize).is_some_and(Node::is_in)
    }

    fn node(&self, slot: u32) -> Node {
        self.nodes.get(slot as usize).copied().unwrap_or(Node::EMPTY)
    }

    fn some(&self, slot: u32) -> Option<u32> {
        (slot != NONE).then_some(slot)
    }

    /// The oldest of the younger half becomes one of the older.
    fn age_one(&mut self) {
        let slot = self.median;
        self.set_young(slot, false);
        self.median = self.node(slot).younger;
    }

    /// The youngest of the older half becomes one of the younger.
    fn rejuvenate_one(&mut self) {
        let slot = self.node(self.median).older;
        self.set_young(slot, true);
        self.median = slot;
    }

    fn set_young(&mut self, slot: u32, young: bool) {
        let Some(node) = self.nodes.get_mut(slot as usize).filter(|node| node.is_in()) else { return };
        let key = node.key();
        node.group = if young { key | YOUNG } else { key };
        if let Some(group) = self.groups.get_mut(&key) {
            crowd(&mut self.crowds, key, group, false);
            group.young = if young { group.young + 1 } else { group.young.saturating_sub(1) };
            crowd(&mut self.crowds, key, group, true);
        }
    }

    /// Takes a client out of both lists and out of its group's numbers. It is not `median` any more.
    fn unlink(&mut self, slot: u32) {
        let node = self.node(slot);
        let key = node.key();
        if let Some(other) = self.nodes.get_mut(node.older as usize) {
            other.younger = node.younger;
        }
        match self.nodes.get_mut(node.younger as usize) {
            Some(other) => other.older = node.older,
            None => self.youngest = node.older,
        }
        if let Some(other) = self.nodes.get_mut(node.older_in_group as usize) {
            other.younger_in_group = node.younger_in_group;
        }
        if let Some(other) = self.nodes.get_mut(node.younger_in_group as usize) {
            other.older_in_group = node.older_in_group;
        }
        if let Some(group) = self.groups.get_mut(&key) {
            crowd(&mut self.crowds, key, group, false);
            if group.youngest == slot {
                group.youngest = node.older_in_group;
            }
            group.members -= 1;
            group.young -= u32::from(node.group & YOUNG != 0);
            crowd(&mut self.crowds, key, group, true);
            if group.members == 0 {
                self.groups.remove(&key);
            }
        }
        self.nodes[slot as usize] = Node::EMPTY;
    }
}

/// Enters a group among the crowds, or takes it out before it changes.
fn crowd(crowds: &mut BTreeSet<(u32, u64, u64)>, key: u64, group: &Group, enter: bool) {
    if group.young > 1 {
        let entry = (group.young, group.joined, key);
        if enter {
            crowds.insert(entry);
        } else {
            crowds.remove(&entry);
        }
    }
}

#[cfg(test)]
mod tests;
