//! The hub: one sans-IO state machine between the nodes and the shards.
//!
//! [`Input`]s and the time go in, [`Output`]s come out, in order. The product drives it with tokio-uring
//! (`hub::driver`), the simulator in `tests/sim` drives the same code with a seeded network, disk and clock. It opens no
//! socket, spawns nothing, asks no clock; its files it reaches through the store's `Disk`.
//!
//! ```text
//!     nodes     links: opening, back-off, loss
//!     headers   which chain is the best, and telling the shards of a new tip
//!     blocks    fetching blocks: the tip's, and those missing in the store
//!     early     compact blocks, held back until a node vouches for them
//!     filters   compact filters and their headers
//!     txs       transactions of nodes: mempool, telling the shards
//!     submit    transactions of clients on their way to a node, and the verdict
//!     flights   those a node is busy with
//!     wants     questions of clients that shards cannot answer
//!     line      in which order these go to nodes
//!     policy    what clients are promised, and when they are let in
//!     addresses what getaddr is answered
//!     keeper    what goes to the store, and when
//!     event     inputs, outputs, events, counters
//! ```
//!
//! Invariants: a block reaches shards only after a node gave its header in a `headers` message, which nodes do for
//! blocks they have validated; a transaction reaches shards only after a node gave or announced it; everything that waits
//! has a bound and a deadline; iteration orders are deterministic, so that a seed replays.

#![forbid(unsafe_code)]

mod addresses;
mod blocks;
mod early;
mod event;
mod filters;
mod flights;
mod headers;
mod keeper;
mod line;
mod nodes;
mod operate;
mod policy;
mod submit;
mod txs;
mod wants;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

pub use event::{HubConfig, HubCounters, HubEvent, Input, LinkId, NodeAddr, Output, Speak};

use crate::base::limits::{HEADER_LEN, HUB_TICK};
use crate::base::{ClientRef, End, Instant, ShardId, UnixTime};
use crate::feed::ChainView;
use crate::hub::chain::{Chain, ChainCounters, HeaderError};
use crate::hub::session::{Break, Heard};
use crate::hub::store::{Opened, Store, StoreCounters};
use crate::hub::submissions::{Sender, SubmissionCounters};
use crate::link::{ToHub, ToShard};
use crate::wire::{self, Command, Framing, Magic, Message, Step, WireError, write};

/// A message of a node.
struct Frame<'a> {
    command: Command,
    payload: &'a [u8],
    /// The frame it came in, when that was v1.
    v1: Option<&'a [u8]>,
}

impl Frame<'_> {
    /// As it is stored and given to clients. Only what is kept in this form costs a checksum in BIP324.
    fn as_v1(&self, magic: Magic) -> Cow<'_, [u8]> {
        match self.v1 {
            Some(frame) => Cow::Borrowed(frame),
            None => {
                let mut frame = Vec::with_capacity(HEADER_LEN + self.payload.len());
                write::raw(&mut frame, magic, self.command.name(), self.payload);
                Cow::Owned(frame)
            }
        }
    }
}

fn v1(framing: Framing, bytes: &[u8]) -> Option<&[u8]> {
    matches!(framing, Framing::V1(_)).then_some(bytes)
}

/// The hub.
pub struct Hub {
    config: HubConfig,
    magic: Magic,
    now: Instant,
    unix: UnixTime,
    wake: Instant,
    rng: SmallRng,
    out: VecDeque<Output>,
    nodes: nodes::Nodes,
    chain: Chain,
    /// When the best chain changed last.
    tip_since: Instant,
    /// Links on which getheaders is to be sent at an instant.
    headers_due: BTreeMap<LinkId, Instant>,
    keeper: keeper::Keeper,
    blocks: blocks::Blocks,
    filters: filters::Filters,
    txs: txs::Txs,
    wants: wants::Wants,
    promise: policy::Promise,
    addresses: addresses::Addresses,
    /// What the shards believe.
    published: Option<Arc<ChainView>>,
    /// After `Drain`: how many shards have not ended.
    drained: Option<u16>,
    counters: HubCounters,
}

impl Hub {
    /// Begins with what the store has.
    ///
    /// # Errors
    /// The stored chain does not begin with the network's genesis block.
    pub fn new(
        config: HubConfig,
        store: Store,
        opened: Opened,
        now: Instant,
        unix: UnixTime,
    ) -> Result<Hub, HeaderError> {
        let stored = opened.frozen.len() + opened.recent.len() as u32;
        let chain = Chain::new(config.network, opened.frozen, opened.recent)?;
        let stored_filters = chain.filters_to().map_or(0, |to| to + 1);
        let headers_from = stored.min(chain.len());
        let mut hub = Hub {
            magic: config.network.magic().to_bytes(),
            now,
            unix,
            wake: now,
            rng: SmallRng::seed_from_u64(config.seed),
            out: opened.repairs.into_iter().map(|text| Output::Event(HubEvent::Repair(text))).collect(),
            nodes: nodes::Nodes::new(&config.nodes),
            tip_since: now,
            headers_due: BTreeMap::new(),
            keeper: keeper::Keeper::new(store, config.keep, headers_from, stored_filters),
            blocks: blocks::Blocks::default(),
            filters: filters::Filters::new(),
            txs: txs::Txs::new(config.mempool_bytes),
            wants: wants::Wants::default(),
            promise: policy::Promise::new(now),
            addresses: addresses::Addresses::new(),
            published: None,
            drained: None,
            counters: HubCounters::default(),
            chain,
            config,
        };
        hub.recall_newest();
        Ok(hub)
    }

