//! Listening sockets: opened here, used by `accept`.

#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::base::limits::{LISTEN_BACKLOG, UNSENT_BYTES};

/// The kernel takes the rings of a killed process apart after the process is gone, and its listeners with them: a relay
/// that is started again at once waits this long for its own port.
const RELEASE_TIME: Duration = Duration::from_secs(2);
const RELEASE_STEP: Duration = Duration::from_millis(20);

/// Takes an address for the process: resolves port 0 and refuses a port somebody else listens on.
///
/// The socket is bound but never listens, so the kernel sends it no connection. As long as it lives, the port
/// is held even while no shard listens. Call it once per address, before the rings are made, and
/// give each ring the address returned.
///
/// SO_REUSEPORT would let us share the port silently with another process of the same user (a second relay
/// started by mistake). So the bind is done without it, which fails when anybody listens there, and the option is
/// set afterwards: sockets bound later with it (the shards') then join. SO_REUSEADDR is set because connections
/// of an earlier run in TIME_WAIT must not stop a restart; it does not allow a second listener. What stays unnoticed is
/// a process that has bound the port and does not listen yet; then the later listen fails. Waits up to two seconds for a
/// port in use: after a kill -9 the kernel still holds the old process's.
///
/// # Errors
/// EADDRINUSE, EADDRNOTAVAIL, EACCES as in bind(2); the address is in the text.
pub fn reserve(addr: SocketAddr) -> io::Result<(SocketAddr, OwnedFd)> {
    let start = Instant::now();
    let result = loop {
        match reserve_now(addr) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < RELEASE_TIME => {
                std::thread::sleep(RELEASE_STEP);
            }
            result => break result,
        }
    };
    result.map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("listen address {addr} cannot be used: {error}"))
    })
}

/// As [`reserve`], without waiting for a port in use: for a process that runs already.
///
/// # Errors
/// EADDRINUSE, EADDRNOTAVAIL, EACCES as in bind(2).
pub fn reserve_now(addr: SocketAddr) -> io::Result<(SocketAddr, OwnedFd)> {
    let socket = open(addr)?;
    socket.bind(&addr.into())?;
    let addr = local_addr(&socket)?;
    socket.set_reuse_port(true)?;
    Ok((addr, socket.into()))
}

/// A socket of the listening group of `addr`, bound and not yet listening; and its address, with the port.
pub(super) fn bind(addr: SocketAddr) -> io::Result<(SocketAddr, OwnedFd)> {
    let socket = open(addr)?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    // Accepted sockets inherit it: what a shard sends in one piece goes out in one piece.
    socket.set_tcp_nodelay(true)?;
    // Likewise: what waits for a client that does not read waits with us, where it is counted and bounded.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    Ok((local_addr(&socket)?, socket.into()))
}

/// Joins the group: from here on the kernel sends connections.
pub(super) fn listen(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: listen(2) takes no pointer.
    match unsafe { libc::listen(socket.as_raw_fd(), LISTEN_BACKLOG) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// True exactly when a connection waits to be accepted.
pub(super) fn has_queued(socket: &OwnedFd) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd is passed, and the call does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & libc::POLLIN != 0
}

fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // An IPv4 client comes by an IPv4 listener, never as a mapped address.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_reserved_port_is_concrete_and_open_to_our_group() {
        let (addr, held) = reserve("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(addr.port(), 0);
        let (_, one) = bind(addr).unwrap();
        let (_, two) = bind(addr).unwrap();
        listen(&one).unwrap();
        listen(&two).unwrap();
        drop(held);
    }

    #[test]
    fn a_port_somebody_listens_on_is_refused_by_name() {
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = foreign.local_addr().unwrap();
        let error = reserve(addr).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
    }

    #[test]
    fn a_port_shared_by_reuseport_is_refused_too() {
        let (addr, foreign) = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        listen(&foreign).unwrap();
        assert_eq!(reserve(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
