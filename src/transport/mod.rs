//! Stream bytes <-> wire bytes: plain (v1), BIP324 (v2) and TLS 1.3. Sans-IO: bytes in, bytes and values out.
//!
//! A connection is opened by a handshake ([`tls::Handshake`], [`v2::Handshake`]: large, short-lived) and becomes a session
//! ([`tls::Session`], [`v2::Session`]: keys and counters, small, kept as long as the client). A session opens records in
//! place and seals what is sent; it holds no buffer. [`Pipe`] is a whole connection with its buffers, for those who do not
//! count bytes: the hub's links, the stubs, tests.
//!
//! Rules of a session:
//! - What is sealed is sent in the order of sealing, whole; nothing is sealed that is not sent.
//! - What `open` appends to `reply` is sealed already: it is sent as it is, before anything that is sealed later.
//! - After an error nothing more is opened or sealed; `reply` then ends with the alert, if the protocol has one.
//!
//! ```text
//!   tls/     certificates and tickets, handshake (rustls), record layer (ours)
//!   v2/      handshake, packets
//!   channel  what a shard keeps of a client's transport
//!   pipe     any of them, with buffers
//! ```
//! Knows no client and no message beyond the frame; limits and timeouts of handshakes are the shard's.

mod channel;
mod pipe;
pub mod tls;
pub mod v2;

pub use channel::Channel;
pub use pipe::Pipe;

use crate::base::End;

/// Which side of the connection we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We connected (TLS client, BIP324 initiator).
    Initiator,
    /// We accepted (TLS server, BIP324 responder).
    Responder,
}

/// The transports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// v1, no encryption.
    Plain,
    /// BIP324.
    V2,
    /// TLS 1.3.
    Tls,
}

impl Kind {
    /// The name in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::V2 => "v2",
            Kind::Tls => "tls",
        }
    }
}

/// What `open` did with the bytes given to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Plaintext is at the front of the bytes, this many: the contents of all records opened, joined.
    pub plain: usize,
    /// Bytes that belonged to whole records. What stands behind them is the beginning of a record: to be given again with more.
    pub used: usize,
    /// Bytes that the record behind `used` has in all, as far as its beginning says; at least one more than are there.
    pub need: usize,
    /// True exactly when the peer has said that it sends no more (close_notify). What stands behind is not to be read.
    pub closed: bool,
}

/// What a handshake came to with the bytes given to it. Bytes to be sent have been appended to `out` in every case.
#[derive(Debug)]
pub enum Shake<H, S> {
    /// It goes on; so many bytes were used, the rest has to be given again with more.
    More {
        /// The handshake.
        handshake: Box<H>,
        /// Bytes used.
        used: usize,
    },
    /// It is complete. The bytes behind `used` are the session's.
    Done {
        /// The session.
        session: Box<S>,
        /// Bytes used.
        used: usize,
    },
    /// It failed; `out` ends with the alert, if there is one to be sent.
    Failed(End),
}
