//! One ring's loop: what is due is begun, what has happened is given to the clients, what they say is sent.
//!
//! Per turn: commands; connections whose time in the ramp has come; timers; pings; churn; a few handshakes of transports; then
//! the kernel. A turn waits for nobody. Everything that has a schedule carries its intended moment.
//!
//! Invariants: a slot is connected anew only when the kernel has nothing of it (`with_kernel` is 0); a client that the target
//! ended is counted exactly once, as refused, lost, or thrown out.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use breakwater::base::Instant;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::dial::Dialer;
use super::due::{Due, Pace};
use super::ring::Ring;
use super::slot::{After, Sending, Slot, State};
use super::{Command, Shared};
use crate::Outcome;
use crate::os::{self, Wake};
use crate::rig::behaviour::shared::Shared as Common;
use crate::rig::client::Client;
use crate::rig::measure::{Board, Levels, Tally};
use crate::rig::origin::Known;
use crate::rig::scenario::Scenario;

/// Longest stay in the kernel.
const TICK: Duration = Duration::from_millis(100);
/// Nanoseconds between two reports to the main thread.
const REPORT_EVERY: u64 = 200_000_000;
/// Longest wait for the kernel at the end.
const CLOSE_TIME: Duration = Duration::from_secs(60);

/// The worker's place among the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) index: u32,
    pub(super) workers: u32,
    /// When the ramp begins.
    pub(super) start: Instant,
}

