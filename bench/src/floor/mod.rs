//! Floors: the least that a loop on io_uring costs, measured beside what is more than bare.
//!
//! - `send`: one send per connection to all of them
//! - `receive`: multishot receives with provided buffers, counting bytes
//! - `accept`: one multishot accept, direct descriptors
//!
//! They know no client: no table, no protocol, no timers. Ring flags and batches are the product's.

mod accept;
mod receive;
mod send;

pub(crate) use accept::Accepting;
pub(crate) use receive::Receiving;
pub(crate) use send::Floor;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;

use io_uring::IoUring;

use crate::Outcome;

/// A ring as the product sets it up, with a table for `files` direct descriptors.
fn ring(files: u32) -> Outcome<IoUring> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_cqsize(1_024)
        .build(256)?;
    ring.submitter().register_files_sparse(files)?;
    Ok(ring)
}

/// A listener on a free port, with a backlog as the product's; accepted sockets inherit TCP_NODELAY.
#[allow(unsafe_code)]
fn listener() -> Outcome<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let (on, fd) = (1i32, listener.as_raw_fd());
    // SAFETY: four bytes are readable at `on`; listen(2) takes no pointer.
    unsafe {
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), 4);
        libc::listen(fd, 4_096);
    }
    Ok(listener)
}
