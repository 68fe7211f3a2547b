//! The application traffic secrets of a handshake, taken where rustls would log them.
//!
//! A key update derives the next secret from the last (RFC 8446, section 7.2). rustls keeps the secrets inside its
//! `KernelConnection`, which costs 560 bytes and 262 of heap a client; taken here they are 2 x 48 bytes, and the
//! rest of rustls is dropped. rustls calls the key log on the thread that steps the handshake, so the place they pass through
//! is that thread's own: no lock, and no two handshakes can mix, because it is emptied around every step.

use std::cell::Cell;

use rustls::KeyLog;
use zeroize::Zeroize;

use super::suite::SECRET_LEN;

const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";

/// The first application traffic secrets of both sides, padded with zeros.
pub struct Secrets {
    /// What the client seals with.
    pub client: [u8; SECRET_LEN],
    /// What the server seals with.
    pub server: [u8; SECRET_LEN],
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.client.zeroize();
        self.server.zeroize();
    }
}

thread_local! {
    static CLIENTS: Cell<Option<[u8; SECRET_LEN]>> = const { Cell::new(None) };
    static SERVERS: Cell<Option<[u8; SECRET_LEN]>> = const { Cell::new(None) };
}

/// Runs one step of a handshake; gives the secrets if the step has come to them.
pub fn captured<T>(step: impl FnOnce() -> T) -> (T, Option<Secrets>) {
    CLIENTS.take();
    SERVERS.take();
    let outcome = step();
    let secrets = match (CLIENTS.take(), SERVERS.take()) {
        (Some(client), Some(server)) => Some(Secrets { client, server }),
        _ => None,
    };
    (outcome, secrets)
}

/// What rustls believes to be a log.
#[derive(Debug)]
pub struct Capture;

impl KeyLog for Capture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let mut padded = [0; SECRET_LEN];
        let Some(front) = padded.get_mut(..secret.len()) else { return };
        front.copy_from_slice(secret);
        match label {
            CLIENT => CLIENTS.set(Some(padded)),
            SERVER => SERVERS.set(Some(padded)),
            _ => {}
        }
        padded.zeroize();
    }

    fn will_log(&self, label: &str) -> bool {
        label == CLIENT || label == SERVER
    }
}
