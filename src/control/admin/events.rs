//! What happens, told to whoever watches. Whoever is slow is dropped and counted, never waited for.
//!
//! Each watcher has a queue of its own, into which comes only what it wants: a crowd of events that others want makes nobody slow.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::response::sse;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use utoipa::ToSchema;

use super::{WATCHER_QUEUE, WATCHERS};
use crate::base::{ClientRef, End, Tags, UnixTime};
use crate::hub::command::TagNames;
use crate::transport::Kind;

/// Something has happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub time: UnixTime,
    /// What.
    pub what: What,
    /// Tags of the client it is about.
    pub tags: Tags,
    /// Capacity that may be connected, cost units a second.
    pub total_capacity: u64,
    /// Capacity of all clients connected.
    pub connected_capacity: u64,
    /// Capacity of the priority clients connected.
    pub priority_connected_capacity: u64,
}

impl Event {
    /// True exactly when more capacity is connected than may be: a manager has to lower somebody's.
    fn is_underrun(&self) -> bool {
        self.connected_capacity > self.total_capacity
    }
}

/// What has happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A client has become a session.
    Connect {
        /// Who.
        client: ClientRef,
        /// From where.
        peer: std::net::SocketAddr,
        /// By which service.
        service: u8,
        /// Speaking what.
        transport: Kind,
    },
    /// A client has ended.
    Disconnect {
        /// Who.
        client: ClientRef,
        /// From where.
        peer: std::net::SocketAddr,
        /// Why.
        reason: End,
    },
    /// A client was ended to make room, or by an operator.
    Kick {
        /// Who.
        client: ClientRef,
        /// From where.
        peer: std::net::SocketAddr,
        /// Why.
        reason: End,
    },
    /// A client's balance after some use.
    Price {
        /// Who.
        client: ClientRef,
        /// Paid for and not used, cost units.
        positive: u64,
        /// Used and not paid for, cost units.
        negative: u64,
    },
    /// A client has another capacity.
    ClientCapacity {
        /// Who.
        client: ClientRef,
        /// Cost units a second.
        capacity: u64,
    },
    /// The total capacity changes to this, after so many milliseconds.
    TotalCapacity {
        /// Cost units a second.
        capacity: u64,
        /// Milliseconds from now; 0 for a rise.
        after: u64,
    },
    /// A network is banned.
    Ban {
        /// From where.
        network: ipnet::IpNet,
        /// When it ends.
        until: UnixTime,
        /// Why.
        reason: String,
    },
    /// A ban was lifted, or has ended.
    Unban {
        /// From where.
        network: ipnet::IpNet,
    },
    /// A link to a node is up, or has ended.
    NodeLink {
        /// The node.
        node: String,
        /// Which link.
        link: &'static str,
        /// Whether it is up.
        up: bool,
        /// Why it has ended.
        reason: Option<String>,
    },
    /// The chain has a new tip.
    Tip {
        /// Its height.
        height: u32,
        /// Its hash, as people write it.
        hash: String,
    },
}

/// Kinds of events, as queries name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum EventKind {
    Connect,
    Disconnect,
    Kick,
    Price,
    ClientCapacity,
    TotalCapacity,
    Ban,
    Unban,
    NodeLink,
    Tip,
}

impl EventKind {
    pub(super) const ALL: [(&str, EventKind); 10] = [
        ("connect", EventKind::Connect),
        ("disconnect", EventKind::Disconnect),
        ("kick", EventKind::Kick),
        ("price", EventKind::Price),
        ("client_capacity", EventKind::ClientCapacity),
        ("total_capacity", EventKind::TotalCapacity),
        ("ban", EventKind::Ban),
        ("unban", EventKind::Unban),
        ("node_link", EventKind::NodeLink),
        ("tip", EventKind::Tip),
    ];

