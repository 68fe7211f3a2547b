//! Wallets, initial block download, and nodes at the tip: what they ask for and what comes of it.

use std::time::Duration;

use bitcoin::hashes::Hash as _;
use breakwater::stub::node::Options as NodeOptions;
use breakwater::stub::script::Lock;
use breakwater::stub::{MAGIC, StubBlock};
use breakwater::wire::{Inv, InvKind, Step, parse, split, write};
use breakwater_rig::rig::behaviour::Options;
use breakwater_rig::rig::client::Flow;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::world::{START, World, chain};

const MOMENT: Duration = Duration::from_secs(2);

fn wallet(nth: u32) -> Options {
    Options { nth, ..Options::default() }
}

#[test]
fn wallets_fetch_filters_and_every_nth_block_and_follow_the_tip() {
    let mut world = World::new(2_130);
    let first = world.add("wallet", &wallet(50));
    world.run(MOMENT);
    let second = world.add("wallet", &wallet(50));
    world.run(MOMENT);
    world.assert_no_errors();
    // Both ask for everything: genesis and 2,130 blocks.
    assert_eq!(world.node.counters().filters_served, 2 * 2_131);
    for at in [first, second] {
        let counts = world.tally(at).counts;
        assert_eq!(counts.blocks_received, 42);
        assert_eq!(counts.requests, counts.answers);
        // Two of headers, two of filter headers, three of filters, and the blocks.
        assert_eq!(counts.requests, 2 + 2 + 3 + 42);
        assert_eq!(world.tally(at).request.get().unwrap().len(), counts.answers);
    }
    for _ in 0..20 {
        world.node.chain_mut().mine(START);
        world.run(MOMENT);
    }
    world.assert_no_errors();
    assert_eq!(world.node.counters().filters_served, 2 * 2_151);
    assert_eq!(world.tally(second).counts.blocks_received, 43);
    assert_eq!(world.tally(second).counts.blocks_heard, 20);
    assert_eq!(world.tally(second).counts.blocks_skipped, 0);
    assert_eq!(world.origins.blocks(), 20, "answers are no announcements");
}

#[test]
fn a_watched_script_is_found_in_every_block_that_pays_it() {
    let mut world = World::new(30);
    let watch = vec![Lock::True.output_script().to_bytes()].into();
    let wallet = world.add("wallet", &Options { nth: u32::MAX, watch, ..Options::default() });
    world.run(MOMENT);
    world.assert_no_errors();
    assert_eq!(world.tally(wallet).counts.blocks_received, 30, "all but genesis pay it");
}

#[test]
fn a_wallet_begins_where_it_is_told_and_follows_a_reorganisation() {
    let mut world = World::new(120);
    let wallet = world.add("wallet", &Options { start: 100, ..wallet(10) });
    world.run(MOMENT);
    assert_eq!(world.node.counters().filters_served, 21);
    assert_eq!(world.tally(wallet).counts.blocks_received, 3);
    let fork = *world.node.chain().at(117).unwrap().hash();
    world.node.chain_mut().mine_on(&fork, 5, START).unwrap();
    world.run(MOMENT);
    world.assert_no_errors();
    assert_eq!(world.node.counters().filters_served, 26, "118 to 122");
    assert_eq!(world.tally(wallet).counts.blocks_received, 4, "another 120");
}

#[test]
fn a_wallet_says_when_there_are_no_filters_or_no_answers() {
    let mut world = World::with(chain(20), NodeOptions { filters: false, ..NodeOptions::default() });
    let wallet = world.add("wallet", &wallet(5));
    world.run(MOMENT);
    assert_eq!(world.tally(wallet).errors.get("target offers no compact filters"), Some(&1));

    let mut world = World::with(
        chain(20),
        NodeOptions { filter_delay: Duration::from_secs(3_600), ..NodeOptions::default() },
    );
    let wallet = world.add("wallet", &self::wallet(5));
    world.run(MOMENT);
    world.node.chain_mut().mine(START);
    world.run(Duration::from_secs(120));
    assert_eq!(world.tally(wallet).errors.get("request timed out"), Some(&1));
}

