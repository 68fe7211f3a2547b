//! The relay as one process: the production hub and shards, and in place of their drivers a few lines of glue.
//!
//! The glue does what `hub::driver` does with sockets and threads: connects when asked, carries bytes, moves entries
//! between the hub and its shards, keeps the doorbells' rules. Each part is run when it is due, with a seeded pause between
//! being due and running, so that the parts interleave differently in each run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use breakwater::admission::{Costs, ProbeLimits};
use breakwater::base::limits::NODE_V2_TIMEOUT;
use breakwater::base::{End, Instant, Nonces, ShardId, UnixTime};

use breakwater::hub::outbox::Outbox;
use breakwater::hub::store::{Keep, Store, StoreConfig};
use breakwater::hub::{Hub, HubConfig, HubEvent, Input, LinkId, NodeAddr, Output};
use breakwater::link::{self, Doorbell, HouseRules, HubEnd, ShardReport, ToHub, ToShard};
use breakwater::shard::{HandshakeLimits, ListenerKind, Service, Shard, ShardConfig};
use breakwater::stub::MAGIC;
use breakwater::transport::{Pipe, tls};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::backend::FIRST_NODE;
use super::custody::Ear;
use super::disk::SimDisk;
use super::health::check_report;
use super::kernel::{SharedNet, SimKernel};
use super::net::{News, To};
use super::pipe::TcpId;
use super::transport;
use super::truth::{Truth, short};
use super::verdict::Endings;

/// The hub's actor.
pub const HUB: u64 = 1_000_000;
/// The driver gives up connecting after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Entries the hub takes of each shard in one run.
const MAIL_PER_RUN: usize = 256;
/// A part that runs this often at one instant spins.
const SPIN: u32 = 100_000;

/// How the relay of a run is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Number of shards.
    pub shards: u16,
    /// Number of nodes behind.
    pub nodes: usize,
    /// What the store keeps.
    pub keep: Keep,
    /// Bytes of a segment and of the cache: small, so that segments close and the cache evicts.
    pub segment_bytes: u64,
    /// Clients per shard.
    pub max_clients: u32,
    /// Bytes of buffers per shard.
    pub buffer_budget: usize,
    /// Transport handshakes of a shard.
    pub handshakes: HandshakeLimits,
    /// True exactly when tickets of TLS outlive the process.
    pub fleet: bool,
}

/// A shard and when it runs.
#[derive(Debug)]
pub struct Core {
    pub(super) shard: Shard<SimKernel>,
    pub(super) port: usize,
    end: HubEnd,
    outbox: Outbox,
    /// Its counters of reasons after its last turn.
    ends: Vec<u64>,
    run_at: Option<Instant>,
    ended: bool,
    report: ShardReport,
}

/// The process.
pub struct Relay {
    pub(super) net: SharedNet,
    disk: SimDisk,
    setup: Setup,
    rng: SmallRng,
    pub(super) hub: Option<Hub>,
    hub_bell: Doorbell,
    hub_run_at: Option<Instant>,
    pub(super) cores: Vec<Core>,
    tls: Arc<tls::Server>,
    /// What has ended since `take_endings` was last called.
    endings: Vec<Endings>,
    links: BTreeMap<LinkId, TcpId>,
    /// Of those that speak BIP324.
    pipes: BTreeMap<LinkId, Box<Pipe>>,
    /// What these say as soon as the connection stands.
    keys: BTreeMap<LinkId, Vec<u8>>,
    ears: BTreeMap<LinkId, Ear>,
    by_tcp: BTreeMap<TcpId, LinkId>,
    connecting: BTreeMap<LinkId, Instant>,
    inbox: VecDeque<(TcpId, News)>,
    spins: (Instant, u32),
    /// Times the hub said `Ready` since the process started.
    pub ready: u32,
    /// Since when the process drains.
    draining: Option<Instant>,
    /// Starts of the process.
    pub starts: u32,
}

impl Relay {
    /// Starts the process on a disk.
    pub fn start(net: SharedNet, disk: SimDisk, setup: Setup, seed: u64) -> Relay {
        let tls = transport::server(net.borrow().clock(), setup.fleet, None);
        let mut relay = Relay {
            tls,
            endings: Vec::new(),
            net,
            disk,
            setup,
            rng: SmallRng::seed_from_u64(seed ^ 0x7265_6c61),
            hub: None,
            hub_bell: Doorbell::silent(),
            hub_run_at: None,
            cores: Vec::new(),
            links: BTreeMap::new(),
            pipes: BTreeMap::new(),
            keys: BTreeMap::new(),
            ears: BTreeMap::new(),
            by_tcp: BTreeMap::new(),
            connecting: BTreeMap::new(),
            inbox: VecDeque::new(),
            spins: (Instant(0), 0),
            ready: 0,
            draining: None,
            starts: 0,
        };
        relay.boot();
        relay
    }

