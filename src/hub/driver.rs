//! The hub's thread: the sans-IO [`Hub`] on tokio-uring.
//!
//! One task per node link reads, one writes; both talk to the loop by bounded queues. The loop takes what has come from
//! links and shards, lets time pass, does what the hub puts out, and sleeps on its queue until a link, the doorbell or the
//! next wake-up needs it. Protocol logic lives in `brain`, none here.
//!
//! Bounds: a reader that is ahead of the loop waits (the node is slowed by TCP); more than `NODE_SEND_QUEUE` bytes or
//! `SENDS` sends towards a node close the link; at most `LINK_PER_TURN` entries of a shard are taken per turn.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_uring::net::TcpStream;

use super::outbox::Outbox;
use super::{Hub, HubEvent, Input, LinkId, NodeAddr, Output};
use crate::base::limits::{DRAIN_TIME, END_MARGIN, LINK_PER_TURN, NODE_CONNECT_TIMEOUT, NODE_SEND_QUEUE};
use crate::base::{Instant, ShardId, UnixTime};
use crate::link::{Doorbell, HubEnd, ShardReport, ToHub, ToShard};
use crate::transport::tls;
use crate::wire::Hash;

/// Bytes asked of a node's socket at a time.
const READ_BYTES: usize = 64 * 1024;
/// Events of all links that wait for the loop; readers wait when it is full.
const EVENTS: usize = 64;
/// Sends towards one node that wait for the socket; when it is full the link is closed.
const SENDS: usize = 16_384;
/// Events of links handled before shards and outputs get their turn.
const EVENTS_PER_TURN: usize = 32;
/// While a shard's queue is full the hub looks again after this.
const OUTBOX_PAUSE: Duration = Duration::from_millis(5);
/// Busy turns after which the thread parks once, see `breathe`. A turn takes some 100 us, so a request to a node
/// is late by about a millisecond at most.
const BUSY_TURNS: u32 = 8;

/// What hears of the hub: metrics and logs. Called on the hub's thread; must not block.
pub trait Observer {
    /// Something worth a log line.
    fn event(&mut self, event: &HubEvent);
    /// The node's tip is known and clients are accepted. Once.
    fn ready(&mut self, height: u32, hash: &Hash);
    /// A shard's counters.
    fn report(&mut self, shard: ShardId, report: &ShardReport);
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

    fn take_tls(&self) -> Option<Arc<tls::Server>> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_asked(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }
}

/// Runs the hub made by `make` on this thread until it is drained: shards have ended (or `DRAIN_TIME` is over) and the
/// store is synced. `links` are the hub's ends in the order of the shards, `bell` is the doorbell they ring.
///
/// # Errors
/// io_uring or the doorbell cannot be set up; what `make` returns.
pub fn run<E: From<io::Error>>(
    make: impl FnOnce(Instant, UnixTime) -> Result<Hub, E>,
    links: Vec<HubEnd>,
    bell: Doorbell,
    handle: HubHandle,
    observer: &mut dyn Observer,
) -> Result<(), E> {
    let clock = Clock(std::time::Instant::now());
    let hub = make(clock.now(), unix_time())?;
    let result = tokio_uring::builder().start(async move {
        let (events, inbox) = mpsc::channel(EVENTS);
        watch_bell(&bell, events.clone())?;
        let shards: Vec<_> = links.into_iter().map(|link| (link, Outbox::new())).collect();
        let listening = vec![false; shards.len()];
        let mut driver = Driver {
            hub,
            clock,
            shards,
            conns: BTreeMap::new(),
            events,
            observer,
            second: Instant(0),
            drain_by: None,
            listening,
            ready: None,
        };
        driver.turn_until_drained(inbox, &bell, &handle).await;
        Ok::<(), io::Error>(())
    });
    result.map_err(E::from)
}

#[derive(Clone, Copy)]
struct Clock(std::time::Instant);

impl Clock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

