//! One level of the order: who waits, by the virtual time at which its next work begins.
//!
//! Invariants: `waiting` names each flow that waits once, by its key; `resting` each other flow, by where its work ended, and that lies
//! ahead of the clock: who rests behind it is as good as new and is forgotten. When nobody waits, nobody is remembered.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

#[derive(Clone, Copy, Debug)]
struct Flow {
    /// Where its next work begins, or where its last ended.
    start: u64,
    /// How much further behind it stands.
    delay: u64,
    /// Among equals, who came first; none while it rests.
    turn: Option<u64>,
}

/// The order of some.
#[derive(Debug)]
pub(super) struct Level<K> {
    /// The virtual clock.
    time: u64,
    turns: u64,
    flows: HashMap<K, Flow>,
    waiting: BTreeSet<(u64, u64, K)>,
    resting: BTreeSet<(u64, K)>,
    most_resting: usize,
}

impl<K: Copy + Ord + Hash> Level<K> {
    pub(super) fn new(most_resting: usize) -> Level<K> {
        Level {
            time: 0,
            turns: 0,
            flows: HashMap::new(),
            waiting: BTreeSet::new(),
            resting: BTreeSet::new(),
            most_resting,
        }
    }

    /// It has work now. Nothing changes when it waits already.
    pub(super) fn join(&mut self, who: K, delay: u64) {
        let known = self.flows.get(&who).copied();
        if known.is_some_and(|flow| flow.turn.is_some()) {
            return;
        }
        let ended = known.map_or(0, |flow| flow.start);
        self.resting.remove(&(ended, who));
        self.wait(who, ended.max(self.time), delay);
    }

    fn wait(&mut self, who: K, start: u64, delay: u64) {
        let turn = self.turns;
        self.turns += 1;
        self.flows.insert(who, Flow { start, delay, turn: Some(turn) });
        self.waiting.insert((start.saturating_add(delay), turn, who));
    }

    /// It stands so much further behind than its work alone would have it.
    pub(super) fn delay(&mut self, who: K, delay: u64) {
        let Some(flow) = self.flows.get_mut(&who) else { return };
        if let Some(turn) = flow.turn
            && flow.delay != delay
        {
            self.waiting.remove(&(flow.start.saturating_add(flow.delay), turn, who));
            flow.delay = delay;
            self.waiting.insert((flow.start.saturating_add(delay), turn, who));
        }
    }

    pub(super) fn first(&self) -> Option<K> {
        self.waiting.first().map(|(.., who)| *who)
    }

    /// Work of it was done; it goes on waiting, without delay.
    pub(super) fn served(&mut self, who: K, cost: u64) {
        let Some(Flow { start, delay, turn: Some(turn) }) = self.flows.get(&who).copied() else { return };
        let key = start.saturating_add(delay);
        self.waiting.remove(&(key, turn, who));
        // What is done out of its turn moves no clock.
        if self.waiting.first().is_none_or(|(least, ..)| key <= *least) {
            self.time = self.time.max(key);
        }
        self.wait(who, start.saturating_add(cost).max(self.time), 0);
        self.forget();
    }

    /// It has no more work.
    pub(super) fn leave(&mut self, who: K) {
        let Some(flow) = self.flows.get_mut(&who) else { return };
        let Some(turn) = flow.turn.take() else { return };
        self.waiting.remove(&(flow.start.saturating_add(flow.delay), turn, who));
        self.resting.insert((flow.start, who));
        if self.waiting.is_empty() {
            (self.time, self.turns) = (0, 0);
            self.flows.clear();
            self.resting.clear();
        }
        self.forget();
    }

    /// Who rests behind the clock, and the nearest ahead of it when there are too many.
    fn forget(&mut self) {
        while let Some((ended, who)) = self.resting.first().copied()
            && (ended <= self.time || self.resting.len() > self.most_resting)
        {
            self.resting.pop_first();
            self.flows.remove(&who);
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.flows.len(), self.waiting.len() + self.resting.len());
        assert!(self.resting.len() <= self.most_resting);
        for (who, flow) in &self.flows {
            match flow.turn {
                Some(turn) => assert!(self.waiting.contains(&(flow.start + flow.delay, turn, *who))),
                None => assert!(self.resting.contains(&(flow.start, *who)) && flow.start > self.time),
            }
        }
    }
}
