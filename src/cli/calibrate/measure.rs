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
/// Transactions that a client submits at once, and bytes that all do: the relay has room for so much of one host.
const AT_ONCE: usize = 4;
const BYTES_AT_ONCE: usize = 4_000_000;
/// The answer to a ping: what was sent before has been read.
const PONG: Until = Until { command: "pong", count: 1 };
/// How long nobody asks for anything, to see what that costs.
const IDLE: Duration = Duration::from_secs(1);
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

/// What a request of some shape has cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// The middle one of the parts.
    pub(super) sample: Sample,
    /// How far the parts are from each other, the outermost left out, as a part of the sample.
    pub(super) noise: f64,
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
        relay.settle()?;
        let (before, start) = (relay.cpu()?, Instant::now());
        std::thread::sleep(IDLE);
        let idle = relay.cpu()?.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
        Ok(Bench { relay, peers, idle, ping: 0.0, interrupted })
    }

    /// Asks for `time`; what a request has cost.
    pub(super) fn measure(&mut self, ask: &Ask, time: Duration) -> Result<Measured, Failure> {
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
        let measured = middle(found)?;
        if ask.kind == Kind::Ping {
            self.ping = measured.sample.units;
        }
        Ok(measured)
    }

    /// Hands these transactions to the relay, until the node has them; what one has cost.
    pub(super) fn submit(&mut self, scene: &Scene, txs: &[Tx]) -> Result<Measured, Failure> {
        let parts = txs.chunks(txs.len().div_ceil(PARTS as usize).max(1));
        middle(parts.map(|part| self.submit_part(scene, part)).collect::<Result<_, _>>()?)
    }

    fn submit_part(&mut self, scene: &Scene, txs: &[Tx]) -> Result<Sample, Failure> {
        let mut wanted = scene.accepted()?;
        let (before, start) = (self.relay.cpu()?, Instant::now());
        let bytes: usize = txs.iter().map(|tx| tx.message.len()).sum();
        let each = (bytes / txs.len().max(1)).max(1);
        let mut pings = 0;
        for round in txs.chunks((CLIENTS * AT_ONCE).min(BYTES_AT_ONCE / each).max(1)) {
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
            wanted += round.len() as u64;
            scene.wait_accepted(wanted)?;
        }
        // The relay hears of the last now, and tells its shard.
        self.relay.settle()?;
        let count = txs.len().max(1) as f64;
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

/// The middle one, and how far those around it are from each other.
fn middle(mut found: Vec<Sample>) -> Result<Measured, Failure> {
    found.sort_by(|a, b| a.units.total_cmp(&b.units));
    let nothing = || Failure::Other("nothing was measured".into());
    let sample = found.get(found.len() / 2).copied().ok_or_else(nothing)?;
    let inner = match found.as_slice() {
        [_, inner @ .., _] if !inner.is_empty() => inner,
        all => all,
    };
    let spread = match inner {
        [first, .., last] => last.units - first.units,
        _ => 0.0,
    };
    Ok(Measured { sample, noise: if sample.units > 0.0 { spread / sample.units } else { 0.0 } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_moment_makes_no_price() {
        let sample = |units: &f64| Sample { items: 1.0, kib: 0.0, units: *units };
        let of = |units: &[f64]| middle(units.iter().map(sample).collect()).unwrap();
        let found = of(&[50.0, 4.0, 5.0, 4.5, 0.1]);
        assert_eq!(found.sample.units, 4.5);
        assert!((found.noise - 1.0 / 4.5).abs() < 1e-9);
        assert_eq!((of(&[3.0]).sample.units, of(&[3.0]).noise), (3.0, 0.0));
        assert!(middle(Vec::new()).is_err());
    }
}
