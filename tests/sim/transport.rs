//! What an actor's connection is wrapped in: nothing, BIP324 or TLS 1.3, always the side that connects.
//!
//! TLS is rustls' own client and not ours, so that what the relay opens and seals is checked against another
//! implementation. Whatever is spoken, what goes in and what comes out are v1 frames.
//!
//! Keys of TLS come from the library and differ from run to run; what is random and has a say in how long a message is or how it is
//! laid out (rustls shuffles its extensions) comes from the seed, and the certificate is one of Ed25519, whose signatures
//! have one length. So every run of a seed sends as many bytes, and whatever happens to byte N happens to the same field.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use breakwater::base::End;
use breakwater::stub::MAGIC;
use breakwater::transport::tls::{Certificate, Pem, Server, Setup};
use breakwater::transport::{Kind, Pipe};
use breakwater::wire::{Framing, Step, write};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::aws_lc_rs as provider;
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme, version};

/// The time of day, for rustls, which asks from where no network can be borrowed.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    /// It is now this late.
    pub fn set(&self, unix: u64) {
        self.0.store(unix, Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

thread_local! {
    static RANDOM: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(0));
}

/// rustls' randomness, from the seed of the run that goes on in this thread.
#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        RANDOM.with_borrow_mut(|random| random.fill_bytes(bytes));
        Ok(())
    }
}

/// Believes every certificate; that the other side has its key is checked.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The relay's certificate: a new one each time it is asked for, all of the same length.
fn certificate() -> Certificate {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["relay.test".to_owned()]).expect("a name");
    params.serial_number = Some(rcgen::SerialNumber::from(vec![7; 8]));
    let own = params.self_signed(&key).expect("a certificate");
    Certificate { chain: Pem::Text(own.pem()), key: Pem::Text(key.serialize_pem()) }
}

/// The relay's side of TLS; `fleet`: tickets outlive the process. `before`: the one that a reload replaces.
pub fn server(clock: &Arc<Clock>, fleet: bool, before: Option<&Server>) -> Arc<Server> {
    static FIRST: OnceLock<Certificate> = OnceLock::new();
    static SECOND: OnceLock<Certificate> = OnceLock::new();
    let own = if before.is_none() { &FIRST } else { &SECOND };
    let setup = Setup {
        certificates: vec![own.get_or_init(certificate).clone()],
        ticket_secret: fleet.then(|| Pem::Text("5a".repeat(32))),
        ..Setup::default()
    };
    Server::with_clock(&setup, before, clock.clone()).expect("a server")
}

/// What a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaks {
    /// v1.
    Plain,
    /// BIP324.
    V2,
    /// TLS; resumed when it can be.
    Tls {
        /// True exactly when a ticket shall be offered, if there is one.
        resume: bool,
    },
}

impl Speaks {
    /// Any of them.
    pub fn any(rng: &mut SmallRng) -> Speaks {
        match rng.random_range(0..3) {
            0 => Speaks::Plain,
            1 => Speaks::V2,
            _ => Speaks::Tls { resume: rng.random_bool(0.7) },
        }
    }

    /// The listener where that is spoken.
    pub fn listener(self) -> u8 {
        u8::from(matches!(self, Speaks::Tls { .. }))
    }
}

/// How clients of a run connect with TLS: for each cipher suite one that resumes and one that does not.
#[derive(Debug)]
pub struct TlsClients(Vec<[Arc<ClientConfig>; 2]>);

impl TlsClients {
    /// Of a run with this seed, whose randomness begins here.
    pub fn new(seed: u64, clock: &Arc<Clock>) -> TlsClients {
        RANDOM.set(SmallRng::seed_from_u64(seed));
        let suites = [
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        TlsClients(
            suites
                .into_iter()
                .map(|suite| {
                    [false, true].map(|resume| {
                        let crypto = CryptoProvider {
                            cipher_suites: vec![suite],
                            kx_groups: vec![provider::kx_group::X25519],
                            secure_random: &Seeded,
                            ..provider::default_provider()
                        };
                        let mut config = ClientConfig::builder_with_details(Arc::new(crypto), clock.clone())
                            .with_protocol_versions(&[&version::TLS13])
                            .expect("TLS 1.3")
                            .dangerous()
                            .with_custom_certificate_verifier(Arc::new(Anybody))
                            .with_no_client_auth();
                        config.resumption =
                            if resume { Resumption::in_memory_sessions(16) } else { Resumption::disabled() };
                        Arc::new(config)
                    })
                })
                .collect(),
        )
    }
}

/// Why a transport is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Over {
    /// The other side has said that it sends no more.
    Closed,
    /// It has sent an alert.
    Alert(AlertDescription),
    /// What it sent cannot be.
    Broken(String),
}

