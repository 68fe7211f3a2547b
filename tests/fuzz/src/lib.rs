//! What the fuzz targets do with their bytes. No input may panic; where there is a second opinion (rust-bitcoin, a
//! model, a round trip, the shard's own books) the two must agree.
//!
//! - [`wire`]: framing and payloads of a stream; every list is walked
//! - [`tx`]: transactions and blocks against rust-bitcoin; stripping
//! - [`compact`]: compact blocks against a mempool, filled by `blocktxn`
//! - [`chain`]: trees of headers against a model of height and first seen
//! - [`session`]: a node's side of a link
//! - [`config`]: configuration files; every error is one line
//! - [`client`]: a client's stream against the production shard on a scripted kernel
//! - [`tls_records`], [`tls_handshake`]: in `tls.rs`
//!
//! Shared by `targets/` (libFuzzer) and `tests/fuzz_corpus.rs` (any compiler).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A panic is the finding.

use std::cell::OnceCell;
use std::collections::HashMap;

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;
use breakwater::base::limits::{HEADER_LEN, MAX_MESSAGE};
use breakwater::base::{Instant, Nonces};
use breakwater::control::Config;
use breakwater::hub::chain::Chain;
use breakwater::hub::compact::{Partial, check_block};
use breakwater::hub::mempool::Mempool;
use breakwater::hub::session::{LinkKind, Session, Us};
use breakwater::io::IoEnd;
use breakwater::link::{Answer, ToHub, ToShard};
use breakwater::stub::{MAGIC, StubBlock, StubChain};
use breakwater::wire::message::block_txn_indexes;
use breakwater::wire::tx::{strip_block, strip_tx};
use breakwater::wire::{self, BlockParts, Command, Hash, Message, Step, Tx, checksum, parse, split, write};

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

#[path = "tls.rs"]
mod tls;
#[allow(unused_imports)] // The corpus' maker asks for the first words.
pub use tls::first_words;
pub use tls::{tls_handshake, tls_records};

#[path = "../../shard/rig.rs"]
#[allow(dead_code)] // The shard's tests use the rest.
pub mod rig;
#[path = "../../shard/script.rs"]
#[allow(dead_code)]
pub mod script;

/// A target: takes any bytes.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("wire", wire),
    ("tx", tx),
    ("compact", compact),
    ("chain", chain),
    ("session", session),
    ("config", config),
    ("client", client),
    ("tls_records", tls_records),
    ("tls_handshake", tls_handshake),
];

// ---- wire ----------------------------------------------------------------------------------------------

/// A stream of frames, whose checksums are made right when the first byte is odd.
pub fn wire(data: &[u8]) {
    let stream = stream(data);
    let mut at = 0;
    loop {
        let rest = &stream[at..];
        match split(MAGIC, rest) {
            Step::Need(needed) => {
                assert!(needed > rest.len() && needed <= HEADER_LEN + MAX_MESSAGE, "needs {needed}");
                return;
            }
            Step::End(_) => return,
            Step::Drop { used, .. } => {
                assert!((HEADER_LEN..=rest.len()).contains(&used));
                at += used;
            }
            Step::Message { command, payload, used } => {
                assert_eq!(used, HEADER_LEN + payload.len());
                // A prefix of a message is never another message.
                assert!(matches!(split(MAGIC, &rest[..used - 1]), Step::Need(_)));
                payload_of(&command, payload);
                at += used;
            }
        }
    }
}

/// The rest of the data as a stream; see [`wire`].
fn stream(data: &[u8]) -> Vec<u8> {
    let Some((first, rest)) = data.split_first() else { return Vec::new() };
    let mut stream = rest.to_vec();
    if first & 1 == 1 {
        mend(&mut stream);
    }
    stream
}

/// Makes magic and checksum of whole frames right, so that what is behind them is reached.
pub fn mend(stream: &mut [u8]) {
    let mut rest = stream;
    while rest.len() >= HEADER_LEN {
        let (head, tail) = rest.split_at_mut(HEADER_LEN);
        let length = u32::from_le_bytes([head[16], head[17], head[18], head[19]]) as usize;
        let Some((payload, tail)) = tail.split_at_mut_checked(length) else { return };
        head[..4].copy_from_slice(&MAGIC);
        head[20..].copy_from_slice(&checksum(payload));
        rest = tail;
    }
}

