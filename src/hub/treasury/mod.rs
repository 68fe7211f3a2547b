//! Accounts and capacity: who is a priority client, what everybody has had, how much may be connected. The hub's side; sans-IO.
//!
//! Shards let free clients in by themselves, each within its part of what priority clients leave of the total (`admission::Shares`). Here are the
//! accounts (`Ledger`), the priority clients (`House`), and the total (`TotalCapacity`). What hosts owe is told to the shard
//! when one of them comes; what they have had is told here when they go.
//!
//! Invariants:
//! - the parts of the shards and the capacities of priority clients sum up to the total, except while more is connected than may be; that
//!   lasts for one report of each shard (a second) and what the shards need to end whom they end
//! - a priority client has a seat exactly while its account has a capacity and a positive balance, and there is room for it
//! - what an operator has changed is answered when it is on the disk

#![forbid(unsafe_code)]

mod commands;
mod second;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::command::{self, Capacities};
use crate::admission::{
    Balance, CapacityLimits, Factors, Host, House, Ledger, Newcomer, PrioritySet, Seat, Shares, Sitter,
    TotalCapacity,
};
use crate::base::end::Side;
use crate::base::{Class, ClientRef, End, Instant, ServiceId, ShardId, Tags, UnixTime};
use crate::link::{
    Came, Changed, ClientInfo, Gone, HouseReport, HouseRules, Rank, Standing, Step, ToHub, ToShard, Used,
};
use crate::transport::Kind;

/// Debts below this many cost units are not worth a word.
const WORTH_TELLING: f64 = 1.0;

/// What is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct TreasuryConfig {
    /// Capacity of a free client, cost units per second: the least of everybody. `u32::MAX` for no limit.
    pub minimum: u32,
    /// What the host can serve, and the most that may be connected.
    pub limits: CapacityLimits,
    /// What clients get that have nothing of their own.
    pub rules: HouseRules,
}

impl TreasuryConfig {
    /// One shard's part of the total at the start, before the hub has said anything.
    pub fn part(&self, shards: u64) -> u64 {
        self.limits.maximum / shards.max(1)
    }
}

/// Something that whoever watches hears of.
#[derive(Clone, PartialEq, Debug)]
pub enum Happened {
    /// A client has become a session.
    Connect {
        /// Who.
        client: ClientRef,
        /// From where.
        peer: SocketAddr,
        /// By which service.
        service: ServiceId,
        /// Speaking what.
        transport: Kind,
        /// Its tags.
        tags: Tags,
    },
    /// A session has ended, or an operator has ended another client.
    Disconnect {
        /// Who.
        client: ClientRef,
        /// From where.
        peer: SocketAddr,
        /// Why.
        reason: End,
        /// Its tags.
        tags: Tags,
    },
    /// The balances of an account, after some use by this client.
    Price {
        /// Who.
        client: ClientRef,
        /// Them.
        balance: command::Balance,
        /// Its tags.
        tags: Tags,
    },
    /// A client has another capacity, cost units per second.
    ClientCapacity {
        /// Who.
        client: ClientRef,
        /// To this, cost units per second.
        capacity: u64,
        /// Its tags.
        tags: Tags,
    },
    /// The total changes to this after so long.
    TotalCapacity {
        /// To this, cost units per second.
        capacity: u64,
        /// Then.
        after: Duration,
    },
}

/// A client that an account pays for.
#[derive(Clone, Copy, Debug)]
struct Payer {
    account: u32,
    /// None for a free client: the account is empty, or there is no room.
    seat: Option<Seat>,
    /// Of its own, by the operator's word.
    capacity: Option<u32>,
    factors: Option<Factors>,
    /// Served since the last second.
    cost: u64,
    /// Tags it has of the account.
    given: Tags,
}

/// Accounts and capacity.
#[derive(Debug)]
pub struct Treasury {
    minimum: u32,
    /// True exactly when free clients have no limit.
    unlimited: bool,
    rules: HouseRules,
    ledger: Ledger,
    house: House,
    total: TotalCapacity,
    shares: Shares,
    payers: HashMap<ClientRef, Payer>,
    reports: Vec<HouseReport>,
    /// What recharged a second ago: a moment's crowd is not frozen.
    recharged: u64,
    /// Priority clients that are frozen, and until when.
    frozen: VecDeque<(Instant, Seat)>,
    second: Instant,
    seconds: u32,
    out: VecDeque<(ShardId, ToShard)>,
    happened: VecDeque<Happened>,
    unsaved: Unsaved,
    acks: Vec<commands::Ack>,
}

