//! The door: from accept to a session slot.
//!
//! A connection is refused before anything is answered when it is banned, comes too often, or finds no probe slot; then it costs us one
//! close. Otherwise it is a *probe*: it may shake hands, ping, ask for addresses. What asks for real work makes it a *session*, if there is a
//! slot; if there is none it is told of other relays and closed. Probes never take session slots, sessions never wait behind probes.
//!
//! The numbers are this shard's part of the service's. A host's connections spread over the shards by chance, so limits on identities hold
//! per shard (`admission::ProbeLimits::per_shard`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;

use super::core::{Client, Core, ListenerKind};
use crate::admission::{Admission, Keying, Keys, NoSlot, ProbeLimits, Probes, Slots};
use crate::base::limits::TRANSPORT_TIMEOUT;
use crate::base::{Class, ClientId, Conn, End, ServiceId};
use crate::client::{Account, Effect, Flags};
use crate::io::{ListenerId, Op};
use crate::link::{Rules, ServiceReport, SlotGrants, Step};
use crate::transport::Channel;
use crate::wire::Services;

/// A client that has said how it wants to hear of blocks is a session after this, though it has asked for nothing.
pub(super) const LISTENER_TIME: u32 = 30;
/// Seconds until a listener that waits for the hub is looked at again.
const KNOCK_AGAIN: u32 = 5;

/// A listening address of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    /// What is spoken there.
    pub kind: ListenerKind,
    /// Whose it is.
    pub service: ServiceId,
}

impl From<ListenerKind> for Listener {
    /// Of the first service.
    fn from(kind: ListenerKind) -> Listener {
        Listener { kind, service: ServiceId(0) }
    }
}

/// A service's rules, and its numbers for one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Which.
    pub id: ServiceId,
    /// Our name there (BIP14), at most 256 bytes.
    pub user_agent: Bytes,
    /// Service bits that are not offered there.
    pub without: Services,
    /// Session slots.
    pub sessions: u32,
    /// Probe slots.
    pub probes: u32,
    /// Capacity of its clients, cost units per second; u32::MAX for no limit.
    pub capacity: u32,
    /// How long somebody may stay a probe; none for ever.
    pub probe_time: Option<Duration>,
}

impl Service {
    /// The first service, where everybody finds a slot and a probe may stay: for tests and benchmarks.
    pub fn open(user_agent: &'static [u8]) -> Service {
        Service {
            id: ServiceId(0),
            user_agent: Bytes::from_static(user_agent),
            without: Services::empty(),
            sessions: u32::MAX,
            probes: u32::MAX,
            capacity: u32::MAX,
            probe_time: None,
        }
    }

    /// One shard's part of the numbers.
    pub fn share(self, shards: u32) -> Service {
        let part = |all: u32| all.div_ceil(shards.max(1)).max(1);
        Service { sessions: part(self.sessions), probes: part(self.probes), ..self }
    }
}

/// A service as it stands.
#[derive(Debug)]
struct Standing {
    rules: Service,
    slots: Slots,
    /// The numbers of the hub's grants of slots: sessions, probes.
    obeys: [u32; 2],
    draining: bool,
}

/// Who is let in.
#[derive(Debug)]
pub(super) struct Door {
    services: Vec<Standing>,
    per_address: Admission,
    probes: Probes,
    exempt: Vec<IpNet>,
    keying: Keying,
}

impl Door {
    pub(super) fn new(
        services: Vec<Service>,
        per_address: u32,
        limits: ProbeLimits,
        exempt: Vec<IpNet>,
        seed: u64,
    ) -> Door {
        let standing = |rules: Service| Standing {
            slots: Slots::new(rules.sessions, rules.probes),
            rules,
            obeys: [0; 2],
            draining: false,
        };
        let entries = if limits.every.is_zero() { 0 } else { Probes::ENTRIES };
        Door {
            services: services.into_iter().map(standing).collect(),
            per_address: Admission::new(per_address),
            probes: Probes::new(limits, entries),
            exempt,
            keying: Keying::new([seed, !seed]),
        }
    }

    /// A service's rules.
    pub(super) fn rules(&self, id: ServiceId) -> Option<&Service> {
        self.services.iter().find(|standing| standing.rules.id == id).map(|standing| &standing.rules)
    }

