//! Attacks beside honest clients: what the honest notice of them, and what memory the relay takes meanwhile.
//!
//! ```text
//!   --clients connect, sessions all     quiet: blocks, one after the other, p99 of their announcement
//!   each attack, by a process of its own: blocks for --attack-for, p99 again; the relay's memory at each block
//!     flood     probers as fast as they can from 200 addresses          hammer    as many questions as 100 connections can ask
//!     loris     a version or a long message, a byte a second            stalled   asks for 160 MB, never reads
//! ```
//! The honest clients come from an exempt network (127.1.0.0/16); all others are limited as the internet is. Attackers run at nice 10:
//! their CPU is work that other machines would do. On loopback the kernel does the relay's part of a TCP handshake in the time of
//! who connects, so `flood` costs the relay less here than behind a network card; what its own threads use is said (`relay_cores`), and how long they
//! waited for a core that others had (`relay_waited`): where that is large the host is too small or too busy for this benchmark.
//!
//! Memory is held against the plan that `breakwater plan` prints for this configuration: the relay's own (VmRSS) against the plan
//! without the kernel's part; and all of it, with the kernel's idle sockets as planned and the bytes that wait in
//! the relay's sockets (/proc/net/tcp), against all of the plan.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use breakwater::control::duration;
use breakwater::control::plan::KERNEL_PER_CLIENT;
use serde_json::{Value, json};

use super::Common;
use super::million::{ANNOUNCE, CONNECT, node_of};
use crate::attackers::{self, Attackers};
use crate::relay_process::RelayProcess;
use crate::report::Report;
use crate::rig::engine::Shared;
use crate::rig::measure::Latency;
use crate::rig::node::{Fleet, Plan};
use crate::rig::run::Run;
use crate::rig::scenario::{Sources, Transport};
use crate::rig::target;
use crate::{MAGIC, Outcome, crowd, os, stop};

/// The p99 in an attack may be so many times the quiet one.
const TARGET: f64 = 2.0;
/// Rest before the quiet blocks, between the begin of an attack and its blocks, and between two blocks.
const REST: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);
/// Blocks during an attack at the least.
const BLOCKS: u32 = 3;
/// Blocks of the chain at the start: the last 30 are filled.
const CHAIN: u32 = 130;
/// Addresses of the honest, and clients on each.
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const PER_ADDRESS: u32 = 10_000;
/// Places for others than the honest.
const ROOM: u32 = 25_000;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Honest clients.
    #[arg(long, default_value_t = 50_000)]
    clients: u32,
    /// Blocks while it is quiet.
    #[arg(long, default_value_t = 20)]
    blocks: u32,
    /// How long blocks go on in each attack.
    #[arg(long, default_value = "30s", value_parser = duration)]
    attack_for: Duration,
    /// Size of the blocks, bytes.
    #[arg(long, default_value_t = 200_000)]
    block_bytes: usize,
    /// Probers of the flood, from 200 addresses.
    #[arg(long, default_value_t = 10_000)]
    flood: u32,
    /// Connections of the slow loris, an address each.
    #[arg(long, default_value_t = 5_000)]
    loris: u32,
    /// Connections of the request flood.
    #[arg(long, default_value_t = 100)]
    hammer: u32,
    /// Connections that never read.
    #[arg(long, default_value_t = 1_000)]
    stalled: u32,
    /// Only this attack: flood, loris, hammer or stalled.
    #[arg(long)]
    only: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// An attack.
struct Attack {
    name: &'static str,
    behaviour: &'static str,
    clients: u32,
    from: Ipv4Addr,
    addresses: u32,
}

/// What the relay's threads had done at a moment.
struct Reading {
    at: Instant,
    cpu: Duration,
    waited: Duration,
    turns: u64,
}

/// What the relay's memory was at the most.
#[derive(Default)]
struct Memory {
    rss: f64,
    /// Bytes that wait in its sockets, and how many there are.
    queued: f64,
    sockets: f64,
}

impl Memory {
    fn look(&mut self, relay: &RelayProcess) {
        self.rss = self.rss.max(relay.resident());
        let queued = target::queued(relay.address().port());
        self.queued = self.queued.max(queued.bytes as f64);
        self.sockets = self.sockets.max(queued.sockets as f64);
    }
}

/// What is at work.
struct Stage<'a> {
    run: Run,
    node: Fleet,
    relay: RelayProcess,
    stop: &'a AtomicBool,
    memory: Memory,
    /// What was measured until now.
    before: Latency,
}

