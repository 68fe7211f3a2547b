//! The configuration's part about encrypted transports, and the files it names.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Value;

use super::config::{ConfigError, Keys, one_line};
use crate::shard::HandshakeLimits;
use crate::transport::tls::{Certificate, ClientAuth, Pem, Setup};

/// TLS as configured; the files are read by [`crate::transport::tls::Server::load`], again with each reload.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// Certificates, client authentication, tickets.
    pub setup: Setup,
}

impl TlsConfig {
    /// What must hold between the keys.
    pub(super) fn check(&self, keys: &Keys<'_>, plain: &[SocketAddr]) -> Result<(), ConfigError> {
        if !self.listen.is_empty() && self.setup.certificates.is_empty() {
            let expected =
                "a chain and a key, since `tls_listen` is given (flags --tls-certificate and --tls-key)";
            return Err(keys.error("tls_certificates", expected));
        }
        if self.listen.is_empty() && !self.setup.certificates.is_empty() {
            return Err(keys.error(
                "tls_listen",
                "at least one ADDRESS:PORT, since a certificate is given (flag --tls-listen)",
            ));
        }
        match self.listen.iter().find(|at| at.port() != 0 && plain.contains(at)) {
            Some(_) => Err(keys.error("tls_listen", "other addresses than `listen`")),
            None => Ok(()),
        }
    }
}

impl Keys<'_> {
    pub(super) fn tls(&self) -> Result<TlsConfig, ConfigError> {
        let mode = self.one_of("tls_client_auth", &["off", "optional", "required"])?;
        let ca = self.optional_file("tls_client_ca")?;
        let client_auth = match (mode, ca) {
            (0, None) => ClientAuth::Off,
            (0, Some(_)) => {
                let expected = "\"optional\" or \"required\", since `tls_client_ca` is given";
                return Err(self.error("tls_client_auth", expected));
            }
            (1, Some(ca)) => ClientAuth::Optional(ca),
            (_, Some(ca)) => ClientAuth::Required(ca),
            (_, None) => {
                return Err(self.error("tls_client_ca", "a PEM file, since `tls_client_auth` is not \"off\""));
            }
        };
        Ok(TlsConfig {
            listen: self.addresses("tls_listen")?,
            setup: Setup {
                certificates: self.certificates("tls_certificates")?,
                client_auth,
                ticket_secret: self.optional_file("tls_ticket_key")?,
            },
        })
    }

    /// Bounds for all shards together; a rate of 0 is replaced by what half of each core can do.
    pub(super) fn handshakes(&self) -> Result<HandshakeLimits, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let rate = |key, per_core: u64| {
            let given = self.integer(key, 0, 10_000_000)?;
            Ok(u32::try_from(if given == 0 { per_core * cores } else { given }).unwrap_or(u32::MAX))
        };
        Ok(HandshakeLimits {
            most: self.integer("handshakes", 1, 1 << 20)? as u32,
            full: rate("tls_full_per_second", 2_000)?,
            resumed: rate("tls_resumed_per_second", 4_000)?,
            v2: rate("v2_per_second", 2_000)?,
        })
    }

    fn optional_file(&self, key: &'static str) -> Result<Option<Pem>, ConfigError> {
        let text = self.string(key, "a path, or empty")?;
        Ok((!text.is_empty()).then(|| Pem::File(PathBuf::from(text))))
    }

    fn certificates(&self, key: &'static str) -> Result<Vec<Certificate>, ConfigError> {
        let expected = "a list of { chain = \"FILE\", key = \"FILE\" }";
        let list = self.0.get(key).and_then(Value::as_array).ok_or_else(|| self.error(key, expected))?;
        let pair = |value: &Value| {
            let table = value.as_table().filter(|table| table.len() == 2)?;
            let file =
                |name| table.get(name).and_then(Value::as_str).map(|path| Pem::File(PathBuf::from(path)));
            Some(Certificate { chain: file("chain")?, key: file("key")? })
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
