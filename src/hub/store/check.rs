//! Is this message what it is said to be? Asked of what comes in and of what is read back.

use crate::base::limits::{HEADER_LEN, MAX_MESSAGE};
use crate::wire::{Command, Hash, Magic, checksum, sha256d};

use super::index::Kind;

/// Bytes of a block header, which the block's hash is made of.
const BLOCK_HEADER: usize = 80;

/// Checks frame and hash, but not the checksum: cheap, for what was made or checked by the caller.
pub(super) fn frame(magic: Magic, kind: Kind, hash: &Hash, message: &[u8]) -> Result<(), &'static str> {
    let Some((header, payload)) = message.split_first_chunk::<HEADER_LEN>() else {
        return Err("shorter than a frame");
    };
    if header[..4] != magic {
        return Err("the magic is another network's");
    }
    if header[4..16] != Command::new(kind.command()).0 {
        return Err("the command is another");
    }
    if payload.len() > MAX_MESSAGE {
        return Err("longer than a message may be");
    }
    if header[16..20] != (payload.len() as u32).to_le_bytes() {
        return Err("the length in the frame is not the payload's");
    }
    let same = match kind {
        Kind::Block => payload.get(..BLOCK_HEADER).is_some_and(|header| sha256d(header) == *hash),
        // BIP158: filter type 0 (basic), then the block's hash.
        Kind::Filter => payload.first() == Some(&0) && payload.get(1..33) == Some(&hash[..]),
    };
    if same { Ok(()) } else { Err("it is another block's") }
}

/// Checks everything, checksum included.
pub(super) fn whole(magic: Magic, kind: Kind, hash: &Hash, message: &[u8]) -> Result<(), &'static str> {
    frame(magic, kind, hash, message)?;
    match message.split_at_checked(HEADER_LEN) {
        Some((header, payload)) if header[20..24] == checksum(payload) => Ok(()),
        _ => Err("the checksum does not fit"),
    }
}
