//! Who is in, with what capacity, and who goes when there is no room. The hub's side.
//!
//! The sum of capacities is kept within the total that `capacity` says. Priority clients (capacity assigned, positive balance)
//! take the place of free ones, the worst first, and of priority clients of lower priority; a free newcomer gets in if there is
//! room, or takes the place of the worst free client if it is still better after `bias` of use. Nobody is replaced by an equal,
//! so nobody flaps.
//!
//! A decision is O(log n) for each client that goes. About 50 bytes a client. The accounts are in `ledger`; here is what
//! follows from them.

use std::time::Duration;

use super::balance::{Balance, Factors};
use super::heap::Heap;
use super::worth::{Epoch, Worth, rate};
use crate::base::{Class, ClientRef, UnixTime};

/// The default of `connectedBias` (capacity.md).
pub const CONNECTED_BIAS: Duration = Duration::from_secs(180);

/// A client's place in the house.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Seat {
    number: u32,
    /// Counts those who have had it.
    generation: u32,
}

/// Who wants to come in.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The client.
    pub client: ClientRef,
    /// The capacity assigned to it, raised to the minimum; 0 for none.
    pub capacity: u32,
    /// Its account.
    pub balance: &'a Balance,
    /// Its prices.
    pub factors: &'a Factors,
}

/// Somebody in the house.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sitter {
    /// Its seat.
    pub seat: Seat,
    /// The client.
    pub client: ClientRef,
    /// Free or priority.
    pub class: Class,
    /// Its capacity, units per second.
    pub capacity: u32,
}

/// No room, and nobody who has to give way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HouseFull;

/// Of one seat.
#[derive(Clone, Copy, Debug)]
struct Place {
    client: ClientRef,
    generation: u32,
    capacity: u32,
    rate: f32,
    /// True exactly while it may not recharge.
    is_frozen: bool,
}

const _: () = assert!(size_of::<Place>() == 28);

/// Those who are in.
#[derive(Clone, Debug)]
pub struct House {
    minimum: u32,
    bias: Duration,
    epoch: Epoch,
    places: Vec<Place>,
    vacant: Vec<u32>,
    /// All who are in, the first to go at the top.
    order: Heap<Worth>,
    /// Those recharging and not frozen, in the same order.
    recharging: Heap<Worth>,
    connected: u64,
    priority_connected: u64,
    recharge: u64,
}

impl House {
    /// An empty house: free clients get `minimum` units per second.
    pub fn new(minimum: u32, bias: Duration, now: UnixTime) -> House {
        House {
            minimum: minimum.max(1),
            bias,
            epoch: Epoch::new(now),
            places: Vec::new(),
            vacant: Vec::new(),
            order: Heap::default(),
            recharging: Heap::default(),
            connected: 0,
            priority_connected: 0,
            recharge: 0,
        }
    }

    /// Sets what later free clients get, and the bias of later decisions.
    pub fn set_defaults(&mut self, minimum: u32, bias: Duration) {
        (self.minimum, self.bias) = (minimum.max(1), bias);
    }

    /// Lets a client in, or not. With it come those who had to give way; their seats are empty already.
    pub fn admit(
        &mut self,
        now: UnixTime,
        total: u64,
        newcomer: Newcomer<'_>,
    ) -> Result<(Sitter, Vec<Sitter>), HouseFull> {
        self.renew(now);
        let Newcomer { client, capacity, balance, factors } = newcomer;
        let (class, capacity) = self.rank(capacity, balance);
        let price = rate(capacity, factors);
        let later = balance.estimate(now, self.bias, capacity, factors);
        let (worth, total) = match class {
            Class::Priority => (Epoch::of_priority(later.max(Default::default())), total),
            // It takes one place at the most, also while there are more than the total has room for.
            _ => {
                let later = Balance::restore(0, 0.0 - later.value().min(0.0), now).unwrap_or_default();
                (self.epoch.of_free(now, &later, price), total.max(self.connected))
            }
        };
        let gone = self.make_room(total, capacity, worth)?;
        let number = self.vacant.pop().unwrap_or(self.places.len() as u32);
        let generation = self.places.get(number as usize).map_or(0, |place| place.generation.wrapping_add(1));
        let place = Place { client, generation, capacity, rate: price, is_frozen: false };
        match self.places.get_mut(number as usize) {
            Some(vacant) => *vacant = place,
            None => self.places.push(place),
        }
        self.put(number, self.worth(now, class, capacity, balance, price));
        Ok((self.sitter(number, class), gone))
    }

