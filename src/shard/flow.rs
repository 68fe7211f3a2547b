//! The flow of one client: bytes in, messages, replies out, one send at a time.
//!
//! `flow` is called whenever something has changed for a client; it does the one next thing:
//! the rest of a message, a block announcement, the next part of a request, the next messages of
//! the input, a transaction announcement, and otherwise waits for bytes.

use super::active::{Active, Waiting};
use super::core::{Client, Core};
use crate::base::limits::{FILE_CHUNK, HEADER_LEN, LARGE_SEND, MAX_MESSAGE, READ_AHEAD, REPLY_SOFT_LIMIT};
use crate::base::{ClientId, End};
use crate::client::{Effect, Flags, handle};
use crate::io::{BufferId, IoEnd, Op, Payload};
use crate::transport::Channel;
use crate::wire::{Step, parse};

/// Input that waits in a client beyond this must fit the shard's budget, or the client ends.
pub(super) const FREE_INPUT: usize = 64 * 1024;
/// An answer in memory goes out in slices of this size: whole for the ring (256 KiB pieces), and 2.2 KB/s are enough
/// to take one in time.
const SEND_SLICE: usize = 256 * 1024;
/// Clients that may wait for the hub before reading stops.
pub(super) const OUTBOX_SOFT: usize = 1_024;

impl Core {
    /// Bytes have come for a client.
    pub(super) fn received(&mut self, id: ClientId, buffer: BufferId, bytes: &mut [u8]) {
        self.counters.bytes_in += bytes.len() as u64;
        let now = self.now.secs();
        if let Some(client) = self.clients.get_mut(id) {
            client.flags.remove(Flags::RECEIVING);
            client.heard = now;
            client.account.bytes_in += bytes.len() as u64;
            let closing = client.is(Flags::CLOSING);
            let result = match client.channel {
                _ if closing => Ok(()),
                Channel::Plain => self.take_plain(id, bytes),
                _ => self.take_sealed(id, bytes),
            };
            if let Err(end) = result {
                self.fail(id, end);
            }
        }
        self.charge_up(id, bytes.len());
        self.ops.push(Op::Recycle(buffer));
        self.flow(id);
    }

