//! Memory of the relay per idle client: resident memory of a process that holds only shards.
//!
//! The clients connect, shake hands and fall silent; after a while memory is read from /proc. Two numbers: per client
//! above a process that has served a few clients before (what a client costs), and above one that has served none (the
//! buffers every shard touches once are then shared by the clients counted).

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, TryRecvError};
use std::time::Duration;

use breakwater::link::ToShard;
use serde_json::json;

use super::{Common, LOAD_CORE, RELAY_CORE};
use crate::certificate::{Certificate, Passing};
use crate::crowd::{self, Crowd};
use crate::made::{self, Chain};
use crate::relay::{self, Relay, Speaks};
use crate::report::Report;
use crate::rig::scenario::Transport;
use crate::swarm::{Manner, Plan, Swarm};
use crate::{Outcome, os};

/// Bytes of user memory an idle client may cost.
const fn target(transport: Transport) -> f64 {
    match transport {
        Transport::Plain => 300.0,
        Transport::V2 => 700.0,
        Transport::Tls => 1_200.0,
    }
}
/// Most clients of one ring of the swarm.
const PER_RING: u32 = 17_000;
/// Clients that warm the shards up.
const WARM: u32 = 5_000;
/// Rounds of announcements to the clients counted: 20 blocks and 1,000 transactions.
const ROUNDS: u32 = 20;
const TXS_PER_ROUND: u64 = 50;
/// Announcements that may wait for a shard; beyond, the process waits.
const FEED: usize = 64;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Idle clients.
    #[arg(long, default_value_t = 50_000)]
    clients: u32,
    /// What they speak: plain, v2 or tls.
    #[arg(long, default_value = "plain")]
    transport: Transport,
    /// Shards that hold them, all on one core.
    #[arg(long, default_value_t = 3)]
    shards: u32,
    /// Seconds between the last handshake and the reading.
    #[arg(long, default_value_t = 20)]
    settle: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args, Debug)]
pub(super) struct ShardsArgs {
    /// How many.
    #[arg(long)]
    shards: u32,
    /// Clients of each.
    #[arg(long)]
    clients: u32,
    /// What they speak.
    #[arg(long)]
    transport: Transport,
    /// Folder of the certificate.
    #[arg(long)]
    certificate: PathBuf,
}

