//! What a run measures, per behaviour: counters and histograms, gathered by each worker and drained by the main thread.
//!
//! Times are in microseconds from the *intended* moment: a connection counts from its place in the ramp, a ping from its place
//! in the schedule, an announcement from the moment the node had the thing (see [`super::origin`]), so a rig or a
//! target that falls behind shows up as latency and not as fewer samples (no coordinated omission).
//!
//! Bounded: histograms have two significant digits and grow to the longest latency seen, at most [`LONGEST_US`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer latencies are recorded as this: one hour.
pub const LONGEST_US: u64 = 3_600_000_000;
/// Digits kept of a latency: 1 % error, 20 KB at the most.
const DIGITS: u8 = 2;
/// Kinds of refusals and of errors counted by name in one tally; what comes beyond counts as "other".
const MAX_REASONS: usize = 64;

/// The latencies that are measured; names as in `report.json`.
pub const LATENCIES: [&str; 8] =
    ["connect", "handshake", "ping", "block_announce", "tx_announce", "request", "lateness", "transport"];

/// Latencies of one kind.
#[derive(Debug, Clone)]
pub struct Latency(Option<Box<Histogram<u64>>>);

impl Latency {
    /// Nothing measured.
    pub const fn new() -> Latency {
        Latency(None)
    }

    /// One more.
    pub fn record(&mut self, latency: Duration) {
        self.record_us(u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US));
    }

    /// One more of a schedule with this pause: what the schedule would have measured meanwhile, had it not waited for this
    /// answer, is recorded, too.
    pub fn record_scheduled(&mut self, latency: Duration, every: Duration) {
        if every.is_zero() {
            return self.record(latency);
        }
        let us = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(LONGEST_US).clamp(1, LONGEST_US);
        if let Some(histogram) = self.histogram() {
            // In range by the clamp above.
            let _ = histogram.record_correct(us(latency), us(every));
        }
    }

    fn record_us(&mut self, us: u64) {
        if let Some(histogram) = self.histogram() {
            // Not saturating_record: that cuts off at what the histogram holds so far instead of growing it. In range by the clamp.
            let _ = histogram.record(us.clamp(1, LONGEST_US));
        }
    }

    fn histogram(&mut self) -> Option<&mut Histogram<u64>> {
        if self.0.is_none() {
            // The bounds are constants that hdrhistogram accepts.
            let mut made = Histogram::new(DIGITS).ok()?;
            made.auto(true);
            self.0 = Some(Box::new(made));
        }
        self.0.as_deref_mut()
    }

    /// What was measured, if anything was.
    pub fn get(&self) -> Option<&Histogram<u64>> {
        self.0.as_deref()
    }

    /// What was measured after `before`, an earlier state of this.
    pub fn since(&self, before: &Latency) -> Option<Histogram<u64>> {
        let mut recent = self.get()?.clone();
        if let Some(before) = before.get() {
            recent.subtract(before).ok()?;
        }
        (!recent.is_empty()).then_some(recent)
    }

    /// Adds what another has measured.
    pub fn add(&mut self, other: &Latency) {
        if let Some(theirs) = other.get()
            && let Some(ours) = self.histogram()
        {
            // Both have the same digits and grow as needed.
            let _ = ours.add(theirs);
        }
    }
}

