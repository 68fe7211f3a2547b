//! Fetches one block from a node or relay and writes it to a file: the wire room over a plain `TcpStream`.
//!
//! Shows: handshake, `getheaders` from genesis to the tip with linkage and proof of work checked, `getdata`.
//!
//! ```text
//! cargo run --example block_grabber -- 127.0.0.1:18444                      the tip, size and hash only
//! cargo run --example block_grabber -- 127.0.0.1:18444 120 block120.bin     the block at height 120, to a file
//! cargo run --example block_grabber -- --network signet --allow-remote 203.0.113.5:38333 tip
//! ```
//! Talks to loopback addresses only, unless `--allow-remote` is given.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bitcoin::Network;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use breakwater::base::limits::{MAX_HEADERS, PROTOCOL_VERSION};
use breakwater::wire::{self, Hash, Inv, InvKind, Magic, Message, Services, Step, Version, write};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse()?;
    let mut peer = Peer::connect(args.address, args.network.magic().to_bytes())?;
    let chain = peer.headers(args.network)?;
    let tip = chain.len() - 1;
    let height = args.height.unwrap_or(tip);
    let hash = *chain.get(height).ok_or(format!("height {height} is above the tip, which is {tip}"))?;
    let block = peer.block(&hash)?;
    println!("block {height} of {tip}: {}, {} bytes", wire::display(&hash), block.len());
    if let Some(file) = args.file {
        std::fs::write(&file, &block)?;
        println!("written to {file}");
    }
    Ok(())
}

/// A connection that has shaken hands.
struct Peer {
    stream: TcpStream,
    magic: Magic,
    /// Bytes that are no whole message yet. Bounded: `wire::split` ends the stream at a length above 4,000,000.
    inbox: Vec<u8>,
}

impl Peer {
    fn connect(address: SocketAddr, magic: Magic) -> Result<Peer, Box<dyn Error>> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut peer = Peer { stream, magic, inbox: Vec::new() };
        let time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let version = Version {
            version: PROTOCOL_VERSION,
            services: Services::empty(),
            time: time as i64,
            receiver: address,
            nonce: time,
            user_agent: b"/breakwater-block-grabber:0.1.0/",
            start_height: 0,
            // No transactions, please.
            relay: false,
        };
        peer.send(|out| write::version(out, magic, &version))?;
        let (agent, height) = peer.wait("version", |message| match message {
            Message::Version(v) => Some((String::from_utf8_lossy(v.user_agent).into_owned(), v.start_height)),
            _ => None,
        })?;
        peer.send(|out| write::empty(out, magic, "verack"))?;
        peer.wait("verack", |message| matches!(message, Message::Verack).then_some(()))?;
        println!("connected to {agent:?} at {address}, which is at height {height}");
        Ok(peer)
    }

    /// The hashes of the best chain by height, genesis first.
    fn headers(&mut self, network: Network) -> Result<Vec<Hash>, Box<dyn Error>> {
        let magic = self.magic;
        let genesis = bitcoin::constants::genesis_block(network).header;
        let mut chain = vec![wire::sha256d(&serialize(&genesis))];
        loop {
            let last = chain.last().copied().unwrap_or_default();
            self.send(|out| write::locator(out, magic, "getheaders", [last].iter(), &[0; 32]))?;
            let more: Vec<[u8; 80]> = self.wait("headers", |message| match message {
                Message::Headers(list) => Some(list.iter().copied().collect()),
                _ => None,
            })?;
            for raw in &more {
                let header: bitcoin::block::Header = deserialize(raw)?;
                // Whether the claimed target is the right one is the node's business, as everything else of consensus.
                header.validate_pow(header.target())?;
                if Some(&header.prev_blockhash.to_byte_array()) != chain.last() {
                    return Err("a header does not link to the one before".into());
                }
                chain.push(header.block_hash().to_byte_array());
            }
            if more.len() < MAX_HEADERS {
                return Ok(chain);
            }
        }
    }

    /// The block with witness.
    fn block(&mut self, hash: &Hash) -> Result<Vec<u8>, Box<dyn Error>> {
        let magic = self.magic;
        let ask = [Inv { kind: InvKind::WitnessBlock, hash: *hash }];
        self.send(|out| write::inventory(out, magic, "getdata", ask.into_iter()))?;
        let found = self.wait("block", |message| match message {
            Message::Block(bytes) if bytes.get(..80).map(wire::sha256d) == Some(*hash) => {
                Some(Some(bytes.to_vec()))
            }
            Message::NotFound(_) => Some(None),
            _ => None,
        })?;
        found.ok_or_else(|| "the peer does not have the block".into())
    }

    fn send(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), Box<dyn Error>> {
        let mut out = Vec::new();
        fill(&mut out);
        Ok(self.stream.write_all(&out)?)
    }

    /// Reads messages until `pick` takes one; answers pings, drops the rest.
    fn wait<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<T, Box<dyn Error>> {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (used, mut pong, mut picked) = match wire::split(self.magic, &self.inbox) {
                Step::Need(_) => (0, None, None),
                Step::Drop { used, .. } => (used, None, None),
                Step::End(end) => return Err(format!("the stream ended by {}", end.label()).into()),
                Step::Message { command, payload, used } => match wire::parse(&command, payload)? {
                    Message::Ping(nonce) => (used, Some(nonce), None),
                    message => (used, None, pick(&message)),
                },
            };
            self.inbox.drain(..used);
            if let Some(nonce) = pong.take() {
                let magic = self.magic;
                self.send(|out| write::pong(out, magic, nonce))?;
            }
            if let Some(picked) = picked.take() {
                return Ok(picked);
            }
            if used > 0 {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("no {what} within {} s", PATIENCE.as_secs()).into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut buffer)? {
                0 => return Err(format!("the peer closed the connection before its {what}").into()),
                n => self.inbox.extend_from_slice(&buffer[..n]),
            }
        }
    }
}

/// What was typed.
struct Args {
    network: Network,
    address: SocketAddr,
    /// `None` for the tip.
    height: Option<usize>,
    file: Option<String>,
}

impl Args {
    fn parse() -> Result<Args, Box<dyn Error>> {
        if std::env::args().any(|arg| arg == "--help" || arg == "-h") {
            println!("usage: block_grabber [--network NAME] [--allow-remote] HOST:PORT [HEIGHT|tip] [FILE]");
            std::process::exit(0);
        }
        let (mut network, mut remote, mut rest) = (Network::Regtest, false, Vec::new());
        let mut typed = std::env::args().skip(1);
        while let Some(arg) = typed.next() {
            match arg.as_str() {
                "--network" => network = typed.next().ok_or("--network needs a name")?.parse()?,
                "--allow-remote" => remote = true,
                _ => rest.push(arg),
            }
        }
        let mut rest = rest.into_iter();
        let usage = "usage: block_grabber [--network NAME] [--allow-remote] HOST:PORT [HEIGHT|tip] [FILE]";
        let name = rest.next().ok_or(usage)?;
        let address = name.to_socket_addrs()?.next().ok_or(format!("{name} has no address"))?;
        if !address.ip().is_loopback() && !remote {
            return Err(format!("{address} is not a loopback address (--allow-remote permits it)").into());
        }
        let height = match rest.next().as_deref() {
            None | Some("tip") => None,
            Some(text) => Some(text.parse().map_err(|e| format!("height {text}: {e}"))?),
        };
        Ok(Args { network, address, height, file: rest.next() })
    }
}
