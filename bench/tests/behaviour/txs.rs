//! Submitters.

use std::time::Duration;

use breakwater_rig::rig::behaviour::Options;

use crate::world::{START, World};

#[test]
fn what_submitters_make_enters_the_mempool_at_the_rate() {
    let mut world = World::new(150);
    let idle = world.add("idle", &Options::default());
    let options = Options { rate: 20.0, ..Options::default() };
    let submitters: Vec<usize> = (0..5).map(|_| world.add("submitter", &options)).collect();
    // The chain is searched in a moment; then twenty a second.
    world.run(Duration::from_secs(21));
    world.assert_no_errors();
    let sum = |world: &World, count: fn(&breakwater_rig::rig::measure::Counts) -> u64| -> u64 {
        submitters.iter().map(|at| count(&world.tally(*at).counts)).sum()
    };
    let submitted = sum(&world, |counts| counts.txs_submitted);
    assert!((380..=421).contains(&submitted), "{submitted} in about 20 s");
    assert!(submitters.iter().all(|at| world.tally(*at).counts.txs_submitted > 0), "all take part");
    let counters = *world.node.counters();
    assert_eq!((counters.txs_refused, counters.txs_again), (0, 0));
    assert!(counters.txs_accepted + 5 >= submitted, "{counters:?}");
    assert_eq!(sum(&world, |counts| counts.txs_given), counters.txs_accepted);
    assert_eq!(world.tally(idle).counts.txs_heard, counters.txs_accepted, "announced to others");
    assert!(world.origins.txs() as u64 <= submitted, "the origin is the submission");
    assert!(world.tally(submitters[0]).request.get().unwrap().max() < 1_000_000);

    // Blocks confirm them: there are coins for ever.
    for _ in 0..10 {
        world.node.chain_mut().mine(START);
        world.run(Duration::from_secs(20));
    }
    world.assert_no_errors();
    assert_eq!(world.node.counters().txs_refused, 0);
    assert!(sum(&world, |counts| counts.txs_submitted) > 4_000);
    let blocks: u64 = sum(&world, |counts| counts.blocks_received);
    assert_eq!(blocks, 160, "one of them looks at the blocks, each once");
}

#[test]
fn a_submitter_without_coins_says_so() {
    let mut world = World::new(50);
    let submitter = world.add("submitter", &Options { rate: 2.0, ..Options::default() });
    world.run(Duration::from_secs(10));
    let errors = &world.tally(submitter).errors;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors.keys().all(|error| error.starts_with("no coins to spend")));
    assert!(errors.values().sum::<u64>() >= 18);
}

#[test]
fn another_scout_goes_on_when_the_first_is_gone() {
    let mut world = World::new(110);
    let options = Options { rate: 1.0, ..Options::default() };
    let first = world.add("submitter", &options);
    world.run(Duration::from_secs(5));
    assert_eq!(world.tally(first).counts.blocks_received, 110);
    world.peers.remove(first);
    world.add("submitter", &options);
    let second = world.add("submitter", &options);
    world.run(Duration::from_secs(20));
    world.node.chain_mut().mine(START);
    world.run(Duration::from_secs(5));
    let looked: u64 = [first, second].iter().map(|at| world.tally(*at).counts.blocks_received).sum();
    assert_eq!(looked, 1, "only the new block");
    world.assert_no_errors();
}
