//! What the relay answers, as far as it is shown. What a field of a newer or older relay lacks is taken as nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::shard::regimes::Regime;

/// All that the overview shows, asked at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) info: Info,
    pub(super) services: Vec<Service>,
    pub(super) nodes: Vec<Node>,
}

/// How the relay is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    pub(super) version: String,
    pub(super) network: String,
    pub(super) started: u64,
    pub(super) height: Option<u32>,
    pub(super) tip: Option<String>,
    pub(super) clients: u64,
    pub(super) max_clients: u64,
    pub(super) ready: u64,
    pub(super) tls: u64,
    pub(super) v2: u64,
    pub(super) sessions: u64,
    pub(super) probes: u64,
    pub(super) priority: u64,
    pub(super) mempool: u64,
    pub(super) announcements: Latency,
    pub(super) per_shard: Vec<Shard>,
}

/// A shard, in totals since its start.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shard {
    pub(super) shard: u16,
    pub(super) clients: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) regimes: BTreeMap<String, f64>,
    pub(super) announcements: Latency,
}

/// Announcements of the last two blocks, seconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) clients: u64,
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) max: Option<f64>,
}

/// A service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) id: u8,
    pub(super) name: String,
    pub(super) listen: Vec<String>,
    pub(super) tls: bool,
    pub(super) draining: bool,
    pub(super) sessions: u64,
    pub(super) max_sessions: u64,
    pub(super) probes: u64,
    pub(super) max_probes: u64,
}

/// A node behind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) node: String,
    pub(super) up: bool,
    pub(super) transport: Option<String>,
    pub(super) user_agent: Option<String>,
    pub(super) losses: u64,
}

/// A page of clients.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Page {
    pub(super) clients: Vec<Client>,
    pub(super) next: Option<String>,
}

/// A client.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) address: String,
    pub(super) service: u8,
    pub(super) transport: String,
    pub(super) class: String,
    pub(super) connected: f64,
    pub(super) paused: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) round_trip: Option<f64>,
    pub(super) user_agent: String,
    pub(super) capacity: u64,
}

/// What a shard does now: the difference of two totals.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Bytes a second.
    pub(super) bytes_in: f64,
    pub(super) bytes_out: f64,
    /// Parts of its time, 0 to 1, in the order of [`Regime::ALL`].
    pub(super) regimes: [f64; Regime::ALL.len()],
}

impl Rates {
    /// Between two reports of a shard; none when there was no report in between, or another relay has taken the place. The regimes add
    /// up to the shard's time, so that no clock is needed here.
    pub(super) fn between(old: &Shard, new: &Shard) -> Option<Rates> {
        let spent =
            |shard: &Shard, regime: &Regime| shard.regimes.get(regime.label()).copied().unwrap_or(0.0);
        let mut regimes = [0.0; Regime::ALL.len()];
        for (part, regime) in regimes.iter_mut().zip(Regime::ALL) {
            *part = spent(new, regime) - spent(old, regime);
        }
        let seconds: f64 = regimes.iter().sum();
        if seconds <= 0.0 || regimes.iter().any(|part| *part < 0.0) {
            return None;
        }
        regimes.iter_mut().for_each(|part| *part /= seconds);
        let rate = |old: u64, new: u64| new.saturating_sub(old) as f64 / seconds;
        Some(Rates {
            bytes_in: rate(old.bytes_in, new.bytes_in),
            bytes_out: rate(old.bytes_out, new.bytes_out),
            regimes,
        })
    }

    /// The part of its time in which it worked.
    pub(super) fn busy(&self) -> f64 {
        self.regimes.iter().sum::<f64>() - self.regimes[Regime::Idle as usize]
    }
}
