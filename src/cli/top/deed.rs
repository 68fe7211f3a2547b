//! What is done to clients: read from a line, said in words, and made a call once it is confirmed.

use serde_json::{Map, Value, json};

use super::data::Client;
use super::model::{Ask, about};
use crate::cli::ctl::args::rate;
use crate::control::duration;

/// What a line is typed for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Prompt {
    Filter,
    Ban,
    Throttle(Box<Client>),
    Capacity(Box<Client>),
}

impl Prompt {
    /// In front of the line.
    pub(super) fn label(&self) -> String {
        match self {
            Prompt::Filter => "Filter: ".to_owned(),
            Prompt::Ban => "Ban NETWORK TIME [REASON]: ".to_owned(),
            Prompt::Throttle(client) => format!("Throttle {} DOWN UP: ", client.id),
            Prompt::Capacity(client) => format!("Capacity of {}: ", client.id),
        }
    }

    /// What may be typed.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Prompt::Filter => {
                "class:free transport:tls service:0 tag:gold 192.0.2.0/24, or words; empty: all"
            }
            Prompt::Ban => "for example 192.0.2.0/24 24h floods; who is connected from there is ended",
            Prompt::Throttle(_) => "bytes a second to it and from it: 500kB none",
            Prompt::Capacity(_) => "cost units a second that it is guaranteed while it is connected",
        }
    }
}

/// Something that waits for its confirmation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Deed {
    /// The question.
    pub(super) words: String,
    path: &'static str,
    body: Map<String, Value>,
}

impl Deed {
    /// The call.
    pub(super) fn ask(self) -> Ask {
        Ask::Do { method: "POST", path: format!("/api/v1{}", self.path), body: Value::Object(self.body) }
    }

    pub(super) fn kick(client: &Client) -> Deed {
        Deed { words: format!("Kick {}?", name(client)), path: "/clients/kick", body: about(client) }
    }

    pub(super) fn ban(text: &str) -> Result<Deed, String> {
        let mut parts = text.split_whitespace();
        let (Some(network), Some(time)) = (parts.next(), parts.next()) else {
            return Err(format!("{text:?}: expected NETWORK TIME [REASON]"));
        };
        let is_network =
            network.parse::<ipnet::IpNet>().is_ok() || network.parse::<std::net::IpAddr>().is_ok();
        if !is_network {
            return Err(format!(
                "NETWORK is {network}, expected an address or a network such as 192.0.2.0/24"
            ));
        }
        let seconds = duration(time).map_err(|expected| format!("TIME is {time}, {expected}"))?.as_secs();
        if seconds == 0 {
            return Err(format!("TIME is {time}, expected a second or more"));
        }
        let reason = parts.collect::<Vec<_>>().join(" ");
        let body = json!({"network": network, "seconds": seconds, "reason": reason});
        Ok(Deed { words: format!("Ban {network} for {time}?"), path: "/bans", body: object(body) })
    }

    pub(super) fn throttle(client: &Client, text: &str) -> Result<Deed, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [down, up] = parts.as_slice() else {
            return Err(format!("{text:?}: expected DOWN UP, such as 500kB none"));
        };
        let mut body = about(client);
        body.insert("down".into(), rate("DOWN", down)?);
        body.insert("up".into(), rate("UP", up)?);
        let words = format!("Throttle {} to {down} down, {up} up?", name(client));
        Ok(Deed { words, path: "/clients/throttle", body })
    }

    pub(super) fn capacity(client: &Client, text: &str) -> Result<Deed, String> {
        let capacity = text.trim().parse::<u64>().ok().filter(|capacity| *capacity > 0);
        let capacity =
            capacity.ok_or_else(|| format!("the capacity is {text:?}, expected a number from 1"))?;
        let mut body = about(client);
        body.insert("capacity".into(), json!(capacity));
        let words = format!("Give {} a capacity of {capacity}?", name(client));
        Ok(Deed { words, path: "/clients/set", body })
    }
}

fn name(client: &Client) -> String {
    format!("{} ({})", client.id, client.address)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