    /// A client has left by itself. False if it is not in any more.
    pub fn leave(&mut self, seat: Seat) -> bool {
        let is_in = self.find(seat).is_some();
        if is_in {
            self.vacate(seat.number);
        }
        is_in
    }

    /// Its balance has changed: says what it is now. A priority client without a positive balance becomes free, with the
    /// minimum.
    pub fn update(
        &mut self,
        now: UnixTime,
        seat: Seat,
        balance: &Balance,
        factors: &Factors,
    ) -> Option<Sitter> {
        self.renew(now);
        let (_, before) = self.find(seat)?;
        let had = self.places[seat.number as usize].capacity;
        let (class, capacity) = match before.is_priority() && balance.is_positive() {
            true => (Class::Priority, had),
            // Never more than it had: there may be no room for it.
            false => (Class::Free, self.minimum.min(had)),
        };
        self.replace(now, seat.number, class, capacity, balance, factors);
        Some(self.sitter(seat.number, class))
    }

    /// Assigns a capacity, 0 for none. More is given if there is room or others give way, as to a newcomer; otherwise nothing
    /// changes.
    pub fn assign(
        &mut self,
        now: UnixTime,
        total: u64,
        seat: Seat,
        newcomer: Newcomer<'_>,
    ) -> Result<(Sitter, Vec<Sitter>), HouseFull> {
        self.renew(now);
        let Newcomer { capacity, balance, factors, .. } = newcomer;
        let (_, before) = self.find(seat).ok_or(HouseFull)?;
        let (class, capacity) = self.rank(capacity, balance);
        let worth = self.worth(now, class, capacity, balance, rate(capacity, factors));
        let had = self.places[seat.number as usize].capacity;
        let is_recharging = self.recharging.get(seat.number).is_some();
        self.take(seat.number);
        let total = if capacity <= had { total.max(self.connected + u64::from(had)) } else { total };
        let room = self.make_room(total, capacity, worth);
        self.put(seat.number, before);
        self.set_recharging(seat, is_recharging);
        let gone = room?;
        self.replace(now, seat.number, class, capacity, balance, factors);
        Ok((self.sitter(seat.number, class), gone))
    }

    /// Those who have to go because the total is lower now, in the order of kicking, at most `most`; their seats are empty
    /// then.
    pub fn shrink(&mut self, total: u64, most: usize) -> Vec<Sitter> {
        let mut gone = Vec::new();
        while self.connected > total && gone.len() < most {
            let Some((worth, number)) = self.order.first() else { break };
            gone.push(self.sitter(number, class_of(worth)));
            self.vacate(number);
        }
        gone
    }

    /// A client has begun or ended to use its capacity (`Flow::is_recharging`, over some time).
    pub fn set_recharging(&mut self, seat: Seat, is_recharging: bool) {
        let Some((place, worth)) = self.find(seat) else { return };
        let (is_frozen, capacity) = (place.is_frozen, u64::from(place.capacity));
        match (self.recharging.get(seat.number).is_some(), is_recharging && !is_frozen) {
            (false, true) => {
                self.recharging.set(seat.number, worth);
                self.recharge += capacity;
            }
            (true, false) => {
                self.recharging.remove(seat.number);
                self.recharge = self.recharge.saturating_sub(capacity);
            }
            _ => {}
        }
    }

    /// Freezes clients that are recharging, the worst free ones first, priority clients last, until their capacities come to
    /// `need`. They do not recharge, and are to be paused, until [`House::thaw`].
    pub fn freeze(&mut self, need: u64) -> Vec<Sitter> {
        let (mut frozen, mut sum) = (Vec::new(), 0);
        while sum < need {
            let Some((worth, number)) = self.recharging.first() else { break };
            let sitter = self.sitter(number, class_of(worth));
            self.set_recharging(sitter.seat, false);
            self.places[number as usize].is_frozen = true;
            sum += u64::from(sitter.capacity);
            frozen.push(sitter);
        }
        frozen
    }

    /// A frozen client may recharge again.
    pub fn thaw(&mut self, seat: Seat) {
        if self.find(seat).is_some() {
            self.places[seat.number as usize].is_frozen = false;
        }
    }

    /// The sum of capacities, units per second.
    pub fn connected(&self) -> u64 {
        self.connected
    }

    /// The same of priority clients.
    pub fn priority_connected(&self) -> u64 {
        self.priority_connected
    }

