//! TLS handshakes: what each costs the server's process, full and resumed.
//!
//! Clients that say nothing come, all at once, and go, round after round to the same process; rounds of full and of resumed
//! handshakes alternate. In the cost: accepting, the handshake, the ticket, and what the server makes for a newcomer (a proxy
//! connects to its sink). Not in it: the end of the connections.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::{LOAD_CORE, median};
use super::contestants::Started;
use super::measure::{self, Extent};
use super::server::Server;
use crate::relay::PATIENCE;
use crate::swarm::{Manner, Plan, Secure, Swarm};
use crate::{Outcome, os};

/// Rounds of each sort that count.
const ROUNDS: u32 = 4;
/// Rounds of each sort before them.
const WARM_UP: u32 = 1;
/// Clients of a round.
const EACH: u32 = 900;
/// The same with `--tiny`.
const EACH_TINY: u32 = 8;

/// CPU of this little within [`measure::SETTLE`] counts as none.
const QUIET: Duration = Duration::from_micros(500);
/// Looks at it before a server counts as one that is never quiet.
const LOOKS: u32 = 40;

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// Full handshakes per second of the process's CPU.
    pub(super) full: f64,
    /// Resumed ones.
    pub(super) resumed: f64,
    /// Percent of those that offered a ticket and were resumed.
    pub(super) taken: f64,
}

/// Connections of all rounds together: a proxy's sink keeps them.
pub(super) fn connections(extent: Extent) -> u32 {
    2 * (WARM_UP + ROUNDS) * each(extent) + 1
}

fn each(extent: Extent) -> u32 {
    if extent.tiny { EACH_TINY } else { EACH }
}

/// Runs a contestant that has been started to its end.
pub(super) fn rates(started: Started, full: &Secure, resuming: &Secure, extent: Extent) -> Outcome<Rates> {
    os::pin(LOAD_CORE);
    let Started { mut publisher, server, address } = started;
    let mut come = 0;
    let mut round = |secure: &Secure, clients: u32| -> Outcome<(f64, u64)> {
        let source = measure::source();
        let plan =
            Plan { target: address, clients, manner: Manner::Mute, source, core: LOAD_CORE, pings: None };
        let before = quiet(&server)?;
        let swarm = Swarm::secure(plan, secure.clone())?;
        come += clients;
        publisher.expect(come)?;
        swarm.wait("all handshakes", PATIENCE, |_| swarm.is_ready())?;
        // The server is behind the clients: it has yet to read their last word.
        let spent = quiet(&server)?.saturating_sub(before).as_secs_f64();
        let resumed = swarm.seen().resumed.load(Ordering::Acquire);
        swarm.stop()?;
        Ok((spent, resumed))
    };
    // One comes for the ticket of all.
    round(resuming, 1)?;
    if resuming.client.tickets() == 0 {
        return Err("it gives no session ticket".into());
    }
    let clients = each(extent);
    let (mut fulls, mut resumptions, mut taken) = (Vec::new(), Vec::new(), 0);
    for number in 0..WARM_UP + ROUNDS {
        let (spent_full, none) = round(full, clients)?;
        let (spent_resumed, some) = round(resuming, clients)?;
        if none > 0 {
            return Err(format!("{none} clients without a ticket were resumed").into());
        }
        if number >= WARM_UP {
            fulls.push(spent_full);
            resumptions.push(spent_resumed);
            taken += some;
        }
    }
    let n = f64::from(clients);
    Ok(Rates {
        full: n / median(&mut fulls).max(f64::MIN_POSITIVE),
        resumed: n / median(&mut resumptions).max(f64::MIN_POSITIVE),
        taken: taken as f64 / (n * f64::from(ROUNDS)) * 100.0,
    })
}

/// Waits until the server does nothing any more; its CPU time then. One that is never quiet is taken as it is.
fn quiet(server: &Server) -> Outcome<Duration> {
    let mut last = server.cpu()?;
    for _ in 0..LOOKS {
        std::thread::sleep(measure::SETTLE);
        let now = server.cpu()?;
        if now.saturating_sub(last) < QUIET {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}
