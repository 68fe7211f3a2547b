//! The simulator: a second implementation of `io::Kernel` and a world around it, all from one seed.
//!
//!     trace     what happened, one dense line per event, hashed
//!     faults    what may go wrong, and how often
//!     pipe      one TCP connection as two byte streams with bounded buffers
//!     net       the seeded network and its clock
//!     port      the network's half of one shard's kernel
//!     transport what an actor's connection is wrapped in: nothing, BIP324, TLS
//!     kernel    the kernel a simulated shard runs on
//!     echo      a hand-written shard that tests the kernel itself
//!     disk      a disk that forgets and fails (also used by the store's tests)
//!     truth     what is true in a run, whoever has heard of it
//!     witness   reads along on one client's connection
//!     backend   the nodes behind, and the chain they follow
//!     custody   counts the transactions the hub submits to nodes
//!     relay     the relay as one process: hub, shards and glue
//!     front     the clients
//!     attack    what they do, and what has to come of it
//!     hostile   connections that break the rules of their transport
//!     verdict   which connection ended for which reason
//!     world     a run: storm, calm, checks
//!
//! Invariants: one thread; no real clock, no real socket, no randomness but the seed's; what a run does depends on
//! its seed and the code alone.

#![allow(dead_code)] // Not every accessor is needed by every check.
#![allow(unreachable_pub)] // A test binary exports nothing; `pub` says here what a module offers the others.

pub mod attack;
pub mod backend;
pub mod custody;
pub mod disk;
pub mod echo;
pub mod faults;
pub mod front;
pub mod hostile;
pub mod kernel;
pub mod net;
pub mod pipe;
pub mod port;
pub mod relay;
pub mod trace;
pub mod transport;
pub mod truth;
pub mod verdict;
pub mod witness;
pub mod world;