    fn boot(&mut self) {
        self.starts += 1;
        self.tls = transport::server(self.net.borrow().clock(), self.setup.fleet, None);
        let (now, unix) = self.now();
        let genesis = bitcoin::consensus::serialize(
            &bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header,
        );
        let config = StoreConfig {
            magic: MAGIC,
            genesis: genesis.try_into().expect("a header has 80 bytes"),
            keep: self.setup.keep,
            cache_bytes: self.setup.segment_bytes * 8,
            segment_bytes: self.setup.segment_bytes,
        };
        let (store, opened) =
            Store::open(Box::new(self.disk.clone()), config).expect("a disk without faults opens");
        for repair in &opened.repairs {
            self.note(format_args!("repair: {repair}"));
        }
        let nonces = Nonces::new(self.rng.random());
        let nodes = (0..self.setup.nodes).map(|node| NodeAddr(format!("node{node}:18444"))).collect();
        let config = HubConfig {
            network: bitcoin::Network::Regtest,
            nodes,
            shards: self.setup.shards,
            keep: self.setup.keep,
            mempool_bytes: 1_000_000,
            siblings: vec![([127, 0, 0, 9], 18_444).into()],
            v2: false,
            allow_mempool: false,
            user_agent: "/breakwater:sim/".into(),
            seed: self.rng.random(),
            nonces,
        };
        self.hub = Some(Hub::new(config, store, opened, now, unix).expect("a chain of our network"));
        self.hub_bell = Doorbell::silent();
        self.ready = 0;
        let rng = &mut self.rng;
        let secrets: Vec<[u8; 32]> = (0..self.setup.shards).map(|_| rng.random()).collect();
        self.cores = (0..).zip(secrets).map(|(id, secret)| self.core(ShardId(id), nonces, secret)).collect();
    }

    fn core(&self, id: ShardId, nonces: Nonces, secret: [u8; 32]) -> Core {
        let bell = Doorbell::silent();
        let port = self.net.borrow_mut().add_port(bell.clone());
        let (end, shard_end) = link::pair(bell, self.hub_bell.clone()).expect("a link without descriptors");
        let config = ShardConfig {
            sweep: breakwater::base::limits::SWEEP_PER_TURN,
            id,
            magic: MAGIC,
            max_clients: self.setup.max_clients,
            max_per_address: 0,
            listeners: vec![ListenerKind::Plain.into(), ListenerKind::Tls.into()],
            v2: true,
            tls: Some(self.tls.clone()),
            handshakes: self.setup.handshakes,
            secret,
            services: vec![Service::open(b"/breakwater:sim/")],
            probe_limits: ProbeLimits::none(),
            capacity: u64::MAX,
            house: HouseRules::open(),
            probe_exempt: Vec::new(),
            costs: Costs::default(),
            tx_interval: Duration::from_millis(100),
            buffer_budget: self.setup.buffer_budget,
            nonces,
            seed: u64::from(id.0) ^ port as u64,
        };
        let shard = Shard::new(config, SimKernel::new(self.net.clone(), port), shard_end);
        let report = ShardReport::default();
        let ends = vec![0; End::ALL.len()];
        Core { shard, port, end, outbox: Outbox::new(), ends, run_at: None, ended: false, report }
    }

    fn now(&self) -> (Instant, UnixTime) {
        let net = self.net.borrow();
        (net.now(), net.unix())
    }

    fn note(&self, args: std::fmt::Arguments<'_>) {
        self.net.borrow_mut().note(args);
    }

    /// The process dies and starts again. `power`: the machine dies with it and the disk forgets what was not synced.
    pub fn crash(&mut self, power: bool, truth: &mut Truth) {
        self.note(format_args!("relay {}", if power { "loses power" } else { "is killed" }));
        self.stop(truth);
        match power {
            true => self.disk.crash(self.rng.random()),
            false => self.disk.kill(),
        }
        self.boot();
    }

