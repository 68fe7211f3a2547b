//! Questions of clients that their shard cannot answer: from memory, from the store, or one request upstream however
//! many ask.
//!
//! Every question gets exactly one answer, at the latest `Missing` after `ON_DEMAND_TIMEOUT`. At most `MAX_WANTS` wait;
//! the rest is refused at once and counted. Upstream requests go over a rare link, opened for the purpose; while that
//! is not ready after `RARE_PATIENCE`, over main. Which goes first is up to `line`; nothing here looks at all that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::blocks::Why;
use super::keeper::Piece;
use super::line::{Lane, Line};
use super::{Hub, LinkId};
use crate::base::limits::{
    FILE_EXTENT, LIMITED_BLOCKS, MAX_CFILTERS, MAX_CMPCTBLOCK_DEPTH, MAX_INV, MAX_WANTS, ON_DEMAND_TIMEOUT,
    RARE_IN_FLIGHT, RARE_PATIENCE,
};
use crate::base::{ClientId, Instant, ShardId};
use crate::hub::compact;
use crate::hub::session::LinkKind;
use crate::link::{Answer, ToShard, Want, WantId};
use crate::wire::{Hash, Inv, InvKind, Services, write};

/// Pause before what failed is asked of the next node.
const WANT_RETRY: Duration = Duration::from_millis(100);

/// What is fetched upstream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Block(Hash),
    /// Heights and the hash at the last one, so that a reorganisation makes it another key.
    Filters(u32, u32, Hash),
}

/// Kinds of upstream requests that wait apart: nodes without filters give blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Block,
    Filters,
}

/// Who waits, and for which form.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    shard: ShardId,
    client: ClientId,
    id: WantId,
    stripped: bool,
}

#[derive(Debug)]
struct Fetch {
    waiters: Vec<Waiter>,
    since: Instant,
    /// How many times it failed; the next able node is asked then.
    failed: usize,
    /// Filters that have come, by height.
    filters: BTreeMap<u32, Bytes>,
}

/// All that waits. Each fetch is in the line and, by its age, in `ages`.
#[derive(Debug, Default)]
pub(super) struct Wants {
    fetches: BTreeMap<Key, Fetch>,
    line: Line<Key, Kind>,
    ages: BTreeSet<(Instant, Key)>,
    waiting: usize,
}

impl Wants {
    fn take(&mut self, key: &Key) -> Option<Fetch> {
        let fetch = self.fetches.remove(key)?;
        self.line.remove(key);
        self.ages.remove(&(fetch.since, *key));
        self.waiting -= fetch.waiters.len();
        Some(fetch)
    }
}

impl Hub {
    pub(super) fn on_want(&mut self, shard: ShardId, client: ClientId, id: WantId, want: Want) {
        self.counters.wants += 1;
        let waiter = Waiter { shard, client, id, stripped: matches!(want, Want::StrippedBlock(_)) };
        match want {
            Want::Block(hash) | Want::StrippedBlock(hash) => self.want_block(waiter, hash),
            Want::CompactBlock(hash) => self.want_compact(waiter, hash),
            Want::Filters { start, stop } => self.want_filters(waiter, start, stop),
            Want::Tx { hash, by_wtxid } => {
                let kind = if by_wtxid { InvKind::Wtx } else { InvKind::Tx };
                let message = self.txs.mempool.get(&Inv { kind, hash }).map(|entry| entry.message.clone());
                self.answer_memory(waiter, message);
            }
            Want::Mempool { by_wtxid } => {
                let mut out = Vec::new();
                for chunk in self.txs.mempool.inv(by_wtxid).chunks(MAX_INV) {
                    write::inventory(&mut out, self.magic, "inv", chunk.iter().copied());
                }
                self.answer_memory(waiter, Some(out.into()));
            }
        }
    }

    fn answer(&mut self, to: Waiter, answer: Answer) {
        if matches!(answer, Answer::Missing) {
            self.counters.wants_missing += 1;
        }
        let entry = ToShard::Answer { client: to.client, id: to.id, answer };
        self.tell(to.shard, entry);
    }

