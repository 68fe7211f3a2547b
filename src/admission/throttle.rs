//! Throttles: the buckets of a client, of a class, of a service, and of all.

use super::Bucket;
use super::rates::Demand;
use crate::base::{Class, Instant, ServiceId};

/// A change of a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Limit {
    /// As it was.
    #[default]
    Keep,
    /// None from now on.
    Unlimited,
    /// So many bytes per second.
    Bytes(u64),
}

/// A pair of buckets. Without a bucket there is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    /// Towards clients.
    pub down: Option<Bucket>,
    /// From clients.
    pub up: Option<Bucket>,
}

impl Throttle {
    /// Changes the limits; what is owed stays owed.
    pub fn set(&mut self, now: Instant, down: Limit, up: Limit) {
        set(&mut self.down, now, down);
        set(&mut self.up, now, up);
    }

    /// True exactly when nothing is limited.
    pub fn is_none(&self) -> bool {
        self.down.is_none() && self.up.is_none()
    }
}

fn set(bucket: &mut Option<Bucket>, now: Instant, limit: Limit) {
    match (limit, bucket.as_mut()) {
        (Limit::Keep, _) => {}
        (Limit::Unlimited, _) => *bucket = None,
        (Limit::Bytes(rate), Some(bucket)) => bucket.set_rate(now, rate),
        (Limit::Bytes(rate), None) => *bucket = Some(Bucket::new(rate, now)),
    }
}

/// Whom a shared throttle concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Everybody.
    All,
    /// A class.
    Class(Class),
    /// A service.
    Service(ServiceId),
}

/// A shard's part of the throttles that clients share.
#[derive(Debug, Default)]
pub struct Shared {
    all: Throttle,
    classes: [Throttle; Class::ALL.len()],
    /// By number; only those with a limit.
    services: Vec<(ServiceId, Throttle)>,
    /// True exactly when one of them limits something.
    any: bool,
}

impl Shared {
    /// Changes one.
    pub fn set(&mut self, now: Instant, scope: Scope, down: Limit, up: Limit) {
        match scope {
            Scope::All => self.all.set(now, down, up),
            Scope::Class(class) => self.classes[class as usize].set(now, down, up),
            Scope::Service(service) => {
                let at = self.services.iter().position(|(id, _)| *id == service);
                let at = at.unwrap_or_else(|| {
                    self.services.push((service, Throttle::default()));
                    self.services.len() - 1
                });
                self.services[at].1.set(now, down, up);
            }
        }
        self.services.retain(|(_, throttle)| !throttle.is_none());
        self.any = !self.all.is_none()
            || !self.services.is_empty()
            || self.classes.iter().any(|throttle| !throttle.is_none());
    }

    /// The rates of one, down and up.
    pub fn rates(&self, scope: Scope) -> [Option<u64>; 2] {
        let throttle = match scope {
            Scope::All => Some(&self.all),
            Scope::Class(class) => self.classes.get(class as usize),
            Scope::Service(service) => {
                self.services.iter().find(|(id, _)| *id == service).map(|(_, throttle)| throttle)
            }
        };
        let rate = |bucket: &Option<Bucket>| bucket.map(|bucket| bucket.rate());
        throttle.map_or([None; 2], |throttle| [rate(&throttle.down), rate(&throttle.up)])
    }

    /// What is asked of each, down and up, for `rates`.
    pub fn take_demands(&mut self, now: Instant) -> Vec<(Scope, [Demand; 2])> {
        let classes = Class::ALL.into_iter().map(Scope::Class).zip(&mut self.classes);
        let services = self.services.iter_mut().map(|(id, throttle)| (Scope::Service(*id), throttle));
        let all = std::iter::once((Scope::All, &mut self.all)).chain(classes).chain(services);
        let demand = |bucket: &mut Option<Bucket>| {
            bucket.as_mut().map(|bucket| bucket.take_demand(now)).unwrap_or_default()
        };
        let limited = all.filter(|(_, throttle)| !throttle.is_none());
        limited
            .map(|(scope, throttle)| (scope, [demand(&mut throttle.down), demand(&mut throttle.up)]))
            .collect()
    }

    /// True exactly when one of them limits something.
    pub fn is_any(&self) -> bool {
        self.any
    }

    /// Those that a client of this class and service goes through.
    pub fn of(&mut self, class: Class, service: ServiceId) -> impl Iterator<Item = &mut Throttle> {
        let any = self.any;
        let service = self.services.iter_mut().find(|(id, _)| *id == service).map(|(_, throttle)| throttle);
        let class = self.classes.get_mut(class as usize);
        [Some(&mut self.all), class, service].into_iter().flatten().filter(move |_| any)
    }
}
