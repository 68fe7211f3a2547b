//! Bitcoin Core as the relay's client: initial block download, the tip, transactions both ways.

use std::time::Duration;

use super::scene::{LONG, Scene};
use crate::support::chain;
use crate::support::node::{Kind, Node, Options};
use crate::support::wait;

const DOWNLOAD: Duration = Duration::from_secs(180);

/// A second Bitcoin Core with nothing but `-connect=RELAY` gets the whole chain through a relay that keeps all of it.
pub fn initial_block_download() {
    let scene = Scene::with(Kind::Core, LONG, &["--keep", "all"]);
    let client =
        Node::start_with(Kind::Core, Options { connect: vec![scene.relay.listen()], ..Options::default() });
    let tip = scene.node.tip();
    wait::until("initial block download", DOWNLOAD, || (client.tip() == tip).then_some(()));

    for _ in 0..3 {
        let tip = scene.node.mine(1)[0];
        wait::for_("new block at Bitcoin Core behind the relay", || client.tip() == tip);
    }

    let from_node = chain::spend(&scene.node.coin(1));
    scene.node.send_raw(&from_node);
    wait::for_("transaction at Bitcoin Core behind the relay", || {
        client.has_in_mempool(from_node.compute_txid())
    });
    let from_client = chain::spend(&scene.node.coin(2));
    client.send_raw(&from_client);
    wait::for_("transaction of Bitcoin Core at the node", || {
        scene.node.has_in_mempool(from_client.compute_txid())
    });

    let fork = chain::fork(&scene.node, scene.node.height() - 12, 13);
    for block in &fork {
        scene.node.submit_block(block);
    }
    wait::for_("reorganisation at Bitcoin Core behind the relay", || client.tip() == fork[12].block_hash());
    let tip = scene.node.mine(1)[0];
    wait::for_("block after the reorganisation", || client.tip() == tip);
    assert_eq!(client.peers().len(), 1, "the relay is its only peer");
}
