//! The load rig: up to a million real client sockets against any Bitcoin P2P server, from one machine.
//!
//! ```text
//!   client     one client without its socket: handshake, pings, announcements
//!   behaviour  what it does beyond that, one small state machine each
//!   measure    counters and histograms
//!   origin     when blocks and transactions came into the world
//!   view       what is seen of a run while it goes on
//!   report     what a run ends with: table, JSON, .hgrm, HTML, comparison of two
//! ```

pub mod behaviour;
pub mod client;
pub mod measure;
pub mod origin;
pub mod report;
pub mod view;

use std::process::ExitCode;

/// The command line of `breakwater-rig`.
pub fn main() -> ExitCode {
    eprintln!("breakwater-rig: nothing is here yet");
    ExitCode::FAILURE
}
