//! Transactions heard of and the last blocks, once for all clients.
//!
//! What a compact block lacks is found out once: all clients then ask for the same positions, each for itself, and the first
//! answer makes the block whole. So each client costs the target what a node would, and the rig keeps a block once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitcoin::bip152::{HeaderAndShortIds, ShortId};
use bitcoin::consensus::{deserialize, serialize};
use breakwater::wire::{Hash, HashList, Reader, Tx, WireError, write};
use bytes::Bytes;

use crate::rig::behaviour::check_block;

/// Transactions kept; the oldest leaves.
const MAX_TXS: usize = 20_000;
/// Bytes of transactions kept; the oldest leaves.
const MAX_BYTES: usize = 64 << 20;
/// Blocks kept.
const MAX_BLOCKS: usize = 4;
/// Most transactions a block can hold (4,000,000 / 60), against counts that promise more.
const MAX_BLOCK_TXS: usize = 66_666;

/// See the module.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By txid and by wtxid.
    txs: HashMap<Hash, Bytes>,
    /// Txid and wtxid, oldest first.
    order: VecDeque<(Hash, Hash)>,
    bytes: usize,
    /// Oldest first.
    recent: VecDeque<Recent>,
}

#[derive(Debug)]
struct Recent {
    hash: Hash,
    header: [u8; 80],
    txs: Vec<Option<Bytes>>,
    /// Positions that were not here when its compact form came first.
    missing: Vec<u32>,
}

/// What is needed to make a compact block whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Whole,
    /// The transactions at these positions.
    Missing(Vec<u32>),
    /// The whole block: two transactions have one short id, which is nobody's fault.
    Unfit,
}

