//! Whose capacity, prices and balances an operator sees and changes. Values only: the ledger holds them.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use crate::base::Tags;

/// Who pays: a network, or whoever shows a certificate with this key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Identity {
    /// Addresses; a free identity is a /32 or a /64.
    Network(IpNet),
    /// SHA-256 of a TLS client certificate's public key (SPKI).
    Key([u8; 32]),
}

/// What an identity is written as.
pub const IDENTITY: &str = "an address, a network such as 192.0.2.0/24, or key: and 64 hexadecimal digits";

impl fmt::Display for Identity {
    /// `192.0.2.0/24`, or `key:` and 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Network(network) => write!(f, "{network}"),
            Identity::Key(key) => {
                f.write_str("key:")?;
                key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl FromStr for Identity {
    type Err = &'static str;

    /// A bare address is the network of that address alone; bits behind the prefix are dropped.
    fn from_str(text: &str) -> Result<Identity, &'static str> {
        if let Some(hex) = text.strip_prefix("key:") {
            return key(hex).map(Identity::Key).ok_or(IDENTITY);
        }
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        network.map(|network| Identity::Network(network.trunc())).map_err(|_| IDENTITY)
    }
}

fn key(hex: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

/// What connected time and service cost: cost units of balance a second, per unit of capacity and second, per cost unit served.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Factors {
    /// A second of connection.
    pub time: f64,
    /// A second of one unit of capacity.
    pub capacity: f64,
    /// A cost unit served.
    pub request: f64,
}

/// What an identity has, cost units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Balance {
    /// Paid for and not used.
    pub positive: u64,
    /// Used and not paid for; decays.
    pub negative: u64,
}

/// A priority identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Whose.
    pub identity: Identity,
    /// Cost units a second that each of its clients is guaranteed.
    pub capacity: u64,
    /// Its prices.
    pub factors: Factors,
    /// Tags that its clients get.
    pub tags: Tags,
    /// Its balance.
    pub balance: Balance,
    /// Clients that are connected.
    pub clients: u64,
}

/// A page of priority identities.
#[derive(Clone, Debug, Default)]
pub struct AccountPage {
    /// They.
    pub accounts: Vec<Account>,
    /// What the next page begins behind; none at the end.
    pub next: Option<Identity>,
}

/// What is given changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountChange {
    /// Cost units a second.
    pub capacity: Option<u64>,
    /// Prices.
    pub factors: Option<Factors>,
    /// Tags, in the place of those that were there.
    pub tags: Option<Tags>,
}

/// What a client gets that has nothing of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// Prices.
    pub factors: Factors,
    /// A newcomer must be better than its victim after so many seconds of projected use.
    pub connected_bias: u64,
    /// Throttle of each client, bytes per second towards it.
    pub throttle_down: Option<u64>,
    /// And from it.
    pub throttle_up: Option<u64>,
}

/// What is given changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DefaultsChange {
    /// Prices.
    pub factors: Option<Factors>,
    /// Seconds.
    pub connected_bias: Option<u64>,
    /// Bytes per second towards each client.
    pub throttle_down: crate::admission::Limit,
    /// And from it.
    pub throttle_up: crate::admission::Limit,
}

/// Capacities, cost units a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacities {
    /// Lets a client send any single legal request.
    pub minimum: u64,
    /// The total never exceeds it.
    pub maximum: u64,
    /// What may be connected now.
    pub total: u64,
    /// What a free client gets.
    pub free_client: u64,
    /// Sum over all clients connected.
    pub connected: u64,
    /// Sum over the priority clients among them.
    pub priority_connected: u64,
    /// What the host can really serve.
    pub recharge: u64,
    /// Sum over the clients whose buffers recharge now.
    pub recharging: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        let key = format!("key:{}", "0a".repeat(32));
        for (text, written) in [
            ("192.0.2.1", "192.0.2.1/32"),
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("2001:db8::1/64", "2001:db8::/64"),
            (key.as_str(), key.as_str()),
        ] {
            let identity: Identity = text.parse().unwrap();
            assert_eq!(identity.to_string(), written);
            assert_eq!(written.parse(), Ok(identity));
        }
        for bad in ["", "192.0.2.0/33", "key:", "key:0a", &format!("key:{}", "+1".repeat(32)), "host"] {
            assert_eq!(bad.parse::<Identity>(), Err(IDENTITY), "{bad}");
        }
    }
}
