//! Logs to standard error by `tracing`: for people, or JSON lines. How much is logged can be changed while it runs.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt, reload};

/// Of this process, once it is set up.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Sets up logging for the process; a second call changes nothing.
pub fn start(json: bool, level: Level) {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let logs = tracing_subscriber::registry().with(filter);
    let set = match json {
        true => logs.with(layer.json().flatten_event(true)).try_init(),
        false => logs.with(layer).try_init(),
    };
    match set {
        // Nobody else has set it: only one call gets here.
        Ok(()) => drop(LEVEL.set(handle)),
        Err(_) => tracing::debug!("logging was set up already"),
    }
}

/// Logs as much as this from now on.
///
/// # Errors
/// Logging was not set up by [`start`]; a sentence.
pub fn set_level(level: Level) -> Result<(), String> {
    let handle = LEVEL.get().ok_or("logging was not set up by this process")?;
    handle.modify(|filter| *filter = LevelFilter::from_level(level)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_changed_while_it_runs() {
        start(true, Level::WARN);
        assert!(tracing::enabled!(Level::WARN) && !tracing::enabled!(Level::INFO));
        set_level(Level::DEBUG).unwrap();
        assert!(tracing::enabled!(Level::DEBUG) && !tracing::enabled!(Level::TRACE));
        set_level(Level::ERROR).unwrap();
        assert!(!tracing::enabled!(Level::WARN));
    }
}
