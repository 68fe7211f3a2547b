//! TLS 1.3. rustls does the handshake; afterwards only keys, IVs and counters stay, and the record layer is ours.
//!
//! ```text
//!   setup      files to certificates, keys, secrets      names    certificates by server name
//!   server     what shards share; one shard's acceptor   tickets  their keys, and when they change
//!   client     the other side, for rigs and tests        trust    which server it believes
//!   peek       what is coming, before any work           handshake, secrets   until keys are there
//!   session    keys and counters; sealing                suite, open, alert   opening
//! ```
//! Only TLS 1.3 (RFC 8446): an older client gets the alert protocol_version. 0-RTT is off: see [`Setup`]. kTLS is not used: the
//! host may lack it, and what is sealed here is sent by the same io_uring as what is plain.
//!
//! Invariants:
//! - One session belongs to one thread; nothing in it is shared.
//! - A key seals at most 2^24 records, then it is replaced; the peer's must be replaced before 2^24.5 (AES-GCM).
//! - Nothing is sealed after close_notify or an error.

#![forbid(unsafe_code)]

mod alert;
mod client;
mod handshake;
mod names;
mod open;
mod peek;
mod secrets;
mod server;
mod session;
mod setup;
mod suite;
mod tickets;
mod trust;

pub use client::{Client, ClientSetup, Trust};
pub use handshake::{Handshake, MAX_BYTES as MAX_HANDSHAKE_BYTES};
pub use peek::{Hello, peek};
pub use server::{ALPN, Acceptor, Server};
pub use session::Session;
pub use setup::{Certificate, ClientAuth, Pem, Setup, SetupError};
pub use suite::Suite;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.
mod tests;
