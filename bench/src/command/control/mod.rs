//! An operator's hand while very many are connected: how long from a call to its effect.
//!
//! ```text
//!   --clients connect and are idle; a part of them from one /24
//!   --rounds times each   kick, throttle, pause: from the call to what the client sees of it
//!   ban                   that /24: from the call until the last of its clients has seen its end
//!   throttle              one of several that download: its rate over --window, and what becomes of its neighbours' rates
//! ```
//! Calls go over the relay's Unix socket. Each client something is done to is a socket of its own on a thread (`witness`), because the
//! rig looks at its crowds five times a second; only the ban's moment comes from the crowd, whose rings note when a
//! connection was ended. Everybody may use what a client may by default (`free_capacity`), so that the neighbours that download
//! are held by that and not by what cores are left: their rate is to stay what it was.
//!
//! - `effects`: one client: kick, throttle, pause
//! - `exact`: the throttle's rate

mod effects;
mod exact;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use breakwater::control::duration;
use serde_json::json;

use super::Common;
use super::million::{CONNECT, node_of};
use crate::relay_process::RelayProcess;
use crate::report::Report;
use crate::rig::engine::Shared;
use crate::rig::node::{Fleet, Plan};
use crate::rig::run::Run;
use crate::rig::scenario::{Sources, Transport};
use crate::witness::Witness;
use crate::{MAGIC, Outcome, crowd, stop};

/// Milliseconds from a call about one client to its effect.
const ONE: f64 = 100.0;
/// The same for a network's ban.
const NETWORK: f64 = 1_000.0;
/// Blocks that are downloaded, the last of the chain.
const BLOCKS: u32 = 130;
/// First addresses of the crowd; the network that is banned; single clients.
const CROWD_FROM: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const BANNED: [u8; 3] = [127, 5, 5];
const BANNED_ADDRESSES: u32 = 250;
const SINGLE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
/// Clients per address of the crowd: far below the ports of one.
const PER_ADDRESS: u32 = 10_000;
/// Longest wait for the effect of a ban.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients connected, those that are banned included.
    #[arg(long, default_value_t = 100_000)]
    clients: u32,
    /// Clients in the network that is banned.
    #[arg(long, default_value_t = 10_000)]
    banned: u32,
    /// Times each of kick, throttle and pause is done.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Size of the blocks that are downloaded, bytes.
    #[arg(long, default_value_t = 1_000_000)]
    block_bytes: usize,
    /// Clients that download beside the throttled one.
    #[arg(long, default_value_t = 2)]
    neighbours: u32,
    /// The rate that is set, bytes per second.
    #[arg(long, default_value_t = 1_000_000)]
    rate: u64,
    /// How long rates are measured.
    #[arg(long, default_value = "10s", value_parser = duration)]
    window: Duration,
    #[command(flatten)]
    common: Common,
}

/// What the calls are made at.
struct Stage {
    relay: RelayProcess,
    /// Ends when it is dropped.
    _node: Fleet,
    /// Bytes of a block that is downloaded.
    block_bytes: usize,
}

impl Stage {
    /// A client on a socket of its own, and its id.
    fn single(&self) -> Outcome<(Witness, String)> {
        let witness = Witness::connect(self.relay.address(), SINGLE)?;
        let id = self.relay.admin().id_of(witness.address()?)?;
        Ok((witness, id))
    }
}

