//! Every number, with its reason. Values that follow from others are derived here, and what must hold
//! between them is proved at compile time at the end of the file.
//!
//! Protocol limits are constants: changing one is a protocol change. What an operator may change has its
//! default in `control/default.toml`.

use std::time::Duration;

// ---- protocol (Bitcoin Core net_processing.cpp, net.h; BIPs named) -------------------------------------

/// Largest payload of a message, bytes (MAX_PROTOCOL_MESSAGE_LENGTH).
pub const MAX_MESSAGE: usize = 4_000_000;
/// Bytes of a v1 message header: magic 4, command 12, length 4, checksum 4.
pub const HEADER_LEN: usize = 24;
/// Most entries of an `inv`, `getdata` or `notfound`.
pub const MAX_INV: usize = 50_000;
/// Most headers in a `headers` message.
pub const MAX_HEADERS: usize = 2_000;
/// Most addresses in `addr` or `addrv2`.
pub const MAX_ADDR: usize = 1_000;
/// Most hashes in a block locator.
pub const MAX_LOCATOR: usize = 101;
/// Block hashes in the answer to `getblocks`.
pub const MAX_GETBLOCKS: usize = 500;
/// Headers announced in one `headers` message; more than that and the tip is announced by `inv`.
pub const MAX_HEADERS_ANNOUNCE: usize = 8;
/// Filters per getcfilters (BIP157).
pub const MAX_CFILTERS: u32 = 1_000;
/// Filter hashes per getcfheaders (BIP157).
pub const MAX_CFHEADERS: u32 = 2_000;
/// Blocks between filter checkpoints (BIP157).
pub const CFCHECKPT_INTERVAL: u32 = 1_000;
/// User agent bytes accepted (BIP14; MAX_SUBVERSION_LENGTH).
pub const MAX_USER_AGENT: usize = 256;
/// Lowest protocol version of a client (MIN_PEER_PROTO_VERSION, getheaders exists).
pub const MIN_PROTOCOL_VERSION: u32 = 31_800;
/// The protocol version we speak: 70016 (wtxidrelay). BIP434 features (70017) are ignored when met.
pub const PROTOCOL_VERSION: u32 = 70_016;
/// From this version on a peer understands `wtxidrelay` (BIP339).
pub const WTXID_RELAY_VERSION: u32 = 70_016;
/// Blocks a NETWORK_LIMITED peer promises (BIP159).
pub const LIMITED_BLOCKS: u32 = 288;
/// Deepest block given as `cmpctblock`; a deeper one is given in full (MAX_CMPCTBLOCK_DEPTH).
pub const MAX_CMPCTBLOCK_DEPTH: u32 = 5;
/// Deepest block whose getblocktxn is answered by `blocktxn`; deeper ones get the block (MAX_BLOCKTXN_DEPTH).
pub const MAX_BLOCKTXN_DEPTH: u32 = 10;
/// Per cent of the known addresses given by getaddr (MAX_PCT_ADDR_TO_SEND).
pub const MAX_PCT_ADDR: usize = 23;
/// Transactions asked of one client and not yet delivered (MAX_PEER_TX_REQUEST_IN_FLIGHT).
pub const MAX_TX_IN_FLIGHT: usize = 100;
/// Transaction announcements remembered per client (MAX_PEER_TX_ANNOUNCEMENTS), enforced at the hub.
pub const MAX_TX_ANNOUNCEMENTS: usize = 5_000;
/// After this another announcer is asked for a transaction (GETDATA_TX_INTERVAL).
pub const TX_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// feefilter at or above this says "no transactions" (Bitcoin Core sends MAX_MONEY while it syncs), sat/kvB.
pub const FEEFILTER_NO_TX: u64 = 2_099_999_997_690_000;

// ---- times of a client ---------------------------------------------------------------------------------

