//! Bytes in and out: what completes goes to the clients, what they say to the kernel.

use breakwater::transport::Opened;
use breakwater::wire::Framing;

use super::aside::{Aside, Crypt};
use super::end::{reason, said};
use super::ring::Event;
use super::shake::MOST_INPUT;
use super::slot::State;
use super::worker::Worker;
use crate::Outcome;
use crate::os::Wake;
use crate::rig::behaviour::OnEnd;
use crate::rig::client::{Client, Context, Flow, Reading};

/// Receives armed again per reaping for those that found no buffer.
const STARVED_PER_TURN: usize = 64;
/// Boxes of send buffers kept for the next sender; larger ones are given back to the allocator.
const SPARE: usize = 256;
const SPARE_BYTES: usize = 4_096;
/// Bytes a client may have waiting behind what is being sent; a behaviour that says more is mistaken.
const MOST_WAITING: usize = 16 * 1024 * 1024;

/// What a client may use. A macro, because the client itself stays borrowed from another field of the worker.
macro_rules! context {
    ($worker:ident, $number:expr, $part:expr, $framing:expr) => {
        Context {
            now: $worker.now,
            unix_start: $worker.shared.unix_start,
            magic: $worker.scenario.magic(),
            framing: $framing,
            target: $worker.scenario.route($part, $number).target,
            ping_every: $worker.ping_every,
            number: $number,
            out: &mut $worker.out,
            tally: &mut $worker.tallies[$part],
            shared: $worker.common,
            origins: &$worker.shared.origins,
            known: &mut $worker.known,
            rng: &mut $worker.rng,
        }
    };
}

