//! Real peers for the integration tests: full nodes (bcoin, Bitcoin Core), the relay's own binary, and a blocking P2P
//! client that does exactly what a test says.
//!
//!     node      one full node on regtest, whichever kind: start, mine, submit, kill, restart, ask
//!     bcoin     how a bcoin is started           (peers/ holds its launcher)
//!     core      how a Bitcoin Core is started    (only with BITCOIND set)
//!     chain     coins that anyone may spend, transactions, fork blocks
//!     client    the P2P client
//!     relay     the breakwater process
//!     process   a child process with a log file; ended by its id
//!     ports     free ports
//!     stub_node the library's stub node on a TCP port: nothing to install
//!     rpc       JSON-RPC over one TCP connection per call
//!     wait      every wait has an end
//!
//! Invariants: only loopback addresses; every wait is bounded and says what it waited for; no process outlives its
//! handle; nothing here knows the relay's insides.

// Each test binary compiles this module and uses its own part of it; a helper that fails is a failed test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod bcoin;
pub mod chain;
pub mod client;
pub mod core;
pub mod node;
pub mod ports;
pub mod process;
pub mod relay;
pub mod rpc;
pub mod stub_node;
pub mod wait;
