//! Who of those who ask for work is in: the shard's side of capacity.
//!
//! Free clients are let in here, within the part of the total that the hub has handed out. When there is room neither for a client nor a slot, it
//! *knocks*: its message stays unread until the hub has said whether an account pays for it, and what it owes from before. Priority clients are
//! the hub's to let in; they are never refused for want of a slot.
//!
//! What many clients need is done in parts: [`ENDS_PER_TURN`] are ended per turn, [`LOOKS_PER_TURN`] looked at; what the hub is told of
//! clients goes in one entry per turn. Only the clients of accounts are gone through at once, every second.

use std::collections::{BinaryHeap, HashMap};
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Client, Core};
use super::desk::transport;
use super::holds::Way;
use crate::admission::{Balance, FreeHouse, Limit, PrioritySet, Usage, Worth};
use crate::base::end::Side;
use crate::base::limits::LEAVE_GROUP_MARGIN;
use crate::base::{Class, ClientId, End, UnixTime};
use crate::client::Flags;
use crate::link::{
    Came, Changed, Gone, HouseOrder, HouseReport, HouseRules, Rank, Standing, Step, ToHub, Used,
};
use crate::transport::Channel;
use crate::wire::Message;

/// Who has been frozen is tried again after this.
const FROZEN: Duration = Duration::from_secs(10);
/// Longest wait for the hub's word before a client is looked at again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Clients ended in a turn because the total fell.
const ENDS_PER_TURN: usize = 256;
/// Clients that recharge looked at in a turn.
const LOOKS_PER_TURN: usize = 2_048;
/// The worst of those that recharge, known after each round of looking.
const CANDIDATES: usize = 1_024;

/// The shard's clients as the house sees them.
#[derive(Debug)]
pub(super) struct House {
    pub(super) free: FreeHouse,
    /// Whom the operator knows by address.
    known: Arc<PrioritySet>,
    /// Clients of accounts, and the cost that the hub has been told of each.
    paying: HashMap<ClientId, u64>,
    /// What an account has paid for those it does not pay for any more.
    formerly: HashMap<ClientId, Paid>,
    /// True exactly while more is connected than may be, and has to go.
    shed: bool,
    /// Throttles of newcomers.
    throttle: (Limit, Limit),
    came: Vec<Came>,
    gone: Vec<Gone>,
    recharging: Recharging,
}

/// So much is paid for.
#[derive(Clone, Copy, Debug, Default)]
struct Paid {
    cost: u64,
    /// Seconds of the kernel's clock.
    until: u32,
}

/// Those whose buffers recharge.
#[derive(Debug, Default)]
struct Recharging {
    clients: Vec<ClientId>,
    /// How far this round has come; none between rounds.
    at: Option<usize>,
    /// Capacity found in this round, and in the last.
    sum: u64,
    last: u64,
    /// The worst of this round, the best of them at the top; and of the last.
    worst: BinaryHeap<(Worth, ClientId)>,
    candidates: Vec<(Worth, ClientId)>,
}

impl House {
    pub(super) fn new(rules: HouseRules, common: u32, grant: u64, unix: UnixTime) -> House {
        House {
            free: FreeHouse::new(rules.factors, rules.bias, common, grant, unix),
            known: Arc::default(),
            paying: HashMap::new(),
            formerly: HashMap::new(),
            shed: false,
            throttle: (rules.throttle_down, rules.throttle_up),
            came: Vec::new(),
            gone: Vec::new(),
            recharging: Recharging::default(),
        }
    }

    pub(super) fn set_rules(&mut self, unix: UnixTime, rules: &HouseRules) {
        self.free.set_defaults(unix, rules.factors, rules.bias);
        self.throttle = (rules.throttle_down, rules.throttle_up);
    }

    pub(super) fn know(&mut self, known: Arc<PrioritySet>) {
        self.known = known;
    }

    /// True exactly when an account names this address.
    pub(super) fn knows(&self, peer: SocketAddr) -> bool {
        !self.known.is_empty() && self.known.find(peer.ip(), None).is_some()
    }

    /// True exactly when somebody may be known who has not said so yet.
    fn may_know(&self) -> bool {
        !self.known.is_empty()
    }

    pub(super) fn report(&mut self, frozen: u64) -> HouseReport {
        HouseReport { free: self.free.report(), recharging: self.recharging.last, frozen }
    }

    /// True exactly while there is something to do in the next turn.
    pub(super) fn is_busy(&self) -> bool {
        self.shed || self.recharging.at.is_some()
    }

    /// Slots kept for clients that the operator knows, when the table is full of others.
    pub(super) fn reserve(&self, max_clients: u32) -> u32 {
        if self.may_know() { LEAVE_GROUP_MARGIN.min(max_clients / 8) } else { 0 }
    }

