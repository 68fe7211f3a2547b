//! A compact block on its way to a whole one: short ids are looked up in the mempool, the rest is asked for.
//!
//! Short ids are six bytes and anybody may make two transactions with the same one, so nothing is believed before the
//! whole block passes [`check_block`](super::check_block); when it does not, the block is fetched in full.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use bytes::Bytes;

use super::{BlockFault, ShortIds, check_block};
use crate::base::limits::MAX_MESSAGE;
use crate::hub::mempool::Mempool;
use crate::wire::tx::MIN_TX;
use crate::wire::{Hash, Magic, Reader, Tx, WireError, display, sha256d, write};

/// Why a compact block does not become a whole one. Whatever it is: fetch the block in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartialError {
    /// A message does not decode.
    #[error("compact block or its transactions do not decode: {0}")]
    Wire(#[from] WireError),
    /// No transaction at all.
    #[error("compact block without transactions")]
    Empty,
    /// A prefilled transaction stands behind the block's end.
    #[error("prefilled transaction at position {index} of a block of {count}")]
    BadIndex {
        /// Its position.
        index: u64,
        /// Number of the block's transactions.
        count: usize,
    },
    /// The transactions are of another block.
    #[error("blocktxn for block {}, expected {}", display(.found), display(.expected))]
    WrongBlock {
        /// Theirs.
        found: Hash,
        /// Ours.
        expected: Hash,
    },
    /// More or fewer transactions than were asked for.
    #[error("blocktxn with {found} transactions, expected {expected}")]
    WrongCount {
        /// That came.
        found: usize,
        /// That were missing.
        expected: usize,
    },
    /// Larger than a message may be.
    #[error("block of {0} bytes, more than a message may have")]
    TooLarge(usize),
    /// The block does not fit its header: a short id met the wrong transaction.
    #[error("rebuilt block does not fit its header, fetch it in full: {0}")]
    Check(#[from] BlockFault),
}

/// A compact block of which some transactions may be missing. Holds at most `limits::MAX_MESSAGE` bytes of its
/// own; what came from the mempool is shared with it.
#[derive(Clone, Debug)]
pub struct Partial {
    magic: Magic,
    header: [u8; 80],
    hash: Hash,
    txs: Vec<Option<Bytes>>,
    missing: Vec<u32>,
    /// How many came from the mempool.
    found: usize,
}

impl Partial {
    /// Reads the payload of a `cmpctblock` message and takes from the mempool what its short ids name. A short id that two
    /// of the block's or of the mempool's transactions share counts as missing.
    pub fn start(magic: Magic, payload: &[u8], mempool: &Mempool) -> Result<Partial, PartialError> {
        let r = &mut Reader::new(payload);
        let header: [u8; 80] = r.array()?;
        let ids = ShortIds::new(&header, r.u64()?);
        let short_count = r.count(MAX_MESSAGE / MIN_TX)?;
        let short = r.bytes(short_count * 6)?.as_chunks::<6>().0;
        let prefilled_count = r.count(MAX_MESSAGE / MIN_TX)?;
        // A position and a transaction each: a count that the payload cannot hold allocates nothing.
        if prefilled_count * (MIN_TX + 1) > r.rest().len() {
            return Err(WireError::Short.into());
        }
        let count = short_count + prefilled_count;
        if count == 0 {
            return Err(PartialError::Empty);
        }
        let mut txs: Vec<Option<Bytes>> = vec![None; count];
        let mut next = 0u64;
        for _ in 0..prefilled_count {
            let index = next.saturating_add(r.compact()?);
            let tx = Tx::read(r)?.bytes;
            let place = usize::try_from(index).ok().and_then(|at| txs.get_mut(at));
            *place.ok_or(PartialError::BadIndex { index, count })? = Some(Bytes::copy_from_slice(tx));
            next = index + 1;
        }
        let mut wanted: HashMap<u64, Option<usize>> = HashMap::with_capacity(short_count);
        let free = txs.iter().enumerate().filter(|(_, tx)| tx.is_none()).map(|(at, _)| at);
        for (id, at) in short.iter().zip(free) {
            let id = u64::from_le_bytes([id[0], id[1], id[2], id[3], id[4], id[5], 0, 0]);
            match wanted.entry(id) {
                Slot::Vacant(slot) => drop(slot.insert(Some(at))),
                // Twice in the block: neither can be told from the other.
                Slot::Occupied(mut slot) => drop(slot.insert(None)),
            }
        }
        let mut found = 0;
        for (wtxid, entry) in mempool.wtxids() {
            let Some(place) = wanted.get_mut(&ids.of(wtxid)) else { continue };
            let Some(at) = *place else { continue };
            if txs[at].is_none() {
                txs[at] = Some(entry.payload());
                found += 1;
            } else {
                // Twice in the mempool: asked for instead.
                txs[at] = None;
                *place = None;
                found -= 1;
            }
        }
        let missing =
            txs.iter().enumerate().filter(|(_, tx)| tx.is_none()).map(|(at, _)| at as u32).collect();
        Ok(Partial { magic, header, hash: sha256d(&header), txs, missing, found })
    }

    /// The block's header.
    pub fn header(&self) -> &[u8; 80] {
        &self.header
    }

    /// The block's hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Number of the block's transactions.
    pub fn tx_count(&self) -> usize {
        self.txs.len()
    }

    /// How many of them the mempool had.
    pub fn found(&self) -> usize {
        self.found
    }

    /// Positions of the missing transactions, ascending: what `getblocktxn` asks for.
    pub fn missing(&self) -> &[u32] {
        &self.missing
    }

    /// The whole `block` message (v1 frame included) when nothing is missing.
    pub fn complete(&self) -> Result<Bytes, PartialError> {
        self.assemble(&[])
    }

    /// The whole `block` message (v1 frame included) with the transactions of a `blocktxn` payload.
    pub fn fill(&self, payload: &[u8]) -> Result<Bytes, PartialError> {
        let r = &mut Reader::new(payload);
        let found: Hash = r.array()?;
        if found != self.hash {
            return Err(PartialError::WrongBlock { found, expected: self.hash });
        }
        let (found, expected) = (r.count(MAX_MESSAGE / MIN_TX)?, self.missing.len());
        if found != expected {
            return Err(PartialError::WrongCount { found, expected });
        }
        let mut given = Vec::with_capacity(found);
        for _ in 0..found {
            given.push(Tx::read(r)?.bytes);
        }
        if !r.rest().is_empty() {
            return Err(WireError::TooMany(r.rest().len() as u64).into());
        }
        self.assemble(&given)
    }

    fn assemble(&self, given: &[&[u8]]) -> Result<Bytes, PartialError> {
        if given.len() != self.missing.len() {
            return Err(PartialError::WrongCount { found: given.len(), expected: self.missing.len() });
        }
        let own: usize = self.txs.iter().flatten().map(Bytes::len).sum();
        let size = 80 + 9 + own + given.iter().map(|tx| tx.len()).sum::<usize>();
        if size > MAX_MESSAGE {
            return Err(PartialError::TooLarge(size));
        }
        let mut message = Vec::with_capacity(size + crate::base::limits::HEADER_LEN);
        write::message(&mut message, self.magic, "block", |out| {
            out.extend_from_slice(&self.header);
            write::compact(out, self.txs.len() as u64);
            let mut given = given.iter();
            for tx in &self.txs {
                match tx {
                    Some(tx) => out.extend_from_slice(tx),
                    None => given.next().into_iter().for_each(|tx| out.extend_from_slice(tx)),
                }
            }
        });
        check_block(&message[crate::base::limits::HEADER_LEN..])?;
        Ok(message.into())
    }
}
