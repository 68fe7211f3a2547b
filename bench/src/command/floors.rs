//! CPU of a shard per message received and per client accepted, against bare receive and accept loops on io_uring.
//!
//! The messages are invs of a transaction that is known: 61 bytes that are read and not answered. A client accepted by the
//! shard shakes hands as well; the bare loop only takes the connection.

use breakwater::wire::{Inv, InvKind, write};
use bytes::Bytes;
use serde_json::json;

use super::{Common, LOAD_CORE, RELAY_CORE, median};
use crate::floor::{Accepting, Receiving};
use crate::relay::{self, PATIENCE, Relay};
use crate::report::Report;
use crate::swarm::{Manner, Plan, Swarm};
use crate::{MAGIC, Outcome, made, os};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients of each.
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// Messages of each client.
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    #[command(flatten)]
    common: Common,
}

/// A shard may receive at this many times the bare loop's cost: it splits, checks the checksum, parses and looks up.
const TARGET: f64 = 2.0;

pub(super) fn run(args: Args) -> Outcome {
    let (clients, rounds) = if args.common.tiny { (50, 2) } else { (args.clients, args.rounds) };
    let mut report = Report::new("floors", json!({ "clients": clients, "rounds": rounds, "bytes": 61 }));
    os::pin(RELAY_CORE);
    let n = f64::from(clients);
    let plan =
        |target, manner, source| Plan { target, clients, manner, source, core: LOAD_CORE, pings: None };

    let mut accepting = Accepting::open(clients)?;
    let before = os::thread_cpu();
    let swarm = Swarm::start(plan(accepting.address(), Manner::Mute, 1))?;
    accepting.accept(clients)?;
    let bare_accept = (os::thread_cpu() - before).as_secs_f64() * 1e6 / n;
    swarm.stop()?;
    drop(accepting);

    let mut receiving = Receiving::open(clients)?;
    let bare = Swarm::start(plan(receiving.address(), Manner::Mute, 11))?;
    receiving.accept(clients)?;
    bare.wait("connections", PATIENCE, |_| bare.is_ready())?;

    let (address, _held) = relay::reserve()?;
    let mut relay = Relay::open(0, address, clients)?;
    let before = os::thread_cpu();
    let wallets = Swarm::start(plan(address, Manner::Wallet, 101))?;
    relay.turn_until("handshakes", |relay| relay.counters().handshakes >= u64::from(clients))?;
    let accept = (os::thread_cpu() - before).as_secs_f64() * 1e6 / n;
    wallets.wait("handshakes", PATIENCE, |_| wallets.is_ready())?;

    // In the log: the shard knows it.
    let known = made::tx(0).wtxid;
    let txs = relay.make_txs(1);
    let sends = relay.counters().sends + u64::from(clients);
    relay.announce(txs)?;
    relay.turn_until("the announcement", |relay| relay.counters().sends >= sends)?;
    let mut message = Vec::new();
    write::inventory(&mut message, MAGIC, "inv", std::iter::once(Inv { kind: InvKind::Wtx, hash: known }));
    let message = Bytes::from(message);

    let (mut floors, mut relays) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for group in 0..clients.div_ceil(GROUP) {
            let members = group * GROUP..((group + 1) * GROUP).min(clients);
            let count = u64::from(members.end - members.start);
            members.clone().for_each(|client| bare.send(client, message.clone()));
            let before = os::thread_cpu();
            receiving.receive(count * message.len() as u64)?;
            floors.push((os::thread_cpu() - before).as_secs_f64() * 1e6 / count as f64);

            let want = relay.counters().messages_in + count;
            members.for_each(|client| wallets.send(client, message.clone()));
            let before = os::thread_cpu();
            relay.turn_until("messages", |relay| relay.counters().messages_in >= want)?;
            relays.push((os::thread_cpu() - before).as_secs_f64() * 1e6 / count as f64);
        }
    }
    let (bare_receive, receive) = (median(&mut floors), median(&mut relays));
    report.number("bare_accept_us", "bare accept loop, CPU per connection", bare_accept, "us");
    report.compared(
        "accept_us",
        "shard, CPU per client accepted, with handshake",
        accept,
        "us",
        &[("floor", bare_accept)],
    );
    report.number("bare_receive_us", "bare receive loop, CPU per message", bare_receive, "us");
    report.number("receive_us", "shard, CPU per inv of a transaction that is known", receive, "us");
    report.ratio("receive, shard against the bare loop", receive / bare_receive, TARGET);
    report.finish(args.common)
}

/// Clients that say something between two readings of the clock; the commands to a swarm are that many at a time.
const GROUP: u32 = 512;
