//! The production shard on a scripted kernel: what needs minutes, or exact control over when a send, a read or an
//! answer of the hub comes. No sockets, no threads; the clock moves when told.
//!
//! Each test ends with `Rig::finish`: clients gone, every receive buffer recycled, every byte of the pool back, and as
//! many ends counted as accepts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

#[path = "shard/budget.rs"]
mod budget;
#[path = "shard/desk.rs"]
mod desk;
#[path = "shard/door.rs"]
mod door;
#[path = "shard/end.rs"]
mod end;
#[path = "shard/filters.rs"]
mod filters;
#[path = "shard/house.rs"]
mod house;
#[path = "shard/listen.rs"]
mod listen;
#[path = "shard/look.rs"]
mod look;
#[path = "shard/overbooked.rs"]
mod overbooked;
#[path = "shard/rig.rs"]
mod rig;
#[path = "shard/script.rs"]
mod script;
#[path = "shard/secure.rs"]
mod secure;
#[path = "shard/transports.rs"]
mod transports;

use breakwater::base::limits::{
    BLOCK_LOG, FEEFILTER_NO_TX, FILE_CHUNK, MAX_HANDSHAKES, MAX_MESSAGE, READ_AHEAD,
};
use breakwater::base::{End, Fault};
use breakwater::io::{Done, ListenerId};
use breakwater::link::{Answer, ToHub, ToShard, Want};
use breakwater::shard::{ShardConfig, client_sizes};
use breakwater::stub::MAGIC;
use breakwater::wire::{Hash, Inv, InvKind, Message, parse, write};
use bytes::Bytes;

use rig::{Manner, PLAIN, Rig, config, extents, tx_news, version};

fn message(command: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write::raw(&mut out, MAGIC, command, payload);
    out
}

fn ping(nonce: u64) -> Vec<u8> {
    message("ping", &nonce.to_le_bytes())
}

fn getdata(entries: &[(InvKind, Hash)]) -> Vec<u8> {
    let mut out = Vec::new();
    let entries = entries.iter().map(|(kind, hash)| Inv { kind: *kind, hash: *hash });
    write::inventory(&mut out, MAGIC, "getdata", entries.collect::<Vec<_>>().into_iter());
    out
}

/// The hashes of an inv or a notfound.
fn hashes(command: &str, payload: &[u8]) -> Vec<Hash> {
    match parse(&breakwater::wire::Command::new(command), payload) {
        Ok(Message::Inv(list) | Message::NotFound(list)) => list.iter().map(|inv| inv.hash).collect(),
        other => panic!("{other:?}"),
    }
}

// ---- deadlines -----------------------------------------------------------------------------------------

#[test]
fn a_handshake_has_sixty_seconds() {
    let mut rig = Rig::new();
    let silent = rig.stranger();
    let half = rig.stranger();
    rig.send(half, &version(true, 7));
    rig.advance(59);
    assert_eq!((rig.closed(silent), rig.closed(half)), (None, None));
    rig.advance(2);
    assert!(rig.closed(silent).is_some() && rig.closed(half).is_some());
    assert_eq!(rig.ends(End::HandshakeTimeout), 2);
    rig.finish();
}

#[test]
fn silence_is_asked_after_two_minutes_and_ended_twenty_later() {
    let mut rig = Rig::new();
    let (dead, alive) = (rig.client(PLAIN), rig.client(PLAIN));
    rig.advance(119);
    assert!(rig.messages(dead).is_empty());
    rig.advance(31);
    let asked = rig.messages(alive);
    assert_eq!(asked.len(), 1);
    assert_eq!(rig.commands(dead), ["ping"]);
    let mut pong = message("pong", &[1; 8]);
    pong.extend(message("pong", &asked[0].1));
    rig.send(alive, &pong);
    assert_eq!(rig.faults(Fault::UnrequestedAnswer), 1, "a pong with another nonce answers nothing");
    rig.advance(1_160);
    assert_eq!(rig.closed(dead), None);
    rig.advance(80);
    assert!(rig.closed(dead).is_some());
    assert_eq!(rig.ends(End::PingTimeout), 1);
    assert_eq!(rig.closed(alive), None, "asked again, and its time is not up");
    rig.finish();
}

