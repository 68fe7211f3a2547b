//! The million: relay and rig on this machine, both ends of a million connections, and what must hold of them.
//!
//! ```text
//!   small floor, small relay    cost per announcement and client at --small clients
//!   relay    connect -> weigh -> blocks -> blocks with pings -> transactions -> churn -> drain
//!   floor    the bare send loop over as many connections
//!   verdicts, each with its number; the report of the big run in --report
//! ```
//!
//! - `phases`: the big run
//! - `cost`: CPU per announcement and client: the relay's and the floor's, at both sizes
//! - `hold`: the floor's process
//!
//! The node is a stub in this process; its moments of announcing are the origins of the latencies.

mod cost;
mod hold;
mod phases;

use std::path::PathBuf;
use std::time::Duration;

use breakwater::control::duration;
use serde_json::json;

use super::Common;
use crate::rig::scenario::Transport;
use crate::{Outcome, report, stop};

pub(super) use cost::{ANNOUNCE, CONNECT, listeners, node, node_of};
pub(super) use hold::{Args as HoldArgs, run as hold};

/// Targets of the issue; what each means is said in `verdicts`.
const READY_WITHIN: f64 = 180.0;
const USER_BYTES: f64 = 400.0;
const V2_BYTES: f64 = 700.0;
const TLS_BYTES: f64 = 1_200.0;
const ALL_BYTES: f64 = 4_600.0;
const FLAT: f64 = 1.25;
/// Memory that may remain after the drain, as a share of what the clients had taken: the allocator's own reserve.
const REMAINS: f64 = 0.05;

#[derive(clap::Args, Debug, Clone)]
pub(super) struct Args {
    /// Clients, both ends on this machine: about 10 KB of memory each.
    #[arg(long, default_value_t = 1_000_000)]
    clients: u32,
    /// Clients of the runs that the cost is compared with.
    #[arg(long, default_value_t = 10_000)]
    small: u32,
    /// What they speak: plain, v2 or tls.
    #[arg(long, default_value = "plain")]
    transport: Transport,
    /// Blocks announced to all, half of them while pings go through. Default 20; 10 when encrypted.
    #[arg(long)]
    blocks: Option<u32>,
    /// Transactions announced to all. Default 1,000; 100 when encrypted.
    #[arg(long)]
    txs: Option<u32>,
    /// Every client is pinged once in this time while pings go through.
    #[arg(long, default_value = "60s", value_parser = duration)]
    ping_every: Duration,
    /// Share of the clients that leave and come back each second while they churn.
    #[arg(long, default_value_t = 0.01)]
    churn: f64,
    /// How long they churn. Default 5m; not at all when encrypted, which is what `storm` is for.
    #[arg(long, value_parser = duration)]
    churn_for: Option<Duration>,
    /// Leave out the bare send loop, which connects as many clients again; then nothing is said about the cost.
    #[arg(long)]
    no_floor: bool,
    /// Folder of the big run's report.
    #[arg(long, default_value = "target/million")]
    report: PathBuf,
    #[command(flatten)]
    common: Common,
}

impl Args {
    fn is_plain(&self) -> bool {
        self.transport == Transport::Plain
    }

    fn blocks(&self) -> u32 {
        self.blocks.unwrap_or(if self.is_plain() { 20 } else { 10 })
    }

    fn txs(&self) -> u32 {
        self.txs.unwrap_or(if self.is_plain() { 1_000 } else { 100 })
    }

    fn churn_for(&self) -> Duration {
        let usual = if self.is_plain() { Duration::from_secs(300) } else { Duration::ZERO };
        self.churn_for.unwrap_or(usual)
    }

    /// User memory of a client at most, bytes.
    fn user_bytes(&self) -> f64 {
        match self.transport {
            Transport::Plain => USER_BYTES,
            Transport::V2 => V2_BYTES,
            Transport::Tls => TLS_BYTES,
        }
    }
}

pub(super) fn run(mut args: Args) -> Outcome {
    if args.common.tiny {
        (args.clients, args.small, args.blocks, args.txs) = (300, 100, Some(4), Some(20));
        (args.ping_every, args.churn) = (Duration::from_secs(1), 0.2);
        args.churn_for = Some(Duration::from_secs(2));
    }
    let stop = stop::on_signal()?;
    let workload = json!({
        "clients": args.clients, "transport": args.transport.name(), "small": args.small, "blocks": args.blocks(),
        "txs": args.txs(), "ping_every_s": args.ping_every.as_secs_f64(), "churn": args.churn,
        "churn_s": args.churn_for().as_secs_f64(),
    });
    let mut report = report::Report::new("million", workload);
    let rounds = args.blocks().clamp(2, 10);
    let small = match args.no_floor {
        true => None,
        false => {
            say(&format!("floor and relay at {} clients", args.small));
            Some((
                cost::floor(args.small, rounds, &stop)?,
                cost::relay(args.small, rounds, args.transport, &stop)?,
            ))
        }
    };
    let (big, ended) = phases::run(&args, &stop)?;
    if let Err(error) = ended {
        // What was measured before the end is worth a look, and no record.
        verdicts(&mut report, &args, &big, None);
        report.print();
        return Err(error);
    }
    let floor = match args.no_floor {
        true => None,
        false => {
            say(&format!("floor at {} clients", args.clients));
            Some(cost::floor(args.clients, rounds, &stop)?)
        }
    };
    verdicts(&mut report, &args, &big, small.zip(floor));
    report.finish(args.common)
}

