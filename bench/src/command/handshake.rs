//! CPU time of the shard's thread per connection accepted and greeted, against a bare loop that accepts and says the same
//! bytes at the same moments without reading any.
//!
//! Relay and bare loop take turns on the same thread. A round begins with no connection and ends when the last words to the
//! last client are sent; then all leave, which is not measured.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use breakwater::base::limits::PROTOCOL_VERSION;
use breakwater::wire::{Services, Version, write};
use serde_json::json;

use super::{Common, LOAD_CORE, RELAY_CORE, quartile};
use crate::bare::Greeter;
use crate::relay::{self, PATIENCE, Relay};
use crate::report::Report;
use crate::swarm::{Manner, Plan, Swarm};
use crate::{MAGIC, Outcome, os};

/// Of the bare loop's rate, at least.
const TARGET: f64 = 0.6;
/// Rounds of each before those that count.
const WARM_UP: u32 = 1;
/// After this a relay has said all that it says by itself.
const QUIET: Duration = Duration::from_millis(100);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients that come in each round.
    #[arg(long, default_value_t = 5_000)]
    clients: u32,
    /// Rounds measured.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let (clients, rounds) = if args.common.tiny { (50, 2) } else { (args.clients, args.rounds) };
    let mut report = Report::new("handshake", json!({ "clients": clients, "rounds": rounds }));
    os::pin(RELAY_CORE);
    let (address, _held) = relay::reserve()?;
    let mut relay = Relay::open(0, address, clients)?;
    let mut greeter = Greeter::open(clients, replies(&mut relay, address)?)?;
    let (mut floors, mut relays) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + rounds {
        let f = floor_round(&mut greeter, clients)?;
        let r = relay_round(&mut relay, address, clients)?;
        if round >= WARM_UP {
            floors.push(f);
            relays.push(r);
        }
    }
    let column = |rounds: &[Spent], what: fn(&Spent) -> Duration| {
        quartile(
            &mut rounds.iter().map(|r| what(r).as_secs_f64() * 1e6 / f64::from(clients)).collect::<Vec<_>>(),
        )
    };
    let (f, r) = (column(&floors, |s| s.cpu), column(&relays, |s| s.cpu));
    report.number("floor_us", "bare loop, CPU per connection", f, "us");
    report.number("relay_us", "relay, CPU per connection", r, "us");
    report.number("floor_wall_us", "bare loop, wall per connection", column(&floors, |s| s.wall), "us");
    report.number("relay_wall_us", "relay, wall per connection", column(&relays, |s| s.wall), "us");
    report.number("relay_per_second", "relay, connections per second of CPU", 1e6 / r, "/s");
    report.at_least("rate of the relay to the bare loop's", f / r, TARGET);
    report.finish(args.common)
}

/// What a round took.
struct Spent {
    cpu: Duration,
    wall: Duration,
}

fn measure(work: impl FnOnce() -> Outcome) -> Outcome<Spent> {
    let (cpu, start) = (os::thread_cpu(), Instant::now());
    work()?;
    Ok(Spent { cpu: os::thread_cpu() - cpu, wall: start.elapsed() })
}

fn crowd(target: SocketAddr, clients: u32, source: u8) -> Outcome<Swarm> {
    Swarm::start(Plan { target, clients, manner: Manner::Wallet, source, core: LOAD_CORE, pings: None })
}

fn floor_round(greeter: &mut Greeter, clients: u32) -> Outcome<Spent> {
    let swarm = crowd(greeter.address(), clients, 1)?;
    let spent = measure(|| greeter.greet(clients))?;
    swarm.wait("handshakes with the bare loop", PATIENCE, |_| swarm.is_ready())?;
    swarm.stop()?;
    greeter.part(clients)?;
    Ok(spent)
}

fn relay_round(relay: &mut Relay, address: SocketAddr, clients: u32) -> Outcome<Spent> {
    let sends = relay.counters().sends + 2 * u64::from(clients);
    let swarm = crowd(address, clients, 101)?;
    let spent = measure(|| relay.turn_until("handshakes", |relay| relay.counters().sends >= sends))?;
    swarm.wait("handshakes with the relay", PATIENCE, |_| swarm.is_ready())?;
    swarm.stop()?;
    relay.turn_until("the clients' leaving", |relay| relay.clients() == 0)?;
    Ok(spent)
}

/// What the relay says to a version, and to a verack.
fn replies(relay: &mut Relay, address: SocketAddr) -> Outcome<[Vec<u8>; 2]> {
    // It listens from its next turn on.
    relay.turn();
    let mut stream = TcpStream::connect(address)?;
    stream.set_nonblocking(true)?;
    let version = Version {
        version: PROTOCOL_VERSION,
        services: Services::empty(),
        time: 1_700_000_000,
        receiver: address,
        nonce: 99,
        user_agent: b"/breakwater-bench:0.1/",
        start_height: 0,
        relay: true,
    };
    let mut first = Vec::new();
    write::version(&mut first, MAGIC, &version);
    let mut second = Vec::new();
    write::empty(&mut second, MAGIC, "verack");
    let replies = [answer(relay, &mut stream, &first)?, answer(relay, &mut stream, &second)?];
    drop(stream);
    relay.turn_until("the end of a client", |relay| relay.clients() == 0)?;
    Ok(replies)
}

fn answer(relay: &mut Relay, stream: &mut TcpStream, request: &[u8]) -> Outcome<Vec<u8>> {
    stream.write_all(request)?;
    let (mut reply, start) = (Vec::new(), Instant::now());
    while reply.is_empty() || start.elapsed() < QUIET {
        relay.turn();
        match stream.read_to_end(&mut reply) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err("the relay has closed".into()),
        }
    }
    Ok(reply)
}
