//! The ring against the real kernel: loopback sockets, real files, a real seccomp filter.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]

mod accept;
mod bind;
mod receive;
mod rig;
mod send;
mod setup;
mod wake;
