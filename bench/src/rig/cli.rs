//! The command line: a contract, scripts rely on it (bench/README.md).

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use breakwater::control::duration;
use clap::{Parser, Subcommand};

use super::engine::{self, Shared};
use super::report::{self, Sample};
use super::run::Run;
use super::scenario::{self, Part, Scenario, Wish};
use super::view::View;
use crate::{Outcome, stop};

/// Bad usage or a scenario that cannot be.
const USAGE: u8 = 2;
/// Clients were lost or refused.
const LOSSES: u8 = 3;

/// Load any Bitcoin P2P server with up to a million real client sockets, and believe the result.
#[derive(Parser, Debug)]
#[command(name = "breakwater-rig", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Connect clients to a target and measure.
    Run(Box<RunArgs>),
    /// Stub nodes on regtest, to load a relay without a real one.
    Node(super::node::Args),
    /// Two reports side by side, with the ratio of each number.
    Compare(super::report::compare::Args),
}

#[derive(clap::Args, Debug)]
#[command(after_long_help = behaviours_help())]
struct RunArgs {
    /// Where to connect, HOST:PORT or TRANSPORT://HOST:PORT; repeat for several, clients take turns.
    #[arg(long = "target", value_name = "[TRANSPORT://]HOST:PORT")]
    targets: Vec<String>,
    /// mainnet, testnet4, signet or regtest.
    #[arg(long)]
    network: Option<String>,
    /// Number of clients.
    #[arg(long, value_name = "N")]
    clients: Option<u64>,
    /// What clients do, and the weight of those who do it (long help: all names); default idle=1.
    #[arg(long = "behaviour", value_name = "NAME=SHARE", value_parser = part)]
    parts: Vec<Part>,
    /// When clients begin: N/s (evenly), N@DURATION (N at once, again after each DURATION), all. Default 1000/s.
    #[arg(long)]
    ramp: Option<String>,
    /// How long after the ramp, as 60s, 500ms, 5m. Default 60s.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// Source addresses, which must be this host's. Default: 127.0.1.1 and on for targets on loopback, else the kernel's choice.
    #[arg(long, value_name = "CIDR")]
    sources: Option<String>,
    /// Seed of everything random. Default 1.
    #[arg(long)]
    seed: Option<u64>,
    /// A TOML file with the same keys; flags go before it.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// plain, v2 (BIP324) or tls, with targets that name none. Default plain.
    #[arg(long)]
    transport: Option<String>,
    /// Name to ask for and to look for in the certificate. Default: the target's host.
    #[arg(long, value_name = "NAME")]
    tls_name: Option<String>,
    /// PEM file of certificates to trust.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Trust any certificate.
    #[arg(long)]
    tls_insecure: bool,
    /// Which part of the TLS connections resumes by a ticket, once there are any. Default 100.
    #[arg(long, value_name = "PER CENT")]
    resume: Option<f64>,
    /// Folder for report.json, report.html, samples.jsonl and .hgrm files.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Ping every client once in this time.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ping_every: Option<Duration>,
    /// Share of the clients that leave and come back each second, as 0.01.
    #[arg(long, value_name = "SHARE")]
    churn: Option<f64>,
    /// The node behind the target: announcements are measured from the moment it had the block or transaction.
    #[arg(long, value_name = "HOST:PORT")]
    watch: Option<String>,
    /// Process to read CPU and memory of. Default: who listens on the target's port, when it is on this host.
    #[arg(long, value_name = "PID")]
    target_pid: Option<u32>,
    /// Rings (threads). Default: one a core, more when the limit of open files asks for it.
    #[arg(long, value_name = "N")]
    rings: Option<u64>,
    /// You operate the target: needed off loopback and private ranges, and for attackers off loopback.
    #[arg(long)]
    i_operate_this_target: bool,
    /// No live view: a line every few seconds.
    #[arg(long)]
    plain_output: bool,
}