impl Default for Latency {
    fn default() -> Latency {
        Latency::new()
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counters of a behaviour; each only grows.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
        pub struct Counts {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds what another has counted.
            pub fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Connections begun.
    attempts,
    /// Connections that came about.
    connections,
    /// Clients that connected at least once.
    connected,
    /// Handshakes of a transport (TLS, v2) begun: each comes to one of the four below.
    transport_begun,
    /// TLS handshakes completed without a ticket.
    transport_full,
    /// TLS handshakes completed by a ticket.
    transport_resumed,
    /// BIP324 handshakes completed.
    transport_v2,
    /// Handshakes of a transport that came to nothing.
    transport_failed,
    /// Handshakes completed: version and verack.
    handshakes,
    /// Clients that completed a handshake at least once.
    handshaken,
    /// Clients whose connection the other side ended after the handshake without being asked to.
    lost,
    /// Connections ended on our side as the behaviour wants it: scans done, churn, the end of the run.
    left,
    /// Connections an attacker was thrown out of, as it deserves.
    thrown_out,
    /// Attacks after which the target still answered a ping: it dropped or forgave the input.
    forgiven,
    /// Pings sent.
    pings,
    /// Pongs to them.
    pongs,
    /// Pings whose client was gone, or was let go, before the pong.
    pings_dropped,
    /// Announcements of blocks heard, one a client and block.
    blocks_heard,
    /// Announcements of blocks that a client never got although it heard of a later one, or was there to the end.
    blocks_skipped,
    /// Transactions announced to clients, one a client and transaction.
    txs_heard,
    /// Transactions submitted.
    txs_submitted,
    /// Submitted transactions the target asked for and was given.
    txs_given,
    /// Requests sent (headers, filters, blocks, transactions).
    requests,
    /// Requests answered to the last byte.
    answers,
    /// Requests answered by notfound.
    not_found,
    /// Blocks received whole.
    blocks_received,
    /// Messages received.
    messages_in,
    /// Bytes received.
    bytes_in,
    /// Bytes sent.
    bytes_out,
}

/// Everything measured of one behaviour.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Counters.
    pub counts: Counts,
    /// From the intended start to the TCP connection.
    pub connect: Latency,
    /// From the TCP connection to `verack`.
    pub handshake: Latency,
    /// From the intended sending of a ping to its pong.
    pub ping: Latency,
    /// From the moment the node had a block to its announcement at a client.
    pub block_announce: Latency,
    /// The same for transactions; of each inv message the oldest counts.
    pub tx_announce: Latency,
    /// From a request to the last byte of its answer.
    pub request: Latency,
    /// From the intended start of an action to its submission: the rig's own delay. When it is large, the rig is the bottleneck.
    pub lateness: Latency,
    /// From the TCP connection to the open transport (TLS, v2).
    pub transport: Latency,
    /// Connections that came to nothing before the handshake was complete, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Connections lost and things that should not be, by reason.
    pub errors: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Handshakes of a transport completed, of any kind.
    pub fn transport_opened(&self) -> u64 {
        self.transport_full + self.transport_resumed + self.transport_v2
    }
}

impl Tally {
    /// One more refusal.
    pub fn refuse(&mut self, reason: &'static str) {
        count(&mut self.refused, reason, 1);
    }

    /// One more error.
    pub fn error(&mut self, reason: &'static str) {
        count(&mut self.errors, reason, 1);
    }

    /// The latencies, in the order of [`LATENCIES`].
    pub fn latencies(&self) -> [&Latency; 8] {
        [
            &self.connect,
            &self.handshake,
            &self.ping,
            &self.block_announce,
            &self.tx_announce,
            &self.request,
            &self.lateness,
            &self.transport,
        ]
    }

    /// Adds what another has measured.
    pub fn add(&mut self, other: &Tally) {
        self.counts.add(&other.counts);
        self.connect.add(&other.connect);
        self.handshake.add(&other.handshake);
        self.ping.add(&other.ping);
        self.block_announce.add(&other.block_announce);
        self.tx_announce.add(&other.tx_announce);
        self.request.add(&other.request);
        self.lateness.add(&other.lateness);
        self.transport.add(&other.transport);
        other.refused.iter().for_each(|(reason, n)| count(&mut self.refused, reason, *n));
        other.errors.iter().for_each(|(reason, n)| count(&mut self.errors, reason, *n));
    }