#[test]
fn a_byte_a_second_is_ended_after_two_minutes() {
    let mut rig = Rig::new();
    let slow = rig.client(PLAIN);
    let long = message("inv", &vec![0; 1_000]);
    for byte in &long[..119] {
        rig.send(slow, &[*byte]);
        rig.advance(1);
    }
    assert_eq!(rig.closed(slow), None);
    for byte in &long[119..152] {
        if rig.closed(slow).is_none() {
            rig.send(slow, &[*byte]);
        }
        rig.advance(1);
    }
    assert!(rig.closed(slow).is_some());
    assert_eq!(rig.ends(End::SlowMessage), 1);
    rig.finish();
}

#[test]
fn a_client_that_takes_nothing_is_ended_with_a_reset() {
    let mut rig = Rig::new();
    let (deaf, other) = (rig.client(PLAIN), rig.client(PLAIN));
    rig.hold(deaf, true);
    for nonce in 0..1_000 {
        rig.send(deaf, &ping(nonce));
    }
    assert!(rig.kernel.0.borrow().peers[&deaf].inbox.len() > 30_000, "its input is left in the socket");
    rig.advance(119);
    assert_eq!(rig.closed(deaf), None);
    rig.send(other, &ping(1));
    assert!(rig.commands(other).contains(&"pong".to_owned()));
    rig.advance(31);
    assert_eq!(rig.closed(deaf), Some(true), "what is queued in its socket is dropped");
    assert_eq!(rig.ends(End::Stalled), 1);
    rig.finish();
}

// ---- room ----------------------------------------------------------------------------------------------

#[test]
fn a_full_table_leaves_the_listening_group_and_returns() {
    let mut rig = Rig::with(ShardConfig { max_clients: 16, ..config() });
    let clients: Vec<u32> = (0..13).map(|_| rig.client(PLAIN)).collect();
    assert!(rig.kernel.0.borrow().listening.contains(&0));
    let late: Vec<u32> = (0..4).map(|_| rig.stranger()).collect();
    assert!(rig.kernel.0.borrow().listening.is_empty(), "two slots are left for those in the backlog");
    assert_eq!(rig.counters().left_group, 1);
    assert_eq!((rig.closed(late[2]), rig.closed(late[3])), (None, Some(true)));
    assert_eq!(rig.ends(End::Full), 1);
    clients[..2].iter().for_each(|conn| rig.leave(*conn));
    assert!(rig.kernel.0.borrow().listening.is_empty(), "not yet: it would leave again at once");
    clients[2..6].iter().for_each(|conn| rig.leave(*conn));
    assert!(rig.kernel.0.borrow().listening.contains(&0));
    rig.finish();
}

#[test]
fn an_address_has_its_share() {
    let mut rig = Rig::with(ShardConfig { max_per_address: 2, ..config() });
    let conns: Vec<u32> = (0..3).map(|_| rig.stranger()).collect();
    assert_eq!(conns.iter().filter(|conn| rig.closed(**conn).is_some()).count(), 1);
    assert_eq!(rig.ends(End::PerAddress), 1);
    rig.finish();
}

#[test]
fn the_oldest_handshake_gives_way() {
    let most = MAX_HANDSHAKES as u32;
    let mut rig = Rig::with(ShardConfig { max_clients: most + 100, ..config() });
    let ready = rig.client(PLAIN);
    let peer = "192.0.2.9:1".parse().unwrap();
    let oldest = rig.stranger();
    for _ in 1..most {
        rig.kernel.connect(peer);
    }
    rig.settle();
    assert_eq!((rig.closed(oldest), rig.ends(End::HandshakeEvicted)), (None, 0));
    rig.stranger();
    assert!(rig.closed(oldest).is_some() && rig.closed(ready).is_none());
    assert_eq!(rig.ends(End::HandshakeEvicted), 1);
}

#[test]
fn troubles_of_the_kernel_are_counted_and_reported() {
    let mut rig = Rig::new();
    rig.kernel.done(Done::AcceptFailed { listener: ListenerId(0), errno: 24 });
    rig.kernel.0.borrow_mut().counters.no_buffers = 5;
    rig.advance(2);
    assert_eq!(rig.counters().accept_failed, 1);
    assert_eq!(rig.report.as_ref().unwrap().kernel.no_buffers, 5);
    rig.finish();
}

