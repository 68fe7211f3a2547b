//! Encrypted clients: what comes is opened before it is read, what goes is sealed when it is sent.
//!
//! - A record in parts waits in the client's `sealed`, like a message in parts in its `input`, under the same budget.
//! - What a transport itself has to say (an answer to a key update, an alert, the handshake) is `control`: sealed already, sent
//!   before anything else.
//! - A client that has broken a rule hears the alert first: it is `CLOSING` until that is sent, nothing of it is read any more.

use super::core::{Client, Core};
use super::door::is_told_where_else;
use super::flow::FREE_INPUT;
use crate::base::limits::{CLOSE_TIMEOUT, HANDSHAKE_INPUT};
use crate::base::{ClientId, End};
use crate::client::Flags;
use crate::io::Payload;
use crate::transport::Channel;
use crate::transport::v2::{self, First};

/// Sealed buffers up to this come from the small list.
const SMALL_SEND: usize = 8 * 1024;
/// Bytes of a handshake that may wait when messages in parts have used up their half of the buffers.
const STRANGER_INPUT: usize = 4 * 1024;

impl Core {
    /// Bytes have come for a client whose transport is not plain, or not known.
    pub(super) fn take_sealed(&mut self, id: ClientId, bytes: &mut [u8]) -> Result<(), End> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        match &client.channel {
            Channel::Plain => self.take_plain(id, bytes),
            Channel::Tls(_) | Channel::V2(_) => self.open(id, bytes),
            Channel::Fresh => self.tell_apart(id, bytes),
            Channel::TlsFresh | Channel::TlsShaking(_) | Channel::V2Fresh | Channel::V2Shaking(_) => {
                self.keep_sealed(id, bytes)
            }
        }
    }

    /// v1 or v2, by the first bytes. A v1 `version` comes in one piece: nothing is copied then.
    fn tell_apart(&mut self, id: ClientId, bytes: &mut [u8]) -> Result<(), End> {
        let magic = self.config.magic;
        let mut first = self.take_kept(id);
        let seen = if first.is_empty() {
            &*bytes
        } else {
            self.inputs += self.pool.append(&mut first, bytes);
            &first
        };
        let kind = v2::first(magic, seen);
        let result = match (kind, self.clients.get_mut(id)) {
            (First::Incomplete | First::V2, _) => self.keep_sealed(id, seen),
            (First::V1, Some(client)) => {
                client.channel = Channel::Plain;
                self.take_plain(id, seen)
            }
            (First::OtherNetwork, _) => Err(End::WrongMagic),
            (First::V1, None) => Ok(()),
        };
        self.give_input(first);
        if kind == First::V2 && result.is_ok() {
            self.begin_v2(id);
        }
        result
    }

    /// Opens what has come, behind what was kept, and reads it.
    fn open(&mut self, id: ClientId, bytes: &mut [u8]) -> Result<(), End> {
        let mut kept = self.take_kept(id);
        let result = if kept.is_empty() {
            self.open_and_read(id, bytes)
                .and_then(|used| self.keep_sealed(id, bytes.get(used..).unwrap_or(&[])))
        } else {
            self.inputs += self.pool.append(&mut kept, bytes);
            self.open_and_read(id, &mut kept).map(|used| {
                kept.drain(..used);
            })
        };
        if result.is_err() || kept.is_empty() || self.clients.get_mut(id).is_none() {
            self.give_input(kept);
            return result;
        }
        // Kept once more, under the same budget.
        let over = self.inputs > self.config.buffer_budget / 2;
        if over && kept.len() > FREE_INPUT {
            self.give_input(kept);
            return Err(End::NoBuffer);
        }
        self.put_kept(id, kept);
        Ok(())
    }

    /// Opens whole records in place and reads what is in them. Returns the bytes used.
    fn open_and_read(&mut self, id: ClientId, bytes: &mut [u8]) -> Result<usize, End> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(bytes.len()) };
        let mut reply = std::mem::take(&mut self.reply);
        let opened = client.channel.open(bytes, &mut reply);
        self.say_control(id, &reply);
        reply.clear();
        self.reply = reply;
        let opened = opened?;
        let plain = bytes.get(..opened.plain).unwrap_or(&[]);
        if !plain.is_empty() {
            self.take_plain(id, plain)?;
        }
        if opened.closed {
            self.close_after(id, End::Closed);
            return Ok(bytes.len());
        }
        Ok(opened.used)
    }

    /// Keeps the beginning of a record, or bytes of a handshake.
    pub(super) fn keep_sealed(&mut self, id: ClientId, bytes: &[u8]) -> Result<(), End> {
        if bytes.is_empty() {
            return Ok(());
        }
        let over = self.inputs > self.config.buffer_budget / 2;
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let open = client.channel.is_open();
        let active = match &mut client.active {
            Some(active) => active,
            none => none.insert(self.spare.pop().unwrap_or_default()),
        };
        // Strangers give way first.
        let most = if open { FREE_INPUT } else { STRANGER_INPUT };
        let len = active.sealed.len() + bytes.len();
        if over && len > most {
            return Err(End::NoBuffer);
        }
        if !open && len > HANDSHAKE_INPUT {
            return Err(End::Oversize);
        }
        self.inputs += self.pool.append(&mut active.sealed, bytes);
        Ok(())
    }

    /// Takes what was kept of the client's bytes, to be given back by `give_input` or kept again.
    pub(super) fn take_kept(&mut self, id: ClientId) -> Vec<u8> {
        let active = self.clients.get_mut(id).and_then(|c| c.active.as_mut());
        active.map(|active| std::mem::take(&mut active.sealed)).unwrap_or_default()
    }

    /// Keeps them again.
    pub(super) fn put_kept(&mut self, id: ClientId, kept: Vec<u8>) {
        if kept.is_empty() {
            return self.give_input(kept);
        }
        if let Some(active) = self.active(id) {
            active.sealed = kept;
        }
    }

    /// Bytes of the transport itself, sealed already: they go out before anything that is sealed later.
    pub(super) fn say_control(&mut self, id: ClientId, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.active(id).is_none() {
            return;
        }
        if let Some(active) = self.clients.get_mut(id).and_then(|c| c.active.as_mut()) {
            self.pool.append(&mut active.control, bytes);
        }
    }

    /// Sends what the transport has to say. True when something was sent.
    pub(super) fn send_control(&mut self, id: ClientId) -> bool {
        let Some(active) = self.clients.get_mut(id).and_then(|c| c.active.as_mut()) else { return false };
        if active.control.is_empty() {
            return false;
        }
        let control = std::mem::take(&mut active.control);
        self.send_raw(id, Payload::Owned(control));
        true
    }

    /// Ends a client when its transport's last word has been sent, at once when there is none.
    pub(super) fn fail(&mut self, id: ClientId, end: End) {
        // Who finds no slot has just been told where else to go.
        let has_word = self.clients.get_mut(id).is_some_and(|c| {
            let told = is_told_where_else(end) && c.is(Flags::SENDING);
            told || c.active.as_ref().is_some_and(|active| !active.control.is_empty())
        });
        if has_word {
            self.closing(id, end);
        } else {
            self.end(id, end);
        }
    }

    /// Says goodbye in the transport's way, then ends the client.
    fn close_after(&mut self, id: ClientId, end: End) {
        let mut reply = std::mem::take(&mut self.reply);
        if let Some(client) = self.clients.get_mut(id) {
            client.channel.close(&mut reply);
        }
        self.say_control(id, &reply);
        reply.clear();
        self.reply = reply;
        self.closing(id, end);
    }

    fn closing(&mut self, id: ClientId, end: End) {
        let now = self.now.secs();
        let Some(client) = self.clients.get_mut(id) else { return };
        client.flags |= Flags::CLOSING;
        client.send_begun = now;
        if let Some(active) = self.active(id) {
            active.closing.get_or_insert(end);
        }
        // A second entry: it ends with the client.
        self.wheel.add(id, now + CLOSE_TIMEOUT.as_secs() as u32 + 1);
    }

    /// Seals a payload when the client's transport does that.
    pub(super) fn seal(&mut self, id: ClientId, payload: Payload) -> Payload {
        let Some(client) = self.clients.get_mut(id).filter(|c| c.channel.is_sealed()) else { return payload };
        let frames = payload.as_slice();
        let room = client.channel.sealed_len(frames.len());
        // What the transport had to say was sealed before this and goes before it.
        let control = client.active.as_mut().filter(|active| !active.control.is_empty());
        let mut sealed = match control.map(|active| std::mem::take(&mut active.control)) {
            Some(control) => control,
            None if room <= SMALL_SEND => self.pool.take(),
            None => self.pool.take_large(room),
        };
        let before = sealed.capacity();
        client.channel.seal(frames, &mut sealed);
        self.pool.grown(before, &sealed);
        if let Payload::Owned(buffer) = payload {
            self.pool.give(buffer);
        }
        Payload::Owned(sealed)
    }

    /// The last words of a client that we end, when they can be said now. Not waited for: a send to a socket with room is over
    /// before the close behind it is begun.
    pub(super) fn say_goodbye(&mut self, id: ClientId, client: &mut Client) {
        if !matches!(client.channel, Channel::Tls(_)) || client.is(Flags::CLOSING) {
            return;
        }
        let mut last = self.pool.take();
        let before = last.capacity();
        client.channel.close(&mut last);
        self.pool.grown(before, &last);
        if last.is_empty() {
            return self.pool.give(last);
        }
        self.ops.push(crate::io::Op::Send { client: id, conn: client.conn, payload: Payload::Owned(last) });
    }
}
