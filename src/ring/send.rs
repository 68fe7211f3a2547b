//! Sending and closing.
//!
//! A payload lives here until the kernel is done with it. MSG_WAITALL lets the kernel finish a send by itself; it
//! waits by an internal poll, not in a thread. But after 128 polls of one operation it moves it to a worker thread
//! (APOLL_MAX_RETRY, io_uring/poll.c), which a peer reading a little at a time might bring about. A long payload is
//! therefore sent in pieces: a piece needs far fewer polls, because a socket becomes writable a third of its
//! buffer at a time. A precaution: 16 MB in one piece to a slow reader on loopback did not get there.
//!
//! Closing cancels by user data, which is a look-up in the kernel; by descriptor it walks every request of the
//! ring: 11 against 610 us a close with 18,000 polls armed (2-core VM, Linux 6.18, loopback). Shutdown is left out because io_uring gives it to a worker thread, and the close does the same.

#![allow(unsafe_code)]

use io_uring::squeue::Flags;
use io_uring::types::CancelBuilder;
use io_uring::{opcode, types};
use slotmap::DefaultKey;

use super::Ring;
use super::conns::Receive;
use super::receive::end_of;
use super::token::{Kind, MAX_INDEX, Token};
use crate::base::{ClientId, Conn};
use crate::io::{Done, IoEnd, Payload};

/// Bytes of one submission: at the smallest default send buffer (16 KiB) a poll brings 5 KiB, so 50 polls.
const PIECE: usize = 256 * 1024;

/// A send under way.
pub(super) struct SendState {
    client: ClientId,
    conn: Conn,
    generation: u32,
    payload: Payload,
    offset: usize,
    /// True exactly when the connection was closed meanwhile: nothing more is submitted.
    closed: bool,
}

impl SendState {
    /// What the next submission covers.
    fn piece(&self) -> &[u8] {
        let rest = self.payload.as_slice().get(self.offset..).unwrap_or_default();
        &rest[..rest.len().min(PIECE)]
    }
}

/// What to do after a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Finish(Result<(), IoEnd>),
    /// Submit the rest; `short`: the kernel did less than asked.
    Continue {
        short: bool,
    },
}

/// Decides; `asked` is the piece submitted, `left` what of the payload was not sent before it.
fn next(result: i32, asked: usize, left: usize, closed: bool) -> Next {
    let sent = usize::try_from(result).unwrap_or(0);
    if result > 0 && sent >= left {
        return Next::Finish(Ok(()));
    }
    match -result {
        _ if closed => Next::Finish(Err(IoEnd::Reset)),
        libc::EINTR | libc::EAGAIN => Next::Continue { short: true },
        0 => Next::Finish(Err(IoEnd::Reset)),
        errno if errno > 0 => Next::Finish(Err(end_of(errno))),
        _ => Next::Continue { short: sent < asked },
    }
}

impl Ring {
    pub(super) fn send(&mut self, client: ClientId, conn: Conn, payload: Payload) {
        let refused = match self.conns.get(conn) {
            None => Some(Err(IoEnd::Error(libc::EBADF))),
            Some(entry) if entry.send.is_some() => Some(Err(IoEnd::Error(libc::EALREADY))),
            Some(_) if payload.as_slice().is_empty() => Some(Ok(())),
            Some(_) if self.sends.len() >= MAX_INDEX as usize => Some(Err(IoEnd::Error(libc::ENOBUFS))),
            Some(_) => None,
        };
        if let Some(result) = refused {
            self.ready.push_back(Done::Sent { client, payload, result });
            return;
        }
        let Some(entry) = self.conns.get(conn) else { return };
        let generation = entry.generation;
        entry.client = client;
        let key =
            self.sends.insert(SendState { client, conn, generation, payload, offset: 0, closed: false });
        entry.send = Some(key);
        self.submit_send(key);
    }

