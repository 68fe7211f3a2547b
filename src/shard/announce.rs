//! Announcements: sweeping the clients that are behind a log's head.
//!
//! A sweep goes over the table by slot, `ShardConfig::sweep` a turn. A client in the middle of a send is passed over and
//! catches up when that send is over (`flow`). When the head moves during a sweep, another follows at its end.

use super::core::{Client, Core};
use crate::base::ClientId;
use crate::client::Flags;
use crate::feed::Form;
use crate::io::Payload;
use crate::wire::write;

/// Where a sweep stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The next slot; `None` when no sweep is under way.
    at: Option<u32>,
    /// The head has moved since the sweep began.
    again: bool,
}

impl Sweep {
    /// The head has moved.
    pub(super) fn start(&mut self) {
        match self.at {
            Some(_) => self.again = true,
            None => self.at = Some(0),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.at.is_some()
    }

    /// The end of the table is reached.
    fn finish(&mut self) {
        self.at = std::mem::take(&mut self.again).then_some(0);
    }
}

impl Core {
    /// A turn's share of the sweeps. Transactions wait for blocks. True exactly when there was one.
    pub(super) fn sweep(&mut self) -> bool {
        if self.txs.is_unsealed() && self.now >= self.next_seal {
            self.txs.seal();
            self.next_seal = self.now + self.config.tx_interval;
            self.tx_sweep.start();
        }
        if self.block_sweep.is_running() {
            self.sweep_blocks();
        } else if self.tx_sweep.is_running() {
            self.sweep_txs();
        } else if self.fee_sweep.is_running() {
            self.sweep_fees();
        } else {
            return false;
        }
        true
    }

    /// The node takes other fees than before: clients are told, or a wallet that was told of a node's first sync (which takes
    /// none) would hold its transactions back for good.
    fn sweep_fees(&mut self) {
        let (end, magic, rate) = (self.clients.end(), self.config.magic, self.policy.fee_filter);
        let Some(first) = self.fee_sweep.at else { return };
        let last = end.min(first.saturating_add(self.config.sweep as u32));
        for slot in first..last {
            if let Some((id, client)) = self.clients.at(slot)
                && client.is(Flags::READY)
            {
                self.push_message(id, |out| write::fee_filter(out, magic, rate));
            }
        }
        self.fee_sweep.at = Some(last);
        if last >= end {
            self.fee_sweep.finish();
        }
    }

    fn sweep_blocks(&mut self) {
        let heads = self.heads();
        let end = self.clients.end();
        let Some(mut slot) = self.block_sweep.at else { return };
        // Looking at a slot is cheap, sending is not: both are bounded.
        let (mut sends, mut looks, most) = (0, 0, self.config.sweep);
        while slot < end && sends < most && looks < 16 * most {
            looks += 1;
            if let Some((id, client)) = self.clients.at(slot)
                && is_behind(client, heads)
                && self.announce_block(id)
            {
                sends += 1;
            }
            slot += 1;
        }
        self.block_sweep.at = Some(slot);
        if slot >= end {
            self.block_sweep.finish();
        }
    }

    fn sweep_txs(&mut self) {
        let sealed = self.txs.sealed();
        let end = self.clients.end();
        let Some(mut slot) = self.tx_sweep.at else { return };
        let (mut sends, mut looks, most) = (0, 0, self.config.sweep);
        while slot < end && sends < most && looks < 16 * most {
            looks += 1;
            if let Some((id, client)) = self.clients.at(slot)
                && client.txs != sealed
                && self.announce_txs(id)
            {
                sends += 1;
            }
            slot += 1;
        }
        self.tx_sweep.at = Some(slot);
        if slot >= end {
            self.tx_sweep.finish();
        }
    }

    /// The heads for clients without and with filters.
    pub(super) fn heads(&self) -> (u32, u32) {
        (self.blocks.head(), self.blocks.filtered_head(&self.view))
    }

    /// Tells a client of the blocks it has not heard of. True when something was sent.
    pub(super) fn announce_block(&mut self, id: ClientId) -> bool {
        let head = self.blocks.head();
        let Some(client) = self.clients.get_mut(id) else { return false };
        if client.blocks == head || !between_messages(client) {
            return false;
        }
        let filtered = client.is(Flags::FILTERS);
        let (form, cursor) = (form(client), client.blocks);
        let to = if filtered { self.blocks.filtered_head(&self.view) } else { head };
        let told = self.blocks.announce(cursor, to, form, &self.view);
        let Some(client) = self.clients.get_mut(id) else { return false };
        client.blocks = told.cursor;
        if told.alone {
            // It hears of the tip alone and asks for what lies between; until then it hears by inv.
            client.flags.remove(Flags::SYNCED);
        }
        self.counters.block_log_missed += u64::from(told.missed);
        let Some(message) = told.message else { return false };
        self.counters.block_announcements += 1;
        self.latency.told(told.had);
        self.send(id, Payload::Shared(message));
        true
    }

    /// Tells a client of the transactions it has not heard of. True when something was sent.
    pub(super) fn announce_txs(&mut self, id: ClientId) -> bool {
        let sealed = self.txs.sealed();
        let Some(client) = self.clients.get_mut(id) else { return false };
        if client.txs == sealed || !between_messages(client) {
            return false;
        }
        if !client.is(Flags::RELAY) {
            client.txs = sealed;
            return false;
        }
        let busy = client.active.as_ref().is_some_and(|a| a.is_busy());
        if busy {
            // Transactions wait for what the client asked for; it catches up afterwards.
            return false;
        }
        let told = self.txs.announce(client.txs, client.is(Flags::WTXID), id);
        client.txs = told.cursor;
        self.counters.tx_skipped += u64::from(told.skipped);
        let Some(message) = told.message else { return false };
        self.counters.tx_announcements += 1;
        self.send(id, Payload::Shared(message));
        true
    }
}

/// True exactly when a whole message may be sent now.
fn between_messages(client: &Client) -> bool {
    client.is(Flags::READY)
        && !client.flags.intersects(Flags::SENDING | Flags::MID_MESSAGE | Flags::CLOSING)
        && client.active.as_ref().is_none_or(|active| active.control.is_empty())
}

fn is_behind(client: &Client, heads: (u32, u32)) -> bool {
    client.blocks != if client.is(Flags::FILTERS) { heads.1 } else { heads.0 }
}

/// How a client wants to hear of blocks. Whoever's headers are not known to reach ours hears by inv and asks.
fn form(client: &Client) -> Form {
    if !client.is(Flags::SYNCED) {
        Form::Inv
    } else if client.is(Flags::COMPACT | Flags::HIGH_BANDWIDTH) {
        Form::Compact
    } else if client.is(Flags::HEADERS) {
        Form::Headers
    } else {
        Form::Inv
    }
}
