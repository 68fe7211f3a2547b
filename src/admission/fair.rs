//! Whose turn it is: fair queueing of work that hosts bring, for what serves one after the other.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996) in two levels: between groups (/24, /48) first, and between the hosts of a group
//! then. A virtual clock stands where the work that was served last began; the work of one who has waited for nothing begins there, the
//! next work of the same one begins where the former ended. So whoever comes with little finds at most one piece of each other
//! group before it, however much they have queued.
//!
//! What turned out to cost more than it was taken for becomes a debt (`debts`): the next work of that host, and of its group when that
//! host is the group's next, stands as much further behind. Who waits alone waits for nobody, with or without debt.
//!
//! Knows nothing of the work: a number that orders a host's work, and its cost. What is queued is bounded by the caller, what is
//! remembered of others by `MOST_RESTING` and `debts::MOST`.
//!
//! Invariants:
//! - each number pushed leaves by `serve` or `remove`, once; a host's work is offered in the order of its numbers
//! - between two hosts of different groups (or of one group) that both have work waiting and no debts, what is served
//!   differs by the two largest pieces at most

mod debts;
mod level;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use self::debts::Debts;
use self::level::Level;
use super::Host;
use crate::base::Instant;

/// What is remembered, at most, of groups (and of the hosts of a group) that have nothing queued while others have. Forgetting one
/// costs the others one piece of work.
const MOST_RESTING: usize = 4_096;

/// A group with work.
#[derive(Debug)]
struct Group {
    order: Level<Host>,
    /// By number.
    queues: HashMap<Host, BTreeMap<u64, u64>>,
}

impl Default for Group {
    fn default() -> Group {
        Group { order: Level::new(MOST_RESTING), queues: HashMap::new() }
    }
}

/// The queue.
#[derive(Debug)]
pub struct Fair {
    order: Level<Host>,
    groups: HashMap<Host, Group>,
    debts: Debts,
    len: usize,
}

impl Default for Fair {
    fn default() -> Fair {
        Fair::new()
    }
}

impl Fair {
    /// Empty.
    pub fn new() -> Fair {
        Fair { order: Level::new(MOST_RESTING), groups: HashMap::new(), debts: Debts::default(), len: 0 }
    }

    /// Pieces of work that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True exactly when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A host brings work: a number that nothing else of it has, and what it costs (at least 1).
    pub fn push(&mut self, now: Instant, host: Host, number: u64, cost: u64) {
        let group = self.groups.entry(host.group()).or_default();
        let queue = group.queues.entry(host).or_default();
        let fresh = queue.is_empty();
        if queue.insert(number, cost.max(1)).is_some() {
            return;
        }
        self.len += 1;
        if fresh {
            group.order.join(host, self.debts.of(now, host));
            self.order.join(host.group(), 0);
            self.reorder(now, host.group());
        }
    }

    /// Whose turn it is, and which of its work.
    pub fn next(&self) -> Option<(Host, u64)> {
        let group = self.groups.get(&self.order.first()?)?;
        let host = group.order.first()?;
        Some((host, *group.queues.get(&host)?.first_key_value()?.0))
    }

    /// The work is done now, in its turn or not: it counts for its host. False when it does not wait.
    pub fn serve(&mut self, now: Instant, host: Host, number: u64) -> bool {
        let Some(cost) = self.take(host, number) else { return false };
        let Some(group) = self.groups.get_mut(&host.group()) else { return false };
        // The debt has been waited for.
        self.debts.forgive(now, host, u64::MAX);
        group.order.served(host, cost);
        self.order.served(host.group(), cost);
        self.tidy(now, host);
        true
    }

    /// The work is not to be done. False when it does not wait.
    pub fn remove(&mut self, now: Instant, host: Host, number: u64) -> bool {
        let there = self.take(host, number).is_some();
        self.tidy(now, host);
        there
    }

    /// Work of a host cost more than it was pushed with.
    pub fn charge(&mut self, now: Instant, host: Host, cost: u64) {
        self.debts.charge(now, host, cost);
        self.owes(now, host);
    }

    /// It did not, after all.
    pub fn forgive(&mut self, now: Instant, host: Host, cost: u64) {
        self.debts.forgive(now, host, cost);
        self.owes(now, host);
    }

    /// What a host owes.
    pub fn debt(&self, now: Instant, host: Host) -> u64 {
        self.debts.of(now, host)
    }

    fn owes(&mut self, now: Instant, host: Host) {
        if let Some(group) = self.groups.get_mut(&host.group()) {
            group.order.delay(host, self.debts.of(now, host));
            self.reorder(now, host.group());
        }
    }

    fn take(&mut self, host: Host, number: u64) -> Option<u64> {
        let queue = self.groups.get_mut(&host.group())?.queues.get_mut(&host)?;
        let cost = queue.remove(&number)?;
        self.len -= 1;
        Some(cost)
    }

    /// Whoever has nothing more to do leaves the order.
    fn tidy(&mut self, now: Instant, host: Host) {
        let Some(group) = self.groups.get_mut(&host.group()) else { return };
        if group.queues.get(&host).is_some_and(BTreeMap::is_empty) {
            group.queues.remove(&host);
            group.order.leave(host);
        }
        if group.queues.is_empty() {
            self.groups.remove(&host.group());
            self.order.leave(host.group());
        }
        self.reorder(now, host.group());
    }

    /// A group waits for the debt of its next host, which is the one with the least to wait for.
    fn reorder(&mut self, now: Instant, id: Host) {
        let first = self.groups.get(&id).and_then(|group| group.order.first());
        if let Some(first) = first {
            self.order.delay(id, self.debts.of(now, first));
        }
    }
}
