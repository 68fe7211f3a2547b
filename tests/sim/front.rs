//! The clients in front: stub clients of all kinds and transports that come, misbehave on the network, leave and come back.
//!
//! All of them are honest in what they say (bad input has tests of its own), so the relay has no reason to end one for
//! a broken rule. A witness reads along on each connection.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bitcoin::Transaction;
use bitcoin::hashes::Hash as _;
use breakwater::base::Instant;
use breakwater::base::limits::WAITING_TX_EXPIRY;
use breakwater::io::ListenerId;
use breakwater::stub::MAGIC;
use breakwater::stub::client::{Broken, Client, Kind};
use breakwater::wire::Hash;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::kernel::SharedNet;
use super::net::{News, To};
use super::pipe::TcpId;
use super::transport::{Over, Speaks, TlsClients, Transport};
use super::truth::{Truth, short};
use super::witness::Witness;

/// A client that was cut off comes back within this.
const RETURN: Duration = Duration::from_secs(5);

/// A client, connected or not.
#[derive(Debug)]
struct Guest {
    stub: Client,
    witness: Witness,
    speaks: Speaks,
    /// Of this connection, once it stands.
    transport: Transport,
    tcp: Option<TcpId>,
    /// True exactly when `start` was called on this connection.
    connected: bool,
    reading: bool,
    /// When it connects anew; `None` while connected.
    back_at: Option<Instant>,
    /// Transactions given to it, with the starts of the relay counted then, and when.
    wallet: Vec<(Hash, u32, Instant)>,
    /// Connections it has lost since its last transaction was given to it.
    losses: u32,
}

/// The clients.
#[derive(Debug)]
pub struct Front {
    net: SharedNet,
    rng: SmallRng,
    tls: Rc<TlsClients>,
    guests: BTreeMap<u64, Guest>,
    next: u64,
    /// Connections that ended without the client's doing.
    pub cut: u64,
    /// Transactions announced to clients.
    pub tx_invs: u64,
    /// Blocks announced to clients.
    pub block_news: u64,
}

impl Front {
    /// No clients yet.
    pub fn new(net: SharedNet, seed: u64, tls: Rc<TlsClients>) -> Front {
        let rng = SmallRng::seed_from_u64(seed ^ 0x6775_6573);
        Front { net, rng, tls, guests: BTreeMap::new(), next: 0, cut: 0, tx_invs: 0, block_news: 0 }
    }

    /// Number of clients, connected or coming back.
    pub fn len(&self) -> usize {
        self.guests.len()
    }

    /// A new client of any kind connects.
    pub fn come(&mut self) {
        let kind = match self.rng.random_range(0..7) {
            0 => Kind::Listener,
            1 => Kind::InvListener,
            2 => Kind::CompactNode,
            3 | 4 => Kind::Light { every: self.rng.random_range(0..4) },
            5 => Kind::Wallet,
            _ => Kind::Pinger { every: Duration::from_secs(2) },
        };
        let actor = self.next;
        self.next += 1;
        let stub = Client::new(kind, self.rng.random(), MAGIC);
        let guest = Guest {
            stub,
            witness: Witness::default(),
            speaks: Speaks::any(&mut self.rng),
            transport: Transport::Plain,
            tcp: None,
            connected: false,
            reading: true,
            back_at: None,
            wallet: Vec::new(),
            losses: 0,
        };
        self.guests.insert(actor, guest);
        self.connect(actor);
    }

    fn connect(&mut self, actor: u64) {
        let peer =
            ([127, 0, self.rng.random_range(0..4), self.rng.random_range(1..250)], 10_000 + actor as u16)
                .into();
        let guest = self.guests.get_mut(&actor).expect("a client of ours");
        let to = To::Listener(ListenerId(guest.speaks.listener()));
        let tcp = self.net.borrow_mut().connect(actor, to, peer);
        self.net.borrow_mut().note(format_args!(
            "client {actor} {:?} {:?} connects = net {tcp}",
            guest.stub.kind(),
            guest.speaks
        ));
        (guest.tcp, guest.connected, guest.back_at, guest.reading) = (Some(tcp), false, None, true);
        guest.witness = Witness::default();
    }

    fn any(&mut self) -> Option<u64> {
        let at = self.rng.random_range(0..self.guests.len().max(1));
        self.guests.keys().nth(at).copied()
    }

    /// Some client leaves for good, one way or another.
    pub fn leave(&mut self) {
        let Some(actor) = self.any() else { return };
        let reset = self.rng.random_bool(0.3);
        self.say_goodbye(actor);
        self.hang_up(actor, reset);
        self.guests.remove(&actor);
    }

