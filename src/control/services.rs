//! The configuration's part about services: groups of listeners with rules of their own, and who is let in.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use toml::{Table, Value};

use super::config::{Config, ConfigError, Keys, one_line};
use crate::admission::{Costs, ProbeLimits};
use crate::base::ServiceId;
use crate::base::limits::MAX_USER_AGENT;
use crate::hub::command;
use crate::hub::desk::NewcomerRules;
use crate::shard::{Listener, ListenerKind, Service};
use crate::wire::Services;

/// Most services.
pub const MAX_SERVICES: usize = 64;
/// Most bytes of a service's name.
const MAX_NAME: usize = 32;
/// The name of the service that `listen` and `tls_listen` make.
pub const FIRST: &str = "default";
/// What a service may leave out of what it offers, and the bits.
const LEFT_OUT: [(&str, Services); 2] =
    [("network", Services::NETWORK), ("compact_filters", Services::COMPACT_FILTERS)];
/// One probe slot for so many connections, when the operator has named no number.
const PROBE_SHARE: u32 = 10;

/// A service as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Its name.
    pub name: String,
    /// Where clients connect, plain and BIP324.
    pub listen: Vec<SocketAddr>,
    /// Where clients connect with TLS.
    pub tls_listen: Vec<SocketAddr>,
    /// Our name there; the relay's when there is none.
    pub user_agent: Option<String>,
    /// Service bits that are not offered.
    pub without: Services,
    /// Session slots; 0 for as many as clients fit.
    pub session_slots: u32,
    /// Probe slots; 0 for a tenth of `max_clients`.
    pub probe_slots: u32,
}

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeConfig {
    /// How long somebody may stay a probe; none for ever.
    pub time: Option<Duration>,
    /// How often.
    pub limits: ProbeLimits,
    /// From where one may come as often as one likes.
    pub exempt: Vec<IpNet>,
}

impl Config {
    /// Every service: the first is made of `listen` and `tls_listen`.
    pub fn every_service(&self) -> Vec<ServiceConfig> {
        let first = ServiceConfig {
            name: FIRST.to_string(),
            listen: self.listen.clone(),
            tls_listen: self.tls.listen.clone(),
            user_agent: None,
            without: Services::empty(),
            session_slots: self.session_slots,
            probe_slots: self.probe_slots,
        };
        std::iter::once(first).chain(self.services.iter().cloned()).collect()
    }

    /// A service as the operator sees it; `listen`: its addresses, ports resolved.
    pub fn shown(&self, service: &ServiceConfig, listen: Vec<SocketAddr>) -> command::Service {
        let rules = self.slots(service);
        let offered = |without: Services| (Services::all() - without).bits();
        command::Service {
            name: service.name.clone(),
            listen,
            tls: service.listen.is_empty(),
            bits: (!service.without.is_empty()).then(|| offered(service.without)),
            user_agent: service.user_agent.clone(),
            sessions: u64::from(rules.0),
            probes: u64::from(rules.1),
        }
    }

    /// Session and probe slots of a service, all shards together.
    fn slots(&self, service: &ServiceConfig) -> (u32, u32) {
        let all = self.max_clients.max(1);
        let probes =
            if service.probe_slots > 0 { service.probe_slots } else { all.div_ceil(PROBE_SHARE).max(64) };
        let sessions = if service.session_slots > 0 { service.session_slots } else { all };
        (sessions, probes)
    }

    /// A service's rules for one shard.
    pub fn rules(&self, id: ServiceId, service: &ServiceConfig) -> Service {
        let (sessions, probes) = self.slots(service);
        let user_agent = service.user_agent.as_ref().unwrap_or(&self.user_agent);
        Service {
            id,
            user_agent: Bytes::copy_from_slice(user_agent.as_bytes()),
            without: service.without,
            sessions,
            probes,
            capacity: self.newcomers().capacity,
            probe_time: self.newcomers().probe_time,
        }
        .share(self.shards as u32)
    }

    /// What clients get of services that are added while the relay runs.
    pub fn newcomers(&self) -> NewcomerRules {
        let capacity = if self.free_capacity == 0 { u32::MAX } else { self.free_capacity };
        NewcomerRules { capacity, probe_time: self.probes.time }
    }

    /// Every listening address with its listener, service by service.
    pub fn every_listener(&self) -> Vec<(SocketAddr, Listener)> {
        let mut all = Vec::new();
        for (number, service) in self.every_service().iter().enumerate() {
            let service_id = ServiceId(number as u8);
            let of = |kind| move |at: &SocketAddr| (*at, Listener { kind, service: service_id });
            all.extend(service.listen.iter().map(of(ListenerKind::Plain)));
            all.extend(service.tls_listen.iter().map(of(ListenerKind::Tls)));
        }
        all
    }
}

