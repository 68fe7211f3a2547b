//! Bare io_uring loops that the relay is measured against: same connections, same bytes, no client and no protocol.
//!
//! ```text
//!   greeter   accepts, and answers what a handshake answers
//!   feeder    sends the same block to all, from memory or from a file
//! ```
//! Ring flags, direct descriptors and batches are the product's.

#![allow(unsafe_code)]

mod feeder;
mod greeter;

use io_uring::{IoUring, squeue};

use crate::{Outcome, setup};

pub(crate) use feeder::{Feeder, Source};
pub(crate) use greeter::Greeter;

/// Accepts outstanding, as of the product.
const ACCEPTS: u32 = 64;

/// A ring with room for `clients` direct descriptors.
fn ring(clients: u32) -> Outcome<IoUring> {
    setup::ring(1_024, 16_384, clients + ACCEPTS)
}

/// Queues an operation; submits when there is no room.
///
/// # Safety
/// What the entry points to stays valid until its completion has been reaped.
unsafe fn push(ring: &mut IoUring, entry: &squeue::Entry) -> Outcome {
    // SAFETY: the caller's promise is passed on.
    if unsafe { ring.submission().push(entry) }.is_err() {
        ring.submit()?;
        // SAFETY: as above.
        unsafe { ring.submission().push(entry) }?;
    }
    Ok(())
}
