//! What a client has paid and what it has had beyond: a positive balance that the operator adds to, and a negative one that
//! everybody has, grows with use and is forgotten within hours.
//!
//! `price per second = time + capacity * capacity factor + request factor * cost served`. It is taken from the positive balance
//! first; what that cannot cover accrues to the negative one. Kept by time of the calendar, because it outlives the process.

use std::cmp::Ordering;
use std::time::Duration;

use crate::base::UnixTime;

/// Time constant of the negative balance (capacity.md: 1 h).
pub const DECAY: Duration = Duration::from_secs(3_600);
/// Most of a positive balance: what JSON's numbers hold exactly.
pub const MAX_BALANCE: u64 = (1 << 53) - 1;
/// The positive balance is kept in thousandths.
const MILLI: u64 = 1_000;

const _: () = assert!(MAX_BALANCE <= u64::MAX / MILLI);

/// What things cost, in units of balance.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Factors {
    /// A second of being connected.
    pub time: f64,
    /// A second of a capacity of one cost unit per second.
    pub capacity: f64,
    /// A cost unit served.
    pub request: f64,
}

impl Default for Factors {
    /// What is served counts as it costs. A capacity that lies idle counts a tenth of that, and a second as much as a hundred
    /// units, so that of two who ask for nothing the one who came later is better.
    fn default() -> Factors {
        Factors { time: 100.0, capacity: 0.1, request: 1.0 }
    }
}

impl Factors {
    /// True exactly when all are numbers that make sense: finite and not negative.
    pub fn is_valid(&self) -> bool {
        [self.time, self.capacity, self.request].iter().all(|f| f.is_finite() && *f >= 0.0)
    }
}

/// What a client has had since it was looked at last.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Usage {
    /// For so long it was connected.
    pub connected: Duration,
    /// With this capacity, units per second.
    pub capacity: u32,
    /// And was served so many units.
    pub cost: u64,
}

/// Who is better: more is. Above zero for a positive balance, in seconds times what it has per unit of capacity; else minus the
/// negative balance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Priority(f64);

impl Priority {
    /// As a number.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl PartialEq for Priority {
    fn eq(&self, other: &Priority) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Priority {}

impl PartialOrd for Priority {
    fn partial_cmp(&self, other: &Priority) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Priority {
    fn cmp(&self, other: &Priority) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// More than a balance holds. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`amount` is {amount}, which with the balance of {balance} is more than {MAX_BALANCE}: add less")]
pub struct Overflow {
    /// What there is.
    pub balance: u64,
    /// What should come to it.
    pub amount: i64,
}

/// The balances of a client.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Balance {
    /// In thousandths.
    positive: u64,
    /// At `last`.
    negative: f64,
    /// When it was looked at last, seconds since 1970 (until 2106).
    last: u32,
}

const _: () = assert!(size_of::<Balance>() == 24);

impl Balance {
    /// Nothing on either side.
    pub fn new(now: UnixTime) -> Balance {
        Balance { last: seconds(now), ..Balance::default() }
    }

    /// As it was written down: whole units, the negative one as of `last`. None if the numbers make no sense.
    pub fn restore(positive: u64, negative: f64, last: UnixTime) -> Option<Balance> {
        let sane = positive <= MAX_BALANCE && negative.is_finite() && negative >= 0.0;
        sane.then(|| Balance { positive: positive * MILLI, negative, last: seconds(last) })
    }

    /// The positive balance, in whole units.
    pub fn positive(&self) -> u64 {
        self.positive / MILLI
    }

    /// True exactly when something of the positive balance is left.
    pub fn is_positive(&self) -> bool {
        self.positive > 0
    }

    /// The negative balance.
    pub fn negative(&self, now: UnixTime) -> f64 {
        self.negative * (-self.age(now) / DECAY.as_secs_f64()).exp()
    }

