//! Time as a value. Below `ring` and `hub` nobody asks a clock: the instant is an argument.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the kernel's monotonic clock, in nanoseconds since that kernel started counting.
/// Two instants compare only when they come from the same kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Instant(pub u64);

/// A span or an instant in whole milliseconds, for compact per-client fields (wraps after 49 days).
pub type Millis = u32;

/// Seconds since 1970-01-01 UTC, as the Bitcoin protocol uses them.
pub type UnixTime = u64;

impl Instant {
    /// The instant after which nothing is due.
    pub const FAR: Instant = Instant(u64::MAX);

    /// Time elapsed since `earlier`, zero if `earlier` is later (clocks may jump in the simulator).
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since the clock's start.
    pub fn secs(self) -> u32 {
        u32::try_from(self.0 / 1_000_000_000).unwrap_or(u32::MAX)
    }

    /// Whole milliseconds since the clock's start, wrapping.
    pub fn millis(self) -> Millis {
        (self.0 / 1_000_000) as Millis
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, span: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}