    /// The slots, for the hub.
    pub(super) fn report(&mut self) -> Vec<ServiceReport> {
        let one = |Standing { rules, slots, obeys, .. }: &mut Standing| {
            let refused = slots.take_refused();
            ServiceReport {
                service: rules.id,
                sessions: slots.sessions,
                probes: slots.probes,
                max_sessions: slots.max_sessions,
                max_probes: slots.max_probes,
                obeys: *obeys,
                refused: [refused.0, refused.1],
            }
        };
        self.services.iter_mut().map(one).collect()
    }

    /// Changes what is given.
    pub(super) fn change(&mut self, change: &Rules) {
        let Some(Standing { rules, .. }) = self.standing(change.service) else { return };
        rules.without = change.without.unwrap_or(rules.without);
        if let Some(name) = &change.user_agent {
            rules.user_agent = name.clone();
        }
    }

    /// Another service, closed until it is opened.
    pub(super) fn add(&mut self, rules: Service) {
        self.remove(rules.id);
        let slots = Slots::new(rules.sessions, rules.probes);
        self.services.push(Standing { slots, rules, obeys: [0; 2], draining: true });
    }

    /// Newcomers are taken.
    pub(super) fn open(&mut self, service: ServiceId) {
        if let Some(standing) = self.standing(service) {
            standing.draining = false;
        }
    }

    /// One service less; who came by it stays.
    pub(super) fn remove(&mut self, service: ServiceId) {
        self.services.retain(|standing| standing.rules.id != service);
    }

    /// The hub's part of the slots for this shard. They count at once; who is above stays.
    pub(super) fn grant(&mut self, grants: &SlotGrants) {
        let Some(Standing { slots, obeys, .. }) = self.standing(grants.service) else { return };
        let mut numbers = [slots.max_sessions, slots.max_probes];
        for (n, grant) in [grants.sessions, grants.probes].into_iter().enumerate() {
            if let Some(grant) = grant {
                numbers[n] = u32::try_from(grant.amount).unwrap_or(u32::MAX);
                obeys[n] = grant.number;
            }
        }
        let [sessions, probes] = numbers;
        slots.set(sessions, probes);
    }

    /// No newcomers any more.
    pub(super) fn drain(&mut self, service: ServiceId) {
        if let Some(standing) = self.standing(service) {
            standing.draining = true;
        }
    }

    pub(super) fn is_draining(&self, service: ServiceId) -> bool {
        self.services.iter().all(|standing| standing.rules.id != service || standing.draining)
    }

    fn standing(&mut self, id: ServiceId) -> Option<&mut Standing> {
        self.services.iter_mut().find(|standing| standing.rules.id == id)
    }

    fn slots(&mut self, id: ServiceId) -> Option<&mut Slots> {
        self.standing(id).map(|standing| &mut standing.slots)
    }

    /// True exactly when a session slot is free.
    pub(super) fn has_session(&mut self, service: ServiceId) -> bool {
        self.slots(service).is_some_and(|slots| slots.sessions < slots.max_sessions)
    }

    /// A priority client takes a session slot, free or not.
    pub(super) fn force_session(&mut self, service: ServiceId) {
        self.slots(service).into_iter().for_each(Slots::force);
    }

    /// A client's keys in tables.
    pub(super) fn keys(&self, address: IpAddr) -> Keys {
        self.keying.of(address)
    }

    /// Somebody who was let in is gone.
    fn left(&mut self, peer: SocketAddr, service: ServiceId, class: Class) {
        self.per_address.left(peer);
        if let Some(slots) = self.slots(service) {
            slots.leave(class);
        }
    }
}

impl Core {
    pub(super) fn accepted(&mut self, listener: ListenerId, conn: Conn, peer: SocketAddr) {
        self.counters.accepted += 1;
        let at = self.config.listeners.get(usize::from(listener.0)).copied();
        let at = at.unwrap_or(Listener::from(ListenerKind::Plain));
        if let Err(end) = self.let_in(peer, at.service) {
            return self.refuse(conn, end);
        }
        let channel = match at.kind {
            ListenerKind::Tls => Channel::TlsFresh,
            ListenerKind::Plain if self.config.v2 => Channel::Fresh,
            ListenerKind::Plain => Channel::Plain,
        };
        let cursors = (self.blocks.head(), self.txs.sealed());
        let capacity = self.door.rules(at.service).map_or(1, |rules| rules.capacity);
        let account = Account::new(self.now, at.service, capacity);
        let client = Client::new(self.now, conn, peer, channel, account, cursors);
        let Some(id) = self.clients.insert(client) else {
            self.door.left(peer, at.service, Class::Probe);
            return self.refuse(conn, End::Full);
        };
        if self.house.knows(peer) {
            self.keep_reserve(id);
        }
        self.in_handshake += 1;
        self.handshakes.push_back(id);
        if at.kind == ListenerKind::Tls {
            self.shaking.came(id);
        }
        self.wheel.add(id, self.now.secs() + TRANSPORT_TIMEOUT.as_secs() as u32);
        self.flow(id);
        self.bound_handshakes();
    }

