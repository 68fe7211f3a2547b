//! Attackers: their inputs are what the table says, judged by the library's own parser; and what they make of outcomes.

use std::time::Duration;

use breakwater::base::{End, Fault};
use breakwater::stub::MAGIC;
use breakwater::wire::{Message, Step, WireError, parse, sha256d, split, write};
use breakwater_rig::rig::behaviour::Options;
use breakwater_rig::rig::behaviour::attack::rows::{Expect, How, ROWS, Row};
use breakwater_rig::rig::client::Flow;

use crate::world::World;

fn row(name: &str) -> &'static Row {
    ROWS.iter().find(|row| row.name == name).unwrap()
}

/// What the library's parser makes of an input: an end, a fault, or nothing wrong.
fn judge(input: &[u8]) -> Result<Option<Fault>, End> {
    match split(MAGIC, input) {
        Step::End(end) => Err(end),
        Step::Drop { fault, used } => {
            assert_eq!(used, input.len());
            Ok(Some(fault))
        }
        Step::Need(_) => panic!("a part of a message"),
        Step::Message { command, payload, .. } => match parse(&command, payload) {
            Ok(Message::Unknown(_)) => Ok(Some(Fault::UnknownCommand)),
            Ok(_) => Ok(None),
            Err(error) => error.outcome().map(Some),
        },
    }
}

#[test]
fn inputs_are_what_the_table_says() {
    let each = |name: &str, count: usize, want: Result<Option<Fault>, End>| {
        let inputs = (row(name).inputs)(MAGIC);
        assert_eq!(inputs.len(), count, "{name}");
        inputs.iter().for_each(|input| assert_eq!(judge(input), want, "{name}"));
    };
    each("attack-wrong-magic", 3, Err(End::WrongMagic));
    each("attack-bad-checksum", 2, Ok(Some(Fault::BadChecksum)));
    each("attack-oversize", 2, Err(End::Oversize));
    each("attack-unknown-command", 3, Ok(Some(Fault::UnknownCommand)));
    each("attack-bad-command", 2, Ok(Some(Fault::BadCommand)));
    each("attack-non-canonical", 4, Ok(Some(Fault::NonCanonical)));
    each("attack-too-many", 7, Err(End::TooManyEntries));
    each("attack-short", 4, Ok(Some(Fault::Short)));
    each("attack-unrequested", 3, Ok(None));
    each("attack-before-version", 5, Ok(None));
    assert_eq!(judge(&(row("attack-either").inputs)(MAGIC)[1]), Err(End::TooManyEntries));
    assert!(matches!(split(MAGIC, &(row("attack-truncated").inputs)(MAGIC)[2]), Step::Need(1_800_027)));
}

#[test]
fn headers_without_work_have_none_and_torn_ones_do_not_link() {
    let inputs = (row("attack-no-work").inputs)(MAGIC);
    let headers = |input: &[u8]| -> Vec<[u8; 80]> {
        let Step::Message { command, payload, .. } = split(MAGIC, input) else { panic!() };
        match parse(&command, payload) {
            Ok(Message::Headers(list)) => list.iter().copied().collect(),
            Ok(Message::Block(bytes)) => vec![*bytes.first_chunk().unwrap()],
            other => panic!("{other:?}"),
        }
    };
    for input in &inputs[..2] {
        assert!(sha256d(&headers(input)[0])[31] >= 0x80);
    }
    let torn = headers(&inputs[2]);
    assert!(sha256d(&torn[0])[31] < 0x80);
    assert_ne!(torn[1][4..36], sha256d(&torn[0]));
    assert!(matches!(WireError::TooMany(1).outcome(), Err(End::TooManyEntries)));
}

/// Rows that the stub node, which is lenient, does not throw out.
const LENIENT: [&str; 1] = ["attack-no-work"];

