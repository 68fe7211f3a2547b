//! Keys of one direction: cipher suite, application traffic secret, what follows from it (RFC 8446, sections 5.2, 5.3, 7.2, 7.3).
//!
//! A client keeps raw keys: the AEAD's own state (some 600 bytes with its schedule) is made anew for each call, 0.2 us, and
//! thrown away. Secrets and keys are overwritten with zeros when dropped.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf;
use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroize;

/// Bytes of the longest traffic secret (SHA-384).
pub const SECRET_LEN: usize = 48;
/// Bytes of the longest key.
pub const KEY_LEN: usize = 32;

/// A cipher suite of TLS 1.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// TLS_AES_128_GCM_SHA256.
    Aes128,
    /// TLS_AES_256_GCM_SHA384.
    Aes256,
    /// TLS_CHACHA20_POLY1305_SHA256.
    ChaCha,
}

impl Suite {
    /// By its number.
    pub fn of(suite: rustls::CipherSuite) -> Option<Suite> {
        match suite {
            rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Suite::Aes128),
            rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Suite::Aes256),
            rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Suite::ChaCha),
            _ => None,
        }
    }

    /// A secret without its padding.
    pub fn secret(self, padded: &[u8; SECRET_LEN]) -> &[u8] {
        &padded[..self.secret_len()]
    }

    fn aead(self) -> &'static aead::Algorithm {
        match self {
            Suite::Aes128 => &aead::AES_128_GCM,
            Suite::Aes256 => &aead::AES_256_GCM,
            Suite::ChaCha => &aead::CHACHA20_POLY1305,
        }
    }

    fn hash(self) -> hkdf::Algorithm {
        match self {
            Suite::Aes128 | Suite::ChaCha => hkdf::HKDF_SHA256,
            Suite::Aes256 => hkdf::HKDF_SHA384,
        }
    }

    fn key_len(self) -> usize {
        match self {
            Suite::Aes128 => 16,
            Suite::Aes256 | Suite::ChaCha => 32,
        }
    }

    fn secret_len(self) -> usize {
        match self {
            Suite::Aes128 | Suite::ChaCha => 32,
            Suite::Aes256 => 48,
        }
    }

    /// Records after which a key has to be replaced. RFC 8446, section 5.5: AES-GCM stays safe for 2^24.5 records of full
    /// size; ChaCha20-Poly1305 for more than the 2^64 that can be counted.
    pub fn renew_after(self) -> u64 {
        match self {
            Suite::Aes128 | Suite::Aes256 => 1 << 24,
            Suite::ChaCha => u64::MAX,
        }
    }

    /// Records after which a key must not be used at all: 2^24.5, see [`Suite::renew_after`].
    pub fn end_after(self) -> u64 {
        match self {
            Suite::Aes128 | Suite::Aes256 => 23_726_566,
            Suite::ChaCha => u64::MAX,
        }
    }
}

/// The secret and the keys of one direction, and how many records they have served.
pub struct Keys {
    secret: [u8; SECRET_LEN],
    key: [u8; KEY_LEN],
    iv: [u8; NONCE_LEN],
    /// The next record's number. As bytes, because a u64 would be aligned, and eight bytes a client lost to it.
    seq: [u8; 8],
}

