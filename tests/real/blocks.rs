//! Sync, new blocks, reorganisations.

use bitcoin::BlockHash;
use bitcoin::p2p::ServiceFlags;

use super::scene::{LONG, RIPE, Scene};
use crate::support::chain;
use crate::support::client::{Announcement, Options};
use crate::support::node::Kind;

/// A client gets all headers through the relay, and blocks that equal the node's, old ones included.
pub fn sync(kind: Kind) {
    let scene = Scene::new(kind, LONG);
    let mut client = scene.client();

    let version = client.version.clone().expect("handshake");
    assert_eq!(version.start_height, LONG as i32, "start_height is fresh");
    assert!(client.services().has(ServiceFlags::NETWORK | ServiceFlags::WITNESS), "{}", client.services());

    let headers = client.headers(vec![scene.node.hash_at(0)]);
    assert_eq!(headers.len(), LONG as usize);
    for (index, header) in headers.iter().enumerate().step_by(67) {
        assert_eq!(header.block_hash(), scene.node.hash_at(index as u32 + 1));
    }
    assert_eq!(headers[LONG as usize - 1].block_hash(), scene.node.tip());

    for height in [1, 1_000, LONG - 288, LONG - 1, LONG] {
        let expected = scene.node.block_at(height);
        assert_eq!(client.block(expected.block_hash()), expected, "block {height}");
    }
}

/// A new block is announced to everybody, in the form that each has asked for.
pub fn new_block(kind: Kind) {
    let scene = Scene::new(kind, RIPE);
    let mut by_inv = scene.synced_client();
    let mut by_headers = scene.synced_client_with(Options { sendheaders: true, ..Options::default() });
    let mut by_compact = scene.synced_client_with(Options { sendcmpct: Some(true), ..Options::default() });
    let mut no_relay = scene.synced_client_with(Options { relay: false, ..Options::default() });
    for client in [&mut by_inv, &mut by_headers, &mut by_compact, &mut no_relay] {
        client.ping();
    }

    // A block with a transaction in it, then some empty ones.
    scene.node.send_raw(&chain::spend(&scene.node.coin(1)));
    for _ in 0..3 {
        let hash = scene.node.mine(1)[0];
        assert_eq!(by_inv.recv_announcement(hash), Announcement::Inv);
        assert_eq!(by_headers.recv_announcement(hash), Announcement::Headers);
        assert_eq!(by_compact.recv_announcement(hash), Announcement::Compact);
        assert_eq!(no_relay.recv_announcement(hash), Announcement::Inv);
        let expected = scene.node.block(hash);
        assert_eq!(by_inv.block(hash), expected);
        assert_eq!(by_headers.block(hash), expected);
    }

    // Many at once: everybody ends at the last one.
    let last = *scene.node.mine(20).last().expect("hashes");
    for client in [&mut by_inv, &mut by_headers, &mut by_compact, &mut no_relay] {
        client.recv_announcement(last);
        let headers = client.headers(vec![scene.node.hash_at(RIPE + 3)]);
        assert_eq!(headers.last().expect("headers").block_hash(), last);
    }
}

/// The node changes to a longer fork `depth` blocks down; clients that were on the old branch follow.
pub fn reorganisation(kind: Kind, depth: u32) {
    let scene = Scene::new(kind, RIPE);
    let mut by_inv = scene.synced_client();
    let mut by_headers = scene.synced_client_with(Options { sendheaders: true, ..Options::default() });
    let mut by_compact = scene.synced_client_with(Options { sendcmpct: Some(true), ..Options::default() });
    for client in [&mut by_inv, &mut by_headers, &mut by_compact] {
        client.ping();
    }
    let old_branch: Vec<BlockHash> = (RIPE - depth..=RIPE).rev().map(|h| scene.node.hash_at(h)).collect();

    let fork = chain::fork(&scene.node, RIPE - depth, depth + 1);
    for block in &fork {
        scene.node.submit_block(block);
    }
    let tip = fork.last().expect("a fork").block_hash();
    assert_eq!(scene.node.tip(), tip, "the node did not reorganise");

    for client in [&mut by_inv, &mut by_headers, &mut by_compact] {
        client.recv_announcement(tip);
        let headers = client.headers(old_branch.clone());
        let expected: Vec<_> = fork.iter().map(|block| block.header).collect();
        assert_eq!(headers, expected, "headers from the fork point on");
        for block in &fork {
            assert_eq!(client.block(block.block_hash()), *block);
        }
    }

    // And on it goes.
    let next = scene.node.mine(1)[0];
    for client in [&mut by_inv, &mut by_headers, &mut by_compact] {
        client.recv_announcement(next);
    }
    // A newcomer sees only the new branch.
    let headers = scene.client().headers(vec![scene.node.hash_at(0)]);
    assert_eq!(headers.len() as u32, RIPE + 2);
    assert_eq!(headers[RIPE as usize + 1].block_hash(), next);
}
