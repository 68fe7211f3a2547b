//! A relay that is none: it answers commands from a small world of its own, and keeps what it was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use breakwater::admission::{Limit, Scope};
use breakwater::base::{Class, ClientId, ClientRef, ServiceId, ShardId, Tags};
use breakwater::hub::command::{
    Account, AccountPage, Balance, Ban, Capacities, Command, Defaults, Identity, Info, NodeInfo, Page,
    Refusal, Reloaded, Reply, Service, ServiceInfo, SharedThrottle, Targets,
};
use breakwater::link::{ClientInfo, Filter, Histogram, ShardReport};
use breakwater::transport::Kind;
use ipnet::IpNet;
use tokio::sync::mpsc;

/// Clients on each of two shards.
pub const CLIENTS: u32 = 150;
/// When everything here was made.
pub const NOW: u64 = 1_800_000_000;

/// What the relay was asked, in words.
pub type Asked = Arc<Mutex<Vec<String>>>;

pub struct World {
    pub asked: Asked,
    /// Whether there is a tip.
    pub has_tip: Arc<Mutex<bool>>,
    bans: BTreeMap<IpNet, Ban>,
    nodes: Vec<String>,
    accounts: BTreeMap<Identity, Account>,
    services: BTreeMap<u8, ServiceInfo>,
    throttles: Vec<SharedThrottle>,
    defaults: Defaults,
}

