//! What goes to the store, and when: announced first, written after, in batches.
//!
//! Blocks and filters wait here in memory until they are written, and are served from here meanwhile. When the store
//! refuses (full disk), they stay, writing is tried again with a pause that doubles to `STORE_RETRY_LAST`, and serving
//! goes on; beyond `STORE_WAITING_BYTES` the oldest are dropped, counted, and fetched again later.
//! Writing and syncing block the hub's thread (one fdatasync a batch); shards are not touched by that.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::{Hub, HubEvent, Output};
use crate::base::Instant;
use crate::base::limits::{
    STORE_BATCH_BYTES, STORE_RETRY_FIRST, STORE_RETRY_LAST, STORE_SYNC_INTERVAL, STORE_WAITING_BYTES,
};
use crate::hub::chain::Chain;
use crate::hub::store::{Keep, Store, StoreError};
use crate::link::Extent;
use crate::wire::Hash;

/// Headers or filter records written in one go.
const RECORDS_PER_WRITE: u32 = 4_000;

/// A block or a filter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Piece {
    Block(Hash),
    Filter(Hash),
}

#[derive(Debug)]
struct Waiting {
    height: u32,
    message: Bytes,
    kept: bool,
}

/// The store and what waits for it.
pub(super) struct Keeper {
    pub(super) store: Store,
    keep: Keep,
    waiting: BTreeMap<Piece, Waiting>,
    order: VecDeque<Piece>,
    bytes: usize,
    /// First height whose header has to be written; above the tip when none.
    headers_from: u32,
    /// First height whose filter record has to be written.
    filters_from: u32,
    unsynced: bool,
    sync_at: Instant,
    /// While the store refuses: when to try again, and the pause.
    retry: Option<(Instant, Duration)>,
    pruned_at: u32,
}

impl Keeper {
    pub(super) fn new(store: Store, keep: Keep, headers: u32, filters: u32) -> Keeper {
        Keeper {
            store,
            keep,
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            headers_from: headers,
            filters_from: filters,
            unsynced: false,
            sync_at: Instant(0),
            retry: None,
            pruned_at: 0,
        }
    }

    /// Lowest height that belongs to the kept window below `tip`.
    pub(super) fn window_start(&self, tip: u32) -> u32 {
        match self.keep {
            Keep::All => 0,
            Keep::Last(n) => (tip + 1).saturating_sub(n),
        }
    }

    /// The best chain has changed above `fork`.
    pub(super) fn chain_changed(&mut self, fork: u32) {
        self.headers_from = self.headers_from.min(fork + 1);
        self.filters_from = self.filters_from.min(fork + 1);
    }

    /// True exactly when it can be given from the store or from memory.
    pub(super) fn has(&self, piece: &Piece) -> bool {
        self.waiting.contains_key(piece)
            || match piece {
                Piece::Block(hash) => self.store.has_block(hash),
                Piece::Filter(hash) => self.store.has_filter(hash),
            }
    }

    /// The message while it waits to be written.
    pub(super) fn in_memory(&self, piece: &Piece) -> Option<&Bytes> {
        self.waiting.get(piece).map(|w| &w.message)
    }

    /// Where a written block lies.
    pub(super) fn block(&mut self, hash: &Hash) -> Option<Extent> {
        self.store.block(hash)
    }

    /// Takes a message to be written soon. Returns how many others had to be dropped for it.
    pub(super) fn put(&mut self, piece: Piece, height: u32, message: Bytes, kept: bool) -> u64 {
        if self.has(&piece) {
            return 0;
        }
        self.bytes += message.len();
        self.waiting.insert(piece, Waiting { height, message, kept });
        self.order.push_back(piece);
        let mut dropped = 0;
        while self.bytes > STORE_WAITING_BYTES && self.order.len() > 1 {
            self.drop_front();
            dropped += 1;
        }
        dropped
    }

    fn drop_front(&mut self) {
        if let Some(piece) = self.order.pop_front()
            && let Some(waiting) = self.waiting.remove(&piece)
        {
            self.bytes -= waiting.message.len();
        }
    }

    /// True exactly when something has to be written or synced.
    fn is_dirty(&self, chain: &Chain) -> bool {
        self.unsynced
            || !self.order.is_empty()
            || self.headers_from < chain.len()
            || chain.filters_to().is_some_and(|to| self.filters_from <= to)
    }

