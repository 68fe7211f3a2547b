//! How much a connected client is worth keeping, as one ordered number that stays right while time goes by.
//!
//! The negative balances of two free clients that ask for nothing and pay the same price keep their order: both decay to the
//! same figure. So what is kept is not the balance but the part that decays, scaled to a common epoch; it changes only when a
//! client is served something or its price changes. A million idle clients need no updates to stay in order. Between clients of
//! different prices it says nothing: `free_house` keeps one price for all in its order.

use super::balance::{Balance, DECAY, Factors, Priority};
use crate::base::UnixTime;

/// After so many time constants all is scaled to a new epoch; e to this power is far from the end of f64.
const EPOCH: f64 = 300.0;

/// Worth, ascending: free clients, the worst first; then priority clients, the lowest priority first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Worth(u64);

const PRIORITY: u64 = 1 << 63;

impl Worth {
    /// True exactly when it is of a priority client.
    pub fn is_priority(self) -> bool {
        self.0 & PRIORITY != 0
    }

    fn new(is_priority: bool, value: f64) -> Worth {
        // The order of f64 as that of integers: the sign is flipped, below zero all is.
        let bits = value.to_bits();
        let ordered = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
        Worth(ordered >> 1 | if is_priority { PRIORITY } else { 0 })
    }

    fn value(self) -> f64 {
        let ordered = self.0 << 1;
        f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered })
    }
}

/// The price of a free client that asks for nothing, in balance per second.
pub fn rate(capacity: u32, factors: &Factors) -> f32 {
    (factors.time + f64::from(capacity) * factors.capacity) as f32
}

/// The time that worths are scaled to.
#[derive(Clone, Copy, Debug)]
pub struct Epoch(UnixTime);

impl Epoch {
    /// From now on.
    pub fn new(now: UnixTime) -> Epoch {
        Epoch(now)
    }

    /// Of a priority client.
    pub fn of_priority(priority: Priority) -> Worth {
        Worth::new(true, priority.value())
    }

    /// Of a free client with this balance, that pays `rate` from now on.
    pub fn of_free(&self, now: UnixTime, balance: &Balance, rate: f32) -> Worth {
        let decaying = balance.negative(now) - Self::settled(rate);
        Worth::new(false, -decaying * self.age(now).exp())
    }

    /// Of a free client that owes `price` more now.
    pub fn spent(&self, now: UnixTime, worth: Worth, price: f64) -> Worth {
        Worth::new(false, worth.value() - price * self.age(now).exp())
    }

    /// The same client when everybody pays another price from now on; what it owes does not change.
    pub fn at_rate(&self, now: UnixTime, worth: Worth, before: f32, after: f32) -> Worth {
        let shift = (Self::settled(after) - Self::settled(before)) * self.age(now).exp();
        Worth::new(false, worth.value() + shift)
    }

    /// The priority now of a client with this worth that pays `rate`.
    pub fn priority(&self, now: UnixTime, worth: Worth, rate: f32) -> f64 {
        match worth.is_priority() {
            true => worth.value(),
            false => worth.value() * (-self.age(now)).exp() - Self::settled(rate),
        }
    }

    /// Moves on if the epoch is long ago; then all worths have to be changed by the function it gives.
    pub fn renew(&mut self, now: UnixTime) -> Option<impl Fn(Worth) -> Worth + use<>> {
        let age = self.age(now);
        (age > EPOCH).then(|| {
            self.0 = now;
            let factor = (-age).exp();
            move |worth: Worth| {
                if worth.is_priority() { worth } else { Worth::new(false, worth.value() * factor) }
            }
        })
    }

    /// In time constants.
    fn age(&self, now: UnixTime) -> f64 {
        // Beyond this an exponential overflows; `renew` comes long before.
        (now.saturating_sub(self.0) as f64 / DECAY.as_secs_f64()).min(2.0 * EPOCH)
    }

    /// What the negative balance settles at.
    fn settled(rate: f32) -> f64 {
        f64::from(rate) * DECAY.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::balance::Usage;
    use super::*;

    const FACTORS: Factors = Factors { time: 10.0, capacity: 0.5, request: 1.0 };
    const START: UnixTime = 1_700_000_000;

    fn with(negative: f64, now: UnixTime) -> Balance {
        Balance::restore(0, negative, now).unwrap()
    }

    proptest! {
        #[test]
        fn it_is_the_balance_at_any_later_time(
            before in 0.0_f64..1e6,
            came in 0_u64..10_000_000,
            later in 0_u64..1_000_000,
        ) {
            let rate = rate(100, &FACTORS);
            let mut epoch = Epoch::new(START);
            let now = START + came;
            let _ = epoch.renew(now);
            let mut worth = epoch.of_free(now, &with(before, now), rate);
            let mut balance = with(before, now);
            let usage = Usage { connected: Duration::from_secs(later), capacity: 100, cost: 0 };
            balance.tick(now + later, usage, &FACTORS);
            if let Some(change) = epoch.renew(now + later) {
                worth = change(worth);
            }
            let (kept, real) = (-epoch.priority(now + later, worth, rate), balance.negative(now + later));
            prop_assert!((kept - real).abs() <= 1e-3 + real * 1e-6, "{} {}", kept, real);
        }

        #[test]
        fn the_order_is_that_of_numbers_and_classes(a in -1e9_f64..1e9, b in -1e9_f64..1e9) {
            let apart = (a - b).abs() > 1e-6;
            prop_assert!(!apart || (Worth::new(false, a) < Worth::new(false, b)) == (a < b));
            prop_assert!(Worth::new(false, a) < Worth::new(true, b));
            prop_assert!((Worth::new(true, a).value() - a).abs() <= 1e-15 * a.abs());
        }
    }

    #[test]
    fn who_has_had_less_is_worth_more() {
        let rate = rate(100, &FACTORS);
        let epoch = Epoch::new(START);
        let heavy = epoch.of_free(START, &with(5_000.0, START), rate);
        let light = epoch.of_free(START, &with(10.0, START), rate);
        let came_later = epoch.of_free(START + 60, &with(10.0, START + 60), rate);
        assert!(heavy < light && light < came_later);
        assert!(came_later < Epoch::of_priority(with(0.0, START).priority(START, 1)));
    }
}
