//! The operator's desk: questions about clients, and what is done to them.
//!
//! A question is a job. A turn looks at [`LOOKS_PER_TURN`] slots and does [`ACTS_PER_TURN`] things at most, so that neither a list of a
//! million clients nor the kick of a /24 holds up a ping; jobs are taken in their order, and the hub has a bounded number under way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Client, Core};
use crate::base::{Class, ClientId};
use crate::client::Flags;
use crate::link::{Action, Ask, AskId, ClientInfo, Filter, Step, ToHub, Told, Who};
use crate::transport::{Channel, Kind};

/// Slots looked at in a turn: some 20 us.
const LOOKS_PER_TURN: u32 = 2_048;
/// Clients something is done to in a turn: a close is an operation of the ring.
const ACTS_PER_TURN: usize = 256;

/// The answer to what is about no client.
pub(super) const DONE: Told = Told::Done { clients: 0, unknown: Vec::new() };

/// A question being worked on.
#[derive(Debug)]
pub(super) struct Job {
    id: AskId,
    ask: Arc<Ask>,
    /// The next slot, or the next of the ids.
    at: u32,
    found: Vec<ClientInfo>,
    done: u64,
    unknown: Vec<ClientId>,
}

impl Core {
    /// A question has come.
    pub(super) fn asked_by_operator(&mut self, id: AskId, ask: Arc<Ask>) {
        let at = match &*ask {
            Ask::List { from, .. } => *from,
            _ => 0,
        };
        self.jobs.push_back(Job { id, ask, at, found: Vec::new(), done: 0, unknown: Vec::new() });
    }

    /// A turn's share of the job at the front.
    pub(super) fn work_jobs(&mut self) {
        let Some(mut job) = self.jobs.pop_front() else { return };
        let ask = job.ask.clone();
        let told = match &*ask {
            Ask::List { filter, limit, .. } => self.list(&mut job, filter, *limit),
            Ask::Rules(change) => {
                self.door.change(change);
                Some(DONE)
            }
            Ask::Add(new) => self.add_service(&mut job.at, new),
            Ask::Open(service) => self.open_service(&mut job.at, *service),
            Ask::Remove(service) => self.remove_service(&mut job.at, *service),
            Ask::Drain(service) => {
                self.drain_service(*service);
                Some(DONE)
            }
            Ask::Throttle { scope, down, up } => {
                self.set_shared(*scope, *down, *up);
                Some(DONE)
            }
            Ask::Act { who: Who::Ids(ids), action } => self.act_on(&mut job, ids, action),
            Ask::Act { who: Who::Matching(filter), action } => self.act_matching(&mut job, filter, action),
        };
        match told {
            Some(told) => self.tell_hub(ToHub::Told(job.id, Box::new(told))),
            None => self.jobs.push_front(job),
        }
    }

    fn list(&mut self, job: &mut Job, filter: &Filter, limit: u32) -> Option<Told> {
        let end = self.clients.end();
        for _ in 0..LOOKS_PER_TURN {
            if job.at >= end || job.found.len() >= limit as usize {
                let next = (job.at < end).then_some(job.at);
                return Some(Told::Page { clients: std::mem::take(&mut job.found), next });
            }
            let slot = job.at;
            job.at += 1;
            if let Some((id, client)) = self.clients.at(slot)
                && matches(client, filter)
            {
                job.found.push(self.info(id)?);
            }
        }
        None
    }

    fn act_on(&mut self, job: &mut Job, ids: &[ClientId], action: &Action) -> Option<Told> {
        for id in ids.iter().skip(job.at as usize).take(ACTS_PER_TURN) {
            job.at += 1;
            match self.clients.get_mut(*id).is_some() {
                true => job.done += u64::from(self.act(*id, action)),
                false => job.unknown.push(*id),
            }
        }
        let done = job.at as usize >= ids.len();
        done.then(|| Told::Done { clients: job.done, unknown: std::mem::take(&mut job.unknown) })
    }

    fn act_matching(&mut self, job: &mut Job, filter: &Filter, action: &Action) -> Option<Told> {
        let end = self.clients.end();
        let mut acts = 0;
        for _ in 0..LOOKS_PER_TURN {
            if job.at >= end {
                return Some(Told::Done { clients: job.done, unknown: Vec::new() });
            }
            if acts >= ACTS_PER_TURN {
                break;
            }
            let slot = job.at;
            job.at += 1;
            if let Some((id, client)) = self.clients.at(slot)
                && matches(client, filter)
            {
                acts += 1;
                job.done += u64::from(self.act(id, action));
            }
        }
        None
    }

