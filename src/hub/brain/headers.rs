//! Which chain is the best: headers from every node, and what follows from a new tip.
//!
//! The chain holds only headers that a node gave in a `headers` message: nodes give and announce those of their active
//! chain, which they have validated. The header of a high-bandwidth compact block is not among them until a node
//! vouches for it in this way.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Hub, HubEvent, LinkId, Output};
use crate::base::limits::{BLOCK_LOG, MAX_HEADERS, TIP_WITHOUT_BLOCK};
use crate::feed::{BlockNews, ChainView};
use crate::hub::chain::{Change, HeaderError};
use crate::hub::session::Break;
use crate::link::ToShard;
use crate::wire::{Hash, HashList, HeaderList, Inv, InvKind, Magic, write};

/// `headers` messages in a row that do not connect before the node is left (Bitcoin Core allows 10).
const MAX_STRAYS: u32 = 10;

impl Hub {
    /// Asks a node what it has beyond our best chain. The locator begins below our tip, so that a node at the same tip
    /// has something to answer: bcoin says nothing when it would have to send an empty list.
    pub(super) fn ask_headers(&mut self, link: LinkId) {
        let mut locator = self.chain.view().locator();
        if locator.len() > 1 {
            locator.remove(0);
        }
        self.ask_headers_from(link, locator);
    }

    fn ask_headers_from(&mut self, link: LinkId, locator: Vec<Hash>) {
        let Some(node) = self.nodes.of(link) else { return };
        let now = self.now;
        self.nodes.list[node].headers_asked = Some(now);
        self.send(link, |out, magic| write::locator(out, magic, "getheaders", locator.iter(), &[0; 32]));
    }

    pub(super) fn on_headers(&mut self, link: LinkId, list: HeaderList<'_>) -> Result<(), Break> {
        let Some(node) = self.nodes.of(link) else { return Ok(()) };
        if list.is_empty() {
            self.nodes.list[node].headers_asked = None;
            self.node_synced(node);
            return Ok(());
        }
        let accepted = match self.chain.accept(list.iter(), self.unix) {
            Ok(accepted) => accepted,
            Err(HeaderError::UnknownParent(hash)) => return self.unconnected(node, link, hash),
            Err(error) => return Err(Break::Headers(error.to_string())),
        };
        self.counters.headers += accepted.new as u64;
        let state = &mut self.nodes.list[node];
        state.strays = 0;
        state.best = Some(accepted.last);
        let asked = state.headers_asked.take();
        if let Some(change) = accepted.change {
            self.chain_changed(&change, link);
        }
        if list.len() == MAX_HEADERS {
            let mut locator = vec![accepted.last];
            locator.extend(self.chain.view().locator());
            self.ask_headers_from(link, locator);
        } else if asked.is_some() {
            self.node_synced(node);
        }
        // The node may be the first with filters that has them this far.
        self.pump_filters();
        Ok(())
    }

    /// Highest block of our best chain that a node has said to have.
    pub(super) fn has_up_to(&self, node: usize) -> u32 {
        let best = self.nodes.list.get(node).and_then(|node| node.best);
        best.and_then(|best| self.chain.fork_height(&best)).unwrap_or(0)
    }

    /// Headers that do not connect: a new branch, or a node that is ahead of what we have asked for.
    fn unconnected(&mut self, node: usize, link: LinkId, hash: Hash) -> Result<(), Break> {
        self.counters.unconnected_headers += 1;
        let state = &mut self.nodes.list[node];
        state.strays += 1;
        if state.strays > MAX_STRAYS {
            let hash = crate::wire::display(&hash);
            return Err(Break::OtherChain(format!(
                "{MAX_STRAYS} headers messages in a row do not connect, the last to {hash}"
            )));
        }
        if state.headers_asked.is_none() {
            self.ask_headers(link);
        }
        Ok(())
    }

    /// A node asks what we have: told truthfully, because Bitcoin Core announces compact blocks only to peers that it
    /// knows to have the parent.
    pub(super) fn on_getheaders(&mut self, link: LinkId, locator: HashList<'_>, stop: &Hash) {
        let view = self.chain.view();
        let first = view.find_fork(locator) + 1;
        let end = view.height(stop).unwrap_or(u32::MAX).min(view.tip_height());
        let last = end.min(first.saturating_add(MAX_HEADERS as u32 - 1));
        let list: Vec<&[u8; 80]> = (first..=last).map_while(|height| view.header(height)).collect();
        self.send(link, |out, magic| write::headers(out, magic, list.into_iter()));
    }

