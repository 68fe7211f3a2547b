//! A bare io_uring send loop over connections of the same kind as the relay's.
//!
//! Direct descriptors, batches of 64 sends, completions reaped, ring flags as the product's. It knows no client: no
//! table, no protocol, no poll for what they might say.

#![allow(unsafe_code)]

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::ptr;
use std::time::Instant;

use io_uring::{IoUring, opcode, types};

use super::Sealer;
use crate::Outcome;
use crate::relay::PATIENCE;
use crate::setup::listener;

/// Sends submitted at a time; io_uring facts: 16 to 64 are cheapest.
const BATCH: u32 = 64;

/// Accepted connections, and the ring that sends to them.
pub(crate) struct Floor {
    ring: IoUring,
    listener: TcpListener,
    address: SocketAddr,
    conns: Vec<u32>,
}

impl Floor {
    /// Listens with room for `clients`.
    pub(crate) fn open(clients: u32) -> Outcome<Floor> {
        let ring = super::ring(clients + BATCH)?;
        let listener = listener()?;
        let address = listener.local_addr()?;
        Ok(Floor { ring, listener, address, conns: Vec::new() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until it has had `clients` of them.
    pub(crate) fn accept(&mut self, clients: u32) -> Outcome {
        let start = Instant::now();
        let mut asked = self.conns.len() as u32;
        while (self.conns.len() as u32) < clients {
            while asked < clients && asked - (self.conns.len() as u32) < BATCH {
                let accept = opcode::Accept::new(
                    types::Fd(self.listener.as_raw_fd()),
                    ptr::null_mut(),
                    ptr::null_mut(),
                )
                .file_index(Some(types::DestinationSlot::auto_target()))
                .build();
                // SAFETY: it points to nothing.
                unsafe { self.ring.submission().push(&accept) }?;
                asked += 1;
            }
            self.ring.submit_and_wait(1)?;
            for done in self.ring.completion() {
                let slot = u32::try_from(done.result()).map_err(|_| "the floor could not accept")?;
                self.conns.push(slot);
            }
            if start.elapsed() > PATIENCE {
                return Err("the floor's clients did not come".into());
            }
        }
        Ok(())
    }

    /// Sends the bytes to everybody.
    pub(crate) fn send_all(&mut self, bytes: &[u8]) -> Outcome {
        let mut outstanding = 0;
        for batch in self.conns.chunks(BATCH as usize) {
            for conn in batch {
                let send = opcode::Send::new(types::Fixed(*conn), bytes.as_ptr(), bytes.len() as u32)
                    .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                    .build();
                // SAFETY: all sends are reaped below, before `bytes` can go.
                unsafe { self.ring.submission().push(&send) }?;
            }
            outstanding += batch.len();
            self.ring.submit()?;
            outstanding -= reap(&mut self.ring, bytes.len())?;
        }
        while outstanding > 0 {
            self.ring.submit_and_wait(1)?;
            outstanding -= reap(&mut self.ring, bytes.len())?;
        }
        Ok(())
    }

    /// Sends the message to everybody, sealed for each. A batch is complete before its memory is used again: on loopback each
    /// send is, when its submission returns.
    pub(crate) fn send_all_sealed(&mut self, message: &[u8], sealer: &mut Sealer) -> Outcome {
        let len = sealer.len(message.len());
        let mut sealed = batch_of(len);
        let mut number = 0;
        for batch in self.conns.chunks(BATCH as usize) {
            for (conn, place) in batch.iter().zip(sealed.chunks_exact_mut(len)) {
                sealer.seal(number, message, place)?;
                number += 1;
                let send = opcode::Send::new(types::Fixed(*conn), place.as_ptr(), len as u32)
                    .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                    .build();
                // SAFETY: the batch is reaped below, before its memory is used again or can go.
                unsafe { self.ring.submission().push(&send) }?;
            }
            let mut outstanding = batch.len();
            self.ring.submit()?;
            outstanding -= reap(&mut self.ring, len)?;
            while outstanding > 0 {
                self.ring.submit_and_wait(1)?;
                outstanding -= reap(&mut self.ring, len)?;
            }
        }
        Ok(())
    }
}

/// Room for a batch of sealed messages.
fn batch_of(len: usize) -> Vec<u8> {
    vec![0; len * BATCH as usize]
}

/// Takes what has completed; a send that failed ends the benchmark (and, by its drop, the ring).
fn reap(ring: &mut IoUring, len: usize) -> Outcome<usize> {
    let mut count = 0;
    for done in ring.completion() {
        if done.result() != len as i32 {
            return Err(format!("a send of the floor gave {}", done.result()).into());
        }
        count += 1;
    }
    Ok(count)
}
