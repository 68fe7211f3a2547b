//! getdata: blocks and transactions from the shard's memory, everything else through the hub, in the order asked.

use super::active::Waiting;
use super::core::Core;
use crate::base::limits::{LIMITED_BLOCKS, MAX_BLOCKTXN_DEPTH, MAX_CMPCTBLOCK_DEPTH, REPLY_SOFT_LIMIT};
use crate::base::{ClientId, End, Fault};
use crate::client::Flags;
use crate::link::{ToHub, Want, WantId};
use crate::wire::message::block_txn_indexes;
use crate::wire::tx::strip_tx;
use crate::wire::{Hash, Inv, InvKind, InvList, Services, write};

/// What became of one entry.
enum Served {
    /// Its bytes are in the reply, or it needs none.
    Done,
    /// It is not to be had.
    NotFound,
    /// It goes out by itself, or the hub is asked: the entries behind it wait.
    Later,
}

impl Core {
    /// Serves the entries of a getdata, keeping for later what cannot be served at once.
    pub(super) fn get_data(&mut self, id: ClientId, list: InvList<'_>, out: &mut Vec<u8>) -> Result<(), End> {
        let mut not_found = std::mem::take(&mut self.not_found);
        let used = self.serve_entries(id, list, &mut not_found, out);
        let rest =
            &list.as_bytes()[(*used.as_ref().unwrap_or(&0) * InvList::ENTRY).min(list.as_bytes().len())..];
        let later = self.clients.get_mut(id).is_some_and(|c| c.active.as_ref().is_some_and(|a| a.is_busy()));
        if rest.is_empty() && !later {
            if !not_found.is_empty() {
                write::inventory(out, self.config.magic, "notfound", not_found.iter().copied());
            }
        } else if let Some(active) = self.active(id) {
            active.entries.clear();
            active.entries.extend_from_slice(rest);
            active.entries_at = 0;
            active.not_found.extend_from_slice(&not_found);
            // Each entry that is left may end as one not found.
            let held = 2 * rest.len();
            active.held += held;
            self.pool.hold(held);
        }
        not_found.clear();
        self.not_found = not_found;
        used.map(|_| ())
    }

    /// Goes on with a getdata that was interrupted.
    pub(super) fn more_entries(&mut self, id: ClientId, out: &mut Vec<u8>) -> Result<(), End> {
        let Some(active) = self.active(id) else { return Ok(()) };
        let entries = std::mem::take(&mut active.entries);
        let mut not_found = std::mem::take(&mut active.not_found);
        let at = active.entries_at;
        let list = InvList::from_bytes(entries.get(at..).unwrap_or(&[]));
        let used = self.serve_entries(id, list, &mut not_found, out);
        let at = at + used.as_ref().unwrap_or(&0) * InvList::ENTRY;
        if let Some(active) = self.active(id) {
            (active.entries, active.entries_at, active.not_found) = (entries, at, not_found);
        }
        self.finish_entries(id, out);
        used.map(|_| ())
    }

    /// Answers with notfound what was not found, once the getdata is through and all that was found is on its way.
    pub(super) fn finish_entries(&mut self, id: ClientId, out: &mut Vec<u8>) {
        let magic = self.config.magic;
        let Some(active) = self.clients.get_mut(id).and_then(|c| c.active.as_mut()) else { return };
        if active.is_busy() {
            return;
        }
        active.entries.clear();
        active.entries_at = 0;
        if !active.not_found.is_empty() {
            write::inventory(out, magic, "notfound", active.not_found.drain(..));
        }
    }

    /// Serves entries in order until one has to wait or the reply is long enough. Returns how many are through.
    fn serve_entries(
        &mut self,
        id: ClientId,
        list: InvList<'_>,
        not_found: &mut Vec<Inv>,
        out: &mut Vec<u8>,
    ) -> Result<usize, End> {
        let mut through = 0;
        for inv in list.iter() {
            through += 1;
            match self.serve_entry(id, inv, out)? {
                Served::Done => {}
                Served::NotFound => not_found.push(inv),
                Served::Later => break,
            }
            if out.len() >= REPLY_SOFT_LIMIT {
                break;
            }
        }
        Ok(through)
    }

    fn serve_entry(&mut self, id: ClientId, inv: Inv, out: &mut Vec<u8>) -> Result<Served, End> {
        match inv.kind {
            InvKind::Tx | InvKind::WitnessTx | InvKind::Wtx => Ok(self.serve_tx(id, inv, out)),
            InvKind::Block | InvKind::WitnessBlock | InvKind::CompactBlock => self.serve_block(id, inv),
            InvKind::FilteredBlock | InvKind::Other(_) => Ok(Served::NotFound),
        }
    }

