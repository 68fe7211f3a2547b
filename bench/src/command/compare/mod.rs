//! breakwater beside other servers, one after the other on the same core, and beside the bare floors.
//!
//! Fan-out: Bitcoin nodes (bcoin, Bitcoin Core), NATS, mosquitto, Redis. Holding: nginx's stream module and HAProxy in
//! tcp mode, in front of a sink. Each sends the same 61 bytes to each subscriber; the load is a swarm on the other core.
//! Who is not installed or fails is named with the reason, and the others go on.
//!
//! - `contestants`: who, and how each is started
//! - `server`: a process with its folder
//! - `publish`: what makes a server send
//! - `stub`: the node behind breakwater
//! - `measure`: what is measured

mod contestants;
mod measure;
mod publish;
mod server;
mod stub;

use std::time::Instant;

use serde_json::json;

use super::{Common, LOAD_CORE};
use crate::report::Report;
use crate::{Outcome, os};

use contestants::{ALL, Contestant, Limits};
use measure::{Extent, Figures};

/// Most subscribers: a swarm's ring and its table within the limit of open files.
const MOST: u32 = 17_000;

/// Fewer subscribers than this say nothing about a server.
const FEWEST: u32 = 100;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Subscribers of each.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    clients: u32,
    /// Most subscribers of a full node (bcoin, Bitcoin Core).
    #[arg(long, default_value_t = 3_000)]
    full_node_clients: u32,
    /// Publications measured.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these, and breakwater.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let tiny = args.common.tiny;
    let (clients, rounds) = if tiny { (20, 3) } else { (args.clients, args.rounds) };
    if let Some(unknown) = args.only.iter().find(|name| ALL.iter().all(|who| who.name != *name)) {
        let names: Vec<&str> = ALL.iter().map(|who| who.name).collect();
        return Err(format!("--only: {unknown:?} is none of {}", names.join(", ")).into());
    }
    let files = u32::try_from(breakwater::ring::raise_file_limit()?).unwrap_or(u32::MAX);
    let limits = Limits { files, full_node: args.full_node_clients };
    let mut report = Report::new("compare", json!({ "clients": clients, "rounds": rounds, "bytes": 61 }));
    let mut base: Option<Beside> = None;
    let mut cheapest: Option<f64> = None;
    for who in ALL.iter().filter(|who| is_wanted(who, &args.only)) {
        let extent = Extent { subscribers: clients.min((who.most)(limits)), rounds, tiny };
        let (beside, command) = match (measured(who, extent, &mut report), base) {
            (Ok(measured), _) => measured,
            (Err(error), None) => return Err(format!("breakwater: {error}").into()),
            (Err(error), Some(_)) => {
                report.note(who.name, &format!("NOT COMPARED: {error}"));
                continue;
            }
        };
        report.note(who.name, &command);
        match base {
            None => base = Some(beside),
            Some(_) => cheapest = Some(cheapest.unwrap_or(f64::MAX).min(beside.relative())),
        }
        add(&mut report, who.name, &beside, base.as_ref());
    }
    if cheapest.is_none() && !tiny {
        report.print();
        return Err("nothing could be compared: run bench/compare/install".into());
    }
    let against = cheapest.unwrap_or(1.0).max(f64::MIN_POSITIVE);
    let what = "breakwater against the cheapest other, CPU per delivery, each by its own floor";
    report.ratio(what, base.map_or(0.0, |base| base.relative()) / against, 1.0);
    report.finish(args.common)
}

/// A contestant, and the floor measured right before and right after it with as many subscribers: the host's speed changes
/// within a run by more than the servers differ.
#[derive(Clone, Copy)]
struct Beside {
    figures: Figures,
    before: Figures,
    after: Figures,
}

impl Beside {
    /// The mean of the floor before and after.
    fn floor(&self, take: fn(&Figures) -> Option<f64>) -> f64 {
        (take(&self.before).unwrap_or(0.0) + take(&self.after).unwrap_or(0.0)) / 2.0
    }

