//! A binary heap over small numbers (seats, slots) that knows where each is: the least key at the top, a key changed or taken
//! out in O(log n). 16 bytes for each number with a key of 8, and 4 for each number below the highest.

/// Of a number that is not in the heap.
const NOWHERE: u32 = u32::MAX;

/// Numbers by key.
#[derive(Clone, Debug)]
pub struct Heap<K> {
    entries: Vec<(K, u32)>,
    /// By number, where it is in `entries`.
    places: Vec<u32>,
}

impl<K> Default for Heap<K> {
    fn default() -> Heap<K> {
        Heap { entries: Vec::new(), places: Vec::new() }
    }
}

impl<K: Ord + Copy> Heap<K> {
    /// Puts a number in, or gives it another key. Numbers are dense and below `u32::MAX`.
    pub fn set(&mut self, number: u32, key: K) {
        if self.places.len() <= number as usize {
            self.places.resize(number as usize + 1, NOWHERE);
        }
        let at = match self.places[number as usize] {
            NOWHERE => {
                self.entries.push((key, number));
                self.entries.len() - 1
            }
            at => {
                self.entries[at as usize].0 = key;
                at as usize
            }
        };
        self.settle(at);
    }

    /// Takes a number out, with its key.
    pub fn remove(&mut self, number: u32) -> Option<K> {
        let at = self.places.get(number as usize).copied().filter(|at| *at != NOWHERE)? as usize;
        let (key, _) = self.entries.swap_remove(at);
        self.places[number as usize] = NOWHERE;
        if at < self.entries.len() {
            self.settle(at);
        }
        Some(key)
    }

    /// The number with the least key.
    pub fn first(&self) -> Option<(K, u32)> {
        self.entries.first().copied()
    }

    /// The key of a number.
    pub fn get(&self, number: u32) -> Option<K> {
        let at = *self.places.get(number as usize)?;
        self.entries.get(at as usize).map(|(key, _)| *key)
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Changes all keys by a function that keeps their order.
    pub fn rescale(&mut self, change: impl Fn(K) -> K) {
        self.entries.iter_mut().for_each(|(key, _)| *key = change(*key));
    }

    /// Moves the entry to where it belongs.
    fn settle(&mut self, mut at: usize) {
        while at > 0 && self.entries[at].0 < self.entries[(at - 1) / 2].0 {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        loop {
            let least = [2 * at + 1, 2 * at + 2]
                .into_iter()
                .filter(|child| *child < self.entries.len())
                .min_by_key(|child| self.entries[*child].0);
            match least {
                Some(child) if self.entries[child].0 < self.entries[at].0 => {
                    self.swap(at, child);
                    at = child;
                }
                _ => break,
            }
        }
        self.places[self.entries[at].1 as usize] = at as u32;
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.entries.swap(a, b);
        self.places[self.entries[a].1 as usize] = a as u32;
        self.places[self.entries[b].1 as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_list(steps in prop::collection::vec((0_u32..40, 0_u32..1_000, 0_u8..4), 0..400)) {
            let (mut heap, mut list) = (Heap::default(), BTreeMap::new());
            for (number, key, what) in steps {
                match what {
                    0 => prop_assert_eq!(heap.remove(number), list.remove(&number)),
                    1 => heap.rescale(|key| key),
                    _ => {
                        heap.set(number, key);
                        list.insert(number, key);
                    }
                }
                prop_assert_eq!(heap.len(), list.len());
                prop_assert_eq!(heap.first().map(|(key, _)| key), list.values().min().copied());
                prop_assert_eq!(heap.get(number), list.get(&number).copied());
                prop_assert!(heap.first().is_none_or(|(key, number)| list[&number] == key));
            }
        }
    }
}
