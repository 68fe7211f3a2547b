//! The shard without its kernel: state, entry points, clients coming and going.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::LONGEST_SLEEP;
use super::active::Active;
use super::agents::Agents;
use super::budget::Charge;
use super::counters::Counters;
use super::desk::Job;
use super::door::{Door, Listener, Service};
use super::holds::Holds;
use super::house::House;
use super::latency::Latency;
use super::listen::Coming;
use super::pool::{Pool, Shelf};
use super::regimes::{Regime, Regimes};
use super::shake::{HandshakeLimits, HandshakesInProgress, Shaking};
use super::table::Table;
use super::wheel::Wheel;
use crate::admission::{Bans, Costs, ProbeLimits, Shared, Throttle};
use crate::base::end::Side;
use crate::base::limits::{HEARD_TX, LEAVE_GROUP_MARGIN, MAX_HANDSHAKES, SEEN_TX};
use crate::base::{ClientId, End, Instant, Nonces, ShardId, UnixTime};
use crate::client::{self, Flags, Greeting};
use crate::feed::{BlockLog, ChainView, Heard, Seen, TxLog};
use crate::io::{Done, IoEnd, Kernel, ListenerId, Op};
use crate::link::{HouseRules, Policy, ShardEnd, ToHub};
use crate::transport::{Channel, tls};
use crate::wire::{Inv, Magic, Services};

pub(super) type Client = client::Client<Active>;

const _: () = assert!(size_of::<Client>() <= 160);

/// Boxes of active clients kept for the next ones, at most.
const KEPT_ACTIVE: usize = 1_024;
/// Large sends looked at in a turn, and remembered at most before those that are over are swept out.
const RELIEF_PER_TURN: usize = 64;
const LARGE_SENDS: usize = 65_536;
/// Seconds a large send may take when the buffers are used up.
const PRESSED_SECS: u32 = 2;

/// What is spoken on a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerKind {
    /// v1, and BIP324 when `ShardConfig::v2` says so.
    Plain,
    /// The same messages as v1, inside TLS.
    Tls,
}

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Its number.
    pub id: ShardId,
    /// The network's magic.
    pub magic: Magic,
    /// Clients it may hold.
    pub max_clients: u32,
    /// Connections per IPv4 address or IPv6 /64; 0 for no limit.
    pub max_per_address: u32,
    /// Its listeners (the kernel knows their addresses).
    pub listeners: Vec<Listener>,
    /// Its services: rules, and this shard's part of their slots.
    pub services: Vec<Service>,
    /// How often an identity may come as a probe: this shard's part.
    pub probe_limits: ProbeLimits,
    /// Networks that `probe_limits` does not hold for.
    pub probe_exempt: Vec<IpNet>,
    /// What requests cost.
    pub costs: Costs,
    /// Capacity of free clients that may be connected before the hub has said anything, cost units per second.
    pub capacity: u64,
    /// What clients get that have nothing of their own.
    pub house: HouseRules,
    /// Whether BIP324 is taken on plain listeners.
    pub v2: bool,
    /// Certificates and tickets, when a listener speaks TLS.
    pub tls: Option<Arc<tls::Server>>,
    /// Bounds of transport handshakes.
    pub handshakes: HandshakeLimits,
    /// Seed of key material; secret and different for every shard.
    pub secret: [u8; 32],
    /// How long transaction announcements are gathered.
    pub tx_interval: Duration,
    /// Bytes of buffers it may have in use.
    pub buffer_budget: usize,
    /// Clients swept per turn.
    pub sweep: usize,
    /// Nonces of the process.
    pub nonces: Nonces,
    /// Seed of what is random: ping nonces, hash tables.
    pub seed: u64,
}

