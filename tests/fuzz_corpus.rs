//! Replays the fuzz corpus, and seeded mutations of it, through the bodies of the fuzz targets with any compiler.
//!
//! A failing mutation is printed as hexadecimal: keep it as a file of the corpus once it is fixed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use breakwater::base::limits::HEADER_LEN;
use breakwater::stub::{MAGIC, StubChain};
use breakwater::wire::{Inv, InvKind, write};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Mutations per target.
const MUTATIONS: usize = 20_000;
/// Longest mutation.
const LONGEST: usize = 16 * 1024;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

/// The corpus of a target in the order of its names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder(target)).expect(target).map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!files.is_empty(), "no corpus for {target}");
    files
}

fn run(name: &str, body: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        let hex = input.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        eprintln!("target {name}, {} bytes: {hex}", input.len());
        std::panic::resume_unwind(panic);
    }
}

fn replay(name: &str) {
    let body = fuzz::TARGETS.iter().find(|(target, _)| *target == name).expect(name).1;
    let corpus = corpus(name);
    corpus.iter().for_each(|input| run(name, body, input));
    let mut rng = SmallRng::seed_from_u64(20_260_101);
    for _ in 0..MUTATIONS {
        let input = mutated(&mut rng, &corpus);
        run(name, body, &input);
    }
}

fn mutated(rng: &mut SmallRng, corpus: &[Vec<u8>]) -> Vec<u8> {
    const NUMBERS: [u32; 10] = [0, 1, 0x7f, 0x80, 0xfc, 0xfd, 0xff, 0xffff, 0x7fff_ffff, u32::MAX];
    let mut input = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=input.len());
        let end = (at + rng.random_range(0..64)).min(input.len());
        match rng.random_range(0..8) {
            0 | 1 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            2 if at < input.len() => input[at] = rng.random(),
            3 => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            5 => {
                let other = &corpus[rng.random_range(0..corpus.len())];
                let from = rng.random_range(0..=other.len());
                let to = (from + rng.random_range(0..512)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            6 => {
                let number = NUMBERS[rng.random_range(0..NUMBERS.len())].to_le_bytes();
                let width = [1, 2, 4][rng.random_range(0..3)].min(input.len() - at);
                input[at..at + width].copy_from_slice(&number[..width]);
            }
            _ => input.truncate(at),
        }
        input.truncate(LONGEST);
    }
    input
}

macro_rules! replays {
    ($($name:ident)+) => {
        $(#[test] fn $name() { replay(stringify!($name)); })+

        #[test]
        fn every_target_is_replayed() {
            let here = [$(stringify!($name)),+];
            assert!(fuzz::TARGETS.iter().map(|(name, _)| *name).eq(here));
        }
    };
}

replays! { wire tx compact chain session config client tls_records tls_handshake }

// ---- seeds ---------------------------------------------------------------------------------------------

/// Writes the seeds of every target. Run by hand after a change of what they are made of.
#[test]
#[ignore = "writes into the source tree"]
fn write_seeds() {
    let save = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(folder(target)).unwrap();
        fs::write(folder(target).join(name), bytes).unwrap();
    };
    let messages = messages();
    for (name, bytes) in &messages {
        save("wire", name, &[&[1], &bytes[..]].concat());
        save("client", name, &[&[1, 1, 255, 0], &bytes[..]].concat());
    }
    let hello = fuzz::rig::version(true, 7);
    let whole: Vec<u8> = messages.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    save("client", "everything", &[&[1, 7, 255, 1], &whole[..]].concat());
    save("client", "handshake", &[&[0, 0, 1, 0], &hello[..], &empty("verack"), &whole[..200]].concat());
    save("client", "slowly", &[&[1, 1, 2, 39], &whole[..900]].concat());
    let known = fuzz::known();
    save("tx", "block", known.block.bytes());
    for (n, tx) in known.block.block().txdata.iter().enumerate().take(3) {
        save("tx", &format!("tx{n}"), &bitcoin::consensus::serialize(tx));
    }
    let compact = known.block.cmpct_message();
    let announced = &compact[HEADER_LEN..];
    let length = u16::try_from(announced.len()).unwrap().to_le_bytes();
    let partial =
        breakwater::hub::compact::Partial::start(MAGIC, announced, &known.mempool).expect("a compact block");
    assert!(partial.found() > 0 && !partial.missing().is_empty(), "a seed that uses the mempool");
    let answer = known.block.block_txn_message(partial.missing()).unwrap();
    partial.fill(&answer[HEADER_LEN..]).expect("the block");
    save("compact", "filled", &[&length[..], announced, &answer[HEADER_LEN..]].concat());
    save("compact", "unfilled", &[&length[..], announced].concat());
    save("chain", "straight", &[0, 11, 0, 1, 12, 11, 0, 2, 24, 11, 0, 3]);
    save("chain", "fork", &[0, 3, 0, 1, 1, 5, 0, 2, 0, 9, 0, 3, 3, 2, 0x10, 4, 3, 2, 0x11, 5]);
    save(
        "chain",
        "spoilt",
        &[0, 3, 0, 1, 2, 4, 0x10, 2, 2, 4, 0x11, 3, 2, 4, 0x12, 4, 2, 4, 0x13, 5, 2, 4, 0, 6],
    );
    let mut greeting = vec![1];
    greeting.extend(&hello);
    for name in ["wtxidrelay", "sendaddrv2", "verack"] {
        greeting.extend(empty(name));
    }
    for (kind, name) in [(1, "main"), (3, "ear"), (5, "rare")] {
        greeting[0] = kind;
        save("session", name, &[&greeting[..], &whole[..400]].concat());
    }
    for (name, bytes) in fuzz::first_words() {
        save("tls_handshake", name, &[&[u8::from(name == "flight"), 255], &bytes[..]].concat());
        save(
            "tls_handshake",
            &format!("{name}_slowly"),
            &[&[u8::from(name == "flight"), 0], &bytes[..]].concat(),
        );
    }
    // Steps of `tls_records`: data, KeyUpdates (one cut, one asked for), a ticket, an alert, padding, a flipped bit, pieces, an end.
    let deliver = [6, 200];
    let update = [&[5 << 3 | 1, 22, 24, 0, 0, 1, 0], &deliver[..]].concat();
    let cut = [&[2 << 3 | 1, 22, 24, 0, 3 << 3 | 1, 22, 0, 1, 1], &deliver[..]].concat();
    let ticket = [&[8 << 3 | 1, 22, 4, 0, 0, 4, 9, 9, 9, 9], &deliver[..]].concat();
    let records: [(&str, &[&[u8]]); 8] = [
        ("data", &[&[0, 0, 3, 0, 255, 6, 255], &[0, 7], &deliver]),
        ("refresh", &[&[1, 3, 0, 0, 9, 3, 1, 0, 8], &deliver, &[3, 1, 3, 0, 0, 1], &deliver]),
        ("update", &[&[2], &update, &[0, 1], &deliver]),
        ("cut", &[&[0], &cut]),
        ("ticket", &[&[5], &ticket, &[0, 5], &deliver]),
        ("alert", &[&[1, 0, 3, 2 << 3 | 1, 21, 1, 90, 2 << 3 | 1, 21, 2, 40], &deliver]),
        ("padding", &[&[0, 4 << 3 | 1, 0, 7, 23, 0, 0, 1, 23], &deliver, &[7, 0], &deliver]),
        ("spoilt", &[&[2, 0, 2, 1 << 3 | 4, 9, 64, 6, 30]]),
    ];
    for (name, steps) in records {
        save("tls_records", name, &steps.concat());
    }
    save("config", "default", breakwater::control::config::DEFAULT.as_bytes());
    let given = "network = \"regtest\"\nnodes = [\"127.0.0.1:18444\"]\nlisten = [\"[::1]:1\"]\nkeep = \"all\"\nshards = 2\n";
    save("config", "given", given.as_bytes());
    save("config", "unknown", b"max_client = 3\n");
    save("config", "lines", b"network = \"reg\\ntest\"\n");
    save("config", "key", b"\"a\\nb\" = \"x\"\n");
}

