//! A full node at the tip: asks for compact blocks in high-bandwidth mode, fetches announced transactions, puts blocks together
//! from them and `getblocktxn`, and gives what it has.
//!
//! It has what any of the process's clients at the tip has (see [`super::shared`]), but asks for everything announced to it
//! itself, as a node would. It announces nothing: all it knows comes from the target.

use breakwater::base::Instant;
use breakwater::base::limits::{MAX_TX_ANNOUNCEMENTS, MAX_TX_IN_FLIGHT};
use breakwater::wire::message::block_txn_indexes;
use breakwater::wire::{Hash, Inv, InvKind, InvList, Message, Services, sha256d, write};

use super::follow::{Follow, Heard};
use super::request::{Blocks, Request, TIMED_OUT};
use super::shared::Shape;
use super::{Behaviour, Hello, Options};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Entries of one `getdata` that are answered; nobody asks for more than 16 blocks or 100 transactions of us.
const MAX_GIVEN: usize = 128;

#[derive(Debug, Default)]
struct Tip {
    follow: Follow,
    blocks: Blocks,
    /// Transactions asked for, at most [`MAX_TX_IN_FLIGHT`].
    asked: Vec<Inv>,
    /// Announced meanwhile, at most [`MAX_TX_ANNOUNCEMENTS`]; more are counted as an error.
    waiting: Vec<Inv>,
    /// The question for those in `asked`.
    txs: Request,
}

const _: () = assert!(size_of::<Tip>() <= 200);

impl Behaviour for Tip {
    fn hello(&self) -> Hello {
        Hello { services: Services::WITNESS | Services::NETWORK_LIMITED, ..Hello::default() }
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        write::send_cmpct(cx.out, cx.magic, true, 2);
        write::empty(cx.out, cx.magic, "sendheaders");
        self.follow.begin_at_tip(cx);
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        match self.handle(cx, message) {
            Ok(()) => Flow::Go,
            Err(why) => Flow::Broken(why),
        }
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.next_wake() <= cx.now { TIMED_OUT } else { Flow::Go }
    }

    fn next_wake(&self) -> Instant {
        self.follow.due().min(self.blocks.due()).min(self.txs.due())
    }

    fn ended(&mut self, _: &mut Tally) {
        *self = Tip::default();
    }

    fn asks_headers(&self) -> bool {
        self.follow.is_asking()
    }
}

impl Tip {
    fn handle(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Result<(), &'static str> {
        match message {
            Message::Inv(list) => {
                self.announced(cx, list);
                self.follow.message(cx, message)?;
            }
            Message::Headers(_) => {
                let was_synced = self.follow.synced();
                if let Heard::Moved { keep } = self.follow.message(cx, message)?
                    && was_synced
                {
                    self.fetch(cx, keep);
                }
            }
            Message::CmpctBlock(bytes) => self.compact(cx, bytes)?,
            Message::BlockTxn(bytes) => self.block_txn(cx, bytes)?,
            Message::Block(bytes) => {
                if let Some(header) = bytes.first_chunk::<80>() {
                    let hash = sha256d(header);
                    if self.blocks.took(cx, &hash).is_some() {
                        cx.shared.pool.block(&hash, bytes)?;
                    }
                }
            }
            Message::Tx(bytes) => self.tx(cx, bytes)?,
            Message::NotFound(list) => {
                self.blocks.not_found(cx, list);
                self.not_found(cx, list);
            }
            Message::GetData(list) => give(cx, list),
            Message::GetBlockTxn { block, indexes } => give_block_txn(cx, block, indexes),
            Message::GetHeaders { locator, .. } => {
                let headers = cx.shared.pool.headers_after(locator);
                write::headers(cx.out, cx.magic, headers.iter());
            }
            _ => {}
        }
        Ok(())
    }

    // ---- transactions ----------------------------------------------------------------------------------

    fn announced(&mut self, cx: &mut Context<'_>, list: &InvList<'_>) {
        let mut lost = false;
        for inv in list.iter().filter(|inv| inv.kind.is_tx()) {
            if self.waiting.len() >= MAX_TX_ANNOUNCEMENTS {
                lost = true;
                break;
            }
            // BIP144: by txid, but with witness.
            let kind = if inv.kind == InvKind::Tx { InvKind::WitnessTx } else { inv.kind };
            self.waiting.push(Inv { kind, ..inv });
        }
        if lost {
            cx.tally.error("more transactions announced than can be asked for");
        }
        self.ask_txs(cx);
    }

    fn ask_txs(&mut self, cx: &mut Context<'_>) {
        if self.txs.is_open() || self.waiting.is_empty() {
            return;
        }
        let count = self.waiting.len().min(MAX_TX_IN_FLIGHT);
        self.asked = self.waiting.drain(..count).collect();
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        self.txs = Request::open(cx);
        write::inventory(cx.out, cx.magic, "getdata", self.asked.iter().copied());
    }

