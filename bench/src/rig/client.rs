//! One client without its socket, sans-IO: the handshake and what all behaviours share; the rest is its behaviour's.
//!
//! Bytes and an instant in; bytes appended to `cx.out`, measures to `cx.tally`, a [`Flow`] out. Small on purpose: a million
//! of them are kept. A behaviour without state of its own costs no allocation.
//!
//! Does not check what it is told as a wallet must (that is `breakwater::stub::Client`); it reads every message whole, so
//! what cannot be parsed is counted and ends it.
//!
//! ```text
//!   Idle --start--> Greeting --verack--> Ready --> (ended: a new connection begins anew)
//!     \--reached--> Opening --start--^    (TLS, v2: the transport's own handshake comes first)
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use breakwater::base::limits::{MAX_HEADERS_ANNOUNCE, PROTOCOL_VERSION, WTXID_RELAY_VERSION};
use breakwater::base::{Instant, UnixTime};
use breakwater::wire::{Framing, InvList, Magic, Message, Step, Version, parse, write};
use rand::Rng as _;
use rand::rngs::SmallRng;

use super::behaviour::Behaviour;
use super::behaviour::shared::Shared;
use super::measure::Tally;
use super::origin::{Known, Origin, Origins};

/// A block so soon after a handshake may rightly not be announced: on a busy target our verack is read later than we sent it.
const EARLY_MS: u32 = 10_000;
/// Name said in `version`.
const USER_AGENT: &[u8] = b"/breakwater-rig:0.1/";

/// What a client may use while it handles something.
pub struct Context<'a> {
    /// Now.
    pub now: Instant,
    /// Unix time at `Instant(0)`.
    pub unix_start: UnixTime,
    /// The network's magic.
    pub magic: Magic,
    /// How messages stand in what its transport opens; what it sends is v1 messages in any case.
    pub framing: Framing,
    /// Whom it is connected to.
    pub target: SocketAddr,
    /// Every ready client is pinged once in this time; zero: none.
    pub ping_every: Duration,
    /// Number of this client in the whole rig; with the seed it decides what is random.
    pub number: u32,
    /// What it sends.
    pub out: &'a mut Vec<u8>,
    /// What its behaviour measures.
    pub tally: &'a mut Tally,
    /// What all clients of the process have in common.
    pub shared: &'a Shared,
    /// When things came into the world.
    pub origins: &'a Origins,
    /// What this worker knows of them.
    pub known: &'a mut Known,
    /// Random numbers of this worker.
    pub rng: &'a mut SmallRng,
}

/// What becomes of a connection after something was handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Flow {
    /// It goes on.
    Go,
    /// The client closes it, having done what it came for; what is queued is sent first.
    Leave,
    /// The client closes it because of what the target did; counted as an error of this name.
    Broken(&'static str),
}

/// How a client takes bytes off its socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// All there are, at once.
    All,
    /// So many bytes at a time, with this pause in microseconds.
    Sips {
        /// Bytes at a time.
        bytes: u16,
        /// Microseconds from one to the next.
        every_us: u32,
    },
    /// Never.
    Never,
}

/// Where a client stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    /// Not connected.
    #[default]
    Idle,
    /// Connected, the transport's handshake is not complete.
    Opening,
    /// The transport is open, the handshake is not complete.
    Greeting,
    /// The handshake is complete.
    Ready,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    behaviour: Box<dyn Behaviour>,
    /// Until it is ready: when it connected. When ready: the intended time of the ping under way, which is its nonce; 0 for none.
    since: u64,
    /// Number of the newest block it has heard of.
    block: u32,
    /// When its handshake was complete, milliseconds (wraps after 49 days).
    ready_at: u32,
    stage: Stage,
    /// True exactly when the target's version allows `wtxidrelay`.
    modern: bool,
    /// True exactly when no block was announced to it since its handshake: the target may have counted it in a moment
    /// later than it counted itself, so one block may rightly be missing.
    fresh: bool,
    /// True exactly when it has been connected, or ready, before: it is counted once.
    was_connected: bool,
    was_ready: bool,
}

const _: () = assert!(size_of::<Client>() <= 40);

impl Client {
    /// A client of this behaviour that has not connected yet.
    pub fn new(behaviour: Box<dyn Behaviour>) -> Client {
        Client {
            behaviour,
            since: 0,
            block: 0,
            ready_at: 0,
            stage: Stage::Idle,
            modern: false,
            fresh: false,
            was_connected: false,
            was_ready: false,
        }
    }

    /// The connection is there; its transport is opened first, then comes [`Client::start`].
    pub fn reached(&mut self, cx: &mut Context<'_>) {
        self.stage = Stage::Opening;
        self.since = cx.now.0;
        self.modern = false;
        cx.tally.counts.connections += 1;
        if !std::mem::replace(&mut self.was_connected, true) {
            cx.tally.counts.connected += 1;
        }
    }

