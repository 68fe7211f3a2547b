//! Deadlines, pings, reports, and the end of the shard.

use rand::Rng as _;
use std::time::Duration;

use super::core::Core;
use super::wheel::Wheel;
use crate::base::limits::{DRAIN_TIME, END_MARGIN};
use crate::base::{ClientId, End};
use crate::client::{Due, Flags};
use crate::io::KernelCounters;
use crate::link::ToHub;
use crate::wire::write;

/// A client is asked for its deadlines at least this often, seconds: a deadline that is set in between is met this late.
pub(super) const LONGEST_STEP: u32 = 30;
/// Clients whose timers are looked at in one turn.
const TIMERS_PER_TURN: usize = 512;
/// Clients closed in one turn of the drain.
const CLOSES_PER_TURN: u32 = 4_096;

impl Core {
    /// A turn's share of the timers.
    pub(super) fn run_timers(&mut self) {
        let now = self.now.secs();
        let mut fired = std::mem::take(&mut self.fired);
        self.more_timers = self.wheel.take(now, TIMERS_PER_TURN, &mut fired);
        for id in fired.drain(..) {
            let Some(client) = self.clients.get_mut(id) else { continue };
            let due = client.due(self.now);
            let probe = match self.probe_due(id, now) {
                Ok(at) => at,
                Err(end) => {
                    self.turn_away(id, end);
                    continue;
                }
            };
            let next = match due {
                Due::End(end) => {
                    self.end(id, end);
                    continue;
                }
                Due::Ping => {
                    self.ping(id);
                    now + LONGEST_STEP
                }
                Due::At(at) => at.min(now + LONGEST_STEP).min(probe.max(now + 1)),
            };
            self.wheel.add(id, next);
        }
        self.fired = fired;
    }

    fn ping(&mut self, id: ClientId) {
        let nonce = self.rng.random();
        let (now, magic) = (self.now.secs(), self.config.magic);
        let Some(client) = self.clients.get_mut(id) else { return };
        client.flags |= Flags::PING_OUT;
        client.pinged = now;
        client.ping_nonce = nonce;
        client.account.pinged(self.now);
        self.counters.pings_sent += 1;
        self.push_message(id, |out| write::ping(out, magic, nonce));
    }

    /// Once a second: numbers for the hub, and requests that waited too long for a filter.
    pub(super) fn report(&mut self, kernel: KernelCounters) {
        if self.now < self.next_report {
            return;
        }
        self.next_report = self.now + Duration::from_secs(1);
        self.begin_round();
        // What is asked since the last report goes with it: none is made that would not be taken.
        if self.outbox.is_empty() && self.link.room() > 0 {
            let report = self.make_report(kernel);
            self.tell_hub(ToHub::Report(report));
        }
        self.retry_filters();
        self.pool.trim();
        self.spare.trim(0);
        self.forget_crowd();
    }

    /// When the last client of a crowd is gone, so is the memory they had: that of a million would otherwise stay with us. A few
    /// that come and go leave everything as it is.
    fn forget_crowd(&mut self) {
        if self.clients.give_back() {
            self.wheel = Wheel::new(self.now.secs());
            self.forget_handshakes();
            self.shaking.forget();
            self.house.forget_crowd();
            self.spare.clear();
            self.crowds_gone += 1;
        }
    }

    /// The hub wants the shard to end.
    pub(super) fn begin_drain(&mut self) {
        if self.draining.is_none() {
            self.draining = Some(self.now + DRAIN_TIME);
            self.close_listeners();
        }
    }

    /// A turn's share of the drain: idle clients close at once, those in the middle of a send when it is over or
    /// the time is up. What clients have submitted is with the hub already, unless the hub has taken nothing until
    /// `END_MARGIN` behind the deadline: the shard ends then whatever is left.
    pub(super) fn drain(&mut self, kernel: KernelCounters) {
        let Some(until) = self.draining else { return };
        let late = self.now >= until;
        let end = self.clients.end();
        for _ in 0..CLOSES_PER_TURN.min(end) {
            let slot = self.drain_slot % end;
            self.drain_slot = self.drain_slot.wrapping_add(1);
            if let Some((id, client)) = self.clients.at(slot)
                && (late || !client.is(Flags::SENDING))
            {
                self.end(id, End::Shutdown);
            }
        }
        self.tell_house();
        let done = self.clients.is_empty() && self.outbox.is_empty() && self.link.room() >= 2;
        // A hub that is stuck or gone takes nothing any more, and a read of a slow disk may not come back: the process
        // has to end all the same. The ring takes its memory back from the kernel by itself.
        let over = self.now >= until + END_MARGIN;
        if done || over {
            self.counters.untold += self.outbox.len() as u64;
            self.outbox.clear();
            self.begin_round();
            let report = self.make_report(kernel);
            for last in [ToHub::Report(report), ToHub::Ended] {
                // Refused only when `over`: nobody reads them then.
                self.pushed |= self.link.push(last).is_ok();
            }
            self.finish();
        }
    }
}