/// What the transports' handshakes came to.
fn handshakes(report: &mut report::Report, big: &phases::Big) {
    let counts = &big.tally.counts;
    report.number("full", "full TLS handshakes", counts.transport_full as f64, "");
    report.number("resumed", "resumed TLS handshakes", counts.transport_resumed as f64, "");
    report.number("v2", "BIP324 handshakes", counts.transport_v2 as f64, "");
    report.bound("transport_failed", "handshakes that failed", counts.transport_failed as f64, 0.0, false);
    let opened = counts.transport_opened() as f64;
    report.number("transports_s", "handshakes per second until all were ready", opened / big.ready, "");
    let p99 = big.tally.transport.get().map_or(f64::NAN, |all| all.value_at_quantile(0.99) as f64);
    report.number("transport_p99_ms", "from connected to an open transport, p99", p99 / 1e3, "ms");
}

/// Progress, for people who wait.
fn say(what: &str) {
    eprintln!("million: {what}");
}

fn verdicts(report: &mut report::Report, args: &Args, big: &phases::Big, costs: Option<((f64, f64), f64)>) {
    let clients = f64::from(args.clients);
    if args.is_plain() {
        report.bound("ready_s", "all connected and handshaken, seconds", big.ready, READY_WITHIN, false);
    } else {
        report.number("ready_s", "all connected and handshaken", big.ready, "s");
        handshakes(report, big);
    }
    let lost = (big.lost + big.refused) as f64;
    report.bound("lost", "clients lost or refused, the whole run", lost, 0.0, false);
    report.bound("skipped", "blocks skipped, all clients", big.skipped as f64, 0.0, false);
    report.bound(
        "user_bytes",
        "relay: user memory per client, idle (VmRSS in all)",
        big.user_idle,
        args.user_bytes(),
        false,
    );
    report.bound(
        "user_bytes_full",
        "relay: user memory per client after blocks and transactions",
        big.user_full,
        args.user_bytes(),
        false,
    );
    report.number("kernel_bytes", "relay: kernel memory per client", big.kernel, "B");
    let all = ("all_bytes", "relay: kernel and user memory per client", big.kernel + big.user_full);
    if args.is_plain() {
        report.bound(all.0, all.1, all.2, ALL_BYTES, false);
    } else {
        report.number(all.0, all.1, all.2, "B");
    }
    report.number("rig_bytes", "rig: user memory per client", big.rig, "B");
    report.bound(
        "pings_unanswered",
        "pings unanswered by connected clients",
        big.pings_open as f64,
        0.0,
        false,
    );
    report.number("pings", "pings answered", big.pongs as f64, "");
    report.number("fanout_s", "block: from the node to the last client, median", big.fanout, "s");
    report.number("txs_heard", "transactions heard, per client", big.txs_heard / clients, "");
    report.bound(
        "txs_missing",
        "announcements of transactions that did not come",
        big.txs_missing,
        0.0,
        false,
    );
    if !args.churn_for().is_zero() {
        report.number("churned", "connections that left and came back", big.churned, "");
        report.bound("not_ready", "clients not ready after the churn", big.not_ready, 0.0, false);
        report.bound("behind", "clients behind the newest block after the churn", big.behind, 0.0, false);
    }
    // Not below one byte: a few clients may fit into what is there already.
    let grown = if big.rss_full.is_nan() { f64::NAN } else { (big.rss_full - big.rss_start).max(1.0) };
    let remains = (big.rss_drained - big.rss_start) / grown;
    report.number("rss_start", "relay: VmRSS before the first client", big.rss_start / 1e6, "MB");
    report.number("rss_full", "relay: VmRSS with all clients", big.rss_full / 1e6, "MB");
    report.number("rss_drained", "relay: VmRSS after the drain", big.rss_drained / 1e6, "MB");
    report.bound(
        "remains",
        "memory that remains after the drain, share of what was taken",
        remains,
        REMAINS,
        false,
    );
    report.number("relay_us", "relay, CPU per announcement and client", big.cost, "us");
    if let Some(((floor_small, relay_small), floor)) = costs {
        report.number("relay_small_us", "  the same at the small size", relay_small, "us");
        report.number("floor_us", "bare send loop, CPU per announcement and client", floor, "us");
        report.number("floor_small_us", "  the same at the small size", floor_small, "us");
        // The bare loop grows, too: cache misses of the kernel's sockets, which nobody can save.
        let flat = (big.cost - (floor - floor_small)) / relay_small;
        report.ratio("cost per client against the small size, the bare loop's growth taken out", flat, FLAT);
    }
}
