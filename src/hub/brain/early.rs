//! Compact blocks: rebuilt as soon as they come, held back until a node vouches for them.
//!
//! A high-bandwidth `cmpctblock` is sent before validation. It is rebuilt from the mempool (and `getblocktxn`) at once,
//! so that the block is whole when the node announces it by header on the ear, or answers our getheaders on main.
//! At most `EARLY_BLOCKS` wait here; one that nobody vouches for within `EARLY_EXPIRY` is dropped and counted.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::blocks::Why;
use super::keeper::Piece;
use super::{Hub, LinkId};
use crate::base::Instant;
use crate::base::limits::{EARLY_BLOCKS, EARLY_EXPIRY, VOUCH_FIRST, VOUCH_LAST};
use crate::hub::compact::Partial;
use crate::hub::session::{Break, LinkKind};
use crate::wire::{Hash, Inv, InvKind, sha256d, write};

#[derive(Debug)]
enum State {
    Rebuilding(Box<Partial>),
    Whole(Bytes),
}

#[derive(Debug)]
struct Entry {
    state: State,
    link: LinkId,
    since: Instant,
    /// When the node is asked by getheaders whether it has accepted the block, and the pause after that.
    vouch_at: Instant,
    pause: Duration,
}

/// Blocks being rebuilt, and whole ones nobody has vouched for.
#[derive(Debug, Default)]
pub(super) struct Early(BTreeMap<Hash, Entry>);

impl Early {
    /// Takes a whole block out.
    pub(super) fn take_whole(&mut self, hash: &Hash) -> Option<Bytes> {
        if !matches!(self.0.get(hash)?.state, State::Whole(_)) {
            return None;
        }
        match self.0.remove(hash)?.state {
            State::Whole(bytes) => Some(bytes),
            State::Rebuilding(_) => None,
        }
    }

    pub(super) fn is_rebuilding(&self, hash: &Hash) -> bool {
        self.0.get(hash).is_some_and(|e| matches!(e.state, State::Rebuilding(_)))
    }

    pub(super) fn forget(&mut self, hash: &Hash) {
        self.0.remove(hash);
    }

    /// What is being rebuilt over a lost link cannot be completed; whole blocks stay.
    pub(super) fn link_lost(&mut self, link: LinkId) {
        self.0.retain(|_, e| e.link != link || matches!(e.state, State::Whole(_)));
    }
}

impl Hub {
    /// Asks for a block in compact form; false when the node does not give any.
    pub(super) fn ask_compact(&mut self, link: LinkId, hash: Hash) -> bool {
        let Some((state, session)) = self.nodes.ready(link) else { return false };
        if !session.peer().cmpct {
            return false;
        }
        let node = state.node;
        self.send(link, |out, magic| {
            write::inventory(out, magic, "getdata", [Inv { kind: InvKind::CompactBlock, hash }].into_iter());
        });
        self.register_ask(link, node, hash, Why::Tip, Vec::new());
        true
    }

    /// A `cmpctblock` message: announced (high bandwidth) or asked for.
    pub(super) fn on_cmpct(&mut self, link: LinkId, payload: &[u8]) -> Result<(), Break> {
        let Some((header, previous)) = payload.first_chunk::<80>().zip(payload.get(4..36)) else {
            return Err(Break::Block("compact block shorter than a header".into()));
        };
        let hash = sha256d(header);
        let known = self.chain.contains(&hash);
        if hash == self.chain.tip().1
            && self.nodes.of(link).is_some_and(|n| self.nodes.list[n].best != Some(hash))
        {
            // Announced before it was validated: whether this node has it, too, its headers say a moment later.
            let at = self.now + VOUCH_FIRST;
            self.headers_due.entry(link).or_insert(at);
            self.wake_at(at);
        }
        if self.blocks.early.0.contains_key(&hash) || self.keeper.has(&Piece::Block(hash)) {
            return Ok(());
        }
        if !known {
            let parent = previous.first_chunk::<32>().is_some_and(|parent| self.chain.contains(parent));
            if !parent {
                self.counters.unconnected_headers += 1;
                self.ask_headers(link);
                return Ok(());
            }
            if !has_work(header) {
                return Err(Break::Block(format!("{}: no proof of work", crate::wire::display(&hash))));
            }
        }
        let partial = match Partial::start(self.magic, payload, &self.txs.mempool) {
            Ok(partial) => partial,
            Err(_) => {
                self.compact_failed(link, hash);
                return Ok(());
            }
        };
        let missing = partial.missing().to_vec();
        if missing.is_empty() {
            self.finish(link, hash, partial, &[]);
            return Ok(());
        }
        self.send(link, |out, magic| write::get_block_txn(out, magic, &hash, &missing));
        self.insert_early(hash, link, State::Rebuilding(Box::new(partial)));
        if known && !self.blocks.asked.contains_key(&hash) {
            self.vouched_early(hash);
        }
        Ok(())
    }

