//! Floors: the least that a loop on io_uring costs, measured beside what is more than bare.
//!
//! - `send`: one send per connection to all of them; `seal`: sealed for each
//! - `receive`: multishot receives with provided buffers, counting bytes
//! - `accept`: one multishot accept, direct descriptors
//!
//! They know no client: no table, no protocol, no timers. Ring flags and batches are the product's.

mod accept;
mod receive;
mod seal;
mod send;

pub(crate) use accept::Accepting;
pub(crate) use receive::Receiving;
pub(crate) use seal::{Sealer, Shape};
pub(crate) use send::Floor;

use io_uring::IoUring;

use crate::{Outcome, setup};

/// A ring with a table for `files` direct descriptors.
fn ring(files: u32) -> Outcome<IoUring> {
    setup::ring(256, 1_024, files)
}
