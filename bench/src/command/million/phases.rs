//! The big run, phase by phase.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cost::{ANNOUNCE, CONNECT, announce, listeners, node};
use super::{Args, say};
use crate::command::median;
use crate::relay_process::RelayProcess;
use crate::rig::engine::Shared;
use crate::rig::measure::Tally;
use crate::rig::node::Fleet;
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
/// The same when nothing is measured.
const TINY_DRAIN: Duration = Duration::from_secs(1);

/// What was measured. NaN: the run ended before.
#[derive(Debug)]
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
    pub(super) txs_heard: f64,
    /// Announcements of transactions that did not come in time.
    pub(super) txs_missing: f64,
    pub(super) churned: f64,
    /// Clients that were not there again after the churn.
    pub(super) not_ready: f64,
    /// Clients that had not heard of the newest block after the churn.
    pub(super) behind: f64,
    pub(super) rss_start: f64,
    pub(super) rss_full: f64,
    pub(super) rss_drained: f64,
    pub(super) cost: f64,
    /// Of everybody, the whole run.
    pub(super) tally: Tally,
}

impl Big {
    fn nothing() -> Big {
        let no = f64::NAN;
        Big {
            ready: no,
            lost: 0,
            refused: 0,
            skipped: 0,
            user_idle: no,
            user_full: no,
            kernel: no,
            rig: no,
            pongs: 0,
            pings_open: 0,
            fanout: no,
            txs_heard: no,
            txs_missing: no,
            churned: no,
            not_ready: no,
            behind: no,
            rss_start: no,
            rss_full: no,
            rss_drained: no,
            cost: no,
            tally: Tally::default(),
        }
    }
}

/// What is at work during the run.
struct Stage<'a> {
    args: &'a Args,
    stop: &'a AtomicBool,
    node: Fleet,
    run: Run,
    big: Big,
}

/// The run from the first client to the last. Once clients connect, what was measured until then and the report are kept whatever
/// happens: the second value says why the run did not come to its end.
pub(super) fn run(args: &Args, stop: &AtomicBool) -> Outcome<(Big, Outcome)> {
    let shared = Shared::new(1, MAGIC);
    let node = node(&shared)?;
    let relay = RelayProcess::with_room(node.addresses()[0], args.clients, args.transport)?;
    std::thread::sleep(Duration::from_secs(1));
    let kernel_start = target::kernel_bytes().unwrap_or(0);
    let run = Run::start(listeners(&relay, args.clients, args.transport)?, shared, Some(relay.pid()))?;
    let mut stage = Stage { args, stop, node, run, big: Big::nothing() };
    let ended = stage.phases(kernel_start);
    // Whatever a phase made of it: somebody wanted the end.
    let ended = if stop.load(Ordering::Acquire) { Err("interrupted".into()) } else { ended };
    let Stage { run, mut big, .. } = stage;
    say("drain");
    let (results, rings) = run.finish();
    // The first thing that went wrong says more.
    let ended = ended.and(rings);
    if ended.is_ok() {
        big.rss_drained = drained(&relay, &big, if args.common.tiny { TINY_DRAIN } else { DRAIN });
    }
    let sum = &results.behaviours[0].tally;
    (big.lost, big.refused, big.skipped) = (sum.counts.lost, sum.refused_total(), sum.counts.blocks_skipped);
    big.pongs = sum.counts.pongs;
    big.pings_open = sum.counts.pings - sum.counts.pongs - sum.counts.pings_dropped;
    big.rig = results.rig_rss.saturating_sub(results.rig_rss_before) as f64 / f64::from(args.clients);
    big.tally = sum.clone();
    report::write(&args.report, &results)?;
    say(&format!("report in {}", args.report.display()));
    Ok((big, ended))
}

/// The relay's memory after the drain, once it no longer shrinks to what is wanted.
fn drained(relay: &RelayProcess, big: &Big, limit: Duration) -> f64 {
    let (start, mut left) = (Instant::now(), relay.resident());
    while start.elapsed() < limit && left > big.rss_start + super::REMAINS * (big.rss_full - big.rss_start) {
        std::thread::sleep(Duration::from_secs(1));
        left = relay.resident();
    }
    left
}

