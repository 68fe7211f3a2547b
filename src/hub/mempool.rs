//! The transactions a node has accepted and not confirmed, as far as they have been heard.
//!
//! Serves getdata, rebuilds compact blocks and answers `mempool`. Validates nothing: what is inserted has been accepted by
//! a node. Bounded by bytes, by age, and emptied by confirmation; a transaction that a block or a newer
//! transaction contradicts leaves with its descendants. Those of blocks that left the best chain come back quietly: they are
//! served, but count as unheard until a node names them again. Knows no clock: the instant is an argument.
//!
//! Invariants: `by_txid`, `by_wtxid` and `order` name every entry of `slots` and nothing else; `spenders` names for every
//! input of every entry that entry (no two entries spend the same output); `bytes` is the sum of the entries' lengths.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use slotmap::SlotMap;

use crate::base::limits::MEMPOOL_EXPIRY;
use crate::base::{ClientRef, Instant};
use crate::wire::{Hash, Inv, InvKind, OutPoint, Tx, WireError, tx::unframe};

slotmap::new_key_type! {
    /// A slot with its generation.
    struct Key;
}

/// A transaction of the mempool.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Hash without witness.
    pub txid: Hash,
    /// Hash with witness.
    pub wtxid: Hash,
    /// The whole `tx` message with witness, v1 frame included.
    pub message: Bytes,
    /// When it came.
    pub time: Instant,
    /// The client it came from, if from one of ours.
    pub origin: Option<ClientRef>,
    /// True exactly when it came back from a block that left the best chain, and no node has named it since.
    pub unheard: bool,
    /// Position in the order of coming.
    seq: u64,
}

impl Entry {
    /// The transaction without the frame.
    pub fn payload(&self) -> Bytes {
        self.message.slice(crate::base::limits::HEADER_LEN.min(self.message.len())..)
    }
}

/// Why a transaction left.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GoneReason {
    /// A block contains it.
    Confirmed,
    /// A block spends what it spends, or it descends from such a one.
    Conflict,
    /// A newer transaction spends what it spends, or it descends from such a one.
    Replaced,
    /// It was older than `MEMPOOL_EXPIRY`.
    Expired,
    /// It was the oldest when the bytes ran out.
    Evicted,
}

/// A transaction that left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Hash without witness.
    pub txid: Hash,
    /// Hash with witness.
    pub wtxid: Hash,
    /// Why.
    pub reason: GoneReason,
}

/// What became of an insertion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inserted {
    /// Hash without witness.
    pub txid: Hash,
    /// Hash with witness.
    pub wtxid: Hash,
    /// False when it was there before, or when another witness of the same transaction was.
    pub new: bool,
    /// What left for it.
    pub gone: Vec<Gone>,
}

/// Why a transaction is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InsertError {
    /// It does not decode.
    #[error("transaction does not decode: {0}")]
    Wire(#[from] WireError),
    /// It alone is larger than the mempool may be.
    #[error("transaction of {found} bytes, the mempool holds {most}")]
    TooLarge {
        /// Its bytes, frame included.
        found: usize,
        /// The bound.
        most: usize,
    },
}

/// What the mempool counts, as totals since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MempoolCounters {
    /// Inserted.
    pub inserted: u64,
    /// Taken back from a block that left the best chain.
    pub returned: u64,
    /// Not inserted because it was there.
    pub duplicate: u64,
    /// Not inserted because it did not decode or was larger than the whole mempool.
    pub refused: u64,
    /// Left because confirmed.
    pub confirmed: u64,
    /// Left because a block contradicts them.
    pub conflict: u64,
    /// Left because replaced.
    pub replaced: u64,
    /// Left because too old.
    pub expired: u64,
    /// Left because the bytes ran out.
    pub evicted: u64,
}

/// The mempool.
#[derive(Debug)]
pub struct Mempool {
    most: usize,
    bytes: usize,
    next_seq: u64,
    slots: SlotMap<Key, Entry>,
    by_txid: HashMap<Hash, Key>,
    by_wtxid: HashMap<Hash, Key>,
    spenders: HashMap<OutPoint, Key>,
    order: BTreeMap<u64, Key>,
    counters: MempoolCounters,
}

