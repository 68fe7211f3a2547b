//! What is due when: a heap of moments and slots. An entry counts only while the slot's own moment is the same, so one
//! that moved costs nothing but its old entry.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Moments in nanoseconds, each with a slot.
#[derive(Debug, Default)]
pub(super) struct Due(BinaryHeap<Reverse<(u64, u32)>>);

impl Due {
    pub(super) fn add(&mut self, at: u64, slot: u32) {
        self.0.push(Reverse((at, slot)));
    }

    /// The next that is due at `now`.
    pub(super) fn take(&mut self, now: u64) -> Option<(u64, u32)> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }
}

/// Something done at a rate: the n-th time is at `start + n * every`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    start: u64,
    /// Nanoseconds; infinite for never.
    every: f64,
    done: u64,
}

impl Pace {
    /// So many a second from `start` on; 0 for none.
    pub(super) fn new(start: u64, per_second: f64) -> Pace {
        Pace { start, every: 1e9 / per_second, done: 0 }
    }

    /// When the next time is.
    pub(super) fn next(&self) -> Option<u64> {
        let after = self.every * self.done as f64;
        (after.is_finite() && self.every.is_finite()).then(|| self.start.saturating_add(after as u64))
    }

    /// The intended moment of a time that is due at `now`; it counts as done.
    pub(super) fn take(&mut self, now: u64) -> Option<u64> {
        let at = self.next().filter(|at| *at <= now)?;
        self.done += 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_keeps_its_schedule_when_it_is_late() {
        let mut pace = Pace::new(1_000, 1e6);
        assert_eq!((pace.take(999), pace.take(1_000), pace.take(1_500)), (None, Some(1_000), None));
        let late: Vec<u64> = std::iter::from_fn(|| pace.take(4_000)).collect();
        assert_eq!(late, [2_000, 3_000, 4_000]);
        assert_eq!(Pace::new(0, 0.0).next(), None);
    }

    #[test]
    fn the_earliest_is_due_first() {
        let mut due = Due::default();
        due.add(20, 1);
        due.add(10, 2);
        assert_eq!(
            (due.next(), due.take(5), due.take(15), due.take(15)),
            (Some(10), None, Some((10, 2)), None)
        );
    }
}
