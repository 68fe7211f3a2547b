//! How long a block takes from the hub to the clients: from the moment the hub had it until its announcement was handed to the kernel, for
//! each client.
//!
//! A client that was told in this turn costs one addition. When the turn is over and its sends are handed over, the clock is read once
//! for all of them. Memory: three histograms, and a turn's rows, of which there is one for each run of clients that were told of the
//! same block.

use crate::base::Instant;
use crate::link::Histogram;

/// Announcements of blocks in time.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Since the start.
    total: Histogram,
    /// Since the newest block came.
    newest: Histogram,
    /// Of the block before.
    before: Histogram,
    /// Told in this turn: when the hub had the block, and how many clients.
    told: Vec<(Instant, u64)>,
}

impl Latency {
    /// A block has come: the last ones are this and the one before. One that nobody was told of does not count.
    pub(super) fn block_came(&mut self) {
        if self.newest.count() > 0 {
            self.before = std::mem::take(&mut self.newest);
        }
    }

    /// A client is told, in this turn, of a block that the hub had at that instant.
    pub(super) fn told(&mut self, had: Instant) {
        match self.told.last_mut() {
            Some((same, clients)) if *same == had => *clients += 1,
            _ => self.told.push((had, 1)),
        }
    }

    /// What was told in this turn is handed to the kernel now.
    pub(super) fn handed_over(&mut self, now: Instant) {
        for (had, clients) in self.told.drain(..) {
            self.total.add(now.since(had), clients);
            self.newest.add(now.since(had), clients);
        }
    }

    /// Since the start.
    pub(super) fn total(&self) -> &Histogram {
        &self.total
    }

    /// Of the last two blocks.
    pub(super) fn recent(&self) -> Histogram {
        let mut both = self.before.clone();
        both.merge(&self.newest);
        both
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_is_told_in_a_turn_is_counted_at_its_end() {
        let ms = |ms: u64| Instant(ms * 1_000_000);
        let mut latency = Latency::default();
        latency.block_came();
        (0..10).for_each(|_| latency.told(ms(0)));
        latency.told(ms(5));
        latency.told(ms(0));
        assert_eq!((latency.told.len(), latency.total().count()), (3, 0));
        latency.handed_over(ms(10));
        assert_eq!((latency.told.len(), latency.total().count()), (0, 12));
        assert_eq!(latency.recent().max(), Some(Duration::from_millis(10)));
        // A block that nobody was told of pushes nothing out; the next but one does.
        latency.block_came();
        latency.block_came();
        assert_eq!(latency.recent().max(), Some(Duration::from_millis(10)));
        latency.told(ms(100));
        latency.handed_over(ms(101));
        assert_eq!((latency.recent().count(), latency.recent().max()), (13, Some(Duration::from_millis(10))));
        latency.block_came();
        assert_eq!((latency.recent().count(), latency.recent().max()), (1, Some(Duration::from_millis(1))));
        latency.told(ms(200));
        latency.handed_over(ms(201));
        assert_eq!(latency.total().count(), 14);
    }
}
