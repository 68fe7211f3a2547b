//! Services that come and go while the shard runs.
//!
//! A service is added in two steps, so that the hub can have all shards bind before one of them accepts: [`Ask::Add`](crate::link::Ask)
//! binds, `Ask::Open` opens. Each is a job that lasts until the kernel has answered; jobs are worked on one at a time, so what is under way
//! belongs to the job at the front.
//!
//! Invariant: a listener's number is in `free` exactly when the kernel has said that it is gone; its place in `ShardConfig::listeners` is
//! `NOBODY`'s then.

use std::net::SocketAddr;

use super::core::{Core, ListenerKind};
use super::desk::DONE;
use super::door::{Listener, Service};
use crate::base::ServiceId;
use crate::io::{ListenerId, Op};
use crate::link::{NewService, Told};

/// Most listeners: they are named by a byte.
const MOST: usize = 255;
/// The service of a number that is free; no service has this number.
const NOBODY: ServiceId = ServiceId(u8::MAX);
/// What the kernel says when there are too many (EMFILE of Linux).
const TOO_MANY: i32 = 24;

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Coming {
    /// Numbers that may be used again.
    free: Vec<ListenerId>,
    /// Answers of the kernel that have not come.
    waiting: usize,
    /// Listeners bound by the job at the front.
    bound: Vec<ListenerId>,
    /// The first that could not be.
    failed: Option<(SocketAddr, i32)>,
    /// Those that are being bound.
    asked: Vec<(ListenerId, SocketAddr)>,
}

impl Core {
    /// Binds the listeners of a service. `step` is the job's own count, 0 at its beginning.
    pub(super) fn add_service(&mut self, step: &mut u32, new: &NewService) -> Option<Told> {
        if *step == 0 {
            *step = 1;
            self.bind_all(new);
            return None;
        }
        if self.coming.waiting > 0 {
            return None;
        }
        let bound = std::mem::take(&mut self.coming.bound);
        if self.coming.failed.is_some() && !bound.is_empty() {
            self.unbind_all(&bound);
            return None;
        }
        if let Some(failed) = self.coming.failed.take() {
            return Some(Told::Bound(Err(failed)));
        }
        self.door.add(Service {
            id: new.service,
            user_agent: new.user_agent.clone(),
            without: new.without,
            sessions: new.sessions,
            probes: new.probes,
            capacity: new.capacity,
            probe_time: new.probe_time,
        });
        Some(Told::Bound(Ok(())))
    }

    fn bind_all(&mut self, new: &NewService) {
        let kind = if new.tls { ListenerKind::Tls } else { ListenerKind::Plain };
        for at in &new.listen {
            let listener = Listener { kind, service: new.service };
            let listeners = &mut self.config.listeners;
            let number = match self.coming.free.pop() {
                Some(number) => {
                    if let Some(place) = listeners.get_mut(usize::from(number.0)) {
                        *place = listener;
                    }
                    number
                }
                None if listeners.len() < MOST => {
                    listeners.push(listener);
                    ListenerId((listeners.len() - 1) as u8)
                }
                None => {
                    self.coming.failed = Some((*at, TOO_MANY));
                    return;
                }
            };
            self.coming.asked.push((number, *at));
            self.coming.waiting += 1;
            self.ops.push(Op::Bind { listener: number, at: *at });
        }
    }

    /// Opens the listeners of a service that was added.
    pub(super) fn open_service(&mut self, step: &mut u32, service: ServiceId) -> Option<Told> {
        if *step > 0 {
            return Some(DONE);
        }
        // The answer comes with the next turn, when the kernel has been told.
        *step = 1;
        self.door.open(service);
        if self.is_listening() {
            let opens = self.numbers(service).into_iter().map(Op::Listen);
            self.ops.extend(opens);
            self.hold_again();
        }
        None
    }

    /// Closes the listeners of a service and forgets it; its clients stay.
    pub(super) fn remove_service(&mut self, step: &mut u32, service: ServiceId) -> Option<Told> {
        if *step == 0 {
            *step = 1;
            if self.door.rules(service).is_none() {
                return Some(DONE);
            }
            let numbers = self.numbers(service);
            self.door.remove(service);
            self.unbind_all(&numbers);
        }
        (self.coming.waiting == 0).then_some(DONE)
    }

    fn unbind_all(&mut self, numbers: &[ListenerId]) {
        self.coming.waiting += numbers.len();
        self.ops.extend(numbers.iter().copied().map(Op::Unbind));
    }

    /// The numbers of a service's listeners.
    fn numbers(&self, service: ServiceId) -> Vec<ListenerId> {
        let all = (0..).map(ListenerId).zip(&self.config.listeners);
        all.filter(|(_, at)| at.service == service).map(|(number, _)| number).collect()
    }

    /// The kernel has bound a listener, or cannot.
    pub(super) fn bound(&mut self, listener: ListenerId, result: Result<(), i32>) {
        self.coming.waiting = self.coming.waiting.saturating_sub(1);
        let asked = self.coming.asked.iter().position(|(number, _)| *number == listener);
        let at = asked.map(|index| self.coming.asked.swap_remove(index).1);
        match (result, at) {
            (Ok(()), _) => self.coming.bound.push(listener),
            (Err(errno), at) => {
                self.free(listener);
                self.coming.failed = self.coming.failed.or(at.map(|at| (at, errno)));
            }
        }
    }

    /// A listener is gone.
    pub(super) fn unbound(&mut self, listener: ListenerId) {
        self.coming.waiting = self.coming.waiting.saturating_sub(1);
        self.free(listener);
    }

    fn free(&mut self, number: ListenerId) {
        if let Some(place) = self.config.listeners.get_mut(usize::from(number.0)) {
            place.service = NOBODY;
            self.coming.free.push(number);
        }
    }
}