    fn answer_memory(&mut self, to: Waiter, message: Option<Bytes>) {
        match message {
            Some(message) => {
                self.counters.wants_memory += 1;
                self.answer(to, Answer::Bytes(message));
            }
            None => self.answer(to, Answer::Missing),
        }
    }

    fn want_compact(&mut self, waiter: Waiter, hash: Hash) {
        let tip = self.chain.tip().0;
        match self.blocks.recent.get(&hash).filter(|news| news.height + MAX_CMPCTBLOCK_DEPTH >= tip).cloned()
        {
            Some(news) => self.answer_memory(waiter, Some(news.cmpct.clone())),
            None => self.want_block(waiter, hash),
        }
    }

    fn want_block(&mut self, waiter: Waiter, hash: Hash) {
        let recent = self.blocks.recent.get(&hash).map(|news| news.block.clone());
        let memory = recent.or_else(|| self.keeper.in_memory(&Piece::Block(hash)).cloned());
        if let Some(message) = memory {
            let message = if waiter.stripped { compact::strip(&message).ok() } else { Some(message) };
            self.answer_memory(waiter, message);
            return;
        }
        let stored = match waiter.stripped {
            true => {
                let whole = self.keeper.store.read_block(&hash);
                whole.and_then(|whole| compact::strip(&whole).ok()).map(Answer::Bytes)
            }
            false => self.keeper.block(&hash).map(|extent| Answer::Extents([extent].into())),
        };
        if let Some(answer) = stored {
            self.counters.wants_store += 1;
            self.answer(waiter, answer);
            return;
        }
        self.take_damage();
        let Some(height) = self.chain.height_of_known(&hash) else {
            self.answer(waiter, Answer::Missing);
            return;
        };
        self.fetch(Key::Block(hash), waiter, height);
    }

    fn want_filters(&mut self, waiter: Waiter, start: u32, stop: u32) {
        let known = self.chain.filters_to();
        let Some(stop_hash) =
            self.chain.best_hash(stop).copied().filter(|_| known.is_some_and(|to| stop <= to))
        else {
            self.answer(waiter, Answer::Missing);
            return;
        };
        if start > stop || stop - start >= MAX_CFILTERS {
            self.answer(waiter, Answer::Missing);
            return;
        }
        let hashes: Vec<Hash> = (start..=stop).map_while(|h| self.chain.best_hash(h).copied()).collect();
        if let Some(extents) = self.keeper.store.filters(&hashes, FILE_EXTENT) {
            self.counters.wants_store += 1;
            self.answer(waiter, Answer::Extents(extents.into()));
            return;
        }
        self.take_damage();
        if let Some(message) = self.filters_from_memory(&hashes) {
            self.answer_memory(waiter, Some(message));
            return;
        }
        self.fetch(Key::Filters(start, stop, stop_hash), waiter, start);
    }

    /// Some of a range is written and some is not yet: put together here.
    fn filters_from_memory(&mut self, hashes: &[Hash]) -> Option<Bytes> {
        if !hashes.iter().all(|hash| self.keeper.has(&Piece::Filter(*hash))) {
            return None;
        }
        let mut out = BytesMut::new();
        for hash in hashes {
            match self.keeper.in_memory(&Piece::Filter(*hash)) {
                Some(message) => out.extend_from_slice(message),
                None => {
                    for extent in self.keeper.store.filters(std::slice::from_ref(hash), FILE_EXTENT)? {
                        let at = out.len();
                        out.resize(at + extent.len as usize, 0);
                        let read = extent.file.read_at(extent.offset, &mut out[at..]).ok()?;
                        (read == extent.len as usize).then_some(())?;
                    }
                }
            }
        }
        Some(out.freeze())
    }

