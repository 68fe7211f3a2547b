//! The two ends of a link.

use std::io;

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::{Doorbell, ToHub, ToShard};
use crate::base::limits::{TO_HUB_QUEUE, TO_SHARD_QUEUE};

/// The shard's end.
#[derive(Debug)]
pub struct ShardEnd {
    from_hub: Consumer<ToShard>,
    to_hub: Producer<ToHub>,
    bell: Doorbell,
    hub_bell: Doorbell,
}

/// The hub's end.
#[derive(Debug)]
pub struct HubEnd {
    from_shard: Consumer<ToHub>,
    to_shard: Producer<ToShard>,
    shard_bell: Doorbell,
}

/// Makes a link. `shard_bell` wakes the shard; `hub_bell` wakes the hub and is shared by all its links.
pub fn pair(shard_bell: Doorbell, hub_bell: Doorbell) -> io::Result<(HubEnd, ShardEnd)> {
    let (to_shard, from_hub) = RingBuffer::new(TO_SHARD_QUEUE);
    let (to_hub, from_shard) = RingBuffer::new(TO_HUB_QUEUE);
    let hub = HubEnd { from_shard, to_shard, shard_bell: shard_bell.clone() };
    Ok((hub, ShardEnd { from_hub, to_hub, bell: shard_bell, hub_bell }))
}

impl ShardEnd {
    /// The next entry from the hub.
    pub fn pop(&mut self) -> Option<ToShard> {
        self.from_hub.pop().ok()
    }

    /// True exactly when the hub has sent something not yet taken.
    pub fn has_mail(&self) -> bool {
        !self.from_hub.is_empty()
    }

    /// Queues an entry for the hub; gives it back when the queue is full. Ring once per batch.
    #[allow(clippy::result_large_err)]
    pub fn push(&mut self, entry: ToHub) -> Result<(), ToHub> {
        self.to_hub.push(entry).map_err(|PushError::Full(entry)| entry)
    }

    /// Room in the queue to the hub.
    pub fn room(&self) -> usize {
        self.to_hub.slots()
    }

    /// Wakes the hub if it sleeps.
    pub fn ring_hub(&self) {
        self.hub_bell.ring();
    }

    /// The shard's own doorbell.
    pub fn bell(&self) -> &Doorbell {
        &self.bell
    }
}

impl HubEnd {
    /// The next entry from the shard.
    pub fn pop(&mut self) -> Option<ToHub> {
        self.from_shard.pop().ok()
    }

    /// True exactly when the shard has sent something not yet taken.
    pub fn has_mail(&self) -> bool {
        !self.from_shard.is_empty()
    }

    /// Queues an entry for the shard; gives it back when the queue is full. Ring once per batch.
    #[allow(clippy::result_large_err)]
    pub fn push(&mut self, entry: ToShard) -> Result<(), ToShard> {
        self.to_shard.push(entry).map_err(|PushError::Full(entry)| entry)
    }

    /// Wakes the shard if it sleeps.
    pub fn ring_shard(&self) {
        self.shard_bell.ring();
    }
}