/// What the disk does not have yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsaved {
    /// An operator has changed accounts: to be saved at once.
    pub changed: bool,
    /// Accounts were used.
    pub used: bool,
    /// Hosts have gone.
    pub hosts: bool,
}

impl Treasury {
    /// For so many shards, with the accounts and hosts of the last time.
    pub fn new(
        config: TreasuryConfig,
        ledger: Ledger,
        shards: usize,
        now: Instant,
        unix: UnixTime,
    ) -> Treasury {
        let TreasuryConfig { minimum, limits, rules } = config;
        let unlimited = minimum == u32::MAX;
        // Priority clients have what their accounts say, whatever the others have.
        let minimum = if unlimited { 1 } else { minimum };
        let mut treasury = Treasury {
            minimum,
            unlimited,
            rules,
            ledger,
            house: House::new(minimum, rules.bias, unix),
            // Everybody is let in at first; what turns out to be too much falls.
            total: TotalCapacity::new(limits, Some(limits.maximum), now),
            shares: Shares::new(limits.maximum, shards),
            payers: HashMap::new(),
            reports: vec![HouseReport::default(); shards],
            recharged: 0,
            frozen: VecDeque::new(),
            second: now,
            seconds: 0,
            out: VecDeque::new(),
            happened: VecDeque::new(),
            unsaved: Unsaved::default(),
            acks: Vec::new(),
        };
        treasury.tell_known();
        treasury.share();
        treasury
    }

    /// What a shard is to be told next.
    pub fn next_output(&mut self) -> Option<(ShardId, ToShard)> {
        self.out.pop_front()
    }

    /// What has happened next.
    pub fn next_happened(&mut self) -> Option<Happened> {
        self.happened.pop_front()
    }

    /// When [`Treasury::tick`] is due.
    pub fn next_wake(&self) -> Instant {
        self.second + Duration::from_secs(1)
    }

    /// An entry of a shard. Given back when it is about something else.
    pub fn handle(&mut self, unix: UnixTime, shard: ShardId, entry: ToHub) -> Option<ToHub> {
        match entry {
            ToHub::Came(list) => list.into_iter().for_each(|came| self.came(unix, shard, came)),
            ToHub::Gone(list) => list.into_iter().for_each(|gone| self.gone(unix, shard, &gone)),
            ToHub::Used(list) => list.iter().for_each(|used| self.used(shard, used)),
            ToHub::Changed(changed) => self.changed(unix, shard, changed),
            other => return Some(other),
        }
        None
    }

    fn came(&mut self, unix: UnixTime, shard: ShardId, came: Came) {
        let client = ClientRef { shard, id: came.client };
        let account = self.ledger.find(came.peer.ip(), came.certificate.as_deref());
        if matches!(came.step, Step::In | Step::After) {
            let tags = account.and_then(|number| self.ledger.account(number)).map(|account| account.tags);
            let (peer, service, transport) = (came.peer, came.service, came.transport);
            let tags = tags.unwrap_or_default();
            self.happened.push_back(Happened::Connect { client, peer, service, transport, tags });
        }
        if came.step == Step::After {
            return;
        }
        let before = self.payers.get(&client).copied();
        // Nothing new of it.
        if before.is_some_and(|payer| Some(payer.account) == account) {
            return;
        }
        let untag = before.map(|payer| payer.given).unwrap_or_default();
        self.charge(unix, client, Duration::ZERO);
        let paid = self.leave(client);
        if let Some(account) = account {
            let payer = Payer { account, seat: None, capacity: None, factors: None, cost: 0, given: untag };
            self.payers.insert(client, payer);
            let standing = self.stand(unix, client);
            return self.rank(client, standing);
        }
        let debt = match came.step {
            // What it owes is counted there already.
            Step::Again => 0.0,
            _ => self.ledger.host(Host::of(came.peer.ip()), unix).negative(unix),
        };
        if came.step == Step::Knocks || paid || debt >= WORTH_TELLING {
            self.rank_untagged(client, Standing::Free { debt }, untag);
        }
    }

