//! From the first byte to the version packet.
//!
//! The responder does no work before all 64 bytes of the initiator's key are here, and then says all it has to say at once:
//! key, garbage, terminator, version packet. The initiator sends key and garbage, waits for the other key, and sends the rest.
//!
//! Invariants: garbage is searched once, however it comes in parts; it stays in the caller's buffer, because it is
//! authenticated by the packet behind it; no more than [`MAX_BYTES`] bytes are ever waited for. Decoys before the
//! version packet are not counted: the time for a handshake bounds them.

use rand::RngCore;

use super::keys::Pair;
use super::session::Session;
use super::{EXPANSION, KEY, MAX_GARBAGE, TERMINATOR};
use crate::base::End;
use crate::transport::{Role, Shake};
use crate::wire::Magic;

/// Most garbage that we send. Garbage hides how a handshake looks from those who watch for lengths. A relay is known by its
/// address, so what matters is that peers meet some, in a length that changes; with 2 KB, Bitcoin Core's mean, a million
/// clients that come back at once would be sent 2 GB of it.
const OUR_GARBAGE: usize = 63;
/// Most bytes of a packet's contents before the session is open. Version packets are empty today and decoys are rare; more
/// would have to be gathered for somebody of whom nothing is known.
const MAX_CONTENTS: usize = 4_095;

/// Bytes of input that may have to be gathered at most: garbage, and the packet that authenticates it.
pub const MAX_BYTES: usize = MAX_GARBAGE + TERMINATOR + EXPANSION + MAX_CONTENTS;

/// A handshake in progress.
pub struct Handshake {
    role: Role,
    magic: Magic,
    pair: Pair,
    /// Our public key, once it has been made.
    public: [u8; KEY],
    garbage: [u8; OUR_GARBAGE],
    garbage_len: usize,
    /// What their garbage ends with.
    terminator: [u8; TERMINATOR],
    awaits: Await,
    /// From the key on.
    session: Option<Box<Session>>,
}

/// What has to come next.
#[derive(Clone, Copy)]
enum Await {
    Key,
    /// Before this offset there is no terminator.
    Terminator(usize),
    /// The packet that authenticates so many bytes of garbage.
    First(usize),
    Version,
}

impl Handshake {
    /// Begins; `out` gets our key (initiator at once, responder with the first step).
    pub fn new(role: Role, magic: Magic, rng: &mut dyn RngCore, out: &mut Vec<u8>) -> Box<Handshake> {
        let (mut secret, mut encoding, mut garbage) = ([0; 32], [0; 32], [0; OUR_GARBAGE]);
        rng.fill_bytes(&mut secret);
        rng.fill_bytes(&mut encoding);
        rng.fill_bytes(&mut garbage);
        let garbage_len = rng.next_u32() as usize % (OUR_GARBAGE + 1);
        let mut handshake = Box::new(Handshake {
            role,
            magic,
            pair: Pair::new(secret, encoding),
            public: [0; KEY],
            garbage,
            garbage_len,
            terminator: [0; TERMINATOR],
            awaits: Await::Key,
            session: None,
        });
        if role == Role::Initiator {
            handshake.say_key(out);
        }
        handshake
    }

    /// True exactly when the other side's key has not come.
    pub fn awaits_key(&self) -> bool {
        matches!(self.awaits, Await::Key)
    }

    /// Takes what has come. `input` is all that has not been used yet.
    pub fn step(mut self: Box<Self>, input: &mut [u8], out: &mut Vec<u8>) -> Shake<Handshake, Session> {
        match self.advance(input, out) {
            Err(end) => Shake::Failed(end),
            Ok((used, false)) => Shake::More { handshake: self, used },
            Ok((used, true)) => match self.session.take() {
                Some(session) => Shake::Done { session, used },
                None => Shake::Failed(End::V2Garbage),
            },
        }
    }

    /// Bytes used, and whether the version packet was among them.
    fn advance(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<(usize, bool), End> {
        let mut used = 0;
        // A step of this loop uses bytes, changes what is awaited, or leaves it.
        loop {
            let rest = &mut input[used..];
            match self.awaits {
                Await::Key => {
                    let Some(theirs) = rest.first_chunk::<KEY>() else { return Ok((used, false)) };
                    self.exchange(*theirs, out)?;
                    used += KEY;
                    self.awaits = Await::Terminator(0);
                }
                Await::Terminator(from) => match self.find_terminator(from, rest)? {
                    Ok(garbage) => self.awaits = Await::First(garbage),
                    Err(searched) => {
                        self.awaits = Await::Terminator(searched);
                        return Ok((used, false));
                    }
                },
                Await::First(garbage) => {
                    let (garbage, packets) = rest.split_at_mut(garbage + TERMINATOR);
                    let aad = &garbage[..garbage.len() - TERMINATOR];
                    let Some((total, is_version)) = self.open(aad, packets)? else {
                        return Ok((used, false));
                    };
                    used += garbage.len() + total;
                    self.awaits = Await::Version;
                    if is_version {
                        return Ok((used, true));
                    }
                }
                Await::Version => {
                    let Some((total, is_version)) = self.open(&[], rest)? else { return Ok((used, false)) };
                    used += total;
                    if is_version {
                        return Ok((used, true));
                    }
                }
            }
        }
    }

    /// Our key and garbage.
    fn say_key(&mut self, out: &mut Vec<u8>) {
        // `None` never happens: `Pair::new` has seen to the key.
        if let Some(public) = self.pair.public() {
            self.public = public;
            out.extend_from_slice(&public);
            out.extend_from_slice(&self.garbage[..self.garbage_len]);
        }
    }

    /// Their key is here: the session begins, our version packet goes out.
    fn exchange(&mut self, theirs: [u8; KEY], out: &mut Vec<u8>) -> Result<(), End> {
        if self.role == Role::Responder {
            self.say_key(out);
        }
        let keys = self.pair.exchange(self.role, self.magic, self.public, theirs).ok_or(End::V2Garbage)?;
        self.terminator = keys.recv_terminator;
        out.extend_from_slice(&keys.send_terminator);
        let mut session = Box::new(Session::new(keys));
        session.seal_packet(&mut None, &self.garbage[..self.garbage_len], 0, &[], out);
        self.session = Some(session);
        Ok(())
    }

    /// Bytes of garbage before the terminator, or the offset before which there is none.
    fn find_terminator(&self, from: usize, rest: &[u8]) -> Result<Result<usize, usize>, End> {
        let most = rest.len().min(MAX_GARBAGE + TERMINATOR);
        let found = rest[from..most].windows(TERMINATOR).position(|window| *window == self.terminator);
        match found {
            Some(at) => Ok(Ok(from + at)),
            None if most == MAX_GARBAGE + TERMINATOR => Err(End::V2Garbage),
            None => Ok(Err(from.max((most + 1).saturating_sub(TERMINATOR)))),
        }
    }

    /// The packet at the front: its bytes, and whether it is the version packet, whose contents say nothing yet (BIP324).
    fn open(&mut self, aad: &[u8], packets: &mut [u8]) -> Result<Option<(usize, bool)>, End> {
        let session = self.session.as_mut().ok_or(End::V2Garbage)?;
        let packet = session.open_packet(&mut None, aad, MAX_CONTENTS, packets)?;
        Ok(packet.map(|packet| (packet.total, !packet.is_decoy)))
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys are nobody's business.
        f.debug_struct("Handshake").field("role", &self.role).finish_non_exhaustive()
    }
}
