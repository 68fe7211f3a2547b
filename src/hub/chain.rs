//! The header tree, and in it the best chain: the one with the most work, the first seen among equals.
//!
//! The best chain is a frozen part shared with the store and the shards (found by its own index, nothing per block is
//! kept here), a recent vector above it, and a run of filter records. Headers off it are in `sides`, bounded.
//! Knows no transactions, no node and no clock; whether a node vouches for a block is the hub's business.
//!
//! ## With the store
//! On every [`Change`] the hub calls `store.write_headers(fork_height + 1, connected)`; records [`Chain::add_filter_records`]
//! returns go to `store.write_filter_records`. When [`Chain::freeze_point`] names a length, the hub calls
//! `store.freeze(length)` and hands the result to [`Chain::set_frozen`].
//! A reorganisation below the frozen part cuts it here at once (the old mapping stays valid memory, the store
//! never changes mapped bytes in place); when `fork_height + 1 < ` the store's frozen length, the hub calls
//! `store.freeze(chain.frozen_len())` after writing and `set_frozen` with that shorter part.
//!
//! ## Invariants
//! - `recent` begins at height `frozen.len()`, links to it and within itself; `index` holds exactly its hashes.
//! - `filters` begins at `filters_from` = number of filter records in `frozen`; never beyond the tip.
//! - `work` is the sum of the best chain's work.
//! - `accept` takes all of its headers or none.

#![forbid(unsafe_code)]

mod error;
mod filters;
mod freeze;
mod rules;
mod sides;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::{Network, Work};

pub use error::HeaderError;
pub use filters::{FilterError, filter_header};
use rules::{Rules, no_work, previous};
use sides::{Side, Sides};

use crate::base::UnixTime;
use crate::base::limits::{MAX_FUTURE_BLOCK_TIME, MAX_SIDE_HEADERS};
use crate::feed::chain_view::FilterRecord;
use crate::feed::{ChainView, Frozen, Record};
use crate::wire::{Hash, sha256d};

/// What became of a list of headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How many were not known before.
    pub new: usize,
    /// Hash of the last header of the list (the tip when the list is empty).
    pub last: Hash,
    /// How the best chain changed, if it did.
    pub change: Option<Change>,
}

/// A change of the best chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Height of the last block that stays.
    pub fork_height: u32,
    /// Blocks that left, the old tip first.
    pub disconnected: Vec<Hash>,
    /// Blocks that came, in chain order; the last is the new tip.
    pub connected: Vec<Hash>,
}

/// What the chain counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainCounters {
    /// Lists of headers refused.
    pub refused: u64,
    /// Changes of the best chain that disconnected a block.
    pub reorganisations: u64,
    /// Headers now off the best chain.
    pub side_headers: u64,
    /// Headers off the best chain thrown out for want of room.
    pub side_evicted: u64,
    /// Stored records cut off at start because they did not link or lacked their proof of work.
    pub cut_at_start: u64,
    /// Frozen parts refused because they are not of the best chain.
    pub frozen_refused: u64,
}

/// Header tree and best chain.
#[derive(Debug)]
pub struct Chain {
    rules: Rules,
    frozen: Arc<Frozen>,
    recent: Vec<Record>,
    index: HashMap<Hash, u32>,
    filters_from: u32,
    filters: Vec<FilterRecord>,
    work: Work,
    sides: Sides,
    view: Option<Arc<ChainView>>,
    now: UnixTime,
    counters: ChainCounters,
}

/// A header that passed the checks and is not in the tree yet.
struct Fresh {
    hash: Hash,
    header: [u8; 80],
    work: Work,
}

impl Chain {
    /// Starts from what the store opened; the network's genesis block is added when there is nothing.
    ///
    /// Frozen records are trusted (they were checked when they came, and the store checked that they link), but for
    /// the last, which nothing vouches for. From the first recent record that does not link or lacks its proof of
    /// work on, all are cut off and counted; the node gives them again.
    pub fn new(network: Network, frozen: Arc<Frozen>, recent: Vec<Record>) -> Result<Chain, HeaderError> {
        Chain::with_side_limit(network, frozen, recent, MAX_SIDE_HEADERS)
    }

