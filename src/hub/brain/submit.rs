//! Transactions of clients on their way to a node, and the verdict on them.
//!
//! A client's transaction goes to one node over its main link. It counts as accepted when it is heard by inv on any link
//! (a node never announces it on the link it came from), when a node gives it (a node that had it already announces
//! nothing, so it is asked on the ear after `PROBE_FIRST`), or when a block contains it. While nothing is heard it goes to
//! one more node after each `SUBMIT_ELSEWHERE`; the verdict's time begins anew then.
//!
//! How many a node is given before it has dealt with the former is bounded (`flights`); the others wait in fair turns of their hosts
//! (`submissions`). A node that lacks what it was given and has dealt with has refused it, or waits for its parents: until it is
//! accepted after all, its host is charged for that.
//!
//! Invariants: over one link a transaction is submitted once; `via` has an entry for exactly those that are submitted, with
//! at least one link, all of them there.

use bytes::Bytes;

use super::{Hub, HubEvent, LinkId, Output};
use crate::base::limits::{HEADER_LEN, PROBE_FIRST, SUBMIT_ELSEWHERE};
use crate::base::{ClientId, ClientRef, Instant};
use crate::hub::session::LinkKind;
use crate::hub::submissions::{Ask, Received, Refused, Sender, Submission};
use crate::link::{AskTx, ToShard};
use crate::wire::{Hash, Inv, InvKind, InvList, Reader, WireError, tx::strip_tx, write};

/// A client's transaction given to a node.
#[derive(Debug)]
pub(super) struct Via {
    /// The main links it was given over, one per node; the last is the newest.
    given: Vec<LinkId>,
    txid: Hash,
    /// When a node is asked for it, in case it had it already.
    probe: Instant,
    pause: std::time::Duration,
    /// When it is given to another node, too.
    elsewhere: Instant,
}

impl Hub {
    pub(super) fn client_announces(&mut self, from: Sender, inv: Inv) {
        if self.txs.mempool.is_heard(&inv) {
            return;
        }
        let ask = self.txs.submissions.announced(self.now, from, inv);
        self.tell_asks(ask);
    }

    pub(super) fn client_lacks(&mut self, client: ClientRef, inv: Inv) {
        let ask = self.txs.submissions.not_found(self.now, client, inv);
        self.tell_asks(ask);
    }

    pub(super) fn client_sends(&mut self, from: Sender, txid: Hash, wtxid: Hash, tx: Bytes) {
        if self.txs.mempool.by_txid(&txid).is_some_and(|entry| !entry.unheard) {
            // Nobody needs to be asked for it any more.
            self.txs.submissions.accepted(self.now, &wtxid);
            return;
        }
        match self.txs.submissions.received(self.now, from, txid, wtxid, tx) {
            Received::New => self.pump_submissions(),
            // The shards go on dropping what is too heavy, whoever sends it.
            Received::Duplicate | Received::TooHeavy => {}
            // Not in our hands: the shards forget it, so that it may be sent again later.
            Received::RecentlyRefused | Received::Full => self.tell_gone(txid, wtxid),
        }
        let asks = self.txs.submissions.take_asks();
        self.tell_asks(asks);
    }

    pub(super) fn tell_asks(&mut self, asks: impl IntoIterator<Item = Ask>) {
        for Ask { client: ClientRef { shard, id }, inv } in asks {
            self.tell_ask(shard, id, inv);
        }
        let at = self.txs.submissions.next_wake();
        self.wake_at(at);
    }

    fn tell_ask(&mut self, shard: crate::base::ShardId, client: ClientId, inv: Inv) {
        self.tell(shard, ToShard::AskTx(AskTx { client, inv }));
    }

    pub(super) fn txs_node_up(&mut self, _link: LinkId) {
        self.pump_submissions();
    }

    /// Gives what waits to nodes, as far as they have dealt with what they were given.
    pub(super) fn pump_submissions(&mut self) {
        while let Some(tx) = self.txs.submissions.to_submit() {
            let Some(link) = self.submit_link(&[], tx.tx.len()) else { break };
            if !self.txs.submissions.submitted(self.now, &tx.wtxid) {
                break;
            }
            self.counters.txs_submitted += 1;
            self.submit_on(link, &tx);
        }
        let at = self.txs.submissions.next_wake();
        self.wake_at(at);
    }

