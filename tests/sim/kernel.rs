//! The kernel a simulated shard runs on.
//!
//! `wait` never blocks: it hands out what is due and remembers until when the shard would have slept. Whoever runs
//! the shards calls a shard's turn only when [`Port::next_wake`](super::port::Port::next_wake) has come, between
//! `Net::turn_begins` and `Net::turn_ends`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use breakwater::base::limits::DONES_PER_TURN;
use breakwater::base::{Instant, UnixTime};
use breakwater::io::{BufferId, Done, Kernel, KernelCounters, Op};

use super::net::Net;

/// The network, shared by the kernels and the actors of one thread.
pub type SharedNet = Rc<RefCell<Net>>;

/// One shard's kernel.
#[derive(Debug)]
pub struct SimKernel {
    net: SharedNet,
    port: usize,
    held: BTreeMap<u16, Vec<u8>>,
}

impl SimKernel {
    /// The kernel of a port of the network.
    pub fn new(net: SharedNet, port: usize) -> SimKernel {
        SimKernel { net, port, held: BTreeMap::new() }
    }
}

impl Kernel for SimKernel {
    fn now(&self) -> Instant {
        self.net.borrow().now()
    }

    fn unix_time(&self) -> UnixTime {
        self.net.borrow().unix()
    }

    fn push(&mut self, op: Op) {
        if let Op::Recycle(buffer) = &op {
            assert!(self.held.remove(&buffer.0).is_some(), "recycled a buffer not held: {buffer:?}");
        }
        self.net.borrow_mut().stage(self.port, op);
    }

    fn wait(&mut self, until: Instant, dones: &mut Vec<Done>) {
        let net = &mut *self.net.borrow_mut();
        net.submit_staged(self.port);
        let before = dones.len();
        let port = &mut net.ports[self.port];
        port.counters.enters += 1;
        if std::mem::take(&mut port.rung) {
            dones.push(Done::Doorbell);
        }
        let most = DONES_PER_TURN - (dones.len() - before);
        net.reap(self.port, most, dones, &mut self.held);
        let port = &mut net.ports[self.port];
        port.until = until;
        port.busy = dones.len() > before;
        port.asleep = port.bell.sleeping() && !port.busy;
    }

    fn received(&mut self, buffer: BufferId, len: u32) -> &mut [u8] {
        let data = self.held.get_mut(&buffer.0).expect("a buffer that was received and not recycled");
        assert!(len as usize <= data.len(), "read {len} bytes of a buffer that got {}", data.len());
        &mut data[..len as usize]
    }

    fn counters(&self) -> KernelCounters {
        self.net.borrow().port(self.port).counters
    }
}