    /// Decides before anything is answered. On `Ok` the connection has a probe slot and counts for its address.
    fn let_in(&mut self, peer: SocketAddr, service: ServiceId) -> Result<(), End> {
        if self.draining.is_some() {
            return Err(End::Shutdown);
        }
        if self.door.is_draining(service) {
            return Err(End::Drained);
        }
        if self.bans.covers(peer.ip(), self.unix).is_some() {
            return Err(End::Banned);
        }
        // Whom the operator knows finds room that is kept for it, and may come as often as it likes.
        let known = self.house.knows(peer);
        let kept = if known { 0 } else { self.house.reserve(self.config.max_clients) };
        if self.clients.room() <= kept {
            return Err(End::Full);
        }
        let slots = self.door.slots(service).ok_or(End::Drained)?;
        match known {
            true => slots.force_probe(),
            false => slots.enter().map_err(|_| End::NoProbeSlot)?,
        }
        if let Err(end) = self.door.per_address.enter(peer) {
            self.door.slots(service).into_iter().for_each(|slots| slots.leave(Class::Probe));
            return Err(end);
        }
        // What costs the newcomer something comes last: a refusal for our reasons is not held against it.
        let address = peer.ip().to_canonical();
        if known || self.door.exempt.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        let keys = self.door.keying.of(address);
        self.door.probes.enter(self.now, keys).map_err(|_| {
            self.door.left(peer, service, Class::Probe);
            End::ProbeTooOften
        })
    }

    /// A service takes no newcomers any more: the kernel sends none, and those that are under way are refused.
    pub(super) fn drain_service(&mut self, service: ServiceId) {
        self.door.drain(service);
        let numbers = self.config.listeners.iter().enumerate().filter(|(_, at)| at.service == service);
        let stops: Vec<Op> =
            numbers.map(|(n, _)| Op::StopListening(ListenerId(u8::try_from(n).unwrap_or(u8::MAX)))).collect();
        if self.is_listening() {
            self.ops.extend(stops);
        }
    }

    /// A client has gone: its slot is free.
    pub(super) fn left(&mut self, id: ClientId, client: &Client, end: End) {
        self.moved_out(id, client, end);
        self.door.left(client.peer.into(), client.account.service, client.account.class);
    }

    /// Makes a session of a probe; whether there is room has been asked (`Core::knock`).
    ///
    /// # Errors
    /// `NoSession`: there is no slot; `NoCapacity`: there is none.
    fn promote(&mut self, id: ClientId) -> Result<(), End> {
        let class = self.clients.get_mut(id).map(|client| client.account.class);
        if class != Some(Class::Probe) {
            return Ok(());
        }
        let capacity = self.clients.get_mut(id).map_or(0, |client| client.account.flow.capacity());
        if capacity != u32::MAX && !self.house.free.has_room(capacity) {
            return Err(End::NoCapacity);
        }
        self.enter_session(id, 0.0)?;
        self.came(id, Step::In);
        Ok(())
    }

