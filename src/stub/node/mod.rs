//! One regtest node with any number of peers, sans-IO: bytes and an instant in, [`Output`]s out.
//!
//! Speaks as Bitcoin Core does to those who connect to it: order of the handshake, forms of announcement, what is
//! answered, what is ignored and for what a peer is dropped. Peers connect to it; it never connects. Blocks come
//! from its own [`StubChain`] (`chain_mut().mine(..)`, then `tick`), never from peers.
//!
//! - `peer`: what is kept of one peer
//! - `announce`: new tips and transactions
//! - `serve`: headers, blocks, transactions, addresses on request
//! - `index`: filters on request, and an index that lags
//! - `hear`: transactions announced and sent by peers
//!
//! Bounded: a peer's inbox by two messages, its memory of what it knows, requests in flight and orphans each by a
//! constant; outputs by what the caller lets in before it drains them, and per peer by the window of the options when
//! the caller reports what it has [sent](StubNode::sent).

mod announce;
mod hear;
mod index;
mod peer;
mod serve;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Transaction;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::hear::Hearing;
use self::index::FilterIndex;
use self::peer::{Peer, cost};
use super::block::built;
use super::{MAGIC, StubChain};
use crate::base::limits::{
    HEADER_LEN, MAX_MESSAGE, MIN_PROTOCOL_VERSION, PING_INTERVAL, PROTOCOL_VERSION, WTXID_RELAY_VERSION,
};
use crate::base::{Instant, UnixTime};
use crate::wire::{Hash, Message, Services, Step, Version, WireError, parse, split, write};

/// Bytes of a peer that may wait unread: while the node is silent nobody reads them.
const MAX_INBOX: usize = 2 * (HEADER_LEN + MAX_MESSAGE);

/// Names a connection; the caller chooses the numbers and uses none twice at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerId(pub u64);

/// Says of a transaction whether this node refuses it although it is valid.
#[derive(Clone)]
pub struct Refuse(pub Arc<dyn Fn(&Transaction) -> bool + Send + Sync>);

impl fmt::Debug for Refuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refuse(..)")
    }
}

/// How new blocks are announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// As the peer asked: compact block, headers, or inv.
    #[default]
    AsAsked,
    /// By inv whatever the peer asked.
    InvOnly,
}

/// How the node behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Unix time at `Instant(0)`, seconds.
    pub unix_start: UnixTime,
    /// Serves compact filters and says so.
    pub filters: bool,
    /// Says that it knows BIP324 (NODE_P2P_V2); whether it does is its host's business.
    pub v2: bool,
    /// The filter of a new block can be had only after this; the block is announced at once all the same, as Bitcoin
    /// Core does. Requests that reach beyond the index get no answer.
    pub filter_delay: Duration,
    /// From acceptance of a transaction to its announcement.
    pub tx_delay: Duration,
    /// Sends a BIP434 `feature` message before `verack`, and protocol version 70017.
    pub feature: bool,
    /// Form of announcements.
    pub form: Form,
    /// Refuses valid transactions.
    pub refuse: Option<Refuse>,
    /// Answers `mempool` (as with the permission of that name); otherwise the peer that asks is dropped.
    pub mempool: bool,
    /// Told by `feefilter`, satoshi per 1,000 virtual bytes. Not enforced.
    pub fee_filter: u64,
    /// Given on `getaddr`.
    pub addresses: Vec<SocketAddr>,
    /// User agent (BIP14).
    pub user_agent: String,
    /// While more bytes than this wait to be sent to a peer, its requests are not read and transactions are not announced
    /// to it (Bitcoin Core -maxsendbuffer). Only for callers that report what they have sent.
    pub window: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            unix_start: 1_700_000_000,
            filters: true,
            v2: false,
            filter_delay: Duration::ZERO,
            tx_delay: Duration::ZERO,
            feature: false,
            form: Form::AsAsked,
            refuse: None,
            mempool: true,
            fee_filter: 1_000,
            addresses: Vec::new(),
            user_agent: "/breakwater-stub:0.1.0/".to_owned(),
            window: usize::MAX,
        }
    }
}

