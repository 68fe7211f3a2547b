//! Provided receive buffers for the rings made here. Simpler than the product's: a buffer is given back as soon as its
//! bytes have been read.

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

/// Must be dropped after the ring it is registered with.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// The buffer ring, then the buffers.
    start: *mut u8,
    tail: u16,
    /// Buffers of the ring; a power of two.
    count: u16,
}

impl Buffers {
    /// Registers `count` buffers, a power of two up to 32,768.
    pub(crate) fn register(ring: &IoUring, count: u16) -> io::Result<Buffers> {
        // SAFETY: the layout has a size; the result is checked.
        let start = unsafe { alloc_zeroed(layout(count)?) };
        if start.is_null() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut buffers = Buffers { start, tail: 0, count };
        (0..count).for_each(|number| buffers.give(number));
        // SAFETY: the block is page-aligned, begins with `count` entries and outlives the ring.
        unsafe { ring.submitter().register_buf_ring_with_flags(start as u64, count, GROUP, 0)? };
        Ok(buffers)
    }

    /// The first `len` bytes of a buffer the kernel has filled.
    pub(crate) fn bytes(&self, number: u16, len: usize) -> &[u8] {
        let at = usize::from(number % self.count) * SIZE;
        // SAFETY: inside the block; the kernel does not touch a buffer between its completion and `give`.
        unsafe { std::slice::from_raw_parts(self.start.add(ring_bytes(self.count) + at), len.min(SIZE)) }
    }

    /// Gives a buffer back to the kernel.
    pub(crate) fn give(&mut self, number: u16) {
        let base = self.start.cast::<BufRingEntry>();
        let place = usize::from(self.tail & (self.count - 1));
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the entry is inside the block and above the tail the kernel knows; the tail is an aligned u16 that
        // only we write.
        unsafe {
            let entry = &mut *base.add(place);
            entry.set_addr(self.start.add(ring_bytes(self.count) + usize::from(number) * SIZE) as u64);
            entry.set_len(SIZE as u32);
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

fn layout(count: u16) -> io::Result<Layout> {
    let bytes = ring_bytes(count) + usize::from(count) * SIZE;
    Layout::from_size_align(bytes, 4_096).map_err(io::Error::other)
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if let Ok(layout) = layout(self.count) {
            // SAFETY: allocated with this layout, freed once.
            unsafe { dealloc(self.start, layout) };
        }
    }
}
