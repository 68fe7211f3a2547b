//! Transactions of nodes: asked for, into the mempool, to the shards, and out again.
//!
//! A node's announcement is followed by one getdata, whichever link or node was first; another announcer is asked after
//! `TX_FETCH_TIMEOUT`. What a node gives, it has accepted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::flights::Flights;
use super::submit::Via;
use super::{Hub, LinkId};
use crate::base::limits::{
    HEADER_LEN, MAX_ANNOUNCERS, MAX_NODE_TX_ASKED, TX_FETCH_TIMEOUT, TXS_PER_BATCH, TXS_TO_SHARDS,
};
use crate::base::{ClientRef, Instant};
use crate::feed::{BlockNews, TxNews};
use crate::hub::compact::check_block;
use crate::hub::mempool::{Gone, Inserted, Mempool};
use crate::hub::submissions::{Submission, Submissions};
use crate::link::ToShard;
use crate::wire::{Hash, Inv, InvKind, InvList, Services, Tx, write};

/// How often mempool entries are looked at for their age.
const EXPIRE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(60);
/// Blocks whose transactions have been taken out of the mempool, remembered so that it happens once.
const CONFIRMED_BLOCKS: usize = 64;

/// A transaction asked of a node.
#[derive(Debug)]
struct Asked {
    inv: Inv,
    link: LinkId,
    deadline: Instant,
    /// Other links that announced it.
    others: Vec<LinkId>,
}

/// Everything about transactions.
pub(super) struct Txs {
    pub(super) mempool: Mempool,
    pub(super) submissions: Submissions,
    asked: BTreeMap<Hash, Asked>,
    deadlines: BTreeSet<(Instant, Hash)>,
    /// By wtxid.
    pub(super) via: BTreeMap<Hash, Via>,
    pub(super) flights: Flights,
    news: Vec<Arc<TxNews>>,
    gone: Vec<Hash>,
    /// When news and gone are told.
    flush_at: Option<Instant>,
    expire_at: Instant,
    confirmed: VecDeque<Hash>,
}

impl Txs {
    pub(super) fn new(mempool_bytes: usize) -> Txs {
        Txs {
            mempool: Mempool::new(mempool_bytes),
            submissions: Submissions::new(),
            asked: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            via: BTreeMap::new(),
            flights: Flights::default(),
            news: Vec::new(),
            gone: Vec::new(),
            flush_at: None,
            expire_at: Instant(0),
            confirmed: VecDeque::new(),
        }
    }

    fn forget(&mut self, hash: &Hash) -> Option<Asked> {
        let asked = self.asked.remove(hash)?;
        self.deadlines.remove(&(asked.deadline, *hash));
        Some(asked)
    }
}

impl Hub {
    pub(super) fn on_inv(&mut self, link: LinkId, list: InvList<'_>) {
        let mut new_block = false;
        let mut ask = Vec::new();
        for inv in list.iter() {
            if inv.kind.is_tx() {
                if self.tx_is_new(link, &inv) {
                    ask.push(inv);
                }
            } else if inv.kind == InvKind::Block {
                match (self.chain.contains(&inv.hash), self.nodes.of(link)) {
                    (true, Some(node)) => self.nodes.list[node].best = Some(inv.hash),
                    _ => new_block = true,
                }
            }
        }
        if new_block {
            self.ask_headers(link);
        }
        self.ask_txs(link, &ask);
    }

    /// True exactly when the transaction is to be asked for on this link.
    fn tx_is_new(&mut self, link: LinkId, inv: &Inv) -> bool {
        if self.txs.mempool.is_heard(inv) {
            return false;
        }
        if let Some(tx) = self.txs.submissions.accepted(self.now, &inv.hash) {
            self.client_tx_accepted(tx);
            return false;
        }
        if let Some(asked) = self.txs.asked.get_mut(&inv.hash) {
            if asked.link != link && asked.others.len() < MAX_ANNOUNCERS {
                asked.others.push(link);
            }
            return false;
        }
        if self.txs.asked.len() >= MAX_NODE_TX_ASKED {
            self.counters.txs_not_asked += 1;
            return false;
        }
        true
    }

