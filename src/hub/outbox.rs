//! What waits for a shard whose queue is full.
//!
//! Transactions (`Txs`, `TxsGone`) and `AskTx` are dropped, and counted, while more than `OUTBOX_SOFT` entries wait: a
//! client that misses one hears of it from the block or from another peer, and an `AskTx` is asked again after its
//! deadline. Everything else is kept, and is bounded by what it is:
//! - `Chain` entries waiting next to each other are merged (the newest picture, at most `BLOCK_LOG` blocks)
//! - `Policy`, `Addresses`, `Tls`, `Bans`, `Known`, `HouseRules` and `FiltersTo` replace the one that waits
//! - `House` replaces the one that waits, and asks to freeze for both; `Slots` replaces the one of the same service, whose numbers stay where the
//!   newer has none: one entry, and one per service
//! - `Rank` has one entry per client that came or is to be something else, of which a shard has no more than it can hold
//! - `Answer` has one entry per question, and a shard that takes no answers asks no more than its clients can have open (one each)
//! - `Ask` has one entry per shard and command, of which the desk has a bounded number under way
//! - `Open` and `Drain` come once

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::mem::discriminant;
use std::sync::Arc;

use crate::base::ServiceId;
use crate::base::limits::{BLOCK_LOG, OUTBOX_SOFT};
use crate::link::{Ask, HouseOrder, HubEnd, SlotGrants, ToShard};

