//! BIP324 on links to nodes, and v1 with those that do not know it.

use std::time::Duration;

use breakwater::hub::store::Keep;
use breakwater::hub::{HubCounters, HubEvent, NodeAddr, Speak};
use breakwater::link::Want;
use breakwater::stub::node::Options;
use breakwater::wire::{Framing, Step};

use crate::world::{World, node_addr};
use crate::{chain, ready};

fn counters(world: &World) -> HubCounters {
    *world.hub.as_ref().unwrap().counters()
}

/// Session ids of the links that came up.
fn ups(world: &World) -> Vec<Option<[u8; 32]>> {
    let id = |event: &HubEvent| match event {
        HubEvent::NodeUp { v2, .. } => Some(*v2),
        _ => None,
    };
    world.events.iter().filter_map(id).collect()
}

fn downs(world: &World) -> Vec<&str> {
    fn reason(event: &HubEvent) -> Option<&str> {
        match event {
            HubEvent::NodeDown { reason, .. } => Some(&reason[..]),
            _ => None,
        }
    }
    world.events.iter().filter_map(reason).collect()
}

#[test]
fn an_address_says_what_may_be_spoken() {
    for (text, speak, place) in [
        ("node:8333", Speak::Either, "node:8333"),
        ("v1:node:8333", Speak::V1, "node:8333"),
        ("v2:[::1]:8333", Speak::V2, "[::1]:8333"),
        ("v1:8333", Speak::Either, "v1:8333"),
        ("[::1]:8333", Speak::Either, "[::1]:8333"),
    ] {
        let addr = NodeAddr(text.to_owned());
        assert_eq!((addr.speak(), addr.host_port()), (speak, place), "{text}");
    }
}

#[test]
fn a_node_of_v2_is_followed_in_v2() {
    let mut world = World::one(150, Keep::Last(20));
    world.v2 = true;
    ready(&mut world);
    world.until("main and ear", 5, |w| ups(w).len() >= 2);
    let ids = ups(&world);
    assert!(ids.iter().all(Option::is_some) && ids[0] != ids[1], "{ids:?}");
    for _ in 0..3 {
        world.mine(0, 1);
        world.run_ms(100);
        assert!(world.at_tip(0));
    }
    world.until("filters", 5, |w| w.shard.filters_to == Some(153));
    // What is kept is v1 frames with their checksums: of the tip, of the store, and through the node.
    for height in [153, 140, 5] {
        let hash = *world.shard.view.as_ref().unwrap().hash(height).unwrap();
        let want = world.want(Want::Block(hash));
        world.until("the block", 10, |w| w.shard.answers.contains_key(&want));
        let block = world.answer(want);
        assert_eq!(block, world.node(0).chain().block(&hash).unwrap().message().to_vec());
        assert!(matches!(Framing::V1(breakwater::stub::MAGIC).split(&block), Step::Message { .. }));
    }
    let found = counters(&world);
    assert_eq!((found.v2_fallbacks, found.bad_messages), (0, 0));
    assert_eq!(found.links_v2, found.links_ready);
}

#[test]
fn a_node_of_v1_is_asked_in_v1_at_once_and_from_then_on() {
    let mut world = World::one(30, Keep::Last(20));
    // There is no pause between the attempts: main in v2, main in v1, and the ear.
    world.run_ms(1);
    let found = counters(&world);
    assert_eq!((found.connects, found.v2_fallbacks), (3, 1));
    ready(&mut world);
    world.until("the ear", 5, |w| counters(w).links_ready == 2);
    assert_eq!(ups(&world), [None, None]);
    // It is no loss, and no failure.
    assert_eq!((downs(&world), counters(&world).connect_failures), (vec![], 0));
    world.kill_node(0);
    world.start_node(0);
    world.until("back", 30, |w| counters(w).links_ready == 4);
    assert_eq!((counters(&world).v2_fallbacks, counters(&world).links_v2), (1, 0));
}

#[test]
fn a_node_that_says_that_it_knows_v2_is_asked_in_v2_again() {
    let options = Options { v2: true, ..Options::default() };
    let mut world = World::new(vec![chain(1, 10)], Keep::Last(10), options);
    // As if it had been too busy to answer the first time.
    (world.v2, world.busy) = (true, 1);
    ready(&mut world);
    world.until("the ear", 5, |w| ups(w).len() == 2);
    assert!(ups(&world)[0].is_none() && ups(&world)[1].is_some());
    world.kill_node(0);
    world.start_node(0);
    world.until("back", 30, |w| counters(w).links_ready == 4);
    assert_eq!((counters(&world).v2_fallbacks, counters(&world).links_v2), (1, 3));
}

#[test]
fn v1_alone_is_spoken_when_the_operator_says_so() {
    let mut world = World::one(10, Keep::Last(10));
    world.kill_hub();
    world.v2 = true;
    world.config.nodes = vec![NodeAddr(format!("v1:{}", node_addr(0)))];
    world.start_hub();
    ready(&mut world);
    world.until("the ear", 5, |w| counters(w).links_ready == 2);
    assert_eq!((counters(&world).v2_fallbacks, counters(&world).links_v2), (0, 0));
}

#[test]
fn v2_alone_is_spoken_when_the_operator_says_so() {
    let mut world = World::one(10, Keep::Last(10));
    world.kill_hub();
    world.config.nodes = vec![NodeAddr(format!("v2:{}", node_addr(0)))];
    world.start_hub();
    world.run(Duration::from_secs(5));
    assert_eq!((counters(&world).links_ready, counters(&world).v2_fallbacks), (0, 0));
    assert!(downs(&world).iter().all(|why| why.contains("v2: forbids v1")) && downs(&world).len() > 2);
    // With its usual pauses.
    assert!(counters(&world).connects < 10, "{}", counters(&world).connects);
    world.v2 = true;
    ready(&mut world);
    assert!(counters(&world).links_v2 > 0);
}
