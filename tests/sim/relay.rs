//! The relay as one process: the production hub and shards, and in place of their drivers a few lines of glue.
//!
//! The glue does what `hub::driver` does with sockets and threads: connects when asked, carries bytes, moves entries
//! between the hub and its shards, keeps the doorbells' rules. Each part is run when it is due, with a seeded pause between
//! being due and running, so that the parts interleave differently in each run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use breakwater::base::end::Side;
use breakwater::base::{End, Instant, Nonces, ShardId, UnixTime};

use breakwater::hub::outbox::Outbox;
use breakwater::hub::store::{Keep, Store, StoreConfig};
use breakwater::hub::{Hub, HubConfig, HubEvent, Input, LinkId, NodeAddr, Output};
use breakwater::io::ListenerId;
use breakwater::link::{self, Doorbell, HubEnd, ShardReport, ToHub, ToShard};
use breakwater::shard::{HandshakeLimits, ListenerKind, Shard, ShardConfig};
use breakwater::stub::MAGIC;
use breakwater::transport::tls;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::backend::FIRST_NODE;
use super::custody::Ear;
use super::disk::SimDisk;
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
struct Core {
    shard: Shard<SimKernel>,
    port: usize,
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
    net: SharedNet,
    disk: SimDisk,
    setup: Setup,
    rng: SmallRng,
    hub: Option<Hub>,
    hub_bell: Doorbell,
    hub_run_at: Option<Instant>,
    cores: Vec<Core>,
    tls: Arc<tls::Server>,
    /// What has ended since `take_endings` was last called.
    endings: Vec<Endings>,
    links: BTreeMap<LinkId, TcpId>,
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
            listeners: vec![ListenerKind::Plain, ListenerKind::Tls],
            v2: true,
            tls: Some(self.tls.clone()),
            handshakes: self.setup.handshakes,
            secret,
            user_agent: "/breakwater:sim/".into(),
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

