//! The shard's clients by slot and generation.
//!
//! Our own table instead of `slotmap` (which serves the hub): a sweep over a million clients is spread over many turns, so
//! it must resume at a slot number while clients come and go, which slotmap's iterators cannot do.
//! A slot is reused lowest-last-freed first, so that the table stays dense and a sweep short.

use crate::base::ClientId;
use crate::base::limits::CROWD;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values addressed by [`ClientId`].
#[derive(Debug)]
pub struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    most: u32,
    /// Generation of slots that are made anew: above every one that was ever given before the table was emptied.
    first: u32,
    /// Highest generation given so far.
    highest: u32,
}

impl<T> Table<T> {
    /// An empty table for at most `most` values (below [`ClientId::MAX_SLOTS`]). Takes memory as it fills.
    pub fn new(most: u32) -> Table<T> {
        let most = most.min(ClientId::MAX_SLOTS - 1);
        // Reserved, not touched: growing by doubling would need three times the memory for a moment.
        Table { slots: Vec::with_capacity(most as usize), free: Vec::new(), most, first: 1, highest: 1 }
    }

    /// Bytes per value in the slots.
    pub const SLOT_BYTES: usize = size_of::<Slot<T>>();

    /// Number of values.
    pub fn len(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }

    /// True exactly when there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots still free.
    pub fn room(&self) -> u32 {
        self.most - self.len()
    }

    /// One past the highest slot ever used: the end of a sweep.
    pub fn end(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Puts a value in; `None` when the table is full.
    pub fn insert(&mut self, value: T) -> Option<ClientId> {
        if let Some(slot) = self.free.pop() {
            let entry = self.slots.get_mut(slot as usize)?;
            entry.value = Some(value);
            return Some(ClientId { slot, generation: entry.generation });
        }
        let slot = self.end();
        if slot >= self.most {
            return None;
        }
        self.slots.push(Slot { generation: self.first, value: Some(value) });
        Some(ClientId { slot, generation: self.first })
    }

    /// Gives the memory of an empty table back when a crowd was in it; ids stay invalid for ever. False when nothing was given.
    pub fn give_back(&mut self) -> bool {
        if !self.is_empty() || self.slots.len() <= CROWD {
            return false;
        }
        self.first = self.highest.wrapping_add(1);
        self.slots = Vec::with_capacity(self.most as usize);
        self.free = Vec::new();
        true
    }

    /// Takes a value out; its id is never valid again.
    pub fn remove(&mut self, id: ClientId) -> Option<T> {
        let entry = self.slots.get_mut(id.slot as usize).filter(|s| s.generation == id.generation)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.highest = self.highest.max(entry.generation);
        self.free.push(id.slot);
        Some(value)
    }

    /// The value of an id that is still valid.
    pub fn get_mut(&mut self, id: ClientId) -> Option<&mut T> {
        self.slots.get_mut(id.slot as usize).filter(|s| s.generation == id.generation)?.value.as_mut()
    }

    /// The value in a slot, with its id, for sweeps.
    pub fn at(&mut self, slot: u32) -> Option<(ClientId, &mut T)> {
        let entry = self.slots.get_mut(slot as usize)?;
        let id = ClientId { slot, generation: entry.generation };
        entry.value.as_mut().map(|value| (id, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_finds_nothing() {
        let mut table = Table::new(2);
        let a = table.insert('a').unwrap();
        assert_eq!(table.remove(a), Some('a'));
        let b = table.insert('b').unwrap();
        assert_eq!(a.slot, b.slot);
        assert_eq!(table.get_mut(a), None);
        assert_eq!(table.remove(a), None);
        assert_eq!(table.get_mut(b), Some(&mut 'b'));
    }

    #[test]
    fn an_emptied_table_gives_its_memory_back_and_knows_no_old_id() {
        let mut table = Table::new(2 * CROWD as u32);
        let few: Vec<_> = (0..CROWD).map(|n| table.insert(n).unwrap()).collect();
        few.iter().for_each(|id| assert!(table.remove(*id).is_some()));
        assert!(!table.give_back(), "no crowd: kept for the next few");
        let ids: Vec<_> = (0..=CROWD).map(|n| table.insert(n).unwrap()).collect();
        assert!(!table.give_back(), "clients are there");
        ids.iter().for_each(|id| assert!(table.remove(*id).is_some()));
        assert!(table.give_back() && !table.give_back());
        let new = table.insert(9).unwrap();
        assert_eq!((new.slot, table.end()), (0, 1));
        ids.iter().for_each(|id| assert_eq!(table.get_mut(*id), None));
        assert_eq!(table.get_mut(new), Some(&mut 9));
    }

    #[test]
    fn a_full_table_refuses_and_recovers() {
        let mut table = Table::new(2);
        let a = table.insert(1).unwrap();
        table.insert(2).unwrap();
        assert_eq!((table.room(), table.insert(3)), (0, None));
        table.remove(a);
        assert!(table.insert(4).is_some());
        assert_eq!((table.len(), table.end()), (2, 2));
    }
}
