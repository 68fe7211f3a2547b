//! Entries from the hub to a shard, on one thread and across two.

use std::hint::black_box;
use std::thread;

use breakwater::link::{self, Doorbell, ToShard};
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Round, Subject};
use crate::Outcome;

pub(super) const ALL: &[Subject] = &[
    batch("link/push and pop", || {
        let (mut hub, mut shard) = link::pair(Doorbell::silent(), Doorbell::silent())?;
        Ok(Box::new(move || {
            for n in 0..BATCH as u32 {
                let _ = black_box(hub.push(black_box(ToShard::FiltersTo(n))));
            }
            hub.ring_shard();
            while let Some(entry) = shard.pop() {
                black_box(entry);
            }
        }))
    }),
    batch("link/push and pop, floor: rtrb", || {
        let (mut to, mut from) = RingBuffer::<ToShard>::new(ROOM);
        Ok(Box::new(move || {
            for n in 0..BATCH as u32 {
                let _ = black_box(to.push(black_box(ToShard::FiltersTo(n))));
            }
            while let Ok(entry) = from.pop() {
                black_box(entry);
            }
        }))
    }),
];

pub(super) const CROSS: &[Subject] = &[
    batch("cross/link", || {
        let (mut hub, mut shard) = link::pair(Doorbell::silent(), Doorbell::silent())?;
        let (done, wait) = RingBuffer::new(ROOM);
        echo(done, move || shard.pop().is_some());
        Ok(sending(wait, move |n| hub.push(ToShard::FiltersTo(n)).is_ok()))
    }),
    batch("cross/floor: rtrb", || {
        let (mut to, mut from) = RingBuffer::<ToShard>::new(ROOM);
        let (done, wait) = RingBuffer::new(ROOM);
        echo(done, move || from.pop().is_ok());
        Ok(sending(wait, move |n| to.push(ToShard::FiltersTo(n)).is_ok()))
    }),
];

const fn batch(name: &'static str, make: fn() -> Outcome<Round>) -> Subject {
    Subject { name, items: BATCH, make }
}

/// Entries a round; fewer than a queue holds.
const BATCH: u64 = 1_000;
/// As the link's queues.
const ROOM: usize = 4_096;

/// The other thread: takes entries and answers each batch. Ends when nobody waits any more.
fn echo(mut done: Producer<()>, mut take: impl FnMut() -> bool + Send + 'static) {
    thread::spawn(move || {
        let mut taken = 0;
        while !done.is_abandoned() {
            if !take() {
                // The threads may share a core.
                thread::yield_now();
                continue;
            }
            taken += 1;
            if taken % BATCH == 0 {
                let _ = done.push(());
            }
        }
    });
}

/// A round: a batch goes over, and its answer comes back.
fn sending(mut wait: Consumer<()>, mut push: impl FnMut(u32) -> bool + 'static) -> Round {
    Box::new(move || {
        for n in 0..BATCH as u32 {
            while !push(n) {
                thread::yield_now();
            }
        }
        while wait.pop().is_err() {
            thread::yield_now();
        }
    })
}
