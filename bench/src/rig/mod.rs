//! The load rig: up to a million real client sockets against any Bitcoin P2P server, from one machine.
//!
//! ```text
//!   cli        flags; exit status
//!   client     one client without its socket: handshake, pings, announcements
//!   behaviour  what it does beyond that, one small state machine each
//!   scenario   what a run shall do: flags, TOML, checks
//!   engine     rings full of clients, one thread each
//!   node       stub nodes on regtest, to load a relay without a real one
//!   measure    counters and histograms
//!   origin     when blocks and transactions came into the world
//!   watch      a link to the node behind the target
//!   target     what the target uses, from /proc
//!   run        from the first connection to the results
//!   view       what is seen of a run while it goes on
//!   report     what a run ends with: table, JSON, .hgrm, HTML, comparison of two
//! ```

pub mod behaviour;
mod cli;
pub mod client;
pub mod engine;
pub mod measure;
pub mod node;
pub mod origin;
pub mod report;
pub mod run;
pub mod scenario;
pub mod target;
pub mod view;
pub mod watch;

use std::process::ExitCode;

/// The command line of `breakwater-rig`.
pub fn main() -> ExitCode {
    cli::main()
}
