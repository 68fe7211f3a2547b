//! A doorbell: an eventfd rung only when the other side sleeps.
//!
//! The sleeper says so, looks at its queue once more, and only then sleeps; the ringer puts its entry in the queue
//! first and then looks whether the other sleeps. With both steps sequentially consistent no entry waits unheard.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One direction's doorbell, shared by the two sides.
#[derive(Clone, Debug)]
pub struct Doorbell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sleeping: AtomicBool,
    /// `None` in the simulator, where both sides run by turns.
    eventfd: Option<OwnedFd>,
}

impl Doorbell {
    /// A doorbell with an eventfd (non-blocking, close-on-exec).
    pub fn new() -> io::Result<Doorbell> {
        // SAFETY: eventfd takes no pointer; a non-negative result is a descriptor nobody else owns.
        #[allow(unsafe_code)]
        let eventfd = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Doorbell(Arc::new(Inner { sleeping: AtomicBool::new(false), eventfd: Some(eventfd) })))
    }

    /// A doorbell without a descriptor, for a kernel that polls.
    pub fn silent() -> Doorbell {
        Doorbell(Arc::new(Inner { sleeping: AtomicBool::new(false), eventfd: None }))
    }

    /// The sleeper's side: announces sleep. The queue must be looked at once more after this.
    pub fn will_sleep(&self) {
        self.0.sleeping.store(true, Ordering::SeqCst);
        // The look at the queue that follows is an ordinary load: it must not be taken before the store is seen.
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// The sleeper's side: awake again.
    pub fn awake(&self) {
        self.0.sleeping.store(false, Ordering::SeqCst);
    }

    /// True exactly when the sleeper has announced sleep and has been neither rung nor woken: what a kernel that
    /// polls (the simulator's) looks at instead of the descriptor.
    pub fn sleeping(&self) -> bool {
        self.0.sleeping.load(Ordering::SeqCst)
    }

    /// The ringer's side, after something was put in the queue; costs a system call only when the other sleeps.
    pub fn ring(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if !self.0.sleeping.swap(false, Ordering::SeqCst) {
            return;
        }
        if let Some(fd) = &self.0.eventfd {
            let one = 1u64.to_ne_bytes();
            // SAFETY: eight bytes are readable at `one`. A full counter (EAGAIN) means it is already rung.
            #[allow(unsafe_code)]
            unsafe {
                libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len());
            }
        }
    }

    /// The sleeper's side: the eventfd as a file of its own, for a sleeper that waits with a runtime. Reading eight
    /// bytes clears it. `None` in the simulator.
    ///
    /// # Errors
    /// No descriptor is left (EMFILE).
    pub fn reader(&self) -> io::Result<Option<File>> {
        self.0.eventfd.as_ref().map(|fd| fd.try_clone().map(File::from)).transpose()
    }

    /// The descriptor to wait on: readable when rung; reading eight bytes clears it.
    pub fn raw_fd(&self) -> Option<RawFd> {
        self.0.eventfd.as_ref().map(AsRawFd::as_raw_fd)
    }
}
