//! What one announcement carries. Made once by the hub, shared by all shards.

use bytes::Bytes;

use crate::wire::{Hash, Magic, write};

/// A block that a node has accepted and that is in the best chain when announced.
#[derive(Debug)]
pub struct BlockNews {
    /// Its hash.
    pub hash: Hash,
    /// Its height.
    pub height: u32,
    /// Its header.
    pub header: [u8; 80],
    /// The whole `block` message with witness, v1 frame included. Empty when only the header is known (keep
    /// only; such a block is served through the hub).
    pub block: Bytes,
    /// Where each transaction begins in `block`, and the end of the last: n + 1 offsets for n transactions.
    pub tx_offsets: Box<[u32]>,
    /// The `cmpctblock` message (version 2), v1 frame included. Empty when `block` is.
    pub cmpct: Bytes,
    /// The `headers` message that announces this block alone.
    pub headers_message: Bytes,
    /// The `inv` message that announces this block alone.
    pub inv_message: Bytes,
}

/// A `getblocktxn` names a transaction that the block does not have (BIP152: the asker is disconnected).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadIndex {
    /// The position asked for.
    pub index: u32,
    /// Number of the block's transactions (zero when only its header is known here).
    pub count: u32,
}

impl std::fmt::Display for BadIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "transaction {} asked of a block of {}", self.index, self.count)
    }
}

impl std::error::Error for BadIndex {}

impl BlockNews {
    /// Number of transactions; zero when only the header is known.
    pub fn tx_count(&self) -> u32 {
        self.tx_offsets.len().saturating_sub(1) as u32
    }

    /// The bytes of one transaction, with witness.
    pub fn tx(&self, index: u32) -> Option<&[u8]> {
        let (start, end) = (self.tx_offsets.get(index as usize)?, self.tx_offsets.get(index as usize + 1)?);
        self.block.get(*start as usize..*end as usize)
    }

    /// Appends the `blocktxn` message with these transactions, in the order given. `out` stays as it was on an error.
    pub fn blocktxn(&self, magic: Magic, indexes: &[u32], out: &mut Vec<u8>) -> Result<(), BadIndex> {
        if let Some(index) = indexes.iter().find(|index| self.tx(**index).is_none()) {
            return Err(BadIndex { index: *index, count: self.tx_count() });
        }
        write::message(out, magic, "blocktxn", |out| {
            out.extend_from_slice(&self.hash);
            write::compact(out, indexes.len() as u64);
            indexes.iter().filter_map(|index| self.tx(*index)).for_each(|tx| out.extend_from_slice(tx));
        });
        Ok(())
    }
}

/// A transaction that a node has accepted.
#[derive(Debug)]
pub struct TxNews {
    /// Hash without witness.
    pub txid: Hash,
    /// Hash with witness.
    pub wtxid: Hash,
    /// The whole `tx` message with witness, v1 frame included.
    pub message: Bytes,
    /// The client it came from, who is not told of it.
    pub origin: Option<crate::base::ClientRef>,
}
