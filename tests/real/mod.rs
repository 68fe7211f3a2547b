//! What the relay promises, played with real peers: scenarios over either kind of node.
//!
//!     scene          a node, the relay in front of it, clients from different addresses
//!     blocks         sync, new blocks, reorganisations
//!     transactions   both ways, each once, and never to those who asked for none
//!     filters        BIP157 through the relay equals BIP157 from the node
//!     outages        the node dies and returns; one of two nodes dies or hangs; the relay is told to stop
//!     light_client   the crate bip157 as the relay's client
//!     full_client    Bitcoin Core as the relay's client
//!
//! The tests themselves are in tests/real_*.rs: one line each, per kind of node.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod blocks;
pub mod encrypted;
pub mod filters;
pub mod full_client;
pub mod light_client;
pub mod outages;
pub mod scene;
pub mod transactions;