/// From accept to `verack` (DEFAULT_PEER_CONNECT_TIMEOUT).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// From accept to an open transport: the TLS handshake, or from the first byte the key exchange of BIP324. Short, because
/// what is kept meanwhile is dear (4 KB) and held by somebody unknown.
pub const TRANSPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same while newcomers wait for a place among the handshakes in progress.
pub const TRANSPORT_TIMEOUT_PRESSED: Duration = Duration::from_secs(3);
/// The last word to a client (an alert, close_notify) must be taken within this.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Silence after which we ping (PING_INTERVAL).
pub const PING_INTERVAL: Duration = Duration::from_secs(120);
/// A ping unanswered for this long ends the client (TIMEOUT_INTERVAL).
pub const PONG_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// A send that does not complete for this long ends the client. 128 KiB in 120 s is 1.1 KB/s, slower than
/// any client that could follow the chain.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(120);
/// A message begun must complete within this. 4 MB in 120 s is 33 KB/s; a byte a second does not.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(120);
/// A request that has to go through the node (old block, old filters) is given up with `notfound` after this.
/// Below the 20 s after which bip157 leaves.
pub const ON_DEMAND_TIMEOUT: Duration = Duration::from_secs(15);
/// Time given to clients on SIGTERM before the process ends; the contract is 5 s in all.
pub const DRAIN_TIME: Duration = Duration::from_secs(3);
/// A shard ends this long after `DRAIN_TIME` whatever is left: the hub may be gone. The hub waits as long for the shards'
/// last words, so both together stay within the 5 s.
pub const END_MARGIN: Duration = Duration::from_millis(500);
/// Transaction announcements are batched for this long by default.
pub const TX_INTERVAL: Duration = Duration::from_millis(100);

// ---- a shard -------------------------------------------------------------------------------------------