    /// Takes the newest stored blocks into memory.
    fn recall_newest(&mut self) {
        let tip = self.chain.tip().0;
        let first = (tip + 1).saturating_sub(crate::base::limits::RECENT_BLOCKS as u32).max(1);
        for height in first..=tip {
            if let Some(hash) = self.chain.best_hash(height).copied() {
                self.recall(&hash);
            }
        }
        self.take_damage();
    }

    /// Something has happened.
    pub fn handle(&mut self, now: Instant, unix: UnixTime, input: Input<'_>) {
        self.now = now.max(self.now);
        self.unix = unix;
        match input {
            Input::Connected { link, v2 } => self.connected(link, v2),
            Input::NotV2 { link } => self.not_v2(link),
            Input::ConnectFailed { link, error } => {
                self.counters.connect_failures += 1;
                self.lost(link, format!("cannot connect: {error}"));
            }
            Input::Bytes { link, data } => self.bytes(link, data),
            Input::Closed { link, error } => {
                self.lost(link, error.unwrap_or_else(|| "the node closed the connection".into()));
            }
            Input::FromShard { shard, entry } => self.shard_says(shard, entry),
            Input::Drain => self.drain(),
        }
    }

    /// Time has passed; call at [`Hub::next_wake`] at the latest, more often does no harm.
    pub fn tick(&mut self, now: Instant, unix: UnixTime) {
        self.now = now.max(self.now);
        self.unix = unix;
        self.wake = self.now + HUB_TICK;
        if self.drained.is_none() {
            self.tick_nodes();
            self.tick_blocks();
            self.tick_filters();
            self.tick_wants();
            self.tick_policy();
            self.tick_addresses();
        }
        self.tick_txs();
        self.tick_store();
    }

    /// The network's magic.
    pub fn magic(&self) -> Magic {
        self.magic
    }

    /// When `tick` is due.
    pub fn next_wake(&self) -> Instant {
        self.wake
    }

    /// The next thing to do.
    pub fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// What has been counted.
    pub fn counters(&self) -> &HubCounters {
        &self.counters
    }

    /// What the chain has counted.
    pub fn chain_counters(&self) -> ChainCounters {
        self.chain.counters()
    }

    /// What the store has counted.
    pub fn store_counters(&self) -> StoreCounters {
        self.keeper.store.counters()
    }

    /// Height and hash of the best chain's tip.
    pub fn tip(&self) -> (u32, wire::Hash) {
        self.chain.tip()
    }

    /// Transactions in the mempool and their bytes.
    pub fn mempool_size(&self) -> (usize, usize) {
        (self.txs.mempool.len(), self.txs.mempool.bytes())
    }

    /// Transactions of clients that wait for their turn at a node, that wait for a verdict, and that nodes have not dealt with.
    pub fn submissions(&self) -> (usize, usize, usize) {
        let (waiting, submitted) = self.txs.submissions.held();
        (waiting, submitted, self.txs.flights.len())
    }

    /// What has been counted of transactions of clients.
    pub fn submission_counters(&self) -> SubmissionCounters {
        self.txs.submissions.counters()
    }

    /// True exactly when every shard has ended after `Drain`.
    pub fn is_drained(&self) -> bool {
        self.drained == Some(0)
    }

    /// Writes and syncs all that waits; for the end of the process.
    pub fn close(&mut self) {
        for _ in 0..64 {
            self.flush_store();
        }
        self.sync_store();
    }

    fn wake_at(&mut self, at: Instant) {
        self.wake = self.wake.min(at);
    }

    fn drain(&mut self) {
        if self.drained.is_none() {
            self.drained = Some(self.config.shards);
            self.tell_all(&ToShard::Drain);
        }
    }

    fn tell(&mut self, shard: ShardId, entry: ToShard) {
        self.out.push_back(Output::ToShard { shard, entry });
    }

    fn tell_all(&mut self, entry: &ToShard) {
        for shard in 0..self.config.shards {
            self.tell(ShardId(shard), entry.clone());
        }
    }

