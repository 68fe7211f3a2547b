//! Logs to standard error by `tracing`: for people, or JSON lines.

use std::io::IsTerminal as _;

use tracing::Level;

/// Sets up logging for the process; a second call changes nothing.
pub fn start(json: bool, level: Level) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let set = if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    if set.is_err() {
        tracing::debug!("logging was set up already");
    }
}
