//! What is made of what clients hear: counts, and the latency of pongs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;

use super::peer::Heard;
use super::{Plan, Seen};

/// Pings under way: number n is due at `start + n * every`, and n is its nonce.
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) first: u64,
    pub(super) next: u64,
}

/// Counts what a client has heard, and notes the latency of a pong that belongs to the schedule.
pub(super) fn note(
    heard: Heard,
    seen: &Seen,
    schedule: Option<&Schedule>,
    plan: &Plan,
    latency: &mut Histogram<u64>,
) {
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Release);
    if heard == Heard::Ready {
        count(&seen.ready);
        return;
    }
    count(&seen.messages);
    match heard {
        Heard::Block => count(&seen.blocks),
        Heard::Txs => count(&seen.txs),
        Heard::Pong(nonce) => {
            if let (Some(schedule), Some(pings)) = (schedule, plan.pings)
                && nonce >= schedule.first
            {
                let due = schedule.start + pings.every * (nonce - schedule.first) as u32;
                latency.saturating_record(due.elapsed().as_nanos() as u64);
            }
            count(&seen.pongs)
        }
        Heard::Ready | Heard::Other => 0,
    };
}
