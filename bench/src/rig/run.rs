//! A run from its first connection to its results: the engine is watched, the target is read, the end is orderly.
//!
//! ```text
//!   ramp --every client begun and settled--> hold --duration--> quiet --pings answered--> close --all closed--> results
//!     \______ Ctrl-C, or no client left ________________________/
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::engine::{self, Engine, Shared};
use super::measure::{Levels, Tally};
use super::report::{Asked, MAX_SAMPLES, Measured, Results, Sample, TargetUse};
use super::scenario::Scenario;
use super::target::{self, Processes, Use};
use super::watch::Watch;
use crate::machine::Machine;
use crate::{Outcome, os};

/// From one look at the engine to the next.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// From one sample to the next.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for answers that are under way at the end.
const SETTLE: Duration = Duration::from_secs(10);

/// A run under way.
pub struct Run {
    scenario: Arc<Scenario>,
    shared: Arc<Shared>,
    engine: Engine,
    watch: Option<Watch>,
    started: Instant,
    totals: Vec<Tally>,
    levels: Levels,
    samples: Samples,
    target: Option<Processes>,
    before: Before,
    /// When the ramp was complete, and what the target had used by then.
    ramp: Option<(Duration, Use)>,
    rig_rss: u64,
    full: Option<(Use, u64, u64)>,
    interrupted: bool,
    /// With its load before the first client.
    machine: Machine,
}

/// What was read before the first client.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    target: Use,
    kernel: u64,
    rig_rss: u64,
}

impl Run {
    /// Starts the clients. `shared`: with origins that others (a node in this process) add to.
    ///
    /// # Errors
    /// See [`Engine::start`].
    pub fn start(scenario: Scenario, shared: Arc<Shared>, pid: Option<u32>) -> Outcome<Run> {
        let (scenario, machine) = (Arc::new(scenario), Machine::read());
        let target = match pid {
            Some(pid) => Some(Processes::of([pid])),
            None => Processes::listening(&scenario.targets),
        };
        let before = Before {
            target: target.as_ref().map(Processes::read).unwrap_or_default(),
            kernel: target::kernel_bytes().unwrap_or(0),
            rig_rss: own_rss(),
        };
        let watch = match scenario.watch {
            Some(node) => Some(Watch::start(node, scenario.magic(), shared.clone())?),
            None => None,
        };
        let engine = Engine::start(scenario.clone(), shared.clone())?;
        Ok(Run {
            totals: vec![Tally::default(); scenario.parts.len()],
            scenario,
            shared,
            engine,
            watch,
            started: Instant::now(),
            levels: Levels::default(),
            samples: Samples::new(before.target),
            target,
            before,
            ramp: None,
            rig_rss: 0,
            full: None,
            interrupted: false,
            machine,
        })
    }

    /// Looks at everything; a sample when a second has passed.
    pub fn look(&mut self) -> Option<Sample> {
        self.levels = self.engine.look(&mut self.totals);
        if self.ramp.is_none() && self.is_ramped() {
            self.ramp = Some((self.started.elapsed(), self.target_use()));
        }
        let at = self.started.elapsed();
        if at < self.samples.next {
            return None;
        }
        let used = self.target_use();
        let blocks = self.shared.origins.blocks();
        Some(self.samples.add(at, &self.totals, &self.levels, used, blocks))
    }

    /// True once every client has been ready, or is over, or (without a handshake) has connected.
    pub fn is_ramped(&self) -> bool {
        self.levels.settled >= u64::from(self.scenario.clients)
    }

    /// True when no client is there any more and none comes again.
    pub fn is_deserted(&self) -> bool {
        self.levels.over >= u64::from(self.scenario.clients)
    }

    /// Waits for `done`, at most `limit`, looking meanwhile; `seen` is given each sample. False when the limit has passed, or
    /// `stop` is true, or nobody is left.
    pub fn wait(
        &mut self,
        limit: Duration,
        stop: &AtomicBool,
        mut seen: impl FnMut(&Sample, &Run),
        mut done: impl FnMut(&Run) -> bool,
    ) -> bool {
        let start = Instant::now();
        loop {
            if let Some(sample) = self.look() {
                seen(&sample, self);
            }
            if done(self) {
                return true;
            }
            if stop.load(Ordering::Acquire) {
                self.interrupted = true;
                return false;
            }
            if self.is_deserted() || self.engine.has_failed() || start.elapsed() >= limit {
                return false;
            }
            std::thread::sleep(LOOK_EVERY.min(limit.saturating_sub(start.elapsed())));
        }
    }

