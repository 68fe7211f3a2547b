//! A regtest node and its clients without a kernel: for `breakwater demo`, the load rig, benches and the simulator.
//!
//! Purpose: everything on the other side of the relay, in memory, deterministic. Randomness comes from a seed
//! given by the caller, time is an argument, bytes come in and values go out. What is built here is valid: real
//! proof of work, merkle roots, witness commitments, amounts, filters.
//!
//! Not a validating node: scripts are recognised, not run (two forms, see [`script`]); fee policy, replacement and
//! version-bit rules are absent. Blocks are only made here or taken from another [`StubChain`].
//!
//! - [`script`]: the two scripts anybody can spend, and coins locked by them
//! - [`filters`]: BIP158 basic filters and BIP157 filter headers
//! - [`block`]: one block with its ready-made messages; assembling and proof of work
//! - [`chain`]: the tree of blocks, the best chain, its coins, reorganisations
//! - [`mempool`]: transactions that wait for a block; why one is refused
//! - [`pay`]: making transactions; filling blocks to a size
//! - [`node`]: one node with any number of peers
//! - [`client`]: clients of several kinds that verify what they are told

#![forbid(unsafe_code)]

pub mod block;
pub mod chain;
pub mod client;
pub mod filters;
pub mod mempool;
pub mod node;
pub mod pay;
pub mod script;
#[cfg(test)]
mod tests;

pub use block::StubBlock;
pub use chain::StubChain;
pub use client::Client;
pub use mempool::{Refused, StubTx};
pub use node::{PeerId, StubNode};

use crate::wire::Magic;

/// The four bytes in front of each message on regtest (Bitcoin Core chainparams.cpp).
pub const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];
