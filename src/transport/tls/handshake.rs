//! A handshake in progress, either role: rustls' unbuffered connection, one record at a time.
//!
//! rustls is given one whole record after the other and asked in between whether it is finished, so that it never reads
//! behind the peer's Finished: what follows is ours to open. When it is finished only keys, IVs, counters and the two
//! traffic secrets are kept.
//!
//! Bytes that were given and not used are kept by the caller as `step` left them (rustls decrypts in place and joins messages that
//! are cut by records in the caller's memory); the caller appends, and gives them again.

use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::error::Unspecified;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, ServerConnectionData, UnbufferedServerConnection};
use rustls::time_provider::TimeProvider;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, HandshakeKind, InvalidMessage, PeerIncompatible};

use super::alert::{self, Violation};
use super::client::{Collect, Collector};
use super::peek::{Stop, look};
use super::secrets::{Secrets, captured};
use super::session::{ALERT, DATA, Extra, HEADER, Session, TAG, record};
use super::suite::{Keys, Suite};
use crate::base::End;
use crate::transport::{Role, Shake};

/// Most bytes that a peer may send in a handshake: ClientHello and a client's certificates, or all of a server's.
pub const MAX_BYTES: usize = crate::base::limits::HANDSHAKE_BYTES;
/// The header of a sealed record that holds its content type and nothing else.
const EMPTY: [u8; HEADER] = [DATA, 3, 3, 0, 1 + TAG as u8];
/// The first buffer for what rustls wants sent: an alert or a client's Finished fit.
const FIRST_RESERVE: usize = 512;

/// A handshake in progress.
pub struct Handshake {
    side: Side,
    secrets: Option<Secrets>,
    /// Bytes at the front of the input that rustls has seen and not let go.
    fed: usize,
    /// Bytes used up so far.
    used: usize,
    /// True exactly when the ClientHello has been looked at (always true of a client).
    looked: bool,
    /// True exactly when something of ours has gone out.
    spoken: bool,
}

enum Side {
    Server { connection: UnbufferedServerConnection, checks: Option<Arc<Checks>> },
    Client { connection: UnbufferedClientConnection, collect: Collect },
}

/// What is looked at again when a client with a certificate resumes.
#[derive(Debug)]
pub struct Checks {
    /// The client authentication in force.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// Today.
    pub clock: Arc<dyn TimeProvider>,
}

/// What a call of rustls came to.
enum Turn {
    /// It wants more bytes.
    Blocked,
    /// The handshake is complete.
    Complete,
    Failed(rustls::Error),
    /// The peer has closed in the middle.
    Closed,
}

impl Handshake {
    pub(super) fn server(
        connection: UnbufferedServerConnection,
        checks: Option<Arc<Checks>>,
    ) -> Box<Handshake> {
        Handshake::new(Side::Server { connection, checks })
    }

    /// `out` gets the ClientHello.
    pub(super) fn client(
        connection: UnbufferedClientConnection,
        collect: Collect,
        out: &mut Vec<u8>,
    ) -> Result<Box<Handshake>, End> {
        let mut handshake = Handshake::new(Side::Client { connection, collect });
        match handshake.turn(&mut [], out) {
            (_, Turn::Blocked) => Ok(handshake),
            _ => Err(End::TlsHandshake),
        }
    }

    fn new(side: Side) -> Box<Handshake> {
        let looked = matches!(side, Side::Client { .. });
        Box::new(Handshake { side, secrets: None, fed: 0, used: 0, looked, spoken: false })
    }

    /// Takes what has come. `input` is all that has not been used yet, as the last step left it.
    pub fn step(mut self: Box<Self>, input: &mut [u8], out: &mut Vec<u8>) -> Shake<Handshake, Session> {
        if !self.looked {
            // Before rustls: see `Seen::is_too_old`. A hello is given to it whole.
            match look(input) {
                Err(Stop::More) if input.len() > MAX_BYTES => return self.refuse(Violation::TOO_MUCH, out),
                Err(Stop::More) => return Shake::More { handshake: self, used: 0 },
                Ok(seen) if seen.is_too_old() => return self.refuse(Violation::VERSION, out),
                Ok(_) | Err(Stop::Wrong) => self.looked = true,
            }
        }
        let mut used = 0;
        loop {
            // One more record; the beginning of one is shown too, so that a wrong header is answered at once.
            let rest = &mut input[used..];
            let (end, whole) = record_end(rest, self.fed);
            if self.used + end > MAX_BYTES {
                return self.refuse(Violation::TOO_MUCH, out);
            }
            // A sealed record with nothing in it: whatever it is, it has no place here (section 5.1). rustls would wait for the next.
            if whole && self.secrets.is_some() && rest[self.fed..end].starts_with(&EMPTY) {
                return self.refuse(Violation::UNEXPECTED, out);
            }
            let (discard, turn) = self.turn(&mut rest[..end], out);
            if whole {
                self.fed = end;
            }
            used += discard;
            self.used += discard;
            self.fed = self.fed.saturating_sub(discard);
            match turn {
                Turn::Blocked if whole => {}
                Turn::Blocked => return Shake::More { handshake: self, used },
                Turn::Complete => {
                    used += self.fed;
                    return self.complete(used, out);
                }
                Turn::Failed(error) => return self.fail(&error, out),
                Turn::Closed => return Shake::Failed(End::TlsAlert),
            }
        }
    }

