//! The list of metrics: names, types, units and labels are stable, dashboards and alerts are made of them.

use crate::hub::HubCounters;
use crate::hub::submissions::SubmissionCounters;
use crate::shard::counters::NAMES;

/// Kernel counters of a shard: name, description.
pub(super) const KERNEL: [(&str, &str); 7] = [
    ("ring_no_buffers", "Receives that found no provided buffer (ENOBUFS) and waited."),
    ("ring_cq_overflow", "Times the completion queue overflowed."),
    ("ring_short_sends", "Sends the kernel did in part and that were continued."),
    ("ring_accept_errors", "Accepts that failed for want of descriptors or memory."),
    ("ring_accepts_aborted", "Connections that were gone before they were accepted."),
    ("ring_enters", "Times the kernel was entered."),
    ("ring_submitted", "Operations submitted."),
];

pub(super) const GAUGES: [(&str, &str); 5] = [
    ("clients", "Clients connected now."),
    ("clients_ready", "Clients connected now with their handshake complete."),
    ("clients_tls", "Clients connected now over TLS."),
    ("clients_v2", "Clients connected now over BIP324."),
    ("buffer_bytes", "Bytes of buffers in use."),
];

pub(super) const SERVICE_GAUGES: [(&str, &str); 4] = [
    ("service_sessions", "Session slots taken, by service."),
    ("service_session_slots", "Session slots there are, by service."),
    ("service_probes", "Probe slots taken, by service."),
    ("service_probe_slots", "Probe slots there are, by service."),
];

pub(super) const HUB_GAUGES: [(&str, &str); 11] = [
    ("tip_height", "Height of the best chain's tip."),
    ("mempool_transactions", "Transactions in the mempool."),
    ("mempool_bytes", "Bytes of transactions in the mempool."),
    ("submissions_waiting", "Transactions of clients that wait for their turn at a node."),
    ("submissions_submitted", "Transactions of clients given to a node that have no verdict."),
    ("submissions_in_flight", "Transactions of clients that nodes have been sent and have not dealt with."),
    ("store_blocks", "Blocks in the store."),
    ("store_block_bytes", "Bytes of blocks in the store."),
    ("store_cache_bytes", "Bytes of blocks and filters fetched on demand in the disk cache."),
    ("nodes", "Nodes there are."),
    ("nodes_up", "Nodes whose main link is up."),
];

pub(super) const CAPACITIES: [(&str, &str); 5] = [
    ("capacity_total", "Capacity that may be connected, cost units per second."),
    ("capacity_connected", "Capacity of all sessions, cost units per second."),
    ("capacity_priority_connected", "Capacity of the priority clients among them, cost units per second."),
    ("capacity_recharge", "What the host can serve, cost units per second."),
    ("capacity_recharging", "Capacity of the sessions whose buffers recharge, cost units per second."),
];

/// Seconds of a shard by regime.
pub(super) const REGIMES: &str = "breakwater_regime_seconds_total";
/// Announcements of blocks.
pub(super) const LATENCY: &str = "breakwater_announcement_latency_seconds";

/// What a metric is, as Prometheus says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only rises, from 0 at the start.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by upper bound, with a sum and a count.
    Histogram,
}

impl Kind {
    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Of what: seconds, bytes, cost units; "1" for things that are counted.
    pub unit: &'static str,
    /// Its labels, separated by a comma and a space.
    pub labels: &'static str,
    /// What it says.
    pub text: String,
}

impl Metric {
    fn new(name: String, kind: Kind, labels: &'static str, text: &str) -> Metric {
        let unit = unit(&name);
        Metric { name, kind, unit, labels, text: text.trim().to_string() }
    }
}

fn unit(name: &str) -> &'static str {
    let parts = || name.split('_');
    match () {
        () if parts().any(|part| part == "bytes") => "bytes",
        () if parts().any(|part| part == "seconds") => "seconds",
        () if parts().any(|part| part == "capacity") => "cost units per second",
        () if parts().any(|part| part == "cost") => "cost units",
        () => "1",
    }
}

/// Every metric.
pub fn documented() -> Vec<Metric> {
    let named = |name: &str| format!("breakwater_{name}");
    let counter = |name: &str, labels, text: &str| {
        Metric::new(format!("breakwater_{name}_total"), Kind::Counter, labels, text)
    };
    let mut list: Vec<Metric> =
        NAMES.iter().chain(&KERNEL).map(|(name, text)| counter(name, "shard", text)).collect();
    list.push(counter(
        "ends",
        "shard, reason",
        "Clients ended, by reason; the reasons are those of base::End.",
    ));
    list.push(counter(
        "faults",
        "shard, fault",
        "Messages dropped without ending the client, by fault; the faults are those of base::Fault.",
    ));
    list.push(Metric::new(
        REGIMES.into(),
        Kind::Counter,
        "shard, regime",
        "Where a shard's time went. The regimes (shard::regimes) add up to the time since it began; all but idle is work.",
    ));
    list.push(Metric::new(
        LATENCY.into(),
        Kind::Histogram,
        "shard, le",
        "From the moment the hub had a block until its announcement to a client was handed to the kernel, one per client.",
    ));
    list.extend(GAUGES.map(|(name, text)| Metric::new(named(name), Kind::Gauge, "shard", text)));
    list.extend(
        SERVICE_GAUGES.map(|(name, text)| Metric::new(named(name), Kind::Gauge, "shard, service", text)),
    );
    let hub = HubCounters::default().list();
    list.extend(hub.iter().map(|(name, text, _)| counter(&format!("hub_{name}"), "", text)));
    let submissions = SubmissionCounters::default().list();
    list.extend(
        submissions.iter().map(|(name, text, _)| counter(&format!("hub_submissions_{name}"), "", text)),
    );
    list.push(counter("hub_outbox_dropped", "", "Announcements dropped because a shard was too far behind."));
    list.push(counter(
        "admin_events_lagged",
        "",
        "Watchers of the admin interface's events dropped because they were slow.",
    ));
    list.extend(CAPACITIES.map(|(name, text)| Metric::new(named(name), Kind::Gauge, "", text)));
    list.extend(
        HUB_GAUGES.map(|(name, text)| Metric::new(format!("breakwater_hub_{name}"), Kind::Gauge, "", text)),
    );
    list
}

/// The list as a table in Markdown: `src/control/metrics/list.md` is this.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nMade by `breakwater metrics --markdown`; a test compares it with that, and that with what a relay serves.\n\n\
         | name | type | unit | labels | what |\n|---|---|---|---|---|\n",
    );
    for Metric { name, kind, unit, labels, text: what } in documented() {
        text.push_str(&format!("| `{name}` | {} | {unit} | {labels} | {what} |\n", kind.label()));
    }
    text
}
