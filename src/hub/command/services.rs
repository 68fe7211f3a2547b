//! Services and shared throttles as an operator sees and changes them. Values only.

use std::net::SocketAddr;

use crate::admission::Scope;
use crate::base::ServiceId;

/// A service: a group of listeners with rules of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, for people.
    pub name: String,
    /// Where clients connect; no port of another service.
    pub listen: Vec<SocketAddr>,
    /// True exactly when TLS is spoken there; otherwise v1, and BIP324 when the relay takes it.
    pub tls: bool,
    /// Service bits that may be advertised; none for all that can be given.
    pub bits: Option<u64>,
    /// Name towards its clients (BIP14); none for the relay's.
    pub user_agent: Option<String>,
    /// Session slots.
    pub sessions: u64,
    /// Probe slots.
    pub probes: u64,
}

/// What is given changes. What may be absent is in a second option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceChange {
    /// Its name.
    pub name: Option<String>,
    /// Service bits that may be advertised.
    pub bits: Option<Option<u64>>,
    /// Name towards its clients.
    pub user_agent: Option<Option<String>>,
    /// Session slots.
    pub sessions: Option<u64>,
    /// Probe slots.
    pub probes: Option<u64>,
}

/// A service that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Its number.
    pub id: ServiceId,
    /// It, its addresses with their ports resolved.
    pub service: Service,
    /// True exactly when it takes no newcomers any more.
    pub draining: bool,
    /// Session slots taken.
    pub sessions: u64,
    /// Probe slots taken.
    pub probes: u64,
}

/// A throttle that clients share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedThrottle {
    /// Whose.
    pub scope: Scope,
    /// Bytes per second towards clients.
    pub down: Option<u64>,
    /// And from them.
    pub up: Option<u64>,
}
