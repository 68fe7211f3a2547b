//! Who a client is: by its address for everybody, by a network or a certificate for those whom the operator knows.
//!
//! What attackers can choose (addresses) is hashed with a secret before it is a key of a table, so that nobody can aim at one
//! place of it. The hashes are of one process and are never written to disk; a [`Host`] is.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use super::networks::{Networks, canonical};

/// What one owner commonly has: an IPv4 address, or the /64 of an IPv6 address. IPv4-mapped addresses are IPv4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// An IPv4 address.
    V4(u32),
    /// The upper half of an IPv6 address.
    V6(u64),
}

const _: () = assert!(size_of::<Host>() == 16);

impl Host {
    /// Of an address.
    pub fn of(address: IpAddr) -> Host {
        match address.to_canonical() {
            IpAddr::V4(v4) => Host::V4(v4.into()),
            IpAddr::V6(v6) => Host::V6((u128::from(v6) >> 64) as u64),
        }
    }

    /// What one network commonly has: the /24 of IPv4, the /48 of IPv6; its lowest host stands for it.
    pub fn group(self) -> Host {
        match self {
            Host::V4(v4) => Host::V4(v4 & !0xff),
            Host::V6(v6) => Host::V6(v6 & !0xffff),
        }
    }
}

impl Display for Host {
    /// `192.0.2.1` or `2001:db8::/64`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Host::V4(v4) => Ipv4Addr::from(*v4).fmt(f),
            Host::V6(v6) => write!(f, "{}/64", Ipv6Addr::from(u128::from(*v6) << 64)),
        }
    }
}

impl FromStr for Host {
    type Err = ();

    fn from_str(text: &str) -> Result<Host, ()> {
        if let Ok(v4) = text.parse::<Ipv4Addr>() {
            return Ok(Host::V4(v4.into()));
        }
        let v6: Ipv6Addr = text.strip_suffix("/64").ok_or(())?.parse().map_err(drop)?;
        Ok(Host::V6((u128::from(v6) >> 64) as u64))
    }
}

/// The secret by which hosts become keys: the same for all shards of a process, another one at every start.
#[derive(Clone, Copy)]
pub struct Keying(SipHasher13);

impl fmt::Debug for Keying {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Keying")
    }
}

/// A client's keys in tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Keys {
    /// Its host's. Never 0.
    pub identity: u64,
    /// Its group's. Never 0.
    pub group: u64,
}

impl Keying {
    /// With a random seed.
    pub fn new(seed: [u64; 2]) -> Keying {
        Keying(SipHasher13::new_with_keys(seed[0], seed[1]))
    }

    /// The keys of an address.
    pub fn of(&self, address: IpAddr) -> Keys {
        let host = Host::of(address);
        Keys { identity: self.hash(host, 0), group: self.hash(host.group(), 1) }
    }

    /// A host's key; `kind` keeps a group apart from its lowest host.
    fn hash(&self, host: Host, kind: u8) -> u64 {
        let mut hasher = self.0;
        let (family, bits) = match host {
            Host::V4(v4) => (4, u64::from(v4)),
            Host::V6(v6) => (6, v6),
        };
        hasher.write(&[kind, family]);
        hasher.write(&bits.to_le_bytes());
        // Tables use 0 for an empty place.
        hasher.finish().max(1)
    }
}

/// By what a client of the operator's own is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PriorityId {
    /// It comes from this network.
    Network(IpNet),
    /// SHA-256 of the public key (SPKI) of its TLS certificate.
    Certificate([u8; 32]),
}

impl PriorityId {
    /// Without host bits, IPv4-mapped networks as IPv4.
    pub fn canonical(self) -> PriorityId {
        match self {
            PriorityId::Network(network) => PriorityId::Network(canonical(network)),
            certificate => certificate,
        }
    }
}

impl Display for PriorityId {
    /// `192.0.2.0/24` or `key:` and 64 hexadecimal digits.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            PriorityId::Network(network) => network.fmt(f),
            PriorityId::Certificate(hash) => {
                f.write_str("key:")?;
                hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// What a [`PriorityId`] is written as.
pub const PRIORITY_ID: &str = "an address, a network such as 192.0.2.0/24, or key: and 64 hexadecimal digits";

impl FromStr for PriorityId {
    type Err = &'static str;

    /// A bare address is the network of that address alone; bits behind the prefix are dropped.
    fn from_str(text: &str) -> Result<PriorityId, &'static str> {
        let Some(digits) = text.strip_prefix("key:") else {
            let value = serde_json::Value::from(text);
            return super::bans::read_network(&value).map(PriorityId::Network).ok_or(PRIORITY_ID);
        };
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(PRIORITY_ID);
        }
        let mut hash = [0; 32];
        for (n, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).map_err(|_| PRIORITY_ID)?;
        }
        Ok(PriorityId::Certificate(hash))
    }
}

