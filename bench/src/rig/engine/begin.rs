//! What is due is begun: connections of the ramp, connections anew, wakes of clients, pings, departures.

use breakwater::base::Instant;

use super::due::Pace;
use super::end::reason;
use super::slot::{After, State};
use super::worker::Worker;
use crate::Outcome;
use crate::rig::behaviour::OnEnd;
use crate::rig::client::Flow;
use crate::rig::scenario::Transport;

/// Timers, pings and departures handled per turn: sockets come first.
const PER_TURN: usize = 256;
/// Slots looked at for one departure.
const CHURN_LOOKS: usize = 64;
/// Nanoseconds until a connection anew that finds too many in flight is tried again.
const AGAIN_LATER: u64 = 5_000_000;
/// Microseconds at the least before a connection that did not come about is tried again.
const AFTER_FAILURE_US: u32 = 100_000;

impl Worker<'_> {
    pub(super) fn number(&self, slot: u32) -> u32 {
        self.place.index + slot * self.place.workers
    }

    pub(super) fn start_of(&self, slot: u32) -> Instant {
        self.place.start + self.scenario.ramp.start_of(self.number(slot))
    }

    pub(super) fn may_begin(&self) -> bool {
        self.in_flight < self.scenario.in_flight.div_ceil(self.place.workers)
    }

    pub(super) fn begin_due(&mut self) -> Outcome {
        while self.begun < self.slots.len() as u32 && self.may_begin() {
            let slot = self.begun;
            let due = self.start_of(slot);
            if due > self.now {
                break;
            }
            self.begun += 1;
            self.levels.begun += 1;
            self.connect(slot, due)?;
        }
        if self.churn.is_none() && self.begun == self.slots.len() as u32 {
            self.churn = Some(Pace::new(self.now.0, self.slots.len() as f64 * self.churn_share));
        }
        Ok(())
    }

    /// Begins a connection whose intended moment is `due`.
    fn connect(&mut self, slot: u32, due: Instant) -> Outcome {
        let number = self.number(slot);
        let part = usize::from(self.slots[slot as usize].part);
        let target = self.scenario.route(part, number).target;
        let source = self.scenario.sources.of(number);
        self.ring.connect(slot, source, target)?;
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Connecting;
        entry.with_kernel += 1;
        // Until it is connected this is the intended moment.
        entry.wake = due.0;
        entry.visit = entry.visit.wrapping_add(1);
        let visit = entry.visit;
        let tally = &mut self.tallies[usize::from(entry.part)];
        tally.counts.attempts += 1;
        tally.lateness.record(self.now.since(due.max(Instant(self.room_since))));
        entry.in_flight = true;
        self.in_flight += 1;
        self.greeting.push_back((slot, visit, self.now.0));
        Ok(())
    }

    pub(super) fn connected(&mut self, slot: u32, result: i32) -> Outcome {
        let errno = self.failed.iter().position(|(failed, _)| *failed == slot);
        let errno = errno.and_then(|at| self.failed.remove(at)).map_or(-result, |(_, errno)| errno);
        let entry = &mut self.slots[slot as usize];
        if entry.state != State::Connecting {
            return Ok(());
        }
        entry.with_kernel -= 1;
        let due = Instant(std::mem::replace(&mut entry.wake, u64::MAX));
        let on_end = entry.client.on_end();
        let tally = &mut self.tallies[usize::from(entry.part)];
        if result < 0 {
            if self.closing_since.is_none() {
                tally.refuse(reason(errno));
            }
            // The chain may have got as far as the socket, which keeps its place.
            return match (self.slots[slot as usize].client.is_stubborn(), on_end) {
                (true, OnEnd::Deserved { again_us }) => {
                    self.close_for(slot, Some(again_us.max(AFTER_FAILURE_US)))
                }
                _ => self.close(slot, After::Over),
            };
        }
        tally.connect.record(self.now.since(due));
        entry.state = State::Open;
        self.levels.open += 1;
        if self.closing_since.is_some() {
            return self.close(slot, After::Over);
        }
        if on_end != OnEnd::Lost {
            // It may never complete a handshake.
            self.landed(slot);
            self.settled(slot);
        }
        let part = usize::from(self.slots[slot as usize].part);
        let transport = self.scenario.route(part, self.number(slot)).transport;
        let speaks = match transport {
            Transport::Plain => self.call(slot, |client, cx| client.start(cx))?,
            Transport::V2 | Transport::Tls => {
                self.call(slot, |client, cx| {
                    client.reached(cx);
                    Flow::Go
                })?;
                self.begin_shaking(slot, transport);
                true
            }
        };
        if speaks && !self.slots[slot as usize].receiving {
            self.read_on(slot)?;
        }
        Ok(())
    }

    /// It is not in flight any more: ready, or over.
    pub(super) fn landed(&mut self, slot: u32) {
        if std::mem::take(&mut self.slots[slot as usize].in_flight) {
            if !self.may_begin() {
                self.room_since = self.now.0;
            }
            self.in_flight -= 1;
        }
    }

    /// It has come as far as it was asked to, for the first time, or never will.
    pub(super) fn settled(&mut self, slot: u32) {
        if !std::mem::replace(&mut self.slots[slot as usize].settled, true) {
            self.levels.settled += 1;
        }
    }

    /// Handshakes that take too long.
    pub(super) fn overdue(&mut self) -> Outcome {
        let limit = self.scenario.handshake_timeout.as_nanos() as u64;
        while let Some((slot, visit, begun)) = self.greeting.front().copied() {
            let entry = &self.slots[slot as usize];
            let settled = match entry.state {
                _ if entry.visit != visit => true,
                State::Connecting => false,
                State::Open if entry.client.is_opening() => false,
                State::Open => entry.client.is_ready() || entry.client.on_end() != OnEnd::Lost,
                _ => true,
            };
            if !settled && begun + limit > self.now.0 {
                break;
            }
            self.greeting.pop_front();
            if settled {
                continue;
            }
            let part = usize::from(entry.part);
            if entry.state == State::Connecting {
                self.failed.push_back((slot, libc::ETIMEDOUT));
                self.ring.stop_connecting(slot)?;
            } else {
                self.tallies[part].refuse("handshake timed out");
                self.close(slot, After::Over)?;
            }
        }
        Ok(())
    }

    pub(super) fn timers_due(&mut self) -> Outcome {
        for _ in 0..PER_TURN {
            let Some((at, slot)) = self.timers.take(self.now.0) else { break };
            let room = self.may_begin();
            let entry = &mut self.slots[slot as usize];
            if entry.wake != at {
                continue;
            }
            match entry.state {
                State::Open if !entry.leaving => {
                    entry.wake = u64::MAX;
                    // The client may want it later than it did when the entry was made.
                    if entry.client.next_wake() > self.now {
                        self.wake_at(slot);
                    } else if !self.quiet && self.call(slot, |client, cx| client.wake(cx))? {
                        self.read_on(slot)?;
                    }
                }
                State::Waiting if self.quiet => {}
                State::Waiting if room => self.connect(slot, Instant(at))?,
                State::Waiting => {
                    entry.wake = self.now.0 + AGAIN_LATER;
                    self.timers.add(entry.wake, slot);
                }
                _ => {}
            }
        }
        for _ in 0..PER_TURN {
            let Some((_, slot)) = self.sips.take(self.now.0) else { break };
            if self.slots[slot as usize].state == State::Open {
                self.read_on(slot)?;
            }
        }
        Ok(())
    }

    /// Sets the timer to when the client wants to be woken, unless an earlier entry will ask it anyway.
    pub(super) fn wake_at(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        let wake = entry.client.next_wake().0;
        if wake < entry.wake {
            entry.wake = wake;
            self.timers.add(wake, slot);
        }
    }

    pub(super) fn ping_due(&mut self) -> Outcome {
        for _ in 0..PER_TURN {
            let Some(due) = self.pings.take(self.now.0) else { break };
            let slot = self.ping_at;
            self.ping_at = (slot + 1) % self.slots.len().max(1) as u32;
            if self.slots.get(slot as usize).is_some_and(|slot| slot.client.is_ready() && !slot.leaving) {
                self.call(slot, |client, cx| {
                    client.ping(cx, Instant(due));
                    Flow::Go
                })?;
            }
        }
        Ok(())
    }

    pub(super) fn churn_due(&mut self) -> Outcome {
        for _ in 0..PER_TURN {
            if self.churn.as_mut().and_then(|pace| pace.take(self.now.0)).is_none() {
                break;
            }
            for _ in 0..CHURN_LOOKS.min(self.slots.len()) {
                let slot = self.churn_at;
                self.churn_at = (slot + 1) % self.slots.len() as u32;
                let entry = &self.slots[slot as usize];
                if entry.state == State::Open && entry.client.is_ready() && !entry.leaving {
                    self.leave(slot, After::Again)?;
                    break;
                }
            }
        }
        Ok(())
    }
}
