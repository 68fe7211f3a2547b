//! Pings on a schedule that waits for nobody, as bitcoinj does every 2 s.
//!
//! While a pong is outstanding no other ping is sent; when it comes, those that were due meanwhile are recorded with the
//! latency they would have had.

use std::time::Duration;

use breakwater::base::Instant;
use breakwater::wire::{Message, write};
use rand::Rng as _;

use super::{Behaviour, Options};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// bitcoinj's pause (PeerGroup.DEFAULT_PING_INTERVAL_MSEC).
const EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Pinger {
    every: Duration,
    /// When the next is due.
    next: Instant,
    /// Intended time of the one under way, its nonce; 0 for none.
    sent: u64,
}

impl Behaviour for Pinger {
    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        // Spread, so that clients that connect together do not ping together.
        let every = u64::try_from(self.every.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.next = Instant(cx.now.0 + cx.rng.random_range(0..every));
        self.sent = 0;
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        if let Message::Pong(nonce) = message
            && *nonce == self.sent
            && self.sent != 0
        {
            cx.tally.counts.pongs += 1;
            cx.tally.ping.record_scheduled(cx.now.since(Instant(self.sent)), self.every);
            self.sent = 0;
        }
        Flow::Go
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        let due = self.next;
        while self.next <= cx.now {
            self.next = self.next + self.every;
        }
        if self.sent == 0 {
            self.sent = due.0.max(1);
            cx.tally.counts.pings += 1;
            cx.tally.lateness.record(cx.now.since(due));
            write::ping(cx.out, cx.magic, self.sent);
        }
        Flow::Go
    }

    fn next_wake(&self) -> Instant {
        self.next
    }

    fn ended(&mut self, tally: &mut Tally) {
        tally.counts.pings_dropped += u64::from(self.sent != 0);
        (self.next, self.sent) = (Instant::FAR, 0);
    }
}

pub(super) fn make(options: &Options) -> Box<dyn Behaviour> {
    let every = if options.every_us == 0 { EVERY } else { Duration::from_micros(options.every_us) };
    Box::new(Pinger { every, next: Instant::FAR, sent: 0 })
}