/// Most shards of a process.
pub const MAX_SHARDS: usize = 1_024;
/// Bytes of one provided receive buffer. Most client messages are below 200 bytes, a buffer is
/// held only while its batch is read, and a large transaction is reassembled elsewhere.
pub const RECV_BUFFER: usize = 4_096;
/// Most provided receive buffers of a shard (power of two, as the kernel demands): one for every completion of a turn, 4 MiB.
pub const RECV_BUFFERS: u16 = 1_024;
/// Fewest provided receive buffers of a shard: what one submission of 64 receives can fill, 256 KiB.
pub const RECV_BUFFERS_LEAST: u16 = 64;
/// Clients that share a receive buffer. A buffer is out from its receive to the end of the same turn, so what counts is who
/// speaks within one turn; whoever finds none is read in the next. The kernel takes buffers by turns and so touches all of
/// them: at 64 clients a buffer costs each of them 64 bytes at the most.
pub const CLIENTS_PER_RECV_BUFFER: u32 = 64;
/// Entries of a shard's or a ring's table above which its memory is given back when the last client has gone: fewer take a few
/// pages, and one client that comes and goes would have them made anew each time.
pub const CROWD: usize = 256;
/// Submission queue entries of a ring. Submitting 16 to 64 at a time is cheapest (io_uring facts).
pub const SQ_ENTRIES: u32 = 1_024;
/// Most completion queue entries of a ring: room for a burst of closes and sends without overflow.
pub const CQ_ENTRIES: u32 = 16_384;
/// Fewest completion queue entries of a ring: two for each entry of the submission queue.
pub const CQ_ENTRIES_LEAST: u32 = 2 * SQ_ENTRIES;
/// Most entries of a ring's file table, whatever RLIMIT_NOFILE says (IORING_MAX_FIXED_FILES, io_uring/rsrc.c).
pub const RING_FILES: u64 = 1 << 20;
/// Accepts outstanding per listener.
pub const ACCEPTS_IN_FLIGHT: u32 = 64;
/// Backlog asked of listen(2); the kernel clamps it to net.core.somaxconn.
pub const LISTEN_BACKLOG: i32 = 4_096;
/// A shard leaves the listening group when fewer slots than this are free, so that connections already
/// queued in its backlog still find room; it comes back when twice as many are free.
pub const LEAVE_GROUP_MARGIN: u32 = 64;
/// Completions handled per turn.
pub const DONES_PER_TURN: usize = 1_024;
/// Clients swept per turn. 16 to 64 sends at a time are cheapest (io_uring facts), and a ping waits for at most a
/// turn: 64 sends are half a millisecond, or 1.5 ms when acknowledgements of 20,000 clients come in between.
pub const SWEEP_PER_TURN: usize = 64;
/// Fewest clients swept per turn: below, a submission costs more than it brings (io_uring facts).
pub const SWEEP_LEAST: usize = 16;
/// Entries taken from the hub's queue per turn.
pub const LINK_PER_TURN: usize = 256;
/// Replies a client may gather before they are sent and its input waits: bounds the reply buffer. A reply
/// that has begun is completed (largest: `headers`, 162,003 bytes).
pub const REPLY_SOFT_LIMIT: usize = 64 * 1024;
/// Bytes read from a segment and sent at a time while a block or filters are served.
pub const FILE_CHUNK: usize = 128 * 1024;
/// Bytes that the kernel takes of us for a client before it has sent what it has (TCP_NOTSENT_LOWAT): four chunks of a file, so
/// that a fast reader is hardly ever waited for. Without it whoever asks for blocks and never reads has the kernel keep all that
/// tcp_wmem allows, 4 MB, and a thousand of them 4 GB. What is on its way to a client and not acknowledged is not in it.
pub const UNSENT_BYTES: u32 = 4 * FILE_CHUNK as u32;
/// Bytes of buffers in use up to which the next chunk of a file is read while the last one is sent: 16 clients in full flow.
pub const READ_AHEAD: usize = 32 * FILE_CHUNK;
/// A send above this counts as large: it is the first to give way when the buffers are used up.
pub const LARGE_SEND: usize = 8 * 1024;
/// Bytes of buffers for replies, segments and reassembly a shard may have in use; a client that needs
/// one when there is none waits. 64 MiB are 512 clients each in the middle of a file chunk.
pub const BUFFER_BUDGET: usize = 64 * 1024 * 1024;
/// Clients of a shard allowed in the middle of the handshake; each costs a box of about 400 bytes.
pub const MAX_HANDSHAKES: usize = 65_536;
/// Transport handshakes of a shard in progress at least, however many shards share the configured number.
pub const TRANSPORT_HANDSHAKES_LEAST: u32 = 64;
/// Steps of transport handshakes in a turn: 16 of 90 us are 1.5 ms, so a ping is answered in time.
pub const STEPS_PER_TURN: usize = 16;
/// The same in a turn that announces something: those who are connected hear first.
pub const STEPS_IN_SWEEP: usize = 2;
/// Bytes of a transport handshake that wait for its next step, at most: more than a handshake may have, so that it is the
/// handshake which refuses, with its alert.
pub const HANDSHAKE_INPUT: usize = HANDSHAKE_BYTES + 8 * 1024;
/// Most bytes a peer may send in a TLS handshake: ClientHello and its certificates, or all of a server's. An extension may have 64 KiB, and
/// tlsfuzzer sends such; when half of the buffers are in use, strangers have `STRANGER_INPUT` only.
pub const HANDSHAKE_BYTES: usize = 64 * 1024;
/// Time of a turn for steps of transport handshakes: what a step takes depends on the key (ECDSA 50 us, RSA-4096 milliseconds), so
/// the number alone is no bound. One step is always done.
pub const STEP_TIME: Duration = Duration::from_micros(1_500);
/// The same in a turn that announces something.
pub const STEP_TIME_IN_SWEEP: Duration = Duration::from_micros(200);
/// Key exchanges that wait for a step of ours, in multiples of those that may be in progress; beyond, newcomers are refused.
pub const WAITING_EXCHANGES: u32 = 4;
/// Block announcements a shard's log keeps. A client that falls further behind hears of the tip by inv.
pub const BLOCK_LOG: usize = 64;
/// Blocks whose bytes the shards can reach without the store (blocktxn is answered 10 deep).
pub const RECENT_BLOCKS: usize = 11;
/// Transactions a shard's log keeps, with their bytes shared among the shards.
pub const TX_LOG: usize = 20_000;
/// Bytes of transactions the log may hold; the oldest leave first.
pub const TX_LOG_BYTES: usize = 64 * 1024 * 1024;
/// Transactions announced in one inv by the relay (a client further behind gets several).
pub const TX_PER_INV: usize = 1_000;
/// Transaction hashes a shard remembers as heard from its clients, in two generations of this size.
pub const SEEN_TX: usize = 100_000;
/// Transactions whose announcers a shard remembers until the node has accepted them, in two generations of this size.
pub const HEARD_TX: usize = 5_000;
/// Announcers of one transaction that a shard passes to the hub; more add nothing.
pub const ANNOUNCERS_PER_SHARD: u8 = 3;

