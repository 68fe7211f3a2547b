//! Metrics in Prometheus text. Shards and hub count by themselves; once a second their totals are copied here.
//!
//! Names: `breakwater_<what>_total` for counters, `breakwater_<what>` for gauges. The list with types, units, labels and descriptions is
//! [`documented`], which `breakwater metrics` prints, and the exposition itself carries each as HELP.
//!
//! - `list`: every metric
//! - `services`: the gauges of services, which come and go
//! - `timing`: those in seconds

mod list;
mod services;
mod timing;

use std::net::{SocketAddr, TcpListener};

use axum::Router;
use axum::http::header;
use axum::routing::get;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

pub use list::{Kind, Metric, documented, markdown};

use self::list::{CAPACITIES, GAUGES, HUB_GAUGES, KERNEL, LATENCY, REGIMES};
use super::admin;
use crate::base::{End, Fault, ShardId};
use crate::hub::Hub;
use crate::hub::command::Capacities;
use crate::link::ShardReport;
use crate::shard::counters::NAMES;

/// What Prometheus is told the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics as they stand.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

impl Exposition {
    /// In Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render() + &timing::render()
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
    // Bound first, so that a bad address is an error of start-up and not a line in the log.
    let bind = |address| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let listener = address.map(bind).transpose().map_err(|error: std::io::Error| {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        format!("configuration key `metrics` is {address}, expected a free address: {error}")
    })?;
    let exposition = install()?;
    if let Some(listener) = listener {
        serve(listener, exposition.clone())?;
    }
    Ok(exposition)
}

fn serve(listener: TcpListener, exposition: Exposition) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("metrics: no runtime: {error}"))?;
    let text = move || {
        let text = exposition.render();
        async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], text) }
    };
    let app = Router::new().route("/metrics", get(text));
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            if let Err(error) = runtime.block_on(admin::serve_app(listener, app)) {
                tracing::error!(%error, "metrics exposition ended");
            }
        })
        .map_err(|error| format!("metrics: no thread: {error}"))?;
    Ok(())
}

fn install() -> Result<Exposition, String> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let exposition = Exposition(recorder.handle());
    metrics::set_global_recorder(recorder).map_err(|e| format!("metrics: {e}"))?;
    let described =
        documented().into_iter().filter(|metric| ![REGIMES, LATENCY].contains(&metric.name.as_str()));
    for Metric { name, kind, text, .. } in described {
        match kind {
            Kind::Counter => describe_counter!(name, text),
            Kind::Gauge | Kind::Histogram => describe_gauge!(name, text),
        }
    }
    // Shown before the first of them.
    counter!("breakwater_admin_events_lagged_total").increment(0);
    Ok(exposition)
}

/// Publishes a shard's totals.
pub fn publish(shard: ShardId, report: &ShardReport) {
    timing::keep(shard.0, report);
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
        kernel.accepts_aborted,
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
    services::publish(&shard, report);
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
    let (store, nodes) = (hub.store_counters(), hub.nodes());
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
        nodes.len() as f64,
        nodes.iter().filter(|node| node.up).count() as f64,
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