    /// Reads what everything uses with all clients there; the last reading counts.
    pub fn weigh(&mut self) {
        self.rig_rss = own_rss();
        let kernel = target::kernel_bytes().unwrap_or(0);
        self.full = Some((self.target_use(), kernel, self.levels.open));
    }

    /// Lets what is under way come to its end, closes everything, and gives the results; and what a ring ended with, when one
    /// could not go on.
    pub fn finish(mut self) -> (Results, Outcome) {
        self.engine.quiet();
        let start = Instant::now();
        while start.elapsed() < SETTLE && !self.engine.has_failed() {
            std::thread::sleep(LOOK_EVERY);
            self.look();
            let sums = self.sum();
            let pings = sums.pings - sums.pongs - sums.pings_dropped;
            // Two reports after it became quiet, so that everything under way has been seen.
            if start.elapsed() > 2 * LOOK_EVERY && pings == 0 && self.levels.behind == 0 {
                break;
            }
        }
        if self.full.is_none() {
            self.weigh();
        }
        let last = self.target_use();
        let levels = self.levels;
        // Who was given its time and never became ready has not got what was asked.
        self.engine.close(!self.interrupted);
        while !self.engine.is_over() {
            std::thread::sleep(LOOK_EVERY);
            self.engine.look(&mut self.totals);
        }
        let wall = self.started.elapsed();
        let end = self.engine.look(&mut self.totals);
        let rings = self.engine.rings() as u64;
        let results = self.results(levels, end, last, wall, rings);
        (results, self.engine.join())
    }

    fn results(&self, levels: Levels, end: Levels, last: Use, wall: Duration, rings: u64) -> Results {
        let scenario = &self.scenario;
        let behaviours = scenario.parts.iter().zip(&scenario.counts).zip(&self.totals);
        let (full, kernel, open) = self.full.unwrap_or_default();
        let target = self.target.as_ref().map(|processes| TargetUse {
            pid: processes.pids().next().unwrap_or(0),
            cpu: last.cpu.saturating_sub(self.before.target.cpu),
            cpu_after_ramp: self.ramp.map_or(Duration::ZERO, |(_, used)| last.cpu.saturating_sub(used.cpu)),
            rss_before: self.before.target.rss,
            rss: full.rss,
            kernel_per_client: target::kernel_per_connection(self.before.kernel, kernel, open)
                .filter(|_| scenario.targets.iter().all(|at| at.ip().is_loopback())),
            clients: open,
        });
        let linked = self.watch.as_ref().is_some_and(Watch::stayed_linked);
        Results {
            asked: self.asked(rings),
            behaviours: behaviours
                .map(|((part, asked), tally)| Measured {
                    name: part.kind.name.to_string(),
                    asked: u64::from(*asked),
                    tally: tally.clone(),
                })
                .collect(),
            levels,
            target,
            samples: self.samples.list.clone(),
            blocks: self.shared.origins.blocks(),
            txs: self.shared.origins.txs(),
            origin: if linked { "node" } else { "first client" },
            wall,
            ramp: self.ramp.map(|(at, _)| at),
            rig_cpu: Duration::from_micros(end.cpu_us),
            rig_rss: self.rig_rss,
            rig_rss_before: self.before.rig_rss,
            rig_plan: engine::plan(scenario),
            interrupted: self.interrupted,
            started: self.shared.unix_start,
            machine: self.machine.clone(),
        }
    }

    /// What was asked, for the record.
    pub fn asked(&self, rings: u64) -> Asked {
        let scenario = &self.scenario;
        Asked {
            targets: scenario.target_names.clone(),
            network: breakwater::control::config::network_name(scenario.network).to_string(),
            clients: u64::from(scenario.clients),
            ramp: scenario.ramp.to_string(),
            seconds: scenario.duration.as_secs_f64(),
            transport: scenario.transports(),
            seed: scenario.seed,
            rings,
            churn: scenario.churn,
        }
    }