fn unix_time() -> UnixTime {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

enum Event {
    Connected(LinkId, Rc<TcpStream>),
    ConnectFailed(LinkId, String),
    Bytes(LinkId, Vec<u8>),
    Closed(LinkId, Option<String>),
    /// A shard or somebody with a drain handle has rung.
    Bell,
}

/// A connection to a node.
struct Conn {
    stream: Rc<TcpStream>,
    send: mpsc::Sender<Bytes>,
    /// Bytes given to the writer and not yet sent, at most `NODE_SEND_QUEUE`.
    queued: Rc<Cell<usize>>,
}

struct Driver<'o> {
    hub: Hub,
    clock: Clock,
    shards: Vec<(HubEnd, Outbox)>,
    conns: BTreeMap<LinkId, Conn>,
    events: mpsc::Sender<Event>,
    observer: &'o mut dyn Observer,
    second: Instant,
    drain_by: Option<Instant>,
    /// Shards that have said that they listen; `Ready` is handed on when all have.
    listening: Vec<bool>,
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
            let now = self.clock.now();
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
                || (handle.is_asked() && self.drain_by.is_none());
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
        let mut until = self.hub.next_wake().min(self.second);
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
        let (now, unix) = (self.clock.now(), unix_time());
        match event {
            Event::Bell => {}
            Event::Connected(link, stream) => {
                self.open(link, stream);
                self.hub.handle(now, unix, Input::Connected { link });
            }
            Event::ConnectFailed(link, error) => {
                self.hub.handle(now, unix, Input::ConnectFailed { link, error });
            }
            Event::Bytes(link, data) if self.conns.contains_key(&link) => {
                self.hub.handle(now, unix, Input::Bytes { link, data: &data });
            }
            Event::Closed(link, error) if self.conns.remove(&link).is_some() => {
                self.hub.handle(now, unix, Input::Closed { link, error });
            }
            // The link was closed by us meanwhile.
            Event::Bytes(..) | Event::Closed(..) => {}
        }
        self.put_out();
    }

    /// Takes entries of the shards; true when there are more.
    fn take_shards(&mut self) -> bool {
        let (now, unix) = (self.clock.now(), unix_time());
        let mut more = false;
        for (index, (link, _)) in self.shards.iter_mut().enumerate() {
            let shard = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
            for _ in 0..LINK_PER_TURN {
                match link.pop() {
                    Some(ToHub::Report(report)) => {
                        if let Some(listening) = self.listening.get_mut(index) {
                            *listening |= report.listening;
                        }
                        self.observer.report(shard, &report);
                    }
                    Some(entry) => self.hub.handle(now, unix, Input::FromShard { shard, entry }),
                    None => break,
                }
            }
            more |= link.has_mail();
        }
        if self.listening.iter().all(|listening| *listening)
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
                Output::Connect { link, node } => {
                    tokio_uring::spawn(connect(link, node, self.events.clone()));
                }
                Output::Send { link, bytes } => self.send(link, bytes),
                Output::Close { link } => {
                    if let Some(conn) = self.conns.remove(&link) {
                        // The reader ends with this; an error means that it has ended already.
                        let _ = conn.stream.shutdown(std::net::Shutdown::Both);
                    }
                }
                Output::ToShard { shard, entry } => {
                    if let Some((_, outbox)) = self.shards.get_mut(usize::from(shard.0)) {
                        outbox.push(entry);
                    }
                }
                Output::Ready { height, hash } => self.ready = Some((height, hash)),
                Output::Event(event) => self.observer.event(&event),
            }
        }
        for (link, outbox) in &mut self.shards {
            if !outbox.is_empty() {
                outbox.flush(link);
            }
        }
    }

    fn send(&mut self, link: LinkId, bytes: Bytes) {
        let Some(conn) = self.conns.get(&link) else { return };
        let queued = conn.queued.get() + bytes.len();
        conn.queued.set(queued);
        if queued > NODE_SEND_QUEUE || conn.send.try_send(bytes).is_err() {
            let _ = conn.stream.shutdown(std::net::Shutdown::Both);
            self.conns.remove(&link);
            let error = Some("the node takes nothing of what is sent".to_owned());
            self.hub.handle(self.clock.now(), unix_time(), Input::Closed { link, error });
        }
    }

    fn open(&mut self, link: LinkId, stream: Rc<TcpStream>) {
        let (send, outgoing) = mpsc::channel(SENDS);
        let queued = Rc::new(Cell::new(0));
        tokio_uring::spawn(read(link, stream.clone(), self.events.clone()));
        tokio_uring::spawn(write(stream.clone(), outgoing, queued.clone()));
        self.conns.insert(link, Conn { stream, send, queued });
    }

    fn report(&mut self, now: Instant) {
        if now >= self.second {
            self.second = now + Duration::from_secs(1);
            self.observer.second(&self.hub, self.dropped());
        }
    }

    fn dropped(&self) -> u64 {
        self.shards.iter().map(|(_, outbox)| outbox.dropped()).sum()
    }
}

