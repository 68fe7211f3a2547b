//! Bytes to messages and back: the v1 framing and the payloads of the Bitcoin P2P protocol.
//!
//! Hot messages (inv, getdata, ping, headers, filters) are borrowed views of the received bytes; blocks and
//! transactions stay bytes until somebody needs their inside, which rust-bitcoin then decodes.
//! Knows no connection and no time. Never panics on input, never allocates by a count that it has not checked.

#![forbid(unsafe_code)]

pub mod frame;
pub mod message;
pub mod read;
pub mod tx;
pub mod v2;
pub mod write;

pub use frame::{Command, Framing, Magic, Step, checksum, split};
pub use message::{HashList, HeaderList, Inv, InvKind, InvList, Message, Services, Version, parse};
pub use read::{Reader, WireError};
pub use tx::{BlockParts, OutPoint, Tx};

/// A double SHA-256 in wire order: block hash, txid, wtxid, filter hash.
pub type Hash = [u8; 32];

/// Double SHA-256, the hash of everything here.
pub fn sha256d(bytes: &[u8]) -> Hash {
    use bitcoin::hashes::Hash as _;
    bitcoin::hashes::sha256d::Hash::hash(bytes).to_byte_array()
}

/// A hash the way people write it: hexadecimal, bytes reversed.
pub fn display(hash: &Hash) -> String {
    use std::fmt::Write as _;
    hash.iter().rev().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
