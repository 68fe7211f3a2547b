//! The store: the chain's headers and filter headers, blocks and filters, on disk as on the wire.
//!
//! ```text
//!   lock                     flock(2): one process per data directory
//!   headers-GGGG.dat         80 bytes a block, by height; mapped        headersums-GGGG.dat   their CRCs
//!   cfheaders-GGGG.dat       filter header, filter hash, by height; mapped
//!   blocks/  filters/        the last N, or all: NNNNNNNN.seg (v1 messages) and index.dat
//!   cache/                   older ones fetched on demand, least recently used segments go first
//! ```
//!
//! - `disk`: the real disk
//! - `records`: files of fixed-size records, generations
//! - `chain`: headers and filter records, checked at start
//! - `index`, `folder`: segments of messages and what lies where
//! - `recover`: messages that the index has lost
//! - `check`: is a message what it is said to be
//!
//! It does not fetch, does not choose between chains and checks no proof of work. All calls block; the hub makes them.
//!
//! Invariants: what was acknowledged survives kill -9 and power loss; what was not leaves nothing false behind; damaged
//! bytes are reported and never served; after any error, a full disk among them, the store goes on.

#![deny(unsafe_code)]

mod chain;
mod check;
pub mod disk;
mod error;
mod folder;
mod index;
mod records;
mod recover;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::limits::{CACHE_SEGMENTS, MAX_SEGMENT_BYTES};
use crate::feed::chain_view::{FilterRecord, Frozen, Record};
use crate::io::Disk;
use crate::link::Extent;
use crate::wire::{self, Hash, Magic};

use chain::ChainFiles;
pub use disk::FolderDisk;
pub use error::StoreError;
use folder::Folder;
use index::Kind;

/// What is kept for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Every block and filter.
    All,
    /// Those of the last blocks, at least this many.
    Last(u32),
}

/// How a store is set up.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The network's message magic.
    pub magic: Magic,
    /// The network's genesis header; it is always record 0.
    pub genesis: [u8; 80],
    /// What is kept.
    pub keep: Keep,
    /// Most bytes of the cache (one message more when it is smaller than that).
    pub cache_bytes: u64,
    /// Size at which a segment is closed; at most `limits::MAX_SEGMENT_BYTES` is used. Cache segments are smaller
    /// when the cache is.
    pub segment_bytes: u64,
}

/// What was found at start.
#[derive(Debug)]
pub struct Opened {
    /// All but the last `limits::STORE_RECENT` headers, mapped.
    pub frozen: Arc<Frozen>,
    /// The last headers, genesis among them when they are few. Never empty.
    pub recent: Vec<Record>,
    /// What was repaired, one sentence each. Empty after a clean end.
    pub repairs: Vec<String>,
}

/// The store's state and totals since start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct StoreCounters {
    /// Headers stored, genesis included.
    pub headers: u32,
    /// Filter records stored.
    pub filter_records: u32,
    /// Blocks kept.
    pub blocks: u64,
    /// Bytes of their segments.
    pub block_bytes: u64,
    /// Filters kept.
    pub filters: u64,
    /// Bytes of their segments.
    pub filter_bytes: u64,
    /// Blocks and filters in the cache.
    pub cached: u64,
    /// Bytes of the cache's segments.
    pub cache_bytes: u64,
    /// Messages dropped because they were damaged, unreadable or could not be synced.
    pub damaged: u64,
    /// Segments removed because all in them is older than what is kept.
    pub pruned_segments: u64,
    /// Cache segments removed to stay below its limit.
    pub evicted_segments: u64,
    /// Calls that returned an error of the disk.
    pub write_errors: u64,
    /// Calls that returned `Full`, of these.
    pub full: u64,
}

/// The store. One thread owns it; what it hands out (`Frozen`, `Extent`) may be used by all.
pub struct Store {
    disk: Box<dyn Disk + Send>,
    config: StoreConfig,
    chain: ChainFiles,
    blocks: Folder,
    filters: Folder,
    cache: Folder,
    pruned: u64,
    evicted: u64,
    write_errors: u64,
    full: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("config", &self.config).field("counters", &self.counters()).finish()
    }
}

