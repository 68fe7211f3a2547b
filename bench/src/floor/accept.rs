//! A bare accept loop: one multishot accept into the ring's file table, completions counted.

#![allow(unsafe_code)]

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use crate::Outcome;
use crate::relay::PATIENCE;
use crate::setup::listener;

/// A listener whose connections are taken and kept.
pub(crate) struct Accepting {
    ring: IoUring,
    listener: TcpListener,
    address: SocketAddr,
    taken: u32,
    /// Whether the multishot accept is with the kernel.
    armed: bool,
}

impl Accepting {
    /// Listens with room for `clients`.
    pub(crate) fn open(clients: u32) -> Outcome<Accepting> {
        let (ring, listener) = (super::ring(clients)?, listener()?);
        let address = listener.local_addr()?;
        Ok(Accepting { ring, listener, address, taken: 0, armed: false })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections until there are `clients`.
    pub(crate) fn accept(&mut self, clients: u32) -> Outcome {
        let start = Instant::now();
        let stay = Timespec::from(PATIENCE);
        while self.taken < clients {
            if !self.armed {
                let accept =
                    opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd())).allocate_file_index(true).build();
                // SAFETY: it points to nothing.
                unsafe { self.ring.submission().push(&accept) }?;
                self.armed = true;
            }
            self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&stay))?;
            for done in self.ring.completion() {
                if done.result() < 0 {
                    return Err(format!("the bare accept loop: accept gave {}", done.result()).into());
                }
                self.armed = cqueue::more(done.flags());
                self.taken += 1;
            }
            if start.elapsed() > PATIENCE {
                return Err("the clients of the bare accept loop did not come".into());
            }
        }
        Ok(())
    }
}
