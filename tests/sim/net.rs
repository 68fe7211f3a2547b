//! The seeded network and its clock: connections, delays, splits, stalls, resets. No thread, no real time.
//!
//! Time is where the last event put it; [`Net::next_event`] says when the next one is due and [`Net::run_until`] goes
//! there. Shards reach it through `SimKernel` (the per-kernel half is in `port`); everything else through
//! [`Net::connect`], [`Net::send`], [`Net::close`] and the [`News`] they get.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use breakwater::base::{Instant, UnixTime};
use breakwater::io::{IoEnd, ListenerId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::faults::Faults;
use super::pipe::{Cut, Owner, Segment, Tcp, TcpEnd, TcpId};
use super::port::Port;
use super::trace::Trace;
use super::transport::Clock;

/// What an actor hears of one of its connections.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// The connection it asked for stands.
    Connected,
    /// Nobody listens there, or the connection was reset before it stood.
    Refused,
    /// Somebody has connected to it.
    Incoming,
    /// Bytes have come.
    Bytes(Vec<u8>),
    /// The other side has closed its way here.
    Fin,
    /// The connection is reset; its number is dead.
    Reset,
}

/// Where to connect to.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// A listener of the shards.
    Listener(ListenerId),
    /// An actor.
    Actor(u64),
}

#[derive(Debug)]
pub(super) enum Event {
    Syn { tcp: TcpId, to: To },
    Established { tcp: TcpId },
    Refused { tcp: TcpId },
    Accept { port: usize },
    Arrive { tcp: TcpId, to: usize },
    Room { tcp: TcpId, side: usize },
    Reset { tcp: TcpId, to: usize, why: IoEnd },
    BuffersBack { port: usize },
}

/// The network.
#[derive(Debug)]
pub struct Net {
    pub(super) now: Instant,
    unix_at_zero: UnixTime,
    clock: Arc<Clock>,
    pub(super) rng: SmallRng,
    /// What may go wrong.
    pub faults: Faults,
    pub(super) ports: Vec<Port>,
    pub(super) tcps: BTreeMap<TcpId, Tcp>,
    /// Actors that accept connections.
    pub listening: BTreeSet<u64>,
    events: BTreeMap<(Instant, u64), Event>,
    seq: u64,
    next_tcp: TcpId,
    news: VecDeque<(u64, TcpId, News)>,
    trace: Trace,
}

impl Net {
    /// A network in which `unix` is the time of day at the beginning.
    pub fn new(seed: u64, unix: UnixTime, faults: Faults, print: bool) -> Net {
        let mut net = Net {
            now: Instant(1_000_000_000),
            unix_at_zero: unix,
            clock: Arc::default(),
            rng: SmallRng::seed_from_u64(seed),
            faults,
            ports: Vec::new(),
            tcps: BTreeMap::new(),
            listening: BTreeSet::new(),
            events: BTreeMap::new(),
            seq: 0,
            next_tcp: 0,
            news: VecDeque::new(),
            trace: Trace::new(print),
        };
        net.advance(net.now);
        net
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The time of day.
    pub fn unix(&self) -> UnixTime {
        self.unix_at_zero + self.now.0 / 1_000_000_000
    }

    /// The same, for those who may ask at any time.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    fn advance(&mut self, to: Instant) {
        self.now = self.now.max(to);
        self.clock.set(self.unix());
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, args: fmt::Arguments<'_>) {
        self.trace.line(self.now, args);
    }

    /// The trace so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// When the network's next event is due.
    pub fn next_event(&self) -> Option<Instant> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    /// Goes to `to` (never back) and lets everything due happen.
    pub fn run_until(&mut self, to: Instant) {
        while let Some(entry) = self.events.first_entry() {
            let at = entry.key().0;
            if at > to {
                break;
            }
            let event = entry.remove();
            self.advance(at);
            self.happen(event);
        }
        self.advance(to);
    }

    /// The next thing an actor should hear.
    pub fn take_news(&mut self) -> Option<(u64, TcpId, News)> {
        self.news.pop_front()
    }

