//! The kernel boundary, made of data.
//!
//! A shard asks with [`Op`], hears with [`Done`], and knows the kernel only as a [`Kernel`]. The product's
//! kernel is `ring` (io_uring); the simulator in `tests/sim` is the other one. The hub's files go
//! through [`Disk`] and [`File`] for the same reason.
//!
//! Rules both kernels keep:
//! - Every `Op` but `Recycle`, `Hold`, `StopListening` and `Close` is answered by exactly one `Done`; `Listen` by any number of them.
//! - A listener's number is used for another one only after `Unbound`; accepts of the former are all reported before.
//! - At most one `Receive` and one `Send` are outstanding per connection.
//! - After `Close` the connection's outstanding operations still complete, with the client's old id; a `Sent`
//!   gives its payload back even then. The kernel may reuse the connection's number at once.
//! - A `Received` buffer belongs to the shard until it is given back with `Recycle`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{ClientId, Conn, Instant, UnixTime};

/// Index of a listener in the shard's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenerId(pub u8);

/// A provided receive buffer, named by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BufferId(pub u16);

/// What a shard asks of its kernel.
#[derive(Debug)]
pub enum Op {
    /// Open the listening socket (SO_REUSEPORT) and accept until `StopListening`.
    Listen(ListenerId),
    /// Accept no more until `Listen` comes; newcomers wait in the listener's queue. A few accepts that are under way may still
    /// be reported.
    Hold(ListenerId),
    /// Leave the listening group: connections already queued are still accepted and reported, then the
    /// socket closes and the kernel sends newcomers to the other shards.
    StopListening(ListenerId),
    /// Make a listener at run time, bound and accepting nobody before `Listen`. Its number is the next or one that is free again.
    Bind {
        /// Its number.
        listener: ListenerId,
        /// Its address.
        at: SocketAddr,
    },
    /// Close a listener for good; who waits in its queue is reset. Its number and its port are free with `Unbound`.
    Unbind(ListenerId),
    /// Report the next bytes of a connection, at most one buffer of them. Costs no buffer while it waits.
    Receive {
        /// Who hears of it.
        client: ClientId,
        /// From where.
        conn: Conn,
    },
    /// As `Receive`, of at most so many bytes: at least 16 of them, rounded down to a multiple of 16.
    ReceivePart {
        /// Who hears of it.
        client: ClientId,
        /// From where.
        conn: Conn,
        /// Most bytes.
        most: u16,
    },
    /// Give a receive buffer back.
    Recycle(BufferId),
    /// Send all of the payload; short sends are the kernel's to complete.
    Send {
        /// Who hears of it.
        client: ClientId,
        /// To where.
        conn: Conn,
        /// What; handed back in `Done::Sent`.
        payload: Payload,
    },
    /// Cancel what is outstanding and close. Not answered. `reset`: drop unsent data (RST) so that a dead peer holds no memory.
    Close {
        /// The client that is leaving.
        client: ClientId,
        /// Its connection.
        conn: Conn,
        /// True exactly when what is queued in the socket shall be thrown away.
        reset: bool,
    },
    /// Read `len` bytes of a file from `offset` into `buffer` (appended to its end).
    Read {
        /// Who hears of it.
        client: ClientId,
        /// Which file.
        file: FileRef,
        /// Where in the file.
        offset: u64,
        /// How many bytes.
        len: u32,
        /// Where to; handed back in `Done::Read`.
        buffer: Vec<u8>,
    },
}

/// What to send.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Bytes shared by many clients (an announcement): no copy per client.
    Shared(Bytes),
    /// A buffer of the shard's pool.
    Owned(Vec<u8>),
}

impl Payload {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Payload::Shared(bytes) => bytes,
            Payload::Owned(vec) => vec,
        }
    }
}

/// Why receiving or sending on a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoEnd {
    /// The peer closed its side.
    Closed,
    /// Reset, broken pipe, timed out in TCP, or cancelled by our own close.
    Reset,
    /// Any other error number.
    Error(i32),
}

