//! Networks (CIDR) with something kept for each, found by address: one hash lookup per prefix length in use.
//!
//! IPv4-mapped IPv6 (`::ffff:192.0.2.1`) is IPv4 here, in networks and in addresses. A shorter IPv6 network covers no IPv4
//! address: `::/0` is all of IPv6 and nothing else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A map from networks, with lookup by an address within.
#[derive(Clone, Debug)]
pub struct Networks<T> {
    entries: HashMap<IpNet, T>,
    /// How many networks there are of each prefix length.
    v4: [u32; 33],
    v6: [u32; 129],
    /// Lengths in use, longest first.
    v4_used: Vec<u8>,
    v6_used: Vec<u8>,
}

impl<T> Default for Networks<T> {
    fn default() -> Networks<T> {
        Networks {
            entries: HashMap::new(),
            v4: [0; 33],
            v6: [0; 129],
            v4_used: Vec::new(),
            v6_used: Vec::new(),
        }
    }
}

impl<T> Networks<T> {
    /// Puts `value` for the network, and gives back what stood there. Host bits are ignored.
    pub fn insert(&mut self, network: IpNet, value: T) -> Option<T> {
        let network = canonical(network);
        let before = self.entries.insert(network, value);
        if before.is_none() {
            self.count(network, 1);
        }
        before
    }

    /// Takes out exactly this network.
    pub fn remove(&mut self, network: IpNet) -> Option<T> {
        let network = canonical(network);
        let gone = self.entries.remove(&network)?;
        self.count(network, -1);
        Some(gone)
    }

    /// What is kept for exactly this network.
    pub fn get(&self, network: IpNet) -> Option<&T> {
        self.entries.get(&canonical(network))
    }

    /// What is kept for the networks around an address, the longest prefix first.
    pub fn around(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.v4_used } else { &self.v6_used };
        lengths.iter().filter_map(move |length| self.entries.get(&within(address, *length)))
    }

    /// All, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True exactly when there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn count(&mut self, network: IpNet, by: i32) {
        let length = network.prefix_len();
        let (counts, used) = match network {
            IpNet::V4(_) => (&mut self.v4[..], &mut self.v4_used),
            IpNet::V6(_) => (&mut self.v6[..], &mut self.v6_used),
        };
        let Some(count) = counts.get_mut(usize::from(length)) else { return };
        *count = count.saturating_add_signed(by);
        let in_use = *count > 0;
        match used.binary_search_by(|other| length.cmp(other)) {
            Ok(at) if !in_use => drop(used.remove(at)),
            Err(at) if in_use => used.insert(at, length),
            _ => {}
        }
    }
}

/// The network without host bits; one of IPv4-mapped addresses as IPv4.
pub fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(v6) = network
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        return within(IpAddr::V4(v4), v6.prefix_len() - 96);
    }
    network.trunc()
}

/// The network of this length around an address; a length beyond the address's own counts as that.
pub fn within(address: IpAddr, length: u8) -> IpNet {
    match address {
        IpAddr::V4(v4) => {
            let length = length.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpNet::V4(Ipv4Net::new(Ipv4Addr::from(u32::from(v4) & mask), length).unwrap_or_default())
        }
        IpAddr::V6(v6) => {
            let length = length.min(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpNet::V6(Ipv6Net::new(Ipv6Addr::from(u128::from(v6) & mask), length).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few addresses, so that networks nest and repeat.
    fn address() -> impl Strategy<Value = IpAddr> {
        let v4 = (0_u8..4, any::<u8>()).prop_map(|(a, b)| IpAddr::from([10, a, 0, b]));
        let v6 = (0_u16..4, any::<u16>()).prop_map(|(a, b)| IpAddr::from([0x2001, 0xdb8, a, 0, 0, 0, 0, b]));
        let mapped =
            (0_u8..4, any::<u8>()).prop_map(|(a, b)| IpAddr::V6(Ipv4Addr::new(10, a, 0, b).to_ipv6_mapped()));
        prop_oneof![v4, v6, mapped]
    }

    fn network() -> impl Strategy<Value = IpNet> {
        (address(), 0_u8..=128).prop_map(|(address, length)| match address {
            IpAddr::V4(_) => IpNet::new(address, length % 33).unwrap(),
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => IpNet::new(address, 96 + length % 33).unwrap(),
            IpAddr::V6(_) => IpNet::new(address, length).unwrap(),
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_a_scan_finds(
            steps in prop::collection::vec((network(), any::<bool>()), 1..60),
            asked in prop::collection::vec(address(), 1..20),
        ) {
            let mut networks = Networks::default();
            let mut list: Vec<IpNet> = Vec::new();
            for (network, add) in steps {
                let plain = canonical(network);
                if add {
                    prop_assert_eq!(networks.insert(network, plain).is_some(), list.contains(&plain));
                    if !list.contains(&plain) {
                        list.push(plain);
                    }
                } else {
                    prop_assert_eq!(networks.remove(network).is_some(), list.contains(&plain));
                    list.retain(|other| *other != plain);
                }
            }
            prop_assert_eq!(networks.len(), list.len());
            for address in asked {
                let found: Vec<IpNet> = networks.around(address).copied().collect();
                let mut wanted: Vec<IpNet> =
                    list.iter().filter(|net| net.contains(&address.to_canonical())).copied().collect();
                wanted.sort_by_key(|net| std::cmp::Reverse(net.prefix_len()));
                prop_assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn only_lengths_in_use_are_looked_up() {
        let mut networks = Networks::default();
        for n in 0..100_u8 {
            networks.insert(within(IpAddr::from([10, n, 0, 0]), 16), n);
        }
        assert_eq!(networks.v4_used, [16]);
        for n in 0..100_u8 {
            networks.remove(within(IpAddr::from([10, n, 0, 0]), 16));
        }
        assert!(networks.v4_used.is_empty() && networks.is_empty());
    }

    #[test]
    fn a_mapped_network_is_ipv4() {
        let mapped: IpNet = "::ffff:192.0.2.77/120".parse().unwrap();
        assert_eq!(canonical(mapped).to_string(), "192.0.2.0/24");
        assert_eq!(within("192.0.2.77".parse().unwrap(), 0).to_string(), "0.0.0.0/0");
        assert_eq!(within("2001:db8::1".parse().unwrap(), 0).to_string(), "::/0");
    }
}