fn payload_of(command: &Command, payload: &[u8]) {
    let Ok(message) = parse(command, payload) else { return };
    match message {
        Message::Inv(list) | Message::GetData(list) | Message::NotFound(list) => {
            assert_eq!(list.iter().count(), list.len());
            let mut again = Vec::new();
            write::inventory(&mut again, MAGIC, command.name(), list.iter().collect::<Vec<_>>().into_iter());
            assert!(payload.starts_with(&again[HEADER_LEN..]), "an inventory is written as it was read");
        }
        Message::Headers(list) => assert_eq!(list.iter().count(), list.len()),
        Message::GetHeaders { locator, stop } | Message::GetBlocks { locator, stop } => {
            let mut again = Vec::new();
            write::locator(
                &mut again,
                MAGIC,
                command.name(),
                locator.iter().collect::<Vec<_>>().into_iter(),
                &stop,
            );
            assert!(
                payload[4..].starts_with(&again[HEADER_LEN + 4..]),
                "a locator is written as it was read"
            );
        }
        Message::GetBlockTxn { indexes, .. } => {
            if let Ok(positions) = block_txn_indexes(indexes) {
                assert!(positions.is_sorted_by(|a, b| a < b), "positions ascend");
                assert!(positions.len() <= payload.len());
            }
        }
        Message::CFHeaders { hashes, .. } | Message::CFCheckpt { headers: hashes, .. } => {
            assert_eq!(hashes.iter().count(), hashes.len());
        }
        Message::Version(version) => assert!(version.user_agent.len() <= 256),
        Message::Tx(payload) => tx_of(payload),
        Message::Block(payload) => block_of(payload),
        _ => {}
    }
}

// ---- tx ------------------------------------------------------------------------------------------------

/// A transaction and, read again, a block.
pub fn tx(data: &[u8]) {
    tx_of(data);
    block_of(data);
}

fn tx_of(payload: &[u8]) {
    let ours = Tx::parse(payload);
    let theirs = deserialize::<bitcoin::Transaction>(payload);
    if let (Ok(ours), Ok(theirs)) = (&ours, &theirs) {
        assert_eq!(ours.txid(), theirs.compute_txid().to_byte_array());
        assert_eq!(ours.wtxid(), theirs.compute_wtxid().to_byte_array());
        assert_eq!(ours.output_count() as usize, theirs.output.len());
        assert_eq!(ours.spends().count(), theirs.input.len());
        assert_eq!(ours.output_scripts().count(), theirs.output.len());
    }
    // Without inputs it is no transaction for us, nor for the node.
    assert!(
        ours.is_ok() || theirs.as_ref().is_err() || theirs.as_ref().is_ok_and(|tx| tx.input.is_empty()),
        "rust-bitcoin reads what we do not: {:?}",
        ours.err()
    );
    let mut message = Vec::new();
    write::raw(&mut message, MAGIC, "tx", payload);
    let mut stripped = Vec::new();
    match (strip_tx(&mut stripped, &message), ours) {
        (Ok(()), Ok(ours)) => {
            let again = Tx::parse(&stripped[HEADER_LEN..]).expect("a stripped transaction");
            assert!(!again.has_witness());
            assert_eq!((again.txid(), again.wtxid()), (ours.txid(), ours.txid()));
        }
        (Err(_), Err(_)) => assert!(stripped.is_empty()),
        (stripped, ours) => panic!("stripping says {stripped:?}, parsing {ours:?}"),
    }
}

fn block_of(payload: &[u8]) {
    let mut count = 0;
    let walked = BlockParts::parse(payload).and_then(|parts| {
        let claimed = parts.count;
        parts.for_each(|_| count += 1).map(|()| assert_eq!(claimed, count))
    });
    let mut message = Vec::new();
    write::raw(&mut message, MAGIC, "block", payload);
    let mut stripped = Vec::new();
    assert_eq!(strip_block(&mut stripped, &message).is_ok(), walked.is_ok());
    assert!(stripped.len() <= message.len() && (walked.is_ok() || stripped.is_empty()));
    if let Ok(block) = check_block(payload) {
        assert_eq!(block.hash, wire::sha256d(&payload[..80]));
        assert_eq!(block.txids.len(), count);
        if let Ok(theirs) = deserialize::<bitcoin::Block>(payload) {
            assert!(theirs.check_merkle_root() && theirs.check_witness_commitment());
        }
    }
}

// ---- compact -------------------------------------------------------------------------------------------

/// The block that the seeds are about, and a mempool with every other transaction of it.
pub struct Known {
    pub block: std::sync::Arc<StubBlock>,
    pub mempool: Mempool,
}

