//! The library's stub node on a real TCP port: a full node for tests that need its protocol and not its insides, with
//! nothing to install.
//!
//! One thread owns the node; one thread per connection reads. The node's writes block that one thread, which is fine
//! as long as its peers read: the relay does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use breakwater::base::Instant;
use breakwater::stub::node::{Options, Output};
use breakwater::stub::{PeerId, StubChain, StubNode};

type Errand = Box<dyn FnOnce(&mut StubNode) + Send>;

enum Event {
    Connected(PeerId, TcpStream, SocketAddr),
    Bytes(PeerId, Vec<u8>),
    Gone(PeerId),
    Errand(Errand),
    Stop,
}

pub struct StubServer {
    address: SocketAddr,
    events: SyncSender<Event>,
    thread: Option<JoinHandle<()>>,
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").as_secs()
}

impl StubServer {
    /// A node with this many blocks on genesis, ready to be connected to.
    pub fn start(blocks: u32) -> StubServer {
        let mut chain = StubChain::new(7, unix_now() - 3_600);
        chain.grow(blocks, unix_now() - 60);
        StubServer::with_chain(chain)
    }

    pub fn with_chain(chain: StubChain) -> StubServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the stub node");
        let address = listener.local_addr().expect("bound");
        let (events, inbox) = sync_channel(1_024);
        let accepted = events.clone();
        // Ends with the process: it owns nothing but the port.
        std::thread::spawn(move || accept(&listener, &accepted));
        let node = StubNode::new(chain, 7, Options { unix_start: unix_now(), ..Options::default() });
        let thread = std::thread::spawn(move || serve(node, &inbox));
        StubServer { address, events, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs something on the node, and what follows from it: announcements go out at once.
    pub fn with<R: Send + 'static>(&self, errand: impl FnOnce(&mut StubNode) -> R + Send + 'static) -> R {
        let (answer, result) = sync_channel(1);
        let errand: Errand = Box::new(move |node| {
            let _ = answer.send(errand(node));
        });
        self.events.send(Event::Errand(errand)).expect("the stub node lives");
        result.recv().expect("the stub node lives")
    }

    /// Mines a block on the tip.
    pub fn mine(&self) -> BlockHash {
        BlockHash::from_byte_array(self.with(|node| node.chain_mut().mine(unix_now())))
    }
}

impl Drop for StubServer {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, events: &SyncSender<Event>) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        let Ok(stream) = stream else { continue };
        let (peer, events) = (PeerId(number), events.clone());
        let (Ok(addr), Ok(mut reader)) = (stream.peer_addr(), stream.try_clone()) else { continue };
        let _ = stream.set_nodelay(true);
        if events.send(Event::Connected(peer, stream, addr)).is_err() {
            return;
        }
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if events.send(Event::Bytes(peer, buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
            let _ = events.send(Event::Gone(peer));
        });
    }
}

fn serve(mut node: StubNode, inbox: &Receiver<Event>) {
    let started = std::time::Instant::now();
    let now = || Instant(u64::try_from(started.elapsed().as_nanos()).expect("a short test"));
    let mut streams = std::collections::HashMap::new();
    loop {
        let wait = node.next_wake().since(now()).min(Duration::from_millis(200));
        match inbox.recv_timeout(wait) {
            Ok(Event::Connected(peer, stream, addr)) => {
                streams.insert(peer, stream);
                node.connected(now(), peer, addr);
            }
            Ok(Event::Bytes(peer, bytes)) => node.received(now(), peer, &bytes),
            Ok(Event::Gone(peer)) => {
                streams.remove(&peer);
                node.disconnected(now(), peer);
            }
            Ok(Event::Errand(errand)) => errand(&mut node),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
        node.tick(now());
        while let Some(output) = node.next_output() {
            match output {
                Output::Send(peer, bytes) => {
                    if let Some(stream) = streams.get_mut(&peer) {
                        let _ = stream.write_all(&bytes);
                    }
                }
                Output::Disconnect(peer, _) => {
                    if let Some(stream) = streams.remove(&peer) {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                }
            }
        }
    }
    streams.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
}
