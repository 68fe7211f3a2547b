//! The free clients of a shard that have a session: in the order in which they go when there is no room. A shard's side.
//!
//! The hub hands each shard a part of the total capacity (`share`). A newcomer gets in while that lasts, or takes the place of the worst
//! that may be replaced: its negative balance must be larger than the newcomer's after `bias` of use, so nobody replaces an equal and
//! nobody flaps; those who are good at something are spared (`protect`). When the hub says that the total has fallen, or that
//! priority clients need the room, the worst go, spared ones last.
//!
//! Debts of free clients grow with time at the price of a client that has the common capacity and prices, so that millions of them need no update
//! to stay in order; who has other prices, or another capacity, is charged the difference when it is looked at.
//!
//! A decision, a request served, a client that leaves: O(log n). 20 bytes for each client that is in, and as much again while the lists grow.

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
    /// What a client of the common capacity pays for a second.
    rate: f32,
    /// The common capacity.
    capacity: u32,
    /// Of those who have prices or a capacity of their own, by slot.
    own: HashMap<u32, Own>,
    bias: Duration,
    epoch: Epoch,
    order: Heap<Worth>,
    protected: Protected,
    grant: Grant,
    connected: u64,
    wanted: u64,
}

/// What differs.
#[derive(Clone, Copy, Debug)]
struct Own {
    factors: Factors,
    rate: f32,
    /// The difference is charged until then.
    charged: UnixTime,
}

