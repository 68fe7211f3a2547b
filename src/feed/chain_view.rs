//! An immutable picture of the best chain: headers, and filter headers as far as they are known.
//!
//! The old part is frozen: fixed-size records, memory-mapped from the store and shared by all threads. The last
//! one or two thousand blocks are a plain vector, replaced with each new tip, so that a reorganisation never changes
//! memory that somebody reads. The hub publishes a new picture by sending an `Arc` over each shard's link.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::wire::{Hash, HashList, sha256d};

/// Bytes of a header on disk and on the wire.
pub const HEADER_BYTES: usize = 80;
/// Bytes of a filter record on disk: filter header, then filter hash.
pub const FILTER_BYTES: usize = 64;

/// A block of the recent part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The header as on the wire.
    pub header: [u8; HEADER_BYTES],
    /// Its hash.
    pub hash: Hash,
    /// Filter header and filter hash (BIP157), once known.
    pub filter: Option<FilterRecord>,
}

/// What BIP157 says of a block's basic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterRecord {
    /// Filter header: hash of filter hash and previous filter header.
    pub header: Hash,
    /// Hash of the filter.
    pub hash: Hash,
}

/// The frozen part of the chain: heights 0 to `len() - 1`.
#[derive(Debug, Default)]
pub struct Frozen {
    headers: Bytes,
    filters: Bytes,
    /// Hash of the last frozen block; the hash of every other is in its successor's header.
    last_hash: Hash,
    /// Open-addressed table from the first bytes of a hash to height + 1; zero is empty. At most half full.
    index: Box<[u32]>,
}

impl Frozen {
    /// Builds the index over checked records: `headers` holds whole 80-byte headers that link to one
    /// another, `filters` at least as many 64-byte records or fewer when filters are not known that far.
    pub fn new(headers: Bytes, filters: Bytes) -> Frozen {
        let count = headers.len() / HEADER_BYTES;
        let mut frozen = Frozen { headers, filters, last_hash: [0; 32], index: Box::default() };
        if count == 0 {
            return frozen;
        }
        frozen.last_hash = sha256d(frozen.header(count as u32 - 1).unwrap_or(&[0; HEADER_BYTES]));
        let mut index = vec![0u32; (count * 2).next_power_of_two()].into_boxed_slice();
        let mask = index.len() - 1;
        for height in 0..count as u32 {
            let Some(hash) = frozen.hash(height) else { break };
            let mut at = slot(hash) & mask;
            while index[at] != 0 {
                at = (at + 1) & mask;
            }
            index[at] = height + 1;
        }
        frozen.index = index;
        frozen
    }

    /// Number of frozen blocks.
    pub fn len(&self) -> u32 {
        (self.headers.len() / HEADER_BYTES) as u32
    }

    /// True exactly when nothing is frozen.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// The header at a height.
    pub fn header(&self, height: u32) -> Option<&[u8; HEADER_BYTES]> {
        self.headers.as_chunks::<HEADER_BYTES>().0.get(height as usize)
    }

    /// The hash at a height.
    pub fn hash(&self, height: u32) -> Option<&Hash> {
        match self.header(height + 1) {
            Some(next) => next[4..36].first_chunk::<32>(),
            None => (height + 1 == self.len()).then_some(&self.last_hash),
        }
    }

    /// The filter record at a height, when known.
    pub fn filter(&self, height: u32) -> Option<(&Hash, &Hash)> {
        let record = self.filters.as_chunks::<FILTER_BYTES>().0.get(height as usize)?;
        Some((record.first_chunk::<32>()?, record.last_chunk::<32>()?))
    }

    /// Number of blocks, from genesis on, whose filter record is known here (never more than `len()`).
    pub fn filter_len(&self) -> u32 {
        ((self.filters.len() / FILTER_BYTES) as u32).min(self.len())
    }

    /// The first `len` blocks of this part (all when it has fewer), sharing its memory; the index is made anew. For a
    /// reorganisation that reaches below the frozen part.
    pub fn truncated(&self, len: u32) -> Frozen {
        let headers = (len as usize * HEADER_BYTES).min(self.headers.len());
        let filters = (len as usize * FILTER_BYTES).min(self.filters.len());
        Frozen::new(self.headers.slice(..headers), self.filters.slice(..filters))
    }

