//! The big run, phase by phase.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::cost::{ANNOUNCE, CONNECT, announce, listeners, node};
use super::{Args, say};
use crate::command::median;
use crate::relay_process::RelayProcess;
use crate::rig::engine::Shared;
use crate::rig::report::Sample;
use crate::rig::run::Run;
use crate::rig::{report, target};
use crate::{MAGIC, Outcome};

/// Rest between two phases, so that each is measured alone.
const REST: Duration = Duration::from_secs(5);
/// Transactions made at a time.
const TXS_AT_A_TIME: u32 = 100;
/// A block comes this often while clients churn.
const CHURN_BLOCK: Duration = Duration::from_secs(60);
/// While clients churn, pings come this many times less often: two cores have enough to do.
const CHURN_PINGS: u32 = 5;
/// Longest wait for the relay's memory after the drain.
const DRAIN: Duration = Duration::from_secs(90);

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Big {
    pub(super) ready: f64,
    pub(super) lost: u64,
    pub(super) refused: u64,
    pub(super) skipped: u64,
    pub(super) user_idle: f64,
    pub(super) user_full: f64,
    pub(super) kernel: f64,
    pub(super) rig: f64,
    pub(super) pongs: u64,
    pub(super) pings_open: u64,
    pub(super) fanout: f64,
    pub(super) txs_heard: u64,
    pub(super) churned: u64,
    pub(super) rss_start: f64,
    pub(super) rss_full: f64,
    pub(super) rss_drained: f64,
    pub(super) cost: f64,
}

pub(super) fn run(args: &Args, stop: &AtomicBool) -> Outcome<Big> {
    let mut big = Big::default();
    let clients = u64::from(args.clients);
    let per_client = |bytes: f64| bytes / clients as f64;
    let shared = Shared::new(1, MAGIC);
    let node = node(&shared)?;
    let relay = RelayProcess::start(node.addresses()[0], args.clients)?;
    std::thread::sleep(Duration::from_secs(1));
    let kernel_start = target::kernel_bytes().unwrap_or(0);
    let mut run = Run::start(listeners(relay.address(), args.clients, "idle")?, shared, Some(relay.pid()))?;
    big.rss_start = run.before_rss() as f64;

    say(&format!("connecting {clients} clients"));
    let start = Instant::now();
    if !run.wait(CONNECT, stop, progress, |run| run.levels().ready == clients) {
        return Err(format!("only {} of {clients} clients became ready", run.levels().ready).into());
    }
    big.ready = start.elapsed().as_secs_f64();
    say(&format!("all ready after {:.1} s", big.ready));
    rest(&mut run, stop);
    big.user_idle = per_client(run.target_use().rss as f64);
    let kernel = target::kernel_bytes().unwrap_or(0);
    big.kernel = target::kernel_per_connection(kernel_start, kernel, clients).unwrap_or(0) as f64;

    let (mut costs, mut fanouts) = (Vec::new(), Vec::new());
    for number in 0..args.blocks {
        if number == args.blocks / 2 {
            say("pings from now on");
            run.engine().ping(args.ping_every);
        }
        let (cost, seconds) = announce(&mut run, &node, stop)?;
        if number < args.blocks / 2 {
            costs.push(cost);
        }
        fanouts.push(seconds);
        say(&format!(
            "block {} of {}: {seconds:.1} s, {cost:.2} us of the relay's CPU per client",
            number + 1,
            args.blocks
        ));
    }
    (big.cost, big.fanout) = (median(&mut costs), median(&mut fanouts));

    say(&format!("{} transactions", args.txs));
    let (mut made, before) = (0, run.sum().txs_heard);
    run.engine().ping(Duration::ZERO);
    while made < args.txs {
        let batch = TXS_AT_A_TIME.min(args.txs - made);
        let got = node.make_txs(batch as usize)?;
        if let Some(short) = got.short {
            return Err(format!("the node could not make {batch} transactions: {short:?}").into());
        }
        made += batch;
        // One batch after the other: what two cores do not take in at once waits in the kernel's socket buffers, of a million
        // clients, and that is more than the memory of this machine.
        let want = before + u64::from(made) * clients;
        if !run.wait(ANNOUNCE, stop, progress, |run| run.sum().txs_heard >= want) {
            let missing = want.saturating_sub(run.sum().txs_heard);
            say(&format!("MISSED: {missing} announcements of transactions did not come in time"));
        }
    }
    big.txs_heard = run.sum().txs_heard - before;
    rest(&mut run, stop);
    run.weigh();
    let full = run.target_use().rss;
    (big.rss_full, big.user_full) = (full as f64, per_client(full as f64));

    say(&format!("churn for {} s", args.churn_for.as_secs()));
    let left = run.sum().left;
    run.engine().ping(args.ping_every * CHURN_PINGS);
    run.engine().churn(args.churn);
    let churn = Instant::now();
    while churn.elapsed() < args.churn_for {
        let pause = CHURN_BLOCK.min(args.churn_for.saturating_sub(churn.elapsed()));
        run.wait(pause, stop, progress, |_| false);
        node.mine()?;
        if stop.load(std::sync::atomic::Ordering::Acquire) {
            return Err("interrupted".into());
        }
    }
    run.engine().churn(0.0);
    if !run.wait(ANNOUNCE, stop, progress, |run| run.levels().ready == clients && run.levels().behind == 0) {
        let levels = run.levels();
        say(&format!(
            "MISSED: {} of {clients} are ready, {} behind after the churn",
            levels.ready, levels.behind
        ));
    }
    big.churned = run.sum().left - left;
    // Every ping under way is given its time; then the drain.
    run.engine().ping(Duration::ZERO);
    say("drain");
    let (results, ended) = run.finish();
    ended?;
    let mut left = relay.resident();
    let start = Instant::now();
    while start.elapsed() < DRAIN && left > big.rss_start + super::REMAINS * (big.rss_full - big.rss_start) {
        std::thread::sleep(Duration::from_secs(1));
        left = relay.resident();
    }
    big.rss_drained = left;
    let sum = &results.behaviours[0].tally;
    (big.lost, big.refused, big.skipped) = (sum.counts.lost, sum.refused_total(), sum.counts.blocks_skipped);
    big.pongs = sum.counts.pongs;
    big.pings_open = sum.counts.pings - sum.counts.pongs - sum.counts.pings_dropped;
    big.rig = per_client(results.rig_rss.saturating_sub(results.rig_rss_before) as f64);
    report::write(&args.report, &results)?;
    say(&format!("report in {}", args.report.display()));
    Ok(big)
}

fn rest(run: &mut Run, stop: &AtomicBool) {
    run.wait(REST, stop, progress, |_| false);
}

fn progress(sample: &Sample, _: &Run) {
    // Once every ten seconds is enough for somebody who waits for minutes.
    if (sample.at as u64).is_multiple_of(10) {
        say(&format!(
            "{:.0} s: {} ready, {:.0} handshakes/s, {} behind, ping p99 {} us, relay {:.2} cores {} MB, rig {:.2} cores",
            sample.at,
            sample.ready,
            sample.handshakes_s,
            sample.behind,
            sample.ping_p99,
            sample.target_cores,
            sample.target_rss / 1_000_000,
            sample.rig_cores
        ));
    }
}
