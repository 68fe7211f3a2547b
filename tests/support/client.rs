//! A blocking P2P client that does exactly what a test says, and by itself only answers pings.
//!
//! It uses rust-bitcoin's message types, not the project's own wire code: the two check each other.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use bitcoin::p2p::message_blockdata::{GetHeadersMessage, Inventory};
use bitcoin::p2p::message_compact_blocks::SendCmpct;
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::p2p::{Address, Magic, ServiceFlags};
use bitcoin::{Block, BlockHash, Transaction};

use super::wait::PATIENCE;

const HEADER: usize = 24;

#[derive(Clone, Debug)]
pub struct Options {
    /// Connect from this address, such as 127.0.0.7, to look like another client.
    pub source: Option<IpAddr>,
    pub version: u32,
    pub services: ServiceFlags,
    /// fRelay of the version message.
    pub relay: bool,
    pub wtxidrelay: bool,
    pub sendaddrv2: bool,
    /// Ask for announcements by headers (BIP130).
    pub sendheaders: bool,
    /// Ask for compact blocks: `Some(true)` for high bandwidth.
    pub sendcmpct: Option<bool>,
    pub start_height: i32,
    pub user_agent: &'static str,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            source: None,
            version: 70016,
            services: ServiceFlags::NONE,
            relay: true,
            wtxidrelay: true,
            sendaddrv2: true,
            sendheaders: false,
            sendcmpct: None,
            start_height: 0,
            user_agent: "/breakwater-test:0.1/",
        }
    }
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// The time is over.
    Timeout,
    /// The peer closed or reset the connection.
    Closed,
}

pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    /// Messages read while waiting for another one, oldest first; `recv` gives them first.
    set_aside: VecDeque<NetworkMessage>,
    /// What the peer said of itself, after the handshake.
    pub version: Option<VersionMessage>,
    /// Messages of the peer between its version and its verack.
    pub before_verack: Vec<NetworkMessage>,
    pub answers_pings: bool,
}