/// Lets the tasks of the links run between two busy turns, and every `BUSY_TURNS` the kernel as well. tokio-uring submits
/// what its tasks have queued only when the thread parks, and a task that yields and is ready again keeps it from parking:
/// under a steady stream of entries from the shards nothing would be read from or written to a node. A sleep is the one way
/// to a real park; it costs one to two milliseconds, in which the shards' queues hold what comes.
async fn breathe(busy: u32) {
    match busy.is_multiple_of(BUSY_TURNS) {
        true => tokio::time::sleep(Duration::from_millis(1)).await,
        false => tokio::task::yield_now().await,
    }
}

/// Tells the loop when the doorbell rings.
fn watch_bell(bell: &Doorbell, events: mpsc::Sender<Event>) -> io::Result<()> {
    let Some(file) = bell.reader()? else { return Ok(()) };
    // Its successor is unsafe because a descriptor might be closed while registered; this File owns its own.
    #[allow(deprecated)]
    let file = AsyncFd::new(file)?;
    tokio_uring::spawn(async move {
        while let Ok(mut guard) = file.readable().await {
            let _ = guard.try_io(|file| file.get_ref().read(&mut [0; 8]));
            // A full queue wakes the loop as well.
            if let Err(mpsc::error::TrySendError::Closed(_)) = events.try_send(Event::Bell) {
                return;
            }
        }
    });
    Ok(())
}

async fn connect(link: LinkId, node: NodeAddr, events: mpsc::Sender<Event>) {
    let event = match tokio::time::timeout(NODE_CONNECT_TIMEOUT, connect_any(&node)).await {
        Ok(Ok(stream)) => Event::Connected(link, Rc::new(stream)),
        Ok(Err(error)) => Event::ConnectFailed(link, error.to_string()),
        Err(_) => {
            Event::ConnectFailed(link, format!("no answer within {} s", NODE_CONNECT_TIMEOUT.as_secs()))
        }
    };
    let _ = events.send(event).await;
}

/// Tries every address the name has.
async fn connect_any(node: &NodeAddr) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match node.0.parse() {
        Ok(address) => vec![address],
        Err(_) => tokio::net::lookup_host(&node.0).await?.collect(),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small questions must not wait for the answer to the one before.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn read(link: LinkId, stream: Rc<TcpStream>, events: mpsc::Sender<Event>) {
    let end = loop {
        let (result, mut data) = stream.read(Vec::with_capacity(READ_BYTES)).await;
        match result {
            Ok(0) => break None,
            Ok(n) => {
                data.truncate(n);
                if events.send(Event::Bytes(link, data)).await.is_err() {
                    return;
                }
            }
            Err(error) => break Some(error.to_string()),
        }
    };
    let _ = events.send(Event::Closed(link, end)).await;
}

async fn write(stream: Rc<TcpStream>, mut outgoing: mpsc::Receiver<Bytes>, queued: Rc<Cell<usize>>) {
    while let Some(bytes) = outgoing.recv().await {
        let len = bytes.len();
        let (result, _) = stream.write_all(Vec::from(bytes)).await;
        queued.set(queued.get().saturating_sub(len));
        if result.is_err() {
            // The reader sees it, too, and says why.
            return;
        }
    }
}
