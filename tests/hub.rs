//! The hub against stub nodes: sync, new blocks, reorganisations, filters, transactions, wants, losses.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, dead_code)] // Tests.

#[path = "sim/disk.rs"]
mod disk;
#[path = "hub/fairness.rs"]
mod fairness;
#[path = "hub/filters.rs"]
mod filters;
#[path = "hub/transport.rs"]
mod transport;
#[path = "hub/txs.rs"]
mod txs;
#[path = "hub/wants.rs"]
mod wants;
#[path = "hub/world.rs"]
mod world;

use std::time::Duration;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use breakwater::hub::HubEvent;
use breakwater::hub::store::Keep;
use breakwater::link::{Answer, ToHub, Want};
use breakwater::stub::StubChain;
use breakwater::stub::node::{Form, Options};
use breakwater::wire::Services;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use world::{START, World, client, host};

fn chain(seed: u64, blocks: u32) -> StubChain {
    let mut chain = StubChain::new(seed, START - 100_000);
    chain.grow(blocks, START - 10);
    chain
}

#[track_caller]
fn ready(world: &mut World) {
    world.until("ready", 30, |w| w.ready.is_some());
}

#[test]
fn a_new_hub_syncs_and_opens() {
    let mut world = World::one(150, Keep::Last(20));
    ready(&mut world);
    let tip = world.node(0).chain().tip_hash();
    assert_eq!(world.ready, Some((150, tip)));
    assert!(world.shard.open);
    assert_eq!(world.shard.view.as_ref().unwrap().tip_hash(), tip);
    assert_eq!(world.shard.filters_to, Some(150));
    let want = Services::NETWORK | Services::NETWORK_LIMITED | Services::WITNESS | Services::COMPACT_FILTERS;
    assert_eq!(world.services(), want);
    world.run(Duration::from_secs(5));
    let store = world.hub.as_ref().unwrap().store_counters();
    assert_eq!((store.headers, store.filter_records, store.blocks, store.filters), (151, 151, 20, 20));
}

#[test]
fn all_blocks_are_kept_when_asked_for() {
    let mut world = World::one(60, Keep::All);
    ready(&mut world);
    world.until("all blocks", 30, |w| w.hub.as_ref().unwrap().store_counters().blocks >= 60);
    world.until("all filters", 30, |w| w.hub.as_ref().unwrap().store_counters().filters >= 60);
}

#[test]
fn new_blocks_are_announced_with_their_filter() {
    let mut world = World::one(120, Keep::Last(10));
    ready(&mut world);
    for height in 121..140 {
        let before = world.shard.blocks.len();
        let hash = world.mine(0, 1);
        world.run_ms(50);
        let news = world.shard.blocks.last().unwrap();
        assert_eq!((news.height, news.hash, world.shard.blocks.len()), (height, hash, before + 1));
        assert!(!news.block.is_empty());
        assert_eq!(world.shard.filters_to, Some(height));
    }
    assert_eq!(world.hub.as_ref().unwrap().counters().tips_without_block, 0);
}

#[test]
fn a_node_that_announces_by_inv_only_is_followed() {
    let options = Options { form: Form::InvOnly, ..Options::default() };
    let mut world = World::new(vec![chain(1, 10)], Keep::Last(10), options);
    ready(&mut world);
    world.mine(0, 1);
    world.run_ms(200);
    assert!(world.at_tip(0));
}

#[test]
fn a_reorganisation_is_followed_with_all_blocks_behind_the_fork() {
    let mut world = World::one(50, Keep::Last(20));
    ready(&mut world);
    for depth in [1, 3, 12, 30] {
        let unix = world.unix();
        let node = world.node(0);
        let fork = node.chain().at(node.chain().height() - depth).unwrap().hash().to_owned();
        node.chain_mut().mine_on(&fork, depth + 1, unix).unwrap();
        let now = world.now;
        world.node(0).tick(now);
        world.until("the other branch", 10, |w| w.at_tip(0));
        let tip = world.node(0).chain().height();
        world.until("its filter", 10, |w| w.shard.filters_to == Some(tip));
    }
    assert_eq!(world.hub.as_ref().unwrap().counters().reorgs, 4);
}

#[test]
fn a_restart_serves_from_the_store_and_goes_on() {
    let mut world = World::one(130, Keep::Last(20));
    ready(&mut world);
    world.run(Duration::from_secs(5));
    world.kill_hub();
    world.mine(0, 5);
    world.start_hub();
    ready(&mut world);
    assert_eq!(world.ready.unwrap().0, 135);
    let asked = world.hub.as_ref().unwrap().counters().headers;
    assert_eq!(asked, 5, "headers are not fetched again");
}

