//! Transactions announced and sent by peers: each asked of one peer at a time, orphans kept for their parents.

use std::collections::{BTreeMap, VecDeque};

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;

use super::peer::Known;
use super::{PeerId, StubNode};
use crate::base::Instant;
use crate::base::limits::{MAX_ANNOUNCERS, MAX_TX_WANTED, TX_REQUEST_TIMEOUT};
use crate::stub::MAGIC;
use crate::stub::mempool::Refused;
use crate::wire::{Hash, Inv, InvKind, InvList, write};

/// Transactions kept for their parents; the oldest leaves (Bitcoin Core -maxorphantx).
const MAX_ORPHANS: usize = 100;

/// Transactions we have heard of and do not have.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    wanted: BTreeMap<Hash, Wanted>,
    /// When requests run out, in order; entries of requests long answered are skipped.
    deadlines: VecDeque<(Instant, Hash)>,
    orphans: VecDeque<Transaction>,
    /// Wtxids that were refused, not asked for again.
    refused: Known,
}

#[derive(Debug)]
struct Wanted {
    /// In the form it was announced first.
    inv: Inv,
    /// Who was asked, and until when.
    asked: PeerId,
    until: Instant,
    /// Who else has it.
    others: VecDeque<PeerId>,
}

impl Hearing {
    /// When a request runs out.
    pub(super) fn wake(&self) -> Instant {
        self.deadlines.front().map_or(Instant::FAR, |(at, _)| *at)
    }
}

impl StubNode {
    pub(super) fn inv(&mut self, now: Instant, from: PeerId, list: InvList<'_>) {
        let mut ask = Vec::new();
        for inv in list.iter() {
            let Some(peer) = self.peers.get_mut(&from) else { return };
            if !inv.kind.is_tx() {
                if self.chain.block(&inv.hash).is_some() {
                    peer.told = Some(inv.hash);
                }
                continue;
            }
            peer.known.insert(inv.hash);
            if self.chain.mempool().get(&inv.hash).is_some() || self.hearing.refused.contains(&inv.hash) {
                continue;
            }
            if let Some(wanted) = self.hearing.wanted.get_mut(&inv.hash) {
                if wanted.others.len() < MAX_ANNOUNCERS && wanted.asked != from {
                    wanted.others.push_back(from);
                }
            } else if self.hearing.wanted.len() < MAX_TX_WANTED {
                let until = now + TX_REQUEST_TIMEOUT;
                let wanted = Wanted { inv, asked: from, until, others: VecDeque::new() };
                self.hearing.wanted.insert(inv.hash, wanted);
                self.hearing.deadlines.push_back((until, inv.hash));
                ask.push(inv);
            }
        }
        self.ask(from, ask);
    }

    pub(super) fn not_found(&mut self, now: Instant, from: PeerId, list: InvList<'_>) {
        for inv in list.iter() {
            if self.hearing.wanted.get(&inv.hash).is_some_and(|wanted| wanted.asked == from) {
                self.ask_other(now, inv.hash);
            }
        }
    }

    /// A peer has gone: others are asked for what was asked of it.
    pub(super) fn peer_left(&mut self, now: Instant, gone: PeerId) {
        let lost: Vec<Hash> =
            self.hearing.wanted.iter().filter(|(_, w)| w.asked == gone).map(|(hash, _)| *hash).collect();
        lost.into_iter().for_each(|hash| self.ask_other(now, hash));
    }

    /// Asks others for what has not come in time.
    pub(super) fn ask_again(&mut self, now: Instant) {
        while let Some((at, hash)) = self.hearing.deadlines.front().copied().filter(|(at, _)| *at <= now) {
            self.hearing.deadlines.pop_front();
            if self.hearing.wanted.get(&hash).is_some_and(|wanted| wanted.until == at) {
                self.ask_other(now, hash);
            }
        }
    }

    fn ask_other(&mut self, now: Instant, hash: Hash) {
        let Some(mut wanted) = self.hearing.wanted.remove(&hash) else { return };
        while let Some(next) = wanted.others.pop_front() {
            if !self.peers.contains_key(&next) {
                continue;
            }
            (wanted.asked, wanted.until) = (next, now + TX_REQUEST_TIMEOUT);
            self.hearing.deadlines.push_back((wanted.until, hash));
            self.ask(next, vec![wanted.inv]);
            self.hearing.wanted.insert(hash, wanted);
            return;
        }
    }

    fn ask(&mut self, peer: PeerId, list: Vec<Inv>) {
        if list.is_empty() {
            return;
        }
        let with_witness = |inv: Inv| match inv.kind {
            InvKind::Tx => Inv { kind: InvKind::WitnessTx, ..inv },
            _ => inv,
        };
        self.write(peer, |out| {
            write::inventory(out, MAGIC, "getdata", list.into_iter().map(with_witness));
        });
    }

    /// Takes a transaction, asked for or not.
    pub(super) fn tx(&mut self, _now: Instant, from: PeerId, bytes: &[u8]) {
        self.counters.txs_received += 1;
        let Ok(tx) = deserialize::<Transaction>(bytes) else {
            self.counters.txs_refused += 1;
            return;
        };
        let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
        for hash in [txid, wtxid] {
            self.hearing.wanted.remove(&hash);
            if let Some(peer) = self.peers.get_mut(&from) {
                peer.known.insert(hash);
            }
        }
        if self.consider(tx) {
            self.adopt_orphans();
        }
    }

    /// True exactly when it was accepted.
    fn consider(&mut self, tx: Transaction) -> bool {
        let refused = self.options.refuse.as_ref().is_some_and(|refuse| (refuse.0)(&tx));
        match if refused { Err(Refused::Shape) } else { self.chain.accept_tx(&tx) } {
            Ok(()) => {
                self.counters.txs_accepted += 1;
                true
            }
            Err(Refused::Known) => {
                self.counters.txs_again += 1;
                false
            }
            Err(Refused::Missing(_)) => {
                if self.hearing.orphans.len() >= MAX_ORPHANS {
                    self.hearing.orphans.pop_front();
                    self.counters.txs_refused += 1;
                }
                self.hearing.orphans.push_back(tx);
                false
            }
            Err(_) => {
                self.counters.txs_refused += 1;
                self.hearing.refused.insert(tx.compute_wtxid().to_byte_array());
                false
            }
        }
    }

    /// Tries the orphans again, until none of them is accepted any more.
    fn adopt_orphans(&mut self) {
        let mut found = true;
        while found {
            found = false;
            for orphan in std::mem::take(&mut self.hearing.orphans) {
                found |= self.consider(orphan);
            }
        }
    }
}