    /// Some client closes its way out only; the relay takes that for the end.
    pub fn half_close(&mut self) {
        let Some(actor) = self.any() else { return };
        self.say_goodbye(actor);
        if let Some(tcp) = self.guests[&actor].tcp {
            self.net.borrow_mut().half_close(tcp, actor);
        }
    }

    /// Who closes may say so before, in TLS.
    fn say_goodbye(&mut self, actor: u64) {
        let polite = self.rng.random_bool(0.5);
        let guest = self.guests.get_mut(&actor).expect("a client of ours");
        // While keys are not agreed upon an alert is in the clear, and no goodbye but a broken rule.
        if let Some(tcp) = guest.tcp.filter(|_| polite && guest.connected && guest.transport.is_open()) {
            let mut out = Vec::new();
            guest.transport.close(&mut out);
            self.net.borrow_mut().send(tcp, actor, &out);
        }
    }

    /// Some client stops reading, or resumes.
    pub fn toggle_reading(&mut self) {
        let Some(actor) = self.any() else { return };
        let reading = !self.guests[&actor].reading;
        self.set_reading(actor, reading);
    }

    fn set_reading(&mut self, actor: u64, reading: bool) {
        let guest = self.guests.get_mut(&actor).expect("a client of ours");
        guest.reading = reading;
        if let Some(tcp) = guest.tcp {
            self.net.borrow_mut().set_reading(tcp, actor, reading);
        }
    }

    /// Everybody reads.
    pub fn all_read(&mut self) {
        let actors: Vec<u64> = self.guests.keys().copied().collect();
        actors.into_iter().for_each(|actor| self.set_reading(actor, true));
    }

    /// Gives a transaction to some wallet, or to two; false when there is no wallet.
    pub fn submit(&mut self, tx: &Transaction, starts: u32) -> bool {
        let wallets = self.guests.iter().filter(|(_, guest)| guest.stub.kind() == Kind::Wallet);
        let mut actors: Vec<u64> = wallets.map(|(actor, _)| *actor).collect();
        let copies = if self.rng.random_bool(0.3) { 2 } else { 1 };
        let wtxid = tx.compute_wtxid().to_byte_array();
        for _ in 0..copies.min(actors.len()) {
            let actor = actors.swap_remove(self.rng.random_range(0..actors.len()));
            let guest = self.guests.get_mut(&actor).expect("a client of ours");
            let mut out = Vec::new();
            guest.stub.submit(tx, &mut out);
            guest.wallet.push((wtxid, starts, self.net.borrow().now()));
            guest.losses = 0;
            self.net.borrow_mut().note(format_args!("client {actor} submits {}", short(&wtxid)));
            self.say(actor, &out);
        }
        copies > 0 && !self.guests.is_empty()
    }

    fn say(&mut self, actor: u64, out: &[u8]) {
        let Some(guest) = self.guests.get_mut(&actor) else { return };
        // What a wallet would say on a connection that does not stand yet it says again once it does.
        if let Some(tcp) = guest.tcp
            && guest.connected
            && !out.is_empty()
        {
            guest.witness.sent(out);
            let said = guest.witness.take_log();
            self.net.borrow_mut().note(format_args!("client {actor} > {said}"));
            let mut sealed = Vec::new();
            guest.transport.seal(out, &mut sealed);
            self.net.borrow_mut().send(tcp, actor, &sealed);
        }
    }

    fn hang_up(&mut self, actor: u64, reset: bool) {
        let guest = self.guests.get_mut(&actor).expect("a client of ours");
        self.tx_invs += guest.witness.tx_invs;
        self.block_news += guest.witness.block_news;
        if let Some(tcp) = guest.tcp.take() {
            self.net.borrow_mut().note(format_args!("client {actor} hangs up net {tcp}"));
            self.net.borrow_mut().close(tcp, actor, reset);
        }
    }

    /// When some client is due.
    pub fn next_wake(&self) -> Instant {
        let due = |guest: &Guest| match guest.back_at {
            Some(at) => at,
            None if guest.connected => guest.stub.next_wake(),
            None => Instant::FAR,
        };
        self.guests.values().map(due).min().unwrap_or(Instant::FAR)
    }

    /// Does what is due.
    pub fn run(&mut self) {
        let now = self.net.borrow().now();
        let actors: Vec<u64> = self.guests.keys().copied().collect();
        for actor in actors {
            let guest = self.guests.get_mut(&actor).expect("a client of ours");
            if guest.back_at.is_some_and(|at| at <= now) {
                self.connect(actor);
            } else if guest.connected && guest.stub.next_wake() <= now {
                let mut out = Vec::new();
                guest.stub.tick(now, &mut out);
                self.say(actor, &out);
            }
        }
    }

