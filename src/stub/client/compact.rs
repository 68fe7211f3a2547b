//! Whole blocks from compact blocks (BIP152 version 2), the client's own pool, and `getblocktxn` for the rest.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bitcoin::bip152::{BlockTransactions, HeaderAndShortIds, ShortId};
use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Block, Transaction};

use super::{Broken, RETRY};
use crate::base::Instant;
use crate::wire::{Hash, Inv, InvKind, Magic, sha256d, write};

/// Transactions kept for blocks; the oldest leaves.
const MAX_POOL: usize = 20_000;
/// Most transactions a block can hold (4,000,000 / 60), against counts that promise more.
const MAX_BLOCK_TXS: usize = 66_666;

/// What a compact-block node keeps.
#[derive(Debug, Default)]
pub(super) struct Compact {
    /// By wtxid.
    pool: HashMap<Hash, Transaction>,
    order: VecDeque<Hash>,
    /// Blocks of the best chain that are not here yet. Grows with the announced headers, shrinks with the blocks.
    wanted: BTreeMap<Hash, Wanted>,
    /// The block whose compact form is being read now: it is wanted, but not asked for.
    expected: Hash,
}

#[derive(Debug)]
struct Wanted {
    height: u32,
    /// When the whole block is asked for.
    due: Instant,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    header: Header,
    txs: Vec<Option<Transaction>>,
}

/// Height and hash of a block that has become whole.
type Whole = Option<(u32, Hash)>;

impl Compact {
    pub(super) fn forget_questions(&mut self) {
        self.wanted.values_mut().for_each(|wanted| wanted.due = Instant(0));
    }

    pub(super) fn knows(&self, wtxid: &Hash) -> bool {
        self.pool.contains_key(wtxid)
    }

    /// The block whose compact form has come; zeros for none.
    pub(super) fn expect(&mut self, hash: Hash) {
        self.expected = hash;
    }

    /// New blocks of the best chain: a single one is asked for in compact form, several whole.
    pub(super) fn want(&mut self, now: Instant, new: &[(u32, Hash)], magic: Magic, out: &mut Vec<u8>) {
        let kind = if new.len() == 1 { InvKind::CompactBlock } else { InvKind::WitnessBlock };
        let mut ask = Vec::new();
        // What a reorganisation has put aside is not wanted any more.
        let first = new.first().map_or(0, |(height, _)| *height);
        self.wanted.retain(|_, wanted| wanted.height < first);
        for (height, hash) in new {
            self.wanted.insert(*hash, Wanted { height: *height, due: now + RETRY, partial: None });
            if *hash != self.expected {
                ask.push(Inv { kind, hash: *hash });
            }
        }
        if !ask.is_empty() {
            write::inventory(out, magic, "getdata", ask.into_iter());
        }
    }

    pub(super) fn wake(&self) -> Instant {
        self.wanted.values().map(|wanted| wanted.due).min().unwrap_or(Instant::FAR)
    }

    /// Asks for the whole block where the compact way has led to nothing.
    pub(super) fn tick(&mut self, now: Instant, magic: Magic, out: &mut Vec<u8>) {
        let mut ask = Vec::new();
        for (hash, wanted) in self.wanted.iter_mut().filter(|(_, wanted)| wanted.due <= now) {
            wanted.due = now + RETRY;
            ask.push(Inv { kind: InvKind::WitnessBlock, hash: *hash });
        }
        if !ask.is_empty() {
            write::inventory(out, magic, "getdata", ask.into_iter());
        }
    }

    /// A transaction for the pool; its wtxid.
    pub(super) fn tx(&mut self, bytes: &[u8]) -> Result<Hash, Broken> {
        let tx: Transaction = deserialize(bytes).map_err(|_| Broken::Tx)?;
        let wtxid = tx.compute_wtxid().to_byte_array();
        if self.pool.insert(wtxid, tx).is_none() {
            self.order.push_back(wtxid);
        }
        if self.order.len() > MAX_POOL
            && let Some(oldest) = self.order.pop_front()
        {
            self.pool.remove(&oldest);
        }
        Ok(wtxid)
    }