#[test]
fn long_messages_beyond_the_budget_end_their_sender() {
    // The least that can be configured: one such message fits into the half that messages in parts may use, two do not.
    let budget = 16_000_000;
    let mut rig = Rig::with(ShardConfig { buffer_budget: budget, ..config() });
    let (first, second, other) = (rig.client(PLAIN), rig.client(PLAIN), rig.client(PLAIN));
    let long = message("block", &vec![0; MAX_MESSAGE]);
    rig.send(first, &long[..3_900_000]);
    rig.send(second, &long[..3_900_000]);
    assert_eq!(rig.ends(End::NoBuffer), 1);
    assert!(rig.shard.core().buffer_bytes() < 2 * budget, "{}", rig.shard.core().buffer_bytes());
    rig.send(other, &ping(1));
    assert_eq!(rig.commands(other), ["pong"]);
    rig.finish();
}

// ---- one message at a time -----------------------------------------------------------------------------

#[test]
fn an_announcement_waits_for_the_end_of_a_file() {
    let mut rig = Rig::new();
    let client = rig.client(PLAIN);
    let old = *rig.chain.at(2).unwrap().hash();
    rig.send(client, &getdata(&[(InvKind::WitnessBlock, old)]));
    let (to, want) = rig.want();
    assert_eq!(want, Want::Block(old));
    let long = message("block", &vec![7; 3 * FILE_CHUNK + 1_000]);
    rig.hold(client, true);
    rig.answer(to, extents(&[long.clone(), ping(1)]));
    // The first chunk is in the socket's way; the announcement comes, and must not get between the chunks.
    rig.mine();
    rig.settle();
    rig.kernel.0.borrow_mut().holds_reads = true;
    rig.hold(client, false);
    // The second was read while the first was on its way.
    assert_eq!(rig.kernel.0.borrow().peers[&client].out.len(), 2 * FILE_CHUNK, "waits for the read");
    rig.kernel.0.borrow_mut().holds_reads = false;
    rig.settle();
    let told = rig.messages(client);
    let commands: Vec<&str> = told.iter().map(|(command, _)| command.as_str()).collect();
    let block = commands.iter().position(|command| *command == "block").unwrap();
    assert_eq!(told[block].1, long[24..]);
    assert!(commands.contains(&"inv"), "{commands:?}");
    assert_eq!(commands.iter().filter(|command| **command == "ping").count(), 1);
    rig.finish();
}

#[test]
fn files_are_read_ahead_only_while_few_clients_are_served() {
    let mut rig = Rig::with(ShardConfig { buffer_budget: 64_000_000, ..config() });
    let old = *rig.chain.at(2).unwrap().hash();
    let long = message("block", &vec![7; 3 * FILE_CHUNK]);
    for served in 1..=64 {
        let client = rig.client(PLAIN);
        rig.hold(client, true);
        rig.send(client, &getdata(&[(InvKind::WitnessBlock, old)]));
        let (to, _) = rig.want();
        rig.answer(to, extents(std::slice::from_ref(&long)));
        rig.settle();
        let ahead = (served * FILE_CHUNK).min(READ_AHEAD);
        let chunks = rig.shard.core().buffer_bytes() / FILE_CHUNK;
        assert!(chunks * FILE_CHUNK >= served * FILE_CHUNK, "{served} clients, {chunks} chunks");
        assert!(chunks * FILE_CHUNK <= served * FILE_CHUNK + ahead, "{served} clients, {chunks} chunks");
        if served == 1 {
            assert_eq!(chunks, 2, "one is sent, one is ready");
        }
    }
    assert!(rig.shard.core().buffer_bytes() < READ_AHEAD / 2 + 65 * FILE_CHUNK);
    rig.finish();
}

