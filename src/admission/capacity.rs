//! How much capacity there is in all. The hub's side.
//!
//! What the host can serve (`recharge`) is less than what may be promised (`total`), because not everybody uses his part at the
//! same time. When those who do need more than there is, some are frozen, and the total falls at once by a tenth of the frozen
//! part of what is connected (LES: capacityDropFactor); it is announced and holds a second later, so that an operator's program
//! can choose whom to lower. It rises slowly, by e in three hours (capacityRaiseTC), while connected capacity is near it and
//! the host has much to spare.
//!
//! Who is frozen and who has to go is decided by `house`.

use std::time::Duration;

use crate::base::Instant;

/// A decrease holds so long after its announcement.
pub const NOTICE: Duration = Duration::from_secs(1);
/// Part of the total that is cut when all that is connected is frozen.
const CUT: f64 = 0.1;
/// Time constant of a rise.
const RAISE_TIME: Duration = Duration::from_secs(3 * 3_600);
/// It rises only while connected capacity times this reaches it (LES: capacityRaiseThresholdRatio).
const NEAR: f64 = 1.125;
/// It rises only while those recharging need at most this part of what the host can serve.
const SPARE: f64 = 0.75;
/// A rise is an event when it has come to this part since the last one; it holds from the beginning.
const WORTH_TELLING: f64 = 0.01;
/// Longest time between two updates that counts: a host that was asleep has learned nothing.
const MAX_STEP: Duration = Duration::from_secs(60);

/// What the operator says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CapacityLimits {
    /// The total never rises above this, units per second.
    pub maximum: u64,
    /// What the host can really serve, units per second. The total never falls below this, or below `maximum` if that is less:
    /// then those recharging cannot need more.
    pub recharge: u64,
}

impl CapacityLimits {
    fn least(&self) -> f64 {
        self.recharge.min(self.maximum) as f64
    }
}

/// A change of the total.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It will fall.
    Falling {
        /// From this.
        from: u64,
        /// To this.
        to: u64,
        /// Then.
        at: Instant,
    },
    /// It has fallen to this: whoever is above has to go (`House::shrink`).
    Fallen {
        /// To this.
        to: u64,
    },
    /// It has risen.
    Risen {
        /// From this, when it was told last.
        from: u64,
        /// To this.
        to: u64,
    },
}

/// What follows from an update.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// So much capacity of those recharging has to be frozen (`House::freeze`), units per second.
    pub freeze: u64,
    /// What changes.
    pub changes: Vec<Change>,
}

/// The total.
#[derive(Clone, Debug)]
pub struct TotalCapacity {
    limits: CapacityLimits,
    total: f64,
    /// As it was told last.
    told: u64,
    /// A decrease that is announced: when it holds, and to what.
    falling: Option<(Instant, f64)>,
    /// Frozen since the last cut, as part of what was connected.
    frozen: f64,
    last: Instant,
}

impl TotalCapacity {
    /// Begins at what the host can serve, or at what it was when it was written down.
    pub fn new(limits: CapacityLimits, before: Option<u64>, now: Instant) -> TotalCapacity {
        let total = before.map_or(limits.least(), |before| before as f64);
        let total = total.clamp(limits.least(), limits.maximum as f64);
        TotalCapacity { limits, total, told: total as u64, falling: None, frozen: 0.0, last: now }
    }

    /// The total that holds now, units per second.
    pub fn total(&self) -> u64 {
        self.total as u64
    }

    /// What the operator has said.
    pub fn limits(&self) -> CapacityLimits {
        self.limits
    }

    /// Other limits. A total above them falls, announced, with the next update; one below rises then.
    pub fn set_limits(&mut self, limits: CapacityLimits) {
        self.limits = limits;
    }

    /// To be called every 100 ms or so, with the capacity of all who are connected and of those who are recharging now and not
    /// frozen.
    pub fn update(&mut self, now: Instant, connected: u64, recharging: u64) -> Outcome {
        let step = now.since(self.last).min(MAX_STEP);
        self.last = self.last.max(now);
        let mut outcome =
            Outcome { freeze: recharging.saturating_sub(self.limits.recharge), changes: Vec::new() };
        if outcome.freeze > 0 {
            self.frozen += outcome.freeze as f64 / connected.max(outcome.freeze) as f64;
        }
        if let Some((at, to)) = self.falling
            && at <= now
        {
            self.falling = None;
            self.total = to;
            self.told = self.total();
            outcome.changes.push(Change::Fallen { to: self.told });
        }
        if self.falling.is_none() {
            outcome.changes.extend(self.fall(now).or_else(|| self.rise(step, connected, recharging)));
        }
        outcome
    }

