//! The node behind breakwater: the library's stub node on a TCP port.
//!
//! One thread owns the node, one thread per connection reads (the relay opens three). Events wait in one short queue,
//! whose writers wait for it. Everything ends when the handle is dropped.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use breakwater::base;
use breakwater::stub::node::{Options, Output};
use breakwater::stub::{PeerId, StubChain, StubNode};

use crate::Outcome;

/// Blocks on genesis at the start.
const BLOCKS: u32 = 10;
/// Events that wait for the node's thread.
const EVENTS: usize = 64;

enum Event {
    Connected(PeerId, TcpStream, SocketAddr),
    Bytes(PeerId, Vec<u8>),
    Gone(PeerId),
    Mine,
    Stop,
}

/// A node that mines when told.
#[derive(Debug)]
pub(super) struct Stub {
    address: SocketAddr,
    events: SyncSender<Event>,
}

impl Stub {
    pub(super) fn start() -> Outcome<Stub> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let now = unix_now();
        let mut chain = StubChain::new(7, now.saturating_sub(3_600));
        chain.grow(BLOCKS, now.saturating_sub(60));
        let node = StubNode::new(chain, 7, Options { unix_start: now, ..Options::default() });
        let (events, inbox) = sync_channel(EVENTS);
        let accepted = events.clone();
        // Ends with the process: it owns nothing but the port.
        std::thread::Builder::new().name("stub-accept".into()).spawn(move || accept(&listener, &accepted))?;
        std::thread::Builder::new().name("stub-node".into()).spawn(move || serve(node, &inbox))?;
        Ok(Stub { address, events })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// One block more.
    pub(super) fn mine(&self) -> Outcome {
        self.events.send(Event::Mine).map_err(|_| "the stub node has ended".into())
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // A node that has ended needs not be told.
        let _ = self.events.send(Event::Stop);
    }
}

fn accept(listener: &TcpListener, events: &SyncSender<Event>) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        let Ok(stream) = stream else { continue };
        let (peer, events) = (PeerId(number), events.clone());
        let (Ok(address), Ok(mut reader)) = (stream.peer_addr(), stream.try_clone()) else { continue };
        let _ = stream.set_nodelay(true);
        if events.send(Event::Connected(peer, stream, address)).is_err() {
            return;
        }
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                if events.send(Event::Bytes(peer, bytes)).is_err() {
                    return;
                }
            }
            let _ = events.send(Event::Gone(peer));
        });
    }
}

fn serve(mut node: StubNode, inbox: &Receiver<Event>) {
    let started = Instant::now();
    let now = || base::Instant(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let mut streams: HashMap<PeerId, TcpStream> = HashMap::new();
    loop {
        let wait = node.next_wake().since(now()).min(Duration::from_millis(200));
        match inbox.recv_timeout(wait) {
            Ok(Event::Connected(peer, stream, address)) => {
                streams.insert(peer, stream);
                node.connected(now(), peer, address);
            }
            Ok(Event::Bytes(peer, bytes)) => node.received(now(), peer, &bytes),
            Ok(Event::Gone(peer)) => {
                streams.remove(&peer);
                node.disconnected(now(), peer);
            }
            Ok(Event::Mine) => {
                node.chain_mut().mine(unix_now());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
        node.tick(now());
        while let Some(output) = node.next_output() {
            match output {
                // A stream that fails is followed by the end of its reader.
                Output::Send(peer, bytes) => {
                    let _ = streams.get_mut(&peer).map(|stream| stream.write_all(&bytes));
                }
                Output::Disconnect(peer, _) => {
                    let _ = streams.remove(&peer).map(|stream| stream.shutdown(Shutdown::Both));
                }
            }
        }
    }
    for stream in streams.values() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Seconds since 1970.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