    fn with_side_limit(
        network: Network,
        mut frozen: Arc<Frozen>,
        mut recent: Vec<Record>,
        most: usize,
    ) -> Result<Chain, HeaderError> {
        let mut rules = Rules::new(network);
        let mut counters = ChainCounters::default();
        let genesis = genesis(network);
        let expected = sha256d(&genesis);
        let first = frozen.hash(0).copied().or_else(|| recent.first().map(|r| sha256d(&r.header)));
        if let Some(found) = first.filter(|found| *found != expected) {
            return Err(HeaderError::WrongGenesis { found, expected });
        }
        if let Some((header, hash)) =
            frozen.len().checked_sub(1).and_then(|at| frozen.header(at).zip(frozen.hash(at)))
            && rules.check_pow(header, hash).is_err()
        {
            counters.cut_at_start += 1 + recent.len() as u64;
            frozen = Arc::new(frozen.truncated(frozen.len() - 1));
            recent.clear();
        }
        let good = good_records(&mut rules, &frozen, &recent);
        counters.cut_at_start += (recent.len() - good) as u64;
        recent.truncate(good);
        if frozen.is_empty() && recent.is_empty() {
            recent.push(Record { header: genesis, hash: expected, filter: None });
        }
        let base = frozen.len();
        let mut work = no_work();
        for header in
            (0..base).filter_map(|height| frozen.header(height)).chain(recent.iter().map(|r| &r.header))
        {
            work = work + rules.work(header);
        }
        let index = recent.iter().enumerate().map(|(i, r)| (r.hash, base + i as u32)).collect();
        let filters_from = frozen.filter_len();
        let filters = match filters_from == base {
            true => recent.iter().map_while(|record| record.filter).collect(),
            false => Vec::new(),
        };
        let (sides, view) = (Sides::new(most), None);
        Ok(Chain { rules, frozen, recent, index, filters_from, filters, work, sides, view, now: 0, counters })
    }

    /// Number of blocks of the best chain, genesis included.
    pub fn len(&self) -> u32 {
        self.frozen.len() + self.recent.len() as u32
    }

    /// Never true: the genesis block is always known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Height and hash of the best chain's last block.
    pub fn tip(&self) -> (u32, Hash) {
        let height = self.len().saturating_sub(1);
        (height, self.best_hash(height).copied().unwrap_or_default())
    }

    /// Work of the best chain.
    pub fn work(&self) -> Work {
        self.work
    }

    /// True exactly when the block is known, in the best chain or off it.
    pub fn contains(&self, hash: &Hash) -> bool {
        self.height_of_known(hash).is_some()
    }

    /// Height of a known block, in the best chain or off it.
    pub fn height_of_known(&self, hash: &Hash) -> Option<u32> {
        self.best_height(hash).or_else(|| self.sides.get(hash).map(|side| side.height))
    }

    /// True exactly when the block is in the best chain.
    pub fn in_best(&self, hash: &Hash) -> bool {
        self.best_height(hash).is_some()
    }

    /// Height of a block of the best chain.
    pub fn best_height(&self, hash: &Hash) -> Option<u32> {
        self.index.get(hash).copied().or_else(|| self.frozen.height(hash))
    }

    /// Height of the last block of the best chain in the branch that ends in a known block.
    pub fn fork_height(&self, hash: &Hash) -> Option<u32> {
        let mut at = *hash;
        while let Some(side) = self.sides.get(&at) {
            at = previous(&side.header);
        }
        self.best_height(&at)
    }

    /// Hash at a height of the best chain.
    pub fn best_hash(&self, height: u32) -> Option<&Hash> {
        match height.checked_sub(self.frozen.len()) {
            Some(at) => self.recent.get(at as usize).map(|record| &record.hash),
            None => self.frozen.hash(height),
        }
    }

    /// Header at a height of the best chain.
    pub fn best_header(&self, height: u32) -> Option<&[u8; 80]> {
        match height.checked_sub(self.frozen.len()) {
            Some(at) => self.recent.get(at as usize).map(|record| &record.header),
            None => self.frozen.header(height),
        }
    }

    /// Header of a known block.
    pub fn header(&self, hash: &Hash) -> Option<[u8; 80]> {
        match self.best_height(hash) {
            Some(height) => self.best_header(height).copied(),
            None => self.sides.get(hash).map(|side| side.header),
        }
    }

    /// Work of the chain up to and including a known block. Walks down from the tip for a block of the best chain.
    pub fn work_of(&mut self, hash: &Hash) -> Option<Work> {
        match self.best_height(hash) {
            Some(height) => Some(self.work_at(height)),
            None => self.sides.get(hash).map(|side| side.work),
        }
    }

    /// What has been counted.
    pub fn counters(&self) -> ChainCounters {
        ChainCounters {
            side_headers: self.sides.len() as u64,
            side_evicted: self.sides.evicted + self.counters.side_evicted,
            ..self.counters
        }
    }

    /// An immutable picture for the shards; the same until something changes.
    pub fn view(&mut self) -> Arc<ChainView> {
        if let Some(view) = &self.view {
            return view.clone();
        }
        let base = self.frozen.len();
        let recent = self.recent.iter().enumerate().map(|(i, record)| {
            let filter = self.filter_record(base + i as u32);
            Record { filter, ..*record }
        });
        let view = Arc::new(ChainView::new(self.frozen.clone(), recent.collect()));
        self.view = Some(view.clone());
        view
    }

