//! Real TLS clients that others wrote, each a full P2P client of the relay's TLS listener.
//!
//!     scene     stub node, relay with a TLS listener, certificates
//!     papers    an authority, certificates, ticket keys: files as an operator would have them
//!     tunnel    a program that speaks TLS becomes a stream for the tests' P2P client
//!     life      what is done through every client: handshake, ping, headers, blocks, an announcement
//!     openssl   `openssl s_client`
//!     gnutls    `gnutls-cli`
//!     python    Python's ssl module
//!     native    the crate rustls, by its ordinary API
//!     operator  restarts, reloads, fleets, client certificates
//!     suites    conformance: our own on tlslite-ng, and tlsfuzzer when TLSFUZZER names a checkout
//!
//! The tests themselves are in tests/real_tls.rs: one line each.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod gnutls;
pub mod life;
pub mod native;
pub mod openssl;
pub mod operator;
pub mod papers;
pub mod python;
pub mod scene;
pub mod suites;
pub mod tunnel;
