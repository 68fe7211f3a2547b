//! The best few of many by a score that only rises, without a list of all: those that follow in line are known, too, 4 times as
//! many.

/// How many are known for each one that counts.
const DEPTH: usize = 4;

/// The best `N`.
#[derive(Clone, Debug, Default)]
pub struct Top<const N: usize> {
    /// Score and slot, the best first.
    best: Vec<(u64, u32)>,
}

impl<const N: usize> Top<N> {
    /// A slot has this score, more is better; a lower one than it had before changes nothing.
    pub fn offer(&mut self, slot: u32, score: u64) {
        if let Some(at) = self.best.iter().position(|(_, other)| *other == slot) {
            if self.best[at].0 >= score {
                return;
            }
            self.best.remove(at);
        }
        let at = self.best.partition_point(|(other, _)| *other >= score);
        if at < N * DEPTH {
            self.best.insert(at, (score, slot));
            self.best.truncate(N * DEPTH);
        }
    }

    /// A slot is empty now.
    pub fn forget(&mut self, slot: u32) {
        self.best.retain(|(_, other)| *other != slot);
    }

    /// True exactly when the slot is one of the best `N`.
    pub fn holds(&self, slot: u32) -> bool {
        self.best.iter().take(N).any(|(_, other)| *other == slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_held_and_the_next_in_line_follow() {
        let mut top = Top::<2>::default();
        for slot in 0..100 {
            top.offer(slot, u64::from(slot % 50));
        }
        let held = |top: &Top<2>| (0..100).filter(|slot| top.holds(*slot)).collect::<Vec<u32>>();
        assert_eq!((held(&top), top.best.len()), (vec![49, 99], 8));
        top.forget(99);
        assert_eq!(held(&top), [48, 49]);
        top.offer(48, 3);
        assert_eq!(held(&top), [48, 49], "a score does not fall");
        top.offer(7, 1_000);
        assert_eq!(held(&top), [7, 49]);
    }
}
