//! One link to a node, sans-IO: the handshake of a well-behaved outbound peer, pings, and what the peer said of itself.
//!
//! Bytes come in through [`super::brain`], which cuts them into messages; the session answers what belongs to the
//! link itself and hands everything else on. It opens no socket, asks no clock, and knows nothing of the chain.
//!
//! Invariants: `version` is the first message sent; `wtxidrelay` and `sendaddrv2` go between the peer's `version` and
//! our `verack` (BIP339, BIP155); nothing but the handshake is sent before the peer's `verack`; at most one ping is
//! unanswered.

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};

use crate::base::limits::{
    HANDSHAKE_TIMEOUT, NODE_PING_INTERVAL, NODE_TIMEOUT, PROTOCOL_VERSION, WTXID_RELAY_VERSION,
};
use crate::base::{Instant, Nonces, UnixTime};
use crate::wire::{Magic, Message, Services, Version, write};

/// What a link is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LinkKind {
    /// High-bandwidth compact blocks, header sync, blocks, filters, submissions.
    Main,
    /// A second ordinary peer of the same node: hears by `headers` and `inv` what the node has validated, among it the
    /// transactions that went in over the main link (a node does not announce those back to their sender).
    Ear,
    /// Opened on demand for old blocks and filters.
    Rare,
}

impl LinkKind {
    /// The name in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            LinkKind::Main => "main",
            LinkKind::Ear => "ear",
            LinkKind::Rare => "rare",
        }
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Protocol version.
    pub version: u32,
    /// What it serves.
    pub services: Services,
    /// Its software (BIP14), at most 256 bytes.
    pub user_agent: String,
    /// Its height when it connected.
    pub start_height: i32,
    /// True exactly when both sides said `wtxidrelay`: transactions are announced by wtxid (BIP339).
    pub wtxid: bool,
    /// True exactly when it gives version 2 compact blocks (BIP152).
    pub cmpct: bool,
    /// Lowest fee rate it takes, satoshi per 1,000 virtual bytes (BIP133).
    pub fee_filter: u64,
}

/// Why a node is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// Its stream begins with other bytes than our network's.
    #[error("it speaks another network's magic")]
    WrongMagic,
    /// A message header with a length beyond the protocol's.
    #[error("a message longer than 4,000,000 bytes")]
    Oversize,
    /// A list longer than the protocol allows.
    #[error("message {command}: {error}")]
    BadMessage {
        /// The message.
        command: String,
        /// What is wrong with it.
        error: crate::wire::WireError,
    },
    /// Our own nonce came back.
    #[error("it is this relay itself (own nonce in version): --node must name the full node")]
    OwnNonce,
    /// Too old for segwit, headers or compact blocks.
    #[error("protocol version {0}, at least 70014 is needed")]
    OldVersion(u32),
    /// A service that the relay lives from is missing.
    #[error("service bits {services:#x} lack {missing}")]
    Services {
        /// What it offers.
        services: u64,
        /// The bit's name.
        missing: &'static str,
    },
    /// No `verack` in time.
    #[error("no answer to version (is it the node's P2P port, on this network, with a free slot?)")]
    HandshakeTimeout,
    /// No byte after a ping or a question.
    #[error("silent for {} s", NODE_TIMEOUT.as_secs())]
    Silent,
    /// The operator has taken the node out.
    #[error("removed by the operator")]
    Removed,
    /// Headers that break a rule.
    #[error("invalid headers: {0}")]
    Headers(String),
    /// It follows a chain that does not begin with our genesis block.
    #[error("it follows another chain: {0}")]
    OtherChain(String),
    /// It contradicts itself in filters or filter headers.
    #[error("contradictory filters: {0}")]
    Filters(String),
    /// A block that does not fit its own header.
    #[error("bad block: {0}")]
    Block(String),
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It belonged to the link and is dealt with.
    Handled,
    /// The handshake is complete with this message.
    Ready,
    /// It is for the brain. Only after `Ready`.
    HandOn,
}

/// One link.
#[derive(Debug)]
pub struct Session {
    kind: LinkKind,
    magic: Magic,
    nonces: Nonces,
    started: Instant,
    /// The peer's `version` has come: `peer` means something.
    greeted: bool,
    /// True exactly when both `version` and `verack` have come.
    ready: bool,
    peer: Peer,
    last_heard: Instant,
    /// When the unanswered ping went out.
    ping: Option<Instant>,
    next_nonce: u64,
}

/// What a session says of us.
#[derive(Clone, Debug)]
pub struct Us<'a> {
    /// Network magic.
    pub magic: Magic,
    /// Name of our software.
    pub user_agent: &'a str,
    /// Our best height.
    pub height: u32,
    /// The process's nonces.
    pub nonces: Nonces,
    /// Random number of this link.
    pub salt: u64,
}

/// Lowest version spoken with: `sendcmpct` exists (BIP152).
const LOWEST_VERSION: u32 = 70_014;

