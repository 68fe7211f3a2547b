//! A bare receive loop: multishot receives with provided buffers, given back as soon as their bytes are counted.

#![allow(unsafe_code)]

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use io_uring::types::{DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use crate::Outcome;
use crate::buffers::{self, Buffers};
use crate::relay::PATIENCE;
use crate::setup::listener;

/// Receive buffers.
const BUFFERS: u16 = 4_096;
/// Completions handled between two entries into the kernel, at most.
const REAP: usize = 256;

/// Accepted connections, each with a receive at the kernel.
pub(crate) struct Receiving {
    ring: IoUring,
    /// After the ring, so that it is dropped after it.
    buffers: Buffers,
    listener: TcpListener,
    address: SocketAddr,
    bytes: u64,
}

impl Receiving {
    /// Listens with room for `clients`.
    pub(crate) fn open(clients: u32) -> Outcome<Receiving> {
        let (ring, listener) = (super::ring(clients)?, listener()?);
        let buffers = Buffers::register(&ring, BUFFERS)?;
        let address = listener.local_addr()?;
        Ok(Receiving { ring, buffers, listener, address, bytes: 0 })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes `clients` connections, one after the other, and asks for their bytes.
    pub(crate) fn accept(&mut self, clients: u32) -> Outcome {
        for number in 0..clients {
            let slot = DestinationSlot::try_from_slot_target(number).map_err(|_| "slot")?;
            let accept = opcode::Accept::new(
                Fd(self.listener.as_raw_fd()),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
            .file_index(Some(slot))
            .build();
            // SAFETY: it points to nothing.
            unsafe { self.ring.submission().push(&accept) }?;
            let stay = Timespec::from(PATIENCE);
            self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&stay))?;
            // Nobody says anything before it is told to, so this is the accept.
            let result = self.ring.completion().next().map(|done| done.result());
            if result != Some(0) {
                return Err(format!("the bare receive loop could not accept: {result:?}").into());
            }
            self.ask(number)?;
        }
        self.ring.submit()?;
        Ok(())
    }

    /// Counts bytes until `more` have come since the last call.
    pub(crate) fn receive(&mut self, more: u64) -> Outcome {
        let (start, stay, want) = (Instant::now(), Timespec::from(PATIENCE), self.bytes + more);
        while self.bytes < want {
            self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&stay))?;
            self.reap()?;
            if start.elapsed() > PATIENCE {
                return Err("the clients of the bare receive loop said too little".into());
            }
        }
        Ok(())
    }

    fn reap(&mut self) -> Outcome {
        let done: Vec<cqueue::Entry> = self.ring.completion().take(REAP).collect();
        for entry in done {
            let (result, flags) = (entry.result(), entry.flags());
            if result <= 0 && -result != libc::ENOBUFS {
                return Err(format!("the bare receive loop: receive gave {result}").into());
            }
            if let Some(number) = cqueue::buffer_select(flags) {
                self.bytes += self.buffers.bytes(number, result.unsigned_abs() as usize).len() as u64;
                self.buffers.give(number);
            }
            if !cqueue::more(flags) {
                self.ask(entry.user_data() as u32)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, number: u32) -> Outcome {
        let receive =
            opcode::RecvMulti::new(Fixed(number), buffers::GROUP).build().user_data(u64::from(number));
        // SAFETY: the kernel picks a provided buffer; those outlive the ring.
        unsafe {
            if self.ring.submission().push(&receive).is_err() {
                self.ring.submit()?;
                self.ring.submission().push(&receive)?;
            }
        }
        Ok(())
    }
}
