//! What hub and shard say to one another.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::admin::{Ask, AskId, Told};
use super::histogram::Histogram;
use super::house::{Came, Changed, Gone, HouseOrder, HouseReport, HouseRules, Rank, Used};
use crate::admission::{Bans, Demand, Grant, Host, PrioritySet, Scope};
use crate::base::{ClientId, Instant, ServiceId, UnixTime};
use crate::feed::{BlockNews, ChainView, TxNews};
use crate::io::{FileRef, KernelCounters};
use crate::transport::tls;
use crate::wire::{Hash, Inv, Services};

/// Number a shard gives to a question; echoed in the answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WantId(pub u32);

/// What the hub tells every client-facing shard to say and allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Service bits for `version`: truly what can be given now.
    pub services: Services,
    /// Lowest fee rate the node takes, satoshi per 1,000 virtual bytes; told to clients by `feefilter`.
    pub fee_filter: u64,
    /// Whether `mempool` is answered.
    pub mempool: bool,
}

/// From the hub to a shard.
#[derive(Debug, Clone)]
pub enum ToShard {
    /// The chain has a new picture (new tip, or filter headers have come). `blocks`: those to announce, in chain
    /// order; after a reorganisation they begin behind the fork. Never dropped.
    Chain {
        /// The picture from now on.
        view: Arc<ChainView>,
        /// What is announced with it.
        blocks: Arc<[Arc<BlockNews>]>,
        /// When the hub had them, on the clock of the shards.
        had: Instant,
    },
    /// The filter of every block up to this height can be served: clients that use filters may hear of them. Never dropped.
    FiltersTo(u32),
    /// Transactions to announce.
    Txs(Arc<[Arc<TxNews>]>),
    /// Transactions no longer in the mempool (confirmed, expired, replaced): not announced or served any more.
    TxsGone(Arc<[Hash]>),
    /// Ask this client for a transaction.
    AskTx(AskTx),
    /// Answer to a `Want`. Never dropped.
    Answer {
        /// Who asked.
        client: ClientId,
        /// The number of the question.
        id: WantId,
        /// The answer.
        answer: Answer,
    },
    /// What to say and allow from now on. Never dropped.
    Policy(Arc<Policy>),
    /// Addresses for getaddr: whole `addr` and `addrv2` messages, made anew once a day. Never dropped.
    Addresses {
        /// v1 frame included.
        addr: Bytes,
        /// v1 frame included.
        addrv2: Bytes,
    },
    /// Other certificates and tickets from now on; sessions that are open keep theirs. Never dropped.
    Tls(Arc<tls::Server>),
    /// Who is banned from now on. Never dropped.
    Bans(Arc<Bans>),
    /// Who is known to the operator by address from now on. Never dropped.
    Known(Arc<PrioritySet>),
    /// What a client is. Never dropped.
    Rank(Rank),
    /// How much may be connected, and what has to go. Never dropped.
    House(HouseOrder),
    /// Prices and limits of clients that have none of their own. Never dropped.
    HouseRules(Arc<HouseRules>),
    /// This shard's part of a service's slots. Never dropped.
    Slots(SlotGrants),
    /// A question of the operator. Never dropped; the hub has a bounded number under way.
    Ask(AskId, Arc<Ask>),
    /// Begin to accept clients. Never dropped.
    Open,
    /// Accept no more, finish what is being sent, end. Never dropped.
    Drain,
}

/// Ask a client for a transaction it announced.
#[derive(Debug, Clone, Copy)]
pub struct AskTx {
    /// Whom.
    pub client: ClientId,
    /// What, in the form it was announced.
    pub inv: Inv,
}

/// A question of a client that the shard cannot answer by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A block with witness, as a `block` message.
    Block(Hash),
    /// A block as `block` message without witness data.
    StrippedBlock(Hash),
    /// A block as `cmpctblock` message; the hub answers with the whole block when it is too deep.
    CompactBlock(Hash),
    /// The `blocktxn` of a block that left the recent ones is answered with the whole block, as BIP152 wants.
    /// `cfilter` messages of a range of the best chain, at most 1,000.
    Filters {
        /// First height.
        start: u32,
        /// Last height.
        stop: u32,
    },
    /// A transaction by txid (`wtxid` false) or wtxid, as a `tx` message with witness.
    Tx {
        /// Which.
        hash: Hash,
        /// By which hash.
        by_wtxid: bool,
    },
    /// Transaction hashes of the mempool, as inv messages; wtxids when `by_wtxid`.
    Mempool {
        /// By which hash.
        by_wtxid: bool,
    },
}

