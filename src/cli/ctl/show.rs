//! Answers as people read them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::args::{AccountCall, Call, ClientCall, RelayCall};
use super::table::{Table, list};

/// The answer to a call.
pub(super) fn show(call: &Call, value: &Value) -> String {
    match call {
        Call::Relay(call) => relay(call, value),
        Call::Clients(call) => about_clients(call, value),
        Call::Accounts(call) => account(call, value),
    }
}

fn relay(call: &RelayCall, value: &Value) -> String {
    match call {
        RelayCall::Info | RelayCall::Service { .. } | RelayCall::ChangeService { .. } => fields(value),
        RelayCall::Ready => "ready\n".to_owned(),
        RelayCall::Nodes => nodes(value),
        RelayCall::Services => services(value),
        RelayCall::AddService { .. } => format!("service {}\n", text(&value["id"])),
        RelayCall::DrainService { .. } | RelayCall::RemoveService { .. } => count(value),
        RelayCall::Reload => reloaded(value),
        RelayCall::ReloadCertificates => format!("{} certificates\n", text(&value["certificates"])),
        // They say nothing in JSON.
        RelayCall::AddNode { .. }
        | RelayCall::RemoveNode { .. }
        | RelayCall::LogLevel { .. }
        | RelayCall::Events { .. }
        | RelayCall::Metrics => String::new(),
    }
}

fn about_clients(call: &ClientCall, value: &Value) -> String {
    match call {
        ClientCall::Clients(_) => clients_page(value),
        ClientCall::Client { .. } => fields(value),
        ClientCall::Tags => {
            value["tags"].as_array().into_iter().flatten().map(|tag| text(tag) + "\n").collect()
        }
        ClientCall::Bans => bans(value),
        ClientCall::Unban { .. } => String::new(),
        ClientCall::Kick(_)
        | ClientCall::Pause { .. }
        | ClientCall::Throttle { .. }
        | ClientCall::Tag { .. }
        | ClientCall::Set { .. }
        | ClientCall::RemoveTag { .. }
        | ClientCall::Ban { .. } => count(value),
    }
}

fn account(call: &AccountCall, value: &Value) -> String {
    match call {
        AccountCall::Priority { .. } => priority(value),
        AccountCall::Identity { .. }
        | AccountCall::SetIdentity { .. }
        | AccountCall::Balance { .. }
        | AccountCall::Defaults
        | AccountCall::SetDefaults { .. } => fields(value),
        AccountCall::AddBalance { .. } => format!("{} -> {}\n", text(&value["old"]), text(&value["new"])),
        AccountCall::Throttles => throttles(value),
        AccountCall::RemoveIdentity { .. } | AccountCall::SetThrottle { .. } => String::new(),
    }
}

/// To how many clients something was done.
fn count(value: &Value) -> String {
    match &value["clients"] {
        Value::Number(n) if n.as_u64() == Some(1) => "1 client\n".to_owned(),
        n => format!("{} clients\n", text(n)),
    }
}

/// The columns of clients.
pub(super) fn clients() -> Table {
    Table::new(&["ID", "ADDRESS", "CLASS", "OVER", ">FOR", ">RTT", ">IN", ">OUT", "AGENT"])
}

/// The rows of a page of clients.
pub(super) fn client_rows(value: &Value) -> Vec<Vec<String>> {
    let row = |client: &Value| {
        vec![
            text(&client["id"]),
            text(&client["address"]),
            text(&client["class"]),
            text(&client["transport"]),
            span(client["connected"].as_f64()),
            client["round_trip"].as_f64().map_or("-".to_owned(), |s| format!("{:.0}ms", s * 1e3)),
            amount(client["bytes_in"].as_u64()),
            amount(client["bytes_out"].as_u64()),
            text(&client["user_agent"]),
        ]
    };
    rows(&value["clients"], row)
}

fn clients_page(value: &Value) -> String {
    let mut page = clients().page(&client_rows(value));
    if let Some(next) = value["next"].as_str() {
        page += &format!("more: --after {next}\n");
    }
    page
}

/// An event in a line.
pub(super) fn event(value: &Value) -> String {
    let mut line = format!("{} {}", text(&value["time"]), text(&value["kind"]));
    let hidden = ["time", "kind", "total_capacity", "connected_capacity", "priority_connected_capacity"];
    for (name, value) in value.as_object().into_iter().flatten() {
        let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if !hidden.contains(&name.as_str()) && !is_empty {
            line += &format!(" {name}={}", text(value));
        }
    }
    let (connected, total) = (&value["connected_capacity"], &value["total_capacity"]);
    crate::control::one_line(&format!("{line} capacity={}/{}", text(connected), text(total)))
}

