//! The rig's io_uring: operations in, events out. Knows slots by number and nothing of clients.
//!
//! A slot's number is its place in the file table, so a connection is named before it exists: the four operations of a connect
//! (socket, option, bind, connect) go in as one chain of links.
//!
//! Contract: a slot is given to [`Ring::connect`] only when nothing of it is with the kernel; the caller counts. Bytes being sent
//! are not touched between [`Ring::send`] and [`Event::Sent`].

#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use io_uring::squeue::{self, Flags};
use io_uring::types::{CancelBuilder, DestinationSlot, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, types};

use crate::Outcome;
use crate::buffers::{self, Buffers};
use crate::os::Wake;

/// Submission queue entries.
const SQ_ENTRIES: u32 = 1_024;
/// Completion queue entries: a burst of receives; more are kept by the kernel, at a price.
const CQ_ENTRIES: u32 = 8_192;
/// Operations of the connect chain at the most.
const CHAIN: usize = 5;
/// Submissions tried again while the kernel has no memory for the moment.
const SUBMIT_TRIES: u32 = 10_000;
/// Completions handled between two entries into the kernel.
const REAP: usize = 512;

/// Kinds of operations, the upper half of the user data; the lower is the slot.
const CONNECT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const CLOSE: u64 = 4 << 32;
const WAKE: u64 = 5 << 32;
/// Links of a chain before its last; seen only when they fail, and then nothing is seen of the last.
const LINK: u64 = 6 << 32;
/// Cancellations; what they cancel answers for itself.
const CANCEL: u64 = 7 << 32;
/// Polls for the end of connections.
const END: u64 = 8 << 32;

/// Something has happened to a slot.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// A link of its connect chain failed with this errno; the kernel says nothing of the rest.
    Failed { slot: u32, errno: i32 },
    /// Its connect is over: 0 or -errno.
    Connected { slot: u32, result: i32 },
    /// Bytes (in a buffer, to be read at once), the end (0), or -errno. `more`: the receive goes on; `filling`: so does the
    /// buffer.
    Received { slot: u32, result: i32, buffer: Option<u16>, more: bool, filling: bool },
    /// Its send is over: bytes or -errno.
    Sent { slot: u32, result: i32 },
    /// Its close is over.
    Closed { slot: u32 },
    /// The other side of a slot that does not receive has ended, see [`Ring::await_end`].
    Ended { slot: u32 },
    /// Somebody rang.
    Woken,
}

/// A socket address as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C)]
union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

pub(super) struct Ring {
    ring: IoUring,
    /// After the ring, so that it is dropped after it.
    buffers: Buffers,
    /// Addresses of chains that may not have been submitted yet: the kernel copies them at submission. As many as there
    /// are entries of the queue, two a chain.
    addresses: Box<[Address]>,
    next_address: usize,
    events: Vec<Event>,
}

impl Ring {
    /// A ring for `slots` clients.
    pub(super) fn new(slots: u32, binds: bool) -> Outcome<Ring> {
        let ring = IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(CQ_ENTRIES)
            .build(SQ_ENTRIES)
            .map_err(|error| format!("io_uring is not to be had: {error} (breakwater doctor says why)"))?;
        probe(&ring, binds)?;
        ring.submitter()
            .register_files_sparse(slots)
            .map_err(|error| format!("a file table for {slots} clients: {error} (see ulimit -n)"))?;
        let buffers = Buffers::incremental(&ring)?;
        let none = Address { v6: from_ip(IpAddr::from([0u16; 8]), 0) };
        let addresses = vec![none; 2 * SQ_ENTRIES as usize].into();
        Ok(Ring { ring, buffers, addresses, next_address: 0, events: Vec::with_capacity(REAP) })
    }