pub(super) fn run(mut args: Args) -> Outcome {
    if args.common.tiny {
        (args.clients, args.blocks, args.attack_for, args.block_bytes) =
            (40, 3, Duration::from_secs(1), 50_000);
        (args.flood, args.loris, args.hammer, args.stalled) = (50, 20, 3, 5);
    }
    let attacks = attacks(&args)?;
    let stop = stop::on_signal()?;
    let workload = json!({
        "clients": args.clients, "blocks": args.blocks, "attack_s": args.attack_for.as_secs_f64(),
        "block_bytes": args.block_bytes, "flood": args.flood, "loris": args.loris, "hammer": args.hammer,
        "stalled": args.stalled, "only": args.only,
    });
    let mut report = Report::new("attack", workload);
    let shared = Shared::new(1, MAGIC);
    let node = node_of(&shared, Plan { blocks: CHAIN, block_bytes: args.block_bytes, ..Plan::default() })?;
    let keys = "probe_exempt = [\"127.1.0.0/16\"]\n";
    let relay = RelayProcess::configured(node.addresses()[0], args.clients + ROOM, keys)?;
    let mut honest = crowd::scenario(relay.address(), Transport::Plain, None, args.clients, "listener")?;
    honest.sources = Sources::Range { first: HONEST.into(), count: args.clients.div_ceil(PER_ADDRESS) };
    let run = Run::start(honest, shared, Some(relay.pid()))?;
    let (memory, before) = (Memory::default(), Latency::new());
    let mut stage = Stage { run, node, relay, stop: &stop, memory, before };
    let clients = u64::from(args.clients);
    if !stage.run.wait(CONNECT, &stop, |_, _| {}, |run| run.levels().ready == clients) {
        return Err(format!("only {} of {clients} clients became ready", stage.run.levels().ready).into());
    }
    stage.run.wait(REST, &stop, |_, _| {}, |_| false);
    let begin = stage.reading()?;
    let quiet = stage.blocks(args.blocks, Duration::ZERO)?;
    report.number("quiet_p99_ms", "block at the honest, quiet, p99", quiet / 1e3, "ms");
    stage.used("quiet", &begin, &mut report)?;
    report.number("quiet_rss_mb", "relay: VmRSS, quiet", stage.memory.rss / 1e6, "MB");
    let mut worst = 0.0f64;
    for attack in &attacks {
        let p99 = stage.attack(attack, &args, &mut report)?;
        report.number(&format!("{}_ratio", attack.name), "  to the quiet one", p99 / quiet, "");
        worst = worst.max(p99 / quiet);
    }
    let Stage { run, relay, memory, .. } = stage;
    within_plan(&relay, &memory, &mut report)?;
    let (results, ended) = run.finish();
    ended?;
    let total = results.total();
    let lost = (total.counts.lost + total.refused_total()) as f64;
    report.bound("lost", "honest clients lost", lost, 0.0, false);
    report.bound("skipped", "blocks skipped", total.counts.blocks_skipped as f64, 0.0, false);
    report.ratio("p99 in the worst attack to the quiet one", worst, TARGET);
    report.finish(args.common)
}

fn attacks(args: &Args) -> Outcome<Vec<Attack>> {
    let attack = |name, behaviour, clients: u32, net, addresses: u32| {
        let from = Ipv4Addr::new(127, net, 0, 1);
        Attack { name, behaviour, clients, from, addresses: addresses.min(clients.max(1)) }
    };
    let mut all = vec![
        attack("flood", "prober", args.flood, 2, 200),
        attack("loris", "loris", args.loris, 3, args.loris),
        attack("hammer", "hammer", args.hammer, 4, args.hammer),
        attack("stalled", "stalled", args.stalled, 5, args.stalled),
    ];
    if let Some(only) = &args.only {
        all.retain(|attack| attack.name == only);
        if all.is_empty() {
            return Err(format!("--only is {only}, expected flood, loris, hammer or stalled").into());
        }
    }
    all.retain(|attack| attack.clients > 0);
    Ok(all)
}

