//! Blocks: those announced now, and those missing in the store.
//!
//! A compact block that comes before a node has vouched for it is rebuilt at once and waits in `early`; it becomes a
//! block of ours when its header enters the chain. Everything else is asked for by `getdata`: one request per block,
//! at most `MAX_BLOCKS_IN_FLIGHT` per node, given to another node after a deadline, a `notfound` or a lost link.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::headers::Recent;
use super::keeper::Piece;
use super::{Hub, LinkId};
use crate::base::Instant;
use crate::base::limits::{
    HEADER_LEN, LIMITED_BLOCKS, MAX_BLOCKS_IN_FLIGHT, NODE_TIMEOUT, RECENT_BLOCKS, TIP_BLOCK_TIMEOUT,
};
use crate::hub::chain::Change;
use crate::hub::compact;
use crate::hub::session::Break;
use crate::wire::{Hash, Inv, InvKind, Services, sha256d, write};

/// Why a block is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Why {
    /// It is to be announced: short deadline.
    Tip,
    /// It belongs in the store.
    Keep,
    /// A client wants it.
    Want,
}

/// A request for a block.
#[derive(Debug)]
pub(super) struct Ask {
    link: LinkId,
    node: usize,
    deadline: Instant,
    why: Why,
    /// Nodes that did not give it; begins anew when all have been tried.
    tried: Vec<usize>,
}

/// State of the block download.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// The newest blocks in memory.
    pub(super) recent: Recent,
    pub(super) asked: BTreeMap<Hash, Ask>,
    pub(super) early: super::early::Early,
    /// Heights missing in the store, in the order in which they are fetched.
    todo: VecDeque<u32>,
    /// True exactly when `todo` has been made since start.
    pub(super) planned: bool,
    /// No request from `todo` before this.
    pause_until: Instant,
}

/// Pause after every node has failed to give a block.
const BLOCK_RETRY: Duration = Duration::from_millis(500);
/// Pause when no node can give any of the missing blocks (all pruned, say).
const BLOCK_RETRY_NOBODY: Duration = Duration::from_secs(5);

impl Blocks {
    /// True exactly when the block has been asked for on this link.
    pub(super) fn is_asked_on(&self, hash: &Hash, link: LinkId) -> bool {
        self.asked.get(hash).is_some_and(|ask| ask.link == link)
    }
}

impl Hub {
    /// Makes the list of blocks missing in the store: newest first for a window, in order for all.
    pub(super) fn plan_blocks(&mut self) {
        let (tip, _) = self.chain.tip();
        let start = self.keeper.window_start(tip);
        let missing = |height: &u32| {
            self.chain.best_hash(*height).is_some_and(|hash| !self.keeper.has(&Piece::Block(*hash)))
        };
        // Genesis is in nobody's block files but everybody's code; nodes do give it.
        self.blocks.todo = match start {
            0 => (0..=tip).filter(missing).collect(),
            _ => (start..=tip).rev().filter(missing).collect(),
        };
        // The tip comes first in any case: it makes the relay ready.
        if start == 0 && self.blocks.todo.back() == Some(&tip) {
            self.blocks.todo.rotate_right(1);
        }
        self.blocks.planned = true;
    }

    /// True exactly when every block of the kept window is in the store or asked for.
    pub(super) fn blocks_complete(&self) -> bool {
        self.blocks.planned
            && self.blocks.todo.is_empty()
            && !self.blocks.asked.values().any(|a| a.why == Why::Keep)
    }

    /// Asks for missing blocks as far as nodes have room.
    pub(super) fn pump_blocks(&mut self) {
        if !self.blocks.planned || self.now < self.blocks.pause_until {
            return;
        }
        // Once round at most: what no node can give goes to the back, so that it holds up nothing else.
        for _ in 0..self.blocks.todo.len() {
            let Some(height) = self.blocks.todo.pop_front() else { return };
            let Some(hash) = self.chain.best_hash(height).copied() else { continue };
            if self.blocks.asked.contains_key(&hash) || self.keeper.has(&Piece::Block(hash)) {
                continue;
            }
            if self.ask_block(hash, Why::Keep, None, Vec::new()) {
                continue;
            }
            if !self.any_room() {
                self.blocks.todo.push_front(height);
                return;
            }
            self.blocks.todo.push_back(height);
        }
        if !self.blocks.todo.is_empty() {
            self.pause_blocks(BLOCK_RETRY_NOBODY);
        }
    }

    fn pause_blocks(&mut self, pause: Duration) {
        self.blocks.pause_until = self.now + pause;
        self.wake_at(self.now + pause);
    }

    /// True exactly when some node may be asked for another old block.
    fn any_room(&self) -> bool {
        let nodes = 0..self.nodes.list.len();
        let links = nodes.filter(|n| self.nodes.list[*n].synced).filter_map(|n| self.nodes.ask_link(n));
        links.into_iter().any(|link| self.has_room(link, Why::Keep))
    }

