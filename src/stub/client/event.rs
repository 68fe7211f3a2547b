//! Kinds of clients, what they see, and what the other side must not do.

use std::time::Duration;

use crate::base::{End, Fault, Instant};
use crate::wire::{Hash, WireError, display};

/// What a client is and wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Keeps the headers and hears of blocks by `headers`.
    Listener,
    /// Hears of blocks and transactions by `inv`, transactions by txid: a client without newer features.
    InvListener,
    /// A full node at the tip: compact blocks in high-bandwidth mode, all transactions.
    CompactNode,
    /// Filter headers, filters, and the block at every height divisible by `every` (0: none). Wants no transactions.
    Light {
        /// Which blocks are fetched.
        every: u32,
    },
    /// Submits transactions given to it and hears of others.
    Wallet,
    /// Pings and measures.
    Pinger {
        /// From one ping to the next.
        every: Duration,
    },
}

/// What a client has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Handshake and first header synchronisation are complete.
    Ready {
        /// When.
        at: Instant,
    },
    /// A new block of the best chain, heard of after `Ready`; a compact-block node has it whole.
    Block {
        /// Its hash.
        hash: Hash,
        /// Its height.
        height: u32,
        /// When it was heard of; for a compact-block node, when it was whole.
        at: Instant,
    },
    /// A transaction: announced, or for a compact-block node received.
    Tx {
        /// Its wtxid; its txid for an `InvListener`, and whenever the other side does not speak BIP339.
        hash: Hash,
        /// When.
        at: Instant,
    },
    /// Headers are known up to this height.
    HeadersTo(u32),
    /// Filters are known and verified up to this height.
    FiltersTo(u32),
    /// A light client has fetched and verified a block.
    Fetched {
        /// Its hash.
        hash: Hash,
        /// When.
        at: Instant,
    },
    /// A wallet's transaction was asked for and given.
    Given {
        /// Its wtxid.
        wtxid: Hash,
        /// When.
        at: Instant,
    },
    /// A pinger's ping came back.
    Pong {
        /// When.
        at: Instant,
        /// After how long.
        after: Duration,
    },
}

/// What the other side did that it must not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Broken {
    #[error("stream ended by {}", .0.label())]
    Framing(End),
    #[error("message with fault {}", .0.label())]
    Message(Fault),
    #[error("payload: {0}")]
    Wire(#[from] WireError),
    #[error("message {0} in the wrong place of the handshake")]
    Order(&'static str),
    #[error("services {0:#x} lack what this client needs")]
    Services(u64),
    #[error("header {} has no proof of work or does not link", display(.0))]
    Header(Hash),
    #[error("headers kept coming that connect to nothing known")]
    Unconnected,
    #[error("block {} does not decode or match its header", display(.0))]
    Block(Hash),
    #[error("filter headers from height {0} do not chain or are not as many as asked for")]
    FilterHeaders(u32),
    #[error("filter of height {0} does not match its header")]
    Filter(u32),
    #[error("filter of height {got} came before that of {want}")]
    FilterOrder { got: u32, want: u32 },
    #[error("filter of height {0} lacks a script of its block")]
    FilterLacks(u32),
    #[error("a client that wants no transactions was told of {}", display(.0))]
    UnwantedTx(Hash),
    #[error("a transaction that does not decode")]
    Tx,
    #[error("pong with nonce {got:#x}, expected {want:#x}")]
    Pong { got: u64, want: u64 },
    #[error("a compact block or blocktxn that does not decode")]
    Compact,
}
