//! How TLS handshakes begin: what is trusted, and whether a ticket is offered.

use std::time::Duration;

use breakwater::base::{End, Instant};
use breakwater::transport::tls::{Client, ClientSetup, Handshake, Pem, Trust};
use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::Outcome;
use crate::rig::scenario::Scenario;

/// Tickets that a ring keeps, each offered again and again: a few, so that one which has gone stale is soon replaced.
const TICKETS: usize = 4;

/// From the end of the first handshakes to the ticket that comes behind them, at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// One ring's. The first few of its handshakes go alone: they bring the tickets, so that a storm resumes from its beginning.
#[derive(Debug)]
pub(super) struct Dialer {
    client: Option<Client>,
    resume: f64,
    /// Handshakes begun, and those that have come to their end, either way; both counted to [`TICKETS`].
    begun: usize,
    done: usize,
    /// When nobody waits for tickets any more: the first ones have had their handshake and no ticket came of it.
    free_at: Instant,
    /// True exactly when nobody waits any more.
    is_free: bool,
}

impl Dialer {
    /// As the scenario wants it.
    ///
    /// # Errors
    /// The file of trusted certificates cannot be read, or the name is none.
    pub(super) fn new(scenario: &Scenario) -> Outcome<Dialer> {
        let Some(tls) = &scenario.tls else {
            return Ok(Dialer::with(None, 0.0));
        };
        let setup = ClientSetup {
            name: tls.name.clone(),
            trust: tls.ca.clone().map_or(Trust::InsecureAnyCertificate, |ca| Trust::Roots(Pem::File(ca))),
            alpn: false,
            certificate: None,
            tickets: if tls.resume > 0.0 { TICKETS } else { 0 },
        };
        Ok(Dialer::with(Some(Client::new(&setup)?), tls.resume))
    }

    fn with(client: Option<Client>, resume: f64) -> Dialer {
        // Without tickets nobody need wait for any.
        Dialer { client, resume, begun: 0, done: 0, free_at: Instant::FAR, is_free: resume <= 0.0 }
    }

    /// True exactly when one more has to wait for those that go first, and for a ticket of theirs.
    pub(super) fn is_held(&mut self, now: Instant) -> bool {
        if self.is_free || self.begun < TICKETS {
            return false;
        }
        self.is_free = now >= self.free_at || self.client.as_ref().is_none_or(|client| client.tickets() > 0);
        !self.is_free
    }

    /// A handshake has come to its end.
    pub(super) fn ended(&mut self, now: Instant) {
        self.done += 1;
        if self.done == TICKETS {
            self.free_at = now + PATIENCE;
        }
    }

    /// A handshake; its first bytes are appended to `out`.
    pub(super) fn begin(&mut self, rng: &mut SmallRng, out: &mut Vec<u8>) -> Result<Box<Handshake>, End> {
        // There is one when any client speaks TLS.
        let Some(client) = &self.client else { return Err(End::TlsHandshake) };
        self.begun = (self.begun + 1).min(TICKETS);
        client.begin(rng.random::<f64>() < self.resume, out)
    }
}