/// Sizes of everything kept per client, in bytes, for `plan` and the snapshot test.
pub fn client_sizes() -> [(&'static str, usize); 4] {
    [
        ("client", size_of::<Client>()),
        ("table slot", Table::<Client>::SLOT_BYTES),
        ("timer entry", size_of::<ClientId>()),
        ("only while active", size_of::<Active>()),
    ]
}

/// The shard's state.
#[derive(Debug)]
pub struct Core {
    pub(super) config: ShardConfig,
    pub(super) now: Instant,
    pub(super) unix: UnixTime,
    pub(super) link: ShardEnd,
    pub(super) clients: Table<Client>,
    pub(super) wheel: Wheel,
    pub(super) pool: Pool,
    pub(super) counters: Counters,
    pub(super) regimes: Regimes,
    /// What the kernel had slept when the turn began.
    asleep: Duration,
    pub(super) latency: Latency,
    pub(super) door: Door,
    pub(super) house: House,
    pub(super) bans: Arc<Bans>,
    pub(super) shaking: Shaking,
    /// The names of the clients.
    pub(super) agents: Agents,
    /// The operator's questions, the one being worked on first.
    pub(super) jobs: VecDeque<Job>,
    pub(super) holds: Holds,
    /// Listeners that come and go.
    pub(super) coming: Coming,
    /// What the message being handled has taken from its client's flow control.
    pub(super) charge: Option<Charge>,
    /// Throttles of single clients.
    pub(super) throttles: HashMap<ClientId, Throttle>,
    /// Our part of those that many share.
    pub(super) shared: Shared,
    /// Clients whose TLS is open.
    pub(super) tls_clients: u32,
    /// Clients whose BIP324 is open.
    pub(super) v2_clients: u32,
    /// What a transport answers; empty between uses.
    pub(super) reply: Vec<u8>,
    pub(super) view: Arc<ChainView>,
    pub(super) blocks: BlockLog,
    pub(super) txs: TxLog,
    pub(super) seen: Seen,
    pub(super) heard: Heard,
    pub(super) policy: Arc<Policy>,
    /// True exactly when some client may have been told that filters are served: it is not to blame for asking.
    pub(super) filters_promised: bool,
    /// The `addr` and `addrv2` messages that answer getaddr.
    pub(super) addresses: (Bytes, Bytes),
    /// Bytes of messages in parts.
    pub(super) inputs: usize,
    /// Large sends in the order they began, with those that are over until they come to the front.
    pub(super) large_sends: VecDeque<(ClientId, u32)>,
    pub(super) ops: Vec<Op>,
    /// Entries for the hub that found its queue full.
    pub(super) outbox: VecDeque<ToHub>,
    pub(super) pushed: bool,
    /// Clients that wait for the hub's queue or for a buffer.
    pub(super) queued: VecDeque<ClientId>,
    /// Clients that wait for a filter.
    pub(super) filter_waiters: Vec<ClientId>,
    /// Transactions asked of clients.
    pub(super) asked: HashMap<ClientId, Vec<Inv>>,
    /// Boxes to be used again, so that a client in the middle of something costs no allocation.
    pub(super) spare: Shelf<Box<Active>>,
    /// Clients in the order they came, while their handshake may be incomplete.
    pub(super) handshakes: VecDeque<ClientId>,
    pub(super) in_handshake: u32,
    pub(super) ready: u32,
    pub(super) next_want: u32,
    pub(super) block_sweep: super::announce::Sweep,
    pub(super) tx_sweep: super::announce::Sweep,
    pub(super) fee_sweep: super::announce::Sweep,
    pub(super) next_seal: Instant,
    pub(super) next_report: Instant,
    pub(super) more_timers: bool,
    pub(super) crowds_gone: u32,
    listening: Listening,
    pub(super) draining: Option<Instant>,
    pub(super) drain_slot: u32,
    over: bool,
    pub(super) rng: SmallRng,
    pub(super) fired: Vec<ClientId>,
    pub(super) not_found: Vec<Inv>,
    pub(super) mail: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listening {
    /// The hub has not said `Open`, or the shard drains.
    No,
    Yes,
    /// The table is nearly full: the shard has left the group until there is room.
    Full,
}

impl Core {
    pub(super) fn new(mut config: ShardConfig, now: Instant, link: ShardEnd) -> Core {
        let common = config.services.first().map_or(1, |service| service.capacity);
        Core {
            clients: Table::new(config.max_clients),
            wheel: Wheel::new(now.secs()),
            door: Door::new(
                std::mem::take(&mut config.services),
                config.max_per_address,
                config.probe_limits,
                std::mem::take(&mut config.probe_exempt),
                config.seed,
            ),
            house: House::new(config.house, common, config.capacity, 0),
            bans: Arc::default(),
            shaking: Shaking::new(&mut config, now),
            agents: Agents::new(),
            jobs: VecDeque::new(),
            holds: Holds::default(),
            coming: Coming::default(),
            charge: None,
            throttles: HashMap::new(),
            shared: Shared::default(),
            tls_clients: 0,
            v2_clients: 0,
            reply: Vec::new(),
            view: Arc::new(ChainView::new(Arc::default(), Vec::new())),
            blocks: BlockLog::new(config.magic),
            txs: TxLog::new(config.magic),
            seen: Seen::new(SEEN_TX, config.seed),
            heard: Heard::new(HEARD_TX),
            policy: Arc::new(Policy { services: Services::empty(), fee_filter: 0, mempool: false }),
            filters_promised: false,
            rng: SmallRng::seed_from_u64(config.seed),
            next_report: now,
            next_seal: now,
            now,
            unix: 0,
            link,
            config,
            pool: Pool::default(),
            counters: Counters::default(),
            regimes: Regimes::new(now),
            asleep: Duration::ZERO,
            latency: Latency::default(),
            addresses: (Bytes::new(), Bytes::new()),
            inputs: 0,
            large_sends: VecDeque::new(),
            ops: Vec::new(),
            outbox: VecDeque::new(),
            pushed: false,
            queued: VecDeque::new(),
            filter_waiters: Vec::new(),
            asked: HashMap::new(),
            spare: Shelf::new(KEPT_ACTIVE),
            handshakes: VecDeque::new(),
            in_handshake: 0,
            ready: 0,
            next_want: 0,
            block_sweep: Default::default(),
            tx_sweep: Default::default(),
            fee_sweep: Default::default(),
            more_timers: false,
            crowds_gone: 0,
            listening: Listening::No,
            draining: None,
            drain_slot: 0,
            over: false,
            fired: Vec::new(),
            not_found: Vec::new(),
            mail: 0,
        }
    }

    /// `asleep`: what the kernel has slept since its start.
    pub(super) fn begin_turn(&mut self, now: Instant, unix: UnixTime, asleep: Duration) {
        self.regimes.charge_kernel(asleep.saturating_sub(self.asleep), now);
        self.asleep = asleep;
        self.now = now;
        self.unix = unix;
        self.counters.turns += 1;
    }

    /// What has passed since the clock was read last goes to this regime; `did`: it had something to do.
    pub(super) fn charge_if(&mut self, did: bool, regime: Regime, kernel: &impl Kernel) {
        if did {
            self.regimes.charge(regime, kernel.now());
        }
    }

    /// The operations of the turn go to the kernel now.
    pub(super) fn hands_over(&mut self, now: Instant) {
        self.latency.handed_over(now);
    }

    pub(super) fn link(&self) -> &ShardEnd {
        &self.link
    }

    pub(super) fn take_ops(&mut self) -> std::vec::Drain<'_, Op> {
        self.ops.drain(..)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// How often the last client has gone and with it the memory of all: whoever owns the allocator may return it to the host.
    pub fn crowds_gone(&self) -> u32 {
        self.crowds_gone
    }

    /// Clients connected now.
    pub fn clients(&self) -> u32 {
        self.clients.len()
    }

    /// The counters so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where its time went.
    pub fn regimes(&self) -> &Regimes {
        &self.regimes
    }

    /// Bytes of buffers in use.
    pub fn buffer_bytes(&self) -> usize {
        self.pool.out()
    }

    /// Transport handshakes in progress, for tests.
    pub fn transport_handshakes(&self) -> HandshakesInProgress {
        self.shaking.in_progress()
    }

    /// The parts of a turn behind the completions.
    pub(super) fn run(&mut self, kernel: &impl Kernel) {
        let hub = !self.outbox.is_empty() || !self.queued.is_empty();
        let hub = self.read_mail() || hub;
        self.wake_queued();
        self.charge_if(hub, Regime::Link, kernel);
        let swept = self.sweep();
        self.charge_if(swept, Regime::Announce, kernel);
        let steps = self.counters.transport_steps;
        self.step_handshakes(kernel);
        self.charge_if(self.counters.transport_steps != steps, Regime::Handshake, kernel);
        let asked = !self.jobs.is_empty() || self.holds.next().is_some() || self.house.is_busy();
        self.end_holds();
        self.work_jobs();
        self.keep_house();
        self.charge_if(asked, Regime::Operator, kernel);
        self.run_timers();
        self.relieve();
        self.watch_room();
        self.report(kernel.counters());
        self.drain(kernel.counters());
        if std::mem::take(&mut self.pushed) {
            self.link.ring_hub();
        }
        self.charge_if(true, Regime::Timers, kernel);
    }

    /// When the shard must run again though nothing happens.
    pub(super) fn next_wake(&self, now: Instant) -> Instant {
        let busy = self.mail > 0
            || !self.jobs.is_empty()
            || self.house.is_busy()
            || self.more_timers
            || self.block_sweep.is_running()
            || self.tx_sweep.is_running()
            || self.fee_sweep.is_running();
        if busy {
            return now;
        }
        // The hub's queue has no bell for room in it, a buffer none for being free: look again soon.
        if !self.outbox.is_empty() || !self.queued.is_empty() || self.draining.is_some() {
            return now + Duration::from_millis(1);
        }
        let mut next = now + LONGEST_SLEEP;
        if self.txs.is_unsealed() {
            next = next.min(self.next_seal);
        }
        if let Some(due) = self.shaking.due(now) {
            next = next.min(due);
        }
        if let Some(due) = self.holds.next() {
            next = next.min(due);
        }
        next.min(self.next_report)
    }

    /// A completion other than bytes.
    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Accepted { listener, conn, peer } => self.accepted(listener, conn, peer),
            Done::AcceptFailed { .. } => self.counters.accept_failed += 1,
            Done::Bound { listener, result } => self.bound(listener, result),
            Done::Unbound(listener) => self.unbound(listener),
            Done::Sent { client, payload, result } => self.sent(client, payload, result),
            Done::ReceiveEnded { client, why } => self.receive_ended(client, why),
            Done::Read { client, buffer, result } => self.file_read(client, buffer, result),
            // Bytes go through `received`, mail is looked at each turn.
            Done::Received { .. } | Done::Doorbell => {}
        }
    }

    /// Gives the memory of the order of handshakes back; call when no client is there.
    pub(super) fn forget_handshakes(&mut self) {
        self.handshakes = VecDeque::new();
    }

    /// The oldest handshake gives way when there are too many, so that slow ones cannot keep others out.
    pub(super) fn bound_handshakes(&mut self) {
        while let Some(id) = self.handshakes.front().copied() {
            let open = self.clients.get_mut(id).is_some_and(|c| !c.is(Flags::READY));
            if open && (self.in_handshake as usize) <= MAX_HANDSHAKES {
                break;
            }
            self.handshakes.pop_front();
            if open {
                self.end(id, End::HandshakeEvicted);
            }
        }
    }

    pub(super) fn handshake_done(&mut self, id: ClientId) {
        self.counters.handshakes += 1;
        self.in_handshake -= 1;
        self.ready += 1;
        let (blocks, txs) = (self.blocks.head(), self.txs.sealed());
        if let Some(client) = self.clients.get_mut(id) {
            (client.blocks, client.txs) = (blocks, txs);
        }
    }

    fn receive_ended(&mut self, id: ClientId, why: IoEnd) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.flags.remove(Flags::RECEIVING);
        let end = match why {
            IoEnd::Closed if client.is(Flags::PARTIAL) => End::Truncated,
            IoEnd::Closed if matches!(client.channel, Channel::Tls(_)) => End::NoCloseNotify,
            IoEnd::Closed => End::Closed,
            IoEnd::Reset => End::Reset,
            IoEnd::Error(_) => End::ReceiveError,
        };
        self.end(id, end);
    }

    /// Ends a client: everything it held goes back, its reason is counted once.
    pub(super) fn end(&mut self, id: ClientId, end: End) {
        let Some(mut client) = self.clients.remove(id) else { return };
        // The first reason counts: a client that is being told why may still reset the connection.
        let end = client.active.as_ref().and_then(|active| active.closing).unwrap_or(end);
        self.counters.end(end);
        self.shaking.left(&client);
        self.forget_holds(id, client.flags);
        self.tls_clients -= u32::from(matches!(client.channel, Channel::Tls(_)));
        self.v2_clients -= u32::from(matches!(client.channel, Channel::V2(_)));
        if client.is(Flags::READY) {
            self.ready -= 1;
        } else {
            self.in_handshake -= 1;
        }
        self.left(id, &client, end);
        if let Some(active) = client.active.take() {
            self.give_active(active);
        }
        for inv in self.asked.remove(&id).unwrap_or_default() {
            self.tell_hub(ToHub::TxNotFound { client: id, inv });
        }
        // What is queued in the socket of a client that takes nothing would hold kernel memory for minutes.
        // A last word has been taken by the socket before this, even in the middle of a message, and a reset would take it back.
        let unfinished = client.is(Flags::MID_MESSAGE) && !client.is(Flags::CLOSING);
        let reset = client.is(Flags::SENDING) || unfinished;
        // Behind a send that failed nothing can be opened any more.
        if !reset && end.side() != Side::Left && end != End::SendError {
            self.say_goodbye(id, &mut client);
        }
        self.ops.push(Op::Close { client: id, conn: client.conn, reset });
    }

    /// A box for a client in the middle of something.
    pub(super) fn take_active(&mut self) -> Box<Active> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn give_active(&mut self, mut active: Box<Active>) {
        self.pool.release(std::mem::take(&mut active.held));
        let input = std::mem::take(&mut active.input);
        self.give_input(input);
        let sealed = std::mem::take(&mut active.sealed);
        self.give_input(sealed);
        self.pool.give(std::mem::take(&mut active.control));
        self.pool.give(std::mem::take(&mut active.pending));
        self.pool.give(active.chunk.take().unwrap_or_default());
        active.reset();
        self.spare.push(active);
    }

    /// Gives back the memory of a message in parts.
    pub(super) fn give_input(&mut self, input: Vec<u8>) {
        self.inputs = self.inputs.saturating_sub(input.capacity());
        self.pool.give(input);
    }

    /// Frees memory that clients hold by not taking what they asked for, and forgets sends that are over. Deadlines of
    /// minutes are for a shard with room: when the budget is used up, two seconds are enough.
    fn relieve(&mut self) {
        for _ in 0..RELIEF_PER_TURN {
            let Some((id, begun)) = self.large_sends.front().copied() else { return };
            let open =
                self.clients.get_mut(id).is_some_and(|c| c.is(Flags::SENDING) && c.send_begun == begun);
            if open {
                let patient = self.pool.out() <= self.config.buffer_budget;
                if patient || self.now.secs() < begun.saturating_add(PRESSED_SECS) {
                    break;
                }
                self.end(id, End::Stalled);
            }
            self.large_sends.pop_front();
        }
        if self.large_sends.len() > LARGE_SENDS {
            let clients = &mut self.clients;
            self.large_sends.retain(|(id, begun)| {
                clients.get_mut(*id).is_some_and(|c| c.is(Flags::SENDING) && c.send_begun == *begun)
            });
        }
    }

    /// Leaves the listening group before the table is full, and comes back when there is room again.
    fn watch_room(&mut self) {
        let margin = LEAVE_GROUP_MARGIN.min(self.config.max_clients / 8);
        let room = self.clients.room();
        // Whom the operator knows may still come: then we stay, and refuse the others.
        if self.listening == Listening::Yes && room <= margin && self.house.reserve(u32::MAX) == 0 {
            self.listening = Listening::Full;
            self.counters.left_group += 1;
            self.each_listener(Op::StopListening);
        } else if self.listening == Listening::Full && (room > 2 * margin || self.house.reserve(u32::MAX) > 0)
        {
            self.listening = Listening::Yes;
            self.each_listener(Op::Listen);
            self.hold_again();
        }
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening == Listening::Yes
    }

    pub(super) fn open_listeners(&mut self) {
        if self.listening == Listening::No && self.draining.is_none() {
            self.listening = Listening::Yes;
            self.each_listener(Op::Listen);
            // The hub hears of it in the next turn, when the kernel has been told.
            self.next_report = self.now + Duration::from_nanos(1);
        }
    }

    pub(super) fn close_listeners(&mut self) {
        if self.listening == Listening::Yes {
            self.each_listener(Op::StopListening);
        }
        self.listening = Listening::No;
    }

    fn each_listener(&mut self, op: fn(ListenerId) -> Op) {
        let listeners = self.config.listeners.iter().enumerate();
        let open = listeners.filter(|(_, listener)| !self.door.is_draining(listener.service));
        self.ops.extend(open.map(|(n, _)| op(ListenerId(n as u8))));
    }

    pub(super) fn finish(&mut self) {
        self.over = true;
    }

    /// What we say of ourselves now to clients of a service. The name is passed apart because it is borrowed.
    pub(super) fn greeting<'a>(&self, user_agent: &'a [u8], without: Services) -> Greeting<'a> {
        Greeting {
            magic: self.config.magic,
            services: self.policy.services - without,
            user_agent,
            height: self.view.tip_height(),
            unix: self.unix,
            nonces: self.config.nonces,
            fee_filter: self.policy.fee_filter,
        }
    }
}