#[test]
fn without_a_node_clients_are_served_from_the_store() {
    let mut world = World::one(130, Keep::Last(20));
    ready(&mut world);
    world.run(Duration::from_secs(5));
    world.kill_hub();
    world.kill_node(0);
    world.start_hub();
    world.until("open", 15, |w| w.shard.open);
    assert_eq!(world.ready, None);
    assert!(!world.services().contains(Services::NETWORK));
    let hash = *world.shard.view.as_ref().unwrap().hash(115).unwrap();
    let (kept, old) = (
        world.want(Want::Block(hash)),
        world.want(Want::Block(*world.shard.view.as_ref().unwrap().hash(5).unwrap())),
    );
    world.run_ms(50);
    assert_eq!(
        world.answer(kept),
        world.chains[0].as_ref().unwrap().block(&hash).unwrap().message().to_vec()
    );
    assert!(matches!(world.shard.answers[&old], Answer::Missing));
    world.start_node(0);
    world.until("ready", 60, |w| w.ready.is_some());
}

#[test]
fn old_blocks_and_filters_are_fetched_once_for_all() {
    let mut world = World::one(200, Keep::Last(10));
    ready(&mut world);
    let served = world.node(0).counters().blocks_served;
    let hash = *world.shard.view.as_ref().unwrap().hash(20).unwrap();
    let ids: Vec<u32> = (0..50).map(|_| world.want(Want::Block(hash))).collect();
    world.run_ms(100);
    let message = world.node(0).chain().block(&hash).unwrap().message().to_vec();
    for id in ids {
        assert_eq!(world.answer(id), message);
    }
    assert_eq!(world.node(0).counters().blocks_served, served + 1);
    // The second time it comes from the cache.
    world.run_ms(2_000);
    let again = world.want(Want::Block(hash));
    world.run_ms(10);
    assert_eq!(world.answer(again), message);
    assert_eq!(world.node(0).counters().blocks_served, served + 1);
    let id = world.want(Want::Filters { start: 30, stop: 60 });
    world.run_ms(100);
    let want: Vec<u8> = (30..=60)
        .flat_map(|h| world.nodes[0].as_ref().unwrap().chain().at(h).unwrap().cfilter_message().to_vec())
        .collect();
    assert_eq!(world.answer(id), want);
    let id = world.want(Want::Filters { start: 150, stop: 200 });
    world.run_ms(100);
    assert!(!world.answer(id).is_empty());
}

#[test]
fn wants_of_unknown_things_are_missing() {
    let mut world = World::one(20, Keep::Last(10));
    ready(&mut world);
    let ids = [
        world.want(Want::Block([7; 32])),
        world.want(Want::Filters { start: 5, stop: 4_000 }),
        world.want(Want::Tx { hash: [7; 32], by_wtxid: true }),
    ];
    world.run_ms(10);
    for id in ids {
        assert!(matches!(world.shard.answers[&id], Answer::Missing));
    }
}

#[test]
fn the_other_node_takes_over() {
    let first = chain(1, 40);
    let second = chain(1, 40);
    let mut world = World::new(vec![first, second], Keep::Last(10), Options::default());
    ready(&mut world);
    world.kill_node(0);
    world.run_ms(100);
    world.mine(1, 3);
    world.until("tip of the other", 5, |w| w.at_tip(1));
    assert_eq!(world.shard.filters_to, Some(43));
}

#[test]
fn a_silent_node_is_left() {
    let mut world = World::new(vec![chain(1, 40), chain(1, 40)], Keep::Last(10), Options::default());
    ready(&mut world);
    world.node(0).set_silent(true);
    world.mine(1, 1);
    world.until("tip of the other", 5, |w| w.at_tip(1));
    world.run(Duration::from_secs(40));
    let left = world.events.iter().any(|e| matches!(e, HubEvent::NodeDown { refused: true, .. }));
    assert!(left, "{:#?}", world.events);
    world.node(0).set_silent(false);
    world.until("back", 60, |w| w.hub.as_ref().unwrap().counters().links_ready >= 6);
}

