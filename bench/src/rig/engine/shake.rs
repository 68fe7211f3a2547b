//! Handshakes of transports, a few a turn: what a storm of them would hold up is the announcements that are measured.

use breakwater::transport::{Role, Shake, v2};

use super::aside::{Aside, Crypt};
use super::end::said;
use super::slot::State;
use super::worker::Worker;
use crate::Outcome;
use crate::rig::client::Flow;
use crate::rig::scenario::Transport;

/// Steps of handshakes per turn, each up to a third of a millisecond: then announcements are looked at again.
const PER_TURN: usize = 8;
/// Bytes of a target's handshake, certificates included.
pub(super) const MOST_INPUT: usize = 128 * 1024;

impl Worker<'_> {
    /// The connection is there: its transport is to be opened.
    pub(super) fn begin_shaking(&mut self, slot: u32, transport: Transport) {
        let crypt = if transport == Transport::Tls { Crypt::TlsBegins } else { Crypt::V2Begins };
        let entry = &mut self.slots[slot as usize];
        entry.aside = Some(Aside::new(crypt));
        self.tallies[usize::from(entry.part)].counts.transport_begun += 1;
        self.queue_shaking(slot);
    }

    /// Bytes have come for a handshake that goes on.
    pub(super) fn queue_shaking(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        if let Some(aside) = &mut entry.aside
            && !std::mem::replace(&mut aside.is_queued, true)
        {
            self.shaking.push_back((slot, entry.visit));
        }
    }

    /// A TLS handshake has come to its end: those that waited for its ticket go on.
    pub(super) fn tls_ended(&mut self) {
        if self.tls.ended() {
            self.shaking.extend(self.held.drain(..));
        }
    }

    /// Goes on with a few.
    pub(super) fn shake_some(&mut self) -> Outcome {
        for _ in 0..PER_TURN {
            let Some((slot, visit)) = self.shaking.pop_front() else { break };
            let entry = &mut self.slots[slot as usize];
            if entry.visit != visit || entry.state != State::Open || entry.leaving {
                continue;
            }
            if let Some(Crypt::TlsBegins) = entry.aside.as_ref().map(|aside| &aside.crypt)
                && self.tls.is_held()
            {
                self.held.push((slot, visit));
                continue;
            }
            self.now = self.shared.now();
            if let Some(aside) = entry.aside.take() {
                self.step(slot, aside)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, slot: u32, mut aside: Box<Aside>) -> Outcome {
        aside.is_queued = false;
        let magic = self.scenario.magic();
        let crypt = std::mem::replace(&mut aside.crypt, Crypt::Plain);
        let is_tls = matches!(crypt, Crypt::TlsBegins | Crypt::TlsShakes(_));
        let (used, crypt) = match crypt {
            Crypt::TlsBegins => match self.tls.begin(&mut self.rng, &mut self.wire) {
                Ok(handshake) => (0, Ok(Crypt::TlsShakes(handshake))),
                Err(end) => (0, Err(end)),
            },
            Crypt::TlsShakes(handshake) => match handshake.step(&mut aside.input, &mut self.wire) {
                Shake::More { handshake, used } => (used, Ok(Crypt::TlsShakes(handshake))),
                Shake::Done { session, used } => (used, Ok(Crypt::Tls(session))),
                Shake::Failed(end) => (0, Err(end)),
            },
            Crypt::V2Begins => {
                let begun = v2::Handshake::new(Role::Initiator, magic, &mut self.rng, &mut self.wire);
                (0, Ok(Crypt::V2Shakes(begun)))
            }
            Crypt::V2Shakes(handshake) => match handshake.step(&mut aside.input, &mut self.wire) {
                Shake::More { handshake, used } => (used, Ok(Crypt::V2Shakes(handshake))),
                Shake::Done { session, used } => (used, Ok(Crypt::V2(session))),
                Shake::Failed(end) => (0, Err(end)),
            },
            open => (0, Ok(open)),
        };
        aside.input.drain(..used.min(aside.input.len()));
        let entry = &mut self.slots[slot as usize];
        match crypt {
            Ok(crypt) => {
                let is_open = !crypt.is_shaking();
                let counts = &mut self.tallies[usize::from(entry.part)].counts;
                match &crypt {
                    Crypt::Tls(session) if session.is_resumed() => counts.transport_resumed += 1,
                    Crypt::Tls(_) => counts.transport_full += 1,
                    Crypt::V2(_) => counts.transport_v2 += 1,
                    _ => {}
                }
                aside.crypt = crypt;
                if is_open && aside.input.is_empty() {
                    // The room of the handshake's flights.
                    aside.input = Vec::new();
                }
                entry.aside = Some(aside);
                self.transmit(slot)?;
                if !is_open {
                    return Ok(());
                }
                self.opened(slot)?;
                if is_tls {
                    self.tls_ended();
                }
                Ok(())
            }
            Err(end) => {
                // Still a handshake, for the counters of its end.
                aside.crypt = if is_tls { Crypt::TlsBegins } else { Crypt::V2Begins };
                entry.aside = Some(aside);
                // The alert, if there is one.
                self.transmit(slot)?;
                self.settle(slot, Flow::Broken(said(end))).map(drop)
            }
        }
    }

    /// Its transport is open: the client speaks, and what came behind the handshake is read.
    fn opened(&mut self, slot: u32) -> Outcome {
        if !self.call(slot, |client, cx| client.start(cx))? {
            return Ok(());
        }
        let waits = self.slots[slot as usize].aside.as_ref().is_some_and(|aside| !aside.input.is_empty());
        if waits { self.read_aside(slot).map(drop) } else { Ok(()) }
    }
}
