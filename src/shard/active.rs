//! What a client needs only while it is in the middle of something: input in parts, a request being served.
//! Boxed, kept by the shard for reuse.

use bytes::Bytes;

use super::budget::Charge;
use crate::base::{End, Instant};
use crate::link::{Extent, WantId};
use crate::wire::{Hash, Inv};

/// A filter request that waits for the filter of its last block.
#[derive(Clone, Copy, Debug)]
pub(super) enum FilterRequest {
    Filters { start: u32, stop: Hash },
    Headers { start: u32, stop: Hash },
    Checkpoints { stop: Hash },
}

/// What a client waits for before its next message is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiting {
    /// The hub's answer; when that is "missing", this entry is answered by notfound.
    Hub { id: WantId, entry: Option<Inv> },
    /// A filter that has not come yet.
    Filter { request: FilterRequest, since: Instant },
}

/// State of a client in the middle of something.
#[derive(Debug, Default)]
pub(super) struct Active {
    /// Bytes received and not yet read: a message in parts, or messages behind a request that is being served.
    pub(super) input: Vec<u8>,
    /// Bytes of a record in parts, or of a transport's handshake.
    pub(super) sealed: Vec<u8>,
    /// What the transport has to say, sealed already: it goes out first.
    pub(super) control: Vec<u8>,
    /// Why it ends when that has been sent.
    pub(super) closing: Option<End>,
    /// Whole messages of ours that go out between others: pings, requests, late answers.
    pub(super) pending: Vec<u8>,
    /// Entries of a getdata not yet served, 36 bytes each, from `entries_at` on.
    pub(super) entries: Vec<u8>,
    pub(super) entries_at: usize,
    /// Entries to be answered by notfound when the getdata is through.
    pub(super) not_found: Vec<Inv>,
    pub(super) waiting: Option<Waiting>,
    /// Whole messages to be sent next.
    pub(super) ready: Option<Bytes>,
    /// Files to be sent: the extent at `extent` from `offset` on.
    pub(super) extents: Box<[Extent]>,
    pub(super) extent: usize,
    pub(super) offset: u32,
    /// What the request being served has taken from the client's flow control.
    pub(super) charge: Option<Charge>,
    /// Bytes counted as held for it: answers of the hub, entries of a getdata.
    pub(super) held: usize,
    /// Bytes asked for by the read of a chunk.
    pub(super) piece: u32,
    /// A read of a chunk is outstanding.
    pub(super) reading: bool,
    /// A chunk read while a send was outstanding.
    pub(super) chunk: Option<Vec<u8>>,
}

impl Active {
    /// True exactly when a request is being served, so that the next message waits.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.is_some()
            || self.ready.is_some()
            || self.is_streaming()
            || self.entries_at < self.entries.len()
    }

    /// True exactly when files are being sent.
    pub(super) fn is_streaming(&self) -> bool {
        self.extent < self.extents.len() || self.reading || self.chunk.is_some()
    }

    /// True exactly when nothing is going on and the box can be given back.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_busy()
            && self.closing.is_none()
            && [&self.input, &self.pending, &self.sealed, &self.control].iter().all(|b| b.is_empty())
            && self.not_found.is_empty()
    }

    /// Ready for the next client: everything cleared, small vectors kept.
    pub(super) fn reset(&mut self) {
        self.entries.clear();
        self.entries.shrink_to(4096);
        self.not_found.clear();
        self.not_found.shrink_to(64);
        self.entries_at = 0;
        self.waiting = None;
        self.ready = None;
        self.extents = Box::default();
        (self.extent, self.offset) = (0, 0);
        self.reading = false;
        self.closing = None;
        self.charge = None;
    }
}
