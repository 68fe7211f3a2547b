//! Benchmarks of breakwater: each prints a ratio against a floor measured beside it in the same run, or a number
//! against its target.
//!
//! A benchmark runs the production shard on the production ring and plays the hub itself over the link. Clients come
//! from `swarm`, on a thread of their own, over loopback TCP.
//!
//! ```text
//!   rig       the load rig, a product of its own
//!   command   one benchmark each
//!   relay     a shard whose hub is the benchmark
//!   relay_process  the whole relay as a process
//!   admin     calls of its admin interface
//!   attackers  clients in a process of their own, so that they disturb the measured ones no more than they must
//!   witness   single clients whose every moment is noted
//!   lines     what another process says, with a time limit
//!   made      blocks and transactions made up for announcements
//!   crowd     clients of the rig, any transport, for benchmarks
//!   certificate  a self-signed one for TLS listeners
//!   swarm     thousands of clients on one ring
//!   floor     bare loops the relay is measured against: send, receive, accept
//!   micro     small things and their bare floors, for wall time and instruction counts
//!   bare      bare loops for accepting and for blocks
//!   setup     rings and listeners of the bare loops
//!   sink      clients that ask for something and throw it away
//!   buffers   provided receive buffers of the rings made here
//!   alloc     the counting allocator
//!   machine   the machine and the commit, for the record
//!   os        what is asked of Linux: clocks, pinning, memory
//!   stop      the wish for an early end
//!   report    table for people, one JSON line for bench/results/
//! ```
//!
//! Invariants: traffic only on 127.0.0.0/8; every wait has an end; a number is recorded only with `--record`.

mod admin;
pub mod alloc;
mod attackers;
mod bare;
mod buffers;
pub mod certificate;
pub mod command;
mod crowd;
mod floor;
mod lines;
pub mod machine;
mod made;
pub mod micro;
mod os;
mod relay;
pub mod relay_process;
pub mod report;
pub mod rig;
mod setup;
mod sink;
mod stop;
pub mod swarm;
mod witness;

/// What every benchmark ends with when it cannot go on: one sentence.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The network all benchmarks speak: regtest.
pub const MAGIC: breakwater::wire::Magic = [0xfa, 0xbf, 0xb5, 0xda];