impl FreeHouse {
    /// Nobody is in; `capacity`: the common one; `grant`: the part before the hub has said anything.
    pub fn new(factors: Factors, bias: Duration, capacity: u32, grant: u64, now: UnixTime) -> FreeHouse {
        FreeHouse {
            factors,
            rate: rate(capacity, &factors),
            capacity,
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

    /// Prices and bias from now on. What is owed already is owed.
    pub fn set_defaults(&mut self, now: UnixTime, factors: Factors, bias: Duration) {
        self.renew(now);
        for slot in self.own.keys().copied().collect::<Vec<_>>() {
            self.charge_difference(now, slot);
        }
        let before = std::mem::replace(&mut self.rate, rate(self.capacity, &factors));
        (self.factors, self.bias) = (factors, bias);
        let (epoch, after) = (self.epoch, self.rate);
        self.order.rescale(|worth| epoch.at_rate(now, worth, before, after));
    }

    /// The prices of a client.
    pub fn factors(&self, slot: u32) -> &Factors {
        self.own.get(&slot).map_or(&self.factors, |own| &own.factors)
    }

    /// A client that is in has prices of its own from now on.
    pub fn set_factors(&mut self, now: UnixTime, slot: u32, capacity: u32, factors: Factors) {
        if self.order.get(slot).is_some() {
            self.charge_difference(now, slot);
            self.own.insert(slot, Own { factors, rate: rate(capacity, &factors), charged: now });
        }
    }

    /// What its time has cost more than everybody's since it was looked at; below zero if less.
    fn difference(&self, now: UnixTime, slot: u32) -> f64 {
        self.own
            .get(&slot)
            .map_or(0.0, |own| f64::from(own.rate - self.rate) * now.saturating_sub(own.charged) as f64)
    }

    fn charge_difference(&mut self, now: UnixTime, slot: u32) {
        let difference = self.difference(now, slot);
        if let Some((own, worth)) = self.own.get_mut(&slot).zip(self.order.get(slot)) {
            own.charged = now;
            self.order.set(slot, self.epoch.spent(now, worth, difference));
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
        self.order.set(slot, self.worth(now.1, debt));
        if capacity != self.capacity {
            let (factors, rate) = (self.factors, rate(capacity, &self.factors));
            self.own.insert(slot, Own { factors, rate, charged: now.1 });
        }
        self.protected.enter(slot, keys, now.0);
        self.connected = self.connected.saturating_add(u64::from(capacity));
    }

    /// A client that is in owes so much more.
    pub fn owes(&mut self, now: UnixTime, slot: u32, debt: f64) {
        self.renew(now);
        self.charge_difference(now, slot);
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
    pub fn resize(&mut self, now: UnixTime, slot: u32, from: u32, to: u32) -> bool {
        if self.order.get(slot).is_none() {
            return true;
        }
        let more = u64::from(to.saturating_sub(from));
        if more > 0 && self.connected.saturating_add(more) > self.grant.amount {
            return false;
        }
        self.connected = (self.connected + more).saturating_sub(u64::from(from.saturating_sub(to)));
        let factors = *self.factors(slot);
        self.set_factors(now, slot, to, factors);
        true
    }

    /// Whom a newcomer of this capacity that owes `debt` may replace.
    pub fn victim(&mut self, now: UnixTime, capacity: u32, debt: f64) -> Option<u32> {
        self.renew(now);
        let before = Balance::restore(0, debt.max(0.0), now).unwrap_or_default();
        let later = 0.0 - before.estimate(now, self.bias, capacity, &self.factors).value().min(0.0);
        let newcomer = self.worth(now, later);
        self.worst_spared().filter(|(worth, _)| *worth < newcomer).map(|(_, slot)| slot)
    }

    /// Who goes when somebody has to: the worst that is not spared, or the worst of all if all are.
    pub fn worst(&mut self) -> Option<u32> {
        self.worst_spared().or_else(|| self.order.first()).map(|(_, slot)| slot)
    }

    /// What a client owes now; none if it is not in.
    pub fn debt(&self, now: UnixTime, slot: u32) -> Option<f64> {
        let worth = self.order.get(slot)?;
        let owes = 0.0 - self.epoch.priority(now, worth, self.rate) + self.difference(now, slot);
        Some(owes.max(0.0))
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

    fn worth(&self, now: UnixTime, debt: f64) -> Worth {
        let balance = Balance::restore(0, debt, now).unwrap_or_default();
        self.epoch.of_free(now, &balance, self.rate)
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
        FreeHouse::new(Factors { time: 10.0, capacity: 0.0, request: 1.0 }, BIAS, 10, grant, NOW)
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
        let owed = house.debt(NOW, 50).unwrap();
        assert!((owed - 1_050_000.0).abs() < 1.0, "{owed}");
        let later = house.debt(NOW + 3_600, 50).unwrap();
        assert!((0.36..0.40).contains(&(later / owed)), "an hour is a time constant: {later}");
        house.owes(NOW, 51, 2_000_000.0);
        assert_eq!(house.worst(), Some(51));
    }

    #[test]
    fn capacity_is_counted_exactly_and_more_of_it_needs_room() {
        let mut house = house(100);
        filled(&mut house, 5);
        assert!(house.resize(NOW, 0, 10, 40) && house.connected() == 80);
        assert!(!house.resize(NOW, 1, 10, 40) && house.connected() == 80, "no room");
        assert!(house.resize(NOW, 0, 40, 5) && house.connected() == 45);
        assert!(house.leave(0, 5) && !house.leave(0, 5));
        assert_eq!((house.connected(), house.len()), (40, 4));
        house.obey(Grant { number: 7, amount: 40 });
        assert!(!house.has_room(1));
        house.missed(10);
        assert_eq!(house.report(), Report { obeys: 7, used: 40, wanted: 10 });
        assert_eq!(house.report().wanted, 0);
    }

    #[test]
    fn other_prices_count_from_when_they_are_set_and_turn_nobody_upside_down() {
        let mut house = house(2_000);
        filled(&mut house, 100);
        // The best of those that are not spared pays nothing from now on: it stays the best.
        let free = Factors { time: 0.0, capacity: 0.0, request: 0.0 };
        house.set_factors(NOW, 20, 10, free);
        assert_eq!(house.worst(), Some(95));
        // And one that pays a hundred times as much becomes the worst with time, when it is looked at.
        house.set_factors(NOW, 21, 10, Factors { time: 1_000.0, capacity: 0.0, request: 1.0 });
        assert_eq!(house.worst(), Some(95));
        assert!(house.debt(NOW + 600, 21) > house.debt(NOW + 600, 95));
        house.served(NOW + 600, 21, 1);
        assert_eq!(house.worst(), Some(21));
        // Lower prices for all: who came before is not better than who comes now for that.
        let before: Vec<_> = (0..100).map(|slot| house.debt(NOW + 600, slot).unwrap()).collect();
        house.set_defaults(NOW + 600, Factors { time: 0.1, capacity: 0.0, request: 1.0 }, BIAS);
        for (slot, before) in before.iter().enumerate() {
            let after = house.debt(NOW + 600, slot as u32).unwrap();
            assert!((after - before).abs() < 1.0, "{slot}: {before} and {after}");
        }
        assert_eq!(house.victim(NOW + 600, 10, 0.0), Some(21));
        house.leave(21, 10);
        assert_eq!(house.victim(NOW + 600, 10, 0.0), Some(95));
    }

    #[test]
    fn when_all_are_spared_the_worst_goes_if_it_must() {
        let mut house = house(1_000);
        filled(&mut house, 4);
        assert_eq!((house.victim(NOW, 10, 0.0), house.worst()), (None, Some(3)));
    }
}
