//! What a completion carries back to us: kind (8 bits), index (24), generation (32).
//!
//! Completions outlive the client that asked for them, so an index alone never says whom one is for.

use slotmap::{DefaultKey, Key, KeyData};

/// Which operation a completion belongs to, and what the index means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// Readiness of a connection; index: connection.
    Poll = 1,
    /// Bytes of a connection; index: connection.
    Receive = 2,
    /// A send; index and generation: key of the slab of sends.
    Send = 3,
    /// A file read; index and generation: key of the slab of reads.
    Read = 4,
    /// An accept; index: listener * ACCEPTS_IN_FLIGHT + place.
    Accept = 5,
    /// The doorbell is readable.
    Doorbell = 6,
    /// SO_LINGER before a reset; seen only when it failed. Index: connection.
    Linger = 7,
    /// Cancels and closes; seen only when they failed.
    Control = 8,
}

/// A completion's user data, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Below 2^24.
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// Indices are 24 bits.
pub(super) const MAX_INDEX: u32 = (1 << 24) - 1;

impl Token {
    pub(super) fn new(kind: Kind, index: u32, generation: u32) -> Token {
        debug_assert!(index <= MAX_INDEX);
        Token { kind, index: index & MAX_INDEX, generation }
    }

    /// Names an entry of a slab. The slab must hold at most 2^24 entries.
    pub(super) fn of_key(kind: Kind, key: DefaultKey) -> Token {
        let ffi = key.data().as_ffi();
        Token::new(kind, ffi as u32, (ffi >> 32) as u32)
    }

    /// The entry of a slab this token names; looked up with it, a stale one is found missing.
    pub(super) fn key(self) -> DefaultKey {
        KeyData::from_ffi(u64::from(self.generation) << 32 | u64::from(self.index)).into()
    }

    pub(super) fn pack(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// `None` for user data that is not ours.
    pub(super) fn unpack(user_data: u64) -> Option<Token> {
        let kind = match (user_data >> 56) as u8 {
            1 => Kind::Poll,
            2 => Kind::Receive,
            3 => Kind::Send,
            4 => Kind::Read,
            5 => Kind::Accept,
            6 => Kind::Doorbell,
            7 => Kind::Linger,
            8 => Kind::Control,
            _ => return None,
        };
        Some(Token { kind, index: (user_data >> 32) as u32 & MAX_INDEX, generation: user_data as u32 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slotmap::SlotMap;

    use super::*;

    const KINDS: [Kind; 8] = [
        Kind::Poll,
        Kind::Receive,
        Kind::Send,
        Kind::Read,
        Kind::Accept,
        Kind::Doorbell,
        Kind::Linger,
        Kind::Control,
    ];

    proptest! {
        #[test]
        fn packing_loses_nothing(kind in 0usize..8, index in 0..=MAX_INDEX, generation: u32) {
            let token = Token::new(KINDS[kind], index, generation);
            prop_assert_eq!(Token::unpack(token.pack()), Some(token));
        }

        #[test]
        fn any_user_data_is_safe(user_data: u64) {
            if let Some(token) = Token::unpack(user_data) {
                prop_assert_eq!(token.pack(), user_data);
            }
        }
    }

    #[test]
    fn a_key_comes_back_and_a_stale_one_finds_nothing() {
        let mut slab = SlotMap::new();
        let first = slab.insert('a');
        let token = Token::unpack(Token::of_key(Kind::Send, first).pack()).unwrap();
        assert_eq!(slab.get(token.key()), Some(&'a'));
        slab.remove(first);
        let second = slab.insert('b');
        assert_eq!(Token::of_key(Kind::Send, second).index, token.index, "the place is used again");
        assert_eq!(slab.get(token.key()), None);
    }
}
