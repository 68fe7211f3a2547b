//! What happens every second: accounts pay, the total follows, the shards get their parts.

use std::time::Duration;

use super::{Happened, Treasury, shown};
use crate::admission::{Change, Usage};
use crate::base::{Class, ClientRef, Instant, ShardId, UnixTime};
use crate::link::{HouseOrder, Standing, ToShard};

/// Who has been frozen may recharge again after this; the shard pauses it for as long.
const FROZEN: Duration = Duration::from_secs(10);
/// Priority clients ended at a time because the total has fallen.
const OUT_AT_ONCE: usize = 1_024;
/// Clients of accounts that found no room are looked at again, at most so many a second.
const SEATED_AT_ONCE: usize = 64;
/// Balances of priority clients are told so often, in seconds.
const PRICES_EVERY: u32 = 10;

impl Treasury {
    /// Lets time pass: once a second all is counted.
    pub fn tick(&mut self, now: Instant, unix: UnixTime) {
        if now < self.next_wake() {
            return;
        }
        let step = now.since(self.second);
        self.second = now;
        self.seconds = self.seconds.wrapping_add(1);
        self.thaw(now);
        self.charge_all(unix, step);
        self.set_total(now);
        self.share();
    }

    fn thaw(&mut self, now: Instant) {
        while self.frozen.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, seat)) = self.frozen.pop_front() {
                self.house.thaw(seat);
            }
        }
    }

    /// Every account pays for its clients; who has nothing left is free.
    fn charge_all(&mut self, unix: UnixTime, step: Duration) {
        let clients: Vec<ClientRef> = self.payers.keys().copied().collect();
        for client in &clients {
            self.charge(unix, *client, step);
        }
        let (mut tried, mut emptied) = (0, false);
        for client in clients {
            let Some(payer) = self.payers.get(&client).copied() else { continue };
            let Some(account) = self.ledger.account(payer.account).copied() else { continue };
            let Some(seat) = payer.seat else {
                // There may be room now.
                if account.balance.is_positive() && account.capacity > 0 && tried < SEATED_AT_ONCE {
                    tried += 1;
                    if let standing @ Standing::Priority { .. } = self.stand(unix, client) {
                        self.rank(client, standing);
                    }
                }
                continue;
            };
            let factors = payer.factors.unwrap_or(account.factors);
            let sitter = self.house.update(unix, seat, &account.balance, &factors);
            if sitter.is_some_and(|sitter| sitter.class != Class::Priority) {
                self.unseat(unix, client);
                emptied = true;
            } else if self.seconds.is_multiple_of(PRICES_EVERY) {
                let balance = shown(&account.balance, unix);
                self.happened.push_back(Happened::Price { client, balance, tags: account.tags });
            }
        }
        if emptied {
            self.tell_known();
        }
    }

    pub(super) fn charge(&mut self, unix: UnixTime, client: ClientRef, connected: Duration) {
        let Some(payer) = self.payers.get_mut(&client) else { return };
        let Some(account) = self.ledger.account_mut(payer.account) else { return };
        let capacity = payer.seat.and_then(|seat| self.house.capacity(seat)).unwrap_or(self.minimum);
        let usage = Usage { connected, capacity, cost: std::mem::take(&mut payer.cost) };
        let factors = payer.factors.unwrap_or(account.factors);
        account.balance.tick(unix, usage, &factors);
        self.unsaved.used = true;
    }

    /// A priority client is a free one from now on.
    pub(super) fn unseat(&mut self, unix: UnixTime, client: ClientRef) {
        let Some(payer) = self.payers.get_mut(&client) else { return };
        if let Some(seat) = payer.seat.take() {
            self.house.leave(seat);
        }
        let account = self.ledger.account(payer.account);
        let debt = account.map_or(0.0, |account| account.balance.negative(unix));
        self.rank(client, Standing::Free { debt });
        self.share();
    }

    /// The total follows what is connected and what recharges.
    fn set_total(&mut self, now: Instant) {
        let recharging = self.recharging();
        let outcome = self.total.update(
            now,
            self.connected(),
            recharging.min(std::mem::replace(&mut self.recharged, recharging)),
        );
        self.freeze(now, outcome.freeze);
        for change in outcome.changes {
            let (capacity, after) = match change {
                Change::Falling { to, at, .. } => (to, at.since(now)),
                Change::Risen { to, .. } => (to, Duration::ZERO),
                Change::Fallen { .. } => continue,
            };
            self.happened.push_back(Happened::TotalCapacity { capacity, after });
        }
        // Priority clients only when they alone are more than the total; what they leave is the free ones' (`share`).
        let gone = self.house.shrink(self.total.total(), OUT_AT_ONCE);
        self.put_out(gone);
    }

    /// Free clients first, where they recharge; then priority clients.
    fn freeze(&mut self, now: Instant, need: u64) {
        if need == 0 {
            return;
        }
        let free: u64 = self.reports.iter().map(|report| report.recharging).sum();
        for (shard, report) in self.reports.iter().enumerate() {
            let part = u128::from(need.min(free)) * u128::from(report.recharging);
            let part = part.div_ceil(u128::from(free.max(1))) as u64;
            if part > 0
                && let Some(grant) = self.shares.told(shard)
            {
                let order = HouseOrder { grant, shed: false, freeze: part };
                self.out.push_back((ShardId(shard as u16), ToShard::House(order)));
            }
        }
        for sitter in self.house.freeze(need.saturating_sub(free)) {
            self.frozen.push_back((now + FROZEN, sitter.seat));
            self.rank(sitter.client, Standing::Frozen);
        }
    }

    /// Hands out what priority clients leave.
    pub(super) fn share(&mut self) {
        let total = self.total.total().saturating_sub(self.house.priority_connected());
        self.shares.set_total(total);
        let shed = self.shares.used() > total;
        let mut told: Vec<_> = self.shares.round();
        if shed {
            // Who is above its part and was told of it before.
            for shard in self.shares.above() {
                if told.iter().all(|(other, _)| *other != shard)
                    && let Some(grant) = self.shares.told(shard)
                {
                    told.push((shard, grant));
                }
            }
        }
        for (shard, grant) in told {
            let order = HouseOrder { grant, shed, freeze: 0 };
            self.out.push_back((ShardId(shard as u16), ToShard::House(order)));
        }
    }
}