    pub(super) fn node_synced(&mut self, node: usize) {
        let state = &mut self.nodes.list[node];
        if state.synced || !state.is_up() {
            return;
        }
        state.synced = true;
        if !self.blocks.planned {
            self.plan_blocks();
        }
        self.pump_blocks();
        self.pump_filters();
        self.try_open();
    }

    /// The best chain has changed; `link` is where the news came from.
    pub(super) fn chain_changed(&mut self, change: &Change, link: LinkId) {
        if !change.disconnected.is_empty() {
            self.counters.reorgs += 1;
            self.out.push_back(Output::Event(HubEvent::Reorg {
                fork_height: change.fork_height,
                disconnected: change.disconnected.len() as u32,
                connected: change.connected.len() as u32,
            }));
        }
        self.tip_since = self.now;
        self.keeper.chain_changed(change.fork_height);
        self.filters_reorg(change.fork_height);
        if change.fork_height < self.frozen_len() {
            self.flush_store();
        }
        self.txs_disconnected(&change.disconnected);
        self.blocks_connected(change, link);
        self.publish();
        self.pump_filters();
    }

    /// Tells the shards of the tip once its block is here, or without it when no node gives it.
    pub(super) fn publish(&mut self) {
        let (height, hash) = self.chain.tip();
        let Some(old) = self.published.clone() else { return };
        if old.tip_hash() == hash {
            return;
        }
        let here = self.blocks.recent.contains_key(&hash);
        if !here {
            let due = self.tip_since + TIP_WITHOUT_BLOCK;
            if self.now < due {
                self.wake_at(due);
                return;
            }
            self.counters.tips_without_block += 1;
        }
        let view = self.chain.view();
        let fork = fork_height(&old, &view);
        if self.filters.told.is_some_and(|told| told > fork) {
            self.filters.told = Some(fork);
            self.tell_all(&ToShard::FiltersTo(fork));
        }
        let first = (fork + 1).max((height + 1).saturating_sub(BLOCK_LOG as u32));
        let blocks: Arc<[Arc<BlockNews>]> =
            (first..=height).filter_map(|height| self.news_at(&view, height)).collect();
        self.counters.tips += 1;
        self.published = Some(view.clone());
        self.tell_all(&ToShard::Chain { view, blocks: blocks.clone(), had: self.now });
        self.out.push_back(Output::Event(HubEvent::Tip { height, hash }));
        self.tell_filters();
        self.txs_confirmed(&blocks);
        self.try_open();
    }

    /// The picture for shards that have none yet, with the newest blocks that are in memory.
    pub(super) fn publish_first(&mut self) {
        let view = self.chain.view();
        let tip = view.tip_height();
        let first = tip.saturating_sub(crate::base::limits::RECENT_BLOCKS as u32 - 1).max(1);
        // Without a gap: the run that ends at the tip.
        let recent = |height: u32| view.hash(height).and_then(|hash| self.blocks.recent.get(hash)).cloned();
        let mut blocks: Vec<Arc<BlockNews>> = (first..=tip).rev().map_while(recent).collect();
        blocks.reverse();
        let blocks: Arc<[Arc<BlockNews>]> = blocks.into();
        self.published = Some(view.clone());
        self.tell_all(&ToShard::Chain { view, blocks, had: self.now });
        self.tell_filters();
    }

    fn news_at(&self, view: &ChainView, height: u32) -> Option<Arc<BlockNews>> {
        let (hash, header) = (view.hash(height)?, view.header(height)?);
        match self.blocks.recent.get(hash) {
            Some(news) => Some(news.clone()),
            None => Some(Arc::new(header_only(self.magic, *hash, height, *header))),
        }
    }
}

/// News of a block whose bytes are not at hand.
pub(super) fn header_only(magic: Magic, hash: Hash, height: u32, header: [u8; 80]) -> BlockNews {
    let (mut headers, mut inv) = (Vec::new(), Vec::new());
    write::headers(&mut headers, magic, [&header].into_iter());
    write::inventory(&mut inv, magic, "inv", [Inv { kind: InvKind::Block, hash }].into_iter());
    BlockNews {
        hash,
        height,
        header,
        block: Default::default(),
        tx_offsets: Box::default(),
        cmpct: Default::default(),
        headers_message: headers.into(),
        inv_message: inv.into(),
    }
}

/// Height of the last block two pictures have in common.
pub(super) fn fork_height(old: &ChainView, new: &ChainView) -> u32 {
    let mut height = old.tip_height().min(new.tip_height());
    while height > 0 && old.hash(height) != new.hash(height) {
        height -= 1;
    }
    height
}

/// Blocks in memory by hash; at most `RECENT_BLOCKS` of the best chain and as many of branches.
pub(super) type Recent = BTreeMap<Hash, Arc<BlockNews>>;