    /// Joins a request under way or begins one.
    fn fetch(&mut self, key: Key, waiter: Waiter, height: u32) {
        if self.wants.waiting >= MAX_WANTS || self.want_source(&key, height, 0).is_none() {
            if self.wants.waiting >= MAX_WANTS {
                self.counters.wants_refused += 1;
            }
            self.answer(waiter, Answer::Missing);
            return;
        }
        self.wants.waiting += 1;
        let now = self.now;
        self.wake_at(now + ON_DEMAND_TIMEOUT);
        let mut fresh = false;
        let fetch = self.wants.fetches.entry(key).or_insert_with(|| {
            fresh = true;
            Fetch { waiters: Vec::new(), since: now, failed: 0, filters: BTreeMap::new() }
        });
        fetch.waiters.push(waiter);
        if fresh {
            self.wants.ages.insert((now, key));
            self.line_up(key);
        }
        self.pump_wants();
    }

    /// Puts a fetch at the end of the line.
    fn line_up(&mut self, key: Key) {
        let kind = if matches!(key, Key::Block(_)) { Kind::Block } else { Kind::Filters };
        // No node at the moment: any lane will do, it is looked at again when it is first there.
        let node = self.source_now(&key).unwrap_or(0);
        self.wants.line.join(key, (node, kind));
    }

    /// The node whose turn it is to give it.
    fn source_now(&self, key: &Key) -> Option<usize> {
        let failed = self.wants.fetches.get(key)?.failed;
        let height = match key {
            Key::Block(hash) => self.chain.height_of_known(hash).unwrap_or(0),
            Key::Filters(start, ..) => *start,
        };
        self.want_source(key, height, failed)
    }

    /// A node that can give it.
    fn want_source(&self, key: &Key, height: u32, failed: usize) -> Option<usize> {
        let deep = self.chain.tip().0.saturating_sub(height) >= LIMITED_BLOCKS;
        let able = |node: &super::nodes::Node| match key {
            Key::Block(_) => node.is_up() && (!deep || node.services.contains(Services::NETWORK)),
            Key::Filters(..) => node.has_filters(),
        };
        // A node asked for filters up to a block it does not have drops the link (BIP157).
        let has = |n: usize| match key {
            Key::Block(_) => true,
            Key::Filters(_, stop, _) => *stop <= self.has_up_to(n),
        };
        let nodes = 0..self.nodes.list.len();
        let able: Vec<usize> = nodes.filter(|n| able(&self.nodes.list[*n]) && has(*n)).collect();
        able.get(failed % able.len().max(1)).copied()
    }

    /// Sends what waits, as far as there are links and they have room: the first of each lane until it has to wait.
    pub(super) fn pump_wants(&mut self) {
        let mut stuck = BTreeSet::new();
        loop {
            let heads = self.wants.line.heads();
            let Some((lane, key)) = heads.into_iter().find(|(lane, _)| !stuck.contains(lane)) else { break };
            if !self.forward(lane, key) {
                stuck.insert(lane);
            }
        }
        self.counters.wants_steps = self.wants.line.steps();
    }

    /// Sends the first of a lane, or moves it to the lane where it belongs by now; false when it has to wait.
    fn forward(&mut self, lane: Lane<Kind>, key: Key) -> bool {
        let now = self.now;
        let Some(since) = self.wants.fetches.get(&key).map(|fetch| fetch.since) else {
            self.wants.line.remove(&key);
            return true;
        };
        let Some(node) = self.source_now(&key) else { return false };
        if node != lane.0 {
            self.wants.line.change_lane(key, (node, lane.1));
            return true;
        }
        let rare = self.nodes.ready_link(node, LinkKind::Rare);
        if rare.is_none() {
            self.open_line(node, LinkKind::Rare);
        }
        let main = || (now >= since + RARE_PATIENCE).then(|| self.nodes.ask_link(node)).flatten();
        let Some(link) = rare.or_else(main) else {
            self.wake_at((since + RARE_PATIENCE).max(now + WANT_RETRY));
            return false;
        };
        self.wants.line.count_on(link) < RARE_IN_FLIGHT && self.send_want(link, key)
    }