    fn serve_tx(&mut self, id: ClientId, inv: Inv, out: &mut Vec<u8>) -> Served {
        let by_wtxid = inv.kind == InvKind::Wtx;
        let found =
            self.txs.get(&inv.hash).filter(|tx| inv.hash == if by_wtxid { tx.wtxid } else { tx.txid });
        let Some(tx) = found else {
            // Without witness it is made by the hub's answer path only for the log's transactions: an
            // older one is given with witness to those who know it, and not at all to the others.
            self.want(id, Want::Tx { hash: inv.hash, by_wtxid }, Some(inv));
            return Served::Later;
        };
        self.counters.served_local += 1;
        if inv.kind == InvKind::Tx {
            // The hub's transactions parse; should one not, the client is told so.
            if strip_tx(out, &tx.message).is_err() {
                return Served::NotFound;
            }
        } else {
            out.extend_from_slice(&tx.message);
        }
        Served::Done
    }

    fn serve_block(&mut self, id: ClientId, inv: Inv) -> Result<Served, End> {
        let height = self.view.height(&inv.hash);
        let recent = self.blocks.recent(&inv.hash).cloned();
        let (Some(_), depth) = (
            height.or(recent.as_ref().map(|news| news.height)),
            height.map_or(0, |height| self.view.tip_height() - height),
        ) else {
            return Ok(Served::NotFound);
        };
        // A client that was promised every block is not blamed when the node that has them is away for long.
        let promised = self.clients.get_mut(id).is_some_and(|c| c.is(Flags::PROMISED_ALL));
        let limited = !promised && !self.policy.services.contains(Services::NETWORK);
        // Two blocks of grace for blocks that come while the request travels, as Bitcoin Core gives.
        if limited && depth > LIMITED_BLOCKS + 2 {
            return Err(End::TooDeep);
        }
        if height.is_some_and(|height| height > 0) {
            self.continue_blocks(id, height.unwrap_or(0));
        }
        let compact = inv.kind == InvKind::CompactBlock && depth <= MAX_CMPCTBLOCK_DEPTH;
        match (recent, inv.kind) {
            (Some(news), InvKind::WitnessBlock | InvKind::CompactBlock) => {
                self.counters.served_local += 1;
                let bytes = if compact { news.cmpct.clone() } else { news.block.clone() };
                if let Some(active) = self.active(id) {
                    active.ready = Some(bytes);
                }
            }
            (_, InvKind::Block) => self.want(id, Want::StrippedBlock(inv.hash), Some(inv)),
            _ if compact => self.want(id, Want::CompactBlock(inv.hash), Some(inv)),
            _ => self.want(id, Want::Block(inv.hash), Some(inv)),
        }
        Ok(Served::Later)
    }

    /// After the last block of a getblocks answer that stopped short of our tip, the tip is named by inv.
    fn continue_blocks(&mut self, id: ClientId, height: u32) {
        let (magic, tip) = (self.config.magic, self.view.tip_hash());
        let Some(client) = self.clients.get_mut(id).filter(|c| c.continue_at == height + 1) else { return };
        client.continue_at = 0;
        self.after_request(id, |out| {
            let entry = Inv { kind: InvKind::Block, hash: tip };
            write::inventory(out, magic, "inv", std::iter::once(entry));
        });
    }

    /// `getblocktxn`: from a recent block, at most ten deep; a deeper one is given in full (BIP152).
    pub(super) fn get_block_txn(
        &mut self,
        id: ClientId,
        block: &Hash,
        indexes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        let indexes = match block_txn_indexes(indexes) {
            Ok(indexes) => indexes,
            Err(error) => return error.outcome().map(|fault| self.counters.fault(fault)),
        };
        let deep = |height| self.view.tip_height().saturating_sub(height) > MAX_BLOCKTXN_DEPTH;
        match self.blocks.recent(block) {
            Some(news) if !deep(news.height) => {
                news.blocktxn(self.config.magic, &indexes, out).map_err(|_| End::BadBlockTxn)?;
                self.counters.served_local += 1;
            }
            _ if self.view.height(block).is_some() => self.want(id, Want::Block(*block), None),
            _ => self.counters.fault(Fault::UnrequestedAnswer),
        }
        Ok(())
    }

    /// `mempool`: only where allowed.
    pub(super) fn get_mempool(&mut self, id: ClientId) -> Result<(), End> {
        if !self.policy.mempool {
            return Err(End::BloomNotServed);
        }
        let by_wtxid = self.clients.get_mut(id).is_some_and(|c| c.is(Flags::WTXID));
        self.want(id, Want::Mempool { by_wtxid }, None);
        Ok(())
    }

    /// `getaddr`: the day's addresses, the same for everybody, so that asking often maps nothing.
    pub(super) fn get_addr(&mut self, id: ClientId, out: &mut Vec<u8>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let (addr, addrv2) = &self.addresses;
        out.extend_from_slice(if client.is(Flags::ADDRV2) { addrv2 } else { addr });
        self.counters.served_local += 1;
    }

    /// Asks the hub for something; the client waits.
    pub(super) fn want(&mut self, id: ClientId, want: Want, entry: Option<Inv>) {
        self.next_want = self.next_want.wrapping_add(1);
        let number = WantId(self.next_want);
        self.wait_for(id, Waiting::Hub { id: number, entry });
        self.counters.wants += 1;
        self.tell_hub(ToHub::Want { client: id, id: number, want });
    }
}
