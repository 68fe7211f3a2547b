//! The operator's desk of the hub: turns a [`Command`] into questions for the shards, gathers their answers, and answers. Sans-IO.
//!
//! Invariants:
//! - every command is answered once, at the latest [`ADMIN_TIMEOUT`] after it came
//! - at most `MOST` commands wait for shards; one more is refused as busy
//! - a command that is refused has asked no shard

#![forbid(unsafe_code)]

mod live;
mod services;
mod slots;
mod throttles;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use live::NewcomerRules;

use super::command::{AccountChange, Balance, Command, Page, Refusal, Reply, Service, Targets};
use crate::admission::{Ban, BanError, Bans};
use crate::base::{ClientId, ClientRef, End, Instant, ServiceId, ShardId, Tags, UnixTime};
use crate::link::{Action, Ask, AskId, ClientInfo, Filter, ShardReport, ToShard, Told, Who};

/// Longest wait for the shards.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Says what a client has paid and owes.
pub type Balances<'b> = &'b dyn Fn(ClientRef, &ClientInfo) -> Option<Balance>;
/// Commands that may wait for shards.
const MOST: usize = 64;
/// Most clients of a page, and most ids of a command.
pub const MOST_CLIENTS: u32 = 1_000;

/// A command that waits for shards.
#[derive(Debug)]
struct Waiting {
    until: Instant,
    what: What,
}

#[derive(Debug)]
enum What {
    Page { filter: Filter, limit: u32, shard: u16, page: Page, reply: Reply<Page> },
    Adding(live::Adding),
    Sum { left: u16, clients: u64, unknown: Vec<ClientRef>, asked: usize, reply: Reply<u64> },
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    shards: u16,
    next: u32,
    waiting: BTreeMap<AskId, Waiting>,
    services: Vec<services::Standing>,
    slots: BTreeMap<ServiceId, slots::SlotShares>,
    live: live::Live,
    /// The relay's name (BIP14).
    user_agent: String,
    throttles: Vec<throttles::Standing>,
    bans: Bans,
    /// True exactly when the bans have changed since they were last taken to be saved.
    unsaved: bool,
    out: VecDeque<(ShardId, ToShard)>,
}

impl Desk {
    /// For so many shards, with the services in the order of their numbers, and the bans of the last time.
    pub fn new(shards: u16, user_agent: String, services: Vec<Service>, bans: Bans) -> Desk {
        let standing = |(number, service)| services::Standing::new(number, service);
        let mut desk = Desk {
            shards,
            next: 0,
            waiting: BTreeMap::new(),
            slots: BTreeMap::new(),
            services: services.into_iter().enumerate().map(standing).collect(),
            live: live::Live::default(),
            user_agent,
            throttles: Vec::new(),
            bans,
            unsaved: false,
            out: VecDeque::new(),
        };
        let numbers: Vec<_> = desk.services.iter().map(services::Standing::slots).collect();
        for (service, sessions, probes) in numbers {
            desk.set_slots(service, sessions, probes);
        }
        desk.tell_bans();
        desk
    }

    /// The bans, when they have to be saved.
    pub fn unsaved_bans(&mut self) -> Option<&Bans> {
        std::mem::take(&mut self.unsaved).then_some(&self.bans)
    }

    /// What a shard is to be told next.
    pub fn next_output(&mut self) -> Option<(ShardId, ToShard)> {
        self.out.pop_front()
    }

    /// When something is due.
    pub fn next_wake(&self) -> Instant {
        self.waiting.values().map(|waiting| waiting.until).min().unwrap_or(Instant::FAR)
    }