    /// True exactly when the ticket of an earlier session was taken (known once the handshake is complete).
    pub fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server { connection, .. } => connection,
            Side::Client { connection, .. } => connection,
        }
    }

    /// Lets rustls work until it wants more, is complete or fails. Says how many bytes it has done with.
    fn turn(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> (usize, Turn) {
        let before = out.len();
        let ((discard, turn), secrets) = match &mut self.side {
            Side::Server { connection, .. } => captured(|| drive(connection, input, out)),
            Side::Client { connection, .. } => captured(|| drive(connection, input, out)),
        };
        self.secrets = secrets.or(self.secrets.take());
        self.spoken |= out.len() > before;
        (discard, turn)
    }

    /// rustls says what to tell the peer; where it says nothing, we do.
    fn fail(mut self: Box<Self>, error: &rustls::Error, out: &mut Vec<u8>) -> Shake<Handshake, Session> {
        let end = end_of(error, self.spoken);
        let told = match &mut self.side {
            Side::Server { connection, .. } => flush(connection, out),
            Side::Client { connection, .. } => flush(connection, out),
        };
        if told || matches!(error, rustls::Error::AlertReceived(_)) {
            return Shake::Failed(end);
        }
        self.refuse(Violation { end, alert: Some(alert::UNEXPECTED_MESSAGE) }, out)
    }

    /// Ends with an alert of ours: in the clear while keys are not agreed upon, then under a server's first application key, which
    /// is in use since its Finished. A client between ServerHello and Finished, whose key we do not have, says nothing.
    fn refuse(self: Box<Self>, violation: Violation, out: &mut Vec<u8>) -> Shake<Handshake, Session> {
        let Some(description) = violation.alert else { return Shake::Failed(violation.end) };
        let suite = self.common().negotiated_cipher_suite().and_then(|suite| Suite::of(suite.suite()));
        match (suite, &self.secrets, &self.side) {
            (_, Some(secrets), Side::Server { .. }) => {
                let before = out.len();
                let sealed = suite.ok_or(Unspecified).and_then(|suite| {
                    let mut keys = Keys::derived(suite, suite.secret(&secrets.server))?;
                    let cipher = keys.cipher(suite)?;
                    record(&mut keys, &cipher, ALERT, &[2, description], out)
                });
                if sealed.is_err() {
                    out.truncate(before);
                }
            }
            (None, None, _) | (_, None, Side::Server { .. }) => {
                out.extend_from_slice(&[ALERT, 3, 3, 0, 2, 2, description]);
            }
            _ => {}
        }
        Shake::Failed(violation.end)
    }

    fn complete(mut self: Box<Self>, used: usize, out: &mut Vec<u8>) -> Shake<Handshake, Session> {
        let resumed = self.is_resumed();
        let Some(secrets) = self.secrets.take() else { return Shake::Failed(End::TlsHandshake) };
        let opened = match self.side {
            Side::Server { connection, checks } => {
                serve(connection, checks.as_deref(), &secrets, resumed, out)
            }
            Side::Client { connection, collect } => attend(connection, collect, &secrets, resumed),
        };
        match opened {
            Ok(session) => Shake::Done { session, used },
            Err(end) => Shake::Failed(end),
        }
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("fed", &self.fed).field("used", &self.used).finish_non_exhaustive()
    }
}

/// The end of the record that begins behind `fed`, and whether it is all there.
fn record_end(input: &[u8], fed: usize) -> (usize, bool) {
    let length = input.get(fed..).and_then(|rest| rest.first_chunk::<HEADER>());
    let end = length.map(|header| fed + HEADER + usize::from(u16::from_be_bytes([header[3], header[4]])));
    match end {
        Some(end) if end <= input.len() => (end, true),
        _ => (input.len(), false),
    }
}