/// Those whom the operator knows, with a number for each.
#[derive(Clone, Debug, Default)]
pub struct PrioritySet {
    networks: Networks<u32>,
    certificates: HashMap<[u8; 32], u32>,
}

impl PrioritySet {
    /// Gives `id` a number, and says the one it had.
    pub fn insert(&mut self, id: PriorityId, number: u32) -> Option<u32> {
        match id {
            PriorityId::Network(network) => self.networks.insert(network, number),
            PriorityId::Certificate(hash) => self.certificates.insert(hash, number),
        }
    }

    /// Forgets `id`, and says the number it had.
    pub fn remove(&mut self, id: PriorityId) -> Option<u32> {
        match id {
            PriorityId::Network(network) => self.networks.remove(network),
            PriorityId::Certificate(hash) => self.certificates.remove(&hash),
        }
    }

    /// The number of exactly this one.
    pub fn get(&self, id: PriorityId) -> Option<u32> {
        match id {
            PriorityId::Network(network) => self.networks.get(network).copied(),
            PriorityId::Certificate(hash) => self.certificates.get(&hash).copied(),
        }
    }

    /// The number of a client: by its certificate, which says who it is, before its network, which says where it is; of
    /// networks by the longest prefix.
    pub fn find(&self, address: IpAddr, certificate: Option<&[u8; 32]>) -> Option<u32> {
        let known = certificate.and_then(|hash| self.certificates.get(hash));
        known.or_else(|| self.networks.around(address).next()).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.networks.len() + self.certificates.len()
    }

    /// True exactly when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_host_has_one_key_and_one_network_one_group() {
        let keying = Keying::new([1, 2]);
        let keys = |text: &str| keying.of(ip(text));
        assert_eq!(keys("192.0.2.1"), keys("::ffff:192.0.2.1"));
        assert_ne!(keys("192.0.2.1").identity, keys("192.0.2.2").identity);
        assert_eq!(keys("192.0.2.1").group, keys("192.0.2.255").group);
        assert_ne!(keys("192.0.2.1").group, keys("192.0.3.1").group);
        assert_eq!(keys("2001:db8::1"), keys("2001:db8::ffff:2"));
        assert_ne!(keys("2001:db8::1").identity, keys("2001:db8:0:1::1").identity);
        assert_eq!(keys("2001:db8::1").group, keys("2001:db8:0:ffff::1").group);
        assert_ne!(keys("2001:db8::1").group, keys("2001:db8:1::1").group);
        assert_ne!(keys("192.0.2.0").identity, keys("192.0.2.0").group, "a group is not its lowest host");
        assert_ne!(keys("::c000:201:0:0:0:0").identity, keys("192.0.2.1").identity, "families are apart");
        assert_ne!(keys("192.0.2.1"), Keying::new([1, 3]).of(ip("192.0.2.1")), "another secret");
    }

    #[test]
    fn a_certificate_comes_before_a_network_and_a_long_prefix_before_a_short_one() {
        let mut set = PrioritySet::default();
        let certificate = [7; 32];
        set.insert("192.0.2.0/24".parse().unwrap(), 1);
        set.insert("192.0.2.128/25".parse().unwrap(), 2);
        set.insert(PriorityId::Certificate(certificate), 3);
        assert_eq!(set.find(ip("192.0.2.1"), None), Some(1));
        assert_eq!(set.find(ip("::ffff:192.0.2.129"), Some(&[8; 32])), Some(2));
        assert_eq!(set.find(ip("192.0.2.129"), Some(&certificate)), Some(3));
        assert_eq!(set.find(ip("192.0.3.1"), None), None);
        assert_eq!(set.remove("192.0.2.128/25".parse().unwrap()), Some(2));
        assert_eq!((set.find(ip("192.0.2.129"), None), set.len()), (Some(1), 2));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for text in ["key:00", "192.0.2.0/33", "", "host"] {
            assert!(text.parse::<PriorityId>().is_err(), "{text}");
        }
        let accents = format!("key:{}", "é".repeat(32));
        assert!(accents.parse::<PriorityId>().is_err());
        assert!("2001:db8::".parse::<Host>().is_err());
    }

    proptest! {
        #[test]
        fn text_and_back(bits in any::<u128>(), v4 in any::<u32>(), hash in any::<[u8; 32]>(), length in 0_u8..=32) {
            for host in [Host::of(IpAddr::V6(bits.into())), Host::V4(v4)] {
                prop_assert_eq!(host.to_string().parse::<Host>(), Ok(host));
            }
            let network = IpNet::new(IpAddr::V4(v4.into()), length).unwrap().trunc();
            for id in [PriorityId::Certificate(hash), PriorityId::Network(network)] {
                prop_assert_eq!(id.to_string().parse::<PriorityId>(), Ok(id));
            }
        }
    }
}
