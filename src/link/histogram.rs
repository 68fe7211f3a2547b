//! A histogram of times as shards keep and report it: fixed bounds, so that adding up those of all shards is adding numbers.
//!
//! Ten bounds to a factor of ten, from 100 us to 80 s: what is read from it is at most a quarter too high, and never too low.

use std::time::Duration;

/// Bounds within a factor of ten (ISO 3, R10), in units of 100 us.
const STEPS: [f64; 10] = [1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0];
/// Factors of ten.
const DECADES: usize = 6;
/// Bounds.
const COUNT: usize = STEPS.len() * DECADES;

/// The upper bounds of the buckets in nanoseconds, each inclusive; behind the last is one bucket more.
pub const BOUNDS: [u64; COUNT] = bounds();

const fn bounds() -> [u64; COUNT] {
    let (mut all, mut n, mut unit) = ([0; COUNT], 0, 100_000.0);
    while n < COUNT {
        all[n] = (STEPS[n % STEPS.len()] * unit) as u64;
        n += 1;
        if n.is_multiple_of(STEPS.len()) {
            unit *= 10.0;
        }
    }
    all
}

/// How often which time was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; COUNT + 1],
    /// Nanoseconds, all times together.
    sum: u64,
    /// Nanoseconds, the longest.
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; COUNT + 1], sum: 0, max: 0 }
    }
}

impl Histogram {
    /// A time was seen so often.
    pub fn add(&mut self, time: Duration, times: u64) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += times;
        }
        self.sum = self.sum.saturating_add(nanos.saturating_mul(times));
        self.max = self.max.max(nanos);
    }

    /// Adds what another one has seen.
    pub fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// How many times were seen.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of them up to each of [`BOUNDS`], and all.
    pub fn cumulative(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// The longest; none when nothing was seen.
    pub fn max(&self) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_nanos(self.max))
    }

    /// The time that this part of them (0 to 1) did not exceed; none when nothing was seen.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let max = self.max()?;
        let rank = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let bucket = self.cumulative().position(|sum| sum >= rank)?;
        let bound = BOUNDS.get(bucket).copied().map_or(max, Duration::from_nanos);
        Some(bound.min(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_by_a_quarter_at_most_and_the_usual_ones_are_among_them() {
        assert_eq!((BOUNDS[0], BOUNDS[COUNT - 1]), (100_000, 80_000_000_000));
        assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1] && pair[1] <= pair[0] * 13 / 10));
        for usual in
            [100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 1_000_000_000, 10_000_000_000]
        {
            assert!(BOUNDS.contains(&usual), "{usual}");
        }
    }

    #[test]
    fn quantiles_are_bounds_and_never_more_than_the_longest() {
        let mut times = Histogram::default();
        assert_eq!((times.quantile(0.5), times.max(), times.count()), (None, None, 0));
        let ms = Duration::from_millis;
        times.add(ms(1), 50);
        times.add(ms(3), 49);
        times.add(Duration::from_secs(500), 1);
        assert_eq!(times.quantile(0.5), Some(ms(1)), "a bound holds itself");
        assert_eq!(times.quantile(0.51), Some(Duration::from_micros(3_200)));
        assert_eq!(times.quantile(0.99), Some(Duration::from_micros(3_200)));
        assert_eq!(times.quantile(1.0), Some(Duration::from_secs(500)), "behind the last bound");
        assert_eq!(times.sum(), ms(50 + 3 * 49) + Duration::from_secs(500));
        let mut both = times.clone();
        both.merge(&times);
        assert_eq!((both.count(), both.quantile(0.5)), (200, times.quantile(0.5)));
        assert_eq!(both.cumulative().last(), Some(200));
        let mut one = Histogram::default();
        one.add(Duration::from_micros(110), 1);
        assert_eq!(one.quantile(0.5), Some(Duration::from_micros(110)));
    }
}
