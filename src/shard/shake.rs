//! Handshakes of transports: how many at a time, how many a second, how many steps a turn.
//!
//! A TLS handshake costs 90 us and 4 KB, a key exchange of BIP324 about as much time: a million clients that come back at once
//! are a hundred seconds of a core. So those who are connected go first: a turn takes a few steps only, and fewer while
//! something is announced. Full and resumed TLS handshakes and key exchanges each have a rate; who is over it waits. When the
//! handshakes in progress are as many as allowed, TLS listeners accept no more (newcomers wait in the kernel's queue). Plain clients
//! come by the same port as key exchanges, so there those whose key has not come give way, then the slow; else the newcomer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::core::{Client, Core, ListenerKind, ShardConfig};
use crate::base::limits::{
    STEP_TIME, STEP_TIME_IN_SWEEP, STEPS_IN_SWEEP, STEPS_PER_TURN, TRANSPORT_HANDSHAKES_LEAST,
    TRANSPORT_TIMEOUT_PRESSED, WAITING_EXCHANGES,
};
use crate::base::{ClientId, End, Instant};
use crate::client::Flags;
use crate::io::{Kernel, ListenerId, Op};
use crate::transport::tls::{self, Hello};
use crate::transport::v2;
use crate::transport::{Channel, Role, Shake};

/// Handshakes a shard may have in progress, and begin per second. 0 per second: no limit.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeLimits {
    /// In progress: TLS and BIP324 each.
    pub most: u32,
    /// Full TLS handshakes a second.
    pub full: u32,
    /// Resumed TLS handshakes a second.
    pub resumed: u32,
    /// BIP324 key exchanges a second.
    pub v2: u32,
}

impl HandshakeLimits {
    /// No limit but the number in progress.
    pub const fn free(most: u32) -> HandshakeLimits {
        HandshakeLimits { most, full: 0, resumed: 0, v2: 0 }
    }

    /// One shard's part of what is allowed to all.
    pub fn share(self, shards: u32) -> HandshakeLimits {
        let rate = |all: u32| if all == 0 { 0 } else { (all / shards.max(1)).max(1) };
        HandshakeLimits {
            most: (self.most / shards.max(1)).max(TRANSPORT_HANDSHAKES_LEAST),
            full: rate(self.full),
            resumed: rate(self.resumed),
            v2: rate(self.v2),
        }
    }
}

/// Clients that wait until their kind of handshake may begin.
#[derive(Debug)]
struct Gate {
    waiting: VecDeque<ClientId>,
    /// Per second; 0: no limit.
    rate: u32,
    /// Handshakes that may begin now, in thousandths; below zero when one cost more than it was let in for.
    tokens: i64,
    at: Instant,
}

impl Gate {
    fn new(rate: u32, now: Instant) -> Gate {
        Gate { waiting: VecDeque::new(), rate, tokens: burst(rate), at: now }
    }

    /// The next that may begin. Those that are not `there` any more cost nothing: otherwise a crowd that has given up waiting
    /// would use up the rate of those who came after it, and they would give up as well.
    fn pop(&mut self, now: Instant, there: &mut impl FnMut(ClientId) -> bool) -> Option<ClientId> {
        while self.waiting.front().is_some_and(|id| !there(*id)) {
            self.waiting.pop_front();
        }
        if self.rate > 0 {
            let since = i64::try_from(now.since(self.at).as_micros()).unwrap_or(i64::MAX);
            let rate = i64::from(self.rate);
            let new = since.saturating_mul(rate) / 1_000;
            if new > 0 {
                // What is left of a thousandth counts next time.
                let spent = u64::try_from(new.saturating_mul(1_000) / rate).unwrap_or(0);
                self.at = self.at + Duration::from_micros(spent);
                self.tokens = self.tokens.saturating_add(new).min(burst(self.rate));
            }
            if self.tokens < 1_000 || self.waiting.is_empty() {
                return None;
            }
        }
        let next = self.waiting.pop_front()?;
        if self.rate > 0 {
            self.charge();
        }
        Some(next)
    }

    /// One more has begun.
    fn charge(&mut self) {
        self.tokens = self.tokens.saturating_sub(1_000).max(-burst(self.rate));
    }

