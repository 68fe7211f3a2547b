//! What the hub takes, gives, reports and counts.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::base::{Nonces, ShardId};
use crate::hub::count::counters;
use crate::hub::session::LinkKind;
use crate::hub::store::Keep;
use crate::link::{ToHub, ToShard};
use crate::wire::Hash;

/// A node as the operator names it: `HOST:PORT`, or `v1:HOST:PORT`, `v2:HOST:PORT`. Resolved anew at each attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddr(pub String);

/// What may be spoken with a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speak {
    /// BIP324, and v1 with a node that does not know it.
    Either,
    /// v1 only (`v1:HOST:PORT`).
    V1,
    /// BIP324 only (`v2:HOST:PORT`).
    V2,
}

impl NodeAddr {
    /// Where it is: `HOST:PORT`.
    pub fn host_port(&self) -> &str {
        self.split().1
    }

    /// What may be spoken with it.
    pub fn speak(&self) -> Speak {
        self.split().0
    }

    /// True exactly when it names a host and a port: `HOST:PORT`, an IPv6 address in brackets.
    pub fn is_valid(&self) -> bool {
        self.host_port().rsplit_once(':').is_some_and(|(host, port)| {
            let is_host = match host.contains(':') {
                true => {
                    host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::Ipv6Addr>().is_ok()
                }
                false => !host.is_empty(),
            };
            is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    }

    /// `v1:8333` is a host of that name, `v1:node:8333` is not.
    fn split(&self) -> (Speak, &str) {
        match self.0.split_once(':') {
            Some(("v1", rest)) if rest.contains(':') => (Speak::V1, rest),
            Some(("v2", rest)) if rest.contains(':') => (Speak::V2, rest),
            _ => (Speak::Either, &self.0),
        }
    }
}

impl std::fmt::Display for NodeAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A link to a node. Never used again after its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Which chain.
    pub network: bitcoin::Network,
    /// The full nodes behind, at least one.
    pub nodes: Vec<NodeAddr>,
    /// Number of shards that are told.
    pub shards: u16,
    /// Which blocks and filters stay in the store.
    pub keep: Keep,
    /// Bound of the mempool, bytes of serialised transactions.
    pub mempool_bytes: usize,
    /// Other relays of the operator, given to every getaddr.
    pub siblings: Vec<SocketAddr>,
    /// Whether clients may use BIP324 (service bit P2P_V2).
    pub v2: bool,
    /// Whether clients may ask for the mempool.
    pub allow_mempool: bool,
    /// Name of our software towards the node (BIP14).
    pub user_agent: String,
    /// The process's nonces, by which it recognises a connection to itself.
    pub nonces: Nonces,
    /// Seed of everything random: nonces, the choice of addresses.
    pub seed: u64,
}

/// What happens to the hub.
#[derive(Debug)]
pub enum Input<'a> {
    /// An asked connection is there, its transport open.
    Connected {
        /// Which.
        link: LinkId,
        /// The session id of BIP324, when that is spoken; v1 otherwise.
        v2: Option<[u8; 32]>,
    },
    /// An asked connection in BIP324 ended, or stayed silent for `NODE_V2_TIMEOUT`, before the node had answered the key
    /// exchange: it may not know it.
    NotV2 {
        /// Which. It is over.
        link: LinkId,
    },
    /// An asked connection failed.
    ConnectFailed {
        /// Which.
        link: LinkId,
        /// Why, for the log.
        error: String,
    },
    /// What the transport has opened of a node's bytes, in any pieces.
    Bytes {
        /// On which link.
        link: LinkId,
        /// The bytes: v1 frames, or [`crate::wire::Framing::V2`] when `Connected` said so.
        data: &'a [u8],
    },
    /// A connection ended.
    Closed {
        /// Which.
        link: LinkId,
        /// Why, when it was not a plain close.
        error: Option<String>,
    },
    /// An entry from a shard.
    FromShard {
        /// Which shard.
        shard: ShardId,
        /// What.
        entry: ToHub,
    },
    /// The process is to end: shards are drained; see [`super::Hub::is_drained`].
    Drain,
}

/// What the hub wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// Connect to a node; answered by `Connected`, `ConnectFailed` or `NotV2`.
    Connect {
        /// The link's name from now on.
        link: LinkId,
        /// Where to.
        node: NodeAddr,
        /// True exactly when BIP324 is to be spoken, v1 otherwise.
        v2: bool,
    },
    /// Send v1 frames on a link, whatever its transport.
    Send {
        /// On which.
        link: LinkId,
        /// Whole messages.
        bytes: Bytes,
    },
    /// Close a link; not answered, and nothing more is expected of it.
    Close {
        /// Which.
        link: LinkId,
    },
    /// An entry for a shard.
    ToShard {
        /// Which shard.
        shard: ShardId,
        /// What.
        entry: ToShard,
    },
    /// The node's tip is known and clients are accepted. Once.
    Ready {
        /// Height of the tip.
        height: u32,
        /// Hash of the tip.
        hash: Hash,
    },
    /// For logs and metrics.
    Event(HubEvent),
}

