//! Hashes heard lately, in two generations: when the younger is full it becomes the older and the oldest are forgotten.
//! A lookup may miss what is older than one generation; it never invents.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::wire::Hash;

/// Transaction hashes are uniform already; salted so that nobody can aim at one bucket.
#[derive(Default)]
struct Passthrough(u64);

impl Hasher for Passthrough {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

type Generation = HashMap<u64, u8, BuildHasherDefault<Passthrough>>;

/// What the marks of a hash say; see [`Seen::RECEIVED`].
pub struct Seen {
    young: Generation,
    old: Generation,
    most: usize,
    keys: (u64, u64),
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seen({} + {} of {})", self.young.len(), self.old.len(), self.most)
    }
}

impl Seen {
    /// Mark of a transaction that is here: nothing needs to be asked any more.
    pub const RECEIVED: u8 = u8::MAX;

    /// Remembers at least the last `most` hashes; 16 bytes or so each, two generations.
    pub fn new(most: usize, seed: u64) -> Seen {
        Seen {
            young: Generation::default(),
            old: Generation::default(),
            most,
            keys: (seed, seed.rotate_left(32) ^ 0x5bd1_e995),
        }
    }

    fn key(&self, hash: &Hash) -> u64 {
        use std::hash::Hasher as _;
        let mut hasher = siphasher::sip::SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(hash);
        hasher.finish()
    }

    /// The mark of a hash, zero when it is not remembered.
    pub fn mark(&self, hash: &Hash) -> u8 {
        let key = self.key(hash);
        self.young.get(&key).or_else(|| self.old.get(&key)).copied().unwrap_or(0)
    }

    /// Sets the mark of a hash.
    pub fn set(&mut self, hash: &Hash, mark: u8) {
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(self.key(hash), mark);
    }

    /// Number of hashes remembered (those in both generations twice).
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// True exactly when nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> Hash {
        let mut hash = [7; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        hash
    }

    #[test]
    fn the_last_ones_are_remembered_and_memory_is_bounded() {
        let mut seen = Seen::new(100, 1);
        for n in 0..10_000 {
            seen.set(&hash(n), 1);
            assert!(seen.len() <= 200);
        }
        assert!((9_900..10_000).all(|n| seen.mark(&hash(n)) == 1));
        assert_eq!(seen.mark(&hash(0)), 0);
        seen.set(&hash(9_999), Seen::RECEIVED);
        assert_eq!(seen.mark(&hash(9_999)), Seen::RECEIVED);
    }
}
