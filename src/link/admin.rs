//! What an operator asks of a shard's clients, and what the shard answers.
//!
//! A question about many clients is a job of the shard: it looks at a bounded number of slots per turn and answers when it is
//! through, so that no list and no kick of a /24 holds up a turn. Jobs are taken in order; the hub has a bounded number under way.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::admission::{Factors, Limit, Scope};
use crate::base::{Class, ClientId, End, ServiceId, Tags};
use crate::transport::Kind;
use crate::wire::Services;

/// Number of a question; echoed in the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskId(pub u32);

/// Which clients are meant: those for whom all that is given holds. Empty for everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Address within.
    pub network: Option<IpNet>,
    /// Service.
    pub service: Option<ServiceId>,
    /// Transport.
    pub transport: Option<Kind>,
    /// Class.
    pub class: Option<Class>,
    /// All of these tags.
    pub tags: Tags,
}

/// A question.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Clients from `from` (a slot) on, at most `limit`. Answered by `Told::Page`.
    List {
        /// Which.
        filter: Filter,
        /// The first slot looked at.
        from: u32,
        /// Most clients.
        limit: u32,
    },
    /// Does it to each. Answered by `Told::Done`.
    Act {
        /// To whom.
        who: Who,
        /// What.
        action: Action,
    },
    /// Other rules for a service: what is given changes. Answered by `Told::Done` for nobody.
    Rules(Rules),
    /// Another service, its listeners bound and not open. Answered by `Told::Bound`: all of them, or none.
    Add(NewService),
    /// Opens the listeners of a service that was added. Answered by `Told::Done` for nobody, when the kernel has been told.
    Open(ServiceId),
    /// Closes the listeners of a service and forgets its rules; its clients stay. Answered by `Told::Done` for nobody, when its ports are
    /// free.
    Remove(ServiceId),
    /// A service takes no newcomers any more. Answered by `Told::Done` for nobody.
    Drain(ServiceId),
    /// Sets this shard's part of a throttle that clients share. Answered by `Told::Done` for nobody.
    Throttle {
        /// Whose.
        scope: Scope,
        /// Towards clients.
        down: Limit,
        /// From clients.
        up: Limit,
    },
}

/// A service that comes while the shard runs; slots are this shard's part.
#[derive(Clone, Debug)]
pub struct NewService {
    /// Its number.
    pub service: ServiceId,
    /// Where clients connect, ports resolved.
    pub listen: Vec<SocketAddr>,
    /// True exactly when TLS is spoken there.
    pub tls: bool,
    /// Service bits that are not offered there.
    pub without: Services,
    /// Our name there (BIP14).
    pub user_agent: bytes::Bytes,
    /// Session slots.
    pub sessions: u32,
    /// Probe slots.
    pub probes: u32,
    /// Capacity of its clients, cost units per second; u32::MAX for no limit.
    pub capacity: u32,
    /// How long somebody may stay a probe; none for ever.
    pub probe_time: Option<Duration>,
}

/// What of a service's rules changes.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which service.
    pub service: ServiceId,
    /// Service bits that are not offered there, to newcomers.
    pub without: Option<Services>,
    /// Our name there, to newcomers.
    pub user_agent: Option<bytes::Bytes>,
}

/// To whom an action is done.
#[derive(Clone, Debug)]
pub enum Who {
    /// These.
    Ids(Vec<ClientId>),
    /// All that match.
    Matching(Filter),
}

/// What is done to a client.
#[derive(Clone, Debug)]
pub enum Action {
    /// It ends with this reason (`End::Kicked`, `End::Banned`, `End::Drained`).
    End(End),
    /// It is not read for so long; what it has asked for is still sent. Zero ends a pause.
    Pause(Duration),
    /// Its own throttle, bytes per second towards it (`down`) and from it (`up`).
    Throttle {
        /// Towards the client.
        down: Limit,
        /// From the client.
        up: Limit,
    },
    /// What is given is set.
    Set {
        /// Its capacity, cost units per second; u32::MAX for no limit.
        capacity: Option<u32>,
        /// Its prices; of a client of an account, the account's are not looked at any more.
        factors: Option<Factors>,
        /// Its tags, in the place of those it has.
        tags: Option<Tags>,
    },
    /// Tags are given and taken.
    Tag {
        /// Given.
        add: Tags,
        /// Taken.
        remove: Tags,
    },
    /// The hub is told of it anew, as of one that has come: an account may pay for it now.
    Rank,
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Told {
    /// Clients, by slot.
    Page {
        /// They.
        clients: Vec<ClientInfo>,
        /// Where the next page begins; none when the table is through.
        next: Option<u32>,
    },
    /// The listeners of a service are bound; or this one cannot be, with its error number, and none is.
    Bound(Result<(), (SocketAddr, i32)>),
    /// To how many it was done, and which of the ids were not there.
    Done {
        /// How many.
        clients: u64,
        /// Those that are not connected.
        unknown: Vec<ClientId>,
    },
}

/// A client as an operator sees it.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// In its shard.
    pub id: ClientId,
    /// Its address.
    pub peer: SocketAddr,
    /// The service it came by.
    pub service: ServiceId,
    /// What it speaks.
    pub transport: Kind,
    /// Its class.
    pub class: Class,
    /// Its tags.
    pub tags: Tags,
    /// How long it is connected.
    pub connected: Duration,
    /// How long nothing has come from it.
    pub silent: Duration,
    /// True exactly when version and verack have been exchanged.
    pub ready: bool,
    /// True exactly while it is not read, by a pause, a throttle or its flow control.
    pub paused: bool,
    /// True exactly while it is paused by an operator, or because more clients recharge than the relay can serve.
    pub frozen: bool,
    /// True exactly when something of ours is on its way to it.
    pub sending: bool,
    /// Bytes from it, as they came.
    pub bytes_in: u64,
    /// Bytes to it.
    pub bytes_out: u64,
    /// The last answer to a ping took so long; none before the first.
    pub round_trip: Option<Duration>,
    /// Its name (BIP14), as it was when it came, control characters removed; "other" when too many names are in use.
    pub user_agent: std::sync::Arc<str>,
    /// SHA-256 of the public key of its TLS certificate.
    pub identity: Option<[u8; 32]>,
    /// Its BIP324 session id.
    pub session_id: Option<[u8; 32]>,
    /// Its own throttle towards it, bytes per second.
    pub throttle_down: Option<u64>,
    /// And from it.
    pub throttle_up: Option<u64>,
    /// Cost units per second that it is guaranteed.
    pub capacity: u64,
    /// Cost units left in its flow-control buffer; negative when it is over.
    pub buffer: i64,
    /// What a free client owes now (its negative balance); none for others.
    pub debt: Option<f64>,
    /// Cost units served: headers, blocks, filters, transactions and the rest.
    pub costs: [u64; 4],
}
