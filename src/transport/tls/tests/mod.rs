//! The room against rustls as the other side, and against itself.

mod auth;
mod handshake;
mod peers;
mod records;
mod support;
mod tickets;
