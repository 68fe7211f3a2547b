//! What all shards share, and one shard's way to accept.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ServerConfig, version};

use super::handshake::{Checks, Handshake};
use super::names::Names;
use super::secrets::Capture;
use super::setup::{ClientAuth, Pem, Setup, SetupError};
use super::tickets::Tickets;
use crate::base::End;

/// The one application protocol (ALPN). A client that names others only is refused; one that names none is welcome.
pub const ALPN: &[u8] = b"bitcoin/1";

/// What all shards share: certificates, tickets, client authentication. Made anew by a reload.
pub struct Server {
    config: ServerConfig,
    names: Names,
    tickets: Tickets,
    /// Hash of the client authentication, which tickets are bound to.
    client_auth: [u8; 32],
    checks: Option<Arc<Checks>>,
}

impl Server {
    /// From settings. At a reload `before` is the one in use: its tickets stay good, unless the secret's file has changed.
    pub fn load(setup: &Setup, before: Option<&Server>) -> Result<Arc<Server>, SetupError> {
        Server::with_clock(setup, before, Arc::new(DefaultTimeProvider))
    }

    /// With a clock of one's own: certificates expire and ticket keys change by it.
    pub fn with_clock(
        setup: &Setup,
        before: Option<&Server>,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Arc<Server>, SetupError> {
        let provider = Arc::new(crypto());
        let names = Names::load(&setup.certificates, &provider)?;
        let (verifier, client_auth) = client_auth(&setup.client_auth, &provider)?;
        let secret = setup.ticket_secret.as_ref().map(Pem::secret).transpose()?;
        let kept = before.map(|before| &before.tickets);
        let tickets = match (kept.filter(|kept| kept.is_from(secret.as_deref().map(Vec::as_slice))), &secret)
        {
            (Some(kept), _) => kept.clone(),
            (None, Some(secret)) => Tickets::from_secret(secret, clock.clone()),
            (None, None) => Tickets::random(clock.clone()).map_err(library)?,
        };
        let checks = verifier
            .offer_client_auth()
            .then(|| Arc::new(Checks { verifier: verifier.clone(), clock: clock.clone() }));
        let mut config = ServerConfig::builder_with_details(provider.clone(), clock)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(library)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(names.own(&provider)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        config.enable_secret_extraction = true;
        Ok(Arc::new(Server { config, names, tickets, client_auth, checks }))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("names", &self.names).finish_non_exhaustive()
    }
}

/// One thread's way to accept: nothing in it is shared with another core, not even a count of references.
#[derive(Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    checks: Option<Arc<Checks>>,
}

impl Acceptor {
    /// For one shard.
    pub fn new(server: &Arc<Server>) -> Acceptor {
        let mut config = server.config.clone();
        let provider = Arc::new(CryptoProvider::clone(config.crypto_provider()));
        config.cert_resolver = Arc::new(server.names.own(&provider));
        config.ticketer = server.tickets.ticketer(server.client_auth);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.key_log = Arc::new(Capture);
        let checks = server.checks.as_deref();
        let checks =
            checks.map(|c| Arc::new(Checks { verifier: c.verifier.clone(), clock: c.clock.clone() }));
        Acceptor { config: Arc::new(config), checks }
    }

    /// A handshake with a client that has just come.
    pub fn begin(&self) -> Result<Box<Handshake>, End> {
        let connection =
            UnbufferedServerConnection::new(self.config.clone()).map_err(|_| End::TlsHandshake)?;
        Ok(Handshake::server(connection, self.checks.clone()))
    }
}

/// What both sides can do.
pub(super) fn crypto() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        // The client's order decides. X25519MLKEM768 comes last because our own clients shall not choose it: it adds 1.1 KB each way
        // and half as much time again, to guard for decades what is on a public chain in minutes. Whoever wants it gets it.
        kx_groups: vec![
            provider::kx_group::X25519,
            provider::kx_group::SECP256R1,
            provider::kx_group::SECP384R1,
            provider::kx_group::X25519MLKEM768,
        ],
        ..provider::default_provider()
    }
}

/// The verifier, and the hash of all that decides whether a client gets in.
fn client_auth(
    setting: &ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, [u8; 32]), SetupError> {
    let (ca, mode) = match setting {
        ClientAuth::Off => return Ok((WebPkiClientVerifier::no_client_auth(), [0; 32])),
        ClientAuth::Optional(ca) => (ca, 1),
        ClientAuth::Required(ca) => (ca, 2),
    };
    let (roots, hash) = ca.roots("tls_client_ca")?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if mode == 1 { builder.allow_unauthenticated() } else { builder };
    let verifier = builder.build().map_err(library)?;
    let mut bound = <[u8; 32]>::try_from(hash).map_err(|_| SetupError::Library("SHA-256".into()))?;
    // Optional and required must differ: who resumes without a certificate was let in without one.
    bound[0] ^= mode;
    Ok((verifier, bound))
}

fn library(error: impl ToString) -> SetupError {
    SetupError::Library(error.to_string())
}