    fn tx(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), &'static str> {
        let (txid, wtxid) = cx.shared.pool.tx(bytes)?;
        let before = self.asked.len();
        // All of them: one that was announced twice is given once perhaps.
        self.asked.retain(|inv| inv.hash != wtxid && inv.hash != txid);
        if self.asked.len() < before {
            self.asked_done(cx);
        }
        Ok(())
    }

    fn not_found(&mut self, cx: &mut Context<'_>, list: &InvList<'_>) {
        let before = self.asked.len();
        if before > 0 {
            for inv in list.iter().filter(|inv| inv.kind.is_tx()).take(MAX_TX_IN_FLIGHT) {
                self.asked.retain(|asked| asked.hash != inv.hash);
            }
            cx.tally.counts.not_found += (before - self.asked.len()) as u64;
            self.asked_done(cx);
        }
    }

    fn asked_done(&mut self, cx: &mut Context<'_>) {
        if self.asked.is_empty() {
            self.asked = Vec::new();
            self.txs.answered(cx);
            self.ask_txs(cx);
        }
    }

    // ---- blocks ----------------------------------------------------------------------------------------

    /// Asks for the blocks above `keep`: a single one in compact form, several whole.
    fn fetch(&mut self, cx: &mut Context<'_>, keep: u32) {
        let chain = &cx.shared.chain;
        let heights = keep + 1..=self.follow.height();
        let new = heights.filter_map(|height| Some((height, chain.hash(height)?)));
        let new: Vec<(u32, Hash)> =
            new.take(self.blocks.room()).filter(|(_, h)| !self.blocks.has(h)).collect();
        let kind = if new.len() == 1 { InvKind::CompactBlock } else { InvKind::WitnessBlock };
        self.blocks.ask(cx, kind, new.into_iter());
    }

    fn compact(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), &'static str> {
        let Some(header) = bytes.first_chunk::<80>() else {
            return Err("a compact block that cannot be read");
        };
        let hash = sha256d(header);
        let moved = self.follow.header(cx, header)?;
        let height = cx.shared.chain.find(self.follow.height(), &hash);
        let asked = self.blocks.has(&hash);
        // Of a branch that is not followed, or given again by another way.
        let Some(height) = height.filter(|_| asked || moved != Heard::Nothing) else { return Ok(()) };
        let shape = cx.shared.pool.compact(&hash, bytes)?;
        if let Shape::Missing(missing) = &shape {
            if !asked {
                self.blocks.note(cx, height, hash);
            }
            write::get_block_txn(cx.out, cx.magic, &hash, missing);
        } else {
            self.whole(cx, height, hash, shape == Shape::Whole);
        }
        Ok(())
    }

    fn block_txn(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), &'static str> {
        let Some((hash, transactions)) = bytes.split_first_chunk::<32>() else {
            return Err("blocktxn that cannot be read");
        };
        if self.blocks.has(hash) {
            let shape = cx.shared.pool.block_txn(hash, transactions)?;
            let height = self.follow.height();
            self.whole(cx, height, *hash, shape == Shape::Whole);
        }
        Ok(())
    }

    /// A block has been put together; or, when it does not fit, is asked for whole.
    fn whole(&mut self, cx: &mut Context<'_>, height: u32, hash: Hash, fits: bool) {
        if self.blocks.took(cx, &hash).is_none() && fits {
            // Announced, and nothing was missing: there was no question.
            cx.tally.counts.blocks_received += 1;
        }
        if !fits {
            self.blocks.ask(cx, InvKind::WitnessBlock, [(height, hash)].into_iter());
        }
    }
}

/// Gives transactions and blocks that are here, and says what is not.
fn give(cx: &mut Context<'_>, list: &InvList<'_>) {
    let mut missing = Vec::new();
    for inv in list.iter().take(MAX_GIVEN) {
        if inv.kind.is_tx() {
            match cx.shared.pool.get(&inv.hash) {
                Some(bytes) => write::raw(cx.out, cx.magic, "tx", &bytes),
                None => missing.push(inv),
            }
        } else {
            match cx.shared.pool.whole(&inv.hash) {
                Some(payload) => write::raw(cx.out, cx.magic, "block", &payload),
                None => missing.push(inv),
            }
        }
    }
    if !missing.is_empty() {
        write::inventory(cx.out, cx.magic, "notfound", missing.into_iter());
    }
}

/// Nobody is told of what is not here: Bitcoin Core has no answer for that either.
fn give_block_txn(cx: &mut Context<'_>, block: &Hash, indexes: &[u8]) {
    let positions = block_txn_indexes(indexes).ok();
    if let Some(payload) = positions.and_then(|positions| cx.shared.pool.block_txs(block, &positions)) {
        write::raw(cx.out, cx.magic, "blocktxn", &payload);
    }
}

pub(super) fn make(_: &Options) -> Box<dyn Behaviour> {
    Box::new(Tip::default())
}
