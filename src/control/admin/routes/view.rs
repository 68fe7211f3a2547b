//! The relay and its clients as JSON. Times are seconds, rates bytes a second, capacities cost units a second.

use bitcoin::hex::DisplayHex as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::shards::{LatencyView, ShardView};
use crate::base::ClientRef;
use crate::hub::command::{Balance, Capacities, Info, TagNames};
use crate::link::ClientInfo;

/// How the relay is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InfoView {
    /// Version of the program.
    version: &'static str,
    /// The chain.
    network: &'static str,
    /// Name towards clients (BIP14).
    user_agent: String,
    /// When it started, seconds since 1970.
    started: u64,
    /// Height of the tip.
    height: Option<u32>,
    /// Its hash.
    tip: Option<String>,
    /// Clients connected.
    clients: u64,
    /// Most clients.
    max_clients: u64,
    /// Clients whose handshake is complete.
    ready: u64,
    /// Clients over TLS.
    tls: u64,
    /// Clients over BIP324.
    v2: u64,
    /// Session slots taken, and all of them.
    sessions: u64,
    max_sessions: u64,
    /// Probe slots taken, and all of them.
    probes: u64,
    max_probes: u64,
    /// Clients of the class priority.
    priority: u64,
    /// Transactions in the mempool.
    mempool: u64,
    /// Links to nodes that are up.
    nodes_up: u32,
    shards: u32,
    capacity: CapacityView,
    /// Watchers of events dropped because they were slow.
    events_lagged: u64,
    /// Announcements of blocks, all shards together.
    announcements: LatencyView,
    /// Each shard as it reported last; none before that.
    per_shard: Vec<ShardView>,
}

/// Capacities, cost units a second.
#[derive(Debug, Serialize, ToSchema)]
struct CapacityView {
    minimum: u64,
    maximum: u64,
    total: u64,
    free_client: u64,
    connected: u64,
    priority_connected: u64,
    /// What the host can really serve.
    recharge: u64,
    /// Sum over the clients whose buffers recharge now.
    recharging: u64,
}

impl InfoView {
    pub(super) fn new(info: Info, events_lagged: u64) -> InfoView {
        let Capacities {
            minimum,
            maximum,
            total,
            free_client,
            connected,
            priority_connected,
            recharge,
            recharging,
        } = info.capacity;
        InfoView {
            version: env!("CARGO_PKG_VERSION"),
            network: info.network,
            user_agent: info.user_agent,
            started: info.started,
            height: info.height,
            tip: info.tip,
            clients: info.clients,
            max_clients: info.max_clients,
            ready: info.ready,
            tls: info.tls,
            v2: info.v2,
            sessions: info.sessions,
            max_sessions: info.max_sessions,
            probes: info.probes,
            max_probes: info.max_probes,
            priority: info.priority,
            mempool: info.mempool,
            nodes_up: info.nodes_up,
            shards: info.shards,
            capacity: CapacityView {
                minimum,
                maximum,
                total,
                free_client,
                connected,
                priority_connected,
                recharge,
                recharging,
            },
            events_lagged,
            announcements: LatencyView::of(&info.reports),
            per_shard: info.reports.iter().enumerate().map(|(n, report)| ShardView::new(n, report)).collect(),
        }
    }
}

/// A client.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClientView {
    /// SHARD-SLOT-GENERATION.
    id: String,
    /// ADDRESS:PORT.
    address: String,
    /// Its service's number.
    service: u8,
    /// plain, v2 or tls.
    transport: &'static str,
    /// probe, free or priority.
    class: &'static str,
    tags: Vec<String>,
    /// Seconds since it connected.
    connected: f64,
    /// Seconds since something came from it.
    silent: f64,
    /// Whether its handshake is complete.
    ready: bool,
    /// Whether it is not read now.
    paused: bool,
    /// Paused by an operator, or because more clients recharge than the relay can serve.
    frozen: bool,
    /// Whether something is on its way to it.
    sending: bool,
    bytes_in: u64,
    bytes_out: u64,
    /// Seconds that the last answer to a ping took.
    round_trip: Option<f64>,
    user_agent: String,
    /// SHA-256 of its certificate's public key.
    identity: Option<String>,
    /// Its BIP324 session id.
    session_id: Option<String>,
    /// Its own throttle towards it, bytes a second.
    throttle_down: Option<u64>,
    /// And from it.
    throttle_up: Option<u64>,
    /// Cost units a second that it is guaranteed.
    capacity: u64,
    /// Cost units left in its buffer.
    buffer: i64,
    costs: CostsView,
    balance: Option<BalanceView>,
}

/// Cost units served, by type.
#[derive(Debug, Serialize, ToSchema)]
struct CostsView {
    headers: u64,
    blocks: u64,
    filters: u64,
    /// Transactions and the rest.
    other: u64,
}

/// Cost units that an identity has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BalanceView {
    /// Paid for and not used.
    positive: u64,
    /// Used and not paid for; decays.
    negative: u64,
}

impl From<Balance> for BalanceView {
    fn from(Balance { positive, negative }: Balance) -> BalanceView {
        BalanceView { positive, negative }
    }
}

impl ClientView {
    pub(super) fn new(
        id: ClientRef,
        info: ClientInfo,
        balance: Option<Balance>,
        tags: &TagNames,
    ) -> ClientView {
        let [headers, blocks, filters, other] = info.costs;
        ClientView {
            id: id.to_string(),
            address: info.peer.to_string(),
            service: info.service.0,
            transport: info.transport.label(),
            class: info.class.label(),
            tags: tags.of(info.tags),
            connected: info.connected.as_secs_f64(),
            silent: info.silent.as_secs_f64(),
            ready: info.ready,
            paused: info.paused,
            frozen: info.frozen,
            sending: info.sending,
            bytes_in: info.bytes_in,
            bytes_out: info.bytes_out,
            round_trip: info.round_trip.map(|time| time.as_secs_f64()),
            user_agent: info.user_agent.to_string(),
            identity: info.identity.map(|key| key.to_lower_hex_string()),
            session_id: info.session_id.map(|id| id.to_lower_hex_string()),
            throttle_down: info.throttle_down,
            throttle_up: info.throttle_up,
            capacity: info.capacity,
            buffer: info.buffer,
            costs: CostsView { headers, blocks, filters, other },
            balance: balance.map(BalanceView::from),
        }
    }
}

/// To how many clients something was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    pub(super) clients: u64,
}
