//! What a person types. Parses, calls, and turns an error into one sentence and an exit status:
//! 0 after a clean end, 2 for bad usage or configuration (also one the host cannot carry), 1 for the rest. `doctor` also
//! ends with 1 when the host does not carry the clients, with nothing on standard error.

#![forbid(unsafe_code)]

mod admin;
mod calibrate;
mod ctl;
mod demo;
mod doctor;
mod host;
pub mod live;
mod observe;
mod reload;
mod run;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use toml::{Table, Value};

use self::reload::Source;
use crate::admission::Costs;
use crate::control::config::{Config, DEFAULT, one_line};
use crate::control::metrics::{self, Kind, Metric};
use crate::control::{duration, ops, plan};

/// Front-end relay for Bitcoin full nodes: holds up to a million clients so that the node need not.
#[derive(Parser, Debug)]
#[command(name = "breakwater", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Relay in front of one or more full nodes.
    Run(Box<RunArgs>),
    /// See it work: relay, an embedded regtest node that mines, and a few hundred clients of mixed kinds.
    Demo(DemoArgs),
    /// The configuration file, and what is configured elsewhere.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the memory plan of a configuration.
    Plan(PlanArgs),
    /// Say what of this host is fine, what limits the clients to what number, and the line that mends it.
    ///
    /// Changes nothing. Status 0: the host carries them. Status 1: it does not. Status 2: bad usage or configuration.
    /// kernel-tuning/README.md describes each setting and the JSON.
    Doctor(doctor::DoctorArgs),
    /// Measure on this host what requests cost; prints the table that the key `costs` takes.
    ///
    /// Starts a relay of its own on 127.0.0.1, with a node in memory; nothing stays. Needs a minute and a host that does little else.
    Calibrate(calibrate::CalibrateArgs),
    /// See and change a running relay, by its admin interface.
    Ctl(Box<ctl::CtlArgs>),
    /// A running relay on the terminal, live: clients, shards, blocks, nodes; kick, ban, throttle, promote.
    Top(top::TopArgs),
    /// List every metric with its type, unit, labels and meaning.
    Metrics {
        /// As a table in Markdown.
        #[arg(long)]
        markdown: bool,
    },
    /// Print a shell's completions: add them to it as its manual says.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Print the default configuration; its comments are the manual.
    Default,
    /// Print what requests cost, as the key `costs` takes it.
    Costs,
    /// Print a dashboard for Grafana (JSON to import).
    Dashboard,
    /// Print alert rules for Prometheus.
    Alerts,
}

/// Flags go before the configuration file, the file before the defaults.
#[derive(Args, Debug)]
struct RunArgs {
    /// Which chain: mainnet, testnet4, signet or regtest.
    #[arg(long)]
    network: Option<String>,
    /// A full node behind, HOST:PORT; repeat for several. v1:HOST:PORT forces v1, v2:HOST:PORT BIP324.
    #[arg(long, value_name = "HOST:PORT")]
    node: Vec<String>,
    /// Where clients connect, ADDR:PORT; repeat for several.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Where clients connect with TLS, ADDR:PORT; repeat for several.
    #[arg(long, value_name = "ADDR:PORT")]
    tls_listen: Vec<String>,
    /// Certificate chain for TLS, a PEM file; more than one by the configuration file.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<String>,
    /// Its private key, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<String>,
    /// Where headers, blocks and filters are kept.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Blocks and filters kept: "all", or a number of the last ones.
    #[arg(long, value_name = "all|N")]
    keep: Option<String>,
    /// Threads that serve clients; 0 for one per core.
    #[arg(long, value_name = "N")]
    shards: Option<i64>,
    /// Clients in all.
    #[arg(long, value_name = "N")]
    max_clients: Option<i64>,
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// human or json.
    #[arg(long, value_name = "human|json")]
    log_format: Option<String>,
    /// error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Prometheus text at http://ADDR:PORT/metrics.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<String>,
    /// Everybody is let in and may use what there is: for load tests, which come from few addresses. No limits on probes and capacity.
    #[arg(long)]
    open_door: bool,
    /// The admin interface's Unix socket; "off" for none.
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<String>,
    /// The admin interface over TCP.
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<String>,
    /// File with the token for it.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<String>,
}

