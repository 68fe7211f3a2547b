//! The hub's thread: the sans-IO [`Hub`] on tokio-uring.
//!
//! BIP324 on links to nodes is opened and sealed here, by a [`crate::transport::Pipe`]: the hub sees messages only.
//!
//! One task per node link reads, one writes; both talk to the loop by bounded queues. The loop takes what has come from
//! links and shards, lets time pass, does what the hub puts out, and sleeps on its queue until a link, the doorbell or the
//! next wake-up needs it. Protocol logic lives in `brain`, none here.
//!
//! Bounds: a reader that is ahead of the loop waits (the node is slowed by TCP); more than `NODE_SEND_QUEUE` bytes or
//! `SENDS` sends towards a node close the link; at most `LINK_PER_TURN` entries of a shard are taken per turn.

mod conn;
mod keep;
mod live;
mod tasks;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::hex::DisplayHex as _;
use bytes::Bytes;
use ipnet::IpNet;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio_uring::net::TcpStream;

use self::conn::Conn;
pub use self::live::Live;
use self::tasks::{breathe, connect, watch_bell};
use super::command::{Capacities, Command, Info, Service, TagNames};
use super::desk::{Desk, NewcomerRules};
use super::outbox::Outbox;
use super::state::StateFolder;
use super::treasury::{Happened, Treasury, TreasuryConfig};
use super::{Hub, HubEvent, Input, LinkId, NodeAddr, Output};
use crate::admission::{Bans, Ledger};
use crate::base::limits::{DRAIN_TIME, END_MARGIN, LINK_PER_TURN};
use crate::base::{End, Instant, ShardId, UnixTime};
use crate::link::{Doorbell, HubEnd, ServiceReport, ShardReport, ToHub, ToShard, monotonic};
use crate::transport::tls;
use crate::wire::Hash;

/// Bytes asked of a node's socket at a time.
const READ_BYTES: usize = 64 * 1024;
/// Events of all links that wait for the loop; readers wait when it is full.
const EVENTS: usize = 64;
/// The file of the bans.
pub const BANS: &str = "bans.json";
/// The file of the accounts.
pub const ACCOUNTS: &str = "accounts.json";
/// The file of what hosts owe.
pub const HOSTS: &str = "hosts.json";
/// The file of the names of tags.
pub const TAGS: &str = "tags.json";
/// Commands of the operator that wait for the loop.
const COMMANDS: usize = 64;
/// Sends towards one node that wait for the socket; when it is full the link is closed.
const SENDS: usize = 16_384;
/// Events of links handled before shards and outputs get their turn.
const EVENTS_PER_TURN: usize = 32;
/// While a shard's queue is full the hub looks again after this.
const OUTBOX_PAUSE: Duration = Duration::from_millis(5);

/// What hears of the hub: metrics and logs. Called on the hub's thread; must not block.
pub trait Observer {
    /// Something worth a log line.
    fn event(&mut self, event: &HubEvent);
    /// The node's tip is known and clients are accepted. Once.
    fn ready(&mut self, height: u32, hash: &Hash);
    /// A shard's counters.
    fn report(&mut self, shard: ShardId, report: &ShardReport);
    /// Something has happened to a client or a capacity.
    fn happened(&mut self, _what: Happened) {}
    /// Capacities, once a second and before what happens.
    fn capacities(&mut self, _capacities: &Capacities) {}
    /// A ban is over.
    fn unbanned(&mut self, _network: IpNet) {}
    /// Once a second, and at the end: look at the hub's own counters. `dropped`: entries dropped because shards were slow.
    fn second(&mut self, hub: &Hub, dropped: u64);
}

/// Tells a running hub something from another thread.
#[derive(Clone, Debug)]
pub struct HubHandle {
    flag: Arc<AtomicBool>,
    /// Certificates the shards have not been told of; a newer one takes the place of an older.
    tls: Arc<Mutex<Option<Arc<tls::Server>>>>,
    bell: Doorbell,
}

impl HubHandle {
    /// A handle for the hub that sleeps on `bell`.
    pub fn new(bell: Doorbell) -> HubHandle {
        HubHandle { flag: Arc::default(), tls: Arc::default(), bell }
    }

