//! Transactions of clients: announcements and the transactions themselves, passed to the hub once.

use std::net::SocketAddr;

use bytes::Bytes;

use super::core::Core;
use super::flow::OUTBOX_SOFT;
use crate::admission::Host;
use crate::base::limits::{ANNOUNCERS_PER_SHARD, MAX_TX_ANNOUNCEMENTS, MAX_TX_IN_FLIGHT};
use crate::base::{ClientId, Fault};
use crate::feed::Seen;
use crate::link::{AskTx, ToHub};
use crate::wire::{Inv, InvKind, InvList, Tx, write};

impl Core {
    /// A client's `inv`. Blocks are the node's to announce; transactions not known here go to the hub.
    pub(super) fn tx_invs(&mut self, id: ClientId, list: InvList<'_>) {
        let Some(host) = self.host(id) else { return };
        let (mut passed, mut heard) = (0, 0);
        for inv in list.iter().filter(|inv| inv.kind.is_tx()) {
            let mark = self.seen.mark(&inv.hash);
            let mut again = false;
            if self.txs.get(&inv.hash).is_none() && heard < MAX_TX_ANNOUNCEMENTS {
                heard += 1;
                again = !self.heard.add(&inv.hash, id);
            }
            // Who repeats itself is no further announcer: it must not keep others from being asked.
            if again
                || mark == Seen::RECEIVED
                || mark >= ANNOUNCERS_PER_SHARD
                || self.txs.get(&inv.hash).is_some()
            {
                self.counters.tx_inv_known += 1;
                continue;
            }
            if passed >= MAX_TX_ANNOUNCEMENTS {
                return self.counters.fault(Fault::ExcessInv);
            }
            // An announcement may be dropped: the transaction is announced by others, or sent by its owner.
            if self.outbox.len() >= OUTBOX_SOFT + MAX_TX_ANNOUNCEMENTS {
                self.counters.tx_inv_dropped += 1;
                continue;
            }
            passed += 1;
            self.seen.set(&inv.hash, mark + 1);
            self.counters.tx_inv_passed += 1;
            self.tell_hub(ToHub::TxAnnounced { client: id, host, inv });
        }
    }

    /// A client's `tx`.
    pub(super) fn tx(&mut self, id: ClientId, payload: &[u8]) {
        let Some(host) = self.host(id) else { return };
        let Ok(tx) = Tx::parse(payload) else { return self.counters.fault(Fault::BadTx) };
        let (txid, wtxid) = (tx.txid(), tx.wtxid());
        if let Some(asked) = self.asked.get_mut(&id) {
            asked.retain(|inv| inv.hash != txid && inv.hash != wtxid);
            if asked.is_empty() {
                self.asked.remove(&id);
            }
        }
        self.heard.add(&wtxid, id);
        if self.seen.mark(&wtxid) == Seen::RECEIVED || self.txs.get(&wtxid).is_some() {
            self.counters.tx_duplicate += 1;
            return;
        }
        // Only the wtxid: another witness for the same txid may be the valid one.
        self.seen.set(&wtxid, Seen::RECEIVED);
        self.counters.tx_in += 1;
        let tx = Bytes::copy_from_slice(payload);
        self.tell_hub(ToHub::Tx { client: id, host, txid, wtxid, tx });
    }

    /// Who answers for what a client sends.
    fn host(&mut self, id: ClientId) -> Option<Host> {
        self.clients.get_mut(id).map(|client| Host::of(SocketAddr::from(client.peer).ip()))
    }

    /// A client's `notfound`: the hub asks another announcer.
    pub(super) fn tx_not_found(&mut self, id: ClientId, list: InvList<'_>) {
        for inv in list.iter().filter(|inv| inv.kind.is_tx()) {
            let Some(asked) = self.asked.get_mut(&id) else { return };
            let before = asked.len();
            asked.retain(|a| a.hash != inv.hash);
            let found = asked.len() < before;
            if asked.is_empty() {
                self.asked.remove(&id);
            }
            if found {
                self.tell_hub(ToHub::TxNotFound { client: id, inv });
            }
        }
    }

    /// The hub wants a transaction of a client.
    pub(super) fn ask_tx(&mut self, ask: AskTx) {
        if self.clients.get_mut(ask.client).is_none() {
            return self.tell_hub(ToHub::TxNotFound { client: ask.client, inv: ask.inv });
        }
        // The hub asks another announcer after a minute and says nothing: the oldest questions are its forgotten ones.
        let asked = self.asked.entry(ask.client).or_default();
        if asked.len() >= MAX_TX_IN_FLIGHT {
            asked.remove(0);
        }
        asked.push(ask.inv);
        let magic = self.config.magic;
        // What is announced by txid is asked for with its witness.
        let kind = if ask.inv.kind == InvKind::Tx { InvKind::WitnessTx } else { ask.inv.kind };
        self.push_message(ask.client, |out| {
            write::inventory(out, magic, "getdata", std::iter::once(Inv { kind, hash: ask.inv.hash }));
        });
    }
}