/// What the kernel reports.
#[derive(Debug)]
pub enum Done {
    /// A connection has come.
    Accepted {
        /// On which listener.
        listener: ListenerId,
        /// Its number.
        conn: Conn,
        /// Who it is, known before anything is answered.
        peer: SocketAddr,
    },
    /// A listener is bound, or cannot be.
    Bound {
        /// Which.
        listener: ListenerId,
        /// The error number of bind(2).
        result: Result<(), i32>,
    },
    /// A listener is gone.
    Unbound(ListenerId),
    /// Accepting failed with this error number (EMFILE, ENFILE, ENOBUFS...). The kernel waits a while and
    /// goes on by itself; it never spins.
    AcceptFailed {
        /// On which listener.
        listener: ListenerId,
        /// The error number.
        errno: i32,
    },
    /// Bytes have come.
    Received {
        /// For whom.
        client: ClientId,
        /// Where they are; see [`Kernel::received`].
        buffer: BufferId,
        /// How many, at least one.
        len: u32,
    },
    /// No more bytes will come.
    ReceiveEnded {
        /// For whom.
        client: ClientId,
        /// Why.
        why: IoEnd,
    },
    /// A send is over, whole or failed.
    Sent {
        /// For whom.
        client: ClientId,
        /// The payload given.
        payload: Payload,
        /// `Ok` when every byte is in the socket.
        result: Result<(), IoEnd>,
    },
    /// A read is over.
    Read {
        /// For whom.
        client: ClientId,
        /// The buffer given, longer by what was read.
        buffer: Vec<u8>,
        /// Bytes read (less than asked only at the end of the file), or the error number.
        result: Result<u32, i32>,
    },
    /// The other side of the shard's link has something.
    Doorbell,
}

/// Troubles a kernel counts itself, as totals since its start.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct KernelCounters {
    /// Receives that found no provided buffer (ENOBUFS) and waited.
    pub no_buffers: u64,
    /// Times the completion queue overflowed.
    pub cq_overflow: u64,
    /// Sends the kernel did in part and that were continued.
    pub short_sends: u64,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_errors: u64,
    /// Connections that were gone before they were accepted (ECONNABORTED and its like).
    pub accepts_aborted: u64,
    /// Times the kernel was entered.
    pub enters: u64,
    /// Operations submitted.
    pub submitted: u64,
}

/// A kernel: takes operations, waits, reports, tells the time.
pub trait Kernel {
    /// Monotonic time.
    fn now(&self) -> Instant;
    /// Wall-clock time, for `version` and block times.
    fn unix_time(&self) -> UnixTime;
    /// Queues an operation. Submitted at the latest by the next `wait`.
    fn push(&mut self, op: Op);
    /// Submits what is queued and waits until something is done or `until` has come (an instant in the
    /// past: only looks). Appends at most `limits::DONES_PER_TURN` entries to `dones`.
    fn wait(&mut self, until: Instant, dones: &mut Vec<Done>);
    /// How long it has slept in `wait` since its start, with nothing to do; nothing for a kernel that never sleeps.
    fn asleep(&self) -> Duration {
        Duration::ZERO
    }
    /// The bytes of a received buffer, writable because records are opened in place.
    fn received(&mut self, buffer: BufferId, len: u32) -> &mut [u8];
    /// The kernel's own counters.
    fn counters(&self) -> KernelCounters;
}

/// A file to read from and append to. Implementations are `hub::store::disk` and the simulator's.
pub trait File: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True when the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads at an offset; fewer bytes than asked only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes at an offset, extending the file.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes what was written survive a crash (fdatasync(2)).
    fn sync(&self) -> io::Result<()>;
    /// The first `len` bytes as memory (mapped by the real disk). They must not be changed afterwards while the map lives.
    fn map(&self, len: u64) -> io::Result<Bytes>;
    /// The descriptor for reads by the ring; `None` in the simulator.
    fn raw_fd(&self) -> Option<RawFd>;
}

/// A file shared between the hub that writes it and the shards that serve from it.
pub type FileRef = Arc<dyn File>;

/// The directory the hub keeps its files in. Names are relative, with `/` between folders.
pub trait Disk {
    /// Opens a file for reading and writing, creating it and its folders when missing.
    fn open(&self, name: &str) -> io::Result<FileRef>;
    /// Names and lengths of the files in a folder, sorted; empty when the folder does not exist.
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>>;
    /// Removes a file; open handles stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Replaces `to` by `from`, durably once `sync_folder` returns.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes creations, removals and renames in a folder survive a crash.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}