impl World {
    pub fn new(asked: Asked, has_tip: Arc<Mutex<bool>>) -> World {
        let service = Service {
            name: "main".into(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8333))],
            tls: false,
            bits: None,
            user_agent: None,
            sessions: 1_000,
            probes: 10_000,
        };
        let info = ServiceInfo { id: ServiceId(0), service, draining: false, sessions: 7, probes: 70 };
        World {
            asked,
            has_tip,
            bans: BTreeMap::new(),
            nodes: vec!["127.0.0.1:8335".into()],
            accounts: BTreeMap::new(),
            services: BTreeMap::from([(0, info)]),
            throttles: Vec::new(),
            defaults: Defaults { connected_bias: 180, ..Defaults::default() },
        }
    }

    /// Answers until nobody can ask any more.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            let words = words(&command);
            self.asked.lock().unwrap().push(words);
            self.answer(command);
        }
    }

    fn answer(&mut self, command: Command) {
        match command {
            Command::Info(reply) => send(reply, Ok(self.info())),
            Command::Clients { filter, after, limit, reply } => send(reply, page(&filter, after, limit)),
            Command::Act { who, reply, .. } | Command::SetClients { who, reply, .. } => {
                send(reply, meant(&who))
            }
            Command::RemoveTags { tags, reply } => {
                let filter = Filter { tags, ..Filter::default() };
                send(reply, meant(&Targets::Matching(filter)));
            }
            Command::Throttle { scope, down, up, reply } => {
                self.throttles.retain(|throttle| throttle.scope != scope);
                let rate = |limit| match limit {
                    Limit::Bytes(rate) => Some(rate),
                    _ => None,
                };
                self.throttles.push(SharedThrottle { scope, down: rate(down), up: rate(up) });
                send(reply, Ok(0));
            }
            Command::Throttles(reply) => send(reply, Ok(self.throttles.clone())),
            Command::Ban { network, time, reason, reply } => {
                let until = NOW + time.as_secs();
                self.bans.insert(network, Ban { network, until, since: NOW, reason });
                send(reply, Ok(3));
            }
            Command::Unban { network, reply } => {
                let unknown = Refusal::Unknown { field: "network", value: network.to_string() };
                send(reply, self.bans.remove(&network).map(drop).ok_or(unknown));
            }
            Command::Bans(reply) => send(reply, Ok(self.bans.values().cloned().collect())),
            Command::Nodes(reply) => send(reply, Ok(self.nodes.iter().map(|name| node(name)).collect())),
            Command::AddNode { node, reply } if self.nodes.contains(&node) => {
                send(reply, Err(Refusal::Conflict(format!("node: {node} is there already"))));
            }
            Command::AddNode { node, reply } => {
                self.nodes.push(node);
                send(reply, Ok(()));
            }
            Command::RemoveNode { node, reply } => send(reply, self.remove_node(&node)),
            other => self.answer_accounts(other),
        }
    }

    fn answer_accounts(&mut self, command: Command) {
        match command {
            Command::Defaults(reply) => send(reply, Ok(self.defaults.clone())),
            Command::SetDefaults { change, reply } => {
                self.defaults.connected_bias = change.connected_bias.unwrap_or(self.defaults.connected_bias);
                self.defaults.factors = change.factors.unwrap_or(self.defaults.factors);
                send(reply, Ok(self.defaults.clone()));
            }
            Command::Accounts { after, limit, reply } => {
                let behind =
                    self.accounts.values().filter(|account| after.is_none_or(|a| account.identity > a));
                let mut accounts: Vec<Account> = behind.take(limit as usize + 1).cloned().collect();
                let more = accounts.len() > limit as usize;
                accounts.truncate(limit as usize);
                let next = if more { accounts.last().map(|account| account.identity) } else { None };
                send(reply, Ok(AccountPage { accounts, next }));
            }
            Command::Account { identity, reply } => send(reply, self.account(identity).map(|a| a.clone())),
            Command::SetAccount { identity, change, reply } => {
                let known = self.accounts.get(&identity).cloned();
                let result = match known.as_ref().map(|known| known.capacity).or(change.capacity) {
                    None => {
                        let expected = "a capacity, since the identity is new".to_owned();
                        Err(Refusal::Value { field: "capacity", value: "missing".into(), expected })
                    }
                    Some(_) => {
                        let mut account = known.unwrap_or_else(|| fresh(identity));
                        account.capacity = change.capacity.unwrap_or(account.capacity);
                        account.factors = change.factors.unwrap_or(account.factors);
                        account.tags = change.tags.unwrap_or(account.tags);
                        self.accounts.insert(identity, account.clone());
                        Ok(account)
                    }
                };
                send(reply, result);
            }
            Command::RemoveAccount { identity, reply } => {
                let result = self.account(identity).map(|_| ());
                self.accounts.remove(&identity);
                send(reply, result);
            }
            Command::Balance { identity, reply } => send(reply, self.account(identity).map(|a| a.balance)),
            Command::AddBalance { identity, amount, reply } => {
                let result = self.account(identity).and_then(|account| {
                    let old = account.balance.positive;
                    let new = match amount {
                        0.. => old.checked_add(amount.unsigned_abs()),
                        _ => Some(old.saturating_sub(amount.unsigned_abs())),
                    };
                    let expected = format!("at most {} more", u64::MAX - old);
                    let value = amount.to_string();
                    account.balance.positive =
                        new.ok_or(Refusal::Value { field: "amount", value, expected })?;
                    Ok((old, account.balance.positive))
                });
                send(reply, result);
            }
            other => self.answer_services(other),
        }
    }

    fn answer_services(&mut self, command: Command) {
        match command {
            Command::Services(reply) => send(reply, Ok(self.services.values().cloned().collect())),
            Command::AddService { service, reply } => {
                let id = (0..=u8::MAX).find(|id| !self.services.contains_key(id)).expect("room");
                let info =
                    ServiceInfo { id: ServiceId(id), service, draining: false, sessions: 0, probes: 0 };
                self.services.insert(id, info);
                send(reply, Ok(ServiceId(id)));
            }
            Command::ChangeService { service, change, reply } => {
                let result = self.service(service).map(|info| {
                    info.service.name = change.name.unwrap_or(info.service.name.clone());
                    info.service.bits = change.bits.unwrap_or(info.service.bits);
                    info.service.sessions = change.sessions.unwrap_or(info.service.sessions);
                    info.service.probes = change.probes.unwrap_or(info.service.probes);
                    info.clone()
                });
                send(reply, result);
            }
            Command::DrainService { service, reply } => {
                send(
                    reply,
                    self.service(service).map(|info| {
                        info.draining = true;
                        info.sessions + info.probes
                    }),
                );
            }
            Command::RemoveService { service, reply } => {
                let result = self.service(service).map(|info| info.sessions + info.probes);
                self.services.remove(&service.0);
                send(reply, result);
            }
            Command::Reload(reply) => {
                send(reply, Ok(Reloaded { changed: vec!["keep".into()], restart: vec!["shards".into()] }));
            }
            Command::ReloadCertificates(reply) => send(reply, Ok(2)),
            other => panic!("nobody answers {other:?}"),
        }
    }

    fn info(&self) -> Info {
        let has_tip = *self.has_tip.lock().unwrap();
        Info {
            network: "regtest",
            user_agent: "/breakwater:test/".into(),
            started: NOW,
            height: has_tip.then_some(150),
            tip: has_tip.then(|| "00".repeat(32)),
            clients: u64::from(CLIENTS) * 2,
            max_clients: 100_000,
            nodes_up: u32::from(has_tip),
            shards: 2,
            capacity: Capacities { total: 1_000_000, ..Capacities::default() },
            reports: reports(),
            ..Info::default()
        }
    }

    fn remove_node(&mut self, node: &str) -> Result<(), Refusal> {
        if !self.nodes.iter().any(|known| known == node) {
            return Err(Refusal::Unknown { field: "node", value: node.to_owned() });
        }
        if self.nodes.len() == 1 {
            return Err(Refusal::Conflict("node: the last one stays".into()));
        }
        self.nodes.retain(|known| known != node);
        Ok(())
    }

    fn account(&mut self, identity: Identity) -> Result<&mut Account, Refusal> {
        let unknown = Refusal::Unknown { field: "identity", value: identity.to_string() };
        self.accounts.get_mut(&identity).ok_or(unknown)
    }

    fn service(&mut self, id: ServiceId) -> Result<&mut ServiceInfo, Refusal> {
        let unknown = Refusal::Unknown { field: "id", value: id.0.to_string() };
        self.services.get_mut(&id.0).ok_or(unknown)
    }
}