impl Client {
    /// Connects and shakes hands; panics if that fails.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        Client::connect_with(address, &Options::default())
    }

    #[track_caller]
    pub fn connect_with(address: SocketAddr, options: &Options) -> Client {
        Client::try_connect(address, options).unwrap_or_else(|e| panic!("no handshake with {address}: {e}"))
    }

    pub fn try_connect(address: SocketAddr, options: &Options) -> io::Result<Client> {
        let mut client = Client::open(address, options.source)?;
        client.handshake(options)?;
        Ok(client)
    }

    /// A connection on which nothing was said yet.
    pub fn open(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Client> {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&address.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream,
            received: Vec::new(),
            set_aside: VecDeque::new(),
            version: None,
            before_verack: Vec::new(),
            answers_pings: true,
        })
    }

    /// version, the features asked for, verack; then the wishes that belong after it.
    pub fn handshake(&mut self, options: &Options) -> io::Result<()> {
        self.try_send(NetworkMessage::Version(self.version_message(options)))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next(deadline) {
                Ok(NetworkMessage::Version(version)) => {
                    self.version = Some(version);
                    if options.wtxidrelay {
                        self.try_send(NetworkMessage::WtxidRelay)?;
                    }
                    if options.sendaddrv2 {
                        self.try_send(NetworkMessage::SendAddrV2)?;
                    }
                    self.try_send(NetworkMessage::Verack)?;
                }
                Ok(NetworkMessage::Verack) => break,
                Ok(other) => self.before_verack.push(other),
                Err(nothing) => return Err(io::Error::other(format!("{nothing:?} during the handshake"))),
            }
        }
        if options.sendheaders {
            self.try_send(NetworkMessage::SendHeaders)?;
        }
        if let Some(send_compact) = options.sendcmpct {
            self.try_send(NetworkMessage::SendCmpct(SendCmpct { send_compact, version: 2 }))?;
        }
        Ok(())
    }

    pub fn version_message(&self, options: &Options) -> VersionMessage {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").as_secs();
        let address = |a: io::Result<SocketAddr>| Address::new(&a.expect("connected"), ServiceFlags::NONE);
        VersionMessage {
            version: options.version,
            services: options.services,
            timestamp: now as i64,
            receiver: address(self.stream.peer_addr()),
            sender: address(self.stream.local_addr()),
            nonce: now << 32 | u64::from(self.local_address().port()),
            user_agent: options.user_agent.to_string(),
            start_height: options.start_height,
            relay: options.relay,
        }
    }

    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("connected")
    }

    pub fn services(&self) -> ServiceFlags {
        self.version.as_ref().expect("after the handshake").services
    }

    #[track_caller]
    pub fn send(&mut self, message: NetworkMessage) {
        let command = message.cmd();
        self.try_send(message).unwrap_or_else(|e| panic!("cannot send {command}: {e}"));
    }

    pub fn try_send(&mut self, message: NetworkMessage) -> io::Result<()> {
        self.send_raw(&serialize(&RawNetworkMessage::new(Magic::REGTEST, message)))
    }

    /// Bytes as they are: for what no well-behaved client sends.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn shut_down_sending(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// The next message.
    pub fn recv(&mut self, limit: Duration) -> Result<NetworkMessage, Nothing> {
        match self.set_aside.pop_front() {
            Some(message) => Ok(message),
            None => self.next(Instant::now() + limit),
        }
    }

    /// The first message that `pick` answers with `Some`. Messages that it does not pick are dropped.
    #[track_caller]
    pub fn recv_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut pick: impl FnMut(&NetworkMessage) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + limit;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.recv(left) {
                Ok(message) => match pick(&message) {
                    Some(found) => return found,
                    None => seen.push(message.cmd()),
                },
                Err(nothing) => panic!("{nothing:?} instead of {what} within {limit:?}; seen: {seen:?}"),
            }
        }
    }

    /// Reads for `limit` and panics if a message comes that `unwanted` knows. Other messages are kept.
    #[track_caller]
    pub fn recv_none(&mut self, what: &str, limit: Duration, unwanted: impl Fn(&NetworkMessage) -> bool) {
        let deadline = Instant::now() + limit;
        let mut kept: VecDeque<_> = std::mem::take(&mut self.set_aside);
        loop {
            match self.next(deadline) {
                Ok(message) => kept.push_back(message),
                Err(Nothing::Timeout) => break,
                Err(Nothing::Closed) => panic!("closed while waiting whether {what}"),
            }
        }
        for message in &kept {
            assert!(!unwanted(message), "{what}: {message:?}");
        }
        self.set_aside = kept;
    }

    /// Reads until the peer closes.
    #[track_caller]
    pub fn expect_closed(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            match self.next(deadline) {
                Ok(_) => continue,
                Err(Nothing::Closed) => return,
                Err(Nothing::Timeout) => panic!("still connected after {limit:?}"),
            }
        }
    }

    /// True when this message comes, false when the peer closes instead.
    #[track_caller]
    pub fn recv_until_closed(&mut self, command: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            match self.next(deadline) {
                Ok(message) if message.cmd() == command => return true,
                Ok(_) => continue,
                Err(Nothing::Closed) => return false,
                Err(Nothing::Timeout) => panic!("neither {command} nor closed after {limit:?}"),
            }
        }
    }

    /// A ping and its pong: the peer lives, and has handled everything sent before. Other messages are kept.
    #[track_caller]
    pub fn ping(&mut self) {
        let nonce = u64::from(self.local_address().port()) << 32 | self.set_aside.len() as u64;
        self.send(NetworkMessage::Ping(nonce));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next(deadline) {
                Ok(NetworkMessage::Pong(n)) if n == nonce => return,
                Ok(message) => self.set_aside.push_back(message),
                Err(nothing) => panic!("{nothing:?} instead of a pong"),
            }
        }
    }

    /// All headers after the locator's first known hash, in as many requests as it takes.
    #[track_caller]
    pub fn headers(&mut self, mut locator: Vec<BlockHash>) -> Vec<Header> {
        let mut headers: Vec<Header> = Vec::new();
        loop {
            self.send(NetworkMessage::GetHeaders(GetHeadersMessage {
                version: 70016,
                locator_hashes: locator,
                stop_hash: BlockHash::all_zeros(),
            }));
            let more = self.recv_until("headers", PATIENCE, |m| match m {
                NetworkMessage::Headers(headers) => Some(headers.clone()),
                _ => None,
            });
            let full = more.len() == 2000;
            headers.extend(more);
            if !full {
                return headers;
            }
            locator = vec![headers.last().expect("2000 headers").block_hash()];
        }
    }

    #[track_caller]
    pub fn block(&mut self, hash: BlockHash) -> Block {
        self.send(NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash)]));
        self.recv_until("block", PATIENCE, |m| match m {
            NetworkMessage::Block(block) if block.block_hash() == hash => Some(block.clone()),
            NetworkMessage::NotFound(_) => panic!("block {hash} not found"),
            _ => None,
        })
    }

    /// Waits until the peer says, in whatever form, that `hash` is there.
    #[track_caller]
    pub fn recv_announcement(&mut self, hash: BlockHash) -> Announcement {
        self.recv_until("announcement of a block", PATIENCE, |m| announces(m, hash))
    }

    /// Announces a transaction, and delivers it when the peer asks.
    #[track_caller]
    pub fn submit(&mut self, tx: &Transaction) {
        self.announce(tx);
        self.recv_until("getdata for an announced transaction", PATIENCE, |m| asks_for(m, tx).then_some(()));
        self.send(NetworkMessage::Tx(tx.clone()));
    }

    /// inv by wtxid when the peer wants that, else by txid.
    #[track_caller]
    pub fn announce(&mut self, tx: &Transaction) {
        let by_wtxid = self.before_verack.contains(&NetworkMessage::WtxidRelay);
        let item = match by_wtxid {
            true => Inventory::WTx(tx.compute_wtxid()),
            false => Inventory::Transaction(tx.compute_txid()),
        };
        self.send(NetworkMessage::Inv(vec![item]));
    }

    /// The next whole message from the socket; pings are answered here.
    fn next(&mut self, deadline: Instant) -> Result<NetworkMessage, Nothing> {
        loop {
            if let Some(message) = self.take_message() {
                match message {
                    NetworkMessage::Ping(nonce) if self.answers_pings => {
                        let _ = self.try_send(NetworkMessage::Pong(nonce));
                        continue;
                    }
                    message => return Ok(message),
                }
            }
            self.fill(deadline)?;
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), Nothing> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Nothing::Timeout);
        }
        self.stream.set_read_timeout(Some(left)).expect("read timeout");
        let mut buffer = [0u8; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(Nothing::Closed),
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(Nothing::Timeout)
            }
            Err(_) => Err(Nothing::Closed),
        }
    }

    fn take_message(&mut self) -> Option<NetworkMessage> {
        let length = self.received.get(16..20)?;
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        if self.received.len() < HEADER + length {
            return None;
        }
        let bytes: Vec<u8> = self.received.drain(..HEADER + length).collect();
        match deserialize::<RawNetworkMessage>(&bytes) {
            Ok(raw) => {
                assert_eq!(*raw.magic(), Magic::REGTEST, "the peer speaks another network's magic");
                Some(raw.into_payload())
            }
            // bcoin's reject has no hash when a message could not be parsed.
            Err(_) if bytes[4..].starts_with(b"reject\0") => {
                panic!("rejected: {}", String::from_utf8_lossy(&bytes[HEADER..]))
            }
            Err(e) => panic!("the peer sent what rust-bitcoin cannot read: {e}: {:02x?}", &bytes[..HEADER]),
        }
    }
}