#[test]
fn a_full_disk_stops_nothing() {
    let mut world = World::one(40, Keep::Last(10));
    ready(&mut world);
    world.disk.set_space(Some(0));
    world.mine(0, 3);
    world.until("tip", 5, |w| w.at_tip(0) && w.shard.filters_to == Some(43));
    world.run(Duration::from_secs(3));
    assert!(world.events.iter().any(|e| matches!(e, HubEvent::StoreFailed(_))));
    let hash = world.node(0).chain().tip_hash();
    let id = world.want(Want::Block(hash));
    world.run_ms(10);
    assert!(!world.answer(id).is_empty());
    world.disk.set_space(None);
    world.until("written", 70, |w| w.hub.as_ref().unwrap().store_counters().headers == 44);
    world.run(Duration::from_secs(3));
    assert!(world.events.contains(&HubEvent::StoreBack));
}

#[test]
fn drain_tells_the_shards_and_waits_for_them() {
    let mut world = World::one(10, Keep::Last(10));
    ready(&mut world);
    world.give(breakwater::hub::Input::Drain);
    world.run_ms(10);
    assert!(world.shard.draining);
    assert!(!world.hub.as_ref().unwrap().is_drained());
    world.client_says(ToHub::Ended);
    assert!(world.hub.as_ref().unwrap().is_drained());
}

/// Random trouble, then quiet: the shards end at the best tip with its filter, everything asked was answered.
fn trouble(seed: u64) {
    let keep = if seed.is_multiple_of(2) { Keep::Last(12) } else { Keep::All };
    let options = Options { filter_delay: Duration::from_millis(seed % 5 * 100), ..Options::default() };
    let mut world = World::new(vec![chain(1, 110), chain(1, 110)], keep, options);
    world.v2 = seed % 4 > 1;
    let mut dice = disk::Dice(seed);
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut asked = 0;
    for _ in 0..60 {
        let n = dice.below(2) as usize;
        match dice.below(13) {
            0..=3 if world.nodes[n].is_some() => {
                world.mine(n, 1 + dice.below(3) as u32);
            }
            4 if world.nodes[n].is_some() => {
                let (unix, now) = (world.unix(), world.now);
                let depth = 1 + dice.below(8) as u32;
                let chain = world.node(n).chain_mut();
                let fork = *chain.at(chain.height() - depth).unwrap().hash();
                chain.mine_on(&fork, depth + 1, unix).unwrap();
                world.node(n).tick(now);
            }
            5 if world.nodes[n].is_some() => world.kill_node(n),
            6 | 7 if world.nodes[n].is_none() => world.start_node(n),
            8 => {
                world.kill_hub();
                asked = 0;
                world.disk.no_faults();
                world.start_hub();
            }
            9 => world.disk.fail_next(if dice.below(2) == 0 { disk::Fail::Write } else { disk::Fail::Sync }),
            10 if world.shard.view.is_some() => {
                let view = world.shard.view.clone().unwrap();
                let height = dice.below(u64::from(view.len())) as u32;
                let hash = *view.hash(height).unwrap();
                world.want(Want::Block(hash));
                world.want(Want::StrippedBlock(hash));
                world.want(Want::Filters { start: height.saturating_sub(20), stop: height });
                asked += 3;
            }
            11 if world.nodes[n].is_some() => {
                if let Some(tx) = world.node(n).chain_mut().make_tx(&mut rng, 250) {
                    let (txid, wtxid) =
                        (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
                    world.client_says(ToHub::Tx {
                        client: client(3),
                        host: host(3),
                        txid,
                        wtxid,
                        tx: serialize(&tx).into(),
                    });
                }
            }
            12 if world.nodes[n].is_some() => {
                let silent = dice.below(3) == 0;
                world.node(n).set_silent(silent);
            }
            _ => {}
        }
        world.run_ms(dice.below(3_000));
    }
    world.disk.no_faults();
    for n in 0..2 {
        if world.nodes[n].is_none() {
            world.start_node(n);
        }
        world.node(n).set_silent(false);
        let now = world.now;
        world.node(n).tick(now);
    }
    // Stub nodes do not talk to one another: the longer chain must win, the first seen among equals.
    let best = if world.node(0).chain().height() >= world.node(1).chain().height() { 0 } else { 1 };
    world.mine(best, 1);
    world.until(&format!("seed {seed}: best tip"), 120, |w| w.at_tip(best) && w.ready.is_some());
    let tip = world.node(best).chain().height();
    world.until(&format!("seed {seed}: its filter"), 60, |w| w.shard.filters_to == Some(tip));
    world.run(Duration::from_secs(20));
    assert_eq!(world.shard.answers.len(), asked, "seed {seed}: every question has one answer");
}

#[test]
fn it_recovers_from_any_trouble() {
    for seed in 0..200 {
        trouble(seed);
    }
}
