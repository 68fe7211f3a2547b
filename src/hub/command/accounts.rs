//! Whose capacity, prices and balances an operator sees and changes. Values only: the ledger holds them.

use crate::base::Tags;

pub use crate::admission::{Factors, PRIORITY_ID, PriorityId as Identity};

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