impl Stage<'_> {
    /// Blocks, one after the other: so many, and for so long. The p99 of their announcement, microseconds.
    fn blocks(&mut self, least: u32, time: Duration) -> Outcome<f64> {
        let (start, mut done) = (Instant::now(), 0);
        while done < least || start.elapsed() < time {
            let want = self.run.sum().blocks_heard + self.run.levels().ready;
            self.node.mine()?;
            if !self.run.wait(ANNOUNCE, self.stop, |_, _| {}, |run| run.sum().blocks_heard >= want) {
                let lost = self.run.sum().lost;
                return Err(
                    format!("a block did not reach everybody who is connected ({lost} are lost)").into()
                );
            }
            done += 1;
            // Before the next block, not beside its announcement.
            self.memory.look(&self.relay);
            std::thread::sleep(PAUSE);
        }
        let now = self.run.total().block_announce;
        let recent = now.since(&self.before);
        self.before = now;
        recent.map(|all| all.value_at_quantile(0.99) as f64).ok_or_else(|| "no block was heard".into())
    }

    /// One attack, with its rows; the p99.
    fn attack(&mut self, attack: &Attack, args: &Args, report: &mut Report) -> Outcome<f64> {
        let name = attack.name;
        let mut attackers = Attackers::start(attackers::Args {
            target: self.relay.address(),
            clients: attack.clients,
            behaviour: attack.behaviour,
            every_us: 0,
            from: attack.from,
            addresses: attack.addresses,
        })?;
        let settle = if args.common.tiny { PAUSE } else { REST };
        self.run.wait(settle, self.stop, |_, _| {}, |_| false);
        let (begin, ends) = (self.reading()?, self.ends()?);
        let memory = std::mem::take(&mut self.memory);
        let p99 = self.blocks(BLOCKS, args.attack_for)?;
        let seconds = begin.at.elapsed().as_secs_f64();
        let counts = attackers.count()?;
        let cores = attackers.cpu().as_secs_f64() / (seconds + settle.as_secs_f64());
        drop(attackers);
        report.number(
            &format!("{name}_p99_ms"),
            &format!("block at the honest, {name}, p99"),
            p99 / 1e3,
            "ms",
        );
        let of = |what: &str| counts[what].as_u64().unwrap_or(0) as f64;
        for what in ["open", "connections", "requests", "answers"] {
            report.number(&format!("{name}_{what}"), &format!("  attackers: {what}"), of(what), "");
        }
        self.used(name, &begin, report)?;
        report.number(&format!("{name}_cores"), "  attackers: cores used, at nice 10", cores, "");
        report.number(&format!("{name}_rss_mb"), "  relay: VmRSS, most", self.memory.rss / 1e6, "MB");
        report.number(
            &format!("{name}_queued_mb"),
            "  waiting in its sockets, most",
            self.memory.queued / 1e6,
            "MB",
        );
        for (reason, now) in self.ends()? {
            let grown = now.saturating_sub(ends.get(&reason).copied().unwrap_or(0));
            if grown > 0 {
                let (key, text) = (format!("{name}_ended_{reason}"), format!("  relay: ended, {reason}"));
                report.number(&key, &text, grown as f64, "");
            }
        }
        if counts["why"].as_object().is_some_and(|why| !why.is_empty()) {
            report.note(&format!("{name}_not_connected"), &Value::to_string(&counts["why"]));
        }
        // The next attack begins with a relay that has rid itself of this one.
        self.run.wait(settle, self.stop, |_, _| {}, |_| false);
        self.memory.rss = self.memory.rss.max(memory.rss);
        self.memory.queued = self.memory.queued.max(memory.queued);
        self.memory.sockets = self.memory.sockets.max(memory.sockets);
        if self.stop.load(Ordering::Acquire) {
            return Err("interrupted".into());
        }
        Ok(p99)
    }

    fn reading(&self) -> Outcome<Reading> {
        Ok(Reading {
            at: Instant::now(),
            cpu: self.run.target_use().cpu,
            waited: os::process_waited(self.relay.pid()),
            turns: self.relay.admin().metrics("breakwater_turns_total", "none")?.values().sum(),
        })
    }

    /// Rows about the relay's threads since a reading.
    fn used(&self, name: &str, begin: &Reading, report: &mut Report) -> Outcome {
        let (now, seconds) = (self.reading()?, begin.at.elapsed().as_secs_f64());
        let mut row = |key: &str, text: &str, value: f64, unit: &str| {
            report.number(&format!("{name}_{key}"), &format!("  relay: {text}"), value, unit);
        };
        let cpu = now.cpu.saturating_sub(begin.cpu).as_secs_f64();
        row("relay_cores", "cores used", cpu / seconds, "");
        let waited = now.waited.saturating_sub(begin.waited).as_secs_f64();
        row("relay_waited", "cores waited for, because others had them", waited / seconds, "");
        let turns = now.turns.saturating_sub(begin.turns).max(1);
        row("turn_us", "CPU for each turn of a shard", cpu * 1e6 / turns as f64, "us");
        Ok(())
    }

    fn ends(&self) -> Outcome<std::collections::BTreeMap<String, u64>> {
        self.relay.admin().metrics("breakwater_ends_total", "reason")
    }
}

/// The memory that was taken at the most, held against the plan.
fn within_plan(relay: &RelayProcess, memory: &Memory, report: &mut Report) -> Outcome {
    let plan = relay.plan()?;
    let kernel =
        plan.rows.iter().filter(|row| row.each == KERNEL_PER_CLIENT).map(|row| row.total()).sum::<u64>();
    let megabytes = |bytes: u64| (bytes as f64 / 1e6).round();
    let (own, all) = (megabytes(plan.total() - kernel), megabytes(plan.total()));
    let sockets = memory.sockets * KERNEL_PER_CLIENT as f64;
    report.number("plan_own_mb", "plan: the relay's own memory", own, "MB");
    report.bound("rss_mb", "relay: VmRSS at the most, MB", memory.rss / 1e6, own, false);
    report.number("plan_mb", "plan: with the kernel's", all, "MB");
    let taken = (memory.rss + sockets + memory.queued) / 1e6;
    report.bound("taken_mb", "relay: with its sockets and what waits in them, MB", taken, all, false);
    Ok(())
}