/// Why the node drops a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Dropped {
    /// Wrong magic or a message above 4,000,000 bytes.
    #[error("peer sent bytes that are no message of this network")]
    Framing,
    /// More entries than the protocol allows.
    #[error("peer sent {0} entries, more than the protocol allows")]
    TooMany(u64),
    /// A protocol version too old.
    #[error("peer speaks protocol version {0}, expected at least 31800")]
    Old(u32),
    /// `wtxidrelay` or `sendaddrv2` after `verack`.
    #[error("peer sent a handshake message after verack")]
    LateFeature,
    /// A filter request with an unknown type, stop or range.
    #[error("peer sent a filter request of unknown type, stop hash or range")]
    FilterRequest,
    /// `mempool` or a bloom filter without the service.
    #[error("peer asked for a service that is not offered")]
    Service,
    /// Positions that the block does not have.
    #[error("peer asked for transactions that the block does not have")]
    BlockTxn,
    /// Bytes nobody reads.
    #[error("peer sent more than is kept while the node is silent")]
    Inbox,
}

/// What the caller has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send these bytes, after those given before for this peer.
    Send(PeerId, Bytes),
    /// Close the connection; the node has forgotten the peer already.
    Disconnect(PeerId, Dropped),
}

/// What happened, as totals since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    /// `tx` messages received.
    pub txs_received: u64,
    /// Of these, accepted (orphans when their parent came).
    pub txs_accepted: u64,
    /// Of these, refused.
    pub txs_refused: u64,
    /// Of these, received although they waited already: submitted twice.
    pub txs_again: u64,
    /// Whole blocks sent, with or without witness.
    pub blocks_served: u64,
    /// Compact blocks sent, announced or asked for.
    pub compact_served: u64,
    /// `cfilter` messages sent.
    pub filters_served: u64,
    /// Peers dropped.
    pub dropped: u64,
}

/// A node.
#[derive(Debug)]
pub struct StubNode {
    chain: StubChain,
    options: Options,
    rng: SmallRng,
    peers: BTreeMap<PeerId, Peer>,
    outputs: VecDeque<Output>,
    silent: bool,
    /// The tip that peers have been told.
    announced: Hash,
    /// Number of the last transaction that has been queued for peers.
    queued: u64,
    index: FilterIndex,
    hearing: Hearing,
    counters: Counters,
}

impl StubNode {
    /// A node with this chain. `seed`: for nonces.
    pub fn new(chain: StubChain, seed: u64, options: Options) -> StubNode {
        StubNode {
            announced: chain.tip_hash(),
            queued: chain.mempool().arrivals(),
            index: FilterIndex::new(chain.tip_hash()),
            chain,
            options,
            rng: SmallRng::seed_from_u64(seed),
            peers: BTreeMap::new(),
            outputs: VecDeque::new(),
            silent: false,
            hearing: Hearing::default(),
            counters: Counters::default(),
        }
    }

    /// The chain.
    pub fn chain(&self) -> &StubChain {
        &self.chain
    }

    /// The chain, to mine or to add transactions. Call `tick` afterwards, so that peers hear of it.
    pub fn chain_mut(&mut self) -> &mut StubChain {
        &mut self.chain
    }

    /// The chain, when the node ends (to begin another with it).
    pub fn into_chain(self) -> StubChain {
        self.chain
    }

    /// How it behaves; changes count from the next call on.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Number of peers.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// A silent node reads nothing and says nothing, as a process that hangs. What came meanwhile is read at the next
    /// `tick` after the end of the silence.
    pub fn set_silent(&mut self, silent: bool) {
        self.silent = silent;
    }

    /// A peer has connected.
    pub fn connected(&mut self, now: Instant, peer: PeerId, addr: SocketAddr) {
        self.peers.insert(peer, Peer::new(now, addr));
    }

    /// A peer has gone.
    pub fn disconnected(&mut self, now: Instant, peer: PeerId) {
        self.peers.remove(&peer);
        // A silent node asks nobody; what it asked of this peer runs out by itself.
        if !self.silent {
            self.peer_left(now, peer);
        }
    }

