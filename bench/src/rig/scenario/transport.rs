//! Which transport a client speaks, with which target, and what TLS needs to know.
//!
//! A target may be named with its transport (`tls://127.0.0.1:8334`), and so may a part of the clients. Clients of a part
//! with a transport go to the targets named with it, or else to those named with none; clients of a part without one take
//! turns over all targets and speak what the target is named with, or else the run's transport.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Part, ScenarioError, Wish, resolve};
use crate::rig::behaviour::Over;

/// What is expected of a transport's name.
pub(super) const EXPECTED: &str = "plain, v2 or tls";

/// How bytes go over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// As they are: the v1 protocol on TCP.
    Plain,
    /// BIP324.
    V2,
    /// TLS 1.3, the v1 protocol inside.
    Tls,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 3] = [Transport::Plain, Transport::V2, Transport::Tls];

    /// Its name in flags, scenario files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Plain => "plain",
            Transport::V2 => "v2",
            Transport::Tls => "tls",
        }
    }

    /// The transport of this name; `v1` is another one for plain.
    pub fn named(name: &str) -> Option<Transport> {
        let is = |transport: &Transport| transport.name() == name;
        Transport::ALL.into_iter().find(is).or((name == "v1").then_some(Transport::Plain))
    }
}

impl std::str::FromStr for Transport {
    type Err = String;

    fn from_str(name: &str) -> Result<Transport, String> {
        Transport::named(name).ok_or_else(|| format!("expected {EXPECTED}"))
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a client connects and what it speaks there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The address.
    pub target: SocketAddr,
    /// The transport; of behaviours that speak below it ([`Over::Raw`]) always plain.
    pub transport: Transport,
}

/// What TLS needs besides.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// The name asked for (SNI) and looked for in the certificate.
    pub name: String,
    /// Certificates that are trusted, a PEM file; `None`: any certificate is.
    pub ca: Option<PathBuf>,
    /// Part of the connections that offer a ticket once there are any, 0 to 1.
    pub resume: f64,
}

/// A target as it was written.
pub(super) struct Named {
    pub(super) at: SocketAddr,
    host: String,
    transport: Option<Transport>,
}

/// Reads `[TRANSPORT://]HOST:PORT`, each.
pub(super) fn targets(names: &[String]) -> Result<Vec<Named>, ScenarioError> {
    let one = |name: &String| {
        let (transport, at) = match name.split_once("://") {
            None => (None, name.clone()),
            Some((scheme, at)) => match Transport::named(scheme) {
                Some(transport) => (Some(transport), at.to_string()),
                None => {
                    let expected = format!("HOST:PORT or TRANSPORT://HOST:PORT with {EXPECTED}");
                    return Err(ScenarioError::value("targets", name, expected));
                }
            },
        };
        let host = at.rsplit_once(':').map_or(at.as_str(), |(host, _)| host);
        let host = host.trim_matches(['[', ']']).to_string();
        let found = resolve("targets", &[at])?;
        found.into_iter().map(|at| Ok(Named { at, host: host.clone(), transport })).collect()
    };
    names
        .iter()
        .map(one)
        .collect::<Result<Vec<Vec<Named>>, _>>()
        .map(|all| all.into_iter().flatten().collect())
}

/// Reads the name of a transport.
pub(super) fn transport(key: &str, name: &str) -> Result<Transport, ScenarioError> {
    Transport::named(name).ok_or_else(|| ScenarioError::value(key, name, EXPECTED))
}

/// Where the clients of each part go, at least one route each; they take turns.
pub(super) fn routes(
    targets: &[Named],
    parts: &[Part],
    default: Transport,
) -> Result<Vec<Vec<Route>>, ScenarioError> {
    let of = |part: &Part| {
        let raw = match part.kind.over {
            Over::Raw(usual) => Some(usual),
            Over::Any | Over::V1 => None,
        };
        let with = |wanted: Option<Transport>| -> Vec<&Named> {
            targets.iter().filter(|target| target.transport == wanted).collect()
        };
        let fit: Vec<&Named> = match part.transport.or(raw) {
            None => targets.iter().collect(),
            Some(wanted) => Some(with(Some(wanted))).filter(|fit| !fit.is_empty()).unwrap_or(with(None)),
        };
        // What speaks below the transport may be tried on any port.
        let fit = if fit.is_empty() && raw.is_some() { targets.iter().collect() } else { fit };
        let route = |target: &&Named| Route {
            target: target.at,
            transport: match raw {
                Some(_) => Transport::Plain,
                None => part.transport.or(target.transport).unwrap_or(default),
            },
        };
        let routes: Vec<Route> = fit.iter().map(route).collect();
        match part.transport {
            Some(wanted) if routes.is_empty() => {
                Err(ScenarioError::value("behaviour.transport", wanted, "the transport of one of `targets`"))
            }
            _ => check(part, routes),
        }
    };
    parts.iter().map(of).collect()
}

/// Refuses what cannot be said over a transport.
fn check(part: &Part, routes: Vec<Route>) -> Result<Vec<Route>, ScenarioError> {
    if part.kind.over == Over::V1 && routes.iter().any(|route| route.transport == Transport::V2) {
        let expected = "one that can be said over v2: this one is about the header of v1 messages";
        return Err(ScenarioError::value("behaviour", part.kind.name, expected));
    }
    Ok(routes)
}

/// What TLS needs, when any client speaks it.
pub(super) fn tls(
    wish: &Wish,
    targets: &[Named],
    routes: &[Vec<Route>],
) -> Result<Option<Tls>, ScenarioError> {
    let resume = wish.resume.unwrap_or(100.0);
    if !(0.0..=100.0).contains(&resume) {
        return Err(ScenarioError::value("resume", resume, "per cent of the clients, from 0 to 100"));
    }
    let Some(first) = routes.iter().flatten().find(|route| route.transport == Transport::Tls) else {
        return Ok(None);
    };
    let insecure = wish.tls_insecure.unwrap_or(false);
    let both =
        "either a file of trusted certificates (flag --tls-ca) or any certificate (flag --tls-insecure)";
    match (&wish.tls_ca, insecure) {
        (None, false) => return Err(ScenarioError::value("tls_ca", "missing", both)),
        (Some(file), true) => return Err(ScenarioError::value("tls_ca", file.display(), both)),
        _ => {}
    }
    let host = targets.iter().find(|target| target.at == first.target).map(|target| target.host.clone());
    let name = wish.tls_name.clone().or(host).unwrap_or_default();
    Ok(Some(Tls { name, ca: wish.tls_ca.clone(), resume: resume / 100.0 }))
}