    /// Asks for a block: on `prefer` when it has room, else on any link that may have it. False when none has room.
    pub(super) fn ask_block(
        &mut self,
        hash: Hash,
        why: Why,
        prefer: Option<LinkId>,
        tried: Vec<usize>,
    ) -> bool {
        let link =
            prefer.filter(|l| self.has_room(*l, why)).or_else(|| self.block_source(&hash, why, &tried));
        let Some(link) = link else { return false };
        self.ask_block_on(link, hash, why, tried);
        true
    }

    fn ask_block_on(&mut self, link: LinkId, hash: Hash, why: Why, tried: Vec<usize>) {
        let Some(node) = self.nodes.of(link) else { return };
        self.send(link, |out, magic| {
            write::inventory(out, magic, "getdata", [Inv { kind: InvKind::WitnessBlock, hash }].into_iter());
        });
        self.register_ask(link, node, hash, why, tried);
    }

    /// Remembers that a block has been asked for in some form.
    pub(super) fn register_ask(
        &mut self,
        link: LinkId,
        node: usize,
        hash: Hash,
        why: Why,
        tried: Vec<usize>,
    ) {
        let now = self.now;
        let deadline = now + if why == Why::Tip { TIP_BLOCK_TIMEOUT } else { NODE_TIMEOUT };
        self.wake_at(deadline);
        if let Some(old) = self.blocks.asked.insert(hash, Ask { link, node, deadline, why, tried }) {
            self.release(old.node);
        }
        self.nodes.list[node].blocks_in_flight += 1;
        if let Some(link) = self.nodes.links.get_mut(&link) {
            link.used = now;
        }
    }

    fn release(&mut self, node: usize) {
        let node = &mut self.nodes.list[node];
        node.blocks_in_flight = node.blocks_in_flight.saturating_sub(1);
    }

    fn has_room(&self, link: LinkId, why: Why) -> bool {
        let Some((link, _)) = self.nodes.ready(link) else { return false };
        // A tip does not wait behind old blocks.
        let most = if why == Why::Keep { MAX_BLOCKS_IN_FLIGHT } else { MAX_BLOCKS_IN_FLIGHT * 2 };
        self.nodes.list[link.node].blocks_in_flight < most
    }

    /// The least busy node that may have the block and has not failed to give it.
    fn block_source(&self, hash: &Hash, why: Why, tried: &[usize]) -> Option<LinkId> {
        let height = self.chain.height_of_known(hash)?;
        let deep = self.chain.tip().0.saturating_sub(height) >= LIMITED_BLOCKS;
        let nodes = self.nodes.list.iter().enumerate();
        let able = nodes.filter(|(i, node)| {
            node.synced && !tried.contains(i) && (!deep || node.services.contains(Services::NETWORK))
        });
        let links = able.filter_map(|(i, node)| Some((node.blocks_in_flight, self.nodes.ask_link(i)?)));
        links
            .filter(|(_, link)| self.has_room(*link, why))
            .min_by_key(|(busy, _)| *busy)
            .map(|(_, link)| link)
    }

    /// New blocks of the best chain: those near the tip are fetched at once, others join the list.
    pub(super) fn blocks_connected(&mut self, change: &Change, link: LinkId) {
        let (tip, _) = self.chain.tip();
        let first = change.fork_height + 1;
        for (height, hash) in (first..).zip(&change.connected) {
            if let Some(whole) = self.blocks.early.take_whole(hash) {
                self.block_here(*hash, whole);
            } else if self.blocks.early.is_rebuilding(hash) {
                self.vouched_early(*hash);
            } else if self.keeper.has(&Piece::Block(*hash)) {
                self.recall(hash);
            } else if self.blocks.planned && tip - height < RECENT_BLOCKS as u32 {
                self.fetch_tip(*hash, height == tip, link);
            } else if self.blocks.planned {
                self.blocks.todo.push_back(height);
            }
        }
    }

    /// Fetches a block that is to be announced.
    fn fetch_tip(&mut self, hash: Hash, is_tip: bool, link: LinkId) {
        if self.blocks.asked.get(&hash).is_some_and(|ask| ask.why != Why::Keep) {
            return;
        }
        let main = self.nodes.of(link).and_then(|node| self.nodes.ask_link(node)).unwrap_or(link);
        if is_tip && self.ask_compact(main, hash) {
            return;
        }
        if !self.ask_block(hash, Why::Tip, Some(main), Vec::new())
            && let Some(height) = self.chain.best_height(&hash)
        {
            self.blocks.todo.push_front(height);
        }
    }

