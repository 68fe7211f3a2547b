//! CPU time of the shard's thread per client per 61-byte announcement, against the bare send loop.
//!
//! Relay and floor take turns on the same thread, each with connections of its own to swarms of the same kind. A
//! round is one announcement to all; before the next one everybody has received it and TCP has acknowledged.

use std::sync::atomic::Ordering;
use std::time::Duration;

use breakwater::feed::blocks::inv_message;
use serde_json::json;

use super::{Common, LOAD_CORE, RELAY_CORE, median};
use crate::floor::Floor;
use crate::relay::{self, PATIENCE, Relay};
use crate::report::Report;
use crate::rig::scenario::Transport;
use crate::swarm::{Manner, Plan, Swarm};
use crate::{MAGIC, Outcome, os};

/// After this, delayed acknowledgements (40 ms) are through.
pub(super) const SETTLE: Duration = Duration::from_millis(60);
/// Rounds of each before those that count.
pub(super) const WARM_UP: u64 = 3;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients of the relay, and as many of the floor.
    #[arg(long, default_value_t = 10_000)]
    pub(super) clients: u32,
    /// Announcements measured.
    #[arg(long, default_value_t = 50)]
    pub(super) rounds: u64,
    /// What they speak: plain, v2 or tls. When encrypted, the floor seals the same message for each, too.
    #[arg(long, default_value = "plain")]
    pub(super) transport: Transport,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    if args.transport != Transport::Plain {
        return super::fanout_sealed::run(&args);
    }
    let (clients, rounds) = if args.common.tiny { (50, 2) } else { (args.clients, args.rounds) };
    let mut report = Report::new(
        "fanout",
        json!({ "clients": clients, "transport": "plain", "rounds": rounds, "bytes": 61 }),
    );
    os::pin(RELAY_CORE);
    let (address, _held) = relay::reserve()?;
    let mut relay = Relay::open(0, address, clients)?;
    let mut floor = Floor::open(clients)?;
    let plan =
        |target, manner, source| Plan { target, clients, manner, source, core: LOAD_CORE, pings: None };
    let bare = Swarm::start(plan(floor.address(), Manner::Mute, 1))?;
    floor.accept(clients)?;
    let wallets = Swarm::start(plan(address, Manner::Wallet, 101))?;
    relay.turn_until("handshakes", |relay| relay.counters().handshakes >= u64::from(clients))?;
    // The greetings' last part is on its way: sends that are counted below must not be theirs.
    for _ in 0..10 {
        relay.turn();
    }
    wallets.wait("handshakes", PATIENCE, |_| wallets.is_ready())?;
    let (mut floors, mut relays) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + rounds {
        let f = floor_round(&mut floor, &bare, round)?;
        let r = relay_round(&mut relay, &wallets)?;
        if round >= WARM_UP {
            floors.push(f);
            relays.push(r);
        }
    }
    let mut ratios: Vec<f64> = floors.iter().zip(&relays).map(|(f, r)| r / f).collect();
    let (f, r) = (median(&mut floors), median(&mut relays));
    report.number("floor_us", "bare send loop, CPU per client and announcement", f, "us");
    report.number("relay_us", "relay, CPU per client and announcement", r, "us");
    report.number("median_of_ratios", "median of the ratios of neighbouring rounds", median(&mut ratios), "");
    report.ratio("ratio of the medians", r / f, 1.10);
    report.finish(args.common)
}

/// Microseconds of CPU per client.
fn floor_round(floor: &mut Floor, swarm: &Swarm, round: u64) -> Outcome<f64> {
    let mut hash = [3; 32];
    hash[..8].copy_from_slice(&round.to_le_bytes());
    let bytes = inv_message(MAGIC, &hash);
    let want = swarm.seen().blocks.load(Ordering::Acquire) + u64::from(swarm.clients());
    let before = os::thread_cpu();
    floor.send_all(&bytes)?;
    let spent = os::thread_cpu() - before;
    swarm.wait("the floor's announcement", PATIENCE, |seen| seen.blocks.load(Ordering::Acquire) >= want)?;
    std::thread::sleep(SETTLE);
    Ok(spent.as_secs_f64() * 1e6 / f64::from(swarm.clients()))
}

/// As [`floor_round`]: from the hub's entry in the link to the last completion taken by the shard.
fn relay_round(relay: &mut Relay, swarm: &Swarm) -> Outcome<f64> {
    let clients = u64::from(swarm.clients());
    let block = relay.make_block();
    let want = swarm.seen().blocks.load(Ordering::Acquire) + clients;
    let sends = relay.counters().sends + clients;
    relay.announce(block)?;
    let before = os::thread_cpu();
    relay.turn_until("sends of an announcement", |relay| relay.counters().sends >= sends)?;
    let spent = os::thread_cpu() - before;
    swarm.wait("the relay's announcement", PATIENCE, |seen| seen.blocks.load(Ordering::Acquire) >= want)?;
    std::thread::sleep(SETTLE);
    Ok(spent.as_secs_f64() * 1e6 / swarm.clients() as f64)
}