    pub(super) fn ask_txs(&mut self, link: LinkId, list: &[Inv]) {
        if list.is_empty() {
            return;
        }
        let deadline = self.now + TX_FETCH_TIMEOUT;
        self.wake_at(deadline);
        for inv in list {
            let others = self.txs.forget(&inv.hash).map(|old| old.others).unwrap_or_default();
            self.txs.asked.insert(inv.hash, Asked { inv: *inv, link, deadline, others });
            self.txs.deadlines.insert((deadline, inv.hash));
        }
        self.counters.txs_asked += list.len() as u64;
        let wanted = list.iter().map(|inv| match inv.kind {
            InvKind::Tx => Inv { kind: InvKind::WitnessTx, hash: inv.hash },
            _ => *inv,
        });
        self.send(link, |out, magic| write::inventory(out, magic, "getdata", wanted));
    }

    pub(super) fn on_tx(&mut self, _link: LinkId, framed: &[u8]) {
        let Ok(tx) = Tx::parse(framed.get(HEADER_LEN..).unwrap_or(&[])) else {
            self.counters.bad_messages += 1;
            return;
        };
        let (txid, wtxid) = (tx.txid(), tx.wtxid());
        let by_wtxid = self.txs.forget(&wtxid);
        let by_txid = self.txs.forget(&txid);
        if by_wtxid.is_none() && by_txid.is_none() {
            self.counters.unrequested += 1;
            return;
        }
        self.counters.txs_received += 1;
        match self.txs.submissions.accepted(self.now, &wtxid) {
            Some(tx) => self.client_tx_accepted(tx),
            None => self.tx_accepted(Bytes::copy_from_slice(framed), None),
        }
    }

    /// A node has accepted it: into the mempool and to the shards.
    fn tx_accepted(&mut self, message: Bytes, origin: Option<ClientRef>) {
        let Ok(Inserted { txid, wtxid, new, gone }) =
            self.txs.mempool.insert(self.now, message.clone(), origin)
        else {
            return;
        };
        self.txs_gone(&gone);
        if new || self.txs.mempool.hear(&wtxid) {
            self.txs.news.push(Arc::new(TxNews { txid, wtxid, message, origin }));
            self.flush_txs_soon();
        }
    }

    fn client_tx_accepted(&mut self, tx: Submission) {
        self.counters.txs_accepted += 1;
        self.submitted_no_more(&tx.wtxid);
        let mut message = Vec::with_capacity(HEADER_LEN + tx.tx.len());
        write::raw(&mut message, self.magic, "tx", &tx.tx);
        self.tx_accepted(message.into(), Some(tx.origin));
    }

    fn txs_gone(&mut self, gone: &[Gone]) {
        if !gone.is_empty() {
            for gone in gone {
                self.tell_gone(gone.txid, gone.wtxid);
            }
        }
    }

    /// Under both hashes: shards remember clients' announcements by either.
    pub(super) fn tell_gone(&mut self, txid: Hash, wtxid: Hash) {
        self.txs.gone.push(txid);
        if wtxid != txid {
            self.txs.gone.push(wtxid);
        }
        self.flush_txs_soon();
    }

    fn flush_txs_soon(&mut self) {
        let at = *self.txs.flush_at.get_or_insert(self.now + TXS_TO_SHARDS);
        self.wake_at(at);
        if self.txs.news.len() >= TXS_PER_BATCH {
            self.flush_txs();
        }
    }

    fn flush_txs(&mut self) {
        self.txs.flush_at = None;
        let gone = std::mem::take(&mut self.txs.gone);
        if !gone.is_empty() {
            self.tell_all(&ToShard::TxsGone(gone.into()));
        }
        let mut news = std::mem::take(&mut self.txs.news);
        // What came and went within the batch is not announced.
        let mempool = &self.txs.mempool;
        news.retain(|tx| mempool.by_wtxid(&tx.wtxid).is_some());
        if !news.is_empty() {
            self.counters.txs_announced += news.len() as u64;
            self.tell_all(&ToShard::Txs(news.into()));
        }
    }

    /// Blocks have joined the best chain: what they contain is confirmed.
    pub(super) fn txs_confirmed(&mut self, blocks: &[Arc<BlockNews>]) {
        for news in blocks.iter().filter(|news| !news.block.is_empty()) {
            if self.txs.confirmed.contains(&news.hash) {
                continue;
            }
            self.txs.confirmed.push_back(news.hash);
            if self.txs.confirmed.len() > CONFIRMED_BLOCKS {
                self.txs.confirmed.pop_front();
            }
            if self.txs.mempool.is_empty() && self.txs.submissions.held() == (0, 0) {
                continue;
            }
            let Ok(block) = check_block(news.block.get(HEADER_LEN..).unwrap_or(&[])) else { continue };
            for txid in &block.txids {
                if let Some(tx) = self.txs.submissions.accepted(self.now, txid) {
                    self.counters.txs_accepted += 1;
                    self.submitted_no_more(&tx.wtxid);
                }
                self.txs.forget(txid);
            }
            let gone = self.txs.mempool.remove_confirmed(&block.txids, &block.spent);
            self.txs_gone(&gone);
        }
    }