    fn stop(&mut self, truth: &mut Truth) {
        truth.relay_lost();
        self.hub = None;
        for core in std::mem::take(&mut self.cores) {
            self.net.borrow_mut().kill_port(core.port);
        }
        for tcp in self.by_tcp.keys() {
            self.net.borrow_mut().close(*tcp, HUB, true);
        }
        self.by_tcp.clear();
        self.links.clear();
        self.pipes.clear();
        self.keys.clear();
        self.ears.clear();
        self.connecting.clear();
        self.inbox.clear();
        self.draining = None;
        self.hub_run_at = None;
    }

    /// SIGTERM: the process drains; it starts again when it has ended.
    pub fn drain(&mut self) {
        if self.draining.is_some() {
            return;
        }
        let (now, unix) = self.now();
        self.note(format_args!("relay drains"));
        self.draining = Some(now);
        if let Some(hub) = self.hub.as_mut() {
            hub.handle(now, unix, Input::Drain);
        }
        self.hub_run_at = Some(now);
    }

    /// True exactly when the process is ending.
    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// News of one of the hub's connections.
    pub fn hear(&mut self, tcp: TcpId, news: News) {
        self.inbox.push_back((tcp, news));
    }

    /// The hub's tip.
    pub fn tip(&self) -> Option<(u32, breakwater::wire::Hash)> {
        self.hub.as_ref().map(Hub::tip)
    }