    /// False when it could not be sent: then it is last in the line.
    fn send_want(&mut self, link: LinkId, key: Key) -> bool {
        self.wants.line.sent(key, link);
        if let Some(entry) = self.nodes.links.get_mut(&link) {
            entry.used = self.now;
        }
        match key {
            // Already on its way for another reason: its arrival answers.
            Key::Block(hash) if self.blocks.asked.contains_key(&hash) => {}
            Key::Block(hash) => {
                self.counters.wants_upstream += 1;
                if !self.ask_block(hash, Why::Want, Some(link), Vec::new()) {
                    self.want_failed(hash);
                    return false;
                }
            }
            Key::Filters(start, _, stop_hash) => {
                self.counters.wants_upstream += 1;
                self.send(link, |out, magic| {
                    write::filter_request(out, magic, "getcfilters", start, &stop_hash);
                });
            }
        }
        true
    }

    /// A block has come: everybody who waits for it gets it.
    pub(super) fn answer_block(&mut self, hash: &Hash, message: &Bytes) {
        let Some(fetch) = self.wants.take(&Key::Block(*hash)) else { return };
        let mut stripped: Option<Option<Bytes>> = None;
        for waiter in fetch.waiters {
            self.counters.wants_node += 1;
            let bytes = match waiter.stripped {
                false => Some(message.clone()),
                true => stripped.get_or_insert_with(|| compact::strip(message).ok()).clone(),
            };
            self.answer(waiter, bytes.map_or(Answer::Missing, Answer::Bytes));
        }
        self.pump_wants();
    }

    /// A filter has come; true when somebody waits for it.
    pub(super) fn want_filter(&mut self, link: LinkId, height: u32, message: &Bytes) -> bool {
        let mut full = Vec::new();
        let mut wanted = false;
        for key in self.wants.line.on(link) {
            let Key::Filters(start, stop, _) = key else { continue };
            if (start..=stop).contains(&height)
                && let Some(fetch) = self.wants.fetches.get_mut(&key)
            {
                wanted = true;
                fetch.filters.insert(height, message.clone());
                if fetch.filters.len() as u32 == stop - start + 1 {
                    full.push(key);
                }
            }
        }
        for key in full {
            let Some(fetch) = self.wants.take(&key) else { continue };
            let all: Vec<u8> = fetch.filters.into_values().flatten().collect();
            let all = Bytes::from(all);
            for waiter in fetch.waiters {
                self.counters.wants_node += 1;
                self.answer(waiter, Answer::Bytes(all.clone()));
            }
        }
        if wanted {
            self.pump_wants();
        }
        wanted
    }

    /// The node asked does not have the block: another one, or nobody.
    pub(super) fn want_failed(&mut self, hash: Hash) {
        if self.wants.fetches.contains_key(&Key::Block(hash)) {
            self.again(Key::Block(hash));
            self.wake_at(self.now + WANT_RETRY);
        }
    }

    pub(super) fn wants_link_lost(&mut self, link: LinkId) {
        let lost: Vec<Key> = self.wants.line.on(link).collect();
        lost.into_iter().for_each(|key| self.again(key));
    }

    /// What failed is asked of the next node, behind all others: who asks for what nobody has keeps nobody waiting.
    fn again(&mut self, key: Key) {
        if let Some(fetch) = self.wants.fetches.get_mut(&key) {
            fetch.failed += 1;
            fetch.filters.clear();
        }
        self.line_up(key);
    }

    /// True exactly when a request of a client is under way on the link.
    pub(super) fn link_has_wants(&self, link: LinkId) -> bool {
        self.wants.line.count_on(link) > 0
    }

    pub(super) fn tick_wants(&mut self) {
        let now = self.now;
        while let Some((since, key)) = self.wants.ages.first().copied() {
            if now < since + ON_DEMAND_TIMEOUT {
                self.wake_at(since + ON_DEMAND_TIMEOUT);
                break;
            }
            let Some(fetch) = self.wants.take(&key) else { break };
            for waiter in fetch.waiters {
                self.answer(waiter, Answer::Missing);
            }
        }
        self.pump_wants();
    }
}