    /// Queues an operation, making room for it when there is none.
    ///
    /// # Safety
    /// What the entry points to stays valid until the kernel is done with it.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller's promise is passed on.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.submit()?;
        }
        Ok(())
    }

    /// Submits what is queued; what passes by itself is tried again for a while.
    fn submit(&mut self) -> io::Result<()> {
        let mut tries = 0;
        loop {
            match self.ring.submit() {
                Ok(_) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) if tries < SUBMIT_TRIES => tries += 1,
                    _ => return Err(error),
                },
            }
            std::thread::yield_now();
        }
    }

    /// Makes room for a chain, which must not be cut by a submission.
    fn room(&mut self, entries: usize) -> io::Result<()> {
        let queue = self.ring.submission();
        let room = queue.capacity() - queue.len();
        drop(queue);
        if room < entries {
            self.submit()?;
        }
        Ok(())
    }

    fn address(&mut self, address: Address) -> *const Address {
        self.next_address = (self.next_address + 1) % self.addresses.len();
        match self.addresses.get_mut(self.next_address) {
            Some(place) => {
                *place = address;
                std::ptr::from_ref(place)
            }
            // Not reached: the number is taken modulo the length.
            None => std::ptr::null(),
        }
    }

    /// Connects a slot: one `Connected` follows.
    pub(super) fn connect(&mut self, slot: u32, source: Option<IpAddr>, target: SocketAddr) -> Outcome {
        static ON: i32 = 1;
        self.room(CHAIN)?;
        let link = |entry: squeue::Entry| {
            entry.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS).user_data(LINK | u64::from(slot))
        };
        let family = if target.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let place =
            DestinationSlot::try_from_slot_target(slot).map_err(|_| "a slot beyond the file table")?;
        let socket = opcode::Socket::new(family, libc::SOCK_STREAM, 0).file_index(Some(place)).build();
        let (level, option) = (libc::IPPROTO_TCP as u32, libc::TCP_NODELAY as u32);
        let nodelay = opcode::SetSockOpt::new(Fixed(slot), level, option, (&raw const ON).cast(), 4).build();
        let (to, to_len) = sockaddr(target);
        let to = self.address(to);
        // SAFETY: the option is static; the addresses stay in `self.addresses` until the chain has been submitted.
        unsafe {
            self.push(&link(socket))?;
            self.push(&link(nodelay))?;
            if let Some(source) = source {
                // The port is chosen when it connects: choosing it at once takes ever longer with many connections (Linux
                // 6.18 walks a chain of all those bound per port; at 900,000 one bind took a millisecond).
                let (level, option) = (libc::SOL_IP as u32, libc::IP_BIND_ADDRESS_NO_PORT as u32);
                let later =
                    opcode::SetSockOpt::new(Fixed(slot), level, option, (&raw const ON).cast(), 4).build();
                self.push(&link(later))?;
                let (from, from_len) = sockaddr(SocketAddr::new(source, 0));
                let from = self.address(from);
                self.push(&link(opcode::Bind::new(Fixed(slot), from.cast(), from_len).build()))?;
            }
            let connect = opcode::Connect::new(Fixed(slot), to.cast(), to_len).build();
            self.push(&connect.user_data(CONNECT | u64::from(slot)))?;
        }
        Ok(())
    }

    /// Receives whatever comes, until it ends or is cancelled.
    pub(super) fn receive(&mut self, slot: u32) -> Outcome {
        let receive = opcode::RecvMulti::new(Fixed(slot), buffers::GROUP).build();
        // SAFETY: the kernel picks a provided buffer; those outlive the ring.
        unsafe { self.push(&receive.user_data(RECEIVE | u64::from(slot))) }?;
        Ok(())
    }

    /// Receives once, at most `bytes`.
    pub(super) fn sip(&mut self, slot: u32, bytes: u16) -> Outcome {
        let receive = opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), u32::from(bytes))
            .buf_group(buffers::GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT);
        // SAFETY: as for `receive`.
        unsafe { self.push(&receive.user_data(RECEIVE | u64::from(slot))) }?;
        Ok(())
    }

    /// Tells by one `Ended` when the other side has ended or reset the connection, without receiving anything.
    pub(super) fn await_end(&mut self, slot: u32) -> Outcome {
        let ends = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32;
        let poll = opcode::PollAdd::new(Fixed(slot), ends).build().user_data(END | u64::from(slot));
        // SAFETY: it points to nothing.
        unsafe { self.push(&poll) }?;
        Ok(())
    }

    /// Sends all of `bytes`, which must stay where they are until `Sent`.
    pub(super) fn send(&mut self, slot: u32, bytes: &[u8]) -> Outcome {
        let len = u32::try_from(bytes.len())?;
        let send = opcode::Send::new(Fixed(slot), bytes.as_ptr(), len)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        // SAFETY: the contract of the module; at the end the worker leaks what is still with the kernel.
        unsafe { self.push(&send.user_data(SEND | u64::from(slot))) }?;
        Ok(())
    }

    /// Ends the receive of a slot; it answers with what it has or -ECANCELED.
    pub(super) fn stop_receiving(&mut self, slot: u32) -> Outcome {
        self.cancel(RECEIVE | u64::from(slot))
    }

    /// Ends the connect of a slot; it answers with -ECANCELED.
    pub(super) fn stop_connecting(&mut self, slot: u32) -> Outcome {
        self.cancel(CONNECT | u64::from(slot))
    }

    fn cancel(&mut self, user_data: u64) -> Outcome {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(user_data))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(CANCEL);
        // SAFETY: it points to nothing.
        unsafe { self.push(&cancel) }?;
        Ok(())
    }

    /// Ends the connection of a slot both ways and frees its place: one `Closed` follows. What is under way ends by itself.
    pub(super) fn close(&mut self, slot: u32) -> Outcome {
        self.room(2)?;
        // A close alone would leave the socket open as long as a receive holds it. It may fail: the peer may be gone.
        let shutdown = opcode::Shutdown::new(Fixed(slot), libc::SHUT_RDWR)
            .build()
            .flags(Flags::IO_HARDLINK | Flags::SKIP_SUCCESS)
            .user_data(CANCEL);
        let close = opcode::Close::new(Fixed(slot)).build().user_data(CLOSE | u64::from(slot));
        // SAFETY: neither points to anything.
        unsafe {
            self.push(&shutdown)?;
            self.push(&close)?;
        }
        Ok(())
    }

    /// `Event::Woken` once when the bell rings.
    pub(super) fn arm(&mut self, wake: &Wake) -> Outcome {
        let poll = opcode::PollAdd::new(types::Fd(wake.fd()), libc::POLLIN as u32).build().user_data(WAKE);
        // SAFETY: it points to nothing.
        unsafe { self.push(&poll) }?;
        Ok(())
    }

    /// Submits, and stays until something has happened, at most `stay`.
    pub(super) fn enter(&mut self, stay: Duration) -> Outcome {
        let stay = Timespec::from(stay);
        match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&stay)) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Nothing came; a signal; the completion queue is full and is emptied next.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error.into()),
            },
        }
    }

    /// What has happened, some of it; empty when nothing is left. Give it back to [`Ring::recycle`].
    pub(super) fn events(&mut self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let queue = self.ring.completion();
        events.extend(queue.take(REAP).filter_map(|entry| event(&entry)));
        events
    }

    /// See [`Ring::events`].
    pub(super) fn recycle(&mut self, events: Vec<Event>) {
        self.events = events;
    }

    /// The bytes of a buffer.
    pub(super) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        self.buffers.bytes(buffer, len)
    }

    /// The same, to be opened in place.
    pub(super) fn bytes_mut(&mut self, buffer: u16, len: usize) -> &mut [u8] {
        self.buffers.bytes_mut(buffer, len)
    }

    /// The bytes have been read; see [`Buffers::read`].
    pub(super) fn read(&mut self, buffer: u16, len: usize, filling: bool) {
        self.buffers.read(buffer, len, filling);
    }

    /// Closes all connections now: the ring itself ends in the background.
    pub(super) fn end(&mut self) {
        let _ = self.ring.submitter().unregister_files();
    }
}

