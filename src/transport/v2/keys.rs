//! The key exchange: our key pair, and what both sides derive from the shared secret.
//!
//! Invariants: the private key and all derived keys are overwritten when they are dropped.

use std::sync::LazyLock;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use bitcoin::secp256k1::ellswift::{ElligatorSwift, ElligatorSwiftParty};
use bitcoin::secp256k1::{All, Secp256k1, SecretKey};
use zeroize::Zeroizing;

use super::{KEY, TERMINATOR};
use crate::transport::Role;
use crate::wire::Magic;

/// Tables for all threads: dear to make (blinding included), only read afterwards.
static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(|| {
    let mut secp = Secp256k1::new();
    let mut seed = [0; 32];
    // Blinding hides the private key from who can measure; no result depends on it.
    if aws_lc_rs::rand::fill(&mut seed).is_ok() {
        secp.seeded_randomize(&seed);
    }
    secp
});

/// Our private key and the randomness of its encoding.
pub(super) struct Pair {
    secret: Zeroizing<[u8; 32]>,
    encoding: [u8; 32],
}

/// What is derived from the shared secret, sorted by who sends.
pub(super) struct Keys {
    pub(super) id: [u8; 32],
    pub(super) send_length: Zeroizing<[u8; 32]>,
    pub(super) send_packet: Zeroizing<[u8; 32]>,
    pub(super) recv_length: Zeroizing<[u8; 32]>,
    pub(super) recv_packet: Zeroizing<[u8; 32]>,
    pub(super) send_terminator: [u8; TERMINATOR],
    pub(super) recv_terminator: [u8; TERMINATOR],
}

impl Pair {
    pub(super) fn new(secret: [u8; 32], encoding: [u8; 32]) -> Pair {
        let mut secret = Zeroizing::new(secret);
        if SecretKey::from_slice(&secret[..]).is_err() {
            // Zero, or not below the group's order: once in 2^128 times. With these bits it is a key, and no loop is needed.
            secret[0] &= 0x7f;
            secret[31] |= 1;
        }
        Pair { secret, encoding }
    }

    /// The public key as it is sent.
    pub(super) fn public(&self) -> Option<[u8; KEY]> {
        let mut secret = SecretKey::from_slice(&self.secret[..]).ok()?;
        let public = ElligatorSwift::from_seckey(&SECP, secret, Some(self.encoding));
        secret.non_secure_erase();
        Some(public.to_array())
    }

    /// The keys of both directions. `None` never happens: the lengths are right.
    pub(super) fn exchange(
        &self,
        role: Role,
        magic: Magic,
        ours: [u8; KEY],
        theirs: [u8; KEY],
    ) -> Option<Keys> {
        let (ours, theirs) = (ElligatorSwift::from_array(ours), ElligatorSwift::from_array(theirs));
        let mut secret = SecretKey::from_slice(&self.secret[..]).ok()?;
        let shared = match role {
            Role::Initiator => {
                ElligatorSwift::shared_secret(ours, theirs, secret, ElligatorSwiftParty::A, None)
            }
            Role::Responder => {
                ElligatorSwift::shared_secret(theirs, ours, secret, ElligatorSwiftParty::B, None)
            }
        };
        secret.non_secure_erase();
        let shared = Zeroizing::new(shared.to_secret_bytes());
        derive(role, magic, &shared)
    }
}

/// HKDF-SHA256 of the shared secret.
pub(super) fn derive(role: Role, magic: Magic, shared: &[u8; 32]) -> Option<Keys> {
    let mut salt = [0; 28];
    salt[..24].copy_from_slice(b"bitcoin_v2_shared_secret");
    salt[24..].copy_from_slice(&magic);
    let prk = Salt::new(HKDF_SHA256, &salt).extract(shared);
    let initiator = (expand(&prk, b"initiator_L")?, expand(&prk, b"initiator_P")?);
    let responder = (expand(&prk, b"responder_L")?, expand(&prk, b"responder_P")?);
    let terminators = expand(&prk, b"garbage_terminators")?;
    let (first, second) = terminators.split_first_chunk::<TERMINATOR>()?;
    let second = second.first_chunk::<TERMINATOR>()?;
    let (send, recv, send_terminator, recv_terminator) = match role {
        Role::Initiator => (initiator, responder, *first, *second),
        Role::Responder => (responder, initiator, *second, *first),
    };
    Some(Keys {
        id: *expand(&prk, b"session_id")?,
        send_length: send.0,
        send_packet: send.1,
        recv_length: recv.0,
        recv_packet: recv.1,
        send_terminator,
        recv_terminator,
    })
}

fn expand(prk: &Prk, info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    struct Len;
    impl KeyType for Len {
        fn len(&self) -> usize {
            32
        }
    }
    let mut out = Zeroizing::new([0; 32]);
    prk.expand(&[info], Len).ok()?.fill(&mut out[..]).ok()?;
    Some(out)
}
