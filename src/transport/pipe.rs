//! A whole connection of any transport, with its buffers: for the hub's links, the stubs and the tests.
//!
//! Bytes of the socket in, wire bytes out, and back. It knows nothing of time: how long a handshake may take is the owner's.
//!
//! Bounds: what is sent before the handshake is complete waits, [`WAITING`] bytes at most; what has come and is not whole is
//! one handshake or one packet. After an error the pipe is over, and says so again.

use rand::RngCore;

use super::{Kind, Role, Shake, tls, v2};
use crate::base::End;
use crate::base::limits::{HEADER_LEN, MAX_MESSAGE};
use crate::wire::v2::to_v1;
use crate::wire::{Framing, Magic};

/// Most bytes of frames that wait for the handshake: one message of any length. One more ends the connection.
pub const WAITING: usize = HEADER_LEN + MAX_MESSAGE;

/// A connection's transport.
#[derive(Debug)]
pub struct Pipe {
    magic: Magic,
    state: State,
    /// What has come and could not be opened yet.
    rest: Vec<u8>,
    /// Frames that wait for the handshake.
    waiting: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Plain,
    /// We accepted: the first bytes tell v1 from v2.
    Telling(Box<v2::Handshake>),
    V2Handshake(Box<v2::Handshake>),
    V2(Box<v2::Session>),
    TlsHandshake(Box<tls::Handshake>),
    Tls(Box<tls::Session>),
    Over(End),
}

impl Pipe {
    fn new(magic: Magic, state: State) -> Pipe {
        Pipe { magic, state, rest: Vec::new(), waiting: Vec::new() }
    }

    /// No encryption.
    pub fn plain(magic: Magic) -> Pipe {
        Pipe::new(magic, State::Plain)
    }

    /// We have connected and speak BIP324: our key goes to `out`. `rng`: a CSPRNG.
    pub fn v2(magic: Magic, rng: &mut dyn RngCore, out: &mut Vec<u8>) -> Pipe {
        Pipe::new(magic, State::V2Handshake(v2::Handshake::new(Role::Initiator, magic, rng, out)))
    }

    /// We have accepted somebody who speaks v1 or v2. `rng`: a CSPRNG.
    pub fn accept(magic: Magic, rng: &mut dyn RngCore) -> Pipe {
        // A responder has nothing to say before it has heard something.
        let handshake = v2::Handshake::new(Role::Responder, magic, rng, &mut Vec::new());
        Pipe::new(magic, State::Telling(handshake))
    }

    /// TLS, by a handshake of [`tls::Client::begin`] or [`tls::Acceptor::begin`].
    pub fn tls(magic: Magic, handshake: Box<tls::Handshake>) -> Pipe {
        Pipe::new(magic, State::TlsHandshake(handshake))
    }

    /// How messages stand in what is opened; final once `is_open`.
    pub fn framing(&self) -> Framing {
        match self.kind() {
            Kind::V2 => Framing::V2,
            Kind::Plain | Kind::Tls => Framing::V1(self.magic),
        }
    }

    /// The transport; final once `is_open`.
    pub fn kind(&self) -> Kind {
        match self.state {
            State::Plain | State::Telling(_) | State::Over(_) => Kind::Plain,
            State::V2Handshake(_) | State::V2(_) => Kind::V2,
            State::TlsHandshake(_) | State::Tls(_) => Kind::Tls,
        }
    }

    /// True exactly when the handshake is complete and nothing has ended the connection.
    pub fn is_open(&self) -> bool {
        match &self.state {
            State::Plain | State::V2(_) | State::Tls(_) => true,
            State::Telling(_) | State::V2Handshake(_) | State::TlsHandshake(_) | State::Over(_) => false,
        }
    }

    /// Why it is over, if it is.
    pub fn end(&self) -> Option<End> {
        match self.state {
            State::Over(end) => Some(end),
            _ => None,
        }
    }

    /// The session id of BIP324, once it is open.
    pub fn session_id(&self) -> Option<&[u8; 32]> {
        match &self.state {
            State::V2(session) => Some(session.id()),
            _ => None,
        }
    }

    /// True exactly when we began a key exchange of BIP324 and the other side has not answered with its key: if it closes now,
    /// it may not know v2.
    pub fn awaits_key(&self) -> bool {
        matches!(&self.state, State::V2Handshake(handshake) if handshake.awaits_key())
    }

