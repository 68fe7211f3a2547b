//! Connecting to a node.

use std::io;
use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio_uring::net::TcpStream;

use super::Event;
use crate::base::limits::{NODE_CONNECT_TIMEOUT, NODE_V2_TIMEOUT};
use crate::hub::{LinkId, NodeAddr};

/// Connects; says so when it is done, and again when BIP324 should be open.
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
