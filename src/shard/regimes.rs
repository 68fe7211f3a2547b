//! Where a shard's time goes. The clock is read at the seams of a turn, and each stretch between two readings belongs to exactly one
//! regime: they add up to the time since the start, to the nanosecond, because there is nothing else for a stretch to go to.
//!
//! A reading is made per part of a turn that had something to do, never per message; a part that had nothing to do costs none, and its
//! nanoseconds go with the next part. The kernel's time is split by the kernel itself, which knows how long it slept.

use std::time::Duration;

use crate::base::Instant;

macro_rules! regimes {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal;)+) => {
        /// What a shard is at.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Regime { $($(#[doc = $doc])+ $name),+ }

        impl Regime {
            /// Every regime, in the order of reports.
            pub const ALL: &'static [Regime] = &[$(Regime::$name),+];

            /// The label in metrics, stable for dashboards.
            pub fn label(self) -> &'static str {
                match self { $(Regime::$name => $label),+ }
            }
        }
    };
}

regimes! {
    /// Asleep in the kernel: there was nothing to do.
    Idle = "idle";
    /// In the kernel and not asleep: operations handed over, sends and receives done by it, completions taken.
    Kernel = "kernel";
    /// Completions: clients that come and go, their messages and what answers them, sends that are over.
    Handle = "handle";
    /// Entries of the hub, and clients that waited for it.
    Link = "link";
    /// Announcements: the sweeps.
    Announce = "announce";
    /// Steps of transport handshakes.
    Handshake = "handshake";
    /// Questions of the operator, and throttled clients that go on.
    Operator = "operator";
    /// Timers, deadlines, reports.
    Timers = "timers";
}

/// The sums.
#[derive(Clone, Debug)]
pub struct Regimes {
    since: Instant,
    /// Up to here everything is charged.
    at: Instant,
    /// Nanoseconds, by regime.
    spent: [u64; Regime::ALL.len()],
}

impl Regimes {
    /// Time begins.
    pub fn new(now: Instant) -> Regimes {
        Regimes { since: now, at: now, spent: [0; Regime::ALL.len()] }
    }

    /// What has passed since the last reading was this. A clock that goes back (the simulator's) passes nothing.
    pub fn charge(&mut self, regime: Regime, now: Instant) {
        self.spent[regime as usize] += now.0.saturating_sub(self.at.0);
        self.at = self.at.max(now);
    }

    /// What has passed since the last reading was spent in the kernel, `asleep` of it asleep.
    pub fn charge_kernel(&mut self, asleep: Duration, now: Instant) {
        let woke = (self.at + asleep).min(now.max(self.at));
        self.charge(Regime::Idle, woke);
        self.charge(Regime::Kernel, now);
    }

    /// The sums so far, by regime, in the order of [`Regime::ALL`].
    pub fn spent(&self) -> [Duration; Regime::ALL.len()] {
        self.spent.map(Duration::from_nanos)
    }

    /// From the start to the last reading: exactly the sum of [`Regimes::spent`].
    pub fn elapsed(&self) -> Duration {
        self.at.since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is charged in whatever order, with a clock that may stand still or go back.
        #[test]
        fn the_sum_is_the_time_that_has_passed(
            steps in proptest::collection::vec((0..=Regime::ALL.len(), 0..2_000_u64, 0..2_000_u64), 0..200)
        ) {
            let start = Instant(5_000);
            let (mut regimes, mut now, mut last) = (Regimes::new(start), start, start);
            for (which, step, asleep) in steps {
                now = Instant((now.0 + step).saturating_sub(300));
                last = last.max(now);
                match Regime::ALL.get(which) {
                    Some(regime) => regimes.charge(*regime, now),
                    None => regimes.charge_kernel(Duration::from_nanos(asleep), now),
                }
                prop_assert_eq!(regimes.elapsed(), last.since(start));
                prop_assert_eq!(regimes.spent().iter().sum::<Duration>(), regimes.elapsed());
            }
        }
    }

    #[test]
    fn of_the_kernels_time_only_its_sleep_is_idle() {
        let mut regimes = Regimes::new(Instant(0));
        regimes.charge_kernel(Duration::from_nanos(30), Instant(100));
        regimes.charge(Regime::Handle, Instant(105));
        // It cannot have slept longer than it was away.
        regimes.charge_kernel(Duration::from_nanos(50), Instant(125));
        let spent = regimes.spent().map(|time| time.as_nanos());
        assert_eq!(spent[Regime::Idle as usize], 50);
        assert_eq!(spent[Regime::Kernel as usize], 70);
        assert_eq!(spent[Regime::Handle as usize], 5);
    }
}
