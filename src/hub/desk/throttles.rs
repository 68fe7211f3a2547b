//! Throttles that clients share: each shard keeps a part of the rate, which follows the demand there.

use super::{Desk, answer};
use crate::admission::{Demand, Limit, Scope, parts};
use crate::base::{Instant, ShardId};
use crate::hub::command::{Refusal, Reply, SharedThrottle};
use crate::link::{Ask, ShardReport};

/// A part that differs by less than this part of it is not told anew.
const WORTH_TELLING: u64 = 200;

/// A throttle and its parts, by shard.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) whole: SharedThrottle,
    /// Down and up; empty without a limit.
    parts: [Vec<u64>; 2],
    /// What the shards have said last.
    demands: [Vec<Demand>; 2],
}

impl Desk {
    /// Those in force.
    pub(super) fn throttles(&self) -> Vec<SharedThrottle> {
        self.throttles.iter().map(|standing| standing.whole).collect()
    }

    pub(super) fn throttle(&mut self, now: Instant, scope: Scope, down: Limit, up: Limit, reply: Reply<u64>) {
        if self.is_busy() {
            return answer(reply, Err(Refusal::Busy));
        }
        let rate = |limit, before: Option<u64>| match limit {
            Limit::Keep => before,
            Limit::Unlimited => None,
            Limit::Bytes(rate) => Some(rate),
        };
        let found = self.throttles.iter().position(|standing| standing.whole.scope == scope);
        let before = found.map(|at| self.throttles.swap_remove(at));
        let mut standing = before.unwrap_or_else(|| Standing {
            whole: SharedThrottle { scope, down: None, up: None },
            parts: Default::default(),
            demands: [(); 2].map(|()| vec![Demand::default(); usize::from(self.shards)]),
        });
        let whole = &mut standing.whole;
        (whole.down, whole.up) = (rate(down, whole.down), rate(up, whole.up));
        standing.share();
        let asks = (0..self.shards).map(|shard| {
            let part = |way: usize| match standing.parts[way].get(usize::from(shard)) {
                Some(part) => Limit::Bytes(*part),
                None => Limit::Unlimited,
            };
            (ShardId(shard), Ask::Throttle { scope, down: part(0), up: part(1) })
        });
        let asks = asks.collect();
        if standing.whole.down.is_some() || standing.whole.up.is_some() {
            self.throttles.push(standing);
        }
        self.ask_all(now, asks, 0, reply);
    }

    /// A shard has said what is asked of its parts, and of its slots: they follow.
    pub fn report(&mut self, shard: ShardId, report: &ShardReport) {
        self.slots_used(shard, &report.services);
        let at = usize::from(shard.0);
        let mut asks = Vec::new();
        for (scope, demands) in &report.throttles {
            let found = self.throttles.iter_mut().find(|standing| standing.whole.scope == *scope);
            let Some(standing) = found else { continue };
            for (way, demand) in demands.iter().enumerate() {
                if let Some(last) = standing.demands[way].get_mut(at) {
                    *last = *demand;
                }
            }
            // Once a second: with the report of the last shard.
            if at + 1 == usize::from(self.shards) {
                asks.extend(standing.share());
            }
        }
        let id = self.next_id();
        for (shard, ask) in asks {
            self.ask(shard, id, ask);
        }
    }
}

impl Standing {
    /// New parts; what is to be told to whom.
    fn share(&mut self) -> Vec<(ShardId, Ask)> {
        let mut asks: Vec<(ShardId, Ask)> = Vec::new();
        for (way, rate) in [self.whole.down, self.whole.up].into_iter().enumerate() {
            let Some(rate) = rate else {
                self.parts[way].clear();
                continue;
            };
            let next: Vec<u64> = parts(rate, &self.demands[way]).iter().map(|part| (*part).max(1)).collect();
            let differs = |old: &u64, new: &u64| old.abs_diff(*new) > old / WORTH_TELLING;
            let same = self.parts[way].len() == next.len()
                && self.parts[way].iter().zip(&next).all(|(old, new)| !differs(old, new));
            if same && self.parts[way].iter().sum::<u64>() == rate {
                continue;
            }
            for (shard, part) in next.iter().enumerate() {
                let [down, up] = [0, 1].map(|n| if n == way { Limit::Bytes(*part) } else { Limit::Keep });
                asks.push((ShardId(shard as u16), Ask::Throttle { scope: self.whole.scope, down, up }));
            }
            self.parts[way] = next;
        }
        asks
    }
}