    /// Asks the hub to drain the shards and to end. Once is enough.
    pub fn drain(&self) {
        self.flag.store(true, Ordering::SeqCst);
        self.bell.ring();
    }

    /// Newcomers get other certificates from now on; who is connected stays.
    pub fn reload(&self, server: Arc<tls::Server>) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        self.bell.ring();
    }

    fn has_tls(&self) -> bool {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take_tls(&self) -> Option<Arc<tls::Server>> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_asked(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }
}

/// What the driver is given besides the hub.
pub struct Surroundings<'o> {
    /// The hub's ends of the links, in the order of the shards.
    pub links: Vec<HubEnd>,
    /// The doorbell they ring.
    pub bell: Doorbell,
    /// How other threads reach the hub.
    pub handle: HubHandle,
    /// Who hears of it.
    pub observer: &'o mut dyn Observer,
    /// What of [`Info`] is the configuration's.
    pub info: Info,
    /// The services, in the order of their numbers.
    pub services: Vec<Service>,
    /// The bans of the last time.
    pub bans: Bans,
    /// What clients may use.
    pub treasury: TreasuryConfig,
    /// The accounts of the last time, and what hosts owe.
    pub ledger: Ledger,
    /// The names of their tags.
    pub tags: TagNames,
    /// Where all that is kept.
    pub state: StateFolder,
    /// What keeps the ports of the services, in their order.
    pub reserved: Vec<Vec<OwnedFd>>,
    /// What clients get of services that are added.
    pub newcomers: NewcomerRules,
    /// What needs the host.
    pub live: Box<dyn Live>,
    /// Started inside the hub's runtime, with the way for commands: the admin interface. It must not block.
    pub serve: Box<dyn FnOnce(mpsc::Sender<Command>)>,
}

/// Runs the hub made by `make` on this thread until it is drained: shards have ended (or `DRAIN_TIME` is over) and the
/// store is synced.
///
/// # Errors
/// io_uring or the doorbell cannot be set up; what `make` returns.
pub fn run<E: From<io::Error>>(
    make: impl FnOnce(Instant, UnixTime) -> Result<Hub, E>,
    around: Surroundings<'_>,
) -> Result<(), E> {
    let hub = make(monotonic(), unix_time())?;
    let rng = StdRng::try_from_os_rng().map_err(io::Error::other)?;
    let Surroundings { links, bell, handle, observer, info, services, bans, state, serve, .. } = around;
    let (treasury, ledger, tags) = (around.treasury, around.ledger, around.tags);
    let (reserved, newcomers, live) = (around.reserved, around.newcomers, around.live);
    let result = tokio_uring::builder().start(async move {
        let (events, inbox) = mpsc::channel(EVENTS);
        watch_bell(&bell, events.clone())?;
        serve(take_commands(events.clone()));
        let shards: Vec<_> = links.into_iter().map(|link| (link, Outbox::new())).collect();
        let count = u16::try_from(shards.len()).unwrap_or(u16::MAX);
        let mut desk = Desk::new(count, info.user_agent.clone(), services, bans);
        desk.set_live(newcomers, reserved);
        let mut driver = Driver {
            hub,
            desk,
            live,
            treasury: Treasury::new(treasury, ledger, shards.len(), monotonic(), unix_time()),
            tags,
            seconds: 0,
            writer: None,
            state,
            reports: vec![ShardReport::default(); shards.len()],
            info: Info { started: unix_time(), shards: u32::from(count), ..info },
            rng,
            shards,
            conns: BTreeMap::new(),
            events,
            observer,
            second: Instant(0),
            drain_by: None,
            ready: None,
        };
        driver.turn_until_drained(inbox, &bell, &handle).await;
        Ok::<(), io::Error>(())
    });
    result.map_err(E::from)
}

/// The way for commands, which are events of the loop like any other.
fn take_commands(events: mpsc::Sender<Event>) -> mpsc::Sender<Command> {
    let (sender, mut commands) = mpsc::channel(COMMANDS);
    tokio_uring::spawn(async move {
        while let Some(command) = commands.recv().await {
            if events.send(Event::Command(command)).await.is_err() {
                return;
            }
        }
    });
    sender
}

