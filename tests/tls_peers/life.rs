//! What is done through every client.

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, Network};

use crate::support::client::{Client, Options};
use crate::support::stub_node::StubServer;

use super::scene::HEIGHT;

/// The handshake, and then all of [`goes_on`].
#[track_caller]
pub fn whole(client: &mut Client, node: &StubServer) {
    greet(client);
    goes_on(client, node);
}

/// The handshake of the P2P protocol.
#[track_caller]
pub fn greet(client: &mut Client) {
    client.handshake(&Options::default()).expect("version and verack");
    assert!(client.version.as_ref().expect("version").start_height >= HEIGHT as i32);
}

/// Ping and pong, an answer of many records, a block, a new block's announcement, and ping again.
#[track_caller]
pub fn goes_on(client: &mut Client, node: &StubServer) {
    client.ping();
    let genesis = bitcoin::constants::genesis_block(Network::Regtest).block_hash();
    let headers = client.headers(vec![genesis]);
    let tip = node.with(|node| BlockHash::from_byte_array(node.chain().tip_hash()));
    assert_eq!(headers.last().map(|header| header.block_hash()), Some(tip), "the node's tip");
    client.block(tip);
    let mined = node.mine();
    client.recv_announcement(mined);
    client.ping();
}
