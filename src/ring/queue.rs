//! The two queues shared with the kernel, and the one place where the kernel is entered.
//!
//! An operation pushed is never dropped: when the submission queue is full it is submitted at once, and when the
//! kernel takes nothing (out of memory) it waits here in order. Bounded by what may be outstanding:
//! a receive, a send and a close per connection.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};

/// io_uring_enter(2): run deferred task work and look for completions.
const ENTER_GETEVENTS: u32 = 1;

/// Pause after an error of io_uring_enter that no waiting cures, so that it cannot make a core spin.
const ENTER_ERROR_PAUSE: Duration = Duration::from_millis(1);

/// How long to stay in the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stay {
    /// Only submit and look.
    Look,
    /// Until a completion, at most this long.
    AtMost(Duration),
    /// Until a completion.
    Forever,
}

/// Submission and completion queue of a ring.
pub(super) struct Queue {
    ring: IoUring,
    waiting: VecDeque<squeue::Entry>,
    overflowing: bool,
    /// Times the kernel was entered.
    pub(super) enters: u64,
    /// Operations the kernel has taken.
    pub(super) submitted: u64,
    /// Times the completion queue was found overflowing after it had not been.
    pub(super) cq_overflow: u64,
}

impl Queue {
    pub(super) fn new(ring: IoUring) -> Queue {
        Queue { ring, waiting: VecDeque::new(), overflowing: false, enters: 0, submitted: 0, cq_overflow: 0 }
    }

    /// Queues an operation.
    ///
    /// # Safety
    /// What the entry points to must stay valid, and unmoved, until its completion has been reaped.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the caller's promise is passed on.
        if self.waiting.is_empty() && unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return;
        }
        self.waiting.push_back(entry);
        if self.waiting.len() == 1 {
            self.submit();
            self.refill();
        }
    }

    /// Submits what is queued, without waiting. What finds no room waits for `enter`.
    pub(super) fn flush(&mut self) {
        if !self.ring.submission().is_empty() {
            self.submit();
        }
    }

    /// Submits everything, stays in the kernel as told and runs its deferred work.
    pub(super) fn enter(&mut self, stay: Stay) {
        self.refill();
        while !self.waiting.is_empty() {
            let before = self.waiting.len();
            self.submit();
            self.refill();
            if self.waiting.len() == before {
                break;
            }
        }
        // With operations still here the kernel is short of memory: reaping completions is what helps.
        let stay = if self.waiting.is_empty() { stay } else { Stay::Look };
        self.note_overflow();
        self.enters += 1;
        let result = match stay {
            Stay::Look => self.look(),
            Stay::Forever => self.ring.submitter().submit_and_wait(1),
            Stay::AtMost(span) => {
                let span = Timespec::from(span);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&span))
            }
        };
        self.note(result);
    }

    /// Moves at most `limit` completions to `into`.
    pub(super) fn reap(&mut self, limit: usize, into: &mut Vec<cqueue::Entry>) {
        into.extend(self.ring.completion().take(limit));
    }

    /// The ring, for registrations.
    pub(super) fn ring(&self) -> &IoUring {
        &self.ring
    }

    /// Enters without waiting but with deferred work, which `IoUring::submit` leaves out.
    fn look(&mut self) -> io::Result<usize> {
        let queued = self.ring.submission().len();
        // SAFETY: no argument is passed; the entries counted were pushed under the promise of `push`.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued as u32, 0, ENTER_GETEVENTS, None) }
    }

    fn submit(&mut self) {
        self.enters += 1;
        let result = self.ring.submit();
        self.note(result);
    }

    /// Moves what waits here into the submission queue as far as there is room.
    fn refill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.waiting.front() {
            // SAFETY: promised by the caller of `push`.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// The kernel keeps what overflows (IORING_FEAT_NODROP) and hands it over at the next enters: slow, but
    /// nothing is lost.
    fn note_overflow(&mut self) {
        let overflowing = self.ring.submission().cq_overflow();
        if overflowing && !self.overflowing {
            self.cq_overflow += 1;
        }
        self.overflowing = overflowing;
    }

    fn note(&mut self, result: io::Result<usize>) {
        let error = match result {
            Ok(taken) => {
                self.submitted += taken as u64;
                return;
            }
            Err(error) => error,
        };
        match error.raw_os_error() {
            // The time is up, or a signal came.
            Some(libc::ETIME | libc::EINTR) => {}
            // The completion queue is full, or the kernel is out of memory for now: reap and try again.
            Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM) => {}
            _ => {
                tracing::error!(%error, "io_uring_enter failed");
                std::thread::sleep(ENTER_ERROR_PAUSE);
            }
        }
    }
}