    /// Seats a client of an account if it may be seated; says what it is then.
    fn stand(&mut self, unix: UnixTime, client: ClientRef) -> Standing {
        let Some(payer) = self.payers.get(&client).copied() else { return Standing::Free { debt: 0.0 } };
        let Some(account) = self.ledger.account(payer.account).copied() else {
            return Standing::Free { debt: 0.0 };
        };
        let capacity = payer.capacity.unwrap_or(account.capacity);
        let free = Standing::Free { debt: account.balance.negative(unix) };
        if capacity == 0 || !account.balance.is_positive() {
            return free;
        }
        let factors = payer.factors.unwrap_or(account.factors);
        let newcomer = Newcomer { client, capacity, balance: &account.balance, factors: &factors };
        let seated = match payer.seat {
            Some(seat) => self.house.assign(unix, self.total.total(), seat, newcomer),
            None => self.house.admit(unix, self.total.total(), newcomer),
        };
        let Ok((sitter, gone)) = seated else { return free };
        if let Some(payer) = self.payers.get_mut(&client) {
            payer.seat = Some(sitter.seat);
        }
        self.put_out(gone);
        self.share();
        Standing::Priority { capacity: sitter.capacity }
    }

    /// Those who had to give way.
    fn put_out(&mut self, gone: Vec<Sitter>) {
        for sitter in gone {
            if let Some(payer) = self.payers.get_mut(&sitter.client) {
                payer.seat = None;
            }
            self.rank(sitter.client, Standing::Out);
        }
    }

    /// Tells a client's shard what it is.
    pub(super) fn rank(&mut self, client: ClientRef, standing: Standing) {
        self.rank_untagged(client, standing, Tags::default());
    }

    /// The same of one that loses tags, because no account gives them any more.
    pub(super) fn rank_untagged(&mut self, client: ClientRef, standing: Standing, untag: Tags) {
        let payer = self.payers.get_mut(&client);
        let capacity = match standing {
            Standing::Priority { capacity } => Some(u64::from(capacity)),
            Standing::Free { .. } if payer.is_some() => Some(u64::from(self.minimum)),
            _ => None,
        };
        let pays = payer.is_some();
        let (mut tags, mut untag) = (Tags::default(), untag);
        if let Some(payer) = payer {
            tags = self.ledger.account(payer.account).map(|account| account.tags).unwrap_or_default();
            untag = Tags((untag.0 | payer.given.0) & !tags.0);
            payer.given = tags;
        }
        if let Some(capacity) = capacity {
            self.happened.push_back(Happened::ClientCapacity { client, capacity, tags });
        }
        let rank = Rank { client: client.id, standing, pays, tags, untag };
        self.out.push_back((client.shard, ToShard::Rank(rank)));
    }

    /// A client of an account has gone, or is none any more. False if it was none.
    fn leave(&mut self, client: ClientRef) -> bool {
        let Some(payer) = self.payers.remove(&client) else { return false };
        if let Some(seat) = payer.seat {
            self.house.leave(seat);
            self.share();
        }
        true
    }

    fn gone(&mut self, unix: UnixTime, shard: ShardId, gone: &Gone) {
        let client = ClientRef { shard, id: gone.client };
        let (peer, reason, tags) = (gone.peer, gone.end, gone.tags);
        // A probe that the hub had heard of has never been a session, unless somebody here has ended it.
        if gone.class != Class::Probe || reason.side() == Side::Us {
            self.happened.push_back(Happened::Disconnect { client, peer, reason, tags });
        }
        if let Some(payer) = self.payers.get_mut(&client) {
            payer.cost = payer.cost.saturating_add(gone.owes as u64);
            self.charge(unix, client, Duration::ZERO);
            self.leave(client);
        } else if gone.class != Class::Probe && f64::from(gone.owes) >= WORTH_TELLING {
            let host = Host::of(gone.peer.ip());
            let mut balance = self.ledger.host(host, unix);
            balance.owe(unix, f64::from(gone.owes));
            self.ledger.remember(host, balance);
            self.unsaved.hosts = true;
        }
    }

    fn used(&mut self, shard: ShardId, used: &Used) {
        let Some(payer) = self.payers.get_mut(&ClientRef { shard, id: used.client }) else { return };
        payer.cost = payer.cost.saturating_add(u64::from(used.cost));
        if let Some(seat) = payer.seat {
            self.house.set_recharging(seat, used.recharging);
        }
    }

