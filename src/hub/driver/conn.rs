//! A connection to a node: socket, transport, and the two tasks that read and write.
//!
//! Knows how long nothing: the driver's clock says when a handshake has taken too long. Bounds: see `driver`.

use std::cell::Cell;
use std::net::Shutdown;
use std::rc::Rc;

use bytes::Bytes;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio_uring::net::TcpStream;

use super::{Event, READ_BYTES, SENDS};
use crate::base::End;
use crate::base::limits::NODE_SEND_QUEUE;
use crate::hub::LinkId;
use crate::transport::{Kind, Pipe};
use crate::wire::Magic;

/// A connection to a node.
pub(super) struct Conn {
    stream: Rc<TcpStream>,
    send: mpsc::Sender<Bytes>,
    /// Bytes given to the writer and not yet sent, at most `NODE_SEND_QUEUE`.
    queued: Rc<Cell<usize>>,
    pipe: Pipe,
}

/// The node takes nothing of what is sent.
pub(super) struct Stuck;

impl Conn {
    /// Begins to read and write; in BIP324 our key goes out. `rng`: a CSPRNG.
    pub(super) fn open(
        link: LinkId,
        stream: TcpStream,
        v2: bool,
        magic: Magic,
        rng: &mut StdRng,
        events: mpsc::Sender<Event>,
    ) -> Conn {
        let (send, outgoing) = mpsc::channel(SENDS);
        let (stream, queued) = (Rc::new(stream), Rc::new(Cell::new(0)));
        tokio_uring::spawn(read(link, stream.clone(), events));
        tokio_uring::spawn(write(stream.clone(), outgoing, queued.clone()));
        let mut key = Vec::new();
        let pipe = if v2 { Pipe::v2(magic, rng, &mut key) } else { Pipe::plain(magic) };
        let conn = Conn { stream, send, queued, pipe };
        // The first bytes find room in an empty queue.
        let _ = conn.queue(key.into());
        conn
    }

    /// True exactly when messages can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_open()
    }

    /// True exactly when the node has not answered a key exchange.
    pub(super) fn awaits_key(&self) -> bool {
        self.pipe.awaits_key()
    }

    /// The session id of BIP324, when that is spoken.
    pub(super) fn session_id(&self) -> Option<[u8; 32]> {
        self.pipe.session_id().copied()
    }

    /// What bytes of the node open to.
    pub(super) fn received(&mut self, mut data: Vec<u8>) -> (Vec<u8>, Result<(), End>) {
        if self.pipe.is_open() && self.pipe.kind() == Kind::Plain {
            return (data, Ok(()));
        }
        let (mut plain, mut out) = (Vec::with_capacity(data.len()), Vec::new());
        let result = self.pipe.received(&mut data, &mut plain, &mut out);
        let result = result.and(self.queue(out.into()).map_err(|Stuck| End::Stalled));
        (plain, result)
    }

    /// Sends v1 frames, sealed if the transport does.
    pub(super) fn send(&mut self, frames: Bytes) -> Result<(), Stuck> {
        if self.pipe.is_open() && self.pipe.kind() == Kind::Plain {
            return self.queue(frames);
        }
        let mut out = Vec::new();
        self.pipe.send(&frames, &mut out);
        self.queue(out.into())
    }

    fn queue(&self, bytes: Bytes) -> Result<(), Stuck> {
        if bytes.is_empty() {
            return Ok(());
        }
        let queued = self.queued.get() + bytes.len();
        self.queued.set(queued);
        match queued > NODE_SEND_QUEUE || self.send.try_send(bytes).is_err() {
            true => Err(Stuck),
            false => Ok(()),
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // The reader ends with this; an error means that it has ended already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

async fn read(link: LinkId, stream: Rc<TcpStream>, events: mpsc::Sender<Event>) {
    let end = loop {
        let (result, mut data) = stream.read(Vec::with_capacity(READ_BYTES)).await;
        match result {
            Ok(0) => break None,
            Ok(n) => {
                data.truncate(n);
                if events.send(Event::Bytes(link, data)).await.is_err() {
                    return;
                }
            }
            Err(error) => break Some(error.to_string()),
        }
    };
    let _ = events.send(Event::Closed(link, end)).await;
}

async fn write(stream: Rc<TcpStream>, mut outgoing: mpsc::Receiver<Bytes>, queued: Rc<Cell<usize>>) {
    while let Some(bytes) = outgoing.recv().await {
        let len = bytes.len();
        let (result, _) = stream.write_all(Vec::from(bytes)).await;
        queued.set(queued.get().saturating_sub(len));
        if result.is_err() {
            // The reader sees it, too, and says why.
            return;
        }
    }
}
