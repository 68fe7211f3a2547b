//! The table of bad input, as data. Its counterpart with the relay's counters is the header of `tests/bad_input.rs`.
//!
//! Outcomes are those of Bitcoin Core and of breakwater. Where Bitcoin Core ignores what breakwater ends (a notfound of any
//! length, a count beyond 32 MB, a compact block or a bare header without work), the input is in the row `attack-either`.
//! Of what comes before version Bitcoin Core with BIP324 makes a v2 handshake: that counts as thrown out, and is no error.
//! "Asks and never reads" is the behaviour `stalled`, which needs no input.

use bitcoin::bip152::HeaderAndShortIds;
use bitcoin::consensus::serialize;
use bitcoin::{Block, Network};
use breakwater::base::limits::{MAX_ADDR, MAX_HEADERS, MAX_INV, MAX_LOCATOR, MAX_MESSAGE, PROTOCOL_VERSION};
use breakwater::wire::{Magic, Services, Version, sha256d, write};

/// A row.
#[derive(Debug)]
pub struct Row {
    /// Its name in flags: `attack-...`.
    pub name: &'static str,
    /// One line.
    pub what: &'static str,
    /// How it is done.
    pub how: How,
    /// What must come of it.
    pub expect: Expect,
    /// True exactly when it is about the header of v1 messages, which v2 does not have.
    pub v1: bool,
    /// Its inputs, framed; a connection sends one of them in turn ([`How::Early`]: all).
    pub inputs: fn(Magic) -> Vec<Vec<u8>>,
    /// The error when it should have been thrown out.
    pub not_out: &'static str,
    /// The error when it should not.
    pub out: &'static str,
    /// The error when nothing comes of it.
    pub silent: &'static str,
}

/// How an attack is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// An input after the handshake.
    Send,
    /// The same; it is about the header of v1 messages.
    Header,
    /// All inputs before the handshake.
    Early,
    /// An input instead of the handshake; then it closes.
    Close,
    /// A part of a message after the handshake; then it closes.
    Part,
    /// A ping, a byte now and then.
    Drip,
    /// The same block ten thousand times.
    Greedy,
    /// The target's own nonce, from the connection before.
    Mirror,
}

/// What must come of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The target ends the connection.
    ThrownOut,
    /// The target goes on as if nothing had been.
    Forgiven,
    /// Implementations differ, rightly.
    Either,
}

macro_rules! row {
    ($name:literal, $how:ident, $expect:ident, $inputs:expr, $what:literal) => {
        Row {
            name: $name,
            what: $what,
            how: How::$how,
            expect: Expect::$expect,
            v1: matches!(How::$how, How::Header),
            inputs: $inputs,
            not_out: concat!($name, ": not thrown out"),
            out: concat!($name, ": thrown out"),
            silent: concat!($name, ": neither thrown out nor answered"),
        }
    };
}

/// All of them.
pub const ROWS: [Row; 18] = [
    row!("attack-wrong-magic", Header, ThrownOut, wrong_magic, "bytes of another network or protocol"),
    row!("attack-bad-checksum", Header, Forgiven, bad_checksum, "messages with a wrong checksum"),
    row!("attack-oversize", Header, ThrownOut, oversize, "a length above 4,000,000 bytes"),
    row!("attack-unknown-command", Send, Forgiven, unknown_command, "commands that do not exist"),
    row!("attack-bad-command", Send, Forgiven, bad_command, "commands that are no names"),
    row!("attack-non-canonical", Send, Forgiven, non_canonical, "counts not in their shortest form"),
    row!("attack-truncated", Part, Either, truncated, "part of a message, then closes"),
    row!("attack-drip", Drip, Forgiven, nothing, "a ping, a byte every 100 ms"),
    row!("attack-before-version", Early, Forgiven, before_version, "messages before version"),
    row!("attack-again", Send, Forgiven, again, "a second version and a second verack"),
    row!("attack-too-many", Send, ThrownOut, too_many, "more entries than the protocol allows"),
    row!("attack-short", Send, Forgiven, short, "payloads shorter than their fields"),
    row!("attack-unrequested", Send, Forgiven, unrequested, "blocks and headers nobody asked for"),
    row!("attack-no-work", Send, ThrownOut, no_work, "headers and blocks without proof of work"),
    row!("attack-close", Close, Either, close, "connects and closes"),
    row!("attack-greedy", Greedy, Forgiven, nothing, "the same block ten thousand times"),
    row!("attack-mirror", Mirror, Either, nothing, "the target's own nonce in version"),
    row!("attack-either", Send, Either, either, "what Bitcoin Core ignores and breakwater ends"),
];

