//! The room against rustls as the other side, and against itself.

mod handshake;
mod support;