    /// When it was looked at last, which the negative balance as written down belongs to.
    pub fn last(&self) -> (UnixTime, f64) {
        (UnixTime::from(self.last), self.negative)
    }

    /// Takes the price of what was used since it was looked at last. True exactly when that has used up the positive balance:
    /// the client is a free one from now on.
    pub fn tick(&mut self, now: UnixTime, usage: Usage, factors: &Factors) -> bool {
        let time = usage.connected.as_secs_f64();
        let price = time * (factors.time + f64::from(usage.capacity) * factors.capacity)
            + usage.cost as f64 * factors.request;
        self.charge(now, price.max(0.0), time)
    }

    /// Owes so much more.
    pub fn owe(&mut self, now: UnixTime, debt: f64) {
        self.charge(now, debt.max(0.0), 0.0);
    }

    /// Adds to the positive balance, or takes from it down to 0; says what it was and what it is.
    pub fn add(&mut self, amount: i64) -> Result<[u64; 2], Overflow> {
        let old = self.positive();
        let new = i128::from(old) + i128::from(amount);
        if new > i128::from(MAX_BALANCE) {
            return Err(Overflow { balance: old, amount });
        }
        // What is below a unit stays, unless all is taken.
        let rest = if new <= 0 { 0 } else { self.positive % MILLI };
        let new = new.max(0) as u64;
        self.positive = new * MILLI + rest;
        Ok([old, new])
    }

    /// Its priority with this capacity.
    pub fn priority(&self, now: UnixTime, capacity: u32) -> Priority {
        if self.positive > 0 {
            let units = self.positive as f64 / MILLI as f64;
            return Priority(units / f64::from(capacity.max(1)));
        }
        Priority(0.0 - self.negative(now))
    }

    /// Its priority as if it had been connected for `bias` already, with this capacity and asking for nothing: what a newcomer
    /// is compared by, so that it does not replace somebody to be replaced itself a moment later. Nothing is forgotten in that
    /// time, or a large debt would shrink faster than it grows.
    pub fn estimate(&self, now: UnixTime, bias: Duration, capacity: u32, factors: &Factors) -> Priority {
        let mut later = *self;
        later.tick(now, Usage { connected: bias, capacity, cost: 0 }, factors);
        later.priority(now, capacity)
    }

    fn charge(&mut self, now: UnixTime, price: f64, time: f64) -> bool {
        self.negative = self.negative(now);
        self.last = self.last.max(seconds(now));
        let milli = (price * MILLI as f64).round();
        // The conversion saturates.
        let taken = self.positive.min(milli as u64);
        let had = self.positive > 0;
        self.positive -= taken;
        let beyond = (milli - taken as f64).max(0.0) / MILLI as f64;
        // It has come little by little, and what came first has decayed since.
        let x = time / DECAY.as_secs_f64();
        let kept = if x > 1e-9 { -(-x).exp_m1() / x } else { 1.0 };
        self.negative = (self.negative + beyond * kept).min(f64::MAX);
        had && self.positive == 0
    }

