//! Slots of services, which shards use in parts: the parts follow the demand, and never sum up to more than there are.

use super::Desk;
use crate::admission::{Grant, Report, Shares};
use crate::base::{ServiceId, ShardId};
use crate::link::{ServiceReport, SlotGrants, ToShard};

/// Of one service.
#[derive(Clone, Debug)]
pub(super) struct SlotShares {
    sessions: Shares,
    probes: Shares,
}

impl SlotShares {
    fn new(sessions: u64, probes: u64, shards: u16) -> SlotShares {
        let shares = |total| Shares::new(total, usize::from(shards));
        SlotShares { sessions: shares(sessions), probes: shares(probes) }
    }
}

impl Desk {
    /// A service has so many slots from now on; what is none stays.
    pub(super) fn set_slots(&mut self, service: ServiceId, sessions: u64, probes: u64) {
        let shards = self.shards;
        let shares = self.slots.entry(service).or_insert_with(|| SlotShares::new(sessions, probes, shards));
        shares.sessions.set_total(sessions);
        shares.probes.set_total(probes);
    }

    /// A shard has said how many it uses.
    pub(super) fn slots_used(&mut self, shard: ShardId, services: &[ServiceReport]) {
        let at = usize::from(shard.0);
        for of in services {
            let Some(shares) = self.slots.get_mut(&of.service) else { continue };
            let report = |used: u32, n: usize| Report {
                obeys: of.obeys[n],
                used: u64::from(used),
                wanted: u64::from(of.refused[n]),
            };
            shares.sessions.report(at, report(of.sessions, 0));
            shares.probes.report(at, report(of.probes, 1));
        }
        if at + 1 == usize::from(self.shards) {
            self.hand_out_slots();
        }
    }

    /// The next parts, where something changes.
    pub(super) fn hand_out_slots(&mut self) {
        for (service, shares) in &mut self.slots {
            let (sessions, probes) = (shares.sessions.round(), shares.probes.round());
            for shard in 0..self.shards {
                let of = |told: &[(usize, Grant)]| {
                    told.iter().find(|(at, _)| *at == usize::from(shard)).map(|(_, grant)| *grant)
                };
                let grants = SlotGrants { service: *service, sessions: of(&sessions), probes: of(&probes) };
                if grants.sessions.is_some() || grants.probes.is_some() {
                    self.out.push_back((ShardId(shard), ToShard::Slots(grants)));
                }
            }
        }
    }
}
