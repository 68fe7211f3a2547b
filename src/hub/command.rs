//! What an operator asks of a running relay. The admin interface (`control`) sends a [`Command`], the driver answers it: by itself, or
//! by asking every shard.
//!
//! Each answer comes within `desk::ADMIN_TIMEOUT`; a shard that does not answer in time makes it [`Refusal::Late`].
//!
//! - `accounts`: capacity, prices, balances, and whose they are
//! - `services`: groups of listeners
//! - `tags`: their names

mod accounts;
mod services;
mod tags;

use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::oneshot;

pub use crate::admission::Ban;
use crate::admission::{Limit, Scope};
use crate::base::{ClientRef, ServiceId, Tags, UnixTime};
use crate::link::{Action, ClientInfo, Filter, ShardReport};

pub use accounts::{
    Account, AccountChange, AccountPage, Balance, Capacities, Defaults, DefaultsChange, Factors, Identity,
    PRIORITY_ID,
};
pub use services::{Service, ServiceChange, ServiceInfo, SharedThrottle};
pub use tags::TagNames;

/// Where an answer goes. Nobody waiting for it is no error.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Why a command was not done. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A value that cannot be: the field, what it is, what was expected.
    #[error("{field}: {value}, expected {expected}")]
    Value {
        /// The field of the request.
        field: &'static str,
        /// What was given.
        value: String,
        /// What may be.
        expected: String,
    },
    /// There is no such thing.
    #[error("{field}: {value} is unknown")]
    Unknown {
        /// The field of the request.
        field: &'static str,
        /// What was given.
        value: String,
    },
    /// It is not possible as things are.
    #[error("{0}")]
    Conflict(String),
    /// A shard has not answered in time; some shards may have done it.
    #[error("a shard did not answer in time")]
    Late,
    /// Too many commands are under way.
    #[error("too many commands are under way")]
    Busy,
}

/// A command.
#[derive(Debug)]
pub enum Command {
    /// How the relay is.
    Info(Reply<Info>),
    /// Clients, by shard and slot.
    Clients {
        /// Which.
        filter: Filter,
        /// Behind this one; none for the first page.
        after: Option<ClientRef>,
        /// Most of a page, 1 to 1,000.
        limit: u32,
        /// The page.
        reply: Reply<Page>,
    },
    /// Does something to clients.
    Act {
        /// To whom.
        who: Targets,
        /// What.
        action: Action,
        /// To how many it was done.
        reply: Reply<u64>,
    },
    /// Everybody loses these tags: clients, and accounts.
    RemoveTags {
        /// These.
        tags: Tags,
        /// How many clients had them.
        reply: Reply<u64>,
    },
    /// A throttle that clients share.
    Throttle {
        /// Whose.
        scope: Scope,
        /// Towards clients.
        down: Limit,
        /// From clients.
        up: Limit,
        /// Done; the number means nothing.
        reply: Reply<u64>,
    },
    /// Every throttle in force that clients share.
    Throttles(Reply<Vec<SharedThrottle>>),
    /// Gives clients a capacity and prices of their own, for as long as they are connected.
    SetClients {
        /// To whom.
        who: Targets,
        /// What; its tags are given besides those they have.
        change: AccountChange,
        /// To how many it was done.
        reply: Reply<u64>,
    },
    /// What clients get that have nothing of their own.
    Defaults(Reply<Defaults>),
    /// Changes it, for later clients.
    SetDefaults {
        /// What is given changes.
        change: DefaultsChange,
        /// All of them, as they are now.
        reply: Reply<Defaults>,
    },
    /// Priority identities, in the order of their names.
    Accounts {
        /// Behind this one; none for the first page.
        after: Option<Identity>,
        /// Most of a page, 1 to 1,000.
        limit: u32,
        /// The page.
        reply: Reply<AccountPage>,
    },
    /// One priority identity.
    Account {
        /// Whose.
        identity: Identity,
        /// It.
        reply: Reply<Account>,
    },
    /// Makes an identity a priority identity, or changes one.
    SetAccount {
        /// Whose.
        identity: Identity,
        /// What is given changes; a new one needs a capacity.
        change: AccountChange,
        /// It, as it is now.
        reply: Reply<Account>,
    },
    /// An identity is no priority identity any more; its clients go on as free ones.
    RemoveAccount {
        /// Whose.
        identity: Identity,
        /// Done.
        reply: Reply<()>,
    },
    /// The balance of any identity that is known, free ones included.
    Balance {
        /// Whose.
        identity: Identity,
        /// It.
        reply: Reply<Balance>,
    },
    /// Adds to the positive balance of a priority identity, or takes from it down to 0. An overflow is a [`Refusal::Value`].
    AddBalance {
        /// Whose.
        identity: Identity,
        /// Cost units.
        amount: i64,
        /// The old one and the new one, cost units.
        reply: Reply<(u64, u64)>,
    },
    /// The services, by number.
    Services(Reply<Vec<ServiceInfo>>),
    /// A new service; listens when this is answered.
    AddService {
        /// It.
        service: Service,
        /// Its number.
        reply: Reply<ServiceId>,
    },
    /// Changes a service. Slots count at once; bits and name for newcomers.
    ChangeService {
        /// Which.
        service: ServiceId,
        /// What is given changes.
        change: ServiceChange,
        /// It, as it is now.
        reply: Reply<ServiceInfo>,
    },
    /// The service takes no newcomers any more; who is connected stays.
    DrainService {
        /// Which.
        service: ServiceId,
        /// How many clients it still has.
        reply: Reply<u64>,
    },
    /// Ends what is left of the service's clients (`End::Drained`), and the service.
    RemoveService {
        /// Which.
        service: ServiceId,
        /// How many clients were ended.
        reply: Reply<u64>,
    },
    /// Reads the configuration file again.
    Reload(Reply<Reloaded>),
    /// Reads certificates, keys and the ticket secret again; how many certificates there are now.
    ReloadCertificates(Reply<u64>),
    /// Nobody from there comes in until then; who is connected from there is ended.
    Ban {
        /// From where.
        network: IpNet,
        /// For how long.
        time: Duration,
        /// Why, for people; at most 200 bytes.
        reason: String,
        /// How many clients were ended.
        reply: Reply<u64>,
    },
    /// Lifts a ban on exactly this network.
    Unban {
        /// Which.
        network: IpNet,
        /// Done.
        reply: Reply<()>,
    },
    /// Every ban in force, by network.
    Bans(Reply<Vec<Ban>>),
    /// Links to the nodes.
    Nodes(Reply<Vec<NodeInfo>>),
    /// Another node, as the key `nodes` of the configuration names it.
    AddNode {
        /// `HOST:PORT`, `v1:HOST:PORT` or `v2:HOST:PORT`.
        node: String,
        /// Done.
        reply: Reply<()>,
    },
    /// One node less; the last one stays.
    RemoveNode {
        /// As it was named.
        node: String,
        /// Done.
        reply: Reply<()>,
    },
}

