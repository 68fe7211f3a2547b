//! Transactions given to a wallet: announced, and given to whoever asks.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bytes::Bytes;

use super::Event;
use crate::base::Instant;
use crate::wire::{Hash, Inv, InvKind, InvList, Magic, write};

/// Transactions a wallet holds.
const MAX_HELD: usize = 1_000;

/// What a wallet keeps.
#[derive(Debug, Default)]
pub(super) struct Wallet {
    /// By wtxid.
    held: BTreeMap<Hash, Held>,
}

#[derive(Debug)]
struct Held {
    txid: Hash,
    bytes: Bytes,
}

impl Wallet {
    /// Holds a transaction, and announces it when `by_wtxid` says that (and how) it can be.
    pub(super) fn submit(
        &mut self,
        tx: &Transaction,
        by_wtxid: Option<bool>,
        magic: Magic,
        out: &mut Vec<u8>,
    ) -> bool {
        if self.held.len() >= MAX_HELD {
            return false;
        }
        let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
        self.held.insert(wtxid, Held { txid, bytes: Bytes::from(serialize(tx)) });
        if let Some(by_wtxid) = by_wtxid {
            write::inventory(out, magic, "inv", [inv(&wtxid, &txid, by_wtxid)].into_iter());
        }
        true
    }

    /// Announces everything, on a new connection.
    pub(super) fn announce(&self, by_wtxid: bool, magic: Magic, out: &mut Vec<u8>) {
        let invs: Vec<Inv> = self.held.iter().map(|(wtxid, held)| inv(wtxid, &held.txid, by_wtxid)).collect();
        if !invs.is_empty() {
            write::inventory(out, magic, "inv", invs.into_iter());
        }
    }

    /// Gives what is asked for, and says what is not here.
    pub(super) fn give(
        &mut self,
        now: Instant,
        list: InvList<'_>,
        magic: Magic,
        events: &mut Vec<Event>,
        out: &mut Vec<u8>,
    ) {
        let mut missing = Vec::new();
        for inv in list.iter() {
            let by_txid = || self.held.iter().find(|(_, held)| held.txid == inv.hash);
            match self.held.get_key_value(&inv.hash).or_else(by_txid) {
                Some((wtxid, held)) => {
                    write::raw(out, magic, "tx", &held.bytes);
                    events.push(Event::Given { wtxid: *wtxid, at: now });
                }
                None => missing.push(inv),
            }
        }
        if !missing.is_empty() {
            write::inventory(out, magic, "notfound", missing.into_iter());
        }
    }
}

fn inv(wtxid: &Hash, txid: &Hash, by_wtxid: bool) -> Inv {
    match by_wtxid {
        true => Inv { kind: InvKind::Wtx, hash: *wtxid },
        false => Inv { kind: InvKind::Tx, hash: *txid },
    }
}