    /// Cuts for what has been frozen, and for limits that are lower now.
    fn fall(&mut self, now: Instant) -> Option<Change> {
        let cut = self.total * (1.0 - CUT * self.frozen.min(1.0));
        self.frozen = 0.0;
        // Clamped to the least only from above: a total below it is raised.
        let to = cut.max(self.limits.least()).min(self.limits.maximum as f64);
        if to >= self.total {
            return None;
        }
        self.falling = Some((now + NOTICE, to));
        Some(Change::Falling { from: self.total(), to: to as u64, at: now + NOTICE })
    }

    fn rise(&mut self, step: Duration, connected: u64, recharging: u64) -> Option<Change> {
        let near = connected as f64 * NEAR >= self.total;
        let spare = recharging as f64 <= self.limits.recharge as f64 * SPARE;
        if near && spare {
            self.total *= (step.as_secs_f64() / RAISE_TIME.as_secs_f64()).exp();
        }
        self.total = self.total.clamp(self.limits.least(), self.limits.maximum as f64);
        let (from, to) = (self.told, self.total());
        let at_the_end = to == self.limits.maximum && to > from;
        if at_the_end || to as f64 >= from as f64 * (1.0 + WORTH_TELLING) && to > from {
            self.told = to;
            return Some(Change::Risen { from, to });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CapacityLimits = CapacityLimits { maximum: 400_000, recharge: 100_000 };
    const SECOND: Duration = Duration::from_secs(1);
    const START: Instant = Instant(1_000_000_000);

    #[test]
    fn an_overload_freezes_and_cuts_a_tenth_of_the_frozen_part_after_notice() {
        let mut total = TotalCapacity::new(LIMITS, Some(200_000), START);
        let outcome = total.update(START, 200_000, 140_000);
        let falling = Change::Falling { from: 200_000, to: 196_000, at: START + SECOND };
        assert_eq!(outcome, Outcome { freeze: 40_000, changes: vec![falling] }, "a tenth of a fifth");
        assert_eq!(total.total(), 200_000, "not yet");
        // Frozen within the notice: told at once, cut with the next decrease.
        let outcome = total.update(START + SECOND / 2, 200_000, 120_000);
        assert_eq!(outcome, Outcome { freeze: 20_000, changes: vec![] });
        let outcome = total.update(START + SECOND, 200_000, 100_000);
        assert_eq!(outcome.freeze, 0);
        assert_eq!(
            outcome.changes,
            [
                Change::Fallen { to: 196_000 },
                Change::Falling { from: 196_000, to: 194_040, at: START + 2 * SECOND }
            ]
        );
    }

    #[test]
    fn it_never_falls_below_what_the_host_can_serve() {
        let mut total = TotalCapacity::new(LIMITS, Some(110_000), START);
        for second in 0..100 {
            total.update(START + second * SECOND, 110_000, 110_001);
        }
        assert_eq!(total.total(), 100_000);
    }

    #[test]
    fn it_rises_by_e_in_three_hours_while_it_is_wanted_and_can_be_had() {
        let run = |connected: u64, recharging: u64| {
            let mut total = TotalCapacity::new(LIMITS, None, START);
            let mut told = 0;
            for tenth in 0..=3 * 3_600 * 10 {
                // What is connected follows the total, if it is near at all.
                let connected = if connected > 0 { total.total() * connected / 100 } else { 0 };
                let outcome = total.update(START + tenth * SECOND / 10, connected, recharging);
                told += outcome.changes.len();
                assert_eq!(outcome.freeze, 0);
            }
            (total.total(), told)
        };
        let (total, told) = run(90, 70_000);
        assert!((271_700..271_900).contains(&total), "{total}");
        assert!((90..=100).contains(&told), "an event for each per cent: {told}");
        assert_eq!(run(80, 70_000), (100_000, 0), "nobody wants it");
        assert_eq!(run(100, 80_000), (100_000, 0), "it could not be served");
    }

    #[test]
    fn it_stays_within_the_limits_and_follows_them() {
        let mut total = TotalCapacity::new(LIMITS, Some(399_999), START);
        let mut now = START;
        for _ in 0..100 {
            now = now + SECOND;
            total.update(now, 400_000, 0);
        }
        assert_eq!(total.total(), 400_000);
        total.set_limits(CapacityLimits { maximum: 50_000, recharge: 80_000 });
        let outcome = total.update(now, 0, 0);
        assert_eq!(outcome.changes, [Change::Falling { from: 400_000, to: 50_000, at: now + SECOND }]);
        let outcome = total.update(now + SECOND, 0, 0);
        assert_eq!((outcome.changes, total.total()), (vec![Change::Fallen { to: 50_000 }], 50_000));
        total.set_limits(LIMITS);
        let outcome = total.update(now + 2 * SECOND, 0, 0);
        assert_eq!(outcome.changes, [Change::Risen { from: 50_000, to: 100_000 }], "increases at once");
    }
}
