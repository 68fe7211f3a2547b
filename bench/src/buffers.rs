//! Provided receive buffers for the rings made here. Simpler than the product's: bytes are read as soon as they are there.
//!
//! Two shapes: many small buffers, one for each receive; or a few large ones that the kernel fills one receive after the other
//! (incremental, Linux 6.12), so that a receive of 61 bytes costs 61 bytes of them.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The one group of buffers a ring has.
pub(crate) const GROUP: u16 = 0;
/// Bytes of a buffer.
const SIZE: usize = 2_048;
/// Bytes and number of buffers that are filled one receive after the other.
const LARGE: (usize, u16) = (32 * 1024, 16);
/// Small ones of the same memory, where the kernel does not know the others.
const SMALL: u16 = 256;
/// IOU_PBUF_RING_INC.
const INCREMENTAL: u16 = 2;

/// Must be dropped after the ring it is registered with.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// The buffer ring, then the buffers.
    start: *mut u8,
    tail: u16,
    /// Buffers of the ring; a power of two.
    count: u16,
    /// Bytes of each.
    size: usize,
    /// Where the next bytes of each begin: 0 unless the kernel goes on filling it.
    heads: Vec<usize>,
}

impl Buffers {
    /// Registers `count` buffers, a power of two up to 32,768, one for each receive.
    pub(crate) fn register(ring: &IoUring, count: u16) -> io::Result<Buffers> {
        Buffers::of(ring, SIZE, count, 0)
    }

    /// Registers buffers that the kernel fills one receive after the other; before Linux 6.12 one for each receive.
    pub(crate) fn incremental(ring: &IoUring) -> io::Result<Buffers> {
        match Buffers::of(ring, LARGE.0, LARGE.1, INCREMENTAL) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Buffers::register(ring, SMALL),
            result => result,
        }
    }

    fn of(ring: &IoUring, size: usize, count: u16, flags: u16) -> io::Result<Buffers> {
        // SAFETY: the layout has a size; the result is checked.
        let start = unsafe { alloc_zeroed(layout(count, size)?) };
        if start.is_null() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut buffers = Buffers { start, tail: 0, count, size, heads: vec![0; usize::from(count)] };
        (0..count).for_each(|number| buffers.give(number));
        // SAFETY: the block is page-aligned, begins with `count` entries and outlives the ring.
        unsafe { ring.submitter().register_buf_ring_with_flags(start as u64, count, GROUP, flags)? };
        Ok(buffers)
    }

    /// The `len` bytes the kernel has just put into a buffer.
    pub(crate) fn bytes(&self, number: u16, len: usize) -> &[u8] {
        let (at, len) = self.place(number, len);
        // SAFETY: inside the block; the kernel does not touch these bytes between their completion and `give`.
        unsafe { std::slice::from_raw_parts(self.start.add(at), len) }
    }

    /// The same, to be changed in place.
    pub(crate) fn bytes_mut(&mut self, number: u16, len: usize) -> &mut [u8] {
        let (at, len) = self.place(number, len);
        // SAFETY: as for `bytes`; nobody else has them while `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }

    /// Where in the block the `len` bytes are that a buffer goes on with, and how many of them are inside of it.
    fn place(&self, number: u16, len: usize) -> (usize, usize) {
        let number = usize::from(number % self.count);
        let head = self.heads.get(number).copied().unwrap_or(0).min(self.size);
        (ring_bytes(self.count) + number * self.size + head, len.min(self.size - head))
    }

    /// So many bytes of a buffer have been read. `more`: the kernel goes on filling it (IORING_CQE_F_BUF_MORE); else it is given
    /// back.
    pub(crate) fn read(&mut self, number: u16, len: usize, more: bool) {
        match self.heads.get_mut(usize::from(number)) {
            Some(head) if more => *head += len,
            _ => self.give(number),
        }
    }

    /// Gives a buffer back to the kernel.
    pub(crate) fn give(&mut self, number: u16) {
        let base = self.start.cast::<BufRingEntry>();
        let place = usize::from(self.tail & (self.count - 1));
        if let Some(head) = self.heads.get_mut(usize::from(number)) {
            *head = 0;
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the entry is inside the block and above the tail the kernel knows; the tail is an aligned u16 that
        // only we write.
        unsafe {
            let entry = &mut *base.add(place);
            entry.set_addr(self.start.add(ring_bytes(self.count) + usize::from(number) * self.size) as u64);
            entry.set_len(self.size as u32);
            entry.set_bid(number);
            let tail = &*BufRingEntry::tail(base).cast::<AtomicU16>();
            tail.store(self.tail, Ordering::Release);
        }
    }
}

/// Bytes of the buffer ring in front of the buffers.
fn ring_bytes(count: u16) -> usize {
    usize::from(count) * size_of::<BufRingEntry>()
}

fn layout(count: u16, size: usize) -> io::Result<Layout> {
    let bytes = ring_bytes(count) + usize::from(count) * size;
    Layout::from_size_align(bytes, 4_096).map_err(io::Error::other)
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if let Ok(layout) = layout(self.count, self.size) {
            // SAFETY: allocated with this layout, freed once.
            unsafe { dealloc(self.start, layout) };
        }
    }
}
