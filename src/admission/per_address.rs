//! Connections per address: so many of one IPv4 address or IPv6 /64 on a shard.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Host;
use crate::base::End;

/// A shard's limits on who may connect.
#[derive(Debug)]
pub struct Admission {
    /// Connections per IPv4 address or IPv6 /64; 0 for no limit, which keeps no state per address.
    max_per_address: u32,
    connected: HashMap<Host, u32>,
}

impl Admission {
    /// With at most this many connections per IPv4 address or IPv6 /64 on this shard; 0 for no limit.
    pub fn new(max_per_address: u32) -> Admission {
        Admission { max_per_address, connected: HashMap::new() }
    }

    /// Decides before anything is answered. On `Ok` the connection counts until [`Admission::left`].
    pub fn enter(&mut self, peer: SocketAddr) -> Result<(), End> {
        if self.max_per_address == 0 {
            return Ok(());
        }
        let count = self.connected.entry(Host::of(peer.ip())).or_insert(0);
        if *count >= self.max_per_address {
            return Err(End::PerAddress);
        }
        *count += 1;
        Ok(())
    }

    /// A connection that had entered is gone.
    pub fn left(&mut self, peer: SocketAddr) {
        if self.max_per_address == 0 {
            return;
        }
        let key = Host::of(peer.ip());
        if let Some(count) = self.connected.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.connected.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let mut admission = Admission::new(2);
        let a: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let b: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let b2: SocketAddr = "[2001:db8::2]:1".parse().unwrap();
        assert_eq!(
            [admission.enter(a), admission.enter(a), admission.enter(a)],
            [Ok(()), Ok(()), Err(End::PerAddress)]
        );
        assert_eq!(
            [admission.enter(b), admission.enter(b2), admission.enter(b)],
            [Ok(()), Ok(()), Err(End::PerAddress)]
        );
        admission.left(a);
        assert_eq!(admission.enter(a), Ok(()));
        for gone in [a, a, b, b2] {
            admission.left(gone);
        }
        assert!(admission.connected.is_empty());
    }
}