/// The command as the tests name it.
fn words(command: &Command) -> String {
    match command {
        Command::Info(_) => "info".into(),
        Command::Clients { filter, after, limit, .. } => format!("clients {filter:?} {after:?} {limit}"),
        Command::Act { who, action, .. } => format!("act {who:?} {action:?}"),
        Command::RemoveTags { tags, .. } => format!("remove: {tags:?}"),
        Command::Throttle { scope, down, up, .. } => format!("throttle {scope:?} {down:?} {up:?}"),
        Command::SetClients { who, change, .. } => format!("set {who:?} {change:?}"),
        Command::SetDefaults { change, .. } => format!("defaults {change:?}"),
        Command::SetAccount { identity, change, .. } => format!("account {identity} {change:?}"),
        Command::RemoveAccount { identity, .. } => format!("no account {identity}"),
        Command::AddBalance { identity, amount, .. } => format!("balance {identity} {amount}"),
        Command::Ban { network, time, reason, .. } => format!("ban {network} {time:?} {reason:?}"),
        Command::Unban { network, .. } => format!("unban {network}"),
        Command::AddNode { node, .. } => format!("node {node}"),
        Command::RemoveNode { node, .. } => format!("no node {node}"),
        Command::AddService { service, .. } => format!("service {service:?}"),
        Command::ChangeService { service, change, .. } => format!("service {} {change:?}", service.0),
        Command::DrainService { service, .. } => format!("drain {}", service.0),
        Command::RemoveService { service, .. } => format!("no service {}", service.0),
        Command::Reload(_) => "reload".into(),
        Command::ReloadCertificates(_) => "certificates".into(),
        other => format!("{other:?}").split(['(', ' ']).next().unwrap_or("").to_lowercase(),
    }
}

/// Of two shards; the second has said nothing yet.
fn reports() -> Vec<ShardReport> {
    let mut recent_latency = Histogram::default();
    recent_latency.add(Duration::from_millis(2), 99);
    recent_latency.add(Duration::from_millis(40), 1);
    let regimes = (1..=8).map(Duration::from_secs).collect();
    let first =
        ShardReport { clients: CLIENTS, bytes_out: 9_000, regimes, recent_latency, ..ShardReport::default() };
    vec![first, ShardReport::default()]
}