impl Mempool {
    /// An empty one that holds at most `most` bytes of messages. Indexes come on
    /// top: about 200 bytes a transaction and 60 an input.
    pub fn new(most: usize) -> Mempool {
        Mempool {
            most,
            bytes: 0,
            next_seq: 0,
            slots: SlotMap::with_key(),
            by_txid: HashMap::new(),
            by_wtxid: HashMap::new(),
            spenders: HashMap::new(),
            order: BTreeMap::new(),
            counters: MempoolCounters::default(),
        }
    }

    /// Number of transactions.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True exactly when there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of all messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What has been counted.
    pub fn counters(&self) -> MempoolCounters {
        self.counters
    }

    /// The transaction with this txid.
    pub fn by_txid(&self, txid: &Hash) -> Option<&Entry> {
        self.slots.get(*self.by_txid.get(txid)?)
    }

    /// The transaction with this wtxid.
    pub fn by_wtxid(&self, wtxid: &Hash) -> Option<&Entry> {
        self.slots.get(*self.by_wtxid.get(wtxid)?)
    }

    /// The transaction an inventory entry names; `None` for entries that name none.
    pub fn get(&self, inv: &Inv) -> Option<&Entry> {
        match inv.kind {
            InvKind::Wtx => self.by_wtxid(&inv.hash),
            kind if kind.is_tx() => self.by_txid(&inv.hash),
            _ => None,
        }
    }

    /// True exactly when a node has named the transaction of an inventory entry since it was last confirmed.
    pub fn is_heard(&self, inv: &Inv) -> bool {
        self.get(inv).is_some_and(|entry| !entry.unheard)
    }

    /// A node has named a transaction; true when it had come back unheard.
    pub fn hear(&mut self, wtxid: &Hash) -> bool {
        let entry = self.by_wtxid.get(wtxid).and_then(|key| self.slots.get_mut(*key));
        entry.is_some_and(|entry| std::mem::take(&mut entry.unheard))
    }

