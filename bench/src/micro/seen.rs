//! The set of hashes heard lately, holding 100,000.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::hint::black_box;

use breakwater::base::limits::SEEN_TX;
use breakwater::feed::Seen;
use breakwater::wire::Hash;

use super::{Round, Subject};
use crate::Outcome;

pub(super) const ALL: &[Subject] = &[
    batch("seen/insert", || {
        let (mut seen, mut next) = (filled(), HELD);
        Ok(Box::new(move || {
            for _ in 0..BATCH {
                next += 1;
                seen.set(black_box(&hash(next)), 1);
            }
        }))
    }),
    batch("seen/insert, floor: HashSet", || {
        let mut set = plain();
        let mut next = HELD;
        Ok(Box::new(move || {
            for _ in 0..BATCH {
                next += 1;
                set.insert(black_box(hash(next)));
                // As many leave as come, so that the size stays.
                set.remove(&hash(next - HELD));
            }
        }))
    }),
    batch("seen/look up", || {
        let (seen, mut at) = (filled(), 0);
        Ok(Box::new(move || {
            for _ in 0..BATCH {
                at = (at + STEP) % HELD;
                black_box(seen.mark(black_box(&hash(at))));
            }
        }))
    }),
    batch("seen/look up, floor: HashSet", || {
        let (set, mut at) = (plain(), 0);
        Ok(Box::new(move || {
            for _ in 0..BATCH {
                at = (at + STEP) % HELD;
                black_box(set.contains(black_box(&hash(at))));
            }
        }))
    }),
];

const fn batch(name: &'static str, make: fn() -> Outcome<Round>) -> Subject {
    Subject { name, items: BATCH, make }
}

/// Hashes held.
const HELD: u64 = SEEN_TX as u64;
/// Hashes a round.
const BATCH: u64 = 1_000;
/// From one look-up to the next: a prime, so that they are spread.
const STEP: u64 = 7_919;

/// A hasher with fixed keys, so that every run does the same work.
type Fixed = BuildHasherDefault<DefaultHasher>;

fn hash(number: u64) -> Hash {
    let mut hash = [7; 32];
    // Spread over the first bytes, as hashes are.
    hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    hash
}

fn filled() -> Seen {
    let mut seen = Seen::new(SEEN_TX, 1);
    (0..HELD).for_each(|n| seen.set(&hash(n), 1));
    seen
}

fn plain() -> HashSet<Hash, Fixed> {
    (0..=HELD).map(hash).collect()
}