/// A complete server side becomes a session.
fn serve(
    connection: UnbufferedServerConnection,
    checks: Option<&Checks>,
    secrets: &Secrets,
    resumed: bool,
    out: &mut Vec<u8>,
) -> Result<Box<Session>, End> {
    let mut extra = None;
    let mut refused = false;
    if let Some([own, others @ ..]) = connection.peer_certificates() {
        let parsed = ParsedCertificate::try_from(own).map_err(|_| End::TlsHandshake)?;
        let digest = digest::digest(&digest::SHA256, &parsed.subject_public_key_info());
        let identity = <[u8; 32]>::try_from(digest.as_ref()).map_err(|_| End::TlsHandshake)?;
        extra = Some(Box::new(Extra::Identity(identity)));
        // A ticket carries the certificates that were shown once. Since then they may have expired, and each resumption brings a
        // new ticket: without this look a client could go on for ever.
        refused = resumed
            && checks.is_none_or(|checks| {
                checks
                    .clock
                    .current_time()
                    .is_none_or(|now| checks.verifier.verify_client_cert(own, others, now).is_err())
            });
    }
    let (extracted, _kernel) =
        connection.dangerous_into_kernel_connection().map_err(|_| End::TlsHandshake)?;
    let mut session =
        Session::new(Role::Responder, &extracted, secrets, resumed, extra).ok_or(End::TlsHandshake)?;
    if refused {
        let expired = Violation { end: End::TlsHandshake, alert: Some(alert::CERTIFICATE_EXPIRED) };
        return Err(session.end(expired, out));
    }
    Ok(session)
}

/// A complete client side becomes a session.
fn attend(
    connection: UnbufferedClientConnection,
    collect: Collect,
    secrets: &Secrets,
    resumed: bool,
) -> Result<Box<Session>, End> {
    let (extracted, kernel) = connection.dangerous_into_kernel_connection().map_err(|_| End::TlsHandshake)?;
    let collector = collect.wanted(resumed).map(|tickets| Box::new(Collector::new(tickets, kernel)));
    let extra = collector.map(|collector| Box::new(Extra::Collector(collector)));
    Session::new(Role::Initiator, &extracted, secrets, resumed, extra).ok_or(End::TlsHandshake)
}

/// What both of rustls' connections can do.
trait Process {
    type Data;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    /// True exactly when something is queued to be sent.
    fn has_more(&self) -> bool;
}

impl Process for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
    fn has_more(&self) -> bool {
        self.wants_write()
    }
}

impl Process for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
    fn has_more(&self) -> bool {
        self.wants_write()
    }
}

fn drive<C: Process>(connection: &mut C, input: &mut [u8], out: &mut Vec<u8>) -> (usize, Turn) {
    let mut done = 0;
    // Ends: every turn but the last takes something out of rustls' bounded queue or out of the bounded input.
    loop {
        let UnbufferedStatus { discard, state } = connection.process(&mut input[done..]);
        done += discard;
        let turn = match state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => match append(out, |space| data.encode(space)) {
                true => continue,
                false => Turn::Failed(rustls::Error::General("encoding a flight".into())),
            },
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                continue;
            }
            Ok(ConnectionState::BlockedHandshake) => Turn::Blocked,
            Ok(ConnectionState::WriteTraffic(_)) => Turn::Complete,
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Turn::Closed,
            // Not reached: early data is off, and no record behind the handshake is given.
            Ok(_) => Turn::Failed(rustls::Error::HandshakeNotComplete),
            Err(error) => Turn::Failed(error),
        };
        return (done, turn);
    }
}

/// Takes what a failed connection has queued: what it had to say before, and the alert. While there is something it does not look at its
/// input, which it must not see again: what failed once would fail otherwise the next time, or with a second alert.
fn flush<C: Process>(connection: &mut C, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    while connection.has_more() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = connection.process(&mut []).state else { break };
        if !append(out, |space| data.encode(space)) {
            break;
        }
    }
    out.len() > before
}

/// Makes room for what rustls has to say.
fn append(out: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) -> bool {
    let before = out.len();
    let mut space = FIRST_RESERVE;
    for _ in 0..2 {
        out.resize(before + space, 0);
        match encode(&mut out[before..]) {
            Ok(written) => {
                out.truncate(before + written);
                return true;
            }
            Err(EncodeError::InsufficientSize(size)) => space = size.required_size,
            Err(EncodeError::AlreadyEncoded) => break,
        }
    }
    out.truncate(before);
    false
}

/// Which counter an error of rustls belongs to.
fn end_of(error: &rustls::Error, spoken: bool) -> End {
    match error {
        rustls::Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        ) => End::TlsVersion,
        rustls::Error::AlertReceived(_) => End::TlsAlert,
        rustls::Error::DecryptError => End::TlsBadRecord,
        rustls::Error::PeerSentOversizedRecord => End::TlsOverflow,
        // Only the first bytes can be of another protocol; later they are a client that gets TLS wrong.
        rustls::Error::InvalidMessage(InvalidMessage::MessageTooLarge) if spoken => End::TlsOverflow,
        rustls::Error::InvalidMessage(_) if !spoken => End::NotTls,
        _ => End::TlsHandshake,
    }
}
