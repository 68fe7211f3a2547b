//! Announcing new tips and transactions (Bitcoin Core net_processing.cpp, SendMessages and NewPoWValidBlock).

use std::sync::Arc;

use bytes::Bytes;

use super::{Form, PeerId, StubNode};
use crate::base::Instant;
use crate::base::limits::{MAX_HEADERS_ANNOUNCE, MAX_INV, TX_PER_INV};
use crate::stub::block::built;
use crate::stub::mempool::StubTx;
use crate::stub::{MAGIC, StubBlock};
use crate::wire::{Inv, InvKind, write};

/// Announcements that may wait for one peer; more are left out.
const MAX_PENDING: usize = MAX_INV;

impl StubNode {
    /// Finds what has changed in the chain since the last call and announces it.
    pub(super) fn notice(&mut self, now: Instant) {
        self.index.notice(&self.chain, now, self.options.filter_delay);
        if self.announced != self.chain.tip_hash() {
            self.announce_blocks();
        }
        if self.queued != self.chain.mempool().arrivals() {
            self.queue_txs(now);
        }
        // Who does not take what waits for it hears of transactions when it does.
        let window = self.options.window;
        let due = |(id, peer): (&PeerId, &super::Peer)| {
            (!peer.pending.is_empty() && peer.announce_at <= now && peer.unsent <= window).then_some(*id)
        };
        let due: Vec<PeerId> = self.peers.iter().filter_map(due).collect();
        due.into_iter().for_each(|peer| self.announce_txs(peer));
    }

    fn announce_blocks(&mut self) {
        let tip = self.chain.tip().clone();
        let start =
            self.chain.block(&self.announced).map_or(tip.height(), |b| self.chain.fork(b).height() + 1);
        let blocks = self.chain.branch(start, &tip);
        self.announced = *tip.hash();
        let mut compact = None;
        let ready: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| peer.ready).map(|(id, _)| *id).collect();
        for peer in ready {
            self.announce_to(peer, &blocks, &tip, &mut compact);
        }
    }

    /// Announces `blocks`, which end with the tip, in the form the peer asked for, as far as it can follow it.
    fn announce_to(
        &mut self,
        id: PeerId,
        blocks: &[Arc<StubBlock>],
        tip: &Arc<StubBlock>,
        compact: &mut Option<Bytes>,
    ) {
        let Some(peer) = self.peers.get(&id) else { return };
        if self.has(id, tip) {
            return;
        }
        let known = blocks.iter().take_while(|block| self.has(id, block)).count();
        let blocks = &blocks[known..];
        let connects = blocks
            .first()
            .and_then(|first| self.chain.block(first.parent()))
            .is_some_and(|parent| self.has(id, parent));
        let asked = self.options.form == Form::AsAsked && connects;
        let bytes = if asked && peer.compact && blocks.len() == 1 {
            self.counters.compact_served += 1;
            compact.get_or_insert_with(|| tip.cmpct_message()).clone()
        } else if asked && peer.send_headers && blocks.len() <= MAX_HEADERS_ANNOUNCE {
            built(|out| write::headers(out, MAGIC, blocks.iter().map(|block| block.header())))
        } else {
            let inv = Inv { kind: InvKind::Block, hash: *tip.hash() };
            let bytes = built(|out| write::inventory(out, MAGIC, "inv", [inv].into_iter()));
            return self.send(id, bytes);
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.sent = Some(*tip.hash());
        }
        self.send(id, bytes);
    }

    /// True exactly when we know that the peer has the header of a block.
    fn has(&self, peer: PeerId, block: &Arc<StubBlock>) -> bool {
        let Some(peer) = self.peers.get(&peer) else { return false };
        let high = [peer.sent, peer.told].into_iter().flatten().filter_map(|hash| self.chain.block(&hash));
        high.into_iter().any(|high| self.chain.is_ancestor(block, high))
    }

    /// Queues transactions that arrived since the last call for every peer that wants and does not know them.
    fn queue_txs(&mut self, now: Instant) {
        let due = now + self.options.tx_delay;
        for tx in self.chain.mempool().since(self.queued) {
            for peer in self.peers.values_mut().filter(|peer| peer.ready && peer.relay) {
                let known = peer.known.contains(&tx.txid) || peer.known.contains(&tx.wtxid);
                if known || tx.rate() < peer.fee_filter || peer.pending.len() >= MAX_PENDING {
                    continue;
                }
                if peer.pending.is_empty() {
                    peer.announce_at = due;
                }
                peer.pending.push(tx.clone());
            }
        }
        self.queued = self.chain.mempool().arrivals();
    }

    fn announce_txs(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let mut invs = Vec::new();
        for tx in std::mem::take(&mut peer.pending) {
            // It may have been confirmed, or come from this peer too, while it waited.
            if self.chain.mempool().get(&tx.txid).is_some() && !peer.known.contains(&tx.wtxid) {
                peer.known.insert(tx.txid);
                peer.known.insert(tx.wtxid);
                invs.push(tx_inv(&tx, peer.wtxid));
            }
        }
        for part in invs.chunks(TX_PER_INV) {
            self.write(id, |out| write::inventory(out, MAGIC, "inv", part.iter().copied()));
        }
    }
}

/// How a transaction is announced to a peer.
pub(super) fn tx_inv(tx: &StubTx, by_wtxid: bool) -> Inv {
    match by_wtxid {
        true => Inv { kind: InvKind::Wtx, hash: tx.wtxid },
        false => Inv { kind: InvKind::Tx, hash: tx.txid },
    }
}
