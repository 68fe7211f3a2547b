//! What is kept of a client for those who run the relay: who it is to us, what it has taken, what it may take.

use crate::admission::Flow;
use crate::base::{Class, Instant, ServiceId, Tags};

/// The account of a client. Kept for every one, so its size counts.
#[derive(Debug)]
pub struct Account {
    /// Bytes from it, as they came.
    pub bytes_in: u64,
    /// Bytes to it, as they went.
    pub bytes_out: u64,
    /// What it may still ask for.
    pub flow: Flow,
    /// Cost units served: headers, blocks, filters, the rest.
    pub costs: [u32; 4],
    /// Its name: the number that the shard gave it.
    pub agent: u16,
    /// Its tags.
    pub tags: Tags,
    /// Milliseconds of the clock when the outstanding ping was sent, as far as they fit.
    ping_at: u16,
    /// Milliseconds the last pong took, at least 1; 0 before the first.
    round_trip: u16,
    /// The service it came by.
    pub service: ServiceId,
    /// Its class.
    pub class: Class,
}

const _: () = assert!(size_of::<Account>() <= 64, "kept for every client");

impl Account {
    /// Of a client that has come by a service, with its capacity in cost units per second; u32::MAX for no limit.
    pub fn new(now: Instant, service: ServiceId, capacity: u32) -> Account {
        Account {
            bytes_in: 0,
            bytes_out: 0,
            flow: Flow::new(now, capacity),
            costs: [0; 4],
            agent: 0,
            tags: Tags::default(),
            ping_at: 0,
            round_trip: 0,
            service,
            class: Class::Probe,
        }
    }

    /// A ping is sent.
    pub fn pinged(&mut self, now: Instant) {
        self.ping_at = millis(now);
    }

    /// Its pong has come; `secs` is how many whole seconds it has taken, because the milliseconds wrap after 65.
    pub fn ponged(&mut self, now: Instant, secs: u32) {
        let millis = millis(now).wrapping_sub(self.ping_at);
        self.round_trip = if secs > 60 { u16::MAX } else { millis.max(1) };
    }

    /// Milliseconds the last pong took; none before the first. 65,535 for more than a minute.
    pub fn round_trip(&self) -> Option<u16> {
        (self.round_trip > 0).then_some(self.round_trip)
    }
}

fn millis(now: Instant) -> u16 {
    (now.0 / 1_000_000) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_measured_over_the_wrap() {
        let mut account = Account::new(Instant(0), ServiceId(0), 1);
        assert_eq!(account.round_trip(), None);
        for (sent, came, secs, took) in [(0, 0, 0, 1), (65_530, 65_550, 0, 20), (1_000, 62_000, 61, u16::MAX)]
        {
            account.pinged(Instant(sent * 1_000_000));
            account.ponged(Instant(came * 1_000_000), secs);
            assert_eq!(account.round_trip(), Some(took));
        }
    }
}