// ---- between shard and hub -----------------------------------------------------------------------------

/// Entries of the queue from the hub to a shard.
pub const TO_SHARD_QUEUE: usize = 4_096;
/// Entries of the queue from a shard to the hub.
pub const TO_HUB_QUEUE: usize = 4_096;

// ---- hub -----------------------------------------------------------------------------------------------

/// Announcers of one transaction the hub remembers, all shards together.
pub const MAX_ANNOUNCERS: usize = 8;
/// Headers off the best chain that the hub keeps. Each cost its maker real work, so only a regtest node could
/// make many; about 250 bytes each, 25 MB in all.
pub const MAX_SIDE_HEADERS: usize = 100_000;
/// Newest headers of the best chain that are never frozen: an ordinary reorganisation stays above the frozen part.
pub const RECENT_HEADERS_LEAST: u32 = 1_024;
/// Newest headers of the best chain after which the older ones are frozen; copied into each new picture.
pub const RECENT_HEADERS_MOST: u32 = 4_096;
/// A header further ahead of our clock than this is refused (MAX_FUTURE_BLOCK_TIME), seconds.
pub const MAX_FUTURE_BLOCK_TIME: u64 = 2 * 3600;
/// Transactions announced by clients and not yet received that the hub follows. Beyond, the client that has announced the
/// most gives way.
pub const MAX_TX_WANTED: usize = 50_000;
/// Blocks asked of one node and not yet received (MAX_BLOCKS_IN_TRANSIT_PER_PEER).
pub const MAX_BLOCKS_IN_FLIGHT: usize = 16;
/// Age at which a transaction leaves the mempool (Bitcoin Core -mempoolexpiry, 336 h).
pub const MEMPOOL_EXPIRY: Duration = Duration::from_secs(336 * 3600);
/// Heaviest transaction taken from a client, weight units (Bitcoin Core MAX_STANDARD_TX_WEIGHT): no node relays a heavier
/// one, and a few of 4 MB would fill the room for all.
pub const MAX_TX_WEIGHT: usize = 400_000;
/// Transactions of clients that wait for a node or its verdict, at most. Beyond, the client that holds the most gives way.
pub const MAX_WAITING_TX: usize = 10_000;
/// Bytes of transactions of clients that wait for a node or its verdict, at most. Beyond, who holds the most gives way.
pub const MAX_WAITING_TX_BYTES: usize = 50_000_000;
/// A link lost this soon after a transaction went over it may have been lost because of it: nodes leave senders of
/// invalid ones.
pub const QUICK_LOSS: Duration = Duration::from_secs(5);
/// Links a transaction may cost in this way before it is refused; a node that restarts loses an honest one once or twice.
pub const MAX_QUICK_LOSSES: u8 = 3;
/// A submitted transaction neither heard back nor confirmed after this counts as refused.
pub const VERDICT_TIMEOUT: Duration = Duration::from_secs(60);
/// A submitted transaction that nothing was heard of after this is given to another node, too: the first may have a link
/// that is half dead. Long after a healthy node has announced it, and after more than one probe.
pub const SUBMIT_ELSEWHERE: Duration = Duration::from_secs(VERDICT_TIMEOUT.as_secs() / 2);
/// Transactions given to a node that it has not dealt with, per link: a node takes a few milliseconds for each, so that one more, of
/// whoever has waited for none, is dealt with well within 100 ms; and enough to keep it busy while a pong is under way.
pub const MAX_SUBMITTED_AT_ONCE: usize = 8;
/// Their bytes; one may be larger.
pub const MAX_SUBMITTED_AT_ONCE_BYTES: usize = 1_000_000;
/// What a transaction costs the node, in cost units (microseconds of a core): to look it up and to check it...
pub const SUBMIT_COST: u64 = 500;
/// ...and for each of its bytes: some 150 bytes of an input carry a signature, which takes 50 to 150 us.
pub const SUBMIT_COST_PER_BYTE: u64 = 1;
/// A refused transaction costs its sender so many times as much: nobody has paid a fee for the node's work. An honest wallet's
/// occasional conflict is forgiven within seconds (`admission::Fair`), a sixteenth of a share is all that invention gets.
pub const REFUSED_COST_FACTOR: u64 = 16;
/// Verdicts on clients' transactions that are remembered, so that none is submitted again at once.
pub const MAX_RECENT_VERDICTS: usize = 50_000;
/// After this a transaction that was refused (or accepted and gone since) may be submitted again.
pub const RECENT_VERDICT_TIME: Duration = Duration::from_secs(600);
/// A transaction that waits for a node is given up after this.
pub const WAITING_TX_EXPIRY: Duration = Duration::from_secs(3600);
/// A node that says nothing for this long after a question is left.
pub const NODE_TIMEOUT: Duration = Duration::from_secs(20);
/// Silence after which the hub pings a node.
pub const NODE_PING_INTERVAL: Duration = Duration::from_secs(10);
/// First pause before a lost node is tried again; doubles to the last.
pub const NODE_RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest pause before a lost node is tried again.
pub const NODE_RETRY_LAST: Duration = Duration::from_secs(30);
/// A link for rare work closes after this without a request.
pub const RARE_LINK_IDLE: Duration = Duration::from_secs(30);
/// Requests for the same or different old data that may wait at the hub.
pub const MAX_WANTS: usize = 65_536;
/// Time for a TCP connection to a node, name resolution included.
pub const NODE_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A node that has not answered a key exchange of BIP324 after this is asked in v1: one that does not know it may wait for
/// more of a message instead of closing. A node that knows it answers within milliseconds.
pub const NODE_V2_TIMEOUT: Duration = Duration::from_secs(3);
/// The hub looks after itself at least this often: deadlines without an entry of their own are late by at most this.
pub const HUB_TICK: Duration = Duration::from_secs(1);
/// A new tip's block that has not come after this is asked of another node.
pub const TIP_BLOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// A new tip whose block no node gives is announced by its header alone after this.
pub const TIP_WITHOUT_BLOCK: Duration = Duration::from_secs(10);
/// Compact blocks held back until a node vouches for them. More than two at a time are a race of miners.
pub const EARLY_BLOCKS: usize = 8;
/// A compact block that nobody vouches for is dropped after this.
pub const EARLY_EXPIRY: Duration = Duration::from_secs(30);
/// After this a node that sent a compact block is asked by getheaders whether it has accepted it, when its
/// ear has not said so. Validation takes some 10 to 100 ms.
pub const VOUCH_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two such questions.
pub const VOUCH_LAST: Duration = Duration::from_secs(2);
/// First pause before filters of a new block are asked for again: the node indexes after it announces.
pub const FILTER_RETRY_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two such questions.
pub const FILTER_RETRY_LAST: Duration = Duration::from_secs(1);
/// Filters asked for at a time for the store: 100 of 20 KB are 2 MB.
pub const FILTERS_PER_REQUEST: u32 = 100;
/// A transaction asked of a node is asked of another announcer after this.
pub const TX_FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Transactions asked of nodes and not yet received, all nodes together.
pub const MAX_NODE_TX_ASKED: usize = 50_000;
/// After this a node is asked on the ear for a transaction that was submitted and not announced: it may have had it
/// already. Trickled announcements of Bitcoin Core take about 5 s; asking sooner does no harm.
pub const PROBE_FIRST: Duration = Duration::from_secs(3);
/// Accepted transactions are gathered for this long before the shards are told.
pub const TXS_TO_SHARDS: Duration = Duration::from_millis(5);
/// Accepted transactions told to shards in one entry.
pub const TXS_PER_BATCH: usize = 256;
/// A want waits this long for the rare link before it goes over main.
pub const RARE_PATIENCE: Duration = Duration::from_secs(2);
/// Wants under way on one link.
pub const RARE_IN_FLIGHT: usize = 8;
/// Largest piece of a file named in one extent; a shard reads and sends it in smaller chunks.
pub const FILE_EXTENT: u32 = 4 * 1024 * 1024;
/// Clients are accepted without a node after this, when the store has a chain.
pub const OPEN_WITHOUT_NODE: Duration = Duration::from_secs(10);
/// A node that promises filters and gives none for this long does not keep clients without filters waiting at start.
pub const FILTERS_PATIENCE: Duration = Duration::from_secs(30);
/// A node counts as reachable on demand for this long after it was last up.
pub const NODE_GRACE: Duration = Duration::from_secs(120);
/// Addresses are asked of a node, and chosen anew for clients, this often.
pub const ADDRESS_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Addresses of nodes remembered.
pub const MAX_KNOWN_ADDR: usize = 10_000;
/// Entries that wait for a slow shard before transactions are dropped for it.
pub const OUTBOX_SOFT: usize = 1_024;
/// Bytes queued towards a node before the link is closed: a node that takes nothing is no use.
pub const NODE_SEND_QUEUE: usize = 64 * 1024 * 1024;

