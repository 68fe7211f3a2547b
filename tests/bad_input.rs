//! Bad input against the relay's own binary: each row has its outcome, its counter, and honest clients on both shards
//! that have their pings answered and hear of the next block all the same.
//!
//! | what comes                                  | outcome (as Bitcoin Core)               | counter                      |
//! |---------------------------------------------|-----------------------------------------|------------------------------|
//! | wrong magic                                 | disconnected                            | ends wrong_magic             |
//! | bad checksum                                | message dropped                         | faults bad_checksum          |
//! | length above 4,000,000                      | disconnected at the header              | ends oversize                |
//! | unknown command                             | ignored                                 | faults unknown_command       |
//! | command that is no name                     | message dropped                         | faults bad_command           |
//! | count not in its shortest form              | message dropped                         | faults non_canonical         |
//! | truncated message, then close               | gone                                    | ends truncated               |
//! | a byte now and then                         | read as it comes; ended after 120 s     | ends slow_message (`shard`)  |
//! | message before version                      | ignored                                 | faults before_version        |
//! | second version, second verack               | ignored                                 | faults redundant             |
//! | > 50,000 inv, getdata, notfound; > 2,000 headers; > 1,000 addr, addrv2; > 101 locator hashes | disconnected | ends too_many_entries |
//! | short ping                                  | message dropped, no pong                | faults short                 |
//! | unrequested block                           | ignored                                 | faults unrequested_block     |
//! | unrequested headers                         | ignored                                 | faults unrequested_headers   |
//! | headers or block without proof of work, headers that do not connect | disconnected    | ends invalid_headers         |
//! | a thousand connects and closes              | a thousand ends                         | ends closed, reset           |
//! | asks and never reads                        | one send waits, its input is not read; ended after 120 s | ends stalled (`shard`) |
//! | the same 4 MB block ten thousand times      | served at its pace, from memory         | served_local                 |
//! | our own nonce in version                    | disconnected                            | ends self_connection         |
//!
//! What takes minutes is in `tests/shard.rs`, on a clock that jumps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

#[path = "bad_input/scene.rs"]
mod scene;
mod support;

use std::time::{Duration, Instant};

use bitcoin::hashes::Hash as _;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use breakwater::base::limits::{MAX_ADDR, MAX_HEADERS, MAX_INV, MAX_LOCATOR, MAX_MESSAGE};
use breakwater::stub::{MAGIC, StubChain};
use breakwater::wire::{self, write};

use scene::{Scene, list, message};
use support::client::{Client, Options};
use support::stub_node::unix_now;
use support::wait::{self, PATIENCE};

/// Each of `inputs` from a client of its own ends that client, is counted, and harms nobody.
#[track_caller]
fn ended(reason: &str, inputs: &[Vec<u8>]) {
    let mut scene = Scene::new();
    for input in inputs {
        let mut client = scene.client();
        client.send_raw(input).unwrap();
        client.expect_closed(PATIENCE);
    }
    scene.assert_unharmed();
    scene.wait_ends(reason, inputs.len() as u64);
    assert_eq!(scene.ends(reason), inputs.len() as u64, "ends_total of {reason}");
}

/// Each of `inputs` is forgiven: the same client has its next ping answered. It is counted, and harms nobody.
#[track_caller]
fn forgiven(fault: &str, inputs: &[Vec<u8>]) {
    let mut scene = Scene::new();
    let mut client = scene.client();
    for input in inputs {
        client.send_raw(input).unwrap();
        client.ping();
    }
    scene.assert_unharmed();
    scene.wait_faults(fault, inputs.len() as u64);
    assert_eq!(scene.faults(fault), inputs.len() as u64, "faults_total of {fault}");
}

fn with_byte(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    bytes
}

fn ping(payload: &[u8]) -> Vec<u8> {
    message("ping", payload)
}

#[test]
fn wrong_magic() {
    ended(
        "wrong_magic",
        &[with_byte(ping(&[0; 8]), 0, 0xf9), b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0x16, 3, 1]],
    );
}

#[test]
fn bad_checksum() {
    forgiven("bad_checksum", &[with_byte(ping(&[0; 8]), 31, 1), with_byte(ping(&[0; 8]), 20, 0)]);
}

#[test]
fn oversize_length() {
    let length = |n: u32| {
        let mut bytes = ping(&[]);
        bytes[16..20].copy_from_slice(&n.to_le_bytes());
        bytes
    };
    ended("oversize", &[length(MAX_MESSAGE as u32 + 1), length(u32::MAX)]);
}

#[test]
fn unknown_command() {
    forgiven(
        "unknown_command",
        &[message("frobnicate", b"what"), message("", b""), message("PING", &[0; 8])],
    );
}

#[test]
fn command_that_is_no_name() {
    forgiven("bad_command", &[with_byte(ping(&[0; 8]), 4, 0xff), with_byte(ping(&[0; 8]), 12, b'x')]);
}