    /// A command has come. Given back when it is not about clients. `reports`: the last of each shard.
    pub fn command(
        &mut self,
        now: Instant,
        unix: UnixTime,
        command: Command,
        reports: &[ShardReport],
    ) -> Option<Command> {
        match command {
            Command::Clients { filter, after, limit, reply } => {
                self.clients(now, filter, after, limit, reply)
            }
            Command::Act { who, action, reply } => self.act(now, who, action, reply),
            Command::RemoveTags { tags, reply } => {
                let who = Targets::Matching(Filter { tags, ..Filter::default() });
                self.act(now, who, Action::Tag { add: Tags::default(), remove: tags }, reply);
            }
            Command::Throttle { scope, down, up, reply } => self.throttle(now, scope, down, up, reply),
            Command::Ban { network, time, reason, reply } => {
                let until = unix.saturating_add(time.as_secs());
                self.ban(now, Ban { network, until, since: unix, reason }, reply);
            }
            Command::Unban { network, reply } => answer(reply, self.unban(network)),
            Command::Bans(reply) => answer(reply, Ok(self.bans.list().into_iter().cloned().collect())),
            Command::Throttles(reply) => answer(reply, Ok(self.throttles())),
            Command::SetClients { who, change, reply } => self.set_clients(now, who, &change, reply),
            Command::Services(reply) => answer(reply, Ok(self.services(reports))),
            Command::ChangeService { service, change, reply } => {
                answer(reply, self.change_service(service, change, reports));
            }
            Command::DrainService { service, reply } => answer(reply, self.drain_service(service, reports)),
            Command::RemoveService { service, reply } => self.remove_service(now, service, reply),
            other => return Some(other),
        }
        None
    }

    fn clients(
        &mut self,
        now: Instant,
        filter: Filter,
        after: Option<ClientRef>,
        limit: u32,
        reply: Reply<Page>,
    ) {
        if limit == 0 || limit > MOST_CLIENTS {
            let expected = format!("1 to {MOST_CLIENTS}");
            let refusal = Refusal::Value { field: "limit", value: limit.to_string(), expected };
            return answer(reply, Err(refusal));
        }
        let (shard, from) = after.map_or((0, 0), |after| (after.shard.0, after.id.slot.saturating_add(1)));
        if shard >= self.shards {
            let refusal = Refusal::Unknown { field: "after", value: format!("shard {shard}") };
            return answer(reply, Err(refusal));
        }
        if self.is_busy() {
            return answer(reply, Err(Refusal::Busy));
        }
        let ask = Ask::List { filter: filter.clone(), from, limit };
        let what = What::Page { filter, limit, shard, page: Page::default(), reply };
        let id = self.wait(now, what);
        self.ask(ShardId(shard), id, ask);
    }

    fn act(&mut self, now: Instant, who: Targets, action: Action, reply: Reply<u64>) {
        let mut asks: Vec<(ShardId, Ask)> = Vec::new();
        let asked = match who {
            Targets::Ids(ids) => {
                if ids.is_empty() || ids.len() > MOST_CLIENTS as usize {
                    let expected = format!("1 to {MOST_CLIENTS} clients");
                    let refusal =
                        Refusal::Value { field: "ids", value: format!("{} clients", ids.len()), expected };
                    return answer(reply, Err(refusal));
                }
                let mut shards: BTreeMap<ShardId, Vec<ClientId>> = BTreeMap::new();
                for id in &ids {
                    if id.shard.0 >= self.shards {
                        let value = format!("shard {}", id.shard.0);
                        return answer(reply, Err(Refusal::Unknown { field: "ids", value }));
                    }
                    shards.entry(id.shard).or_default().push(id.id);
                }
                for (shard, ids) in shards {
                    asks.push((shard, Ask::Act { who: Who::Ids(ids), action: action.clone() }));
                }
                ids.len()
            }
            Targets::Matching(filter) => {
                let ask = Ask::Act { who: Who::Matching(filter), action };
                asks.extend((0..self.shards).map(|shard| (ShardId(shard), ask.clone())));
                0
            }
        };
        self.ask_all(now, asks, asked, reply);
    }

