//! What an operator puts elsewhere: a dashboard for Grafana, alert rules for Prometheus. `tests/ops.rs` compares what they name with the
//! list of metrics.

/// A dashboard for Grafana (10 or later), as JSON to import.
pub const DASHBOARD: &str = include_str!("ops/dashboard.json");

/// Alert rules for Prometheus.
pub const ALERTS: &str = include_str!("ops/alerts.yml");
