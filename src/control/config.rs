//! Configuration: a TOML file whose commented default is the manual, and flags that go before it.
//!
//! Every error names the key, the value and what was expected, in one line whatever the file holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::Network;
use toml::{Table, Value};

use super::admin_config::AdminConfig;
use super::encryption::TlsConfig;
use super::services::{ProbeConfig, ServiceConfig};
use crate::admission::Costs;
use crate::base::limits::{FILE_CHUNK, MAX_MESSAGE, MAX_SHARDS, MAX_USER_AGENT};
use crate::hub::NodeAddr;
use crate::hub::store::Keep;
use crate::link::HouseRules;
use crate::shard::{HandshakeLimits, ListenerKind};

/// The default configuration, with comments.
pub const DEFAULT: &str = include_str!("default.toml");

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {error}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file {path}: {error}")]
    Syntax {
        /// Its path.
        path: String,
        /// Where and what, in one line.
        error: String,
    },
    /// A key that does not exist.
    #[error("configuration key `{key}` is unknown{hint}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest known one.
        hint: String,
    },
    /// A value that does not fit.
    #[error("configuration key `{key}` is {value}, expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value given.
        value: String,
        /// What was expected.
        expected: String,
    },
}

/// The configuration of `breakwater run`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which chain.
    pub network: Network,
    /// The nodes behind: HOST:PORT, or v1:HOST:PORT, v2:HOST:PORT.
    pub nodes: Vec<String>,
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// Where data is kept; a folder per network inside.
    pub data_dir: PathBuf,
    /// Whether BIP324 is taken on `listen`.
    pub v2: bool,
    /// TLS: where, and with what.
    pub tls: TlsConfig,
    /// Bounds of transport handshakes, all shards together.
    pub handshakes: HandshakeLimits,
    /// How many blocks are kept.
    pub keep: Keep,
    /// Disk for what is fetched on demand, bytes.
    pub cache_bytes: u64,
    /// Threads that serve clients.
    pub shards: usize,
    /// Clients in all; 0 until [`Config::fit`] has chosen.
    pub max_clients: u32,
    /// Services besides the one of `listen` and `tls.listen`.
    pub services: Vec<ServiceConfig>,
    /// Session slots of the first service; 0 for as many as clients fit.
    pub session_slots: u32,
    /// Its probe slots; 0 for a tenth of the clients.
    pub probe_slots: u32,
    /// How long and how often somebody may be a probe.
    pub probes: ProbeConfig,
    /// Cost units per second of a client that has no capacity of its own; 0 for no limit.
    pub free_capacity: u32,
    /// Cost units per second of all clients at most; 0 for all that fit, with `free_capacity` each.
    pub max_capacity: u64,
    /// Cost units per second that the host can serve; 0 for a million each shard.
    pub total_recharge: u64,
    /// What clients get that have nothing of their own.
    pub rules: HouseRules,
    /// What requests cost.
    pub costs: Costs,
    /// Connections per address and shard; 0 for no limit.
    pub max_per_address: u32,
    /// How long transaction announcements are gathered.
    pub tx_interval: Duration,
    /// Bound of the mempool, bytes.
    pub mempool_bytes: usize,
    /// Buffers of a shard, bytes.
    pub buffer_bytes: usize,
    /// Whether `mempool` is answered.
    pub allow_mempool: bool,
    /// Other relays.
    pub siblings: Vec<SocketAddr>,
    /// Our name.
    pub user_agent: String,
    /// Logs as JSON.
    pub log_json: bool,
    /// How much is logged.
    pub log_level: tracing::Level,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Where the admin interface is.
    pub admin: AdminConfig,
}

impl Config {
    /// Reads a file, or the defaults alone, with `flags` laid over it (keys as in the file).
    pub fn load(file: Option<&std::path::Path>, flags: Table) -> Result<Config, ConfigError> {
        Config::read(file, flags).map(|(config, _)| config)
    }