    /// The hub's counters, for a failing run.
    pub fn describe(&self) -> String {
        let Some(hub) = &self.hub else { return "no hub".into() };
        let counters = hub.counters().list().into_iter().filter(|(_, _, count)| *count > 0);
        let counters: Vec<String> = counters.map(|(name, _, count)| format!("{name} {count}")).collect();
        format!("hub: {}\n  store: {:?}", counters.join(", "), hub.store_counters())
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
            self.unlink(link, truth);
            self.tell_hub(Input::ConnectFailed { link, error: "no answer".into() });
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
            News::Connected => {
                self.connecting.remove(&link);
                self.tell_hub(Input::Connected { link, v2: None });
            }
            News::Refused => {
                self.connecting.remove(&link);
                self.unlink(link, truth);
                self.tell_hub(Input::ConnectFailed { link, error: "refused".into() });
            }
            News::Bytes(data) => self.tell_hub(Input::Bytes { link, data: &data }),
            News::Fin | News::Reset => {
                let failed = self.connecting.remove(&link).is_some();
                self.unlink(link, truth);
                let error = (news == News::Reset).then(|| "reset".to_owned());
                self.tell_hub(match failed {
                    true => Input::ConnectFailed { link, error: "reset".into() },
                    false => Input::Closed { link, error },
                });
            }
            News::Incoming => {}
        }
    }

    fn unlink(&mut self, link: LinkId, truth: &mut Truth) {
        if let Some(tcp) = self.links.remove(&link) {
            truth.link_losses += 1;
            self.ears.remove(&link);
            self.by_tcp.remove(&tcp);
            self.net.borrow_mut().close(tcp, HUB, false);
        }
    }

    fn carry_out(&mut self, truth: &mut Truth) -> Result<(), String> {
        while let Some(output) = self.hub.as_mut().and_then(Hub::next_output) {
            match output {
                // The nodes of the simulator are of v1.
                Output::Connect { link, v2: true, .. } => self.tell_hub(Input::NotV2 { link }),
                Output::Connect { link, node, .. } => self.connect(link, &node),
                Output::Send { link, bytes } => {
                    if let Some(tcp) = self.links.get(&link) {
                        if let Some(ear) = self.ears.get_mut(&link) {
                            ear.hear(self.net.borrow().now(), &bytes, truth)?;
                        }
                        self.net.borrow_mut().send(*tcp, HUB, &bytes);
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

    fn connect(&mut self, link: LinkId, node: &NodeAddr) {
        let number: u64 =
            node.0.trim_start_matches("node").split(':').next().unwrap_or("").parse().expect("nodeN:PORT");
        let tcp =
            self.net.borrow_mut().connect(HUB, To::Actor(FIRST_NODE + number), ([127, 0, 0, 1], 2).into());
        self.note(format_args!("hub connects {} to node {number} = net {tcp}", link.0));
        self.links.insert(link, tcp);
        self.ears.insert(link, Ear::new(number as u32));
        self.by_tcp.insert(tcp, link);
        self.connecting.insert(link, self.now().0 + CONNECT_TIMEOUT);
    }

    /// What must hold when nothing is going on.
    pub fn check_idle(&self) -> Result<(), String> {
        for (index, core) in self.cores.iter().enumerate() {
            let out = self.net.borrow().port(core.port).buffers_out();
            if out > 0 {
                return Err(format!("shard {index} idle holds {out} receive buffers"));
            }
            let bytes = core.shard.core().buffer_bytes();
            if bytes > 0 {
                return Err(format!("shard {index} idle has {bytes} bytes of buffers in use"));
            }
            let connections = self.net.borrow().port(core.port).connections();
            if connections != core.shard.core().clients() as usize {
                return Err(format!(
                    "shard {index} has {} clients on {connections} connections",
                    core.shard.core().clients()
                ));
            }
            let shaking = core.shard.core().transport_handshakes();
            if shaking != Default::default() {
                return Err(format!("shard {index} idle has {shaking:?}"));
            }
            let port = self.net.borrow();
            for listener in [ListenerId(0), ListenerId(1)] {
                if port.port(core.port).holds(listener) {
                    return Err(format!("shard {index} idle holds {listener:?}"));
                }
            }
        }
        Ok(())
    }

    /// TLS sessions, full and resumed, and sessions of BIP324 since the process started.
    pub fn sessions(&self) -> [u64; 3] {
        let counters = |core: &Core| {
            let c = core.shard.core().counters();
            [c.tls_full, c.tls_resumed, c.v2_sessions]
        };
        self.cores.iter().map(counters).fold([0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]])
    }

    /// Times TLS listeners were held since the process started.
    pub fn held(&self) -> u64 {
        self.cores.iter().map(|core| core.shard.core().counters().tls_held).sum()
    }

    /// True exactly when a client that keeps all rules may be ended for this.
    pub fn is_honest(&self, end: End) -> bool {
        // A client may be ahead of a relay that has lost power, and ask for what that has not heard of again yet.
        let ahead = end == End::BadFilterRequest && self.starts > 1;
        end.side() != Side::Peer || ahead
    }

    /// Clients connected, all shards together.
    pub fn clients(&self) -> u32 {
        self.cores.iter().map(|core| core.shard.core().clients()).sum()
    }
}

/// Counters that must add up at every moment.
fn check_report(report: &ShardReport) -> Result<(), String> {
    let names = breakwater::shard::counters::NAMES;
    let accepted = names.iter().position(|(name, _)| *name == "accepted").map_or(0, |at| report.counters[at]);
    let ended: u64 = report.ends.iter().sum();
    if accepted != ended + u64::from(report.clients) {
        return Err(format!("accepted {accepted}, ended {ended}, connected {}", report.clients));
    }
    if report.ready > report.clients {
        return Err(format!("{} of {} clients are ready", report.ready, report.clients));
    }
    Ok(())
}
