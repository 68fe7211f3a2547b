//! A kernel that does nothing: every send is over at once, every client says its greeting and falls silent, time stands
//! still. What a shard costs on it is the shard's alone.

use std::collections::VecDeque;
use std::net::SocketAddr;

use breakwater::base::limits::DONES_PER_TURN;
use breakwater::base::{Conn, Instant, UnixTime};
use breakwater::io::{BufferId, Done, Kernel, KernelCounters, ListenerId, Op};
use breakwater::wire::write;

use super::wire::version;
use crate::MAGIC;

#[derive(Debug)]
pub(super) struct Blank {
    dones: VecDeque<Done>,
    /// What every client says: version and verack.
    greeting: Vec<u8>,
    /// The same, as it was received last.
    buffer: Vec<u8>,
    /// By connection: its greeting has been said.
    greeted: Vec<bool>,
}

impl Blank {
    /// So many connections come as soon as the shard listens.
    pub(super) fn new(clients: u32) -> Blank {
        let mut greeting = version();
        write::empty(&mut greeting, MAGIC, "verack");
        let peer = SocketAddr::from(([127, 0, 0, 1], 1_024));
        let accepted = |n| Done::Accepted { listener: ListenerId(0), conn: Conn(n), peer };
        Blank {
            dones: (0..clients).map(accepted).collect(),
            buffer: greeting.clone(),
            greeting,
            greeted: vec![false; clients as usize],
        }
    }
}

impl Kernel for Blank {
    fn now(&self) -> Instant {
        Instant(1_000_000_000)
    }

    fn unix_time(&self) -> UnixTime {
        1_700_000_000
    }

    fn push(&mut self, op: Op) {
        match op {
            Op::Send { client, payload, .. } => {
                self.dones.push_back(Done::Sent { client, payload, result: Ok(()) });
            }
            Op::Receive { client, conn } => {
                let greeted = self.greeted.get_mut(conn.0 as usize);
                if greeted.is_some_and(|greeted| !std::mem::replace(greeted, true)) {
                    let len = self.greeting.len() as u32;
                    // At the front: a handshake is over before the next client comes, as there is a bound to them.
                    self.dones.push_front(Done::Received { client, buffer: BufferId(0), len });
                }
            }
            _ => {}
        }
    }

    fn wait(&mut self, _until: Instant, dones: &mut Vec<Done>) {
        let count = self.dones.len().min(DONES_PER_TURN);
        dones.extend(self.dones.drain(..count));
    }

    fn received(&mut self, _buffer: BufferId, len: u32) -> &mut [u8] {
        // The shard may write to it.
        self.buffer.copy_from_slice(&self.greeting);
        self.buffer.get_mut(..len as usize).unwrap_or_default()
    }

    fn counters(&self) -> KernelCounters {
        KernelCounters::default()
    }
}
