//! Answers to requests for headers, blocks, transactions and addresses.

use std::net::SocketAddr;

use super::announce::tx_inv;
use super::{Dropped, PeerId, StubNode};
use crate::base::Instant;
use crate::base::limits::{
    MAX_ADDR, MAX_BLOCKTXN_DEPTH, MAX_CMPCTBLOCK_DEPTH, MAX_GETBLOCKS, MAX_HEADERS, MAX_INV,
};
use crate::stub::MAGIC;
use crate::wire::message::block_txn_indexes;
use crate::wire::{Hash, HashList, Inv, InvKind, InvList, write};

impl StubNode {
    pub(super) fn get_headers(&mut self, to: PeerId, locator: HashList<'_>, stop: &Hash) {
        let mut headers = Vec::new();
        let mut last = self.chain.tip_hash();
        if locator.is_empty() {
            // An empty locator asks for the one header named by the stop hash, of any branch.
            let Some(block) = self.chain.block(stop) else { return };
            headers.push(*block.header());
            last = *stop;
        } else {
            let mut height = self.chain.find_fork(locator) + 1;
            while let Some(block) = self.chain.at(height).filter(|_| headers.len() < MAX_HEADERS) {
                headers.push(*block.header());
                last = *block.hash();
                height += 1;
                if block.hash() == stop {
                    break;
                }
            }
        }
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.sent = Some(last);
        }
        self.write(to, |out| write::headers(out, MAGIC, headers.iter()));
    }

    pub(super) fn get_blocks(&mut self, to: PeerId, locator: HashList<'_>, stop: &Hash) {
        let first = self.chain.find_fork(locator) + 1;
        let hashes = (first..).map_while(|height| self.chain.at(height)).map(|block| *block.hash());
        let hashes = hashes.take_while(|hash| hash != stop).take(MAX_GETBLOCKS);
        let invs: Vec<Inv> = hashes.map(|hash| Inv { kind: InvKind::Block, hash }).collect();
        if !invs.is_empty() {
            self.write(to, |out| write::inventory(out, MAGIC, "inv", invs.into_iter()));
        }
    }

    pub(super) fn get_data(&mut self, to: PeerId, list: InvList<'_>) {
        let mut missing = Vec::new();
        for inv in list.iter() {
            if inv.kind.is_tx() {
                match self.chain.mempool().get(&inv.hash) {
                    Some(tx) => {
                        let bytes = tx.message.clone();
                        self.send(to, bytes);
                    }
                    None => missing.push(inv),
                }
            } else {
                self.give_block(to, inv);
            }
        }
        if !missing.is_empty() {
            self.write(to, |out| write::inventory(out, MAGIC, "notfound", missing.into_iter()));
        }
    }

    /// Blocks that are not known get no answer, as from Bitcoin Core.
    fn give_block(&mut self, to: PeerId, inv: Inv) {
        let Some(block) = self.chain.block(&inv.hash) else { return };
        let depth = self.chain.height().saturating_sub(block.height());
        let bytes = match inv.kind {
            InvKind::Block => block.stripped_message(),
            InvKind::CompactBlock if depth <= MAX_CMPCTBLOCK_DEPTH => {
                let bytes = block.cmpct_message();
                self.counters.compact_served += 1;
                return self.send(to, bytes);
            }
            InvKind::WitnessBlock | InvKind::CompactBlock => block.message().clone(),
            _ => return,
        };
        self.counters.blocks_served += 1;
        self.send(to, bytes);
    }

    pub(super) fn get_block_txn(&mut self, now: Instant, to: PeerId, hash: &Hash, indexes: &[u8]) {
        let Some(block) = self.chain.block(hash) else { return };
        if self.chain.height().saturating_sub(block.height()) > MAX_BLOCKTXN_DEPTH {
            let bytes = block.message().clone();
            self.counters.blocks_served += 1;
            return self.send(to, bytes);
        }
        let positions = block_txn_indexes(indexes).ok();
        match positions.and_then(|positions| block.block_txn_message(&positions)) {
            Some(bytes) => self.send(to, bytes),
            None => self.drop_peer(now, to, Dropped::BlockTxn),
        }
    }

    pub(super) fn mempool(&mut self, to: PeerId) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let mut invs = Vec::new();
        for tx in self.chain.mempool().iter() {
            peer.known.insert(tx.txid);
            peer.known.insert(tx.wtxid);
            invs.push(tx_inv(tx, peer.wtxid));
        }
        for part in invs.chunks(MAX_INV) {
            self.write(to, |out| write::inventory(out, MAGIC, "inv", part.iter().copied()));
        }
    }

    /// The first `getaddr` of a connection is answered, others are not.
    pub(super) fn get_addr(&mut self, now: Instant, to: PeerId) {
        let Some(peer) = self.peers.get_mut(&to).filter(|peer| !peer.addresses_given) else { return };
        peer.addresses_given = true;
        let v2 = peer.addrv2;
        let list: Vec<SocketAddr> = self.options.addresses.iter().take(MAX_ADDR).copied().collect();
        if list.is_empty() {
            return;
        }
        let (time, services) = (u32::try_from(self.unix(now)).unwrap_or(u32::MAX), self.services().bits());
        self.write(to, |out| {
            write::message(out, MAGIC, if v2 { "addrv2" } else { "addr" }, |out| {
                write::compact(out, list.len() as u64);
                for addr in list {
                    out.extend_from_slice(&time.to_le_bytes());
                    match v2 {
                        true => write::address_v2(out, services, addr),
                        false => write::address(out, services, addr),
                    }
                }
            });
        });
    }
}
