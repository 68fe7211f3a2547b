//! The timer wheel: every client has exactly one entry, 8 bytes.
//!
//! An entry that fires is only a question, "is anything due?"; the client knows its deadlines, the answer says when to ask
//! again. So a deadline that moves costs nothing. Granularity is one second, the longest step `SLOTS` - 1 seconds.

use crate::base::ClientId;

/// Seconds the wheel spans.
pub const SLOTS: u32 = 128;
/// Emptied seconds whose memory is kept: one is emptied while another begins.
const SPARE: usize = 4;

/// Entries by the second they are due.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<ClientId>>,
    /// The memory of seconds that are through, for those that begin: with a step of 30 s only some 30 of the 128 hold
    /// entries, and only those keep memory.
    spare: Vec<Vec<ClientId>>,
    /// The next second not yet taken.
    next: u32,
}

impl Wheel {
    /// An empty wheel that starts at `now`, in seconds.
    pub fn new(now: u32) -> Wheel {
        Wheel { slots: (0..SLOTS).map(|_| Vec::new()).collect(), spare: Vec::new(), next: now }
    }

    /// Asks for `id` again at `due` seconds; nearer than the next second and farther than the span are clamped.
    pub fn add(&mut self, id: ClientId, due: u32) {
        let due = due.clamp(self.next, self.next + SLOTS - 1);
        let slot = &mut self.slots[(due % SLOTS) as usize];
        if slot.capacity() == 0 {
            *slot = self.spare.pop().unwrap_or_default();
        }
        slot.push(id);
    }

    /// Takes up to `most` entries due by `now` (seconds) into `fired`; true when more are due.
    pub fn take(&mut self, now: u32, most: usize, fired: &mut Vec<ClientId>) -> bool {
        while self.next <= now {
            let slot = &mut self.slots[(self.next % SLOTS) as usize];
            while let Some(id) = slot.pop() {
                fired.push(id);
                if fired.len() >= most {
                    return true;
                }
            }
            // A second with many entries keeps its memory for the next round only if it is modest.
            slot.shrink_to(1024);
            if slot.capacity() > 0 && self.spare.len() < SPARE {
                self.spare.push(std::mem::take(slot));
            } else {
                *slot = Vec::new();
            }
            self.next += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> ClientId {
        ClientId { slot, generation: 1 }
    }

    #[test]
    fn entries_fire_in_their_second_and_never_before() {
        let mut wheel = Wheel::new(10);
        wheel.add(id(1), 12);
        wheel.add(id(2), 11);
        wheel.add(id(3), 10_000);
        let mut fired = Vec::new();
        assert!(!wheel.take(11, 100, &mut fired));
        assert_eq!(fired, [id(2)]);
        assert!(!wheel.take(12, 100, &mut fired));
        assert_eq!(fired, [id(2), id(1)]);
        assert!(!wheel.take(10 + SLOTS, 100, &mut fired));
        assert_eq!(fired.len(), 3, "farther than the span fires at its end, to be asked again");
    }

    #[test]
    fn only_seconds_with_entries_keep_memory() {
        let mut wheel = Wheel::new(0);
        (0..900).for_each(|n| wheel.add(id(n), n % 30));
        let mut fired = Vec::new();
        for now in 0..1_000 {
            wheel.take(now, 10_000, &mut fired);
            fired.drain(..).for_each(|id| wheel.add(id, now + 30));
        }
        let kept = wheel.slots.iter().filter(|slot| slot.capacity() > 0).count();
        assert_eq!(kept, 30);
        assert!(wheel.spare.len() <= SPARE);
    }

    #[test]
    fn a_crowded_second_is_taken_in_portions() {
        let mut wheel = Wheel::new(0);
        (0..10).for_each(|n| wheel.add(id(n), 0));
        let mut fired = Vec::new();
        assert!(wheel.take(5, 4, &mut fired));
        assert!(wheel.take(5, 8, &mut fired));
        assert!(!wheel.take(5, 100, &mut fired));
        assert_eq!(fired.len(), 10);
    }
}
