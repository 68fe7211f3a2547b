//! From which addresses clients connect: the ports of one address are soon used up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ScenarioError;

/// Clients per source address that are chosen by default: far below the ports of one, so that the kernel finds a
/// free one at once.
const COMFORTABLE: u32 = 10_000;
/// The default range for targets on loopback begins here.
const LOOPBACK: u32 = u32::from_be_bytes([127, 0, 1, 0]);

/// Source addresses; clients take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// Whatever the kernel takes.
    Any,
    /// `count` addresses from `first` on.
    Range {
        /// The first.
        first: IpAddr,
        /// How many.
        count: u32,
    },
}

impl Sources {
    /// Reads `CIDR`; by default as many of 127.0.1.0 and the following as are needed when all targets are on IPv4 loopback.
    pub(super) fn choose(
        text: Option<&str>,
        targets: &[SocketAddr],
        clients: u32,
    ) -> Result<Sources, ScenarioError> {
        let loopback = |at: &SocketAddr| at.is_ipv4() && at.ip().is_loopback();
        let sources = match text {
            Some(text) => parse(text)?,
            None if targets.iter().all(loopback) => {
                let first = IpAddr::V4(Ipv4Addr::from(LOOPBACK + 1));
                Sources::Range { first, count: clients.div_ceil(COMFORTABLE) }
            }
            None => Sources::Any,
        };
        if let Sources::Range { first, .. } = sources
            && let Some(other) = targets.iter().find(|target| target.is_ipv4() != first.is_ipv4())
        {
            let expected = format!("addresses of the same family as target {other}");
            return Err(ScenarioError::value("sources", text.unwrap_or(""), expected));
        }
        let count = match sources {
            Sources::Any => 1,
            Sources::Range { count, .. } => count,
        };
        let (each, ports) = (clients.div_ceil(count), ports());
        if each > ports {
            let expected = format!(
                "more addresses: {each} clients on each, and it has {ports} ports (ip_local_port_range)"
            );
            return Err(ScenarioError::value("sources", text.unwrap_or("any"), expected));
        }
        Ok(sources)
    }

    /// The address client `number` connects from.
    pub fn of(self, number: u32) -> Option<IpAddr> {
        let Sources::Range { first, count } = self else { return None };
        let offset = number % count.max(1);
        Some(match first {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip).wrapping_add(offset))),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip).wrapping_add(u128::from(offset)))),
        })
    }
}

fn parse(text: &str) -> Result<Sources, ScenarioError> {
    let bad = || ScenarioError::value("sources", text, "ADDRESS/BITS, as 127.0.1.0/24, or one ADDRESS");
    let Some((address, bits)) = text.split_once('/') else {
        return Ok(Sources::Range { first: text.parse().map_err(|_| bad())?, count: 1 });
    };
    let (address, bits): (IpAddr, u32) =
        (address.parse().map_err(|_| bad())?, bits.parse().map_err(|_| bad())?);
    let width = if address.is_ipv4() { 32 } else { 128 };
    // Larger ranges than this have more addresses than the rig has clients.
    let host = width - Some(bits).filter(|bits| *bits <= width).ok_or_else(bad)?;
    let all = 1u64 << host.min(24);
    if host < 2 {
        return Ok(Sources::Range { first: address, count: all as u32 });
    }
    // Neither the network's own address nor its broadcast address.
    let first = match address {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from((u32::from(ip) >> host.min(31) << host.min(31)) + 1)),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from((u128::from(ip) >> host.min(127) << host.min(127)) + 1)),
    };
    Ok(Sources::Range { first, count: (all - 2) as u32 })
}

/// Ports of one source address (net.ipv4.ip_local_port_range).
fn ports() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = text.split_whitespace().filter_map(|n| n.parse::<u32>().ok());
    match (ends.next(), ends.next()) {
        (Some(low), Some(high)) if low <= high => high - low + 1,
        // The kernel's default.
        _ => 28_232,
    }
}