    fn submit_send(&mut self, key: DefaultKey) {
        let Some(state) = self.sends.get(key) else { return };
        let piece = state.piece();
        let send = opcode::Send::new(types::Fixed(state.conn.0), piece.as_ptr(), piece.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(Token::of_key(Kind::Send, key).pack());
        // SAFETY: the bytes are on the heap (or static) and do not move with the payload; the payload is not touched
        // or given back before the completion, and the ring waits for its sends before it ends.
        unsafe { self.queue.push(send) };
    }

    pub(super) fn on_send(&mut self, token: Token, result: i32, dones: &mut Vec<Done>) {
        let key = token.key();
        let Some(state) = self.sends.get_mut(key) else { return };
        let (asked, left) = (state.piece().len(), state.payload.as_slice().len() - state.offset);
        let result = match next(result, asked, left, state.closed || self.closing) {
            Next::Finish(result) => result,
            Next::Continue { short } => {
                state.offset += usize::try_from(result).unwrap_or(0);
                self.short_sends += u64::from(short);
                return self.submit_send(key);
            }
        };
        let Some(state) = self.sends.remove(key) else { return };
        if let Some(entry) = self.conns.current(state.conn, state.generation)
            && entry.send == Some(key)
        {
            entry.send = None;
        }
        dones.push(Done::Sent { client: state.client, payload: state.payload, result });
    }

    /// The shard's close: answers for an outstanding receive at once, the send comes back with its completion.
    pub(super) fn close(&mut self, client: ClientId, conn: Conn, reset: bool) {
        if self.close_now(conn, reset) {
            self.ready.push_back(Done::ReceiveEnded { client, why: IoEnd::Reset });
        }
    }

    /// Cancels what is outstanding and closes; true when a receive was outstanding. The operations
    /// are issued in this order, and a request in the kernel keeps the socket only until its cancellation.
    pub(super) fn close_now(&mut self, conn: Conn, reset: bool) -> bool {
        let Some(was) = self.conns.close(conn) else { return false };
        if was.receive == Receive::Polling {
            let token = Token::new(Kind::Poll, conn.0, was.generation);
            let remove = opcode::PollRemove::new(token.pack()).build().user_data(control(conn));
            // SAFETY: it points to nothing.
            unsafe { self.queue.push(remove.flags(Flags::SKIP_SUCCESS)) };
        }
        if let Some(key) = was.send {
            if let Some(state) = self.sends.get_mut(key) {
                state.closed = true;
            }
            self.cancel(Token::of_key(Kind::Send, key));
        }
        if reset && self.linger {
            self.set_linger(conn);
        }
        let close = opcode::Close::new(types::Fixed(conn.0)).build().user_data(control(conn));
        // SAFETY: it points to nothing.
        unsafe { self.queue.push(close.flags(Flags::SKIP_SUCCESS)) };
        was.receive != Receive::Idle
    }

    /// SO_LINGER of zero: the close throws away what is unsent and resets. A ring command, since a direct descriptor
    /// has no number for setsockopt(2); Linux 6.7.
    fn set_linger(&mut self, conn: Conn) {
        static LINGER: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let set = opcode::SetSockOpt::new(
            types::Fixed(conn.0),
            libc::SOL_SOCKET as u32,
            libc::SO_LINGER as u32,
            (&raw const LINGER).cast(),
            size_of::<libc::linger>() as u32,
        )
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(Token::new(Kind::Linger, conn.0, 0).pack());
        // SAFETY: the option value is static.
        unsafe { self.queue.push(set) };
    }

    /// A kernel that does not know the command closes plainly from now on.
    pub(super) fn on_linger(&mut self, result: i32) {
        if matches!(-result, libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS) {
            self.linger = false;
        }
    }

    /// Cancels one operation by its user data.
    pub(super) fn cancel(&mut self, token: Token) {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(token.pack()))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Token::new(Kind::Control, 0, 0).pack());
        // SAFETY: it points to nothing.
        unsafe { self.queue.push(cancel) };
    }
}

fn control(conn: Conn) -> u64 {
    Token::new(Kind::Control, conn.0, 0).pack()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_send_goes_on_and_a_piece_is_not_short() {
        assert_eq!(next(100, 100, 100, false), Next::Finish(Ok(())));
        assert_eq!(next(40, 100, 100, false), Next::Continue { short: true });
        assert_eq!(next(100, 100, 300, false), Next::Continue { short: false });
        assert_eq!(next(-libc::EINTR, 100, 100, false), Next::Continue { short: true });
    }

    #[test]
    fn after_a_close_only_a_whole_send_is_good() {
        assert_eq!(next(100, 100, 100, true), Next::Finish(Ok(())));
        assert_eq!(next(40, 100, 100, true), Next::Finish(Err(IoEnd::Reset)));
        assert_eq!(next(-libc::EAGAIN, 100, 100, true), Next::Finish(Err(IoEnd::Reset)));
        assert_eq!(next(-libc::ECANCELED, 100, 100, true), Next::Finish(Err(IoEnd::Reset)));
    }

    #[test]
    fn errors_end_it() {
        assert_eq!(next(-libc::EPIPE, 9, 9, false), Next::Finish(Err(IoEnd::Reset)));
        assert_eq!(
            next(-libc::EHOSTUNREACH, 9, 9, false),
            Next::Finish(Err(IoEnd::Error(libc::EHOSTUNREACH)))
        );
        assert_eq!(next(0, 9, 9, false), Next::Finish(Err(IoEnd::Reset)));
    }
}
