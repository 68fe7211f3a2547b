//! The nodes behind and the links to them: opening, back-off, loss.
//!
//! BIP324 is tried first. A node that does not answer the key exchange is connected to again at once in v1, and is asked in v1
//! from then on, until it says in its `version` that it knows BIP324 (NODE_P2P_V2): Bitcoin Core goes by that bit, too, and
//! falls back the same way (V2Transport::ShouldReconnectV1). The bit is looked at with each `version`, so a node that has
//! been upgraded is met in BIP324 with the next link.
//!
//! Invariants: a node has at most one link of each kind; a node that cannot be reached is tried again after a pause
//! that doubles from `NODE_RETRY_FIRST` to `NODE_RETRY_LAST`; the ear opens only while main is ready; a rare link opens
//! only when asked and closes after `RARE_LINK_IDLE`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Hub, HubEvent, LinkId, NodeAddr, Output, Speak};
use crate::base::Instant;
use crate::base::limits::{
    NODE_CONNECT_TIMEOUT, NODE_RETRY_FIRST, NODE_RETRY_LAST, NODE_TIMEOUT, RARE_LINK_IDLE,
};
use crate::hub::session::{Break, LinkKind, Peer, Session, Us};
use crate::wire::{Hash, Services};

/// Time for a node whose chain is new to answer getheaders; see `has_genesis_only`.
const GENESIS_PATIENCE: Duration = Duration::from_secs(1);

/// One of a node's links.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) link: Option<LinkId>,
    retry_at: Instant,
    pause: Duration,
}

impl Line {
    fn new() -> Line {
        Line { link: None, retry_at: Instant(0), pause: NODE_RETRY_FIRST }
    }
}

/// A node behind.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) addr: NodeAddr,
    lines: [Line; 3],
    /// Known while main is ready.
    pub(super) peer: Option<Peer>,
    /// True exactly when main is ready and the node has given all its headers.
    pub(super) synced: bool,
    /// When the unanswered getheaders went out.
    pub(super) headers_asked: Option<Instant>,
    /// `headers` messages in a row that did not connect.
    pub(super) strays: u32,
    /// The last block of its chain that it vouched for: by a header, or by inv of a block we know.
    pub(super) best: Option<Hash>,
    /// Blocks asked of it and not here.
    pub(super) blocks_in_flight: usize,
    /// When main was ready last; decides what is promised to clients (see `policy`).
    pub(super) last_up: Option<Instant>,
    /// What it serves, remembered over losses of the link.
    pub(super) services: Services,
    /// True exactly when it did not answer BIP324 and has not said since that it knows it.
    v1_only: bool,
    /// How often its main link was lost.
    pub(super) losses: u64,
    /// True exactly when the operator has taken it out. It keeps its place, because others name nodes by it.
    pub(super) removed: bool,
}

impl Node {
    pub(super) fn new(addr: NodeAddr) -> Node {
        Node {
            addr,
            lines: [Line::new(), Line::new(), Line::new()],
            peer: None,
            synced: false,
            headers_asked: None,
            strays: 0,
            best: None,
            blocks_in_flight: 0,
            last_up: None,
            services: Services::empty(),
            v1_only: false,
            losses: 0,
            removed: false,
        }
    }

    /// Whether the next link begins in BIP324.
    fn wants_v2(&self) -> bool {
        match self.addr.speak() {
            Speak::V1 => false,
            Speak::V2 => true,
            Speak::Either => !self.v1_only,
        }
    }

    pub(super) fn line(&self, kind: LinkKind) -> &Line {
        &self.lines[kind as usize]
    }

    fn line_mut(&mut self, kind: LinkKind) -> &mut Line {
        &mut self.lines[kind as usize]
    }

    /// True exactly when main's handshake is complete.
    pub(super) fn is_up(&self) -> bool {
        self.peer.is_some()
    }

