//! Transactions announced by clients and not received: who announced them, who is asked.
//!
//! Invariants: a wanted transaction is either asked of one client (a deadline exists), or parked: all its announcers have
//! their hands full, and it stands in the `parked` list of each. Hands are a host's: who opens more connections is asked for no more.
//! `hosts` counts each host's announcements and asks exactly, and has no entry for a host without any; `shares` names each
//! announcement, the asked ones included, under its host. When there is no room, the newest announcements of the host that has
//! the most give way.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::shares::Shares;
use super::{Ask, Bounds, Sender, SubmissionCounters};
use crate::admission::Host;
use crate::base::limits::TX_REQUEST_TIMEOUT;
use crate::base::{ClientRef, Instant};
use crate::wire::{Hash, Inv, InvKind};

/// An announcement.
#[derive(Clone, Copy, Debug)]
struct Announcer {
    client: ClientRef,
    host: Host,
    kind: InvKind,
    /// Names the announcement in its host's `parked` list.
    seq: u64,
}

#[derive(Debug, Default)]
struct Entry {
    announcers: VecDeque<Announcer>,
    /// Who is asked, and until when.
    asked: Option<(Announcer, Instant)>,
}

impl Entry {
    fn is_asked_of(&self, client: ClientRef) -> bool {
        self.asked.is_some_and(|(asked, _)| asked.client == client)
    }

    fn all(&self) -> impl Iterator<Item = &Announcer> {
        self.asked.iter().map(|(announcer, _)| announcer).chain(&self.announcers)
    }
}

/// What a host has its hands full with.
#[derive(Debug, Default)]
struct Hands {
    /// Announcements remembered, the asked ones included.
    announced: usize,
    asked: usize,
    parked: BTreeMap<u64, Hash>,
}

#[derive(Debug, Default)]
pub(super) struct Wanted {
    bounds: Bounds,
    entries: HashMap<Hash, Entry>,
    hosts: HashMap<Host, Hands>,
    shares: Shares,
    deadlines: BTreeSet<(Instant, Hash)>,
    next_seq: u64,
    /// Not yet given out; at most as many as are wanted, because stale ones are dropped before that is exceeded.
    asks: Vec<Ask>,
}