fn behaviours_help() -> String {
    let width = super::behaviour::KINDS.iter().map(|kind| kind.name.len()).max().unwrap_or(0);
    let lines = super::behaviour::KINDS.iter().map(|kind| {
        let attack = if kind.attack { " (attacks)" } else { "" };
        format!("  {:width$}  {}{attack}\n", kind.name, kind.what)
    });
    format!("Behaviours:\n{}", lines.collect::<String>())
}

fn part(text: &str) -> Result<Part, String> {
    scenario::part(text).map_err(|error| error.to_string())
}

/// Runs what the command line says.
pub(super) fn main() -> ExitCode {
    breakwater::ring::refuse_huge_pages();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return ended(Err((USAGE, breakwater::cli::sentence(&error)))),
    };
    match cli.command {
        Command::Run(args) => run(*args),
        Command::Compare(args) => super::report::compare::run(&args),
        Command::Node(args) => ended(super::node::run(args).map_err(|error| match error {
            super::node::Failure::Usage(text) => (USAGE, text),
            super::node::Failure::Other(text) => (1, text),
        })),
    }
}

fn ended(result: Result<(), (u8, String)>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, text)) => {
            eprintln!("breakwater-rig: {}", breakwater::control::one_line(&text));
            ExitCode::from(status)
        }
    }
}

fn run(args: RunArgs) -> ExitCode {
    let scenario = match scenario_of(&args) {
        Ok(scenario) => scenario,
        Err(error) => return ended(Err((USAGE, error.to_string()))),
    };
    match conduct(scenario, &args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(LOSSES),
        Err(error) => ended(Err((1, error.to_string()))),
    }
}

fn scenario_of(args: &RunArgs) -> Result<Scenario, scenario::ScenarioError> {
    let file = match &args.scenario {
        Some(path) => scenario::read(path)?,
        None => Wish::default(),
    };
    let flags = Wish {
        targets: args.targets.clone(),
        network: args.network.clone(),
        clients: args.clients,
        parts: args.parts.clone(),
        ramp: args.ramp.clone(),
        duration: args.duration,
        sources: args.sources.clone(),
        seed: args.seed,
        transport: args.transport.clone(),
        tls_name: args.tls_name.clone(),
        tls_ca: args.tls_ca.clone(),
        tls_insecure: args.tls_insecure.then_some(true),
        resume: args.resume,
        ping_every: args.ping_every,
        churn: args.churn,
        watch: args.watch.clone(),
        rings: args.rings,
        ..Wish::default()
    };
    Scenario::new(file.lay(flags), args.i_operate_this_target)
}

/// The run; true when it did what was asked.
fn conduct(scenario: Scenario, args: &RunArgs) -> Outcome<bool> {
    if let Some(folder) = &args.report {
        // Better now than after the run.
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("report folder {}: {error}", folder.display()))?;
    }
    if let Some(pid) = args.target_pid
        && !std::path::Path::new(&format!("/proc/{pid}")).exists()
    {
        return Err(format!("--target-pid is {pid}, expected a process of this host").into());
    }
    let stop = stop::on_signal()?;
    for share in engine::plan(&scenario) {
        eprintln!("plan: {} over {}: {} bytes a client", share.name, share.transport, share.bytes);
    }
    let hold = scenario.duration;
    let patience = scenario.ramp.start_of(scenario.clients) + 2 * scenario.handshake_timeout;
    let asked = u64::from(scenario.clients);
    let shared = Shared::new(scenario.seed, scenario.magic());
    let mut run = Run::start(scenario, shared, args.target_pid)?;
    let mut view = View::new(asked, args.plain_output);
    let mut seen = |sample: &Sample, run: &Run| view.show(sample, &run.total());
    if run.wait(patience, &stop, &mut seen, Run::is_ramped) {
        run.wait(hold, &stop, &mut seen, |_| false);
    }
    run.look();
    run.weigh();
    let (results, ended) = run.finish();
    view.end();
    print!("{}", report::table::text(&results));
    if args.watch.is_some() && results.origin != "node" {
        println!(
            "the node to be watched was not there all the time: announcements count from the first client that heard"
        );
    }
    if let Some(folder) = &args.report {
        report::write(folder, &results)?;
        println!("report: {}", folder.join("report.html").display());
    }
    ended?;
    Ok(results.is_clean())
}
