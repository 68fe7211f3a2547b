//! BIP324 between the relay and a real node: as its client, and as what stands in front of it.

use serde_json::Value;

use super::light_client::LightClient;
use super::scene::{LONG, RIPE, Scene};
use crate::support::node::{Kind, Node, Options};
use crate::support::relay::Relay;
use crate::support::wait;

/// A line of the relay's log about a link that came up: its transport and its session.
fn links(relay: &mut Relay) -> Vec<(String, Option<String>)> {
    let field = |line: &str, name: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(name))?;
        Some(value.trim_matches('"').to_owned())
    };
    let log = relay.log();
    let lines = log.lines().filter(|line| line.contains("event=node_up"));
    lines.map(|line| (field(line, "transport=").expect("transport"), field(line, "session="))).collect()
}

/// The same, once main and ear are there.
fn both_links(relay: &mut Relay) -> Vec<(String, Option<String>)> {
    wait::until("main and ear", wait::PATIENCE, || Some(links(relay)).filter(|links| links.len() >= 2))
}

fn text(peer: &Value, key: &str) -> String {
    peer[key].as_str().unwrap_or_else(|| panic!("{key} in {peer}")).to_owned()
}

/// The relay's links to Bitcoin Core are of v2, and both sides name the same sessions.
pub fn node_link() {
    let mut scene = Scene::new(Kind::Core, RIPE);
    let links = both_links(&mut scene.relay);
    assert!(links.iter().all(|(transport, _)| transport == "v2"), "{links:?}");
    let mut ours: Vec<String> = links.into_iter().map(|(_, session)| session.expect("session")).collect();
    let peers = scene.node.peers();
    let mut theirs: Vec<String> = peers.iter().map(|peer| text(peer, "session_id")).collect();
    assert!(peers.iter().all(|peer| text(peer, "transport_protocol_type") == "v2"), "{peers:?}");
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
    // More packets than one key is good for, and blocks of more than one packet's reading.
    let tip = *scene.node.mine(300).last().expect("hashes");
    let mut client = scene.client();
    wait::for_("the tip at a client", || {
        let headers = client.headers(vec![scene.node.hash_at(RIPE)]);
        headers.last().map(bitcoin::block::Header::block_hash) == Some(tip)
    });
}

/// `--node v1:HOST:PORT` means what it says.
pub fn forced_v1() {
    let node = Node::start(Kind::Core);
    node.mine(RIPE);
    let mut relay = Relay::prepare([], &["--node", &format!("v1:{}", node.p2p())]);
    relay.spawn();
    relay.wait_ready();
    let links = both_links(&mut relay);
    assert!(links.iter().all(|(transport, session)| transport == "v1" && session.is_none()), "{links:?}");
    assert!(node.peers().iter().all(|peer| text(peer, "transport_protocol_type") == "v1"));
}

/// A node that does not know v2 is met in v1, without a complaint.
pub fn fallback(kind: Kind) {
    let mut scene = Scene::new(kind, RIPE);
    let links = both_links(&mut scene.relay);
    assert!(links.iter().all(|(transport, _)| transport == "v1"), "{links:?}");
    let log = scene.relay.log();
    assert_eq!(log.matches("event=node_v1").count(), 1, "{log}");
    assert!(!log.contains("event=node_down") && !log.contains("event=node_left"), "{log}");
}

/// Bitcoin Core with nothing but the relay speaks v2 with it.
pub fn core_as_client() {
    let scene = Scene::with(Kind::Core, LONG, &["--keep", "all"]);
    let client =
        Node::start_with(Kind::Core, Options { connect: vec![scene.relay.listen()], ..Options::default() });
    let tip = scene.node.tip();
    wait::until("initial block download", std::time::Duration::from_secs(180), || {
        (client.tip() == tip).then_some(())
    });
    let peers = client.peers();
    assert_eq!(peers.len(), 1);
    assert_eq!(text(&peers[0], "transport_protocol_type"), "v2");
    assert_eq!(text(&peers[0], "session_id").len(), 64);
    let tip = scene.node.mine(1)[0];
    wait::for_("new block at Bitcoin Core behind the relay", || client.tip() == tip);
}

/// The crate bip157, told that its peer knows v2: it does not fall back.
pub fn light_client(kind: Kind) {
    let scene = Scene::new(kind, LONG);
    let mut client = LightClient::start_v2(scene.relay.listen());
    client.sync_to(scene.node.tip());
    assert_eq!(client.filters.len() as u32, LONG, "a filter for every block");
    let block = scene.node.block_at(LONG - 3);
    let found = client.wait(client.requester.get_block(block.block_hash())).expect("block");
    assert_eq!(found.block, block);
    let next = scene.node.mine(1)[0];
    client.sync_to(next);
    client.stop();
}