    /// It may speak: the connection is there, and its transport is open.
    pub fn start(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.stage == Stage::Opening {
            cx.tally.transport.record(cx.now.since(Instant(self.since)));
        } else {
            self.reached(cx);
        }
        self.stage = Stage::Greeting;
        if let Some(flow) = self.behaviour.connected(cx) {
            return flow;
        }
        let hello = self.behaviour.hello();
        let version = Version {
            version: PROTOCOL_VERSION,
            services: hello.services,
            time: (cx.unix_start + u64::from(cx.now.secs())).cast_signed(),
            receiver: cx.target,
            nonce: cx.rng.random(),
            user_agent: USER_AGENT,
            start_height: hello.height,
            relay: hello.relay,
        };
        write::version(cx.out, cx.magic, &version);
        Flow::Go
    }

    /// Reads whole messages off the front of `bytes`; the number of bytes used, and what becomes of the connection.
    pub fn received(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> (usize, Flow) {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or(&[]);
            match cx.framing.split(rest) {
                Step::Need(_) => return (used, Flow::Go),
                Step::Message { command, payload, used: length } => {
                    used += length;
                    cx.tally.counts.messages_in += 1;
                    let flow = match parse(&command, payload) {
                        Ok(message) => self.message(cx, &message),
                        Err(_) => self.behaviour.unreadable(cx, "a message that cannot be read"),
                    };
                    if flow != Flow::Go {
                        return (used, flow);
                    }
                }
                Step::Drop { .. } => return self.unreadable(cx, bytes, "a message with a bad header"),
                Step::End(_) => return self.unreadable(cx, bytes, "a stream that cannot be read"),
            }
        }
    }

    /// Who goes on all the same throws away what came.
    fn unreadable(&mut self, cx: &mut Context<'_>, bytes: &[u8], why: &'static str) -> (usize, Flow) {
        (bytes.len(), self.behaviour.unreadable(cx, why))
    }

    /// Bytes needed from the front of an input that [`Client::received`] has not used up.
    pub fn needs(framing: Framing, bytes: &[u8]) -> usize {
        match framing.split(bytes) {
            Step::Need(bytes) => bytes,
            _ => 0,
        }
    }