    /// As [`Config::load`], and every key with its value.
    pub fn read(file: Option<&std::path::Path>, flags: Table) -> Result<(Config, Table), ConfigError> {
        let mut table = parse("the default", DEFAULT)?;
        let known: Vec<String> = table.keys().cloned().collect();
        let mut given = Table::new();
        if let Some(path) = file {
            let name = one_line(&path.display().to_string());
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::File { path: name.clone(), error })?;
            given = parse(&name, &text)?;
        }
        given.extend(flags);
        if let Some(key) = given.keys().find(|key| !known.contains(key)) {
            let nearest = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
            let near = nearest.filter(|n| strsim::jaro_winkler(n, key) > 0.6);
            let hint = near.map_or(String::new(), |n| format!(", did you mean `{n}`?"));
            return Err(ConfigError::UnknownKey { key: one_line(key), hint });
        }
        let network_given = given.contains_key("network");
        let listen_given = given.contains_key("listen");
        table.extend(given);
        let mut config = Config::from_table(&Keys(&table))?;
        if network_given && !listen_given {
            let port = default_port(config.network);
            config.listen.iter_mut().for_each(|at| at.set_port(port));
        }
        Ok((config, table))
    }

    fn from_table(keys: &Keys<'_>) -> Result<Config, ConfigError> {
        let network = keys.network("network")?;
        let data_dir = PathBuf::from(keys.string("data_dir", "a path")?);
        let config = Config {
            admin: keys.admin(&data_dir.join(network_name(network)))?,
            network,
            nodes: keys.strings("nodes", "a list of HOST:PORT")?,
            listen: keys.addresses("listen")?,
            data_dir,
            v2: keys.flag("v2")?,
            tls: keys.tls()?,
            handshakes: keys.handshakes()?,
            keep: keys.keep("keep")?,
            cache_bytes: keys.integer("cache_mb", 16, 1 << 30)? * 1_000_000,
            shards: shards(keys.integer("shards", 0, MAX_SHARDS as u64)?),
            max_clients: keys.integer("max_clients", 0, 1 << 23)? as u32,
            services: keys.services("services")?,
            session_slots: keys.integer("session_slots", 0, 1 << 23)? as u32,
            probe_slots: keys.integer("probe_slots", 0, 1 << 23)? as u32,
            probes: keys.probes()?,
            free_capacity: keys.integer("free_capacity", 0, u64::from(u32::MAX - 1))? as u32,
            max_capacity: keys.integer("max_capacity", 0, 1 << 53)?,
            total_recharge: keys.integer("total_recharge", 0, 1 << 53)?,
            rules: keys.rules()?,
            costs: keys.costs("costs")?,
            max_per_address: keys.integer("max_per_address", 0, u64::from(u32::MAX))? as u32,
            tx_interval: Duration::from_millis(keys.integer("tx_interval_ms", 0, 60_000)?),
            mempool_bytes: keys.integer("mempool_mb", 1, 1 << 20)? as usize * 1_000_000,
            buffer_bytes: keys.integer("buffer_mb", 16, 1 << 20)? as usize * 1_000_000,
            allow_mempool: keys.flag("allow_mempool")?,
            siblings: keys.addresses("siblings")?,
            user_agent: keys.string("user_agent", "a name")?,
            log_json: keys.one_of("log_format", &["human", "json"])? == 1,
            log_level: keys.level("log_level")?,
            metrics: keys.optional_address("metrics")?,
        };
        if config.user_agent.len() > MAX_USER_AGENT {
            return Err(keys.error("user_agent", &format!("at most {MAX_USER_AGENT} bytes")));
        }
        if config.listen.is_empty() && config.tls.listen.is_empty() {
            return Err(keys.error("listen", "at least one ADDRESS:PORT here or in `tls_listen`"));
        }
        if let Some(at) = config
            .listen
            .iter()
            .enumerate()
            .find(|(n, at)| at.port() != 0 && config.listen[..*n].contains(at))
        {
            let expected = "each address once".into();
            return Err(ConfigError::Value { key: "listen", value: format!("\"{}\"", at.1), expected });
        }
        config.tls.check(keys, &config.listen)?;
        config.check_listeners(keys)?;
        if config.nodes.is_empty() {
            return Err(keys.error("nodes", "at least one HOST:PORT (flag --node)"));
        }
        let nodes: Vec<NodeAddr> = config.nodes.iter().cloned().map(NodeAddr).collect();
        if let Some(bad) = nodes.iter().find(|node| !node.is_valid()) {
            return Err(ConfigError::Value {
                key: "nodes",
                value: one_line(&format!("\"{bad}\"")),
                expected: "HOST:PORT, v1:HOST:PORT or v2:HOST:PORT".into(),
            });
        }
        for (n, node) in nodes.iter().enumerate() {
            let value = format!("\"{node}\"");
            if nodes[..n].iter().any(|other| other.host_port() == node.host_port()) {
                return Err(ConfigError::Value { key: "nodes", value, expected: "each node once".into() });
            }
            if node.host_port().parse::<SocketAddr>().is_ok_and(|at| config.listens_on(&at)) {
                let expected = "a full node, not the relay's own listen address".into();
                return Err(ConfigError::Value { key: "nodes", value, expected });
            }
        }
        Ok(config)
    }

    /// Addresses are there once; a listener of TLS needs a certificate.
    fn check_listeners(&self, keys: &Keys<'_>) -> Result<(), ConfigError> {
        let all = self.every_listener();
        if all.len() > MAX_LISTENERS {
            return Err(
                keys.error("services", &format!("at most {MAX_LISTENERS} listening addresses in all"))
            );
        }
        for (n, (at, listener)) in all.iter().enumerate() {
            if at.port() != 0 && all[..n].iter().any(|(other, _)| other == at) {
                let expected = "each address for one service only".into();
                return Err(ConfigError::Value { key: "services", value: at.to_string(), expected });
            }
            if listener.kind == ListenerKind::Tls && self.tls.setup.certificates.is_empty() {
                let expected = "`tls_certificates`, since a service has `tls_listen`";
                return Err(keys.error("services", expected));
            }
        }
        Ok(())
    }

    /// True exactly when clients connect there.
    fn listens_on(&self, at: &SocketAddr) -> bool {
        self.every_listener().iter().any(|(listener, _)| listener == at)
    }

    /// True exactly when some service speaks TLS.
    pub fn speaks_tls(&self) -> bool {
        self.every_listener().iter().any(|(_, listener)| listener.kind == ListenerKind::Tls)
    }

    /// The network's magic.
    pub fn magic(&self) -> crate::wire::Magic {
        self.network.magic().to_bytes()
    }

    /// The folder of this network's data.
    pub fn network_dir(&self) -> PathBuf {
        self.data_dir.join(network_name(self.network))
    }

    /// Chooses `max_clients` where the operator left it to us: what the shards' rings can hold with this limit of open
    /// files, at most [`DEFAULT_CLIENTS`].
    pub fn fit(&mut self, file_limit: u64) {
        if self.max_clients == 0 {
            let room = file_limit.saturating_mul(self.shards as u64);
            self.max_clients = room.min(u64::from(DEFAULT_CLIENTS)) as u32;
        }
    }

    /// Clients of one shard, rounded up.
    pub fn clients_per_shard(&self) -> u32 {
        self.max_clients.div_ceil(self.shards as u32)
    }
}