/// To whom an action is done.
#[derive(Debug, Clone)]
pub enum Targets {
    /// These; one that is not connected is a [`Refusal::Unknown`] when it is the only one, and passed over otherwise.
    Ids(Vec<ClientRef>),
    /// All that match.
    Matching(Filter),
}

/// A page of clients.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// They, with their shards.
    pub clients: Vec<(ClientRef, ClientInfo)>,
    /// Their balances, in the same order; none, or nothing at all, where they are not known.
    pub balances: Vec<Option<Balance>>,
    /// What the next page begins behind; none at the end.
    pub next: Option<ClientRef>,
}

/// What a configuration read again came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys that have another value now.
    pub changed: Vec<String>,
    /// Keys that have another value in the file, which counts only after a restart.
    pub restart: Vec<String>,
}

/// How the relay is.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// The network's name.
    pub network: &'static str,
    /// Our name (BIP14).
    pub user_agent: String,
    /// Since when it runs.
    pub started: UnixTime,
    /// Height of the tip; none before the node's tip is known.
    pub height: Option<u32>,
    /// The tip's hash, as people write it.
    pub tip: Option<String>,
    /// Clients connected, and most that may be.
    pub clients: u64,
    /// Most clients.
    pub max_clients: u64,
    /// Clients whose handshake is complete.
    pub ready: u64,
    /// Clients over TLS, and over BIP324.
    pub tls: u64,
    /// Over BIP324.
    pub v2: u64,
    /// Transactions in the mempool.
    pub mempool: u64,
    /// Links to nodes that are up.
    pub nodes_up: u32,
    /// Shards.
    pub shards: u32,
    /// Session slots taken.
    pub sessions: u64,
    /// Session slots, all services together.
    pub max_sessions: u64,
    /// Probe slots taken.
    pub probes: u64,
    /// Probe slots, all services together.
    pub max_probes: u64,
    /// Clients of the class priority.
    pub priority: u64,
    /// Capacities.
    pub capacity: Capacities,
    /// The last report of each shard.
    pub reports: Vec<ShardReport>,
}

/// A node behind.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// As it was named.
    pub node: String,
    /// True exactly when its main link is up.
    pub up: bool,
    /// What is spoken with it: "v1" or "v2".
    pub transport: Option<&'static str>,
    /// Its name (BIP14).
    pub user_agent: Option<String>,
    /// Its height when it connected.
    pub height: Option<u32>,
    /// How often the main link was lost.
    pub losses: u64,
}
