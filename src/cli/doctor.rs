//! `breakwater doctor`: what of the host is fine, what limits how many clients to what number, and the line that mends it.
//!
//! Changes nothing. Exit status: 0 the host carries them, 1 it does not, 2 bad usage.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use toml::{Table, Value};

use super::{Failure, load};
use crate::control::Config;
use crate::control::host::knobs::knobs;
use crate::control::host::{Facts, Finding, Severity, Verdict, Wanted, judge};
use crate::ring;

/// Flags go before the configuration file, the file before the defaults.
#[derive(Args, Debug)]
pub(super) struct DoctorArgs {
    /// Clients in all; without it max_clients of the configuration, or what `run` would choose.
    #[arg(long, value_name = "N")]
    clients: Option<i64>,
    /// Threads that serve clients; 0 for one per core.
    #[arg(long, value_name = "N")]
    shards: Option<i64>,
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object (kernel-tuning/README.md describes it).
    #[arg(long)]
    json: bool,
    /// A rule of the firewall exempts the relay's port from conntrack (notrack), which cannot be seen from here.
    #[arg(long)]
    untracked: bool,
    /// Reads /proc and /sys below DIR: a host copied there, or made up.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// What the JSON holds.
#[derive(serde::Serialize)]
struct Report<'a> {
    clients: u64,
    shards: u64,
    /// True exactly when the host carries them; the exit status says the same.
    ok: bool,
    carries: Option<u64>,
    limited_by: Option<&'a str>,
    findings: &'a [Finding],
}

/// Prints the verdict; whether the host carries the clients.
pub(super) fn doctor(args: DoctorArgs) -> Result<bool, Failure> {
    let mut flags = Table::new();
    for (key, value) in [("max_clients", args.clients), ("shards", args.shards)] {
        if let Some(value) = value {
            flags.insert(key.to_string(), Value::Integer(value));
        }
    }
    // The host has nothing to do with the node.
    if args.config.is_none() {
        flags.insert("nodes".to_string(), Value::Array(vec![Value::String("127.0.0.1:8333".into())]));
    }
    if args.clients == Some(0) {
        return Err(Failure::Usage("--clients is 0, expected a whole number from 1 to 8388608".into()));
    }
    let mut config = load(args.config, flags)?;
    let verdict = examine(&mut config, &args.root, args.untracked)?;
    let text = match args.json {
        true => json(&verdict)?,
        false => table(&verdict),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read it (`doctor | head`) has seen enough; the status is still the answer.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(Failure::Other(format!("standard output: {error}")));
        }
        _ => {}
    }
    Ok(verdict.suffices())
}

/// Reads the host and judges a configuration by it; chooses `max_clients` where the operator left it to us.
pub(super) fn examine(config: &mut Config, root: &Path, untracked: bool) -> Result<Verdict, Failure> {
    let knobs = knobs().map_err(|error| Failure::Other(error.to_string()))?;
    let mut facts = Facts::read(root, &knobs);
    // Only here can it be tried.
    if root == Path::new("/") {
        facts.io_uring = ring::probe().err().map(|error| error.to_string());
    }
    let judge = |config: &Config| judge(&facts, &Wanted { untracked, ..Wanted::of(config) }, &knobs);
    let chosen_by_us = config.max_clients == 0;
    config.fit(facts.open_files.unwrap_or(u64::MAX));
    let verdict = judge(config);
    let certain = verdict.certain();
    if !chosen_by_us || certain >= u64::from(config.max_clients) || certain == 0 {
        return Ok(verdict);
    }
    // A small host gets a default that fits it.
    config.max_clients = u32::try_from(certain).unwrap_or(u32::MAX);
    Ok(judge(config))
}

fn json(verdict: &Verdict) -> Result<String, Failure> {
    let least = verdict.least();
    let report = Report {
        clients: verdict.clients,
        shards: verdict.shards,
        ok: verdict.suffices(),
        carries: least.and_then(|finding| finding.limits_to),
        limited_by: least.map(|finding| finding.what.as_str()),
        findings: &verdict.findings,
    };
    let text = serde_json::to_string_pretty(&report)
        .map_err(|error| Failure::Other(format!("the findings as JSON: {error}")))?;
    Ok(text + "\n")
}

fn table(verdict: &Verdict) -> String {
    let head = format!("for {} clients on {} shards", verdict.clients, verdict.shards);
    let lines = std::iter::once(head).chain(verdict.findings.iter().map(line));
    lines.chain([summary(verdict)]).map(|line| line + "\n").collect()
}

fn line(finding: &Finding) -> String {
    let Finding { what, value, wanted, .. } = finding;
    let mark = match (finding.fine, finding.severity) {
        (true, _) => "fine",
        (false, Severity::Must) => "MUST",
        (false, Severity::Should) => "should",
        (false, Severity::Nice) => "nice",
    };
    let mut text = format!("{mark:<7} {what:<36} {value}");
    if finding.fine {
        return text;
    }
    text += &format!(", wanted {wanted}");
    if let Some(limit) = finding.limits_to {
        text += &format!("; enough for {limit} clients");
    }
    text += &format!("\n        why: {} [{}]", finding.why, finding.source);
    if let Some(mend) = &finding.mend {
        text += &format!("\n        mend: {mend}");
    }
    text
}

fn summary(verdict: &Verdict) -> String {
    let Some(least) = verdict.least() else { return "nothing found that limits the clients".into() };
    let (limit, wanted) = (least.limits_to.unwrap_or(0), verdict.clients);
    let of = if least.fine { format!("clients ({wanted} wanted)") } else { format!("of {wanted} clients") };
    format!("this host carries {limit} {of}, limited by: {}", least.what)
}