impl Store {
    /// Opens the store, creating it when the disk is empty; checks the chain's links and the indexes, repairs tails.
    ///
    /// # Errors
    /// `OtherNetwork` when the first header is another network's genesis; `Full` and `Io` from the disk.
    pub fn open(disk: Box<dyn Disk + Send>, config: StoreConfig) -> Result<(Store, Opened), StoreError> {
        let mut repairs = Vec::new();
        let mut chain = ChainFiles::open(&*disk, config.genesis, &mut repairs)?;
        let segment = config.segment_bytes.min(MAX_SEGMENT_BYTES);
        let cache_segment = segment.min(config.cache_bytes / CACHE_SEGMENTS);
        let (frozen, recent) = chain.split()?;
        let known: HashMap<&Hash, u32> = (frozen.len()..).zip(&recent).map(|(n, r)| (&r.hash, n)).collect();
        let heights = |hash: &Hash| known.get(hash).copied().or_else(|| frozen.height(hash));
        let mut folder =
            |name, segment| Folder::open(&*disk, name, config.magic, segment, &heights, &mut repairs);
        let (blocks, filters) = (folder("blocks", segment)?, folder("filters", segment)?);
        let cache = folder("cache", cache_segment)?;
        let store = Store {
            disk,
            config,
            chain,
            blocks,
            filters,
            cache,
            pruned: 0,
            evicted: 0,
            write_errors: 0,
            full: 0,
        };
        Ok((store, Opened { frozen, recent, repairs }))
    }

    /// Replaces all headers from height `from` on; none given means: cuts. Durable on return. Filter records from
    /// `from` on are cut too, before: they belonged to the blocks replaced.
    ///
    /// # Errors
    /// `Gap` and `Unlinked` for headers that do not fit, nothing changed. `Full` and `Io`: headers (and filter
    /// records) from `from` on are gone, those below are as they were; write again from `counters().headers`.
    pub fn write_headers(&mut self, from: u32, headers: &[[u8; 80]]) -> Result<(), StoreError> {
        let result = self.chain.write_headers(&*self.disk, from, headers);
        self.count(result)
    }

    /// Replaces all filter records from height `from` on. Durable on return.
    ///
    /// # Errors
    /// `Gap` when `from` is above the records there are or the end above the headers, `Unlinked` when a filter
    /// header is not made from its hash and the one before (BIP157): nothing changed. `Full` and `Io`: the records from
    /// `from` on are gone; write again from `counters().filter_records`.
    pub fn write_filter_records(&mut self, from: u32, records: &[FilterRecord]) -> Result<(), StoreError> {
        let result = self.chain.write_filters(&*self.disk, from, records);
        self.count(result)
    }

    /// Maps the first `heights` headers, and the filter records there are up to it, as the new frozen part. From now
    /// on a write below that makes a new file; older frozen parts stay valid as long as somebody holds them.
    ///
    /// # Errors
    /// `Gap` when there are not that many headers, `Io` when they cannot be mapped.
    pub fn freeze(&mut self, heights: u32) -> Result<Arc<Frozen>, StoreError> {
        self.chain.freeze(heights)
    }

    /// Stores a whole v1 `block` message, frame included. `kept`: it belongs to the last N or all are kept; otherwise
    /// it goes to the bounded cache. Can be asked for at once; survives a crash once `sync` has returned `Ok`. A block
    /// that is here already is not stored again.
    ///
    /// # Errors
    /// `Malformed` when frame or hash are wrong (the checksum is checked on the first use), `Full`, `Io`.
    pub fn put_block(
        &mut self,
        hash: &Hash,
        height: u32,
        message: &[u8],
        kept: bool,
    ) -> Result<(), StoreError> {
        self.put(Kind::Block, hash, height, message, kept)
    }

    /// Stores a whole v1 `cfilter` message of a basic filter. Else as `put_block`.
    ///
    /// # Errors
    /// As `put_block`.
    pub fn put_filter(
        &mut self,
        hash: &Hash,
        height: u32,
        message: &[u8],
        kept: bool,
    ) -> Result<(), StoreError> {
        self.put(Kind::Filter, hash, height, message, kept)
    }

    fn put(
        &mut self,
        kind: Kind,
        hash: &Hash,
        height: u32,
        message: &[u8],
        kept: bool,
    ) -> Result<(), StoreError> {
        check::frame(self.config.magic, kind, hash, message).map_err(|why| StoreError::Malformed {
            what: kind.command(),
            len: message.len(),
            hash: wire::display(hash),
            why,
        })?;
        let result = self.put_checked(kind, hash, height, message, kept);
        self.count(result)
    }

    fn put_checked(
        &mut self,
        kind: Kind,
        hash: &Hash,
        height: u32,
        message: &[u8],
        kept: bool,
    ) -> Result<(), StoreError> {
        let disk = &*self.disk;
        let folder = match kind {
            Kind::Block => &mut self.blocks,
            Kind::Filter => &mut self.filters,
        };
        if kept {
            return folder.put(disk, kind, hash, height, message);
        }
        if folder.has(kind, hash) || self.cache.has(kind, hash) {
            return Ok(());
        }
        let limit = self.config.cache_bytes.saturating_sub(message.len() as u64);
        self.evicted += self.cache.shrink(disk, limit)?;
        self.cache.put(disk, kind, hash, height, message)
    }

