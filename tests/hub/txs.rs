//! Transactions: of the node, and of clients on their way to it.

use std::time::Duration;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use breakwater::hub::HubEvent;
use breakwater::hub::store::Keep;
use breakwater::link::{ToHub, Want};
use breakwater::stub::node::{Options, Refuse};
use breakwater::wire::{Hash, Inv, InvKind};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::world::{World, client, host};
use super::{chain, ready};

fn submit(world: &mut World, rng: &mut SmallRng) -> (Hash, Hash) {
    let tx = world.node(0).chain_mut().make_tx(rng, 300).unwrap();
    let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
    world.client_says(ToHub::TxAnnounced {
        client: client(3),
        host: host(3),
        inv: Inv { kind: InvKind::Wtx, hash: wtxid },
    });
    world.run_ms(1);
    assert_eq!(world.shard.asks.last().unwrap().inv.hash, wtxid);
    world.client_says(ToHub::Tx { client: client(3), host: host(3), txid, wtxid, tx: serialize(&tx).into() });
    (txid, wtxid)
}

#[test]
fn a_transaction_of_the_node_reaches_the_shards() {
    let mut world = World::one(120, Keep::Last(10));
    ready(&mut world);
    let mut rng = SmallRng::seed_from_u64(1);
    let tx = world.node(0).chain_mut().make_tx(&mut rng, 300).unwrap();
    let txid = tx.compute_txid().to_byte_array();
    world.node(0).chain_mut().accept_tx(&tx).unwrap();
    let now = world.now;
    world.node(0).tick(now);
    world.run_ms(100);
    assert_eq!(world.shard.txs, [txid]);
    let id = world.want(Want::Tx { hash: txid, by_wtxid: false });
    world.run_ms(10);
    assert!(world.answer(id).ends_with(&serialize(&tx)));
    let full = world.hub.as_ref().unwrap().counters().blocks_full;
    world.mine(0, 1);
    world.run_ms(100);
    assert!(world.shard.gone.contains(&txid));
    assert!(world.at_tip(0));
    assert_eq!(world.hub.as_ref().unwrap().counters().blocks_full, full, "rebuilt from the mempool");
}

#[test]
fn a_clients_transaction_is_announced_after_acceptance_only() {
    let mut world = World::one(120, Keep::Last(10));
    world.node(0).options_mut().tx_delay = Duration::from_secs(2);
    ready(&mut world);
    let mut rng = SmallRng::seed_from_u64(1);
    let (txid, _) = submit(&mut world, &mut rng);
    world.run_ms(1_000);
    assert_eq!(world.node(0).counters().txs_accepted, 1);
    assert!(world.shard.txs.is_empty());
    world.run_ms(2_000);
    assert_eq!(world.shard.txs, [txid]);
    assert_eq!(world.node(0).counters().txs_received, 1);
    // Sent again by another client: nothing happens.
    world.run_ms(1_000);
    assert_eq!(world.hub.as_ref().unwrap().counters().txs_submitted, 1);
}

#[test]
fn a_refused_transaction_is_never_announced() {
    let mut world = World::one(120, Keep::Last(10));
    let refuse = Refuse(std::sync::Arc::new(|_| true));
    world.node(0).options_mut().refuse = Some(refuse);
    ready(&mut world);
    let mut rng = SmallRng::seed_from_u64(1);
    let (_, wtxid) = submit(&mut world, &mut rng);
    world.run(Duration::from_secs(70));
    assert!(world.shard.txs.is_empty());
    assert!(world.events.contains(&HubEvent::TxRefused { wtxid }));
    assert_eq!(world.node(0).counters().txs_received, 1);
}

#[test]
fn transactions_wait_for_a_node_that_is_away() {
    let mut world = World::one(120, Keep::Last(10));
    ready(&mut world);
    let mut rng = SmallRng::seed_from_u64(1);
    let tx = world.node(0).chain_mut().make_tx(&mut rng, 300).unwrap();
    let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
    world.kill_node(0);
    world.client_says(ToHub::Tx { client: client(3), host: host(3), txid, wtxid, tx: serialize(&tx).into() });
    world.run(Duration::from_secs(5));
    assert!(world.shard.txs.is_empty());
    world.start_node(0);
    world.until("acceptance", 60, |w| w.shard.txs == [txid]);
}

#[test]
fn a_transaction_the_node_had_already_is_found_by_asking() {
    let mut world = World::one(120, Keep::Last(10));
    world.node(0).options_mut().mempool = false;
    let mut rng = SmallRng::seed_from_u64(1);
    let tx = world.node(0).chain_mut().make_tx(&mut rng, 300).unwrap();
    let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
    world.node(0).chain_mut().accept_tx(&tx).unwrap();
    ready(&mut world);
    world.client_says(ToHub::Tx { client: client(3), host: host(3), txid, wtxid, tx: serialize(&tx).into() });
    world.until("acceptance", 20, |w| w.shard.txs == [txid]);
}

fn two_nodes() -> World {
    let mut world = World::new(vec![chain(1, 120), chain(1, 120)], Keep::Last(10), Options::default());
    ready(&mut world);
    world.run(Duration::from_secs(1));
    world
}

fn received(world: &mut World) -> (u64, u64) {
    (world.node(0).counters().txs_received, world.node(1).counters().txs_received)
}