    /// VmRSS of the target before the first client, bytes.
    pub fn before_rss(&self) -> u64 {
        self.before.target.rss
    }

    /// The engine, to change what it does.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What was measured so far, by behaviour.
    pub fn totals(&self) -> &[Tally] {
        &self.totals
    }

    /// The counters of all behaviours together.
    pub fn sum(&self) -> super::measure::Counts {
        let mut sum = super::measure::Counts::default();
        self.totals.iter().for_each(|tally| sum.add(&tally.counts));
        sum
    }

    /// What all behaviours together measured so far.
    pub fn total(&self) -> Tally {
        let mut sum = Tally::default();
        self.totals.iter().for_each(|tally| sum.add(tally));
        sum
    }

    /// What is the case now.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// What the target has used so far; zero when it is unknown. When it is gone, what it was last seen to use.
    pub fn target_use(&self) -> Use {
        self.target.as_ref().map(Processes::read).unwrap_or_default()
    }
}

fn own_rss() -> u64 {
    os::resident(std::process::id()).map_or(0, |(_, rss)| rss)
}

/// The samples, and what the last one was made from.
#[derive(Debug)]
struct Samples {
    list: Vec<Sample>,
    next: Duration,
    /// Seconds between two samples doubles each time the list is full.
    every: Option<Duration>,
    last: Last,
}

#[derive(Debug, Default)]
struct Last {
    at: f64,
    handshakes: u64,
    messages: u64,
    bytes: u64,
    rig_us: u64,
    target: Duration,
    sum: Tally,
}

impl Samples {
    /// Before the first client; the target has used this much by then.
    fn new(target: Use) -> Samples {
        let last = Last { target: target.cpu, ..Last::default() };
        Samples { list: Vec::new(), next: SAMPLE_EVERY, every: None, last }
    }

    fn add(&mut self, at: Duration, totals: &[Tally], levels: &Levels, used: Use, blocks: u32) -> Sample {
        let mut sum = Tally::default();
        totals.iter().for_each(|tally| sum.add(tally));
        let seconds = at.as_secs_f64();
        let span = (seconds - self.last.at).max(1e-3);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / span;
        let recent = |now: &super::measure::Latency, before: &super::measure::Latency, quantile| {
            now.since(before).map_or(0, |histogram| histogram.value_at_quantile(quantile))
        };
        let (last, counts) = (&self.last, &sum.counts);
        let sample = Sample {
            at: seconds,
            open: levels.open,
            ready: levels.ready,
            handshakes_s: rate(counts.handshakes, last.handshakes),
            full_s: rate(counts.transport_full, last.sum.counts.transport_full),
            resumed_s: rate(counts.transport_resumed, last.sum.counts.transport_resumed),
            v2_s: rate(counts.transport_v2, last.sum.counts.transport_v2),
            messages_s: rate(counts.messages_in, last.messages),
            bytes_in_s: rate(counts.bytes_in, last.bytes),
            refused: sum.refused_total(),
            lost: counts.lost,
            ping_p50: recent(&sum.ping, &last.sum.ping, 0.5),
            ping_p99: recent(&sum.ping, &last.sum.ping, 0.99),
            block_p50: recent(&sum.block_announce, &last.sum.block_announce, 0.5),
            block_p99: recent(&sum.block_announce, &last.sum.block_announce, 0.99),
            blocks,
            behind: levels.behind,
            target_rss: used.rss,
            target_cores: used.cpu.saturating_sub(last.target).as_secs_f64() / span,
            rig_cores: rate(levels.cpu_us, last.rig_us) / 1e6,
            slab: os::slab().unwrap_or(0),
        };
        self.last = Last {
            at: seconds,
            handshakes: counts.handshakes,
            messages: counts.messages_in,
            bytes: counts.bytes_in,
            rig_us: levels.cpu_us,
            target: used.cpu,
            sum,
        };
        if self.list.len() >= MAX_SAMPLES {
            let mut keep = false;
            self.list.retain(|_| {
                keep = !keep;
                keep
            });
            self.every = self.every.map(|every| every * 2);
        }
        self.list.push(sample);
        self.next = at + *self.every.get_or_insert(SAMPLE_EVERY);
        sample
    }
}
