//! A token bucket, as the time until which what has been sent is paid for (GCRA, ITU-T I.371): exact to the nanosecond at any rate,
//! whatever the pieces, and no timer of its own.
//!
//! A piece is reserved before it is sent: whoever comes while another's piece is being paid for gets the time behind it. So those who
//! wait for one bucket are served in the order they came, each is woken once, and the rate is kept however many there are.

use std::time::Duration;

use super::rates::Demand;
use crate::base::Instant;

/// What may be sent at once after a pause: so much time's worth of the rate.
pub const DEPTH: Duration = Duration::from_millis(100);
/// Nanoseconds per second.
const NANOS: u128 = 1_000_000_000;

/// A rate that is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Bytes per second, at least 1.
    rate: u64,
    /// When everything reserved so far is paid for.
    paid: Instant,
    /// What is left of the division by `rate` at `paid`, in billionths of a byte.
    rest: u64,
    /// Bytes reserved since [`Bucket::take_demand`].
    passed: u64,
}

const _: () = assert!(size_of::<Bucket>() <= 32);

impl Bucket {
    /// A full bucket of so many bytes per second; 0 counts as 1.
    pub fn new(rate: u64, now: Instant) -> Bucket {
        Bucket { rate: rate.max(1), paid: Instant(now.0.saturating_sub(nanos(DEPTH))), rest: 0, passed: 0 }
    }

    /// Bytes per second.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Reserves `bytes` and says when they may go: now, or later. To be sent then, or the time is lost to others.
    pub fn reserve(&mut self, now: Instant, bytes: usize) -> Instant {
        let oldest = now.0.saturating_sub(nanos(DEPTH));
        if self.paid.0 < oldest {
            (self.paid, self.rest) = (Instant(oldest), 0);
        }
        let start = self.paid.max(now);
        self.passed = self.passed.saturating_add(bytes as u64);
        let cost = bytes as u128 * NANOS + u128::from(self.rest);
        let rate = u128::from(self.rate);
        self.paid.0 = self.paid.0.saturating_add(u64::try_from(cost / rate).unwrap_or(u64::MAX));
        // Below `rate`, which is 64 bits.
        self.rest = (cost % rate) as u64;
        start
    }

    /// When something may go; an instant that is over for at once.
    pub fn ready_at(&self) -> Instant {
        self.paid
    }

    /// What is asked of it, for `rates`.
    pub fn take_demand(&mut self, now: Instant) -> Demand {
        Demand { passed: std::mem::take(&mut self.passed), line: self.paid.since(now) }
    }

    /// Another rate from now on. What is owed stays owed, in bytes; what has been saved up is not more than before.
    pub fn set_rate(&mut self, now: Instant, rate: u64) {
        let rate = rate.max(1);
        let owed = u128::from(self.paid.0.saturating_sub(now.0)) * u128::from(self.rate) / u128::from(rate);
        if self.paid > now {
            self.paid = Instant(now.0.saturating_add(u64::try_from(owed).unwrap_or(u64::MAX)));
        }
        (self.rate, self.rest) = (rate, 0);
    }
}

const fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Bytes that have gone in ten seconds, by a sender that always has more and is late by up to `late` nanoseconds each time.
    fn ten_seconds(bucket: &mut Bucket, from: Instant, pieces: &[usize], late: u64) -> u64 {
        let end = Instant(from.0 + 10 * SECOND);
        let (mut now, mut sent) = (from, 0);
        for (n, piece) in pieces.iter().cycle().enumerate() {
            let start = bucket.reserve(now, *piece);
            now = now.max(Instant(start.0 + if start > now { late * (n as u64 % 3) / 2 } else { 0 }));
            if start >= end {
                break;
            }
            sent += *piece as u64;
        }
        sent
    }

    proptest! {
        #[test]
        fn ten_seconds_are_exact(
            rate in 10_000_u64..1_000_000_000,
            shares in prop::collection::vec(1_u64..1_000, 1..20),
            late in 0_u64..5_000_000,
        ) {
            // Pieces of up to 50 ms of the rate, at most 256 KiB.
            let most = (rate / 20).min(256 * 1024);
            let pieces: Vec<usize> = shares.iter().map(|share| (most * share / 1_000).max(64) as usize).collect();
            let mut bucket = Bucket::new(rate, Instant(SECOND));
            // The bucket is emptied first: what it held is not of the rate.
            bucket.reserve(Instant(SECOND), (rate / 10) as usize);
            let sent = ten_seconds(&mut bucket, Instant(SECOND), &pieces, late);
            let wanted = (10 * rate) as f64;
            let off = (sent as f64 - wanted).abs() / wanted;
            prop_assert!(off <= 0.01, "{sent} of {wanted}: off by {off}");
        }
    }

    #[test]
    fn a_pause_saves_up_one_bucket_and_no_more() {
        let mut bucket = Bucket::new(1_000_000, Instant(SECOND));
        let later = Instant(100 * SECOND);
        let mut sent = 0;
        while bucket.reserve(later, 1_000) <= later {
            sent += 1_000;
        }
        assert_eq!(sent, 101_000, "100 ms of the rate, and the piece that ends on its edge");
    }

    #[test]
    fn a_change_keeps_what_is_owed() {
        let mut bucket = Bucket::new(10_000, Instant(SECOND));
        bucket.reserve(Instant(SECOND), 1_000);
        bucket.reserve(Instant(SECOND), 100_000);
        bucket.set_rate(Instant(SECOND), 1_000_000);
        assert_eq!(bucket.ready_at(), Instant(SECOND + SECOND / 10), "100,000 bytes at a megabyte a second");
        bucket.set_rate(Instant(SECOND), 10_000);
        assert_eq!(bucket.ready_at(), Instant(11 * SECOND));
        bucket.set_rate(Instant(SECOND), 0);
        assert_eq!(bucket.rate(), 1);
    }

    #[test]
    fn those_who_wait_are_served_in_their_order() {
        let mut bucket = Bucket::new(1_000_000, Instant(SECOND));
        bucket.reserve(Instant(SECOND), 100_000);
        let starts: Vec<u64> = (0..5).map(|_| bucket.reserve(Instant(SECOND), 10_000).0 - SECOND).collect();
        assert_eq!(starts, [0, 10_000_000, 20_000_000, 30_000_000, 40_000_000]);
    }
}