    /// Every transaction, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.order.values().filter_map(|key| self.slots.get(*key))
    }

    /// Wtxids and messages of all, for the short ids of compact blocks; in no order.
    pub fn wtxids(&self) -> impl Iterator<Item = (&Hash, &Entry)> {
        self.slots.values().map(|entry| (&entry.wtxid, entry))
    }

    /// Inventory entries of all, oldest first: by wtxid (BIP339) or by txid.
    pub fn inv(&self, by_wtxid: bool) -> Vec<Inv> {
        let entry = |entry: &Entry| match by_wtxid {
            true => Inv { kind: InvKind::Wtx, hash: entry.wtxid },
            false => Inv { kind: InvKind::Tx, hash: entry.txid },
        };
        self.iter().map(entry).collect()
    }

    /// Takes a transaction that a node has accepted, as a whole `tx` message with witness (v1 frame included).
    /// Those it contradicts leave as replaced; the oldest leave when the bytes run out.
    pub fn insert(
        &mut self,
        now: Instant,
        message: Bytes,
        origin: Option<ClientRef>,
    ) -> Result<Inserted, InsertError> {
        let result = self.try_insert(now, message, origin);
        match &result {
            Ok(inserted) if inserted.new => self.counters.inserted += 1,
            Ok(_) => self.counters.duplicate += 1,
            Err(_) => self.counters.refused += 1,
        }
        result
    }

    fn try_insert(
        &mut self,
        now: Instant,
        message: Bytes,
        origin: Option<ClientRef>,
    ) -> Result<Inserted, InsertError> {
        let tx = Tx::parse(unframe(&message)?.1)?;
        let (txid, wtxid, size) = (tx.txid(), tx.wtxid(), message.len());
        let mut gone = Vec::new();
        if self.by_txid.contains_key(&txid) {
            return Ok(Inserted { txid, wtxid, new: false, gone });
        }
        if size > self.most {
            return Err(InsertError::TooLarge { found: size, most: self.most });
        }
        for spent in tx.spends() {
            if let Some(key) = self.spenders.get(&spent).copied() {
                self.remove_with_descendants(key, GoneReason::Replaced, &mut gone);
            }
        }
        while self.bytes + size > self.most {
            let Some(key) = self.order.values().next().copied() else { break };
            self.remove(key, GoneReason::Evicted, &mut gone);
        }
        let (message, unheard) = (message.clone(), false);
        self.put(&tx, Entry { txid, wtxid, message, time: now, origin, unheard, seq: 0 });
        Ok(Inserted { txid, wtxid, new: true, gone })
    }

    /// Takes back a transaction of a block that left the best chain, as a whole `tx` message with witness. Nothing leaves
    /// for it: false when it is here, contradicts what is here, does not decode, or the bytes do not suffice.
    pub fn give_back(&mut self, now: Instant, message: Bytes) -> bool {
        let Ok(tx) = unframe(&message).and_then(|(_, payload)| Tx::parse(payload)) else { return false };
        let (txid, wtxid) = (tx.txid(), tx.wtxid());
        if self.by_txid.contains_key(&txid)
            || self.bytes + message.len() > self.most
            || tx.spends().any(|spent| self.spenders.contains_key(&spent))
        {
            return false;
        }
        let message = message.clone();
        self.put(&tx, Entry { txid, wtxid, message, time: now, origin: None, unheard: true, seq: 0 });
        self.counters.returned += 1;
        true
    }

    /// Enters what fits and contradicts nothing, as the newest.
    fn put(&mut self, tx: &Tx<'_>, entry: Entry) {
        let (txid, wtxid, seq) = (entry.txid, entry.wtxid, self.next_seq);
        self.next_seq += 1;
        self.bytes += entry.message.len();
        let key = self.slots.insert(Entry { seq, ..entry });
        self.by_txid.insert(txid, key);
        self.by_wtxid.insert(wtxid, key);
        self.order.insert(seq, key);
        self.spenders.extend(tx.spends().map(|spent| (spent, key)));
    }

    /// A block has come: its transactions leave as confirmed, those that spend what it spends leave as conflicts with all
    /// that descend from them. Children of confirmed transactions stay.
    pub fn remove_confirmed(&mut self, txids: &[Hash], spent: &[OutPoint]) -> Vec<Gone> {
        let mut gone = Vec::new();
        for txid in txids {
            if let Some(key) = self.by_txid.get(txid).copied() {
                self.remove(key, GoneReason::Confirmed, &mut gone);
            }
        }
        for outpoint in spent {
            if let Some(key) = self.spenders.get(outpoint).copied() {
                self.remove_with_descendants(key, GoneReason::Conflict, &mut gone);
            }
        }
        gone
    }

    /// Those older than `MEMPOOL_EXPIRY` leave.
    pub fn expire(&mut self, now: Instant) -> Vec<Gone> {
        let mut gone = Vec::new();
        while let Some(key) = self.order.values().next().copied() {
            // A clock that jumped back makes nobody older; order stays that of coming.
            if self.slots.get(key).is_none_or(|entry| now.since(entry.time) <= MEMPOOL_EXPIRY) {
                break;
            }
            self.remove(key, GoneReason::Expired, &mut gone);
        }
        gone
    }

    fn remove(&mut self, key: Key, reason: GoneReason, gone: &mut Vec<Gone>) -> Option<Entry> {
        let entry = self.slots.remove(key)?;
        self.bytes -= entry.message.len();
        self.by_txid.remove(&entry.txid);
        self.by_wtxid.remove(&entry.wtxid);
        self.order.remove(&entry.seq);
        if let Some(tx) = parsed(&entry) {
            tx.spends().for_each(|spent| {
                self.spenders.remove(&spent);
            });
        }
        *match reason {
            GoneReason::Confirmed => &mut self.counters.confirmed,
            GoneReason::Conflict => &mut self.counters.conflict,
            GoneReason::Replaced => &mut self.counters.replaced,
            GoneReason::Expired => &mut self.counters.expired,
            GoneReason::Evicted => &mut self.counters.evicted,
        } += 1;
        gone.push(Gone { txid: entry.txid, wtxid: entry.wtxid, reason });
        Some(entry)
    }

    /// Without recursion: a chain of descendants may be long.
    fn remove_with_descendants(&mut self, key: Key, reason: GoneReason, gone: &mut Vec<Gone>) {
        let mut next = vec![key];
        while let Some(key) = next.pop() {
            let Some(entry) = self.remove(key, reason, gone) else { continue };
            let outputs = parsed(&entry).map_or(0, |tx| tx.output_count());
            let children = (0..outputs).map(|output| OutPoint { txid: entry.txid, output });
            next.extend(children.filter_map(|outpoint| self.spenders.get(&outpoint).copied()));
        }
    }
}

/// The entry's transaction; it decoded when it was inserted.
fn parsed(entry: &Entry) -> Option<Tx<'_>> {
    Tx::parse(unframe(&entry.message).ok()?.1).ok()
}

#[cfg(test)]
mod tests;
