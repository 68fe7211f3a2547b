//! The benchmarks, one a file, and their command line.

mod aether;
mod alloc;
mod attack;
mod blocks;
mod compare;
mod control;
mod fanout;
mod fanout_sealed;
mod floors;
mod handshake;
mod ibd;
mod idle;
mod instructions;
mod million;
mod node_cpu;
mod ping;
mod priority;
mod scale;
mod storm;
mod tls;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::Outcome;
use crate::report::Missed;

/// Core of what is measured.
const RELAY_CORE: usize = 0;
/// Core of the load.
pub(crate) const LOAD_CORE: usize = 1;

/// Ran, and a target was missed.
const MISSED: u8 = 3;
/// What scripts rely on.
const STATUS: &str = "Exit status: 0 when every target was met, 3 when one was missed (not with --tiny), 2 for bad usage, 1 for the rest.";

/// Benchmarks of breakwater.
#[derive(Parser, Debug)]
#[command(name = "breakwater-bench", about, after_help = STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// CPU time per client per block announcement, against a bare send loop.
    Fanout(fanout::Args),
    /// Time until a ping is answered while fan-outs run.
    Ping(ping::Args),
    /// Connections accepted and greeted per second of CPU, against a bare accept-and-reply loop.
    Handshake(handshake::Args),
    /// Blocks of 1 MB to 100 clients, from memory and from files, against bare send loops.
    Blocks(blocks::Args),
    /// A chain downloaded by one client, against what a bare pair of sockets carries.
    Ibd(ibd::Args),
    /// Announcements per CPU second of two shards against one.
    Scale(scale::Args),
    /// Memory of the relay per idle client.
    Idle(idle::Args),
    /// Allocations of a shard per message in steady state.
    Alloc(alloc::Args),
    /// CPU of the node behind (needs BITCOIND and a release build of the relay).
    NodeCpu(node_cpu::Args),
    /// A million clients, both ends on this machine: what must hold of them.
    Million(million::Args),
    /// Blocks at the connected while as many clients come at once.
    Storm(storm::Args),
    /// Scanners that come as fast as they can beside clients that sync.
    Aether(aether::Args),
    /// Attacks beside honest clients: what these notice, and what memory the relay takes.
    Attack(attack::Args),
    /// Kick, throttle, pause and ban while 100,000 clients are connected: from the call to its effect.
    Control(control::Args),
    /// How long a priority client takes to get in where every slot is taken.
    Priority(priority::Args),
    /// Attackers in a process of their own, for `aether` and `attack`.
    #[command(hide = true)]
    Assail(crate::attackers::Args),
    /// Bare rings in a process of their own, for `million`.
    #[command(hide = true)]
    Hold(million::HoldArgs),
    /// breakwater beside other servers: NATS, mosquitto, Redis, bcoin, Bitcoin Core, nginx, HAProxy.
    Compare(compare::Args),
    /// Bare receive and accept loops, and a shard beside them.
    Floors(floors::Args),
    /// TLS in memory: handshakes against a bare rustls loop, records, sizes.
    Tls(tls::Args),
    /// One subject of the micro benchmarks, for bench/callgrind.
    Instructions(instructions::Args),
    /// Shards in a process of their own, for `idle`.
    #[command(hide = true)]
    Shards(idle::ShardsArgs),
}

/// Flags of every benchmark.
#[derive(clap::Args, Debug, Clone, Copy)]
pub(crate) struct Common {
    /// A few clients and rounds: shows that the benchmark works, measures nothing.
    #[arg(long)]
    pub(crate) tiny: bool,
    /// Append the result to bench/results/.
    #[arg(long)]
    pub(crate) record: bool,
}

/// Runs what the command line says; bad usage ends the process with status 2.
pub fn main() -> ExitCode {
    // As the product does at its start.
    breakwater::ring::refuse_huge_pages();
    let Err(error) = run(Cli::parse().command) else { return ExitCode::SUCCESS };
    eprintln!("breakwater-bench: {error}");
    if error.is::<Missed>() { ExitCode::from(MISSED) } else { ExitCode::FAILURE }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Fanout(args) => fanout::run(args),
        Command::Ping(args) => ping::run(args),
        Command::Handshake(args) => handshake::run(args),
        Command::Blocks(args) => blocks::run(args),
        Command::Ibd(args) => ibd::run(args),
        Command::Scale(args) => scale::run(args),
        Command::Idle(args) => idle::run(args),
        Command::Alloc(args) => alloc::run(args),
        Command::NodeCpu(args) => node_cpu::run(args),
        Command::Million(args) => million::run(args),
        Command::Storm(args) => storm::run(args),
        Command::Aether(args) => aether::run(args),
        Command::Attack(args) => attack::run(args),
        Command::Control(args) => control::run(args),
        Command::Priority(args) => priority::run(args),
        Command::Assail(args) => crate::attackers::run(args),
        Command::Hold(args) => million::hold(args),
        Command::Compare(args) => compare::run(args),
        Command::Floors(args) => floors::run(args),
        Command::Tls(args) => tls::run(args),
        Command::Instructions(args) => instructions::run(args),
        Command::Shards(args) => idle::shards(args),
    }
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The value a quarter of the rounds stays below: what the work costs when little disturbs it, without resting on the one luckiest
/// round.
fn quartile(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 4).copied().unwrap_or(0.0)
}