fn send<T>(reply: Reply<T>, result: Result<T, Refusal>) {
    let _ = reply.send(result);
}

fn fresh(identity: Identity) -> Account {
    let balance = Balance::default();
    Account { identity, capacity: 1, factors: Default::default(), tags: Tags::default(), balance, clients: 0 }
}

fn node(node: &str) -> NodeInfo {
    let user_agent = Some("/Satoshi:29.0.0/".into());
    NodeInfo {
        node: node.to_owned(),
        up: true,
        transport: Some("v2"),
        user_agent,
        height: Some(150),
        losses: 1,
    }
}

fn at(shard: u16, slot: u32) -> ClientRef {
    ClientRef { shard: ShardId(shard), id: ClientId { slot, generation: 7 } }
}

/// Clients behind `after` that match, at most `limit`, as the desk does it.
fn page(filter: &Filter, after: Option<ClientRef>, limit: u32) -> Result<Page, Refusal> {
    if after.is_some_and(|after| after.shard.0 > 1) {
        return Err(Refusal::Unknown { field: "after", value: "shard 2".into() });
    }
    let place = |id: ClientRef| (id.shard, id.id.slot);
    let all = (0..2).flat_map(|shard| (0..CLIENTS).map(move |slot| at(shard, slot)));
    let behind = all.filter(|id| after.is_none_or(|after| place(*id) > place(after)));
    let matching = behind.map(|id| (id, client(id))).filter(|(_, info)| matches(filter, info));
    let mut clients: Vec<_> = matching.take(limit as usize + 1).collect();
    let more = clients.len() > limit as usize;
    clients.truncate(limit as usize);
    let next = if more { clients.last().map(|(id, _)| *id) } else { None };
    let balances = vec![Some(Balance { positive: 1, negative: 2 })];
    Ok(Page { clients, balances, next })
}

fn matches(filter: &Filter, info: &ClientInfo) -> bool {
    filter.network.is_none_or(|network| network.contains(&info.peer.ip()))
        && filter.service.is_none_or(|service| service == info.service)
        && filter.transport.is_none_or(|kind| kind == info.transport)
        && filter.class.is_none_or(|class| class == info.class)
        && info.tags.has(filter.tags)
}

fn client(id: ClientRef) -> ClientInfo {
    let n = id.id.slot;
    ClientInfo {
        id: id.id,
        peer: SocketAddr::from(([10, 0, id.shard.0 as u8, n as u8], 50_000)),
        service: ServiceId(0),
        transport: [Kind::Plain, Kind::V2, Kind::Tls][n as usize % 3],
        class: Class::ALL[n as usize % 3],
        tags: Tags::default(),
        connected: Duration::from_millis(1_500),
        silent: Duration::from_millis(250),
        ready: true,
        paused: false,
        frozen: false,
        sending: false,
        bytes_in: 1_000,
        bytes_out: 2_000_000,
        round_trip: n.is_multiple_of(2).then(|| Duration::from_micros(12_345)),
        user_agent: "/bitcoinj:0.17/wallet:9/".into(),
        identity: None,
        session_id: (n % 3 == 1).then_some([0xab; 32]),
        throttle_down: None,
        throttle_up: Some(10_000),
        capacity: 1_000,
        buffer: -5,
        debt: None,
        costs: [1, 2, 3, 4],
    }
}

/// As the desk: of ids those that are there, one alone must be.
fn meant(who: &Targets) -> Result<u64, Refusal> {
    match who {
        Targets::Ids(ids) => {
            let there =
                ids.iter().filter(|id| id.shard.0 < 2 && id.id.slot < CLIENTS && id.id.generation == 7);
            match (there.count(), ids.as_slice()) {
                (0, [one]) => Err(Refusal::Unknown { field: "ids", value: one.to_string() }),
                (some, _) => Ok(some as u64),
            }
        }
        Targets::Matching(filter) => Ok(page(filter, None, u32::MAX - 1)?.clients.len() as u64),
    }
}

/// A scope that the tests name.
pub fn scopes() -> [Scope; 3] {
    [Scope::All, Scope::Class(Class::Free), Scope::Service(ServiceId(3))]
}
