//! Making a ring and ending it.
//!
//! Flags, and why:
//! - SINGLE_ISSUER: one thread uses the ring, so the kernel needs no lock for others.
//! - DEFER_TASKRUN: completions are worked off when we enter, not by interrupting the shard (Linux 6.1).
//! - SUBMIT_ALL: one bad entry does not hold back those behind it.
//! - CQSIZE: closes and sends complete in bursts larger than what is submitted at a time.
//! - NO_SQARRAY: one indirection less (Linux 6.6; left out where it is refused).

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use io_uring::IoUring;
use slotmap::SlotMap;

use super::accept::Listener;
use super::buffers::Buffers;
use super::conns::Conns;
use super::probe::{self, ProbeError};
use super::queue::{Queue, Stay};
use super::token::{Kind, Token};
use super::{Ring, monotonic};
use crate::base::ClientId;
use crate::base::limits::{DONES_PER_TURN, SQ_ENTRIES};
use crate::base::sizes::{cq_entries, recv_buffers};
use crate::link::Doorbell;

/// How long a ring that is dropped waits for operations that use its memory. Cancelled ones are over
/// at once; only a disk that hangs takes longer, and then the memory is leaked.
const DROP_TIME: Duration = Duration::from_secs(1);

/// What a ring is made of.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// Listening addresses; the index is the `ListenerId`. Port 0 gives this ring a port of its own: resolve it
    /// with [`super::reserve`] when several rings shall share it.
    pub listeners: Vec<SocketAddr>,
    /// Connections at most: the size of the file table, at most 2^24 and RLIMIT_NOFILE.
    pub max_clients: u32,
    /// Receive buffers: a power of two, at most 32,768; 4 KiB each.
    pub buffers: u16,
    /// Submission queue entries; a power of two.
    pub sq_entries: u32,
    /// Completion queue entries; a power of two, not below `sq_entries`.
    pub cq_entries: u32,
    /// Wakes the shard.
    pub doorbell: Doorbell,
    /// True exactly when the thread shares its core with other shards: with work left over it lets them run first.
    pub shares_core: bool,
}

impl RingConfig {
    /// A ring for so many clients, with the queue and buffer sizes of `base::limits`; no listeners, a silent doorbell.
    pub fn sized(max_clients: u32) -> RingConfig {
        RingConfig {
            listeners: Vec::new(),
            max_clients,
            buffers: recv_buffers(max_clients),
            sq_entries: SQ_ENTRIES,
            cq_entries: cq_entries(max_clients),
            doorbell: Doorbell::silent(),
            shares_core: false,
        }
    }
}

impl Default for RingConfig {
    /// A ring for 1,024 clients.
    fn default() -> RingConfig {
        RingConfig::sized(1_024)
    }
}