    /// Bytes of frames that wait for the handshake.
    pub fn bytes_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes have come from the socket: what they open to is appended to `plain`, what has to be sent to `out`.
    ///
    /// # Errors
    /// Why it is over; `Closed` when the peer has said that it sends no more. What came before has been appended all the same.
    pub fn received(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), End> {
        let result = match &mut self.state {
            State::Over(end) => return Err(*end),
            State::Plain => {
                plain.extend_from_slice(bytes);
                Ok(())
            }
            _ => self.open(bytes, plain, out),
        };
        if let Err(end) = result {
            self.over(end);
            return result;
        }
        if self.is_open() && !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            self.send(&waiting, out);
        }
        Ok(())
    }

    /// As `received`, for those who know only v1: what is opened is v1 frames whatever the transport (see [`to_v1`]).
    ///
    /// # Errors
    /// As `received`.
    pub fn received_v1(
        &mut self,
        bytes: &mut [u8],
        frames: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        if !matches!(self.state, State::V2(_) | State::V2Handshake(_) | State::Telling(_)) {
            return self.received(bytes, frames, out);
        }
        let mut plain = Vec::new();
        let result = self.received(bytes, &mut plain, out);
        match self.state {
            // It was v1 that the first bytes told.
            State::Plain => frames.append(&mut plain),
            // A session opens whole packets only, so nothing is left.
            _ => drop(to_v1(self.magic, &plain, frames)),
        }
        result
    }

    /// Frames to be sent, which may be cut anywhere. Before the handshake is complete they wait.
    pub fn send(&mut self, frames: &[u8], out: &mut Vec<u8>) {
        match &mut self.state {
            State::Plain => out.extend_from_slice(frames),
            State::V2(session) => session.seal(frames, out),
            State::Tls(session) => session.seal(frames, out),
            State::Over(_) => {}
            _ if self.waiting.len() + frames.len() > WAITING => self.over(End::NoBuffer),
            _ => self.waiting.extend_from_slice(frames),
        }
    }

    /// Says that we send no more, where the transport has a word for it.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if let State::Tls(session) = &mut self.state {
            session.close(out);
        }
        self.over(End::Closed);
    }

    fn over(&mut self, end: End) {
        self.state = State::Over(end);
        self.rest = Vec::new();
        self.waiting = Vec::new();
    }

    /// Opens what has come and keeps what is not whole.
    fn open(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), End> {
        if self.rest.is_empty() {
            let used = self.advance(bytes, plain, out)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let used = self.advance(&mut rest, plain, out)?;
        rest.drain(..used);
        if !rest.is_empty() {
            self.rest = rest;
        }
        Ok(())
    }

    /// Goes as far as the bytes carry. Returns how many were used.
    fn advance(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<usize, End> {
        let mut used = 0;
        // Each step completes a state or leaves the loop.
        loop {
            let rest = &mut bytes[used..];
            let state = std::mem::replace(&mut self.state, State::Over(End::Closed));
            let (state, step) = match state {
                State::Telling(handshake) => match v2::first(self.magic, rest) {
                    v2::First::Incomplete => (State::Telling(handshake), None),
                    v2::First::OtherNetwork => return Err(End::WrongMagic),
                    v2::First::V1 => (State::Plain, Some(0)),
                    v2::First::V2 => (State::V2Handshake(handshake), Some(0)),
                },
                State::V2Handshake(handshake) => match handshake.step(rest, out) {
                    Shake::Failed(end) => return Err(end),
                    Shake::Done { session, used } => (State::V2(session), Some(used)),
                    Shake::More { handshake, used: now } => {
                        used += now;
                        (State::V2Handshake(handshake), None)
                    }
                },
                State::TlsHandshake(handshake) => match handshake.step(rest, out) {
                    Shake::Failed(end) => return Err(end),
                    Shake::Done { session, used } => (State::Tls(session), Some(used)),
                    Shake::More { handshake, used: now } => {
                        used += now;
                        (State::TlsHandshake(handshake), None)
                    }
                },
                State::V2(mut session) => {
                    let opened = session.open(rest)?;
                    plain.extend_from_slice(&rest[..opened.plain]);
                    used += opened.used;
                    (State::V2(session), None)
                }
                State::Tls(mut session) => {
                    let opened = session.open(rest, out)?;
                    plain.extend_from_slice(&rest[..opened.plain]);
                    used += opened.used;
                    if opened.closed {
                        return Err(End::Closed);
                    }
                    (State::Tls(session), None)
                }
                State::Plain => {
                    plain.extend_from_slice(rest);
                    used += rest.len();
                    (State::Plain, None)
                }
                State::Over(end) => return Err(end),
            };
            self.state = state;
            match step {
                Some(now) => used += now,
                None => return Ok(used),
            }
        }
    }
}