    /// False if there is no room for what it is to have.
    fn act(&mut self, id: ClientId, action: &Action) -> bool {
        match action {
            Action::End(end) => self.end(id, *end),
            Action::Pause(time) => self.pause(id, *time),
            Action::Throttle { down, up } => self.set_throttle(id, *down, *up),
            Action::Set { capacity, factors, tags } => {
                if capacity.is_some_and(|capacity| !self.give_capacity(id, capacity)) {
                    return false;
                }
                if let Some(factors) = factors {
                    self.give_factors(id, *factors);
                }
                if let Some((client, tags)) = self.clients.get_mut(id).zip(*tags) {
                    client.account.tags = tags;
                }
            }
            Action::Tag { add, remove } => {
                if let Some(client) = self.clients.get_mut(id) {
                    let tags = &mut client.account.tags;
                    tags.0 = (tags.0 & !remove.0) | add.0;
                }
            }
            Action::Rank => {
                let is_session = |client: &mut Client| client.account.class != Class::Probe;
                if self.clients.get_mut(id).is_some_and(is_session) {
                    self.came(id, Step::Again);
                }
            }
        }
        true
    }

    /// `version` has come.
    pub(super) fn named(&mut self, id: ClientId, name: &[u8]) {
        let number = self.agents.number(name);
        if let Some(client) = self.clients.get_mut(id) {
            client.account.agent = number;
        }
    }

    /// Our ping was answered.
    pub(super) fn ponged(&mut self, id: ClientId) {
        let now = self.now;
        if let Some(client) = self.clients.get_mut(id) {
            client.account.ponged(now, now.secs().saturating_sub(client.pinged));
            self.house.free.ping(id.slot, client.account.round_trip().unwrap_or(u16::MAX));
        }
    }

    /// What an operator sees of a client.
    fn info(&mut self, id: ClientId) -> Option<ClientInfo> {
        let now = self.now;
        let client = self.clients.get_mut(id)?;
        let since = |secs: u32| Duration::from_secs(u64::from(now.secs().saturating_sub(secs)));
        let (identity, session_id) = match &client.channel {
            Channel::Tls(session) => (session.identity().copied(), None),
            Channel::V2(session) => (None, Some(*session.id())),
            _ => (None, None),
        };
        let account = &client.account;
        let throttle = self.throttles.get(&id).copied().unwrap_or_default();
        Some(ClientInfo {
            id,
            peer: client.peer.into(),
            service: account.service,
            transport: transport(&client.channel),
            class: account.class,
            tags: account.tags,
            connected: since(client.since),
            silent: since(client.heard),
            ready: client.is(Flags::READY),
            paused: client.is(Flags::HELD),
            frozen: client.is(Flags::PAUSED),
            sending: client.is(Flags::SENDING),
            bytes_in: account.bytes_in,
            bytes_out: account.bytes_out,
            round_trip: account.round_trip().map(|millis| Duration::from_millis(u64::from(millis))),
            user_agent: self.agents.name(account.agent),
            identity,
            session_id,
            throttle_down: throttle.down.map(|bucket| bucket.rate()),
            throttle_up: throttle.up.map(|bucket| bucket.rate()),
            capacity: u64::from(account.flow.capacity()),
            buffer: account.flow.buffer(now),
            debt: self.house.free.debt(self.unix, id.slot),
            costs: account.costs.map(u64::from),
        })
    }
}

/// What a client speaks, as far as it is known: a stream whose first bytes have not come counts as plain.
pub(super) fn transport(channel: &Channel) -> Kind {
    match channel {
        Channel::Fresh | Channel::Plain => Kind::Plain,
        Channel::V2Fresh | Channel::V2Shaking(_) | Channel::V2(_) => Kind::V2,
        Channel::TlsFresh | Channel::TlsShaking(_) | Channel::Tls(_) => Kind::Tls,
    }
}

fn matches(client: &Client, filter: &Filter) -> bool {
    let account = &client.account;
    let here = || SocketAddr::from(client.peer).ip();
    filter.service.is_none_or(|service| account.service == service)
        && filter.class.is_none_or(|class| account.class == class)
        && filter.transport.is_none_or(|kind| transport(&client.channel) == kind)
        && account.tags.has(filter.tags)
        && filter.network.is_none_or(|network| network.contains(&here()))
}
