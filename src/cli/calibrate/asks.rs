//! What is asked for to find the price of a kind: requests of a few shapes each, and which part of the price they cannot tell.

use super::peer::Until;
use super::scene::{Scene, Tx};
use crate::admission::Kind;
use crate::base::limits::{MAX_CFILTERS, MAX_HEADERS};
use crate::stub::MAGIC;
use crate::wire::{Hash, Inv, InvKind, InvList, write};

/// Bytes on their way to all clients together; beyond, fewer ask at a time.
const IN_FLIGHT: u64 = 16 * 1024 * 1024;
/// Clients that ask at the same time, at most and at least.
pub(super) const CLIENTS: usize = 64;
const FEWEST: usize = 4;
/// Transactions of a `mempool` answer, about.
const MAX_TXS: u64 = 5_200;
/// Messages without an answer sent one by one, before the ping whose answer says that they have been read.
pub(super) const ROW: u32 = 16;

/// What every client sends over and over.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// What it is a request of.
    pub(super) kind: Kind,
    /// Items of a request.
    pub(super) items: Items,
    /// A request, v1 frames.
    pub(super) frames: Vec<u8>,
    /// What ends the answer; none for what has no answer.
    pub(super) until: Option<Until>,
    /// Clients that ask at the same time.
    pub(super) clients: usize,
}

/// How many items a request has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Items {
    /// So many.
    Asked(u32),
    /// As many as the entries of the inventory that comes.
    Entries,
}

impl Ask {
    fn new(kind: Kind, items: u32, command: &'static str, count: u32) -> Ask {
        let until = Some(Until { command, count });
        Ask { kind, items: Items::Asked(items), frames: Vec::new(), until, clients: CLIENTS }
    }

