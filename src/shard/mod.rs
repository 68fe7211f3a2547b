//! One core: joins clients, feeds, admission and the hub's link through a kernel.
//!
//! ```text
//!   turn:  wait on the kernel (or only look, when there is work)
//!          reap    at most DONES_PER_TURN completions: accepts, bytes, sends, reads
//!          mail    at most LINK_PER_TURN entries of the hub
//!          sweep   at most `ShardConfig::sweep` clients: blocks before transactions
//!          shake   at most STEPS_PER_TURN steps of transport handshakes
//!          desk    a bounded part of one question of the operator
//!          timers  at most TIMERS_PER_TURN clients
//!          report  once a second
//! ```
//! Each part is bounded, so a ping is answered within a turn or two whatever else goes on.
//!
//! Invariants:
//! - one send and one receive per client at the kernel; a client that is being sent something is not read beyond one buffer
//! - nothing is sent inside another message; announcements go between messages
//! - every buffer taken from the pool comes back: with `Sent`, with `Read`, or when its client ends
//! - the hub's queue full is never a loss: what must arrive waits in the shard's outbox, and clients are not read meanwhile

#![forbid(unsafe_code)]

mod active;
mod agents;
mod announce;
mod budget;
mod chain;
pub mod core;
pub mod counters;
mod desk;
mod door;
mod flow;
mod getdata;
mod holds;
mod house;
mod hub_link;
mod latency;
mod listen;
mod pool;
pub mod regimes;
mod secure;
mod shake;
mod table;
mod timers;
mod txs;
mod wheel;

use std::time::Duration;

use crate::base::limits::DONES_PER_TURN;
use crate::io::{Done, Kernel};
use crate::link::ShardEnd;

use self::core::Core;
pub use self::core::{ListenerKind, ShardConfig, client_sizes};
pub use self::door::{Listener, Service};
use self::regimes::Regime;
pub use self::shake::{HandshakeLimits, HandshakesInProgress};

/// A shard on a kernel.
#[derive(Debug)]
pub struct Shard<K: Kernel> {
    kernel: K,
    core: Core,
    dones: Vec<Done>,
}

impl<K: Kernel> Shard<K> {
    /// A shard with no clients; it listens once the hub says `Open`.
    pub fn new(config: ShardConfig, kernel: K, link: ShardEnd) -> Shard<K> {
        let core = Core::new(config, kernel.now(), link);
        Shard { kernel, core, dones: Vec::with_capacity(DONES_PER_TURN) }
    }

    /// One bounded turn. False when the shard has drained and ended.
    pub fn turn(&mut self) -> bool {
        self.wait();
        let (now, unix) = (self.kernel.now(), self.kernel.unix_time());
        self.core.begin_turn(now, unix, self.kernel.asleep());
        let mut dones = std::mem::take(&mut self.dones);
        let any = !dones.is_empty();
        for done in dones.drain(..) {
            if let Done::Received { client, buffer, len } = done {
                let bytes = self.kernel.received(buffer, len);
                self.core.received(client, buffer, bytes);
            } else {
                self.core.done(done);
            }
        }
        self.dones = dones;
        self.core.charge_if(any, Regime::Handle, &self.kernel);
        self.core.run(&self.kernel);
        self.submit();
        !self.core.is_over()
    }

    /// The shard's inside, for reports and tests.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Sleeps until something is done or due. The doorbell's rule: say so, look once more, sleep.
    fn wait(&mut self) {
        let now = self.kernel.now();
        self.core.hands_over(now);
        let mut until = self.core.next_wake(now);
        if until > now {
            self.core.link().bell().will_sleep();
            if self.core.link().has_mail() {
                until = now;
            }
        }
        self.kernel.wait(until, &mut self.dones);
        self.core.link().bell().awake();
    }

    fn submit(&mut self) {
        for op in self.core.take_ops() {
            self.kernel.push(op);
        }
    }
}

/// Longest sleep of a shard: timers have a granularity of a second.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
