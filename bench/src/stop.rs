//! The wish for an early and orderly end, by SIGINT or SIGTERM.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Status of a process that is ended by a second signal: 128 and SIGINT, as of shells.
const AT_ONCE: i32 = 130;

/// True once SIGINT or SIGTERM has come; a second one ends the process at once.
pub(crate) fn on_signal() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, AT_ONCE, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}