#[test]
fn a_download_takes_every_block_and_begins_anew() {
    let mut world = World::new(300);
    let endless = world.add("ibd", &Options::default());
    while world.tally(endless).counts.blocks_received < 900 {
        world.run(Duration::from_millis(100));
        assert!(world.now.secs() < 60, "{:?}", world.tally(endless).counts);
    }
    let once = world.add("ibd", &Options { once: true, ..Options::default() });
    world.run(MOMENT);
    assert_eq!(world.tally(once).counts.blocks_received, 300);
    world.node.chain_mut().mine(START);
    world.run(MOMENT);
    assert_eq!(world.tally(once).counts.blocks_received, 301);
    world.assert_no_errors();
    let counts = world.tally(once).counts;
    assert_eq!(counts.requests, counts.answers);
    assert_eq!((counts.not_found, counts.blocks_skipped), (0, 0));
}

/// Transactions that the node takes now.
fn pay(world: &mut World, count: usize) {
    let mut rng = SmallRng::seed_from_u64(1);
    for _ in 0..count {
        let tx = world.node.chain_mut().make_tx(&mut rng, 400).unwrap();
        world.node.chain_mut().accept_tx(&tx).unwrap();
    }
}

#[test]
fn nodes_at_the_tip_put_compact_blocks_together() {
    let mut world = World::new(130);
    let tips = [world.add("tip", &Options::default()), world.add("tip", &Options::default())];
    world.run(MOMENT);
    pay(&mut world, 5);
    world.run(MOMENT);
    for at in tips {
        assert_eq!(world.tally(at).counts.txs_heard, 5);
    }
    let requests = world.tally(tips[0]).counts.requests;
    world.node.chain_mut().mine(START);
    world.run(MOMENT);
    for at in tips {
        assert_eq!(world.tally(at).counts.blocks_received, 1);
    }
    assert_eq!(world.node.counters().blocks_served, 0, "compact, both");
    assert_eq!(world.tally(tips[0]).counts.requests, requests, "nothing was missing");

    // Now they hear of the block before they have its transactions.
    pay(&mut world, 3);
    world.node.chain_mut().mine(START);
    world.run(MOMENT);
    for at in tips {
        let counts = world.tally(at).counts;
        assert_eq!(counts.blocks_received, 2);
        assert_eq!(counts.requests, requests + 1, "getblocktxn");
        assert_eq!(counts.requests, counts.answers);
        assert_eq!((counts.blocks_heard, counts.blocks_skipped), (2, 0));
    }
    assert_eq!(world.node.counters().blocks_served, 0);
    world.assert_no_errors();

    // Several at once, after a reorganisation, come whole.
    let fork = *world.node.chain().at(131).unwrap().hash();
    world.node.chain_mut().mine_on(&fork, 3, START).unwrap();
    world.run(MOMENT);
    world.assert_no_errors();
    assert_eq!(world.tally(tips[0]).counts.blocks_received, 5);
}

/// The messages in a client's answer.
fn messages(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut at, mut out) = (0, Vec::new());
    while let Step::Message { command, payload, used } = split(MAGIC, &bytes[at..]) {
        assert!(parse(&command, payload).is_ok());
        out.push((command.name().to_owned(), payload.to_vec()));
        at += used;
    }
    assert_eq!(at, bytes.len());
    out
}

#[test]
fn a_node_at_the_tip_gives_what_it_has() {
    let mut world = World::new(130);
    let tip = world.add("tip", &Options::default());
    world.run(MOMENT);
    pay(&mut world, 4);
    world.run(MOMENT);
    world.node.chain_mut().mine(START);
    world.run(MOMENT);
    let block: std::sync::Arc<StubBlock> = world.node.chain().tip().clone();
    let tx = &block.block().txdata[2];

    let mut ask = Vec::new();
    write::get_block_txn(&mut ask, MAGIC, block.hash(), &[0, 3]);
    let wtxid = tx.compute_wtxid().to_byte_array();
    let entries = [
        Inv { kind: InvKind::Wtx, hash: wtxid },
        Inv { kind: InvKind::WitnessBlock, hash: *block.hash() },
        Inv { kind: InvKind::Wtx, hash: [9; 32] },
    ];
    write::inventory(&mut ask, MAGIC, "getdata", entries.into_iter());
    write::locator(&mut ask, MAGIC, "getheaders", [*block.parent()].iter(), &[0; 32]);
    let (answer, flow) = world.tell(tip, &ask);
    assert_eq!(flow, Flow::Go);
    let answers = messages(&answer);
    let names: Vec<&str> = answers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["blocktxn", "tx", "block", "notfound", "headers"]);
    assert_eq!(answers[0].1, block.block_txn_message(&[0, 3]).unwrap()[24..]);
    assert_eq!(answers[1].1, bitcoin::consensus::serialize(tx));
    assert_eq!(answers[2].1, block.bytes());
    assert_eq!(answers[4].1[1..81], block.header()[..]);
}
