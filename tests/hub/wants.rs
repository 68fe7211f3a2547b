//! Many questions of clients at once that go to the node.

use std::time::Duration;

use breakwater::hub::HubCounters;
use breakwater::hub::store::Keep;
use breakwater::link::{Answer, Want};

use super::ready;
use super::world::World;

fn counters(world: &World) -> HubCounters {
    *world.hub.as_ref().unwrap().counters()
}

/// Distinct ranges of old filters, more than the node can give in the time they have.
#[test]
fn twenty_thousand_wants_cost_a_handful_of_steps_each_and_go_in_their_order() {
    let mut world = World::one(2_100, Keep::Last(20));
    ready(&mut world);
    world.run(Duration::from_secs(5));
    let before = counters(&world);
    let mut ids = Vec::new();
    // Ends before starts, so that the order of coming is not the order of heights.
    for length in (0..10).rev() {
        for start in (50..2_050).rev() {
            ids.push(world.want(Want::Filters { start, stop: start + length }));
        }
    }
    let asked = counters(&world);
    assert_eq!((asked.wants - before.wants, asked.wants_missing), (20_000, before.wants_missing));
    let steps = asked.wants_steps - before.wants_steps;
    assert!(steps < 10 * 20_000, "{steps} steps to put them in line");
    world.run(Duration::from_secs(20));
    let after = counters(&world);
    let steps = after.wants_steps - before.wants_steps;
    assert!(steps < 20 * 20_000, "{steps} steps in all");
    let given = |id: &u32| matches!(world.shard.answers[id], Answer::Bytes(_));
    let served = ids.iter().filter(|id| given(id)).count();
    assert!(served > 100, "{served} were given");
    assert!(ids[..served].iter().all(given), "somebody who came later was served before");
}