    /// Seconds since it was looked at last; none if the calendar has been set back.
    fn age(&self, now: UnixTime) -> f64 {
        f64::from(seconds(now).saturating_sub(self.last))
    }
}

fn seconds(time: UnixTime) -> u32 {
    u32::try_from(time).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FACTORS: Factors = Factors { time: 10.0, capacity: 0.5, request: 2.0 };

    fn usage(seconds: u64, capacity: u32, cost: u64) -> Usage {
        Usage { connected: Duration::from_secs(seconds), capacity, cost }
    }

    #[test]
    fn the_price_is_taken_from_the_positive_balance_first() {
        let mut balance = Balance::new(1_000);
        assert_eq!(balance.add(1_000), Ok([0, 1_000]));
        // 10 s of 10 + 0.5 * 100, and 2 * 50.
        assert!(!balance.tick(1_010, usage(10, 100, 50), &FACTORS));
        assert_eq!((balance.positive(), balance.negative(1_010)), (300, 0.0));
        assert_eq!(balance.priority(1_010, 100), Priority(3.0));
        assert!(balance.tick(1_010, usage(0, 100, 200), &FACTORS), "it becomes a free client");
        assert_eq!((balance.positive(), balance.negative(1_010)), (0, 100.0));
        assert_eq!(balance.priority(1_010, 100), Priority(-100.0));
        assert!(!balance.tick(1_011, usage(1, 100, 0), &FACTORS), "once");
    }

    #[test]
    fn the_negative_balance_is_forgotten_and_time_does_not_run_back() {
        let mut balance = Balance::new(1_000);
        balance.tick(1_000, usage(0, 0, 500), &FACTORS);
        assert!((balance.negative(4_600) - 1_000.0 / std::f64::consts::E).abs() < 1e-9);
        assert_eq!(balance.negative(900), 1_000.0);
        balance.tick(900, usage(0, 0, 0), &FACTORS);
        assert_eq!(balance.negative(1_000), 1_000.0);
    }

    #[test]
    fn adding_clamps_at_zero_and_an_overflow_changes_nothing() {
        let mut balance = Balance::new(0);
        assert_eq!(balance.add(-5), Ok([0, 0]));
        assert_eq!(balance.add(i64::MAX), Err(Overflow { balance: 0, amount: i64::MAX }));
        assert_eq!(balance.add(MAX_BALANCE as i64), Ok([0, MAX_BALANCE]));
        let error = balance.add(1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`amount` is 1, which with the balance of 9007199254740991 is more than 9007199254740991: add less"
        );
        assert_eq!(balance.positive(), MAX_BALANCE);
        assert_eq!(balance.add(i64::MIN), Ok([MAX_BALANCE, 0]));
        assert!(!balance.is_positive());
    }

    #[test]
    fn a_newcomer_is_compared_as_it_will_be() {
        let bias = Duration::from_secs(180);
        let newcomer = Balance::new(1_000);
        let estimate = newcomer.estimate(1_000, bias, 100, &FACTORS);
        assert_eq!(newcomer, Balance::new(1_000));
        let mut there = Balance::new(820);
        there.tick(1_000, usage(180, 100, 0), &FACTORS);
        assert_eq!(estimate, there.priority(1_000, 100), "as good as one that came three minutes ago");
        there.tick(1_001, usage(1, 100, 0), &FACTORS);
        assert!(estimate > there.priority(1_001, 100));
    }

    #[test]
    fn what_makes_no_sense_is_not_restored() {
        assert!(Balance::restore(MAX_BALANCE + 1, 0.0, 1).is_none());
        assert!(Balance::restore(1, -0.5, 1).is_none() && Balance::restore(1, f64::NAN, 1).is_none());
        let back = Balance::restore(7, 8.0, 9).unwrap();
        assert_eq!((back.positive(), back.last()), (7, (9, 8.0)));
        assert!(!Factors { time: f64::NAN, ..FACTORS }.is_valid() && FACTORS.is_valid());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_often_it_is_looked_at(
            cuts in prop::collection::vec(1_u64..600, 1..40),
            capacity in 0_u32..10_000,
            start in prop_oneof![Just(0_i64), 0_i64..10_000_000],
        ) {
            let (mut often, mut once) = (Balance::new(0), Balance::new(0));
            often.add(start).unwrap();
            once.add(start).unwrap();
            let mut now = 0;
            for cut in cuts {
                now += cut;
                often.tick(now, usage(cut, capacity, 0), &FACTORS);
            }
            once.tick(now, usage(now, capacity, 0), &FACTORS);
            prop_assert_eq!(often.positive(), once.positive());
            if start == 0 {
                let (a, b) = (often.negative(now), once.negative(now));
                prop_assert!((a - b).abs() <= 1e-6 * b.max(1.0), "{} {}", a, b);
            }
        }
    }
}
