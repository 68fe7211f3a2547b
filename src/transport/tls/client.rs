//! The client side: for the rig, the demo and tests.
//!
//! A ticket is used as often as one likes. RFC 8446 (appendix C.4) wants each used once, so that who watches cannot tell that two
//! connections are one client's; that is what a rig with a million clients is. rustls hands a ticket out once and
//! does not let it be copied, but makes it anew from the message that brought it: that and the
//! connection that it came over are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{
    ClientConnectionData, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    UnbufferedClientConnection, WebPkiServerVerifier,
};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup, version};

use super::handshake::Handshake;
use super::secrets::Capture;
use super::server::{ALPN, crypto};
use super::setup::{Certificate, Pem, SetupError};
use super::trust::Keyed;
use crate::base::End;

/// Longest NewSessionTicket that is kept.
const MAX_KEPT: usize = 1 << 16;

/// Which server is believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// One with a certificate of these CAs for the name.
    Roots(Pem),
    /// One that has the key with this SHA-256 of its SPKI, whatever its certificate says.
    Pinned([u8; 32]),
    /// Any: who answers may be anybody. For load generation only.
    InsecureAnyCertificate,
}

/// What a client is made from.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// The server's name (SNI), or its address.
    pub name: String,
    /// Which server is believed.
    pub trust: Trust,
    /// True exactly when `bitcoin/1` is offered (ALPN).
    pub alpn: bool,
    /// What is shown to a server that asks.
    pub certificate: Option<Certificate>,
    /// Tickets kept at most; 0 for a client that never resumes.
    pub tickets: usize,
}

/// One thread's or many threads' way to connect; what is made for each connection is the handshake.
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    tickets: Option<Arc<Tickets>>,
}

impl Client {
    /// From settings.
    pub fn new(setup: &ClientSetup) -> Result<Client, SetupError> {
        let provider = Arc::new(crypto());
        let algorithms = provider.signature_verification_algorithms;
        let verifier: Arc<dyn ServerCertVerifier> = match &setup.trust {
            Trust::Roots(ca) => {
                WebPkiServerVerifier::builder_with_provider(Arc::new(ca.roots("CA")?.0), provider.clone())
                    .build()
                    .map_err(|error| SetupError::Library(error.to_string()))?
            }
            Trust::Pinned(spki) => Arc::new(Keyed { pin: Some(*spki), algorithms }),
            Trust::InsecureAnyCertificate => Arc::new(Keyed { pin: None, algorithms }),
        };
        let library = |error: rustls::Error| SetupError::Library(error.to_string());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(library)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &setup.certificate {
            None => builder.with_no_client_auth(),
            Some(own) => builder
                .with_client_auth_cert(own.chain.certificates("client certificate")?, own.key.key()?)
                .map_err(library)?,
        };
        let tickets = (setup.tickets > 0).then(|| Arc::new(Tickets::new(setup.tickets)));
        config.alpn_protocols = if setup.alpn { vec![ALPN.to_vec()] } else { Vec::new() };
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(Capture);
        config.resumption = match &tickets {
            Some(tickets) => Resumption::store(tickets.slot.clone()),
            None => Resumption::disabled(),
        };
        let name = ServerName::try_from(setup.name.clone())
            .map_err(|error| SetupError::Library(format!("server name {:?}: {error}", setup.name)))?;
        Ok(Client { config: Arc::new(config), name, tickets })
    }

    /// A handshake; `out` gets the ClientHello. With `resume` a ticket is offered, if there is one.
    pub fn begin(&self, resume: bool, out: &mut Vec<u8>) -> Result<Box<Handshake>, End> {
        let connect = || UnbufferedClientConnection::new(self.config.clone(), self.name.clone());
        let (connection, offered) = match &self.tickets {
            Some(tickets) if resume => tickets.with_one(connect),
            _ => (connect(), false),
        };
        let connection = connection.map_err(|_| End::TlsHandshake)?;
        Handshake::client(connection, Collect { tickets: self.tickets.clone(), offered }, out)
    }

    /// Tickets that are there to be offered.
    pub fn tickets(&self) -> usize {
        self.tickets.as_ref().map_or(0, |tickets| tickets.kept().len())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a handshake knows about tickets.
pub struct Collect {
    tickets: Option<Arc<Tickets>>,
    offered: bool,
}

impl Collect {
    /// Where the session's ticket shall go: while there are too few, or when the one that was offered has gone stale.
    pub fn wanted(self, resumed: bool) -> Option<Arc<Tickets>> {
        let Collect { tickets, offered } = self;
        tickets.filter(|tickets| offered && !resumed || tickets.kept().len() < tickets.most)
    }
}

/// The tickets of a client.
pub struct Tickets {
    slot: Arc<Slot>,
    /// The one to be used next first.
    kept: Mutex<VecDeque<Kept>>,
    most: usize,
}

/// A ticket: the message that brought it, and the connection that can read it.
struct Kept {
    message: Vec<u8>,
    kernel: KernelConnection<ClientConnectionData>,
}

impl Tickets {
    fn new(most: usize) -> Tickets {
        Tickets { slot: Arc::new(Slot::default()), kept: Mutex::new(VecDeque::new()), most }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `connect` with the next ticket in the place where rustls looks; says whether there was one.
    fn with_one<T>(&self, connect: impl FnOnce() -> T) -> (T, bool) {
        let mut kept = self.kept();
        let offered =
            kept.front_mut().is_some_and(|next| next.kernel.handle_new_session_ticket(&next.message).is_ok());
        if offered {
            kept.rotate_left(1);
        }
        let connection = connect();
        self.slot.put(None);
        (connection, offered)
    }

    /// Keeps one more; the one used last gives way: it may be why this one was wanted.
    fn keep(&self, message: Vec<u8>, mut kernel: KernelConnection<ClientConnectionData>) {
        let mut kept = self.kept();
        // Read once, to see that it can be.
        if kernel.handle_new_session_ticket(&message).is_err() {
            return;
        }
        self.slot.put(None);
        if kept.len() >= self.most {
            kept.pop_back();
        }
        kept.push_front(Kept { message, kernel });
    }
}

/// A session that waits for its first ticket, to be used by others.
pub struct Collector {
    tickets: Arc<Tickets>,
    kernel: Option<KernelConnection<ClientConnectionData>>,
    message: Vec<u8>,
}

impl Collector {
    /// The rest of rustls' connection stays until the ticket has come.
    pub fn new(tickets: Arc<Tickets>, kernel: KernelConnection<ClientConnectionData>) -> Collector {
        Collector { tickets, kernel: Some(kernel), message: Vec::new() }
    }

    /// A NewSessionTicket begins.
    pub fn begin(&mut self) {
        self.message.clear();
    }

    /// A part of it; one that is too long is not kept.
    pub fn add(&mut self, part: &[u8]) {
        if self.message.len() + part.len() <= MAX_KEPT {
            self.message.extend_from_slice(part);
        }
    }

    /// It is complete.
    pub fn finish(&mut self) {
        if let Some(kernel) = self.kernel.take() {
            self.tickets.keep(std::mem::take(&mut self.message), kernel);
        }
    }
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("bytes", &self.message.len()).finish_non_exhaustive()
    }
}

/// The place where rustls puts a ticket and looks for one. Only filled while the lock of `Tickets::kept` is held.
#[derive(Debug, Default)]
struct Slot(Mutex<Option<Tls13ClientSessionValue>>);

impl Slot {
    fn put(&self, value: Option<Tls13ClientSessionValue>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

impl ClientSessionStore for Slot {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.put(Some(value));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