    fn write_some(&mut self, chain: &mut Chain) -> Result<(), StoreError> {
        while self.headers_from < chain.len() {
            let end = chain.len().min(self.headers_from + RECORDS_PER_WRITE);
            let list: Vec<[u8; 80]> =
                (self.headers_from..end).map_while(|height| chain.best_header(height).copied()).collect();
            self.store.write_headers(self.headers_from, &list)?;
            self.headers_from = end;
            self.unsynced = true;
        }
        let filters_end = chain.filters_to().map_or(0, |to| to + 1);
        while self.filters_from < filters_end {
            let end = filters_end.min(self.filters_from + RECORDS_PER_WRITE);
            let list: Vec<_> = (self.filters_from..end).map_while(|h| chain.filter_record(h)).collect();
            self.store.write_filter_records(self.filters_from, &list)?;
            self.filters_from = end;
            self.unsynced = true;
        }
        if let Some(len) = chain.freeze_point() {
            let frozen = self.store.freeze(len)?;
            chain.set_frozen(frozen);
        }
        let mut written = 0;
        while let Some(piece) = self.order.front().copied() {
            if written >= STORE_BATCH_BYTES {
                break;
            }
            if let Some(w) = self.waiting.get(&piece) {
                match &piece {
                    Piece::Block(hash) => self.store.put_block(hash, w.height, &w.message, w.kept)?,
                    Piece::Filter(hash) => self.store.put_filter(hash, w.height, &w.message, w.kept)?,
                }
                written += w.message.len();
                self.unsynced = true;
            }
            self.drop_front();
        }
        Ok(())
    }

    fn sync(&mut self, tip: u32) -> Result<(), StoreError> {
        self.store.sync()?;
        self.unsynced = false;
        if self.pruned_at != tip {
            self.store.prune(tip)?;
            self.pruned_at = tip;
        }
        Ok(())
    }
}

impl Hub {
    pub(super) fn frozen_len(&self) -> u32 {
        self.chain.frozen_len()
    }

    /// Takes a block or a filter for the store.
    pub(super) fn keep(&mut self, piece: Piece, height: u32, message: Bytes, kept: bool) {
        self.counters.store_dropped += self.keeper.put(piece, height, message, kept);
        self.wake_at(self.now);
    }

    /// Writes what waits, and syncs when a batch is due. Errors are counted and tried again later.
    pub(super) fn tick_store(&mut self) {
        let now = self.now;
        if let Some((at, _)) = self.keeper.retry
            && now < at
        {
            self.wake_at(at);
            return;
        }
        if !self.keeper.is_dirty(&self.chain) {
            return;
        }
        self.flush_store();
        if self.keeper.retry.is_some() {
            return;
        }
        if !self.keeper.order.is_empty() {
            self.wake_at(now);
        }
        if !self.keeper.unsynced {
            return;
        }
        if now >= self.keeper.sync_at {
            self.sync_store();
            self.keeper.sync_at = now + STORE_SYNC_INTERVAL;
        } else {
            let at = self.keeper.sync_at;
            self.wake_at(at);
        }
    }

    /// Writes a batch now.
    pub(super) fn flush_store(&mut self) {
        let before = (self.chain.frozen_len(), self.chain.tip().1);
        let result = self.keeper.write_some(&mut self.chain);
        self.store_result(result);
        if before.0 != self.chain.frozen_len()
            && let Some(published) = &self.published
            && published.tip_hash() == before.1
        {
            // The shards' picture moves to the new map so that the old one can go.
            let view = self.chain.view();
            self.published = Some(view.clone());
            self.tell_all(&crate::link::ToShard::Chain { view, blocks: [].into(), had: self.now });
        }
        self.take_damage();
    }

    /// Makes all that was written survive a crash.
    pub(super) fn sync_store(&mut self) {
        let (tip, _) = self.chain.tip();
        let result = self.keeper.sync(tip);
        self.store_result(result);
        self.try_open();
    }

    fn store_result(&mut self, result: Result<(), StoreError>) {
        match result {
            Ok(()) => {
                if self.keeper.retry.take().is_some() {
                    self.out.push_back(Output::Event(HubEvent::StoreBack));
                    // What had to be dropped meanwhile is fetched again.
                    self.plan_blocks();
                    self.plan_filters();
                }
            }
            Err(error) => {
                self.counters.store_errors += 1;
                let pause =
                    self.keeper.retry.map_or(STORE_RETRY_FIRST, |(_, p)| (p * 2).min(STORE_RETRY_LAST));
                self.keeper.retry = Some((self.now + pause, pause));
                self.wake_at(self.now + pause);
                self.out.push_back(Output::Event(HubEvent::StoreFailed(error.to_string())));
            }
        }
    }

    /// Reports damage the store has found and plans to fetch again what is missing.
    pub(super) fn take_damage(&mut self) {
        let damage = self.keeper.store.take_damage();
        if damage.is_empty() {
            return;
        }
        self.counters.store_damage += damage.len() as u64;
        self.promise.incomplete();
        self.out.extend(damage.into_iter().map(|text| Output::Event(HubEvent::Damage(text))));
        self.plan_blocks();
        self.plan_filters();
    }
}