    fn shard_says(&mut self, shard: ShardId, entry: ToHub) {
        let client = |id| ClientRef { shard, id };
        match entry {
            ToHub::TxAnnounced { client: id, host, inv } => {
                self.client_announces(Sender { client: client(id), host }, inv);
            }
            ToHub::Tx { client: id, host, txid, wtxid, tx } => {
                self.client_sends(Sender { client: client(id), host }, txid, wtxid, tx);
            }
            ToHub::TxNotFound { client: id, inv } => self.client_lacks(client(id), inv),
            ToHub::Want { client, id, want } => self.on_want(shard, client, id, want),
            // Reports are the control room's, answers the desk's; the driver hands them on before they come here.
            ToHub::Report(_)
            | ToHub::Told(..)
            | ToHub::Came(_)
            | ToHub::Gone(_)
            | ToHub::Used(_)
            | ToHub::Changed(_) => {}
            ToHub::Ended => self.drained = self.drained.map(|left| left.saturating_sub(1)),
        }
    }

    /// Cuts the bytes of a link into messages and handles each.
    fn bytes(&mut self, id: LinkId, data: &[u8]) {
        let now = self.now;
        self.counters.bytes_in += data.len() as u64;
        let Some(link) = self.nodes.links.get_mut(&id) else { return };
        let Some(session) = link.session.as_mut() else { return };
        session.alive(now);
        let framing = if link.v2.is_some() { Framing::V2 } else { Framing::V1(self.magic) };
        let mut buffer = std::mem::take(&mut link.buffer);
        buffer.extend_from_slice(data);
        let mut at = 0;
        loop {
            let why = match framing.split(&buffer[at..]) {
                Step::Need(_) => break,
                Step::Drop { used, .. } => {
                    self.counters.bad_messages += 1;
                    at += used;
                    continue;
                }
                Step::End(End::Oversize) => Break::Oversize,
                Step::End(_) => Break::WrongMagic,
                Step::Message { command, payload, used } => {
                    let frame = Frame { command, payload, v1: v1(framing, &buffer[at..at + used]) };
                    at += used;
                    match self.message(id, &frame) {
                        Ok(()) => continue,
                        Err(why) => why,
                    }
                }
            };
            self.leave(id, why);
            return;
        }
        // The link may have gone with what it said.
        if let Some(link) = self.nodes.links.get_mut(&id) {
            buffer.drain(..at);
            // A block's buffer is not kept for pings.
            if buffer.is_empty() && buffer.capacity() > 64 * 1024 {
                buffer = Vec::new();
            }
            link.buffer = buffer;
        }
    }

    fn message(&mut self, id: LinkId, frame: &Frame<'_>) -> Result<(), Break> {
        let command = &frame.command;
        self.counters.messages_in += 1;
        if command.name() == "reject" {
            self.on_reject(frame.payload);
            return Ok(());
        }
        let message = match wire::parse(command, frame.payload) {
            Ok(message) => message,
            Err(error @ WireError::TooMany(_)) => {
                return Err(Break::BadMessage { command: command.name().to_owned(), error });
            }
            Err(_) => {
                self.counters.bad_messages += 1;
                return Ok(());
            }
        };
        let Some(session) = self.nodes.links.get_mut(&id).and_then(|link| link.session.as_mut()) else {
            return Ok(());
        };
        let mut out = Vec::new();
        let heard = session.hear(&message, &mut out);
        self.send_bytes(id, out);
        match heard? {
            Heard::Handled => Ok(()),
            Heard::Ready => {
                self.link_ready(id);
                Ok(())
            }
            Heard::HandOn => self.dispatch(id, &message, frame),
        }
    }

    fn dispatch(&mut self, id: LinkId, message: &Message<'_>, frame: &Frame<'_>) -> Result<(), Break> {
        match message {
            Message::Headers(list) => self.on_headers(id, *list)?,
            Message::Block(_) => self.on_block(id, &frame.as_v1(self.magic))?,
            Message::CmpctBlock(payload) => self.on_cmpct(id, payload)?,
            Message::BlockTxn(payload) => self.on_blocktxn(id, payload),
            Message::CFHeaders { stop, previous, hashes, .. } => {
                self.on_cfheaders(id, stop, previous, *hashes)?
            }
            Message::CFilter { filter_type: 0, block, filter } => {
                self.on_cfilter(id, block, filter, &frame.as_v1(self.magic))?
            }
            Message::Inv(list) => self.on_inv(id, *list),
            Message::Tx(_) => self.on_tx(id, &frame.as_v1(self.magic)),
            Message::GetData(list) => self.on_getdata(id, *list),
            Message::NotFound(list) => self.on_notfound(id, *list),
            Message::Pong(nonce) => self.on_pong(id, *nonce),
            Message::Addr(payload, count) => self.on_addr(payload, *count),
            Message::AddrV2(payload, count) => self.on_addrv2(payload, *count),
            Message::FeeFilter(rate) => self.on_fee_filter(id, *rate),
            Message::GetHeaders { locator, stop } => self.on_getheaders(id, *locator, stop),
            _ => {}
        }
        Ok(())
    }

    fn on_fee_filter(&mut self, id: LinkId, rate: u64) {
        if let Some(node) = self.nodes.of(id)
            && let Some(peer) = self.nodes.list[node].peer.as_mut()
        {
            peer.fee_filter = rate;
            self.policy_changed();
        }
    }
}
