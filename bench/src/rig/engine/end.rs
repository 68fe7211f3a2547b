//! Connections end: by the client's wish, by the target, by the run's end; and what follows.

use breakwater::base::End;

use super::aside::Crypt;
use super::slot::{After, State};
use super::worker::Worker;
use crate::Outcome;
use crate::rig::behaviour::OnEnd;

impl Worker<'_> {
    /// The client goes because its behaviour wants it.
    pub(super) fn leave_by_itself(&mut self, slot: u32) -> Outcome {
        let entry = &self.slots[slot as usize];
        let again = entry.client.again_us();
        self.tallies[usize::from(entry.part)].counts.left += 1;
        self.say_farewell(slot)?;
        self.close_for(slot, again)
    }

    /// The client goes, at once.
    pub(super) fn leave(&mut self, slot: u32, after: After) -> Outcome {
        let entry = &self.slots[slot as usize];
        self.tallies[usize::from(entry.part)].counts.left += 1;
        self.say_farewell(slot)?;
        self.close(slot, after)
    }

    /// close_notify, sent before the close that follows; not while something else is being sent, which the close cuts off.
    pub(super) fn say_farewell(&mut self, slot: u32) -> Outcome {
        let entry = &mut self.slots[slot as usize];
        if entry.state == State::Open
            && entry.sending.is_none()
            && let Some(aside) = &mut entry.aside
        {
            aside.crypt.farewell(&mut self.wire);
            self.transmit(slot)?;
        }
        Ok(())
    }

    /// The target has ended the connection, or made it useless.
    pub(super) fn target_ended(&mut self, slot: u32, why: &'static str) -> Outcome {
        let entry = &self.slots[slot as usize];
        let tally = &mut self.tallies[usize::from(entry.part)];
        let on_end = entry.client.on_end();
        self.levels.last_end = self.now.0;
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
        let again = match on_end {
            OnEnd::Deserved { again_us } => Some(again_us),
            // It was going anyway.
            OnEnd::Lost if entry.leaving => entry.client.again_us(),
            OnEnd::Lost => None,
        };
        self.close_for(slot, again)
    }

    /// Closes; it connects again after so many microseconds, or never.
    pub(super) fn close_for(&mut self, slot: u32, again_us: Option<u32>) -> Outcome {
        self.close(slot, if again_us.is_some() { After::Again } else { After::Over })?;
        if let Some(us) = again_us {
            self.slots[slot as usize].wake = self.now.0 + u64::from(us) * 1_000;
        }
        Ok(())
    }

    pub(super) fn close(&mut self, slot: u32, after: After) -> Outcome {
        self.ring.close(slot)?;
        let entry = &mut self.slots[slot as usize];
        if entry.state == State::Open {
            self.levels.open -= 1;
            let was_ready = entry.client.ended(&mut self.tallies[usize::from(entry.part)]);
            self.levels.ready -= u64::from(was_ready);
        }
        self.landed(slot);
        self.forget_aside(slot);
        let entry = &mut self.slots[slot as usize];
        let after = if self.closing_since.is_some() { After::Over } else { after };
        entry.state = State::Closing(after);
        entry.with_kernel += 1;
        entry.leaving = false;
        // Now, unless the caller says later.
        entry.wake = self.now.0;
        Ok(())
    }

    /// What is kept beside the client goes; a handshake that was not completed has failed.
    fn forget_aside(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        let Some(aside) = entry.aside.take().filter(|aside| aside.crypt.is_shaking()) else { return };
        self.tallies[usize::from(entry.part)].counts.transport_failed += 1;
        if matches!(aside.crypt, Crypt::TlsBegins | Crypt::TlsShakes(_)) {
            self.tls.ended(self.now);
        }
    }

    /// Something of a slot that is being closed is back from the kernel.
    pub(super) fn closed(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        let State::Closing(after) = entry.state else { return };
        if entry.with_kernel > 0 {
            return;
        }
        match after {
            After::Over => self.over(slot),
            After::Again => {
                entry.state = State::Waiting;
                self.timers.add(entry.wake, slot);
            }
        }
    }

    pub(super) fn over(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Over;
        entry.wake = u64::MAX;
        self.levels.over += 1;
        self.settled(slot);
    }
}

/// Why a transport came to its end.
pub(super) fn said(end: End) -> &'static str {
    match end {
        End::TlsAlert => "ended by the target with a TLS alert",
        End::TlsHandshake => "the TLS handshake failed (certificate, name or message)",
        End::NotTls => "what came is no TLS",
        End::V2Garbage => "no BIP324 within 4,111 bytes",
        other => other.label(),
    }
}

/// What an errno of a connection means.
pub(super) fn reason(errno: i32) -> &'static str {
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
