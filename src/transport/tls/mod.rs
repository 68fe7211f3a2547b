//! TLS 1.3. rustls does the handshake; afterwards only keys, IVs and counters stay, and the record layer is ours.

use std::sync::Arc;

use super::{Opened, Shake};
use crate::base::End;

/// What all shards share: certificates, tickets, client authentication. Made anew by a reload.
#[derive(Debug)]
pub struct Server {}

/// One thread's way to accept.
#[derive(Debug)]
pub struct Acceptor {}

impl Acceptor {
    /// For one shard.
    pub fn new(_server: &Arc<Server>) -> Acceptor {
        Acceptor {}
    }

    /// A handshake with a client that has just come.
    pub fn begin(&self) -> Result<Box<Handshake>, End> {
        Err(End::TlsHandshake)
    }
}

/// What the first bytes of a connection say, looked at without any work: which of the two rates it counts for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// A ClientHello without a ticket.
    Full,
    /// A ClientHello that offers a ticket.
    Resuming,
    /// No ClientHello: to be given to the handshake all the same, which answers with the right alert.
    Other,
}

/// Looks at the first bytes of a connection.
pub fn peek(_bytes: &[u8]) -> Hello {
    Hello::Other
}

/// A handshake in progress.
#[derive(Debug)]
pub struct Handshake {}

impl Handshake {
    /// Takes what has come. `input` is all that has not been used yet.
    pub fn step(self: Box<Self>, _input: &mut [u8], _out: &mut Vec<u8>) -> Shake<Handshake, Session> {
        Shake::Failed(End::TlsHandshake)
    }

    /// True exactly when the ticket of an earlier session was taken (known once the handshake is complete).
    pub fn is_resumed(&self) -> bool {
        false
    }
}

/// An open session: keys, IVs and counters.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Opens the whole records at the front of `bytes`, in place.
    pub fn open(&mut self, _bytes: &mut [u8], _reply: &mut Vec<u8>) -> Result<Opened, End> {
        Err(End::TlsBadRecord)
    }

    /// Seals `plain` into as few records as possible, appended to `out`.
    pub fn seal(&mut self, _plain: &[u8], _out: &mut Vec<u8>) {}

    /// Bytes that [`Session::seal`] appends at most for so many bytes of plaintext.
    pub fn sealed_len(plain: usize) -> usize {
        plain
    }

    /// Says that we send no more.
    pub fn close(&mut self, _out: &mut Vec<u8>) {}

    /// SHA-256 of the public key (SPKI) of the client's certificate, when it has shown one.
    pub fn identity(&self) -> Option<&[u8; 32]> {
        None
    }

    /// True exactly when the session was resumed by a ticket.
    pub fn is_resumed(&self) -> bool {
        false
    }
}
