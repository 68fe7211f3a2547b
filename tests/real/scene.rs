//! A node, the relay in front of it, clients from different addresses.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::support::client::{self, Client};
use crate::support::node::{Kind, Node};
use crate::support::relay::Relay;

/// Blocks that make the first few rewards spendable.
pub const RIPE: u32 = 110;

/// More than one `headers` message, more than one filter checkpoint, more than the store keeps by default.
pub const LONG: u32 = 2_010;

pub struct Scene {
    pub relay: Relay,
    pub node: Node,
    _turn: Turn,
}

impl Scene {
    /// A node with `height` blocks and a relay that has caught up with it.
    pub fn new(kind: Kind, height: u32) -> Scene {
        Scene::with(kind, height, &[])
    }

    pub fn with(kind: Kind, height: u32, relay_arguments: &[&str]) -> Scene {
        let turn = Turn::take();
        let node = Node::start(kind);
        node.mine(height);
        let relay = Relay::start_with(&[&node], relay_arguments);
        Scene { relay, node, _turn: turn }
    }

    /// A client with an address of its own.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.client_with(client::Options::default())
    }

    #[track_caller]
    pub fn client_with(&self, options: client::Options) -> Client {
        let options = client::Options { source: Some(next_address()), ..options };
        Client::connect_with(self.relay.listen(), &options)
    }

    /// A client that has all headers, so that every form of announcement is possible.
    #[track_caller]
    pub fn synced_client_with(&self, options: client::Options) -> Client {
        let mut client = self.client_with(options);
        let headers = client.headers(vec![self.node.hash_at(0)]);
        let tip = headers.last().expect("headers").block_hash();
        assert_eq!(tip, self.node.tip(), "the relay is not at the node's tip");
        client
    }

    #[track_caller]
    pub fn synced_client(&self) -> Client {
        self.synced_client_with(client::Options::default())
    }
}

/// 127.1.0.1, 127.1.0.2, …: every client is somebody else.
pub fn next_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number))
}

/// As many scenes at once as there are cores: a node and a relay each are enough for a small machine, and deadlines
/// mean little on an overloaded one.
pub struct Turn;

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

impl Turn {
    pub fn take() -> Turn {
        let limit = std::thread::available_parallelism().map_or(1, |n| n.get());
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= limit {
            taken = GIVEN_BACK.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        GIVEN_BACK.notify_one();
    }
}