#[derive(Args, Debug)]
struct DemoArgs {
    /// How long, for example 60s, 5m.
    #[arg(long = "for", value_name = "TIME", default_value = "60s")]
    duration: String,
    /// Clients of mixed kinds, 3 to 15000.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(3..=15_000))]
    clients: u32,
    /// Lines instead of a live view.
    #[arg(long)]
    plain_output: bool,
}

#[derive(Args, Debug)]
struct PlanArgs {
    /// Clients in all.
    #[arg(long, value_name = "N")]
    max_clients: Option<i64>,
    /// Threads that serve clients; 0 for one per core.
    #[arg(long, value_name = "N")]
    shards: Option<i64>,
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why the program ends with a status other than 0. The text is one sentence.
#[derive(Debug)]
enum Failure {
    /// Bad usage or configuration: status 2.
    Usage(String),
    /// Anything else: status 1.
    Other(String),
}

/// The program.
pub fn main() -> ExitCode {
    crate::ring::refuse_huge_pages();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
        Command::Run(args) => {
            let source = Source { file: args.config.clone(), flags: args.table() };
            source
                .read()
                .map_err(|error| Failure::Usage(error.to_string()))
                .and_then(|read| run::run(read, source))
        }
        Command::Demo(args) => demo_time(&args.duration)
            .and_then(|span| demo::demo(span, args.clients as usize, args.plain_output)),
        Command::Config { command: ConfigCommand::Default } => {
            print!("{DEFAULT}");
            Ok(())
        }
        Command::Config { command: ConfigCommand::Costs } => {
            print!("[costs]\n{}", Costs::default().to_toml());
            Ok(())
        }
        Command::Config { command: ConfigCommand::Dashboard } => ctl::print(ops::DASHBOARD),
        Command::Config { command: ConfigCommand::Alerts } => ctl::print(ops::ALERTS),
        Command::Plan(args) => show_plan(args),
        Command::Doctor(args) => match doctor::doctor(args) {
            Ok(true) => Ok(()),
            // Said on standard output.
            Ok(false) => return ExitCode::from(1),
            Err(failure) => Err(failure),
        },
        Command::Calibrate(args) => calibrate::calibrate(&args),
        Command::Ctl(args) => ctl::ctl(*args),
        Command::Top(args) => top::top(&args),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "breakwater", &mut text);
            ctl::print(&String::from_utf8_lossy(&text))
        }
        Command::Metrics { markdown: true } => ctl::print(&metrics::markdown()),
        Command::Metrics { markdown: false } => {
            let line = |Metric { name, kind, unit, labels, text }| {
                format!("{name} {{{labels}}} {}, {unit}\n    {text}\n", Kind::label(kind))
            };
            ctl::print(&metrics::documented().into_iter().map(line).collect::<String>())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => say(&text, 2),
        Err(Failure::Other(text)) => say(&text, 1),
    }
}

fn say(text: &str, status: u8) -> ExitCode {
    eprintln!("breakwater: {}", one_line(text));
    ExitCode::from(status)
}

/// Help and version are no errors; of an error the first sentence is enough.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    say(&sentence(error), 2)
}

/// What is wrong with a command line, in one sentence.
pub fn sentence(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // clap would print the whole help.
        return "a command is missing (try --help)".to_string();
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("bad usage").trim_start_matches("error: ").to_string();
    // "the following arguments were not provided:" is followed by their names.
    let rest: Vec<&str> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
    let joined = if first.ends_with(':') { format!("{first} {}", rest.join(", ")) } else { first };
    format!("{joined} (try --help)")
}

