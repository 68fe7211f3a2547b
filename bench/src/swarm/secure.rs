//! TLS between a client of the swarm and its socket.

use std::sync::Arc;

use breakwater::base::End;
use breakwater::transport::Shake;
use breakwater::transport::tls::{self, Handshake, Session};

/// How the clients of a swarm come by TLS.
#[derive(Clone, Debug)]
pub struct Secure {
    /// Whom they trust, and the tickets they have.
    pub client: Arc<tls::Client>,
    /// True exactly when they offer a ticket, if there is one.
    pub resume: bool,
    /// When their handshake begins.
    pub begin: Begin,
}

/// When the handshake begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// Once the connection stands.
    AtOnce,
    /// When the server has said one line in the clear, as nats-server does.
    BehindLine,
}

/// One connection's TLS, with the beginning of a record.
#[derive(Debug)]
pub(super) struct Channel {
    state: State,
    input: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// The server's line is awaited.
    Line,
    Shaking(Box<Handshake>),
    Open(Box<Session>),
    /// Nothing is read or said any more.
    Over,
}

impl Channel {
    /// A connection that stands now; what it says first is appended to `out`.
    pub(super) fn begin(secure: &Secure, out: &mut Vec<u8>) -> Result<Channel, End> {
        let state = match secure.begin {
            Begin::AtOnce => State::Shaking(secure.client.begin(secure.resume, out)?),
            Begin::BehindLine => State::Line,
        };
        Ok(Channel { state, input: Vec::new() })
    }

    /// Takes what has come: what it opens to is appended to `plain`, what has to be sent to `out`. `Some` exactly when the
    /// handshake has been completed by these bytes: whether it was a resumed one.
    pub(super) fn received(
        &mut self,
        secure: &Secure,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Option<bool>, End> {
        self.input.extend_from_slice(bytes);
        if let State::Line = self.state {
            let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
            self.input.drain(..=end);
            self.state = State::Shaking(secure.client.begin(secure.resume, out)?);
        }
        let mut opened = None;
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Shaking(handshake) => {
                let (state, used) = match handshake.step(&mut self.input, out) {
                    Shake::More { handshake, used } => (State::Shaking(handshake), used),
                    Shake::Done { session, used } => {
                        opened = Some(session.is_resumed());
                        (State::Open(session), used)
                    }
                    Shake::Failed(end) => return Err(end),
                };
                self.input.drain(..used);
                state
            }
            state => state,
        };
        if let State::Open(session) = &mut self.state {
            let got = session.open(&mut self.input, out)?;
            plain.extend_from_slice(self.input.get(..got.plain).unwrap_or(&[]));
            self.input.drain(..got.used);
            if got.closed {
                return Err(End::Closed);
            }
        }
        if self.input.is_empty() {
            // An idle client keeps no buffer.
            self.input = Vec::new();
        }
        Ok(opened)
    }

    /// Seals what is to be sent; nothing before the handshake is complete.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if let State::Open(session) = &mut self.state {
            session.seal(plain, out);
        }
    }
}
