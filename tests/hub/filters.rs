//! Filters: from whom, how late, how many.

use std::time::Duration;

use breakwater::hub::store::Keep;
use breakwater::link::Want;
use breakwater::stub::StubChain;
use breakwater::stub::node::Options;
use breakwater::wire::Services;

use super::world::{START, World};
use super::{chain, ready};

#[test]
fn filters_that_come_late_are_waited_for() {
    let options = Options { filter_delay: Duration::from_secs(3), ..Options::default() };
    let mut world = World::new(vec![chain(1, 10)], Keep::Last(10), options);
    ready(&mut world);
    world.mine(0, 1);
    world.run_ms(500);
    assert!(world.at_tip(0));
    assert_eq!(world.shard.filters_to, Some(10));
    world.until("the filter", 6, |w| w.shard.filters_to == Some(11));
}

#[test]
fn filters_are_asked_only_of_nodes_that_have_the_block() {
    let mut world = World::new(vec![chain(1, 40), chain(1, 40)], Keep::Last(10), Options::default());
    ready(&mut world);
    // The first node hears of none of these; asked for their filters it would drop the link.
    for height in 41..=60 {
        world.mine(1, 1);
        world.run_ms(300);
        assert_eq!(world.shard.filters_to, Some(height));
    }
    let id = world.want(Want::Filters { start: 20, stop: 58 });
    world.run_ms(200);
    assert!(!world.answer(id).is_empty());
    assert_eq!((world.node(0).counters().dropped, world.node(1).counters().dropped), (0, 0));
    // While nobody who has it is there, nobody is asked; who catches up is.
    world.kill_node(1);
    world.mine(0, 19);
    world.run(Duration::from_secs(2));
    assert_eq!((world.shard.filters_to, world.node(0).counters().dropped), (Some(60), 0));
    world.mine(0, 3);
    world.until("the filters of the longer chain", 5, |w| w.shard.filters_to == Some(62));
    assert_eq!(world.node(0).counters().dropped, 0);
}

#[test]
fn filters_follow_although_blocks_come_faster_than_they_are_indexed() {
    let options = Options { filter_delay: Duration::from_secs(4), ..Options::default() };
    for every in [200, 900, 3_500] {
        let mut world = World::new(vec![chain(1, 40)], Keep::Last(100), options.clone());
        ready(&mut world);
        for _ in 0..100 {
            world.mine(0, 1);
            world.run_ms(every);
        }
        // Four seconds of index, and the pauses between questions.
        let lag = 140 - world.shard.filters_to.unwrap();
        assert!(lag <= 1 + 8_000 / every as u32, "a block every {every} ms: {lag} blocks behind");
        world.until("all filters", 12, |w| w.shard.filters_to == Some(140));
        world.run(Duration::from_secs(5));
        let kept = world.hub.as_ref().unwrap().store_counters().filters;
        assert!(kept >= 100, "a block every {every} ms: {kept} filters stored");
    }
}

#[test]
fn filters_of_a_long_absence_are_all_fetched() {
    let mut world = World::one(40, Keep::All);
    ready(&mut world);
    world.run(Duration::from_secs(3));
    world.kill_node(0);
    world.chains[0].as_mut().unwrap().grow(60, START);
    world.start_node(0);
    world.until("all filters", 60, |w| w.hub.as_ref().unwrap().store_counters().filters >= 101);
}

#[test]
fn a_node_that_builds_its_index_for_long_does_not_keep_clients_out() {
    let options = Options { filter_delay: Duration::from_secs(3_000_000_000), ..Options::default() };
    let mut world = World::new(vec![StubChain::new(1, START)], Keep::Last(10), options);
    world.mine(0, 5);
    world.until("ready", 40, |w| w.ready.is_some());
    assert!(!world.services().contains(Services::COMPACT_FILTERS) || world.shard.filters_to == Some(0));
}

#[test]
fn without_filters_the_service_is_not_promised() {
    let options = Options { filters: false, ..Options::default() };
    let mut world = World::new(vec![chain(1, 10)], Keep::Last(10), options);
    ready(&mut world);
    assert!(!world.services().contains(Services::COMPACT_FILTERS));
    assert_eq!(world.shard.filters_to, None);
}
