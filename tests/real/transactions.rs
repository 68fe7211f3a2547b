//! Transactions both ways: each once, to the right ones, and never to those who asked for none.

use std::time::Duration;

use bitcoin::Transaction;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;

use super::scene::{RIPE, Scene};
use crate::support::chain;
use crate::support::client::{Client, Options, announces_any_tx, announces_tx, asks_for};
use crate::support::node::Kind;
use crate::support::wait::{self, PATIENCE};

/// Long enough that a message which is on its way would have come.
const SILENCE: Duration = Duration::from_secs(3);

/// A client's transaction reaches the node, is asked for once although two announce it, and is announced to the
/// others, not to those who had it.
pub fn client_to_node(kind: Kind) {
    let scene = Scene::new(kind, RIPE);
    let mut sender = scene.synced_client();
    let mut second = scene.synced_client();
    let mut listener = scene.synced_client();
    let mut by_txid = scene.synced_client_with(Options { wtxidrelay: false, ..Options::default() });
    for client in [&mut sender, &mut second, &mut listener, &mut by_txid] {
        client.ping();
    }

    let tx = chain::spend(&scene.node.coin(1));
    let txid = tx.compute_txid();
    sender.submit(&tx);
    second.announce(&tx);
    wait::for_("client's transaction in the node's mempool", || scene.node.has_in_mempool(txid));

    listener.recv_until("inv of an accepted transaction", PATIENCE, |m| announces_tx(m, &tx).then_some(()));
    by_txid.recv_until("inv by txid", PATIENCE, |m| announces_tx(m, &tx).then_some(()));
    assert_eq!(fetch(&mut listener, Inventory::WTx(tx.compute_wtxid())), tx);
    assert_eq!(fetch(&mut by_txid, Inventory::WitnessTransaction(txid)), tx);

    sender.recv_none("the sender hears of its own transaction", SILENCE, |m| announces_tx(m, &tx));
    second.recv_none("the second announcer was asked or told, too", SILENCE, |m| {
        asks_for(m, &tx) || announces_tx(m, &tx)
    });
}

/// A chain of two transactions, the parent first, reaches the node whole.
pub fn parent_and_child(kind: Kind) {
    let scene = Scene::new(kind, RIPE);
    let mut sender = scene.synced_client();
    let parent = chain::spend(&scene.node.coin(1));
    let child = chain::spend(&chain::Coin::of(&parent));
    sender.submit(&parent);
    sender.submit(&child);
    wait::for_("child in the node's mempool", || scene.node.has_in_mempool(child.compute_txid()));
}

/// When the first announcer never delivers, the second one is asked.
pub fn silent_announcer(kind: Kind) {
    let scene = Scene::new(kind, RIPE);
    let mut silent = scene.synced_client();
    let mut honest = scene.synced_client();
    let tx = chain::spend(&scene.node.coin(1));
    silent.announce(&tx);
    silent.recv_until("getdata", PATIENCE, |m| asks_for(m, &tx).then_some(()));
    honest.announce(&tx);
    // Bitcoin Core asks the next one after a minute.
    honest.recv_until("getdata to the second announcer", 2 * PATIENCE, |m| asks_for(m, &tx).then_some(()));
    honest.send(NetworkMessage::Tx(tx.clone()));
    wait::for_("transaction in the node's mempool", || scene.node.has_in_mempool(tx.compute_txid()));
}

/// What the node refuses is not announced to anybody.
pub fn refused(kind: Kind) {
    let scene = Scene::new(kind, RIPE);
    let mut sender = scene.synced_client();
    let mut listener = scene.synced_client();
    listener.ping();
    // Spends a reward that is not ripe.
    let unripe = chain::spend(&scene.node.coin(RIPE));
    sender.submit(&unripe);
    // A good one after it shows that the way is open.
    let good = chain::spend(&scene.node.coin(1));
    sender.submit(&good);
    listener.recv_until("inv of the good transaction", PATIENCE, |m| {
        assert!(!announces_tx(m, &unripe), "a refused transaction was announced");
        announces_tx(m, &good).then_some(())
    });
    listener.recv_none("a refused transaction was announced", SILENCE, |m| announces_tx(m, &unripe));
    assert!(!scene.node.has_in_mempool(unripe.compute_txid()));
}

/// A transaction from elsewhere is announced to all clients but those with relay=0, and served.
pub fn node_to_clients(kind: Kind) {
    let scene = Scene::new(kind, RIPE);
    let mut first = scene.synced_client();
    let mut by_txid = scene.synced_client_with(Options { wtxidrelay: false, ..Options::default() });
    let mut no_relay = scene.synced_client_with(Options { relay: false, ..Options::default() });
    for client in [&mut first, &mut by_txid, &mut no_relay] {
        client.ping();
    }

    let tx = chain::spend(&scene.node.coin(1));
    scene.node.send_raw(&tx);
    for client in [&mut first, &mut by_txid] {
        client.recv_until("inv of the node's transaction", PATIENCE, |m| announces_tx(m, &tx).then_some(()));
    }
    assert_eq!(fetch(&mut first, Inventory::WTx(tx.compute_wtxid())), tx);
    assert_eq!(fetch(&mut by_txid, Inventory::WitnessTransaction(tx.compute_txid())), tx);
    no_relay.recv_none("transaction inv although relay=0", SILENCE, announces_any_tx);

    // relay=0 says what a client wants to hear, not what it may say.
    let own = chain::spend(&scene.node.coin(2));
    no_relay.submit(&own);
    wait::for_("transaction of a relay=0 client in the mempool", || {
        scene.node.has_in_mempool(own.compute_txid())
    });
    no_relay.recv_none("transaction inv although relay=0", SILENCE, announces_any_tx);

    let block = scene.node.mine(1)[0];
    no_relay.recv_announcement(block);
    assert_eq!(no_relay.block(block).txdata.len(), 3);
}

fn fetch(client: &mut Client, item: Inventory) -> Transaction {
    client.send(NetworkMessage::GetData(vec![item]));
    client.recv_until("transaction", PATIENCE, |m| match m {
        NetworkMessage::Tx(tx) => Some(tx.clone()),
        NetworkMessage::NotFound(_) => panic!("announced, and then not found: {item:?}"),
        _ => None,
    })
}