fn unix_time() -> UnixTime {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

enum Event {
    /// Whether BIP324 is to be spoken, and the socket.
    Connected(LinkId, bool, TcpStream),
    ConnectFailed(LinkId, String),
    Bytes(LinkId, Vec<u8>),
    Closed(LinkId, Option<String>),
    /// The operator wants something.
    Command(Command),
    /// `NODE_V2_TIMEOUT` has passed since the connection.
    OpenBy(LinkId),
    /// A shard or somebody with a drain handle has rung.
    Bell,
}

struct Driver<'o> {
    hub: Hub,
    desk: Desk,
    treasury: Treasury,
    tags: TagNames,
    /// Counts those since the start.
    seconds: u32,
    /// Writes what hosts owe: that takes longer than the loop may.
    writer: Option<std::thread::JoinHandle<()>>,
    live: Box<dyn Live>,
    /// The last of each shard.
    reports: Vec<ShardReport>,
    info: Info,
    state: StateFolder,
    /// For keys: a CSPRNG seeded by the system.
    rng: StdRng,
    shards: Vec<(HubEnd, Outbox)>,
    conns: BTreeMap<LinkId, Conn>,
    events: mpsc::Sender<Event>,
    observer: &'o mut dyn Observer,
    second: Instant,
    drain_by: Option<Instant>,
    /// Handed on when all shards listen.
    ready: Option<(u32, Hash)>,
}

