//! What requests cost a client, and the flow control that follows: who is over its capacity is not read until its buffer has recovered.
//!
//! A request is looked at before it is handled: it is taken when the most that it can cost is in the buffer; the difference to what it has
//! cost comes back when it is served. Otherwise it stays in the input, unread, and TCP pushes back; nobody is disconnected for
//! asking much.

use super::core::Core;
use super::holds::Way;
use crate::admission::{Admit, Flow, Kind};
use crate::base::ClientId;
use crate::base::limits::{
    CFCHECKPT_INTERVAL, MAX_ADDR, MAX_CFHEADERS, MAX_CFILTERS, MAX_GETBLOCKS, MAX_HEADERS, MAX_INV,
};
use crate::client::Flags;
use crate::wire::{InvKind, Message};

/// A request that is being served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    kind: Kind,
    items: u32,
    /// What was taken from the buffer.
    max: u32,
    /// What the entries of other kinds cost, whatever their bytes.
    extra: u32,
    /// Bytes that had gone to the client when it began.
    from: u64,
}

impl Core {
    /// Takes a request's cost from the client's buffer. False when it has to wait: the client is held then.
    pub(super) fn afford(&mut self, id: ClientId, message: &Message<'_>) -> bool {
        let now = self.now;
        let Some(client) = self.clients.get_mut(id) else { return true };
        let unlimited = client.account.flow.capacity() == u32::MAX;
        if unlimited || !client.is(Flags::READY) {
            return true;
        }
        let (kind, items, extra) = self.priced(message);
        let max = self.config.costs.max_cost(kind, items).saturating_add(extra);
        let Some(client) = self.clients.get_mut(id) else { return true };
        match client.account.flow.admit(now, max) {
            Admit::Now => {
                let from = client.account.bytes_out;
                self.charge = Some(Charge { kind, items, max, extra, from });
                self.recharges(id);
                true
            }
            Admit::At(at) => {
                self.counters.over_capacity += 1;
                self.hold(id, Way::Up, at);
                false
            }
        }
    }

    /// The request that was taken last has been handled; `waiting` bytes of answers have not been sent. One that takes longer is
    /// settled when it is served.
    pub(super) fn handled(&mut self, id: ClientId, waiting: usize) {
        let Some(charge) = self.charge.take() else { return };
        let Some(client) = self.clients.get_mut(id) else { return };
        match client.active.as_mut().filter(|active| active.is_busy()) {
            Some(active) => active.charge = Some(charge),
            None => self.settle_charge(id, charge, waiting),
        }
    }

    /// The request that took longer is served.
    pub(super) fn served(&mut self, id: ClientId) {
        let active = self.clients.get_mut(id).and_then(|client| client.active.as_mut());
        if let Some(charge) =
            active.filter(|active| !active.is_busy()).and_then(|active| active.charge.take())
        {
            self.settle_charge(id, charge, 0);
        }
    }

    /// What it has not cost comes back.
    fn settle_charge(&mut self, id: ClientId, charge: Charge, waiting: usize) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(id) else { return };
        let out = client.account.bytes_out;
        let bytes = out.saturating_sub(charge.from).saturating_add(waiting as u64);
        let items = items(charge.kind, charge.items, bytes);
        let real = self.config.costs.real_cost(charge.kind, items, bytes).saturating_add(charge.extra);
        client.account.flow.settle(now, charge.max, real);
        let group = (charge.kind.group() as usize).min(client.account.costs.len() - 1);
        let cost = &mut client.account.costs[group];
        *cost = cost.saturating_add(real);
        self.counters.cost += u64::from(real);
        self.house.free.served(self.unix, id.slot, real);
    }

    /// Another capacity, in cost units per second; u32::MAX for none. The house has been asked.
    pub(super) fn change_flow(&mut self, id: ClientId, capacity: u32) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.account.flow.capacity() == u32::MAX {
            client.account.flow = Flow::new(now, capacity);
        } else {
            client.account.flow.set_capacity(now, capacity);
        }
        self.read_again(id);
    }

    /// What a message asks for: its kind, how many, and the cost of what else is in it.
    fn priced(&self, message: &Message<'_>) -> (Kind, u32, u32) {
        let of = |kind, items: usize| (kind, u32::try_from(items).unwrap_or(u32::MAX), 0);
        match message {
            Message::GetHeaders { .. } => of(Kind::Headers, MAX_HEADERS),
            Message::GetBlocks { .. } => of(Kind::Inv, MAX_GETBLOCKS),
            Message::GetData(list) => {
                let mut counts = [(Kind::Block, 0), (Kind::CompactBlock, 0), (Kind::Tx, 0)];
                for inv in list.iter() {
                    let at = match inv.kind {
                        InvKind::Block | InvKind::WitnessBlock => 0,
                        InvKind::CompactBlock => 1,
                        _ => 2,
                    };
                    counts[at].1 += 1_u32;
                }
                let (kind, items) = counts.into_iter().find(|(_, items)| *items > 0).unwrap_or((Kind::Tx, 0));
                let others = counts.into_iter().filter(|(other, items)| *other != kind && *items > 0);
                let extra = others.map(|(other, items)| self.config.costs.real_cost(other, items, 0)).sum();
                (kind, items, extra)
            }
            Message::GetBlockTxn { indexes, .. } => of(Kind::BlockTxn, indexes.len()),
            Message::GetCFilters { .. } => of(Kind::Filters, MAX_CFILTERS as usize),
            Message::GetCFHeaders { .. } => of(Kind::FilterHeaders, MAX_CFHEADERS as usize),
            Message::GetCFCheckpt { .. } => of(Kind::FilterCheckpoints, CFCHECKPT_INTERVAL as usize),
            Message::Mempool => of(Kind::Mempool, MAX_INV),
            Message::GetAddr => of(Kind::Addresses, MAX_ADDR),
            Message::Inv(list) => of(Kind::Inv, list.len()),
            Message::Tx(_) => of(Kind::Submit, 1),
            Message::Ping(_) => of(Kind::Ping, 1),
            _ => of(Kind::Other, 0),
        }
    }
}

/// How many items an answer had, as far as its bytes tell.
fn items(kind: Kind, asked: u32, bytes: u64) -> u32 {
    let size = match kind {
        Kind::Headers | Kind::FilterHeaders | Kind::FilterCheckpoints | Kind::Mempool | Kind::Addresses => {
            kind.item_bytes()
        }
        // A filter of an empty block, with the frame of its message.
        Kind::Filters => 80,
        _ => return asked,
    };
    asked.min(u32::try_from(bytes / size.max(1)).unwrap_or(u32::MAX))
}
