//! When each client begins.

use std::time::Duration;

use breakwater::control::duration;

use super::ScenarioError;

/// The ramp.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ramp {
    /// So many a second, evenly: `1000/s`.
    Rate(f64),
    /// So many at once, and as many again after a pause: `1000@10s`.
    Steps {
        /// Clients of a step.
        clients: u32,
        /// From one step to the next.
        every: Duration,
    },
    /// Everybody at once: `all`.
    All,
}

impl Ramp {
    /// Reads `N/s`, `N@DURATION` or `all`.
    ///
    /// # Errors
    /// It is none of them.
    pub fn parse(text: &str) -> Result<Ramp, ScenarioError> {
        let bad = || ScenarioError::value("ramp", text, "N/s, N@DURATION (steps, as 1000@10s) or all");
        if text == "all" {
            return Ok(Ramp::All);
        }
        if let Some(rate) = text.strip_suffix("/s") {
            let rate = rate.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
            return rate.map(Ramp::Rate).ok_or_else(bad);
        }
        let (clients, every) = text.split_once('@').ok_or_else(bad)?;
        let clients = clients.parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(bad)?;
        Ok(Ramp::Steps { clients, every: duration(every).map_err(|_| bad())? })
    }

    /// When client `number` (from 0) begins, after the start of the run.
    pub fn start_of(self, number: u32) -> Duration {
        match self {
            Ramp::Rate(rate) => Duration::from_secs_f64((f64::from(number) / rate).min(1e9)),
            Ramp::Steps { clients, every } => every.saturating_mul(number / clients),
            Ramp::All => Duration::ZERO,
        }
    }
}

impl std::fmt::Display for Ramp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ramp::Rate(rate) => write!(f, "{rate}/s"),
            Ramp::Steps { clients, every } => write!(f, "{clients}@{}s", every.as_secs_f64()),
            Ramp::All => f.write_str("all"),
        }
    }
}