fn load(file: Option<PathBuf>, flags: Table) -> Result<Config, Failure> {
    Config::load(file.as_deref(), flags).map_err(|error| Failure::Usage(error.to_string()))
}

impl RunArgs {
    /// The flags as a table with the file's keys.
    fn table(self) -> Table {
        let mut table = Table::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                table.insert(key.to_string(), value);
            }
        };
        let list = |values: Vec<String>| {
            (!values.is_empty()).then(|| Value::Array(values.into_iter().map(Value::String).collect()))
        };
        set("network", self.network.map(Value::String));
        set("nodes", list(self.node));
        set("listen", list(self.listen));
        set("tls_listen", list(self.tls_listen));
        set("tls_certificates", pair(self.tls_certificate, self.tls_key));
        set("data_dir", self.data_dir.map(Value::String));
        set("keep", self.keep.map(|text| text.parse().map_or(Value::String(text.clone()), Value::Integer)));
        set("shards", self.shards.map(Value::Integer));
        set("max_clients", self.max_clients.map(Value::Integer));
        set("log_format", self.log_format.map(Value::String));
        set("log_level", self.log_level.map(Value::String));
        set("metrics", self.metrics.map(Value::String));
        set("admin_socket", self.admin_socket.map(Value::String));
        set("admin", self.admin.map(Value::String));
        set("admin_token_file", self.admin_token_file.map(Value::String));
        if self.open_door {
            table.extend(open_door());
        }
        table
    }
}

/// The keys, and their values, that let everybody in: for many clients from one address at once.
fn open_door() -> impl Iterator<Item = (String, Value)> {
    let open =
        [("probe_seconds", 0), ("probe_every_seconds", 0), ("free_capacity", 0), ("probe_slots", 1 << 23)];
    open.into_iter().map(|(key, value)| (key.to_string(), Value::Integer(value)))
}

/// One certificate as the file writes it.
fn pair(chain: Option<String>, key: Option<String>) -> Option<Value> {
    let mut pair = Table::new();
    pair.insert("chain".to_string(), Value::String(chain?));
    pair.insert("key".to_string(), Value::String(key?));
    Some(Value::Array(vec![Value::Table(pair)]))
}

fn show_plan(args: PlanArgs) -> Result<(), Failure> {
    let mut flags = Table::new();
    for (key, value) in [("max_clients", args.max_clients), ("shards", args.shards)] {
        if let Some(value) = value {
            flags.insert(key.to_string(), Value::Integer(value));
        }
    }
    // A plan needs no node.
    if args.config.is_none() {
        flags.insert("nodes".to_string(), Value::Array(vec![Value::String("127.0.0.1:8333".into())]));
    }
    let mut config = load(args.config, flags)?;
    config.fit(run::file_limit()?);
    let plan = plan::plan(plan::Demand::new(&config, u64::from(config.max_clients)));
    print!("{}", plan.table());
    let (limit, each) = (run::file_limit()?, u64::from(config.clients_per_shard()));
    if each > limit {
        let shards = u64::from(config.max_clients).div_ceil(limit.max(1));
        println!(
            "this host's limit of open files is {limit}, a shard needs {each}: raise it (ulimit -n, LimitNOFILE=), \
             or use --shards {shards}"
        );
    }
    Ok(())
}

/// How long the demo runs.
fn demo_time(text: &str) -> Result<Duration, Failure> {
    let times = Duration::from_secs(1)..=Duration::from_secs(86_400);
    duration(text).ok().filter(|time| times.contains(time)).ok_or_else(|| {
        Failure::Usage(format!("--for is {text}, expected a time from 1s to 24h such as 60s or 5m"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_or_refused_with_a_reason() {
        assert_eq!(demo_time("2m").ok(), Some(Duration::from_secs(120)));
        for bad in ["", "0s", "0.5s", "5x", "25h"] {
            assert!(demo_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