#[test]
fn a_getdata_is_answered_in_its_order_however_late() {
    let mut rig = Rig::new();
    let client = rig.client(PLAIN);
    let (known, unknown) = (tx_news(1), tx_news(2));
    rig.tell(ToShard::Txs(vec![known.clone()].into()));
    rig.advance(2);
    rig.messages(client);
    let old = *rig.chain.at(2).unwrap().hash();
    let recent = *rig.chain.tip().hash();
    let mut input = getdata(&[
        (InvKind::WitnessBlock, old),
        (InvKind::Wtx, known.wtxid),
        (InvKind::WitnessBlock, [9; 32]),
        (InvKind::WitnessTx, unknown.txid),
        (InvKind::WitnessBlock, recent),
    ]);
    input.extend(ping(5));
    rig.send(client, &input);
    assert!(rig.messages(client).is_empty(), "nothing before the first entry");
    let (to, want) = rig.want();
    assert_eq!(want, Want::Block(old));
    rig.answer(to, extents(&[rig.chain.at(2).unwrap().message().to_vec()]));
    assert_eq!(rig.commands(client), ["block", "tx"]);
    let (to, want) = rig.want();
    assert_eq!(want, Want::Tx { hash: unknown.txid, by_wtxid: false });
    rig.answer(to, Answer::Missing);
    let told = rig.messages(client);
    let commands: Vec<&str> = told.iter().map(|(command, _)| command.as_str()).collect();
    assert_eq!(commands, ["block", "notfound", "pong"]);
    assert_eq!(hashes("notfound", &told[1].1), [[9; 32], unknown.txid]);
    rig.finish();
}

#[test]
fn notfound_follows_a_getdata_that_ends_with_a_file() {
    let mut rig = Rig::new();
    let client = rig.client(PLAIN);
    let old = *rig.chain.at(2).unwrap().hash();
    rig.send(client, &getdata(&[(InvKind::WitnessBlock, [9; 32]), (InvKind::WitnessBlock, old)]));
    let (to, want) = rig.want();
    assert_eq!(want, Want::Block(old));
    rig.answer(to, extents(&[rig.chain.at(2).unwrap().message().to_vec()]));
    let told = rig.messages(client);
    let commands: Vec<&str> = told.iter().map(|(command, _)| command.as_str()).collect();
    assert_eq!(commands, ["block", "notfound"]);
    assert_eq!(hashes("notfound", &told[1].1), [[9; 32]]);
    rig.finish();
}

#[test]
fn answers_for_those_who_have_left_are_dropped() {
    let mut rig = Rig::new();
    let client = rig.client(PLAIN);
    let old = *rig.chain.at(2).unwrap().hash();
    rig.send(client, &getdata(&[(InvKind::WitnessBlock, old)]));
    let (to, _) = rig.want();
    // A client that waits is not read, so its close is seen by the next send.
    rig.tell(ToShard::Drain);
    rig.settle();
    rig.advance(4);
    rig.tell(ToShard::Answer { client: to.client, id: to.id, answer: Answer::Missing });
    rig.assert_over();
}

#[test]
fn a_file_that_is_shorter_than_promised_ends_the_client() {
    let mut rig = Rig::new();
    let client = rig.client(PLAIN);
    let old = *rig.chain.at(2).unwrap().hash();
    rig.send(client, &getdata(&[(InvKind::WitnessBlock, old)]));
    let (to, _) = rig.want();
    let Answer::Extents(mut list) = extents(&[vec![0; 1_000]]) else { panic!() };
    list[0].len = 2_000;
    rig.answer(to, Answer::Extents(list));
    assert!(rig.closed(client).is_some());
    assert_eq!(rig.ends(End::StoreFailed), 1);
    rig.finish();
}

// ---- announcements -------------------------------------------------------------------------------------

#[test]
fn each_client_hears_of_a_block_in_its_form() {
    let mut rig = Rig::new();
    let plain = rig.client(PLAIN);
    let headers = rig.client(Manner { headers: true, ..PLAIN });
    let low = rig.client(Manner { headers: true, compact: Some(false), ..PLAIN });
    let high = rig.client(Manner { compact: Some(true), ..PLAIN });
    let unsynced = rig.client(Manner { headers: true, compact: Some(true), ..PLAIN });
    for conn in [plain, headers, low, high] {
        rig.sync(conn);
    }
    rig.mine();
    rig.settle();
    assert_eq!(rig.commands(plain), ["inv"]);
    assert_eq!(rig.commands(headers), ["headers"]);
    assert_eq!(rig.commands(low), ["headers"]);
    assert_eq!(rig.commands(high), ["cmpctblock"]);
    assert_eq!(rig.commands(unsynced), ["inv"], "nobody knows whether it has the parent");
    rig.finish();
}

