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

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;

use io_uring::{IoUring, squeue};

use crate::Outcome;

pub(crate) use feeder::{Feeder, Source};
pub(crate) use greeter::Greeter;

/// Accepts outstanding, as of the product.
const ACCEPTS: u32 = 64;

/// A ring with room for `clients` direct descriptors.
fn ring(clients: u32) -> io::Result<IoUring> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_cqsize(16_384)
        .build(1_024)?;
    ring.submitter().register_files_sparse(clients + ACCEPTS)?;
    Ok(ring)
}

/// A listener on a free port of 127.0.0.1; what it accepts inherits TCP_NODELAY.
fn listen() -> Outcome<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let (on, fd) = (1i32, listener.as_raw_fd());
    // SAFETY: four bytes are readable at `on`; listen(2) takes no pointer.
    unsafe {
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), 4);
        libc::listen(fd, 4_096);
    }
    let address = listener.local_addr()?;
    Ok((listener, address))
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
