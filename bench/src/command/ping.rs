//! Time from the intended sending of a ping to its pong, while announcements to all clients follow one another.
//!
//! Some clients ping on a schedule that does not wait for answers, from a ring of their own whose thread runs before
//! the other load, so that what is measured is the relay's delay; the generator's own delay is measured beside it, and
//! so is the same without fan-outs. All clients, the pinging ones too, hear of every block.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use super::{Common, LOAD_CORE, RELAY_CORE};
use crate::relay::{self, Relay};
use crate::report::Report;
use crate::swarm::{Manner, Pings, Plan, Summary, Swarm};
use crate::{Outcome, os};

/// The answer within this, p99, during fan-outs.
const TARGET_MS: f64 = 5.0;
/// The same while nothing is announced.
const IDLE_TARGET_MS: f64 = 2.0;
/// Of all clients so many ping.
const PINGING: u32 = 500;
/// Clients of one ring: below RLIMIT_NOFILE of this project's smallest hosts.
const PER_RING: u32 = 10_000;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients, on as many shards as are named.
    #[arg(long, default_value_t = 20_000)]
    clients: u32,
    /// Shards; one holds at most RLIMIT_NOFILE clients less a margin.
    #[arg(long, default_value_t = 2)]
    shards: u32,
    /// Cores the shards take by turns; the load uses the others, and the same when there are none.
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// Without what shards do when they share a core, to see what it brings.
    #[arg(long)]
    plain: bool,
    /// Seconds of fan-outs.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let (clients, pinging) =
        if args.common.tiny { (60, 10) } else { (args.clients, PINGING.min(args.clients)) };
    let span = if args.common.tiny { Duration::from_millis(300) } else { Duration::from_secs(args.seconds) };
    let shards = args.shards.max(1);
    let mut report = Report::new(
        "ping",
        json!({ "clients": clients, "shards": shards, "cores": args.cores, "plain": args.plain, "pinging": pinging, "pings_per_second": 1_000,
                "seconds": span.as_secs_f64() }),
    );
    let relays = Relays::start(shards, clients, args.cores.max(1), args.plain)?;
    let plan = |clients, source: u8, pings: Option<Pings>| Plan {
        target: relays.address,
        clients,
        manner: Manner::Wallet,
        source,
        core: if args.cores > 1 && pings.is_none() { usize::from(source / 10) % 2 } else { LOAD_CORE },
        pings,
    };
    let pings = Pings { every: Duration::from_millis(1), urgent: true };
    let pinger = Swarm::start(plan(pinging, 1, Some(pings)))?;
    let mut crowd = Vec::new();
    let mut left = clients - pinging;
    while left > 0 {
        let some = left.min(PER_RING);
        crowd.push(Swarm::start(plan(some, 50 + 10 * crowd.len() as u8, None))?);
        left -= some;
    }
    for swarm in crowd.iter().chain([&pinger]) {
        swarm.wait("handshakes", relay::PATIENCE, |_| swarm.is_ready())?;
    }
    // Without fan-outs first.
    let quiet = measure(&pinger, span / 4)?;
    relays.fan_out.store(true, Ordering::Release);
    std::thread::sleep(span / 10);
    let heard =
        |swarms: &[Swarm]| swarms.iter().map(|s| s.seen().blocks.load(Ordering::Acquire)).sum::<u64>();
    let (before, start) = (heard(&crowd), Instant::now());
    let busy = measure(&pinger, span)?;
    let rate = (heard(&crowd) - before) as f64 / start.elapsed().as_secs_f64();
    for swarm in crowd.into_iter().chain([pinger]) {
        swarm.check()?;
        swarm.stop()?;
    }
    relays.stop()?;
    quantiles(&mut report, "idle", "no fan-out", &quiet.0);
    quantiles(&mut report, "fanout", "during fan-outs", &busy.0);
    report.bound("idle_p99", "p99 without fan-out, ms", ms(&quiet.0, 0.99), IDLE_TARGET_MS, false);
    report.number("pings", "pings during fan-outs", busy.0.len() as f64, "");
    report.number(
        "generator_p99_ms",
        "of it the generator's delay before sending, p99",
        ms(&busy.1, 0.99),
        "ms",
    );
    report.number("announcements_per_second", "announcements received by the others", rate, "/s");
    report.ratio("p99 during fan-outs, ms", ms(&busy.0, 0.99), TARGET_MS);
    report.finish(args.common)
}

/// Pings for a time; latency and lateness.
fn measure(pinger: &Swarm, span: Duration) -> Outcome<(Histogram<u64>, Histogram<u64>)> {
    pinger.ping();
    std::thread::sleep(span);
    let Summary { latency, lateness, .. } = pinger.pause()?;
    pinger.check()?;
    Ok((latency, lateness))
}

fn ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e6
}

fn quantiles(report: &mut Report, key: &str, text: &str, histogram: &Histogram<u64>) {
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
        let (key, text) = (format!("{key}_{name}_ms"), format!("ping to pong, {text}, {name}"));
        report.number(&key, &text, ms(histogram, quantile), "ms");
    }
}

/// Shards, each fanning out one block after the other when told to.
struct Relays {
    address: std::net::SocketAddr,
    fan_out: std::sync::Arc<std::sync::atomic::AtomicBool>,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Outcome>>,
    _held: std::os::fd::OwnedFd,
}

impl Relays {
    fn start(shards: u32, clients: u32, cores: usize, plain: bool) -> Outcome<Relays> {
        let (address, held) = relay::reserve()?;
        let (fan_out, stop) = (std::sync::Arc::default(), std::sync::Arc::default());
        // The kernel spreads connections by a hash: not evenly to the last one.
        let each = clients / shards + if shards > 1 { clients / shards / 10 + 100 } else { 0 };
        let mut relays = Relays { address, fan_out, stop, threads: Vec::new(), _held: held };
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        for n in 0..shards {
            let (fan_out, stop, ready) = (relays.fan_out.clone(), relays.stop.clone(), ready.clone());
            relays.threads.push(std::thread::spawn(move || {
                os::pin((RELAY_CORE + n as usize) % cores);
                let mut relay = match (shards as usize).div_ceil(cores) {
                    on_core if on_core > 1 && !plain => Relay::crowded(n as u16, address, each, on_core)?,
                    _ => Relay::open(n as u16, address, each)?,
                };
                let _ = ready.send(());
                drop(ready);
                let mut told = 0;
                while !stop.load(Ordering::Acquire) {
                    // The next block as soon as everybody has been sent the last one.
                    if fan_out.load(Ordering::Acquire) && relay.counters().block_announcements >= told {
                        told = relay.counters().block_announcements + u64::from(relay.clients());
                        let block = relay.make_block();
                        relay.announce(block)?;
                    }
                    relay.turn();
                }
                Ok(())
            }));
        }
        drop(ready);
        if started.iter().take(shards as usize).count() < shards as usize {
            return relays.stop().and(Err("a shard could not start".into()));
        }
        Ok(relays)
    }

    fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().map_err(|_| "a shard ended by a panic")??;
        }
        Ok(())
    }
}