/// A connection's transport.
#[derive(Debug)]
pub enum Transport {
    Plain,
    V2 {
        pipe: Box<Pipe>,
        /// What was opened and not turned into v1 frames.
        opened: Vec<u8>,
    },
    Tls(Box<ClientConnection>),
}

impl Transport {
    /// The connection stands; `out` gets what is said first.
    pub fn new(speaks: Speaks, clients: &TlsClients, rng: &mut SmallRng, out: &mut Vec<u8>) -> Transport {
        match speaks {
            Speaks::Plain => Transport::Plain,
            Speaks::V2 => {
                let pipe = Box::new(Pipe::v2(MAGIC, rng, out));
                Transport::V2 { pipe, opened: Vec::new() }
            }
            Speaks::Tls { resume } => {
                let config = &clients.0[rng.random_range(0..clients.0.len())][usize::from(resume)];
                let name = ServerName::try_from("relay.test").expect("a name");
                let mut connection = ClientConnection::new(config.clone(), name).expect("a connection");
                connection.set_buffer_limit(None);
                write_out(&mut connection, out);
                Transport::Tls(Box::new(connection))
            }
        }
    }

    /// True exactly when the handshake is complete, as far as this side sees it.
    pub fn is_open(&self) -> bool {
        match self {
            Transport::Plain => true,
            Transport::V2 { pipe, .. } => pipe.is_open(),
            Transport::Tls(connection) => !connection.is_handshaking(),
        }
    }

    /// v1 frames to be sent; before the handshake is complete they wait.
    pub fn seal(&mut self, frames: &[u8], out: &mut Vec<u8>) {
        match self {
            Transport::Plain => out.extend_from_slice(frames),
            Transport::V2 { pipe, .. } => pipe.send(frames, out),
            Transport::Tls(connection) => {
                connection.writer().write_all(frames).expect("a buffer without limit");
                write_out(connection, out);
            }
        }
    }

    /// Bytes have come: v1 frames are appended to `plain`, what has to be sent to `out`.
    pub fn open(&mut self, mut bytes: Vec<u8>, plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Over> {
        match self {
            Transport::Plain => {
                plain.append(&mut bytes);
                Ok(())
            }
            Transport::V2 { pipe, opened } => {
                let result = pipe.received(&mut bytes, opened, out);
                assert!(result.is_err() || !pipe.is_open() || pipe.kind() == Kind::V2);
                to_v1(opened, plain)?;
                result.map_err(|end| if end == End::Closed { Over::Closed } else { broken(end) })
            }
            Transport::Tls(connection) => read_in(connection, &bytes, plain, out),
        }
    }

    /// Says that nothing more will be sent, where there is a word for it.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if let Transport::Tls(connection) = self {
            connection.send_close_notify();
            write_out(connection, out);
        }
    }

    /// New keys: asks the other side for new ones as well. TLS only.
    pub fn update_keys(&mut self, out: &mut Vec<u8>) {
        if let Transport::Tls(connection) = self {
            connection.refresh_traffic_keys().expect("an open connection");
            write_out(connection, out);
        }
    }
}

fn broken(why: impl ToString) -> Over {
    Over::Broken(why.to_string())
}

/// The contents of packets as v1 frames.
fn to_v1(opened: &mut Vec<u8>, plain: &mut Vec<u8>) -> Result<(), Over> {
    let mut at = 0;
    loop {
        match Framing::V2.split(&opened[at..]) {
            Step::Need(_) if at == opened.len() => break,
            Step::Message { command, payload, used } => {
                write::raw(plain, MAGIC, command.name(), payload);
                at += used;
            }
            other => return Err(broken(format!("packets that are not whole messages: {other:?}"))),
        }
    }
    opened.clear();
    Ok(())
}

fn read_in(
    connection: &mut ClientConnection,
    mut bytes: &[u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), Over> {
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).map_err(broken)?;
        let processed = connection.process_new_packets();
        write_out(connection, out);
        let state = processed.map_err(|error| match error {
            rustls::Error::AlertReceived(description) => Over::Alert(description),
            error => broken(error),
        })?;
        let from = plain.len();
        plain.resize(from + state.plaintext_bytes_to_read(), 0);
        connection.reader().read_exact(&mut plain[from..]).map_err(broken)?;
        if state.peer_has_closed() {
            return Err(Over::Closed);
        }
    }
    Ok(())
}

fn write_out(connection: &mut ClientConnection, out: &mut Vec<u8>) {
    while connection.wants_write() && connection.write_tls(out).is_ok_and(|written| written > 0) {}
}
