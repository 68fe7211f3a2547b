//! The scenario file: TOML, keys as the flags.
//!
//! ```toml
//! targets = ["127.0.0.1:18444"]
//! network = "regtest"
//! clients = 10000
//! ramp = "1000/s"              # or "1000@10s" (steps), or "all"
//! duration = "60s"             # after the ramp
//! ping_every = "30s"           # each client once in this time; leave out for none
//! churn = 0.01                 # share of the clients that leave and come back each second
//! seed = 1
//! transport = "plain"          # or "v2", "tls"; a target may name its own: "tls://127.0.0.1:8334"
//! tls_ca = "ca.pem"            # or tls_insecure = true; tls_name, resume = 100
//!
//! [[behaviour]]
//! name = "idle"
//! share = 0.9
//! transport = "tls"            # leave out for the target's, or else the run's
//!
//! [[behaviour]]
//! name = "pinger"
//! share = 0.1
//! every = "2s"
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::ScriptBuf;
use breakwater::control::duration::{EXPECTED, duration};
use toml::{Table, Value};

use super::{Part, ScenarioError, Wish, part, unknown_behaviour};
use crate::rig::behaviour;

/// Keys of the file.
const KEYS: [&str; 19] = [
    "targets",
    "network",
    "clients",
    "ramp",
    "duration",
    "sources",
    "seed",
    "transport",
    "tls_name",
    "tls_ca",
    "tls_insecure",
    "resume",
    "ping_every",
    "churn",
    "in_flight",
    "handshake_timeout",
    "watch",
    "rings",
    "behaviour",
];
/// Keys of a `[[behaviour]]`.
const PART_KEYS: [&str; 10] =
    ["name", "share", "transport", "every", "rate", "bytes", "nth", "start", "watch", "once"];

/// Reads a scenario file.
///
/// # Errors
/// Each names the key, the value and what was expected.
pub fn read(path: &Path) -> Result<Wish, ScenarioError> {
    let failed =
        |error: String| ScenarioError::File { path: path.display().to_string(), error: one_line(&error) };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    wish(&text).map_err(|error| match error {
        ScenarioError::File { error, .. } => failed(error),
        other => other,
    })
}

/// Reads the text of a scenario file.
pub(super) fn wish(text: &str) -> Result<Wish, ScenarioError> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line =
            error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        ScenarioError::File { path: String::new(), error: format!("line {line}: {}", error.message()) }
    })?;
    let keys = Keys { table: &table, within: "" };
    keys.check(&KEYS)?;
    let parts = match table.get("behaviour") {
        None => Vec::new(),
        Some(Value::Array(list)) => list.iter().map(one_part).collect::<Result<_, _>>()?,
        Some(other) => return Err(ScenarioError::value("behaviour", other, "[[behaviour]] tables")),
    };
    Ok(Wish {
        targets: keys.strings("targets")?,
        network: keys.string("network")?,
        clients: keys.integer("clients")?,
        parts,
        ramp: keys.string("ramp")?,
        duration: keys.duration("duration")?,
        sources: keys.string("sources")?,
        seed: keys.integer("seed")?,
        transport: keys.string("transport")?,
        tls_name: keys.string("tls_name")?,
        tls_ca: keys.string("tls_ca")?.map(PathBuf::from),
        tls_insecure: keys.truth("tls_insecure")?,
        resume: keys.number("resume")?,
        ping_every: keys.duration("ping_every")?,
        churn: keys.number("churn")?,
        in_flight: keys.integer("in_flight")?,
        handshake_timeout: keys.duration("handshake_timeout")?,
        watch: keys.string("watch")?,
        rings: keys.integer("rings")?,
    })
}

