//! Finds whole messages in bytes of a segment that the index does not name: segments are in wire format, so a lost
//! index costs time, not blocks.
//!
//! Takes nothing whose checksum does not fit. A message with damaged bytes is stepped over by its length; behind a
//! damaged frame nothing is found, because no boundary can be trusted there.

use std::io;
use std::ops::Range;

use crate::base::limits::{HEADER_LEN, MAX_MESSAGE};
use crate::io::FileRef;
use crate::wire::{Command, Hash, Magic, sha256d};

use super::check;
use super::index::Kind;

/// A whole message.
pub(super) struct Found {
    pub(super) kind: Kind,
    /// The block's hash.
    pub(super) hash: Hash,
    pub(super) offset: u64,
    /// Frame included.
    pub(super) len: u32,
}

/// Reads the range message by message.
pub(super) fn scan(file: &FileRef, magic: Magic, range: Range<u64>) -> io::Result<Vec<Found>> {
    let (mut found, mut at) = (Vec::new(), range.start);
    let mut message = Vec::new();
    loop {
        let mut header = [0; HEADER_LEN];
        if range.end - at < HEADER_LEN as u64 || file.read_at(at, &mut header)? < HEADER_LEN {
            return Ok(found);
        }
        let payload = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
        let len = HEADER_LEN + payload;
        let kind =
            [Kind::Block, Kind::Filter].into_iter().find(|k| header[4..16] == Command::new(k.command()).0);
        let Some(kind) = kind else { return Ok(found) };
        if header[..4] != magic || payload > MAX_MESSAGE || len as u64 > range.end - at {
            return Ok(found);
        }
        message.resize(len, 0);
        if file.read_at(at, &mut message)? < len {
            return Ok(found);
        }
        if let Some(hash) = hash_of(kind, &message)
            && check::whole(magic, kind, &hash, &message).is_ok()
        {
            found.push(Found { kind, hash, offset: at, len: len as u32 });
        }
        at += len as u64;
    }
}

/// Which block's message it says it is.
fn hash_of(kind: Kind, message: &[u8]) -> Option<Hash> {
    let payload = message.get(HEADER_LEN..)?;
    match kind {
        Kind::Block => payload.get(..80).map(sha256d),
        Kind::Filter => payload.get(1..33)?.first_chunk().copied(),
    }
}