    fn label(self) -> &'static str {
        EventKind::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl What {
    fn kind(&self) -> EventKind {
        match self {
            What::Connect { .. } => EventKind::Connect,
            What::Disconnect { .. } => EventKind::Disconnect,
            What::Kick { .. } => EventKind::Kick,
            What::Price { .. } => EventKind::Price,
            What::ClientCapacity { .. } => EventKind::ClientCapacity,
            What::TotalCapacity { .. } => EventKind::TotalCapacity,
            What::Ban { .. } => EventKind::Ban,
            What::Unban { .. } => EventKind::Unban,
            What::NodeLink { .. } => EventKind::NodeLink,
            What::Tip { .. } => EventKind::Tip,
        }
    }
}

/// An event as it is sent. Which fields there are depends on the kind.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct EventView {
    /// Seconds since 1970.
    time: u64,
    /// connect, disconnect, kick, price, client_capacity, total_capacity, ban, unban, node_link, tip.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    positive: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative: Option<u64>,
    /// Cost units a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u64>,
    /// Milliseconds until the total capacity changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    tags: Vec<String>,
    total_capacity: u64,
    connected_capacity: u64,
    priority_connected_capacity: u64,
}

impl EventView {
    fn new(event: &Event, tags: &TagNames) -> EventView {
        let mut view = EventView {
            time: event.time,
            kind: event.what.kind().label(),
            tags: tags.of(event.tags),
            total_capacity: event.total_capacity,
            connected_capacity: event.connected_capacity,
            priority_connected_capacity: event.priority_connected_capacity,
            ..EventView::default()
        };
        view.fill(event.what.clone());
        view
    }

    fn fill(&mut self, what: What) {
        match what {
            What::Connect { client, peer, service, transport } => {
                (self.client, self.peer) = (Some(client.to_string()), Some(peer.to_string()));
                (self.service, self.transport) = (Some(service), Some(transport.label()));
            }
            What::Disconnect { client, peer, reason } | What::Kick { client, peer, reason } => {
                (self.client, self.peer) = (Some(client.to_string()), Some(peer.to_string()));
                self.reason = Some(reason.label().to_owned());
            }
            What::Price { client, positive, negative } => {
                self.client = Some(client.to_string());
                (self.positive, self.negative) = (Some(positive), Some(negative));
            }
            What::ClientCapacity { client, capacity } => {
                (self.client, self.capacity) = (Some(client.to_string()), Some(capacity));
            }
            What::TotalCapacity { capacity, after } => {
                (self.capacity, self.after) = (Some(capacity), Some(after));
            }
            What::Ban { network, until, reason } => {
                (self.network, self.until) = (Some(network.to_string()), Some(until));
                self.reason = Some(reason);
            }
            What::Unban { network } => self.network = Some(network.to_string()),
            What::NodeLink { node, link, up, reason } => {
                (self.node, self.link, self.up) = (Some(node), Some(link), Some(up));
                self.reason = reason;
            }
            What::Tip { height, hash } => (self.height, self.hash) = (Some(height), Some(hash)),
        }
    }
}

/// Where events are told; copies are the same place.
#[derive(Clone, Debug, Default)]
pub struct Events {
    watchers: Arc<Mutex<Watchers>>,
    capacities: Arc<Capacities>,
    lagged: Arc<AtomicU64>,
}

/// Those who watch; at most [`WATCHERS`].
#[derive(Debug, Default)]
struct Watchers {
    next: u64,
    list: Vec<Watcher>,
    /// Streams that are open; of those that were slow, no queue is in the list any more.
    open: usize,
    /// True exactly when nothing more is told.
    ended: bool,
}

/// One of them, on the side of who tells.
#[derive(Debug)]
struct Watcher {
    number: u64,
    wanted: Wanted,
    queue: mpsc::Sender<Arc<Event>>,
    /// Said before the queue closes.
    was_slow: Arc<AtomicBool>,
}

impl Events {
    /// Nobody watches yet.
    pub fn new() -> Events {
        Events::default()
    }

    /// True exactly when somebody watches: otherwise an event need not be made.
    pub fn is_watched(&self) -> bool {
        !lock(&self.watchers).list.is_empty()
    }

    /// What every event from now on carries: capacities that may be connected, are connected, and of the priority clients
    /// among those; cost units a second.
    pub fn set_capacities(&self, total: u64, connected: u64, priority_connected: u64) {
        self.capacities.total.store(total, Ordering::Relaxed);
        self.capacities.connected.store(connected, Ordering::Relaxed);
        self.capacities.priority_connected.store(priority_connected, Ordering::Relaxed);
    }