#[test]
fn each_row_is_done_again_and_again_and_its_outcome_counted() {
    for row in &ROWS {
        let mut world = World::new(40);
        world.record = true;
        let at = world.add(row.name, &Options::default());
        world.run(Duration::from_secs(30));
        let (counts, errors) = (world.tally(at).counts, &world.tally(at).errors);
        assert!(counts.connections >= 3, "{}: {counts:?}", row.name);
        let inputs = (row.inputs)(MAGIC);
        for input in &inputs {
            let sent = &world.peers[at].sent;
            let found = input.is_empty() || sent.windows(input.len()).any(|window| window == input);
            assert!(found, "{}: an input was not sent", row.name);
        }
        match (row.expect, row.how) {
            _ if LENIENT.contains(&row.name) => {
                assert_eq!(errors.get(row.not_out), Some(&counts.forgiven), "{}", row.name);
                assert!(counts.forgiven >= 3);
            }
            (Expect::ThrownOut, _) => {
                assert!(counts.thrown_out >= 3 && counts.forgiven == 0, "{}: {counts:?}", row.name);
                assert!(errors.is_empty(), "{errors:?}");
            }
            (Expect::Forgiven, _) => {
                assert!(counts.forgiven >= 3 && counts.thrown_out == 0, "{}: {counts:?}", row.name);
                assert!(errors.is_empty(), "{errors:?}");
            }
            (Expect::Either, How::Close | How::Part) => {
                assert!(counts.left >= 3 && errors.is_empty(), "{}: {counts:?} {errors:?}", row.name);
            }
            (Expect::Either, _) => {
                assert!(counts.forgiven + counts.thrown_out >= 3, "{}: {counts:?}", row.name);
                assert!(errors.is_empty(), "{errors:?}");
            }
        }
    }
}

#[test]
fn the_mix_comes_to_every_row() {
    let mut world = World::new(40);
    world.record = true;
    let at = world.add("attackers", &Options { every_us: 10_000, ..Options::default() });
    world.run(Duration::from_secs(240));
    let sent = &world.peers[at].sent;
    for row in ROWS.iter().filter(|row| row.how != How::Part) {
        for input in (row.inputs)(MAGIC).iter().filter(|input| input.len() < 1_000) {
            let found = input.is_empty() || sent.windows(input.len()).any(|window| window == input);
            assert!(found, "{}: an input was not sent", row.name);
        }
    }
    let errors = &world.tally(at).errors;
    assert!(errors.keys().all(|error| error.starts_with("attack-no-work")), "{errors:?}");
}

#[test]
fn one_that_should_have_been_forgiven_complains() {
    let mut world = World::new(5);
    let at = world.add("attack-drip", &Options::default());
    world.run(Duration::from_secs(1));
    assert_eq!(world.peers[at].client.complaint(), Some("attack-drip: thrown out"));
    world.node.set_silent(true);
    world.run(Duration::from_secs(70));
    assert_eq!(world.tally(at).errors.get(row("attack-drip").silent), Some(&1));
}

#[test]
fn what_cannot_be_read_ends_a_client_unless_it_asked_for_it() {
    let garbage = [0x5a; 64];
    let mut world = World::new(5);
    let early = world.add("attack-before-version", &Options::default());
    let other = world.add("idle", &Options::default());
    for at in [early, other] {
        assert_eq!(world.start(at), Flow::Go);
    }
    assert_eq!(world.peers[early].client.complaint(), Some("attack-before-version: thrown out"));
    assert_eq!(world.tell(early, &garbage).1, Flow::Leave);
    assert_eq!(world.tally(early).counts.thrown_out, 1);
    assert!(matches!(world.tell(other, &garbage).1, Flow::Broken(_)));
}

#[test]
fn nobody_speaks_into_a_message_that_drips() {
    let mut world = World::new(5);
    world.record = true;
    let at = world.add("attack-drip", &Options::default());
    world.run(Duration::from_secs(1));
    let mut ping = Vec::new();
    write::ping(&mut ping, MAGIC, 7);
    let (answer, flow) = world.tell(at, &ping);
    assert_eq!((answer.as_slice(), flow), (&[][..], Flow::Go), "the target's ping waits");
    world.run(Duration::from_secs(4));
    assert_eq!(world.tally(at).counts.forgiven, 1);
}
