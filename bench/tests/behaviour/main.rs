//! The rig's behaviours against the library's stub node, without sockets, on a clock that jumps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.
#![allow(missing_docs)]

mod attacks;
mod blocks;
mod comings;
mod noise;
mod paced;
mod txs;
mod world;
