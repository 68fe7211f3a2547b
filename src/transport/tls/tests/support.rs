//! Certificates, and pairs of sides that talk in memory.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConnection, Connection, ServerConnection, SupportedCipherSuite};

use crate::base::End;
use crate::transport::Shake;
use crate::transport::tls::*;

/// A CA, and what it signs.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new() -> Ca {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> Pem {
        Pem::Text(self.0.pem())
    }

    pub fn sign(&self, names: &[&str]) -> Certificate {
        self.sign_until(names, 2090)
    }

    pub fn sign_until(&self, names: &[&str], until_year: i32) -> Certificate {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.0).unwrap();
        Certificate { chain: Pem::Text(own.pem()), key: Pem::Text(key.serialize_pem()) }
    }
}

pub fn server(setup: &Setup) -> Arc<Server> {
    Server::load(setup, None).unwrap()
}

pub fn plain_setup() -> Setup {
    Setup { certificates: vec![Ca::new().sign(&["localhost"])], ..Setup::default() }
}

pub fn any_client(tickets: usize) -> Client {
    Client::new(&ClientSetup {
        name: "localhost".into(),
        trust: Trust::InsecureAnyCertificate,
        alpn: true,
        certificate: None,
        tickets,
    })
    .unwrap()
}

pub struct Pair {
    pub server: Box<Session>,
    pub client: Box<Session>,
}

/// A handshake of ours with ours; the server's ticket has been opened by the client.
pub fn connect(
    acceptor: &Acceptor,
    client: &Client,
    resume: bool,
) -> Result<Pair, (Option<End>, Option<End>)> {
    let mut to_server = Vec::new();
    let mut to_client = Vec::new();
    let mut client_side = Some(client.begin(resume, &mut to_server).unwrap());
    let mut server_side = Some(acceptor.begin().unwrap());
    let (mut client_session, mut server_session) = (None, None);
    let (mut client_end, mut server_end) = (None, None);
    for _ in 0..10 {
        if let Some(side) = server_side.take() {
            match side.step(&mut to_server, &mut to_client) {
                Shake::More { handshake, used } => {
                    to_server.drain(..used);
                    server_side = Some(handshake);
                }
                Shake::Done { session, used } => {
                    to_server.drain(..used);
                    server_session = Some(session);
                }
                Shake::Failed(end) => server_end = Some(end),
            }
        }
        if let Some(side) = client_side.take() {
            match side.step(&mut to_client, &mut to_server) {
                Shake::More { handshake, used } => {
                    to_client.drain(..used);
                    client_side = Some(handshake);
                }
                Shake::Done { session, used } => {
                    to_client.drain(..used);
                    client_session = Some(session);
                }
                Shake::Failed(end) => client_end = Some(end),
            }
        }
    }
    match (server_session, client_session) {
        (Some(server), Some(mut client)) => {
            let opened = client.open(&mut to_client, &mut to_server).unwrap();
            assert_eq!((opened.plain, opened.used), (0, to_client.len()));
            Ok(Pair { server, client })
        }
        (None, Some(mut client)) => {
            let end = client.open(&mut to_client, &mut to_server).err();
            Err((server_end, end))
        }
        _ => Err((server_end, client_end)),
    }
}

/// Everything that `from` seals of `plain` is what `to` opens.
pub fn carry(from: &mut Session, to: &mut Session, plain: &[u8]) {
    let (mut wire, mut reply) = (Vec::new(), Vec::new());
    from.seal(plain, &mut wire);
    assert!(wire.len() <= Session::sealed_len(plain.len()));
    let opened = to.open(&mut wire, &mut reply).unwrap();
    assert_eq!(&wire[..opened.plain], plain);
    assert_eq!(opened.used, wire.len());
    assert!(reply.is_empty());
}

pub fn forge(from: &mut Session, content: u8, plain: &[u8], out: &mut Vec<u8>) {
    from.seal_raw(content, plain, out);
}

/// What a session makes of a stream that comes in pieces.
#[derive(Default)]
pub struct Reader {
    kept: Vec<u8>,
    pub plain: Vec<u8>,
    pub reply: Vec<u8>,
    pub closed: bool,
}

