//! The boundary between the frozen and the recent part: when it should move, and moving it.

use std::sync::Arc;

use super::{Chain, rules};
use crate::base::limits::{RECENT_HEADERS_LEAST, RECENT_HEADERS_MOST};
use crate::feed::{Frozen, Record};

impl Chain {
    /// Number of blocks in the frozen part.
    pub fn frozen_len(&self) -> u32 {
        self.frozen.len()
    }

    /// The length to which the store should freeze now, if it should: when the recent part has outgrown its bound, or when
    /// filter records have come for blocks that are frozen already (the same length again then). While the
    /// chain is more than a day behind the clock the bound grows with the frozen part, so that a first sync builds
    /// the index a few dozen times, not hundreds.
    pub fn freeze_point(&self) -> Option<u32> {
        let frozen = self.frozen.len();
        let tip_time = self.recent.last().map_or(0, |record| u64::from(rules::time(&record.header)));
        let behind = tip_time + 24 * 3600 < self.now;
        let bound =
            |known: u32| if behind { RECENT_HEADERS_MOST.max(known / 8) } else { RECENT_HEADERS_MOST };
        if self.recent.len() as u32 > bound(frozen) {
            return Some(self.len() - RECENT_HEADERS_LEAST);
        }
        let filters_end = self.filters_from + self.filters.len() as u32;
        let late = self.filters_from < frozen && !self.filters.is_empty();
        let due = filters_end >= frozen || self.filters.len() as u32 > bound(self.filters_from);
        (late && due).then_some(frozen)
    }

    /// Takes another frozen part, longer or shorter. One that is not a part of the best chain is refused (false) and
    /// counted: the store lags behind a reorganisation; freeze again after writing the headers.
    pub fn set_frozen(&mut self, frozen: Arc<Frozen>) -> bool {
        let (old, new) = (self.frozen.len(), frozen.len());
        if new > self.len()
            || new.checked_sub(1).is_some_and(|last| frozen.hash(last) != self.best_hash(last))
        {
            self.counters.frozen_refused += 1;
            return false;
        }
        let from = frozen.filter_len();
        let filters_end = self.filters_from + self.filters.len() as u32;
        self.filters = (from..filters_end).map_while(|height| self.filter_record(height)).collect();
        self.filters_from = from;
        let recent: Vec<Record> = (new..self.len())
            .filter_map(|height| {
                let (header, hash) = (*self.best_header(height)?, *self.best_hash(height)?);
                Some(Record { header, hash, filter: None })
            })
            .collect();
        self.recent = recent;
        self.frozen = frozen;
        if new > old {
            self.index.retain(|_, height| *height >= new);
        } else {
            self.index = self.recent.iter().enumerate().map(|(i, r)| (r.hash, new + i as u32)).collect();
        }
        self.view = None;
        true
    }
}
