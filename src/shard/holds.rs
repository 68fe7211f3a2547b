//! Clients that wait for an instant: throttled, over their capacity, or paused by the operator.
//!
//! Two directions. *Up*: the client is not read, so that TCP slows it down. *Down*: what it has asked for is not sent on; announcements and
//! pings are, between messages. A hold is one entry in a heap, and a client has one at most per direction; one that has been lengthened
//! is put back when it fires.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use super::core::Core;
use crate::admission::{Bucket, Limit, Scope};
use crate::base::limits::RECV_BUFFER;
use crate::base::{Class, ClientId, Instant, ServiceId};
use crate::client::Flags;

/// Holds that end in a turn.
const ENDS_PER_TURN: usize = 512;
/// Pieces of what is throttled: so much time's worth of the rate, so that ten seconds are exact to one per cent.
const PIECE: Duration = Duration::from_millis(25);
/// Least bytes of a piece: the frame of a record must not cost as much as what is in it.
const LEAST_PIECE: usize = 256;

/// Which way is held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Way {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

impl Way {
    fn flag(self) -> Flags {
        match self {
            Way::Up => Flags::HELD,
            Way::Down => Flags::HELD_DOWN,
        }
    }
}

/// Who waits until when.
#[derive(Debug, Default)]
pub(super) struct Holds {
    due: BinaryHeap<Reverse<(Instant, ClientId, Way)>>,
    /// When the holds end that are in `due`, or later.
    until: HashMap<(ClientId, Way), Instant>,
}

impl Holds {
    /// When the first hold ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    fn add(&mut self, id: ClientId, way: Way, until: Instant) {
        let entry = self.until.entry((id, way)).or_insert(Instant(0));
        if entry.0 == 0 {
            self.due.push(Reverse((until, id, way)));
        }
        *entry = (*entry).max(until);
    }

    /// A hold that would last longer ends then.
    fn sooner(&mut self, id: ClientId, way: Way, until: Instant) {
        if let Some(entry) = self.until.get_mut(&(id, way)).filter(|entry| **entry > until) {
            *entry = until;
            self.due.push(Reverse((until, id, way)));
        }
    }

    /// Who is held, and until when.
    fn held(&self, way: Way) -> Vec<(ClientId, Instant)> {
        let all = self.until.iter().filter(|((_, other), _)| *other == way);
        all.map(|((id, _), until)| (*id, *until)).collect()
    }

    /// Ends a hold before its time; its entry finds nothing when it fires.
    fn remove(&mut self, id: ClientId, way: Way) {
        self.until.remove(&(id, way));
    }

    /// The next that is over.
    fn pop(&mut self, now: Instant) -> Option<(ClientId, Way)> {
        loop {
            let Reverse((at, id, way)) = self.due.peek().copied()?;
            if at > now {
                return None;
            }
            self.due.pop();
            match self.until.get(&(id, way)).copied() {
                None => {}
                Some(until) if until > now => self.due.push(Reverse((until, id, way))),
                Some(_) => {
                    self.until.remove(&(id, way));
                    return Some((id, way));
                }
            }
        }
    }
}

impl Core {
    /// A turn's share of the holds that are over.
    pub(super) fn end_holds(&mut self) {
        for _ in 0..ENDS_PER_TURN {
            let Some((id, way)) = self.holds.pop(self.now) else { return };
            let Some(client) = self.clients.get_mut(id) else { continue };
            client.flags.remove(way.flag());
            if way == Way::Up {
                client.flags.remove(Flags::PAUSED);
            }
            client.flags.set(Flags::GRANTED, way == Way::Down);
            self.flow(id);
        }
    }