    /// The height of a hash.
    pub fn height(&self, hash: &Hash) -> Option<u32> {
        if self.index.is_empty() {
            return None;
        }
        let mask = self.index.len() - 1;
        let mut at = slot(hash) & mask;
        while self.index[at] != 0 {
            let height = self.index[at] - 1;
            if self.hash(height) == Some(hash) {
                return Some(height);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

/// The first bytes of a hash in wire order are its random ones.
fn slot(hash: &Hash) -> usize {
    u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]) as usize
}

/// A locator for the block at `tip`: ten steps of one, then doubling, genesis last.
pub fn locator(tip: u32, hash: impl Fn(u32) -> Option<Hash>) -> Vec<Hash> {
    let mut out = Vec::with_capacity(32);
    let (mut height, mut step) = (tip, 1);
    while let Some(hash) = hash(height) {
        out.push(hash);
        if height == 0 {
            break;
        }
        if out.len() >= 10 {
            step *= 2;
        }
        height = height.saturating_sub(step);
    }
    out
}

/// The best chain at one moment.
#[derive(Debug)]
pub struct ChainView {
    frozen: Arc<Frozen>,
    recent: Vec<Record>,
    by_hash: HashMap<Hash, u32>,
}

impl ChainView {
    /// Puts the parts together. At least one block in all: the genesis block is always known.
    pub fn new(frozen: Arc<Frozen>, recent: Vec<Record>) -> ChainView {
        let base = frozen.len();
        let by_hash = recent.iter().enumerate().map(|(i, r)| (r.hash, base + i as u32)).collect();
        ChainView { frozen, recent, by_hash }
    }

    /// Number of blocks, genesis included.
    pub fn len(&self) -> u32 {
        self.frozen.len() + self.recent.len() as u32
    }

    /// True exactly when there is no block at all (only before start-up has finished).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Height of the tip (0 for the genesis block).
    pub fn tip_height(&self) -> u32 {
        self.len().saturating_sub(1)
    }

    /// Hash of the tip.
    pub fn tip_hash(&self) -> Hash {
        self.hash(self.tip_height()).copied().unwrap_or([0; 32])
    }

    /// The frozen part.
    pub fn frozen(&self) -> &Arc<Frozen> {
        &self.frozen
    }

    /// The recent part, beginning at height `frozen().len()`.
    pub fn recent(&self) -> &[Record] {
        &self.recent
    }

    fn recent_at(&self, height: u32) -> Option<&Record> {
        self.recent.get(height.checked_sub(self.frozen.len())? as usize)
    }

    /// The header at a height.
    pub fn header(&self, height: u32) -> Option<&[u8; HEADER_BYTES]> {
        self.recent_at(height).map(|r| &r.header).or_else(|| self.frozen.header(height))
    }

    /// The hash at a height.
    pub fn hash(&self, height: u32) -> Option<&Hash> {
        self.recent_at(height).map(|r| &r.hash).or_else(|| self.frozen.hash(height))
    }

    /// The height of a block of the best chain.
    pub fn height(&self, hash: &Hash) -> Option<u32> {
        self.by_hash.get(hash).copied().or_else(|| self.frozen.height(hash))
    }

    /// Filter header and filter hash at a height, when known.
    pub fn filter(&self, height: u32) -> Option<(&Hash, &Hash)> {
        match self.recent_at(height) {
            Some(record) => record.filter.as_ref().map(|f| (&f.header, &f.hash)),
            None => self.frozen.filter(height),
        }
    }

    /// The height of the first known block of a locator; genesis when none is known.
    pub fn find_fork(&self, locator: HashList<'_>) -> u32 {
        locator.iter().find_map(|hash| self.height(hash)).unwrap_or(0)
    }

    /// A locator for our tip: ten steps of one, then doubling, genesis last (at most 32 hashes below 2^22 blocks).
    pub fn locator(&self) -> Vec<Hash> {
        locator(self.tip_height(), |height| self.hash(height).copied())
    }
}