fn one_part(value: &Value) -> Result<Part, ScenarioError> {
    let Value::Table(table) = value else {
        return Err(ScenarioError::value("behaviour", value, "a table with `name` and `share`"));
    };
    let keys = Keys { table, within: "behaviour." };
    keys.check(&PART_KEYS)?;
    let name = keys
        .string("name")?
        .ok_or_else(|| ScenarioError::value("behaviour.name", "missing", "the name of a behaviour"))?;
    if behaviour::find(&name).is_none() {
        return Err(unknown_behaviour(&name));
    }
    let mut part = part(&name)?;
    let positive = |key: &str| match keys.number(key)? {
        Some(n) if n < 0.0 => {
            Err(ScenarioError::value(&format!("behaviour.{key}"), n, "a number not below 0"))
        }
        other => Ok(other),
    };
    part.share = positive("share")?.unwrap_or(1.0);
    let transport = keys.string("transport")?;
    part.transport =
        transport.map(|name| super::transport::transport("behaviour.transport", &name)).transpose()?;
    part.options.rate = positive("rate")?.unwrap_or(0.0);
    let every = keys.duration("every")?.unwrap_or(Duration::ZERO);
    part.options.every_us = u64::try_from(every.as_micros()).unwrap_or(u64::MAX);
    part.options.bytes = keys.small("bytes", 0)?.unwrap_or(0);
    // 0 stands for the behaviour's own: who writes it means something else.
    part.options.nth = keys.small("nth", 1)?.unwrap_or(0);
    part.options.start = keys.small("start", 0)?.unwrap_or(0);
    part.options.watch = keys.scripts("watch")?.into();
    part.options.once = keys.truth("once")?.unwrap_or(false);
    Ok(part)
}

/// Typed reading; a key that is absent is `None`.
struct Keys<'a> {
    table: &'a Table,
    /// What goes before the key in an error.
    within: &'a str,
}

impl Keys<'_> {
    fn check(&self, known: &[&str]) -> Result<(), ScenarioError> {
        let Some(key) = self.table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
        let near = |name: &&&str| strsim::jaro_winkler(name, key) > 0.7;
        if key == "for" {
            // The flag's name.
            return Err(self.unknown(key, ", did you mean `duration`?"));
        }
        let hint = known.iter().find(near).map_or(String::new(), |name| format!(", did you mean `{name}`?"));
        Err(self.unknown(key, &hint))
    }

    fn unknown(&self, key: &str, hint: &str) -> ScenarioError {
        ScenarioError::UnknownKey { key: one_line(&format!("{}{key}", self.within)), hint: hint.to_string() }
    }

    fn get<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ScenarioError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            ScenarioError::value(&format!("{}{key}", self.within), one_line(&value.to_string()), expected)
        })
    }

    fn string(&self, key: &str) -> Result<Option<String>, ScenarioError> {
        self.get(key, "a text", |value| value.as_str().map(str::to_string))
    }

    fn strings(&self, key: &str) -> Result<Vec<String>, ScenarioError> {
        let list = |value: &Value| {
            value.as_array()?.iter().map(|one| one.as_str().map(str::to_string)).collect::<Option<Vec<_>>>()
        };
        Ok(self.get(key, "a list of texts", list)?.unwrap_or_default())
    }

    fn integer(&self, key: &str) -> Result<Option<u64>, ScenarioError> {
        self.get(key, "a whole number not below 0", |value| u64::try_from(value.as_integer()?).ok())
    }

    fn small(&self, key: &str, least: u32) -> Result<Option<u32>, ScenarioError> {
        self.get(key, &format!("a whole number from {least} to {}", u32::MAX), |value| {
            u32::try_from(value.as_integer()?).ok().filter(|number| *number >= least)
        })
    }

    fn truth(&self, key: &str) -> Result<Option<bool>, ScenarioError> {
        self.get(key, "true or false", Value::as_bool)
    }

    fn scripts(&self, key: &str) -> Result<Vec<Vec<u8>>, ScenarioError> {
        let script = |value: &Value| {
            let script = ScriptBuf::from_hex(value.as_str()?).ok()?;
            (!script.is_empty()).then(|| script.into_bytes())
        };
        let list = |value: &Value| value.as_array()?.iter().map(script).collect::<Option<Vec<_>>>();
        Ok(self.get(key, "a list of output scripts, hexadecimal", list)?.unwrap_or_default())
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ScenarioError> {
        let number = |value: &Value| {
            value.as_float().or_else(|| value.as_integer().map(|n| n as f64)).filter(|n| n.is_finite())
        };
        self.get(key, "a number", number)
    }

    fn duration(&self, key: &str) -> Result<Option<Duration>, ScenarioError> {
        self.get(key, EXPECTED, |value| match value {
            Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            other => duration(other.as_str()?).ok(),
        })
    }
}

fn one_line(text: &str) -> String {
    breakwater::control::one_line(text)
}
