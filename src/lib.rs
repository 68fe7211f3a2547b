//! # Breakwater
//!
//! A front-end relay for Bitcoin full nodes: clients connect here, the node behind keeps a few links.
//!
//! This page is the map. `tests/tidy.rs` checks that every room below exists, that no room is missing here,
//! and that imports go only in the directions drawn.
//!
//! ```text
//!   base        limits (every number), ids, time, why a connection ended
//!   io          Op, Done, Kernel; File, Disk: the kernel boundary, made of data
//!   wire        bytes <-> messages
//!   transport   plain, BIP324, TLS: stream bytes <-> wire bytes
//!   feed        announcement logs and cursors, the shards' picture of the chain, seen-sets
//!   admission   who gets in, how much it may use, what it pays
//!   client      one client, sans-IO: handshake, what it may ask, what it is told
//!   link        SPSC pair between the hub and a shard, doorbell
//!   shard       one core: joins all of the above through io
//!   ring        io_uring: the product's kernel for shards
//!   hub         node links, chain, store, mempool, submissions; the tokio-uring driver
//!   stub        a regtest node and clients without a kernel, for the demo, the rig and the tests
//!   stub_host   a stub node on TCP: for the demo, the rig and the tests
//!   control     configuration, memory plan, what the host carries, metrics, logs
//!   cli         what a person types
//! ```
//!
//! ## Directions
//! `a <- b` says that b may import a, and what a may import. `tests/tidy.rs` reads these lines.
//! ```text
//!   base <- io
//!   base <- admission <- client
//!   base <- wire <- feed
//!   wire <- transport <- client
//!   base, io, wire, transport, feed, admission <- link
//!   link <- ring
//!   feed <- stub
//!   transport, stub <- stub_host
//!   admission, client, link <- shard
//!   link <- hub
//!   everything <- control <- cli
//! ```

#![warn(missing_docs)]

pub mod admission;
pub mod base;
pub mod cli;
pub mod client;
pub mod control;
pub mod feed;
pub mod hub;
pub mod io;
pub mod link;
pub mod ring;
pub mod shard;
pub mod stub;
pub mod stub_host;
pub mod transport;
pub mod wire;
