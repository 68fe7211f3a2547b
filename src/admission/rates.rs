//! A rate that shards keep together: who gets how much of it, by demand. The hub's side.
//!
//! Every second each shard says what has gone through its part and how long the line before it is. Shards without a line get what they use and a
//! quarter more; the rest goes to those with one, by its length, so that clients are treated alike wherever they are.
//!
//! The parts sum up to exactly the rate, so it is never exceeded. A shard without a line keeps at least a 256th of the rate (over all shards), which
//! is what may be lost while nothing comes there; what comes to it anew has its part after two reports.

use std::time::Duration;

/// Part of the rate that shards without demand keep, all together.
const FLOOR_PART: u64 = 256;

/// What a shard says of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Demand {
    /// Bytes since the last report.
    pub passed: u64,
    /// Whoever comes now has to wait so long.
    pub line: Duration,
}

/// The parts of `rate`, one for each demand.
pub fn parts(rate: u64, demands: &[Demand]) -> Vec<u64> {
    let count = demands.len().max(1) as u64;
    let floor = rate / FLOOR_PART / count;
    let waits = |demand: &Demand| !demand.line.is_zero();
    let waiting: u128 = demands.iter().map(|demand| demand.line.as_nanos()).sum();
    let quiet = demands.iter().filter(|demand| !waits(demand)).count() as u64;
    if waiting == 0 {
        return split(rate, &vec![1; demands.len()]);
    }
    let need = |demand: &Demand| (demand.passed.saturating_mul(5) / 4).max(floor).min(rate / count);
    let needs: u64 = demands.iter().filter(|demand| !waits(demand)).map(need).sum();
    let rest = split(
        rate.saturating_sub(needs),
        &demands.iter().map(|demand| demand.line.as_nanos()).collect::<Vec<_>>(),
    );
    debug_assert!(quiet < count);
    let part = |(demand, rest): (&Demand, u64)| if waits(demand) { rest } else { need(demand) };
    demands.iter().zip(rest).map(part).collect()
}

/// `amount` in the proportions of `weights`, of which one at least is not 0; exactly.
fn split(amount: u64, weights: &[u128]) -> Vec<u64> {
    let sum: u128 = weights.iter().sum();
    let (mut seen, mut given) = (0_u128, 0_u64);
    let part = |weight: &u128| {
        seen += weight;
        let until = (u128::from(amount) * seen).checked_div(sum).unwrap_or(0) as u64;
        let part = until - given;
        given = until;
        part
    };
    weights.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demand(passed: u64, millis: u64) -> Demand {
        Demand { passed, line: Duration::from_millis(millis) }
    }

    #[test]
    fn who_has_a_line_gets_what_the_others_leave() {
        assert_eq!(parts(1_000, &[demand(0, 0), demand(300, 0)]), [500, 500], "nobody waits");
        let one = parts(1_000_000, &[demand(0, 0), demand(500_000, 25)]);
        assert!(one[1] >= 998_000 && one.iter().sum::<u64>() == 1_000_000, "{one:?}");
        let quiet = parts(1_000_000, &[demand(100_000, 0), demand(500_000, 25)]);
        assert_eq!(quiet, [125_000, 875_000]);
        let both = parts(1_000_000, &[demand(500_000, 30), demand(500_000, 10)]);
        assert_eq!(both, [750_000, 250_000], "by the clients that wait");
    }

    proptest! {
        #[test]
        fn the_parts_are_the_rate(
            rate in 1_u64..2_000_000_000,
            demands in prop::collection::vec((0_u64..u64::MAX, 0_u64..10_000), 1..16),
        ) {
            let demands: Vec<Demand> =
                demands.into_iter().map(|(passed, wait)| demand(passed, wait.saturating_sub(5_000))).collect();
            prop_assert_eq!(parts(rate, &demands).iter().sum::<u64>(), rate);
        }
    }
}
