//! A storm: as many clients as are connected resume at once while blocks are announced. What the connected ones notice of it.
//!
//! ```text
//!   connect --clients      quiet: blocks, one after the other, p99 at the connected
//!   storm: as many more come, all at once, nearly all with tickets; blocks go on until all of them are ready: p99 again
//! ```
//! The relay is a process of its own, on all cores. The newcomers' rings run at a lower priority: their CPU is work that other
//! machines would do. The connected ones are measured by rings of their own.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use super::Common;
use super::million::{ANNOUNCE, CONNECT, listeners, node};
use crate::crowd::Crowd;
use crate::relay_process::RelayProcess;
use crate::report::Report;
use crate::rig::engine::Shared;
use crate::rig::measure::Latency;
use crate::rig::node::Fleet;
use crate::rig::run::Run;
use crate::rig::scenario::Transport;
use crate::{MAGIC, Outcome, os, stop};

/// The p99 in the storm may be so many times the quiet one.
const TARGET: f64 = 2.0;
/// Rest between the last handshake and the quiet blocks, and between two blocks.
const REST: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);
/// Blocks during the storm at the least, and at the most.
const BLOCKS: std::ops::Range<u32> = 3..1_000;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients that are connected, and as many that come.
    #[arg(long, default_value_t = 50_000)]
    clients: u32,
    /// What they speak: plain, v2 or tls.
    #[arg(long, default_value = "tls")]
    transport: Transport,
    /// Blocks while it is quiet.
    #[arg(long, default_value_t = 10)]
    blocks: u32,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let (clients, blocks) = if args.common.tiny { (40, 3) } else { (args.clients, args.blocks) };
    let stop = stop::on_signal()?;
    let workload = json!({ "clients": clients, "transport": args.transport.name(), "quiet_blocks": blocks });
    let mut report = Report::new("storm", workload);
    let shared = Shared::new(1, MAGIC);
    let node = node(&shared)?;
    let relay = RelayProcess::with_room(node.addresses()[0], 2 * clients, args.transport)?;
    let connected = listeners(&relay, clients, args.transport)?;
    let mut run = Run::start(connected, shared, Some(relay.pid()))?;
    if !run.wait(CONNECT, &stop, |_, _| {}, |run| run.levels().ready == u64::from(clients)) {
        return Err(format!("only {} of {clients} clients became ready", run.levels().ready).into());
    }
    run.wait(REST, &stop, |_, _| {}, |_| false);
    let mut before = run.total().block_announce;
    for _ in 0..blocks {
        announce(&mut run, &node, &stop)?;
    }
    let quiet = p99(&run, &mut before)?;
    let mut newcomers = listeners(&relay, clients, args.transport)?;
    // All at once: what the accept queues do not hold is tried again by the kernel.
    newcomers.in_flight = clients;
    let cpu = run.target_use().cpu;
    let start = Instant::now();
    let mut storm = os::yielding(move || Crowd::start_anywhere(newcomers))?;
    let mut during = 0;
    let mut over = None;
    while during < BLOCKS.start || (over.is_none() && during < BLOCKS.end) {
        announce(&mut run, &node, &stop)?;
        during += 1;
        let (tally, levels) = storm.look();
        if levels.ready + tally.refused_total() >= u64::from(clients) {
            over = over.or(Some(start.elapsed()));
        }
    }
    let stormy = p99(&run, &mut before)?;
    let spent = run.target_use().cpu.saturating_sub(cpu);
    let (tally, levels) = storm.look();
    let counts = tally.counts;
    report.number("quiet_p99_ms", "block at the connected, quiet, p99", quiet / 1e3, "ms");
    report.number("storm_p99_ms", "block at the connected, in the storm, p99", stormy / 1e3, "ms");
    report.number("storm_blocks", "blocks in the storm", f64::from(during), "");
    let seconds = over.map_or(f64::NAN, |over| over.as_secs_f64());
    report.number("storm_s", "until all newcomers were ready", seconds, "s");
    report.number("full", "full TLS handshakes of newcomers", counts.transport_full as f64, "");
    report.number("resumed", "resumed TLS handshakes of newcomers", counts.transport_resumed as f64, "");
    report.number("transports_s", "handshakes per second", counts.transport_opened() as f64 / seconds, "");
    report.number("relay_cpu_s", "the relay's CPU in the storm", spent.as_secs_f64(), "s");
    let transport = p99_of(tally.transport.get()).unwrap_or(f64::NAN);
    report.number("transport_p99_ms", "newcomers: from connected to open, p99", transport / 1e3, "ms");
    let missing = u64::from(clients).saturating_sub(levels.ready);
    report.bound("newcomers_missing", "newcomers that did not become ready", missing as f64, 0.0, false);
    storm.leave()?;
    let (results, ended) = run.finish();
    ended?;
    let total = results.total();
    let lost = (total.counts.lost + total.refused_total()) as f64;
    report.bound("lost", "connected clients lost", lost, 0.0, false);
    report.bound("skipped", "blocks skipped", total.counts.blocks_skipped as f64, 0.0, false);
    report.ratio("p99 in the storm to the quiet one", stormy / quiet, TARGET);
    report.finish(args.common)
}

/// A block to all that are connected.
fn announce(run: &mut Run, node: &Fleet, stop: &AtomicBool) -> Outcome {
    let want = run.sum().blocks_heard + run.levels().ready;
    node.mine()?;
    if !run.wait(ANNOUNCE, stop, |_, _| {}, |run| run.sum().blocks_heard >= want) {
        return Err("a block did not reach everybody who is connected".into());
    }
    std::thread::sleep(PAUSE);
    Ok(())
}

/// The p99 of the blocks since `before`, microseconds; what was measured so far is `before` then.
fn p99(run: &Run, before: &mut Latency) -> Outcome<f64> {
    let now = run.total().block_announce;
    let recent = now.since(before);
    *before = now;
    p99_of(recent.as_ref()).ok_or_else(|| "no block was heard".into())
}

fn p99_of(histogram: Option<&Histogram<u64>>) -> Option<f64> {
    histogram.map(|histogram| histogram.value_at_quantile(0.99) as f64)
}