    /// A probe takes a session slot; it owes `debt`.
    ///
    /// # Errors
    /// `NoSession`: there is no slot.
    pub(super) fn enter_session(&mut self, id: ClientId, debt: f64) -> Result<(), End> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let (service, peer) = (client.account.service, SocketAddr::from(client.peer));
        match self.door.slots(service).map(Slots::promote) {
            Some(Ok(())) => {}
            Some(Err(NoSlot::Session | NoSlot::Probe)) | None => return Err(End::NoSession),
        }
        self.counters.promoted += 1;
        self.door.probes.refund(self.door.keying.of(peer.ip()));
        self.moved_in(id, debt);
        self.throttle_newcomer(id);
        Ok(())
    }

    /// What a probe's message asks for may need a session. `out` then says where else to go, if we know.
    pub(super) fn admit(&mut self, id: ClientId, effect: &Effect<'_>, out: &mut Vec<u8>) -> Result<(), End> {
        if !is_work(effect) {
            return Ok(());
        }
        let filters = matches!(
            effect,
            Effect::GetCFilters { .. } | Effect::GetCFHeaders { .. } | Effect::GetCFCheckpt { .. }
        );
        if filters {
            let service = self.clients.get_mut(id).map(|client| client.account.service);
            let without = service.and_then(|id| self.door.rules(id)).map(|rules| rules.without);
            if without.is_some_and(|bits| bits.contains(Services::COMPACT_FILTERS)) {
                return Err(End::FiltersNotServed);
            }
        }
        self.promote(id).inspect_err(|_| self.tell_siblings(id, out))
    }

    pub(super) fn tell_siblings(&mut self, id: ClientId, out: &mut Vec<u8>) {
        let Some(client) = self.clients.get_mut(id).filter(|c| c.is(Flags::READY)) else { return };
        let (addr, addrv2) = &self.addresses;
        out.extend_from_slice(if client.is(Flags::ADDRV2) { addrv2 } else { addr });
    }

    /// What is due for a probe at this second: its promotion, or its end. Otherwise the second when it is to be looked at again.
    pub(super) fn probe_due(&mut self, id: ClientId, now: u32) -> Result<u32, End> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(u32::MAX) };
        if client.account.class != Class::Probe || !client.is(Flags::READY) {
            return Ok(u32::MAX);
        }
        let (since, listens) = (client.since, client.flags.intersects(Flags::HEADERS | Flags::COMPACT));
        let service = client.account.service;
        let listener = since.saturating_add(LISTENER_TIME);
        if listens && now >= listener {
            return match self.ask_for_room(id)? {
                true => self.promote(id).map(|()| u32::MAX),
                // The hub's word comes first; otherwise it is asked again.
                false => Ok(now.saturating_add(KNOCK_AGAIN)),
            };
        }
        let time = self.door.rules(service).and_then(|rules| rules.probe_time);
        let over = time.map_or(u32::MAX, |time| since.saturating_add(time.as_secs() as u32));
        if now >= over {
            return Err(End::ProbeOver);
        }
        Ok(if listens { over.min(listener) } else { over })
    }

    /// Ends a probe whose time is over, or for whom there is no session slot: that one is told where else to go.
    pub(super) fn turn_away(&mut self, id: ClientId, end: End) {
        if is_told_where_else(end) {
            let mut out = std::mem::take(&mut self.reply);
            self.tell_siblings(id, &mut out);
            if !out.is_empty() {
                self.push_message(id, |pending| pending.extend_from_slice(&out));
            }
            out.clear();
            self.reply = out;
        }
        self.fail(id, end);
    }

    /// Closes a connection that never became a client. Nothing was read or sent, so nothing is pending.
    fn refuse(&mut self, conn: Conn, end: End) {
        self.counters.end(end);
        let nobody = ClientId { slot: ClientId::MAX_SLOTS - 1, generation: 0 };
        self.ops.push(Op::Close { client: nobody, conn, reset: true });
    }
}

/// True exactly when there was no room here, but may be elsewhere.
pub(super) fn is_told_where_else(end: End) -> bool {
    matches!(end, End::NoSession | End::NoCapacity)
}

/// True exactly when a message asks for what only sessions get.
fn is_work(effect: &Effect<'_>) -> bool {
    match effect {
        Effect::GetHeaders { .. }
        | Effect::GetBlocks { .. }
        | Effect::GetData(_)
        | Effect::GetBlockTxn { .. }
        | Effect::GetCFilters { .. }
        | Effect::GetCFHeaders { .. }
        | Effect::GetCFCheckpt { .. }
        | Effect::Mempool
        | Effect::Inv(_)
        | Effect::Tx(_) => true,
        Effect::None
        | Effect::Fault(_)
        | Effect::Hello(_)
        | Effect::Ready
        | Effect::Pinged
        | Effect::Ponged
        | Effect::GetAddr
        | Effect::NotFound(_) => false,
    }
}
