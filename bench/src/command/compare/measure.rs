//! What is measured of one contestant, and of the floors.
//!
//! ```text
//!   publish to nobody     CPU per publication, taken out of the deliveries'
//!   connect               time until every subscription stands (behind a proxy: until the sink has all)
//!   idle                  CPU while nothing happens; memory before any traffic
//!   publish, wait, settle latency of the last delivery; CPU of the process, all its threads
//!   memory                RSS without file pages, before the first subscriber and after the last delivery
//! ```

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use breakwater::feed::blocks::inv_message;

use super::super::{LOAD_CORE, RELAY_CORE, median};
use super::contestants::Started;
use super::handshakes::Rates;
use super::server::Server;
use crate::floor::{Accepting, Floor};
use crate::relay::PATIENCE;
use crate::swarm::{Manner, Plan, Secure, Swarm};
use crate::{MAGIC, Outcome, os};

/// After this, delayed acknowledgements (40 ms) are through, and their CPU is counted.
pub(super) const SETTLE: Duration = Duration::from_millis(60);
/// Publications before those that count.
const WARM_UP: u32 = 3;
/// From the last subscription to the first idle second: NATS asks each newcomer for a sign of life after two seconds.
const CALM: Duration = Duration::from_secs(4);
/// Memory that changes by less than a hundredth within this counts as steady.
const STEADY: Duration = Duration::from_secs(3);
/// Looks at it before one that is never steady is taken as it is.
const STEADY_LOOKS: u32 = 8;
/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(2);

/// Figures of one contestant.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Figures {
    pub(super) subscribers: u32,
    /// Microseconds of CPU per delivery.
    pub(super) cpu_us: f64,
    /// Milliseconds from the publication to the last delivery, median.
    pub(super) last_ms: f64,
    /// Bytes of resident memory per subscriber, before any delivery; none for a floor.
    pub(super) idle_memory: Option<f64>,
    /// All that the process has at that time by its subscribers, what it had before them included.
    pub(super) whole_memory: Option<f64>,
    /// As `idle_memory`, after the last delivery.
    pub(super) memory: Option<f64>,
    /// Bytes of kernel slab per subscriber, of all sockets involved.
    pub(super) slab: Option<f64>,
    /// Seconds until all subscriptions stand.
    pub(super) connect_s: f64,
    /// Microseconds of CPU per connection made.
    pub(super) connect_us: f64,
    /// Percent of a core while nothing happens.
    pub(super) idle_percent: Option<f64>,
    /// With TLS only.
    pub(super) handshakes: Option<Rates>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) subscribers: u32,
    pub(super) rounds: u32,
    pub(super) tiny: bool,
}

/// Runs a contestant that has been started, with so many subscribers, to its end.
pub(super) fn contestant(
    started: Started,
    manner: Manner,
    secure: Option<Secure>,
    extent: Extent,
) -> Outcome<(Figures, String)> {
    os::pin(LOAD_CORE);
    let subscribers = extent.subscribers;
    let Started { mut publisher, server, address } = started;
    for _ in 0..WARM_UP {
        publisher.publish()?;
        std::thread::sleep(SETTLE);
    }
    let before = server.cpu()?;
    for _ in 0..extent.rounds {
        publisher.publish()?;
        std::thread::sleep(SETTLE);
    }
    let alone = server.cpu()?.saturating_sub(before).as_secs_f64() / f64::from(extent.rounds);

    let (resident, slab) = (steady(&server, extent)?, os::slab().unwrap_or(0));
    let (cpu, start) = (server.cpu()?, Instant::now());
    let plan = Plan {
        target: address,
        clients: subscribers,
        manner,
        source: source(),
        core: LOAD_CORE,
        pings: None,
    };
    let swarm = match secure {
        Some(secure) => Swarm::secure(plan, secure)?,
        None => Swarm::start(plan)?,
    };
    publisher.expect(subscribers)?;
    swarm.wait("all subscriptions", PATIENCE, |_| swarm.is_ready())?;
    let connect = start.elapsed();
    let connecting = server.cpu()?.saturating_sub(cpu);

    let (calm, idle) = if extent.tiny { (SETTLE, SETTLE) } else { (CALM, IDLE) };
    std::thread::sleep(calm);
    let cpu = server.cpu()?;
    std::thread::sleep(idle);
    let idled = server.cpu()?.saturating_sub(cpu);
    let idle_resident = steady(&server, extent)?;

    let (mut latencies, mut spent) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + extent.rounds {
        let cpu = server.cpu()?;
        let latency = deliver(&swarm, || publisher.publish())?;
        if round >= WARM_UP {
            latencies.push(latency.as_secs_f64() * 1e3);
            spent.push(server.cpu()?.saturating_sub(cpu).as_secs_f64());
        }
    }
    let n = f64::from(subscribers);
    let grown = |before: u64, after: u64| (after as f64 - before as f64) / n;
    let figures = Figures {
        subscribers,
        cpu_us: (median(&mut spent) - alone).max(0.0) * 1e6 / n,
        last_ms: median(&mut latencies),
        idle_memory: Some(grown(resident, idle_resident)),
        whole_memory: Some(idle_resident as f64 / n),
        memory: Some(grown(resident, server.resident()?)),
        slab: Some(grown(slab, os::slab().unwrap_or(0))),
        connect_s: connect.as_secs_f64(),
        connect_us: connecting.as_secs_f64() * 1e6 / n,
        idle_percent: Some(idled.as_secs_f64() / idle.as_secs_f64() * 100.0),
        handshakes: None,
    };
    let command = server.command().to_string();
    swarm.stop()?;
    Ok((figures, command))
}