/// Most listening addresses: a listener is named by a byte.
pub const MAX_LISTENERS: usize = 255;
/// Most clients when the operator has named no number.
pub const DEFAULT_CLIENTS: u32 = 100_000;

const _: () = assert!(
    16_000_000 > 3 * MAX_MESSAGE + FILE_CHUNK,
    "the least buffer_mb carries the largest message in its half"
);

fn shards(asked: u64) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n as usize,
    }
}

/// True exactly when `nodes` may hold it: HOST:PORT, v1:HOST:PORT or v2:HOST:PORT.
pub(super) fn is_node(text: &str) -> bool {
    NodeAddr(text.to_owned()).is_valid()
}

/// The port a network's nodes listen on by default.
pub fn default_port(network: Network) -> u16 {
    match network {
        Network::Testnet4 => 48333,
        Network::Signet => 38333,
        Network::Regtest => 18444,
        Network::Testnet => 18333,
        _ => 8333,
    }
}

const NETWORKS: [(&str, Network); 4] = [
    ("mainnet", Network::Bitcoin),
    ("testnet4", Network::Testnet4),
    ("signet", Network::Signet),
    ("regtest", Network::Regtest),
];

/// A network's name in flags, files and folders.
pub fn network_name(network: Network) -> &'static str {
    NETWORKS.iter().find(|(_, n)| *n == network).map_or("unknown", |(name, _)| name)
}

fn parse(path: &str, text: &str) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|error| {
        let line =
            error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let error = format!("line {line}: {}", one_line(error.message()));
        ConfigError::Syntax { path: path.to_string(), error }
    })
}

/// The text with its control characters written as escapes.
pub fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
        out
    })
}

/// Typed reading of a table that has every key.
pub(super) struct Keys<'a>(pub(super) &'a Table);