fn nothing(_: Magic) -> Vec<Vec<u8>> {
    Vec::new()
}

fn wrong_magic(magic: Magic) -> Vec<Vec<u8>> {
    let mut ping = message(magic, "ping", &[0; 8]);
    ping[0] ^= 0x03;
    vec![ping, b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0x16, 3, 1]]
}

fn bad_checksum(magic: Magic) -> Vec<Vec<u8>> {
    let ping = message(magic, "ping", &[0; 8]);
    let sum = ping[20];
    vec![with_byte(&ping, 31, 1), with_byte(&ping, 20, sum ^ 0xff)]
}

fn oversize(magic: Magic) -> Vec<Vec<u8>> {
    let length = |n: u32| {
        let mut bytes = message(magic, "ping", &[]);
        bytes[16..20].copy_from_slice(&n.to_le_bytes());
        bytes
    };
    vec![length(MAX_MESSAGE as u32 + 1), length(u32::MAX)]
}

fn unknown_command(magic: Magic) -> Vec<Vec<u8>> {
    vec![message(magic, "frobnicate", b"what"), message(magic, "", b""), message(magic, "PING", &[0; 8])]
}

fn bad_command(magic: Magic) -> Vec<Vec<u8>> {
    let ping = message(magic, "ping", &[0; 8]);
    vec![with_byte(&ping, 4, 0xff), with_byte(&ping, 12, b'x')]
}

fn non_canonical(magic: Magic) -> Vec<Vec<u8>> {
    let long = |command| message(magic, command, &[[0xfd, 1, 0].as_slice(), &[0; 36]].concat());
    vec![
        long("inv"),
        long("getdata"),
        message(magic, "inv", &[0xff, 1, 0, 0, 0, 0, 0, 0, 0]),
        long("headers"),
    ]
}

fn truncated(magic: Magic) -> Vec<Vec<u8>> {
    let ping = message(magic, "ping", &[0; 8]);
    let mut inv = message(magic, "inv", &list(MAX_INV, 36));
    inv.truncate(100_000);
    vec![ping[..31].to_vec(), ping[..3].to_vec(), inv]
}

fn before_version(magic: Magic) -> Vec<Vec<u8>> {
    vec![
        message(magic, "ping", &[0; 8]),
        message(magic, "verack", &[]),
        message(magic, "getaddr", &[]),
        message(magic, "mempool", &[]),
        message(magic, "block", &serialize(&genesis(magic))),
    ]
}

fn again(magic: Magic) -> Vec<Vec<u8>> {
    vec![[version(magic), message(magic, "verack", &[])].concat()]
}

fn too_many(magic: Magic) -> Vec<Vec<u8>> {
    let locator = |command| {
        let head = PROTOCOL_VERSION.to_le_bytes();
        message(magic, command, &[&head[..], &list(MAX_LOCATOR + 1, 32), &[0; 32]].concat())
    };
    vec![
        message(magic, "inv", &list(MAX_INV + 1, 36)),
        message(magic, "getdata", &list(MAX_INV + 1, 36)),
        message(magic, "headers", &list(MAX_HEADERS + 1, 81)),
        message(magic, "addr", &list(MAX_ADDR + 1, 30)),
        message(magic, "addrv2", &list(MAX_ADDR + 1, 30)),
        locator("getheaders"),
        locator("getblocks"),
    ]
}

