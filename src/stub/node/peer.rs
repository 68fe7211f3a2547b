//! What a node keeps of one peer.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::Instant;
use crate::stub::mempool::StubTx;
use crate::wire::Hash;

/// Hashes in one generation of [`Known`].
const GENERATION: usize = 50_000;
/// What a message costs besides its bytes.
const MESSAGE_COST: usize = 256;

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// The peer's address.
    pub(super) addr: SocketAddr,
    /// Bytes that are not a whole message yet, or that a silent node, or one whose answers wait, has not read.
    pub(super) inbox: Vec<u8>,
    /// Cost of what was given out for it and is not reported as sent, see [`cost`].
    pub(super) unsent: usize,
    /// True exactly when its `version` has come.
    pub(super) versioned: bool,
    /// True exactly when its `verack` has come.
    pub(super) ready: bool,
    /// True exactly when it wants transactions announced.
    pub(super) relay: bool,
    /// True exactly when it wants them by wtxid (BIP339).
    pub(super) wtxid: bool,
    /// True exactly when it understands `addrv2` (BIP155).
    pub(super) addrv2: bool,
    /// True exactly when it wants blocks announced by headers (BIP130).
    pub(super) send_headers: bool,
    /// True exactly when it wants them announced by compact block (BIP152).
    pub(super) compact: bool,
    /// Lowest fee rate it wants to hear of, satoshi per 1,000 virtual bytes (BIP133).
    pub(super) fee_filter: u64,
    /// The last header sent to it: it knows that block and its ancestors.
    pub(super) sent: Option<Hash>,
    /// The last block it told us of.
    pub(super) told: Option<Hash>,
    /// Transactions it knows.
    pub(super) known: Known,
    /// Transactions to be announced at `announce_at`.
    pub(super) pending: Vec<Arc<StubTx>>,
    /// When; meaningless while `pending` is empty.
    pub(super) announce_at: Instant,
    /// When it is pinged next.
    pub(super) ping_at: Instant,
    /// True exactly when its one `getaddr` has been answered.
    pub(super) addresses_given: bool,
}

impl Peer {
    pub(super) fn new(now: Instant, addr: SocketAddr) -> Peer {
        Peer {
            addr,
            inbox: Vec::new(),
            unsent: 0,
            versioned: false,
            ready: false,
            relay: false,
            wtxid: false,
            addrv2: false,
            send_headers: false,
            compact: false,
            fee_filter: 0,
            sent: None,
            told: None,
            known: Known::default(),
            pending: Vec::new(),
            announce_at: now,
            ping_at: now,
            addresses_given: false,
        }
    }

    /// When something is due for it; for one whose window is full only its next ping is.
    pub(super) fn wake(&self, window: usize) -> Instant {
        match (self.ready, self.pending.is_empty() || self.unsent > window) {
            (false, _) => Instant::FAR,
            (true, true) => self.ping_at,
            (true, false) => self.ping_at.min(self.announce_at),
        }
    }
}

/// What a message counts in a peer's window: its bytes, and something for itself, so that small ones are bounded too.
pub(super) fn cost(bytes: usize) -> usize {
    bytes + MESSAGE_COST
}

/// Hashes heard lately: at least the last 50,000, at most twice as many. Of each eight bytes: two that agree in them are
/// not met in the life of a stub node, and there may be hundreds of peers.
#[derive(Debug, Default)]
pub(super) struct Known {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

fn short(hash: &Hash) -> u64 {
    hash.iter().take(8).fold(0, |short, byte| short << 8 | u64::from(*byte))
}

impl Known {
    pub(super) fn insert(&mut self, hash: Hash) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(short(&hash));
    }

    pub(super) fn contains(&self, hash: &Hash) -> bool {
        let hash = short(hash);
        self.young.contains(&hash) || self.old.contains(&hash)
    }
}
