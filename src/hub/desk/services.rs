//! Services as the operator sees and changes them while the relay runs: rules, slots, draining, removal.

use bytes::Bytes;

use super::{Desk, answer};
use crate::base::limits::MAX_USER_AGENT;
use crate::base::{End, Instant, ServiceId};
use crate::hub::command::{Refusal, Reply, Service, ServiceChange, ServiceInfo, Targets};
use crate::link::{Action, Ask, Filter, Rules, ShardReport};
use crate::wire::Services;

/// What a service may leave out of what the relay offers; the other bits say what is true of every listener.
const MAY_LACK: Services = Services::NETWORK.union(Services::COMPACT_FILTERS);

/// A service as it stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) id: ServiceId,
    pub(super) service: Service,
    pub(super) draining: bool,
    pub(super) removed: bool,
}

impl Standing {
    pub(super) fn new(number: usize, service: Service) -> Standing {
        let id = ServiceId(u8::try_from(number).unwrap_or(u8::MAX));
        Standing { id, service, draining: false, removed: false }
    }

    /// Its number, its session slots, its probe slots.
    pub(super) fn slots(&self) -> (ServiceId, u64, u64) {
        (self.id, self.service.sessions, self.service.probes)
    }
}

impl Desk {
    /// All, with what the shards said last of their slots.
    pub fn services(&self, reports: &[ShardReport]) -> Vec<ServiceInfo> {
        let there = self.services.iter().filter(|standing| !standing.removed);
        there.map(|standing| info(standing, reports)).collect()
    }

    /// Changes what is given, on every shard.
    pub(super) fn change_service(
        &mut self,
        service: ServiceId,
        change: ServiceChange,
        reports: &[ShardReport],
    ) -> Result<ServiceInfo, Refusal> {
        let slots = |field: &'static str, given: Option<u64>| match given {
            Some(number) if number == 0 || number > 1 << 23 => Err(Refusal::Value {
                field,
                value: number.to_string(),
                expected: format!("1 to {}", 1 << 23),
            }),
            _ => Ok(()),
        };
        slots("sessions", change.sessions)?;
        slots("probes", change.probes)?;
        let name = change.user_agent.clone().flatten();
        if let Some(name) = name.as_ref().filter(|name| name.len() > MAX_USER_AGENT) {
            return Err(Refusal::Value {
                field: "user_agent",
                value: format!("{} bytes", name.len()),
                expected: format!("at most {MAX_USER_AGENT} bytes"),
            });
        }
        let relay_name = self.user_agent.clone();
        let standing = self.standing(service)?;
        let changed = &mut standing.service;
        changed.name = change.name.unwrap_or(std::mem::take(&mut changed.name));
        changed.bits = change.bits.unwrap_or(changed.bits);
        changed.user_agent = change.user_agent.unwrap_or(changed.user_agent.take());
        changed.sessions = change.sessions.unwrap_or(changed.sessions);
        changed.probes = change.probes.unwrap_or(changed.probes);
        let user_agent = changed.user_agent.clone().unwrap_or(relay_name);
        let rules = Rules {
            service,
            without: Some(without(changed.bits)),
            user_agent: Some(Bytes::from(user_agent.into_bytes())),
        };
        let standing = standing.clone();
        self.set_slots(service, standing.service.sessions, standing.service.probes);
        self.hand_out_slots();
        self.tell_all(&Ask::Rules(rules));
        Ok(info(&standing, reports))
    }

    /// No newcomers any more.
    pub(super) fn drain_service(
        &mut self,
        service: ServiceId,
        reports: &[ShardReport],
    ) -> Result<u64, Refusal> {
        self.standing(service)?.draining = true;
        self.tell_all(&Ask::Drain(service));
        let standing = self.standing(service)?.clone();
        let info = info(&standing, reports);
        Ok(info.sessions + info.probes)
    }

    /// Closes its listeners, ends its clients, forgets it; its ports are free when this is answered. Its number is not used again while
    /// there are others.
    pub(super) fn remove_service(&mut self, now: Instant, service: ServiceId, reply: Reply<u64>) {
        let last = self.services.iter().filter(|standing| !standing.removed).count() == 1;
        let is_busy = self.is_busy();
        match self.standing(service) {
            Err(refusal) => return answer(reply, Err(refusal)),
            Ok(_) if last => {
                let why = "it is the only service: end the relay instead".to_string();
                return answer(reply, Err(Refusal::Conflict(why)));
            }
            // What is refused has changed nothing, so this comes before the marks and not with the question.
            Ok(_) if is_busy => return answer(reply, Err(Refusal::Busy)),
            Ok(standing) => (standing.draining, standing.removed) = (true, true),
        }
        // Shards take questions in their order: with the answer to the second the first is done.
        self.forget_service(service);
        let filter = Filter { service: Some(service), ..Filter::default() };
        self.act(now, Targets::Matching(filter), Action::End(End::Drained), reply);
    }

    pub(super) fn standing(&mut self, service: ServiceId) -> Result<&mut Standing, Refusal> {
        let found = self.services.iter_mut().find(|standing| standing.id == service && !standing.removed);
        found.ok_or_else(|| Refusal::Unknown { field: "service", value: service.0.to_string() })
    }
}

pub(super) fn without(bits: Option<u64>) -> Services {
    bits.map_or(Services::empty(), |bits| MAY_LACK - Services::from_bits_retain(bits))
}

fn info(standing: &Standing, reports: &[ShardReport]) -> ServiceInfo {
    let slots = reports.iter().flat_map(|report| &report.services).filter(|of| of.service == standing.id);
    let (sessions, probes) = slots.fold((0, 0), |(sessions, probes), of| {
        (sessions + u64::from(of.sessions), probes + u64::from(of.probes))
    });
    ServiceInfo {
        id: standing.id,
        service: standing.service.clone(),
        draining: standing.draining,
        sessions,
        probes,
    }
}