#[test]
fn transactions_go_to_those_who_want_them() {
    let mut rig = Rig::new();
    let wants = rig.client(PLAIN);
    let old = rig.client(Manner { wtxid: false, ..PLAIN });
    let silent = rig.client(Manner { relay: false, ..PLAIN });
    let full = rig.client(PLAIN);
    rig.send(full, &message("feefilter", &FEEFILTER_NO_TX.to_le_bytes()));
    let tx = tx_news(1);
    rig.tell(ToShard::Txs(vec![tx.clone()].into()));
    rig.settle();
    assert!(rig.messages(wants).is_empty(), "gathered for an interval");
    rig.advance(2);
    let told = rig.messages(wants);
    assert_eq!(hashes("inv", &told[0].1), [tx.wtxid]);
    assert_eq!(told[0].1[1], 5, "by wtxid");
    assert_eq!(rig.messages(old)[0].1[1], 1, "by txid");
    assert!(rig.messages(silent).is_empty());
    assert!(rig.messages(full).is_empty());
    // feefilter does not wake what fRelay has put to sleep.
    rig.send(silent, &message("feefilter", &0u64.to_le_bytes()));
    rig.tell(ToShard::Txs(vec![tx_news(2)].into()));
    rig.advance(2);
    assert!(rig.messages(silent).is_empty());
    rig.finish();
}

#[test]
fn who_is_far_behind_hears_of_the_tip() {
    let mut rig = Rig::new();
    let slow = rig.client(Manner { headers: true, ..PLAIN });
    rig.sync(slow);
    rig.hold(slow, true);
    rig.send(slow, &ping(1));
    let mut tip = [0; 32];
    for _ in 0..BLOCK_LOG + 5 {
        tip = rig.mine();
        rig.settle();
    }
    rig.hold(slow, false);
    let told = rig.messages(slow);
    let commands: Vec<&str> = told.iter().map(|(command, _)| command.as_str()).collect();
    assert_eq!(commands, ["pong", "inv"]);
    assert_eq!(hashes("inv", &told[1].1), [tip]);
    assert_eq!(rig.counters().block_log_missed, 1);
    // It catches up by asking, and hears by headers again.
    rig.sync(slow);
    rig.mine();
    rig.settle();
    assert_eq!(rig.commands(slow), ["headers"]);
    rig.finish();
}

// ---- transactions of clients ---------------------------------------------------------------------------

#[test]
fn a_transaction_reaches_the_hub_once() {
    let mut rig = Rig::new();
    let (a, b) = (rig.client(PLAIN), rig.client(PLAIN));
    let tx = tx_news(1);
    rig.send(a, &tx.message);
    rig.send(b, &tx.message);
    rig.send(b, &message("tx", &[1, 2, 3]));
    let count = rig.heard.iter().filter(|entry| matches!(entry, ToHub::Tx { .. })).count();
    assert_eq!((count, rig.counters().tx_duplicate, rig.faults(Fault::BadTx)), (1, 1, 1));
    rig.finish();
}