#[test]
fn a_transaction_a_half_dead_link_swallows_goes_to_another_node() {
    let mut world = two_nodes();
    world.half_dead = Some(0);
    let (txid, _) = submit(&mut world, &mut SmallRng::seed_from_u64(1));
    world.run(Duration::from_secs(29));
    assert!(world.shard.txs.is_empty());
    world.run(Duration::from_secs(4));
    assert_eq!((world.shard.txs.clone(), received(&mut world)), (vec![txid], (0, 1)));
    world.run(Duration::from_secs(200));
    let counters = world.hub.as_ref().unwrap().counters();
    assert_eq!((counters.txs_submitted, counters.txs_handed_on, counters.txs_refused), (1, 1, 0));
    assert_eq!(received(&mut world), (0, 1));
}

#[test]
fn it_is_refused_when_no_node_is_left_and_each_had_it_once() {
    let mut world = two_nodes();
    for n in 0..2 {
        world.node(n).options_mut().refuse = Some(Refuse(std::sync::Arc::new(|_| true)));
    }
    let (_, wtxid) = submit(&mut world, &mut SmallRng::seed_from_u64(1));
    world.run(Duration::from_secs(85));
    assert!(!world.events.contains(&HubEvent::TxRefused { wtxid }), "the second node's time is not up");
    world.run(Duration::from_secs(10));
    assert!(world.events.contains(&HubEvent::TxRefused { wtxid }));
    world.run(Duration::from_secs(100));
    assert_eq!((world.shard.txs.len(), received(&mut world)), (0, (1, 1)));
}

#[test]
fn a_lost_link_gives_it_again_to_that_node_alone() {
    let mut world = two_nodes();
    world.half_dead = Some(0);
    world.node(1).options_mut().refuse = Some(Refuse(std::sync::Arc::new(|_| true)));
    let (txid, _) = submit(&mut world, &mut SmallRng::seed_from_u64(1));
    world.run(Duration::from_secs(35));
    assert_eq!(received(&mut world), (0, 1));
    world.kill_node(0);
    world.half_dead = None;
    world.run(Duration::from_secs(1));
    world.start_node(0);
    world.until("acceptance by the node that is back", 60, |w| w.shard.txs == [txid]);
    assert_eq!(received(&mut world), (1, 1));
}

/// Gives a node's chain another branch of `blocks` empty blocks from `depth` below its tip.
fn reorganise(world: &mut World, depth: u32, blocks: u32) {
    let (unix, now) = (world.unix(), world.now);
    let chain = world.node(0).chain_mut();
    let fork = *chain.at(chain.height() - depth).unwrap().hash();
    chain.mine_on(&fork, blocks, unix).unwrap();
    world.node(0).tick(now);
    world.until("the other branch", 5, |w| w.at_tip(0));
}

#[test]
fn transactions_of_disconnected_blocks_come_back_quietly() {
    let mut world = World::one(120, Keep::Last(10));
    ready(&mut world);
    let mut rng = SmallRng::seed_from_u64(1);
    let tx = world.node(0).chain_mut().make_tx(&mut rng, 300).unwrap();
    let txid = tx.compute_txid().to_byte_array();
    world.node(0).chain_mut().accept_tx(&tx).unwrap();
    world.run_ms(2_000);
    assert_eq!(world.shard.txs, [txid]);
    world.mine(0, 1);
    world.run_ms(200);
    assert_eq!(world.hub.as_ref().unwrap().mempool_size().0, 0);
    reorganise(&mut world, 1, 2);
    assert_eq!(world.hub.as_ref().unwrap().counters().txs_returned, 1);
    let id = world.want(Want::Tx { hash: txid, by_wtxid: false });
    world.run_ms(1_000);
    assert!(world.answer(id).ends_with(&serialize(&tx)));
    assert_eq!(world.shard.txs, [txid], "not announced a second time by ourselves");
    // The next block confirms it and is rebuilt without asking.
    let before = *world.hub.as_ref().unwrap().counters();
    assert_eq!(world.hub.as_ref().unwrap().mempool_size().0, 1);
    world.mine(0, 1);
    world.run_ms(300);
    let hub = world.hub.as_ref().unwrap();
    let after = hub.counters();
    assert_eq!(
        (after.blocks_compact, after.blocks_full, after.blocks_compact_txn),
        (before.blocks_compact + 1, before.blocks_full, before.blocks_compact_txn)
    );
    assert_eq!(hub.mempool_size().0, 0, "confirmed again");
}

#[test]
fn what_came_back_is_announced_when_the_node_names_it() {
    let mut world = World::one(120, Keep::Last(10));
    ready(&mut world);
    let tx = world.node(0).chain_mut().make_tx(&mut SmallRng::seed_from_u64(1), 300).unwrap();
    let txid = tx.compute_txid().to_byte_array();
    world.node(0).chain_mut().accept_tx(&tx).unwrap();
    world.run_ms(2_000);
    world.mine(0, 1);
    world.run_ms(200);
    reorganise(&mut world, 1, 2);
    // A client sends it again: the node, asked on the ear, gives it.
    let wtxid = tx.compute_wtxid().to_byte_array();
    world.client_says(ToHub::Tx { client: client(3), host: host(3), txid, wtxid, tx: serialize(&tx).into() });
    world.until("a second announcement", 20, |w| w.shard.txs == [txid, txid]);
    world.run(Duration::from_secs(5));
    assert_eq!(world.shard.txs.len(), 2);
}