impl Keys {
    /// From what rustls hands out, and the secret it came from; with the suite that says so.
    pub fn extracted(
        seq: u64,
        keys: &ConnectionTrafficSecrets,
        secret: &[u8; SECRET_LEN],
    ) -> Option<(Suite, Keys)> {
        let (suite, key, iv) = match keys {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Suite::ChaCha, key, iv),
            _ => return None,
        };
        let mut keys =
            Keys { secret: *secret, key: [0; KEY_LEN], iv: [0; NONCE_LEN], seq: seq.to_be_bytes() };
        keys.key.get_mut(..suite.key_len())?.copy_from_slice(key.as_ref());
        keys.iv.copy_from_slice(iv.as_ref());
        Some((suite, keys))
    }

    /// From a traffic secret alone.
    pub fn derived(suite: Suite, secret: &[u8]) -> Result<Keys, Unspecified> {
        if secret.len() != suite.secret_len() {
            return Err(Unspecified);
        }
        let mut keys = Keys { secret: [0; SECRET_LEN], key: [0; KEY_LEN], iv: [0; NONCE_LEN], seq: [0; 8] };
        expand_label(suite, secret, b"key", &mut keys.key[..suite.key_len()])?;
        expand_label(suite, secret, b"iv", &mut keys.iv)?;
        keys.secret[..suite.secret_len()].copy_from_slice(secret);
        Ok(keys)
    }

    /// Moves on to the next generation (RFC 8446, section 7.2), whose records are counted from zero.
    pub fn update(&mut self, suite: Suite) -> Result<(), Unspecified> {
        let mut next = [0; SECRET_LEN];
        let next = &mut next[..suite.secret_len()];
        expand_label(suite, suite.secret(&self.secret), b"traffic upd", next)?;
        let keys = Keys::derived(suite, next);
        next.zeroize();
        *self = keys?;
        Ok(())
    }

    /// The AEAD, for one call.
    pub fn cipher(&self, suite: Suite) -> Result<LessSafeKey, Unspecified> {
        Ok(LessSafeKey::new(UnboundKey::new(suite.aead(), &self.key[..suite.key_len()])?))
    }

    /// The next record's number, so also how many records this key has served.
    pub fn seq(&self) -> u64 {
        u64::from_be_bytes(self.seq)
    }

    /// Seals in place; the record's number moves on.
    pub fn seal(
        &mut self,
        cipher: &LessSafeKey,
        header: [u8; 5],
        bytes: &mut [u8],
    ) -> Result<Tag, Unspecified> {
        let nonce = self.nonce()?;
        cipher.seal_in_place_separate_tag(nonce, Aad::from(header), bytes)
    }

    /// Opens in place, tag at the end; says how many bytes of plaintext stand at the front.
    pub fn open(
        &mut self,
        cipher: &LessSafeKey,
        header: [u8; 5],
        bytes: &mut [u8],
    ) -> Result<usize, Unspecified> {
        let nonce = self.nonce()?;
        Ok(cipher.open_in_place(nonce, Aad::from(header), bytes)?.len())
    }

    /// The nonce of the next record (RFC 8446, section 5.3). A number is never used twice: it must not wrap.
    fn nonce(&mut self) -> Result<Nonce, Unspecified> {
        let mut nonce = self.iv;
        for (byte, count) in nonce[4..].iter_mut().zip(self.seq) {
            *byte ^= count;
        }
        self.seq = self.seq().checked_add(1).ok_or(Unspecified)?.to_be_bytes();
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

#[cfg(test)]
impl Keys {
    /// Goes to a record's number that no test can count up to.
    pub fn jump(&mut self, seq: u64) {
        self.seq = seq.to_be_bytes();
    }

    /// What follows from the secret: must be what rustls handed out.
    pub fn derived_again(&self, suite: Suite) -> Keys {
        let mut keys = Keys::derived(suite, suite.secret(&self.secret)).unwrap_or_else(|_| unreachable!());
        keys.seq = self.seq;
        keys
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.secret.zeroize();
        self.key.zeroize();
        self.iv.zeroize();
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Keys) -> bool {
        self.key == other.key && self.iv == other.iv && self.secret == other.secret
    }
}

/// Never the secrets themselves: a key must not get into a log.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("seq", &self.seq()).finish_non_exhaustive()
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
fn expand_label(suite: Suite, secret: &[u8], label: &[u8], out: &mut [u8]) -> Result<(), Unspecified> {
    let length = u16::try_from(out.len()).map_err(|_| Unspecified)?.to_be_bytes();
    let label_length = [u8::try_from(6 + label.len()).map_err(|_| Unspecified)?];
    let info: [&[u8]; 5] = [&length, &label_length, b"tls13 ", label, &[0]];
    hkdf::Prk::new_less_safe(suite.hash(), secret).expand(&info, Length(out.len()))?.fill(out)
}

/// How many bytes HKDF shall give.
pub struct Length(pub usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