pub fn known() -> Known {
    let mut chain = StubChain::new(11, 1_690_000_000);
    chain.grow(110, 1_690_100_000);
    let mut rng = SmallRng::seed_from_u64(1);
    for _ in 0..5 {
        let tx = chain.make_tx(&mut rng, 250).expect("a mature coin");
        chain.accept_tx(&tx).expect("a valid transaction");
    }
    chain.mine(1_690_200_000);
    let block = chain.tip().clone();
    let mut mempool = Mempool::new(1_000_000);
    for tx in block.block().txdata.iter().skip(1).step_by(2) {
        let mut message = Vec::new();
        write::raw(&mut message, MAGIC, "tx", &bitcoin::consensus::serialize(tx));
        let _ = mempool.insert(Instant(0), message.into(), None);
    }
    Known { block, mempool }
}

/// Two bytes of length and that much of a `cmpctblock`, then a `blocktxn`.
pub fn compact(data: &[u8]) {
    thread_local!(static KNOWN: OnceCell<Known> = const { OnceCell::new() });
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (announced, answer) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
    KNOWN.with(|cell| {
        let known = cell.get_or_init(known);
        let Ok(partial) = Partial::start(MAGIC, announced, &known.mempool) else { return };
        assert!(partial.missing().is_sorted_by(|a, b| a < b));
        assert!(partial.missing().len() + partial.found() <= partial.tx_count());
        for block in [partial.complete(), partial.fill(answer)].into_iter().flatten() {
            let checked =
                check_block(&block[HEADER_LEN..]).expect("a block that is given out fits its header");
            assert_eq!(checked.hash, partial.hash());
            assert!(matches!(split(MAGIC, &block), Step::Message { used, .. } if used == block.len()));
        }
    });
}

// ---- chain ---------------------------------------------------------------------------------------------

/// Four bytes each: whose child, how many, what is wrong, salt. The model is a map of heights.
pub fn chain(data: &[u8]) {
    const NOW: u64 = 1_800_000_000;
    let network = bitcoin::Network::Regtest;
    let genesis = breakwater::hub::chain::genesis(network);
    let mut chain = Chain::new(network, Default::default(), Vec::new()).expect("an empty chain");
    let mut known: Vec<(Hash, u32)> = vec![(wire::sha256d(&genesis), 0)];
    let mut heights: HashMap<Hash, u32> = known.iter().copied().collect();
    let mut best = known[0];
    for step in data.as_chunks::<4>().0.iter().take(64) {
        let [parent, count, wrong, salt] = *step;
        let (mut hash, mut height) = known[usize::from(parent) % known.len()];
        let mut list = Vec::new();
        for n in 0..=count % 12 {
            let mut header = genesis;
            header[4..36].copy_from_slice(&hash);
            header[36] = salt;
            header[37] = n;
            header[68..72].copy_from_slice(&(1_700_000_000 + height + 1).to_le_bytes());
            let spoilt = wrong & 0x10 != 0 && n == count % 12;
            match (spoilt, wrong & 3) {
                (true, 0) => header[4] ^= 1,
                (true, 1) => header[72..76].copy_from_slice(&0x1d00_ffffu32.to_le_bytes()),
                (true, 2) => header[68..72].copy_from_slice(&u32::MAX.to_le_bytes()),
                _ => {}
            }
            let miss = spoilt && wrong & 3 == 3;
            // Regtest's target begins with 0x7f.
            let fits = |top: u8| if miss { top > 0x7f } else { top < 0x7f };
            while !fits(wire::sha256d(&header)[31]) {
                next_nonce(&mut header);
            }
            hash = wire::sha256d(&header);
            height += 1;
            list.push((header, hash, height));
        }
        let spoilt = wrong & 0x10 != 0;
        let result = chain.accept(list.iter().map(|(header, ..)| header), NOW);
        assert_eq!(result.is_err(), spoilt, "{result:?} for {step:?}");
        if !spoilt {
            for (_, hash, height) in &list {
                if heights.insert(*hash, *height).is_none() {
                    known.push((*hash, *height));
                }
            }
            let last = list.last().map_or(best, |(_, hash, height)| (*hash, *height));
            if last.1 > best.1 {
                best = last;
            }
        }
        assert_eq!(chain.tip(), (best.1, best.0), "after {step:?}");
    }
    let view = chain.view();
    assert_eq!((view.tip_height(), view.tip_hash()), (best.1, best.0));
    for height in 1..=best.1 {
        let header = view.header(height).expect("a header");
        assert_eq!(Some(&header[4..36]), view.hash(height - 1).map(|hash| &hash[..]));
        assert_eq!(view.height(view.hash(height).expect("a hash")), Some(height));
    }
}

fn next_nonce(header: &mut [u8; 80]) {
    let nonce = u32::from_le_bytes([header[76], header[77], header[78], header[79]]);
    header[76..].copy_from_slice(&nonce.wrapping_add(1).to_le_bytes());
}

