//! BIP324: opportunistic encryption between Bitcoin nodes.
//!
//! ```text
//!   keys        ElligatorSwift key exchange and what is derived from it
//!   cipher      FSChaCha20 and FSChaCha20Poly1305 of one direction
//!   handshake   keys, garbage, version packet
//!   session     packets opened in place; v1 frames sealed into packets
//!   transcode   where in a stream of v1 frames we stand
//!   stream      ChaCha20-Poly1305 of a message that comes in parts
//! ```
//! Hides no traffic shape: we send no decoys and little garbage (see [`Handshake`]). Theirs are taken.

mod cipher;
mod handshake;
mod keys;
mod session;
mod stream;
mod transcode;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.
mod tests;

pub use handshake::{Handshake, MAX_BYTES as MAX_HANDSHAKE_BYTES};
pub use session::Session;

use crate::wire::Magic;

/// Most bytes of garbage (BIP324).
pub const MAX_GARBAGE: usize = 4_095;
/// Bytes of a public key in ElligatorSwift encoding (BIP324).
pub const KEY: usize = 64;
/// Bytes of a garbage terminator.
const TERMINATOR: usize = 16;
/// Bytes of an encrypted length.
const LENGTH: usize = 3;
/// Bytes of a packet's header: flags.
const HEADER: usize = 1;
/// Bytes of an authentication tag.
const TAG: usize = 16;
/// Bytes of a packet beside its contents.
const EXPANSION: usize = LENGTH + HEADER + TAG;
/// The header's bit that makes a packet a decoy.
const IGNORE: u8 = 0x80;

/// What the first bytes of an accepted connection are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    /// All bytes so far could begin a v1 `version` message, of our network or another one.
    Incomplete,
    /// A v1 `version` message begins here.
    V1,
    /// A v1 `version` message of another network.
    OtherNetwork,
    /// A key exchange of BIP324.
    V2,
}

/// Tells v1 from v2 by the first 16 bytes (BIP324). A key exchange is 64 bytes at least and comes at once, so nothing is lost
/// by waiting for as many as are needed to know another network's `version` (Bitcoin Core V2Transport::ProcessReceivedKeyBytes).
pub fn first(magic: Magic, bytes: &[u8]) -> First {
    const NAME: &[u8; 12] = b"version\0\0\0\0\0";
    let network = &bytes[..bytes.len().min(4)];
    let name = &bytes[network.len()..bytes.len().min(16)];
    if name != &NAME[..name.len()] {
        First::V2
    } else if name.len() < NAME.len() {
        First::Incomplete
    } else if network == magic {
        First::V1
    } else {
        First::OtherNetwork
    }
}