#[test]
fn non_canonical_varint() {
    let long = |command| message(command, &[[0xfd, 1, 0].as_slice(), &[0; 36]].concat());
    forgiven(
        "non_canonical",
        &[long("inv"), long("getdata"), message("inv", &[0xff, 1, 0, 0, 0, 0, 0, 0, 0]), long("headers")],
    );
}

#[test]
fn truncated_message_then_close() {
    let mut scene = Scene::new();
    let inputs = [&ping(&[0; 8])[..31], &ping(&[0; 8])[..3], &message("inv", &list(50_000, 36))[..100_000]];
    for input in inputs {
        let mut client = scene.client();
        client.send_raw(input).unwrap();
        client.shut_down_sending();
        client.expect_closed(PATIENCE);
    }
    scene.assert_unharmed();
    scene.wait_ends("truncated", 3);
}

#[test]
fn a_byte_now_and_then_is_read_and_harms_nobody() {
    let mut scene = Scene::new();
    let mut slow = scene.client();
    for byte in ping(&7u64.to_le_bytes()) {
        slow.send_raw(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        scene.honest[0].ping();
    }
    slow.recv_until("pong", PATIENCE, |m| matches!(m, NetworkMessage::Pong(7)).then_some(()));
    scene.assert_unharmed();
}

#[test]
fn message_before_version() {
    let mut scene = Scene::v1_only();
    let mut client = scene.stranger();
    let block = scene.node.with(|node| node.chain().tip().message().clone());
    let early = [
        ping(&[0; 8]),
        message("verack", &[]),
        message("getaddr", &[]),
        message("mempool", &[]),
        block.to_vec(),
    ];
    early.iter().for_each(|input| client.send_raw(input).unwrap());
    client.handshake(&Options::default()).unwrap();
    client.ping();
    scene.assert_unharmed();
    scene.wait_faults("before_version", 5);
}

#[test]
fn a_stream_that_does_not_begin_with_version_is_a_key_exchange_that_fails() {
    let mut scene = Scene::new();
    let mut client = scene.stranger();
    for _ in 0..200 {
        if client.send_raw(&ping(&[0; 8])).is_err() {
            break;
        }
    }
    scene.wait_ends("v2_garbage", 1);
    scene.assert_unharmed();
}

#[test]
fn second_version_and_second_verack() {
    let mut scene = Scene::new();
    let mut client = scene.client();
    let again = client.version_message(&Options::default());
    client.send(NetworkMessage::Version(again));
    client.send(NetworkMessage::Verack);
    client.ping();
    scene.assert_unharmed();
    scene.wait_faults("redundant", 2);
}

#[test]
fn too_many_entries() {
    let locator = |command| {
        let head = 70_016u32.to_le_bytes();
        message(command, &[&head[..], &list(MAX_LOCATOR as u64 + 1, 32), &[0; 32]].concat())
    };
    ended(
        "too_many_entries",
        &[
            message("inv", &list(MAX_INV as u64 + 1, 36)),
            message("getdata", &list(MAX_INV as u64 + 1, 36)),
            message("notfound", &list(MAX_INV as u64 + 1, 36)),
            message("headers", &list(MAX_HEADERS as u64 + 1, 81)),
            message("addr", &list(MAX_ADDR as u64 + 1, 30)),
            message("addrv2", &list(MAX_ADDR as u64 + 1, 30)),
            locator("getheaders"),
            locator("getblocks"),
            // The count alone is enough: nothing is allocated by it.
            message("inv", &[0xff, 0, 0, 0, 0, 0, 0, 0, 0xff]),
        ],
    );
}

#[test]
fn short_ping() {
    forgiven(
        "short",
        &[ping(&[]), ping(&[0; 7]), message("inv", &[2, 0, 0]), message("getheaders", &[0; 4])],
    );
}

#[test]
fn unrequested_block_and_headers() {
    let mut scene = Scene::new();
    let (block, compact, header) = scene.node.with(|node| {
        let tip = node.chain().tip();
        (tip.message().clone(), tip.cmpct_message(), *tip.header())
    });
    let mut headers = Vec::new();
    write::headers(&mut headers, MAGIC, [&header].into_iter());
    let mut client = scene.client();
    for input in [&block[..], &compact, &headers] {
        client.send_raw(input).unwrap();
        client.ping();
    }
    scene.assert_unharmed();
    scene.wait_faults("unrequested_block", 2);
    scene.wait_faults("unrequested_headers", 1);
}

#[test]
fn invalid_proof_of_work() {
    // Any header: with another nonce its hash misses even regtest's target every other time.
    let mut header = *StubChain::new(1, 1_700_000_000).tip().header();
    let linked = header;
    while wire::sha256d(&header)[31] < 0x80 {
        header[76] = header[76].wrapping_add(1);
    }
    let headers = |list: &[&[u8; 80]]| {
        let mut out = Vec::new();
        write::headers(&mut out, MAGIC, list.iter().copied());
        out
    };
    ended(
        "invalid_headers",
        &[
            headers(&[&header]),
            message("block", &header),
            message("cmpctblock", &[&header[..], &[0; 10]].concat()),
            // Valid work, but the second does not follow the first.
            headers(&[&linked, &linked]),
        ],
    );
}

#[test]
fn a_thousand_connects_and_closes() {
    let mut scene = Scene::new();
    for n in 0..1_000u32 {
        let mut client = scene.stranger();
        match n % 4 {
            0 => {}
            1 => client.send_raw(&ping(&[0; 8])[..20]).unwrap(),
            2 => client.send_raw(&message("verack", &[])).unwrap(),
            _ => {
                let version = client.version_message(&Options::default());
                client.send(NetworkMessage::Version(version));
            }
        }
        if n % 100 == 0 {
            scene.honest.iter_mut().for_each(Client::ping);
        }
    }
    scene.assert_unharmed();
    let ended = || ["closed", "reset", "truncated"].map(|reason| scene.ends(reason)).iter().sum::<u64>();
    wait::for_("a thousand ends", || ended() == 1_000);
    wait::for_("the honest ones are left", || scene.metric("breakwater_clients{", "") == 4);
}

/// A chain whose tip is about 4 MB.
fn chain_with_a_large_tip() -> StubChain {
    let mut chain = StubChain::new(9, unix_now() - 3_600);
    chain.grow(130, unix_now() - 120);
    chain.set_block_bytes(3_950_000);
    chain.mine(unix_now() - 60);
    chain.set_block_bytes(0);
    chain
}

#[test]
fn a_client_that_never_reads() {
    let mut scene = Scene::with_chain(chain_with_a_large_tip());
    let tip = scene.node.with(|node| node.chain().tip_hash());
    let before = scene.resident();
    let mut deaf: Vec<Client> = (0..20).map(|_| scene.client()).collect();
    let getdata = message("getdata", &[&[1u8, 2, 0, 0, 0x40][..], &tip].concat());
    for client in &mut deaf {
        // More than one answer fills the socket; then the relay stops reading, and in time so must we stop writing.
        (0..50).for_each(|_| client.send_raw(&getdata).unwrap());
        client.send_raw(&ping(&[0; 8])).unwrap();
    }
    scene.assert_unharmed();
    std::thread::sleep(Duration::from_secs(2));
    scene.assert_unharmed();
    let grown = scene.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more for 20 clients that do not read");
    let buffers = scene.metric("breakwater_buffer_bytes{", "");
    assert!(buffers < 8 << 20, "{buffers} bytes of buffers");
    drop(deaf);
    wait::for_("they are gone", || scene.metric("breakwater_clients{", "") == 4);
    wait::for_("their buffers are back", || scene.metric("breakwater_buffer_bytes{", "") < 64 << 10);
}

#[test]
fn the_same_large_block_ten_thousand_times() {
    let mut scene = Scene::with_chain(chain_with_a_large_tip());
    let tip = scene.node.with(|node| node.chain().tip_hash());
    let (size, served) =
        scene.node.with(|node| (node.chain().tip().message().len(), node.counters().blocks_served));
    assert!(size > 3_500_000, "the tip has {size} bytes");
    let before = scene.resident();
    let mut greedy = scene.client();
    let hash = bitcoin::BlockHash::from_byte_array(tip);
    greedy.send(NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash); 10_000]));
    for round in 0..40 {
        greedy.recv_until("the block", PATIENCE, |m| matches!(m, NetworkMessage::Block(_)).then_some(()));
        if round % 10 == 0 {
            let asked = Instant::now();
            scene.honest.iter_mut().for_each(Client::ping);
            assert!(asked.elapsed() < Duration::from_secs(5), "pings took {:?}", asked.elapsed());
        }
    }
    scene.assert_unharmed();
    let grown = scene.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more for one greedy client");
    let again = scene.node.with(|node| node.counters().blocks_served);
    assert!(again <= served + 1, "the node gave {} blocks for one client's greed", again - served);
    wait::for_("served from memory", || scene.metric("breakwater_served_local_total{", "") >= 40);
    drop(greedy);
    scene.assert_unharmed();
}

#[test]
fn self_connection() {
    let mut scene = Scene::new();
    let nonce = scene.client().version.as_ref().unwrap().nonce;
    let mut mirror = scene.stranger();
    let mut version = mirror.version_message(&Options::default());
    version.nonce = nonce;
    mirror.send(NetworkMessage::Version(version));
    mirror.expect_closed(PATIENCE);
    scene.assert_unharmed();
    scene.wait_ends("self_connection", 1);
}
