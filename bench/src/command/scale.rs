//! What a second shard brings: announcements per second of CPU of two shards with half of the clients each, against one with
//! all of them. Both shards of the pair run at the same time, on a core each.
//!
//! Wall time is given, too, and says something only where load and shards have cores of their own.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Common, LOAD_CORE, RELAY_CORE, median};
use crate::relay::{self, PATIENCE, Relay};
use crate::report::Report;
use crate::swarm::{Manner, Plan, Swarm};
use crate::{Outcome, os};

/// Of one shard's rate, at least.
const TARGET: f64 = 1.7;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients in all.
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// Announcements to all in a round.
    #[arg(long, default_value_t = 10)]
    announcements: u64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let (clients, announcements, rounds) =
        if args.common.tiny { (60, 2, 2) } else { (args.clients, args.announcements, args.rounds) };
    let workload = json!({ "clients": clients, "announcements": announcements, "rounds": rounds });
    let mut report = Report::new("scale", workload);
    let one = Group::start(1, clients, announcements, 1)?;
    let two = Group::start(2, clients, announcements, 101)?;
    let (mut cpu, mut wall) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 1..=rounds {
        for (n, group) in [&one, &two].into_iter().enumerate() {
            let rate = group.round(round)?;
            cpu[n].push(rate.cpu);
            wall[n].push(rate.wall);
        }
    }
    one.stop()?;
    two.stop()?;
    let [one_cpu, two_cpu] = cpu.map(|mut rates| median(&mut rates));
    let [one_wall, two_wall] = wall.map(|mut rates| median(&mut rates));
    report.number("one_per_cpu_second", "one shard, announcements per second of CPU", one_cpu, "/s");
    report.number("two_per_cpu_second", "two shards, the sum of theirs", two_cpu, "/s");
    report.number("one_per_second", "one shard, announcements per second", one_wall, "/s");
    report.number("two_per_second", "two shards, announcements per second", two_wall, "/s");
    report.at_least("two shards to one, by CPU", two_cpu / one_cpu, TARGET);
    report.finish(args.common)
}

/// Announcements per second.
struct Rate {
    cpu: f64,
    wall: f64,
}

/// Shards on cores of their own behind one address, and their clients.
struct Group {
    round: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// Announcements and CPU time of a shard in a round.
    told: Receiver<(u64, Duration)>,
    shards: usize,
    threads: Vec<std::thread::JoinHandle<Outcome>>,
    swarm: Swarm,
    _held: OwnedFd,
}

impl Group {
    fn start(shards: usize, clients: u32, announcements: u64, source: u8) -> Outcome<Group> {
        let (address, held) = relay::reserve()?;
        let (round, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (tell, told) = mpsc::sync_channel(shards);
        let (ready, started) = mpsc::sync_channel(shards);
        let each = if shards == 1 { clients } else { clients / shards as u32 * 11 / 10 + 100 };
        let mut threads = Vec::new();
        for n in 0..shards {
            let (round, stop, tell, ready) = (round.clone(), stop.clone(), tell.clone(), ready.clone());
            threads.push(std::thread::spawn(move || {
                os::pin((RELAY_CORE + n) % os::cores());
                let mut relay = Relay::open(n as u16, address, each)?;
                let _ = ready.send(());
                let mut seen = 0;
                while !stop.load(Ordering::Acquire) {
                    relay.turn();
                    if round.load(Ordering::Acquire) > seen {
                        seen += 1;
                        let _ = tell.send(announce(&mut relay, announcements)?);
                    }
                }
                Ok(())
            }));
        }
        drop(ready);
        if started.iter().take(shards).count() < shards {
            return Err("a shard could not start".into());
        }
        let swarm = connect(address, clients, source)?;
        Ok(Group { round, stop, told, shards, threads, swarm, _held: held })
    }

    fn round(&self, number: u64) -> Outcome<Rate> {
        let start = Instant::now();
        let before = self.swarm.seen().blocks.load(Ordering::Acquire);
        self.round.store(number, Ordering::Release);
        let (mut cpu, mut count) = (0.0, 0);
        for _ in 0..self.shards {
            let (told, spent) = self.told.recv_timeout(PATIENCE)?;
            cpu += told as f64 / spent.as_secs_f64();
            count += told;
        }
        let heard = before + count;
        self.swarm.wait("announcements", PATIENCE, |s| s.blocks.load(Ordering::Acquire) >= heard)?;
        let wall = count as f64 / start.elapsed().as_secs_f64();
        Ok(Rate { cpu, wall })
    }

    fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Release);
        self.swarm.stop()?;
        for thread in self.threads {
            thread.join().map_err(|_| "a shard ended by a panic")??;
        }
        Ok(())
    }
}

/// One block after the other, each when everybody has been sent the last.
fn announce(relay: &mut Relay, announcements: u64) -> Outcome<(u64, Duration)> {
    let clients = u64::from(relay.clients());
    let (before, cpu) = (relay.counters().sends, os::thread_cpu());
    for number in 1..=announcements {
        let block = relay.make_block();
        relay.announce(block)?;
        relay.turn_until("an announcement", |relay| relay.counters().sends >= before + number * clients)?;
    }
    Ok((announcements * clients, os::thread_cpu() - cpu))
}

fn connect(target: SocketAddr, clients: u32, source: u8) -> Outcome<Swarm> {
    let plan = Plan { target, clients, manner: Manner::Wallet, source, core: LOAD_CORE, pings: None };
    let swarm = Swarm::start(plan)?;
    swarm.wait("handshakes", PATIENCE, |_| swarm.is_ready())?;
    Ok(swarm)
}