    /// The main link of a node that has not been given something of so many bytes yet, and may be now. A node that has not given its headers may be behind
    /// and refuse what it does not yet understand.
    fn submit_link(&self, given: &[LinkId], bytes: usize) -> Option<LinkId> {
        let nodes = (0..self.nodes.list.len()).filter(|n| self.nodes.list[*n].synced);
        let mut links = nodes.filter_map(|n| self.nodes.ready_link(n, LinkKind::Main));
        links.find(|link| !given.contains(link) && self.txs.flights.has_room(*link, bytes))
    }

    fn submit_on(&mut self, link: LinkId, tx: &Submission) {
        let Some((_, session)) = self.nodes.ready(link) else { return };
        // Bitcoin Core takes a transaction nobody asked for; bcoin drops the peer that sends one.
        let (direct, wtxid_relay) =
            (session.peer().user_agent.starts_with("/Satoshi:"), session.peer().wtxid);
        let (probe, elsewhere) = (self.now + PROBE_FIRST, self.now + SUBMIT_ELSEWHERE);
        self.wake_at(probe);
        let fresh = || Via { given: Vec::new(), txid: tx.txid, probe, pause: PROBE_FIRST, elsewhere };
        let via = self.txs.via.entry(tx.wtxid).or_insert_with(fresh);
        via.given.push(link);
        (via.probe, via.pause, via.elsewhere) = (probe, PROBE_FIRST, elsewhere);
        let ping = self.txs.flights.begin(link, tx.wtxid, tx.tx.len());
        self.send(link, |out, magic| {
            match (direct, wtxid_relay) {
                (true, _) => write::raw(out, magic, "tx", &tx.tx),
                (false, true) => {
                    let inv = Inv { kind: InvKind::Wtx, hash: tx.wtxid };
                    write::inventory(out, magic, "inv", [inv].into_iter());
                }
                (false, false) => {
                    let inv = Inv { kind: InvKind::Tx, hash: tx.txid };
                    write::inventory(out, magic, "inv", [inv].into_iter());
                }
            }
            write::ping(out, magic, ping);
        });
    }

    /// A node has dealt with what it was given before this ping.
    pub(super) fn on_pong(&mut self, link: LinkId, nonce: u64) {
        if self.txs.flights.pong(link, nonce) {
            self.pump_submissions();
        }
    }

    /// There is a verdict: nothing more is done about it.
    pub(super) fn submitted_no_more(&mut self, wtxid: &Hash) {
        self.txs.via.remove(wtxid);
        self.txs.flights.end(wtxid);
        self.pump_submissions();
    }

    /// A node lacks what it was asked for on `ear`: if it was given it, and has dealt with it, that is as good as a refusal.
    pub(super) fn submission_lacked(&mut self, ear: LinkId, hash: &Hash) {
        let Some(wtxid) = self.txs.submissions.get(hash).map(|tx| tx.wtxid) else { return };
        let node = self.nodes.of(ear);
        let main = node.and_then(|node| self.nodes.ready_link(node, LinkKind::Main));
        let given = |main: &LinkId| self.txs.via.get(&wtxid).is_some_and(|via| via.given.contains(main));
        if main.is_some_and(|main| given(&main) && !self.txs.flights.is_on(main, &wtxid)) {
            self.txs.submissions.doubted(self.now, hash);
        }
    }

    /// What was given over a link that is lost has to be given again, unless another node has it, too.
    pub(super) fn submissions_link_lost(&mut self, link: LinkId) {
        self.txs.flights.lost(link);
        let mut back = Vec::new();
        for (wtxid, via) in &mut self.txs.via {
            if via.given.contains(&link) {
                via.given.retain(|given| *given != link);
                via.elsewhere = self.now;
                if via.given.is_empty() {
                    back.push(*wtxid);
                }
            }
        }
        for wtxid in back {
            self.txs.via.remove(&wtxid);
            self.txs.submissions.put_back(self.now, &wtxid);
        }
        self.pump_submissions();
        self.hand_on();
    }

