//! Clients of several kinds, sans-IO: bytes and an instant in, bytes appended to `out`, [`Event`]s to be drained.
//!
//! A client believes nothing that it can check: headers link and have proof of work, filters match filter headers,
//! which chain, blocks match their header and filter, the order of the handshake and of filters is kept, nobody who wants
//! no transactions is told of one. What does not hold is a [`Broken`], after which the client is of no use.
//!
//! - `event`: kinds of clients, what they see, and what the other side must not do
//! - `headers`: the best chain of headers, the old part shared among clients
//! - `compact`: blocks from compact blocks and the client's own pool
//! - `light`: filter headers, filters, some blocks
//! - `wallet`: transactions given to it
//!
//! Bounded: the inbox by one message and what the caller passes at once, pools by constants, events by what the caller
//! lets in before draining them, headers by the chain.

mod compact;
mod event;
mod headers;
mod light;
mod wallet;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bitcoin::Transaction;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub use self::event::{Broken, Event, Kind};
pub use self::headers::{Entry, Headers};

use self::compact::Compact;
use self::headers::Connected;
use self::light::Light;
use self::wallet::Wallet;
use crate::base::Instant;
use crate::base::limits::{MAX_HEADERS, PROTOCOL_VERSION};
use crate::wire::{
    Framing, Hash, HeaderList, InvKind, InvList, Magic, Message, Services, Step, Version, parse, write,
};

/// A question unanswered for this long is asked again.
pub const RETRY: Duration = Duration::from_secs(5);
/// Headers in a row that do not connect, each answered by `getheaders`, before the client gives up.
const MAX_UNCONNECTED: u8 = 10;
/// Unix time said in `version` is this and the seconds of the instant; nobody depends on it.
const UNIX_START: i64 = 1_700_000_000;

/// A client.
#[derive(Debug)]
pub struct Client {
    kind: Kind,
    magic: Magic,
    /// How messages stand in what comes.
    framing: Framing,
    rng: SmallRng,
    inbox: Vec<u8>,
    headers: Headers,
    link: Link,
    state: State,
    events: Vec<Event>,
}

/// What every client keeps of its connection.
#[derive(Debug, Default)]
struct Link {
    /// True exactly when `version` has come.
    versioned: bool,
    /// True exactly when `verack` has come.
    ready: bool,
    /// True exactly when headers have been in step with the other side once.
    synced: bool,
    /// True exactly when the other side sent `wtxidrelay`.
    wtxid: bool,
    /// When an unanswered `getheaders` is repeated.
    headers_due: Option<Instant>,
    /// Headers in a row that connected to nothing.
    unconnected: u8,
    /// A block announced by inv whose header is on its way, and when.
    heard: Option<(Hash, Instant)>,
}

#[derive(Debug)]
enum State {
    Plain,
    Compact(Box<Compact>),
    Light(Box<Light>),
    Wallet(Box<Wallet>),
    Pinger { next: Instant, sent: Option<(u64, Instant)> },
}

impl Client {
    /// A client that knows the genesis block of the network with this magic (regtest for an unknown one).
    pub fn new(kind: Kind, seed: u64, magic: Magic) -> Client {
        Client::with_headers(kind, seed, magic, Headers::genesis(magic))
    }

