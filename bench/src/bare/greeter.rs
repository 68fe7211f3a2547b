//! Accept and reply: the connections and messages of a handshake, without reading any of them.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::ptr;

use io_uring::squeue::Flags;
use io_uring::types::{DestinationSlot, Fixed};
use io_uring::{IoUring, cqueue, opcode, types};

use super::{ACCEPTS, push, ring};
use crate::Outcome;
use crate::buffers::{self, Buffers};
use crate::setup;

/// Receive buffers.
const BUFFERS: u16 = 4_096;
const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const CLOSE: u64 = 4 << 32;

/// What each connection has said or been told so far: steps of the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Accepted: their version is awaited.
    #[default]
    Version,
    /// Ours is on its way.
    Greeted,
    /// Their verack is awaited.
    Verack,
    /// The last words are on their way.
    Told,
    /// Nothing more to say.
    Ready,
}

/// The loop, and the connections it holds.
pub(crate) struct Greeter {
    ring: IoUring,
    /// After the ring, so that it is dropped after it.
    buffers: Buffers,
    listener: TcpListener,
    address: SocketAddr,
    replies: [Vec<u8>; 2],
    stages: Vec<Stage>,
    armed: u32,
    accepted: u32,
    ready: u32,
    gone: u32,
}

impl Greeter {
    /// Room for `clients`; `replies`: what a relay says to a version and to a verack.
    pub(crate) fn open(clients: u32, replies: [Vec<u8>; 2]) -> Outcome<Greeter> {
        let ring = ring(clients)?;
        let buffers = Buffers::register(&ring, BUFFERS)?;
        let listener = setup::listener()?;
        let address = listener.local_addr()?;
        let stages = vec![Stage::default(); (clients + ACCEPTS) as usize];
        let (armed, accepted, ready, gone) = (0, 0, 0, 0);
        Ok(Greeter { ring, buffers, listener, address, replies, stages, armed, accepted, ready, gone })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and greets `clients`, and ends when the last words to all are sent.
    pub(crate) fn greet(&mut self, clients: u32) -> Outcome {
        (self.accepted, self.ready, self.gone) = (0, 0, 0);
        while self.ready < clients {
            while self.armed < ACCEPTS && self.accepted + self.armed < clients {
                self.accept()?;
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Closes once all `clients` have left.
    pub(crate) fn part(&mut self, clients: u32) -> Outcome {
        while self.gone < clients {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Outcome {
        self.ring.submit_and_wait(1)?;
        let done: Vec<cqueue::Entry> = self.ring.completion().take(1_024).collect();
        for entry in &done {
            let slot = entry.user_data() as u32;
            match entry.user_data() & !0xffff_ffff {
                ACCEPT => self.accepted(entry.result())?,
                RECEIVE => self.received(slot, entry)?,
                SEND => self.sent(slot, entry.result())?,
                _ => self.gone += 1,
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Outcome {
        self.armed += 1;
        let listener = types::Fd(self.listener.as_raw_fd());
        let accept = opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut())
            .file_index(Some(DestinationSlot::auto_target()))
            .build()
            .user_data(ACCEPT);
        // SAFETY: it points to nothing.
        unsafe { push(&mut self.ring, &accept) }
    }

    fn accepted(&mut self, result: i32) -> Outcome {
        let slot = u32::try_from(result).map_err(|_| format!("the bare loop's accept gave {result}"))?;
        (self.armed, self.accepted) = (self.armed - 1, self.accepted + 1);
        self.stages[slot as usize] = Stage::Version;
        self.receive(slot)
    }

    fn receive(&mut self, slot: u32) -> Outcome {
        let receive = opcode::Recv::new(Fixed(slot), ptr::null_mut(), 2_048)
            .buf_group(buffers::GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT)
            .user_data(RECEIVE | u64::from(slot));
        // SAFETY: the kernel picks a provided buffer; those outlive the ring.
        unsafe { push(&mut self.ring, &receive) }
    }

    fn received(&mut self, slot: u32, entry: &cqueue::Entry) -> Outcome {
        if let Some(number) = cqueue::buffer_select(entry.flags()) {
            self.buffers.give(number);
        }
        match (self.stages[slot as usize], entry.result()) {
            (_, result) if -result == libc::ENOBUFS => self.receive(slot),
            (Stage::Version, 1..) => self.send(slot, Stage::Greeted),
            (Stage::Verack, 1..) => self.send(slot, Stage::Told),
            (Stage::Ready, ..=0) => {
                let close = opcode::Close::new(Fixed(slot)).build().user_data(CLOSE | u64::from(slot));
                // SAFETY: it points to nothing.
                unsafe { push(&mut self.ring, &close) }
            }
            (Stage::Ready, _) => self.receive(slot),
            (_, result) => Err(format!("a receive of the bare loop gave {result}").into()),
        }
    }

    fn send(&mut self, slot: u32, stage: Stage) -> Outcome {
        self.stages[slot as usize] = stage;
        let bytes = &self.replies[usize::from(stage == Stage::Told)];
        let send = opcode::Send::new(Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(SEND | u64::from(slot));
        // SAFETY: the replies are not changed and live as long as the ring.
        unsafe { push(&mut self.ring, &send) }
    }

    fn sent(&mut self, slot: u32, result: i32) -> Outcome {
        let stage = &mut self.stages[slot as usize];
        let told = *stage == Stage::Told;
        if result != self.replies[usize::from(told)].len() as i32 {
            return Err(format!("a send of the bare loop gave {result}").into());
        }
        *stage = if told { Stage::Ready } else { Stage::Verack };
        self.ready += u32::from(told);
        self.receive(slot)
    }
}
