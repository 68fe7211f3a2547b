//! The log of transaction announcements. Entries come as the hub accepts them; the log is sealed at an interval, and
//! clients are told what lies between their cursor and the seal as one inv.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::TxNews;
use crate::base::ClientId;
use crate::base::limits::{TX_LOG, TX_LOG_BYTES, TX_PER_INV};
use crate::wire::{Hash, Inv, InvKind, Magic, write};

/// The log.
#[derive(Debug)]
pub struct TxLog {
    magic: Magic,
    /// `None`: confirmed or gone since, not announced any more.
    entries: VecDeque<Option<Entry>>,
    /// Number of the next entry.
    head: u32,
    /// Entries below this number are announced.
    sealed: u32,
    bytes: usize,
    /// Both hashes of the entries that are still there.
    by_hash: HashMap<Hash, u32>,
    made: [Option<Made>; 2],
}

#[derive(Debug)]
struct Entry {
    news: Arc<TxNews>,
    /// Clients of this shard that have it already; they are not told.
    knowers: Box<[ClientId]>,
}

/// A range already encoded.
#[derive(Debug)]
struct Made {
    from: u32,
    to: u32,
    message: Option<Bytes>,
    /// Clients that have some transaction of the range.
    knowers: Vec<ClientId>,
}

/// What a client is told.
#[derive(Debug)]
pub struct TxAnnouncement {
    /// The cursor afterwards.
    pub cursor: u32,
    /// The inv; `None` when nothing of the range is left.
    pub message: Option<Bytes>,
    /// Entries that had left the log before the client heard of them.
    pub skipped: u32,
}

impl TxLog {
    /// An empty log.
    pub fn new(magic: Magic) -> TxLog {
        TxLog {
            magic,
            entries: VecDeque::new(),
            head: 0,
            sealed: 0,
            bytes: 0,
            by_hash: HashMap::new(),
            made: [None, None],
        }
    }

    /// Where a new client begins, and up to where clients are told.
    pub fn sealed(&self) -> u32 {
        self.sealed
    }

    /// True exactly when entries wait for the seal.
    pub fn is_unsealed(&self) -> bool {
        self.sealed != self.head
    }

    /// Makes all entries so far announced.
    pub fn seal(&mut self) {
        self.sealed = self.head;
    }

    /// Appends an accepted transaction. `knowers`: clients that have it already.
    pub fn append(&mut self, tx: &Arc<TxNews>, knowers: Box<[ClientId]>) {
        self.by_hash.insert(tx.txid, self.head);
        self.by_hash.insert(tx.wtxid, self.head);
        self.bytes += tx.message.len();
        self.entries.push_back(Some(Entry { news: tx.clone(), knowers }));
        self.head = self.head.wrapping_add(1);
        while self.entries.len() > TX_LOG || self.bytes > TX_LOG_BYTES {
            let first = self.tail();
            if let Some(Some(old)) = self.entries.pop_front() {
                self.forget(&old.news, first);
            }
        }
    }

    /// Removes transactions by txid.
    pub fn remove(&mut self, txids: &[Hash]) {
        for txid in txids {
            let Some(number) = self.by_hash.get(txid).copied() else { continue };
            let at = number.wrapping_sub(self.tail()) as usize;
            if let Some(old) = self.entries.get_mut(at).and_then(Option::take) {
                self.forget(&old.news, number);
            }
        }
        self.made = [None, None];
    }

    /// A transaction by txid or wtxid.
    pub fn get(&self, hash: &Hash) -> Option<&Arc<TxNews>> {
        let at = self.by_hash.get(hash)?.wrapping_sub(self.tail()) as usize;
        self.entries.get(at)?.as_ref().map(|entry| &entry.news)
    }

    /// What a client at `cursor` is told: at most `TX_PER_INV` entries, so it may have to be asked for again.
    pub fn announce(&mut self, cursor: u32, by_wtxid: bool, client: ClientId) -> TxAnnouncement {
        let mut from = cursor;
        let mut skipped = 0;
        let known = self.head.wrapping_sub(from);
        if known as usize > self.entries.len() {
            skipped = known - self.entries.len() as u32;
            from = self.tail();
        }
        let behind = self.sealed.wrapping_sub(from).min(TX_PER_INV as u32);
        if behind == 0 {
            return TxAnnouncement { cursor: from, message: None, skipped };
        }
        let to = from.wrapping_add(behind);
        let fits = |m: &&Made| (m.from, m.to) == (from, to);
        if self.made[usize::from(by_wtxid)].as_ref().filter(fits).is_none() {
            let message = self.encode(from, to, by_wtxid, None);
            let knowers = self.range(from, to).flat_map(|entry| entry.knowers.iter().copied()).collect();
            self.made[usize::from(by_wtxid)] = Some(Made { from, to, message, knowers });
        }
        let message = match &self.made[usize::from(by_wtxid)] {
            Some(made) if !made.knowers.contains(&client) => made.message.clone(),
            _ => self.encode(from, to, by_wtxid, Some(client)),
        };
        TxAnnouncement { cursor: to, message, skipped }
    }

