//! The free clients of a shard that have a session: in the order in which they go when there is no room. A shard's side.
//!
//! The hub hands each shard a part of the total capacity (`share`). A newcomer gets in while that lasts, or takes the place of the worst
//! that may be replaced: its negative balance must be larger than the newcomer's after `bias` of use, so nobody replaces an equal and
//! nobody flaps; those who are good at something are spared (`protect`). When the hub says that the total has fallen, or that
//! priority clients need the room, the worst go, spared ones last.
//!
//! A decision, a request served, a client that leaves: O(log n). 16 bytes for each client that is in.

use std::collections::HashMap;
use std::time::Duration;

use super::balance::{Balance, Factors};
use super::heap::Heap;
use super::identity::Keys;
use super::protect::Protected;
use super::share::{Grant, Report};
use super::worth::{Epoch, Worth, rate};
use crate::base::{Instant, UnixTime};

/// Free clients, by slot in the shard's table.
#[derive(Debug)]
pub struct FreeHouse {
    factors: Factors,
    /// Of those who have prices of their own, by slot.
    own: HashMap<u32, Factors>,
    bias: Duration,
    epoch: Epoch,
    order: Heap<Worth>,
    protected: Protected,
    grant: Grant,
    connected: u64,
    wanted: u64,
}

impl FreeHouse {
    /// Nobody is in; `grant`: the part before the hub has said anything.
    pub fn new(factors: Factors, bias: Duration, grant: u64, now: UnixTime) -> FreeHouse {
        FreeHouse {
            factors,
            own: HashMap::new(),
            bias,
            epoch: Epoch::new(now),
            order: Heap::default(),
            protected: Protected::default(),
            grant: Grant { number: 0, amount: grant },
            connected: 0,
            wanted: 0,
        }
    }

    /// Prices and bias of later decisions.
    pub fn set_defaults(&mut self, factors: Factors, bias: Duration) {
        (self.factors, self.bias) = (factors, bias);
    }

    /// The prices of a client.
    pub fn factors(&self, slot: u32) -> &Factors {
        self.own.get(&slot).unwrap_or(&self.factors)
    }

    /// A client that is in has prices of its own from now on.
    pub fn set_factors(&mut self, now: UnixTime, slot: u32, capacity: u32, factors: Factors) {
        if let Some(debt) = self.debt(now, slot, capacity) {
            self.own.insert(slot, factors);
            self.order.set(slot, self.worth(now, slot, capacity, debt));
        }
    }

    /// The hub's word on how much may be connected here.
    pub fn obey(&mut self, grant: Grant) {
        self.grant = grant;
    }

    /// What the hub is told, once a second.
    pub fn report(&mut self) -> Report {
        Report { obeys: self.grant.number, used: self.connected, wanted: std::mem::take(&mut self.wanted) }
    }

    /// True exactly when a client of this capacity fits.
    pub fn has_room(&self, capacity: u32) -> bool {
        self.connected.saturating_add(u64::from(capacity)) <= self.grant.amount
    }

    /// Somebody of this capacity found no room: told to the hub.
    pub fn missed(&mut self, capacity: u32) {
        self.wanted = self.wanted.saturating_add(u64::from(capacity));
    }

    /// A client is in from now on, whether there is room or not; it owes `debt` from before.
    pub fn enter(&mut self, now: (Instant, UnixTime), slot: u32, keys: Keys, capacity: u32, debt: f64) {
        self.renew(now.1);
        self.order.set(slot, self.worth(now.1, slot, capacity, debt));
        self.protected.enter(slot, keys, now.0);
        self.connected = self.connected.saturating_add(u64::from(capacity));
    }

    /// A client that is in owes so much more.
    pub fn owes(&mut self, now: UnixTime, slot: u32, debt: f64) {
        self.renew(now);
        if let Some(worth) = self.order.get(slot) {
            self.order.set(slot, self.epoch.spent(now, worth, debt.max(0.0)));
        }
    }

    /// A client was served something of this cost. One that is not in is passed over.
    pub fn served(&mut self, now: UnixTime, slot: u32, cost: u32) {
        self.owes(now, slot, f64::from(cost) * self.factors(slot).request);
    }

    /// A client that is in has answered a ping, in milliseconds.
    pub fn ping(&mut self, slot: u32, round_trip: u16) {
        if self.order.get(slot).is_some() {
            self.protected.ping(slot, round_trip);
        }
    }

    /// The node has taken a transaction that this client gave.
    pub fn useful_tx(&mut self, slot: u32, now: Instant) {
        if self.order.get(slot).is_some() {
            self.protected.useful_tx(slot, now);
        }
    }

    /// A client has gone, or is a priority client now. False if it was not in.
    pub fn leave(&mut self, slot: u32, capacity: u32) -> bool {
        let was_in = self.order.remove(slot).is_some();
        if was_in {
            self.protected.leave(slot);
            self.own.remove(&slot);
            self.connected = self.connected.saturating_sub(u64::from(capacity));
        }
        was_in
    }

    /// A client that is in has another capacity. False, and nothing changes, if there is no room for more.
    pub fn resize(&mut self, slot: u32, from: u32, to: u32) -> bool {
        if self.order.get(slot).is_none() {
            return true;
        }
        let more = u64::from(to.saturating_sub(from));
        if more > 0 && self.connected.saturating_add(more) > self.grant.amount {
            return false;
        }
        self.connected = (self.connected + more).saturating_sub(u64::from(from.saturating_sub(to)));
        true
    }