impl Pool {
    /// Keeps a transaction; its txid and wtxid.
    pub fn tx(&self, payload: &[u8]) -> Result<(Hash, Hash), &'static str> {
        let tx = Tx::parse(payload).map_err(|_| "a transaction that cannot be read")?;
        let (txid, wtxid) = (tx.txid(), tx.wtxid());
        let mut inner = self.lock();
        if !inner.txs.contains_key(&wtxid) {
            inner.add(txid, wtxid, Bytes::copy_from_slice(payload));
        }
        Ok((txid, wtxid))
    }

    /// A transaction by txid or wtxid.
    pub fn get(&self, hash: &Hash) -> Option<Bytes> {
        self.lock().txs.get(hash).cloned()
    }

    /// Takes a compact block.
    pub fn compact(&self, hash: &Hash, payload: &[u8]) -> Result<Shape, &'static str> {
        let mut inner = self.lock();
        if let Some(known) = inner.block(hash) {
            return Ok(known.shape());
        }
        let compact: HeaderAndShortIds =
            deserialize(payload).map_err(|_| "a compact block that cannot be read")?;
        let mut block =
            inner.lay_out(&compact, hash, payload).ok_or("a compact block whose places do not fit")?;
        let missing = (0u32..).zip(&block.txs).filter(|(_, tx)| tx.is_none());
        block.missing = missing.map(|(at, _)| at).collect();
        if block.missing.is_empty() && !block.is_right() {
            return Ok(Shape::Unfit);
        }
        let shape = block.shape();
        inner.keep(block);
        Ok(shape)
    }

    /// Takes the transactions that a compact block lacked.
    pub fn block_txn(&self, hash: &Hash, transactions: &[u8]) -> Result<Shape, &'static str> {
        let mut inner = self.lock();
        // It may have left meanwhile; the answer is here all the same.
        let Some(block) = inner.block(hash) else { return Ok(Shape::Whole) };
        let given = split(transactions, block.missing.len()).map_err(|_| "blocktxn that cannot be read")?;
        if block.txs.iter().all(Option::is_some) {
            return Ok(Shape::Whole);
        }
        for (at, tx) in block.missing.iter().zip(given) {
            if let Some(place) = block.txs.get_mut(*at as usize) {
                *place = Some(tx);
            }
        }
        if block.is_right() {
            return Ok(Shape::Whole);
        }
        inner.recent.retain(|block| block.hash != *hash);
        Ok(Shape::Unfit)
    }

    /// Takes a whole block.
    pub fn block(&self, hash: &Hash, payload: &[u8]) -> Result<(), &'static str> {
        let mut inner = self.lock();
        if inner.block(hash).is_some_and(|block| block.txs.iter().all(Option::is_some)) {
            return Ok(());
        }
        check_block(payload)?;
        let parsed = Recent::parse(hash, payload).map_err(|_| "a block that cannot be read")?;
        inner.recent.retain(|block| block.hash != *hash);
        inner.keep(parsed);
        Ok(())
    }

    /// The payload of a recent block.
    pub fn whole(&self, hash: &Hash) -> Option<Vec<u8>> {
        self.lock().block(hash)?.payload()
    }

    /// The payload of `blocktxn` with the transactions at these positions of a recent block.
    pub fn block_txs(&self, hash: &Hash, positions: &[u32]) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        let block = inner.block(hash)?;
        let mut out = hash.to_vec();
        write::compact(&mut out, positions.len() as u64);
        for at in positions {
            out.extend_from_slice(block.txs.get(*at as usize)?.as_ref()?);
        }
        Some(out)
    }

    /// Headers of recent blocks that follow a locator, in order.
    pub fn headers_after(&self, locator: &HashList<'_>) -> Vec<[u8; 80]> {
        let inner = self.lock();
        let mut out: Vec<[u8; 80]> = Vec::new();
        let mut last: Option<Hash> = None;
        for block in &inner.recent {
            let follows = match last {
                Some(last) => block.header[4..36] == last,
                None => locator.iter().any(|hash| block.header[4..36] == *hash),
            };
            if follows {
                out.push(block.header);
                last = Some(block.hash);
            }
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a thread that died has left is still a pool of transactions.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, txid: Hash, wtxid: Hash, bytes: Bytes) {
        self.bytes += bytes.len();
        self.order.push_back((txid, wtxid));
        self.txs.insert(txid, bytes.clone());
        self.txs.insert(wtxid, bytes);
        while self.order.len() > MAX_TXS || self.bytes > MAX_BYTES {
            let Some((txid, wtxid)) = self.order.pop_front() else { break };
            self.txs.remove(&txid);
            let gone = self.txs.remove(&wtxid).map_or(0, |bytes| bytes.len());
            self.bytes = self.bytes.saturating_sub(gone);
        }
    }

    fn block(&mut self, hash: &Hash) -> Option<&mut Recent> {
        self.recent.iter_mut().find(|block| block.hash == *hash)
    }

    fn keep(&mut self, block: Recent) {
        self.recent.push_back(block);
        if self.recent.len() > MAX_BLOCKS {
            self.recent.pop_front();
        }
    }

    /// The transactions of a compact block in their places, as far as they are here. `None` when places do not fit.
    fn lay_out(&self, compact: &HeaderAndShortIds, hash: &Hash, payload: &[u8]) -> Option<Recent> {
        let count = compact.short_ids.len() + compact.prefilled_txs.len();
        if count > MAX_BLOCK_TXS {
            return None;
        }
        let mut txs: Vec<Option<Bytes>> = vec![None; count];
        let mut next = 0;
        for prefilled in &compact.prefilled_txs {
            let at = next + usize::from(prefilled.idx);
            *txs.get_mut(at)? = Some(Bytes::from(serialize(&prefilled.tx)));
            next = at + 1;
        }
        let keys = ShortId::calculate_siphash_keys(&compact.header, compact.nonce);
        let by_id: HashMap<ShortId, &Hash> =
            self.order.iter().map(|(_, wtxid)| (ShortId::with_siphash_keys(wtxid, keys), wtxid)).collect();
        let places = txs.iter_mut().filter(|tx| tx.is_none());
        for (place, id) in places.zip(&compact.short_ids) {
            *place = by_id.get(id).and_then(|wtxid| self.txs.get(*wtxid)).cloned();
        }
        let header = *payload.first_chunk::<80>()?;
        Some(Recent { hash: *hash, header, txs, missing: Vec::new() })
    }
}

impl Recent {
    fn parse(hash: &Hash, payload: &[u8]) -> Result<Recent, WireError> {
        let parts = breakwater::wire::BlockParts::parse(payload)?;
        let header = *parts.header;
        let mut txs = Vec::new();
        parts.for_each(|tx| txs.push(Some(Bytes::copy_from_slice(tx.bytes))))?;
        Ok(Recent { hash: *hash, header, txs, missing: Vec::new() })
    }

    fn shape(&self) -> Shape {
        if self.missing.is_empty() { Shape::Whole } else { Shape::Missing(self.missing.clone()) }
    }

    /// `None` while something is missing.
    fn payload(&self) -> Option<Vec<u8>> {
        let mut out = self.header.to_vec();
        write::compact(&mut out, self.txs.len() as u64);
        for tx in &self.txs {
            out.extend_from_slice(tx.as_ref()?);
        }
        Some(out)
    }

    fn is_right(&self) -> bool {
        self.payload().is_some_and(|payload| check_block(&payload).is_ok())
    }
}

/// A count, which must be `count`, and as many transactions.
fn split(bytes: &[u8], count: usize) -> Result<Vec<Bytes>, WireError> {
    let mut reader = Reader::new(bytes);
    if reader.count(count)? != count {
        return Err(WireError::Short);
    }
    (0..count).map(|_| Tx::read(&mut reader).map(|tx| Bytes::copy_from_slice(tx.bytes))).collect()
}
