//! Clients of the rig in a process of their own, at a lower priority: attackers beside whom others are measured.
//!
//! In another process they share no lock and no allocator with the measured ones; at nice 10 they get a tenth of a core's time
//! from whoever else wants it, and all that nobody wants. Their CPU is work that other machines would do.
//!
//! The process (`breakwater-bench assail`) says `begun` once its rings stand; each line on its input is answered by a line of
//! counters as JSON; it ends with its input.

use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::crowd::{self, Crowd};
use crate::lines::Lines;
use crate::rig::scenario::{Sources, Transport};
use crate::{Outcome, os};

/// Longest wait for a word of the process.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who they are.
#[derive(clap::Args, Debug, Clone, Copy)]
pub(crate) struct Args {
    /// Where to connect.
    #[arg(long)]
    pub(crate) target: SocketAddr,
    /// How many.
    #[arg(long)]
    pub(crate) clients: u32,
    /// What they do.
    #[arg(long, value_parser = name)]
    pub(crate) behaviour: &'static str,
    /// Pause of what they repeat, microseconds; 0 for the behaviour's own.
    #[arg(long, default_value_t = 0)]
    pub(crate) every_us: u64,
    /// First of their addresses.
    #[arg(long)]
    pub(crate) from: Ipv4Addr,
    /// How many addresses.
    #[arg(long)]
    pub(crate) addresses: u32,
}

fn name(text: &str) -> Result<&'static str, String> {
    let found = crate::rig::behaviour::find(text).map(|kind| kind.name);
    found.ok_or_else(|| format!("no behaviour {text}"))
}

/// The process itself.
pub(crate) fn run(args: Args) -> Outcome {
    let mut scenario = crowd::scenario(args.target, Transport::Plain, None, args.clients, args.behaviour)?;
    scenario.sources = Sources::Range { first: args.from.into(), count: args.addresses };
    scenario.parts[0].options.every_us = args.every_us;
    let mut crowd = os::yielding(move || Crowd::start_anywhere(scenario))?;
    println!("begun");
    for line in std::io::stdin().lock().lines() {
        line?;
        let (tally, levels) = crowd.look();
        let (counts, refused) = (tally.counts, &tally.refused);
        println!(
            "{}",
            json!({
                "attempts": counts.attempts, "connections": counts.connections, "handshakes": counts.handshakes,
                "requests": counts.requests, "answers": counts.answers, "thrown_out": counts.thrown_out,
                "bytes_in": counts.bytes_in, "bytes_out": counts.bytes_out, "open": levels.open, "cpu_us": levels.cpu_us,
                "not_connected": refused.values().sum::<u64>(), "why": refused,
            })
        );
    }
    crowd.leave()
}

/// Attackers at work; they end when it is dropped.
#[derive(Debug)]
pub(crate) struct Attackers {
    child: Child,
    input: ChildStdin,
    output: Lines,
}

impl Attackers {
    /// Begins an attack.
    pub(crate) fn start(args: Args) -> Outcome<Attackers> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["assail", "--target", &args.target.to_string(), "--clients", &args.clients.to_string()])
            .args(["--behaviour", args.behaviour, "--every-us", &args.every_us.to_string()])
            .args(["--from", &args.from.to_string(), "--addresses", &args.addresses.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the attackers' process has no input or output".into());
        };
        let attackers = Attackers { child, input, output: Lines::of(output) };
        attackers.line()?;
        Ok(attackers)
    }

    /// Their counters so far.
    pub(crate) fn count(&mut self) -> Outcome<Value> {
        writeln!(self.input, "count").map_err(|error| format!("the attackers' process: {error}"))?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    /// CPU time of their process so far.
    pub(crate) fn cpu(&self) -> Duration {
        os::process_clock(self.child.id()).unwrap_or_default()
    }

    fn line(&self) -> Outcome<String> {
        let line = self.output.next(PATIENCE).map_err(|error| format!("the attackers' process: {error}"))?;
        line.ok_or_else(|| "the attackers' process has ended".into())
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
