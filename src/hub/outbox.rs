//! What waits for a shard whose queue is full.
//!
//! Transactions (`Txs`, `TxsGone`) and `AskTx` are dropped, and counted, while more than `OUTBOX_SOFT` entries wait: a
//! client that misses one hears of it from the block or from another peer, and an `AskTx` is asked again after its
//! deadline. Everything else is kept, and is bounded by what it is: `Chain` entries waiting next to each other are merged (the
//! newest picture, at most `BLOCK_LOG` blocks); `Policy`, `Addresses`, `Tls`, `Bans` and `FiltersTo` replace the one that waits;
//! `Answer` has one entry per question, and a shard that takes no answers asks no more than its clients can
//! have open (one each). `Ask` has one entry per shard and command, of which the desk has a bounded number under way. `Open` and `Drain` come once.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::mem::discriminant;

use crate::base::limits::{BLOCK_LOG, OUTBOX_SOFT};
use crate::link::{HubEnd, ToShard};

/// The outbox of one shard.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<ToShard>,
    dropped: u64,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True exactly when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Entries dropped because the shard was slow.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: ToShard) {
        match &entry {
            ToShard::Txs(_) | ToShard::TxsGone(_) | ToShard::AskTx(_)
                if self.waiting.len() >= OUTBOX_SOFT =>
            {
                self.dropped += 1;
                return;
            }
            // They count as had since the first of them was: nobody has been told of it yet.
            ToShard::Chain { view, blocks, had } => {
                if let Some(ToShard::Chain { view: old_view, blocks: old, had: old_had }) =
                    self.waiting.back_mut()
                {
                    if old.is_empty() {
                        *old_had = *had;
                    }
                    let skip = (old.len() + blocks.len()).saturating_sub(BLOCK_LOG);
                    *old_view = view.clone();
                    *old = old.iter().chain(blocks.iter()).skip(skip).cloned().collect::<Vec<_>>().into();
                    return;
                }
            }
            // A lower FiltersTo belongs to the reorganisation behind it and keeps its place.
            ToShard::FiltersTo(to) => {
                if let Some(ToShard::FiltersTo(old)) = self.waiting.back_mut() {
                    *old = *to;
                    return;
                }
            }
            ToShard::Policy(_) | ToShard::Addresses { .. } | ToShard::Tls(_) | ToShard::Bans(_) => {
                let kind = discriminant(&entry);
                self.waiting.retain(|old| discriminant(old) != kind);
            }
            _ => {}
        }
        self.waiting.push_back(entry);
    }

    /// Moves what the queue has room for, and wakes the shard if anything moved. True exactly when nothing waits any more.
    pub fn flush(&mut self, link: &mut HubEnd) -> bool {
        let mut moved = false;
        while let Some(entry) = self.waiting.pop_front() {
            match link.push(entry) {
                Ok(()) => moved = true,
                Err(entry) => {
                    self.waiting.push_front(entry);
                    break;
                }
            }
        }
        if moved {
            link.ring_shard();
        }
        self.waiting.is_empty()
    }
}
