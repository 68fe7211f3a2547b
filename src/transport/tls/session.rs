//! An open session: keys and counters of both directions, no buffer. Sealing, closing, key updates of ours.
//!
//! Both roles are the same thing here; opening is in `open.rs`. What of rustls' state stays is nothing at all.
//! RFC 8446: records section 5, alerts section 6, key updates section 4.6.3, limits of keys section 5.5.

use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::error::Unspecified;

use super::alert::{self, Violation};
use super::client::Collector;
use super::secrets::Secrets;
use super::suite::{Keys, Suite};
use crate::base::End;
use crate::transport::Role;

/// Bytes of a record's header: type, legacy version, length.
pub const HEADER: usize = 5;
/// Most bytes of plaintext in a record: 2^14 (RFC 8446, section 5.1).
pub const MAX_PLAIN: usize = 1 << 14;
/// Bytes of the tag, the same for every suite.
pub const TAG: usize = 16;
/// What a record adds to its plaintext: header, inner content type, tag.
pub const EXPANSION: usize = HEADER + 1 + TAG;

/// Content types (RFC 8446, section 5.1).
pub const ALERT: u8 = 21;
/// See [`ALERT`].
pub const HANDSHAKE: u8 = 22;
/// See [`ALERT`].
pub const DATA: u8 = 23;

/// Bytes of the handshake message KeyUpdate: type, length 3, value.
pub const KEY_UPDATE: usize = 5;

/// An open session: keys, IVs and counters.
pub struct Session {
    /// What the peer seals with.
    pub(super) rx: Keys,
    /// What we seal with.
    pub(super) tx: Keys,
    /// What only few sessions have.
    pub(super) extra: Option<Box<Extra>>,
    pub(super) inside: Inside,
    /// Records and messages in a row that brought no application data.
    pub(super) fruitless: u8,
    pub(super) suite: Suite,
    pub(super) role: Role,
    /// Set exactly when nothing more is opened or sealed, because of this.
    pub(super) ended: Option<End>,
    /// True exactly when the peer has said close_notify.
    pub(super) peer_closed: bool,
    /// True exactly when we have said close_notify.
    pub(super) we_closed: bool,
    /// True exactly when we have asked the peer for a key update that has not come yet.
    pub(super) asked: bool,
    pub(super) resumed: bool,
}

/// What only few sessions have.
#[derive(Debug)]
pub enum Extra {
    /// SHA-256 of the SPKI of the client's certificate.
    Identity([u8; 32]),
    /// A client that still waits for its first ticket.
    Collector(Box<Collector>),
}

/// Where in the peer's handshake messages a record has ended: they may be cut anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inside {
    /// Between them.
    Nothing,
    /// In the first bytes of one, or before the last byte of a KeyUpdate.
    Head {
        /// The bytes.
        bytes: [u8; 4],
        /// How many are there: at least one.
        len: u8,
    },
    /// In a NewSessionTicket, of which so many bytes are still to come.
    Ticket(u32),
}

// A million of them: two secrets of 48 bytes, two keys of 32, two IVs of 12, two counters of 8 are 200. 224 is a size that the
// allocator has; the next is 256.
const _: () = assert!(std::mem::size_of::<Session>() <= 224);

impl Session {
    /// From what the handshake came to.
    pub(super) fn new(
        role: Role,
        extracted: &rustls::ExtractedSecrets,
        secrets: &Secrets,
        resumed: bool,
        extra: Option<Box<Extra>>,
    ) -> Option<Box<Session>> {
        let (ours, theirs) = match role {
            Role::Initiator => (&secrets.client, &secrets.server),
            Role::Responder => (&secrets.server, &secrets.client),
        };
        let (suite, tx) = Keys::extracted(extracted.tx.0, &extracted.tx.1, ours)?;
        let (_, rx) = Keys::extracted(extracted.rx.0, &extracted.rx.1, theirs)?;
        Some(Session::open_with(role, suite, rx, tx, resumed, extra))
    }

    /// A session without a handshake, from the traffic secrets of both sides (as a key log has them), nothing sealed yet under either.
    /// For simulations and tests, which need the same bytes every time. Nothing when a secret is not as long as the suite's hash.
    pub fn from_secrets(role: Role, suite: Suite, client: &[u8], server: &[u8]) -> Option<Box<Session>> {
        let (ours, theirs) = match role {
            Role::Initiator => (client, server),
            Role::Responder => (server, client),
        };
        let keys = |secret: &[u8]| Keys::derived(suite, secret).ok();
        Some(Session::open_with(role, suite, keys(theirs)?, keys(ours)?, false, None))
    }

    fn open_with(
        role: Role,
        suite: Suite,
        rx: Keys,
        tx: Keys,
        resumed: bool,
        extra: Option<Box<Extra>>,
    ) -> Box<Session> {
        Box::new(Session {
            rx,
            tx,
            extra,
            inside: Inside::Nothing,
            fruitless: 0,
            suite,
            role,
            ended: None,
            peer_closed: false,
            we_closed: false,
            asked: false,
            resumed,
        })
    }

