//! Listeners that come and go while the ring runs.
//!
//! A completion names an accept by its listener's number, so a number is used again only when none of the accepts of the listener
//! that had it is outstanding.

use std::net::SocketAddr;

use super::Ring;
use super::accept::Listener;
use crate::io::{Done, ListenerId};

impl Ring {
    /// Makes a listener; it accepts nobody yet.
    pub(super) fn bind(&mut self, id: ListenerId, at: SocketAddr) {
        let result = self.try_bind(usize::from(id.0), at);
        self.ready.push_back(Done::Bound { listener: id, result });
    }

    fn try_bind(&mut self, index: usize, at: SocketAddr) -> Result<(), i32> {
        if self.listeners.get(index).is_some_and(|listener| !listener.is_gone()) {
            return Err(libc::EBUSY);
        }
        if index > self.listeners.len() || index >= usize::from(u8::MAX) {
            return Err(libc::EINVAL);
        }
        if index == self.listeners.len() {
            // The number counts as taken once, whether this can be bound or not.
            self.listeners.push(Listener::gone(at));
        }
        let listener = Listener::bind(at).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
        if let Some(gone) = self.listeners.get_mut(index) {
            *gone = listener;
        }
        Ok(())
    }

    /// Closes a listener for good.
    pub(super) fn unbind(&mut self, id: ListenerId) {
        match self.listeners.get_mut(usize::from(id.0)).filter(|listener| !listener.is_leaving()) {
            Some(listener) => listener.begin_leaving(),
            None => self.ready.push_back(Done::Unbound(id)),
        }
    }
}