    /// When the next may begin.
    fn due(&self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        if self.rate == 0 || self.tokens >= 1_000 {
            return Some(now);
        }
        let missing = u64::try_from(1_000 - self.tokens).unwrap_or(0);
        let missing = missing.saturating_mul(1_000).div_ceil(u64::from(self.rate));
        Some(self.at + Duration::from_micros(missing))
    }
}

/// A tenth of a second's worth, one at least.
fn burst(rate: u32) -> i64 {
    (i64::from(rate) * 100).max(1_000)
}

/// How many transport handshakes there are now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HandshakesInProgress {
    /// TLS: from the connection on.
    pub tls: u32,
    /// BIP324: from the first byte on.
    pub v2: u32,
    /// True exactly while TLS listeners accept nobody.
    pub held: bool,
}

/// The handshakes of a shard.
#[derive(Debug)]
pub(super) struct Shaking {
    acceptor: Option<tls::Acceptor>,
    /// Key material: seeded with 256 bits, a cipher's output.
    rng: StdRng,
    /// Those whose handshake has begun: they are finished before others begin.
    going: VecDeque<ClientId>,
    full: Gate,
    resumed: Gate,
    v2: Gate,
    /// Clients in the order they came, while their handshake may be in progress.
    tls_order: VecDeque<ClientId>,
    v2_order: VecDeque<ClientId>,
    /// The same for those whose key has not come.
    v2_probes: VecDeque<ClientId>,
    /// Handshakes in progress.
    tls_open: u32,
    v2_open: u32,
    most: u32,
    /// True exactly while TLS listeners accept nobody.
    held: bool,
}

impl Shaking {
    /// Takes the secret out of the configuration.
    pub(super) fn new(config: &mut ShardConfig, now: Instant) -> Shaking {
        let limits = config.handshakes;
        let secret = std::mem::take(&mut config.secret);
        Shaking {
            acceptor: config.tls.as_ref().map(tls::Acceptor::new),
            rng: StdRng::from_seed(secret),
            going: VecDeque::new(),
            full: Gate::new(limits.full, now),
            resumed: Gate::new(limits.resumed, now),
            v2: Gate::new(limits.v2, now),
            tls_order: VecDeque::new(),
            v2_order: VecDeque::new(),
            v2_probes: VecDeque::new(),
            tls_open: 0,
            v2_open: 0,
            most: limits.most.max(1),
            held: false,
        }
    }

    /// Other certificates from now on.
    pub(super) fn reload(&mut self, server: &Arc<tls::Server>) {
        self.acceptor = Some(tls::Acceptor::new(server));
    }

    /// Gives back the memory of a crowd that is gone.
    pub(super) fn forget(&mut self) {
        let gates = [&mut self.full, &mut self.resumed, &mut self.v2].map(|gate| &mut gate.waiting);
        let orders = [&mut self.going, &mut self.tls_order, &mut self.v2_order, &mut self.v2_probes];
        gates.into_iter().chain(orders).for_each(|order| *order = VecDeque::new());
    }

    /// A client has left.
    pub(super) fn left(&mut self, client: &Client) {
        self.tls_open -= u32::from(is_tls_handshake(client));
        self.v2_open -= u32::from(is_v2_exchange(client));
    }

    pub(super) fn in_progress(&self) -> HandshakesInProgress {
        HandshakesInProgress { tls: self.tls_open, v2: self.v2_open, held: self.held }
    }

    /// A client has come to a TLS listener.
    pub(super) fn came(&mut self, id: ClientId) {
        self.tls_open += 1;
        self.tls_order.push_back(id);
    }

    /// When a step is due.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.going.is_empty() {
            return Some(now);
        }
        let gates = [&self.full, &self.resumed, &self.v2];
        gates.into_iter().filter_map(|gate| gate.due(now)).min()
    }

    /// Whose step is next, and whether it was let in because it offers a ticket.
    fn next(&mut self, now: Instant, mut there: impl FnMut(ClientId) -> bool) -> Option<(ClientId, bool)> {
        if let Some(id) = self.going.pop_front() {
            return Some((id, false));
        }
        if let Some(id) = self.resumed.pop(now, &mut there) {
            return Some((id, true));
        }
        let next = self.full.pop(now, &mut there).or_else(|| self.v2.pop(now, &mut there));
        next.map(|id| (id, false))
    }
}

