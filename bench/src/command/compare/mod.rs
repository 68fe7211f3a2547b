//! breakwater beside other servers, one after the other on the same core, and beside the bare floors.
//!
//! Fan-out: Bitcoin nodes (bcoin, Bitcoin Core), NATS, mosquitto, Redis. Holding: nginx's stream module and HAProxy in
//! tcp mode, in front of a sink. Each sends the same 61 bytes to each subscriber; the load is a swarm on the other core.
//! Who is not installed or fails is named with the reason, and the others go on.
//!
//! With `--tls` those that speak it do the same inside TLS 1.3, all with one certificate, AES-128-GCM and tickets, and their
//! handshakes are measured as well, full and resumed; the floors stay plain.
//!
//! - `contestants`: who, and how each is started
//! - `certificate`: what all of them show
//! - `server`: a process with its folder
//! - `publish`: what makes a server send
//! - `stub`: the node behind breakwater
//! - `measure`: what is measured
//! - `handshakes`: the same for TLS handshakes
//! - `rows`: the table

mod certificate;
mod contestants;
mod handshakes;
mod measure;
mod publish;
mod rows;
mod server;
mod stub;

use std::time::Instant;

use serde_json::json;

use super::{Common, LOAD_CORE};
use crate::report::Report;
use crate::swarm::Manner;
use crate::{Outcome, os};

use certificate::Certificate;
use contestants::{ALL, Contestant, Limits, Setting};
use measure::{Extent, Figures};

/// Most subscribers: a swarm's ring and its table within the limit of open files.
const MOST: u32 = 17_000;

/// Subscribers of each where nothing is said, and where little is to be shown.
const MANY: u32 = 10_000;
const FEW: u32 = 1_000;

/// Inside TLS, CPU per delivery and memory of an idle client shall be at most this share of the best other's that publishes.
const TLS_CPU: f64 = 0.5;
const TLS_MEMORY: f64 = 0.33;

/// Fewer subscribers than this say nothing about a server.
const FEWEST: u32 = 100;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Subscribers of each; 10,000, with --tls and without --record 1,000.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    clients: Option<u32>,
    /// Inside TLS 1.3, handshakes measured as well: those that speak it.
    #[arg(long)]
    tls: bool,
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
    let usual = if args.tls && !args.common.record { FEW } else { MANY };
    let (clients, rounds) = if tiny { (20, 3) } else { (args.clients.unwrap_or(usual), args.rounds) };
    let takes_part = |who: &&Contestant| !args.tls || who.tls.is_some();
    let known = || ALL.iter().filter(takes_part);
    if let Some(unknown) = args.only.iter().find(|name| known().all(|who| who.name != *name)) {
        let names: Vec<&str> = known().map(|who| who.name).collect();
        return Err(format!("--only: {unknown:?} is none of {}", names.join(", ")).into());
    }
    let files = u32::try_from(breakwater::ring::raise_file_limit()?).unwrap_or(u32::MAX);
    let limits = Limits { files, full_node: args.full_node_clients };
    let certificate = if args.tls { Some(Certificate::new()?) } else { None };
    let name = if args.tls { "compare_tls" } else { "compare" };
    let mut report = Report::new(name, json!({ "clients": clients, "rounds": rounds, "bytes": 61 }));
    let (mut base, mut cheapest): (Option<Beside>, Option<Cheapest>) = (None, None);
    for who in known().filter(|who| is_wanted(who, &args.only)) {
        let extent = Extent { subscribers: clients.min((who.most)(limits)), rounds, tiny };
        let (beside, command) = match (measured(who, extent, certificate.as_ref(), &mut report), base) {
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
            // Inside TLS breakwater is held against those that publish.
            Some(_) if args.tls && who.manner == Manner::Mute => {}
            Some(_) => cheapest = Some(Cheapest::with(cheapest, &beside)),
        }
        rows::add(&mut report, who.name, &beside, base.as_ref());
    }
    if cheapest.is_none() && !tiny {
        report.print();
        return Err("nothing could be compared: run bench/compare/install".into());
    }
    let cheapest = cheapest.unwrap_or_default();
    let relative = base.map_or(0.0, |base| base.relative()) / cheapest.cpu.max(f64::MIN_POSITIVE);
    let what = "breakwater against the cheapest other, CPU per delivery, each by its own floor";
    report.ratio(what, relative, if args.tls { TLS_CPU } else { 1.0 });
    if args.tls {
        let memory = base.and_then(|base| base.figures.whole_memory).unwrap_or(0.0);
        let relative = memory / cheapest.memory.max(f64::MIN_POSITIVE);
        let what = "breakwater against the leanest that publishes, all of its memory by its idle TLS clients";
        report.bound("memory_ratio", what, relative, TLS_MEMORY, false);
    }
    report.finish(args.common)
}

/// The best of the others.
#[derive(Clone, Copy)]
struct Cheapest {
    /// CPU per delivery, in floors.
    cpu: f64,
    /// All of its bytes by its idle subscribers: what it had before the first one may be given back under their load, which would
    /// make a difference say too little.
    memory: f64,
}

/// Nobody: of --tiny, which measures nothing.
impl Default for Cheapest {
    fn default() -> Cheapest {
        Cheapest { cpu: 1.0, memory: 1.0 }
    }
}

impl Cheapest {
    fn with(cheapest: Option<Cheapest>, beside: &Beside) -> Cheapest {
        let cheapest = cheapest.unwrap_or(Cheapest { cpu: f64::MAX, memory: f64::MAX });
        Cheapest {
            cpu: cheapest.cpu.min(beside.relative()),
            memory: cheapest.memory.min(beside.figures.whole_memory.unwrap_or(f64::MAX)),
        }
    }
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
fn measured(
    who: &Contestant,
    mut extent: Extent,
    certificate: Option<&Certificate>,
    report: &mut Report,
) -> Outcome<(Beside, String)> {
    loop {
        eprint!("{}: {} subscribers, ", who.name, extent.subscribers);
        let start = Instant::now();
        let before = measure::floor(extent)?;
        // The publisher's threads are the load's.
        os::pin(LOAD_CORE);
        let outcome = one(who, extent, certificate);
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

/// Starts and measures one, with TLS twice: a process that has had thousands of handshakes says nothing of memory any more.
/// The outer error is that it cannot be started.
fn one(
    who: &Contestant,
    extent: Extent,
    certificate: Option<&Certificate>,
) -> Outcome<Outcome<(Figures, String)>> {
    let start = |connections| (who.start)(Setting { connections, certificate });
    let (Some(certificate), Some(begin)) = (certificate, who.tls) else {
        return Ok(measure::contestant(start(extent.subscribers)?, who.manner, None, extent));
    };
    let (full, resuming) = certificate.trusting(begin)?;
    let rates = match handshakes::rates(start(handshakes::connections(extent))?, &full, &resuming, extent) {
        Ok(rates) => rates,
        Err(error) => return Ok(Err(error)),
    };
    let measured = measure::contestant(start(extent.subscribers)?, who.manner, Some(full), extent);
    Ok(measured.map(|(figures, command)| (Figures { handshakes: Some(rates), ..figures }, command)))
}

fn is_wanted(who: &Contestant, only: &[String]) -> bool {
    who.name == "breakwater" || only.is_empty() || only.iter().any(|name| name == who.name)
}
