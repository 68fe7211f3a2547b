//! `fanout` for encrypted clients: the bare loop seals the same message for each connection with aws-lc-rs, then sends.
//!
//! As in `fanout`, relay and floor take turns on the same thread. Clients are the rig's: the relay's open what they hear, the
//! floor's count its bytes.

use std::time::Duration;

use breakwater::feed::blocks::inv_message;
use serde_json::json;

use super::fanout::{Args, SETTLE, WARM_UP};
use super::{RELAY_CORE, median};
use crate::certificate::Passing;
use crate::crowd::{self, Crowd};
use crate::floor::{Floor, Sealer, Shape};
use crate::relay::{self, PATIENCE, Relay, Speaks};
use crate::report::Report;
use crate::rig::scenario::Transport;
use crate::{MAGIC, Outcome, os};

/// CPU of the relay to that of the floor, at most, for TLS.
const TARGET: f64 = 1.15;
/// The suite that relay and rig agree on: the first of both.
const SUITE: &str = "AES_128_GCM";
/// Bytes of an inv in a packet of BIP324: the type and the payload.
const V2_CONTENTS: usize = 1 + 37;

pub(super) fn run(args: &Args) -> Outcome {
    let (clients, rounds) = if args.common.tiny { (50, 2) } else { (args.clients, args.rounds) };
    let transport = args.transport;
    let shape = if transport == Transport::Tls { Shape::tls(SUITE) } else { Shape::v2() };
    let workload =
        json!({ "clients": clients, "transport": transport.name(), "rounds": rounds, "bytes": 61 });
    let mut report = Report::new("fanout", workload);
    os::pin(RELAY_CORE);
    let shown = Passing::make("fanout")?;
    let (address, _held) = relay::reserve()?;
    let mut relay = Relay::speaking(address, clients, Speaks::to(transport, &shown.certificate)?)?;
    let (mut floor, mut sealer) = (Floor::open(clients)?, Sealer::new(shape, clients));
    let bare = crowd::scenario(floor.address(), Transport::Plain, None, clients, "mute")?;
    let mut bare = Crowd::start(bare, RELAY_CORE)?;
    floor.accept(clients)?;
    // The listener is open when the turn after the one that asked for it has begun.
    for _ in 0..2 {
        relay.turn();
    }
    let trusted = Some(shown.certificate.chain.as_path());
    let listeners = crowd::scenario(address, transport, trusted, clients, "idle")?;
    let mut listeners = Crowd::start(listeners, RELAY_CORE)?;
    relay.turn_until("handshakes", |relay| relay.counters().handshakes >= u64::from(clients))?;
    // The greetings' last part is on its way: sends that are counted below must not be theirs.
    for _ in 0..10 {
        relay.turn();
    }
    listeners.ready(PATIENCE)?;
    let (mut floors, mut relays, mut plains) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + rounds {
        let plain = floor_round(&mut floor, None, &mut bare, round)?;
        let f = floor_round(&mut floor, Some(&mut sealer), &mut bare, round)?;
        let r = relay_round(&mut relay, &mut listeners)?;
        if round >= WARM_UP {
            plains.push(plain);
            floors.push(f);
            relays.push(r);
        }
    }
    let mut ratios: Vec<f64> = floors.iter().zip(&relays).map(|(f, r)| r / f).collect();
    let (plain, f, r) = (median(&mut plains), median(&mut floors), median(&mut relays));
    report.number("plain_floor_us", "bare send loop, CPU per client and announcement", plain, "us");
    report.number("floor_us", "bare loop that seals and sends", f, "us");
    report.number("relay_us", "relay, CPU per client and announcement", r, "us");
    report.number("median_of_ratios", "median of the ratios of neighbouring rounds", median(&mut ratios), "");
    match transport {
        Transport::Tls => report.ratio("ratio of the medians", r / f, TARGET),
        _ => report.number("ratio", "ratio of the medians (no target)", r / f, ""),
    }
    bare.leave()?;
    listeners.leave()?;
    report.finish(args.common)
}

/// Microseconds of CPU per client.
fn floor_round(
    floor: &mut Floor,
    sealer: Option<&mut Sealer>,
    crowd: &mut Crowd,
    round: u64,
) -> Outcome<f64> {
    let mut hash = [3; 32];
    hash[..8].copy_from_slice(&round.to_le_bytes());
    let message = inv_message(MAGIC, &hash);
    let clients = u64::from(crowd.clients);
    let before = crowd.look().0.counts.bytes_in;
    let (spent, len) = match sealer {
        None => (timed(|| floor.send_all(&message))?, message.len()),
        Some(sealer) => {
            // v2 says the same in fewer bytes.
            let message =
                if sealer.is_v2() { message.get(..V2_CONTENTS).unwrap_or(&message) } else { &message };
            (timed(|| floor.send_all_sealed(message, sealer))?, sealer.len(message.len()))
        }
    };
    let want = before + clients * len as u64;
    crowd.wait("the floor's announcement", PATIENCE, |tally, _| tally.counts.bytes_in >= want)?;
    std::thread::sleep(SETTLE);
    Ok(spent.as_secs_f64() * 1e6 / clients as f64)
}

fn timed(work: impl FnOnce() -> Outcome) -> Outcome<Duration> {
    let before = os::thread_cpu();
    work()?;
    Ok(os::thread_cpu() - before)
}

/// As [`floor_round`]: from the hub's entry in the link to the last completion taken by the shard.
fn relay_round(relay: &mut Relay, crowd: &mut Crowd) -> Outcome<f64> {
    let clients = u64::from(crowd.clients);
    let block = relay.make_block();
    let want = crowd.look().0.counts.blocks_heard + clients;
    let sends = relay.counters().sends + clients;
    relay.announce(block)?;
    let spent =
        timed(|| relay.turn_until("sends of an announcement", |relay| relay.counters().sends >= sends))?;
    crowd.wait("the relay's announcement", PATIENCE, |tally, _| tally.counts.blocks_heard >= want)?;
    std::thread::sleep(SETTLE);
    Ok(spent.as_secs_f64() * 1e6 / clients as f64)
}
