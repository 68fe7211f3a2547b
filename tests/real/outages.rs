//! The node dies and returns; one of two nodes dies or hangs; the relay is told to stop.

use std::time::Duration;

use super::scene::{RIPE, Scene, Turn, next_address};
use crate::support::chain;
use crate::support::client::{Client, Options, announces_tx};
use crate::support::node::{Kind, Node};
use crate::support::relay::Relay;
use crate::support::wait::{self, PATIENCE};

/// While the node is away clients stay, newcomers are let in, headers and blocks are served, and a submitted
/// transaction waits; when it is back everything goes on.
pub fn node_restarts(kind: Kind) {
    let mut scene = Scene::new(kind, RIPE);
    let mut client = scene.synced_client();
    let genesis = scene.node.hash_at(0);
    let tip = scene.node.block(scene.node.tip());
    let tx = chain::spend(&scene.node.coin(1));

    scene.node.kill();
    client.ping();
    assert_eq!(client.headers(vec![genesis]).len(), RIPE as usize);
    assert_eq!(client.block(tip.block_hash()), tip);
    let mut newcomer = scene.client();
    assert_eq!(newcomer.headers(vec![genesis]).len(), RIPE as usize);
    assert_eq!(newcomer.block(tip.block_hash()), tip);
    client.submit(&tx);
    newcomer.recv_none("transaction announced that no node accepted", Duration::from_secs(2), |m| {
        announces_tx(m, &tx)
    });

    scene.node.restart();
    wait::for_("waiting transaction delivered", || scene.node.has_in_mempool(tx.compute_txid()));
    newcomer.recv_until("inv of the delivered transaction", PATIENCE, |m| announces_tx(m, &tx).then_some(()));
    let block = scene.node.mine(1)[0];
    client.recv_announcement(block);
    newcomer.recv_announcement(block);
    assert_eq!(newcomer.block(block), scene.node.block(block));
    client.ping();
}

/// The relay is killed and started again on its data: it is ready with the old chain and follows the new one.
pub fn relay_restarts(kind: Kind) {
    let mut scene = Scene::new(kind, RIPE);
    scene.relay.kill();
    let block = scene.node.mine(3)[2];
    scene.relay.restart();
    let mut client = scene.synced_client();
    assert_eq!(client.block(block), scene.node.block(block));
    let next = scene.node.mine(1)[0];
    client.recv_announcement(next);
}

/// One of two nodes dies: blocks go on being announced, transactions go on being accepted.
pub fn one_of_two_dies(kind: Kind) {
    let _turn = Turn::take();
    let (mut first, second) = (Node::start(kind), Node::start(kind));
    let (relay, mut client) = relay_and_client(&first, &second);

    first.kill();
    client.ping();
    let block = second.mine(1)[0];
    client.recv_announcement(block);
    assert_eq!(client.block(block), second.block(block));
    let tx = chain::spend(&second.coin(1));
    client.submit(&tx);
    wait::for_("transaction in the other node's mempool", || second.has_in_mempool(tx.compute_txid()));

    // The dead one returns, behind, and does not pull anybody back.
    first.restart();
    let block = second.mine(1)[0];
    client.recv_announcement(block);
    let mut newcomer = Client::connect(relay.listen());
    assert_eq!(newcomer.headers(vec![second.hash_at(0)]).len() as u32, second.height());
}

/// One of two nodes hangs with its sockets open: blocks go on being announced.
pub fn one_of_two_hangs(kind: Kind) {
    let _turn = Turn::take();
    let (first, second) = (Node::start(kind), Node::start(kind));
    let (_relay, mut client) = relay_and_client(&first, &second);

    first.freeze();
    for _ in 0..3 {
        let block = second.mine(1)[0];
        client.recv_announcement(block);
        assert_eq!(client.block(block), second.block(block));
    }
    first.thaw();
}

/// SIGTERM and SIGINT: status 0 within the contract's five seconds, however many clients there are.
pub fn stops(kind: Kind) {
    let mut scene = Scene::new(kind, RIPE);
    let mut clients: Vec<Client> = (0..20).map(|_| scene.client()).collect();
    let status = scene.relay.stop();
    assert_eq!(status.code(), Some(0), "{status}");
    for client in &mut clients {
        client.expect_closed(PATIENCE);
    }

    scene.relay.restart();
    let mut client = scene.synced_client();
    scene.relay.process().interrupt();
    let status = scene.relay.process().wait_end(crate::support::relay::STOP);
    assert_eq!(status.code(), Some(0), "{status}");
    client.expect_closed(PATIENCE);
}

/// Two nodes on one chain, a relay in front of both, a client that has heard a block of the first.
fn relay_and_client(first: &Node, second: &Node) -> (Relay, Client) {
    first.mine(RIPE);
    for height in 1..=RIPE {
        second.submit_block(&first.block_at(height));
    }
    let relay = Relay::start(&[first, second]);
    let mut client =
        Client::connect_with(relay.listen(), &Options { source: Some(next_address()), ..Options::default() });
    assert_eq!(client.headers(vec![first.hash_at(0)]).len(), RIPE as usize);
    let block = first.mine(1)[0];
    second.submit_block(&first.block(block));
    client.recv_announcement(block);
    (relay, client)
}
