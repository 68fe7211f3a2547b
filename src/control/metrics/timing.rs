//! What is in seconds, in Prometheus text: the recorder's counters are whole numbers, and its histograms want every single value.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::list::{LATENCY, Metric, REGIMES, documented};
use crate::link::{BOUNDS, Histogram, ShardReport};
use crate::shard::regimes::Regime;

/// The last of each shard.
static SHARDS: Mutex<BTreeMap<u16, Timing>> = Mutex::new(BTreeMap::new());

/// Of the shards' bounds those that are shown, in nanoseconds to a factor of ten: 1, 2.5, 5.
const SHOWN: [u64; 3] = [10, 25, 50];

#[derive(Clone, Debug)]
struct Timing {
    regimes: Vec<Duration>,
    latency: Histogram,
}

/// Keeps what a shard has reported.
pub(super) fn keep(shard: u16, report: &ShardReport) {
    let timing = Timing { regimes: report.regimes.clone(), latency: report.latency.clone() };
    SHARDS.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, timing);
}

/// All of it as text.
pub(super) fn render() -> String {
    let shards = SHARDS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut text = String::new();
    for metric in documented().iter().filter(|metric| [REGIMES, LATENCY].contains(&metric.name.as_str())) {
        let Metric { name, kind, text: what, .. } = metric;
        let _ = writeln!(text, "# HELP {name} {what}\n# TYPE {name} {}", kind.label());
        for (shard, timing) in &shards {
            match name.as_str() {
                REGIMES => regimes(&mut text, *shard, &timing.regimes),
                _ => latency(&mut text, *shard, &timing.latency),
            }
        }
        text.push('\n');
    }
    text
}

fn regimes(text: &mut String, shard: u16, spent: &[Duration]) {
    for (regime, time) in Regime::ALL.iter().zip(spent) {
        let (label, seconds) = (regime.label(), time.as_secs_f64());
        let _ = writeln!(text, "{REGIMES}{{shard=\"{shard}\",regime=\"{label}\"}} {seconds}");
    }
}

fn latency(text: &mut String, shard: u16, seen: &Histogram) {
    for (bound, count) in BOUNDS.iter().zip(seen.cumulative()) {
        if is_shown(*bound) {
            let bound = Duration::from_nanos(*bound).as_secs_f64();
            let _ = writeln!(text, "{LATENCY}_bucket{{shard=\"{shard}\",le=\"{bound}\"}} {count}");
        }
    }
    let (sum, count) = (seen.sum().as_secs_f64(), seen.count());
    let _ = writeln!(
        text,
        "{LATENCY}_bucket{{shard=\"{shard}\",le=\"+Inf\"}} {count}\n\
         {LATENCY}_sum{{shard=\"{shard}\"}} {sum}\n{LATENCY}_count{{shard=\"{shard}\"}} {count}"
    );
}

fn is_shown(bound: u64) -> bool {
    let mut head = bound;
    while head >= 100 {
        head /= 10;
    }
    SHOWN.contains(&head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_all() {
        let mut seen = Histogram::default();
        seen.add(Duration::from_micros(300), 4);
        seen.add(Duration::from_secs(90), 1);
        let mut text = String::new();
        latency(&mut text, 3, &seen);
        let value = |line: &str| text.lines().find_map(|l| l.strip_prefix(line)).map(str::to_owned);
        let bucket = |le: &str| value(&format!("{LATENCY}_bucket{{shard=\"3\",le=\"{le}\"}} "));
        assert_eq!(bucket("0.00025").as_deref(), Some("0"));
        assert_eq!(bucket("0.0005").as_deref(), Some("4"));
        assert_eq!(bucket("50").as_deref(), Some("4"));
        assert_eq!(bucket("+Inf").as_deref(), Some("5"));
        assert_eq!(value(&format!("{LATENCY}_sum{{shard=\"3\"}} ")).as_deref(), Some("90.0012"));
        assert_eq!(value(&format!("{LATENCY}_count{{shard=\"3\"}} ")).as_deref(), Some("5"));
        assert_eq!(text.lines().count(), 3 * 6 + 3);
    }
}