fn bans(value: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let row = |ban: &Value| {
        let left = ban["until"].as_u64().unwrap_or(0).saturating_sub(now);
        vec![text(&ban["network"]), span(Some(left as f64)), text(&ban["reason"])]
    };
    Table::new(&["NETWORK", ">LEFT", "REASON"]).page(&rows(&value["bans"], row))
}

fn nodes(value: &Value) -> String {
    let row = |node: &Value| {
        let up = if node["up"] == true { "up" } else { "down" };
        let cells = ["transport", "height", "losses", "user_agent"].map(|name| text(&node[name]));
        [text(&node["node"]), up.to_owned()].into_iter().chain(cells).collect()
    };
    let heads = ["NODE", "LINK", "OVER", ">HEIGHT", ">LOSSES", "AGENT"];
    Table::new(&heads).page(&rows(&value["nodes"], row))
}

fn priority(value: &Value) -> String {
    let row = |account: &Value| {
        vec![
            text(&account["identity"]),
            text(&account["capacity"]),
            text(&account["balance"]["positive"]),
            text(&account["clients"]),
            text(&account["tags"]),
        ]
    };
    let heads = ["IDENTITY", ">CAPACITY", ">BALANCE", ">CLIENTS", "TAGS"];
    let mut page = Table::new(&heads).page(&rows(&value["priority"], row));
    if let Some(next) = value["next"].as_str() {
        page += &format!("more: --after {next}\n");
    }
    page
}

fn throttles(value: &Value) -> String {
    let row = |throttle: &Value| {
        let scope = match (&throttle["class"], &throttle["service"]) {
            (Value::Null, Value::Null) => "all".to_owned(),
            (Value::Null, service) => format!("service:{service}"),
            (class, _) => format!("class:{}", text(class)),
        };
        let rate =
            |name: &str| throttle[name].as_u64().map_or("none".to_owned(), |n| amount(Some(n)) + "B/s");
        vec![scope, rate("down"), rate("up")]
    };
    Table::new(&["SCOPE", ">DOWN", ">UP"]).page(&rows(&value["throttles"], row))
}

fn services(value: &Value) -> String {
    let row = |service: &Value| {
        let of = |name: &str| format!("{}/{}", text(&service[name]), text(&service[format!("max_{name}")]));
        let state = if service["draining"] == true { "draining" } else { "open" };
        let over = if service["tls"] == true { "tls" } else { "plain" };
        vec![
            text(&service["id"]),
            text(&service["name"]),
            state.to_owned(),
            over.to_owned(),
            of("sessions"),
            of("probes"),
            text(&service["listen"]),
        ]
    };
    let heads = [">ID", "NAME", "STATE", "OVER", ">SESSIONS", ">PROBES", "LISTEN"];
    Table::new(&heads).page(&rows(&value["services"], row))
}

fn reloaded(value: &Value) -> String {
    list(&[("changed", text(&value["changed"])), ("after a restart", text(&value["restart"]))])
}

/// Every field of an object, those of objects in it as well.
fn fields(value: &Value) -> String {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(inner) => {
                pairs.extend(inner.iter().map(|(below, value)| (format!("{name}.{below}"), text(value))));
            }
            // Lists of things are other calls' tables.
            None if value[0].is_object() => {}
            None => pairs.push((name.clone(), text(value))),
        }
    }
    list(&pairs.iter().map(|(name, value)| (name.as_str(), value.clone())).collect::<Vec<_>>())
}

fn rows(list: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    list.as_array().into_iter().flatten().map(row).collect()
}

/// A value without quotes; a dash for none.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// A number in three digits and a decimal unit.
pub(in crate::cli) fn amount(value: Option<u64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let units = [(1_000_000_000_000, 'T'), (1_000_000_000, 'G'), (1_000_000, 'M'), (1_000, 'k')];
    match units.into_iter().find(|(unit, _)| value >= *unit) {
        Some((unit, name)) if value < unit * 10 => format!("{:.1}{name}", value as f64 / unit as f64),
        Some((unit, name)) => format!("{}{name}", value / unit),
        None => value.to_string(),
    }
}

/// A time in its two largest units.
pub(in crate::cli) fn span(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".to_owned() };
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3_600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h{:02}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        let numbers = [(0, "0"), (999, "999"), (1_234, "1.2k"), (45_678, "45k"), (2_000_000, "2.0M")];
        for (value, text) in numbers {
            assert_eq!(amount(Some(value)), text);
        }
        for (seconds, text) in [(1.9, "1s"), (61.0, "1m01s"), (3_720.0, "1h02m"), (90_000.0, "1d01h")] {
            assert_eq!(span(Some(seconds)), text);
        }
    }
}
