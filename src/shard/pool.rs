//! Buffers for replies, file chunks and messages in parts: taken when needed, given back, never allocated anew in
//! steady state. Counts the bytes out, so that the shard keeps within its budget.

use crate::base::limits::{BUFFER_BUDGET, FILE_CHUNK};

/// Capacity of a fresh buffer: a pong, an inv, the handshake fit. A thousand of them stay with an idle shard, so 2 KiB each
/// would be 120 bytes for each of 17,000 clients.
const FRESH: usize = 512;
/// Buffers up to this capacity are kept in the small list.
const SMALL: usize = 8 * 1024;
/// Small buffers kept at most, and those kept even when nobody needs them.
const KEPT_SMALL: usize = 1_024;
const LEAST_SMALL: usize = 1;
/// Large buffers kept (file chunks, headers replies): as many as the budget has chunks for. A chunk that is allocated anew is
/// 32 pages to be faulted in and zeroed, as dear as reading it; `trim` frees what is not needed any more.
const KEPT_LARGE: usize = BUFFER_BUDGET / FILE_CHUNK;
/// Larger buffers are freed rather than kept.
const LARGEST_KEPT: usize = 256 * 1024;

/// Things kept for the next use. What has not been needed for a while is freed.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    kept: Vec<T>,
    /// Fewest kept since the last [`Shelf::trim`]: nobody has needed those.
    idle: usize,
    most: usize,
}

impl<T> Shelf<T> {
    /// A shelf for `most` things.
    pub(super) fn new(most: usize) -> Shelf<T> {
        Shelf { kept: Vec::new(), idle: 0, most }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let thing = self.kept.pop();
        self.idle = self.idle.min(self.kept.len());
        thing
    }

    /// Keeps it, unless there are enough.
    pub(super) fn push(&mut self, thing: T) {
        if self.kept.len() < self.most {
            self.kept.push(thing);
        }
    }

    /// Frees everything.
    pub(super) fn clear(&mut self) {
        self.kept = Vec::new();
        self.idle = 0;
    }

    /// Frees half, rounded up, of what has not been needed since the last time, except for `least` things; called once a
    /// second. Many shards in a process would otherwise each keep what their busiest moment took.
    pub(super) fn trim(&mut self, least: usize) {
        let idle = self.idle.min(self.kept.len().saturating_sub(least));
        self.kept.truncate(self.kept.len() - idle.div_ceil(2));
        self.kept.shrink_to(2 * self.kept.len());
        self.idle = self.kept.len();
    }
}

/// Buffers not in use.
#[derive(Debug)]
pub struct Pool {
    small: Shelf<Vec<u8>>,
    large: Shelf<Vec<u8>>,
    out: usize,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool { small: Shelf::new(KEPT_SMALL), large: Shelf::new(KEPT_LARGE), out: 0 }
    }
}

impl Pool {
    /// An empty buffer for a reply or a part of a message.
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = self.small.pop().unwrap_or_else(|| Vec::with_capacity(FRESH));
        self.out += buffer.capacity();
        buffer
    }

    /// An empty buffer with room for `capacity` bytes.
    pub fn take_large(&mut self, capacity: usize) -> Vec<u8> {
        let mut buffer = self.large.pop().unwrap_or_default();
        if buffer.capacity() < capacity {
            // Made anew: growing would copy what nobody needs.
            buffer = Vec::with_capacity(capacity);
        }
        self.out += buffer.capacity();
        buffer
    }

    /// Gives a buffer room for `more` bytes by exchanging its memory for a large buffer's, rather than by growing it
    /// step by step. Counted by the `grown` that follows, as any growth.
    pub fn enlarge(&mut self, buffer: &mut Vec<u8>, more: usize) {
        if buffer.capacity() - buffer.len() >= more {
            return;
        }
        let mut large = self.large.pop().unwrap_or_default();
        large.reserve(buffer.len() + more);
        large.extend_from_slice(buffer);
        let mut old = std::mem::replace(buffer, large);
        if old.capacity() <= SMALL {
            old.clear();
            self.small.push(old);
        }
    }

    /// Frees buffers that have not been needed for a while; called once a second.
    pub fn trim(&mut self) {
        self.small.trim(LEAST_SMALL);
        self.large.trim(0);
    }

    /// Says that a buffer taken has grown from `before` bytes of capacity.
    pub fn grown(&mut self, before: usize, buffer: &Vec<u8>) {
        self.out = self.out + buffer.capacity() - before.min(buffer.capacity());
    }

    /// Appends to a buffer, which is taken now if there is none. Returns by how many bytes of capacity more is out.
    pub fn append(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) -> usize {
        let out = buffer.capacity();
        if out == 0 {
            *buffer = self.take();
        }
        let before = buffer.capacity();
        buffer.extend_from_slice(bytes);
        self.grown(before, buffer);
        buffer.capacity() - out
    }

    /// Counts bytes held for a client outside the pool's buffers.
    pub fn hold(&mut self, bytes: usize) {
        self.out += bytes;
    }

    /// They are gone.
    pub fn release(&mut self, bytes: usize) {
        self.out = self.out.saturating_sub(bytes);
    }

    /// Takes a buffer back.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        self.out = self.out.saturating_sub(capacity);
        buffer.clear();
        if capacity == 0 || capacity > LARGEST_KEPT {
            return;
        }
        if capacity <= SMALL { self.small.push(buffer) } else { self.large.push(buffer) }
    }

    /// Bytes of buffers out.
    pub fn out(&self) -> usize {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_taken_again_and_counted() {
        let mut pool = Pool::default();
        let mut a = pool.take();
        a.extend_from_slice(b"hello");
        let at = a.as_ptr();
        assert_eq!(pool.out(), a.capacity());
        pool.give(a);
        assert_eq!(pool.out(), 0);
        let b = pool.take();
        assert!(b.is_empty() && b.as_ptr() == at);
        let before = b.capacity();
        let mut b = b;
        b.push(7);
        pool.enlarge(&mut b, 50_000);
        assert!(b == [7] && b.capacity() > 50_000, "what was in it is kept");
        b.resize(100_000, 0);
        pool.grown(before, &b);
        assert_eq!(pool.out(), b.capacity());
        pool.give(b);
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn what_nobody_needs_is_freed_and_what_is_needed_stays() {
        let mut pool = Pool::default();
        let burst: Vec<_> = (0..64).map(|_| (pool.take(), pool.take_large(200_000))).collect();
        for (small, large) in burst {
            pool.give(small);
            pool.give(large);
        }
        pool.trim();
        assert_eq!((pool.small.kept.len(), pool.large.kept.len()), (64, 64), "all were needed a moment ago");
        for _ in 0..10 {
            let (small, large) = (pool.take(), pool.take_large(200_000));
            pool.give(small);
            pool.give(large);
            pool.trim();
        }
        assert!((1..=2).contains(&pool.small.kept.len()), "{}", pool.small.kept.len());
        assert_eq!(pool.large.kept.len(), 1, "the one in use stays");
    }
}
