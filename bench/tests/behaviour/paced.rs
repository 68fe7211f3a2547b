//! Those who sync at a pace, those who only listen, and the floods.

use std::time::Duration;

use breakwater::wire::{Message, Step, parse, split};
use breakwater_rig::rig::behaviour::{OnEnd, Options, find};
use breakwater_rig::rig::client::Client;

use crate::world::World;

fn options(every_us: u64) -> Options {
    Options { every_us, ..Options::default() }
}

#[test]
fn a_paced_one_asks_on_its_schedule_and_counts_the_answers() {
    let mut world = World::new(40);
    let (own, fast) = (world.add("paced", &options(0)), world.add("paced", &options(20_000)));
    world.run(Duration::from_secs(10));
    for (at, per_second) in [(own, 10), (fast, 50)] {
        let counts = world.tally(at).counts;
        let wanted = 10 * per_second;
        assert!((wanted - per_second..=wanted + 3).contains(&counts.answers), "{counts:?}");
        assert!(counts.requests - counts.answers <= 1, "{counts:?}");
        let blocks = counts.blocks_received as f64 / counts.answers as f64;
        assert!((0.83..0.92).contains(&blocks), "one question of eight is for headers: {counts:?}");
    }
    world.assert_no_errors();
}

#[test]
fn a_paced_one_does_not_make_up_for_what_was_not_answered() {
    let mut world = World::new(40);
    let at = world.add("paced", &options(100_000));
    world.run(Duration::from_secs(2));
    world.node.set_silent(true);
    world.run(Duration::from_secs(30));
    let asked = world.tally(at).counts;
    assert!(
        asked.requests - asked.answers <= 17,
        "16 blocks and one list of headers are under way: {asked:?}"
    );
    world.assert_no_errors();
}

#[test]
fn a_listener_asks_for_headers_once_and_hears_of_blocks() {
    let mut world = World::new(40);
    let at = world.add("listener", &Options::default());
    world.run(Duration::from_secs(1));
    assert_eq!((world.tally(at).counts.requests, world.tally(at).counts.answers), (1, 1));
    world.node.chain_mut().mine(crate::world::START);
    world.run(Duration::from_secs(1));
    let counts = world.tally(at).counts;
    assert_eq!((counts.blocks_heard, counts.requests), (1, 1), "{counts:?}");
    assert_eq!(world.peers[at].client.on_end(), OnEnd::Lost);
    world.assert_no_errors();
}

#[test]
fn probers_come_again_and_say_no_more_than_they_must() {
    let mut world = World::new(5);
    let at = world.add("prober", &Options::default());
    world.run(Duration::from_secs(2));
    let counts = world.tally(at).counts;
    assert!(counts.left > 200 && counts.handshakes == counts.left, "{counts:?}");
    world.assert_no_errors();
}

#[test]
fn who_is_stubborn_comes_again_whatever_happens() {
    for (name, stubborn) in
        [("persistent", true), ("prober", true), ("loris", true), ("hammer", true), ("scanner", false)]
    {
        let client = Client::new((find(name).unwrap().make)(&Options::default()));
        assert_eq!(client.is_stubborn(), stubborn, "{name}");
        assert_eq!(client.on_end() != OnEnd::Lost, stubborn, "{name}");
    }
}

#[test]
fn the_loris_says_a_byte_a_second_of_what_never_ends() {
    let mut world = World::new(5);
    world.record = true;
    let (version, block) = (world.add("loris", &Options::default()), world.add("loris", &Options::default()));
    world.run(Duration::from_secs(20));
    let sent = &world.peers[version].sent;
    assert!((18..=21).contains(&sent.len()), "{}", sent.len());
    let sent = &world.peers[block].sent;
    assert_eq!(world.tally(block).counts.handshakes, 1);
    let end = sent.windows(6).rposition(|window| window == b"verack").unwrap() + 20;
    assert!((18..=21).contains(&(sent.len() - end)), "{}", sent.len() - end);
    world.run(Duration::from_secs(10));
    let header = &world.peers[block].sent[end..];
    assert!(matches!(split(breakwater::stub::MAGIC, header), Step::Need(4_000_024)));
    world.run(Duration::from_secs(150));
    let Step::Message { command, payload, .. } = split(breakwater::stub::MAGIC, &world.peers[version].sent)
    else {
        panic!("its version is a whole message in the end");
    };
    assert!(matches!(parse(&command, payload), Ok(Message::Version(_))));
}

#[test]
fn a_hammer_always_has_questions_under_way() {
    let mut world = World::new(40);
    let at = world.add("hammer", &Options::default());
    world.run(Duration::from_secs(1));
    let counts = world.tally(at).counts;
    assert!(counts.answers > 1_000 && counts.blocks_received > 500, "{counts:?}");
    world.node.set_silent(true);
    world.run(Duration::from_secs(1));
    let before = world.tally(at).counts.requests;
    world.run(Duration::from_secs(5));
    assert_eq!(world.tally(at).counts.requests, before, "not more than are answered");
    world.assert_no_errors();
}
