//! Metrics in Prometheus text. Shards and hub count by themselves; once a second their totals are copied here.
//!
//! Names: `breakwater_<what>_total` for counters, `breakwater_<what>` for gauges. The list with descriptions is
//! [`documented`], which `breakwater metrics` prints, and the exposition itself carries each as HELP.

use std::net::SocketAddr;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::base::{End, Fault, ShardId};
use crate::hub::command::Capacities;
use crate::hub::submissions::SubmissionCounters;
use crate::hub::{Hub, HubCounters};
use crate::link::ShardReport;
use crate::shard::counters::NAMES;

/// Kernel counters of a shard: name, description.
const KERNEL: [(&str, &str); 6] = [
    ("ring_no_buffers", " Receives that found no provided buffer (ENOBUFS) and waited."),
    ("ring_cq_overflow", " Times the completion queue overflowed."),
    ("ring_short_sends", " Sends the kernel did in part and that were continued."),
    ("ring_accept_errors", " Accepts that failed for want of descriptors or memory."),
    ("ring_enters", " Times the kernel was entered."),
    ("ring_submitted", " Operations submitted."),
];

const GAUGES: [(&str, &str); 5] = [
    ("clients", "Clients connected now."),
    ("clients_ready", "Clients connected now with their handshake complete."),
    ("clients_tls", "Clients connected now over TLS."),
    ("clients_v2", "Clients connected now over BIP324."),
    ("buffer_bytes", "Bytes of buffers in use."),
];

const HUB_GAUGES: [(&str, &str); 9] = [
    ("tip_height", "Height of the best chain's tip."),
    ("mempool_transactions", "Transactions in the mempool."),
    ("mempool_bytes", "Bytes of transactions in the mempool."),
    ("submissions_waiting", "Transactions of clients that wait for their turn at a node."),
    ("submissions_submitted", "Transactions of clients given to a node that have no verdict."),
    ("submissions_in_flight", "Transactions of clients that nodes have been sent and have not dealt with."),
    ("store_blocks", "Blocks in the store."),
    ("store_block_bytes", "Bytes of blocks in the store."),
    ("store_cache_bytes", "Bytes of blocks and filters fetched on demand in the disk cache."),
];

const CAPACITIES: [(&str, &str); 5] = [
    ("capacity_total", "Capacity that may be connected, cost units per second."),
    ("capacity_connected", "Capacity of all sessions, cost units per second."),
    ("capacity_priority_connected", "Capacity of the priority clients among them, cost units per second."),
    ("capacity_recharge", "What the host can serve, cost units per second."),
    ("capacity_recharging", "Capacity of the sessions whose buffers recharge, cost units per second."),
];

/// Every metric: name, labels, description.
pub fn documented() -> Vec<(String, &'static str, String)> {
    let counters = NAMES.iter().chain(&KERNEL);
    let mut list: Vec<_> = counters
        .map(|(name, text)| (format!("breakwater_{name}_total"), "shard", text.trim().to_string()))
        .collect();
    list.push((
        "breakwater_ends_total".into(),
        "shard, reason",
        "Clients ended, by reason; the reasons are those of base::End.".into(),
    ));
    list.push((
        "breakwater_faults_total".into(),
        "shard, fault",
        "Messages dropped without ending the client, by fault; the faults are those of base::Fault.".into(),
    ));
    list.extend(GAUGES.map(|(name, text)| (format!("breakwater_{name}"), "shard", text.to_string())));
    let hub = HubCounters::default().list();
    list.extend(
        hub.iter()
            .map(|(name, text, _)| (format!("breakwater_hub_{name}_total"), "", text.trim().to_string())),
    );
    let submissions = SubmissionCounters::default().list();
    list.extend(submissions.iter().map(|(name, text, _)| {
        (format!("breakwater_hub_submissions_{name}_total"), "", text.trim().to_string())
    }));
    list.push((
        "breakwater_hub_outbox_dropped_total".into(),
        "",
        "Announcements dropped because a shard was too far behind.".into(),
    ));
    list.push((
        "breakwater_admin_events_lagged_total".into(),
        "",
        "Watchers of the admin interface's events dropped because they were slow.".into(),
    ));
    list.extend(CAPACITIES.map(|(name, text)| (format!("breakwater_{name}"), "", text.to_string())));
    list.extend(HUB_GAUGES.map(|(name, text)| (format!("breakwater_hub_{name}"), "", text.to_string())));
    list
}

/// The metrics as they stand.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

impl Exposition {
    /// In Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}

impl std::fmt::Debug for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exposition")
    }
}