    /// CPU per delivery in floors.
    fn relative(&self) -> f64 {
        self.figures.cpu_us / self.floor(|of| Some(of.cpu_us)).max(f64::MIN_POSITIVE)
    }
}

/// Starts and measures one; who fails under so many subscribers is tried with half of them.
fn measured(who: &Contestant, mut extent: Extent, report: &mut Report) -> Outcome<(Beside, String)> {
    loop {
        eprint!("{}: {} subscribers, ", who.name, extent.subscribers);
        let start = Instant::now();
        let before = measure::floor(extent)?;
        // The publisher's threads are the load's.
        os::pin(LOAD_CORE);
        let outcome =
            (who.start)(extent.subscribers).map(|started| measure::contestant(started, who.manner, extent));
        eprintln!("{:.0} s", start.elapsed().as_secs_f64());
        match outcome? {
            Ok((figures, command)) => {
                let after = measure::floor(extent)?;
                return Ok((Beside { figures, before, after }, command));
            }
            Err(error) if extent.subscribers >= 2 * FEWEST && who.name != "breakwater" => {
                let key = format!("{} with {}", who.name, extent.subscribers);
                report.note(&key, &format!("FAILED: {error}"));
                extent.subscribers /= 2;
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_wanted(who: &Contestant, only: &[String]) -> bool {
    who.name == "breakwater" || only.is_empty() || only.iter().any(|name| name == who.name)
}

/// Rows of one contestant, each beside its floor and breakwater's.
fn add(report: &mut Report, name: &str, beside: &Beside, base: Option<&Beside>) {
    let figures = &beside.figures;
    let mut plain = |key: &str, text: &str, value: f64, unit: &str| {
        report.number(&format!("{name}_{key}"), &format!("{name:10}  {text}"), value, unit);
    };
    plain("subscribers", "subscribers", f64::from(figures.subscribers), "");
    plain("floor_before_us", "bare send loop before it, CPU per delivery", beside.before.cpu_us, "us");
    plain("floor_after_us", "bare send loop after it, CPU per delivery", beside.after.cpu_us, "us");
    let base = base.filter(|_| name != "breakwater");
    // A time until the last of so many is compared with one of as many only.
    let as_many =
        base.filter(|base| base.figures.subscribers.abs_diff(figures.subscribers) * 50 < figures.subscribers);
    let mut row =
        |key: &str, text: &str, unit: &str, base: Option<&Beside>, take: fn(&Figures) -> Option<f64>| {
            let Some(value) = take(figures) else { return };
            let floor = beside.floor(take);
            let theirs = base.and_then(|base| {
                let theirs = take(&base.figures)?;
                // Each by its own floor, where there is one.
                let speed = if floor > 0.0 { floor / base.floor(take) } else { 1.0 };
                Some(theirs * speed)
            });
            let others = [("breakwater", theirs.unwrap_or(0.0)), ("floor", floor)];
            report.compared(&format!("{name}_{key}"), &format!("{name:10}  {text}"), value, unit, &others);
        };
    row("cpu_us", "CPU per delivery", "us", base, |of| Some(of.cpu_us));
    row("last_ms", "publication to last delivery, median", "ms", as_many, |of| Some(of.last_ms));
    row("memory", "its memory per subscriber (VmRSS)", "B", base, |of| of.memory);
    row("slab", "kernel slab per subscriber, all sockets, whole host", "B", base, |of| of.slab);
    row("connect_per_s", "connections or handshakes a second", "", base, |of| {
        Some(f64::from(of.subscribers) / of.connect_s)
    });
    row("connect_us", "CPU per connection or handshake", "us", base, |of| Some(of.connect_us));
    row("idle_percent", "CPU while idle, of a core", "%", base, |of| of.idle_percent);
    if beside.relative() < 1.0 {
        let doubt = "cheaper than the bare loop beside it, which cannot be: the host was too busy, run again";
        report.note(&format!("{name}, DOUBTFUL"), doubt);
    }
}
