//! What the clients of one process have in common, so that a client itself stays small.
//!
//! - `chain`: hashes of blocks and digests of filters by height; a client keeps a height and a hash
//! - `pool`: transactions and the last blocks, from which compact blocks become whole
//! - `purse`: coins anybody may spend, and the schedule by which they are spent
//! - inputs of the attackers, made once
//!
//! Sharing spares memory and CPU of the rig, never work of the target: each client asks for everything itself.
//! Locks are held for a look-up, or for one message at most.

mod chain;
mod pool;
mod purse;

use std::sync::OnceLock;

use breakwater::wire::Magic;

pub use self::chain::{Chain, Linked};
pub use self::pool::{Pool, Shape};
pub use self::purse::{Made, Purse};

use super::attack::rows::ROWS;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// With a client's number it decides what is random and must be the same again.
    pub seed: u64,
    /// The chain of blocks.
    pub chain: Chain,
    /// Transactions and recent blocks.
    pub pool: Pool,
    /// Coins.
    pub purse: Purse,
    magic: Magic,
    inputs: [OnceLock<Vec<Vec<u8>>>; ROWS.len()],
}

impl Shared {
    /// Nothing but the genesis block of the network with this magic (of regtest when it is unknown).
    pub fn new(seed: u64, magic: Magic) -> Shared {
        Shared {
            seed,
            chain: Chain::new(magic),
            pool: Pool::default(),
            purse: Purse::default(),
            magic,
            inputs: [const { OnceLock::new() }; ROWS.len()],
        }
    }

    /// What the attackers of a row send, by its place in [`ROWS`].
    pub fn inputs(&self, row: usize) -> &[Vec<u8>] {
        match (self.inputs.get(row), ROWS.get(row)) {
            (Some(made), Some(row)) => made.get_or_init(|| (row.inputs)(self.magic)),
            _ => &[],
        }
    }
}