impl Session {
    /// Begins the handshake: `out` receives our `version`.
    pub fn start(kind: LinkKind, us: &Us<'_>, now: Instant, unix: UnixTime, out: &mut Vec<u8>) -> Session {
        let version = Version {
            version: PROTOCOL_VERSION,
            // Nothing is served to the node, so that it asks us for no blocks; WITNESS lets it send us witness data.
            services: Services::WITNESS,
            time: i64::try_from(unix).unwrap_or(i64::MAX),
            receiver: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            nonce: us.nonces.make(us.salt),
            user_agent: us.user_agent.as_bytes(),
            start_height: i32::try_from(us.height).unwrap_or(i32::MAX),
            relay: kind != LinkKind::Rare,
        };
        write::version(out, us.magic, &version);
        Session {
            kind,
            magic: us.magic,
            nonces: us.nonces,
            started: now,
            greeted: false,
            ready: false,
            peer: Peer {
                version: 0,
                services: Services::empty(),
                user_agent: String::new(),
                start_height: 0,
                wtxid: false,
                cmpct: false,
                fee_filter: 0,
            },
            last_heard: now,
            ping: None,
            next_nonce: us.salt,
        }
    }

    /// What the peer says of itself; meaningful once ready.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the link is for.
    pub fn kind(&self) -> LinkKind {
        self.kind
    }

    /// True exactly when the handshake is complete.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Bytes have come, whatever they say.
    pub fn alive(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Takes a message. Answers are appended to `out`.
    ///
    /// # Errors
    /// The reason to leave the node.
    pub fn hear(&mut self, message: &Message<'_>, out: &mut Vec<u8>) -> Result<Heard, Break> {
        if self.ready {
            return Ok(self.hear_ready(message, out));
        }
        match message {
            Message::Version(version) if !self.greeted => self.greet(version, out)?,
            Message::WtxidRelay if self.greeted => self.peer.wtxid = self.peer.version >= WTXID_RELAY_VERSION,
            Message::SendCmpct { version: 2, .. } => self.peer.cmpct = true,
            Message::Verack if self.greeted => {
                self.ready = true;
                self.introduce(out);
                return Ok(Heard::Ready);
            }
            Message::Ping(nonce) if self.greeted => write::pong(out, self.magic, *nonce),
            // `feature` (BIP434), sendaddrv2 and whatever else comes early needs no answer.
            _ => {}
        }
        Ok(Heard::Handled)
    }

    fn hear_ready(&mut self, message: &Message<'_>, out: &mut Vec<u8>) -> Heard {
        match message {
            Message::Ping(nonce) => write::pong(out, self.magic, *nonce),
            // Whose ping it answers, the hub knows.
            Message::Pong(_) => {
                self.ping = None;
                return Heard::HandOn;
            }
            Message::SendCmpct { version: 2, .. } => self.peer.cmpct = true,
            Message::FeeFilter(rate) => {
                self.peer.fee_filter = *rate;
                return Heard::HandOn;
            }
            Message::Version(_)
            | Message::Verack
            | Message::WtxidRelay
            | Message::SendAddrV2
            | Message::Feature
            | Message::SendHeaders
            | Message::SendCmpct { .. }
            | Message::Unknown(_) => {}
            _ => return Heard::HandOn,
        }
        Heard::Handled
    }

    /// The peer's `version`: is it a node one can live from?
    fn greet(&mut self, version: &Version<'_>, out: &mut Vec<u8>) -> Result<(), Break> {
        if self.nonces.is_ours(version.nonce) {
            return Err(Break::OwnNonce);
        }
        if version.version < LOWEST_VERSION {
            return Err(Break::OldVersion(version.version));
        }
        let (services, bits) = (version.services, version.services.bits());
        if !services.intersects(Services::NETWORK | Services::NETWORK_LIMITED) {
            return Err(Break::Services { services: bits, missing: "NODE_NETWORK and NODE_NETWORK_LIMITED" });
        }
        if !services.contains(Services::WITNESS) {
            return Err(Break::Services { services: bits, missing: "NODE_WITNESS" });
        }
        self.greeted = true;
        self.peer.version = version.version;
        self.peer.services = services;
        self.peer.user_agent = String::from_utf8_lossy(version.user_agent).into_owned();
        self.peer.start_height = version.start_height;
        if version.version >= WTXID_RELAY_VERSION {
            write::empty(out, self.magic, "wtxidrelay");
        }
        write::empty(out, self.magic, "sendaddrv2");
        write::empty(out, self.magic, "verack");
        Ok(())
    }

    /// After `verack`: how we want to be told.
    fn introduce(&mut self, out: &mut Vec<u8>) {
        if self.kind == LinkKind::Rare {
            return;
        }
        write::empty(out, self.magic, "sendheaders");
        write::send_cmpct(out, self.magic, self.kind == LinkKind::Main, 2);
        // Everything the node takes is of interest: the clients' own feefilters are the shards' business.
        write::fee_filter(out, self.magic, 0);
    }

    /// Lets time pass: pings, deadlines. Returns when it wants to be called again.
    ///
    /// # Errors
    /// The reason to leave the node.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<Instant, Break> {
        if !self.ready {
            // A node that accepts the connection and stays silent is left sooner than one that talks.
            let due = (self.started + HANDSHAKE_TIMEOUT).min(self.last_heard + NODE_TIMEOUT);
            return if now >= due { Err(Break::HandshakeTimeout) } else { Ok(due) };
        }
        if let Some(sent) = self.ping {
            let due = sent.max(self.last_heard) + NODE_TIMEOUT;
            return if now >= due { Err(Break::Silent) } else { Ok(due) };
        }
        let due = self.last_heard + NODE_PING_INTERVAL;
        if now < due {
            return Ok(due);
        }
        self.next_nonce = self.next_nonce.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        write::ping(out, self.magic, self.next_nonce);
        self.ping = Some(now);
        Ok(now + NODE_TIMEOUT)
    }
}
