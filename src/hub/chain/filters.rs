//! Filter records of the best chain beyond those frozen.
//!
//! They may lag far behind the headers (the first sync brings all headers, then all filter headers), so they are a run of
//! their own: contiguous from the last frozen record on, across the end of the frozen headers.

use super::Chain;
use crate::feed::chain_view::FilterRecord;
use crate::wire::{Hash, display, sha256d};

/// Why filter hashes are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// They begin elsewhere than behind the last known record.
    #[error("filter hashes begin at height {from}, expected {expected}")]
    NotNext {
        /// Where they begin.
        from: u32,
        /// Where they should.
        expected: u32,
    },
    /// The filter header before them is not ours: the node's filters differ from those known.
    #[error("previous filter header {}, expected {}", display(.found), display(.expected))]
    NotLinked {
        /// What the node says.
        found: Hash,
        /// What is known.
        expected: Hash,
    },
    /// The last block they speak of is not where it should be in the best chain (a reorganisation came between).
    #[error("stop block {} is not at height {height} of the best chain", display(.stop))]
    NotBest {
        /// The stop hash.
        stop: Hash,
        /// The height that follows from `from` and the number of hashes.
        height: u64,
    },
}

/// The filter header of a block: hash of its filter hash and the filter header before (BIP157).
pub fn filter_header(hash: &Hash, previous: &Hash) -> Hash {
    let mut both = [0; 64];
    both[..32].copy_from_slice(hash);
    both[32..].copy_from_slice(previous);
    sha256d(&both)
}

impl Chain {
    /// Highest height up to which all filter records are known.
    pub fn filters_to(&self) -> Option<u32> {
        (self.filters_from + self.filters.len() as u32).checked_sub(1)
    }

    /// The filter record at a height of the best chain.
    pub fn filter_record(&self, height: u32) -> Option<FilterRecord> {
        match height.checked_sub(self.filters_from) {
            Some(at) => self.filters.get(at as usize).copied(),
            None => {
                self.frozen.filter(height).map(|(header, hash)| FilterRecord { header: *header, hash: *hash })
            }
        }
    }

    /// Takes the hashes of a `cfheaders` message for the blocks from height `from` to the block `stop`, `previous` being
    /// the filter header before `from`. Gives the records for the store.
    ///
    /// Nothing is taken unless all fits: `from` is the first unknown height, `previous` is the last known filter
    /// header (zero before genesis, BIP157), `stop` is the best chain's block at the last height.
    pub fn add_filter_records<'h>(
        &mut self,
        from: u32,
        previous: Hash,
        stop: &Hash,
        hashes: impl Iterator<Item = &'h Hash>,
    ) -> Result<Vec<FilterRecord>, FilterError> {
        let expected = self.filters_to().map_or(0, |height| height + 1);
        if from != expected {
            return Err(FilterError::NotNext { from, expected });
        }
        let known = from.checked_sub(1).and_then(|height| self.filter_record(height));
        let known = known.map_or([0; 32], |record| record.header);
        if previous != known {
            return Err(FilterError::NotLinked { found: previous, expected: known });
        }
        let room = (self.len() - from.min(self.len())) as usize;
        let mut header = previous;
        // One more than fits is looked at, so that too long a list is noticed and never gathered.
        let records: Vec<FilterRecord> = hashes
            .take(room + 1)
            .map(|hash| {
                header = filter_header(hash, &header);
                FilterRecord { header, hash: *hash }
            })
            .collect();
        if records.is_empty() {
            return Ok(records);
        }
        let height = u64::from(from) + records.len() as u64 - 1;
        if self.best_height(stop).map(u64::from) != Some(height) {
            return Err(FilterError::NotBest { stop: *stop, height });
        }
        self.filters.extend_from_slice(&records);
        self.view = None;
        Ok(records)
    }

    /// Forgets the filter records from `len` on.
    pub(super) fn cut_filters(&mut self, len: u32) {
        self.filters.truncate((len.saturating_sub(self.filters_from)) as usize);
    }
}