    /// Whom a newcomer of this capacity that owes `debt` may replace.
    pub fn victim(&mut self, now: UnixTime, capacity: u32, debt: f64) -> Option<u32> {
        self.renew(now);
        let before = Balance::restore(0, debt.max(0.0), now).unwrap_or_default();
        let later = 0.0 - before.estimate(now, self.bias, capacity, &self.factors).value().min(0.0);
        let newcomer = self.worth(now, u32::MAX, capacity, later);
        self.worst_spared().filter(|(worth, _)| *worth < newcomer).map(|(_, slot)| slot)
    }

    /// Who goes when somebody has to: the worst that is not spared, or the worst of all if all are.
    pub fn worst(&mut self) -> Option<u32> {
        self.worst_spared().or_else(|| self.order.first()).map(|(_, slot)| slot)
    }

    /// What a client owes now; none if it is not in.
    pub fn debt(&self, now: UnixTime, slot: u32, capacity: u32) -> Option<f64> {
        let worth = self.order.get(slot)?;
        Some(0.0 - self.epoch.priority(now, worth, rate(capacity, self.factors(slot))).min(0.0))
    }

    /// Its place in the order, to compare it with others; none if it is not in.
    pub fn worth_of(&self, slot: u32) -> Option<Worth> {
        self.order.get(slot)
    }

    /// The sum of the capacities of those who are in.
    pub fn connected(&self) -> u64 {
        self.connected
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True exactly when nobody is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives memory back that a crowd has left.
    pub fn forget_crowd(&mut self) {
        if self.is_empty() {
            self.order = Heap::default();
        }
    }

    /// The worst that is not spared. Those before it in the order are taken out for a moment; there are at most
    /// [`Protected::MOST`].
    fn worst_spared(&mut self) -> Option<(Worth, u32)> {
        let mut spared = Vec::new();
        let found = loop {
            match self.order.first() {
                Some((worth, slot)) if self.protected.holds(slot) => {
                    self.order.remove(slot);
                    spared.push((worth, slot));
                }
                other => break other,
            }
        };
        spared.into_iter().for_each(|(worth, slot)| self.order.set(slot, worth));
        found
    }

    /// Of a client in this slot; there is none in `u32::MAX`.
    fn worth(&self, now: UnixTime, slot: u32, capacity: u32, debt: f64) -> Worth {
        let balance = Balance::restore(0, debt, now).unwrap_or_default();
        self.epoch.of_free(now, &balance, rate(capacity, self.factors(slot)))
    }

    fn renew(&mut self, now: UnixTime) {
        if let Some(change) = self.epoch.renew(now) {
            self.order.rescale(&change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = 1_800_000_000;
    const BIAS: Duration = Duration::from_secs(180);

    fn house(grant: u64) -> FreeHouse {
        FreeHouse::new(Factors { time: 10.0, capacity: 0.0, request: 1.0 }, BIAS, grant, NOW)
    }

    fn keys(slot: u32) -> Keys {
        Keys { identity: u64::from(slot) + 1, group: u64::from(slot) + 1 }
    }

    /// More than are spared, the later ones owing more, and then those that are looked at.
    fn filled(house: &mut FreeHouse, count: u32) {
        for slot in 0..count {
            house.enter((Instant(u64::from(slot)), NOW), slot, keys(slot), 10, f64::from(slot) * 1_000.0);
        }
    }

    #[test]
    fn a_newcomer_replaces_whoever_owes_more_even_after_the_bias() {
        let mut house = house(1_000);
        filled(&mut house, 100);
        assert!(!house.has_room(10));
        // Slots 96..99 have the highest hash of the group: they are spared.
        assert_eq!(house.victim(NOW, 10, 0.0), Some(95));
        assert_eq!(house.victim(NOW, 10, 93_000.0), Some(95));
        assert_eq!(house.victim(NOW, 10, 94_000.0), None, "within the bias of 180 s at 10 a second");
        assert!(house.leave(95, 10) && house.has_room(10));
        assert_eq!(house.report(), Report { obeys: 0, used: 990, wanted: 0 });
    }

    #[test]
    fn who_is_served_becomes_worse_and_time_forgets() {
        let mut house = house(1_000);
        filled(&mut house, 100);
        house.served(NOW, 50, 1_000_000);
        assert_eq!(house.worst(), Some(50));
        let owed = house.debt(NOW, 50, 10).unwrap();
        assert!((owed - 1_050_000.0).abs() < 1.0, "{owed}");
        let later = house.debt(NOW + 3_600, 50, 10).unwrap();
        assert!((0.36..0.40).contains(&(later / owed)), "an hour is a time constant: {later}");
        house.owes(NOW, 51, 2_000_000.0);
        assert_eq!(house.worst(), Some(51));
    }

    #[test]
    fn capacity_is_counted_exactly_and_more_of_it_needs_room() {
        let mut house = house(100);
        filled(&mut house, 5);
        assert!(house.resize(0, 10, 40) && house.connected() == 80);
        assert!(!house.resize(1, 10, 40) && house.connected() == 80, "no room");
        assert!(house.resize(0, 40, 5) && house.connected() == 45);
        assert!(house.leave(0, 5) && !house.leave(0, 5));
        assert_eq!((house.connected(), house.len()), (40, 4));
        house.obey(Grant { number: 7, amount: 40 });
        assert!(!house.has_room(1));
        house.missed(10);
        assert_eq!(house.report(), Report { obeys: 7, used: 40, wanted: 10 });
        assert_eq!(house.report().wanted, 0);
    }

    #[test]
    fn when_all_are_spared_the_worst_goes_if_it_must() {
        let mut house = house(1_000);
        filled(&mut house, 4);
        assert_eq!((house.victim(NOW, 10, 0.0), house.worst()), (None, Some(3)));
    }
}