    /// A `blocktxn` message.
    pub(super) fn on_blocktxn(&mut self, link: LinkId, payload: &[u8]) {
        let Some(hash) = payload.first_chunk::<32>().copied() else { return };
        let ours = self.blocks.early.0.get(&hash).is_some_and(|e| e.link == link);
        if !ours || !self.blocks.early.is_rebuilding(&hash) {
            self.counters.unrequested += 1;
            return;
        }
        if let Some(Entry { state: State::Rebuilding(partial), .. }) = self.blocks.early.0.remove(&hash) {
            self.finish(link, hash, *partial, payload);
        }
    }

    fn finish(&mut self, link: LinkId, hash: Hash, partial: Partial, blocktxn: &[u8]) {
        let alone = blocktxn.is_empty();
        let result = if alone { partial.complete() } else { partial.fill(blocktxn) };
        let Ok(message) = result else {
            self.compact_failed(link, hash);
            return;
        };
        match alone {
            true => self.counters.blocks_compact += 1,
            false => self.counters.blocks_compact_txn += 1,
        }
        if self.chain.contains(&hash) {
            self.block_here(hash, message);
        } else {
            self.insert_early(hash, link, State::Whole(message));
        }
    }

    /// The compact form is of no use: the whole block is fetched, at once if it is vouched for.
    fn compact_failed(&mut self, link: LinkId, hash: Hash) {
        self.counters.compact_failures += 1;
        self.blocks.early.forget(&hash);
        if self.chain.contains(&hash) {
            self.ask_block(hash, Why::Tip, Some(link), Vec::new());
        } else {
            // Nobody has vouched for it yet; the fetch follows the header, which is asked for soon.
            let at = self.now + VOUCH_FIRST;
            self.headers_due.insert(link, at);
            self.wake_at(at);
        }
    }

    fn insert_early(&mut self, hash: Hash, link: LinkId, state: State) {
        let now = self.now;
        if self.blocks.early.0.len() >= EARLY_BLOCKS
            && let Some(oldest) = self.blocks.early.0.iter().min_by_key(|(_, e)| e.since).map(|(h, _)| *h)
        {
            self.blocks.early.0.remove(&oldest);
            self.counters.prefetch_dropped += 1;
        }
        let entry = Entry { state, link, since: now, vouch_at: now + VOUCH_FIRST, pause: VOUCH_FIRST };
        self.wake_at(entry.vouch_at);
        self.blocks.early.0.insert(hash, entry);
    }

    /// A block being rebuilt has entered the chain: from now on it has a deadline.
    pub(super) fn vouched_early(&mut self, hash: Hash) {
        let Some(link) = self.blocks.early.0.get(&hash).map(|e| e.link) else { return };
        if let Some(node) = self.nodes.of(link) {
            self.register_ask(link, node, hash, Why::Tip, Vec::new());
        }
    }

    /// Asks nodes to vouch for what waits, and drops what waits too long.
    pub(super) fn tick_early(&mut self) {
        let now = self.now;
        let due: Vec<LinkId> =
            self.headers_due.iter().filter(|(_, at)| now >= **at).map(|(link, _)| *link).collect();
        let mut ask = due;
        for link in &ask {
            self.headers_due.remove(link);
        }
        let before = self.blocks.early.0.len();
        let chain = &self.chain;
        self.blocks.early.0.retain(|hash, e| now < e.since + EARLY_EXPIRY || chain.contains(hash));
        self.counters.prefetch_dropped += (before - self.blocks.early.0.len()) as u64;
        let mut next = Instant::FAR;
        for (hash, entry) in &mut self.blocks.early.0 {
            if self.chain.contains(hash) {
                continue;
            }
            if now >= entry.vouch_at {
                entry.pause = (entry.pause * 2).min(VOUCH_LAST);
                entry.vouch_at = now + entry.pause;
                ask.push(entry.link);
            }
            next = next.min(entry.vouch_at);
        }
        self.wake_at(next);
        for link in ask {
            let link = self.nodes.of(link).and_then(|node| self.nodes.ready_link(node, LinkKind::Main));
            if let Some(link) = link {
                self.ask_headers(link);
            }
        }
    }
}

/// True exactly when the header's hash is below its own target; the chain checks the target itself later.
fn has_work(header: &[u8; 80]) -> bool {
    bitcoin::consensus::deserialize::<bitcoin::block::Header>(header)
        .is_ok_and(|header| header.validate_pow(header.target()).is_ok())
}