// ---- store ---------------------------------------------------------------------------------------------

/// Size at which a segment is closed and the next begun.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Largest segment that can be configured: offsets in the index are 32 bits wide, a whole message must fit behind them.
pub const MAX_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;
/// The cache is at least this many segments, so that evicting one does not empty it.
pub const CACHE_SEGMENTS: u64 = 8;
/// Segments of one folder kept open; at 64 MiB each the whole chain has more of them than descriptors are allowed.
pub const STORE_OPEN_SEGMENTS: usize = 256;
/// Blocks or filters put and not yet acknowledged; one more and the store syncs by itself.
pub const STORE_UNSYNCED: usize = 4_096;
/// Headers at the tip that are kept in memory at start instead of mapped: no reorganisation has ever been deeper.
pub const STORE_RECENT: u32 = 2_048;
/// Sentences about damage kept until they are taken; more are only counted.
pub const STORE_NOTES: usize = 1_024;

/// Bytes of blocks and filters that wait in memory for a store that refuses to write; the oldest are dropped beyond.
pub const STORE_WAITING_BYTES: usize = 128 * 1024 * 1024;
/// Bytes written to the store in one go, so that the hub's thread is not away for long.
pub const STORE_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Pause between two syncs of the store: a crash costs what was fetched within it.
pub const STORE_SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// First pause before a store that refused is tried again; doubles to the last.
pub const STORE_RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause before a store that refused is tried again.
pub const STORE_RETRY_LAST: Duration = Duration::from_secs(60);

