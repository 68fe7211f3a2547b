//! The tasks of a host: one accepts, one per connection reads and writes.
//!
//! They know nothing of the protocol beyond its transports: v1 frames in, whole messages out, and how many of them have left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use super::transport::Shared;
use crate::stub::PeerId;
use crate::wire::Magic;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Messages taken from the queue at a time.
const BATCH: usize = 256;
/// Smaller messages are gathered up to this, larger ones are written as they are.
const GATHER: usize = 32 * 1024;
/// A peer that takes no byte for so long is gone (Bitcoin Core TIMEOUT_INTERVAL).
const STALL: Duration = Duration::from_secs(20 * 60);
/// After a failed accept: others may give descriptors or memory back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections tell the host.
#[derive(Debug)]
pub(super) enum Event {
    /// Somebody has connected.
    Accepted(TcpStream, SocketAddr),
    /// Bytes have come.
    Received(PeerId, Vec<u8>),
    /// So many messages of so many bytes have been handed to the kernel.
    Sent { id: PeerId, messages: usize, bytes: usize },
    /// The connection is over. `stalled`: because the peer took nothing.
    Closed { id: PeerId, stalled: bool },
}

/// Whether a connection shall be read from.
#[derive(Debug, Default)]
pub(super) struct Flow {
    full: AtomicBool,
    room: Notify,
}

impl Flow {
    pub(super) fn set_full(&self, full: bool) {
        if self.full.swap(full, Ordering::AcqRel) && !full {
            self.room.notify_one();
        }
    }

    async fn wait(&self) {
        // A notification that came before is kept.
        while self.full.load(Ordering::Acquire) {
            self.room.notified().await;
        }
    }
}

pub(super) async fn accept(listener: TcpListener, events: mpsc::Sender<Event>) {
    loop {
        let Ok((stream, address)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // A failure costs a little time only.
        let _ = stream.set_nodelay(true);
        if events.send(Event::Accepted(stream, address)).await.is_err() {
            return;
        }
    }
}

/// Reads and writes until the peer closes or the host has dropped its queue.
pub(super) async fn serve(
    id: PeerId,
    stream: TcpStream,
    outgoing: mpsc::Receiver<Bytes>,
    events: mpsc::Sender<Event>,
    flow: Arc<Flow>,
    magic: Magic,
) {
    let (reader, writer) = stream.into_split();
    let wire = Shared::accept(magic);
    let stalled = tokio::select! {
        stalled = write(id, writer, outgoing, &events, &wire) => stalled,
        () = read(id, reader, &events, &flow, &wire) => false,
    };
    let _ = events.send(Event::Closed { id, stalled }).await;
}

async fn read(
    id: PeerId,
    mut reader: OwnedReadHalf,
    events: &mpsc::Sender<Event>,
    flow: &Flow,
    wire: &Shared,
) {
    loop {
        flow.wait().await;
        // Taken when there is something to read: an idle peer costs no buffer.
        if reader.readable().await.is_err() {
            return;
        }
        let mut buffer = Vec::with_capacity(READ_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(1..) => {}
            _ => return,
        }
        buffer.shrink_to_fit();
        let Ok(frames) = wire.received(buffer) else { return };
        if frames.is_empty() {
            continue;
        }
        if events.send(Event::Received(id, frames)).await.is_err() {
            return;
        }
    }
}

/// True exactly when it ended because the peer took nothing.
async fn write(
    id: PeerId,
    mut writer: OwnedWriteHalf,
    mut outgoing: mpsc::Receiver<Bytes>,
    events: &mpsc::Sender<Event>,
    wire: &Shared,
) -> bool {
    let mut batch = Vec::new();
    let mut gathered = Vec::new();
    loop {
        let taken = tokio::select! {
            taken = outgoing.recv_many(&mut batch, BATCH) => Some(taken),
            () = wire.speaks() => None,
        };
        if taken == Some(0) {
            return false;
        }
        let mut messages = 0;
        for bytes in batch.drain(..) {
            messages += 1;
            if gathered.len() + bytes.len() <= GATHER {
                gathered.extend_from_slice(&bytes);
                continue;
            }
            let earlier = std::mem::take(&mut gathered);
            for part in [&earlier[..], &bytes] {
                if let Err(stalled) = say(&mut writer, wire, part).await {
                    return stalled;
                }
            }
            // The messages themselves are counted with the end of the batch.
            let sent = Event::Sent { id, messages: 0, bytes: earlier.len() + bytes.len() };
            if events.send(sent).await.is_err() {
                return false;
            }
        }
        let rest = std::mem::take(&mut gathered);
        if let Err(stalled) = say(&mut writer, wire, &rest).await {
            return stalled;
        }
        if messages > 0 && events.send(Event::Sent { id, messages, bytes: rest.len() }).await.is_err() {
            return false;
        }
    }
}

/// Writes frames in the connection's transport; what the transport has to say by itself goes first.
async fn say(writer: &mut OwnedWriteHalf, wire: &Shared, frames: &[u8]) -> Result<(), bool> {
    match wire.is_plain() {
        true => put(writer, frames).await,
        false => put(writer, &wire.send(frames)).await,
    }
}

/// Writes all, as long as the peer takes something from time to time. The error: true exactly when it did not.
async fn put(writer: &mut OwnedWriteHalf, mut bytes: &[u8]) -> Result<(), bool> {
    while !bytes.is_empty() {
        match tokio::time::timeout(STALL, writer.write(bytes)).await {
            Err(_) => return Err(true),
            Ok(Ok(written @ 1..)) => bytes = &bytes[written..],
            Ok(_) => return Err(false),
        }
    }
    Ok(())
}