    /// True exactly when it is up and serves compact filters.
    pub(super) fn has_filters(&self) -> bool {
        self.is_up() && self.services.contains(Services::COMPACT_FILTERS)
    }
}

/// A link and its bytes.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) node: usize,
    pub(super) kind: LinkKind,
    /// `None` until the connection is there.
    pub(super) session: Option<Session>,
    /// The session id of BIP324; `None` in v1.
    pub(super) v2: Option<[u8; 32]>,
    /// The beginning of a message whose rest has not come.
    pub(super) buffer: Vec<u8>,
    since: Instant,
    /// Last time it was of use; for rare links.
    pub(super) used: Instant,
}

/// All nodes and links.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) list: Vec<Node>,
    pub(super) links: BTreeMap<LinkId, Link>,
    next: u64,
}

impl Nodes {
    pub(super) fn new(addrs: &[NodeAddr]) -> Nodes {
        let list = addrs.iter().cloned().map(Node::new).collect();
        Nodes { list, links: BTreeMap::new(), next: 1 }
    }

    /// The link when its handshake is complete.
    pub(super) fn ready(&self, link: LinkId) -> Option<(&Link, &Session)> {
        let link = self.links.get(&link)?;
        let session = link.session.as_ref()?;
        session.is_ready().then_some((link, session))
    }

    /// The ready link of a kind.
    pub(super) fn ready_link(&self, node: usize, kind: LinkKind) -> Option<LinkId> {
        let link = self.list.get(node)?.line(kind).link?;
        self.ready(link).map(|_| link)
    }

    /// Where a node is asked for new things: main, or the ear while main is away.
    pub(super) fn ask_link(&self, node: usize) -> Option<LinkId> {
        self.ready_link(node, LinkKind::Main).or_else(|| self.ready_link(node, LinkKind::Ear))
    }

    /// The node of a link.
    pub(super) fn of(&self, link: LinkId) -> Option<usize> {
        self.links.get(&link).map(|l| l.node)
    }

    /// Whether any node is up.
    pub(super) fn any_up(&self) -> bool {
        self.list.iter().any(Node::is_up)
    }
}

impl Hub {
    /// Sends on a link what `fill` writes.
    pub(super) fn send(&mut self, link: LinkId, fill: impl FnOnce(&mut Vec<u8>, crate::wire::Magic)) {
        let mut bytes = Vec::new();
        fill(&mut bytes, self.magic);
        self.send_bytes(link, bytes);
    }

