//! What hosts owe for work that cost more than it was taken for. Bounded, and forgiven with time.

use std::collections::{BTreeSet, HashMap};

use super::Host;
use crate::base::Instant;

/// Most that a host can owe, in units of cost: so nobody is shut out, whatever it has done.
pub(super) const MOST_OWED: u64 = 1_000_000;
/// Forgiven in a second: all that can be owed in five minutes.
const FORGIVEN: u64 = MOST_OWED / 300;
/// Hosts that owe something, at most; the one whose debt is forgiven soonest is forgotten first.
pub(super) const MOST: usize = 65_536;
/// Nanoseconds per second.
const SECOND: u64 = 1_000_000_000;

/// Invariant: `order` names each host of `until` once, by the instant at which it owes nothing any more.
#[derive(Debug, Default)]
pub(super) struct Debts {
    until: HashMap<Host, Instant>,
    order: BTreeSet<(Instant, Host)>,
}

impl Debts {
    pub(super) fn of(&self, now: Instant, host: Host) -> u64 {
        let left = self.until.get(&host).map_or(0, |until| until.0.saturating_sub(now.0));
        let owed = (u128::from(left) * u128::from(FORGIVEN)).div_ceil(u128::from(SECOND));
        u64::try_from(owed).unwrap_or(MOST_OWED).min(MOST_OWED)
    }

    pub(super) fn charge(&mut self, now: Instant, host: Host, cost: u64) {
        let owed = self.of(now, host).saturating_add(cost);
        self.set(now, host, owed);
    }

    pub(super) fn forgive(&mut self, now: Instant, host: Host, cost: u64) {
        let owed = self.of(now, host).saturating_sub(cost);
        self.set(now, host, owed);
    }

    fn set(&mut self, now: Instant, host: Host, owed: u64) {
        if let Some(until) = self.until.remove(&host) {
            self.order.remove(&(until, host));
        }
        if owed > 0 {
            let nanos = u128::from(owed.min(MOST_OWED)) * u128::from(SECOND) / u128::from(FORGIVEN);
            let until = Instant(now.0.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX)));
            self.until.insert(host, until);
            self.order.insert((until, host));
        }
        while let Some((until, host)) = self.order.first().copied()
            && (until <= now || self.order.len() > MOST)
        {
            self.order.pop_first();
            self.until.remove(&host);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.order.len(), self.until.len());
        self.order.len()
    }
}