    fn with(mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Ask {
        fill(&mut self.frames);
        self
    }

    /// The answer has about so many bytes.
    fn answered_by(mut self, bytes: u64) -> Ask {
        self.clients = usize::try_from(IN_FLIGHT / bytes.max(1)).unwrap_or(CLIENTS).clamp(FEWEST, CLIENTS);
        self
    }

    /// A message without an answer.
    fn told(kind: Kind, items: u32, fill: impl FnOnce(&mut Vec<u8>)) -> Ask {
        Ask { until: None, ..Ask::new(kind, items, "", 0) }.with(fill)
    }
}

/// Of messages, of headers, blocks and filters: what can be asked before anything has been submitted.
pub(super) fn of_the_chain(scene: &Scene) -> Vec<Ask> {
    let mut asks = vec![ping()];
    asks.extend(headers(scene));
    asks.extend(blocks(scene));
    asks.extend(recent_blocks(scene));
    asks.extend(filters(scene));
    asks.push(Ask::told(Kind::Other, 0, |out| write::fee_filter(out, MAGIC, 1_000)));
    asks
}

/// Of transactions: `known` are those that have been submitted, small ones and a large one.
pub(super) fn of_transactions(known: &[Tx], large: &Tx) -> Vec<Ask> {
    let inv =
        |txs: &[Tx]| txs.iter().map(|tx| Inv { kind: InvKind::Wtx, hash: tx.wtxid }).collect::<Vec<_>>();
    let get = |txs: &[Tx]| {
        let (count, bytes) = (txs.len() as u32, txs.iter().map(|tx| tx.message.len() as u64).sum());
        let entries = inv(txs);
        let ask = Ask::new(Kind::Tx, count, "tx", count).answered_by(bytes);
        ask.with(|out| write::inventory(out, MAGIC, "getdata", entries.into_iter()))
    };
    let tell = |txs: &[Tx]| {
        let entries = inv(txs);
        Ask::told(Kind::Inv, txs.len() as u32, |out| write::inventory(out, MAGIC, "inv", entries.into_iter()))
    };
    let few = |n: usize| known.get(..n.min(known.len())).unwrap_or_default();
    vec![get(few(1)), get(few(100)), get(std::slice::from_ref(large)), tell(few(1)), tell(few(1_000))]
}

/// Their clients wait for nothing else, so this is the price of being there: a message in, one out.
pub(super) fn ping() -> Ask {
    Ask::new(Kind::Ping, 1, "pong", 1).with(|out| write::ping(out, MAGIC, 2))
}

/// Of as many transactions as there are then; there must be one.
pub(super) fn mempool() -> Ask {
    let ask = Ask { items: Items::Entries, ..Ask::new(Kind::Mempool, 0, "inv", 1) };
    ask.with(|out| write::empty(out, MAGIC, "mempool")).answered_by(MAX_TXS * InvList::ENTRY as u64)
}

fn headers(scene: &Scene) -> Vec<Ask> {
    let from = |height: u32, items: u32| {
        let known = scene.at([height]);
        let ask = Ask::new(Kind::Headers, items, "headers", 1).answered_by(u64::from(items) * 81);
        ask.with(|out| write::locator(out, MAGIC, "getheaders", known.iter(), &[0; 32]))
    };
    vec![from(scene.tip().saturating_sub(1), 1), from(0, MAX_HEADERS as u32)]
}

fn blocks(scene: &Scene) -> Vec<Ask> {
    let get = |hashes: Vec<Hash>, bytes: u64| {
        let ask = Ask::new(Kind::Block, hashes.len() as u32, "block", hashes.len() as u32);
        ask.answered_by(bytes * hashes.len() as u64).with(|out| get_data(out, InvKind::WitnessBlock, &hashes))
    };
    vec![
        get(scene.at(scene.old(1)), 300),
        get(scene.at(scene.old(16)), 300),
        get(scene.at(scene.old_large(1)), 1_000_000),
        get(scene.at(scene.old_large(4)), 1_000_000),
    ]
}

fn recent_blocks(scene: &Scene) -> Vec<Ask> {
    let tip = scene.tip();
    let compact = |heights: Vec<u32>, bytes: u64| {
        let hashes = scene.at(heights);
        let ask = Ask::new(Kind::CompactBlock, hashes.len() as u32, "cmpctblock", hashes.len() as u32);
        ask.answered_by(bytes).with(|out| get_data(out, InvKind::CompactBlock, &hashes))
    };
    let txs = |height: u32, indexes: Vec<u32>, bytes: u64| {
        let block = scene.at([height]);
        let ask = Ask::new(Kind::BlockTxn, indexes.len() as u32, "blocktxn", 1).answered_by(bytes);
        ask.with(|out| {
            block.iter().for_each(|block| write::get_block_txn(out, MAGIC, block, &indexes));
        })
    };
    vec![
        compact(vec![tip], 500),
        compact(vec![tip, tip - 1, tip - 2], 1_500),
        compact(vec![scene.recent_many], 15_000),
        txs(scene.recent_many, vec![1], 200),
        txs(scene.recent_many, (1..=500).collect(), 50_000),
        txs(scene.recent_large, vec![2], 50_000),
    ]
}

fn filters(scene: &Scene) -> Vec<Ask> {
    let range = |kind, request: &'static str, from: u32, items: u32, command, count: u32| {
        let stop = scene.at([from + items - 1]);
        let ask = Ask::new(kind, items, command, count).answered_by(u64::from(items) * 100);
        ask.with(|out| {
            stop.iter().for_each(|stop| write::filter_request(out, MAGIC, request, from, stop));
        })
    };
    let (one, many) = (1, MAX_CFILTERS);
    let headers = MAX_HEADERS as u32;
    let checkpoints = Ask::new(Kind::FilterCheckpoints, scene.tip() / 1_000, "cfcheckpt", 1).with(|out| {
        write::message(out, MAGIC, "getcfcheckpt", |out| {
            out.push(0);
            scene.at([scene.tip()]).iter().for_each(|stop| out.extend_from_slice(stop));
        });
    });
    vec![
        range(Kind::Filters, "getcfilters", 1, one, "cfilter", one),
        range(Kind::Filters, "getcfilters", 1, many, "cfilter", many),
        range(Kind::FilterHeaders, "getcfheaders", 1, one, "cfheaders", 1),
        range(Kind::FilterHeaders, "getcfheaders", 1, headers, "cfheaders", 1),
        checkpoints,
    ]
}

fn get_data(out: &mut Vec<u8>, kind: InvKind, hashes: &[Hash]) {
    let entries = hashes.iter().map(|hash| Inv { kind, hash: *hash });
    write::inventory(out, MAGIC, "getdata", entries);
}