    /// Acknowledges all puts so far: data synced, then index written and synced.
    ///
    /// # Errors
    /// `Full` and `Io`: nothing new is acknowledged for certain. Puts whose data could not be synced are forgotten and
    /// reported as damage (`has_block` says false: put them again); the others are acknowledged by the next `sync`.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        // Each folder gets its turn, so that trouble in the cache does not keep blocks from being acknowledged.
        let all =
            [&mut self.blocks, &mut self.filters, &mut self.cache].map(|folder| folder.sync(&*self.disk));
        let result = all.into_iter().collect();
        self.count(result)
    }

    /// True exactly when the block is here, as far as is known without reading it.
    pub fn has_block(&self, hash: &Hash) -> bool {
        self.blocks.has(Kind::Block, hash) || self.cache.has(Kind::Block, hash)
    }

    /// True exactly when the filter of this block is here, as far as is known without reading it.
    pub fn has_filter(&self, hash: &Hash) -> bool {
        self.filters.has(Kind::Filter, hash) || self.cache.has(Kind::Filter, hash)
    }

    /// Where a block's message lies. The first time since start it is read and its checksum verified; a damaged one is
    /// dropped (counted, see `take_damage`) and `None` returned, so that it is fetched again.
    pub fn block(&mut self, hash: &Hash) -> Option<Extent> {
        let disk = &*self.disk;
        let kept = self.blocks.locate(disk, Kind::Block, hash);
        kept.or_else(|| self.cache.locate(disk, Kind::Block, hash))
    }

    /// A block's message in memory. Else as `block`.
    pub fn read_block(&mut self, hash: &Hash) -> Option<Bytes> {
        let disk = &*self.disk;
        let kept = self.blocks.read(disk, Kind::Block, hash);
        kept.or_else(|| self.cache.read(disk, Kind::Block, hash))
    }

    /// Where the filters of these blocks lie, in order; neighbours in one file are merged while they stay within
    /// `max_extent` bytes (a longer message is an extent of its own). `None` when any is missing or damaged.
    pub fn filters(&mut self, hashes: &[Hash], max_extent: u32) -> Option<Vec<Extent>> {
        let mut out: Vec<Extent> = Vec::new();
        for hash in hashes {
            let kept = self.filters.locate(&*self.disk, Kind::Filter, hash);
            let next = kept.or_else(|| self.cache.locate(&*self.disk, Kind::Filter, hash))?;
            match out.last_mut() {
                Some(last)
                    if Arc::ptr_eq(&last.file, &next.file)
                        && last.offset + u64::from(last.len) == next.offset
                        && last.len.checked_add(next.len).is_some_and(|len| len <= max_extent) =>
                {
                    last.len += next.len;
                }
                _ => out.push(next),
            }
        }
        Some(out)
    }

    /// Removes segments wholly below the kept window under this tip, and cache segments beyond the cache's limit, least
    /// recently used first. Extents handed out before stay readable.
    ///
    /// # Errors
    /// `Io` when an index or a segment cannot be replaced or removed. A full disk is no error here.
    pub fn prune(&mut self, tip: u32) -> Result<(), StoreError> {
        let result = self.prune_all(tip);
        self.count(result)
    }

    fn prune_all(&mut self, tip: u32) -> Result<(), StoreError> {
        let disk = &*self.disk;
        if let Keep::Last(n) = self.config.keep {
            let lowest = tip.saturating_add(1).saturating_sub(n);
            self.pruned += self.blocks.drop_below(disk, lowest)?;
            self.pruned += self.filters.drop_below(disk, lowest)?;
        }
        self.evicted += self.cache.shrink(disk, self.config.cache_bytes)?;
        Ok(())
    }

    /// What the store holds and what has happened since start.
    pub fn counters(&self) -> StoreCounters {
        StoreCounters {
            headers: self.chain.headers(),
            filter_records: self.chain.filters(),
            blocks: self.blocks.messages(),
            block_bytes: self.blocks.bytes(),
            filters: self.filters.messages(),
            filter_bytes: self.filters.bytes(),
            cached: self.cache.messages(),
            cache_bytes: self.cache.bytes(),
            damaged: self.blocks.damaged() + self.filters.damaged() + self.cache.damaged(),
            pruned_segments: self.pruned,
            evicted_segments: self.evicted,
            write_errors: self.write_errors,
            full: self.full,
        }
    }

    /// What was found damaged since the last call, one sentence each; at most `limits::STORE_NOTES` a folder.
    pub fn take_damage(&mut self) -> Vec<String> {
        [&mut self.blocks, &mut self.filters, &mut self.cache]
            .into_iter()
            .flat_map(Folder::take_notes)
            .collect()
    }

    fn count<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            let (full, io) =
                (matches!(error, StoreError::Full { .. }), matches!(error, StoreError::Io { .. }));
            self.write_errors += u64::from(full || io);
            self.full += u64::from(full);
        }
        result
    }
}