impl Worker<'_> {
    pub(super) fn reap(&mut self, wake: &Wake) -> Outcome {
        loop {
            let events = self.ring.events();
            self.now = self.shared.now();
            for event in &events {
                match *event {
                    // The rest of the chain is cancelled without a word (CQE_SKIP_SUCCESS).
                    Event::Failed { slot, errno } => self.connected(slot, -errno)?,
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
                    Event::Ended { slot } => self.ended(slot)?,
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
    pub(super) fn read_on(&mut self, slot: u32) -> Outcome {
        let entry = &mut self.slots[slot as usize];
        if entry.state != State::Open {
            return Ok(());
        }
        match (entry.client.reading(), entry.receiving) {
            (Reading::All, false) => self.ring.receive(slot)?,
            (Reading::Sips { bytes, .. }, false) => self.ring.sip(slot, bytes)?,
            (Reading::All, true) => return Ok(()),
            // Nothing is read; that the other side has ended is noticed all the same.
            (Reading::Never, false) => self.ring.await_end(slot)?,
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
            0 => return self.target_ended(slot, entry.when_closed()),
            // Who has half a message goes first: otherwise a million halves would be kept at once.
            libc::ENOBUFS if entry.has_half() => self.starved.push_front(slot),
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

    /// The other side of a slot that does not read has ended, or its poll was cancelled by our own close.
    fn ended(&mut self, slot: u32) -> Outcome {
        let entry = &mut self.slots[slot as usize];
        entry.receiving = false;
        entry.with_kernel -= 1;
        if entry.state == State::Open {
            let why = entry.when_closed();
            return self.target_ended(slot, why);
        }
        self.closed(slot);
        Ok(())
    }

    /// Arms the receives of some that found no buffer, now that buffers have been given back.
    fn feed_starved(&mut self) -> Outcome {
        for _ in 0..STARVED_PER_TURN {
            let Some(slot) = self.starved.pop_front() else { break };
            self.read_on(slot)?;
        }
        Ok(())
    }

    /// Gives the bytes of a buffer to the client, opened in place; false when its connection is being closed.
    fn read(&mut self, slot: u32, buffer: u16, len: usize) -> Outcome<bool> {
        let entry = &mut self.slots[slot as usize];
        self.tallies[usize::from(entry.part)].counts.bytes_in += len as u64;
        let Some(aside) = entry.aside.as_mut().filter(|aside| !aside.is_empty()) else {
            return self.read_in_place(slot, buffer, len);
        };
        aside.input.extend_from_slice(self.ring.bytes(buffer, len));
        if !aside.crypt.is_shaking() {
            return self.read_aside(slot);
        }
        if aside.input.len() > MOST_INPUT {
            self.target_ended(slot, "a handshake of the transport beyond 128 KiB")?;
            return Ok(false);
        }
        self.queue_shaking(slot);
        Ok(true)
    }

    fn read_in_place(&mut self, slot: u32, buffer: u16, len: usize) -> Outcome<bool> {
        let number = self.number(slot);
        let entry = &mut self.slots[slot as usize];
        let was_ready = entry.client.is_ready();
        let bytes = self.ring.bytes_mut(buffer, len);
        let (opened, framing) = match &mut entry.aside {
            None => {
                let all = Opened { plain: bytes.len(), used: bytes.len(), need: 0, closed: false };
                (Ok(all), Framing::V1(self.scenario.magic()))
            }
            Some(aside) => {
                (aside.crypt.open(bytes, &mut self.wire), aside.crypt.framing(self.scenario.magic()))
            }
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(end) => return self.settle(slot, Flow::Broken(said(end))),
        };
        let (plain, sealed) =
            (bytes.get(..opened.plain).unwrap_or(&[]), bytes.get(opened.used..).unwrap_or(&[]));
        let part = usize::from(entry.part);
        let mut cx = context!(self, number, part, framing);
        let (used, flow) = entry.client.received(&mut cx, plain);
        let rest = plain.get(used..).unwrap_or(&[]);
        if flow == Flow::Go && !opened.closed && !(rest.is_empty() && sealed.is_empty()) {
            let aside = entry.aside.get_or_insert_with(|| Aside::new(Crypt::Plain));
            aside.keep(rest, sealed, Client::needs(framing, rest), opened.need);
        }
        self.after_reading(slot, was_ready, flow, opened.closed)
    }

    /// Gives what is kept aside to the client, as far as it is whole; false when its connection is being closed.
    pub(super) fn read_aside(&mut self, slot: u32) -> Outcome<bool> {
        let number = self.number(slot);
        let entry = &mut self.slots[slot as usize];
        let was_ready = entry.client.is_ready();
        let Some(aside) = &mut entry.aside else { return Ok(true) };
        let opened = match aside.open(&mut self.wire) {
            Ok(opened) => opened,
            Err(end) => return self.settle(slot, Flow::Broken(said(end))),
        };
        let framing = aside.crypt.framing(self.scenario.magic());
        let part = usize::from(entry.part);
        let mut cx = context!(self, number, part, framing);
        let needs = Client::needs(framing, aside.plain());
        let (used, flow) = match needs > aside.plain().len() {
            true => (0, Flow::Go),
            false => entry.client.received(&mut cx, aside.plain()),
        };
        aside.used(used, needs);
        if aside.is_idle() {
            entry.aside = None;
        }
        self.after_reading(slot, was_ready, flow, opened.closed)
    }

    fn after_reading(&mut self, slot: u32, was_ready: bool, flow: Flow, closed: bool) -> Outcome<bool> {
        self.note_ready(slot, was_ready);
        let goes_on = self.settle(slot, flow)?;
        if goes_on && closed {
            self.say_farewell(slot)?;
            self.target_ended(slot, "closed by the target")?;
            return Ok(false);
        }
        Ok(goes_on)
    }

    /// It may have become ready.
    fn note_ready(&mut self, slot: u32, was_ready: bool) {
        if !was_ready && self.slots[slot as usize].client.is_ready() {
            self.levels.ready += 1;
            self.landed(slot);
            self.settled(slot);
        }
    }

    /// Seals what the client has said, and sends it.
    fn send(&mut self, slot: u32) -> Outcome {
        let entry = &mut self.slots[slot as usize];
        if !self.out.is_empty() {
            let waiting = entry.sending.as_ref().map_or(0, |sending| sending.next.len());
            if waiting + self.out.len() > MOST_WAITING {
                // Before it is sealed: what is sealed must be sent.
                self.tallies[usize::from(entry.part)].error("more to send than the target takes");
            } else {
                match &mut entry.aside {
                    Some(aside) => aside.crypt.seal(&self.out, &mut self.wire),
                    None if self.wire.is_empty() => std::mem::swap(&mut self.wire, &mut self.out),
                    None => self.wire.extend_from_slice(&self.out),
                }
            }
            self.out.clear();
        }
        self.transmit(slot)
    }

    /// Sends what is to go over the wire as it is, behind what is being sent.
    pub(super) fn transmit(&mut self, slot: u32) -> Outcome {
        if self.wire.is_empty() {
            return Ok(());
        }
        let entry = &mut self.slots[slot as usize];
        let tally = &mut self.tallies[usize::from(entry.part)];
        tally.counts.bytes_out += self.wire.len() as u64;
        if let Some(sending) = &mut entry.sending {
            sending.next.extend_from_slice(&self.wire);
            self.wire.clear();
            return Ok(());
        }
        let mut sending = self.spare.pop().unwrap_or_default();
        std::mem::swap(&mut sending.now, &mut self.wire);
        self.wire.clear();
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

    /// Calls a client and does what follows. False when its connection is being closed.
    pub(super) fn call(
        &mut self,
        slot: u32,
        what: impl FnOnce(&mut Client, &mut Context<'_>) -> Flow,
    ) -> Outcome<bool> {
        let number = self.number(slot);
        let entry = &mut self.slots[slot as usize];
        let was_ready = entry.client.is_ready();
        let (part, magic) = (usize::from(entry.part), self.scenario.magic());
        let framing = entry.aside.as_ref().map_or(Framing::V1(magic), |aside| aside.crypt.framing(magic));
        let mut cx = context!(self, number, part, framing);
        let flow = what(&mut entry.client, &mut cx);
        self.note_ready(slot, was_ready);
        self.settle(slot, flow)
    }

    pub(super) fn settle(&mut self, slot: u32, flow: Flow) -> Outcome<bool> {
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
                if entry.client.on_end() != OnEnd::Lost {
                    // Those who are lost or refused are counted by this reason below.
                    self.tallies[usize::from(entry.part)].error(why);
                }
                self.target_ended(slot, why)?;
                return Ok(false);
            }
        }
        self.wake_at(slot);
        Ok(true)
    }
}