    /// How it is set up.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The disk below.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn pause(&mut self) -> Duration {
        Duration::from_micros(match self.rng.random_range(0..100) {
            0 => self.rng.random_range(0..20_000),
            1..20 => self.rng.random_range(0..500),
            _ => self.rng.random_range(0..20),
        })
    }

    /// When some part runs next.
    pub fn next_wake(&mut self) -> Instant {
        let (now, _) = self.now();
        let mut next = Instant::FAR;
        for index in 0..self.cores.len() {
            let core = &self.cores[index];
            if core.ended {
                continue;
            }
            let mut at = core.run_at.unwrap_or_else(|| self.net.borrow().port(core.port).next_wake());
            if core.run_at.is_none() && at <= now {
                at = now + self.pause();
                self.cores[index].run_at = Some(at);
            }
            next = next.min(at);
        }
        let mut at = self.hub_run_at.unwrap_or_else(|| self.hub_due());
        if self.hub_run_at.is_none() && at <= now {
            at = now + self.pause();
            self.hub_run_at = Some(at);
        }
        next.min(at)
    }

    fn hub_due(&self) -> Instant {
        let Some(hub) = &self.hub else { return Instant::FAR };
        if !self.inbox.is_empty() || !self.hub_bell.sleeping() {
            return Instant(0);
        }
        let (now, _) = self.now();
        let full = self.cores.iter().any(|core| !core.outbox.is_empty());
        let retry = if full { now + Duration::from_millis(1) } else { Instant::FAR };
        self.connecting.values().copied().fold(hub.next_wake().min(retry), Instant::min)
    }

    /// Runs every part whose time has come.
    pub fn run(&mut self, truth: &mut Truth) -> Result<(), String> {
        let (now, _) = self.now();
        for index in 0..self.cores.len() {
            if self.cores[index].run_at.is_some_and(|at| at <= now) {
                self.spin()?;
                let core = &mut self.cores[index];
                core.run_at = None;
                self.net.borrow_mut().turn_begins(core.port);
                core.ended = !core.shard.turn();
                self.net.borrow_mut().turn_ends(core.port);
                let closed = self.net.borrow_mut().take_closing(core.port);
                let counted = &core.shard.core().counters().ends;
                let new = |end: &&End| counted[**end as usize] - core.ends[**end as usize];
                let ends: Vec<End> =
                    End::ALL.iter().flat_map(|end| (0..new(&end)).map(move |_| *end)).collect();
                core.ends.copy_from_slice(counted);
                if !closed.is_empty() || !ends.is_empty() {
                    self.endings.push(Endings { closed, ends });
                }
                if core.ended {
                    // Its thread ends, and with it the kernel's half: what was asked for is done, the rest is closed.
                    self.net.borrow_mut().submit_staged(core.port);
                    self.net.borrow_mut().kill_port(core.port);
                }
            }
        }
        if self.hub_run_at.is_some_and(|at| at <= now) {
            self.spin()?;
            self.hub_run_at = None;
            self.run_hub(truth)?;
        }
        self.end_of_drain(truth)
    }

    /// What has ended since the last call.
    pub fn take_endings(&mut self) -> Vec<Endings> {
        std::mem::take(&mut self.endings)
    }

    /// Another certificate from now on, as with SIGHUP.
    pub fn reload(&mut self) {
        self.note(format_args!("relay reloads its certificate"));
        self.tls = transport::server(self.net.borrow().clock(), self.setup.fleet, Some(&self.tls));
        for core in &mut self.cores {
            core.outbox.push(ToShard::Tls(self.tls.clone()));
            core.outbox.flush(&mut core.end);
        }
    }

    /// Nobody runs for ever without time passing.
    fn spin(&mut self) -> Result<(), String> {
        let (now, _) = self.now();
        self.spins = if self.spins.0 == now { (now, self.spins.1 + 1) } else { (now, 0) };
        if self.spins.1 > SPIN { Err("the relay spins".into()) } else { Ok(()) }
    }

    fn end_of_drain(&mut self, truth: &mut Truth) -> Result<(), String> {
        let (Some(since), Some(hub)) = (self.draining, self.hub.as_mut()) else { return Ok(()) };
        let (now, _) = { (self.net.borrow().now(), ()) };
        if hub.is_drained() && self.cores.iter().all(|core| core.ended) {
            hub.close();
            self.note(format_args!("relay has drained"));
            self.stop(truth);
            self.disk.kill();
            self.boot();
        } else if now.since(since) > Duration::from_secs(30) {
            return Err("the relay has not drained in 30 s".into());
        }
        Ok(())
    }

    fn run_hub(&mut self, truth: &mut Truth) -> Result<(), String> {
        let (now, unix) = self.now();
        self.hub_bell.awake();
        while let Some((tcp, news)) = self.inbox.pop_front() {
            self.network(tcp, news, truth);
        }
        let late: Vec<LinkId> =
            self.connecting.iter().filter(|(_, due)| **due <= now).map(|(link, _)| *link).collect();
        for link in late {
            self.connecting.remove(&link);
            self.lost(link, Some("no answer".into()), truth);
        }
        for index in 0..self.cores.len() {
            for _ in 0..MAIL_PER_RUN {
                let Some(entry) = self.cores[index].end.pop() else { break };
                if let ToHub::Report(report) = &entry {
                    check_report(report)?;
                    self.cores[index].report = (**report).clone();
                }
                self.tell_hub(Input::FromShard { shard: ShardId(index as u16), entry });
            }
        }
        if let Some(hub) = self.hub.as_mut()
            && hub.next_wake() <= now
        {
            hub.tick(now, unix);
        }
        self.carry_out(truth)?;
        self.hub_bell.will_sleep();
        if self.cores.iter().any(|core| core.end.has_mail()) {
            self.hub_bell.awake();
        }
        Ok(())
    }

    fn tell_hub(&mut self, input: Input<'_>) {
        let (now, unix) = self.now();
        if let Some(hub) = self.hub.as_mut() {
            hub.handle(now, unix, input);
        }
    }

    fn network(&mut self, tcp: TcpId, news: News, truth: &mut Truth) {
        let Some(link) = self.by_tcp.get(&tcp).copied() else { return };
        match news {
            News::Connected if self.pipes.contains_key(&link) => {
                self.connecting.insert(link, self.now().0 + NODE_V2_TIMEOUT);
                let key = self.keys.remove(&link).unwrap_or_default();
                self.net.borrow_mut().send(tcp, HUB, &key);
            }
            News::Connected => {
                self.connecting.remove(&link);
                self.tell_hub(Input::Connected { link, v2: None });
            }
            News::Refused => {
                self.connecting.remove(&link);
                self.unlink(link, truth);
                self.tell_hub(Input::ConnectFailed { link, error: "refused".into() });
            }
            News::Bytes(data) if self.pipes.contains_key(&link) => self.open(link, tcp, data, truth),
            News::Bytes(data) => self.tell_hub(Input::Bytes { link, data: &data }),
            News::Fin | News::Reset => {
                let error = (news == News::Reset).then(|| "reset".to_owned());
                self.lost(link, error, truth);
            }
            News::Incoming => {}
        }
    }

    /// Bytes of a node on a link that speaks BIP324, as in `hub::driver`.
    fn open(&mut self, link: LinkId, tcp: TcpId, mut data: Vec<u8>, truth: &mut Truth) {
        let Some(pipe) = self.pipes.get_mut(&link) else { return };
        let was_open = pipe.is_open();
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        let result = pipe.received(&mut data, &mut plain, &mut out);
        let opened = pipe.session_id().copied().filter(|_| !was_open);
        self.net.borrow_mut().send(tcp, HUB, &out);
        if opened.is_some() {
            self.connecting.remove(&link);
            self.tell_hub(Input::Connected { link, v2: opened });
        }
        if !plain.is_empty() {
            self.tell_hub(Input::Bytes { link, data: &plain });
        }
        if let Err(end) = result {
            self.connecting.remove(&link);
            self.lost(link, Some(format!("BIP324: {end}")), truth);
        }
    }

    /// A link's connection is over, or took too long.
    fn lost(&mut self, link: LinkId, error: Option<String>, truth: &mut Truth) {
        let stood = !self.keys.contains_key(&link);
        let pipe = self.pipes.get(&link);
        let not_v2 = stood && pipe.is_some_and(|pipe| pipe.awaits_key());
        let failed = self.connecting.remove(&link).is_some() && !(stood && pipe.is_some());
        self.unlink(link, truth);
        self.tell_hub(if not_v2 {
            Input::NotV2 { link }
        } else if failed || !stood {
            Input::ConnectFailed { link, error: error.unwrap_or_else(|| "closed".into()) }
        } else {
            Input::Closed { link, error }
        });
    }

    fn unlink(&mut self, link: LinkId, truth: &mut Truth) {
        if let Some(tcp) = self.links.remove(&link) {
            truth.link_losses += 1;
            self.ears.remove(&link);
            self.pipes.remove(&link);
            self.keys.remove(&link);
            self.by_tcp.remove(&tcp);
            self.net.borrow_mut().close(tcp, HUB, false);
        }
    }

    fn carry_out(&mut self, truth: &mut Truth) -> Result<(), String> {
        while let Some(output) = self.hub.as_mut().and_then(Hub::next_output) {
            match output {
                Output::Connect { link, node, v2 } => self.connect(link, &node, v2),
                Output::Send { link, bytes } => {
                    if let Some(tcp) = self.links.get(&link) {
                        if let Some(ear) = self.ears.get_mut(&link) {
                            ear.hear(self.net.borrow().now(), &bytes, truth)?;
                        }
                        let mut sealed = Vec::new();
                        match self.pipes.get_mut(&link) {
                            Some(pipe) => pipe.send(&bytes, &mut sealed),
                            None => sealed.extend_from_slice(&bytes),
                        }
                        self.net.borrow_mut().send(*tcp, HUB, &sealed);
                    }
                }
                Output::Close { link } => {
                    self.connecting.remove(&link);
                    self.unlink(link, truth);
                }
                Output::ToShard { shard, entry } => {
                    truth.told(&entry);
                    if let ToShard::FiltersTo(to) = &entry
                        && shard.0 == 0
                    {
                        self.note(format_args!("hub filters to {to}"));
                    }
                    self.cores[usize::from(shard.0)].outbox.push(entry);
                }
                Output::Ready { height, hash } => {
                    self.ready += 1;
                    self.note(format_args!("relay ready at {height} {}", short(&hash)));
                }
                Output::Event(event) => self.event(&event),
            }
        }
        for core in &mut self.cores {
            core.outbox.flush(&mut core.end);
        }
        Ok(())
    }

    fn event(&self, event: &HubEvent) {
        match event {
            HubEvent::NodeUp { node, kind, .. } => self.note(format_args!("hub {kind:?} of {node} is up")),
            HubEvent::NodeDown { node, kind, reason, .. } => {
                self.note(format_args!("hub {kind:?} of {node} is down: {reason}"));
            }
            HubEvent::Tip { height, hash } => self.note(format_args!("hub tip {height} {}", short(hash))),
            HubEvent::TxRefused { wtxid } => self.note(format_args!("hub refused {}", short(wtxid))),
            other => self.note(format_args!("hub {other:?}")),
        }
    }

    fn connect(&mut self, link: LinkId, node: &NodeAddr, v2: bool) {
        let number: u64 =
            node.0.trim_start_matches("node").split(':').next().unwrap_or("").parse().expect("nodeN:PORT");
        let tcp =
            self.net.borrow_mut().connect(HUB, To::Actor(FIRST_NODE + number), ([127, 0, 0, 1], 2).into());
        let how = if v2 { " by BIP324" } else { "" };
        self.note(format_args!("hub connects {} to node {number}{how} = net {tcp}", link.0));
        if v2 {
            let mut key = Vec::new();
            self.pipes.insert(link, Box::new(Pipe::v2(MAGIC, &mut self.rng, &mut key)));
            self.keys.insert(link, key);
        }
        self.links.insert(link, tcp);
        self.ears.insert(link, Ear::new(number as u32));
        self.by_tcp.insert(tcp, link);
        self.connecting.insert(link, self.now().0 + CONNECT_TIMEOUT);
    }
}
