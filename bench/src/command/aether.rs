//! Aether's collapse: scanners that come again as fast as they can, beside clients that sync. Do the clients lose anything?
//!
//! ```text
//!   --clients sync at a pace (session slots for a few more)      reference: answers per second over --window
//!   --scanners come in a process of their own                     the same window again, scanners beside it
//!   the scanners are gone                                         reference once more
//! ```
//! Compared are the answers per second that the syncing clients get, with the mean of the two references. They ask at a fixed pace, in
//! all well below what the relay can give (`capacity` says how far), because both ends and the scanners share this machine's
//! cores: clients that took all they can get would measure the scheduler. For the same reason the scanners' process runs at nice 10:
//! their CPU is work of other machines, and they get what nobody else wants; how many connections a second that came to is said.
//! Meanwhile a share of the syncing clients leaves and comes back each second, so that newcomers have to find their way in
//! past the scanners, too.
//!
//! The relay's door is as it is by default: ten probe slots for each session slot, ten probes at once and then one in ten
//! minutes for each address, and 127.0.0.0/8 is exempt from nothing. `--let-in` lifts the limit on probes, so that every scan is served.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use breakwater::control::duration;
use serde_json::{Value, json};

use super::Common;
use super::million::{CONNECT, node_of};
use crate::attackers::{self, Attackers};
use crate::relay_process::RelayProcess;
use crate::report::Report;
use crate::rig::engine::Shared;
use crate::rig::node;
use crate::rig::run::Run;
use crate::rig::scenario::{Scenario, Sources, Transport};
use crate::{MAGIC, Outcome, crowd, os, stop};

/// The syncing clients keep so much of their throughput.
const TARGET: f64 = 0.95;
/// Probe slots for each session slot (the specification's).
const PROBES: u32 = 10;
/// Before each window: what has just changed settles.
const SETTLE: Duration = Duration::from_secs(3);
/// Filled blocks, above the height from which there are coins to fill them with.
const BLOCKS: u32 = 150;
/// First addresses of clients and of scanners; each has one of its own.
const CLIENTS_FROM: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const SCANNERS_FROM: Ipv4Addr = Ipv4Addr::new(127, 2, 0, 1);
/// Metric of ended connections.
const ENDS: &str = "breakwater_ends_total";

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients that sync.
    #[arg(long, default_value_t = 2_000)]
    clients: u32,
    /// Session slots of the relay.
    #[arg(long, default_value_t = 2_500)]
    session_slots: u32,
    /// Scanners.
    #[arg(long, default_value_t = 20_000)]
    scanners: u32,
    /// From one question of a syncing client to its next.
    #[arg(long, default_value = "200ms", value_parser = duration)]
    ask_every: Duration,
    /// From one connection of a scanner to its next.
    #[arg(long, default_value = "1ms", value_parser = duration)]
    scan_every: Duration,
    /// Size of the blocks, bytes.
    #[arg(long, default_value_t = 20_000)]
    block_bytes: usize,
    /// Share of the syncing clients that leaves and comes back each second.
    #[arg(long, default_value_t = 0.01)]
    churn: f64,
    /// How long each window is.
    #[arg(long, default_value = "30s", value_parser = duration)]
    window: Duration,
    /// No limit on how often a scanner may come.
    #[arg(long)]
    let_in: bool,
    #[command(flatten)]
    common: Common,
}

/// What a window measured.
struct Window {
    answers: f64,
    seconds: f64,
    /// Cores the relay used, and waited for.
    cores: f64,
    waited: f64,
    p99_us: f64,
}

impl Window {
    fn rate(&self) -> f64 {
        self.answers / self.seconds
    }
}