/// In which form a block was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    Inv,
    Headers,
    Compact,
}

/// Does this message announce the block?
pub fn announces(message: &NetworkMessage, hash: BlockHash) -> Option<Announcement> {
    match message {
        NetworkMessage::Inv(items) => {
            let found =
                items.iter().any(|i| *i == Inventory::Block(hash) || *i == Inventory::WitnessBlock(hash));
            found.then_some(Announcement::Inv)
        }
        NetworkMessage::Headers(headers) => {
            headers.iter().any(|h| h.block_hash() == hash).then_some(Announcement::Headers)
        }
        NetworkMessage::CmpctBlock(block) => {
            (block.compact_block.header.block_hash() == hash).then_some(Announcement::Compact)
        }
        _ => None,
    }
}

/// Does this message announce the transaction?
pub fn announces_tx(message: &NetworkMessage, tx: &Transaction) -> bool {
    matches!(message, NetworkMessage::Inv(items) if items.iter().any(|i| names(i, tx)))
}

/// Does this message announce any transaction?
pub fn announces_any_tx(message: &NetworkMessage) -> bool {
    let is_tx = |i: &Inventory| {
        matches!(i, Inventory::Transaction(_) | Inventory::WitnessTransaction(_) | Inventory::WTx(_))
    };
    matches!(message, NetworkMessage::Inv(items) if items.iter().any(is_tx))
}

/// Does this message ask for the transaction?
pub fn asks_for(message: &NetworkMessage, tx: &Transaction) -> bool {
    matches!(message, NetworkMessage::GetData(items) if items.iter().any(|i| names(i, tx)))
}

fn names(item: &Inventory, tx: &Transaction) -> bool {
    match item {
        Inventory::Transaction(txid) | Inventory::WitnessTransaction(txid) => *txid == tx.compute_txid(),
        Inventory::WTx(wtxid) => *wtxid == tx.compute_wtxid(),
        _ => false,
    }
}
