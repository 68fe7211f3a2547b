//! Accepting: single-shot accepts, each with an address of its own, into direct descriptors.
//!
//! Multishot accept would need one submission only, but gives no peer address, and admission wants it before
//! anything else.
//!
//! Invariants:
//! - Accepts outstanding plus connections open never exceed the file table, so the kernel never has to drop a
//!   connection it has accepted; when the table is full, newcomers wait in the backlog.
//! - A listener closes only when none of its accepts is outstanding.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::DestinationSlot;
use io_uring::{opcode, types};
use socket2::{SockAddr, SockAddrStorage};

use super::token::{Kind, Token};
use super::{Ring, socket};
use crate::base::limits::{ACCEPTS_IN_FLIGHT, LISTEN_BACKLOG};
use crate::base::{Conn, Instant};
use crate::io::{Done, ListenerId};

/// Rest after accepting failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the kernel writes the peer's address.
struct Place {
    address: SockAddrStorage,
    len: libc::socklen_t,
}

/// ```text
/// (any state) --Unbind--> Leaving --no accept outstanding--> Gone --Bind--> Closed
/// Closed --Listen--> Opening --bound, listening--> Listening --StopListening--> Draining --empty--> Closed
///                       ^ tried again after a pause     ^-------Listen--------------/
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed,
    Opening,
    Listening,
    /// Leaves the group; `left`: how many more may come before it closes in any case, because newcomers reach the
    /// socket as long as it is open.
    Draining {
        left: u32,
    },
    /// Closes as soon as no accept is outstanding.
    Leaving,
    /// Its number is free.
    Gone,
}

/// One listener of a ring.
pub(super) struct Listener {
    /// With the port resolved.
    addr: SocketAddr,
    /// Bound, not listening, when `Closed`: keeps the port ours.
    socket: Option<OwnedFd>,
    state: State,
    places: Box<[UnsafeCell<Place>]>,
    /// Bit per place: an accept is outstanding.
    armed: u64,
    /// True exactly when the outstanding accepts have been cancelled to close.
    cancelled: bool,
    paused_until: Option<Instant>,
    /// True exactly while it listens and accepts nobody.
    held: bool,
    /// True exactly when the full table has been reported and no accept was armed since.
    full_reported: bool,
}

const _: () = assert!(ACCEPTS_IN_FLIGHT <= u64::BITS);

impl Listener {
    /// Binds; the kernel sends no connection yet.
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Listener> {
        let (addr, socket) = socket::bind(addr)?;
        Ok(Listener { socket: Some(socket), state: State::Closed, ..Listener::gone(addr) })
    }

    /// A number that is free.
    pub(super) fn gone(addr: SocketAddr) -> Listener {
        let place = || UnsafeCell::new(Place { address: SockAddrStorage::zeroed(), len: 0 });
        Listener {
            addr,
            socket: None,
            state: State::Gone,
            places: (0..ACCEPTS_IN_FLIGHT).map(|_| place()).collect(),
            armed: 0,
            cancelled: false,
            paused_until: None,
            held: false,
            full_reported: false,
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn armed(&self) -> u32 {
        self.armed.count_ones()
    }

    /// When this listener wants to be looked at although nothing has completed.
    pub(super) fn due(&self) -> Option<Instant> {
        self.paused_until
    }

    fn pause(&mut self, now: Instant) {
        self.paused_until = Some(now + ACCEPT_PAUSE);
    }

    /// Opens the socket when it is missing and makes it listen.
    fn open(&mut self) -> io::Result<()> {
        if self.socket.is_none() {
            self.socket = Some(socket::bind(self.addr)?.1);
        }
        match &self.socket {
            Some(socket) => socket::listen(socket),
            None => Ok(()),
        }
    }

    /// Leaves the group. A connection whose handshake ends between the last look and here is reset by the kernel,
    /// unless net.ipv4.tcp_migrate_req hands it to another member of the group.
    fn close(&mut self) {
        self.socket = None;
        self.state = State::Closed;
        self.cancelled = false;
        self.paused_until = None;
        // Holds the port; when that fails, `open` tries again.
        self.socket = socket::bind(self.addr).ok().map(|(_, socket)| socket);
    }

    /// It goes for good.
    pub(super) fn begin_leaving(&mut self) {
        self.state = State::Leaving;
        (self.cancelled, self.held, self.paused_until) = (false, false, None);
    }

    /// True exactly when it goes for good, or has gone.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving | State::Gone)
    }

    /// True exactly when its number is free.
    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    fn has_queued(&self) -> bool {
        self.socket.as_ref().is_some_and(socket::has_queued)
    }
}

impl Ring {
    pub(super) fn listen(&mut self, id: ListenerId) {
        let there = self.listeners.get_mut(usize::from(id.0));
        let Some(listener) = there.filter(|listener| !listener.is_leaving()) else {
            self.ready.push_back(Done::AcceptFailed { listener: id, errno: libc::EBADF });
            return;
        };
        listener.held = false;
        listener.state = match listener.state {
            State::Closed | State::Opening => State::Opening,
            State::Listening | State::Draining { .. } => State::Listening,
            leaving @ (State::Leaving | State::Gone) => leaving,
        };
    }