/// True exactly when the client counts among the TLS handshakes in progress.
fn is_tls_handshake(client: &Client) -> bool {
    matches!(client.channel, Channel::TlsFresh | Channel::TlsShaking(_))
}

/// True exactly when the client counts among the key exchanges in progress: those that wait for the client. One whose key is
/// here waits for us, holds a key of 64 bytes, and is no probe; it must not give way to the next.
fn is_v2_exchange(client: &Client) -> bool {
    matches!(client.channel, Channel::V2Shaking(_)) || is_probe(client)
}

/// True exactly when the key of an exchange has not come.
fn is_probe(client: &Client) -> bool {
    matches!(client.channel, Channel::V2Fresh) && !client.is(Flags::STEPPING)
}

/// What a step came to.
enum Stepped {
    Goes { channel: Channel, used: usize },
    Open { channel: Channel, used: usize },
    Failed(End),
}

fn stepped<H, S>(shake: Shake<H, S>, goes: fn(Box<H>) -> Channel, open: fn(Box<S>) -> Channel) -> Stepped {
    match shake {
        Shake::More { handshake, used } => Stepped::Goes { channel: goes(handshake), used },
        Shake::Done { session, used } => Stepped::Open { channel: open(session), used },
        Shake::Failed(end) => Stepped::Failed(end),
    }
}

impl Core {
    /// A client's first bytes begin a key exchange.
    pub(super) fn begin_v2(&mut self, id: ClientId) {
        if self.shaking.v2_open >= self.shaking.most && !self.make_room() {
            return self.end(id, End::HandshakeEvicted);
        }
        let now = self.now.secs();
        let Some(client) = self.clients.get_mut(id) else { return };
        client.channel = Channel::V2Fresh;
        client.message_begun = now;
        self.shaking.v2_open += 1;
        self.shaking.v2_probes.push_back(id);
    }

    /// Ends a key exchange for another: one whose key has not come, else the oldest that is slow. False when there is none.
    fn make_room(&mut self) -> bool {
        while let Some(probe) = self.shaking.v2_probes.pop_front() {
            if self.clients.get_mut(probe).is_some_and(|c| is_probe(c)) {
                self.end(probe, End::HandshakeEvicted);
                return true;
            }
        }
        let late = self.now.secs().saturating_sub(TRANSPORT_TIMEOUT_PRESSED.as_secs() as u32);
        while let Some(oldest) = self.shaking.v2_order.front().copied() {
            let open = self.clients.get_mut(oldest).filter(|c| is_v2_exchange(c)).map(|c| c.message_begun);
            if open.is_some_and(|begun| begun > late) {
                return false;
            }
            self.shaking.v2_order.pop_front();
            if open.is_some() {
                self.end(oldest, End::HandshakeEvicted);
                return true;
            }
        }
        false
    }

    /// There may be enough for the next step of a client's handshake: queues it.
    pub(super) fn want_step(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.is(Flags::STEPPING) {
            return;
        }
        let Some(active) = client.active.as_ref().filter(|a| !a.sealed.is_empty()) else { return };
        let queue = match &client.channel {
            Channel::TlsFresh => match tls::peek(&active.sealed) {
                Hello::Incomplete => return,
                Hello::Resuming => &mut self.shaking.resumed.waiting,
                Hello::Full => &mut self.shaking.full.waiting,
                Hello::Other => &mut self.shaking.going,
            },
            Channel::V2Fresh if active.sealed.len() < v2::KEY => return,
            Channel::V2Fresh => {
                let most = (WAITING_EXCHANGES * self.shaking.most) as usize;
                if self.shaking.v2.waiting.len() >= most {
                    return self.end(id, End::HandshakeEvicted);
                }
                self.shaking.v2_open -= 1;
                &mut self.shaking.v2.waiting
            }
            Channel::TlsShaking(_) | Channel::V2Shaking(_) => &mut self.shaking.going,
            Channel::Fresh | Channel::Plain | Channel::Tls(_) | Channel::V2(_) => return,
        };
        client.flags |= Flags::STEPPING;
        queue.push_back(id);
    }

