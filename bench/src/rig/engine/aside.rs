//! What a slot keeps beside its client: the beginning of a message, and the transport. An idle plain client has none.
//!
//! Incoming bytes are opened in place in the receive buffer; what is left over (the beginning of a record, and of a message
//! in front of it) waits here until more has come.

use breakwater::base::End;
use breakwater::transport::{Opened, tls, v2};
use breakwater::wire::{Framing, Magic};

/// Where the transport of a slot stands.
#[derive(Debug)]
pub(super) enum Crypt {
    /// Bytes as they are.
    Plain,
    /// The handshake of TLS has not begun.
    TlsBegins,
    /// It goes on.
    TlsShakes(Box<tls::Handshake>),
    /// TLS is open.
    Tls(Box<tls::Session>),
    /// The handshake of BIP324 has not begun.
    V2Begins,
    /// It goes on.
    V2Shakes(Box<v2::Handshake>),
    /// BIP324 is open.
    V2(Box<v2::Session>),
}

impl Crypt {
    /// True exactly when its handshake has neither been completed nor failed.
    pub(super) fn is_shaking(&self) -> bool {
        !matches!(self, Crypt::Plain | Crypt::Tls(_) | Crypt::V2(_))
    }

    /// How messages stand in what it opens.
    pub(super) fn framing(&self, magic: Magic) -> Framing {
        match self {
            Crypt::V2(_) => Framing::V2,
            _ => Framing::V1(magic),
        }
    }

    /// Opens the whole records at the front of `bytes`, in place; answers go to `reply`, as they are to be sent.
    pub(super) fn open(&mut self, bytes: &mut [u8], reply: &mut Vec<u8>) -> Result<Opened, End> {
        match self {
            Crypt::Tls(session) => session.open(bytes, reply),
            Crypt::V2(session) => session.open(bytes),
            _ => Ok(Opened { plain: bytes.len(), used: bytes.len(), need: 0, closed: false }),
        }
    }

    /// Seals messages, appended to `wire`.
    pub(super) fn seal(&mut self, messages: &[u8], wire: &mut Vec<u8>) {
        match self {
            Crypt::Tls(session) => session.seal(messages, wire),
            Crypt::V2(session) => session.seal(messages, wire),
            _ => wire.extend_from_slice(messages),
        }
    }

    /// What is said when we leave: close_notify; BIP324 has nothing like it.
    pub(super) fn farewell(&mut self, wire: &mut Vec<u8>) {
        if let Crypt::Tls(session) = self {
            session.close(wire);
        }
    }

    /// What a connection that the target ends now has come to.
    pub(super) fn when_closed(&self) -> &'static str {
        match self {
            Crypt::Tls(_) => "closed by the target without close_notify",
            Crypt::TlsBegins | Crypt::TlsShakes(_) => "closed by the target during the TLS handshake",
            Crypt::V2Begins | Crypt::V2Shakes(_) => "closed by the target during the BIP324 handshake",
            Crypt::Plain | Crypt::V2(_) => "closed by the target",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Aside {
    /// Opened bytes, `plain` of them, then bytes as they came.
    pub(super) input: Vec<u8>,
    pub(super) crypt: Crypt,
    plain: u32,
    /// True exactly when it is among those whose handshake is to go on.
    pub(super) is_queued: bool,
}

const _: () = assert!(size_of::<Aside>() <= 48);

impl Aside {
    pub(super) fn new(crypt: Crypt) -> Box<Aside> {
        Box::new(Aside { input: Vec::new(), crypt, plain: 0, is_queued: false })
    }

    /// True exactly when nothing need be kept.
    pub(super) fn is_idle(&self) -> bool {
        self.input.is_empty() && matches!(self.crypt, Crypt::Plain)
    }

    /// True exactly when what comes can be opened where it is: nothing waits in front of it, and there is no handshake.
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty() && !self.crypt.is_shaking()
    }

    /// Keeps what was not used: opened bytes, and the beginning of a record of `need` bytes; `message`: bytes of the message
    /// that the opened ones begin.
    pub(super) fn keep(&mut self, plain: &[u8], sealed: &[u8], message: usize, need: usize) {
        if plain.is_empty() && sealed.is_empty() {
            return;
        }
        let mut input = Vec::with_capacity(message.max(plain.len() + need.max(sealed.len())));
        input.extend_from_slice(plain);
        input.extend_from_slice(sealed);
        // Below the longest message and a buffer.
        self.plain = plain.len() as u32;
        self.input = input;
    }

    /// Opens what is whole.
    pub(super) fn open(&mut self, reply: &mut Vec<u8>) -> Result<Opened, End> {
        let before = self.plain as usize;
        let rest = self.input.get_mut(before..).unwrap_or(&mut []);
        let opened = self.crypt.open(rest, reply)?;
        self.input.drain(before + opened.plain..before + opened.used);
        self.plain += opened.plain as u32;
        let more = (opened.need + self.plain as usize).saturating_sub(self.input.len());
        if opened.need > 0 && self.input.len() > self.plain as usize {
            self.input.reserve_exact(more);
        }
        Ok(opened)
    }

    /// The opened bytes.
    pub(super) fn plain(&self) -> &[u8] {
        self.input.get(..self.plain as usize).unwrap_or(&[])
    }

    /// So many of the opened bytes have been used; the message at their front needs `message` bytes.
    pub(super) fn used(&mut self, used: usize, message: usize) {
        self.input.drain(..used.min(self.input.len()));
        self.plain = self.plain.saturating_sub(used as u32);
        if self.input.is_empty() {
            self.input = Vec::new();
        } else if used == 0 && message > self.input.len() {
            self.input.reserve_exact(message - self.input.len());
        }
    }
}