    pub(super) fn forget_crowd(&mut self) {
        self.free.forget_crowd();
        self.paying.shrink_to(0);
        self.recharging = Recharging { last: self.recharging.last, ..Recharging::default() };
    }
}

impl Core {
    /// Whether a client may ask for work now. False: it waits for the hub's word, its message stays unread.
    ///
    /// # Errors
    /// `NoSession`: there is no slot, and nobody is known to the operator.
    pub(super) fn knock(&mut self, id: ClientId, message: &Message<'_>) -> Result<bool, End> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(true) };
        if client.account.class != Class::Probe || !client.is(Flags::READY) || !is_work(message) {
            return Ok(true);
        }
        self.ask_for_room(id)
    }

    /// The same for whoever asks without a message.
    pub(super) fn ask_for_room(&mut self, id: ClientId) -> Result<bool, End> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(true) };
        let (service, capacity) = (client.account.service, client.account.flow.capacity());
        let knocked = client.is(Flags::KNOCKED);
        let slot = self.door.has_session(service);
        let room = capacity == u32::MAX || self.house.free.has_room(capacity);
        if slot && room && !knocked {
            return Ok(true);
        }
        if !slot && !self.house.may_know() {
            return Err(End::NoSession);
        }
        if !knocked {
            if let Some(client) = self.clients.get_mut(id) {
                client.flags |= Flags::KNOCKED;
            }
            self.came(id, Step::Knocks);
        }
        self.hold(id, Way::Up, self.now + PATIENCE);
        Ok(false)
    }

    /// A probe is a session now, free until the hub says otherwise; it owes `debt`.
    pub(super) fn moved_in(&mut self, id: ClientId, debt: f64) {
        let times = (self.now, self.unix);
        let Some(client) = self.clients.get_mut(id) else { return };
        client.account.class = Class::Free;
        let capacity = client.account.flow.capacity();
        let keys = self.door.keys(SocketAddr::from(client.peer).ip());
        if capacity != u32::MAX {
            self.house.free.enter(times, id.slot, keys, capacity, debt);
        }
    }

    /// A newcomer has the throttle that all get. Its messages may just be read: nothing else happens.
    pub(super) fn throttle_newcomer(&mut self, id: ClientId) {
        let (down, up) = self.house.throttle;
        let own = self.clients.get_mut(id).is_some_and(|client| client.is(Flags::THROTTLED));
        if (down, up) != (Limit::Keep, Limit::Keep) && !own {
            self.put_throttle(id, down, up);
        }
    }

    /// Tells the hub of a client.
    pub(super) fn came(&mut self, id: ClientId, step: Step) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let certificate = match &client.channel {
            Channel::Tls(session) => session.identity().map(|key| Box::new(*key)),
            _ => None,
        };
        self.house.came.push(Came {
            client: id,
            peer: client.peer.into(),
            certificate,
            service: client.account.service,
            transport: transport(&client.channel),
            step,
        });
    }

    /// A client has gone.
    pub(super) fn moved_out(&mut self, id: ClientId, client: &Client, end: End) {
        let account = &client.account;
        let told = self.house.paying.remove(&id);
        let former = self.house.formerly.remove(&id).unwrap_or_default();
        if account.class == Class::Probe {
            // Of probes those are told that the hub may have a seat for, and that somebody here has ended.
            let ended = end.side() == Side::Us && end != End::Shutdown;
            if told.is_none() && !client.is(Flags::KNOCKED) && !ended {
                return;
            }
        }
        let cost = served(client).saturating_sub(if told.is_none() { former.cost } else { 0 });
        let capacity = account.flow.capacity();
        let owes = match told {
            Some(told) => cost.saturating_sub(told) as f32,
            None if account.class == Class::Probe || capacity == u32::MAX => 0.0,
            None => {
                let since = self.now.secs().saturating_sub(client.since.max(former.until));
                let connected = Duration::from_secs(u64::from(since));
                let mut balance = Balance::new(self.unix);
                let factors = self.house.free.factors(id.slot);
                balance.tick(self.unix, Usage { connected, capacity, cost }, factors);
                balance.negative(self.unix) as f32
            }
        };
        if account.class == Class::Free {
            self.house.free.leave(id.slot, capacity);
        }
        let peer = client.peer.into();
        self.house.gone.push(Gone { client: id, peer, class: account.class, tags: account.tags, end, owes });
    }

    /// What the hub says a client is.
    pub(super) fn ranked(&mut self, rank: Rank) {
        let Rank { client: id, standing, pays, tags, untag } = rank;
        let Some(client) = self.clients.get_mut(id) else { return };
        let knocked = client.is(Flags::KNOCKED);
        if standing != Standing::Frozen {
            client.flags.remove(Flags::KNOCKED);
            client.flags.set(Flags::PAYS, pays);
            client.account.tags.0 = (client.account.tags.0 & !untag.0) | tags.0;
        }
        let class = client.account.class;
        let cost = served(client);
        if pays {
            self.house.paying.entry(id).or_insert(cost);
        } else if standing != Standing::Frozen && self.house.paying.remove(&id).is_some() {
            self.house.formerly.insert(id, Paid { cost, until: self.now.secs() });
        }
        match standing {
            Standing::Out => return self.end(id, End::Replaced),
            Standing::Frozen => return self.freeze(id),
            Standing::Priority { capacity } => self.seat(id, capacity),
            Standing::Free { debt } => match class {
                Class::Probe if knocked => {
                    if let Err(end) = self.let_free_in(id, debt) {
                        return self.turn_away(id, end);
                    }
                }
                Class::Probe => {}
                Class::Free => self.house.free.owes(self.unix, id.slot, debt),
                Class::Priority => self.unseat(id, debt),
            },
        }
        if knocked {
            self.read_again(id);
        }
    }

    /// Somebody knocked, and it is known what it owes.
    fn let_free_in(&mut self, id: ClientId, debt: f64) -> Result<(), End> {
        let unix = self.unix;
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let (service, capacity) = (client.account.service, client.account.flow.capacity());
        if !self.door.has_session(service) {
            return Err(End::NoSession);
        }
        if capacity != u32::MAX && !self.house.free.has_room(capacity) {
            let victim = self.house.free.victim(unix, capacity, debt).and_then(|slot| self.clients.at(slot));
            // Who has been given more than the one that goes does not fit in its place.
            let victim = victim.filter(|(_, client)| client.account.flow.capacity() >= capacity);
            let Some((victim, _)) = victim else {
                self.house.free.missed(capacity);
                return Err(End::NoCapacity);
            };
            self.counters.replaced += 1;
            self.end(victim, End::Replaced);
        }
        self.enter_session(id, debt)?;
        self.came(id, Step::After);
        Ok(())
    }

    /// A client is a priority client from now on, or has another capacity as one.
    fn seat(&mut self, id: ClientId, capacity: u32) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let had = client.account.flow.capacity();
        let (class, service) = (client.account.class, client.account.service);
        client.account.class = Class::Priority;
        match class {
            Class::Probe => self.door.force_session(service),
            Class::Free => drop(self.house.free.leave(id.slot, had)),
            Class::Priority => {}
        }
        if class == Class::Probe {
            self.came(id, Step::After);
        }
        if class != Class::Priority {
            self.counters.promoted += u64::from(class == Class::Probe);
            self.keep_reserve(id);
        }
        self.change_flow(id, capacity);
    }

    /// It is a free client from now on, with what those get.
    fn unseat(&mut self, id: ClientId, debt: f64) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let service = client.account.service;
        let capacity = self.door.rules(service).map_or(1, |rules| rules.capacity);
        self.change_flow(id, capacity);
        self.moved_in(id, debt);
    }

    /// The worst free client makes room in the table for the next that the operator knows.
    pub(super) fn keep_reserve(&mut self, not: ClientId) {
        if self.clients.room() >= self.house.reserve(self.config.max_clients) {
            return;
        }
        let worst = self.house.free.worst().and_then(|slot| self.clients.at(slot)).map(|(id, _)| id);
        if let Some(worst) = worst.filter(|worst| *worst != not) {
            self.counters.replaced += 1;
            self.end(worst, End::Replaced);
        }
    }

    /// The operator gives a client another capacity, and maybe prices. False if there is no room for it.
    pub(super) fn give_capacity(&mut self, id: ClientId, capacity: u32) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        let (class, had) = (client.account.class, client.account.flow.capacity());
        match class {
            Class::Probe => {}
            Class::Free if had == u32::MAX => {
                let keys = self.door.keys(SocketAddr::from(client.peer).ip());
                self.house.free.enter((self.now, self.unix), id.slot, keys, capacity, 0.0);
            }
            Class::Free => {
                if !self.house.free.resize(self.unix, id.slot, had, capacity) {
                    return false;
                }
            }
            // The hub says whether there is room.
            Class::Priority => {
                self.tell_hub(ToHub::Changed(Changed { client: id, capacity, factors: None }));
                return true;
            }
        }
        self.change_flow(id, capacity);
        true
    }

    /// The operator gives a client prices of its own.
    pub(super) fn give_factors(&mut self, id: ClientId, factors: crate::admission::Factors) {
        let unix = self.unix;
        let Some(client) = self.clients.get_mut(id) else { return };
        let capacity = client.account.flow.capacity();
        if client.is(Flags::PAYS) {
            return self.tell_hub(ToHub::Changed(Changed { client: id, capacity, factors: Some(factors) }));
        }
        if client.account.class == Class::Free {
            self.house.free.set_factors(unix, id.slot, capacity, factors);
        }
    }

    /// The hub's word.
    pub(super) fn house_order(&mut self, order: HouseOrder) {
        self.house.free.obey(order.grant);
        self.house.shed = order.shed;
        let mut left = order.freeze;
        for (_, id) in mem::take(&mut self.house.recharging.candidates) {
            if left == 0 {
                break;
            }
            let Some(client) = self.clients.get_mut(id).filter(|c| c.account.class == Class::Free) else {
                continue;
            };
            let capacity = u64::from(client.account.flow.capacity());
            left = left.saturating_sub(capacity);
            // It was counted in the round that will be told next.
            self.house.recharging.last = self.house.recharging.last.saturating_sub(capacity);
            self.freeze(id);
        }
    }

    fn freeze(&mut self, id: ClientId) {
        self.counters.frozen += 1;
        self.pause(id, FROZEN);
    }

    /// A client's buffer is not full.
    pub(super) fn recharges(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if !client.is(Flags::RECHARGING) && client.account.class != Class::Probe {
            client.flags |= Flags::RECHARGING;
            self.house.recharging.clients.push(id);
        }
    }

    /// A turn's share of it all.
    pub(super) fn keep_house(&mut self) {
        self.shed();
        self.look_at_recharging();
        self.tell_house();
    }

    /// Tells the hub who has come and gone.
    pub(super) fn tell_house(&mut self) {
        if !self.house.came.is_empty() {
            let came = mem::take(&mut self.house.came).into();
            self.tell_hub(ToHub::Came(came));
        }
        if !self.house.gone.is_empty() {
            let gone = mem::take(&mut self.house.gone).into();
            self.tell_hub(ToHub::Gone(gone));
        }
    }

    fn shed(&mut self) {
        for _ in 0..ENDS_PER_TURN {
            if !self.house.shed {
                return;
            }
            let above = !self.house.free.has_room(0);
            let worst = self.house.free.worst().filter(|_| above).and_then(|slot| self.clients.at(slot));
            let Some((id, _)) = worst else {
                self.house.shed = false;
                return;
            };
            self.counters.shed += 1;
            self.end(id, End::Replaced);
        }
    }

    /// Once a second: a new round, and what accounts pay for.
    pub(super) fn begin_round(&mut self) {
        if self.house.recharging.at.is_none() {
            self.house.recharging.at = Some(0);
        }
        let now = self.now;
        let mut used = Vec::with_capacity(self.house.paying.len());
        for (id, told) in &mut self.house.paying {
            let Some(client) = self.clients.get_mut(*id) else { continue };
            let cost = served(client);
            let since = u32::try_from(cost.saturating_sub(mem::replace(told, cost))).unwrap_or(u32::MAX);
            let recharging = client.account.flow.is_recharging(now);
            used.push(Used { client: *id, cost: since, recharging });
        }
        if !used.is_empty() {
            self.tell_hub(ToHub::Used(used.into()));
        }
    }

    fn look_at_recharging(&mut self) {
        let list = &mut self.house.recharging;
        let Some(mut at) = list.at else { return };
        for _ in 0..LOOKS_PER_TURN {
            let Some(id) = list.clients.get(at).copied() else {
                list.last = mem::take(&mut list.sum);
                list.candidates = mem::take(&mut list.worst).into_sorted_vec();
                list.at = None;
                return;
            };
            let client = self.clients.get_mut(id);
            match client.filter(|client| client.account.flow.is_recharging(self.now)) {
                // Who is frozen needs nothing for a while.
                Some(client) if client.account.class == Class::Free && !client.is(Flags::PAUSED) => {
                    list.sum += u64::from(client.account.flow.capacity());
                    if let Some(worth) = self.house.free.worth_of(id.slot) {
                        list.worst.push((worth, id));
                        if list.worst.len() > CANDIDATES {
                            list.worst.pop();
                        }
                    }
                    at += 1;
                }
                Some(_) => at += 1,
                None => {
                    list.clients.swap_remove(at);
                    if let Some(client) = self.clients.get_mut(id) {
                        client.flags.remove(Flags::RECHARGING);
                    }
                }
            }
        }
        list.at = Some(at);
    }
}

/// Cost units served since it came.
fn served(client: &Client) -> u64 {
    client.account.costs.iter().map(|cost| u64::from(*cost)).sum()
}

/// True exactly when a message asks for what only sessions get.
fn is_work(message: &Message<'_>) -> bool {
    matches!(
        message,
        Message::GetHeaders { .. }
            | Message::GetBlocks { .. }
            | Message::GetData(_)
            | Message::GetBlockTxn { .. }
            | Message::GetCFilters { .. }
            | Message::GetCFHeaders { .. }
            | Message::GetCFCheckpt { .. }
            | Message::Mempool
            | Message::Inv(_)
            | Message::Tx(_)
    )
}
