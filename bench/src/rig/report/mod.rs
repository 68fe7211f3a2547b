//! What a run ends with, as data; and its forms.
//!
//! ```text
//!   files     the folder of a report: what is written, and how
//!   json      report.json (the contract) and samples.jsonl
//!   hgrm      percentile files for HdrHistogram's plotters
//!   table     the end of a run on the terminal: rows and the verdict
//!   html      report.html, one file with everything in it
//!   plot      its plots
//!   compare   two reports side by side
//!   words     numbers the way people read them
//! ```

pub mod compare;
mod files;
mod hgrm;
mod html;
mod json;
mod plot;
pub mod table;
pub mod words;

use std::time::Duration;

pub use files::{REPORT, write};

use crate::machine::Machine;
use crate::rig::engine::Share;
use crate::rig::measure::{Levels, Tally};

/// Everything known at the end of a run.
#[derive(Debug, Clone)]
pub struct Results {
    /// What was asked.
    pub asked: Asked,
    /// What each behaviour measured, in the order of the scenario.
    pub behaviours: Vec<Measured>,
    /// Levels just before the clients were let go.
    pub levels: Levels,
    /// What the target used, when it could be read.
    pub target: Option<TargetUse>,
    /// A sample a second, oldest first; thinned out evenly on long runs, at most [`MAX_SAMPLES`].
    pub samples: Vec<Sample>,
    /// Blocks that were announced during the run.
    pub blocks: u32,
    /// Transactions that were announced and looked at.
    pub txs: u32,
    /// What announcements are measured from: "node" (the node told us), or "first client" (the first of ours that heard).
    pub origin: &'static str,
    /// How long it took, the ramp included.
    pub wall: Duration,
    /// From the start to the last handshake of the ramp; `None` when it was not completed.
    pub ramp: Option<Duration>,
    /// CPU time of the rig itself.
    pub rig_cpu: Duration,
    /// Resident memory of the rig with all clients, bytes.
    pub rig_rss: u64,
    /// Resident memory of the rig before the first client, bytes.
    pub rig_rss_before: u64,
    /// What a client of the rig takes by plan, by behaviour and transport.
    pub rig_plan: Vec<Share>,
    /// True exactly when somebody ended it early (Ctrl-C).
    pub interrupted: bool,
    /// Unix time at the start, seconds.
    pub started: u64,
    /// Where it ran; read before the first client, for the load.
    pub machine: Machine,
}

impl Results {
    /// All behaviours together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.behaviours.iter().for_each(|behaviour| total.add(&behaviour.tally));
        total
    }

    /// What the behaviours are called where each needs a name of its own ("all" is that of their sum).
    pub fn names(&self) -> Vec<String> {
        let names = self.behaviours.iter().map(|behaviour| behaviour.name.as_str());
        words::distinct(std::iter::once("all").chain(names)).split_off(1)
    }

    /// Handshakes of transports per second: of the whole ramp, and in the busiest second.
    pub fn transport_rates(&self) -> (Option<f64>, f64) {
        let opened = self.total().counts.transport_opened() as f64;
        let ramp = self.ramp.map(|ramp| opened / ramp.as_secs_f64().max(1e-3));
        let most = self.samples.iter().map(|sample| sample.full_s + sample.resumed_s + sample.v2_s);
        (ramp, most.fold(0.0, f64::max))
    }

    /// Resident memory the rig needs for a client, bytes.
    pub fn rig_rss_per_client(&self) -> Option<f64> {
        words::per(self.rig_rss.saturating_sub(self.rig_rss_before) as f64, self.levels.open)
    }
}

/// Most samples kept.
pub const MAX_SAMPLES: usize = 1_800;

/// What was asked of a run, for the record.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Asked {
    /// HOST:PORT of each target.
    pub targets: Vec<String>,
    /// Name of the network.
    pub network: String,
    /// Clients in all.
    pub clients: u64,
    /// The ramp, as it was written.
    pub ramp: String,
    /// How long after the ramp, seconds.
    pub seconds: f64,
    /// plain, v2, tls; or several, with commas between.
    pub transport: String,
    /// The seed.
    pub seed: u64,
    /// Threads (rings).
    pub rings: u64,
    /// Clients that leave and come back per second, as a share of all; 0 for none.
    pub churn: f64,
}

/// What one behaviour measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Clients asked.
    pub asked: u64,
    /// Counters and latencies.
    pub tally: Tally,
}

/// What the target used, read from /proc.
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetUse {
    /// Its process; the first of several.
    pub pid: u32,
    /// CPU time during the run, user and system of all its threads.
    pub cpu: Duration,
    /// CPU time from the end of the ramp to the end.
    pub cpu_after_ramp: Duration,
    /// VmRSS before the first client, bytes.
    pub rss_before: u64,
    /// VmRSS with all clients, bytes.
    pub rss: u64,
    /// Kernel memory of one connection on the target's side, bytes: half of what the host's slab and socket buffers grew by,
    /// per connection, after what the rig's own armed receives cost is taken off. Says nothing when other programs open connections.
    pub kernel_per_client: Option<u64>,
    /// Connections that were open when `rss` was read.
    pub clients: u64,
}

impl TargetUse {
    /// Resident memory a client takes, bytes.
    pub fn rss_per_client(&self) -> Option<f64> {
        words::per(self.rss.saturating_sub(self.rss_before) as f64, self.clients)
    }

    /// CPU time after the ramp per announcement that a client heard, blocks and transactions alike, microseconds; pings and
    /// requests of that time are in it.
    pub fn cpu_per_announcement(&self, total: &Tally) -> Option<f64> {
        words::per(
            self.cpu_after_ramp.as_secs_f64() * 1e6,
            total.counts.blocks_heard + total.counts.txs_heard,
        )
    }
}

/// The state of a run at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    /// Connections open.
    pub open: u64,
    /// Clients ready.
    pub ready: u64,
    /// Handshakes per second.
    pub handshakes_s: f64,
    /// Full TLS handshakes per second.
    pub full_s: f64,
    /// Resumed ones.
    pub resumed_s: f64,
    /// Those of BIP324.
    pub v2_s: f64,
    /// Messages per second received by the rig.
    pub messages_s: f64,
    /// Bytes per second received by the rig.
    pub bytes_in_s: f64,
    /// Refusals and losses so far.
    pub refused: u64,
    /// See `refused`.
    pub lost: u64,
    /// Ping in this second, microseconds: median and p99; 0 when there was none.
    pub ping_p50: u64,
    /// See `ping_p50`.
    pub ping_p99: u64,
    /// Block announcements in this second: median and p99, microseconds; 0 when there was none.
    pub block_p50: u64,
    /// See `block_p50`.
    pub block_p99: u64,
    /// Blocks announced since the start.
    pub blocks: u32,
    /// Ready clients that had not yet heard of the newest block.
    pub behind: u64,
    /// VmRSS of the target, bytes; 0 when unknown.
    pub target_rss: u64,
    /// CPU of the target in this second, cores.
    pub target_cores: f64,
    /// CPU of the rig in this second, cores.
    pub rig_cores: f64,
    /// Kernel slab of the whole host, bytes.
    pub slab: u64,
}

impl Results {
    /// True exactly when no client was lost or refused.
    pub fn is_clean(&self) -> bool {
        self.behaviours.iter().all(|of| of.tally.counts.lost == 0 && of.tally.refused_total() == 0)
    }
}