    /// Capacity and tags of clients that are connected.
    fn set_clients(&mut self, now: Instant, who: Targets, change: &AccountChange, reply: Reply<u64>) {
        let capacity = match change.capacity.map(u32::try_from) {
            None => None,
            Some(Ok(capacity)) if capacity > 0 && capacity < u32::MAX => Some(capacity),
            Some(_) => {
                let value = change.capacity.unwrap_or_default().to_string();
                let expected = format!("1 to {}", u32::MAX - 1);
                return answer(reply, Err(Refusal::Value { field: "capacity", value, expected }));
            }
        };
        self.act(now, who, Action::Set { capacity, factors: change.factors, tags: change.tags }, reply);
    }

    /// Tells every shard something whose answer nobody waits for.
    fn tell_all(&mut self, ask: &Ask) {
        let id = self.next_id();
        for shard in 0..self.shards {
            self.ask(ShardId(shard), id, ask.clone());
        }
    }

    /// Newcomers are refused from now on, and whoever is connected from there ends.
    fn ban(&mut self, now: Instant, ban: Ban, reply: Reply<u64>) {
        if self.is_busy() {
            return answer(reply, Err(Refusal::Busy));
        }
        let filter = Filter { network: Some(ban.network), ..Filter::default() };
        if let Err(error) = self.bans.insert(ban) {
            return answer(reply, Err(refused(&error)));
        }
        self.unsaved = true;
        self.tell_bans();
        self.act(now, Targets::Matching(filter), Action::End(End::Banned), reply);
    }

    fn unban(&mut self, network: IpNet) -> Result<(), Refusal> {
        if self.bans.remove(network).is_none() {
            return Err(Refusal::Unknown { field: "network", value: network.to_string() });
        }
        self.unsaved = true;
        self.tell_bans();
        Ok(())
    }

    /// A shard's picture of the bans is whole: with the most there can be it takes 20 MB to copy, some ten milliseconds.
    fn tell_bans(&mut self) {
        let bans = Arc::new(self.bans.clone());
        self.out.extend((0..self.shards).map(|shard| (ShardId(shard), ToShard::Bans(bans.clone()))));
    }

    /// Each shard keeps its share of a throttle that clients share: an even one.
    fn ask_all(&mut self, now: Instant, asks: Vec<(ShardId, Ask)>, asked: usize, reply: Reply<u64>) {
        if self.is_busy() {
            return answer(reply, Err(Refusal::Busy));
        }
        let left = asks.len() as u16;
        let id = self.wait(now, What::Sum { left, clients: 0, unknown: Vec::new(), asked, reply });
        for (shard, ask) in asks {
            self.ask(shard, id, ask);
        }
    }

    fn is_busy(&self) -> bool {
        self.waiting.len() >= MOST
    }

    fn wait(&mut self, now: Instant, what: What) -> AskId {
        let id = self.next_id();
        self.waiting.insert(id, Waiting { until: now + ADMIN_TIMEOUT, what });
        id
    }

    fn next_id(&mut self) -> AskId {
        let id = AskId(self.next);
        self.next = self.next.wrapping_add(1);
        id
    }

    fn ask(&mut self, shard: ShardId, id: AskId, ask: Ask) {
        self.out.push_back((shard, ToShard::Ask(id, Arc::new(ask))));
    }

    /// A shard has answered. An answer that comes too late finds nothing.
    pub fn told(&mut self, shard: ShardId, id: AskId, told: Told, balances: Balances<'_>) {
        let Some(Waiting { until, what }) = self.waiting.remove(&id) else { return };
        let what = match (what, told) {
            (What::Page { filter, limit, shard: at, mut page, reply }, Told::Page { clients, next }) => {
                let balance = |info: &ClientInfo| balances(ClientRef { shard, id: info.id }, info);
                page.balances.extend(clients.iter().map(balance));
                self.page(id, shard, (filter, limit, at, page, reply), clients, next)
            }
            (
                What::Sum { left, clients, mut unknown, asked, reply },
                Told::Done { clients: more, unknown: gone },
            ) => {
                unknown.extend(gone.into_iter().map(|id| ClientRef { shard, id }));
                let (left, clients) = (left.saturating_sub(1), clients + more);
                if left > 0 {
                    Some(What::Sum { left, clients, unknown, asked, reply })
                } else {
                    answer(reply, sum(clients, asked, &unknown));
                    None
                }
            }
            (What::Adding(adding), told) => self.added(id, adding, told).map(What::Adding),
            (what, _) => Some(what),
        };
        if let Some(what) = what {
            self.waiting.insert(id, Waiting { until, what });
        }
    }