    /// Newcomers stay in the queue. Accepts that have taken one meanwhile report it.
    pub(super) fn hold(&mut self, id: ListenerId) {
        let index = usize::from(id.0);
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.held = true;
            self.cancel_accepts(index);
        }
    }

    pub(super) fn stop_listening(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(usize::from(id.0)) else { return };
        match listener.state {
            State::Closed | State::Draining { .. } | State::Leaving | State::Gone => {}
            State::Opening => listener.close(),
            State::Listening => {
                listener.cancelled = false;
                listener.state = State::Draining { left: LISTEN_BACKLOG.unsigned_abs() };
            }
        }
    }

    /// Brings every listener one step further: opens, arms, drains, closes. Called before each wait.
    pub(super) fn tend(&mut self, now: Instant) {
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if listener.paused_until.is_some_and(|until| until > now) {
                continue;
            }
            listener.paused_until = None;
            match listener.state {
                State::Closed | State::Gone => {}
                State::Opening => self.try_open(index, now),
                State::Listening if listener.held => {}
                State::Listening => self.arm(index),
                State::Draining { left } => self.drain(index, left),
                State::Leaving => self.leave(index),
            }
        }
    }

    fn try_open(&mut self, index: usize, now: Instant) {
        let listener = &mut self.listeners[index];
        match listener.open() {
            Ok(()) => {
                listener.state = State::Listening;
                if !listener.held {
                    self.arm(index);
                }
            }
            Err(error) => {
                listener.pause(now);
                self.accept_failed(index, error.raw_os_error().unwrap_or(libc::EINVAL));
            }
        }
    }

    /// Arms accepts as far as the file table has room.
    fn arm(&mut self, index: usize) {
        let armed: u32 = self.listeners.iter().map(Listener::armed).sum();
        let room = self.max_clients.saturating_sub(self.conns.open() + armed);
        let listeners = self.listeners.len() as u32;
        let listener = &mut self.listeners[index];
        // Near the end of the table no listener may hold all the room that is left.
        let share = ((room + listener.armed()) / (2 * listeners)).clamp(1, ACCEPTS_IN_FLIGHT);
        let wanted = share.saturating_sub(listener.armed()).min(room);
        for _ in 0..wanted {
            self.arm_one(index);
        }
        let listener = &mut self.listeners[index];
        if listener.armed != 0 {
            listener.full_reported = false;
        } else if !listener.full_reported {
            listener.full_reported = true;
            self.accept_failed(index, libc::ENFILE);
        }
    }

    fn arm_one(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        let place = listener.armed.trailing_ones();
        let (Some(cell), Some(socket)) = (listener.places.get(place as usize), &listener.socket) else {
            return;
        };
        let place_ptr = cell.get();
        // SAFETY: no accept is outstanding for this place (its bit was clear), so it is ours alone.
        let (address, len) = unsafe {
            (*place_ptr).len = size_of::<SockAddrStorage>() as libc::socklen_t;
            (&raw mut (*place_ptr).address, &raw mut (*place_ptr).len)
        };
        listener.armed |= 1 << place;
        let token = accept_token(index, place);
        let accept = opcode::Accept::new(types::Fd(socket.as_raw_fd()), address.cast(), len)
            .file_index(Some(DestinationSlot::auto_target()))
            .build()
            .user_data(token.pack());
        // SAFETY: the places are boxed and live as long as the ring, which waits for its accepts before it ends.
        unsafe { self.queue.push(accept) };
    }

    /// Takes what is queued, then closes.
    fn drain(&mut self, index: usize, left: u32) {
        let listener = &self.listeners[index];
        if left > 0 && !listener.cancelled && listener.has_queued() {
            self.arm(index);
            // Nothing armed: the table is full. Staying would only draw in more that find no room.
            if self.listeners[index].armed != 0 {
                return;
            }
        }
        let listener = &mut self.listeners[index];
        if listener.armed == 0 {
            // The accepts cancelled may have left one in the queue that came meanwhile.
            if listener.cancelled && left > 0 && listener.has_queued() {
                listener.cancelled = false;
                return self.drain_on(index, left);
            }
            listener.close();
        } else if !listener.cancelled {
            listener.cancelled = true;
            self.cancel_accepts(index);
        }
    }

    /// Closes for good. An accept that has taken somebody meanwhile reports it.
    fn leave(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        if listener.armed == 0 {
            listener.socket = None;
            listener.state = State::Gone;
            self.ready.push_back(Done::Unbound(ListenerId(index as u8)));
        } else if !listener.cancelled {
            listener.cancelled = true;
            self.cancel_accepts(index);
        }
    }

    fn drain_on(&mut self, index: usize, left: u32) {
        self.arm(index);
        if self.listeners[index].armed == 0 {
            self.listeners[index].close();
        } else {
            self.listeners[index].state = State::Draining { left };
        }
    }

    pub(super) fn cancel_accepts(&mut self, index: usize) {
        let armed = self.listeners[index].armed;
        for place in (0..ACCEPTS_IN_FLIGHT).filter(|place| armed & (1 << place) != 0) {
            self.cancel(accept_token(index, place));
        }
    }

    pub(super) fn on_accept(&mut self, token: Token, result: i32, now: Instant, dones: &mut Vec<Done>) {
        let index = (token.index / ACCEPTS_IN_FLIGHT) as usize;
        let place = token.index % ACCEPTS_IN_FLIGHT;
        let Some(listener) = self.listeners.get_mut(index) else { return };
        listener.armed &= !(1 << place);
        if let State::Draining { left } = &mut listener.state {
            *left = left.saturating_sub(1);
        }
        let id = ListenerId(index as u8);
        if result < 0 {
            match Failure::of(-result) {
                Failure::Cancelled => {}
                Failure::Aborted => self.aborted_accepts += 1,
                Failure::Resources => {
                    listener.pause(now);
                    self.accept_errors += 1;
                    dones.push(Done::AcceptFailed { listener: id, errno: -result });
                }
            }
            return;
        }
        let conn = Conn(result.unsigned_abs());
        self.conns.accepted(conn);
        // SAFETY: the accept of this place is over and has written an address of `len` bytes, at most the storage;
        // the place is ours again.
        let peer = unsafe {
            let place = std::ptr::read(self.listeners[index].places[place as usize].get());
            let len = place.len.min(size_of::<SockAddrStorage>() as libc::socklen_t);
            SockAddr::new(place.address, len).as_socket()
        };
        match peer {
            Some(peer) => dones.push(Done::Accepted { listener: id, conn, peer }),
            // Gone before it was accepted, with no address left: nothing was promised to it.
            None => {
                self.aborted_accepts += 1;
                self.close_now(conn, false);
            }
        }
    }

    fn accept_failed(&mut self, index: usize, errno: i32) {
        self.accept_errors += 1;
        self.ready.push_back(Done::AcceptFailed { listener: ListenerId(index as u8), errno });
    }
}

fn accept_token(listener: usize, place: u32) -> Token {
    Token::new(Kind::Accept, listener as u32 * ACCEPTS_IN_FLIGHT + place, 0)
}

/// What a failed accept means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    /// By ourselves.
    Cancelled,
    /// That one connection is gone: the next may be fine.
    Aborted,
    /// No descriptors, no memory, or something unknown: report and rest.
    Resources,
}

impl Failure {
    /// accept(2) says which errors stand for the connection and not for the listener.
    fn of(errno: i32) -> Failure {
        match errno {
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => Failure::Cancelled,
            libc::ECONNABORTED
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
            | libc::ECONNRESET
            | libc::ETIMEDOUT => Failure::Aborted,
            _ => Failure::Resources,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EINVAL] {
            assert_eq!(Failure::of(errno), Failure::Resources, "errno {errno} pauses and is reported");
        }
        assert_eq!(Failure::of(libc::ECONNABORTED), Failure::Aborted);
        assert_eq!(Failure::of(libc::ECANCELED), Failure::Cancelled);
    }
}
