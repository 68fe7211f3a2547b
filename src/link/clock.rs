//! The clock of a hub and its shards: an instant that one of them says means the same to the other.

use crate::base::Instant;

/// CLOCK_MONOTONIC in nanoseconds: the same for all threads of the host.
#[allow(unsafe_code)]
pub fn monotonic() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Instant(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}
