//! A stub node, the relay's own binary with a TLS listener in front of it, certificates, metrics.

use std::net::SocketAddr;
use std::path::Path;

use crate::support::relay::Relay;
use crate::support::stub_node::StubServer;
use crate::support::{ports, wait};

use super::papers::{Pair, Papers};

/// Blocks of the node when a test begins: their headers (40 KB) take several TLS records.
pub const HEIGHT: u32 = 500;

/// Shards of each relay: tickets have to be good on all of them.
pub const SHARDS: u32 = 2;

pub struct Scene {
    pub relay: Relay,
    pub node: StubServer,
    pub papers: Papers,
    /// What the relay shows to those who ask for no name it knows.
    pub certificate: Pair,
    /// Where it speaks TLS.
    pub tls: SocketAddr,
    metrics: SocketAddr,
}

impl Scene {
    /// A relay with a certificate for `localhost`.
    #[track_caller]
    pub fn new() -> Scene {
        Scene::with("")
    }

    /// The same, with more lines of the configuration file.
    #[track_caller]
    pub fn with(settings: &str) -> Scene {
        Scene::with_papers(Papers::new(), settings)
    }

    #[track_caller]
    pub fn with_papers(papers: Papers, settings: &str) -> Scene {
        let node = StubServer::start(HEIGHT);
        let certificate = papers.server(&["localhost"]);
        let mut scene = Scene::beside(node, papers, &certificate, settings, "relay.toml");
        scene.relay.spawn();
        scene.relay.wait_ready();
        scene
    }

    fn beside(node: StubServer, papers: Papers, first: &Pair, settings: &str, file: &str) -> Scene {
        let (tls, metrics) = (ports::free(), ports::free());
        let relay = prepare(&node, &papers, first, tls, metrics, settings, file);
        Scene { relay, node, papers, certificate: first.clone(), tls, metrics }
    }

    /// One more relay of the fleet: the same node, files and settings; and where it speaks TLS.
    #[track_caller]
    pub fn sister(&self, settings: &str) -> (Relay, SocketAddr) {
        let (tls, metrics) = (ports::free(), ports::free());
        let mut relay =
            prepare(&self.node, &self.papers, &self.certificate, tls, metrics, settings, "sister.toml");
        relay.spawn();
        relay.wait_ready();
        (relay, tls)
    }

    /// Waits until the relay has logged a line that holds all of these.
    #[track_caller]
    pub fn wait_log(&mut self, words: &[&str]) {
        let process = self.relay.process();
        wait::for_(&format!("a line of the log with {words:?}"), || {
            process.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
        });
    }

    /// Waits until a metric, summed over the lines that hold `label`, is at least `least`.
    #[track_caller]
    pub fn wait_metric(&self, name: &str, label: &str, least: u64) {
        wait::for_(&format!("{name}{{{label}}} >= {least}"), || self.metric(name, label) >= least);
    }

    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let text = get(self.metrics);
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
    }
}

fn prepare(
    node: &StubServer,
    papers: &Papers,
    first: &Pair,
    tls: SocketAddr,
    metrics: SocketAddr,
    settings: &str,
    file: &str,
) -> Relay {
    let mut text = format!("tls_listen = [\"{tls}\"]\n{settings}\n");
    if !settings.contains("tls_certificates") {
        text.push_str(&format!("tls_certificates = [{}]\n", entry(first)));
    }
    std::fs::write(papers.path(file), text).expect("configuration file");
    let config = papers.path(file).display().to_string();
    let arguments = ["--shards", &SHARDS.to_string(), "--metrics", &metrics.to_string(), "--config", &config];
    Relay::prepare([node.address()], &arguments)
}

/// A certificate in the configuration file.
pub fn entry(pair: &Pair) -> String {
    format!("{{ chain = {}, key = {} }}", quoted(&pair.chain), quoted(&pair.key))
}

/// A path as a TOML string.
pub fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// The text at http://address/metrics.
fn get(address: SocketAddr) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).expect("the metrics' address");
    stream.set_read_timeout(Some(wait::PATIENCE)).expect("timeout");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the metrics as text");
    text
}