    /// Begins a connection; `Connected` or `Refused` follows.
    pub fn connect(&mut self, actor: u64, to: To, peer: SocketAddr) -> TcpId {
        let id = self.next_tcp;
        self.next_tcp += 1;
        let (low, high) = self.faults.latency_us;
        let latency_us = self.rng.random_range(low..=high);
        let cut = [Cut::Whole, Cut::Mtu, Cut::Any, Cut::Bytes][self.rng.random_range(0..4)];
        let (low, high) = self.faults.socket;
        let mut capacity = || self.rng.random_range(low..=high);
        let ends = [
            TcpEnd::new(Owner::Actor(actor), capacity()),
            TcpEnd::new(
                if let To::Actor(other) = to { Owner::Actor(other) } else { Owner::Nobody },
                capacity(),
            ),
        ];
        self.tcps.insert(id, Tcp { ends, peer, latency_us, cut });
        self.after(Duration::from_micros(latency_us), Event::Syn { tcp: id, to });
        id
    }

    /// An actor sends; what the socket does not take waits with the actor.
    pub fn send(&mut self, id: TcpId, actor: u64, bytes: &[u8]) {
        let Some(side) = self.side_of(id, actor) else { return };
        let end = self.end(id, side);
        if end.open && !end.fin_wanted {
            end.out.extend(bytes);
            self.pump(id, side);
        }
    }

    /// Bytes an actor has given that the socket has not taken yet.
    pub fn unsent(&self, id: TcpId, actor: u64) -> usize {
        self.side_of(id, actor).map_or(0, |side| self.tcps[&id].ends[side].out.len())
    }

    /// An actor stops or resumes reading.
    pub fn set_reading(&mut self, id: TcpId, actor: u64, reading: bool) {
        let Some(side) = self.side_of(id, actor) else { return };
        self.end(id, side).reading = reading;
        if reading {
            self.readable(id, side);
        }
    }

    /// An actor closes its way out and goes on reading.
    pub fn half_close(&mut self, id: TcpId, actor: u64) {
        let Some(side) = self.side_of(id, actor) else { return };
        self.end(id, side).fin_wanted = true;
        self.pump(id, side);
    }

    /// An actor closes. `reset`: what is on its way is lost.
    pub fn close(&mut self, id: TcpId, actor: u64, reset: bool) {
        if let Some(side) = self.side_of(id, actor) {
            self.close_end(id, side, reset);
        }
    }

    fn side_of(&self, id: TcpId, actor: u64) -> Option<usize> {
        let tcp = self.tcps.get(&id)?;
        tcp.ends.iter().position(|end| end.owner == Owner::Actor(actor) && end.open)
    }