pub(super) fn run(mut args: Args) -> Outcome {
    if args.common.tiny {
        (args.clients, args.session_slots, args.scanners) = (20, 60, 50);
        (args.window, args.churn) = (Duration::from_secs(1), 0.05);
    }
    let stop = stop::on_signal()?;
    let workload = json!({
        "clients": args.clients, "session_slots": args.session_slots, "scanners": args.scanners,
        "ask_every_s": args.ask_every.as_secs_f64(), "scan_every_s": args.scan_every.as_secs_f64(),
        "block_bytes": args.block_bytes, "churn": args.churn, "window_s": args.window.as_secs_f64(), "let_in": args.let_in,
    });
    let mut report = Report::new("aether", workload);
    let shared = Shared::new(1, MAGIC);
    let plan = node::Plan { blocks: BLOCKS, block_bytes: args.block_bytes, ..node::Plan::default() };
    let node = node_of(&shared, plan)?;
    let relay = relay(&args, node.addresses()[0])?;
    let mut run = Run::start(syncing(&args, &relay)?, shared, Some(relay.pid()))?;
    let clients = u64::from(args.clients);
    if !run.wait(CONNECT, &stop, |_, _| {}, |run| run.levels().ready == clients) {
        let refused = run.total().refused;
        return Err(
            format!("only {} of {clients} clients became ready ({refused:?})", run.levels().ready).into()
        );
    }
    run.engine().churn(args.churn);
    let before = window(&mut run, relay.pid(), &args, &stop)?;
    let ends = relay.admin().metrics(ENDS, "reason")?;
    let accepted = accepted(&relay)?;
    let mut scanners = Attackers::start(attackers::Args {
        target: relay.address(),
        clients: args.scanners,
        behaviour: "prober",
        every_us: u64::try_from(args.scan_every.as_micros())?,
        from: SCANNERS_FROM,
        addresses: args.scanners,
    })?;
    let begun = Instant::now();
    let during = window(&mut run, relay.pid(), &args, &stop)?;
    let seconds = begun.elapsed().as_secs_f64();
    let (scans, scanners_cpu) = (scanners.count()?, scanners.cpu());
    let ends = since(relay.admin().metrics(ENDS, "reason")?, &ends);
    let accepted = self::accepted(&relay)? - accepted;
    drop(scanners);
    let after = window(&mut run, relay.pid(), &args, &stop)?;
    let (results, ended) = run.finish();
    ended?;
    let total = results.total();

    let reference = (before.rate() + after.rate()) / 2.0;
    report.number("reference_s", "answers per second to clients that sync, no scanners", reference, "");
    report.number("before_s", "  before the scanners", before.rate(), "");
    report.number("after_s", "  after them", after.rate(), "");
    report.number("during_s", "answers per second with the scanners", during.rate(), "");
    report.number("asked_s", "questions per second, as the clients' pace is", asked(&args), "");
    let cost = before.cores / before.rate();
    report.number("answer_us", "relay, CPU per answer without scanners", cost * 1e6, "us");
    let could = os::cores() as f64 / cost;
    report.number("capacity_s", "answers per second that all cores could give the relay", could, "");
    report.number("relay_cores", "relay, cores used: without scanners", before.cores, "");
    report.number("relay_cores_during", "  with them", during.cores, "");
    report.number(
        "relay_waited",
        "relay, cores waited for, others had them: without scanners",
        before.waited,
        "",
    );
    report.number("relay_waited_during", "  with them", during.waited, "");
    report.number("p99_ms", "question to answer, p99, without scanners", before.p99_us / 1e3, "ms");
    report.number("p99_during_ms", "  with them", during.p99_us / 1e3, "ms");
    let per_second = |value: u64| value as f64 / seconds;
    report.number("scans_s", "scanners: connections begun per second", rate(&scans, "attempts", seconds), "");
    report.number("scans_served_s", "  handshakes per second", rate(&scans, "handshakes", seconds), "");
    report.number(
        "accepted_s",
        "relay: connections taken from the kernel per second",
        per_second(accepted),
        "",
    );
    report.number(
        "scanner_cores",
        "scanners: cores used, at nice 10",
        scanners_cpu.as_secs_f64() / seconds,
        "",
    );
    for (reason, count) in &ends {
        report.number(
            &format!("ended_{reason}_s"),
            &format!("relay: ended per second, {reason}"),
            per_second(*count),
            "",
        );
    }
    let scanned = scans["attempts"].as_u64().unwrap_or(0);
    report.bound("scanned", "connections begun by scanners", scanned as f64, f64::from(args.scanners), true);
    report.number(
        "came_back",
        "syncing clients that left and came back",
        total.counts.left as f64 - clients as f64,
        "",
    );
    report.bound("refused", "syncing clients refused", total.refused_total() as f64, 0.0, false);
    report.bound("lost", "syncing clients lost", total.counts.lost as f64, 0.0, false);
    if let Some((why, _)) = total.refused.iter().chain(&total.errors).next() {
        report.note("first_reason", why);
    }
    report.at_least("throughput with the scanners to that without", during.rate() / reference, TARGET);
    report.finish(args.common)
}

