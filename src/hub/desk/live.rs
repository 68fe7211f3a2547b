//! Services that come while the relay runs: on all shards or on none.
//!
//! The process takes the addresses first, so that nobody else listens there. Then every shard binds; when all have, every shard opens, and
//! the command is answered. When one cannot, all take back what they have bound.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;

use super::services::{Standing, without};
use super::{Desk, What, answer};
use crate::admission::{Limit, Scope};
use crate::base::{Instant, ServiceId, ShardId};
use crate::hub::command::{Refusal, Reply, Service};
use crate::link::{Ask, AskId, NewService, Told};

/// Most services at a time.
const MOST_SERVICES: usize = 64;
/// Most listening addresses at a time: a listener is named by a byte.
const MOST_LISTENERS: usize = 255;
/// Numbers of services; the last of a byte names none.
const NUMBERS: usize = u8::MAX as usize;

/// What every client of a service has that was added.
#[derive(Clone, Copy, Debug)]
pub struct NewcomerRules {
    /// Its capacity, cost units per second; u32::MAX for no limit.
    pub capacity: u32,
    /// How long it may stay a probe; none for ever.
    pub probe_time: Option<Duration>,
}

impl Default for NewcomerRules {
    fn default() -> NewcomerRules {
        NewcomerRules { capacity: u32::MAX, probe_time: None }
    }
}

/// What there is besides the services themselves.
#[derive(Debug, Default)]
pub(super) struct Live {
    rules: NewcomerRules,
    /// Keeps the ports of each ours while no shard listens.
    reserved: BTreeMap<ServiceId, Vec<OwnedFd>>,
}

/// A service that is being added.
#[derive(Debug)]
pub(super) struct Adding {
    service: ServiceId,
    /// Shards that have not answered.
    left: u16,
    /// True exactly when all have bound, and are to open.
    opens: bool,
    failed: Option<(SocketAddr, i32)>,
    reply: Reply<ServiceId>,
}

impl Desk {
    /// What newcomers get, and what keeps the ports of the first services, in their order.
    pub fn set_live(&mut self, rules: NewcomerRules, reserved: Vec<Vec<OwnedFd>>) {
        let number = |(number, fds)| (ServiceId(u8::try_from(number).unwrap_or(u8::MAX)), fds);
        self.live = Live { rules, reserved: reserved.into_iter().enumerate().map(number).collect() };
    }