// ---- session -------------------------------------------------------------------------------------------

/// What a node says on a link, time passing between its messages.
pub fn session(data: &[u8]) {
    let kind = match data.first().map(|first| first >> 1 & 3) {
        Some(0) => LinkKind::Main,
        Some(1) => LinkKind::Ear,
        _ => LinkKind::Rare,
    };
    let stream = stream(data);
    let nonces = Nonces::new(0x1234_5678_9abc_0000);
    let us = Us { magic: MAGIC, user_agent: "/fuzz/", height: 5, nonces, salt: 7 };
    let (mut now, mut out) = (Instant(0), Vec::new());
    let mut session = Session::start(kind, &us, now, 1_700_000_000, &mut out);
    let mut rest = &stream[..];
    while let Step::Message { used, .. } | Step::Drop { used, .. } = split(MAGIC, rest) {
        now = now + std::time::Duration::from_millis(u64::from(rest[20]) * 100);
        session.alive(now);
        if let Step::Message { command, payload, .. } = split(MAGIC, rest)
            && let Ok(message) = parse(&command, payload)
            && session.hear(&message, &mut out).is_err()
        {
            return;
        }
        assert!(session.peer().user_agent.len() <= 3 * 256, "a name of {}", session.peer().user_agent.len());
        match session.tick(now, &mut out) {
            Ok(due) => assert!(due > now, "due at {due:?}, now {now:?}"),
            Err(_) => return,
        }
        rest = &rest[used..];
    }
    let mut said = &out[..];
    while !said.is_empty() {
        let Step::Message { used, .. } = split(MAGIC, said) else { panic!("we said what is no message") };
        said = &said[used..];
    }
}

// ---- config --------------------------------------------------------------------------------------------

/// The text of a configuration file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(table) = text.parse::<toml::Table>() else { return };
    match Config::load(None, table) {
        Ok(config) => {
            assert!(!config.nodes.is_empty() && !config.listen.is_empty() && config.shards > 0);
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.chars().any(char::is_control), "an error is one line: {said:?}");
        }
    }
}

// ---- client --------------------------------------------------------------------------------------------

/// A head of four bytes (checksums mended? handshake first? size of the pieces; seconds between them), then the
/// stream of a client. The hub answers every question by "missing"; another client is served all the while.
pub fn client(data: &[u8]) {
    thread_local!(static CHAIN: OnceCell<StubChain> = const { OnceCell::new() });
    let chain = CHAIN.with(|cell| {
        let made = cell.get_or_init(|| {
            let mut chain = StubChain::new(3, 1_690_000_000);
            chain.grow(rig::HEIGHT, 1_690_100_000);
            chain
        });
        made.clone()
    });
    let Some((head, rest)) = data.split_first_chunk::<4>() else { return };
    let mut stream = rest.to_vec();
    if head[0] & 1 == 1 {
        mend(&mut stream);
    }
    let mut rig = rig::Rig::on(rig::config(), chain);
    let honest = rig.client(rig::PLAIN);
    let wild = rig.stranger();
    if head[1] & 1 == 1 {
        rig.greet(
            wild,
            rig::Manner { headers: head[1] & 2 != 0, compact: Some(head[1] & 4 != 0), ..rig::PLAIN },
        );
    }
    let size = (usize::from(head[2]) * 16).clamp(1, 4_096).max(stream.len() / 64);
    for (n, piece) in stream.chunks(size).enumerate() {
        if rig.closed(wild).is_some() {
            break;
        }
        rig.send(wild, piece);
        answer_all(&mut rig);
        if n == 3 {
            rig.mine();
            rig.tell(ToShard::Txs(vec![rig::tx_news(1)].into()));
        }
        rig.advance(u64::from(head[3] % 40));
    }
    let mut ping = Vec::new();
    write::ping(&mut ping, MAGIC, 77);
    rig.messages(honest);
    if rig.closed(honest).is_none() {
        rig.send(honest, &ping);
        assert!(rig.commands(honest).contains(&"pong".to_owned()), "the honest client is not answered");
    }
    rig.messages(wild);
    rig.kernel.0.borrow_mut().peers.get_mut(&wild).expect("a peer").closes = Some(IoEnd::Closed);
    rig.finish();
}

fn answer_all(rig: &mut rig::Rig) {
    for _ in 0..10_000 {
        let Some(entry) = rig.heard.pop_front() else { return };
        if let ToHub::Want { client, id, .. } = entry {
            rig.answer(rig::ToHubWant { client, id }, Answer::Missing);
        }
    }
}