impl Keys<'_> {
    pub(super) fn probes(&self) -> Result<ProbeConfig, ConfigError> {
        let time = self.integer("probe_seconds", 0, 86_400)?;
        Ok(ProbeConfig {
            time: (time > 0).then(|| Duration::from_secs(time)),
            limits: ProbeLimits {
                every: Duration::from_secs(self.integer("probe_every_seconds", 0, 86_400)?),
                burst: self.integer("probe_burst", 1, 1 << 20)? as u32,
                ..ProbeLimits::default()
            },
            exempt: self.networks("probe_exempt")?,
        })
    }

    fn networks(&self, key: &'static str) -> Result<Vec<IpNet>, ConfigError> {
        let expected = "a list of networks such as \"192.0.2.0/24\"";
        let list = self.0.get(key).and_then(Value::as_array).ok_or_else(|| self.error(key, expected))?;
        let parse = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        list.iter().map(|value| parse(value).ok_or_else(|| self.error(key, expected))).collect()
    }

    pub(super) fn costs(&self, key: &'static str) -> Result<Costs, ConfigError> {
        let table = self.0.get(key).and_then(Value::as_table);
        let table = table.ok_or_else(|| self.error(key, "a table of prices"))?;
        Costs::from_toml(table).map_err(|error| ConfigError::Value {
            key,
            value: format!("{} = {}", error.key, one_line(&error.value)),
            expected: error.expected,
        })
    }

    pub(super) fn services(&self, key: &'static str) -> Result<Vec<ServiceConfig>, ConfigError> {
        let expected = "a list of { name = \"...\", listen = [...], ... }";
        let list = self.0.get(key).and_then(Value::as_array).ok_or_else(|| self.error(key, expected))?;
        if list.len() >= MAX_SERVICES {
            return Err(self.error(key, &format!("at most {} services", MAX_SERVICES - 1)));
        }
        let services: Vec<ServiceConfig> =
            list.iter().map(|value| service(key, value)).collect::<Result<_, _>>()?;
        for (n, one) in services.iter().enumerate() {
            if one.name == FIRST || services[..n].iter().any(|other| other.name == one.name) {
                let expected = format!("each name once; \"{FIRST}\" is the service of `listen`");
                return Err(ConfigError::Value { key, value: one_line(&one.name), expected });
            }
        }
        Ok(services)
    }
}

fn service(key: &'static str, value: &Value) -> Result<ServiceConfig, ConfigError> {
    let wrong = |value: &Value, expected: &str| ConfigError::Value {
        key,
        value: one_line(&value.to_string()),
        expected: expected.to_string(),
    };
    let table: &Table = value.as_table().ok_or_else(|| wrong(value, "a table of a service's keys"))?;
    let known = ["name", "listen", "tls_listen", "user_agent", "without", "session_slots", "probe_slots"];
    if let Some(other) = table.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(wrong(&Value::String(other.clone()), &format!("one of {}", known.join(", "))));
    }
    let text = |name: &str| -> Result<Option<String>, ConfigError> {
        let Some(value) = table.get(name) else { return Ok(None) };
        value
            .as_str()
            .map(|text| Some(text.to_string()))
            .ok_or_else(|| wrong(value, &format!("`{name}` as text")))
    };
    let number = |name: &str| -> Result<u32, ConfigError> {
        let Some(value) = table.get(name) else { return Ok(0) };
        let number = value.as_integer().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 1 << 23);
        number.ok_or_else(|| wrong(value, &format!("`{name}` as a whole number from 0 to {}", 1 << 23)))
    };
    let strings = |name: &str| -> Result<Vec<String>, ConfigError> {
        let Some(value) = table.get(name) else { return Ok(Vec::new()) };
        let list =
            value.as_array().and_then(|list| list.iter().map(|v| v.as_str().map(String::from)).collect());
        list.ok_or_else(|| wrong(value, &format!("`{name}` as a list of texts")))
    };
    let addresses = |name: &str| -> Result<Vec<SocketAddr>, ConfigError> {
        let parse = |text: String| {
            text.parse()
                .map_err(|_| wrong(&Value::String(text.clone()), &format!("`{name}` as ADDRESS:PORT each")))
        };
        strings(name)?.into_iter().map(parse).collect()
    };
    let left_out = |name: String| {
        let found = LEFT_OUT.iter().find(|(known, _)| *known == name).map(|(_, bits)| *bits);
        let names = LEFT_OUT.map(|(known, _)| known).join("\" or \"");
        found.ok_or_else(|| wrong(&Value::String(name), &format!("\"{names}\" in `without`")))
    };
    let name = text("name")?.unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        let expected = format!("`name` of 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`");
        return Err(wrong(value, &expected));
    }
    let made = ServiceConfig {
        name,
        listen: addresses("listen")?,
        tls_listen: addresses("tls_listen")?,
        user_agent: text("user_agent")?,
        without: strings("without")?.into_iter().map(left_out).collect::<Result<Services, _>>()?,
        session_slots: number("session_slots")?,
        probe_slots: number("probe_slots")?,
    };
    if made.listen.is_empty() && made.tls_listen.is_empty() {
        return Err(wrong(value, "at least one address in `listen` or `tls_listen`"));
    }
    if made.user_agent.as_ref().is_some_and(|name| name.len() > MAX_USER_AGENT) {
        return Err(wrong(value, &format!("`user_agent` of at most {MAX_USER_AGENT} bytes")));
    }
    Ok(made)
}
