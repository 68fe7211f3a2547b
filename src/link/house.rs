//! What hub and shard say to one another about capacity: who has come, what it is, what it was served, who has gone.
//!
//! A shard lets free clients in by itself, within the part of the total that the hub has handed it; it asks only when there is no room. The hub
//! knows the accounts: who is a priority client, and what a host owes from before.

use std::net::SocketAddr;
use std::time::Duration;

use crate::admission::{Factors, Grant, Limit, Report};
use crate::base::{Class, ClientId, End, ServiceId, Tags};
use crate::transport::Kind;

/// A client that has become a session, or wants to.
#[derive(Clone, Debug)]
pub struct Came {
    /// Who.
    pub client: ClientId,
    /// From where.
    pub peer: SocketAddr,
    /// SHA-256 of the public key of its TLS certificate.
    pub certificate: Option<Box<[u8; 32]>>,
    /// By which service.
    pub service: ServiceId,
    /// Speaking what.
    pub transport: Kind,
    /// How far it is.
    pub step: Step,
}

/// How far a client is that the hub hears of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is in, as a free client.
    In,
    /// It is not in, and waits to hear what it is.
    Knocks,
    /// It knocked, and is in now.
    After,
    /// It has been in for a while: an account may pay for it now.
    Again,
}

/// What a client is.
#[derive(Clone, Copy, Debug)]
pub struct Rank {
    /// Who.
    pub client: ClientId,
    /// As what.
    pub standing: Standing,
    /// True exactly when an account pays for it: what it is served is told every second.
    pub pays: bool,
    /// Tags it gets.
    pub tags: Tags,
    /// Tags it loses before.
    pub untag: Tags,
}

/// As what a client is in.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Standing {
    /// A free client; it owes so much more than what is counted.
    Free {
        /// Negative balance.
        debt: f64,
    },
    /// A priority client, that gets in wherever it is.
    Priority {
        /// Cost units per second.
        capacity: u32,
    },
    /// It has to go: there is no room for it.
    Out,
    /// It may not recharge for a while: too many do.
    Frozen,
}

/// A client of an account, and what it has had in the last second.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// Who.
    pub client: ClientId,
    /// Cost units served.
    pub cost: u32,
    /// True exactly while its buffer is not full.
    pub recharging: bool,
}

/// A client that is in has something else.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    /// Who.
    pub client: ClientId,
    /// Cost units per second.
    pub capacity: u32,
    /// Prices of its own.
    pub factors: Option<Factors>,
}

/// A session that has ended, or another client that an operator has ended.
#[derive(Clone, Debug)]
pub struct Gone {
    /// Who.
    pub client: ClientId,
    /// From where.
    pub peer: SocketAddr,
    /// What it was.
    pub class: Class,
    /// Its tags.
    pub tags: Tags,
    /// Why.
    pub end: End,
    /// What it owes for this connection; of a client of an account, the cost units that have not been told.
    pub owes: f32,
}

const _: () = assert!(size_of::<Gone>() <= 48, "kept for every client of a crowd that leaves at once");

/// The hub's word to a shard on the clients there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HouseOrder {
    /// So much capacity of free clients may be connected.
    pub grant: Grant,
    /// True when whatever is above that has to go, the worst first; otherwise nobody new comes in until enough has gone.
    pub shed: bool,
    /// So much of what recharges has to stop, the worst first.
    pub freeze: u64,
}

/// The same, from a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HouseReport {
    /// Of the free clients' capacity.
    pub free: Report,
    /// Capacity of the free clients whose buffers recharge.
    pub recharging: u64,
    /// Free clients that are frozen, since the shard's start.
    pub frozen: u64,
}

/// What clients get that have nothing of their own.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HouseRules {
    /// Prices.
    pub factors: Factors,
    /// A newcomer must be better than its victim after this much use.
    pub bias: Duration,
    /// Throttle of each newcomer, bytes per second towards it.
    pub throttle_down: Limit,
    /// And from it.
    pub throttle_up: Limit,
}

impl HouseRules {
    /// The default prices, and no throttle: for tests and benchmarks.
    pub fn open() -> HouseRules {
        HouseRules {
            factors: Factors::default(),
            bias: crate::admission::CONNECTED_BIAS,
            throttle_down: Limit::Keep,
            throttle_up: Limit::Keep,
        }
    }
}
