//! The tasks around the driver's loop: the doorbell, connecting to nodes, and giving way to them.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_uring::net::TcpStream;

use super::Event;
use crate::base::limits::{NODE_CONNECT_TIMEOUT, NODE_V2_TIMEOUT};
use crate::hub::{LinkId, NodeAddr};
use crate::link::Doorbell;

/// Busy turns after which the thread parks once, see `breathe`. A turn takes some 100 us, so a request to a node
/// is late by about a millisecond at most.
const BUSY_TURNS: u32 = 8;

/// Lets the tasks of the links run between two busy turns, and every `BUSY_TURNS` the kernel as well. tokio-uring submits
/// what its tasks have queued only when the thread parks, and a task that yields and is ready again keeps it from parking:
/// under a steady stream of entries from the shards nothing would be read from or written to a node. A sleep is the one way
/// to a real park; it costs one to two milliseconds, in which the shards' queues hold what comes.
pub(super) async fn breathe(busy: u32) {
    match busy.is_multiple_of(BUSY_TURNS) {
        true => tokio::time::sleep(Duration::from_millis(1)).await,
        false => tokio::task::yield_now().await,
    }
}

/// Tells the loop when the doorbell rings.
pub(super) fn watch_bell(bell: &Doorbell, events: mpsc::Sender<Event>) -> io::Result<()> {
    let Some(file) = bell.reader()? else { return Ok(()) };
    // Its successor is unsafe because a descriptor might be closed while registered; this File owns its own.
    #[allow(deprecated)]
    let file = AsyncFd::new(file)?;
    tokio_uring::spawn(async move {
        while let Ok(mut guard) = file.readable().await {
            let _ = guard.try_io(|file| file.get_ref().read(&mut [0; 8]));
            // A full queue wakes the loop as well.
            if let Err(mpsc::error::TrySendError::Closed(_)) = events.try_send(Event::Bell) {
                return;
            }
        }
    });
    Ok(())
}

pub(super) async fn connect(link: LinkId, node: NodeAddr, v2: bool, events: mpsc::Sender<Event>) {
    let event = match tokio::time::timeout(NODE_CONNECT_TIMEOUT, connect_any(&node)).await {
        Ok(Ok(stream)) => Event::Connected(link, v2, stream),
        Ok(Err(error)) => Event::ConnectFailed(link, error.to_string()),
        Err(_) => {
            Event::ConnectFailed(link, format!("no answer within {} s", NODE_CONNECT_TIMEOUT.as_secs()))
        }
    };
    let opens = v2 && matches!(event, Event::Connected(..));
    let _ = events.send(event).await;
    if opens {
        tokio::time::sleep(NODE_V2_TIMEOUT).await;
        let _ = events.send(Event::OpenBy(link)).await;
    }
}

/// Tries every address the name has.
async fn connect_any(node: &NodeAddr) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match node.host_port().parse() {
        Ok(address) => vec![address],
        Err(_) => tokio::net::lookup_host(node.host_port()).await?.collect(),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small questions must not wait for the answer to the one before.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