    pub(super) fn hold(&mut self, id: ClientId, way: Way, until: Instant) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.flags |= way.flag();
        self.holds.add(id, way, until);
    }

    /// The operator's pause.
    pub(super) fn pause(&mut self, id: ClientId, time: Duration) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.flags.set(Flags::PAUSED, time > Duration::ZERO);
        if time > Duration::ZERO {
            let until = self.now + time;
            // Not its fault either; as long as its transport is not open this is the deadline of that.
            if let Some(client) = self.clients.get_mut(id).filter(|client| client.channel.is_open()) {
                client.message_begun = until.secs();
            }
            self.hold(id, Way::Up, until);
        } else {
            self.read_again(id);
        }
    }

    /// Looks anew at whether a client has to wait: its limits have changed. A pause of the operator's stays.
    pub(super) fn read_again(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.is(Flags::HELD) && !client.is(Flags::PAUSED) {
            client.flags.remove(Flags::HELD);
            self.holds.remove(id, Way::Up);
        }
        self.flow(id);
    }

    /// A client has gone.
    pub(super) fn forget_holds(&mut self, id: ClientId, flags: Flags) {
        if flags.intersects(Flags::HELD | Flags::HELD_DOWN) {
            self.holds.remove(id, Way::Up);
            self.holds.remove(id, Way::Down);
        }
        if flags.contains(Flags::THROTTLED) {
            self.throttles.remove(&id);
        }
    }

    /// A client's own throttle.
    pub(super) fn set_throttle(&mut self, id: ClientId, down: Limit, up: Limit) {
        self.put_throttle(id, down, up);
        let Some(client) = self.clients.get_mut(id) else { return };
        // What was waited for under the old rate is counted anew; the debt is the bucket's.
        client.flags.remove(Flags::HELD_DOWN);
        self.holds.remove(id, Way::Down);
        self.read_again(id);
    }

    /// The same, without going on with the client.
    pub(super) fn put_throttle(&mut self, id: ClientId, down: Limit, up: Limit) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(id) else { return };
        let throttle = self.throttles.entry(id).or_default();
        throttle.set(now, down, up);
        let none = throttle.is_none();
        client.flags.set(Flags::THROTTLED, !none);
        if none {
            self.throttles.remove(&id);
        }
    }

    /// Sets this shard's part of a throttle that clients share. Who waits under it for a time counted at a lower rate waits for less.
    pub(super) fn set_shared(&mut self, scope: Scope, down: Limit, up: Limit) {
        let before = self.shared.rates(scope);
        self.shared.set(self.now, scope, down, up);
        let after = self.shared.rates(scope);
        for (way, before, after) in [(Way::Down, before[0], after[0]), (Way::Up, before[1], after[1])] {
            match (before, after) {
                (Some(before), Some(after)) if after > before => self.hurry(scope, way, before, after),
                // Without a limit nobody waits.
                (Some(before), None) => self.hurry(scope, way, before, u64::MAX),
                _ => {}
            }
        }
    }

    fn hurry(&mut self, scope: Scope, way: Way, before: u64, after: u64) {
        let now = self.now;
        for (id, until) in self.holds.held(way) {
            let Some(client) = self.clients.get_mut(id) else { continue };
            let account = &client.account;
            let meant = match scope {
                Scope::All => true,
                Scope::Class(class) => account.class == class,
                Scope::Service(service) => account.service == service,
            };
            // Its own throttle, a pause and the hub's word have times of their own.
            let own = Flags::THROTTLED | Flags::PAUSED | Flags::KNOCKED;
            if meant && !client.flags.intersects(own) {
                let left = u128::from(until.0.saturating_sub(now.0)) * u128::from(before) / u128::from(after);
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                self.holds.sooner(id, way, Instant(now.0.saturating_add(left)));
            }
        }
    }

    /// Bytes of a piece that the client may be sent, when it has so many to get.
    pub(super) fn piece(&mut self, id: ClientId, bytes: usize) -> usize {
        if !self.is_throttled(id) {
            return bytes;
        }
        let slowest = self.buckets(id, Way::Down).map(|bucket| bucket.rate()).min();
        slowest.map_or(bytes, |rate| bytes.min(piece_of(rate)))
    }

    /// Asks to send `bytes` of what the client has asked for. False when that has to wait: `flow` comes back to it then.
    pub(super) fn grant(&mut self, id: ClientId, bytes: usize) -> bool {
        if !self.is_throttled(id) {
            return true;
        }
        let now = self.now;
        let Some(client) = self.clients.get_mut(id) else { return false };
        if client.is(Flags::GRANTED) {
            client.flags.remove(Flags::GRANTED);
            return true;
        }
        if client.is(Flags::HELD_DOWN) {
            return false;
        }
        let start = self.buckets(id, Way::Down).map(|bucket| bucket.reserve(now, bytes)).max();
        match start.filter(|start| *start > now) {
            Some(start) => {
                self.hold(id, Way::Down, start);
                false
            }
            None => true,
        }
    }

    /// Bytes that go without having been asked for by `grant`: announcements, and what an answer has beyond its grant.
    pub(super) fn charge(&mut self, id: ClientId, bytes: usize) {
        if bytes == 0 || !self.is_throttled(id) {
            return;
        }
        let now = self.now;
        self.buckets(id, Way::Down).for_each(|bucket| {
            bucket.reserve(now, bytes);
        });
    }

    /// Bytes of a piece that a client is read in, when that is less than a buffer.
    pub(super) fn part_up(&mut self, id: ClientId) -> Option<u16> {
        if !self.is_throttled(id) {
            return None;
        }
        let slowest = self.buckets(id, Way::Up).map(|bucket| bucket.rate()).min()?;
        Some(piece_of(slowest)).filter(|most| *most < RECV_BUFFER).and_then(|most| u16::try_from(most).ok())
    }

    /// Bytes have come: the client is read again when they are paid for.
    pub(super) fn charge_up(&mut self, id: ClientId, bytes: usize) {
        if !self.is_throttled(id) {
            return;
        }
        let now = self.now;
        let paid = self.buckets(id, Way::Up).map(|bucket| {
            bucket.reserve(now, bytes);
            bucket.ready_at()
        });
        if let Some(paid) = paid.max().filter(|paid| *paid > now) {
            self.excuse(id, paid);
            self.hold(id, Way::Up, paid);
        }
    }

    /// The time in which we do not read a client is not its own, and a message in parts is not late for it: with a throttle of its own,
    /// which it has used up, its time begins anew; those that many share do not excuse more than they have cost it.
    fn excuse(&mut self, id: ClientId, until: Instant) {
        let now = self.now;
        let own = self.throttles.get(&id).and_then(|throttle| throttle.up.as_ref());
        let is_own = own.is_some_and(|bucket| bucket.ready_at() > now);
        let client = self.clients.get_mut(id);
        let Some(client) = client.filter(|client| client.channel.is_open()) else { return };
        client.message_begun = match is_own {
            true => until.secs(),
            false => client.message_begun.saturating_add(until.since(now).as_secs() as u32).min(until.secs()),
        };
    }

    /// True exactly when some throttle concerns the client, or it has been granted a piece under one.
    fn is_throttled(&mut self, id: ClientId) -> bool {
        let own = Flags::THROTTLED | Flags::GRANTED | Flags::HELD_DOWN;
        self.shared.is_any() || self.clients.get_mut(id).is_some_and(|client| client.flags.intersects(own))
    }

    /// The buckets a client's bytes go through: its own, its class's, its service's, everybody's.
    fn buckets(&mut self, id: ClientId, way: Way) -> impl Iterator<Item = &mut Bucket> {
        let found = self.clients.get_mut(id);
        let (own, class, service) = match found {
            Some(client) => (client.is(Flags::THROTTLED), client.account.class, client.account.service),
            None => (false, Class::Probe, ServiceId(0)),
        };
        let own = if own { self.throttles.get_mut(&id) } else { None };
        let shared = self.shared.of(class, service);
        own.into_iter().chain(shared).filter_map(move |throttle| match way {
            Way::Up => throttle.up.as_mut(),
            Way::Down => throttle.down.as_mut(),
        })
    }
}

/// Bytes of a piece at this rate.
fn piece_of(rate: u64) -> usize {
    (rate as usize / (1_000 / PIECE.as_millis() as usize)).max(LEAST_PIECE)
}
