//! Blocks as the hub handles them: checked, made into news, rebuilt from compact blocks (BIP152 version 2).
//!
//! - `check`: do the transactions belong to the header?
//! - `partial`: a compact block on its way to a whole one
//! - here: what shards announce of a block, and short ids
//!
//! `blocktxn` is [`BlockNews::blocktxn`](crate::feed::BlockNews::blocktxn); stripping is `wire::tx`: shards need both.
//! Bytes come from a node and are never trusted: every function here gives an error for what it cannot read.

#![forbid(unsafe_code)]

mod check;
mod partial;
#[cfg(test)]
mod tests;

use bitcoin::hashes::{Hash as _, sha256};
use bytes::Bytes;
use siphasher::sip::SipHasher24;

pub use check::{BlockFault, CheckedBlock, check_block, merkle_root};
pub use partial::{Partial, PartialError};

pub use crate::feed::BadIndex;
use crate::feed::BlockNews;
use crate::wire::tx::unframe;
pub use crate::wire::tx::{strip_block, strip_tx};
use crate::wire::{BlockParts, Hash, Inv, InvKind, Magic, WireError, sha256d, write};

/// The keyed hash of a compact block's short ids.
#[derive(Clone, Copy, Debug)]
pub struct ShortIds(SipHasher24);

impl ShortIds {
    /// Keys from the header and the compact block's nonce (BIP152).
    pub fn new(header: &[u8; 80], nonce: u64) -> ShortIds {
        let mut seed = [0; 88];
        seed[..80].copy_from_slice(header);
        seed[80..].copy_from_slice(&nonce.to_le_bytes());
        let hash = sha256::Hash::hash(&seed).to_byte_array();
        let half = |at: usize| hash[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        ShortIds(SipHasher24::new_with_keys(half(0), half(8)))
    }

    /// The six bytes, little-endian, of a wtxid.
    pub fn of(&self, wtxid: &Hash) -> u64 {
        self.0.hash(wtxid) & 0xffff_ffff_ffff
    }
}

/// Everything shards announce and serve of a block, from its whole `block` message with witness (v1 frame
/// included). `nonce` keys the short ids; any number the node cannot foresee.
///
/// Only the structure is read: call [`check_block`] first when the block comes from a node.
pub fn news(message: Bytes, height: u32, magic: Magic, nonce: u64) -> Result<BlockNews, WireError> {
    let (_, payload) = unframe(&message)?;
    let parts = BlockParts::parse(payload)?;
    let (header, count) = (*parts.header, parts.count);
    let mut at = message.len() - parts.rest.rest().len();
    let mut offsets = Vec::with_capacity(count + 1);
    offsets.push(at as u32);
    let ids = ShortIds::new(&header, nonce);
    let mut cmpct = Vec::with_capacity(24 + 80 + 8 + 9 + count * 6 + 512);
    let mut read = Ok(());
    write::message(&mut cmpct, magic, "cmpctblock", |out| {
        out.extend_from_slice(&header);
        out.extend_from_slice(&nonce.to_le_bytes());
        write::compact(out, count as u64 - 1);
        let mut coinbase: &[u8] = &[];
        read = parts.for_each(|tx| {
            match offsets.len() {
                1 => coinbase = tx.bytes,
                _ => out.extend_from_slice(&ids.of(&tx.wtxid()).to_le_bytes()[..6]),
            }
            at += tx.bytes.len();
            offsets.push(at as u32);
        });
        // One prefilled transaction, the coinbase, at position 0: no mempool has it.
        out.extend_from_slice(&[1, 0]);
        out.extend_from_slice(coinbase);
    });
    read?;
    let bare = header_news(&header, height, magic);
    Ok(BlockNews { block: message, tx_offsets: offsets.into(), cmpct: cmpct.into(), ..bare })
}

/// News of a block whose transactions are not here.
pub fn header_news(header: &[u8; 80], height: u32, magic: Magic) -> BlockNews {
    let hash = sha256d(header);
    let (mut headers, mut inv) = (Vec::new(), Vec::new());
    write::headers(&mut headers, magic, std::iter::once(header));
    write::inventory(&mut inv, magic, "inv", std::iter::once(Inv { kind: InvKind::Block, hash }));
    BlockNews {
        hash,
        height,
        header: *header,
        block: Bytes::new(),
        tx_offsets: Box::default(),
        cmpct: Bytes::new(),
        headers_message: headers.into(),
        inv_message: inv.into(),
    }
}

/// The block without witness data, from its whole `block` message (v1 frames both).
pub fn strip(message: &[u8]) -> Result<Bytes, WireError> {
    let mut out = Vec::with_capacity(message.len());
    strip_block(&mut out, message)?;
    Ok(out.into())
}