fn empty(command: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write::empty(&mut out, MAGIC, command);
    out
}

/// One of each message a client may send.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let mut chain = StubChain::new(3, 1_690_000_000);
    chain.grow(fuzz::rig::HEIGHT, 1_690_100_000);
    let (tip, old) = (chain.tip_hash(), *chain.at(2).unwrap().hash());
    let make = |fill: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        fill(&mut out);
        out
    };
    let entry = |kind, hash| Inv { kind, hash };
    let list = [
        entry(InvKind::WitnessBlock, tip),
        entry(InvKind::Block, old),
        entry(InvKind::CompactBlock, tip),
        entry(InvKind::Wtx, [1; 32]),
        entry(InvKind::Tx, [2; 32]),
    ];
    let tx = fuzz::rig::tx_news(1);
    vec![
        ("version", fuzz::rig::version(true, 7)),
        ("verack", empty("verack")),
        ("wtxidrelay", empty("wtxidrelay")),
        ("sendheaders", empty("sendheaders")),
        ("getaddr", empty("getaddr")),
        ("ping", make(&|out| write::ping(out, MAGIC, 1))),
        ("sendcmpct", make(&|out| write::send_cmpct(out, MAGIC, true, 2))),
        ("feefilter", make(&|out| write::fee_filter(out, MAGIC, 1_000))),
        ("getheaders", make(&|out| write::locator(out, MAGIC, "getheaders", [&old].into_iter(), &[0; 32]))),
        ("getblocks", make(&|out| write::locator(out, MAGIC, "getblocks", [&old].into_iter(), &tip))),
        ("getdata", make(&|out| write::inventory(out, MAGIC, "getdata", list.into_iter()))),
        ("inv", make(&|out| write::inventory(out, MAGIC, "inv", list.into_iter()))),
        ("notfound", make(&|out| write::inventory(out, MAGIC, "notfound", list[3..].iter().copied()))),
        ("getcfilters", make(&|out| write::filter_request(out, MAGIC, "getcfilters", 1, &tip))),
        ("getcfheaders", make(&|out| write::filter_request(out, MAGIC, "getcfheaders", 1, &tip))),
        ("getblocktxn", make(&|out| write::get_block_txn(out, MAGIC, &tip, &[0]))),
        ("headers", make(&|out| write::headers(out, MAGIC, [chain.tip().header()].into_iter()))),
        ("block", chain.tip().message().to_vec()),
        ("cmpctblock", chain.tip().cmpct_message().to_vec()),
        ("tx", tx.message.to_vec()),
        ("getcfcheckpt", make(&|out| write::raw(out, MAGIC, "getcfcheckpt", &[&[0], &tip[..]].concat()))),
        ("unknown", make(&|out| write::raw(out, MAGIC, "frobnicate", b"what"))),
    ]
}
