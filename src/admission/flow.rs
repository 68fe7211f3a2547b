//! Flow control of a client: a buffer of cost units that fills at its capacity. A request is taken when its maximum cost is in
//! the buffer; what it has not cost in truth is given back. Who is over is paused, not disconnected: nothing more is read from
//! it until [`Admit::At`].
//!
//! In the long run a client that always has another request is served exactly its capacity. Counted in thousandths of a unit
//! and in whole milliseconds, without rounding.

use crate::base::{Instant, Millis};

/// The buffer holds so many milliseconds of the capacity (capacity.md: 6 s).
pub const BUFFER_MS: i64 = 6_000;
/// Thousandths of a unit. One unit per second is one of them per millisecond.
const MILLI: i64 = 1_000;

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admit {
    /// It is taken, its maximum cost is gone from the buffer; [`Flow::settle`] when it is served.
    Now,
    /// It has to wait until then; nothing is gone from the buffer.
    At(Instant),
}

/// The flow control of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Thousandths of a unit in the buffer at `last`; above the limit counts as the limit. Below zero after a request that cost
    /// more than the buffer holds.
    buffer: i64,
    /// Units per second; at least 1.
    capacity: u32,
    /// When the buffer was last filled up.
    last: Millis,
}

const _: () = assert!(size_of::<Flow>() == 16);

impl Flow {
    /// With a full buffer. A capacity of 0 counts as 1.
    pub fn new(now: Instant, capacity: u32) -> Flow {
        let capacity = capacity.max(1);
        Flow { buffer: limit(capacity), capacity, last: now.millis() }
    }

    /// Units per second.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Units in the buffer; below zero when it is over.
    pub fn buffer(&self, now: Instant) -> i64 {
        self.filled(now).buffer / MILLI
    }

    /// True exactly when the buffer is being filled: the client is using its capacity.
    pub fn is_recharging(&self, now: Instant) -> bool {
        self.filled(now).buffer < limit(self.capacity)
    }

    /// Asks for a request of at most this cost, in units. One that costs more than the buffer holds is taken when that is full.
    pub fn admit(&mut self, now: Instant, max_cost: u32) -> Admit {
        *self = self.filled(now);
        let capacity = i64::from(self.capacity);
        let cost = i64::from(max_cost) * MILLI;
        // A millisecond below the limit is full: so nothing is lost to whoever is woken in the millisecond after.
        let lacking = cost.min(limit(self.capacity) - capacity) - self.buffer;
        if lacking > 0 {
            let wait = (lacking + capacity - 1) / capacity;
            return Admit::At(Instant(
                (now.0 / 1_000_000).saturating_add(wait as u64).saturating_mul(1_000_000),
            ));
        }
        self.buffer -= cost;
        Admit::Now
    }

    /// The request is served, and what it cost is known: the difference to what was taken comes back (or goes, too).
    pub fn settle(&mut self, now: Instant, max_cost: u32, real_cost: u32) {
        *self = self.filled(now);
        self.buffer += (i64::from(max_cost) - i64::from(real_cost)) * MILLI;
    }

    /// Another capacity from now on. The buffer is as full as it was.
    pub fn set_capacity(&mut self, now: Instant, capacity: u32) {
        let capacity = capacity.max(1);
        *self = self.filled(now);
        let scaled = i128::from(self.buffer) * i128::from(capacity) / i128::from(self.capacity);
        self.buffer = i64::try_from(scaled).unwrap_or(i64::MIN);
        self.capacity = capacity;
    }

    fn filled(mut self, now: Instant) -> Flow {
        let time = now.millis().wrapping_sub(self.last);
        // Milliseconds wrap after 49 days. More than half of that is a clock that has jumped back.
        if time <= Millis::MAX / 2 {
            self.buffer =
                (self.buffer + i64::from(time) * i64::from(self.capacity)).min(limit(self.capacity));
        }
        self.last = now.millis();
        self
    }
}

