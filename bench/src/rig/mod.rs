//! The load rig: up to a million real client sockets against any Bitcoin P2P server, from one machine.
//!
//! ```text
//!   client     one client without its socket: handshake, pings, announcements
//!   behaviour  what it does beyond that, one small state machine each
//!   scenario   what a run shall do: flags, TOML, checks
//!   engine     rings full of clients, one thread each
//!   measure    counters and histograms
//!   origin     when blocks and transactions came into the world
//!   report     what a run ends with: table, JSON, .hgrm, HTML, comparison of two
//! ```

pub mod behaviour;
pub mod client;
pub mod engine;
pub mod measure;
pub mod origin;
pub mod report;
pub mod scenario;

use std::process::ExitCode;

/// The command line of `breakwater-rig`.
pub fn main() -> ExitCode {
    eprintln!("breakwater-rig: nothing is here yet");
    ExitCode::FAILURE
}
