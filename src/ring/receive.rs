//! Receiving: an idle connection waits on a poll, a ready one is read into a provided buffer.
//!
//! An armed recv costs the kernel 864 bytes, an armed poll 256 (Linux 6.18): a million idle clients save 0.6 GB
//! for one more submission per burst. A receive that follows one that left bytes in the socket skips
//! the poll. The recv itself never waits (MSG_DONTWAIT), so it takes a buffer only when there are bytes.
//!
//! Without a free buffer (ENOBUFS) a receive is parked. Before every wait as many are tried again as there are
//! buffers, in the order they came; so none is forgotten, whatever the others find.

#![allow(unsafe_code)]

use std::ptr;

use io_uring::squeue::Flags;
use io_uring::{cqueue, opcode, types};

use super::conns::Receive;
use super::token::{Kind, Token};
use super::{Ring, buffers};
use crate::base::limits::RECV_BUFFER;
use crate::base::{ClientId, Conn};
use crate::io::{BufferId, Done, IoEnd};

impl Ring {
    /// The next bytes, at most `most` of them; 0 for as many as a buffer holds.
    pub(super) fn receive(&mut self, client: ClientId, conn: Conn, most: u16) {
        let why = match self.conns.get(conn) {
            None => IoEnd::Error(libc::EBADF),
            Some(entry) if entry.receive != Receive::Idle => IoEnd::Error(libc::EALREADY),
            Some(entry) => {
                entry.client = client;
                entry.sixteens =
                    if most == 0 { 0 } else { u8::try_from(most / 16).unwrap_or(u8::MAX).max(1) };
                let (generation, more) = (entry.generation, entry.more);
                return if more { self.recv(conn, generation) } else { self.poll(conn, generation) };
            }
        };
        self.ready.push_back(Done::ReceiveEnded { client, why });
    }

    /// Waits until there are bytes, or no more will come.
    fn poll(&mut self, conn: Conn, generation: u32) {
        let Some(entry) = self.conns.current(conn, generation) else { return };
        entry.receive = Receive::Polling;
        let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
        let poll = opcode::PollAdd::new(types::Fixed(conn.0), events)
            .build()
            .user_data(Token::new(Kind::Poll, conn.0, generation).pack());
        // SAFETY: a poll points to nothing.
        unsafe { self.queue.push(poll) };
    }

    /// Reads what is there now.
    fn recv(&mut self, conn: Conn, generation: u32) {
        let Some(entry) = self.conns.current(conn, generation) else { return };
        entry.receive = Receive::Receiving;
        let most = if entry.sixteens == 0 { RECV_BUFFER as u32 } else { 16 * u32::from(entry.sixteens) };
        let recv = opcode::Recv::new(types::Fixed(conn.0), ptr::null_mut(), most)
            .flags(libc::MSG_DONTWAIT)
            .buf_group(buffers::GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT)
            .user_data(Token::new(Kind::Receive, conn.0, generation).pack());
        // SAFETY: the kernel picks a provided buffer; those outlive the ring.
        unsafe { self.queue.push(recv) };
    }

    /// Tries parked receives again, as many as there are buffers.
    pub(super) fn unpark(&mut self) {
        let mut free = self.buffers.free();
        while free > 0 {
            let Some((conn, generation)) = self.parked.pop_front() else { return };
            if self.conns.current(conn, generation).is_some_and(|entry| entry.receive == Receive::Parked) {
                self.recv(conn, generation);
                free -= 1;
            }
        }
    }

    pub(super) fn on_poll(&mut self, token: Token, result: i32, dones: &mut Vec<Done>) {
        let conn = Conn(token.index);
        if self.closing {
            return;
        }
        if result >= 0 {
            // Errors and hang-ups too: the recv says which.
            self.polled = true;
            self.recv(conn, token.generation);
        } else {
            self.receive_ended(conn, token.generation, end_of(-result), dones);
        }
    }

    pub(super) fn on_receive(&mut self, token: Token, result: i32, flags: u32, dones: &mut Vec<Done>) {
        let conn = Conn(token.index);
        let buffer = cqueue::buffer_select(flags).map(BufferId);
        if let Some(buffer) = buffer {
            self.buffers.lend(buffer);
        }
        if result > 0
            && let Some(buffer) = buffer
            && let Some(entry) = self.conns.current(conn, token.generation)
        {
            entry.receive = Receive::Idle;
            entry.more = cqueue::sock_nonempty(flags);
            let client = entry.client;
            dones.push(Done::Received { client, buffer, len: result.unsigned_abs() });
            return;
        }
        // The end of the stream may come with a buffer; and the connection may be closed meanwhile.
        if let Some(buffer) = buffer {
            self.buffers.recycle(buffer);
        }
        let Some(entry) = self.conns.current(conn, token.generation) else { return };
        entry.more = false;
        match -result {
            0 => self.receive_ended(conn, token.generation, IoEnd::Closed, dones),
            libc::EAGAIN | libc::EINTR => self.poll(conn, token.generation),
            libc::ENOBUFS => {
                entry.receive = Receive::Parked;
                self.no_buffers += 1;
                self.parked.push_back((conn, token.generation));
            }
            errno => self.receive_ended(conn, token.generation, end_of(errno), dones),
        }
    }

    fn receive_ended(&mut self, conn: Conn, generation: u32, why: IoEnd, dones: &mut Vec<Done>) {
        if let Some(entry) = self.conns.current(conn, generation) {
            entry.receive = Receive::Idle;
            dones.push(Done::ReceiveEnded { client: entry.client, why });
        }
    }
}

/// What an error number of a socket means for a client.
pub(super) fn end_of(errno: i32) -> IoEnd {
    match errno {
        libc::ECONNRESET | libc::EPIPE | libc::ETIMEDOUT | libc::ECANCELED => IoEnd::Reset,
        other => IoEnd::Error(other),
    }
}