impl Keys<'_> {
    pub(super) fn error(&self, key: &'static str, expected: &str) -> ConfigError {
        let value = self.0.get(key).map_or("missing".to_string(), |value| one_line(&value.to_string()));
        ConfigError::Value { key, value, expected: expected.to_string() }
    }

    pub(super) fn integer(&self, key: &'static str, least: u64, most: u64) -> Result<u64, ConfigError> {
        self.0
            .get(key)
            .and_then(Value::as_integer)
            .and_then(|n| u64::try_from(n).ok())
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| self.error(key, &format!("a whole number from {least} to {most}")))
    }

    fn flag(&self, key: &'static str) -> Result<bool, ConfigError> {
        self.0.get(key).and_then(Value::as_bool).ok_or_else(|| self.error(key, "true or false"))
    }

    pub(super) fn string(&self, key: &'static str, expected: &str) -> Result<String, ConfigError> {
        self.0.get(key).and_then(Value::as_str).map(String::from).ok_or_else(|| self.error(key, expected))
    }

    fn strings(&self, key: &'static str, expected: &str) -> Result<Vec<String>, ConfigError> {
        let list = self.0.get(key).and_then(Value::as_array).ok_or_else(|| self.error(key, expected))?;
        list.iter().map(|v| v.as_str().map(String::from).ok_or_else(|| self.error(key, expected))).collect()
    }

    pub(super) fn addresses(&self, key: &'static str) -> Result<Vec<SocketAddr>, ConfigError> {
        let expected = "a list of ADDRESS:PORT, IPv6 addresses in brackets";
        let parse = |text: String| {
            text.parse().map_err(|_| ConfigError::Value {
                key,
                value: one_line(&format!("\"{text}\"")),
                expected: expected.into(),
            })
        };
        self.strings(key, expected)?.into_iter().map(parse).collect()
    }

    pub(super) fn optional_address(&self, key: &'static str) -> Result<Option<SocketAddr>, ConfigError> {
        let text = self.string(key, "ADDRESS:PORT, or empty")?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| self.error(key, "ADDRESS:PORT, or empty"))
    }

    pub(super) fn one_of(&self, key: &'static str, names: &[&str]) -> Result<usize, ConfigError> {
        let text = self.string(key, names.join(", ").as_str())?;
        let expected = names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
        names.iter().position(|n| *n == text).ok_or_else(|| self.error(key, &format!("one of {expected}")))
    }

    fn network(&self, key: &'static str) -> Result<Network, ConfigError> {
        Ok(NETWORKS[self.one_of(key, &NETWORKS.map(|(name, _)| name))?].1)
    }

    fn level(&self, key: &'static str) -> Result<tracing::Level, ConfigError> {
        use tracing::Level;
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        Ok(levels[self.one_of(key, &["error", "warn", "info", "debug", "trace"])?])
    }

    fn keep(&self, key: &'static str) -> Result<Keep, ConfigError> {
        let expected = "\"all\", or a number of blocks from 1 to 10000000";
        match self.0.get(key) {
            Some(Value::String(text)) if text == "all" => Ok(Keep::All),
            Some(Value::Integer(n)) if (1..=10_000_000).contains(n) => Ok(Keep::Last(*n as u32)),
            _ => Err(self.error(key, expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let mut flags: Table = text.parse().unwrap();
        flags.entry("nodes").or_insert(Value::Array(vec![Value::String("127.0.0.1:8333".into())]));
        Config::load(None, flags).map_err(|e| e.to_string())
    }

    #[test]
    fn the_default_is_complete_but_for_a_node() {
        let error = Config::load(None, Table::new()).unwrap_err().to_string();
        assert_eq!(error, "configuration key `nodes` is [], expected at least one HOST:PORT (flag --node)");
        let config = load("").unwrap();
        assert_eq!((config.network, config.keep), (Network::Bitcoin, Keep::Last(288)));
        assert_eq!(load("network = \"regtest\"").unwrap().listen[0].port(), 18444);
    }

    #[test]
    fn errors_name_key_value_and_expectation() {
        for (text, want) in [
            ("max_client = 3", "configuration key `max_client` is unknown, did you mean `max_clients`?"),
            ("shards = 5000", "configuration key `shards` is 5000, expected a whole number from 0 to 1024"),
            (
                "shards = \"two\"",
                "configuration key `shards` is \"two\", expected a whole number from 0 to 1024",
            ),
            (
                "keep = \"some\"",
                "configuration key `keep` is \"some\", expected \"all\", or a number of blocks from 1 to 10000000",
            ),
            (
                "network = \"bitcoin\"",
                "configuration key `network` is \"bitcoin\", expected one of \"mainnet\", \"testnet4\", \"signet\", \"regtest\"",
            ),
            (
                "listen = [\"localhost\"]",
                "configuration key `listen` is \"localhost\", expected a list of ADDRESS:PORT, IPv6 addresses in brackets",
            ),
            ("\"a\\nb\" = 1", "configuration key `a\\nb` is unknown"),
            ("nodes = [\"a:1\", \"a:1\"]", "configuration key `nodes` is \"a:1\", expected each node once"),
            (
                "nodes = [\"a:1\", \"v1:a:1\"]",
                "configuration key `nodes` is \"v1:a:1\", expected each node once",
            ),
            (
                "nodes = [\"nowhere\"]",
                "configuration key `nodes` is \"nowhere\", expected HOST:PORT, v1:HOST:PORT or v2:HOST:PORT",
            ),
            (
                "nodes = [\"v3:a:1\"]",
                "configuration key `nodes` is \"v3:a:1\", expected HOST:PORT, v1:HOST:PORT or v2:HOST:PORT",
            ),
            (
                "nodes = [\"v1:127.0.0.1:8333\"]\nlisten = [\"127.0.0.1:8333\"]",
                "configuration key `nodes` is \"v1:127.0.0.1:8333\", expected a full node, not the relay's own listen address",
            ),
        ] {
            assert_eq!(load(text).unwrap_err(), want);
        }
    }
}