impl Reader {
    pub fn push(&mut self, session: &mut Session, piece: &[u8]) -> Result<(), End> {
        self.kept.extend_from_slice(piece);
        let length = self.kept.len();
        let opened = session.open(&mut self.kept, &mut self.reply)?;
        assert!(opened.used <= length && opened.plain <= opened.used);
        assert!(opened.closed || opened.need > length - opened.used, "need {} of {length}", opened.need);
        self.plain.extend_from_slice(&self.kept[..opened.plain]);
        self.kept.drain(..opened.used);
        self.closed = opened.closed;
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

/// A clock that stands where it is put, in seconds since 1970.
#[derive(Debug, Default)]
pub struct Clock(pub AtomicU64);

impl Clock {
    pub fn at(seconds: u64) -> Arc<Clock> {
        Arc::new(Clock(AtomicU64::new(seconds)))
    }

    pub fn add(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let seconds = self.0.load(Ordering::Relaxed);
        Some(rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

pub const SUITES: [Suite; 3] = [Suite::Aes128, Suite::Aes256, Suite::ChaCha];

fn provider_with(suite: Suite) -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = server::crypto();
    provider.cipher_suites.retain(|known: &SupportedCipherSuite| Suite::of(known.suite()) == Some(suite));
    Arc::new(provider)
}

/// A client that is all rustls.
pub fn rustls_client(suite: Suite) -> Connection {
    rustls_client_with(suite, |_| {})
}

pub fn rustls_client_with(suite: Suite, change: impl FnOnce(&mut rustls::ClientConfig)) -> Connection {
    let provider = provider_with(suite);
    let algorithms = provider.signature_verification_algorithms;
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust::Keyed { pin: None, algorithms }))
        .with_no_client_auth();
    change(&mut config);
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap().into()
}

/// A server that is all rustls.
pub fn rustls_server(suite: Suite) -> Connection {
    let certificate = Ca::new().sign(&["localhost"]);
    let config = rustls::ServerConfig::builder_with_provider(provider_with(suite))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificate.chain.certificates("").unwrap(), certificate.key.key().unwrap())
        .unwrap();
    ServerConnection::new(Arc::new(config)).unwrap().into()
}

/// Our handshake against rustls; the pieces that we are given are so long.
pub fn shake(
    mut ours: Box<Handshake>,
    theirs: &mut Connection,
    first: Vec<u8>,
    piece: usize,
) -> Result<Box<Session>, End> {
    let mut to_them = first;
    let mut to_us: Vec<u8> = Vec::new();
    for _ in 0..20 {
        feed(theirs, &to_them).ok();
        to_them.clear();
        let mut fresh = Vec::new();
        theirs.write_tls(&mut fresh).unwrap();
        for bytes in fresh.chunks(piece) {
            to_us.extend_from_slice(bytes);
            match ours.step(&mut to_us, &mut to_them) {
                Shake::More { handshake, used } => {
                    to_us.drain(..used);
                    ours = handshake;
                }
                Shake::Done { mut session, used } => {
                    feed(theirs, &to_them).unwrap();
                    // What has come behind the handshake: tickets.
                    let sent =
                        fresh.len() - (bytes.as_ptr() as usize - fresh.as_ptr() as usize) - bytes.len();
                    to_us.drain(..used);
                    to_us.extend_from_slice(&fresh[fresh.len() - sent..]);
                    assert_eq!(open_all(&mut session, &mut to_us), b"");
                    theirs.write_tls(&mut to_us).unwrap();
                    assert_eq!(open_all(&mut session, &mut to_us), b"");
                    return Ok(session);
                }
                Shake::Failed(end) => {
                    feed(theirs, &to_them).ok();
                    return Err(end);
                }
            }
        }
    }
    panic!("the handshake does not end");
}

fn open_all(session: &mut Session, bytes: &mut Vec<u8>) -> Vec<u8> {
    let mut reader = Reader::default();
    reader.push(session, bytes).unwrap();
    assert!(reader.is_empty() && reader.reply.is_empty());
    bytes.clear();
    reader.plain
}

/// Gives bytes to rustls; what it opens.
pub fn feed(theirs: &mut Connection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        theirs.read_tls(&mut bytes).unwrap();
        theirs.process_new_packets()?;
        let mut buffer = [0; 1 << 14];
        while let Ok(read @ 1..) = theirs.reader().read(&mut buffer) {
            plain.extend_from_slice(&buffer[..read]);
        }
    }
    Ok(plain)
}

/// What rustls seals.
pub fn said(theirs: &mut Connection, plain: &[u8]) -> Vec<u8> {
    theirs.set_buffer_limit(None);
    theirs.writer().write_all(plain).unwrap();
    let mut wire = Vec::new();
    while theirs.wants_write() {
        theirs.write_tls(&mut wire).unwrap();
    }
    wire
}

/// Both roles of ours against rustls.
pub fn with_rustls(suite: Suite, role: crate::transport::Role, piece: usize) -> (Box<Session>, Connection) {
    let mut first = Vec::new();
    let (ours, mut theirs) = match role {
        crate::transport::Role::Responder => {
            (Acceptor::new(&server(&plain_setup())).begin().unwrap(), rustls_client(suite))
        }
        crate::transport::Role::Initiator => {
            (any_client(0).begin(false, &mut first).unwrap(), rustls_server(suite))
        }
    };
    let session = shake(ours, &mut theirs, first, piece).unwrap();
    assert_eq!(session.suite(), suite);
    (session, theirs)
}