    /// News of a client's connection.
    pub fn hear(&mut self, actor: u64, tcp: TcpId, news: News, truth: &Truth) -> Result<(), String> {
        let now = self.net.borrow().now();
        let Some(guest) = self.guests.get_mut(&actor).filter(|guest| guest.tcp == Some(tcp)) else {
            return Ok(());
        };
        let mut out = Vec::new();
        match news {
            News::Connected => {
                guest.connected = true;
                let mut first = Vec::new();
                guest.transport = Transport::new(guest.speaks, &self.tls, &mut self.rng, &mut first);
                self.net.borrow_mut().send(tcp, actor, &first);
                guest.stub.start(now, &mut out);
            }
            News::Bytes(bytes) => {
                let (kind, speaks) = (guest.stub.kind(), guest.speaks);
                let complain =
                    |why: String| format!("client {actor} {kind:?} {speaks:?} on net {tcp}: {why}");
                let (mut plain, mut reply) = (Vec::new(), Vec::new());
                match guest.transport.open(bytes, &mut plain, &mut reply) {
                    // The end of the stream follows.
                    Ok(()) | Err(Over::Closed) => {}
                    Err(over) => return Err(complain(format!("its transport: {over:?}"))),
                }
                self.net.borrow_mut().send(tcp, actor, &reply);
                let bytes = plain;
                let good = guest.witness.got(&bytes, truth);
                let heard = guest.witness.take_log();
                if !heard.is_empty() {
                    self.net.borrow_mut().note(format_args!("client {actor} < {heard}"));
                }
                good.map_err(complain)?;
                match guest.stub.received(now, &bytes, &mut out) {
                    Ok(()) => _ = guest.stub.events(),
                    // The relay said truly that it has no node, or so much came at once after a stall that a stub, which
                    // keeps no branches, lost the thread: the client leaves and comes back.
                    Err(Broken::Services(_) | Broken::Unconnected) => {
                        guest.back_at = Some(now + RETURN);
                        guest.connected = false;
                        self.hang_up(actor, false);
                        return Ok(());
                    }
                    Err(broken) => return Err(complain(broken.to_string())),
                }
            }
            News::Fin | News::Reset | News::Refused => {
                guest.losses += 1;
                self.cut += u64::from(news != News::Refused);
                let pause = self.rng.random_range(0..RETURN.as_micros() as u64);
                guest.back_at = Some(now + Duration::from_micros(pause));
                guest.connected = false;
                self.net.borrow_mut().note(format_args!("client {actor} loses net {tcp}: {news:?}"));
                self.hang_up(actor, false);
            }
            News::Incoming => {}
        }
        self.say(actor, &out);
        Ok(())
    }

    /// What is not yet as it must be at the end: who has not the best tip, who waits for an answer, which
    /// transaction is not with a node although its wallet stayed connected.
    pub fn unsettled(&self, tip: &Hash, starts: u32, truth: &Truth) -> Vec<String> {
        let mut out = Vec::new();
        for (actor, guest) in &self.guests {
            let who = format!("client {actor} {:?} on net {:?}", guest.stub.kind(), guest.tcp);
            let (height, hash) = guest.stub.tip();
            if !guest.connected || !guest.stub.is_ready() {
                out.push(format!("{who} is not served"));
                continue;
            }
            if hash != *tip {
                out.push(format!("{who} is at {height} {}", short(&hash)));
            }
            if let Kind::Light { .. } = guest.stub.kind()
                && guest.stub.filters_to() != Some(height)
            {
                out.push(format!("{who} has filters to {:?} of {height}", guest.stub.filters_to()));
            }
            out.extend(
                guest.witness.unanswered(truth).into_iter().map(|what| format!("{who} waits for {what}")),
            );
            for (wtxid, then, at) in &guest.wallet {
                // After a jump of the clock it may have expired while it waited for a node.
                let waits = self.net.borrow().now().since(*at) < WAITING_TX_EXPIRY;
                if waits
                    && *then == starts
                    && guest.losses == 0
                    && !truth.is_accepted(wtxid)
                    && !truth.is_submitted(wtxid)
                {
                    out.push(format!("{who}: its transaction {} was given to no node", short(wtxid)));
                }
            }
        }
        out
    }

    /// Clients connected.
    pub fn connected(&self) -> usize {
        self.guests.values().filter(|guest| guest.connected).count()
    }
}