    /// Gives what nothing was heard of to one more node.
    fn hand_on(&mut self) {
        let now = self.now;
        let mut next = Instant::FAR;
        let mut due = Vec::new();
        for (wtxid, via) in &mut self.txs.via {
            if now >= via.elsewhere {
                due.push((*wtxid, via.given.clone()));
                // Looked at again: another node may come.
                via.elsewhere = now + PROBE_FIRST;
            }
            next = next.min(via.elsewhere);
        }
        self.wake_at(next);
        for (wtxid, given) in due {
            let bytes = self.txs.submissions.get(&wtxid).map_or(0, |tx| tx.tx.len());
            let Some(link) = self.submit_link(&given, bytes) else { continue };
            let Some(tx) = self.txs.submissions.handed_on(now, &wtxid) else { continue };
            self.counters.txs_handed_on += 1;
            self.submit_on(link, &tx);
        }
    }

    /// A node asks for what was announced to it.
    pub(super) fn on_getdata(&mut self, link: LinkId, list: InvList<'_>) {
        let mut out = Vec::new();
        let (mut missing, mut pings) = (Vec::new(), Vec::new());
        for inv in list.iter() {
            let found = if inv.kind.is_tx() { self.tx_message(&inv) } else { None };
            match found {
                Some(message) if inv.kind == InvKind::Tx && strip_tx(&mut out, &message).is_ok() => {}
                Some(message) => out.extend_from_slice(&message),
                None => missing.push(inv),
            }
            // Now the work begins: what was announced is dealt with when the ping behind this is answered.
            if let Some(tx) = self.txs.submissions.get(&inv.hash)
                && self.txs.via.get(&tx.wtxid).is_some_and(|via| via.given.contains(&link))
            {
                pings.push(self.txs.flights.begin(link, tx.wtxid, tx.tx.len()));
            }
        }
        pings.into_iter().for_each(|ping| write::ping(&mut out, self.magic, ping));
        if !missing.is_empty() {
            write::inventory(&mut out, self.magic, "notfound", missing.into_iter());
        }
        self.send_bytes(link, out);
    }

    fn tx_message(&self, inv: &Inv) -> Option<Bytes> {
        if let Some(tx) = self.txs.submissions.get(&inv.hash) {
            let mut message = Vec::with_capacity(HEADER_LEN + tx.tx.len());
            write::raw(&mut message, self.magic, "tx", &tx.tx);
            return Some(message.into());
        }
        self.txs.mempool.get(inv).map(|entry| entry.message.clone())
    }

    pub(super) fn tx_refused(&mut self, refused: &Refused) {
        self.counters.txs_refused += 1;
        self.submitted_no_more(&refused.wtxid);
        self.tell_gone(refused.txid, refused.wtxid);
        self.out.push_back(Output::Event(HubEvent::TxRefused { wtxid: refused.wtxid }));
    }

    /// `reject` (BIP61, still sent by bcoin): message name, code, reason, and for a transaction its txid. Whatever cannot
    /// be read is ignored.
    pub(super) fn on_reject(&mut self, payload: &[u8]) {
        let r = &mut Reader::new(payload);
        let mut read = || -> Result<Option<Hash>, WireError> {
            let length = r.count(12)?;
            let of_tx = r.bytes(length)? == b"tx";
            r.u8()?;
            let length = r.count(256)?;
            r.bytes(length)?;
            Ok(if of_tx { r.array().ok() } else { None })
        };
        if let Ok(Some(txid)) = read()
            && let Some(refused) = self.txs.submissions.rejected(self.now, &txid)
        {
            self.tx_refused(&refused);
        }
    }

    /// Follows what was submitted and not announced: the node may have had it already, so it is asked on another link.
    pub(super) fn tick_submitted(&mut self) {
        self.hand_on();
        let now = self.now;
        let mut due = Vec::new();
        let mut next = Instant::FAR;
        for (wtxid, via) in &mut self.txs.via {
            if now >= via.probe {
                via.pause *= 3;
                via.probe = now + via.pause;
                due.extend(via.given.last().map(|link| (*wtxid, via.txid, *link)));
            }
            next = next.min(via.probe);
        }
        self.wake_at(next);
        for (wtxid, txid, link) in due {
            let ear = self.nodes.of(link).and_then(|node| self.nodes.ready_link(node, LinkKind::Ear));
            let Some((_, session)) = ear.and_then(|ear| self.nodes.ready(ear)) else { continue };
            let inv = match session.peer().wtxid {
                true => Inv { kind: InvKind::Wtx, hash: wtxid },
                false => Inv { kind: InvKind::Tx, hash: txid },
            };
            if let Some(ear) = ear {
                self.ask_txs(ear, &[inv]);
            }
        }
    }
}
