//! One ring's loop: what is due is begun, what has happened is given to the clients, what they say is sent.
//!
//! Per turn: commands; connections whose time in the ramp has come; timers; pings; churn; then the kernel. A turn waits for
//! nobody. Everything that has a schedule carries its intended moment.
//!
//! Invariants: a slot is connected anew only when the kernel has nothing of it (`with_kernel` is 0); a client that the target
//! ended is counted exactly once, as refused, lost, or thrown out.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use breakwater::base::Instant;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::due::{Due, Pace};
use super::ring::{Event, Ring};
use super::slot::{After, Sending, Slot, State};
use super::{Command, Shared};
use crate::Outcome;
use crate::os::{self, Wake};
use crate::rig::behaviour::OnEnd;
use crate::rig::behaviour::shared::Shared as Common;
use crate::rig::client::{Client, Context, Flow, Reading};
use crate::rig::measure::{Board, Levels, Tally};
use crate::rig::origin::Known;
use crate::rig::scenario::Scenario;

/// Longest stay in the kernel.
const TICK: Duration = Duration::from_millis(100);
/// Nanoseconds between two reports to the main thread.
const REPORT_EVERY: u64 = 200_000_000;
/// Timers, pings and departures handled per turn: sockets come first.
const PER_TURN: usize = 256;
/// Longest wait for the kernel at the end.
const CLOSE_TIME: Duration = Duration::from_secs(60);
/// Receives armed again per reaping for those that found no buffer.
const STARVED_PER_TURN: usize = 64;
/// Boxes of send buffers kept for the next sender; larger ones are given back to the allocator.
const SPARE: usize = 256;
const SPARE_BYTES: usize = 4_096;
/// Bytes a client may have waiting behind what is being sent; a behaviour that says more is mistaken.
const MOST_WAITING: usize = 16 * 1024 * 1024;

/// The worker's place among the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) index: u32,
    pub(super) workers: u32,
    /// When the ramp begins.
    pub(super) start: Instant,
}