    /// Blocks have left the best chain: their transactions are unconfirmed again, in the order in which they were confirmed.
    /// Served, and at hand for the next blocks; announced only when a node does so, because it may not have taken them back.
    /// What the new branch contains or contradicts leaves with its blocks. Blocks not in memory are passed over.
    pub(super) fn txs_disconnected(&mut self, blocks: &[Hash]) {
        for hash in blocks.iter().rev() {
            self.txs.confirmed.retain(|confirmed| confirmed != hash);
            let Some(news) = self.blocks.recent.get(hash) else { continue };
            // All but the coinbase.
            for tx in (1..news.tx_count()).filter_map(|index| news.tx(index)) {
                let mut message = Vec::with_capacity(HEADER_LEN + tx.len());
                write::raw(&mut message, self.magic, "tx", tx);
                self.counters.txs_returned += u64::from(self.txs.mempool.give_back(self.now, message.into()));
            }
        }
    }

    /// A node lacks what it was asked for.
    pub(super) fn on_notfound(&mut self, link: LinkId, list: InvList<'_>) {
        for inv in list.iter() {
            if inv.kind.is_tx() {
                if self.txs.asked.get(&inv.hash).is_some_and(|asked| asked.link == link) {
                    self.submission_lacked(link, &inv.hash);
                    self.tx_failed(&inv.hash);
                }
            } else if self.blocks.is_asked_on(&inv.hash, link) {
                self.blocks.early.forget(&inv.hash);
                self.block_failed(inv.hash);
            }
        }
    }

    /// Another announcer is asked, if there is one.
    fn tx_failed(&mut self, hash: &Hash) {
        let Some(mut asked) = self.txs.forget(hash) else { return };
        while let Some(link) = asked.others.pop() {
            if let Some((_, session)) = self.nodes.ready(link) {
                // A transaction without witness has one hash; each link announces it in its own way.
                let kind = if session.peer().wtxid { asked.inv.kind } else { InvKind::Tx };
                self.ask_txs(link, &[Inv { kind, hash: *hash }]);
                if let Some(entry) = self.txs.asked.get_mut(hash) {
                    entry.others = asked.others;
                }
                return;
            }
        }
    }

    pub(super) fn txs_link_lost(&mut self, link: LinkId) {
        let lost: Vec<Hash> =
            self.txs.asked.iter().filter(|(_, asked)| asked.link == link).map(|(hash, _)| *hash).collect();
        for hash in lost {
            self.tx_failed(&hash);
        }
        self.submissions_link_lost(link);
    }

    /// The ear of a node is there: what its mempool holds is asked for, where that is offered (BIP35, BIP111).
    pub(super) fn txs_ear_up(&mut self, link: LinkId) {
        let offered =
            self.nodes.ready(link).is_some_and(|(_, s)| s.peer().services.contains(Services::BLOOM));
        if offered {
            self.send(link, |out, magic| write::empty(out, magic, "mempool"));
        }
    }
}

impl Hub {
    /// Housekeeping of transactions.
    pub(super) fn tick_txs(&mut self) {
        let now = self.now;
        while let Some((deadline, hash)) = self.txs.deadlines.first().copied() {
            if now < deadline {
                self.wake_at(deadline);
                break;
            }
            self.tx_failed(&hash);
        }
        let ticked = self.txs.submissions.tick(now);
        self.tell_asks(ticked.asks);
        for refused in &ticked.refused {
            self.tx_refused(refused);
        }
        self.pump_submissions();
        self.tick_submitted();
        if now >= self.txs.expire_at {
            self.txs.expire_at = now + EXPIRE_INTERVAL;
            let gone = self.txs.mempool.expire(now);
            self.txs_gone(&gone);
        }
        match self.txs.flush_at {
            Some(at) if now >= at => self.flush_txs(),
            Some(at) => self.wake_at(at),
            None => {}
        }
    }
}