    /// The same of those recharging and not frozen.
    pub fn recharging(&self) -> u64 {
        self.recharge
    }

    /// A client's priority now: above zero of a priority client, minus its negative balance of a free one.
    pub fn priority(&self, now: UnixTime, seat: Seat) -> Option<f64> {
        let (place, worth) = self.find(seat)?;
        Some(self.epoch.priority(now, worth, place.rate))
    }

    /// A client's capacity, units per second; none if it is not in.
    pub fn capacity(&self, seat: Seat) -> Option<u32> {
        self.find(seat).map(|(place, _)| place.capacity)
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True exactly when nobody is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A client's class and capacity.
    fn rank(&self, capacity: u32, balance: &Balance) -> (Class, u32) {
        match capacity > 0 && balance.is_positive() {
            true => (Class::Priority, capacity.max(self.minimum)),
            false => (Class::Free, self.minimum),
        }
    }

    fn worth(&self, now: UnixTime, class: Class, capacity: u32, balance: &Balance, rate: f32) -> Worth {
        match class {
            Class::Priority => Epoch::of_priority(balance.priority(now, capacity)),
            _ => self.epoch.of_free(now, balance, rate),
        }
    }

    /// Empties seats until `capacity` fits, of those worth less than `worth`; nothing happens if that is not enough.
    fn make_room(&mut self, total: u64, capacity: u32, worth: Worth) -> Result<Vec<Sitter>, HouseFull> {
        let (mut out, mut left) = (Vec::new(), self.connected);
        while left + u64::from(capacity) > total {
            match self.order.first() {
                Some((other, number)) if other < worth => {
                    self.order.remove(number);
                    left -= u64::from(self.places[number as usize].capacity);
                    out.push((other, number));
                }
                _ => {
                    out.into_iter().for_each(|(worth, number)| self.order.set(number, worth));
                    return Err(HouseFull);
                }
            }
        }
        let leave = |(worth, number)| {
            let sitter = self.sitter(number, class_of(worth));
            self.order.set(number, worth);
            self.vacate(number);
            sitter
        };
        Ok(out.into_iter().map(leave).collect())
    }

    /// Seats somebody, or seats him anew after [`House::take`].
    fn put(&mut self, number: u32, worth: Worth) {
        let capacity = u64::from(self.places[number as usize].capacity);
        self.order.set(number, worth);
        self.connected += capacity;
        if worth.is_priority() {
            self.priority_connected += capacity;
        }
    }

    fn take(&mut self, number: u32) {
        let capacity = u64::from(self.places[number as usize].capacity);
        if self.recharging.remove(number).is_some() {
            self.recharge = self.recharge.saturating_sub(capacity);
        }
        let Some(worth) = self.order.remove(number) else { return };
        self.connected = self.connected.saturating_sub(capacity);
        if worth.is_priority() {
            self.priority_connected = self.priority_connected.saturating_sub(capacity);
        }
    }

    fn replace(
        &mut self,
        now: UnixTime,
        number: u32,
        class: Class,
        capacity: u32,
        balance: &Balance,
        factors: &Factors,
    ) {
        let is_recharging = self.recharging.get(number).is_some();
        self.take(number);
        let rate = rate(capacity, factors);
        let worth = self.worth(now, class, capacity, balance, rate);
        let place = &mut self.places[number as usize];
        (place.capacity, place.rate) = (capacity, rate);
        let seat = Seat { number, generation: place.generation };
        self.put(number, worth);
        self.set_recharging(seat, is_recharging);
    }

    fn vacate(&mut self, number: u32) {
        self.take(number);
        self.vacant.push(number);
    }

    fn find(&self, seat: Seat) -> Option<(&Place, Worth)> {
        let place = self.places.get(seat.number as usize).filter(|p| p.generation == seat.generation)?;
        Some((place, self.order.get(seat.number)?))
    }

    fn sitter(&self, number: u32, class: Class) -> Sitter {
        let Place { client, generation, capacity, .. } = self.places[number as usize];
        Sitter { seat: Seat { number, generation }, client, class, capacity }
    }

    fn renew(&mut self, now: UnixTime) {
        if let Some(change) = self.epoch.renew(now) {
            self.order.rescale(&change);
            self.recharging.rescale(&change);
        }
    }
}

fn class_of(worth: Worth) -> Class {
    if worth.is_priority() { Class::Priority } else { Class::Free }
}

#[cfg(test)]
mod tests;
