//! One of several that download is throttled to a rate: what it gets, and what its neighbours get.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Args, Stage};
use crate::Outcome;
use crate::report::Report;
use crate::witness::Download;

/// How far the rate may be off.
const EXACT: f64 = 0.01;
/// What the neighbours keep of their rate.
const KEPT: f64 = 0.95;
/// After the throttle is set: what waits in buffers is read.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) fn measure(stage: &Stage, args: &Args, report: &mut Report) -> Outcome {
    let (one, id) = stage.single()?;
    let one = stage.download(one)?;
    let neighbours: Vec<Download> =
        (0..args.neighbours.max(1)).map(|_| stage.download(stage.single()?.0)).collect::<Outcome<_>>()?;
    std::thread::sleep(SETTLE);
    let (begin, before) = (Instant::now(), args.window / 2);
    std::thread::sleep(before);
    let middle = Instant::now();
    let sum = |from, to| neighbours.iter().map(|download| download.rate(from, to)).sum::<f64>();
    let (free, free_sum) = (one.rate(begin, middle), sum(begin, middle));
    stage.relay.admin().act("throttle", &id, json!({ "down": args.rate }))?;
    std::thread::sleep(SETTLE);
    let from = Instant::now();
    std::thread::sleep(args.window);
    let to = Instant::now();
    let (got, kept) = (one.rate(from, to), sum(from, to) / free_sum);
    report.number("rate_before", "one that downloads: before its throttle", free / 1e6, "MB/s");
    report.number("neighbours", "its neighbours, together", free_sum / 1e6, "MB/s");
    report.number("rate", "one that downloads: throttled", got / 1e6, "MB/s");
    report.bound("neighbours_kept", "  its neighbours, to what they had before", kept, KEPT, true);
    let off = (got / args.rate as f64 - 1.0).abs();
    report.ratio("  how far its rate is from the one that was set", off, EXACT);
    Ok(())
}
