//! Questions under way: what one costs from asking to the last byte, and when it has waited too long.

use std::time::Duration;

use breakwater::base::Instant;
use breakwater::base::limits::MAX_BLOCKS_IN_FLIGHT;
use breakwater::wire::{Hash, Inv, InvKind, InvList, write};

use crate::rig::client::{Context, Flow};

/// A question unanswered for this long is an error, and the client leaves.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of a client whose question was not answered in time.
pub(super) const TIMED_OUT: Flow = Flow::Broken("request timed out");

/// One question: the instant at which it was asked, 0 when there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Request(u64);

impl Request {
    /// Counts a question asked now.
    pub(super) fn open(cx: &mut Context<'_>) -> Request {
        cx.tally.counts.requests += 1;
        Request(cx.now.0.max(1))
    }

    /// True exactly when an answer is awaited.
    pub(super) fn is_open(self) -> bool {
        self.0 != 0
    }

    /// The last byte of the answer is here; false when nothing was asked.
    pub(super) fn answered(&mut self, cx: &mut Context<'_>) -> bool {
        let asked = std::mem::take(&mut self.0);
        if asked != 0 {
            cx.tally.counts.answers += 1;
            cx.tally.request.record(cx.now.since(Instant(asked)));
        }
        asked != 0
    }

    /// When patience ends.
    pub(super) fn due(self) -> Instant {
        if self.is_open() { Instant(self.0) + PATIENCE } else { Instant::FAR }
    }
}

/// Blocks asked for and not yet here, at most [`MAX_BLOCKS_IN_FLIGHT`]; takes no memory when there is none.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    slots: Vec<Slot>,
    /// When the last one came: a long queue is no reason to lose patience while it moves.
    moved: u64,
}

#[derive(Debug)]
struct Slot {
    hash: Hash,
    height: u32,
    asked: Request,
}

impl Blocks {
    /// How many more may be asked for.
    pub(super) fn room(&self) -> usize {
        MAX_BLOCKS_IN_FLIGHT.saturating_sub(self.slots.len())
    }

    /// True exactly when nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// True exactly when this block is under way.
    pub(super) fn has(&self, hash: &Hash) -> bool {
        self.slots.iter().any(|slot| slot.hash == *hash)
    }

    /// Asks for blocks, in one message; as many as there is room for.
    pub(super) fn ask(
        &mut self,
        cx: &mut Context<'_>,
        kind: InvKind,
        wanted: impl Iterator<Item = (u32, Hash)>,
    ) {
        let before = self.slots.len();
        for (height, hash) in wanted.take(self.room()) {
            self.note(cx, height, hash);
        }
        let asked = self.slots.get(before..).unwrap_or_default();
        if !asked.is_empty() {
            let list = asked.iter().map(|slot| Inv { kind, hash: slot.hash });
            write::inventory(cx.out, cx.magic, "getdata", list);
        }
    }

    /// A question about a block that is asked in another way.
    pub(super) fn note(&mut self, cx: &mut Context<'_>, height: u32, hash: Hash) {
        if self.room() > 0 {
            self.slots.push(Slot { hash, height, asked: Request::open(cx) });
        }
    }

    /// A block is here to the last byte; its height when it was asked for.
    pub(super) fn took(&mut self, cx: &mut Context<'_>, hash: &Hash) -> Option<u32> {
        let at = self.slots.iter().position(|slot| slot.hash == *hash)?;
        // In order: the oldest is asked about first.
        let mut slot = self.slots.remove(at);
        slot.asked.answered(cx);
        cx.tally.counts.blocks_received += 1;
        self.moved = cx.now.0;
        self.tidy();
        Some(slot.height)
    }

    /// The target does not have some of them.
    pub(super) fn not_found(&mut self, cx: &mut Context<'_>, list: &InvList<'_>) {
        let before = self.slots.len();
        if before > 0 {
            for inv in list.iter().filter(|inv| !inv.kind.is_tx()).take(MAX_BLOCKS_IN_FLIGHT) {
                self.slots.retain(|slot| slot.hash != inv.hash);
            }
            cx.tally.counts.not_found += (before - self.slots.len()) as u64;
            self.tidy();
        }
    }

    /// Forgets all, on a new connection.
    pub(super) fn clear(&mut self) {
        *self = Blocks::default();
    }

    /// When patience ends.
    pub(super) fn due(&self) -> Instant {
        match self.slots.first() {
            Some(slot) => slot.asked.due().max(Instant(self.moved) + PATIENCE),
            None => Instant::FAR,
        }
    }

    fn tidy(&mut self) {
        if self.slots.is_empty() {
            self.slots = Vec::new();
        }
    }
}
