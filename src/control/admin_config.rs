//! The configuration's part about the admin interface.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::admin::{Listen, Token};
use super::config::{ConfigError, Keys, one_line};

/// Where the admin interface is, as configured; the token's file is read by [`AdminConfig::listen`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// Its Unix socket.
    pub socket: Option<PathBuf>,
    /// Its address.
    pub address: Option<SocketAddr>,
    /// File with the token for that.
    pub token_file: Option<PathBuf>,
}

impl AdminConfig {
    /// What to bind.
    ///
    /// # Errors
    /// The token's file cannot be read, or holds no token.
    pub fn listen(&self) -> Result<Listen, ConfigError> {
        let token = self.token_file.as_deref().map(token).transpose()?;
        Ok(Listen { socket: self.socket.clone(), address: self.address, token })
    }
}

fn token(path: &Path) -> Result<Token, ConfigError> {
    let wrong = |expected: String| ConfigError::Value {
        key: "admin_token_file",
        value: one_line(&format!("\"{}\"", path.display())),
        expected,
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("a file with the token: {}", one_line(&error.to_string()))))?;
    Token::new(&text).map_err(|expected| wrong(format!("a file with {expected}")))
}

impl Keys<'_> {
    /// `network_dir`: where the socket is by default.
    pub(super) fn admin(&self, network_dir: &Path) -> Result<AdminConfig, ConfigError> {
        let socket = match self.string("admin_socket", "a path, \"off\", or empty")?.as_str() {
            "off" => None,
            "" => Some(network_dir.join("admin.sock")),
            path => Some(PathBuf::from(path)),
        };
        let address = self.optional_address("admin")?;
        let file = self.string("admin_token_file", "a path, or empty")?;
        let token_file = (!file.is_empty()).then(|| PathBuf::from(file));
        if address.is_some_and(|at| !at.ip().to_canonical().is_loopback()) && token_file.is_none() {
            return Err(self.error("admin", "a loopback address, or a token by `admin_token_file`"));
        }
        if token_file.is_some() && address.is_none() {
            return Err(self.error("admin_token_file", "empty, since `admin` is"));
        }
        Ok(AdminConfig { socket, address, token_file })
    }
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;
    use crate::control::Config;

    fn load(text: &str) -> Result<AdminConfig, String> {
        let flags: Table = format!("nodes = [\"127.0.0.1:8333\"]\n{text}").parse().unwrap();
        Config::load(None, flags).map(|config| config.admin).map_err(|error| error.to_string())
    }

    #[test]
    fn the_socket_is_in_the_networks_folder_unless_it_is_named_or_off() {
        let socket = |text: &str| load(text).unwrap().socket;
        assert_eq!(socket(""), Some("/var/lib/breakwater/mainnet/admin.sock".into()));
        let other = "data_dir = \"/x\"\nnetwork = \"regtest\"";
        assert_eq!(socket(other), Some("/x/regtest/admin.sock".into()));
        assert_eq!(socket("admin_socket = \"/run/b.sock\""), Some("/run/b.sock".into()));
        assert_eq!(socket("admin_socket = \"off\""), None);
        assert_eq!(load("").unwrap().address, None);
    }

    #[test]
    fn tcp_from_elsewhere_needs_a_token() {
        for (text, want) in [
            (
                "admin = \"0.0.0.0:9333\"",
                "configuration key `admin` is \"0.0.0.0:9333\", expected a loopback address, or a token by `admin_token_file`",
            ),
            (
                "admin = \"localhost\"",
                "configuration key `admin` is \"localhost\", expected ADDRESS:PORT, or empty",
            ),
            (
                "admin_token_file = \"/t\"",
                "configuration key `admin_token_file` is \"/t\", expected empty, since `admin` is",
            ),
            ("admin_socket = 3", "configuration key `admin_socket` is 3, expected a path, \"off\", or empty"),
        ] {
            assert_eq!(load(text).unwrap_err(), want);
        }
        assert!(load("admin = \"127.0.0.1:9333\"").is_ok());
        assert!(load("admin = \"[::ffff:127.0.0.1]:9333\"").is_ok());
        assert!(load("admin = \"0.0.0.0:9333\"\nadmin_token_file = \"/t\"").is_ok());
    }

    #[test]
    fn a_token_is_a_line_of_its_own_that_is_long_enough() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let config = AdminConfig { token_file: Some(file.clone()), ..AdminConfig::default() };
        let error = |config: &AdminConfig| config.listen().map(drop).unwrap_err().to_string();
        assert!(error(&config).contains("a file with the token: No such file"), "{}", error(&config));
        for bad in ["", "short", "two words are no token", "one line\nand one more line"] {
            std::fs::write(&file, bad).unwrap();
            assert!(error(&config).contains("one line of 16 to 4096"), "{}", error(&config));
        }
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        assert!(config.listen().unwrap().token.is_some());
    }
}