/// The child: prints its address, serves until its input ends. Each line of its input is a round of announcements.
pub(super) fn shards(args: ShardsArgs) -> Outcome {
    let (address, _held) = relay::reserve()?;
    let mut chain = Chain::new();
    let introduction = chain.introduction();
    let speaks = Speaks::to(args.transport, &Certificate::in_folder(&args.certificate))?;
    let (ready, started) = mpsc::sync_channel(1);
    let mut feeds = Vec::new();
    for n in 0..args.shards {
        let (ready, introduction, speaks) = (ready.clone(), introduction.clone(), speaks.clone());
        let (feed, told) = mpsc::sync_channel::<ToShard>(FEED);
        feeds.push(feed);
        std::thread::spawn(move || {
            os::pin(RELAY_CORE);
            let opened = Relay::follow(n as u16, address, args.clients, introduction, speaks);
            let _ = ready.send(opened.as_ref().map(|_| ()).map_err(ToString::to_string));
            let Ok(mut relay) = opened else { return };
            loop {
                // The shard looks up once a second at the least; entries need not come sooner.
                match told.try_recv() {
                    Ok(entry) => {
                        if relay.announce(entry).is_err() {
                            return;
                        }
                    }
                    Err(TryRecvError::Empty) => relay.turn(),
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        });
    }
    drop(ready);
    for result in started.iter().take(args.shards as usize) {
        result?;
    }
    println!("{address}");
    let mut next_tx = 0;
    for line in std::io::stdin().lines() {
        line?;
        let txs = (next_tx..next_tx + TXS_PER_ROUND).map(made::tx).collect();
        next_tx += TXS_PER_ROUND;
        for entry in [chain.block(), ToShard::Txs(txs)] {
            feeds.iter().try_for_each(|feed| feed.send(entry.clone()))?;
        }
    }
    Ok(())
}

pub(super) fn run(args: Args) -> Outcome {
    let tiny = args.common.tiny;
    let (clients, warm) = if tiny { (90, 30) } else { (args.clients, WARM.min(args.clients / 2)) };
    let settle = if tiny { Duration::from_millis(200) } else { Duration::from_secs(args.settle) };
    let workload = json!({
        "clients": clients, "transport": args.transport.name(), "shards": args.shards, "warmed_by": warm,
    });
    let mut report = Report::new("idle", workload);
    // The kernel spreads connections by a hash: not evenly to the last one.
    let each = clients / args.shards + clients / args.shards / 20 + 200;
    let shown = Passing::make("idle")?;
    let mut holder = Holder::start(args.shards, each, args.transport, &shown)?;
    let speak = Speak { target: holder.address, transport: args.transport, shown: &shown };
    let cold = holder.resident()?;
    let visitors = Clients::connect(speak, warm, 1)?;
    std::thread::sleep(settle / 2);
    visitors.leave()?;
    std::thread::sleep(settle / 2);
    let (before, slab) = (holder.resident()?, os::slab().unwrap_or(0));
    let mut crowd = Clients::connect(speak, clients, 100)?;
    for _ in 0..ROUNDS {
        holder.announce()?;
        std::thread::sleep(settle / ROUNDS);
    }
    // A shard that was away for a second tells of all its blocks at once; the rest is told while things settle.
    crowd.wait_blocks(u64::from(clients))?;
    std::thread::sleep(settle);
    let (after, slab_after) = (holder.resident()?, os::slab().unwrap_or(0));
    crowd.check()?;
    let per_client = |from: u64, to: u64| (to as f64 - from as f64) / f64::from(clients);
    let all = per_client(cold.1, after.1);
    report.number("rss_empty", "VmRSS of the shards before any client", cold.1 as f64 / 1e6, "MB");
    report.number("rss_full", "VmRSS with all clients", after.1 as f64 / 1e6, "MB");
    report.number(
        "warm_bytes",
        "VmRSS per client, above the warmed-up shards",
        per_client(before.1, after.1),
        "B",
    );
    report.number(
        "anon_bytes",
        "RssAnon per client, above the warmed-up shards",
        per_client(before.0, after.0),
        "B",
    );
    report.number("all_bytes", "VmRSS per client, above the empty shards", all, "B");
    report.number("slab_bytes", "kernel slab per connection, both ends", per_client(slab, slab_after), "B");
    crowd.leave()?;
    report.ratio("bytes per client, all included", all, target(args.transport));
    report.finish(args.common)
}

/// The process that holds the shards; killed when dropped.
struct Holder {
    child: Child,
    address: SocketAddr,
}

impl Holder {
    fn start(shards: u32, clients: u32, transport: Transport, shown: &Passing) -> Outcome<Holder> {
        let (shards, clients) = (shards.to_string(), clients.to_string());
        let mut child = Command::new(std::env::current_exe()?)
            .args(["shards", "--shards", &shards, "--clients", &clients, "--transport", transport.name()])
            .arg("--certificate")
            .arg(shown.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        match line.trim().parse() {
            Ok(address) => Ok(Holder { child, address }),
            Err(_) => {
                let _ = child.kill();
                Err("the shards could not start".into())
            }
        }
    }

    /// A round of announcements to all clients.
    fn announce(&mut self) -> Outcome {
        match &mut self.child.stdin {
            Some(input) => Ok(input.write_all(b"\n")?),
            None => Err("the shards take no orders".into()),
        }
    }

    fn resident(&self) -> Outcome<(u64, u64)> {
        os::resident(self.child.id()).ok_or_else(|| "/proc/PID/status cannot be read".into())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whom clients speak to, and how.
#[derive(Clone, Copy)]
struct Speak<'a> {
    target: SocketAddr,
    transport: Transport,
    shown: &'a Passing,
}

/// Clients of the shards.
enum Clients {
    /// Plain ones: as many swarms as they need.
    Plain(Vec<Swarm>),
    /// Encrypted ones.
    Sealed(Crowd),
}

impl Clients {
    fn connect(speak: Speak<'_>, clients: u32, source: u8) -> Outcome<Clients> {
        if speak.transport != Transport::Plain {
            let trusted = Some(speak.shown.certificate.chain.as_path());
            let scenario = crowd::scenario(speak.target, speak.transport, trusted, clients, "idle")?;
            let mut crowd = Crowd::start(scenario, LOAD_CORE)?;
            crowd.ready(relay::PATIENCE)?;
            return Ok(Clients::Sealed(crowd));
        }
        let (mut swarms, mut left) = (Vec::new(), clients);
        while left > 0 {
            let clients = left.min(PER_RING);
            let source = source.wrapping_add(10 * swarms.len() as u8);
            let (target, manner) = (speak.target, Manner::Wallet);
            swarms.push(Swarm::start(Plan {
                target,
                clients,
                manner,
                source,
                core: LOAD_CORE,
                pings: None,
            })?);
            left -= clients;
        }
        for swarm in &swarms {
            swarm.wait("handshakes", relay::PATIENCE, |_| swarm.is_ready())?;
        }
        Ok(Clients::Plain(swarms))
    }

    /// Waits until all together have heard of so many blocks; several at a time count as one.
    fn wait_blocks(&mut self, blocks: u64) -> Outcome {
        match self {
            Clients::Plain(swarms) => {
                let heard = || swarms.iter().map(|s| s.seen().blocks.load(Ordering::Acquire)).sum::<u64>();
                swarms
                    .iter()
                    .try_for_each(|s| s.wait("announcements", relay::PATIENCE, |_| heard() >= blocks))
            }
            Clients::Sealed(crowd) => {
                crowd.wait("announcements", relay::PATIENCE, |tally, _| tally.counts.blocks_heard >= blocks)
            }
        }
    }

    fn check(&mut self) -> Outcome {
        match self {
            Clients::Plain(swarms) => swarms.iter().try_for_each(Swarm::check),
            Clients::Sealed(crowd) => {
                crowd.wait("the end", relay::PATIENCE, |tally, _| tally.counts.lost == 0)
            }
        }
    }

    fn leave(self) -> Outcome {
        match self {
            Clients::Plain(swarms) => swarms.into_iter().try_for_each(|swarm| swarm.stop().map(|_| ())),
            Clients::Sealed(crowd) => crowd.leave(),
        }
    }
}
