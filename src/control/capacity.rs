//! The configuration's part about capacity: how much there is, and what it costs.

use std::time::Duration;

use toml::{Table, Value};

use super::config::{Config, ConfigError, Keys, one_line};
use crate::admission::{CapacityLimits, Factors, Limit};
use crate::hub::treasury::TreasuryConfig;
use crate::link::HouseRules;

/// Cost units per second that a core serves: a unit is a microsecond of it.
const CORE: u64 = 1_000_000;
/// Taken for a client's capacity where there is no limit.
const UNLIMITED: u64 = 100_000;
/// Most of a price.
const MOST_PRICE: f64 = 1e9;

impl Config {
    /// What clients may use.
    pub fn treasury(&self) -> TreasuryConfig {
        let each = if self.free_capacity == 0 { UNLIMITED } else { u64::from(self.free_capacity) };
        let maximum = if self.max_capacity == 0 {
            u64::from(self.max_clients.max(1)).saturating_mul(each)
        } else {
            self.max_capacity
        };
        let recharge = if self.total_recharge == 0 { self.shards as u64 * CORE } else { self.total_recharge };
        TreasuryConfig {
            minimum: if self.free_capacity == 0 { u32::MAX } else { self.free_capacity },
            limits: CapacityLimits { maximum, recharge },
            rules: self.rules,
        }
    }
}

impl Keys<'_> {
    pub(super) fn rules(&self) -> Result<HouseRules, ConfigError> {
        Ok(HouseRules {
            factors: self.prices("prices")?,
            bias: Duration::from_secs(self.integer("connected_bias_seconds", 0, 86_400)?),
            throttle_down: Limit::Keep,
            throttle_up: Limit::Keep,
        })
    }

    fn prices(&self, key: &'static str) -> Result<Factors, ConfigError> {
        let expected = "a table of time, capacity and request";
        let table: &Table =
            self.0.get(key).and_then(Value::as_table).ok_or_else(|| self.error(key, expected))?;
        let mut factors = Factors::default();
        for (name, value) in table {
            let place = match name.as_str() {
                "time" => &mut factors.time,
                "capacity" => &mut factors.capacity,
                "request" => &mut factors.request,
                _ => return Err(self.error(key, expected)),
            };
            let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
            *place = number.filter(|n| (0.0..=MOST_PRICE).contains(n)).ok_or_else(|| ConfigError::Value {
                key,
                value: format!("{name} = {}", one_line(&value.to_string())),
                expected: format!("a number from 0 to {MOST_PRICE}"),
            })?;
        }
        Ok(factors)
    }
}
