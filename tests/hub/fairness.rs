//! Transactions as a resource: whoever invents invalid ones delays nobody else's by much.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use breakwater::admission::Host;
use breakwater::base::ClientId;
use breakwater::hub::store::Keep;
use breakwater::link::ToHub;
use breakwater::stub::node::{Options, Refuse};
use breakwater::wire::{Hash, Inv, InvKind};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::world::{World, client};
use super::{chain, ready};

/// A node that takes 5 ms for each transaction and refuses those of version 7.
fn slow_node(user_agent: &str) -> World {
    let refuse = Refuse(Arc::new(|tx: &Transaction| tx.version == Version::non_standard(7)));
    let options = Options { refuse: Some(refuse), user_agent: user_agent.into(), ..Options::default() };
    let mut world = World::new(vec![chain(1, 120)], Keep::Last(10), options);
    ready(&mut world);
    world.verdict = Duration::from_millis(5);
    world
}

/// A transaction nobody accepts.
fn invented(n: u32) -> Transaction {
    let mut from = [0xee; 32];
    from[..4].copy_from_slice(&n.to_le_bytes());
    Transaction {
        version: Version::non_standard(7),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array(from), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(1_000),
            script_pubkey: ScriptBuf::from(vec![0x51; 30]),
        }],
    }
}

fn send(world: &mut World, client: ClientId, host: Host, tx: &Transaction) -> Hash {
    let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
    world.client_says(ToHub::Tx { client, host, txid, wtxid, tx: serialize(tx).into() });
    txid
}

/// How many milliseconds it takes until the node has accepted an honest client's transaction.
fn honest(world: &mut World, rng: &mut SmallRng) -> u64 {
    let tx = world.node(0).chain_mut().make_tx(rng, 300).unwrap();
    let txid = send(world, client(9_999), Host::V4(0x0a00_0001), &tx);
    let start = world.now;
    while world.node(0).chain().mempool().get(&txid).is_none() {
        world.run_ms(1);
        assert!(world.now.since(start) < Duration::from_secs(2), "after 2 s still not at the node");
    }
    world.now.since(start).as_millis() as u64
}

/// Honest transactions while 1,000 invented ones wait, of senders that `who` names.
fn attack(who: impl Fn(u32) -> (ClientId, Host)) {
    attack_on("/stub/", who);
}

fn attack_on(user_agent: &str, who: impl Fn(u32) -> (ClientId, Host)) {
    let (mut world, mut rng) = (slow_node(user_agent), SmallRng::seed_from_u64(1));
    for n in 0..1_000 {
        let (client, host) = who(n);
        send(&mut world, client, host, &invented(n));
    }
    world.run_ms(100);
    let mut waits = Vec::new();
    for _ in 0..20 {
        waits.push(honest(&mut world, &mut rng));
        world.run_ms(37);
    }
    let hub = world.hub.as_ref().unwrap();
    assert!(waits.iter().all(|wait| *wait <= 100), "ms: {waits:?}");
    assert!(hub.submissions().0 > 500, "the attack was over too soon: {:?}", hub.submissions());
    assert!(hub.submissions().2 <= 8, "{:?}", hub.submissions());
    assert!(hub.submission_counters().put_back == 0 && hub.submission_counters().displaced == 0);
    // What is invented is dealt with all the same, once each, and its sender charged.
    world.run(Duration::from_secs(90));
    let hub = world.hub.as_ref().unwrap();
    let counters = hub.submission_counters();
    assert_eq!((counters.accepted, counters.no_verdict, counters.doubted), (20, 1_000, 1_000));
    assert_eq!((hub.submissions(), world.node(0).counters().txs_received), ((0, 0, 0), 1_020));
}

#[test]
fn one_client_that_invents_transactions_delays_nobody_by_more_than_100_ms() {
    attack(|_| (client(1), Host::V4(0x0b00_0001)));
    // One that is given transactions without being asked.
    attack_on("/Satoshi:28.0.0/", |_| (client(1), Host::V4(0x0b00_0001)));
}

#[test]
fn nor_does_one_with_many_connections() {
    attack(|n| (client(1 + n % 500), Host::V4(0x0b00_0001)));
}

#[test]
fn nor_one_with_the_addresses_of_a_network() {
    attack(|n| (client(1 + n % 256), Host::V4(0x0b00_0000 | (n % 256))));
}

#[test]
fn nor_one_with_five_networks() {
    attack(|n| (client(1 + n), Host::V4(0x0b00_0000 | ((n % 5) << 8) | (n / 5))));
}

#[test]
fn a_neighbour_in_the_network_of_a_few_who_invent_is_not_delayed_either() {
    attack(|n| (client(1 + n % 8), Host::V4(0x0a00_0002 + n % 8)));
}

#[test]
fn one_host_that_announces_100_000_transactions_is_asked_for_100() {
    let mut world = World::one(120, Keep::Last(10));
    ready(&mut world);
    let hash = |n: u32| {
        let mut hash = [0xdd; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        hash
    };
    for n in 0..100_000 {
        let inv = Inv { kind: InvKind::Wtx, hash: hash(n) };
        world.client_says(ToHub::TxAnnounced { client: client(n % 1_000), host: Host::V4(0x0b00_0001), inv });
    }
    world.run_ms(10);
    assert_eq!(world.shard.asks.len(), 100);
    assert_eq!(world.hub.as_ref().unwrap().submission_counters().excess_announcements, 95_000);
    let inv = Inv { kind: InvKind::Wtx, hash: hash(100_001) };
    world.client_says(ToHub::TxAnnounced { client: client(5_000), host: Host::V4(0x0a00_0001), inv });
    world.run_ms(1);
    assert_eq!(world.shard.asks.last().unwrap().client, client(5_000));
}