/// Waits until the server's memory hardly changes, and gives it: what its start or a crowd of handshakes has taken is given back
/// late by allocators and garbage collectors.
fn steady(server: &Server, extent: Extent) -> Outcome<u64> {
    let mut last = server.resident()?;
    for _ in 0..if extent.tiny { 0 } else { STEADY_LOOKS } {
        std::thread::sleep(STEADY);
        let now = server.resident()?;
        if now.abs_diff(last) * 100 < last {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Source addresses nobody has used lately: ports of closed connections stay taken for a minute, and one address has too few
/// for three swarms in that time. A swarm takes two addresses.
pub(super) fn source() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    NEXT.fetch_add(2, Ordering::Relaxed)
}

/// One publication to everybody; returns the time until the last has it.
fn deliver(swarm: &Swarm, publish: impl FnOnce() -> Outcome) -> Outcome<Duration> {
    let want = swarm.seen().blocks.load(Ordering::Acquire) + u64::from(swarm.clients());
    let start = Instant::now();
    publish()?;
    swarm.wait("every delivery", PATIENCE, |seen| seen.blocks.load(Ordering::Acquire) >= want)?;
    let latency = start.elapsed();
    std::thread::sleep(SETTLE);
    Ok(latency)
}

/// The bare send loop for deliveries, the bare accept loop for connections, on the measured core.
pub(super) fn floor(extent: Extent) -> Outcome<Figures> {
    os::pin(RELAY_CORE);
    let subscribers = extent.subscribers;
    let n = f64::from(subscribers);
    let plan = |target| Plan {
        target,
        clients: subscribers,
        manner: Manner::Mute,
        source: source(),
        core: LOAD_CORE,
        pings: None,
    };
    let mut accepting = Accepting::open(subscribers)?;
    let (cpu, start) = (os::thread_cpu(), Instant::now());
    let swarm = Swarm::start(plan(accepting.address()))?;
    accepting.accept(subscribers)?;
    let (connect, connecting) = (start.elapsed(), os::thread_cpu() - cpu);
    swarm.stop()?;
    drop(accepting);

    let mut sending = Floor::open(subscribers)?;
    let swarm = Swarm::start(plan(sending.address()))?;
    sending.accept(subscribers)?;
    let bytes = inv_message(MAGIC, &[3; 32]);
    let (mut latencies, mut spent) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + extent.rounds {
        let mut cpu = Duration::ZERO;
        let latency = deliver(&swarm, || {
            let before = os::thread_cpu();
            sending.send_all(&bytes)?;
            cpu = os::thread_cpu() - before;
            Ok(())
        })?;
        if round >= WARM_UP {
            latencies.push(latency.as_secs_f64() * 1e3);
            spent.push(cpu.as_secs_f64() * 1e6 / n);
        }
    }
    swarm.stop()?;
    Ok(Figures {
        subscribers,
        cpu_us: median(&mut spent),
        last_ms: median(&mut latencies),
        connect_s: connect.as_secs_f64(),
        connect_us: connecting.as_secs_f64() * 1e6 / n,
        ..Figures::default()
    })
}