fn relay(args: &Args, node: std::net::SocketAddr) -> Outcome<RelayProcess> {
    let (sessions, probes) = (args.session_slots, args.session_slots * PROBES);
    let every = if args.let_in { 0 } else { 600 };
    let keys = format!(
        "session_slots = {sessions}\nprobe_slots = {probes}\nprobe_every_seconds = {every}\nprobe_exempt = []\n"
    );
    RelayProcess::configured(node, sessions + probes, &keys)
}

fn syncing(args: &Args, relay: &RelayProcess) -> Outcome<Scenario> {
    let mut scenario = crowd::scenario(relay.address(), Transport::Plain, None, args.clients, "paced")?;
    scenario.sources = Sources::Range { first: CLIENTS_FROM.into(), count: args.clients };
    scenario.parts[0].options.every_us = u64::try_from(args.ask_every.as_micros())?;
    Ok(scenario)
}

/// Questions per second of all clients together.
fn asked(args: &Args) -> f64 {
    f64::from(args.clients) / args.ask_every.as_secs_f64()
}

fn window(run: &mut Run, relay: u32, args: &Args, stop: &AtomicBool) -> Outcome<Window> {
    let settle = if args.common.tiny { Duration::from_millis(500) } else { SETTLE };
    run.wait(settle, stop, |_, _| {}, |_| false);
    let (start, before, cpu) = (Instant::now(), run.total(), run.target_use().cpu);
    let waited = os::process_waited(relay);
    run.wait(args.window, stop, |_, _| {}, |_| false);
    run.look();
    let (now, seconds) = (run.total(), start.elapsed().as_secs_f64());
    if stop.load(std::sync::atomic::Ordering::Acquire) {
        return Err("interrupted".into());
    }
    let spent = run.target_use().cpu.saturating_sub(cpu);
    let recent = now.request.since(&before.request).ok_or("no question was answered")?;
    Ok(Window {
        answers: (now.counts.answers - before.counts.answers) as f64,
        seconds,
        cores: spent.as_secs_f64() / seconds,
        waited: os::process_waited(relay).saturating_sub(waited).as_secs_f64() / seconds,
        p99_us: recent.value_at_quantile(0.99) as f64,
    })
}

fn accepted(relay: &RelayProcess) -> Outcome<u64> {
    Ok(relay.admin().metrics("breakwater_accepted_total", "none")?.values().sum())
}

fn rate(counts: &Value, name: &str, seconds: f64) -> f64 {
    counts[name].as_u64().unwrap_or(0) as f64 / seconds
}

/// What was added, without those to which nothing was.
fn since(now: BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = now.into_iter().map(|(name, value)| {
        let was = before.get(&name).copied().unwrap_or(0);
        (name, value.saturating_sub(was))
    });
    grown.filter(|(_, value)| *value > 0).collect()
}
