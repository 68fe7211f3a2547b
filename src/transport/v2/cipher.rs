//! FSChaCha20 for lengths and FSChaCha20Poly1305 for packets, of one direction.
//!
//! Invariants: one length and one packet per step; both keys change every [`REKEY_INTERVAL`] packets, and the old ones are
//! overwritten. The key schedule of the AEAD is not kept: it is 36 ns to make and larger than all the rest.

use aws_lc_rs::aead::{CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::LENGTH;
use super::stream::chacha20;

/// Packets under one key (BIP324 REKEY_INTERVAL).
pub(super) const REKEY_INTERVAL: u64 = 224;
/// Bytes of a block of ChaCha20.
const BLOCK: usize = 64;

/// One direction.
pub(super) struct Cipher {
    length_key: Zeroizing<[u8; 32]>,
    packet_key: Zeroizing<[u8; 32]>,
    /// Packets so far.
    packets: u64,
}

impl Cipher {
    pub(super) fn new(length_key: Zeroizing<[u8; 32]>, packet_key: Zeroizing<[u8; 32]>) -> Cipher {
        Cipher { length_key, packet_key, packets: 0 }
    }

    /// Encrypts or decrypts the length of the packet that is next.
    pub(super) fn crypt_length(&self, length: &mut [u8; LENGTH]) {
        // The lengths of an epoch are one stream of 672 bytes, so a length may begin in one block and end in the next.
        let at = (self.packets % REKEY_INTERVAL) as usize * LENGTH;
        let mut blocks = [0; 2 * BLOCK];
        let wanted = if at % BLOCK + LENGTH > BLOCK { 2 * BLOCK } else { BLOCK };
        chacha20(&self.length_key, &nonce(0, self.epoch()), (at / BLOCK) as u32, &mut blocks[..wanted]);
        length.iter_mut().zip(&blocks[at % BLOCK..]).for_each(|(byte, key)| *byte ^= key);
    }

    /// The AEAD of the packet that is next; good until [`Cipher::step`] says that the keys have changed. `None` never
    /// happens: the key's length is right.
    pub(super) fn aead(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.packet_key[..]).ok().map(LessSafeKey::new)
    }

    /// The nonce of the packet that is next.
    pub(super) fn nonce(&self) -> Nonce {
        Nonce::assume_unique_for_key(self.nonce_bytes())
    }

    /// The same, for those who do without the AEAD.
    pub(super) fn nonce_bytes(&self) -> [u8; 12] {
        nonce((self.packets % REKEY_INTERVAL) as u32, self.epoch())
    }

    /// The key of the packet that is next.
    pub(super) fn packet_key(&self) -> &[u8; 32] {
        &self.packet_key
    }

    /// On to the next packet. True exactly when the keys have changed.
    pub(super) fn step(&mut self) -> bool {
        let epoch = self.epoch();
        self.packets += 1;
        if !self.packets.is_multiple_of(REKEY_INTERVAL) {
            return false;
        }
        // The length key: the 32 bytes of the stream behind the lengths, which is the second half of block 10.
        let mut block = Zeroizing::new([0; BLOCK]);
        chacha20(&self.length_key, &nonce(0, epoch), 10, &mut block[..]);
        self.length_key.copy_from_slice(&block[BLOCK / 2..]);
        // The packet key: 32 zero bytes sealed under a nonce of its own. An AEAD's text begins with block 1.
        block.fill(0);
        chacha20(&self.packet_key, &nonce(u32::MAX, epoch), 1, &mut block[..]);
        self.packet_key.copy_from_slice(&block[..BLOCK / 2]);
        true
    }

    fn epoch(&self) -> u64 {
        self.packets / REKEY_INTERVAL
    }
}

const _: () = assert!(REKEY_INTERVAL as usize * LENGTH == 10 * BLOCK + BLOCK / 2);

fn nonce(packet: u32, epoch: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&packet.to_le_bytes());
    bytes[4..].copy_from_slice(&epoch.to_le_bytes());
    bytes
}