    /// Its behaviour's time has come.
    pub fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.is_silent() { Flow::Go } else { self.behaviour.wake(cx) }
    }

    /// When its behaviour wants [`Client::wake`].
    pub fn next_wake(&self) -> Instant {
        if self.is_silent() { Instant::FAR } else { self.behaviour.next_wake() }
    }

    /// How it reads.
    pub fn reading(&self) -> Reading {
        self.behaviour.reading()
    }

    /// Sends a ping whose intended time is `due`, unless one is under way; true when it was sent.
    pub fn ping(&mut self, cx: &mut Context<'_>, due: Instant) -> bool {
        if self.stage != Stage::Ready || self.since != 0 || self.behaviour.is_mid_message() {
            return false;
        }
        self.since = due.0.max(1);
        cx.tally.counts.pings += 1;
        cx.tally.lateness.record(cx.now.since(due));
        write::ping(cx.out, cx.magic, self.since);
        true
    }

    /// The connection is over, whoever ended it. True when it was ready.
    pub fn ended(&mut self, tally: &mut Tally) -> bool {
        let ready = self.stage == Stage::Ready;
        if ready && self.since != 0 {
            tally.counts.pings_dropped += 1;
        }
        self.stage = Stage::Idle;
        self.since = 0;
        self.behaviour.ended(tally);
        ready
    }

    /// True exactly when its transport's handshake goes on.
    pub fn is_opening(&self) -> bool {
        self.stage == Stage::Opening
    }

    /// True exactly when it has nobody to speak to.
    fn is_silent(&self) -> bool {
        matches!(self.stage, Stage::Idle | Stage::Opening)
    }

    /// True exactly when the handshake of its connection is complete.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// True exactly when a ping of its own is under way.
    pub fn is_pinging(&self) -> bool {
        self.stage == Stage::Ready && self.since != 0
    }

    /// Blocks it has not heard of although it is there; the newest has this number and came into the world then.
    pub fn missed(&self, newest: u32, since: Instant) -> u32 {
        if !self.is_ready() || !self.behaviour.counts_blocks() {
            return 0;
        }
        let behind = newest.saturating_sub(self.block);
        if behind == 1 && self.fresh && self.is_early(since) { 0 } else { behind }
    }

    /// True when the target may have read our verack only after this moment; see `fresh`.
    fn is_early(&self, at: Instant) -> bool {
        at.millis().wrapping_sub(self.ready_at) < EARLY_MS || at.millis() < self.ready_at
    }

    /// See [`Behaviour::again_us`].
    pub fn again_us(&self) -> Option<u32> {
        self.behaviour.again_us()
    }

    /// What a connection that ends now means to its behaviour.
    pub fn on_end(&self) -> super::behaviour::OnEnd {
        self.behaviour.on_end()
    }

    /// See [`Behaviour::is_stubborn`].
    pub fn is_stubborn(&self) -> bool {
        self.behaviour.is_stubborn()
    }

    /// What to count as an error when the target ends the connection now.
    pub fn complaint(&self) -> Option<&'static str> {
        self.behaviour.complaint()
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        match message {
            Message::Version(version) if self.stage == Stage::Greeting => {
                self.modern = version.version >= WTXID_RELAY_VERSION;
                if self.modern && self.behaviour.hello().modern {
                    write::empty(cx.out, cx.magic, "wtxidrelay");
                    write::empty(cx.out, cx.magic, "sendaddrv2");
                }
                write::empty(cx.out, cx.magic, "verack");
            }
            Message::Verack if self.stage == Stage::Greeting => return self.ready(cx),
            Message::Ping(nonce) if !self.behaviour.is_mid_message() => write::pong(cx.out, cx.magic, *nonce),
            Message::Pong(nonce) if self.stage == Stage::Ready && *nonce == self.since && *nonce != 0 => {
                self.since = 0;
                cx.tally.counts.pongs += 1;
                cx.tally.ping.record_scheduled(cx.now.since(Instant(*nonce)), cx.ping_every);
            }
            Message::Inv(list) => self.inv(cx, list),
            Message::Headers(_) if self.behaviour.asks_headers() => {
                // Old blocks must not be taken for new ones. All that the others have heard of is in the answer, or will
                // be announced; and what is in the answer alone may never be.
                self.block = self.block.max(cx.origins.blocks());
                self.fresh = true;
                self.ready_at = cx.now.millis();
            }
            // A long list answers a question; an announcement is short.
            Message::Headers(list) if list.len() <= MAX_HEADERS_ANNOUNCE => {
                for header in list.iter() {
                    let hash = cx.known.hash(header);
                    self.block(cx, &hash);
                }
            }
            Message::CmpctBlock(bytes) => {
                if let Some(header) = bytes.first_chunk::<80>() {
                    let hash = cx.known.hash(header);
                    self.block(cx, &hash);
                }
            }
            _ => {}
        }
        self.behaviour.message(cx, message)
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        cx.tally.counts.handshakes += 1;
        if !std::mem::replace(&mut self.was_ready, true) {
            cx.tally.counts.handshaken += 1;
        }
        cx.tally.handshake.record(cx.now.since(Instant(self.since)));
        self.stage = Stage::Ready;
        self.since = 0;
        self.fresh = true;
        self.ready_at = cx.now.millis();
        self.block = cx.origins.blocks();
        self.behaviour.ready(cx)
    }

    fn inv(&mut self, cx: &mut Context<'_>, list: &InvList<'_>) {
        let (mut first, mut last, mut txs) = (None, None, 0);
        for inv in list.iter() {
            if !inv.kind.is_tx() {
                self.block(cx, &inv.hash);
                continue;
            }
            first = first.or(Some(inv.hash));
            last = Some(inv.hash);
            txs += 1;
        }
        let (Some(first), Some(last)) = (first, last) else { return };
        // All clients are told about the same ones: when both ends are known, so is what lies between.
        if !(cx.known.has_tx(&first) && cx.known.has_tx(&last)) {
            for inv in list.iter().filter(|inv| inv.kind.is_tx()) {
                cx.known.tx(cx.origins, &inv.hash, cx.now);
            }
        }
        // The first is the one that has waited longest.
        let Origin { at, .. } = cx.known.tx(cx.origins, &first, cx.now);
        cx.tally.tx_announce.record(cx.now.since(at));
        cx.tally.counts.txs_heard += txs;
    }

    /// A block was announced to it.
    fn block(&mut self, cx: &mut Context<'_>, hash: &breakwater::wire::Hash) {
        if self.stage != Stage::Ready || !self.behaviour.counts_blocks() {
            return;
        }
        let Origin { number, at } = cx.known.block(cx.origins, hash, cx.now);
        if number <= self.block {
            return;
        }
        let skipped = number - self.block - 1;
        let fresh = std::mem::replace(&mut self.fresh, false);
        if skipped > 0 {
            let first = cx.origins.time_of(self.block + 1);
            let forgiven = fresh && first.is_some_and(|at| self.is_early(at));
            cx.tally.counts.blocks_skipped += u64::from(skipped - u32::from(forgiven));
        }
        self.block = number;
        cx.tally.counts.blocks_heard += 1;
        cx.tally.block_announce.record(cx.now.since(at));
    }
}