fn event(entry: &cqueue::Entry) -> Option<Event> {
    let (slot, result) = (entry.user_data() as u32, entry.result());
    Some(match entry.user_data() & !0xffff_ffff {
        CONNECT => Event::Connected { slot, result },
        RECEIVE => {
            let (buffer, more) = (cqueue::buffer_select(entry.flags()), cqueue::more(entry.flags()));
            let filling = cqueue::buffer_more(entry.flags());
            Event::Received { slot, result, buffer, more, filling }
        }
        SEND => Event::Sent { slot, result },
        CLOSE => Event::Closed { slot },
        END => Event::Ended { slot },
        WAKE => Event::Woken,
        LINK if result < 0 && result != -libc::ECANCELED => Event::Failed { slot, errno: -result },
        _ => return None,
    })
}

/// Says what an old kernel lacks instead of failing each connect.
fn probe(ring: &IoUring, binds: bool) -> Outcome {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let lacks = |what: &str, since: &str| {
        Err(format!("io_uring of this kernel lacks {what}: the rig needs Linux {since} or later").into())
    };
    match () {
        () if !probe.is_supported(opcode::Socket::CODE) => lacks("sockets", "5.19"),
        // Came with the socket commands.
        () if !probe.is_supported(opcode::UringCmd16::CODE) => lacks("socket options", "6.7"),
        () if binds && !probe.is_supported(opcode::Bind::CODE) => {
            lacks("bind, without which there are no source addresses", "6.11")
        }
        () => Ok(()),
    }
}

fn sockaddr(at: SocketAddr) -> (Address, u32) {
    match at.ip() {
        IpAddr::V4(ip) => {
            let v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: at.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                sin_zero: [0; 8],
            };
            (Address { v4 }, size_of::<libc::sockaddr_in>() as u32)
        }
        ip => (Address { v6: from_ip(ip, at.port()) }, size_of::<libc::sockaddr_in6>() as u32),
    }
}

fn from_ip(ip: IpAddr, port: u16) -> libc::sockaddr_in6 {
    let octets = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as u16,
        sin6_port: port.to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: octets },
        sin6_scope_id: 0,
    }
}
