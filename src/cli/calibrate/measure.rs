//! Asks for the same over and over, at many clients at once, and divides the relay's run time by the requests.
//!
//! All clients ask, then all answers are read: the relay finds requests of many clients in a turn, as it does when capacity
//! matters. The time is taken in parts, of which the middle one counts: a moment in which the host was busy makes no price.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::asks::{Ask, CLIENTS, Items, ROW};
use super::peer::{Got, Peer, Transport, Until};
use super::relay::Relay;
use super::scene::{Scene, Tx};
use crate::admission::{Kind, Sample};
use crate::cli::Failure;
use crate::stub::MAGIC;
use crate::wire::write;

/// Parts of the time of one shape; an odd number has a middle.
const PARTS: u32 = 5;
/// Transactions that a client submits at once.
const AT_ONCE: usize = 4;
/// The answer to a ping: what was sent before has been read.
const PONG: Until = Until { command: "pong", count: 1 };
/// Bytes of a KiB.
const KIB: f64 = 1_024.0;

/// The relay, its clients, and what is known of its time.
#[derive(Debug)]
pub(super) struct Bench {
    relay: Relay,
    peers: Vec<Peer>,
    /// Part of a core that the relay uses while nobody asks for anything.
    idle: f64,
    /// What a ping costs, units; known once it has been measured.
    ping: f64,
    /// True exactly when somebody wants it to end.
    interrupted: Arc<AtomicBool>,
}

/// What some rounds came to.
#[derive(Clone, Copy, Default, Debug)]
struct Sum {
    /// Times a client has asked and been answered.
    asked: u64,
    got: Got,
}

impl Bench {
    /// Connects the clients.
    pub(super) fn new(
        mut relay: Relay,
        transport: Transport,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Bench, Failure> {
        let peers = (0..CLIENTS).map(|_| Peer::connect(relay.address, transport));
        let peers = peers.collect::<Result<_, _>>()?;
        let idle = relay.settle()?;
        Ok(Bench { relay, peers, idle, ping: 0.0, interrupted })
    }

    /// Asks for `time`; what a request has cost.
    pub(super) fn measure(&mut self, ask: &Ask, time: Duration) -> Result<Sample, Failure> {
        // The first round fills caches and makes sessions of probes.
        self.round(ask, &mut Sum::default())?;
        let mut found = Vec::new();
        for _ in 0..PARTS {
            let (before, start) = (self.relay.cpu()?, Instant::now());
            let mut sum = Sum::default();
            while sum.asked == 0 || start.elapsed() < time / PARTS {
                self.round(ask, &mut sum)?;
            }
            found.push(self.sample(ask, before, start, sum)?);
        }
        found.sort_by(|a, b| a.units.total_cmp(&b.units));
        let middle = found.get(found.len() / 2).copied();
        let sample = middle.ok_or_else(|| Failure::Other("nothing was measured".into()))?;
        if ask.kind == Kind::Ping {
            self.ping = sample.units;
        }
        Ok(sample)
    }

    /// Hands these transactions to the relay, until the node has them; what one has cost.
    pub(super) fn submit(&mut self, scene: &Scene, txs: &[Tx]) -> Result<Sample, Failure> {
        let wanted = scene.accepted()? + txs.len() as u64;
        let (before, start) = (self.relay.cpu()?, Instant::now());
        let mut pings = 0;
        for round in txs.chunks(CLIENTS * AT_ONCE) {
            self.look_up()?;
            let hands: Vec<&[Tx]> = round.chunks(AT_ONCE).collect();
            for (peer, hand) in self.peers.iter_mut().zip(&hands) {
                let mut frames: Vec<u8> = hand.iter().flat_map(|tx| tx.message.iter().copied()).collect();
                write::ping(&mut frames, MAGIC, 4);
                peer.ask(&frames)?;
            }
            for peer in self.peers.iter_mut().take(hands.len()) {
                peer.wait(PONG)?;
            }
            pings += hands.len();
        }
        scene.wait_accepted(wanted)?;
        // The relay hears of it now, and tells its shard.
        self.relay.settle()?;
        let count = txs.len().max(1) as f64;
        let bytes: usize = txs.iter().map(|tx| tx.message.len()).sum();
        let spent = self.spent(before, start)? - pings as f64 * self.ping;
        Ok(Sample { items: 1.0, kib: bytes as f64 / count / KIB, units: (spent / count).max(0.0) })
    }

    /// Every client asks once.
    fn round(&mut self, ask: &Ask, sum: &mut Sum) -> Result<(), Failure> {
        self.look_up()?;
        let what = |failure| match failure {
            Failure::Other(text) => Failure::Other(format!("{}: {text}", ask.kind.key())),
            usage => usage,
        };
        // One by one, as they come from clients: each is received by itself.
        let times = if ask.until.is_some() { 1 } else { ROW };
        for _ in 0..times {
            for peer in self.peers.iter_mut().take(ask.clients) {
                peer.ask(&ask.frames).map_err(what)?;
            }
        }
        if ask.until.is_none() {
            let mut ping = Vec::new();
            write::ping(&mut ping, MAGIC, 3);
            for peer in self.peers.iter_mut().take(ask.clients) {
                peer.ask(&ping).map_err(what)?;
            }
        }
        let until = ask.until.unwrap_or(PONG);
        for peer in self.peers.iter_mut().take(ask.clients) {
            let got = peer.wait(until).map_err(what)?;
            sum.got.bytes += got.bytes;
            sum.got.entries += got.entries;
            sum.asked += 1;
        }
        Ok(())
    }

    fn sample(&mut self, ask: &Ask, before: Duration, start: Instant, sum: Sum) -> Result<Sample, Failure> {
        // What has no answer ends with a ping, whose price is no part of it.
        let (each, ping) = if ask.until.is_some() { (1, 0.0) } else { (ROW, self.ping) };
        let requests = (sum.asked * u64::from(each)).max(1) as f64;
        let units = ((self.spent(before, start)? - ping * sum.asked as f64) / requests).max(0.0);
        let items = match ask.items {
            Items::Asked(items) => f64::from(items),
            Items::Entries => sum.got.entries as f64 / requests,
        };
        let kib = if ask.until.is_some() { sum.got.bytes as f64 / requests / KIB } else { 0.0 };
        Ok(Sample { items, kib, units })
    }

    /// Units that the relay has used since then, without those of doing nothing.
    fn spent(&mut self, before: Duration, start: Instant) -> Result<f64, Failure> {
        let idle = self.idle * start.elapsed().as_secs_f64();
        let spent = self.relay.cpu()?.saturating_sub(before).as_secs_f64();
        Ok((spent - idle).max(0.0) * 1e6)
    }

    fn look_up(&self) -> Result<(), Failure> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(Failure::Other("interrupted: nothing is printed of a table in parts".into())),
            false => Ok(()),
        }
    }
}
