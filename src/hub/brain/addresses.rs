//! What clients are answered to getaddr: the operator's other relays, and a part of what the nodes know.
//!
//! At most `MAX_PCT_ADDR` per cent of what is known and at most `MAX_ADDR`, chosen once a day from the seed, so that a
//! scanner that asks often learns no more (as Bitcoin Core's answer cache).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use rand::seq::IndexedRandom as _;

use super::Hub;
use crate::base::Instant;
use crate::base::limits::{ADDRESS_INTERVAL, MAX_ADDR, MAX_KNOWN_ADDR, MAX_PCT_ADDR};
use crate::hub::session::LinkKind;
use crate::link::ToShard;
use crate::wire::{Reader, WireError, write};

/// An address somebody told a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Known {
    time: u32,
    services: u64,
}

/// What is known, and when it is told anew.
#[derive(Debug)]
pub(super) struct Addresses {
    known: BTreeMap<SocketAddr, Known>,
    told_at: Option<Instant>,
    asked_at: Option<Instant>,
    /// True exactly when addresses came since the last telling and that one had none of a node's.
    fresh: bool,
}

impl Addresses {
    pub(super) fn new() -> Addresses {
        Addresses { known: BTreeMap::new(), told_at: None, asked_at: None, fresh: false }
    }

    fn learn(&mut self, at: SocketAddr, known: Known) {
        if at.port() == 0 || (self.known.len() >= MAX_KNOWN_ADDR && !self.known.contains_key(&at)) {
            return;
        }
        self.known.insert(at, known);
        self.fresh = true;
    }
}

impl Hub {
    /// An `addr` message: count, then time, services, IPv6 or mapped IPv4, port.
    pub(super) fn on_addr(&mut self, payload: &[u8], count: usize) {
        let mut read = || -> Result<(), WireError> {
            let r = &mut Reader::new(payload);
            r.compact()?;
            for _ in 0..count {
                let (time, services, ip) = (r.u32()?, r.u64()?, Ipv6Addr::from(r.array::<16>()?));
                let port = u16::from_be_bytes(r.array()?);
                let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
                self.addresses.learn(SocketAddr::new(ip, port), Known { time, services });
            }
            Ok(())
        };
        if read().is_err() {
            self.counters.bad_messages += 1;
        }
    }

    /// An `addrv2` message (BIP155); networks other than IPv4 and IPv6 are left out.
    pub(super) fn on_addrv2(&mut self, payload: &[u8], count: usize) {
        let mut read = || -> Result<(), WireError> {
            let r = &mut Reader::new(payload);
            r.compact()?;
            for _ in 0..count {
                let (time, services, network) = (r.u32()?, r.compact()?, r.u8()?);
                let length = r.count(512)?;
                let bytes = r.bytes(length)?;
                let port = u16::from_be_bytes(r.array()?);
                let ip = match network {
                    1 => bytes.first_chunk::<4>().map(|b| IpAddr::V4(Ipv4Addr::from(*b))),
                    2 => bytes.first_chunk::<16>().map(|b| IpAddr::V6(Ipv6Addr::from(*b))),
                    _ => None,
                };
                if let Some(ip) = ip {
                    self.addresses.learn(SocketAddr::new(ip, port), Known { time, services });
                }
            }
            Ok(())
        };
        if read().is_err() {
            self.counters.bad_messages += 1;
        }
    }

    /// Makes the answer anew and gives it to the shards.
    pub(super) fn tell_addresses(&mut self) {
        if !self.promise.open {
            return;
        }
        let now = self.now;
        self.addresses.told_at = Some(now);
        self.addresses.fresh = false;
        let known: Vec<(SocketAddr, Known)> =
            self.addresses.known.iter().map(|(at, known)| (*at, *known)).collect();
        let room = MAX_ADDR.saturating_sub(self.config.siblings.len());
        let most = (known.len() * MAX_PCT_ADDR / 100).min(room);
        let time = u32::try_from(self.unix).unwrap_or(u32::MAX);
        let services = 0x0409;
        let mut chosen: Vec<(SocketAddr, Known)> =
            self.config.siblings.iter().take(MAX_ADDR).map(|at| (*at, Known { time, services })).collect();
        chosen.extend(known.choose_multiple(&mut self.rng, most).copied());
        let addr = self.addr_message(&chosen);
        let addrv2 = self.addrv2_message(&chosen);
        self.tell_all(&ToShard::Addresses { addr, addrv2 });
    }

    fn addr_message(&self, list: &[(SocketAddr, Known)]) -> Bytes {
        let mut out = Vec::new();
        write::message(&mut out, self.magic, "addr", |out| {
            write::compact(out, list.len() as u64);
            for (at, known) in list {
                out.extend_from_slice(&known.time.to_le_bytes());
                write::address(out, known.services, *at);
            }
        });
        out.into()
    }

    fn addrv2_message(&self, list: &[(SocketAddr, Known)]) -> Bytes {
        let mut out = Vec::new();
        write::message(&mut out, self.magic, "addrv2", |out| {
            write::compact(out, list.len() as u64);
            for (at, known) in list {
                out.extend_from_slice(&known.time.to_le_bytes());
                write::address_v2(out, known.services, *at);
            }
        });
        out.into()
    }

    /// Asks a node once a day, and tells the shards once a day (the first time a minute after the node has answered).
    pub(super) fn tick_addresses(&mut self) {
        let now = self.now;
        let due = |at: Option<Instant>| at.is_none_or(|at| now.since(at) >= ADDRESS_INTERVAL);
        if due(self.addresses.asked_at) {
            let links = 0..self.nodes.list.len();
            let link = links.into_iter().find_map(|node| self.nodes.ready_link(node, LinkKind::Ear));
            if let Some(link) = link {
                self.addresses.asked_at = Some(now);
                self.send(link, |out, magic| write::empty(out, magic, "getaddr"));
            }
        }
        let first = self.addresses.fresh
            && self.addresses.asked_at.is_some_and(|at| {
                let (told, settled) = (self.addresses.told_at, now.since(at).as_secs() >= 60);
                settled && told.is_some_and(|told| told < at + std::time::Duration::from_secs(60))
            });
        if self.promise.open && (due(self.addresses.told_at) || first) {
            self.tell_addresses();
        }
    }
}