// ---- proofs --------------------------------------------------------------------------------------------

const _: () = assert!(RECV_BUFFERS.is_power_of_two() && RECV_BUFFERS_LEAST.is_power_of_two());
const _: () = assert!(SQ_ENTRIES.is_power_of_two() && CQ_ENTRIES.is_power_of_two());
const _: () = assert!(FILE_CHUNK + MAX_MESSAGE <= BUFFER_BUDGET);
const _: () = assert!(READ_AHEAD + FILE_CHUNK <= BUFFER_BUDGET / 2);
const _: () = assert!(MAX_INV * 36 + 3 <= MAX_MESSAGE);
const _: () = assert!(RECENT_BLOCKS as u32 > MAX_BLOCKTXN_DEPTH);
const _: () = assert!(BLOCK_LOG > RECENT_BLOCKS);
const _: () = assert!(TX_PER_INV <= MAX_INV);
const _: () = assert!(MAX_TX_WEIGHT * 16 <= MAX_WAITING_TX_BYTES);
const _: () = assert!(MAX_TX_WEIGHT <= MAX_SUBMITTED_AT_ONCE_BYTES);
const _: () = assert!(MAX_SEGMENT_BYTES + (MAX_MESSAGE + HEADER_LEN) as u64 <= u32::MAX as u64);
const _: () = assert!(RECENT_HEADERS_LEAST * 2 <= RECENT_HEADERS_MOST);
const _: () = assert!(MAX_SIDE_HEADERS > 2 * MAX_HEADERS);
const _: () = assert!(DRAIN_TIME.as_millis() + END_MARGIN.as_millis() < 5_000);
const _: () = assert!(NODE_V2_TIMEOUT.as_secs() < NODE_CONNECT_TIMEOUT.as_secs());
const _: () = assert!(ON_DEMAND_TIMEOUT.as_secs() < NODE_TIMEOUT.as_secs());