    /// The end, which must exist.
    pub(super) fn end(&mut self, id: TcpId, side: usize) -> &mut TcpEnd {
        &mut self.tcps.get_mut(&id).expect("a connection in the table").ends[side]
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.seq += 1;
        self.events.insert((self.now + delay, self.seq), event);
    }

    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.faults.on && p > 0.0 && self.rng.random_bool(p)
    }

    fn tell(&mut self, actor: u64, id: TcpId, news: News) {
        self.news.push_back((actor, id, news));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Syn { tcp, to } => self.syn(tcp, to),
            Event::Established { tcp } => {
                if let Some(Owner::Actor(actor)) = self.tcps.get(&tcp).map(|t| t.ends[0].owner)
                    && self.tcps[&tcp].ends[0].open
                {
                    self.tell(actor, tcp, News::Connected);
                }
            }
            Event::Refused { tcp } => {
                if let Some(Owner::Actor(actor)) = self.tcps.remove(&tcp).map(|t| t.ends[0].owner) {
                    self.tell(actor, tcp, News::Refused);
                }
            }
            Event::Accept { port } => self.accept(port),
            Event::Arrive { tcp, to } => self.arrive(tcp, to),
            Event::Room { tcp, side } => self.pump(tcp, side),
            Event::Reset { tcp, to, why } => self.reset(tcp, to, why),
            Event::BuffersBack { port } => self.buffers_back(port),
        }
    }

    fn syn(&mut self, id: TcpId, to: To) {
        let Some(tcp) = self.tcps.get(&id) else { return };
        let back = Duration::from_micros(tcp.latency_us);
        match to {
            To::Actor(actor) if self.listening.contains(&actor) => {
                self.tell(actor, id, News::Incoming);
                self.after(back, Event::Established { tcp: id });
            }
            To::Actor(_) => self.after(back, Event::Refused { tcp: id }),
            To::Listener(listener) => {
                let group: Vec<usize> =
                    (0..self.ports.len()).filter(|&p| self.ports[p].listens(listener)).collect();
                if group.is_empty() {
                    return self.after(back, Event::Refused { tcp: id });
                }
                let port = group[self.rng.random_range(0..group.len())];
                self.ports[port].backlog.push_back((id, listener));
                self.after(back, Event::Established { tcp: id });
                self.after(Duration::ZERO, Event::Accept { port });
            }
        }
    }

    /// Puts bytes into an end's way out; returns how many it took.
    pub(super) fn flow(&mut self, id: TcpId, side: usize, data: &[u8]) -> usize {
        let room = {
            let pipe = &self.end(id, side).pipe;
            pipe.capacity - pipe.used
        };
        let taken = room.min(data.len());
        if taken == 0 {
            return 0;
        }
        let (latency, cut) = (self.tcps[&id].latency_us, self.tcps[&id].cut);
        let mut at = self.now + Duration::from_micros(latency);
        if self.chance(self.faults.stall) {
            let (low, high) = self.faults.stall_us;
            let stall = self.rng.random_range(low..=high);
            self.note(format_args!("net {id}.{side} stalls {} ms", stall / 1_000));
            at = at + Duration::from_micros(stall);
            // Where nothing gets through, acknowledgements do not either: both ways stand still.
            let back = &mut self.end(id, 1 - side).pipe;
            back.last_at = back.last_at.max(at);
        }
        at = at + Duration::from_micros(self.rng.random_range(0..=self.faults.jitter_us));
        at = at.max(self.end(id, side).pipe.last_at);
        let mut rest = &data[..taken];
        let mut cuts = 0;
        while !rest.is_empty() {
            cuts += 1;
            let size = match cut {
                Cut::Mtu => 1_460,
                Cut::Any if cuts < 16 => self.rng.random_range(1..=rest.len()),
                Cut::Bytes if cuts < 32 => 1,
                _ => rest.len(),
            };
            let (segment, tail) = rest.split_at(size.min(rest.len()));
            rest = tail;
            // Small, because it adds up: a stream in single bytes shall not be slower than a modem.
            at = at + Duration::from_micros(self.rng.random_range(0..=20));
            let pipe = &mut self.end(id, side).pipe;
            pipe.flight.push_back(Segment::Data(segment.to_vec()));
            self.seq += 1;
            self.events.insert((at, self.seq), Event::Arrive { tcp: id, to: 1 - side });
        }
        let pipe = &mut self.end(id, side).pipe;
        pipe.used += taken;
        pipe.last_at = at;
        if self.chance(self.faults.reset) {
            self.note(format_args!("net {id} reset in flight"));
            let delay = Duration::from_micros(self.rng.random_range(0..=latency * 2));
            self.after(delay, Event::Reset { tcp: id, to: 0, why: IoEnd::Reset });
            self.after(delay, Event::Reset { tcp: id, to: 1, why: IoEnd::Reset });
        }
        taken
    }

    /// Sends what waits at an end, as far as there is room.
    fn pump(&mut self, id: TcpId, side: usize) {
        let Some(tcp) = self.tcps.get(&id) else { return };
        let end = &tcp.ends[side];
        if !end.open {
            return;
        }
        if let Owner::Port(port, conn) = end.owner {
            return self.pump_port(port, conn);
        }
        let mut out = std::mem::take(&mut self.end(id, side).out);
        let taken = self.flow(id, side, out.make_contiguous());
        out.drain(..taken);
        let empty = out.is_empty();
        let end = self.end(id, side);
        end.out = out;
        if empty && end.fin_wanted {
            self.fin(id, side);
        }
    }

    fn fin(&mut self, id: TcpId, side: usize) {
        let earliest = self.now + Duration::from_micros(self.tcps[&id].latency_us);
        let pipe = &mut self.end(id, side).pipe;
        if pipe.fin_sent {
            return;
        }
        pipe.fin_sent = true;
        pipe.flight.push_back(Segment::Fin);
        pipe.last_at = pipe.last_at.max(earliest);
        let at = pipe.last_at;
        self.seq += 1;
        self.events.insert((at, self.seq), Event::Arrive { tcp: id, to: 1 - side });
    }

    fn arrive(&mut self, id: TcpId, to: usize) {
        let Some(tcp) = self.tcps.get_mut(&id) else { return };
        let pipe = &mut tcp.ends[1 - to].pipe;
        match pipe.flight.pop_front() {
            None => return,
            Some(Segment::Fin) => pipe.fin_arrived = true,
            Some(Segment::Data(bytes)) => {
                if !tcp.ends[to].open {
                    // Data for a closed socket: the kernel there answers with a reset.
                    let back = Duration::from_micros(tcp.latency_us);
                    return self.after(back, Event::Reset { tcp: id, to: 1 - to, why: IoEnd::Reset });
                }
                tcp.ends[1 - to].pipe.arrived.extend(bytes);
            }
        }
        self.readable(id, to);
    }

    /// An end has something to read, or the end of the stream.
    pub(super) fn readable(&mut self, id: TcpId, to: usize) {
        let Some(tcp) = self.tcps.get_mut(&id) else { return };
        match tcp.ends[to].owner {
            Owner::Nobody => {}
            Owner::Port(port, conn) => self.try_receive(port, conn),
            Owner::Actor(actor) => {
                if !tcp.ends[to].open || !tcp.ends[to].reading {
                    return;
                }
                let bytes: Vec<u8> = tcp.ends[1 - to].pipe.arrived.drain(..).collect();
                let fin = std::mem::take(&mut tcp.ends[1 - to].pipe.fin_arrived);
                if !bytes.is_empty() {
                    self.freed(id, 1 - to, bytes.len());
                    self.tell(actor, id, News::Bytes(bytes));
                }
                if fin {
                    self.tell(actor, id, News::Fin);
                }
            }
        }
    }

    /// The receiver took bytes: the sender hears of the room after the way back.
    pub(super) fn freed(&mut self, id: TcpId, sender: usize, bytes: usize) {
        self.end(id, sender).pipe.used -= bytes;
        let back = Duration::from_micros(self.tcps[&id].latency_us);
        self.after(back, Event::Room { tcp: id, side: sender });
    }

    fn reset(&mut self, id: TcpId, to: usize, why: IoEnd) {
        let Some(tcp) = self.tcps.get_mut(&id) else { return };
        let end = &mut tcp.ends[to];
        if !end.open || end.dead.is_some() {
            return;
        }
        end.dead = Some(why);
        end.out.clear();
        tcp.ends[1 - to].pipe.arrived.clear();
        tcp.ends[1 - to].pipe.flight.clear();
        match tcp.ends[to].owner {
            Owner::Nobody => {}
            Owner::Port(port, conn) => {
                self.fail_send(port, conn, why);
                self.try_receive(port, conn);
            }
            Owner::Actor(actor) => {
                tcp.ends[to].open = false;
                self.tell(actor, id, News::Reset);
                self.forget(id);
            }
        }
    }

    /// Closes an end: what it holds unread is dropped, the other end hears.
    pub(super) fn close_end(&mut self, id: TcpId, side: usize, reset: bool) {
        let Some(tcp) = self.tcps.get_mut(&id) else { return };
        if !std::mem::replace(&mut tcp.ends[side].open, false) {
            return;
        }
        let back = Duration::from_micros(tcp.latency_us);
        tcp.ends[side].out.clear();
        let unread = !tcp.ends[1 - side].pipe.arrived.is_empty();
        tcp.ends[1 - side].pipe.arrived.clear();
        if tcp.ends[side].dead.is_none() {
            if reset || unread {
                // As Linux does: closing with unread data, or with SO_LINGER 0, resets.
                tcp.ends[side].pipe.flight.clear();
                self.after(back, Event::Reset { tcp: id, to: 1 - side, why: IoEnd::Reset });
            } else {
                self.fin(id, side);
            }
        }
        self.forget(id);
    }

    fn forget(&mut self, id: TcpId) {
        if self.tcps[&id].ends.iter().all(|end| !end.open) {
            self.tcps.remove(&id);
        }
    }

    /// Connections that some end still holds.
    pub fn connections(&self) -> usize {
        self.tcps.len()
    }
}