    /// Takes headers in order, each following the one before; the first must follow a known block. Those known
    /// already are skipped. `now` bounds how far ahead of our clock they may be.
    pub fn accept<'h>(
        &mut self,
        headers: impl Iterator<Item = &'h [u8; 80]>,
        now: UnixTime,
    ) -> Result<Accepted, HeaderError> {
        self.now = now;
        let result = self.check(headers, now).and_then(|(last, fresh)| {
            let new = fresh.len();
            Ok(Accepted { new, last, change: self.attach(fresh)? })
        });
        if result.is_err() {
            self.counters.refused += 1;
        }
        result
    }

    /// Checks a list; gives the hash of its last header and those that are new.
    fn check<'h>(
        &mut self,
        headers: impl Iterator<Item = &'h [u8; 80]>,
        now: UnixTime,
    ) -> Result<(Hash, Vec<Fresh>), HeaderError> {
        let mut last: Option<Hash> = None;
        let mut fresh: Vec<Fresh> = Vec::new();
        let mut first_height = 0;
        for header in headers {
            let parent = previous(header);
            if let Some(expected) = last.filter(|last| *last != parent) {
                return Err(HeaderError::NotLinked { expected, found: parent });
            }
            let hash = sha256d(header);
            last = Some(hash);
            if fresh.is_empty() {
                if self.contains(&hash) {
                    continue;
                }
                first_height = self.height_of_known(&parent).ok_or(HeaderError::UnknownParent(parent))? + 1;
            }
            let work = self.rules.check_pow(header, &hash)?;
            let time = rules::time(header);
            if u64::from(time) > now.saturating_add(MAX_FUTURE_BLOCK_TIME) {
                return Err(HeaderError::TooFarInFuture { hash, time, now });
            }
            self.check_bits(header, &fresh, first_height)?;
            fresh.push(Fresh { hash, header: *header, work });
        }
        Ok((last.unwrap_or(self.tip().1), fresh))
    }

    /// The retarget rule for a header that follows `fresh`, the first of which (or the header itself) is at `first_height`.
    fn check_bits(&self, header: &[u8; 80], fresh: &[Fresh], first_height: u32) -> Result<(), HeaderError> {
        if !self.rules.retargets() {
            return Ok(());
        }
        let height = first_height + fresh.len() as u32;
        let root = fresh.first().map_or_else(|| previous(header), |first| previous(&first.header));
        let ancestor = |at: u32| match at.checked_sub(first_height) {
            Some(i) => fresh.get(i as usize).map(|f| &f.header),
            None => self.ancestor(&root, at),
        };
        let (Some(last), interval) = (ancestor(height - 1), self.rules.interval()) else { return Ok(()) };
        let expected = match height % interval {
            0 => ancestor(height.saturating_sub(interval)).map(|first| self.rules.next_bits(first, last)),
            _ => Some(rules::bits(last)),
        };
        match (rules::bits(header), expected) {
            (found, Some(expected)) if found != expected => {
                Err(HeaderError::BadTarget { height, found, expected })
            }
            _ => Ok(()),
        }
    }

    /// The header at a height of the branch that ends in a known block.
    fn ancestor(&self, end: &Hash, height: u32) -> Option<&[u8; 80]> {
        let mut at = *end;
        while let Some(side) = self.sides.get(&at) {
            if side.height == height {
                return Some(&side.header);
            }
            at = previous(&side.header);
        }
        self.best_header(height)
    }

    /// Work of the best chain up to and including a height: that of the tip without what lies between.
    fn work_at(&mut self, height: u32) -> Work {
        let mut work = self.work;
        for above in height.saturating_add(1)..self.len() {
            if let Some(header) = self.best_header(above).copied() {
                work = work - self.rules.work(&header);
            }
        }
        work
    }

    /// Puts checked headers into the tree.
    fn attach(&mut self, fresh: Vec<Fresh>) -> Result<Option<Change>, HeaderError> {
        let Some(first) = fresh.first() else { return Ok(None) };
        let parent = previous(&first.header);
        let (tip_height, tip_hash) = self.tip();
        if parent == tip_hash {
            let connected = fresh.iter().map(|f| f.hash).collect();
            for f in fresh {
                self.work = self.work + f.work;
                self.push(f.header, f.hash);
            }
            return Ok(Some(Change { fork_height: tip_height, disconnected: Vec::new(), connected }));
        }
        let (Some(height), Some(mut work)) = (self.height_of_known(&parent), self.work_of(&parent)) else {
            return Err(HeaderError::UnknownParent(parent));
        };
        let (count, last) = (fresh.len(), fresh.last().map_or(parent, |f| f.hash));
        let total = fresh.iter().fold(work, |sum, f| sum + f.work);
        if !self.sides.make_room(count, &parent, total) {
            return Err(HeaderError::TooManySideHeaders(count));
        }
        for (i, f) in fresh.into_iter().enumerate() {
            work = work + f.work;
            self.sides.insert(f.hash, Side { header: f.header, height: height + 1 + i as u32, work });
        }
        Ok(if total > self.work { self.reorganise(last) } else { None })
    }

    /// Makes the branch that ends in this side header the best chain.
    fn reorganise(&mut self, new_tip: Hash) -> Option<Change> {
        let work = self.sides.get(&new_tip)?.work;
        let (mut at, mut path) = (new_tip, Vec::new());
        while let Some(side) = self.sides.get(&at) {
            path.push((at, side.header));
            at = previous(&side.header);
        }
        let fork_height = self.best_height(&at)?;
        for (hash, _) in &path {
            self.sides.remove(hash);
        }
        let mut old_work = self.work_at(fork_height);
        let left: Vec<(Hash, [u8; 80])> = (fork_height + 1..self.len())
            .filter_map(|height| self.best_hash(height).copied().zip(self.best_header(height).copied()))
            .collect();
        self.cut(fork_height + 1);
        self.work = work;
        for (hash, header) in path.iter().rev() {
            self.push(*header, *hash);
        }
        // What left stays known while there is room, lowest first, so that each keeps its parent.
        let mut parent = at;
        for (i, (hash, header)) in left.iter().enumerate() {
            old_work = old_work + self.rules.work(header);
            if !self.sides.make_room(1, &parent, old_work) {
                self.counters.side_evicted += (left.len() - i) as u64;
                break;
            }
            let height = fork_height + 1 + i as u32;
            self.sides.insert(*hash, Side { header: *header, height, work: old_work });
            parent = *hash;
        }
        self.counters.reorganisations += 1;
        Some(Change {
            fork_height,
            disconnected: left.iter().rev().map(|(hash, _)| *hash).collect(),
            connected: path.iter().rev().map(|(hash, _)| *hash).collect(),
        })
    }

    fn push(&mut self, header: [u8; 80], hash: Hash) {
        self.index.insert(hash, self.len());
        self.recent.push(Record { header, hash, filter: None });
        self.view = None;
    }

    /// Forgets the best chain from height `len` on; `work` is the caller's to mend.
    fn cut(&mut self, len: u32) {
        self.cut_filters(len);
        if len < self.frozen.len() {
            self.frozen = Arc::new(self.frozen.truncated(len));
            self.filters_from = self.filters_from.min(self.frozen.filter_len());
        }
        let keep = (len - self.frozen.len().min(len)) as usize;
        for record in self.recent.drain(keep.min(self.recent.len())..) {
            self.index.remove(&record.hash);
        }
        self.view = None;
    }

    #[cfg(test)]
    fn invariants(&mut self) {
        let base = self.frozen.len();
        assert_eq!(self.index.len(), self.recent.len());
        for height in 1..self.len() {
            let (header, hash) = (self.best_header(height).unwrap(), self.best_hash(height).unwrap());
            assert_eq!(Some(&previous(header)), self.best_hash(height - 1));
            assert_eq!(sha256d(header), *hash);
            assert!(height < base || self.index[hash] == height);
        }
        assert_eq!(self.filters_from, self.frozen.filter_len());
        assert!(self.filters_to().is_none_or(|to| to < self.len()));
        let work = (0..self.len()).fold(no_work(), |sum, h| {
            let header = *self.best_header(h).unwrap();
            sum + self.rules.work(&header)
        });
        assert_eq!(work, self.work);
        self.sides.check(|hash| self.in_best(hash));
    }
}

/// How many recent records link to the frozen part and to one another, with their proof of work.
fn good_records(rules: &mut Rules, frozen: &Frozen, recent: &[Record]) -> usize {
    let mut last = frozen.len().checked_sub(1).and_then(|at| frozen.hash(at)).copied();
    for (i, record) in recent.iter().enumerate() {
        let links = last.is_none_or(|last| previous(&record.header) == last);
        if !links
            || sha256d(&record.header) != record.hash
            || rules.check_pow(&record.header, &record.hash).is_err()
        {
            return i;
        }
        last = Some(record.hash);
    }
    recent.len()
}

/// The network's first header.
pub fn genesis(network: Network) -> [u8; 80] {
    let mut header = [0; 80];
    let bytes = bitcoin::consensus::serialize(&bitcoin::constants::genesis_block(network).header);
    header[..bytes.len().min(80)].copy_from_slice(&bytes[..bytes.len().min(80)]);
    header
}
