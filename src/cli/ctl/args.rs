//! What a person types after `ctl`, and the request it makes.

mod accounts;
mod clients;
mod relay;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::control::duration;

pub(super) use accounts::AccountCall;
pub(super) use clients::ClientCall;
pub(super) use relay::RelayCall;

/// A call.
#[derive(Subcommand, Debug)]
pub(super) enum Call {
    #[command(flatten)]
    Relay(RelayCall),
    #[command(flatten)]
    Clients(ClientCall),
    #[command(flatten)]
    Accounts(AccountCall),
}

impl Call {
    /// The request; an error is a sentence about the usage.
    pub(super) fn request(&self) -> Result<Request, String> {
        match self {
            Call::Relay(call) => call.request(),
            Call::Clients(call) => call.request(),
            Call::Accounts(call) => call.request(),
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// One request, one answer.
    Once { method: &'static str, path: String, body: Option<Value> },
    /// Pages to the end.
    AllClients(String),
    /// A stream.
    Events(String),
}

/// Two limits.
#[derive(Args, Debug)]
pub(super) struct LimitArgs {
    /// Bytes a second towards clients, such as 500000, 500kB or 2MB; "none" for no limit.
    #[arg(long, value_name = "RATE")]
    down: Option<String>,
    /// And from them.
    #[arg(long, value_name = "RATE")]
    up: Option<String>,
}

impl LimitArgs {
    fn into(&self, body: &mut Map<String, Value>, down: &str, up: &str) -> Result<(), String> {
        for (flag, name, text) in [("--down", down, &self.down), ("--up", up, &self.up)] {
            if let Some(text) = text {
                body.insert(name.to_owned(), rate(flag, text)?);
            }
        }
        Ok(())
    }
}

/// Capacity and prices.
#[derive(Args, Debug)]
pub(super) struct AccountArgs {
    /// Cost units a second.
    #[arg(long, value_name = "N")]
    capacity: Option<u64>,
    /// Prices: TIME,CAPACITY,REQUEST.
    #[arg(long, value_name = "T,C,R")]
    factors: Option<String>,
}

impl AccountArgs {
    fn into(&self, body: &mut Map<String, Value>) -> Result<(), String> {
        body.extend(self.capacity.map(|capacity| ("capacity".to_owned(), json!(capacity))));
        if let Some(text) = &self.factors {
            body.insert("factors".into(), factors(text)?);
        }
        Ok(())
    }
}

fn once(method: &'static str, path: String, body: Option<Value>) -> Request {
    Request::Once { method, path, body }
}

fn get(path: &str) -> Request {
    once("GET", format!("/api/v1{path}"), None)
}

fn delete(path: &str) -> Request {
    once("DELETE", format!("/api/v1{path}"), None)
}

fn post(path: &str, body: Map<String, Value>) -> Request {
    with_body("POST", path, body)
}

fn with_body(method: &'static str, path: &str, body: Map<String, Value>) -> Request {
    once(method, format!("/api/v1{path}"), Some(Value::Object(body)))
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

pub(in crate::cli) fn query(path: &str, pairs: Vec<(&str, String)>) -> String {
    if pairs.is_empty() {
        return path.to_owned();
    }
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{path}?{text}")
}

/// A part of a path: all but the unreserved characters (RFC 3986) encoded.
fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(char::from(byte))
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

fn seconds(flag: &str, text: &str) -> Result<std::time::Duration, String> {
    duration(text).map_err(|expected| format!("{flag} is {text}, {expected}"))
}

/// A rate in bytes a second, decimal units; null for none.
pub(in crate::cli) fn rate(flag: &str, text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "" | "B" => Some(1_u64),
        "k" | "kB" => Some(1_000),
        "M" | "MB" => Some(1_000_000),
        "G" | "GB" => Some(1_000_000_000),
        _ => None,
    };
    let bytes = factor.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor));
    bytes.map(|bytes| json!(bytes)).ok_or_else(|| {
        format!("{flag} is {text}, expected bytes a second such as 500000, 500kB or 2MB, or none")
    })
}

fn factors(text: &str) -> Result<Value, String> {
    let numbers: Vec<f64> = text.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    match (text.split(',').count(), numbers.as_slice()) {
        (3, [time, capacity, request]) => Ok(json!({"time": time, "capacity": capacity, "request": request})),
        _ => Err(format!("--factors is {text}, expected three numbers: TIME,CAPACITY,REQUEST")),
    }
}

fn scope_of(text: &str) -> Result<Map<String, Value>, String> {
    let scope = match text.split_once(':') {
        None if text == "all" => Some(json!({"scope": "all"})),
        Some(("class", name)) => Some(json!({"scope": "class", "class": name})),
        Some(("service", id)) => id.parse::<u8>().ok().map(|id| json!({"scope": "service", "service": id})),
        _ => None,
    };
    scope.map(map).ok_or_else(|| format!("SCOPE is {text}, expected all, class:NAME or service:N"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_scopes_and_prices_are_read_or_refused() {
        for (text, bytes) in [("7", 7), ("10kB", 10_000), ("2M", 2_000_000), ("1GB", 1_000_000_000)] {
            assert_eq!(rate("--up", text), Ok(json!(bytes)), "{text}");
        }
        assert_eq!(rate("--up", "none"), Ok(Value::Null));
        for bad in ["", "x", "1.5M", "-1", "1TB", "99999999999999999999", "18446744073709551615k"] {
            assert!(rate("--up", bad).is_err_and(|text| text.contains("--up")), "{bad}");
        }
        assert_eq!(scope_of("service:3").unwrap()["service"], 3);
        for bad in ["", "service:", "service:256", "everyone", "all:1"] {
            assert!(scope_of(bad).is_err(), "{bad}");
        }
        assert_eq!(factors("1, 2,0.5").unwrap()["request"], 0.5);
        for bad in ["", "1,2", "1,2,x", "1,2,3,4"] {
            assert!(factors(bad).is_err(), "{bad}");
        }
        assert_eq!(segment("192.0.2.0/24"), "192.0.2.0%2F24");
    }
}
