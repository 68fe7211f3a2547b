//! Those who come and go, and those who do not read.

use std::time::Duration;

use breakwater_rig::rig::behaviour::{KINDS, Options};
use breakwater_rig::rig::client::Reading;

use crate::world::World;

#[test]
fn a_scanner_asks_leaves_and_comes_again() {
    let mut world = World::new(5);
    let scanner = world.add("scanner", &Options::default());
    let slow = world.add("scanner", &Options { every_us: 5_000_000, ..Options::default() });
    world.run(Duration::from_secs(20));
    let counts = world.tally(scanner).counts;
    assert!((18..=20).contains(&counts.left), "{counts:?}");
    assert_eq!((counts.requests, counts.answers), (counts.handshakes, counts.left));
    assert!((3..=5).contains(&world.tally(slow).counts.left));
    world.assert_no_errors();
    // Without an answer it waits for ten seconds.
    world.node.options_mut().addresses.clear();
    let before = counts.left;
    world.run(Duration::from_secs(33));
    assert!((3..=4).contains(&(world.tally(scanner).counts.left - before)));
    world.assert_no_errors();
}

#[test]
fn a_reconnector_stays_and_comes_back() {
    let mut world = World::new(5);
    let at = world.add("reconnector", &Options::default());
    world.run(Duration::from_secs(300));
    let counts = world.tally(at).counts;
    assert!((30..=200).contains(&counts.left), "{counts:?}");
    assert!(counts.connections - counts.left <= 1);
    assert_eq!((counts.connected, counts.handshaken), (1, 1));
    world.assert_no_errors();
}

#[test]
fn the_slow_one_sips_and_the_stalled_one_never_reads() {
    let mut world = World::new(40);
    let slow = world.add("slow", &Options::default());
    let own = world.add("slow", &Options { bytes: 10, every_us: 7, ..Options::default() });
    let stalled = world.add("stalled", &Options::default());
    let reading = |world: &World, at: usize| world.peers[at].client.reading();
    assert_eq!(reading(&world, stalled), Reading::All, "the handshake must be read");
    world.run(Duration::from_secs(2));
    assert_eq!(reading(&world, slow), Reading::Sips { bytes: 1_000, every_us: 100_000 });
    assert_eq!(reading(&world, own), Reading::Sips { bytes: 10, every_us: 7 });
    assert_eq!(reading(&world, stalled), Reading::Never);
    assert!(world.tally(slow).counts.blocks_received > 16, "it asks for more");
    assert_eq!(world.tally(stalled).counts.requests, 51);
    assert!(world.node.counters().blocks_served >= 800);
    world.assert_no_errors();
}

#[test]
fn every_behaviour_has_a_name_and_a_line() {
    let mut names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KINDS.len());
    assert!(KINDS.iter().all(|kind| !kind.what.is_empty() && kind.what.len() <= 60));
    assert!(KINDS.iter().filter(|kind| kind.name.starts_with("attack")).all(|kind| kind.attack));
}