    /// Bytes have come, split in any way.
    pub fn received(&mut self, now: Instant, peer: PeerId, bytes: &[u8]) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.inbox.extend_from_slice(bytes);
        if self.silent {
            if state.inbox.len() > MAX_INBOX {
                self.drop_peer(now, peer, Dropped::Inbox);
            }
            return;
        }
        self.notice(now);
        self.read(now, peer);
        self.notice(now);
    }

    /// Does what is due: announcements, pings, requests repeated.
    pub fn tick(&mut self, now: Instant) {
        if self.silent {
            return;
        }
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.read(now, peer);
            if self.peers.get(&peer).is_some_and(|p| p.ready && p.ping_at <= now) {
                self.ping(now, peer);
            }
        }
        self.ask_again(now);
        self.notice(now);
    }

    /// When `tick` is due next; [`Instant::FAR`] when nothing is.
    pub fn next_wake(&self) -> Instant {
        if self.silent {
            return Instant::FAR;
        }
        let peers = self.peers.values().map(|peer| peer.wake(self.options.window)).min();
        peers.unwrap_or(Instant::FAR).min(self.hearing.wake())
    }

    /// The next thing to do, in order.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Outputs for this peer have left: so many messages of so many bytes. Call `tick` afterwards.
    pub fn sent(&mut self, peer: PeerId, messages: usize, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.unsent = peer.unsent.saturating_sub(bytes + messages * cost(0));
        }
    }

    /// True exactly when so much waits for the peer that nothing more shall be read from it.
    pub fn is_full(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.unsent > self.options.window)
    }

    fn send(&mut self, id: PeerId, bytes: Bytes) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.unsent = peer.unsent.saturating_add(cost(bytes.len()));
            self.outputs.push_back(Output::Send(id, bytes));
        }
    }

    fn write(&mut self, peer: PeerId, fill: impl FnOnce(&mut Vec<u8>)) {
        self.send(peer, built(fill));
    }

    fn drop_peer(&mut self, now: Instant, peer: PeerId, why: Dropped) {
        if self.peers.remove(&peer).is_some() {
            self.counters.dropped += 1;
            self.outputs.push_back(Output::Disconnect(peer, why));
            if !self.silent {
                self.peer_left(now, peer);
            }
        }
    }

    /// Reads the whole messages in a peer's inbox.
    fn read(&mut self, now: Instant, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer).filter(|state| !state.inbox.is_empty()) else { return };
        let mut inbox = std::mem::take(&mut state.inbox);
        let mut used = 0;
        while self.peers.contains_key(&peer) && !self.is_full(peer) {
            match split(MAGIC, &inbox[used..]) {
                Step::Need(_) => break,
                Step::Drop { used: bytes, .. } => used += bytes,
                Step::End(_) => self.drop_peer(now, peer, Dropped::Framing),
                Step::Message { command, payload, used: bytes } => {
                    match parse(&command, payload) {
                        Ok(message) => self.message(now, peer, message),
                        Err(WireError::TooMany(count)) => self.drop_peer(now, peer, Dropped::TooMany(count)),
                        Err(_) => {}
                    }
                    used += bytes;
                }
            }
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            inbox.drain(..used);
            state.inbox = inbox;
        }
    }

    fn message(&mut self, now: Instant, from: PeerId, message: Message<'_>) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        match message {
            Message::Version(version) => self.version(now, from, &version),
            _ if !peer.versioned => {}
            Message::WtxidRelay | Message::SendAddrV2 if peer.ready => {
                self.drop_peer(now, from, Dropped::LateFeature);
            }
            Message::WtxidRelay => peer.wtxid = true,
            Message::SendAddrV2 => peer.addrv2 = true,
            Message::Verack if !peer.ready => {
                peer.ready = true;
                self.greet(now, from);
            }
            Message::SendHeaders => peer.send_headers = true,
            Message::SendCmpct { announce, version: 2 } => peer.compact = announce,
            Message::FeeFilter(rate) => peer.fee_filter = rate,
            _ if !peer.ready => {}
            Message::Ping(nonce) => self.write(from, |out| write::pong(out, MAGIC, nonce)),
            Message::GetHeaders { locator, stop } => self.get_headers(from, locator, &stop),
            Message::GetBlocks { locator, stop } => self.get_blocks(from, locator, &stop),
            Message::GetData(list) => self.get_data(from, list),
            Message::GetBlockTxn { block, indexes } => self.get_block_txn(now, from, &block, indexes),
            Message::Headers(list) => {
                if let Some(last) = list.iter().last() {
                    peer.told = Some(crate::wire::sha256d(last));
                }
            }
            Message::Inv(list) => self.inv(now, from, list),
            Message::NotFound(list) => self.not_found(now, from, list),
            Message::Tx(bytes) => self.tx(now, from, bytes),
            Message::Mempool if self.options.mempool => self.mempool(from),
            Message::Mempool | Message::Bloom => self.drop_peer(now, from, Dropped::Service),
            Message::GetCFilters { filter_type, start, stop } => {
                self.get_cfilters(now, from, filter_type, start, &stop);
            }
            Message::GetCFHeaders { filter_type, start, stop } => {
                self.get_cfheaders(now, from, filter_type, start, &stop);
            }
            Message::GetCFCheckpt { filter_type, stop } => self.get_cfcheckpt(now, from, filter_type, &stop),
            Message::GetAddr => self.get_addr(now, from),
            _ => {}
        }
    }

    /// Answers `version` in the order of Bitcoin Core; a second one is ignored.
    fn version(&mut self, now: Instant, from: PeerId, theirs: &Version<'_>) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.versioned {
            return;
        }
        if theirs.version < MIN_PROTOCOL_VERSION {
            return self.drop_peer(now, from, Dropped::Old(theirs.version));
        }
        peer.versioned = true;
        peer.relay = theirs.relay;
        let receiver = peer.addr;
        let ours = Version {
            version: PROTOCOL_VERSION + u32::from(self.options.feature),
            services: self.services(),
            time: i64::try_from(self.unix(now)).unwrap_or(i64::MAX),
            receiver,
            nonce: self.rng.random(),
            user_agent: self.options.user_agent.as_bytes(),
            start_height: i32::try_from(self.chain.height()).unwrap_or(i32::MAX),
            relay: true,
        };
        let feature = self.options.feature;
        let greeting = built(|out| {
            write::version(out, MAGIC, &ours);
            if theirs.version >= WTXID_RELAY_VERSION {
                write::empty(out, MAGIC, "wtxidrelay");
            }
            write::empty(out, MAGIC, "sendaddrv2");
            if feature {
                write::raw(out, MAGIC, "feature", b"\x04stub\x01\x01");
            }
            write::empty(out, MAGIC, "verack");
        });
        self.send(from, greeting);
    }

    /// What follows `verack`.
    fn greet(&mut self, now: Instant, peer: PeerId) {
        self.write(peer, |out| write::send_cmpct(out, MAGIC, false, 2));
        self.ping(now, peer);
        let (tip, fee) = (self.chain.tip_hash(), self.options.fee_filter);
        self.write(peer, |out| {
            write::locator(out, MAGIC, "getheaders", [tip].iter(), &[0; 32]);
            write::empty(out, MAGIC, "sendheaders");
            write::fee_filter(out, MAGIC, fee);
        });
    }

    fn ping(&mut self, now: Instant, peer: PeerId) {
        let nonce = self.rng.random();
        if let Some(state) = self.peers.get_mut(&peer) {
            state.ping_at = now + PING_INTERVAL;
        }
        self.write(peer, |out| write::ping(out, MAGIC, nonce));
    }

    fn services(&self) -> Services {
        let mut services = Services::NETWORK | Services::WITNESS | Services::NETWORK_LIMITED;
        services.set(Services::COMPACT_FILTERS, self.options.filters);
        services.set(Services::P2P_V2, self.options.v2);
        services
    }

    fn unix(&self, now: Instant) -> UnixTime {
        self.options.unix_start + u64::from(now.secs())
    }
}