/// A piece of a file that goes to a client as it is: whole messages with their v1 frames.
#[derive(Debug, Clone)]
pub struct Extent {
    /// The segment.
    pub file: FileRef,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub len: u32,
}

/// What the hub answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Whole messages in memory.
    Bytes(Bytes),
    /// Whole messages in files, to be sent in this order.
    Extents(Box<[Extent]>),
    /// It is not to be had (unknown, or the node did not give it in time).
    Missing,
}

/// From a shard to the hub.
#[derive(Debug, Clone)]
pub enum ToHub {
    /// A client announces a transaction the shard does not know.
    TxAnnounced {
        /// Who.
        client: ClientId,
        /// Whose client it is.
        host: Host,
        /// What, in the form announced.
        inv: Inv,
    },
    /// A client sent a transaction that decodes. Accepted means: from here it is not lost while its time has not run out.
    Tx {
        /// Who.
        client: ClientId,
        /// Whose client it is.
        host: Host,
        /// Hash without witness.
        txid: Hash,
        /// Hash with witness.
        wtxid: Hash,
        /// The payload.
        tx: Bytes,
    },
    /// The client asked by `AskTx` does not have it (notfound), or has left.
    TxNotFound {
        /// Who.
        client: ClientId,
        /// What.
        inv: Inv,
    },
    /// A question.
    Want {
        /// Who asks.
        client: ClientId,
        /// Its number.
        id: WantId,
        /// What.
        want: Want,
    },
    /// How the shard is doing; once a second and at the end.
    Report(Box<ShardReport>),
    /// Clients have become sessions, or want to.
    Came(Box<[Came]>),
    /// Sessions have ended, or others were ended by an operator.
    Gone(Box<[Gone]>),
    /// What clients of accounts were served in the last second.
    Used(Box<[Used]>),
    /// A priority client has another capacity or other prices.
    Changed(Changed),
    /// The answer to an operator's question.
    Told(AskId, Box<Told>),
    /// The shard has ended after `Drain`.
    Ended,
}

/// A shard's counters, as totals since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardReport {
    /// When.
    pub time: UnixTime,
    /// Clients connected now.
    pub clients: u32,
    /// Of these, with the handshake complete.
    pub ready: u32,
    /// Of the clients, those over TLS.
    pub tls: u32,
    /// Of the clients, those over BIP324.
    pub v2: u32,
    /// True exactly when the shard's listeners accept.
    pub listening: bool,
    /// The named counters, in the order of `shard::counters::NAMES`.
    pub counters: Vec<u64>,
    /// Ends by reason, in the order of `End::ALL`.
    pub ends: Vec<u64>,
    /// Faults by kind, in the order of `Fault::ALL`.
    pub faults: Vec<u64>,
    /// The kernel's own.
    pub kernel: KernelCounters,
    /// Bytes of buffers in use.
    pub buffer_bytes: u64,
    /// Bytes received from clients.
    pub bytes_in: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
    /// Where the time since its start went, in the order of `shard::regimes::Regime::ALL`.
    pub regimes: Vec<Duration>,
    /// From the hub's block to each client's announcement, since the start.
    pub latency: Histogram,
    /// The same of the last two blocks.
    pub recent_latency: Histogram,
    /// Slots, by service.
    pub services: Vec<ServiceReport>,
    /// Capacities.
    pub house: HouseReport,
    /// What was asked of the throttles that clients share, down and up.
    pub throttles: Vec<(Scope, [Demand; 2])>,
}

/// The slots of a service on a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceReport {
    /// Which.
    pub service: ServiceId,
    /// Session slots taken.
    pub sessions: u32,
    /// Probe slots taken.
    pub probes: u32,
    /// Session slots.
    pub max_sessions: u32,
    /// Probe slots.
    pub max_probes: u32,
    /// The numbers of the grants that are obeyed: sessions, probes.
    pub obeys: [u32; 2],
    /// Sessions and probes refused since the last report.
    pub refused: [u32; 2],
}

/// A shard's part of a service's slots; what is none stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotGrants {
    /// Which service.
    pub service: ServiceId,
    /// Session slots.
    pub sessions: Option<Grant>,
    /// Probe slots.
    pub probes: Option<Grant>,
}
