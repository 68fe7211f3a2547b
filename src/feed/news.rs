//! What one announcement carries. Made once by the hub, shared by all shards.

use bytes::Bytes;

use crate::wire::Hash;

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