    /// Tells those who watch that it has happened now.
    pub fn happened(&self, what: What, tags: Tags) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.tell(Event {
            time,
            what,
            tags,
            total_capacity: self.capacities.total.load(Ordering::Relaxed),
            connected_capacity: self.capacities.connected.load(Ordering::Relaxed),
            priority_connected_capacity: self.capacities.priority_connected.load(Ordering::Relaxed),
        });
    }

    /// Tells those who watch and want it.
    pub fn tell(&self, event: Event) {
        let event = Arc::new(event);
        lock(&self.watchers).list.retain(|watcher| {
            if !watcher.wanted.takes(&event) {
                return true;
            }
            let full = match watcher.queue.try_send(event.clone()) {
                Ok(()) => return true,
                Err(error) => matches!(error, mpsc::error::TrySendError::Full(_)),
            };
            if full {
                self.lagged.fetch_add(1, Ordering::Relaxed);
                metrics::counter!("breakwater_admin_events_lagged_total").increment(1);
                // Its stream says so behind what is in the queue.
                watcher.was_slow.store(true, Ordering::Release);
            }
            false
        });
    }

    /// Watchers dropped because they were slow.
    pub fn lagged(&self) -> u64 {
        self.lagged.load(Ordering::Relaxed)
    }

    /// Ends every stream, after what is in its queue.
    pub(super) fn end(&self) {
        let mut watchers = lock(&self.watchers);
        watchers.ended = true;
        watchers.list.clear();
    }

    /// Begins to watch; none when too many do.
    pub(super) fn watch(&self, wanted: Wanted, tags: TagNames) -> Option<Watch> {
        let mut watchers = lock(&self.watchers);
        if watchers.open >= WATCHERS {
            return None;
        }
        watchers.open += 1;
        let number = watchers.next;
        watchers.next += 1;
        let (queue, events) = mpsc::channel(WATCHER_QUEUE);
        let was_slow = Arc::new(AtomicBool::new(false));
        if !watchers.ended {
            watchers.list.push(Watcher { number, wanted, queue, was_slow: was_slow.clone() });
        }
        let place = Place { number, watchers: self.watchers.clone() };
        Some(Watch { events, was_slow, tags, _place: place })
    }
}

/// Nothing under this lock can be left half done.
fn lock(watchers: &Mutex<Watchers>) -> MutexGuard<'_, Watchers> {
    watchers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As they were said last.
#[derive(Debug, Default)]
struct Capacities {
    total: AtomicU64,
    connected: AtomicU64,
    priority_connected: AtomicU64,
}

/// A watcher's place, given back when it goes.
#[derive(Debug)]
struct Place {
    number: u64,
    watchers: Arc<Mutex<Watchers>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut watchers = lock(&self.watchers);
        watchers.open = watchers.open.saturating_sub(1);
        watchers.list.retain(|watcher| watcher.number != self.number);
    }
}

/// What a watcher wants to hear of; what is empty excludes nothing.
#[derive(Debug)]
pub(super) struct Wanted {
    /// All of these tags.
    pub(super) tags: Tags,
    /// One of these kinds.
    pub(super) kinds: Vec<EventKind>,
    /// Only while more capacity is connected than may be.
    pub(super) underrun: bool,
}

impl Wanted {
    fn takes(&self, event: &Event) -> bool {
        event.tags.has(self.tags)
            && (self.kinds.is_empty() || self.kinds.contains(&event.what.kind()))
            && (!self.underrun || event.is_underrun())
    }
}

/// The stream to one watcher. Ends after the event `lagged` when it was slow.
#[derive(Debug)]
pub(super) struct Watch {
    events: mpsc::Receiver<Arc<Event>>,
    /// Said once.
    was_slow: Arc<AtomicBool>,
    tags: TagNames,
    _place: Place,
}

impl Stream for Watch {
    type Item = Result<sse::Event, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = match self.events.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(event)) => event,
            Poll::Ready(None) => {
                let text = "events came faster than they were read: connect again";
                let slow = self.was_slow.swap(false, Ordering::AcqRel);
                let last = slow.then(|| Ok(sse::Event::default().event("lagged").data(text)));
                return Poll::Ready(last);
            }
        };
        let view = EventView::new(&event, &self.tags);
        Poll::Ready(Some(sse::Event::default().event(view.kind).json_data(view)))
    }
}

#[cfg(test)]
mod tests;