    pub(super) fn send_bytes(&mut self, link: LinkId, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.counters.bytes_out += bytes.len() as u64;
            self.out.push_back(Output::Send { link, bytes: Bytes::from(bytes) });
        }
    }

    /// Asks for a connection, unless there is one or its pause is not over.
    pub(super) fn open_line(&mut self, node: usize, kind: LinkKind) {
        let now = self.now;
        let Some(entry) = self.nodes.list.get_mut(node) else { return };
        let removed = entry.removed;
        let line = entry.line_mut(kind);
        if line.link.is_some() || removed {
            return;
        }
        if now < line.retry_at {
            let at = line.retry_at;
            self.wake_at(at);
            return;
        }
        let id = LinkId(self.nodes.next);
        self.nodes.next += 1;
        line.link = Some(id);
        let (addr, v2) = (entry.addr.clone(), entry.wants_v2());
        let link = Link { node, kind, session: None, v2: None, buffer: Vec::new(), since: now, used: now };
        self.nodes.links.insert(id, link);
        self.counters.connects += 1;
        self.out.push_back(Output::Connect { link: id, node: addr, v2 });
        self.wake_at(now + NODE_CONNECT_TIMEOUT);
    }

    /// The node did not answer BIP324: v1 at once, unless the operator has forbidden it.
    pub(super) fn not_v2(&mut self, id: LinkId) {
        let Some(link) = self.nodes.links.get(&id) else { return };
        let (index, kind) = (link.node, link.kind);
        let Some(node) = self.nodes.list.get_mut(index) else { return };
        if node.addr.speak() != Speak::Either {
            return self.lost(id, "no answer to a key exchange of BIP324, and v2: forbids v1".into());
        }
        self.nodes.links.remove(&id);
        node.v1_only = true;
        node.line_mut(kind).link = None;
        let event = HubEvent::FallsBack { node: node.addr.clone(), kind };
        self.counters.v2_fallbacks += 1;
        self.out.push_back(Output::Event(event));
        // Nobody can have asked anything of this link, so nothing else needs to know.
        self.open_line(index, kind);
    }

    /// The connection is there: our `version` goes out.
    pub(super) fn connected(&mut self, id: LinkId, v2: Option<[u8; 32]>) {
        use rand::RngCore as _;
        let salt = self.rng.next_u64();
        let (height, _) = self.chain.tip();
        let us = Us {
            magic: self.magic,
            user_agent: &self.config.user_agent,
            height,
            nonces: self.config.nonces,
            salt,
        };
        let Some(link) = self.nodes.links.get_mut(&id) else { return };
        if link.session.is_some() {
            return;
        }
        let mut out = Vec::new();
        link.v2 = v2;
        link.session = Some(Session::start(link.kind, &us, self.now, self.unix, &mut out));
        self.send_bytes(id, out);
    }

    /// A link is over by itself.
    pub(super) fn lost(&mut self, id: LinkId, reason: String) {
        self.forget(id, reason, false);
    }

    /// A link is over because the node is not to be had any longer: all its links go.
    pub(super) fn leave(&mut self, id: LinkId, why: Break) {
        self.counters.nodes_left += 1;
        let Some(link) = self.nodes.links.get(&id) else { return };
        let (node, kind) = (link.node, link.kind);
        // An ear or rare link that fails alone says nothing about main.
        let alone = kind != LinkKind::Main && matches!(why, Break::HandshakeTimeout | Break::Silent);
        let ids: Vec<LinkId> = match alone {
            true => vec![id],
            false => self.nodes.links.iter().filter(|(_, l)| l.node == node).map(|(id, _)| *id).collect(),
        };
        for id in ids {
            self.drop_link(id, &why);
        }
    }

    /// Closes a link.
    pub(super) fn drop_link(&mut self, id: LinkId, why: &Break) {
        self.out.push_back(Output::Close { link: id });
        self.forget(id, why.to_string(), true);
    }

    fn forget(&mut self, id: LinkId, reason: String, refused: bool) {
        let Some(link) = self.nodes.links.remove(&id) else { return };
        let was_ready = link.session.as_ref().is_some_and(Session::is_ready);
        let now = self.now;
        let Some(node) = self.nodes.list.get_mut(link.node) else { return };
        let line = node.line_mut(link.kind);
        line.link = None;
        // A node that was there for a while begins anew with a short pause; one that closes at once does not.
        if was_ready && !refused && now.since(link.since) > NODE_TIMEOUT {
            line.pause = NODE_RETRY_FIRST;
        }
        line.retry_at = now + line.pause;
        line.pause = (line.pause * 2).min(NODE_RETRY_LAST);
        let retry_at = line.retry_at;
        if link.kind == LinkKind::Main {
            node.losses += u64::from(was_ready);
            node.peer = None;
            node.synced = false;
            node.headers_asked = None;
            node.strays = 0;
            // It may come back with another chain.
            node.best = None;
        }
        let event = HubEvent::NodeDown { node: node.addr.clone(), kind: link.kind, reason, refused };
        self.counters.links_lost += 1;
        self.out.push_back(Output::Event(event));
        self.wake_at(retry_at);
        self.blocks_link_lost(id, link.node);
        self.filters_link_lost(id);
        self.txs_link_lost(id);
        self.wants_link_lost(id);
        self.policy_changed();
    }

    /// The handshake of a link is complete.
    pub(super) fn link_ready(&mut self, id: LinkId) {
        let now = self.now;
        let Some((link, session)) = self.nodes.ready(id) else { return };
        let (index, kind, v2, peer) = (link.node, link.kind, link.v2, session.peer().clone());
        let Some(node) = self.nodes.list.get_mut(index) else { return };
        node.v1_only = v2.is_none() && !peer.services.contains(Services::P2P_V2);
        self.counters.links_ready += 1;
        self.counters.links_v2 += u64::from(v2.is_some());
        self.out.push_back(Output::Event(HubEvent::NodeUp {
            node: node.addr.clone(),
            kind,
            user_agent: peer.user_agent.clone(),
            services: peer.services.bits(),
            height: peer.start_height,
            v2,
        }));
        if kind == LinkKind::Main {
            node.services = peer.services;
            node.peer = Some(peer);
            node.last_up = Some(now);
            // An ear that could not connect while the node was away need not wait any longer.
            node.lines[LinkKind::Ear as usize] =
                Line { link: node.lines[LinkKind::Ear as usize].link, ..Line::new() };
            self.open_line(index, LinkKind::Ear);
            self.ask_headers(id);
            self.txs_node_up(id);
            self.policy_changed();
        } else if kind == LinkKind::Ear {
            self.txs_ear_up(id);
        }
        self.pump_wants();
    }

    /// Housekeeping of all links.
    pub(super) fn tick_nodes(&mut self) {
        let now = self.now;
        for node in 0..self.nodes.list.len() {
            self.open_line(node, LinkKind::Main);
            if self.nodes.list[node].is_up() {
                self.nodes.list[node].last_up = Some(now);
                self.open_line(node, LinkKind::Ear);
            }
            let asked = self.nodes.list[node].headers_asked;
            if let (Some(asked), Some(link)) = (asked, self.nodes.ask_link(node)) {
                if self.has_genesis_only(node) && now >= asked + GENESIS_PATIENCE {
                    self.nodes.list[node].headers_asked = None;
                    self.node_synced(node);
                } else if now >= asked + NODE_TIMEOUT {
                    self.leave(link, Break::Silent);
                } else {
                    self.wake_at(asked + NODE_TIMEOUT);
                }
            }
        }
        let ids: Vec<LinkId> = self.nodes.links.keys().copied().collect();
        for id in ids {
            self.tick_link(id);
        }
    }

    /// True exactly when neither we nor the node, as it says, have more than the genesis block: such a bcoin answers nothing.
    fn has_genesis_only(&self, node: usize) -> bool {
        let theirs = self.nodes.list[node].peer.as_ref().is_some_and(|peer| peer.start_height <= 0);
        theirs && self.chain.tip().0 == 0
    }

    fn tick_link(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.nodes.links.get_mut(&id) else { return };
        let Some(session) = link.session.as_mut() else {
            // The driver has a connect timeout of its own; this is for a driver that forgets.
            let due = link.since + NODE_CONNECT_TIMEOUT + NODE_CONNECT_TIMEOUT;
            if now >= due {
                self.out.push_back(Output::Close { link: id });
                self.lost(id, "no answer to the attempt to connect".into());
            } else {
                self.wake_at(due);
            }
            return;
        };
        let mut out = Vec::new();
        match session.tick(now, &mut out) {
            Ok(at) => {
                let idle = link.kind == LinkKind::Rare && now >= link.used + RARE_LINK_IDLE;
                self.send_bytes(id, out);
                self.wake_at(at);
                if idle && !self.link_has_wants(id) {
                    self.close_idle(id);
                }
            }
            Err(why) => self.leave(id, why),
        }
    }

    /// Closes a rare link that nobody needs; not a loss, so without pause or event.
    fn close_idle(&mut self, id: LinkId) {
        if let Some(link) = self.nodes.links.remove(&id)
            && let Some(node) = self.nodes.list.get_mut(link.node)
        {
            *node.line_mut(link.kind) = Line::new();
            self.out.push_back(Output::Close { link: id });
        }
    }
}