    /// A turn's share of handshakes.
    pub(super) fn step_handshakes(&mut self, kernel: &impl Kernel) {
        let announcing = self.block_sweep.is_running() || self.tx_sweep.is_running();
        let (steps, time) =
            if announcing { (STEPS_IN_SWEEP, STEP_TIME_IN_SWEEP) } else { (STEPS_PER_TURN, STEP_TIME) };
        let mut until = None;
        for _ in 0..steps {
            // The clock is read only when there is something to do.
            if until.is_some_and(|until| kernel.now() >= until) {
                break;
            }
            let clients = &mut self.clients;
            let next = self.shaking.next(self.now, |id| clients.get_mut(id).is_some());
            let Some((id, claims)) = next else { break };
            until = until.or_else(|| Some(kernel.now() + time));
            self.step(id, claims);
        }
        self.watch_handshakes();
    }

    /// One step. `claims`: the client was let in as one that resumes.
    fn step(&mut self, id: ClientId, claims: bool) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.flags.remove(Flags::STEPPING);
        if matches!(client.channel, Channel::V2Fresh) {
            self.shaking.v2_open += 1;
            self.shaking.v2_order.push_back(id);
        }
        if client.flags.intersects(Flags::SENDING | Flags::CLOSING) {
            // Our last flight is on its way; `flow` comes back with its end.
            return;
        }
        let channel = std::mem::take(&mut client.channel);
        let was_tls = matches!(channel, Channel::TlsFresh | Channel::TlsShaking(_));
        let mut input = self.take_kept(id);
        let mut out = self.pool.take();
        let before = out.capacity();
        let result = match channel {
            Channel::TlsFresh => match self.shaking.acceptor.as_ref().map(tls::Acceptor::begin) {
                Some(Ok(handshake)) => {
                    let shake = handshake.step(&mut input, &mut out);
                    // A ticket that is not taken costs a full handshake.
                    let full = matches!(&shake, Shake::More { handshake, .. } if !handshake.is_resumed());
                    if claims && full {
                        self.counters.tls_tickets_refused += 1;
                        self.shaking.full.charge();
                    }
                    stepped(shake, Channel::TlsShaking, Channel::Tls)
                }
                Some(Err(end)) => Stepped::Failed(end),
                None => Stepped::Failed(End::TlsHandshake),
            },
            Channel::TlsShaking(handshake) => {
                stepped(handshake.step(&mut input, &mut out), Channel::TlsShaking, Channel::Tls)
            }
            Channel::V2Fresh => {
                let magic = self.config.magic;
                // A new state for each: whoever reads our memory later cannot make an earlier key again.
                let rng = &mut StdRng::from_rng(&mut self.shaking.rng);
                self.shaking.rng = StdRng::from_rng(rng);
                let handshake = v2::Handshake::new(Role::Responder, magic, rng, &mut out);
                stepped(handshake.step(&mut input, &mut out), Channel::V2Shaking, Channel::V2)
            }
            Channel::V2Shaking(handshake) => {
                stepped(handshake.step(&mut input, &mut out), Channel::V2Shaking, Channel::V2)
            }
            open => Stepped::Goes { channel: open, used: 0 },
        };
        self.counters.transport_steps += 1;
        self.pool.grown(before, &out);
        self.say_control(id, &out);
        self.pool.give(out);
        let goes = matches!(result, Stepped::Goes { .. });
        self.stepped_to(id, was_tls, result, input);
        if !goes {
            return self.flow(id);
        }
        // All that is here has been looked at: the next step is for what comes. `flow` would ask for one at once, for ever.
        self.send_control(id);
        self.settle(id);
    }

    fn stepped_to(&mut self, id: ClientId, is_tls: bool, result: Stepped, mut input: Vec<u8>) {
        let now = self.now.secs();
        let Some(client) = self.clients.get_mut(id) else { return self.give_input(input) };
        match result {
            Stepped::Goes { channel, used } => {
                client.channel = channel;
                // It has waited for us; now it is its turn.
                client.message_begun = now;
                input.drain(..used.min(input.len()));
                self.put_kept(id, input);
            }
            Stepped::Open { channel, used } => {
                let resumed = matches!(&channel, Channel::Tls(session) if session.is_resumed());
                client.channel = channel;
                self.opened(is_tls, resumed);
                input.drain(..used.min(input.len()));
                let result = self.take_sealed(id, &mut input);
                self.give_input(input);
                if let Err(end) = result {
                    self.fail(id, end);
                }
            }
            Stepped::Failed(end) => {
                // It stays only to hear the alert.
                client.channel = Channel::Plain;
                if is_tls {
                    self.shaking.tls_open -= 1;
                } else {
                    self.shaking.v2_open -= 1;
                }
                self.give_input(input);
                self.fail(id, end);
            }
        }
    }

    fn opened(&mut self, is_tls: bool, resumed: bool) {
        if is_tls {
            self.shaking.tls_open -= 1;
            self.tls_clients += 1;
            self.counters.tls_full += u64::from(!resumed);
            self.counters.tls_resumed += u64::from(resumed);
        } else {
            self.shaking.v2_open -= 1;
            self.v2_clients += 1;
            self.counters.v2_sessions += 1;
        }
    }

    /// Stops accepting on TLS listeners while too many handshakes are in progress, and ends those that are slow then.
    fn watch_handshakes(&mut self) {
        let most = self.shaking.most;
        if !self.shaking.held && self.shaking.tls_open >= most {
            self.shaking.held = true;
            self.counters.tls_held += 1;
            self.each_tls_listener(Op::Hold);
        } else if self.shaking.held && self.shaking.tls_open < most - most / 4 {
            self.shaking.held = false;
            self.each_tls_listener(Op::Listen);
        }
        let patience = TRANSPORT_TIMEOUT_PRESSED.as_secs() as u32;
        for _ in 0..STEPS_PER_TURN * 4 {
            let Some(id) = self.shaking.tls_order.front().copied() else { break };
            let client = self.clients.get_mut(id).filter(|c| is_tls_handshake(c));
            let open = client.map(|c| (c.message_begun.saturating_add(patience), c.is(Flags::STEPPING)));
            if open.is_some_and(|(late, _)| !self.shaking.held || self.now.secs() < late) {
                break;
            }
            self.shaking.tls_order.pop_front();
            match open {
                // It waits for us.
                Some((_, true)) => self.shaking.tls_order.push_back(id),
                Some((_, false)) => self.end(id, End::TransportTimeout),
                None => {}
            }
        }
        self.tidy_orders();
    }

    /// One that is slow at the front keeps those behind it in the order though they are done.
    fn tidy_orders(&mut self) {
        let most = 4 * self.shaking.most as usize;
        let (clients, shaking) = (&mut self.clients, &mut self.shaking);
        for order in [&mut shaking.tls_order, &mut shaking.v2_order, &mut shaking.v2_probes] {
            if order.len() > most {
                order.retain(|id| clients.get_mut(*id).is_some_and(|c| !c.channel.is_open()));
            }
        }
        for gate in [&mut shaking.full, &mut shaking.resumed, &mut shaking.v2] {
            if gate.waiting.len() > 2 * most {
                gate.waiting.retain(|id| clients.get_mut(*id).is_some());
            }
        }
    }

    /// Listeners have been opened: those that speak TLS are held all the same while they have to be.
    pub(super) fn hold_again(&mut self) {
        if self.shaking.held {
            self.each_tls_listener(Op::Hold);
        }
    }

    fn each_tls_listener(&mut self, op: fn(ListenerId) -> Op) {
        if !self.is_listening() {
            return;
        }
        for (n, listener) in self.config.listeners.iter().enumerate() {
            if listener.kind == ListenerKind::Tls && !self.door.is_draining(listener.service) {
                self.ops.push(op(ListenerId(n as u8)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_left_use_up_no_rate() {
        let client = |slot| ClientId { slot, generation: 0 };
        let mut gate = Gate::new(1, Instant(0));
        gate.waiting.extend((0..100).map(client));
        // Only the last has not given up; one may begin at once, and one a second after it.
        let mut there = |id: ClientId| id.slot == 99;
        assert_eq!(gate.pop(Instant(0), &mut there), Some(client(99)));
        assert_eq!(gate.pop(Instant(0), &mut there), None);
        gate.waiting.push_back(client(99));
        assert_eq!(gate.pop(Instant(999_000_000), &mut there), None);
        assert_eq!(gate.pop(Instant(1_000_000_000), &mut there), Some(client(99)));
    }
}