/// What the buffer holds, in thousandths.
fn limit(capacity: u32) -> i64 {
    i64::from(capacity) * BUFFER_MS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Instant = Instant(5_000_000_000);

    /// What a client is served by `end` that always has another request, each of which takes `work` to serve.
    fn served(flow: &mut Flow, end: Instant, requests: &[(u32, u32)], work: Duration) -> u64 {
        let (mut now, mut sum) = (START, 0);
        for (max, real) in requests.iter().cycle() {
            if let Admit::At(later) = flow.admit(now, *max) {
                now = later;
                assert_eq!(flow.admit(now, *max), Admit::Now, "woken in time");
            }
            if now >= end {
                break;
            }
            now = now + work;
            flow.settle(now, *max, *real);
            sum += u64::from(*real);
        }
        sum
    }

    proptest! {
        #[test]
        fn in_the_long_run_the_capacity_is_served(
            capacity in 100_u32..2_000_000,
            shares in prop::collection::vec((1_u32..3_000, 1_u32..=100), 1..10),
        ) {
            // Requests of up to 30 s of the capacity, which cost between a hundredth and all of it.
            let requests: Vec<(u32, u32)> = shares
                .iter()
                .map(|(part, real)| {
                    let max = (u64::from(capacity) * u64::from(*part) / 100).max(100) as u32;
                    (max, (u64::from(max) * u64::from(*real) / 100) as u32)
                })
                .collect();
            let mut flow = Flow::new(START, capacity);
            // The buffer is not of the rate.
            flow.settle(START, 0, 6 * capacity);
            let hours = 20_000;
            let sum = served(&mut flow, START + hours * SECOND, &requests, Duration::ZERO) as f64;
            let wanted = f64::from(capacity) * f64::from(hours);
            // One request may be begun at the end, and the buffer may be full of what was given back.
            prop_assert!((sum - wanted).abs() / wanted < 0.002, "{} of {}", sum, wanted);
        }
    }

    #[test]
    fn a_pause_lasts_until_the_buffer_holds_enough() {
        let mut flow = Flow::new(START, 1_000);
        assert_eq!(flow.admit(START, 6_000 - 1), Admit::Now);
        assert_eq!(flow.admit(START, 2_000), Admit::At(Instant(START.0 + 1_999_000_000)));
        assert_eq!((flow.buffer(START), flow.is_recharging(START)), (1, true), "waiting costs nothing");
        flow.settle(START, 5_999, 999);
        assert_eq!(flow.admit(START, 2_000), Admit::Now);
        flow.settle(START, 2_000, 0);
        flow.settle(START, 5_000, 0);
        assert_eq!(flow.buffer(START), 6_000, "never more than it holds");
        flow.admit(START, 6_000 - 1);
        let later = START + 10 * SECOND;
        assert_eq!((flow.buffer(later), flow.is_recharging(later)), (6_000, false));
    }

    #[test]
    fn a_request_above_the_limit_is_taken_at_a_full_buffer() {
        let mut flow = Flow::new(START, 1_000);
        assert_eq!(flow.admit(START, 60_000), Admit::Now);
        assert_eq!(flow.buffer(START), -54_000);
        flow.settle(START, 60_000, 60_000);
        let Admit::At(later) = flow.admit(START, 1) else { panic!("it owes 54 s") };
        assert_eq!(later.since(START).as_millis(), 54_001);
    }

    #[test]
    fn another_capacity_keeps_the_buffer_as_full_as_it_was() {
        let mut flow = Flow::new(START, 1_000);
        flow.admit(START, 3_000);
        flow.set_capacity(START, 4_000);
        assert_eq!((flow.buffer(START), flow.capacity()), (12_000, 4_000));
        flow.set_capacity(START, 0);
        assert_eq!((flow.buffer(START), flow.capacity()), (3, 1));
    }

    #[test]
    fn clocks_that_wrap_or_jump_give_nothing_away() {
        let late = Instant(u64::from(Millis::MAX) * 1_000_000);
        let mut flow = Flow::new(late, 1_000);
        flow.admit(late, 5_000);
        assert_eq!(flow.buffer(late + SECOND), 2_000, "over the wrap");
        assert_eq!(flow.buffer(late - SECOND), 1_000, "back");
    }
}