impl Driver<'_> {
    async fn turn_until_drained(
        &mut self,
        mut inbox: mpsc::Receiver<Event>,
        bell: &Doorbell,
        handle: &HubHandle,
    ) {
        let mut busy = 0_u32;
        loop {
            self.take_events(&mut inbox);
            let more = self.take_shards();
            let now = monotonic();
            if handle.is_asked() && self.drain_by.is_none() {
                self.drain_by = Some(now + DRAIN_TIME + END_MARGIN);
                self.hub.handle(now, unix_time(), Input::Drain);
            }
            if let Some(server) = handle.take_tls() {
                self.tell_shards(&ToShard::Tls(server));
            }
            if now >= self.hub.next_wake() {
                self.hub.tick(now, unix_time());
            }
            for network in self.desk.tick(now, unix_time()) {
                self.observer.unbanned(network);
            }
            self.treasury.tick(now, unix_time());
            self.put_out();
            self.report(now);
            if self.hub.is_drained() || self.drain_by.is_some_and(|by| now >= by) {
                break;
            }
            if more {
                busy = busy.wrapping_add(1);
                breathe(busy).await;
                continue;
            }
            let pause = self.pause(now);
            bell.will_sleep();
            let rung = self.shards.iter().any(|(link, _)| link.has_mail())
                || (handle.is_asked() && self.drain_by.is_none())
                || handle.has_tls();
            if rung {
                busy = busy.wrapping_add(1);
                breathe(busy).await;
            } else if let Ok(Some(event)) = tokio::time::timeout(pause, inbox.recv()).await {
                self.take_event(event);
            }
            bell.awake();
        }
        // Writes and syncs what waits, at most `STORE_WAITING_BYTES`; not bounded in time: a call into a slow disk cannot
        // be taken back. What a kill during it loses is fetched from the node again.
        self.hub.close();
        self.save();
        self.save_accounts();
        // One that is writing has what was so a while ago.
        self.writer.take().map(std::thread::JoinHandle::join);
        self.save_hosts();
        self.writer.take().map(std::thread::JoinHandle::join);
        self.put_out();
        self.observer.second(&self.hub, self.dropped());
    }

    fn tell_shards(&mut self, entry: &ToShard) {
        for (_, outbox) in &mut self.shards {
            outbox.push(entry.clone());
        }
    }

    /// How long nothing is due.
    fn pause(&self, now: Instant) -> Duration {
        let mut until = self.hub.next_wake().min(self.desk.next_wake()).min(self.second);
        until = until.min(self.treasury.next_wake());
        if self.shards.iter().any(|(_, outbox)| !outbox.is_empty()) {
            until = until.min(now + OUTBOX_PAUSE);
        }
        if let Some(by) = self.drain_by {
            until = until.min(by);
        }
        // tokio's timer is in whole milliseconds; a longer sleep than a minute says nothing more.
        until.since(now).clamp(Duration::ZERO, Duration::from_secs(60))
    }

    fn take_events(&mut self, inbox: &mut mpsc::Receiver<Event>) {
        for _ in 0..EVENTS_PER_TURN {
            let Ok(event) = inbox.try_recv() else { return };
            self.take_event(event);
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Bell => {}
            Event::Command(command) => self.command(command),
            Event::Connected(link, v2, stream) => self.open(link, v2, stream),
            Event::ConnectFailed(link, error) => self.tell(Input::ConnectFailed { link, error }),
            Event::Bytes(link, data) => self.received(link, data),
            Event::Closed(link, error) => self.closed(link, error),
            Event::OpenBy(link) => {
                if self.conns.get(&link).is_some_and(|conn| !conn.is_open()) {
                    self.closed(link, Some("BIP324: the handshake takes too long".to_owned()));
                }
            }
        }
        self.put_out();
    }

    /// Takes entries of the shards; true when there are more.
    fn take_shards(&mut self) -> bool {
        let (now, unix) = (monotonic(), unix_time());
        let mut more = false;
        for (index, (link, _)) in self.shards.iter_mut().enumerate() {
            let shard = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
            for _ in 0..LINK_PER_TURN {
                match link.pop() {
                    Some(ToHub::Report(report)) => {
                        self.observer.report(shard, &report);
                        self.treasury.report(shard, report.house);
                        self.desk.report(shard, &report);
                        if let Some(last) = self.reports.get_mut(index) {
                            *last = *report;
                        }
                    }
                    Some(ToHub::Told(id, told)) => self
                        .desk
                        .told(shard, id, *told, &|client, info| self.treasury.balance_of(client, info, unix)),
                    Some(entry) => {
                        if let Some(entry) = self.treasury.handle(unix, shard, entry) {
                            self.hub.handle(now, unix, Input::FromShard { shard, entry });
                        }
                    }
                    None => break,
                }
            }
            more |= link.has_mail();
        }
        if self.ready.is_some()
            && self.reports.iter().all(|report| report.listening)
            && let Some((height, hash)) = self.ready.take()
        {
            self.observer.ready(height, &hash);
        }
        more
    }

    /// Does what the hub wants done.
    fn put_out(&mut self) {
        while let Some(output) = self.hub.next_output() {
            match output {
                Output::Connect { link, node, v2 } => {
                    tokio_uring::spawn(connect(link, node, v2, self.events.clone()));
                }
                Output::Send { link, bytes } => self.send(link, bytes),
                Output::Close { link } => drop(self.conns.remove(&link)),
                Output::ToShard { shard, entry } => {
                    if let Some((_, outbox)) = self.shards.get_mut(usize::from(shard.0)) {
                        outbox.push(entry);
                    }
                }
                Output::Ready { height, hash } => self.ready = Some((height, hash)),
                Output::Event(event) => self.observer.event(&event),
            }
        }
        if self.treasury.is_awaited() {
            self.save_accounts();
        }
        self.tell_happened();
        let desk = std::iter::from_fn(|| self.desk.next_output());
        let treasury = std::iter::from_fn(|| self.treasury.next_output());
        for (shard, entry) in desk.chain(treasury) {
            if let Some((_, outbox)) = self.shards.get_mut(usize::from(shard.0)) {
                outbox.push(entry);
            }
        }
        for (link, outbox) in &mut self.shards {
            if !outbox.is_empty() {
                outbox.flush(link);
            }
        }
    }

    /// Does what the operator wants, or lets the desk do it.
    fn command(&mut self, command: Command) {
        if let Command::RemoveTags { tags, .. } = &command {
            self.treasury.remove_tags(*tags);
        }
        let Some(command) = self.desk.command(monotonic(), unix_time(), command, &self.reports) else {
            // A ban holds when it is answered, also after a restart.
            return self.save();
        };
        let Some(command) = self.treasury.command(unix_time(), command) else { return };
        // Whoever asked may have gone: no answer is lost then.
        match command {
            Command::Info(reply) => drop(reply.send(Ok(self.info()))),
            Command::Nodes(reply) => drop(reply.send(Ok(self.hub.nodes()))),
            Command::AddNode { node, reply } => drop(reply.send(self.hub.add_node(NodeAddr(node)))),
            Command::RemoveNode { node, reply } => drop(reply.send(self.hub.remove_node(&node))),
            Command::AddService { service, reply } => self.add_service(service, reply),
            Command::Reload(reply) => self.live.reload(reply),
            Command::ReloadCertificates(reply) => self.live.reload_certificates(reply),
            // The desk's.
            _ => {}
        }
    }

    fn info(&self) -> Info {
        let sum = |what: fn(&ShardReport) -> u32| self.reports.iter().map(|r| u64::from(what(r))).sum();
        let slots = |what: fn(&ServiceReport) -> u32| {
            self.reports.iter().flat_map(|report| &report.services).map(|of| u64::from(what(of))).sum()
        };
        let nodes = self.hub.nodes();
        let (height, mut hash) = self.hub.tip();
        hash.reverse();
        let known = self.reports.iter().any(|report| report.listening);
        Info {
            height: known.then_some(height),
            tip: known.then(|| hash.to_lower_hex_string()),
            clients: sum(|report| report.clients),
            ready: sum(|report| report.ready),
            tls: sum(|report| report.tls),
            v2: sum(|report| report.v2),
            mempool: self.hub.mempool_size().0 as u64,
            sessions: slots(|of| of.sessions),
            max_sessions: slots(|of| of.max_sessions),
            probes: slots(|of| of.probes),
            max_probes: slots(|of| of.max_probes),
            priority: self.treasury.priority_clients(),
            capacity: self.treasury.capacities(),
            nodes_up: nodes.iter().filter(|node| node.up).count() as u32,
            reports: self.reports.clone(),
            ..self.info.clone()
        }
    }

    fn send(&mut self, link: LinkId, frames: Bytes) {
        let Some(conn) = self.conns.get_mut(&link) else { return };
        if conn.send(frames).is_err() {
            self.conns.remove(&link);
            let error = Some("the node takes nothing of what is sent".to_owned());
            self.tell(Input::Closed { link, error });
        }
    }

    fn tell(&mut self, input: Input<'_>) {
        self.hub.handle(monotonic(), unix_time(), input);
    }

    /// A connection is there; in v1 it is open with that.
    fn open(&mut self, link: LinkId, v2: bool, stream: TcpStream) {
        // A new state for each: whoever reads our memory later cannot make an earlier key again.
        let mut rng = StdRng::from_rng(&mut self.rng);
        self.rng = StdRng::from_rng(&mut rng);
        let conn = Conn::open(link, stream, v2, self.hub.magic(), &mut rng, self.events.clone());
        self.conns.insert(link, conn);
        if !v2 {
            self.tell(Input::Connected { link, v2: None });
        }
    }

    fn received(&mut self, link: LinkId, data: Vec<u8>) {
        // Otherwise the link was closed by us meanwhile.
        let Some(conn) = self.conns.get_mut(&link) else { return };
        let was_open = conn.is_open();
        let (plain, result) = conn.received(data);
        if !was_open && conn.is_open() {
            let v2 = conn.session_id();
            self.tell(Input::Connected { link, v2 });
        }
        if !plain.is_empty() {
            self.tell(Input::Bytes { link, data: &plain });
        }
        if let Err(end) = result {
            self.conns.remove(&link);
            self.tell(match end {
                // A node of v1 that answers in its own way.
                End::WrongMagic if !was_open => Input::NotV2 { link },
                _ => Input::Closed { link, error: Some(format!("BIP324: {end}")) },
            });
        }
    }

    /// The connection has ended, or its handshake takes too long.
    fn closed(&mut self, link: LinkId, error: Option<String>) {
        let Some(conn) = self.conns.remove(&link) else { return };
        self.tell(match conn.awaits_key() {
            // A node of v1 meets bytes that are no message and closes or resets.
            true => Input::NotV2 { link },
            false => Input::Closed { link, error },
        });
    }

    fn report(&mut self, now: Instant) {
        if now >= self.second {
            self.second = now + Duration::from_secs(1);
            self.seconds = self.seconds.wrapping_add(1);
            self.save();
            self.save_used();
            self.observer.capacities(&self.treasury.capacities());
            self.observer.second(&self.hub, self.dropped());
        }
    }

    fn dropped(&self) -> u64 {
        self.shards.iter().map(|(_, outbox)| outbox.dropped()).sum()
    }
}