pub(super) fn run(mut args: Args) -> Outcome {
    if args.common.tiny {
        (args.clients, args.banned, args.rounds) = (60, 20, 2);
        (args.block_bytes, args.window) = (100_000, Duration::from_secs(2));
    }
    let stop = stop::on_signal()?;
    let workload = json!({
        "clients": args.clients, "banned": args.banned, "rounds": args.rounds, "block_bytes": args.block_bytes,
        "neighbours": args.neighbours, "rate": args.rate, "window_s": args.window.as_secs_f64(),
    });
    let mut report = Report::new("control", workload);
    let shared = Shared::new(1, MAGIC);
    let plan = Plan { blocks: BLOCKS, block_bytes: args.block_bytes, ..Plan::default() };
    let node = node_of(&shared, plan)?;
    let block_bytes = node.filled().map_or(0, |(_, bytes)| bytes);
    let room = args.clients + args.neighbours + 100;
    let keys = format!("probe_slots = {}\nprobe_seconds = 0\nprobe_every_seconds = 0\n", 2 * room);
    let relay = RelayProcess::configured(node.addresses()[0], room, &keys)?;
    let stage = Stage { relay, _node: node, block_bytes };
    let others = args.clients.saturating_sub(args.banned).max(1);
    let mut crowd = connected(&stage, &shared, (CROWD_FROM, others.div_ceil(PER_ADDRESS)), others, &stop)?;
    let network = (Ipv4Addr::new(BANNED[0], BANNED[1], BANNED[2], 1), BANNED_ADDRESSES);
    let mut banned = connected(&stage, &shared, network, args.banned.max(1), &stop)?;

    let kicks = effects::several(args.rounds, || effects::kick(&stage))?;
    kicks.report(&mut report, "kick", "kick one", ONE);
    let throttles = effects::several(args.rounds, || effects::throttle(&stage))?;
    throttles.report(&mut report, "throttle", "throttle one that downloads", ONE);
    let pauses = effects::several(args.rounds, || effects::pause(&stage))?;
    pauses.report(&mut report, "pause", "pause one", ONE);
    exact::measure(&stage, &args, &mut report)?;
    ban(&stage, &shared, &mut banned, &args, &mut report)?;

    crowd.look();
    let lost = crowd.sum().lost as f64;
    report.bound("lost", "others that were ended", lost, 0.0, false);
    banned.finish().1?;
    crowd.finish().1?;
    report.finish(args.common)
}

/// Clients that only listen, from so many addresses.
fn connected(
    stage: &Stage,
    shared: &Arc<Shared>,
    (first, count): (Ipv4Addr, u32),
    clients: u32,
    stop: &AtomicBool,
) -> Outcome<Run> {
    let mut scenario = crowd::scenario(stage.relay.address(), Transport::Plain, None, clients, "idle")?;
    scenario.sources = Sources::Range { first: first.into(), count };
    let mut run = Run::start(scenario, shared.clone(), Some(stage.relay.pid()))?;
    if !run.wait(CONNECT, stop, |_, _| {}, |run| run.levels().ready == u64::from(clients)) {
        return Err(format!("only {} of {clients} clients became ready", run.levels().ready).into());
    }
    Ok(run)
}

/// Bans the network with many clients.
fn ban(stage: &Stage, shared: &Shared, banned: &mut Run, args: &Args, report: &mut Report) -> Outcome {
    let network = format!("{}.{}.{}.0/24", BANNED[0], BANNED[1], BANNED[2]);
    let wanted = u64::from(args.banned.max(1));
    let start = Instant::now();
    let body = json!({ "network": network, "seconds": 3_600, "reason": "benchmark" });
    let done = stage.relay.admin().post("/bans", &body)?;
    let answer = start.elapsed();
    while banned.sum().lost < wanted && start.elapsed() < PATIENCE {
        banned.look();
        std::thread::sleep(Duration::from_millis(50));
    }
    // The rings report five times a second; the moment is the one they noted.
    std::thread::sleep(Duration::from_millis(400));
    banned.look();
    let left = wanted.saturating_sub(banned.sum().lost);
    let effect = breakwater::base::Instant(banned.levels().last_end).since(shared.at(start));
    let clients = done["clients"].as_u64().unwrap_or(0);
    report.number("ban_answer_ms", "ban of a /24: the answer", answer.as_secs_f64() * 1e3, "ms");
    report.number("ban_clients", "  clients that it says were ended", clients as f64, "");
    report.bound("ban_left", "  clients of it that are still connected", left as f64, 0.0, false);
    report.bound(
        "ban_ms",
        "  until the last of them has seen its end, ms",
        effect.as_secs_f64() * 1e3,
        NETWORK,
        false,
    );
    let source = Ipv4Addr::new(BANNED[0], BANNED[1], BANNED[2], 1);
    let refused = Witness::connect(stage.relay.address(), source).is_err();
    report.bound("ban_refuses", "  newcomers from there refused", f64::from(u8::from(refused)), 1.0, true);
    Ok(())
}