pub(super) struct Worker<'a> {
    pub(super) place: Place,
    pub(super) scenario: &'a Scenario,
    pub(super) shared: &'a Shared,
    pub(super) board: &'a Board,
    pub(super) ring: Ring,
    pub(super) slots: Vec<Slot>,
    pub(super) tallies: Vec<Tally>,
    pub(super) known: Known,
    /// What all clients have in common.
    pub(super) common: &'a Common,
    pub(super) rng: SmallRng,
    /// Scratch: what a client says while it is being called.
    pub(super) out: Vec<u8>,
    /// Scratch: what goes over the wire; empty between two calls.
    pub(super) wire: Vec<u8>,
    /// How TLS handshakes begin.
    pub(super) tls: Dialer,
    /// Handshakes of transports that are to go on: slot and visit.
    pub(super) shaking: VecDeque<(u32, u8)>,
    /// Those that wait until there are tickets.
    pub(super) held: Vec<(u32, u8)>,
    #[allow(clippy::vec_box)] // Handed to slots as boxes: no allocation per send.
    pub(super) spare: Vec<Box<Sending>>,
    pub(super) timers: Due,
    /// Slots whose receive found no buffer.
    pub(super) starved: VecDeque<u32>,
    /// Slots that take their next sip.
    pub(super) sips: Due,
    /// Connections in the order they were begun, until they are known to be ready or over.
    pub(super) greeting: VecDeque<(u32, u8, u64)>,
    /// When the last connection in flight made room for another that was due: before, waiting was not the rig's fault.
    pub(super) room_since: u64,
    /// Slots begun so far.
    pub(super) begun: u32,
    /// Connections neither ready nor over.
    pub(super) in_flight: u32,
    /// Connects that were given up, and why.
    pub(super) failed: VecDeque<(u32, i32)>,
    pub(super) levels: Levels,
    pub(super) pings: Pace,
    pub(super) ping_every: Duration,
    pub(super) ping_at: u32,
    /// Share of the clients that leave and come back each second, once all have begun.
    pub(super) churn_share: f64,
    pub(super) churn: Option<Pace>,
    pub(super) churn_at: u32,
    pub(super) next_report: u64,
    pub(super) quiet: bool,
    /// The newest block when it became quiet: later ones are not waited for.
    pub(super) newest: Option<(u32, Instant)>,
    pub(super) closing_since: Option<Instant>,
    pub(super) now: Instant,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        place: Place,
        scenario: &'a Scenario,
        shared: &'a Shared,
        board: &'a Board,
    ) -> Outcome<Worker<'a>> {
        let numbers = (place.index..scenario.clients).step_by(place.workers as usize);
        let made = numbers.map(|number| {
            let part = scenario.part_of(number);
            let what = &scenario.parts[part];
            Slot::new(Client::new((what.kind.make)(&what.options)), part as u8)
        });
        let slots: Vec<Slot> = made.collect();
        let binds = scenario.sources.of(0).is_some();
        let ring = Ring::new(slots.len() as u32, binds)?;
        let mut worker = Worker {
            place,
            shared,
            board,
            ring,
            tallies: vec![Tally::default(); scenario.parts.len()],
            known: Known::default(),
            common: &shared.common,
            rng: SmallRng::seed_from_u64(scenario.seed ^ u64::from(place.index) << 40),
            out: Vec::new(),
            wire: Vec::new(),
            tls: Dialer::new(scenario)?,
            shaking: VecDeque::new(),
            held: Vec::new(),
            spare: Vec::new(),
            timers: Due::default(),
            sips: Due::default(),
            starved: VecDeque::new(),
            greeting: VecDeque::new(),
            begun: 0,
            in_flight: 0,
            failed: VecDeque::new(),
            levels: Levels::default(),
            pings: Pace::new(0, 0.0),
            ping_at: 0,
            churn_share: scenario.churn,
            churn: None,
            ping_every: Duration::ZERO,
            room_since: 0,
            newest: None,
            churn_at: 0,
            next_report: 0,
            quiet: false,
            closing_since: None,
            now: shared.now(),
            scenario,
            slots,
        };
        worker.set_pings(scenario.ping_every.unwrap_or(Duration::ZERO));
        Ok(worker)
    }

    pub(super) fn run(&mut self, wake: &Wake, commands: &Receiver<Command>) -> Outcome {
        self.ring.arm(wake)?;
        while !self.is_over() {
            self.now = self.shared.now();
            while let Ok(command) = commands.try_recv() {
                self.obey(command)?;
            }
            if !self.quiet {
                self.begin_due()?;
                self.ping_due()?;
                self.churn_due()?;
            }
            self.timers_due()?;
            self.overdue()?;
            self.shake_some()?;
            if self.now.0 >= self.next_report {
                self.report();
            }
            self.ring.enter(self.stay())?;
            self.reap(wake)?;
        }
        self.report();
        self.ring.end();
        Ok(())
    }

    /// True once everything is closed and the kernel has nothing of ours; what it keeps too long is left to it.
    fn is_over(&self) -> bool {
        let late = self.closing_since.is_some_and(|since| self.now.since(since) > CLOSE_TIME);
        self.closing_since.is_some() && (late || self.slots.iter().all(|slot| slot.with_kernel == 0))
    }

    fn stay(&self) -> Duration {
        let begin = (!self.quiet && self.begun < self.slots.len() as u32 && self.may_begin())
            .then(|| self.start_of(self.begun).0);
        let churn = self.churn.and_then(|pace| pace.next());
        let paces = [self.pings.next(), churn].map(|at| at.filter(|_| !self.quiet));
        let next = [begin, paces[0], paces[1], self.timers.next(), self.sips.next(), Some(self.next_report)];
        if !self.starved.is_empty() || !self.shaking.is_empty() {
            return Duration::ZERO;
        }
        let next = next.into_iter().flatten().min().unwrap_or(u64::MAX);
        // The clock has moved on since the turn began.
        Instant(next).since(self.shared.now()).min(TICK)
    }

    fn obey(&mut self, command: Command) -> Outcome {
        match command {
            Command::Churn(share) => (self.churn_share, self.churn) = (share, None),
            Command::Ping(every) => self.set_pings(every),
            Command::Quiet => {
                self.quiet = true;
                self.newest = Some(self.shared.origins.newest());
            }
            Command::Close { unreached } => {
                (self.quiet, self.closing_since) = (true, Some(self.now));
                self.count_missed();
                if unreached {
                    self.count_unreached();
                }
                for slot in 0..self.slots.len() as u32 {
                    match self.slots[slot as usize].state {
                        State::Open => self.leave(slot, After::Over)?,
                        State::Connecting => self.ring.stop_connecting(slot)?,
                        State::Waiting => self.over(slot),
                        State::Closing(_) => {
                            self.slots[slot as usize].state = State::Closing(After::Over);
                        }
                        State::Over => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// At the end: who was never ready although there was time.
    fn count_unreached(&mut self) {
        for slot in self.slots.iter().filter(|slot| !slot.settled) {
            self.tallies[usize::from(slot.part)].refuse("not ready when the run ended");
        }
    }

    fn set_pings(&mut self, every: Duration) {
        let rate = if every.is_zero() { 0.0 } else { self.slots.len() as f64 / every.as_secs_f64() };
        self.ping_every = every;
        self.pings = Pace::new(self.now.0, rate);
    }

    // ---- reports ---------------------------------------------------------------------------------------

    fn report(&mut self) {
        self.next_report = self.now.0 + REPORT_EVERY;
        let (newest, since) = self.newest.unwrap_or_else(|| self.shared.origins.newest());
        let mut levels = Levels { behind: 0, pinging: 0, ..self.levels };
        for slot in &self.slots {
            levels.behind += u64::from(slot.client.missed(newest, since) > 0);
            levels.pinging += u64::from(slot.client.is_pinging());
        }
        levels.cpu_us = os::thread_cpu().as_micros() as u64;
        self.board.put(&mut self.tallies, levels);
    }

    /// At the end: blocks that those who are there have not heard of.
    fn count_missed(&mut self) {
        let (newest, since) = self.newest.unwrap_or_else(|| self.shared.origins.newest());
        for slot in &self.slots {
            let missed = slot.client.missed(newest, since);
            self.tallies[usize::from(slot.part)].counts.blocks_skipped += u64::from(missed);
        }
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.ring.end();
        for slot in &mut self.slots {
            // With the kernel still.
            std::mem::forget(slot.sending.take());
        }
    }
}