#[test]
fn memory_per_client() {
    let text = client_sizes().map(|(what, bytes)| format!("{what}: {bytes}")).join("\n");
    insta::assert_snapshot!(text, @r"
    client: 160
    table slot: 168
    timer entry: 8
    only while active: 328
    ");
}

#[test]
fn a_stream_may_come_in_any_pieces() {
    let mut input = version(true, 9);
    input.extend(message("verack", &[]));
    input.extend(ping(1));
    input.extend(message("getaddr", &[]));
    input.extend(message("frobnicate", &[1; 100]));
    input.extend(ping(2));
    for piece in [1, 2, 3, 23, 24, 25, 1_000] {
        let mut rig = Rig::new();
        rig.tell(ToShard::Addresses {
            addr: Bytes::from(message("addr", &[0])),
            addrv2: Bytes::from(message("addrv2", &[0])),
        });
        rig.kernel.0.borrow_mut().piece = piece;
        let conn = rig.stranger();
        rig.send(conn, &input);
        let commands = rig.commands(conn);
        let end = commands.len() - 3;
        assert_eq!(commands[end..], ["pong", "addr", "pong"], "in pieces of {piece}");
        rig.finish();
    }
}

// ---- what a client cannot do to the others -------------------------------------------------------------

#[test]
fn who_takes_nothing_gives_way_when_the_buffers_are_used_up() {
    let mut rig = Rig::with(ShardConfig { buffer_budget: 16_000_000, ..config() });
    let old = *rig.chain.at(2).unwrap().hash();
    let long = message("block", &vec![7; MAX_MESSAGE]);
    let greedy: Vec<u32> = (0..6).map(|_| rig.client(PLAIN)).collect();
    for &client in &greedy {
        rig.hold(client, true);
        rig.send(client, &getdata(&[(InvKind::WitnessBlock, old)]));
        let (to, _) = rig.want();
        rig.answer(to, Answer::Bytes(long.clone().into()));
    }
    let honest = rig.client(PLAIN);
    assert!(rig.shard.core().buffer_bytes() > 16_000_000);
    rig.advance(5);
    assert!(rig.ends(End::Stalled) >= 3, "{}", rig.ends(End::Stalled));
    assert!(rig.shard.core().buffer_bytes() <= 16_000_000, "{}", rig.shard.core().buffer_bytes());
    rig.send(honest, &ping(1));
    assert_eq!(rig.commands(honest), ["pong"]);
    for client in greedy {
        rig.hold(client, false);
    }
    rig.finish();
}

#[test]
fn an_announcement_repeated_keeps_nobody_else_from_being_asked() {
    let mut rig = Rig::new();
    let (loud, other) = (rig.client(PLAIN), rig.client(PLAIN));
    let mut inv = Vec::new();
    let entry = Inv { kind: InvKind::Wtx, hash: tx_news(9).wtxid };
    write::inventory(&mut inv, MAGIC, "inv", std::iter::once(entry));
    for _ in 0..10 {
        rig.send(loud, &inv);
        rig.settle();
    }
    rig.send(other, &inv);
    rig.settle();
    assert_eq!(rig.counters().tx_inv_passed, 2, "each announcer once");
    rig.finish();
}

#[test]
fn a_client_without_headers_is_led_on_by_the_tip() {
    let mut rig = Rig::on(config(), {
        let mut chain = breakwater::stub::StubChain::new(3, 1_690_000_000);
        chain.grow(700, 1_690_100_000);
        chain
    });
    let client = rig.client(PLAIN);
    let mut request = Vec::new();
    let genesis = *rig.chain.at(0).unwrap().hash();
    write::locator(&mut request, MAGIC, "getblocks", [genesis].iter(), &[0; 32]);
    rig.send(client, &request);
    let told = rig.messages(client);
    assert_eq!(told.len(), 1);
    // The 500th block is the last of the answer: once it is fetched, the tip is named.
    let last = *rig.chain.at(500).unwrap().hash();
    rig.send(client, &getdata(&[(InvKind::WitnessBlock, last)]));
    let (to, _) = rig.want();
    rig.answer(to, Answer::Bytes(message("block", b"the 500th").into()));
    let told = rig.messages(client);
    let tip = rig.chain.tip_hash();
    let inv = told.iter().find(|(command, _)| command == "inv").unwrap();
    assert!(inv.1.ends_with(&tip), "the tip is named");
    assert!(told.iter().any(|(command, _)| command == "block"));
    rig.finish();
}

#[test]
fn a_changed_fee_filter_is_told_to_everybody() {
    let mut rig = Rig::new();
    let clients: Vec<u32> = (0..100).map(|_| rig.client(PLAIN)).collect();
    let services = breakwater::wire::Services::NETWORK;
    let policy = breakwater::link::Policy { services, fee_filter: 5_000, mempool: false };
    rig.tell(ToShard::Policy(policy.clone().into()));
    rig.settle();
    for &client in &clients {
        let told = rig.messages(client);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].0.as_str(), &told[0].1[..]), ("feefilter", &5_000u64.to_le_bytes()[..]));
    }
    rig.tell(ToShard::Policy(policy.into()));
    rig.settle();
    assert!(clients.iter().all(|&client| rig.messages(client).is_empty()), "only when it changes");
    rig.finish();
}
