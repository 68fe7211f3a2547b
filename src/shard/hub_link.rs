//! Mail between the shard and the hub.

use std::sync::Arc;

use bytes::Bytes;

use super::active::Waiting;
use super::core::Core;
use crate::base::ClientId;
use crate::base::limits::LINK_PER_TURN;
use crate::feed::{Seen, TxNews};
use crate::io::KernelCounters;
use crate::link::{Answer, ShardReport, ToHub, ToShard, WantId};
use crate::wire::tx::strip_tx;
use crate::wire::{Hash, InvKind, Services};

impl Core {
    /// Takes a turn's share of the hub's entries. True exactly when there was one.
    pub(super) fn read_mail(&mut self) -> bool {
        self.flush_outbox();
        self.mail = 0;
        while self.mail < LINK_PER_TURN {
            let Some(entry) = self.link.pop() else {
                return std::mem::take(&mut self.mail) > 0;
            };
            self.mail += 1;
            self.take_mail(entry);
        }
        true
    }

    fn take_mail(&mut self, entry: ToShard) {
        match entry {
            ToShard::Chain { view, blocks, had } => {
                self.view = view;
                if !blocks.is_empty() {
                    self.latency.block_came();
                }
                self.blocks.append(&blocks, had);
                self.block_sweep.start();
                self.retry_filters();
            }
            ToShard::FiltersTo(height) => {
                self.blocks.set_filters_to(height);
                self.block_sweep.start();
                self.retry_filters();
            }
            ToShard::Txs(txs) => self.take_txs(&txs),
            ToShard::TxsGone(txids) => self.txs_gone(&txids),
            ToShard::AskTx(ask) => self.ask_tx(ask),
            ToShard::Answer { client, id, answer } => self.answered(client, id, answer),
            ToShard::Policy(policy) => {
                self.filters_promised |= policy.services.contains(Services::COMPACT_FILTERS);
                if policy.fee_filter != self.policy.fee_filter {
                    self.fee_sweep.start();
                }
                self.policy = policy;
            }
            ToShard::Addresses { addr, addrv2 } => self.addresses = (addr, addrv2),
            ToShard::Tls(server) => self.shaking.reload(&server),
            ToShard::Bans(bans) => self.bans = bans,
            ToShard::Known(known) => self.house.know(known),
            ToShard::Rank(rank) => self.ranked(rank),
            ToShard::House(order) => self.house_order(order),
            ToShard::HouseRules(rules) => self.house.set_rules(self.unix, &rules),
            ToShard::Slots(grants) => self.door.grant(&grants),
            ToShard::Ask(id, ask) => self.asked_by_operator(id, ask),
            ToShard::Open => self.open_listeners(),
            ToShard::Drain => self.begin_drain(),
        }
    }

    fn take_txs(&mut self, txs: &[Arc<TxNews>]) {
        if !self.txs.is_unsealed() {
            self.next_seal = self.now + self.config.tx_interval;
        }
        for tx in txs {
            self.seen.set(&tx.wtxid, Seen::RECEIVED);
            let origin = tx.origin.filter(|origin| origin.shard == self.config.id).map(|origin| origin.id);
            // The node has taken it: whoever gave it is useful.
            if let Some(origin) = origin.filter(|origin| self.clients.get_mut(*origin).is_some()) {
                self.house.free.useful_tx(origin.slot, self.now);
            }
            let by_txid = (tx.txid != tx.wtxid).then(|| self.heard.take(&tx.txid)).into_iter().flatten();
            let knowers = origin.into_iter().chain(by_txid).chain(self.heard.take(&tx.wtxid)).collect();
            self.txs.append(tx, knowers);
        }
    }

    /// Gone for whatever reason: a client may announce or send it again, and the hub decides anew.
    fn txs_gone(&mut self, hashes: &[Hash]) {
        for hash in hashes {
            if let Some(tx) = self.txs.get(hash) {
                let wtxid = tx.wtxid;
                self.seen.set(&wtxid, 0);
            }
            self.seen.set(hash, 0);
        }
        self.txs.remove(hashes);
    }

    fn answered(&mut self, client: ClientId, id: WantId, answer: Answer) {
        let waiting = self.clients.get_mut(client).and_then(|c| c.active.as_mut()).and_then(|active| {
            match active.waiting {
                Some(Waiting::Hub { id: asked, entry }) if asked == id => {
                    active.waiting = None;
                    Some((active, entry))
                }
                _ => None,
            }
        });
        let Some((active, entry)) = waiting else {
            self.counters.wants_stale += 1;
            return;
        };
        match answer {
            Answer::Bytes(bytes) => {
                active.held += bytes.len();
                self.pool.hold(bytes.len());
                let stripped = entry.is_some_and(|inv| inv.kind == InvKind::Tx);
                active.ready = Some(if stripped { strip(&bytes) } else { bytes });
            }
            Answer::Extents(extents) => {
                (active.extents, active.extent, active.offset) = (extents, 0, 0);
            }
            Answer::Missing => {
                active.not_found.extend(entry);
                self.counters.wants_missing += 1;
            }
        }
        // notfound goes out at the end of the getdata: at once when nothing is left of it.
        let mut out = self.pool.take();
        let before = out.capacity();
        let missing =
            self.clients.get_mut(client).is_some_and(|c| c.active.as_ref().is_some_and(|a| !a.is_busy()));
        if missing {
            self.finish_entries(client, &mut out);
        }
        self.pool.grown(before, &out);
        if out.is_empty() {
            self.pool.give(out);
            self.flow(client);
        } else {
            self.push_message(client, |pending| pending.extend_from_slice(&out));
            self.pool.give(out);
        }
    }

    /// Says something to the hub; waits in the outbox while the queue is full.
    pub(super) fn tell_hub(&mut self, entry: ToHub) {
        self.pushed = true;
        if !self.outbox.is_empty() {
            return self.outbox.push_back(entry);
        }
        if let Err(entry) = self.link.push(entry) {
            self.counters.hub_congested += 1;
            self.outbox.push_back(entry);
        }
    }

    fn flush_outbox(&mut self) {
        while let Some(entry) = self.outbox.pop_front() {
            self.pushed = true;
            if let Err(entry) = self.link.push(entry) {
                return self.outbox.push_front(entry);
            }
        }
    }

    /// The shard's numbers, for the hub.
    pub(super) fn make_report(&mut self, kernel: KernelCounters) -> Box<ShardReport> {
        Box::new(ShardReport {
            time: self.unix,
            clients: self.clients.len(),
            ready: self.ready,
            tls: self.tls_clients,
            v2: self.v2_clients,
            listening: self.is_listening(),
            counters: self.counters.values(),
            ends: self.counters.ends.to_vec(),
            faults: self.counters.faults.to_vec(),
            kernel,
            buffer_bytes: self.pool.out() as u64,
            bytes_in: self.counters.bytes_in,
            bytes_out: self.counters.bytes_out,
            regimes: self.regimes.spent().to_vec(),
            latency: self.latency.total().clone(),
            recent_latency: self.latency.recent(),
            services: self.door.report(),
            house: self.house.report(self.counters.frozen),
            throttles: self.shared.take_demands(self.now),
        })
    }
}

/// A `tx` message without its witness, for a client that asked by MSG_TX.
fn strip(message: &Bytes) -> Bytes {
    let mut out = Vec::new();
    match strip_tx(&mut out, message) {
        Ok(()) => out.into(),
        Err(_) => message.clone(),
    }
}
