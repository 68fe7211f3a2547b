//! BIP324: opportunistic encryption between Bitcoin nodes.

use rand::RngCore;

use super::{Opened, Role, Shake};
use crate::base::End;
use crate::wire::Magic;

/// What the first bytes of an accepted connection are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    /// All bytes so far could begin a v1 `version` message.
    Incomplete,
    /// A v1 `version` message begins here.
    V1,
    /// A v1 `version` message of another network.
    OtherNetwork,
    /// A key exchange of BIP324.
    V2,
}

/// Tells v1 from v2 by the first 16 bytes (BIP324).
pub fn first(_magic: Magic, _bytes: &[u8]) -> First {
    First::V1
}

/// A handshake in progress.
#[derive(Debug)]
pub struct Handshake {}

impl Handshake {
    /// Begins; `out` gets our key (initiator at once, responder with the first step).
    pub fn new(_role: Role, _magic: Magic, _rng: &mut dyn RngCore, _out: &mut Vec<u8>) -> Box<Handshake> {
        Box::new(Handshake {})
    }

    /// Takes what has come. `input` is all that has not been used yet.
    pub fn step(self: Box<Self>, _input: &mut [u8], _out: &mut Vec<u8>) -> Shake<Handshake, Session> {
        Shake::Failed(End::V2Garbage)
    }
}

/// An open session.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Opens the whole packets at the front of `bytes`, in place: the plaintext is [`crate::wire::Framing::V2`], decoys left out.
    pub fn open(&mut self, _bytes: &mut [u8]) -> Result<Opened, End> {
        Err(End::V2BadPacket)
    }

    /// Seals v1 frames, which may be cut anywhere: what a frame lacks comes with the next call.
    pub fn seal(&mut self, _frames: &[u8], _out: &mut Vec<u8>) {}

    /// Bytes that [`Session::seal`] appends at most for so many bytes of frames.
    pub fn sealed_len(frames: usize) -> usize {
        frames
    }

    /// The session id (BIP324), for people to compare.
    pub fn id(&self) -> &[u8; 32] {
        &[0; 32]
    }
}