fn short(magic: Magic) -> Vec<Vec<u8>> {
    vec![
        message(magic, "ping", &[]),
        message(magic, "ping", &[0; 7]),
        message(magic, "inv", &[2, 0, 0]),
        message(magic, "getheaders", &[0; 4]),
    ]
}

fn unrequested(magic: Magic) -> Vec<Vec<u8>> {
    let block = genesis(magic);
    let mut out = vec![message(magic, "block", &serialize(&block))];
    // Only an unknown version or a prefill out of order is refused, and neither is given.
    if let Ok(compact) = HeaderAndShortIds::from_block(&block, 1, 2, &[]) {
        out.push(message(magic, "cmpctblock", &serialize(&compact)));
    }
    out.push(headers(magic, &[header(&block)]));
    out
}

fn no_work(magic: Magic) -> Vec<Vec<u8>> {
    let block = genesis(magic);
    let linked = header(&block);
    let header = workless(&linked);
    let mut bytes = serialize(&block);
    bytes[..80].copy_from_slice(&header);
    vec![
        headers(magic, &[header]),
        message(magic, "block", &bytes),
        // Valid work, but the second does not follow the first.
        headers(magic, &[linked, linked]),
    ]
}

fn close(magic: Magic) -> Vec<Vec<u8>> {
    let ping = message(magic, "ping", &[0; 8]);
    vec![Vec::new(), ping[..20].to_vec(), message(magic, "verack", &[]), version(magic)]
}

fn either(magic: Magic) -> Vec<Vec<u8>> {
    let header = workless(&header(&genesis(magic)));
    vec![
        message(magic, "notfound", &list(MAX_INV + 1, 36)),
        // The count alone is enough: nothing may be allocated by it.
        message(magic, "inv", &[0xff, 0, 0, 0, 0, 0, 0, 0, 0xff]),
        message(magic, "block", &header),
        message(magic, "cmpctblock", &[&header[..], &[0; 10]].concat()),
    ]
}

fn message(magic: Magic, command: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write::raw(&mut out, magic, command, payload);
    out
}

fn headers(magic: Magic, list: &[[u8; 80]]) -> Vec<u8> {
    let mut out = Vec::new();
    write::headers(&mut out, magic, list.iter());
    out
}

fn version(magic: Magic) -> Vec<u8> {
    let mut out = Vec::new();
    let version = Version {
        version: PROTOCOL_VERSION,
        services: Services::empty(),
        time: 1_700_000_000,
        receiver: ([127, 0, 0, 1], 8_333).into(),
        nonce: 7,
        user_agent: b"/breakwater-rig:again/",
        start_height: 0,
        relay: true,
    };
    write::version(&mut out, magic, &version);
    out
}

fn with_byte(bytes: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[at] = value;
    out
}

/// A count and that many entries of `entry` zeros.
fn list(count: usize, entry: usize) -> Vec<u8> {
    let mut out = Vec::new();
    write::compact(&mut out, count as u64);
    out.resize(out.len() + count * entry, 0);
    out
}

fn genesis(magic: Magic) -> Block {
    let network = Network::from_magic(bitcoin::p2p::Magic::from_bytes(magic)).unwrap_or(Network::Regtest);
    bitcoin::constants::genesis_block(network)
}

fn header(block: &Block) -> [u8; 80] {
    let mut out = [0; 80];
    out.copy_from_slice(&serialize(&block.header));
    out
}

/// The header with another nonce, so that its hash misses even regtest's target, which every other one meets.
fn workless(header: &[u8; 80]) -> [u8; 80] {
    let mut out = *header;
    out[76] = out[76].wrapping_add(1);
    while sha256d(&out)[31] < 0x80 {
        out[76] = out[76].wrapping_add(1);
    }
    out
}