    /// Whether a service could be added, as far as that is known without asking the kernel.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_new(&self, service: &Service, has_tls: bool) -> Result<(), Refusal> {
        let there = || self.services.iter().filter(|standing| !standing.removed);
        if there().any(|standing| standing.service.name == service.name) {
            return Err(Refusal::Conflict(format!("service {} is there already", service.name)));
        }
        if there().count() >= MOST_SERVICES {
            return Err(Refusal::Conflict(format!("there are {MOST_SERVICES} services, and no more can be")));
        }
        let listeners: usize = there().map(|standing| standing.service.listen.len()).sum();
        if listeners + service.listen.len() > MOST_LISTENERS {
            let why = format!("there are {listeners} listening addresses, at most {MOST_LISTENERS} can be");
            return Err(Refusal::Conflict(why));
        }
        for (n, at) in service.listen.iter().enumerate() {
            let mut others =
                there().flat_map(|standing| &standing.service.listen).chain(&service.listen[..n]);
            if at.port() != 0 && others.any(|other| other == at) {
                let expected = "an address that no service has".to_string();
                return Err(Refusal::Value { field: "listen", value: at.to_string(), expected });
            }
        }
        if service.tls && !has_tls {
            let expected = "false, since the relay has no certificate (`tls_certificates`)".to_string();
            return Err(Refusal::Value { field: "tls", value: "true".to_string(), expected });
        }
        Ok(())
    }

    /// Adds a service that was checked, its addresses resolved and `reserved`.
    pub fn add_service(
        &mut self,
        now: Instant,
        service: Service,
        reserved: Vec<OwnedFd>,
        reply: Reply<ServiceId>,
    ) {
        if self.is_busy() {
            return answer(reply, Err(Refusal::Busy));
        }
        let Some(number) = self.number() else {
            return answer(
                reply,
                Err(Refusal::Conflict("there is no number left for a service".to_string())),
            );
        };
        // It takes nobody until every shard has opened it.
        let standing = Standing { draining: true, ..Standing::new(number, service.clone()) };
        let id = standing.id;
        match self.services.get_mut(number) {
            Some(removed) => *removed = standing,
            None => self.services.push(standing),
        }
        self.live.reserved.insert(id, reserved);
        self.slots.remove(&id);
        self.set_slots(id, service.sessions, service.probes);
        let part = |all: u64| u32::try_from(all.div_ceil(u64::from(self.shards.max(1)))).unwrap_or(u32::MAX);
        let new = NewService {
            service: id,
            tls: service.tls,
            without: without(service.bits),
            user_agent: Bytes::from(
                service.user_agent.unwrap_or_else(|| self.user_agent.clone()).into_bytes(),
            ),
            sessions: part(service.sessions),
            probes: part(service.probes),
            capacity: self.live.rules.capacity,
            probe_time: self.live.rules.probe_time,
            listen: service.listen,
        };
        let (left, opens, failed) = (self.shards, false, None);
        let ask = self.wait(now, What::Adding(Adding { service: id, left, opens, failed, reply }));
        self.ask_each(ask, &Ask::Add(new));
    }

    /// A number that was never used, or the first that is free again.
    fn number(&self) -> Option<usize> {
        match self.services.len() {
            fresh if fresh < NUMBERS => Some(fresh),
            _ => self.services.iter().position(|standing| standing.removed),
        }
    }

    fn ask_each(&mut self, id: AskId, ask: &Ask) {
        for shard in 0..self.shards {
            self.ask(ShardId(shard), id, ask.clone());
        }
    }

    /// A shard has answered.
    pub(super) fn added(&mut self, ask: AskId, mut adding: Adding, told: Told) -> Option<Adding> {
        if let Told::Bound(Err(failed)) = told {
            adding.failed = adding.failed.or(Some(failed));
        }
        adding.left = adding.left.saturating_sub(1);
        if adding.left > 0 {
            return Some(adding);
        }
        if let Some((at, errno)) = adding.failed {
            let error = std::io::Error::from_raw_os_error(errno);
            let expected = format!("an address that can be listened on: {error}");
            self.give_up(adding, Refusal::Value { field: "listen", value: at.to_string(), expected });
            return None;
        }
        if !adding.opens {
            (adding.opens, adding.left) = (true, self.shards);
            self.ask_each(ask, &Ask::Open(adding.service));
            return Some(adding);
        }
        if let Ok(standing) = self.standing(adding.service) {
            standing.draining = false;
        }
        answer(adding.reply, Ok(adding.service));
        None
    }

    /// Nothing is left of a service that could not be added.
    pub(super) fn give_up(&mut self, adding: Adding, why: Refusal) {
        if let Ok(standing) = self.standing(adding.service) {
            (standing.draining, standing.removed) = (true, true);
        }
        self.forget_service(adding.service);
        answer(adding.reply, Err(why));
    }

    /// The shards close its listeners, and its ports are no longer ours; nor does its throttle wait for another of its number.
    pub(super) fn forget_service(&mut self, service: ServiceId) {
        self.tell_all(&Ask::Remove(service));
        self.live.reserved.remove(&service);
        self.slots.remove(&service);
        let scope = Scope::Service(service);
        let before = self.throttles.len();
        self.throttles.retain(|throttle| throttle.whole.scope != scope);
        if self.throttles.len() < before {
            let (down, up) = (Limit::Unlimited, Limit::Unlimited);
            self.tell_all(&Ask::Throttle { scope, down, up });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::admission::Bans;
    use crate::link::ToShard;

    fn service(name: &str, listen: &[&str]) -> Service {
        let listen = listen.iter().map(|at| at.parse().unwrap()).collect();
        let (user_agent, bits) = (None, None);
        Service { name: name.to_string(), listen, tls: false, bits, user_agent, sessions: 10, probes: 9 }
    }

    /// What the two shards are asked, bans apart.
    fn asked(desk: &mut Desk) -> Vec<(u16, AskId, Ask)> {
        let outputs = std::iter::from_fn(|| desk.next_output());
        let asks = outputs.filter_map(|(shard, entry)| match entry {
            ToShard::Ask(id, ask) => Some((shard.0, id, (*ask).clone())),
            _ => None,
        });
        asks.collect()
    }

    fn add(desk: &mut Desk, name: &str) -> oneshot::Receiver<Result<ServiceId, Refusal>> {
        let (reply, answer) = oneshot::channel();
        desk.add_service(Instant(0), service(name, &["127.0.0.1:9000"]), Vec::new(), reply);
        answer
    }

    #[test]
    fn all_shards_open_it_or_none_keeps_it() {
        let mut desk =
            Desk::new(2, "/relay/".into(), vec![service("default", &["127.0.0.1:8333"])], Bans::default());
        let mut answer = add(&mut desk, "extra");
        let asks = asked(&mut desk);
        assert!(
            matches!(&asks[..], [(0, _, Ask::Add(new)), (1, _, Ask::Add(_))] if new.sessions == 5 && new.probes == 5)
        );
        let id = asks[0].1;
        desk.told(ShardId(0), id, Told::Bound(Ok(())), &|_, _| None);
        assert!(asked(&mut desk).is_empty(), "one has not answered");
        desk.told(ShardId(1), id, Told::Bound(Err(("127.0.0.1:9000".parse().unwrap(), 98))), &|_, _| None);
        let asks = asked(&mut desk);
        assert!(matches!(asks[..], [(0, _, Ask::Remove(ServiceId(1))), (1, _, Ask::Remove(ServiceId(1)))]));
        let refused = answer.try_recv().unwrap().unwrap_err().to_string();
        assert!(
            refused.starts_with("listen: 127.0.0.1:9000, expected an address that can be listened on"),
            "{refused}"
        );
        assert_eq!(desk.services(&[]).len(), 1);

        let mut answer = add(&mut desk, "extra");
        let id = asked(&mut desk)[0].1;
        (0..2).for_each(|shard| desk.told(ShardId(shard), id, Told::Bound(Ok(())), &|_, _| None));
        assert!(matches!(asked(&mut desk)[..], [(0, _, Ask::Open(_)), (1, _, Ask::Open(_))]));
        assert!(desk.services(&[])[1].draining, "until all have opened it");
        let done = || Told::Done { clients: 0, unknown: Vec::new() };
        desk.told(ShardId(0), id, done(), &|_, _| None);
        assert!(answer.try_recv().is_err());
        desk.told(ShardId(1), id, done(), &|_, _| None);
        assert_eq!(
            answer.try_recv().unwrap(),
            Ok(ServiceId(2)),
            "the number of one that failed is not used again yet"
        );
        assert!(!desk.services(&[])[1].draining);
        assert!(desk.check_new(&service("extra", &["127.0.0.1:9001"]), false).is_err());
        assert!(desk.check_new(&service("other", &["127.0.0.1:9000"]), false).is_err());
    }

    #[test]
    fn a_shard_that_does_not_answer_leaves_nothing_behind() {
        let mut desk = Desk::new(1, "/relay/".into(), Vec::new(), Bans::default());
        let mut answer = add(&mut desk, "extra");
        asked(&mut desk);
        desk.tick(Instant(0) + crate::hub::desk::ADMIN_TIMEOUT, 0);
        assert_eq!(answer.try_recv().unwrap(), Err(Refusal::Late));
        assert!(matches!(asked(&mut desk)[..], [(0, _, Ask::Remove(ServiceId(0)))]));
    }

    #[test]
    fn numbers_are_used_again_when_there_are_no_others() {
        let mut desk = Desk::new(1, "/relay/".into(), Vec::new(), Bans::default());
        for round in 0..600_u32 {
            let mut answer = add(&mut desk, "extra");
            let id = asked(&mut desk)[0].1;
            desk.told(ShardId(0), id, Told::Bound(Err(("127.0.0.1:9000".parse().unwrap(), 98))), &|_, _| {
                None
            });
            assert!(answer.try_recv().unwrap().is_err(), "round {round}");
            asked(&mut desk);
        }
        assert_eq!(desk.services.len(), NUMBERS);
    }

    #[test]
    fn what_is_refused_as_busy_has_changed_nothing() {
        let services = vec![service("default", &["127.0.0.1:8333"]), service("extra", &["127.0.0.1:9000"])];
        let mut desk = Desk::new(1, "/relay/".into(), services, Bans::default());
        let limit = Limit::Bytes(1_000);
        let throttle = |desk: &mut Desk, down| {
            let (reply, answer) = oneshot::channel();
            desk.throttle(Instant(0), Scope::All, down, Limit::Keep, reply);
            answer
        };
        let mut waiting = Vec::new();
        while !desk.is_busy() {
            waiting.push(throttle(&mut desk, limit));
        }
        asked(&mut desk);
        let in_force = desk.throttles();
        assert_eq!(in_force.len(), 1);

        for down in [Limit::Bytes(2_000), Limit::Unlimited] {
            assert_eq!(throttle(&mut desk, down).try_recv().unwrap(), Err(Refusal::Busy));
            assert_eq!(desk.throttles(), in_force);
        }
        let (reply, mut answer) = oneshot::channel();
        desk.remove_service(Instant(0), ServiceId(1), reply);
        assert_eq!(answer.try_recv().unwrap(), Err(Refusal::Busy));
        assert_eq!(desk.services(&[]).len(), 2);
        assert!(asked(&mut desk).is_empty(), "and no shard was asked");
    }
}
