//! The library's stub node on a real TCP port: a full node for tests that need its protocol and not its insides, with
//! nothing to install.

use std::net::{Ipv4Addr, SocketAddr};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use breakwater::stub::node::Options;
use breakwater::stub::{StubChain, StubNode};
use breakwater::stub_host;

/// Connections it takes.
const MAX_PEERS: usize = 64;

pub struct StubServer(stub_host::StubServer);

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    stub_host::unix_time()
}

impl StubServer {
    /// A node with this many blocks on genesis, ready to be connected to.
    pub fn start(blocks: u32) -> StubServer {
        let mut chain = StubChain::new(7, unix_now() - 3_600);
        chain.grow(blocks, unix_now() - 60);
        StubServer::with_chain(chain)
    }

    pub fn with_chain(chain: StubChain) -> StubServer {
        let node = StubNode::new(chain, 7, Options { unix_start: unix_now(), ..Options::default() });
        let (listen, start) = ((Ipv4Addr::LOCALHOST, 0).into(), std::time::Instant::now());
        let server = stub_host::StubServer::start(node, listen, start, MAX_PEERS, ());
        StubServer(server.expect("a port for the stub node"))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Runs something on the node, and what follows from it: announcements go out at once.
    pub fn with<R: Send + 'static>(&self, errand: impl FnOnce(&mut StubNode) -> R + Send + 'static) -> R {
        self.0.desk().with(|host, ()| errand(host.node_mut())).expect("the stub node lives")
    }

    /// Mines a block on the tip.
    pub fn mine(&self) -> BlockHash {
        BlockHash::from_byte_array(self.with(|node| node.chain_mut().mine(unix_now())))
    }
}