/// Begins to gather them; at `address`, if there is one, they are served on a thread of its own.
///
/// # Errors
/// The address cannot be used, or another recorder is installed.
pub fn start(address: Option<SocketAddr>) -> Result<Exposition, String> {
    let Some(address) = address else {
        let recorder = PrometheusBuilder::new().build_recorder();
        return install(recorder);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("metrics: no runtime: {error}"))?;
    // Bound here once, so that a bad address is an error of start-up and not a line in the log.
    std::net::TcpListener::bind(address).map_err(|error| {
        format!("configuration key `metrics` is {address}, expected a free address: {error}")
    })?;
    let (recorder, exporter) = {
        let _inside = runtime.enter();
        PrometheusBuilder::new().with_http_listener(address).build().map_err(|e: BuildError| e.to_string())?
    };
    let exposition = install(recorder)?;
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            if let Err(error) = runtime.block_on(exporter) {
                tracing::error!(?error, "metrics exposition ended");
            }
        })
        .map_err(|error| format!("metrics: no thread: {error}"))?;
    Ok(exposition)
}

fn install(recorder: PrometheusRecorder) -> Result<Exposition, String> {
    let exposition = Exposition(recorder.handle());
    metrics::set_global_recorder(recorder).map_err(|e| format!("metrics: {e}"))?;
    for (name, _, text) in documented() {
        if name.ends_with("_total") {
            describe_counter!(name, text);
        } else {
            describe_gauge!(name, text);
        }
    }
    // Shown before the first of them.
    counter!("breakwater_admin_events_lagged_total").increment(0);
    Ok(exposition)
}

/// Publishes a shard's totals.
pub fn publish(shard: ShardId, report: &ShardReport) {
    let shard = shard.0.to_string();
    for ((name, _), value) in NAMES.iter().zip(&report.counters) {
        counter!(format!("breakwater_{name}_total"), "shard" => shard.clone()).absolute(*value);
    }
    let kernel = &report.kernel;
    let values = [
        kernel.no_buffers,
        kernel.cq_overflow,
        kernel.short_sends,
        kernel.accept_errors,
        kernel.enters,
        kernel.submitted,
    ];
    for ((name, _), value) in KERNEL.iter().zip(values) {
        counter!(format!("breakwater_{name}_total"), "shard" => shard.clone()).absolute(value);
    }
    for (end, value) in End::ALL.iter().zip(&report.ends) {
        counter!("breakwater_ends_total", "shard" => shard.clone(), "reason" => end.label()).absolute(*value);
    }
    for (fault, value) in Fault::ALL.iter().zip(&report.faults) {
        counter!("breakwater_faults_total", "shard" => shard.clone(), "fault" => fault.label())
            .absolute(*value);
    }
    let counts = [report.clients, report.ready, report.tls, report.v2].map(f64::from);
    let gauges = counts.into_iter().chain([report.buffer_bytes as f64]);
    for ((name, _), value) in GAUGES.iter().zip(gauges) {
        gauge!(format!("breakwater_{name}"), "shard" => shard.clone()).set(value);
    }
}

/// Publishes the hub's totals. `dropped`: entries for shards dropped because they were slow.
pub fn publish_hub(hub: &Hub, dropped: u64) {
    for (name, _, value) in hub.counters().list() {
        counter!(format!("breakwater_hub_{name}_total")).absolute(value);
    }
    for (name, _, value) in hub.submission_counters().list() {
        counter!(format!("breakwater_hub_submissions_{name}_total")).absolute(value);
    }
    counter!("breakwater_hub_outbox_dropped_total").absolute(dropped);
    let (transactions, bytes) = hub.mempool_size();
    let store = hub.store_counters();
    let (waiting, submitted, in_flight) = hub.submissions();
    let values = [
        f64::from(hub.tip().0),
        transactions as f64,
        bytes as f64,
        waiting as f64,
        submitted as f64,
        in_flight as f64,
        store.blocks as f64,
        store.block_bytes as f64,
        store.cache_bytes as f64,
    ];
    for ((name, _), value) in HUB_GAUGES.iter().zip(values) {
        gauge!(format!("breakwater_hub_{name}")).set(value);
    }
}

/// Publishes capacities.
pub fn capacities(now: &Capacities) {
    let values = [now.total, now.connected, now.priority_connected, now.recharge, now.recharging];
    for ((name, _), value) in CAPACITIES.iter().zip(values) {
        gauge!(format!("breakwater_{name}")).set(value as f64);
    }
}
