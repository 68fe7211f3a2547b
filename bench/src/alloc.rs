//! A counting allocator: mimalloc, as the product uses it, and per thread the number of allocations.
//!
//! Counts calls of alloc, alloc_zeroed and realloc; frees are not counted. The count is a thread-local number
//! without a destructor, so counting allocates nothing itself.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use mimalloc::MiMalloc;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The allocator of the benchmark's binary.
#[derive(Debug)]
pub struct Counting;

/// Allocations of this thread so far; stays zero in a binary that does not use [`Counting`].
pub fn count() -> u64 {
    COUNT.with(Cell::get)
}

fn note() {
    COUNT.with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to mimalloc unchanged; counting touches no memory but a thread-local number.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.dealloc(at, layout) }
    }
}
