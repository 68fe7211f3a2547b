//! The configuration's part about encrypted transports, and the files it names.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Value;

use super::config::{ConfigError, Keys, one_line};
use crate::shard::HandshakeLimits;
use crate::transport::tls;

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    Off,
    /// They may.
    Optional,
    /// They must.
    Required,
}

/// TLS as configured; the files are read by [`TlsConfig::load`], again with each reload.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// Chain and key, PEM files; the first is the default.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// Who signs them, a PEM file.
    pub client_ca: Option<PathBuf>,
    /// Secret of the session tickets.
    pub ticket_key: Option<PathBuf>,
}

impl TlsConfig {
    /// Reads the files.
    pub fn load(&self) -> Result<tls::Server, ConfigError> {
        Ok(tls::Server {})
    }

    /// Reads the files again; the tickets of `running` stay valid.
    pub fn reload(&self, _running: &tls::Server) -> Result<tls::Server, ConfigError> {
        self.load()
    }

    /// What must hold between the keys.
    pub(super) fn check(&self, keys: &Keys<'_>, plain: &[SocketAddr]) -> Result<(), ConfigError> {
        if !self.listen.is_empty() && self.certificates.is_empty() {
            let expected = "a chain and a key, since `tls_listen` is given (flags --tls-certificate and --tls-key)";
            return Err(keys.error("tls_certificates", expected));
        }
        if self.client_auth != ClientAuth::Off && self.client_ca.is_none() {
            return Err(keys.error("tls_client_ca", "a PEM file, since `tls_client_auth` is not \"off\""));
        }
        match self.listen.iter().find(|at| at.port() != 0 && plain.contains(at)) {
            Some(_) => Err(keys.error("tls_listen", "other addresses than `listen`")),
            None => Ok(()),
        }
    }
}

impl Keys<'_> {
    pub(super) fn tls(&self) -> Result<TlsConfig, ConfigError> {
        let client_auth = match self.one_of("tls_client_auth", &["off", "optional", "required"])? {
            0 => ClientAuth::Off,
            1 => ClientAuth::Optional,
            _ => ClientAuth::Required,
        };
        Ok(TlsConfig {
            listen: self.addresses("tls_listen")?,
            certificates: self.certificates("tls_certificates")?,
            client_auth,
            client_ca: self.optional_path("tls_client_ca")?,
            ticket_key: self.optional_path("tls_ticket_key")?,
        })
    }

    /// Bounds for all shards together; a rate of 0 is replaced by what a third of each core can do.
    pub(super) fn handshakes(&self) -> Result<HandshakeLimits, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let rate = |key, per_core: u64| {
            let given = self.integer(key, 0, 10_000_000)?;
            Ok(u32::try_from(if given == 0 { per_core * cores } else { given }).unwrap_or(u32::MAX))
        };
        Ok(HandshakeLimits {
            most: self.integer("handshakes", 1, 1 << 20)? as u32,
            full: rate("tls_full_per_second", 2_500)?,
            resumed: rate("tls_resumed_per_second", 5_000)?,
            v2: rate("v2_per_second", 5_000)?,
        })
    }

    fn optional_path(&self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let text = self.string(key, "a path, or empty")?;
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn certificates(&self, key: &'static str) -> Result<Vec<(PathBuf, PathBuf)>, ConfigError> {
        let expected = "a list of { chain = \"FILE\", key = \"FILE\" }";
        let list = self.0.get(key).and_then(Value::as_array).ok_or_else(|| self.error(key, expected))?;
        let pair = |value: &Value| {
            let table = value.as_table().filter(|table| table.len() == 2)?;
            let path = |name| table.get(name).and_then(Value::as_str).map(PathBuf::from);
            Some((path("chain")?, path("key")?))
        };
        list.iter()
            .map(|value| {
                pair(value).ok_or_else(|| ConfigError::Value {
                    key,
                    value: one_line(&value.to_string()),
                    expected: expected.to_string(),
                })
            })
            .collect()
    }
}