    /// Connections refused, all reasons.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }
}

fn count(map: &mut BTreeMap<&'static str, u64>, reason: &'static str, n: u64) {
    let reason = if map.len() < MAX_REASONS || map.contains_key(reason) { reason } else { "other" };
    *map.entry(reason).or_default() += n;
}

/// What a worker has measured since the main thread last looked; levels are as they are now.
#[derive(Debug, Default)]
pub struct Board {
    inner: Mutex<Noted>,
}

/// See [`Board`].
#[derive(Debug, Default, Clone)]
pub struct Noted {
    /// By behaviour, in the order of the scenario.
    pub tallies: Vec<Tally>,
    /// Levels now.
    pub levels: Levels,
}

/// What is the case now, not since when.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Levels {
    /// Connections open.
    pub open: u64,
    /// Clients whose handshake is complete.
    pub ready: u64,
    /// Clients that have become ready once, or are over, or (without a handshake) have connected.
    pub settled: u64,
    /// Clients that will never connect again: refused, lost, or done.
    pub over: u64,
    /// Clients whose first connection has been begun.
    pub begun: u64,
    /// Ready clients that have not yet heard of the newest block.
    pub behind: u64,
    /// Pings under way.
    pub pinging: u64,
    /// CPU time of the workers, microseconds.
    pub cpu_us: u64,
    /// When the target ended a connection last, nanoseconds on the clock of the run; 0 for never. Not in reports.
    #[serde(skip)]
    pub last_end: u64,
}

impl Levels {
    /// Adds those of another worker.
    pub fn add(&mut self, other: &Levels) {
        self.open += other.open;
        self.ready += other.ready;
        self.settled += other.settled;
        self.over += other.over;
        self.begun += other.begun;
        self.behind += other.behind;
        self.pinging += other.pinging;
        self.cpu_us += other.cpu_us;
        self.last_end = self.last_end.max(other.last_end);
    }
}

impl Board {
    /// Takes over what has been measured since the last call; `tallies` are empty afterwards.
    pub fn put(&self, tallies: &mut [Tally], levels: Levels) {
        let mut inner = self.lock();
        if inner.tallies.is_empty() {
            inner.tallies.resize_with(tallies.len(), Tally::default);
        }
        for (sum, tally) in inner.tallies.iter_mut().zip(tallies) {
            sum.add(&std::mem::take(tally));
        }
        inner.levels = levels;
    }

    /// What has come since the last call; the levels stay.
    pub fn take(&self) -> Noted {
        let mut inner = self.lock();
        Noted { tallies: std::mem::take(&mut inner.tallies), levels: inner.levels }
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        // A panic elsewhere leaves sums that are whole enough to be read.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_counts_for_the_pings_it_held_up() {
        let mut ping = Latency::new();
        ping.record_scheduled(Duration::from_secs(10), Duration::from_secs(2));
        let histogram = ping.get().unwrap();
        // 10 s, and the 8, 6, 4 and 2 s that pings sent meanwhile would have taken.
        assert_eq!(histogram.len(), 5);
        assert!(histogram.min() <= 2_020_000);
    }

    #[test]
    fn a_latency_is_kept_however_long_the_others_were() {
        let mut latency = Latency::new();
        for us in [1, 90, 2_500, 700_000, 3_000_000_000, u64::MAX] {
            latency.record_us(us);
            let kept = latency.get().unwrap();
            assert!(kept.equivalent(kept.max(), us.min(LONGEST_US)), "{us} was kept as {}", kept.max());
        }
    }

    #[test]
    fn a_board_gives_everything_once() {
        let board = Board::default();
        let mut tallies = vec![Tally::default()];
        tallies[0].counts.pings = 3;
        tallies[0].refuse("closed");
        board.put(&mut tallies, Levels { open: 7, ..Levels::default() });
        tallies[0].counts.pings = 2;
        board.put(&mut tallies, Levels { open: 8, ..Levels::default() });
        let noted = board.take();
        assert_eq!((noted.tallies[0].counts.pings, noted.levels.open), (5, 8));
        assert_eq!(noted.tallies[0].refused_total(), 1);
        assert!(board.take().tallies.is_empty());
    }
}
