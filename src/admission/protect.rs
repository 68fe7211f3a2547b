//! Who is spared when a free client has to go, though its balance is the worst. A shard's side.
//!
//! As Bitcoin Core's eviction (src/node/eviction.cpp, SelectNodeToEvict): an attacker can come with many clients, but hardly be better than
//! all honest ones at everything at once. So those are spared who are best at something that is hard to forge:
//!
//! | what | how many | Core |
//! |---|---|---|
//! | network group, by a keyed hash that the attacker does not know | 4 | `keyed_net_group`, 4 |
//! | lowest round trip | 8 | `m_min_ping_time`, 8 |
//! | last gave a transaction that the node took | 4 | `m_last_tx_time`, 4 |
//! | connected longest | 16 | half of those left |
//!
//! Clients give us no blocks, so Core's `m_last_block_time` has no place here. Core spares half of its 125 for their age and takes the youngest of
//! the largest network group; with a hundred thousand that would spare an attacker who came early. Here the balance decides among
//! the others (`free_house`): it grows with time and use, and hosts not seen lately are better.
//!
//! Of each skill only the best few are known: if more than 4 times as many as are spared have left, somebody once good may be forgotten
//! until he is good again.

use super::identity::Keys;
use super::top::Top;
use crate::base::Instant;

/// The best.
#[derive(Clone, Debug, Default)]
pub struct Protected {
    by_group: Top<4>,
    by_ping: Top<8>,
    by_tx: Top<4>,
    by_age: Top<16>,
}

impl Protected {
    /// Most clients that can be spared at a time.
    pub const MOST: usize = 4 + 8 + 4 + 16;

    /// A client has come.
    pub fn enter(&mut self, slot: u32, keys: Keys, now: Instant) {
        self.leave(slot);
        self.by_group.offer(slot, keys.group);
        self.by_age.offer(slot, !now.0);
    }

    /// A client has gone.
    pub fn leave(&mut self, slot: u32) {
        self.by_group.forget(slot);
        self.by_ping.forget(slot);
        self.by_tx.forget(slot);
        self.by_age.forget(slot);
    }

    /// A client that is in has answered a ping; the lowest counts, in milliseconds.
    pub fn ping(&mut self, slot: u32, round_trip: u16) {
        self.by_ping.offer(slot, u64::from(!round_trip));
    }

    /// The node has taken a transaction that this client gave.
    pub fn useful_tx(&mut self, slot: u32, now: Instant) {
        self.by_tx.offer(slot, now.0);
    }

    /// True exactly when it is among the best at something.
    pub fn holds(&self, slot: u32) -> bool {
        self.by_group.holds(slot)
            || self.by_ping.holds(slot)
            || self.by_tx.holds(slot)
            || self.by_age.holds(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(group: u64) -> Keys {
        Keys { identity: group + 1, group }
    }

    #[test]
    fn the_best_at_each_thing_are_spared_and_nobody_else() {
        let mut protected = Protected::default();
        for slot in 0..1_000 {
            // The hash of the group falls as the slots rise; the oldest are the first.
            protected.enter(slot, keys(2_000 - u64::from(slot)), Instant(u64::from(slot)));
            protected.ping(slot, 1_000 - slot as u16 % 500);
        }
        (500..504).for_each(|slot| protected.useful_tx(slot, Instant(9_999)));
        let spared: Vec<u32> = (0..1_000).filter(|slot| protected.holds(*slot)).collect();
        assert!((0..16).all(|slot| spared.contains(&slot)), "the oldest");
        assert!((500..504).all(|slot| spared.contains(&slot)), "the useful");
        assert_eq!(spared.iter().filter(|slot| **slot % 500 > 480).count(), 8, "the nearest: {spared:?}");
        assert!(spared.len() <= Protected::MOST);
        // Who goes is not spared, and the next in line is.
        protected.leave(0);
        assert!(!protected.holds(0) && protected.holds(16));
    }
}
