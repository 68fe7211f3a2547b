//! A block to everybody who asks: sent from memory, or read from a file and sent piece by piece. A request is any bytes at all.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, RawFd};
use std::ptr;

use io_uring::types::{DestinationSlot, Fixed};
use io_uring::{IoUring, cqueue, opcode, types};

use super::{ACCEPTS, push, ring};
use crate::Outcome;
use crate::setup::listener;

/// Bytes read and sent at a time from a file, as of the product.
const CHUNK: usize = 128 * 1024;
/// Bytes of one send from memory, as of the product.
const PIECE: usize = 256 * 1024;

const READ: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const RECEIVE: u64 = 3 << 32;
/// Longest request.
const REQUEST: usize = 4_096;

/// Where the bytes come from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Memory, the same for all.
    Memory(&'a [u8]),
    /// A file: each connection begins at an offset of its own and gets `len` bytes.
    File { fd: RawFd, offsets: &'a [u64], len: usize },
}

#[derive(Default)]
struct Progress {
    /// Bytes of the block that are sent.
    sent: usize,
    /// Bytes being read or sent.
    piece: usize,
    chunk: Vec<u8>,
    request: Vec<u8>,
}

/// Accepted connections, and the ring that sends to them.
pub(crate) struct Feeder {
    ring: IoUring,
    listener: TcpListener,
    address: SocketAddr,
    conns: Vec<u32>,
    progress: Vec<Progress>,
}

impl Feeder {
    pub(crate) fn open(clients: u32) -> Outcome<Feeder> {
        let (ring, listener) = (ring(clients)?, listener()?);
        let address = listener.local_addr()?;
        Ok(Feeder { ring, listener, address, conns: Vec::new(), progress: Vec::new() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts `clients` connections.
    pub(crate) fn accept(&mut self, clients: u32) -> Outcome {
        let mut asked = 0;
        while (self.conns.len() as u32) < clients {
            while asked < clients && asked - (self.conns.len() as u32) < ACCEPTS {
                let fd = types::Fd(self.listener.as_raw_fd());
                let accept = opcode::Accept::new(fd, ptr::null_mut(), ptr::null_mut())
                    .file_index(Some(DestinationSlot::auto_target()))
                    .build();
                // SAFETY: it points to nothing.
                unsafe { push(&mut self.ring, &accept) }?;
                asked += 1;
            }
            self.ring.submit_and_wait(1)?;
            for done in self.ring.completion() {
                self.conns.push(u32::try_from(done.result()).map_err(|_| "the bare loop could not accept")?);
            }
        }
        self.progress = self.conns.iter().map(|_| Progress::default()).collect();
        Ok(())
    }

    /// Sends a block to everybody once asked, `times` times one after the other.
    pub(crate) fn feed(&mut self, source: Source<'_>, times: usize) -> Outcome {
        let total = match source {
            Source::Memory(bytes) => bytes.len(),
            Source::File { len, .. } => len,
        };
        let mut left = self.conns.len();
        for number in 0..self.conns.len() {
            self.progress[number].sent = 0;
            self.receive(number)?;
        }
        while left > 0 {
            self.ring.submit_and_wait(1)?;
            let done: Vec<cqueue::Entry> = self.ring.completion().take(1_024).collect();
            for entry in &done {
                let number = entry.user_data() as u32 as usize;
                if entry.user_data() & !0xffff_ffff == RECEIVE {
                    if entry.result() <= 0 {
                        return Err(format!("a receive of the bare loop gave {}", entry.result()).into());
                    }
                    self.next(number, source, total)?;
                    continue;
                }
                let progress = &mut self.progress[number];
                if entry.result() != progress.piece as i32 {
                    return Err(format!("an operation of the bare loop gave {}", entry.result()).into());
                }
                if entry.user_data() & !0xffff_ffff == READ {
                    self.send(number, None)?;
                    continue;
                }
                progress.sent += progress.piece;
                match progress.sent < total * times {
                    true => self.next(number, source, total)?,
                    false => left -= 1,
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, number: usize) -> Outcome {
        let request = &mut self.progress[number].request;
        request.resize(REQUEST, 0);
        let receive = opcode::Recv::new(Fixed(self.conns[number]), request.as_mut_ptr(), REQUEST as u32)
            .build()
            .user_data(RECEIVE | number as u64);
        // SAFETY: the bytes are not touched before the completion, which `feed` waits for.
        unsafe { push(&mut self.ring, &receive) }
    }

    fn next(&mut self, number: usize, source: Source<'_>, total: usize) -> Outcome {
        let progress = &mut self.progress[number];
        let at = progress.sent % total;
        match source {
            Source::Memory(bytes) => {
                progress.piece = (total - at).min(PIECE);
                let piece = &bytes[at..][..progress.piece];
                self.send(number, Some(piece))
            }
            Source::File { fd, offsets, .. } => {
                progress.piece = (total - at).min(CHUNK);
                progress.chunk.resize(progress.piece, 0);
                let place = progress.chunk.as_mut_ptr();
                let read = opcode::Read::new(types::Fd(fd), place, progress.piece as u32)
                    .offset(offsets[number] + at as u64)
                    .build()
                    .user_data(READ | number as u64);
                // SAFETY: the chunk is not touched before its completion, which `feed` waits for.
                unsafe { push(&mut self.ring, &read) }
            }
        }
    }

    /// Sends a piece of memory, or the chunk that was read.
    fn send(&mut self, number: usize, piece: Option<&[u8]>) -> Outcome {
        let bytes = piece.unwrap_or(&self.progress[number].chunk);
        let send = opcode::Send::new(Fixed(self.conns[number]), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(SEND | number as u64);
        // SAFETY: the bytes are not touched before the completion, which `feed` waits for.
        unsafe { push(&mut self.ring, &send) }
    }
}
