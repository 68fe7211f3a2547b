//! What a run shall do: from flags and a TOML file, checked before the first connection.
//!
//! - `file`: the TOML file, each error naming its key
//! - `ramp`: when each client begins
//! - `sources`: from which addresses
//! - `transport`: which transport, with which target
//! - `loud`: which targets are allowed

mod file;
mod loud;
mod ramp;
mod sources;
#[cfg(test)]
mod tests;
mod transport;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::Network;
use breakwater::wire::Magic;

pub use self::file::read;
pub use self::loud::is_harmless;
pub use self::ramp::Ramp;
pub use self::sources::Sources;
pub use self::transport::{Route, Tls, Transport};

use super::behaviour::{self, Kind, Options};

/// Most clients of a run.
pub const MAX_CLIENTS: u32 = 4_000_000;
/// Connections under way at a time, all rings together, unless the scenario says otherwise: below what the accept queues
/// of a target hold (4,096 each), so that no SYN is dropped and tried again after a second.
pub const IN_FLIGHT: u32 = 2_048;

/// Longest time for a handshake that can be asked for.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(3_600);

/// What is wrong with a scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// A key (or flag) that does not exist.
    #[error("scenario key `{key}` is unknown{hint}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest known one.
        hint: String,
    },
    /// A value that does not fit.
    #[error("scenario key `{key}` is {value}, expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// The value given.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// The file cannot be read or is not TOML.
    #[error("scenario {path}: {error}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        error: String,
    },
    /// A target that may not be loaded.
    #[error("{0}")]
    Refused(String),
}

impl ScenarioError {
    /// A value that does not fit.
    pub fn value(key: &str, value: impl ToString, expected: impl Into<String>) -> ScenarioError {
        ScenarioError::Value { key: key.to_string(), value: value.to_string(), expected: expected.into() }
    }
}

/// Part of the clients.
#[derive(Debug, Clone)]
pub struct Part {
    /// What they are.
    pub kind: &'static Kind,
    /// Their weight among the parts.
    pub share: f64,
    /// What they speak; `None`: what the target is named with, or else the run's.
    pub transport: Option<Transport>,
    /// What is set for them.
    pub options: Options,
}

/// A run, as it was asked for: every field optional, so that flags can be laid over a file.
#[derive(Clone, Default)]
pub struct Wish {
    /// `[TRANSPORT://]HOST:PORT` each.
    pub targets: Vec<String>,
    /// Name of the network.
    pub network: Option<String>,
    /// Number of clients.
    pub clients: Option<u64>,
    /// Parts.
    pub parts: Vec<Part>,
    /// See [`Ramp`].
    pub ramp: Option<String>,
    /// Time after the ramp.
    pub duration: Option<Duration>,
    /// See [`Sources`].
    pub sources: Option<String>,
    /// Seed of everything random.
    pub seed: Option<u64>,
    /// plain, v2 or tls; of targets and parts that name none.
    pub transport: Option<String>,
    /// The name asked for and looked for in the certificate.
    pub tls_name: Option<String>,
    /// PEM file of certificates that are trusted.
    pub tls_ca: Option<PathBuf>,
    /// Any certificate is trusted.
    pub tls_insecure: Option<bool>,
    /// Per cent of the connections that offer a ticket, once there are any.
    pub resume: Option<f64>,
    /// Every ready client is pinged once in this time.
    pub ping_every: Option<Duration>,
    /// Share of the clients that leave and come back each second.
    pub churn: Option<f64>,
    /// See [`IN_FLIGHT`].
    pub in_flight: Option<u64>,
    /// A handshake that takes longer is given up.
    pub handshake_timeout: Option<Duration>,
    /// The node behind the target, watched to learn when it has blocks and transactions.
    pub watch: Option<String>,
    /// Rings.
    pub rings: Option<u64>,
}

impl Wish {
    /// Lays `over` on top: what it says goes before what is said here.
    pub fn lay(self, over: Wish) -> Wish {
        let list = |over: Vec<_>, under| if over.is_empty() { under } else { over };
        Wish {
            targets: if over.targets.is_empty() { self.targets } else { over.targets },
            network: over.network.or(self.network),
            clients: over.clients.or(self.clients),
            parts: list(over.parts, self.parts),
            ramp: over.ramp.or(self.ramp),
            duration: over.duration.or(self.duration),
            sources: over.sources.or(self.sources),
            seed: over.seed.or(self.seed),
            transport: over.transport.or(self.transport),
            tls_name: over.tls_name.or(self.tls_name),
            tls_ca: over.tls_ca.or(self.tls_ca),
            tls_insecure: over.tls_insecure.or(self.tls_insecure),
            resume: over.resume.or(self.resume),
            ping_every: over.ping_every.or(self.ping_every),
            churn: over.churn.or(self.churn),
            in_flight: over.in_flight.or(self.in_flight),
            handshake_timeout: over.handshake_timeout.or(self.handshake_timeout),
            watch: over.watch.or(self.watch),
            rings: over.rings.or(self.rings),
        }
    }
}

