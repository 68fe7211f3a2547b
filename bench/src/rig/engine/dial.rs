//! How TLS handshakes begin: what is trusted, and whether a ticket is offered.

use breakwater::base::End;
use breakwater::transport::tls::{Client, ClientSetup, Handshake, Pem, Trust};
use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::Outcome;
use crate::rig::scenario::Scenario;

/// Tickets that a ring keeps, each offered again and again: a few, so that one which has gone stale is soon replaced.
const TICKETS: usize = 4;

/// One ring's. The first few of its handshakes go alone: they bring the tickets, so that a storm resumes from its beginning.
#[derive(Debug)]
pub(super) struct Dialer {
    client: Option<Client>,
    resume: f64,
    /// Handshakes begun, and those that have come to their end, either way; both counted to [`TICKETS`].
    begun: usize,
    done: usize,
}

impl Dialer {
    /// As the scenario wants it.
    ///
    /// # Errors
    /// The file of trusted certificates cannot be read, or the name is none.
    pub(super) fn new(scenario: &Scenario) -> Outcome<Dialer> {
        let Some(tls) = &scenario.tls else {
            return Ok(Dialer { client: None, resume: 0.0, begun: 0, done: 0 });
        };
        let setup = ClientSetup {
            name: tls.name.clone(),
            trust: tls.ca.clone().map_or(Trust::InsecureAnyCertificate, |ca| Trust::Roots(Pem::File(ca))),
            alpn: false,
            certificate: None,
            tickets: if tls.resume > 0.0 { TICKETS } else { 0 },
        };
        // Without tickets nobody need wait for any.
        let done = if tls.resume > 0.0 { 0 } else { TICKETS };
        Ok(Dialer { client: Some(Client::new(&setup)?), resume: tls.resume, begun: done, done })
    }

    /// True exactly when one more has to wait for those that go first.
    pub(super) fn is_held(&self) -> bool {
        self.begun >= TICKETS && self.done < TICKETS
    }

    /// A handshake has come to its end; true when those that waited may go now.
    pub(super) fn ended(&mut self) -> bool {
        let held = self.is_held();
        self.done = (self.done + 1).min(TICKETS);
        held && !self.is_held()
    }

    /// A handshake; its first bytes are appended to `out`.
    pub(super) fn begin(&mut self, rng: &mut SmallRng, out: &mut Vec<u8>) -> Result<Box<Handshake>, End> {
        // There is one when any client speaks TLS.
        let Some(client) = &self.client else { return Err(End::TlsHandshake) };
        self.begun = (self.begun + 1).min(TICKETS);
        client.begin(rng.random::<f64>() < self.resume, out)
    }
}