impl Wanted {
    pub(super) fn new(bounds: Bounds) -> Wanted {
        Wanted { bounds, ..Wanted::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn announced(
        &mut self,
        now: Instant,
        Sender { client, host }: Sender,
        inv: Inv,
        counters: &mut SubmissionCounters,
    ) -> Option<Ask> {
        counters.announced += 1;
        if let Some(entry) = self.entries.get(&inv.hash) {
            if entry.all().any(|announcer| announcer.client == client) {
                counters.announced_again += 1;
                return None;
            }
            // A host that does not deliver must not be all that can be asked.
            let neighbours = entry.all().filter(|announcer| announcer.host == host).count();
            if entry.all().count() >= self.bounds.announcers
                || neighbours >= (self.bounds.announcers / 2).max(1)
            {
                counters.excess_announcers += 1;
                return None;
            }
        }
        if self.hosts.get(&host).is_some_and(|hands| hands.announced >= self.bounds.announcements) {
            counters.excess_announcements += 1;
            return None;
        }
        if !self.entries.contains_key(&inv.hash) && !self.make_room(now, host, counters) {
            counters.wanted_full += 1;
            return None;
        }
        self.hosts.entry(host).or_default().announced += 1;
        let seq = self.next_seq;
        self.next_seq += 1;
        self.shares.add(host, seq, inv.hash, 0);
        let entry = self.entries.entry(inv.hash).or_default();
        entry.announcers.push_back(Announcer { client, host, kind: inv.kind, seq });
        if entry.asked.is_some() { None } else { self.ask_next(now, &inv.hash, counters) }
    }

    /// Makes room for one more transaction; false when there is none, because nobody has more announcements than this host,
    /// or others have announced what gave way, too. An entry leaves only with its last announcer, so that nobody can
    /// displace what others announced by announcing it as well; as many steps are made as an entry may have announcers.
    fn make_room(&mut self, now: Instant, host: Host, counters: &mut SubmissionCounters) -> bool {
        for _ in 0..self.bounds.announcers {
            if self.entries.len() < self.bounds.wanted {
                break;
            }
            let Some(holder) = self.shares.more_entries_than(host) else { return false };
            let Some(hash) = self.shares.newest(holder) else { return false };
            counters.announcements_displaced += 1;
            let next = self.forget(now, |announcer| announcer.host == holder, &hash, counters);
            self.queue_ask(next);
        }
        self.entries.len() < self.bounds.wanted
    }

    pub(super) fn not_found(
        &mut self,
        now: Instant,
        client: ClientRef,
        hash: &Hash,
        counters: &mut SubmissionCounters,
    ) -> Option<Ask> {
        if self.entries.get(hash)?.is_asked_of(client) {
            counters.not_found += 1;
        }
        self.forget(now, |announcer| announcer.client == client, hash, counters)
    }

    /// An announcement does not count any more. Gives the next announcer to ask, when this one was asked.
    fn forget(
        &mut self,
        now: Instant,
        whose: impl Fn(&Announcer) -> bool,
        hash: &Hash,
        counters: &mut SubmissionCounters,
    ) -> Option<Ask> {
        let entry = self.entries.get_mut(hash)?;
        if entry.asked.as_ref().is_some_and(|(asked, _)| whose(asked)) {
            let host = self.give_up_ask(hash)?;
            let next = self.ask_next(now, hash, counters);
            self.unpark(now, host, counters);
            return next;
        }
        let at = entry.announcers.iter().position(whose)?;
        if let Some(announcer) = entry.announcers.remove(at) {
            self.drop_announcement(&announcer);
        }
        self.remove_if_done(hash, counters);
        None
    }

    /// The transaction is here, or needed no more: nobody is asked for it.
    pub(super) fn settle(&mut self, now: Instant, hash: &Hash, counters: &mut SubmissionCounters) {
        let asked = self.give_up_ask(hash);
        let Some(entry) = self.entries.remove(hash) else { return };
        entry.announcers.iter().for_each(|announcer| self.drop_announcement(announcer));
        if let Some(host) = asked {
            self.unpark(now, host, counters);
        }
    }

    pub(super) fn tick(&mut self, now: Instant, counters: &mut SubmissionCounters) {
        while let Some((until, hash)) = self.deadlines.first().copied()
            && until <= now
        {
            let Some(host) = self.give_up_ask(&hash) else {
                self.deadlines.remove(&(until, hash));
                continue;
            };
            counters.ask_timeouts += 1;
            let next = self.ask_next(now, &hash, counters);
            self.queue_ask(next);
            self.unpark(now, host, counters);
        }
    }

    pub(super) fn take_asks(&mut self) -> Vec<Ask> {
        self.drop_stale_asks();
        std::mem::take(&mut self.asks)
    }

    fn queue_ask(&mut self, ask: Option<Ask>) {
        if self.asks.len() >= self.bounds.wanted {
            self.drop_stale_asks();
        }
        self.asks.extend(ask);
    }

    /// Asks whose transaction has come, or is asked of somebody else, in the meantime.
    fn drop_stale_asks(&mut self) {
        let entries = &self.entries;
        self.asks.retain(|ask| entries.get(&ask.inv.hash).is_some_and(|entry| entry.is_asked_of(ask.client)));
    }

    pub(super) fn next_wake(&self) -> Instant {
        match self.asks.is_empty() {
            true => self.deadlines.first().map_or(Instant::FAR, |(until, _)| *until),
            false => Instant(0),
        }
    }

    /// Asks the first announcer that has a hand free; parks the transaction when none has, forgets it when there is none.
    fn ask_next(&mut self, now: Instant, hash: &Hash, counters: &mut SubmissionCounters) -> Option<Ask> {
        let entry = self.entries.get_mut(hash)?;
        let most = self.bounds.in_flight;
        let free = |host: &Host| self.hosts.get(host).is_none_or(|hands| hands.asked < most);
        let Some(at) = entry.announcers.iter().position(|announcer| free(&announcer.host)) else {
            for announcer in &entry.announcers {
                if let Some(hands) = self.hosts.get_mut(&announcer.host) {
                    hands.parked.insert(announcer.seq, *hash);
                }
            }
            self.remove_if_done(hash, counters);
            return None;
        };
        for announcer in &entry.announcers {
            if let Some(hands) = self.hosts.get_mut(&announcer.host) {
                hands.parked.remove(&announcer.seq);
            }
        }
        let announcer = entry.announcers.remove(at)?;
        let Announcer { client, host, kind, .. } = announcer;
        let until = now + TX_REQUEST_TIMEOUT;
        entry.asked = Some((announcer, until));
        self.deadlines.insert((until, *hash));
        self.hosts.entry(host).or_default().asked += 1;
        counters.asked += 1;
        Some(Ask { client, inv: Inv { kind, hash: *hash } })
    }

    /// A host has a hand free: the oldest transaction parked with it is asked.
    fn unpark(&mut self, now: Instant, host: Host, counters: &mut SubmissionCounters) {
        let Some(hash) = self.hosts.get(&host).and_then(|hands| hands.parked.values().next().copied()) else {
            return;
        };
        let ask = self.ask_next(now, &hash, counters);
        self.queue_ask(ask);
    }

    /// Whoever is asked for this no longer is; gives whose hand is free.
    fn give_up_ask(&mut self, hash: &Hash) -> Option<Host> {
        let (announcer, until) = self.entries.get_mut(hash)?.asked.take()?;
        self.deadlines.remove(&(until, *hash));
        if let Some(hands) = self.hosts.get_mut(&announcer.host) {
            hands.asked -= 1;
        }
        self.count_down(&announcer);
        Some(announcer.host)
    }

    fn drop_announcement(&mut self, announcer: &Announcer) {
        if let Some(hands) = self.hosts.get_mut(&announcer.host) {
            hands.parked.remove(&announcer.seq);
        }
        self.count_down(announcer);
    }

    fn count_down(&mut self, announcer: &Announcer) {
        self.shares.remove(announcer.host, announcer.seq, 0);
        if let Some(hands) = self.hosts.get_mut(&announcer.host) {
            hands.announced -= 1;
            if hands.announced == 0 {
                self.hosts.remove(&announcer.host);
            }
        }
    }

    fn remove_if_done(&mut self, hash: &Hash, counters: &mut SubmissionCounters) {
        let done = |entry: &Entry| entry.asked.is_none() && entry.announcers.is_empty();
        if self.entries.get(hash).is_some_and(done) {
            self.entries.remove(hash);
            counters.never_received += 1;
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let bounds = self.bounds;
        assert!(self.entries.len() <= bounds.wanted && self.asks.len() <= bounds.wanted + 1);
        let mut counts: HashMap<Host, (usize, usize, usize)> = HashMap::new();
        for (hash, entry) in &self.entries {
            assert!(entry.asked.is_some() || !entry.announcers.is_empty());
            assert!(entry.announcers.len() + usize::from(entry.asked.is_some()) <= bounds.announcers);
            if let Some((announcer, until)) = entry.asked {
                assert!(self.deadlines.contains(&(until, *hash)));
                let count = counts.entry(announcer.host).or_default();
                count.0 += 1;
                count.1 += 1;
            }
            for announcer in &entry.announcers {
                let count = counts.entry(announcer.host).or_default();
                count.0 += 1;
                if entry.asked.is_none() {
                    count.2 += 1;
                    let hands = &self.hosts[&announcer.host];
                    assert_eq!(hands.parked.get(&announcer.seq), Some(hash));
                    assert_eq!(hands.asked, bounds.in_flight, "parked although a hand is free");
                }
            }
        }
        assert_eq!(self.deadlines.len(), self.entries.values().filter(|entry| entry.asked.is_some()).count());
        assert_eq!(counts.len(), self.hosts.len());
        for (host, (announced, asked, parked)) in counts {
            let kept = &self.hosts[&host];
            assert_eq!((kept.announced, kept.asked, kept.parked.len()), (announced, asked, parked));
            assert!(announced <= bounds.announcements && asked <= bounds.in_flight);
        }
        let each = self
            .entries
            .iter()
            .flat_map(|(hash, entry)| entry.all().map(|announcer| (announcer.host, announcer.seq, *hash, 0)));
        self.shares.check(each);
    }
}
