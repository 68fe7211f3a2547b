//! The provided receive buffers: one block of memory, lent to the kernel buffer by buffer.
//!
//! A buffer is either the kernel's (in its buffer ring) or the shard's (lent, from `Received` to `Recycle`).
//! Only a lent one can be looked at. Chooses no policy: what happens when none is left is in `receive`.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::base::limits::RECV_BUFFER;
use crate::io::BufferId;

/// The one group of provided buffers a ring has.
pub(super) const GROUP: u16 = 0;

/// Page size the buffer ring is aligned to, as io_uring_register_buf_ring(3) demands.
const PAGE: usize = 4_096;

/// Receive buffers of one ring. Must be dropped after the ring they are registered with.
#[derive(Debug)]
pub(super) struct Buffers {
    ring: Block,
    memory: Block,
    count: u16,
    /// Our tail of the buffer ring; the kernel sees it after a release store.
    tail: u16,
    /// True exactly when the buffer is the shard's.
    lent: Vec<bool>,
    free: usize,
}

impl Buffers {
    /// `count` buffers (a power of two, at most 32,768) of `RECV_BUFFER` bytes, registered with the ring.
    pub(super) fn register(ring: &IoUring, count: u16) -> io::Result<Buffers> {
        let entries = usize::from(count);
        let block = Block::new(entries * size_of::<BufRingEntry>())?;
        let memory = Block::new(entries * RECV_BUFFER)?;
        let mut buffers =
            Buffers { ring: block, memory, count, tail: 0, lent: vec![false; entries], free: entries };
        for number in 0..count {
            buffers.offer(number);
        }
        // SAFETY: the block is page-aligned, holds `count` entries and lives in `Buffers`, which is dropped after
        // the ring (field order of `Ring`).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(buffers.ring.address(), count, GROUP, 0)?;
        }
        Ok(buffers)
    }

    /// Buffers that are not the shard's. Some may already be filled by completions not yet seen.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// The kernel has filled this one: it is the shard's from now on.
    pub(super) fn lend(&mut self, id: BufferId) {
        if let Some(lent) = self.lent.get_mut(usize::from(id.0))
            && !*lent
        {
            *lent = true;
            self.free -= 1;
        }
    }

    /// Takes a lent buffer back; one that is not lent is left alone.
    pub(super) fn recycle(&mut self, id: BufferId) {
        if let Some(lent) = self.lent.get_mut(usize::from(id.0))
            && *lent
        {
            *lent = false;
            self.free += 1;
            self.offer(id.0);
        }
    }

    /// Returns the pages of all buffers to the host; the kernel takes new ones as it fills them. False when some are lent, so
    /// that it was not tried. What the kernel has put into the others is lost: only for when no connection is open
    /// ([`super::conns::Conns::is_emptied`]).
    pub(super) fn give_back(&mut self) -> bool {
        if self.free < usize::from(self.count) {
            return false;
        }
        let bytes = usize::from(self.count) * RECV_BUFFER;
        // SAFETY: the range is the block, whose start is page-aligned. None of it is lent, so no slice of it exists. The kernel may
        // write to it at any time, as it may otherwise: it does so through the page tables, since provided buffers are not pinned.
        // Zeroes are as valid there as what was received.
        if unsafe { libc::madvise(self.memory.at(0).cast(), bytes, libc::MADV_DONTNEED) } != 0 {
            tracing::warn!(error = %io::Error::last_os_error(), "receive buffers stay: madvise refused");
        }
        true
    }

    /// The bytes of a lent buffer; empty for one that is not lent.
    pub(super) fn bytes(&mut self, id: BufferId, len: u32) -> &mut [u8] {
        let number = usize::from(id.0);
        if !self.lent.get(number).copied().unwrap_or(false) {
            return &mut [];
        }
        let len = (len as usize).min(RECV_BUFFER);
        // SAFETY: `number` is below the count, so the range is inside the block, which was zeroed at allocation;
        // a lent buffer is not the kernel's, and the borrow of `self` excludes another slice of it.
        unsafe { std::slice::from_raw_parts_mut(self.memory.at(number * RECV_BUFFER), len) }
    }

    /// Puts a buffer at the tail of the kernel's ring.
    fn offer(&mut self, number: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        let base = self.ring.at(0).cast::<BufRingEntry>();
        // SAFETY: `place` is below the count, so the entry is inside the block; the kernel reads an entry only
        // below the tail published next. The setters leave alone the tail, which overlays entry 0.
        unsafe {
            let entry = &mut *base.add(place);
            entry.set_addr(self.memory.at(usize::from(number) * RECV_BUFFER) as u64);
            entry.set_len(RECV_BUFFER as u32);
            entry.set_bid(number);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is an aligned u16 inside the block, shared with the kernel, which only reads it.
        let tail = unsafe { &*BufRingEntry::tail(base).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Page-aligned zeroed memory that is only reached through raw pointers, since the kernel writes to it.
#[derive(Debug)]
struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

impl Block {
    fn new(bytes: usize) -> io::Result<Block> {
        let layout = Layout::from_size_align(bytes.max(PAGE), PAGE)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        // SAFETY: the size is at least a page.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Block { start, layout })
    }

    /// Callers keep `offset` inside the block.
    fn at(&self, offset: usize) -> *mut u8 {
        self.start.as_ptr().wrapping_add(offset)
    }

    fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout and freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
