//! Sealing as bare as can be: the same message for each connection, under a key of its own, by aws-lc-rs.
//!
//! It knows the size of a record and nothing else of TLS or BIP324: no key update, no limit, no rekeying, no length cipher.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};

use crate::Outcome;

/// Bytes of the tag, of each algorithm here.
const TAG: usize = 16;

/// Bytes of a packet's length in BIP324.
const V2_HEAD: usize = 3;

/// What a record is made of.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    algorithm: &'static Algorithm,
    /// Bytes in front of what is sealed, authenticated with it.
    head: usize,
    /// Bytes sealed beside the message.
    extra: usize,
}

impl Shape {
    /// A record of TLS 1.3 (header 5, content type 1), by the name of its suite's AEAD.
    pub(crate) fn tls(suite: &str) -> Shape {
        let algorithm = match suite {
            "AES_256_GCM" => &AES_256_GCM,
            "CHACHA20_POLY1305" => &CHACHA20_POLY1305,
            _ => &AES_128_GCM,
        };
        Shape { algorithm, head: 5, extra: 1 }
    }

    /// A packet of BIP324 (length 3, header 1).
    pub(crate) fn v2() -> Shape {
        Shape { algorithm: &CHACHA20_POLY1305, head: V2_HEAD, extra: 1 }
    }

    /// Bytes of a record with a message of this many.
    pub(crate) fn len(self, message: usize) -> usize {
        self.head + message + self.extra + TAG
    }
}

/// A connection's key, nonce and counter. The key as it is, expanded for each record: 10,000 expanded keys fit no cache, and
/// fetching one from memory is dearer than making it (measured: 6 us against 0.3).
struct Key {
    key: [u8; 32],
    iv: [u8; 12],
    count: u64,
}

/// The keys of all connections.
pub(crate) struct Sealer {
    shape: Shape,
    keys: Vec<Key>,
}

impl Sealer {
    /// Keys made up for so many connections.
    pub(crate) fn new(shape: Shape, connections: u32) -> Sealer {
        let one = |number: u32| {
            let mut key = [7; 32];
            key[..4].copy_from_slice(&number.to_le_bytes());
            Key { key, iv: [number as u8; 12], count: 0 }
        };
        Sealer { shape, keys: (0..connections).map(one).collect() }
    }

    /// True exactly when it seals packets of BIP324.
    pub(crate) fn is_v2(&self) -> bool {
        self.shape.head == V2_HEAD
    }

    /// Bytes of a record with this message.
    pub(crate) fn len(&self, message: usize) -> usize {
        self.shape.len(message)
    }

    /// Seals the message for a connection into `out`, which is [`Sealer::len`] bytes long.
    pub(crate) fn seal(&mut self, connection: usize, message: &[u8], out: &mut [u8]) -> Outcome {
        let Some(key) = self.keys.get_mut(connection) else {
            return Err("a connection without a key".into());
        };
        let mut nonce = key.iv;
        nonce.iter_mut().skip(4).zip(key.count.to_be_bytes()).for_each(|(n, c)| *n ^= c);
        key.count += 1;
        let (head, rest) = out.split_at_mut(self.shape.head);
        head.iter_mut().zip([23, 3, 3, 0, 78]).for_each(|(h, b)| *h = b);
        let (body, tag) = rest.split_at_mut(message.len() + self.shape.extra);
        body[..message.len()].copy_from_slice(message);
        body[message.len()..].fill(23);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let bytes = key.key.get(..self.shape.algorithm.key_len()).unwrap_or(&key.key);
        let key = UnboundKey::new(self.shape.algorithm, bytes).map_err(|_| "a key of the floor")?;
        let sealed = LessSafeKey::new(key).seal_in_place_separate_tag(nonce, Aad::from(&*head), body);
        tag.copy_from_slice(sealed.map_err(|_| "the floor could not seal")?.as_ref());
        Ok(())
    }
}
