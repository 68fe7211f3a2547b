//! Calls about the relay itself: services, nodes, configuration, logs, events.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{Request, delete, get, map, once, post, query, segment, with_body};

/// A call about the relay.
#[derive(Subcommand, Debug)]
pub(in super::super) enum RelayCall {
    /// How the relay is: chain, clients, slots, capacities.
    Info,
    /// Status 0 when clients are served, 1 with the reason otherwise.
    Ready,
    /// The full nodes behind.
    Nodes,
    /// Another node.
    AddNode {
        /// HOST:PORT, v1:HOST:PORT or v2:HOST:PORT.
        node: String,
    },
    /// One node less.
    RemoveNode {
        /// As it was named.
        node: String,
    },
    /// Services.
    Services,
    /// One service.
    Service {
        /// Its number.
        id: u8,
    },
    /// Another service.
    AddService {
        /// Its name.
        name: String,
        /// Where clients connect; repeat for several.
        #[arg(long, value_name = "ADDR:PORT", required = true)]
        listen: Vec<String>,
        /// TLS is spoken there.
        #[arg(long)]
        tls: bool,
        #[command(flatten)]
        more: ServiceArgs,
    },
    /// Change a service.
    ChangeService {
        /// Its number.
        id: u8,
        /// Its name.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        more: ServiceArgs,
    },
    /// A service takes no newcomers any more; who is connected stays.
    DrainService {
        /// Its number.
        id: u8,
    },
    /// End what is left of a service's clients, and the service.
    RemoveService {
        /// Its number.
        id: u8,
    },
    /// Read the configuration file again.
    Reload,
    /// Read certificates, keys and the ticket secret again.
    ReloadCertificates,
    /// Set how much is logged.
    LogLevel {
        /// How much.
        #[arg(value_parser = ["error", "warn", "info", "debug", "trace"])]
        level: String,
    },
    /// What happens, as it happens.
    Events {
        /// Of clients with this tag; repeat for several that must all be there.
        #[arg(long, value_name = "TAG")]
        tag: Vec<String>,
        /// Of this kind; repeat for several.
        #[arg(long, value_name = "KIND")]
        kind: Vec<String>,
        /// Only while more capacity is connected than may be.
        #[arg(long)]
        underrun: bool,
    },
    /// The metrics in Prometheus' text format.
    Metrics,
}

impl RelayCall {
    /// The request; an error is a sentence about the usage.
    pub(super) fn request(&self) -> Result<Request, String> {
        Ok(match self {
            RelayCall::Info => get("/info"),
            RelayCall::Ready => once("GET", "/readyz".into(), None),
            RelayCall::Metrics => once("GET", "/metrics".into(), None),
            RelayCall::Nodes => get("/nodes"),
            RelayCall::AddNode { node } => post("/nodes", map(json!({"node": node}))),
            RelayCall::RemoveNode { node } => delete(&format!("/nodes/{}", segment(node))),
            RelayCall::Services => get("/services"),
            RelayCall::Service { id } => get(&format!("/services/{id}")),
            RelayCall::AddService { name, listen, tls, more } => {
                let mut body = map(json!({"name": name, "listen": listen, "tls": tls}));
                more.into(&mut body)?;
                if more.sessions.is_none() {
                    return Err("--sessions is missing: how many session slots the service has".to_owned());
                }
                post("/services", body)
            }
            RelayCall::ChangeService { id, name, more } => {
                let mut body = Map::new();
                body.extend(name.as_ref().map(|name| ("name".to_owned(), json!(name))));
                more.into(&mut body)?;
                with_body("PATCH", &format!("/services/{id}"), body)
            }
            RelayCall::DrainService { id } => once("POST", format!("/api/v1/services/{id}/drain"), None),
            RelayCall::RemoveService { id } => delete(&format!("/services/{id}")),
            RelayCall::Reload => once("POST", "/api/v1/reload".into(), None),
            RelayCall::ReloadCertificates => once("POST", "/api/v1/certificates/reload".into(), None),
            RelayCall::LogLevel { level } => with_body("PUT", "/log-level", map(json!({"level": level}))),
            RelayCall::Events { tag, kind, underrun } => {
                let pairs = [
                    ("tag", (!tag.is_empty()).then(|| tag.join(","))),
                    ("kind", (!kind.is_empty()).then(|| kind.join(","))),
                    ("underrun", underrun.then(|| "true".to_owned())),
                ];
                let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
                Request::Events(format!("/api/v1{}", query("/events", pairs)))
            }
        })
    }
}

/// What a service may have.
#[derive(Args, Debug)]
pub(in super::super) struct ServiceArgs {
    /// Session slots.
    #[arg(long, value_name = "N")]
    sessions: Option<u64>,
    /// Probe slots.
    #[arg(long, value_name = "N")]
    probes: Option<u64>,
    /// Service bits that may be advertised; "all" for all that can be given.
    #[arg(long, value_name = "BITS")]
    bits: Option<String>,
    /// Name towards its clients (BIP14).
    #[arg(long, value_name = "NAME")]
    user_agent: Option<String>,
}

impl ServiceArgs {
    fn into(&self, body: &mut Map<String, Value>) -> Result<(), String> {
        body.extend(self.sessions.map(|n| ("sessions".to_owned(), json!(n))));
        body.extend(self.probes.map(|n| ("probes".to_owned(), json!(n))));
        body.extend(self.user_agent.as_ref().map(|name| ("user_agent".to_owned(), json!(name))));
        if let Some(text) = &self.bits {
            let bits =
                match text.as_str() {
                    "all" => Value::Null,
                    text => json!(text.parse::<u64>().map_err(|_| {
                        format!("--bits is {text}, expected a number such as 1033, or all")
                    })?),
                };
            body.insert("bits".into(), bits);
        }
        Ok(())
    }
}