/// A run that can be begun.
#[derive(Clone)]
pub struct Scenario {
    /// Where to connect.
    pub targets: Vec<SocketAddr>,
    /// Where the clients of each part go and what they speak there, at least one route each; they take turns.
    pub routes: Vec<Vec<Route>>,
    /// `None`: nobody speaks TLS.
    pub tls: Option<Tls>,
    /// As they were written.
    pub target_names: Vec<String>,
    /// The network.
    pub network: Network,
    /// Clients in all, at least one.
    pub clients: u32,
    /// At least one.
    pub parts: Vec<Part>,
    /// Clients of each part; their sum is `clients`.
    pub counts: Vec<u32>,
    /// When each begins.
    pub ramp: Ramp,
    /// Time after the ramp.
    pub duration: Duration,
    /// From where.
    pub sources: Sources,
    /// Seed of everything random.
    pub seed: u64,
    /// Every ready client is pinged once in this time.
    pub ping_every: Option<Duration>,
    /// Share of the clients that leave and come back each second.
    pub churn: f64,
    /// Connections under way at a time, all rings together.
    pub in_flight: u32,
    /// A handshake that takes longer is given up.
    pub handshake_timeout: Duration,
    /// The node behind the target.
    pub watch: Option<SocketAddr>,
    /// Rings; 0: as many as are needed.
    pub rings: u32,
}

impl Scenario {
    /// Checks a wish. `operated`: the user has said that the targets are theirs.
    ///
    /// # Errors
    /// Each names the key, the value and what was expected.
    pub fn new(wish: Wish, operated: bool) -> Result<Scenario, ScenarioError> {
        fn bad(key: &str, value: impl ToString, expected: impl Into<String>) -> ScenarioError {
            ScenarioError::value(key, value, expected)
        }
        let network = network(wish.network.as_deref().unwrap_or("regtest"))?;
        if wish.targets.is_empty() {
            return Err(bad("targets", "missing", "at least one HOST:PORT (flag --target)"));
        }
        let named = transport::targets(&wish.targets)?;
        let targets: Vec<SocketAddr> = named.iter().map(|target| target.at).collect();
        let watch = match &wish.watch {
            Some(at) => resolve("watch", std::slice::from_ref(at))?.first().copied(),
            None => None,
        };
        let Some(clients) = wish.clients else {
            return Err(bad("clients", "missing", "a whole number (flag --clients)"));
        };
        let clients =
            u32::try_from(clients).ok().filter(|n| (1..=MAX_CLIENTS).contains(n)).ok_or_else(|| {
                bad("clients", clients, format!("a whole number from 1 to {MAX_CLIENTS} (flag --clients)"))
            })?;
        let parts = if wish.parts.is_empty() { vec![idle()] } else { wish.parts.clone() };
        let total: f64 = parts.iter().map(|part| part.share).sum();
        if total <= 0.0 {
            return Err(bad("behaviour.share", total, "shares whose sum is above 0"));
        }
        let default = wish.transport.as_deref().map(|name| transport::transport("transport", name));
        let routes = transport::routes(&named, &parts, default.transpose()?.unwrap_or(Transport::Plain))?;
        let tls = transport::tls(&wish, &named, &routes)?;
        if parts.len() > usize::from(u8::MAX) {
            return Err(bad("behaviour", parts.len(), "at most 255 of them"));
        }
        let handshake_timeout = wish.handshake_timeout.unwrap_or(Duration::from_secs(60));
        if handshake_timeout.is_zero() || handshake_timeout > LONGEST_HANDSHAKE {
            return Err(bad("handshake_timeout", format!("{handshake_timeout:?}"), "above 0, at most 1h"));
        }
        let attack = parts.iter().find(|part| part.kind.attack).map(|part| part.kind.name);
        loud::check(&targets, operated, attack)?;
        let churn = wish.churn.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&churn) {
            return Err(bad("churn", churn, "a share of the clients per second, from 0 to 1"));
        }
        let seed = wish.seed.unwrap_or(1);
        let sources = Sources::choose(wish.sources.as_deref(), &targets, clients)?;
        let in_flight = wish.in_flight.unwrap_or(u64::from(IN_FLIGHT));
        let in_flight = u32::try_from(in_flight)
            .ok()
            .filter(|n| (1..=1_000_000).contains(n))
            .ok_or_else(|| bad("in_flight", in_flight, "1 to 1000000"))?;
        let rings = wish.rings.unwrap_or(0);
        let rings = u32::try_from(rings)
            .ok()
            .filter(|n| *n <= 1_024)
            .ok_or_else(|| bad("rings", rings, "0 (as many as needed) to 1024"))?;
        Ok(Scenario {
            targets,
            routes,
            tls,
            target_names: wish.targets,
            network,
            clients,
            counts: split(clients, &parts, total),
            parts,
            ramp: Ramp::parse(wish.ramp.as_deref().unwrap_or("1000/s"))?,
            duration: wish.duration.unwrap_or(Duration::from_secs(60)),
            sources,
            seed,
            ping_every: wish.ping_every.filter(|every| !every.is_zero()),
            churn,
            in_flight,
            handshake_timeout,
            watch,
            rings,
        })
    }

    /// The network's magic.
    pub fn magic(&self) -> Magic {
        self.network.magic().to_bytes()
    }

    /// Where a client of this part goes and what it speaks there.
    pub fn route(&self, part: usize, number: u32) -> Route {
        let none = Route { target: SocketAddr::from(([127, 0, 0, 1], 0)), transport: Transport::Plain };
        // Never `none`: every part has a route.
        let routes = self.routes.get(part).map_or(&[][..], Vec::as_slice);
        (number as usize).checked_rem(routes.len()).and_then(|at| routes.get(at)).copied().unwrap_or(none)
    }

    /// What the clients speak, each transport once, in words.
    pub fn transports(&self) -> String {
        let spoken =
            |wanted: &Transport| self.routes.iter().flatten().any(|route| route.transport == *wanted);
        let names: Vec<&str> = Transport::ALL.iter().filter(|t| spoken(t)).map(|t| t.name()).collect();
        names.join(", ")
    }

    /// The part client `number` belongs to. Parts are spread evenly over the numbers, so that a ramp that is cut short
    /// has about the mix that was asked.
    pub fn part_of(&self, number: u32) -> usize {
        let n = u64::from(self.clients);
        // A stride coprime to n visits every place once.
        let mut stride = (n as f64 * 0.618_034) as u64 | 1;
        while gcd(stride, n) != 1 {
            stride += 1;
        }
        let mut place = (u64::from(number) * stride) % n;
        for (part, count) in self.counts.iter().enumerate() {
            match place.checked_sub(u64::from(*count)) {
                None => return part,
                Some(rest) => place = rest,
            }
        }
        0
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn idle() -> Part {
    Part { kind: &behaviour::KINDS[0], share: 1.0, transport: None, options: Options::default() }
}

/// Clients of each part, by largest remainder.
fn split(clients: u32, parts: &[Part], total: f64) -> Vec<u32> {
    let exact: Vec<f64> = parts.iter().map(|part| f64::from(clients) * part.share / total).collect();
    let mut counts: Vec<u32> = exact.iter().map(|n| n.floor() as u32).collect();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()));
    let missing = clients.saturating_sub(counts.iter().sum()) as usize;
    order.iter().cycle().take(missing).for_each(|part| counts[*part] += 1);
    counts
}