    fn tail(&self) -> u32 {
        self.head.wrapping_sub(self.entries.len() as u32)
    }

    fn range(&self, from: u32, to: u32) -> impl Iterator<Item = &Entry> {
        let start = (from.wrapping_sub(self.tail()) as usize).min(self.entries.len());
        let end = (to.wrapping_sub(self.tail()) as usize).clamp(start, self.entries.len());
        self.entries.range(start..end).flatten()
    }

    fn encode(&self, from: u32, to: u32, by_wtxid: bool, except: Option<ClientId>) -> Option<Bytes> {
        let invs: Vec<Inv> = self
            .range(from, to)
            .filter(|entry| except.is_none_or(|client| !entry.knowers.contains(&client)))
            .map(|Entry { news: tx, .. }| match by_wtxid {
                true => Inv { kind: InvKind::Wtx, hash: tx.wtxid },
                false => Inv { kind: InvKind::Tx, hash: tx.txid },
            })
            .collect();
        if invs.is_empty() {
            return None;
        }
        let mut out = Vec::new();
        write::inventory(&mut out, self.magic, "inv", invs.into_iter());
        Some(Bytes::from(out))
    }

    fn forget(&mut self, tx: &TxNews, number: u32) {
        self.bytes = self.bytes.saturating_sub(tx.message.len());
        for hash in [&tx.txid, &tx.wtxid] {
            if self.by_hash.get(hash) == Some(&number) {
                self.by_hash.remove(hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tx(n: u32) -> Arc<TxNews> {
        let mut txid = [1; 32];
        txid[..4].copy_from_slice(&n.to_le_bytes());
        let mut wtxid = txid;
        wtxid[31] = 2;
        Arc::new(TxNews { txid, wtxid, message: Bytes::from(vec![0; 200]), origin: None })
    }

    fn client(slot: u32) -> ClientId {
        ClientId { slot, generation: 1 }
    }

    /// Entries in an inv message with a one-byte count.
    fn entries(message: &Option<Bytes>) -> usize {
        message.as_ref().map_or(0, |m| (m.len() - 24) / 36)
    }

    #[test]
    fn nothing_is_told_before_the_seal_and_equal_ranges_share_bytes() {
        let mut log = TxLog::new([1, 2, 3, 4]);
        log.append(&tx(1), Box::default());
        log.append(&tx(2), Box::default());
        assert!(log.is_unsealed());
        assert!(log.announce(0, true, client(1)).message.is_none());
        log.seal();
        let a = log.announce(0, true, client(1));
        let b = log.announce(0, true, client(2));
        assert_eq!((a.cursor, entries(&a.message)), (2, 2));
        assert_eq!(a.message.unwrap().as_ptr(), b.message.unwrap().as_ptr());
    }

    #[test]
    fn who_has_it_is_not_told_and_the_confirmed_are_not_announced() {
        let mut log = TxLog::new([1, 2, 3, 4]);
        log.append(&tx(1), Box::new([client(1)]));
        log.append(&tx(2), Box::default());
        log.append(&tx(3), Box::default());
        log.seal();
        assert_eq!(entries(&log.announce(0, false, client(1)).message), 2);
        assert_eq!(entries(&log.announce(0, false, client(2)).message), 3);
        log.remove(&[tx(3).txid]);
        assert!(log.get(&tx(3).txid).is_none());
        assert!(log.get(&tx(2).wtxid).is_some());
        assert_eq!(entries(&log.announce(0, false, client(2)).message), 2);
    }

    #[test]
    fn the_log_is_bounded_and_says_what_a_slow_client_missed() {
        let mut log = TxLog::new([1, 2, 3, 4]);
        for n in 0..TX_LOG as u32 + 10 {
            log.append(&tx(n), Box::default());
        }
        log.seal();
        assert_eq!(log.by_hash.len(), 2 * TX_LOG);
        let told = log.announce(0, true, client(1));
        assert_eq!(told.skipped, 10);
        assert_eq!(told.cursor, 10 + TX_PER_INV as u32);
    }
}