/// The outbox of one shard.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<ToShard>,
    dropped: u64,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True exactly when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Entries dropped because the shard was slow.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds an entry.
    pub fn push(&mut self, mut entry: ToShard) {
        match &mut entry {
            ToShard::Txs(_) | ToShard::TxsGone(_) | ToShard::AskTx(_)
                if self.waiting.len() >= OUTBOX_SOFT =>
            {
                self.dropped += 1;
                return;
            }
            // They count as had since the first of them was: nobody has been told of it yet.
            ToShard::Chain { view, blocks, had } => {
                if let Some(ToShard::Chain { view: old_view, blocks: old, had: old_had }) =
                    self.waiting.back_mut()
                {
                    if old.is_empty() {
                        *old_had = *had;
                    }
                    let skip = (old.len() + blocks.len()).saturating_sub(BLOCK_LOG);
                    *old_view = Arc::clone(view);
                    *old = old.iter().chain(blocks.iter()).skip(skip).cloned().collect::<Vec<_>>().into();
                    return;
                }
            }
            // A lower FiltersTo belongs to the reorganisation behind it and keeps its place.
            ToShard::FiltersTo(to) => {
                if let Some(ToShard::FiltersTo(old)) = self.waiting.back_mut() {
                    *old = *to;
                    return;
                }
            }
            ToShard::House(order) => {
                if let Some(old) = self.take_house() {
                    order.freeze = order.freeze.saturating_add(old.freeze);
                }
            }
            ToShard::Slots(grants) => {
                if let Some(old) = self.take_slots(grants.service) {
                    grants.sessions = grants.sessions.or(old.sessions);
                    grants.probes = grants.probes.or(old.probes);
                }
            }
            ToShard::Ask(_, ask) => {
                // Its number may be given to another service, which does not get what waits for this one.
                if let Ask::Remove(service) = **ask {
                    self.take_slots(service);
                }
            }
            ToShard::Policy(_)
            | ToShard::Addresses { .. }
            | ToShard::Tls(_)
            | ToShard::Bans(_)
            | ToShard::Known(_)
            | ToShard::HouseRules(_) => {
                let kind = discriminant(&entry);
                self.waiting.retain(|old| discriminant(old) != kind);
            }
            _ => {}
        }
        self.waiting.push_back(entry);
    }

    fn take_house(&mut self) -> Option<HouseOrder> {
        let at = self.waiting.iter().position(|entry| matches!(entry, ToShard::House(_)))?;
        match self.waiting.remove(at) {
            Some(ToShard::House(order)) => Some(order),
            _ => None,
        }
    }

    fn take_slots(&mut self, service: ServiceId) -> Option<SlotGrants> {
        let is_of = |entry: &ToShard| matches!(entry, ToShard::Slots(grants) if grants.service == service);
        let at = self.waiting.iter().position(is_of)?;
        match self.waiting.remove(at) {
            Some(ToShard::Slots(grants)) => Some(grants),
            _ => None,
        }
    }

    /// Moves what the queue has room for, and wakes the shard if anything moved. True exactly when nothing waits any more.
    pub fn flush(&mut self, link: &mut HubEnd) -> bool {
        let mut moved = false;
        while let Some(entry) = self.waiting.pop_front() {
            match link.push(entry) {
                Ok(()) => moved = true,
                Err(entry) => {
                    self.waiting.push_front(entry);
                    break;
                }
            }
        }
        if moved {
            link.ring_shard();
        }
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Bans, Grant, PrioritySet};
    use crate::base::ClientId;
    use crate::link::{AskId, HouseRules, Rank, Standing};

    fn grant(number: u32) -> Grant {
        Grant { number, amount: 10 }
    }

    fn slots(service: u8, sessions: Option<u32>, probes: Option<u32>) -> ToShard {
        let (sessions, probes) = (sessions.map(grant), probes.map(grant));
        ToShard::Slots(SlotGrants { service: ServiceId(service), sessions, probes })
    }

    fn grants(outbox: &Outbox) -> Vec<SlotGrants> {
        let slots = outbox.waiting.iter().filter_map(|entry| match entry {
            ToShard::Slots(grants) => Some(*grants),
            _ => None,
        });
        slots.collect()
    }

    #[test]
    fn what_is_whole_replaces_the_one_that_waits() {
        let mut outbox = Outbox::new();
        for _ in 0..3 {
            outbox.push(ToShard::Known(Arc::new(PrioritySet::default())));
            outbox.push(ToShard::HouseRules(Arc::new(HouseRules::open())));
            outbox.push(ToShard::Bans(Arc::new(Bans::default())));
        }
        assert_eq!((outbox.len(), outbox.dropped()), (3, 0));
    }

    #[test]
    fn an_order_of_the_house_is_the_last_and_freezes_for_all() {
        let mut outbox = Outbox::new();
        let order = |number, shed, freeze| ToShard::House(HouseOrder { grant: grant(number), shed, freeze });
        for order in [order(1, false, 5), order(2, false, u64::MAX), order(3, true, 7)] {
            outbox.push(order);
        }
        assert_eq!(outbox.len(), 1);
        let expected = HouseOrder { grant: grant(3), shed: true, freeze: u64::MAX };
        assert!(matches!(outbox.waiting[0], ToShard::House(order) if order == expected));
    }

    #[test]
    fn slots_of_a_service_wait_once_with_the_last_of_each() {
        let mut outbox = Outbox::new();
        outbox.push(slots(0, Some(1), Some(1)));
        outbox.push(slots(1, Some(1), None));
        outbox.push(slots(0, None, Some(2)));
        let told = |service, sessions: Option<u32>, probes: Option<u32>| SlotGrants {
            service: ServiceId(service),
            sessions: sessions.map(grant),
            probes: probes.map(grant),
        };
        assert_eq!(grants(&outbox), [told(1, Some(1), None), told(0, Some(1), Some(2))]);
        // The next service of its number has grants of its own.
        outbox.push(ToShard::Ask(AskId(0), Arc::new(Ask::Remove(ServiceId(0)))));
        outbox.push(slots(0, None, Some(3)));
        assert_eq!(grants(&outbox), [told(1, Some(1), None), told(0, None, Some(3))]);
    }

    #[test]
    fn ranks_are_all_kept() {
        let mut outbox = Outbox::new();
        let most = OUTBOX_SOFT as u32 + 10;
        for slot in 0..most {
            let client = ClientId { slot, generation: 0 };
            let none = crate::base::Tags::default();
            let rank = Rank { client, standing: Standing::Out, pays: false, tags: none, untag: none };
            outbox.push(ToShard::Rank(rank));
        }
        assert_eq!((outbox.len(), outbox.dropped()), (most as usize, 0));
        outbox.push(ToShard::Txs(Arc::new([])));
        assert_eq!((outbox.len(), outbox.dropped()), (most as usize, 1));
    }
}
