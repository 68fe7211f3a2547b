//! The scene of each row: a stub node, the relay's own binary with two shards, honest clients, and the metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use breakwater::stub::{MAGIC, StubChain};
use breakwater::wire::write;

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::stub_node::StubServer;
use crate::support::{ports, wait};

/// Blocks of the node when a test begins: enough for mature coins.
const HEIGHT: u32 = 110;

pub struct Scene {
    pub relay: Relay,
    pub node: StubServer,
    /// Enough of them that both shards have one almost always; the kernel chooses.
    pub honest: Vec<Client>,
    metrics: SocketAddr,
}

impl Scene {
    #[track_caller]
    pub fn new() -> Scene {
        Scene::with(StubServer::start(HEIGHT), "")
    }

    /// The relay takes v1 only: where v2 is taken, a stream that does not begin with `version` begins a key exchange.
    #[track_caller]
    pub fn v1_only() -> Scene {
        Scene::with(StubServer::start(HEIGHT), "v2 = false\n")
    }

    #[track_caller]
    pub fn with_chain(chain: StubChain) -> Scene {
        Scene::with(StubServer::with_chain(chain), "")
    }

    #[track_caller]
    fn with(node: StubServer, config: &str) -> Scene {
        let metrics = ports::free();
        let address = metrics.to_string();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("breakwater.toml");
        std::fs::write(&file, config).expect("a configuration file");
        let file = file.to_str().expect("a name in UTF-8");
        let more = ["--shards", "2", "--metrics", &address, "--config", file];
        let mut relay = Relay::prepare([node.address()], &more);
        relay.spawn();
        relay.wait_ready();
        let honest = (0..4).map(|_| Client::connect(relay.listen())).collect();
        Scene { relay, node, honest, metrics }
    }

    /// A client that has shaken hands.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.relay.listen())
    }

    /// A connection on which nothing was said.
    #[track_caller]
    pub fn stranger(&self) -> Client {
        Client::open(self.relay.listen(), None).expect("the relay accepts")
    }

    /// Every honest client has its ping answered and hears of the node's next block.
    #[track_caller]
    pub fn assert_unharmed(&mut self) {
        let block = self.node.mine();
        for client in &mut self.honest {
            client.ping();
            client.recv_announcement(block);
        }
    }

    /// Sum over the shards of a metric whose line holds `label` (empty: any).
    #[track_caller]
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let text = get(self.metrics);
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
    }

    pub fn ends(&self, reason: &str) -> u64 {
        self.metric("breakwater_ends_total{", &format!("reason=\"{reason}\""))
    }

    pub fn faults(&self, fault: &str) -> u64 {
        self.metric("breakwater_faults_total{", &format!("fault=\"{fault}\""))
    }

    /// Waits for a counter to be at least `least`. Shards report once a second.
    #[track_caller]
    pub fn wait_ends(&self, reason: &str, least: u64) {
        wait::for_(&format!("ends_total{{reason={reason}}} >= {least}"), || self.ends(reason) >= least);
    }

    #[track_caller]
    pub fn wait_faults(&self, fault: &str, least: u64) {
        wait::for_(&format!("faults_total{{fault={fault}}} >= {least}"), || self.faults(fault) >= least);
    }

    /// Resident memory of the relay, bytes.
    pub fn resident(&mut self) -> u64 {
        let status = format!("/proc/{}/status", self.relay.process().pid());
        let text = std::fs::read_to_string(status).expect("/proc status");
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).expect("VmRSS").parse::<u64>().expect("a number") * 1024
    }
}

/// The text at http://address/metrics.
#[track_caller]
pub fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("the metrics' address");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the metrics as text");
    text
}

/// A framed message.
pub fn message(command: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write::raw(&mut out, MAGIC, command, payload);
    out
}

/// A count and that many entries of `entry` bytes.
pub fn list(count: u64, entry: usize) -> Vec<u8> {
    let mut out = Vec::new();
    write::compact(&mut out, count);
    out.resize(out.len() + count as usize * entry, 0);
    out
}
