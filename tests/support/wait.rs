//! Every wait has an end, and says what it waited for when it ends badly.

use std::time::{Duration, Instant};

/// How long a test waits for something that takes milliseconds on an idle machine. Long, because the machines that
/// run the tests are small and busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

const STEP: Duration = Duration::from_millis(20);

/// Asks until there is an answer; panics when `limit` has passed.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(STEP);
    }
}

/// Asks until it is true; panics when `PATIENCE` has passed.
#[track_caller]
pub fn for_(what: &str, mut ask: impl FnMut() -> bool) {
    until(what, PATIENCE, || ask().then_some(()));
}