    pub(super) fn compact_block(
        &mut self,
        now: Instant,
        bytes: &[u8],
        magic: Magic,
        out: &mut Vec<u8>,
    ) -> Result<Whole, Broken> {
        let compact: HeaderAndShortIds = deserialize(bytes).map_err(|_| Broken::Compact)?;
        let hash = compact.header.block_hash().to_byte_array();
        let Some(wanted) = self.wanted.get_mut(&hash) else { return Ok(None) };
        let txs = lay_out(&compact, &self.pool).ok_or(Broken::Compact)?;
        let missing: Vec<u32> = (0..).zip(&txs).filter(|(_, tx)| tx.is_none()).map(|(at, _)| at).collect();
        wanted.partial = Some(Partial { header: compact.header, txs });
        wanted.due = now + RETRY;
        if missing.is_empty() {
            return Ok(self.finish(now, hash, magic, out));
        }
        write::get_block_txn(out, magic, &hash, &missing);
        Ok(None)
    }

    pub(super) fn block_txn(
        &mut self,
        now: Instant,
        bytes: &[u8],
        magic: Magic,
        out: &mut Vec<u8>,
    ) -> Result<Whole, Broken> {
        let answer: BlockTransactions = deserialize(bytes).map_err(|_| Broken::Compact)?;
        let hash = answer.block_hash.to_byte_array();
        let Some(partial) = self.wanted.get_mut(&hash).and_then(|wanted| wanted.partial.as_mut()) else {
            return Ok(None);
        };
        let mut given = answer.transactions.into_iter();
        partial.txs.iter_mut().filter(|tx| tx.is_none()).for_each(|tx| *tx = given.next());
        if given.next().is_some() || partial.txs.iter().any(Option::is_none) {
            return Err(Broken::Compact);
        }
        Ok(self.finish(now, hash, magic, out))
    }

    /// A whole block.
    pub(super) fn block(&mut self, bytes: &[u8]) -> Result<Whole, Broken> {
        let Some(header) = bytes.first_chunk::<80>() else { return Err(Broken::Block([0; 32])) };
        let hash = sha256d(header);
        let Some(wanted) = self.wanted.get(&hash) else { return Ok(None) };
        let height = wanted.height;
        let block: Block = deserialize(bytes).map_err(|_| Broken::Block(hash))?;
        if !block.check_merkle_root() || !block.check_witness_commitment() {
            return Err(Broken::Block(hash));
        }
        self.take(&block, hash);
        Ok(Some((height, hash)))
    }

    /// Checks a block put together. One that does not fit may be due to two transactions with one short id, which is
    /// nobody's fault: it is asked for whole.
    fn finish(&mut self, now: Instant, hash: Hash, magic: Magic, out: &mut Vec<u8>) -> Whole {
        let wanted = self.wanted.get_mut(&hash)?;
        let height = wanted.height;
        let partial = wanted.partial.take()?;
        let block = Block { header: partial.header, txdata: partial.txs.into_iter().flatten().collect() };
        if !block.check_merkle_root() || !block.check_witness_commitment() {
            wanted.due = now + RETRY;
            let inv = Inv { kind: InvKind::WitnessBlock, hash };
            write::inventory(out, magic, "getdata", [inv].into_iter());
            return None;
        }
        self.take(&block, hash);
        Some((height, hash))
    }

    fn take(&mut self, block: &Block, hash: Hash) {
        self.wanted.remove(&hash);
        for tx in &block.txdata {
            self.pool.remove(&tx.compute_wtxid().to_byte_array());
        }
        if self.order.len() > 2 * self.pool.len() {
            self.order.retain(|wtxid| self.pool.contains_key(wtxid));
        }
    }
}

/// The transactions of a compact block in their places, as far as they are here. `None` when places do not fit.
fn lay_out(
    compact: &HeaderAndShortIds,
    pool: &HashMap<Hash, Transaction>,
) -> Option<Vec<Option<Transaction>>> {
    let count = compact.short_ids.len() + compact.prefilled_txs.len();
    if count > MAX_BLOCK_TXS {
        return None;
    }
    let mut txs: Vec<Option<Transaction>> = vec![None; count];
    let mut next = 0;
    let mut filled = vec![false; count];
    for prefilled in &compact.prefilled_txs {
        let at = next + usize::from(prefilled.idx);
        *filled.get_mut(at)? = true;
        txs[at] = Some(prefilled.tx.clone());
        next = at + 1;
    }
    let keys = ShortId::calculate_siphash_keys(&compact.header, compact.nonce);
    let by_id: HashMap<ShortId, &Hash> =
        pool.keys().map(|wtxid| (ShortId::with_siphash_keys(wtxid, keys), wtxid)).collect();
    let places = (0..count).filter(|at| !filled[*at]);
    for (at, id) in places.zip(&compact.short_ids) {
        txs[at] = by_id.get(id).and_then(|wtxid| pool.get(*wtxid)).cloned();
    }
    Some(txs)
}