/// What is worth a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubEvent {
    /// A link to a node has completed its handshake.
    NodeUp {
        /// The node.
        node: NodeAddr,
        /// Which of its links.
        kind: LinkKind,
        /// Its software.
        user_agent: String,
        /// Its service bits.
        services: u64,
        /// Its height as it said.
        height: i32,
        /// The session id of BIP324, when that is spoken; v1 otherwise.
        v2: Option<[u8; 32]>,
    },
    /// A node did not answer a key exchange of BIP324 and is asked in v1 at once.
    FallsBack {
        /// The node.
        node: NodeAddr,
        /// Which of its links.
        kind: LinkKind,
    },
    /// A link to a node has ended.
    NodeDown {
        /// The node.
        node: NodeAddr,
        /// Which of its links.
        kind: LinkKind,
        /// Why: what happened, or the rule it broke.
        reason: String,
        /// True exactly when the reason is the node's nature or behaviour, not the network.
        refused: bool,
    },
    /// The chain has a new tip; clients have been told.
    Tip {
        /// Its height.
        height: u32,
        /// Its hash.
        hash: Hash,
    },
    /// Another branch has more work.
    Reorg {
        /// Height of the last common block.
        fork_height: u32,
        /// Blocks left.
        disconnected: u32,
        /// Blocks of the new branch so far.
        connected: u32,
    },
    /// The store was repaired at its opening; one sentence.
    Repair(String),
    /// Part of the store was found damaged and will be fetched again; one sentence.
    Damage(String),
    /// The store refuses to write; serving goes on, writing is tried again.
    StoreFailed(String),
    /// The store writes again.
    StoreBack,
    /// A client's transaction was not accepted by the node in time.
    TxRefused {
        /// Its hash with witness.
        wtxid: Hash,
    },
    /// Clients are accepted without a node: the store has a chain, no node has answered.
    OpenWithoutNode,
}

counters! {
    /// The hub's counters, as totals since its start.
    HubCounters:
    /// Links asked for.
    connects;
    /// Links that could not be opened.
    connect_failures;
    /// Links whose handshake was completed.
    links_ready;
    /// Of these, in BIP324.
    links_v2;
    /// Attempts in BIP324 that the node did not answer, followed by one in v1.
    v2_fallbacks;
    /// Links that ended.
    links_lost;
    /// Links ended by us because the node broke a rule or stayed silent.
    nodes_left;
    /// Bytes received from nodes.
    bytes_in;
    /// Bytes sent to nodes.
    bytes_out;
    /// Messages received from nodes.
    messages_in;
    /// Messages of nodes dropped: bad checksum or malformed.
    bad_messages;
    /// Messages of nodes that answer nothing we asked.
    unrequested;
    /// Header announcements that did not connect to a known block.
    unconnected_headers;
    /// Headers learnt.
    headers;
    /// Reorganisations.
    reorgs;
    /// Tips announced to shards.
    tips;
    /// Tips announced by their header alone because no node gave the block in time.
    tips_without_block;
    /// Blocks received whole.
    blocks_full;
    /// Blocks rebuilt from a compact block without asking for transactions.
    blocks_compact;
    /// Blocks rebuilt from a compact block and `blocktxn`.
    blocks_compact_txn;
    /// Compact blocks that could not be used; the block was fetched whole.
    compact_failures;
    /// Compact blocks dropped before a node vouched for them (too many or too old).
    prefetch_dropped;
    /// Requests for blocks given to another node after silence, notfound or a lost link.
    block_retries;
    /// Filter headers learnt.
    filter_headers;
    /// Filters received.
    filters;
    /// Requests for filters or filter headers repeated.
    filter_retries;
    /// Transactions asked of nodes.
    txs_asked;
    /// Transaction announcements of nodes not followed because too many are open.
    txs_not_asked;
    /// Transactions received from nodes.
    txs_received;
    /// Transactions of blocks that left the best chain, back in the mempool.
    txs_returned;
    /// Transactions announced to shards.
    txs_announced;
    /// Transactions of clients handed to a node.
    txs_submitted;
    /// Of these, handed to another node, too, because nothing was heard of them.
    txs_handed_on;
    /// Transactions of clients that a node accepted.
    txs_accepted;
    /// Transactions of clients without acceptance in time.
    txs_refused;
    /// Questions of clients.
    wants;
    /// Of these, answered from memory.
    wants_memory;
    /// Of these, answered from the store.
    wants_store;
    /// Of these, answered through the node.
    wants_node;
    /// Of these, answered `Missing`.
    wants_missing;
    /// Of these, refused because too many wait.
    wants_refused;
    /// Requests sent upstream for questions of clients.
    wants_upstream;
    /// Steps made to put requests in order and to choose the next one for a node: a handful per request.
    wants_steps;
    /// Writes to the store that failed.
    store_errors;
    /// Blocks and filters not written because the store refused and too many waited.
    store_dropped;
    /// Damaged parts found in the store.
    store_damage;
}