    /// A shard's part of a page: the next shard is asked when there is room.
    fn page(
        &mut self,
        id: AskId,
        shard: ShardId,
        (filter, limit, at, mut page, reply): (Filter, u32, u16, Page, Reply<Page>),
        clients: Vec<ClientInfo>,
        next: Option<u32>,
    ) -> Option<What> {
        page.clients.extend(clients.into_iter().map(|info| (ClientRef { shard, id: info.id }, info)));
        let room = limit.saturating_sub(page.clients.len() as u32);
        let following = at.saturating_add(1);
        // The cursor names a place, not a client: whoever was last may have gone.
        page.next = next
            .map(|slot| ClientRef { shard, id: ClientId { slot: slot.saturating_sub(1), generation: 0 } });
        if next.is_none() && following < self.shards {
            if room > 0 {
                self.ask(ShardId(following), id, Ask::List { filter: filter.clone(), from: 0, limit: room });
                return Some(What::Page { filter, limit, shard: following, page, reply });
            }
            page.next = Some(ClientRef { shard, id: ClientId { slot: u32::MAX, generation: 0 } });
        }
        answer(reply, Ok(page));
        None
    }

    /// Refuses what has waited too long, and forgets bans that are over (shards look at the time themselves); says which.
    pub fn tick(&mut self, now: Instant, unix: UnixTime) -> Vec<IpNet> {
        let is_due = self.bans.next_end().is_some_and(|end| end <= unix);
        let over = if is_due { self.bans.expire(unix) } else { Vec::new() };
        let over: Vec<IpNet> = over.into_iter().map(|ban| ban.network).collect();
        self.unsaved |= !over.is_empty();
        let late: Vec<AskId> =
            self.waiting.iter().filter(|(_, waiting)| waiting.until <= now).map(|(id, _)| *id).collect();
        for waiting in late.iter().filter_map(|id| self.waiting.remove(id)).collect::<Vec<_>>() {
            match waiting.what {
                What::Page { reply, .. } => answer(reply, Err(Refusal::Late)),
                What::Adding(adding) => self.give_up(adding, Refusal::Late),
                What::Sum { reply, .. } => answer(reply, Err(Refusal::Late)),
            }
        }
        over
    }
}

fn refused(error: &BanError) -> Refusal {
    let value = |field, value: &dyn ToString, expected: String| Refusal::Value {
        field,
        value: value.to_string(),
        expected,
    };
    match error {
        BanError::Full => Refusal::Conflict(error.to_string()),
        BanError::Reason { bytes } => value(
            "reason",
            &format!("{bytes} bytes"),
            format!("at most {} bytes", crate::admission::MAX_REASON),
        ),
        BanError::Time { .. } => value("time", &"0 s", "at least a second".to_string()),
    }
}

/// One client that was named alone and is not there is an error; of several, those that are there count.
fn sum(clients: u64, asked: usize, unknown: &[ClientRef]) -> Result<u64, Refusal> {
    match unknown.first() {
        Some(id) if asked == 1 => Err(Refusal::Unknown { field: "ids", value: id.to_string() }),
        _ => Ok(clients),
    }
}

/// Whoever asked may have gone.
fn answer<T>(reply: Reply<T>, result: Result<T, Refusal>) {
    let _ = reply.send(result);
}