impl Stage<'_> {
    fn phases(&mut self, kernel_start: u64) -> Outcome {
        self.connect(kernel_start)?;
        self.blocks()?;
        self.transactions()?;
        if !self.args.churn_for().is_zero() {
            self.churn()?;
        }
        // Every ping under way is given its time; then the drain.
        self.run.engine().ping(Duration::ZERO);
        Ok(())
    }

    fn per_client(&self, bytes: f64) -> f64 {
        bytes / f64::from(self.args.clients)
    }

    fn connect(&mut self, kernel_start: u64) -> Outcome {
        let clients = u64::from(self.args.clients);
        self.big.rss_start = self.run.before_rss() as f64;
        say(&format!("connecting {clients} clients"));
        let start = Instant::now();
        if !self.run.wait(CONNECT, self.stop, progress, |run| run.levels().ready == clients) {
            return Err(format!("only {} of {clients} clients became ready", self.run.levels().ready).into());
        }
        self.big.ready = start.elapsed().as_secs_f64();
        say(&format!("all ready after {:.1} s", self.big.ready));
        self.rest();
        self.big.user_idle = self.per_client(self.run.target_use().rss as f64);
        let kernel = target::kernel_bytes().unwrap_or(0);
        self.big.kernel = target::kernel_per_connection(kernel_start, kernel, clients).unwrap_or(0) as f64;
        Ok(())
    }

    fn blocks(&mut self) -> Outcome {
        let (mut costs, mut fanouts) = (Vec::new(), Vec::new());
        for number in 0..self.args.blocks() {
            if number == self.args.blocks() / 2 {
                say("pings from now on");
                self.run.engine().ping(self.args.ping_every);
            }
            let (cost, seconds) = announce(&mut self.run, &self.node, self.stop)?;
            if number < self.args.blocks() / 2 {
                costs.push(cost);
            }
            fanouts.push(seconds);
            // Kept at once: a later block may be the last.
            (self.big.cost, self.big.fanout) = (median(&mut costs), median(&mut fanouts));
            say(&format!(
                "block {} of {}: {seconds:.1} s, {cost:.2} us of the relay's CPU per client",
                number + 1,
                self.args.blocks()
            ));
        }
        Ok(())
    }

    fn transactions(&mut self) -> Outcome {
        let (all, clients) = (self.args.txs(), u64::from(self.args.clients));
        say(&format!("{all} transactions"));
        let (mut made, before) = (0, self.run.sum().txs_heard);
        self.run.engine().ping(Duration::ZERO);
        while made < all {
            let batch = TXS_AT_A_TIME.min(all - made);
            let got = self.node.make_txs(batch as usize)?;
            if let Some(short) = got.short {
                return Err(format!("the node could not make {batch} transactions: {short:?}").into());
            }
            made += batch;
            // One batch after the other: what two cores do not take in at once waits in the kernel's socket buffers, of a million
            // clients, and that is more than the memory of this machine.
            let want = before + u64::from(made) * clients;
            let all_came = self.run.wait(ANNOUNCE, self.stop, progress, |run| run.sum().txs_heard >= want);
            let heard = self.run.sum().txs_heard;
            self.big.txs_heard = (heard - before) as f64;
            self.big.txs_missing = want.saturating_sub(heard) as f64;
            if self.stop.load(Ordering::Acquire) {
                return Err("interrupted".into());
            }
            if !all_came {
                say(&format!("{} announcements of transactions did not come in time", self.big.txs_missing));
            }
        }
        self.rest();
        self.run.weigh();
        let full = self.run.target_use().rss as f64;
        (self.big.rss_full, self.big.user_full) = (full, self.per_client(full));
        Ok(())
    }

    fn churn(&mut self) -> Outcome {
        let (args, clients) = (self.args, u64::from(self.args.clients));
        let churn_for = args.churn_for();
        say(&format!("churn for {} s", churn_for.as_secs()));
        let left = self.run.sum().left;
        self.run.engine().ping(args.ping_every * CHURN_PINGS);
        self.run.engine().churn(args.churn);
        let churn = Instant::now();
        while churn.elapsed() < churn_for {
            let pause = CHURN_BLOCK.min(churn_for.saturating_sub(churn.elapsed()));
            self.run.wait(pause, self.stop, progress, |_| false);
            self.node.mine()?;
            self.big.churned = (self.run.sum().left - left) as f64;
            if self.stop.load(Ordering::Acquire) {
                return Err("interrupted".into());
            }
        }
        self.run.engine().churn(0.0);
        self.run.wait(ANNOUNCE, self.stop, progress, |run| {
            run.levels().ready == clients && run.levels().behind == 0
        });
        let levels = self.run.levels();
        self.big.not_ready = clients.saturating_sub(levels.ready) as f64;
        self.big.behind = levels.behind as f64;
        self.big.churned = (self.run.sum().left - left) as f64;
        Ok(())
    }

    fn rest(&mut self) {
        self.run.wait(REST, self.stop, progress, |_| false);
    }
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