pub(super) struct Worker<'a> {
    place: Place,
    scenario: &'a Scenario,
    shared: &'a Shared,
    board: &'a Board,
    ring: Ring,
    slots: Vec<Slot>,
    tallies: Vec<Tally>,
    known: Known,
    /// What all clients have in common.
    common: &'a Common,
    rng: SmallRng,
    /// Scratch: what a client says while it is being called.
    out: Vec<u8>,
    spare: Vec<Box<Sending>>,
    timers: Due,
    /// Slots whose receive found no buffer.
    starved: VecDeque<u32>,
    /// Slots that take their next sip.
    sips: Due,
    /// Connections in the order they were begun, until they are known to be ready or over.
    greeting: VecDeque<(u32, u64)>,
    /// Slots begun so far.
    begun: u32,
    /// Connections neither ready nor over.
    in_flight: u32,
    /// The first errno of connect chains that failed before the connect.
    failed: VecDeque<(u32, i32)>,
    levels: Levels,
    pings: Pace,
    ping_at: u32,
    churn: Pace,
    churn_at: u32,
    next_report: u64,
    quiet: bool,
    closing_since: Option<Instant>,
    now: Instant,
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
            churn: Pace::new(0, 0.0),
            churn_at: 0,
            next_report: 0,
            quiet: false,
            closing_since: None,
            now: shared.now(),
            scenario,
            slots,
        };
        worker.set_pings(scenario.ping_every.unwrap_or(Duration::ZERO));
        worker.set_churn(scenario.churn);
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
        let paces = [self.pings.next(), self.churn.next()].map(|at| at.filter(|_| !self.quiet));
        let next = [begin, paces[0], paces[1], self.timers.next(), self.sips.next(), Some(self.next_report)];
        if !self.starved.is_empty() {
            return Duration::ZERO;
        }
        let next = next.into_iter().flatten().min().unwrap_or(u64::MAX);
        // The clock has moved on since the turn began.
        Instant(next).since(self.shared.now()).min(TICK)
    }

    fn obey(&mut self, command: Command) -> Outcome {
        match command {
            Command::Churn(share) => self.set_churn(share),
            Command::Ping(every) => self.set_pings(every),
            Command::Quiet => self.quiet = true,
            Command::Close => {
                (self.quiet, self.closing_since) = (true, Some(self.now));
                self.count_missed();
                for slot in 0..self.slots.len() as u32 {
                    match self.slots[slot as usize].state {
                        State::Open => self.leave(slot, After::Over)?,
                        State::Connecting => self.ring.stop_connecting(slot)?,
                        State::Waiting => self.over(slot),
                        State::Closing => self.slots[slot as usize].after = After::Over,
                        State::Over => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn set_pings(&mut self, every: Duration) {
        let rate = if every.is_zero() { 0.0 } else { self.slots.len() as f64 / every.as_secs_f64() };
        self.pings = Pace::new(self.now.0, rate);
    }

    fn set_churn(&mut self, share: f64) {
        self.churn = Pace::new(self.now.0, self.slots.len() as f64 * share);
    }

    // ---- the ramp --------------------------------------------------------------------------------------

    fn number(&self, slot: u32) -> u32 {
        self.place.index + slot * self.place.workers
    }

    fn start_of(&self, slot: u32) -> Instant {
        self.place.start + self.scenario.ramp.start_of(self.number(slot))
    }

    fn may_begin(&self) -> bool {
        self.in_flight < self.scenario.in_flight.div_ceil(self.place.workers)
    }

    fn begin_due(&mut self) -> Outcome {
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
        Ok(())
    }

    /// Begins a connection whose intended moment is `due`.
    fn connect(&mut self, slot: u32, due: Instant) -> Outcome {
        let number = self.number(slot);
        let target = self.scenario.targets[number as usize % self.scenario.targets.len()];
        let source = self.scenario.sources.of(number);
        self.ring.connect(slot, source, target)?;
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Connecting;
        entry.with_kernel += 1;
        // Until it is connected this is the intended moment.
        entry.wake = due.0;
        let tally = &mut self.tallies[usize::from(entry.part)];
        tally.counts.attempts += 1;
        tally.lateness.record(self.now.since(due));
        entry.in_flight = true;
        self.in_flight += 1;
        self.greeting.push_back((slot, self.now.0));
        Ok(())
    }

    fn connected(&mut self, slot: u32, result: i32) -> Outcome {
        let errno = self.failed.iter().position(|(failed, _)| *failed == slot);
        let errno = errno.and_then(|at| self.failed.remove(at)).map_or(-result, |(_, errno)| errno);
        let entry = &mut self.slots[slot as usize];
        entry.with_kernel -= 1;
        let due = Instant(std::mem::replace(&mut entry.wake, u64::MAX));
        let tally = &mut self.tallies[usize::from(entry.part)];
        if result < 0 {
            if !self.closing_since.is_some() {
                tally.refuse(reason(errno));
            }
            // The chain may have got as far as the socket, which keeps its place.
            return self.close(slot, After::Over);
        }
        tally.connect.record(self.now.since(due));
        entry.state = State::Open;
        self.levels.open += 1;
        if self.closing_since.is_some() {
            return self.close(slot, After::Over);
        }
        if entry.client.on_end() != OnEnd::Lost {
            // It may never complete a handshake.
            self.landed(slot);
        }
        let speaks = self.call(slot, |client, cx| client.start(cx))?;
        if speaks && !self.slots[slot as usize].receiving {
            self.read_on(slot)?;
        }
        Ok(())
    }

    /// It is not in flight any more: ready, or over.
    fn landed(&mut self, slot: u32) {
        if std::mem::take(&mut self.slots[slot as usize].in_flight) {
            self.in_flight -= 1;
        }
    }

    /// Handshakes that take too long.
    fn overdue(&mut self) -> Outcome {
        let limit = self.scenario.handshake_timeout.as_nanos() as u64;
        while let Some((slot, begun)) = self.greeting.front().copied() {
            let entry = &self.slots[slot as usize];
            let settled = match entry.state {
                State::Connecting => false,
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

    // ---- calls of clients ------------------------------------------------------------------------------

    /// Calls a client and does what follows. False when its connection is being closed.
    fn call(&mut self, slot: u32, what: impl FnOnce(&mut Client, &mut Context<'_>) -> Flow) -> Outcome<bool> {
        let number = self.number(slot);
        let entry = &mut self.slots[slot as usize];
        let was_ready = entry.client.is_ready();
        let mut cx = Context {
            now: self.now,
            unix_start: self.shared.unix_start,
            magic: self.scenario.magic(),
            target: self.scenario.targets[number as usize % self.scenario.targets.len()],
            number,
            out: &mut self.out,
            tally: &mut self.tallies[usize::from(entry.part)],
            shared: self.common,
            origins: &self.shared.origins,
            known: &mut self.known,
            rng: &mut self.rng,
        };
        let flow = what(&mut entry.client, &mut cx);
        if !was_ready && entry.client.is_ready() {
            self.levels.ready += 1;
            self.landed(slot);
        }
        self.settle(slot, flow)
    }

    fn settle(&mut self, slot: u32, flow: Flow) -> Outcome<bool> {
        self.send(slot)?;
        let entry = &mut self.slots[slot as usize];
        match flow {
            Flow::Go => {}
            Flow::Leave => {
                if entry.sending.is_none() {
                    self.leave_by_itself(slot)?;
                    return Ok(false);
                }
                entry.leaving = true;
            }
            Flow::Broken(why) => {
                self.tallies[usize::from(entry.part)].error(why);
                self.target_ended(slot, why)?;
                return Ok(false);
            }
        }
        let wake = entry.client.next_wake().0;
        if wake != entry.wake {
            entry.wake = wake;
            if wake != u64::MAX {
                self.timers.add(wake, slot);
            }
        }
        Ok(true)
    }

    fn timers_due(&mut self) -> Outcome {
        for _ in 0..PER_TURN {
            let Some((at, slot)) = self.timers.take(self.now.0) else { break };
            let entry = &mut self.slots[slot as usize];
            if entry.wake != at {
                continue;
            }
            match entry.state {
                State::Open if !entry.leaving => {
                    // So that the same moment asked for again gets an entry again.
                    entry.wake = u64::MAX;
                    if self.quiet && !self.closing_since.is_some() {
                        // What is due is not begun any more.
                        continue;
                    }
                    if self.call(slot, |client, cx| client.wake(cx))? {
                        self.read_on(slot)?;
                    }
                }
                State::Waiting if !self.quiet => self.connect(slot, Instant(at))?,
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

    fn ping_due(&mut self) -> Outcome {
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

    fn churn_due(&mut self) -> Outcome {
        for _ in 0..PER_TURN {
            if self.churn.take(self.now.0).is_none() {
                break;
            }
            // A round at the most: perhaps nobody is ready.
            for _ in 0..self.slots.len() {
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

    // ---- sockets ---------------------------------------------------------------------------------------

    fn reap(&mut self, wake: &Wake) -> Outcome {
        loop {
            let events = self.ring.events();
            self.now = self.shared.now();
            for event in &events {
                match *event {
                    Event::Failed { slot, errno } => self.failed.push_back((slot, errno)),
                    Event::Connected { slot, result } => self.connected(slot, result)?,
                    Event::Received { slot, result, buffer, more, filling } => {
                        let alive = self.received(slot, result, buffer, more)?;
                        if let Some(buffer) = buffer {
                            self.ring.read(buffer, usize::try_from(result).unwrap_or(0), filling);
                        }
                        if alive {
                            self.after_receive(slot, result, more)?;
                        }
                    }
                    Event::Sent { slot, result } => self.sent(slot, result)?,
                    Event::Closed { slot } => {
                        self.slots[slot as usize].with_kernel -= 1;
                        self.closed(slot);
                    }
                    Event::Woken => {
                        wake.clear();
                        self.ring.arm(wake)?;
                    }
                }
            }
            let none = events.is_empty();
            self.ring.recycle(events);
            self.feed_starved()?;
            if none {
                return Ok(());
            }
        }
    }

    /// Arms the next receive as the client wants to read.
    fn read_on(&mut self, slot: u32) -> Outcome {
        let entry = &mut self.slots[slot as usize];
        if entry.state != State::Open {
            return Ok(());
        }
        match (entry.client.reading(), entry.receiving) {
            (Reading::All, false) => self.ring.receive(slot)?,
            (Reading::Sips { bytes, .. }, false) => self.ring.sip(slot, bytes)?,
            (Reading::All, true) | (Reading::Never, false) => return Ok(()),
            // The receive that is armed reads too much; it is not there any more when this is asked again.
            (Reading::Never | Reading::Sips { .. }, true) => return self.ring.stop_receiving(slot),
        }
        entry.receiving = true;
        entry.with_kernel += 1;
        Ok(())
    }

    /// Something came of a receive: bytes are given to the client. True when its connection goes on.
    fn received(&mut self, slot: u32, result: i32, buffer: Option<u16>, more: bool) -> Outcome<bool> {
        let entry = &mut self.slots[slot as usize];
        if !more {
            entry.receiving = false;
            entry.with_kernel -= 1;
        }
        if entry.state == State::Open
            && !entry.leaving
            && result > 0
            && let Some(buffer) = buffer
        {
            self.read(slot, buffer, result as usize)?;
        }
        if self.slots[slot as usize].state != State::Open {
            self.closed(slot);
            return Ok(false);
        }
        Ok(true)
    }

    /// The connection goes on, or has ended, after a receive with this result.
    fn after_receive(&mut self, slot: u32, result: i32, more: bool) -> Outcome {
        let entry = &self.slots[slot as usize];
        match -result {
            0 => return self.target_ended(slot, "closed by the target"),
            // Who has half a message goes first: otherwise a million halves would be kept at once.
            libc::ENOBUFS if entry.input.is_some() => self.starved.push_front(slot),
            libc::ENOBUFS => self.starved.push_back(slot),
            libc::ECANCELED | libc::EAGAIN | libc::EINTR => {}
            errno if errno > 0 => return self.target_ended(slot, reason(errno)),
            _ => {}
        }
        let entry = &self.slots[slot as usize];
        if more || result == -libc::ENOBUFS {
            return Ok(());
        }
        if let Reading::Sips { every_us, .. } = entry.client.reading() {
            self.sips.add(self.now.0 + u64::from(every_us) * 1_000, slot);
            return Ok(());
        }
        self.read_on(slot)
    }

    /// Arms the receives of some that found no buffer, now that buffers have been given back.
    fn feed_starved(&mut self) -> Outcome {
        for _ in 0..STARVED_PER_TURN {
            let Some(slot) = self.starved.pop_front() else { break };
            self.read_on(slot)?;
        }
        Ok(())
    }

    /// Gives the bytes of a buffer to the client; false when its connection is being closed.
    fn read(&mut self, slot: u32, buffer: u16, len: usize) -> Outcome<bool> {
        let number = self.number(slot);
        let entry = &mut self.slots[slot as usize];
        let was_ready = entry.client.is_ready();
        let bytes = self.ring.bytes(buffer, len);
        let tally = &mut self.tallies[usize::from(entry.part)];
        tally.counts.bytes_in += len as u64;
        let mut cx = Context {
            now: self.now,
            unix_start: self.shared.unix_start,
            magic: self.scenario.magic(),
            target: self.scenario.targets[number as usize % self.scenario.targets.len()],
            number,
            out: &mut self.out,
            tally,
            shared: self.common,
            origins: &self.shared.origins,
            known: &mut self.known,
            rng: &mut self.rng,
        };
        let flow = match entry.input.take() {
            None => {
                let (used, flow) = entry.client.received(&mut cx, bytes);
                let rest = bytes.get(used..).unwrap_or(&[]);
                if !rest.is_empty() && flow == Flow::Go {
                    let mut input = Vec::with_capacity(Client::needs(cx.magic, rest).max(rest.len()));
                    input.extend_from_slice(rest);
                    entry.input = Some(Box::new(input));
                }
                flow
            }
            Some(mut input) => {
                input.extend_from_slice(bytes);
                let needs = Client::needs(cx.magic, &input);
                let (used, flow) =
                    if needs > input.len() { (0, Flow::Go) } else { entry.client.received(&mut cx, &input) };
                input.drain(..used);
                if needs > input.len() && used == 0 {
                    input.reserve_exact(needs - input.len());
                }
                entry.input = (!input.is_empty()).then_some(input);
                flow
            }
        };
        if !was_ready && entry.client.is_ready() {
            self.levels.ready += 1;
            self.landed(slot);
        }
        self.settle(slot, flow)
    }

    /// Sends what the client has said, behind what is being sent.
    fn send(&mut self, slot: u32) -> Outcome {
        if self.out.is_empty() {
            return Ok(());
        }
        let entry = &mut self.slots[slot as usize];
        let tally = &mut self.tallies[usize::from(entry.part)];
        tally.counts.bytes_out += self.out.len() as u64;
        if let Some(sending) = &mut entry.sending {
            if sending.next.len() + self.out.len() > MOST_WAITING {
                tally.error("more to send than the target takes");
            } else {
                sending.next.extend_from_slice(&self.out);
            }
            self.out.clear();
            return Ok(());
        }
        let mut sending = self.spare.pop().unwrap_or_default();
        std::mem::swap(&mut sending.now, &mut self.out);
        self.out.clear();
        self.ring.send(slot, &sending.now)?;
        entry.sending = Some(sending);
        entry.with_kernel += 1;
        Ok(())
    }

    fn sent(&mut self, slot: u32, result: i32) -> Outcome {
        let entry = &mut self.slots[slot as usize];
        entry.with_kernel -= 1;
        let Some(mut sending) = entry.sending.take() else { return Ok(()) };
        let whole = usize::try_from(result) == Ok(sending.now.len());
        sending.now.clear();
        if entry.state == State::Open && whole && !sending.next.is_empty() {
            std::mem::swap(&mut sending.now, &mut sending.next);
            self.ring.send(slot, &sending.now)?;
            entry.sending = Some(sending);
            entry.with_kernel += 1;
            return Ok(());
        }
        sending.next.clear();
        if self.spare.len() < SPARE && sending.now.capacity() + sending.next.capacity() <= SPARE_BYTES {
            self.spare.push(sending);
        }
        // A failed send is followed by the end of the receive, which is counted; who does not read is ended here.
        match (entry.state, whole) {
            (State::Open, true) if entry.leaving => self.leave_by_itself(slot),
            (State::Open, false) if !entry.receiving => self.target_ended(slot, reason(-result)),
            (State::Open, _) => Ok(()),
            _ => {
                self.closed(slot);
                Ok(())
            }
        }
    }

    // ---- ends ------------------------------------------------------------------------------------------

    /// The client goes because its behaviour wants it.
    fn leave_by_itself(&mut self, slot: u32) -> Outcome {
        let again = self.slots[slot as usize].client.again_us();
        self.leave(slot, if again.is_some() { After::Again } else { After::Over })?;
        if let Some(us) = again {
            self.slots[slot as usize].wake = self.now.0 + u64::from(us) * 1_000;
        }
        Ok(())
    }

    /// The client goes, at once.
    fn leave(&mut self, slot: u32, after: After) -> Outcome {
        let entry = &self.slots[slot as usize];
        self.tallies[usize::from(entry.part)].counts.left += 1;
        self.close(slot, after)
    }

    /// The target has ended the connection, or made it useless.
    fn target_ended(&mut self, slot: u32, why: &'static str) -> Outcome {
        let entry = &self.slots[slot as usize];
        let tally = &mut self.tallies[usize::from(entry.part)];
        let on_end = entry.client.on_end();
        if !entry.leaving
            && let Some(complaint) = entry.client.complaint()
        {
            tally.error(complaint);
        }
        match on_end {
            _ if entry.leaving => tally.counts.left += 1,
            OnEnd::Deserved { .. } => tally.counts.thrown_out += 1,
            OnEnd::Lost if entry.client.is_ready() => {
                tally.counts.lost += 1;
                tally.error(why);
            }
            OnEnd::Lost => tally.refuse(why),
        }
        match on_end {
            OnEnd::Deserved { again_us } if !self.closing_since.is_some() => {
                self.close(slot, After::Again)?;
                self.slots[slot as usize].wake = self.now.0 + u64::from(again_us) * 1_000;
                Ok(())
            }
            _ => self.close(slot, After::Over),
        }
    }

    fn close(&mut self, slot: u32, after: After) -> Outcome {
        self.ring.close(slot)?;
        let entry = &mut self.slots[slot as usize];
        if entry.state == State::Open {
            self.levels.open -= 1;
            let was_ready = entry.client.ended(&mut self.tallies[usize::from(entry.part)]);
            self.levels.ready -= u64::from(was_ready);
        }
        self.landed(slot);
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Closing;
        entry.with_kernel += 1;
        entry.input = None;
        entry.leaving = false;
        // Now, unless the caller says later.
        entry.wake = self.now.0;
        entry.after = if self.closing_since.is_some() { After::Over } else { after };
        Ok(())
    }

    /// Something of a slot that is being closed is back from the kernel.
    fn closed(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        if entry.state != State::Closing || entry.with_kernel > 0 {
            return;
        }
        match entry.after {
            After::Over => self.over(slot),
            After::Again => {
                entry.state = State::Waiting;
                self.timers.add(entry.wake, slot);
            }
        }
    }

    fn over(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Over;
        entry.wake = u64::MAX;
        self.levels.over += 1;
    }

    // ---- reports ---------------------------------------------------------------------------------------

    fn report(&mut self) {
        self.next_report = self.now.0 + REPORT_EVERY;
        let (newest, since) = self.shared.origins.newest();
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
        let (newest, since) = self.shared.origins.newest();
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

/// What an errno of a connection means.
fn reason(errno: i32) -> &'static str {
    match errno {
        libc::ECONNREFUSED => "connection refused",
        libc::ECONNRESET => "reset by the target",
        libc::EPIPE => "closed by the target",
        libc::ETIMEDOUT => "timed out",
        libc::ENETUNREACH | libc::EHOSTUNREACH => "unreachable",
        libc::EADDRNOTAVAIL => "no source address or port left",
        libc::EADDRINUSE => "no source port left",
        libc::ENFILE | libc::EMFILE => "no files left on this host",
        libc::ENOMEM | libc::ENOBUFS => "no memory left on this host",
        libc::EACCES | libc::EPERM => "not permitted",
        libc::ECANCELED => "cancelled",
        _ => "another error of the kernel",
    }
}
