//! Why headers are refused: each names the header, the value and what was expected.

use crate::base::UnixTime;
use crate::base::limits::MAX_SIDE_HEADERS;
use crate::wire::{Hash, display};

/// Why headers are refused. None of the batch is taken then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The first header follows a block we do not know: ask with our locator.
    #[error("the first header follows {}, which is unknown", display(.0))]
    UnknownParent(Hash),
    /// The hash is above the target, or the bits are no target of this network.
    #[error("header {} lacks the proof of work its bits and the network demand", display(.0))]
    BadPow(Hash),
    /// Mainnet: the bits are not those that follow from the blocks before.
    #[error("header at height {height} has bits {found:#010x}, expected {expected:#010x}")]
    BadTarget {
        /// Its height.
        height: u32,
        /// Its bits.
        found: u32,
        /// What the retarget rule gives.
        expected: u32,
    },
    /// More than two hours ahead of our clock (Bitcoin Core MAX_FUTURE_BLOCK_TIME).
    #[error("header {} has time {time}, more than two hours after our clock's {now}", display(.hash))]
    TooFarInFuture {
        /// Its hash.
        hash: Hash,
        /// Its time, Unix seconds.
        time: u32,
        /// Our time, Unix seconds.
        now: UnixTime,
    },
    /// A header does not follow the one before it in the list.
    #[error("a header follows {}, expected {}", display(.found), display(.expected))]
    NotLinked {
        /// The hash of the header before it in the list.
        expected: Hash,
        /// The previous hash it names.
        found: Hash,
    },
    /// No room off the best chain, and the branch has less work than every branch kept.
    #[error("{0} more headers off the best chain do not fit the {MAX_SIDE_HEADERS} kept")]
    TooManySideHeaders(usize),
    /// What the store gave begins with the genesis block of another network.
    #[error("stored chain begins with {}, expected this network's genesis {}", display(.found), display(.expected))]
    WrongGenesis {
        /// The stored one.
        found: Hash,
        /// The network's.
        expected: Hash,
    },
}