    /// Bytes of messages.
    pub(super) fn take_plain(&mut self, id: ClientId, bytes: &[u8]) -> Result<(), End> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let held = client.active.as_ref().is_some_and(|a| a.is_busy() || !a.input.is_empty());
        if held
            || client.flags.intersects(Flags::SENDING | Flags::HELD | Flags::HELD_DOWN)
            || self.is_congested()
        {
            return self.keep_input(id, bytes);
        }
        if !self.grant(id, 1) {
            return self.keep_input(id, bytes);
        }
        // The common way: whole messages, read where the kernel put them.
        let mut out = self.pool.take();
        let before = out.capacity();
        let used = self.read_messages(id, bytes, &mut out);
        self.pool.grown(before, &out);
        self.reply(id, out);
        self.keep_input(id, bytes.get(used?..).unwrap_or(&[]))
    }

    /// Keeps bytes that cannot be read yet.
    fn keep_input(&mut self, id: ClientId, bytes: &[u8]) -> Result<(), End> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Messages in parts may use half of the budget: what is being served needs the other.
        let over =
            self.inputs > self.config.buffer_budget / 2 || self.pool.out() > 2 * self.config.buffer_budget;
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let active = match &mut client.active {
            Some(active) => active,
            none => none.insert(self.spare.pop().unwrap_or_default()),
        };
        if over && active.input.len() + bytes.len() > FREE_INPUT {
            return Err(End::NoBuffer);
        }
        self.inputs += self.pool.append(&mut active.input, bytes);
        Ok(())
    }

    /// Reads messages from the front of `bytes` until they end, a request has to be served first, or the replies
    /// are enough for one send. Returns the bytes used.
    fn read_messages(&mut self, id: ClientId, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, End> {
        let Some(service) = self.clients.get_mut(id).map(|client| client.account.service) else {
            return Ok(bytes.len());
        };
        let rules = self.door.rules(service).map(|rules| (rules.user_agent.clone(), rules.without));
        let (name, without) = rules.unwrap_or_default();
        let greeting = self.greeting(&name, without);
        let now = self.now.secs();
        let (mut used, mut before) = (0, out.len());
        loop {
            let rest = bytes.get(used..).unwrap_or(&[]);
            let Some(client) = self.clients.get_mut(id) else { return Ok(bytes.len()) };
            let step = client.channel.framing(greeting.magic).split(rest);
            let partial = matches!(step, Step::Need(_)) && !rest.is_empty();
            if partial && !client.is(Flags::PARTIAL) {
                client.message_begun = now;
            }
            client.flags.set(Flags::PARTIAL, partial);
            match step {
                Step::Need(_) => return Ok(used),
                Step::End(end) => return Err(end),
                Step::Drop { fault, used: length } => {
                    self.counters.fault(fault);
                    used += length;
                }
                Step::Message { command, payload, used: length } => {
                    let message = parse(&command, payload);
                    // What has to wait is not read: it stays in the input.
                    if let Ok(message) = &message {
                        let may = self.knock(id, message).inspect_err(|_| self.tell_siblings(id, out))?;
                        if !may || !self.afford(id, message) {
                            return Ok(used);
                        }
                    }
                    self.counters.messages_in += 1;
                    before = out.len();
                    let Some(client) = self.clients.get_mut(id) else { return Ok(bytes.len()) };
                    let effect = handle(client, message, &greeting, out)?;
                    self.admit(id, &effect, out)?;
                    self.perform(id, effect, out)?;
                    used += length;
                }
            }
            let busy =
                self.clients.get_mut(id).is_some_and(|c| c.active.as_ref().is_some_and(|a| a.is_busy()));
            self.handled(id, out.len() - before);
            if busy || out.len() >= REPLY_SOFT_LIMIT || self.is_congested() {
                return Ok(used);
            }
        }
    }

    /// What a message asks of the shard.
    fn perform(&mut self, id: ClientId, effect: Effect<'_>, out: &mut Vec<u8>) -> Result<(), End> {
        match effect {
            Effect::None => {}
            Effect::Fault(fault) => self.counters.fault(fault),
            Effect::Hello(name) => self.named(id, name),
            Effect::Ready => self.handshake_done(id),
            Effect::Pinged => self.counters.pings_answered += 1,
            Effect::Ponged => self.ponged(id),
            Effect::GetHeaders { locator, stop } => self.get_headers(id, locator, &stop, out),
            Effect::GetBlocks { locator, stop } => self.get_blocks(id, locator, &stop, out),
            Effect::GetData(list) => return self.get_data(id, list, out),
            Effect::GetBlockTxn { block, indexes } => return self.get_block_txn(id, &block, indexes, out),
            Effect::GetCFilters { start, stop } => return self.get_filters(id, start, &stop),
            Effect::GetCFHeaders { start, stop } => return self.get_filter_headers(id, start, &stop, out),
            Effect::GetCFCheckpt { stop } => return self.get_checkpoints(id, &stop, out),
            Effect::GetAddr => self.get_addr(id, out),
            Effect::Mempool => return self.get_mempool(id),
            Effect::Inv(list) => self.tx_invs(id, list),
            Effect::Tx(payload) => self.tx(id, payload),
            Effect::NotFound(list) => self.tx_not_found(id, list),
        }
        Ok(())
    }

    /// Does the next thing for a client.
    pub(super) fn flow(&mut self, id: ClientId) {
        loop {
            let Some(client) = self.clients.get_mut(id) else { return };
            if client.is(Flags::SENDING) {
                break;
            }
            if self.send_control(id) {
                break;
            }
            let Some(client) = self.clients.get_mut(id) else { return };
            if client.is(Flags::CLOSING) {
                return self.end(id, End::Closed);
            }
            if !client.channel.is_open() {
                self.want_step(id);
                break;
            }
            if client.is(Flags::MID_MESSAGE) {
                if !self.send_ready(id) {
                    self.stream(id);
                }
                break;
            }
            if self.send_pending(id) || self.announce_block(id) {
                break;
            }
            match self.serve(id) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(end) => return self.end(id, end),
            }
            self.announce_txs(id);
            break;
        }
        self.settle(id);
    }

    /// Queues a message of ours that is no reply: it goes out between messages as soon as nothing else does.
    pub(super) fn push_message(&mut self, id: ClientId, fill: impl FnOnce(&mut Vec<u8>)) {
        self.after_request(id, fill);
        self.flow(id);
    }

    /// As `push_message`, from within a request: it goes out when `flow` comes to it.
    pub(super) fn after_request(&mut self, id: ClientId, fill: impl FnOnce(&mut Vec<u8>)) {
        let fresh = match self.active(id) {
            Some(active) if active.pending.capacity() == 0 => self.pool.take(),
            Some(_) => Vec::new(),
            None => return,
        };
        let Some(active) = self.clients.get_mut(id).and_then(|c| c.active.as_mut()) else { return };
        if fresh.capacity() > 0 {
            active.pending = fresh;
        }
        let before = active.pending.capacity();
        fill(&mut active.pending);
        self.pool.grown(before, &active.pending);
    }

    fn send_pending(&mut self, id: ClientId) -> bool {
        let Some(active) = self.clients.get_mut(id).and_then(|c| c.active.as_mut()) else { return false };
        if active.pending.is_empty() {
            return false;
        }
        let pending = std::mem::take(&mut active.pending);
        self.send(id, Payload::Owned(pending));
        true
    }

    /// The next step of a request or of the input. True when there may be another at once.
    fn serve(&mut self, id: ClientId) -> Result<bool, End> {
        let congested = self.is_congested();
        let held = self.clients.get_mut(id).is_some_and(|client| client.is(Flags::HELD));
        let Some(active) = self.clients.get_mut(id).and_then(|c| c.active.as_mut()) else { return Ok(false) };
        if active.ready.is_some() {
            self.send_ready(id);
            return Ok(false);
        }
        if active.is_streaming() {
            self.stream(id);
            return Ok(false);
        }
        if active.waiting.is_some() {
            return Ok(false);
        }
        // What was not found is said at the end of a getdata, and that may have been a file just sent.
        let more_entries = active.entries_at < active.entries.len() || !active.not_found.is_empty();
        if !more_entries && active.input.is_empty() {
            return Ok(false);
        }
        if congested {
            self.queue(id);
            return Ok(false);
        }
        if held && !more_entries {
            return Ok(false);
        }
        if !self.grant(id, 1) {
            return Ok(false);
        }
        let mut out = self.pool.take();
        let before = out.capacity();
        let result = if more_entries {
            self.more_entries(id, &mut out).map(|()| true)
        } else {
            self.read_input(id, &mut out)
        };
        self.pool.grown(before, &out);
        let sent = self.reply(id, out);
        Ok(result? && !sent)
    }

    /// Reads on in the kept input. True when something was used.
    fn read_input(&mut self, id: ClientId, out: &mut Vec<u8>) -> Result<bool, End> {
        let Some(active) = self.clients.get_mut(id).and_then(|c| c.active.as_mut()) else { return Ok(false) };
        let mut input = std::mem::take(&mut active.input);
        let result = self.read_messages(id, &input, out);
        let used = *result.as_ref().unwrap_or(&input.len());
        let keep = used < input.len();
        match self.clients.get_mut(id).and_then(|c| c.active.as_mut()).filter(|_| keep) {
            Some(active) => {
                input.drain(..used);
                active.input = input;
            }
            None => self.give_input(input),
        }
        result.map(|used| used > 0)
    }

    /// Sends a reply buffer, or gives it back when it is empty. True when it was sent.
    fn reply(&mut self, id: ClientId, out: Vec<u8>) -> bool {
        if out.is_empty() || self.clients.get_mut(id).is_none() {
            self.pool.give(out);
            return false;
        }
        self.send(id, Payload::Owned(out));
        true
    }

    /// Sends frames, sealed where the transport does that. The client must not have a send outstanding.
    pub(super) fn send(&mut self, id: ClientId, frames: Payload) {
        self.send_granted(id, frames, 0);
    }

    /// As `send`, of what `grant` has been asked for.
    fn send_granted(&mut self, id: ClientId, frames: Payload, granted: usize) {
        let payload = self.seal(id, frames);
        self.charge(id, payload.as_slice().len().saturating_sub(granted));
        self.send_raw(id, payload);
    }

    /// Hands a payload to the kernel as it is.
    pub(super) fn send_raw(&mut self, id: ClientId, payload: Payload) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.flags |= Flags::SENDING;
        client.send_begun = self.now.secs();
        client.account.bytes_out += payload.as_slice().len() as u64;
        if payload.as_slice().len() > LARGE_SEND {
            self.large_sends.push_back((id, client.send_begun));
        }
        self.ops.push(Op::Send { client: id, conn: client.conn, payload });
    }

    /// A send is over.
    pub(super) fn sent(&mut self, id: ClientId, payload: Payload, result: Result<(), IoEnd>) {
        let length = payload.as_slice().len() as u64;
        if let Payload::Owned(buffer) = payload {
            self.pool.give(buffer);
        }
        let Some(client) = self.clients.get_mut(id) else { return };
        client.flags.remove(Flags::SENDING);
        match result {
            Ok(()) => {
                self.counters.sends += 1;
                self.counters.bytes_out += length;
                self.flow(id);
            }
            Err(IoEnd::Closed | IoEnd::Reset) => self.end(id, End::Reset),
            Err(IoEnd::Error(_)) => self.end(id, End::SendError),
        }
    }

    /// Sends the next slice of an answer in memory; false when there is none. In slices, so that a slow reader's
    /// deadline is per slice and not for a whole block.
    fn send_ready(&mut self, id: ClientId) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        // What is sealed takes a buffer of the pool, which keeps none that is much larger than a chunk.
        let most = if client.channel.is_sealed() { FILE_CHUNK } else { SEND_SLICE };
        let Some(len) = client.active.as_ref().and_then(|a| a.ready.as_ref()).map(|ready| ready.len()) else {
            return false;
        };
        let most = self.piece(id, len.min(most));
        if !self.grant(id, most) {
            return false;
        }
        let Some(client) = self.clients.get_mut(id) else { return false };
        let Some(ready) = client.active.as_mut().map(|a| &mut a.ready) else { return false };
        let slice = match ready {
            Some(bytes) if bytes.len() > most => Some(bytes.split_to(most)),
            _ => ready.take(),
        };
        let more = ready.is_some();
        let Some(slice) = slice else { return false };
        client.flags.set(Flags::MID_MESSAGE, more);
        self.send_granted(id, Payload::Shared(slice), most);
        true
    }

    /// Sends the next chunk of the files being served: reads it first, or waits for a buffer.
    fn stream(&mut self, id: ClientId) {
        let full = self.pool.out() + FILE_CHUNK > self.config.buffer_budget;
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some(active) = client.active.as_mut() else { return };
        if let Some(chunk) = active.chunk.take() {
            return self.send_chunk(id, chunk);
        }
        if full && !active.reading && active.extent < active.extents.len() {
            self.counters.buffer_waits += 1;
            return self.queue(id);
        }
        self.read_chunk(id);
    }

    /// Reads the next chunk of the files being served, unless one is here or on its way.
    fn read_chunk(&mut self, id: ClientId) {
        let Some(active) = self.clients.get_mut(id).and_then(|c| c.active.as_mut()) else { return };
        if active.reading || active.chunk.is_some() {
            return;
        }
        let Some(left) = active.extents.get(active.extent).map(|e| e.len - active.offset) else { return };
        let len = self.piece(id, (left as usize).min(FILE_CHUNK));
        if !self.grant(id, len) {
            return;
        }
        let len = len as u32;
        let Some(active) = self.clients.get_mut(id).and_then(|c| c.active.as_mut()) else { return };
        let Some(extent) = active.extents.get(active.extent) else { return };
        (active.reading, active.piece) = (true, len);
        self.ops.push(Op::Read {
            client: id,
            file: extent.file.clone(),
            offset: extent.offset + u64::from(active.offset),
            len,
            buffer: self.pool.take_large(FILE_CHUNK),
        });
    }

    /// A chunk has been read.
    pub(super) fn file_read(&mut self, id: ClientId, buffer: Vec<u8>, result: Result<u32, i32>) {
        let Some(client) = self.clients.get_mut(id) else { return self.pool.give(buffer) };
        let sending = client.is(Flags::SENDING);
        let Some(active) = client.active.as_mut() else { return self.pool.give(buffer) };
        active.reading = false;
        let want = active.piece;
        if result != Ok(want) || buffer.len() != want as usize {
            // The store lost what it had promised. Between messages the client could be told, but what it waits for
            // would have to be fetched anew: it comes back by itself.
            self.pool.give(buffer);
            return self.end(id, End::StoreFailed);
        }
        if sending {
            active.chunk = Some(buffer);
        } else {
            self.send_chunk(id, buffer);
        }
    }

    fn send_chunk(&mut self, id: ClientId, chunk: Vec<u8>) {
        let Some(client) = self.clients.get_mut(id) else { return self.pool.give(chunk) };
        if let Some(active) = client.active.as_mut() {
            active.offset += chunk.len() as u32;
            let done = active.extents.get(active.extent).is_none_or(|e| active.offset >= e.len);
            if done {
                (active.extent, active.offset) = (active.extent + 1, 0);
                if active.extent >= active.extents.len() {
                    active.extents = Box::default();
                    active.extent = 0;
                }
            }
            client.flags.set(Flags::MID_MESSAGE, !done);
        }
        self.counters.file_bytes += chunk.len() as u64;
        let granted = chunk.len();
        self.send_granted(id, Payload::Owned(chunk), granted);
        // With few clients the next one is read meanwhile: one turn a chunk instead of two, and a slow disk and a slow client
        // are waited for at the same time. With many the others fill the time, and the buffers are better fewer and warm.
        if self.pool.out() < READ_AHEAD {
            self.read_chunk(id);
        }
    }

    /// Gives back what the client does not need any more, and asks for bytes when it can take some.
    pub(super) fn settle(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if let Some(active) = client.active.as_mut().filter(|a| a.held > 0 && !a.is_busy()) {
            self.pool.release(std::mem::take(&mut active.held));
        }
        if client.active.as_ref().is_some_and(|active| active.charge.is_some()) {
            self.served(id);
        }
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.active.as_ref().is_some_and(|a| a.is_idle())
            && let Some(active) = client.active.take()
        {
            self.give_active(active);
        }
        let congested = self.is_congested();
        let now = self.now.secs();
        let Some(client) = self.clients.get_mut(id) else { return };
        watch_partial(client, now);
        if client.flags.intersects(Flags::RECEIVING | Flags::HELD) || !wants_bytes(client) {
            return;
        }
        if congested && client.is(Flags::READY) {
            return self.queue(id);
        }
        client.flags |= Flags::RECEIVING;
        let conn = client.conn;
        let op = match self.part_up(id) {
            Some(most) => Op::ReceivePart { client: id, conn, most },
            None => Op::Receive { client: id, conn },
        };
        self.ops.push(op);
    }

    /// Puts a client in the queue of those that are tried again soon.
    pub(super) fn queue(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if !client.is(Flags::QUEUED) {
            client.flags |= Flags::QUEUED;
            self.queued.push_back(id);
        }
    }

    /// Tries those that waited for the hub or for a buffer; each once, in their order.
    pub(super) fn wake_queued(&mut self) {
        for _ in 0..self.queued.len().min(crate::base::limits::SWEEP_PER_TURN) {
            let Some(id) = self.queued.pop_front() else { return };
            if let Some(client) = self.clients.get_mut(id) {
                client.flags.remove(Flags::QUEUED);
                self.flow(id);
            }
        }
    }

    /// True while the hub is so far behind that clients are not read.
    pub(super) fn is_congested(&self) -> bool {
        self.outbox.len() >= OUTBOX_SOFT
    }

    /// A client waits for the hub's answer.
    pub(super) fn wait_for(&mut self, id: ClientId, waiting: Waiting) {
        let active = self.active(id);
        if let Some(active) = active {
            active.waiting = Some(waiting);
        }
    }

    /// The box of a client, made when it has none.
    pub(super) fn active(&mut self, id: ClientId) -> Option<&mut Active> {
        let fresh = match self.clients.get_mut(id) {
            Some(client) if client.active.is_none() => Some(self.take_active()),
            _ => None,
        };
        let client = self.clients.get_mut(id)?;
        if fresh.is_some() {
            client.active = fresh;
        }
        client.active.as_deref_mut()
    }
}

/// A record in parts has the same deadline as a message in parts. `read_messages` ends it with each whole message; here it is
/// begun, and ended when a record had no message in it.
fn watch_partial(client: &mut Client, now: u32) {
    if !client.channel.is_sealed() || client.is(Flags::SENDING) {
        return;
    }
    let active = client.active.as_ref();
    if active.is_some_and(|a| a.is_busy()) {
        return;
    }
    let partial = active.is_some_and(|a| !a.sealed.is_empty() || !a.input.is_empty());
    if partial && !client.is(Flags::PARTIAL) {
        client.message_begun = now;
    }
    client.flags.set(Flags::PARTIAL, partial);
}

/// True exactly when more bytes can be taken: no request is being served, and what is kept is only the beginning of one
/// message, or nothing.
fn wants_bytes(client: &Client) -> bool {
    // Who waits for a step of ours is not read: it would only fill buffers.
    if client.is(Flags::STEPPING) {
        return false;
    }
    match &client.active {
        None => true,
        Some(active) => {
            !active.is_busy()
                && (active.input.is_empty() || (client.is(Flags::PARTIAL) && !client.is(Flags::SENDING)))
                && active.input.len() < HEADER_LEN + MAX_MESSAGE
        }
    }
}