    /// The operator has given one client something of its own.
    fn changed(&mut self, unix: UnixTime, shard: ShardId, changed: Changed) {
        let client = ClientRef { shard, id: changed.client };
        let Some(payer) = self.payers.get_mut(&client) else { return };
        let had = payer.capacity;
        match changed.factors {
            Some(factors) => payer.factors = Some(factors),
            None => payer.capacity = Some(changed.capacity),
        }
        let standing = match self.stand(unix, client) {
            Standing::Free { .. } if payer_seat(&self.payers, client).is_some() => {
                if let Some(payer) = self.payers.get_mut(&client) {
                    payer.capacity = had;
                }
                self.as_it_is(client)
            }
            // What it owes is counted already.
            Standing::Free { .. } => Standing::Free { debt: 0.0 },
            other => other,
        };
        self.rank(client, standing);
    }

    /// What a seated client has: there was no room for more.
    fn as_it_is(&self, client: ClientRef) -> Standing {
        let seat = payer_seat(&self.payers, client);
        Standing::Priority {
            capacity: seat.and_then(|seat| self.house.capacity(seat)).unwrap_or(self.minimum),
        }
    }

    /// A shard's numbers have come.
    pub fn report(&mut self, shard: ShardId, report: HouseReport) {
        if let Some(last) = self.reports.get_mut(usize::from(shard.0)) {
            *last = report;
            self.shares.report(usize::from(shard.0), report.free);
        }
    }

    /// Tells the shards who is known by address: those whose account has something left. The others come as everybody does.
    fn tell_known(&mut self) {
        let mut known = PrioritySet::default();
        for (number, account) in self.ledger.accounts() {
            if account.capacity > 0 && account.balance.is_positive() {
                known.insert(account.id, number);
            }
        }
        self.tell_all(&ToShard::Known(Arc::new(known)));
    }

    fn tell_all(&mut self, entry: &ToShard) {
        for shard in 0..self.reports.len() {
            self.out.push_back((ShardId(shard as u16), entry.clone()));
        }
    }

    fn recharging(&self) -> u64 {
        self.reports.iter().map(|report| report.recharging).sum::<u64>() + self.house.recharging()
    }

    /// Capacity of all sessions, as of the last reports.
    fn connected(&self) -> u64 {
        self.shares.used() + self.house.priority_connected()
    }

    /// Capacities, as an operator sees them.
    pub fn capacities(&self) -> Capacities {
        let minimum = if self.unlimited { 0 } else { u64::from(self.minimum) };
        let limits = self.total.limits();
        Capacities {
            minimum,
            maximum: limits.maximum,
            total: self.total.total(),
            free_client: minimum,
            connected: self.connected(),
            priority_connected: self.house.priority_connected(),
            recharge: limits.recharge,
            recharging: self.recharging(),
        }
    }

    /// Priority clients connected.
    pub fn priority_clients(&self) -> u64 {
        self.house.len() as u64
    }

    /// The balances of a client: its account's, or what it owes itself.
    pub fn balance_of(
        &self,
        client: ClientRef,
        info: &ClientInfo,
        unix: UnixTime,
    ) -> Option<command::Balance> {
        let account = self.payers.get(&client).and_then(|payer| self.ledger.account(payer.account));
        match account {
            Some(account) => Some(shown(&account.balance, unix)),
            None => info.debt.map(|debt| command::Balance { positive: 0, negative: debt.max(0.0) as u64 }),
        }
    }

    /// What has to be saved.
    pub fn unsaved(&self) -> Unsaved {
        self.unsaved
    }

    /// The accounts are being saved as they are now.
    pub fn accounts_saved(&mut self) {
        (self.unsaved.changed, self.unsaved.used) = (false, false);
    }

    /// They could not be: later again.
    pub fn accounts_lost(&mut self) {
        self.unsaved.used = true;
    }

    /// The hosts are being saved as they are now.
    pub fn hosts_saved(&mut self) {
        self.unsaved.hosts = false;
    }

    /// True exactly when an operator waits for something to be saved.
    pub fn is_awaited(&self) -> bool {
        self.unsaved.changed
    }

    /// The accounts, to be saved.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

fn payer_seat(payers: &HashMap<ClientRef, Payer>, client: ClientRef) -> Option<Seat> {
    payers.get(&client).and_then(|payer| payer.seat)
}

/// As an operator sees it: whole units.
fn shown(balance: &Balance, unix: UnixTime) -> command::Balance {
    command::Balance { positive: balance.positive(), negative: balance.negative(unix).round() as u64 }
}
