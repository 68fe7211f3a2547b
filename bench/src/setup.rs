//! How the bare loops' rings and listeners are set up: flags, direct descriptors and backlog as the product's, so that a ratio
//! against a loop compares the work and not the set-up.

use std::net::{SocketAddr, TcpListener};

use io_uring::IoUring;
use socket2::{Domain, Socket, Type};

use crate::Outcome;

/// Connections that wait to be accepted, as of the product.
const BACKLOG: i32 = 4_096;

/// A ring of one thread with a table for `files` direct descriptors; at most `submissions` are queued between two submits, and
/// `completions` wait to be reaped before the kernel has to put them elsewhere.
pub(crate) fn ring(submissions: u32, completions: u32, files: u32) -> Outcome<IoUring> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_cqsize(completions)
        .build(submissions)?;
    ring.submitter().register_files_sparse(files)?;
    Ok(ring)
}

/// A listener on a free port of 127.0.0.1; what it accepts inherits TCP_NODELAY.
pub(crate) fn listener() -> Outcome<TcpListener> {
    open(SocketAddr::from(([127, 0, 0, 1], 0)), false)
}

/// As [`listener`], one of several on the same address: the kernel spreads connections over them.
pub(crate) fn shared_listener(address: SocketAddr) -> Outcome<TcpListener> {
    open(address, true)
}

fn open(address: SocketAddr, shared: bool) -> Outcome<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_port(shared)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
