//! Which transport a stub's client speaks, and the transport of a connection that is read and written by two halves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::Notify;

use crate::base::End;
use crate::transport::{Kind, Pipe, tls};
use crate::wire::Magic;

/// What a client speaks.
#[derive(Clone, Debug)]
pub enum Transport {
    /// v1.
    Plain,
    /// BIP324.
    V2,
    /// v1 inside TLS. A ticket of an earlier connection is used when there is one.
    Tls(Arc<tls::Client>),
}

impl Transport {
    /// A new connection's pipe; `out` gets what is to be sent first.
    ///
    /// # Errors
    /// The TLS client cannot begin.
    pub fn connect(&self, magic: Magic, out: &mut Vec<u8>) -> Result<Pipe, End> {
        Ok(match self {
            Transport::Plain => Pipe::plain(magic),
            Transport::V2 => Pipe::v2(magic, &mut StdRng::from_os_rng(), out),
            Transport::Tls(client) => Pipe::tls(magic, client.begin(true, out)?),
        })
    }

    /// The transport's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Transport::Plain => Kind::Plain,
            Transport::V2 => Kind::V2,
            Transport::Tls(_) => Kind::Tls,
        }
    }
}

/// A pipe between a half that reads and a half that writes.
#[derive(Debug)]
pub(super) struct Shared {
    wire: Mutex<Wire>,
    /// There is something to be sent.
    spoken: Notify,
}

#[derive(Debug)]
struct Wire {
    pipe: Pipe,
    /// What is to be sent, in the order of sealing.
    out: Vec<u8>,
}

impl Shared {
    /// For a connection that was accepted: v1 or v2, as it begins.
    pub(super) fn accept(magic: Magic) -> Shared {
        let pipe = Pipe::accept(magic, &mut StdRng::from_os_rng());
        Shared { wire: Mutex::new(Wire { pipe, out: Vec::new() }), spoken: Notify::new() }
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What bytes of the socket say, as v1 frames.
    pub(super) fn received(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, End> {
        let mut wire = self.wire();
        let Wire { pipe, out } = &mut *wire;
        if pipe.is_open() && pipe.kind() == Kind::Plain {
            return Ok(bytes);
        }
        let mut frames = Vec::new();
        pipe.received_v1(&mut bytes, &mut frames, out)?;
        if !out.is_empty() {
            self.spoken.notify_one();
        }
        Ok(frames)
    }

    /// True exactly when frames can be sent as they are.
    pub(super) fn is_plain(&self) -> bool {
        let wire = self.wire();
        wire.pipe.is_open() && wire.pipe.kind() == Kind::Plain && wire.out.is_empty()
    }

    /// Frames to be sent; returns the bytes for the socket, with what had to be sent before them.
    pub(super) fn send(&self, frames: &[u8]) -> Vec<u8> {
        let mut wire = self.wire();
        let Wire { pipe, out } = &mut *wire;
        pipe.send(frames, out);
        std::mem::take(out)
    }

    /// Waits until the transport itself has something to send.
    pub(super) async fn speaks(&self) {
        self.spoken.notified().await;
    }
}