/// `NAME=SHARE`, or `NAME` alone for a share of 1.
///
/// # Errors
/// The name is unknown or the share is no number.
pub fn part(text: &str) -> Result<Part, ScenarioError> {
    let (name, share) = text.split_once('=').unwrap_or((text, "1"));
    let kind = behaviour::find(name).ok_or_else(|| unknown_behaviour(name))?;
    let number = share.trim_end_matches('%').parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0);
    let share = number.ok_or_else(|| {
        ScenarioError::value("behaviour", text, "NAME=SHARE, the share a number not below 0")
    })?;
    Ok(Part { kind, share, transport: None, options: Options::default() })
}

fn unknown_behaviour(name: &str) -> ScenarioError {
    let names: Vec<&str> = behaviour::KINDS.iter().map(|kind| kind.name).collect();
    ScenarioError::value("behaviour", name, format!("one of {}", names.join(", ")))
}

fn network(name: &str) -> Result<Network, ScenarioError> {
    match name {
        "mainnet" => Ok(Network::Bitcoin),
        "testnet4" => Ok(Network::Testnet4),
        "signet" => Ok(Network::Signet),
        "regtest" => Ok(Network::Regtest),
        _ => Err(ScenarioError::value("network", name, "mainnet, testnet4, signet or regtest")),
    }
}

fn resolve(key: &str, names: &[String]) -> Result<Vec<SocketAddr>, ScenarioError> {
    let one = |name: &String| {
        let mut found = name.to_socket_addrs().map_err(|error| {
            ScenarioError::value(key, name, format!("HOST:PORT that can be resolved ({error})"))
        })?;
        found.next().ok_or_else(|| ScenarioError::value(key, name, "HOST:PORT with an address"))
    };
    names.iter().map(one).collect()
}
