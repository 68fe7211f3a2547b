//! The percentile text format of HdrHistogram (`.hgrm`), which its plotters read: value in milliseconds, percentile, total
//! count, 1/(1-percentile), and three lines about the whole.
//!
//! The layout is that of outputPercentileDistribution of the Java original, with five ticks per half distance.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Lines from one halving of the distance to 100 % to the next.
const TICKS: u32 = 5;
/// Microseconds in the unit of the values.
const UNIT: f64 = 1_000.0;

/// The text of a histogram of microseconds.
pub fn text(histogram: &Histogram<u64>) -> String {
    let mut out =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS) {
        total += step.count_since_last_iteration();
        let (value, percentile) = (step.value_iterated_to() as f64 / UNIT, step.quantile_iterated_to());
        let _ = write!(out, "{value:>12.3} {percentile:>2.12} {total:>10}");
        // The last line has no distance left to divide by.
        let _ = match percentile < 1.0 {
            true => writeln!(out, " {:>14.2}", 1.0 / (1.0 - percentile)),
            false => writeln!(out),
        };
    }
    let (mean, deviation) = (histogram.mean() / UNIT, histogram.stdev() / UNIT);
    let (max, count) = (histogram.max() as f64 / UNIT, histogram.len());
    let (buckets, distinct) = (histogram.buckets(), sub_buckets(histogram));
    let _ = writeln!(out, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(out, "#[Max     = {max:>12.3}, Total count    = {count:>12}]");
    let _ = writeln!(out, "#[Buckets = {buckets:>12}, SubBuckets     = {distinct:>12}]");
    out
}

/// Values told apart in a bucket: the power of two that holds twice the precision asked for.
fn sub_buckets(histogram: &Histogram<u64>) -> u64 {
    (2 * 10u64.pow(u32::from(histogram.sigfig()))).next_power_of_two()
}
