//! What the shards report of themselves, as JSON. Times are seconds.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::link::{Histogram, ShardReport};
use crate::shard::regimes::Regime;

/// A shard. What only rises is counted from its start; a rate is a difference by that of the regimes' sum.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShardView {
    shard: u16,
    /// Clients connected, and those whose handshake is complete.
    clients: u32,
    ready: u32,
    /// Whether its listeners accept.
    listening: bool,
    /// Bytes received from clients, and sent to them.
    bytes_in: u64,
    bytes_out: u64,
    /// Bytes of buffers in use.
    buffer_bytes: u64,
    regimes: RegimesView,
    announcements: LatencyView,
}

/// Where a shard's time went; they add up to the time since it began.
#[derive(Debug, Serialize, ToSchema)]
struct RegimesView {
    /// Asleep: there was nothing to do.
    idle: f64,
    /// In the kernel and not asleep: sends and receives.
    kernel: f64,
    /// Clients' messages, and what answers them.
    handle: f64,
    /// Entries of the hub.
    link: f64,
    /// Announcements.
    announce: f64,
    /// Transport handshakes.
    handshake: f64,
    /// Questions of the operator.
    operator: f64,
    /// Timers and reports.
    timers: f64,
}

/// From the hub's block to the hand-over of a client's announcement, of the last two blocks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LatencyView {
    /// How many clients were told.
    clients: u64,
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
}

impl From<&Histogram> for LatencyView {
    fn from(seen: &Histogram) -> LatencyView {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        LatencyView {
            clients: seen.count(),
            p50: seconds(seen.quantile(0.5)),
            p99: seconds(seen.quantile(0.99)),
            max: seconds(seen.max()),
        }
    }
}

impl LatencyView {
    /// Of all shards together.
    pub(super) fn of(reports: &[ShardReport]) -> LatencyView {
        let mut all = Histogram::default();
        reports.iter().for_each(|report| all.merge(&report.recent_latency));
        LatencyView::from(&all)
    }
}

impl ShardView {
    pub(super) fn new(shard: usize, report: &ShardReport) -> ShardView {
        let spent = |regime: Regime| report.regimes.get(regime as usize).map_or(0.0, Duration::as_secs_f64);
        ShardView {
            shard: shard as u16,
            clients: report.clients,
            ready: report.ready,
            listening: report.listening,
            bytes_in: report.bytes_in,
            bytes_out: report.bytes_out,
            buffer_bytes: report.buffer_bytes,
            regimes: RegimesView {
                idle: spent(Regime::Idle),
                kernel: spent(Regime::Kernel),
                handle: spent(Regime::Handle),
                link: spent(Regime::Link),
                announce: spent(Regime::Announce),
                handshake: spent(Regime::Handshake),
                operator: spent(Regime::Operator),
                timers: spent(Regime::Timers),
            },
            announcements: LatencyView::from(&report.recent_latency),
        }
    }
}
