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

#[cfg(test)]
mod tests {
    use breakwater::transport::{Role, Shake};
    use breakwater::wire::{Step, write};
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::MAGIC;
    use crate::rig::client::Client;

    /// What a step of a handshake came to.
    fn step(
        handshake: Box<v2::Handshake>,
        input: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Box<v2::Session>, Box<v2::Handshake>> {
        match handshake.step(input, out) {
            Shake::More { handshake, used } => {
                input.drain(..used);
                Err(handshake)
            }
            Shake::Done { session, used } => {
                input.drain(..used);
                Ok(session)
            }
            Shake::Failed(end) => panic!("{end}"),
        }
    }

    /// Both ends of BIP324: the one that seals, and an aside that opens.
    fn pair() -> (Box<v2::Session>, Box<Aside>) {
        let mut rng = SmallRng::seed_from_u64(1);
        let (mut to_us, mut to_them) = (Vec::new(), Vec::new());
        let mut us = Err(v2::Handshake::new(Role::Initiator, MAGIC, &mut rng, &mut to_them));
        let mut them = Err(v2::Handshake::new(Role::Responder, MAGIC, &mut rng, &mut to_us));
        for _ in 0..10 {
            them = them.or_else(|going| step(going, &mut to_them, &mut to_us));
            us = us.or_else(|going| step(going, &mut to_us, &mut to_them));
        }
        (them.ok().unwrap(), Aside::new(Crypt::V2(us.ok().unwrap())))
    }

    #[test]
    fn messages_come_whole_out_of_packets_in_any_parts() {
        let (mut them, mut aside) = pair();
        let (mut messages, mut wire) = (Vec::new(), Vec::new());
        for nonce in 0..300 {
            write::ping(&mut messages, MAGIC, nonce);
        }
        write::raw(&mut messages, MAGIC, "block", &[7; 100_000]);
        write::ping(&mut messages, MAGIC, 300);
        them.seal(&messages, &mut wire);
        let (mut heard, mut sizes) = (0, [1, 2, 19, 20, 64, 700, 30_000].into_iter().cycle());
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (part, more) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            rest = more;
            aside.input.extend_from_slice(part);
            aside.open(&mut Vec::new()).unwrap();
            let mut used = 0;
            while let Step::Message { used: length, .. } = Framing::V2.split(&aside.plain()[used..]) {
                (used, heard) = (used + length, heard + 1);
            }
            let needs = Client::needs(Framing::V2, aside.plain());
            aside.used(used, needs);
        }
        assert_eq!(heard, 302);
        assert!(aside.is_empty() && aside.input.capacity() == 0, "nothing is kept of what was read");
    }

    #[test]
    fn what_is_left_of_a_buffer_is_kept_in_front_of_what_comes() {
        let (mut them, mut aside) = pair();
        let (mut ping, mut wire) = (Vec::new(), Vec::new());
        write::ping(&mut ping, MAGIC, 9);
        them.seal(&ping, &mut wire);
        let (first, second) = wire.split_at(10);
        let mut buffer = first.to_vec();
        let opened = aside.crypt.open(&mut buffer, &mut Vec::new()).unwrap();
        aside.keep(&buffer[..opened.plain], &buffer[opened.used..], 0, opened.need);
        assert!(!aside.is_empty() && aside.input.capacity() >= wire.len(), "room for all of the packet");
        aside.input.extend_from_slice(second);
        aside.open(&mut Vec::new()).unwrap();
        assert!(matches!(Framing::V2.split(aside.plain()), Step::Message { .. }));
    }
}