    /// Seals `plain` into as few records as possible, appended to `out`. After [`Session::close`] or an error nothing is appended.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if self.is_silent() || plain.is_empty() {
            return;
        }
        let before = out.len();
        out.reserve(Self::sealed_len(plain.len()));
        if self.seal_all(plain, out).is_err() {
            out.truncate(before);
            self.ended = Some(End::TlsLimit);
        }
    }

    /// Bytes that [`Session::seal`] appends at most for so many bytes of plaintext: a key update may come first.
    pub const fn sealed_len(plain: usize) -> usize {
        plain + plain.div_ceil(MAX_PLAIN) * EXPANSION + KEY_UPDATE + EXPANSION
    }

    /// Says that we send no more: close_notify, once. Opening goes on.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if !self.is_silent() {
            self.alert(alert::CLOSE_NOTIFY, out);
            self.we_closed = true;
        }
    }

    /// SHA-256 of the public key (SPKI) of the client's certificate, when it has shown one (server side only).
    pub fn identity(&self) -> Option<&[u8; 32]> {
        match self.extra.as_deref() {
            Some(Extra::Identity(identity)) => Some(identity),
            _ => None,
        }
    }

    /// True exactly when the session was resumed by a ticket.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// The cipher suite.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Replaces our key: the peer is told by KeyUpdate(update_not_requested). For tests and rigs; limits do it by themselves.
    pub fn refresh(&mut self, out: &mut Vec<u8>) {
        self.update_tx(false, out);
    }

    /// Replaces our key and asks the peer to do likewise. For tests and rigs; limits do it by themselves.
    pub fn refresh_both(&mut self, out: &mut Vec<u8>) {
        self.update_tx(true, out);
    }

    /// Seals one record of any content type, `inner` at most 2^14 + 1 bytes with whatever padding: what a peer that means no good would send.
    /// For rigs and tests. A KeyUpdate sent by this leaves our key as it is.
    pub fn seal_raw(&mut self, content: u8, inner: &[u8], out: &mut Vec<u8>) {
        let before = out.len();
        let sealed =
            self.tx.cipher(self.suite).and_then(|cipher| record(&mut self.tx, &cipher, content, inner, out));
        if sealed.is_err() {
            out.truncate(before);
        }
    }

    /// True exactly when nothing of ours may be sealed any more.
    fn is_silent(&self) -> bool {
        self.we_closed || self.ended.is_some()
    }

    /// Ends the session: the alert goes out, if there is one and we may still speak.
    pub(super) fn end(&mut self, violation: Violation, out: &mut Vec<u8>) -> End {
        if let Some(description) = violation.alert.filter(|_| !self.is_silent()) {
            self.alert(description, out);
        }
        self.ended = Some(violation.end);
        violation.end
    }

    /// KeyUpdate under the key that it replaces.
    pub(super) fn update_tx(&mut self, request: bool, out: &mut Vec<u8>) {
        if self.is_silent() {
            return;
        }
        let before = out.len();
        let done = self.tx.cipher(self.suite).and_then(|cipher| self.announce_update(&cipher, request, out));
        if done.is_err() {
            out.truncate(before);
            self.ended = Some(End::TlsLimit);
        }
    }

    fn seal_all(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Unspecified> {
        let mut cipher = self.tx.cipher(self.suite)?;
        for chunk in plain.chunks(MAX_PLAIN) {
            if self.tx.seq() >= self.suite.renew_after() - 1 {
                self.announce_update(&cipher, false, out)?;
                cipher = self.tx.cipher(self.suite)?;
            }
            record(&mut self.tx, &cipher, DATA, chunk, out)?;
        }
        Ok(())
    }

    fn announce_update(
        &mut self,
        cipher: &LessSafeKey,
        request: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Unspecified> {
        record(&mut self.tx, cipher, HANDSHAKE, &[24, 0, 0, 1, u8::from(request)], out)?;
        self.tx.update(self.suite)
    }

    fn alert(&mut self, description: u8, out: &mut Vec<u8>) {
        // The level says nothing in TLS 1.3; these are the values that RFC 8446, section 6, asks for.
        let level = if description == alert::CLOSE_NOTIFY { 1 } else { 2 };
        let before = out.len();
        let sealed = self
            .tx
            .cipher(self.suite)
            .and_then(|cipher| record(&mut self.tx, &cipher, ALERT, &[level, description], out));
        if sealed.is_err() {
            out.truncate(before);
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("suite", &self.suite)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// Seals one record.
pub(super) fn record(
    keys: &mut Keys,
    cipher: &LessSafeKey,
    content: u8,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Unspecified> {
    let [high, low] = u16::try_from(plain.len() + 1 + TAG).map_err(|_| Unspecified)?.to_be_bytes();
    let header = [DATA, 3, 3, high, low];
    out.extend_from_slice(&header);
    let start = out.len();
    out.extend_from_slice(plain);
    out.push(content);
    let tag = keys.seal(cipher, header, &mut out[start..])?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}
