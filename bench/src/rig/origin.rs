//! When a block or transaction came into the world, so that announcements are measured from there, and a number for each
//! block, so that one that was skipped is noticed.
//!
//! The moment is the earliest anybody in this process knows of: the stub node that made it, the watcher on a link of its
//! own to the node behind a relay (`--watch`), or else the first of our clients that heard of it (then the latency is
//! that behind the first one; the report says which it was).
//!
//! One lock, taken once per thing and worker: each worker keeps what it has looked up in [`Known`].

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use breakwater::base::Instant;
use breakwater::wire::Hash;

/// Transactions remembered; one announced later than that many others is measured anew.
const TXS: usize = 200_000;
/// Blocks remembered.
const BLOCKS: usize = 50_000;
/// Blocks and transactions a worker remembers before it begins anew.
const KNOWN: usize = 8_192;

/// A block: its number in the order of first hearing, from 1, and when that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// 0 for transactions.
    pub number: u32,
    /// When.
    pub at: Instant,
}

/// Shared by everybody in the process.
#[derive(Debug, Default)]
pub struct Origins {
    blocks: Mutex<Table>,
    txs: Mutex<Table>,
    /// Blocks so far.
    count: AtomicU32,
}

#[derive(Debug, Default)]
struct Table {
    at: HashMap<Hash, Origin>,
    order: VecDeque<Hash>,
    next: u32,
}

impl Table {
    fn hear(&mut self, hash: &Hash, now: Instant, most: usize) -> Origin {
        if let Some(origin) = self.at.get_mut(hash) {
            // A node's thread and ours may get here in any order.
            origin.at = origin.at.min(now);
            return *origin;
        }
        self.next = self.next.wrapping_add(1);
        let origin = Origin { number: self.next, at: now };
        if self.order.len() >= most
            && let Some(oldest) = self.order.pop_front()
        {
            self.at.remove(&oldest);
        }
        self.order.push_back(*hash);
        self.at.insert(*hash, origin);
        origin
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // What a thread that died has left is still a table of instants.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Origins {
    /// A block is there, `now` at the latest.
    pub fn block(&self, hash: &Hash, now: Instant) -> Origin {
        let mut table = lock(&self.blocks);
        let origin = table.hear(hash, now, BLOCKS);
        self.count.store(table.next, Ordering::Release);
        origin
    }

    /// A transaction is there, `now` at the latest.
    pub fn tx(&self, hash: &Hash, now: Instant) -> Origin {
        lock(&self.txs).hear(hash, now, TXS)
    }

    /// Blocks heard of so far.
    pub fn blocks(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Transactions heard of so far.
    pub fn txs(&self) -> u32 {
        lock(&self.txs).next
    }

    /// When the block of this number came into the world, while it is remembered.
    pub fn time_of(&self, number: u32) -> Option<Instant> {
        let table = lock(&self.blocks);
        let oldest = table.next - u32::try_from(table.order.len()).unwrap_or(u32::MAX).min(table.next) + 1;
        let place = number.checked_sub(oldest)?;
        table.order.get(place as usize).and_then(|hash| table.at.get(hash)).map(|origin| origin.at)
    }

    /// Number of the newest block, and when it came into the world; (0, 0) when there is none.
    pub fn newest(&self) -> (u32, Instant) {
        let table = lock(&self.blocks);
        let newest = table.order.back().and_then(|hash| table.at.get(hash));
        newest.map_or((0, Instant::default()), |origin| (origin.number, origin.at))
    }
}

/// What one worker has looked up.
#[derive(Debug, Default)]
pub struct Known {
    blocks: HashMap<Hash, Origin>,
    txs: HashMap<Hash, Origin>,
    /// The last block looked up, because all clients ask for the same one.
    last: Option<(Hash, Origin)>,
    /// The last header hashed.
    header: Option<([u8; 80], Hash)>,
}

impl Known {
    /// See [`Origins::block`].
    pub fn block(&mut self, origins: &Origins, hash: &Hash, now: Instant) -> Origin {
        if let Some((last, origin)) = &self.last
            && last == hash
        {
            return *origin;
        }
        let origin = look_up(&mut self.blocks, hash, || origins.block(hash, now));
        self.last = Some((*hash, origin));
        origin
    }

    /// True when this transaction was looked up here before.
    pub fn has_tx(&self, hash: &Hash) -> bool {
        self.txs.contains_key(hash)
    }

    /// See [`Origins::tx`].
    pub fn tx(&mut self, origins: &Origins, hash: &Hash, now: Instant) -> Origin {
        look_up(&mut self.txs, hash, || origins.tx(hash, now))
    }

    /// The hash of a header; all clients are told the same one.
    pub fn hash(&mut self, header: &[u8; 80]) -> Hash {
        match &self.header {
            Some((known, hash)) if known == header => *hash,
            _ => {
                let hash = breakwater::wire::sha256d(header);
                self.header = Some((*header, hash));
                hash
            }
        }
    }
}

fn look_up(known: &mut HashMap<Hash, Origin>, hash: &Hash, find: impl FnOnce() -> Origin) -> Origin {
    if let Some(origin) = known.get(hash) {
        return *origin;
    }
    if known.len() >= KNOWN {
        known.clear();
    }
    let origin = find();
    known.insert(*hash, origin);
    origin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_moment_counts_and_blocks_are_numbered() {
        let origins = Origins::default();
        assert_eq!(origins.block(&[1; 32], Instant(50)), Origin { number: 1, at: Instant(50) });
        assert_eq!(origins.block(&[2; 32], Instant(60)).number, 2);
        assert_eq!(origins.block(&[1; 32], Instant(40)), Origin { number: 1, at: Instant(40) });
        assert_eq!((origins.blocks(), origins.txs()), (2, 0));
        assert_eq!(
            [1, 2, 3, 0].map(|n| origins.time_of(n)),
            [Some(Instant(40)), Some(Instant(60)), None, None]
        );
        let mut known = Known::default();
        assert_eq!(known.block(&origins, &[1; 32], Instant(99)).at, Instant(40));
    }
}
