//! The load rig.

use std::process::ExitCode;

/// The command line of `breakwater-rig`.
pub fn main() -> ExitCode {
    eprintln!("breakwater-rig: nothing is here yet");
    ExitCode::FAILURE
}