    /// A `block` message.
    pub(super) fn on_block(&mut self, link: LinkId, framed: &[u8]) -> Result<(), Break> {
        let payload = framed.get(HEADER_LEN..).unwrap_or(&[]);
        let Some(header) = payload.first_chunk::<80>() else {
            return Err(Break::Block("shorter than a block header".into()));
        };
        let hash = sha256d(header);
        if !self.blocks.asked.contains_key(&hash) {
            self.counters.unrequested += 1;
            return Ok(());
        }
        if let Err(error) = compact::check_block(payload) {
            self.block_failed(hash);
            return Err(Break::Block(format!("{}: {error}", crate::wire::display(&hash))));
        }
        if let Some(link) = self.nodes.links.get_mut(&link) {
            link.used = self.now;
        }
        self.counters.blocks_full += 1;
        self.block_here(hash, Bytes::copy_from_slice(framed));
        Ok(())
    }

    /// A whole block whose header is in the chain and whose inside has been checked.
    pub(super) fn block_here(&mut self, hash: Hash, message: Bytes) {
        if let Some(ask) = self.blocks.asked.remove(&hash) {
            self.release(ask.node);
        }
        self.blocks.early.forget(&hash);
        let Some(height) = self.chain.height_of_known(&hash) else { return };
        self.answer_block(&hash, &message);
        let (tip, _) = self.chain.tip();
        if height + RECENT_BLOCKS as u32 > tip {
            self.remember(hash, height, message.clone());
        }
        let kept = self.chain.in_best(&hash) && height >= self.keeper.window_start(tip);
        self.publish();
        // A tip that was announced by its header alone is confirmed now.
        if let Some(news) = self.blocks.recent.get(&hash).cloned()
            && self.published.as_ref().is_some_and(|view| view.hash(height) == Some(&hash))
        {
            self.txs_confirmed(&[news]);
        }
        self.keep(Piece::Block(hash), height, message, kept);
        self.pump_blocks();
        self.try_open();
    }

    fn remember(&mut self, hash: Hash, height: u32, message: Bytes) {
        use rand::RngCore as _;
        if self.blocks.recent.contains_key(&hash) {
            return;
        }
        let nonce = self.rng.next_u64();
        let Ok(news) = compact::news(message, height, self.magic, nonce) else { return };
        self.blocks.recent.insert(hash, Arc::new(news));
        let (tip, _) = self.chain.tip();
        let oldest = tip.saturating_sub(RECENT_BLOCKS as u32);
        self.blocks.recent.retain(|_, news| news.height > oldest);
        while self.blocks.recent.len() > 2 * RECENT_BLOCKS {
            self.blocks.recent.pop_first();
        }
    }

    /// Takes a stored block into memory again (after a start, or when a branch comes back).
    pub(super) fn recall(&mut self, hash: &Hash) {
        let Some(height) = self.chain.height_of_known(hash) else { return };
        let waiting = self.keeper.in_memory(&Piece::Block(*hash)).cloned();
        if let Some(message) = waiting.or_else(|| self.keeper.store.read_block(hash)) {
            self.remember(*hash, height, message);
        } else if self.blocks.planned {
            self.blocks.todo.push_front(height);
        }
    }

    /// A node did not give a block: another one is asked.
    pub(super) fn block_failed(&mut self, hash: Hash) {
        let Some(mut ask) = self.blocks.asked.remove(&hash) else { return };
        self.release(ask.node);
        self.counters.block_retries += 1;
        ask.tried.push(ask.node);
        if ask.why == Why::Want {
            self.want_failed(hash);
        } else if !self.ask_block(hash, ask.why, None, ask.tried)
            && let Some(height) = self.chain.best_height(&hash)
        {
            // Every node has been tried: a breath, then from the beginning.
            match ask.why {
                Why::Tip => self.blocks.todo.push_front(height),
                _ => self.blocks.todo.push_back(height),
            }
            self.pause_blocks(BLOCK_RETRY);
        }
    }

    pub(super) fn blocks_link_lost(&mut self, link: LinkId, _node: usize) {
        let lost: Vec<Hash> =
            self.blocks.asked.iter().filter(|(_, ask)| ask.link == link).map(|(hash, _)| *hash).collect();
        for hash in lost {
            self.block_failed(hash);
        }
        self.blocks.early.link_lost(link);
    }

    pub(super) fn tick_blocks(&mut self) {
        let now = self.now;
        let late: Vec<Hash> =
            self.blocks.asked.iter().filter(|(_, ask)| now >= ask.deadline).map(|(hash, _)| *hash).collect();
        for hash in late {
            self.blocks.early.forget(&hash);
            self.block_failed(hash);
        }
        if let Some(next) = self.blocks.asked.values().map(|ask| ask.deadline).min() {
            self.wake_at(next);
        }
        self.tick_early();
        self.publish();
        self.pump_blocks();
    }
}
