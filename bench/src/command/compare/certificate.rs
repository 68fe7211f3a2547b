//! The certificate all contestants show: self-signed, made anew for each run, ECDSA on P-256.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use breakwater::transport::tls::{Client, ClientSetup, Pem, Trust};

use crate::Outcome;
use crate::certificate::{NAME, self_signed};
use crate::swarm::{Begin, Secure};

/// The certificate's file in a server's folder, PEM.
pub(super) const CHAIN: &str = "chain.pem";
/// The key's.
pub(super) const KEY: &str = "key.pem";
/// Both in one, as HAProxy wants it.
const BOTH: &str = "both.pem";

/// A certificate and its key, PEM.
pub(super) struct Certificate {
    chain: String,
    key: String,
}

impl Certificate {
    /// Makes one.
    pub(super) fn new() -> Outcome<Certificate> {
        let (chain, key) = self_signed()?;
        Ok(Certificate { chain, key })
    }

    /// Writes it into a server's folder.
    pub(super) fn write(&self, folder: &Path) -> Outcome {
        fs::write(folder.join(CHAIN), &self.chain)?;
        fs::write(folder.join(KEY), &self.key)?;
        fs::write(folder.join(BOTH), format!("{}{}", self.chain, self.key))?;
        Ok(())
    }

    /// How those who trust it come to one server: without tickets, and with that server's.
    pub(super) fn trusting(&self, begin: Begin) -> Outcome<(Secure, Secure)> {
        let of = |tickets| -> Outcome<Secure> {
            let setup = ClientSetup {
                name: NAME.to_string(),
                trust: Trust::Roots(Pem::Text(self.chain.clone())),
                alpn: false,
                certificate: None,
                tickets,
            };
            Ok(Secure { client: Arc::new(Client::new(&setup)?), resume: tickets > 0, begin })
        };
        Ok((of(0)?, of(1)?))
    }
}