/// Why a ring could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A number of the configuration is out of its range.
    #[error("ring: {field} is {value}, expected {expected}")]
    Config {
        /// Name of the field of [`RingConfig`].
        field: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        expected: &'static str,
    },
    /// io_uring is not to be had.
    #[error(transparent)]
    Setup(#[from] ProbeError),
    /// The file table is larger than the process may have.
    #[error(
        "a file table for max_clients = {max_clients} per shard exceeds the limit of open files ({limit}): use more \
         shards, or raise the limit (ulimit -n, LimitNOFILE=)"
    )]
    FileLimit {
        /// What was asked.
        max_clients: u32,
        /// RLIMIT_NOFILE now (soft).
        limit: u64,
    },
    /// The file table could not be made for another reason.
    #[error("cannot register a file table for max_clients = {max_clients}: {source}")]
    FileTable {
        /// What was asked.
        max_clients: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The receive buffers could not be made.
    #[error("cannot register {buffers} receive buffers: {source}")]
    Buffers {
        /// What was asked.
        buffers: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// A listening address cannot be bound.
    #[error("listen address {addr} cannot be bound: {source}")]
    Bind {
        /// Which.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Ring {
    /// Makes the ring of this thread and binds its listeners; none listens before `Op::Listen`.
    ///
    /// # Errors
    /// See [`RingError`]; each names what to do about it.
    pub fn new(config: RingConfig) -> Result<Ring, RingError> {
        check(&config)?;
        let ring = build(config.sq_entries, config.cq_entries)
            .map_err(|error| ProbeError::of_host(error.raw_os_error().unwrap_or(libc::EIO)))?;
        let max_clients = config.max_clients;
        register_files(&ring, max_clients)?;
        let buffers = Buffers::register(&ring, config.buffers)
            .map_err(|source| RingError::Buffers { buffers: config.buffers, source })?;
        let bind = |addr| Listener::bind(addr).map_err(|source| RingError::Bind { addr, source });
        let listeners = config.listeners.into_iter().map(bind).collect::<Result<_, _>>()?;
        let mut ring = Ring {
            queue: Queue::new(ring),
            buffers,
            conns: Conns::default(),
            sends: SlotMap::new(),
            reads: SlotMap::new(),
            listeners,
            max_clients,
            parked: Default::default(),
            ready: Default::default(),
            scratch: Vec::with_capacity(DONES_PER_TURN),
            doorbell: config.doorbell,
            shares_core: config.shares_core,
            linger: true,
            polled: false,
            closing: false,
            no_buffers: 0,
            short_sends: 0,
            accept_errors: 0,
            aborted_accepts: 0,
            asleep: Default::default(),
        };
        ring.arm_doorbell();
        Ok(ring)
    }

    /// True exactly while the kernel may still touch memory of ours.
    fn is_busy(&self) -> bool {
        !self.sends.is_empty() || !self.reads.is_empty() || self.listeners.iter().any(|l| l.armed() > 0)
    }
}

impl Drop for Ring {
    /// Takes the memory back from the kernel before it is freed. Polls are left to the end of the ring's descriptor.
    fn drop(&mut self) {
        self.closing = true;
        let sends: Vec<_> = self.sends.keys().map(|key| Token::of_key(Kind::Send, key)).collect();
        let reads: Vec<_> = self.reads.keys().map(|key| Token::of_key(Kind::Read, key)).collect();
        sends.into_iter().chain(reads).for_each(|token| self.cancel(token));
        (0..self.listeners.len()).for_each(|index| self.cancel_accepts(index));
        let end = monotonic() + DROP_TIME;
        let mut dones = Vec::new();
        loop {
            let now = monotonic();
            if !self.is_busy() || now >= end {
                break;
            }
            self.queue.enter(Stay::AtMost(end.since(now)));
            self.reap(DONES_PER_TURN, &mut dones);
            dones.clear();
        }
        if self.is_busy() {
            tracing::warn!("operations of a ring did not end in time; their memory is leaked");
            mem::forget((
                mem::take(&mut self.sends),
                mem::take(&mut self.reads),
                mem::take(&mut self.listeners),
            ));
        }
        // Peers see the end now, not when the kernel gets round to the rest of the ring.
        if let Err(error) = self.queue.ring().submitter().unregister_files() {
            tracing::debug!(%error, "unregistering the file table");
        }
    }
}

fn check(config: &RingConfig) -> Result<(), RingError> {
    let wrong = |field, value, expected| Err(RingError::Config { field, value, expected });
    if config.max_clients == 0 || config.max_clients > ClientId::MAX_SLOTS {
        return wrong("max_clients", config.max_clients.into(), "1 to 16777216");
    }
    if !config.buffers.is_power_of_two() {
        return wrong("buffers", config.buffers.into(), "a power of two, 1 to 32768");
    }
    if config.listeners.len() > usize::from(u8::MAX) {
        return wrong("listeners", config.listeners.len() as u64, "at most 255");
    }
    if !config.sq_entries.is_power_of_two() {
        return wrong("sq_entries", config.sq_entries.into(), "a power of two");
    }
    if !config.cq_entries.is_power_of_two() || config.cq_entries < config.sq_entries {
        return wrong("cq_entries", config.cq_entries.into(), "a power of two, not below sq_entries");
    }
    Ok(())
}

/// Sets up a ring with the flags of the module header; without NO_SQARRAY on a kernel before 6.6.
pub(super) fn build(sq_entries: u32, cq_entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(cq_entries);
    let plain = builder.clone();
    match builder.setup_no_sqarray().build(sq_entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => plain.build(sq_entries),
        result => result,
    }
}

fn register_files(ring: &IoUring, max_clients: u32) -> Result<(), RingError> {
    let Err(source) = ring.submitter().register_files_sparse(max_clients) else { return Ok(()) };
    let limit = probe::open_files_limit();
    if source.raw_os_error() == Some(libc::EMFILE) && u64::from(max_clients) > limit {
        return Err(RingError::FileLimit { max_clients, limit });
    }
    Err(RingError::FileTable { max_clients, source })
}