    /// A client that has synchronised before: `headers` of another's [`Client::headers`], shared. A light client asks
    /// for filters from the last of them on.
    pub fn with_headers(kind: Kind, seed: u64, magic: Magic, headers: Headers) -> Client {
        let state = match kind {
            Kind::Listener | Kind::InvListener => State::Plain,
            Kind::CompactNode => State::Compact(Box::default()),
            Kind::Light { every } => State::Light(Box::new(Light::new(every, headers.height()))),
            Kind::Wallet => State::Wallet(Box::default()),
            Kind::Pinger { .. } => State::Pinger { next: Instant(0), sent: None },
        };
        Client {
            kind,
            magic,
            framing: Framing::V1(magic),
            rng: SmallRng::seed_from_u64(seed),
            inbox: Vec::new(),
            headers,
            link: Link::default(),
            state,
            events: Vec::new(),
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How messages stand in what comes; v1 where nothing is said. What is said stays in v1 frames, for the transport to seal.
    pub fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// Connected: says `version`. Also begins anew after a connection was lost, with what is known.
    pub fn start(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.inbox.clear();
        self.link = Link::default();
        match &mut self.state {
            State::Light(light) => light.forget_questions(),
            State::Compact(compact) => compact.forget_questions(),
            State::Pinger { next, sent } => (*next, *sent) = (now, None),
            State::Wallet(_) | State::Plain => {}
        }
        let services = match self.kind {
            Kind::CompactNode => Services::NETWORK | Services::WITNESS,
            _ => Services::empty(),
        };
        let version = Version {
            version: PROTOCOL_VERSION,
            services,
            time: UNIX_START + i64::from(now.secs()),
            receiver: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            nonce: self.rng.random(),
            user_agent: b"/breakwater-stub-client:0.1.0/",
            start_height: i32::try_from(self.headers.height()).unwrap_or(i32::MAX),
            relay: self.wants_txs(),
        };
        write::version(out, self.magic, &version);
    }

    /// Bytes have come, split in any way; replies are appended to `out`.
    pub fn received(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.extend_from_slice(bytes);
        let mut used = 0;
        loop {
            match self.framing.split(&inbox[used..]) {
                Step::Need(_) => break,
                Step::Drop { fault, .. } => return Err(Broken::Message(fault)),
                Step::End(end) => return Err(Broken::Framing(end)),
                Step::Message { command, payload, used: bytes } => {
                    self.message(now, parse(&command, payload)?, out)?;
                    used += bytes;
                }
            }
        }
        // An idle client shall keep no buffer.
        if used < inbox.len() {
            inbox.drain(..used);
            self.inbox = inbox;
        }
        Ok(())
    }

    /// Does what is due: pings, questions repeated.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<u8>) {
        if !self.link.ready {
            return;
        }
        if self.link.headers_due.is_some_and(|due| due <= now) {
            self.get_headers(now, out);
        }
        let (magic, headers) = (self.magic, &self.headers);
        match &mut self.state {
            State::Light(light) => light.tick(now, magic, headers, out),
            State::Compact(compact) => compact.tick(now, magic, out),
            State::Pinger { next, sent } if *next <= now && sent.is_none() => {
                let nonce = self.rng.random();
                *sent = Some((nonce, now));
                write::ping(out, magic, nonce);
            }
            _ => {}
        }
    }

    /// When `tick` is due next; [`Instant::FAR`] when nothing is.
    pub fn next_wake(&self) -> Instant {
        if !self.link.ready {
            return Instant::FAR;
        }
        let state = match &self.state {
            State::Light(light) => light.wake(),
            State::Compact(compact) => compact.wake(),
            State::Pinger { next, sent: None } => *next,
            _ => Instant::FAR,
        };
        state.min(self.link.headers_due.unwrap_or(Instant::FAR))
    }

    /// Gives a wallet a transaction to submit: announced now, or as soon as the handshake is complete; given when
    /// asked for. False for other kinds, and when the wallet holds 1,000.
    pub fn submit(&mut self, tx: &Transaction, out: &mut Vec<u8>) -> bool {
        let State::Wallet(wallet) = &mut self.state else { return false };
        let link = &self.link;
        wallet.submit(tx, link.ready.then_some(link.wtxid), self.magic, out)
    }

    /// What was seen since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// True exactly when handshake and first header synchronisation of this connection are complete.
    pub fn is_ready(&self) -> bool {
        self.link.synced
    }

    /// Height and hash of the last header of the best chain known.
    pub fn tip(&self) -> (u32, Hash) {
        (self.headers.height(), *self.headers.tip())
    }

    /// Height up to which a light client has verified filters.
    pub fn filters_to(&self) -> Option<u32> {
        match &self.state {
            State::Light(light) => light.filters_to(),
            _ => None,
        }
    }

    /// The headers known.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The headers known, as a shared part for other clients.
    pub fn share_headers(&self) -> Headers {
        self.headers.share()
    }

    fn wants_txs(&self) -> bool {
        matches!(self.kind, Kind::InvListener | Kind::CompactNode | Kind::Wallet)
    }

    fn message(&mut self, now: Instant, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Broken> {
        let magic = self.magic;
        match message {
            Message::Version(version) => return self.version(&version, out),
            _ if !self.link.versioned => return Err(Broken::Order("before version")),
            Message::Verack if !self.link.ready => self.greet(now, out),
            Message::Verack => return Err(Broken::Order("verack")),
            Message::WtxidRelay if !self.link.ready => self.link.wtxid = self.kind != Kind::InvListener,
            Message::WtxidRelay => return Err(Broken::Order("wtxidrelay")),
            Message::SendAddrV2 if self.link.ready => return Err(Broken::Order("sendaddrv2")),
            Message::Ping(nonce) => write::pong(out, magic, nonce),
            Message::Pong(nonce) => self.pong(now, nonce)?,
            Message::Headers(list) => self.took_headers(now, list, out)?,
            Message::Inv(list) => self.inv(now, list, out)?,
            Message::GetData(list) => {
                if let State::Wallet(wallet) = &mut self.state {
                    wallet.give(now, list, magic, &mut self.events, out);
                }
            }
            // A node asks everybody once; nobody here has blocks to offer.
            Message::GetHeaders { .. } => write::headers(out, magic, [].iter()),
            other => return self.answer(now, other, out),
        }
        Ok(())
    }

    /// What only some kinds understand.
    fn answer(&mut self, now: Instant, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Broken> {
        let magic = self.magic;
        let compact = match (message, &mut self.state) {
            (Message::CmpctBlock(bytes), State::Compact(_)) => return self.compact_block(now, bytes, out),
            (Message::Tx(bytes), State::Compact(compact)) => {
                let hash = compact.tx(bytes)?;
                self.events.push(Event::Tx { hash, at: now });
                return Ok(());
            }
            (Message::BlockTxn(bytes), State::Compact(compact)) => {
                compact.block_txn(now, bytes, magic, out)?
            }
            (Message::Block(bytes), State::Compact(compact)) => compact.block(bytes)?,
            (message, State::Light(light)) => {
                return light.message(now, message, magic, &self.headers, &mut self.events, out);
            }
            _ => None,
        };
        self.complete(now, compact);
        Ok(())
    }

    fn version(&mut self, theirs: &Version<'_>, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.link.versioned {
            return Err(Broken::Order("version"));
        }
        self.link.versioned = true;
        let needed = match self.kind {
            Kind::Light { .. } => Services::COMPACT_FILTERS | Services::NETWORK,
            Kind::CompactNode => Services::WITNESS,
            _ => Services::empty(),
        };
        if !theirs.services.contains(needed) {
            return Err(Broken::Services(theirs.services.bits()));
        }
        if self.kind != Kind::InvListener {
            write::empty(out, self.magic, "wtxidrelay");
            write::empty(out, self.magic, "sendaddrv2");
        }
        write::empty(out, self.magic, "verack");
        Ok(())
    }

    /// After `verack`: says what it wants and asks for headers.
    fn greet(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.link.ready = true;
        if self.kind == Kind::CompactNode {
            write::send_cmpct(out, self.magic, true, 2);
        }
        if self.kind != Kind::InvListener {
            write::empty(out, self.magic, "sendheaders");
        }
        self.get_headers(now, out);
        if let State::Wallet(wallet) = &self.state {
            wallet.announce(self.link.wtxid, self.magic, out);
        }
    }

    fn get_headers(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.link.headers_due = Some(now + RETRY);
        let locator = self.headers.locator();
        write::locator(out, self.magic, "getheaders", locator.iter(), &[0; 32]);
    }

    fn took_headers(&mut self, now: Instant, list: HeaderList<'_>, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.link.headers_due = None;
        let raw: Vec<[u8; 80]> = list.iter().copied().collect();
        if !self.extend(now, &raw, out)? {
            return Ok(());
        }
        if raw.len() == MAX_HEADERS {
            self.get_headers(now, out);
        } else if !self.link.synced {
            self.link.synced = true;
            self.events.push(Event::Ready { at: now });
            if let State::Light(light) = &mut self.state {
                light.advance(now, self.magic, &self.headers, out);
            }
        }
        Ok(())
    }

    /// Adds headers and does what follows from them. False when they connect to nothing known.
    fn extend(&mut self, now: Instant, raw: &[[u8; 80]], out: &mut Vec<u8>) -> Result<bool, Broken> {
        match self.headers.connect(raw)? {
            Connected::Unknown => {
                self.link.unconnected += 1;
                if self.link.unconnected > MAX_UNCONNECTED {
                    return Err(Broken::Unconnected);
                }
                self.get_headers(now, out);
                return Ok(false);
            }
            Connected::Nothing => {}
            Connected::Moved { fork } => {
                self.events.push(Event::HeadersTo(self.headers.height()));
                if self.link.synced {
                    self.new_blocks(now, fork + 1, out);
                }
                if let State::Light(light) = &mut self.state {
                    light.reorganised(fork);
                    if self.link.synced {
                        light.advance(now, self.magic, &self.headers, out);
                    }
                }
            }
        }
        self.link.unconnected = 0;
        Ok(true)
    }

    fn new_blocks(&mut self, now: Instant, from: u32, out: &mut Vec<u8>) {
        let new: Vec<(u32, Hash)> =
            (from..=self.headers.height()).filter_map(|h| Some((h, *self.headers.hash(h)?))).collect();
        if let State::Compact(compact) = &mut self.state {
            return compact.want(now, &new, self.magic, out);
        }
        for (height, hash) in new {
            let at = self.link.heard.filter(|(heard, _)| *heard == hash).map_or(now, |(_, at)| at);
            self.events.push(Event::Block { hash, height, at });
        }
    }

    fn inv(&mut self, now: Instant, list: InvList<'_>, out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut ask = Vec::new();
        for inv in list.iter() {
            match inv.kind {
                InvKind::Block if self.headers.find(&inv.hash).is_none() => {
                    self.link.heard = Some((inv.hash, now));
                    self.get_headers(now, out);
                }
                kind if kind.is_tx() => {
                    if !self.wants_txs() {
                        return Err(Broken::UnwantedTx(inv.hash));
                    }
                    match &self.state {
                        State::Compact(compact) if compact.knows(&inv.hash) => {}
                        State::Compact(_) => ask.push(inv),
                        _ => self.events.push(Event::Tx { hash: inv.hash, at: now }),
                    }
                }
                _ => {}
            }
        }
        if !ask.is_empty() {
            write::inventory(out, self.magic, "getdata", ask.into_iter());
        }
        Ok(())
    }

    fn compact_block(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let Some(header) = bytes.first_chunk::<80>() else { return Err(Broken::Compact) };
        // The block comes with its header: it is not to be asked for again.
        if let State::Compact(compact) = &mut self.state {
            compact.expect(crate::wire::sha256d(header));
        }
        let connected = self.extend(now, &[*header], out)?;
        let State::Compact(compact) = &mut self.state else { return Ok(()) };
        let whole = if connected { compact.compact_block(now, bytes, self.magic, out)? } else { None };
        compact.expect([0; 32]);
        self.complete(now, whole);
        Ok(())
    }

    fn complete(&mut self, now: Instant, block: Option<(u32, Hash)>) {
        if let Some((height, hash)) = block {
            self.events.push(Event::Block { hash, height, at: now });
        }
    }

    fn pong(&mut self, now: Instant, got: u64) -> Result<(), Broken> {
        let (State::Pinger { next, sent }, Kind::Pinger { every }) = (&mut self.state, self.kind) else {
            return Ok(());
        };
        match sent.take() {
            Some((want, since)) if want == got => {
                *next = since + every;
                self.events.push(Event::Pong { at: now, after: now.since(since) });
                Ok(())
            }
            other => Err(Broken::Pong { got, want: other.map_or(0, |(want, _)| want) }),
        }
    }
}
