//! Simulates an initial block download in memory: how long it takes over a link of a given delay and bandwidth.
//!
//! Shows: a sans-IO node ([`breakwater::stub::StubNode`]) and a downloader written on `breakwater::wire`, joined by a
//! virtual link; time is a number that jumps from one arrival to the next, so that minutes take milliseconds.
//!
//! ```text
//! cargo run --release --example initial_block_download
//! cargo run --release --example initial_block_download -- --blocks 1000 --block-bytes 500000 --delay-ms 80 --mbit 50
//! ```
//! Opens no socket.

use std::collections::VecDeque;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use breakwater::base::Instant;
use breakwater::base::limits::{MAX_HEADERS, PROTOCOL_VERSION};
use breakwater::stub::node::{Options, Output};
use breakwater::stub::{MAGIC, PeerId, StubChain, StubNode};
use breakwater::wire::{self, Hash, HeaderList, Inv, InvKind, Message, Services, Step, Version, write};
use bytes::Bytes;

/// Blocks asked for and not yet here, as Bitcoin Core (net_processing.cpp MAX_BLOCKS_IN_TRANSIT_PER_PEER).
const IN_FLIGHT: usize = 16;
/// The chain is in memory.
const MOST_BYTES: u64 = 2_000_000_000;
/// Unix time of the first block, seconds.
const START: u64 = 1_700_000_000;
const PEER: PeerId = PeerId(1);

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse()?;
    let mut chain = StubChain::new(1, START);
    // Blocks can be filled once there are coins to spend.
    chain.set_block_bytes(args.block_bytes);
    chain.grow(args.blocks, START + u64::from(args.blocks));
    let (height, tip) = (chain.height(), chain.tip_hash());
    let mut node = StubNode::new(chain, 1, Options { unix_start: START, ..Options::default() });

    let mut download = Download::new(node.chain().at(0).map(|genesis| *genesis.hash()).unwrap_or_default());
    let (mut up, mut down) = (Pipe::new(&args), Pipe::new(&args));
    let mut now = Instant(0);
    node.connected(now, PEER, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    up.put(now, download.begin());
    while download.blocks < height {
        let next = up.next().min(down.next());
        if next == Instant::FAR {
            return Err(format!("nothing in flight after {} of {height} blocks", download.blocks).into());
        }
        now = next;
        while let Some(bytes) = up.take(now) {
            node.received(now, PEER, &bytes);
        }
        while let Some(output) = node.next_output() {
            match output {
                Output::Send(_, bytes) => down.put(now, bytes),
                Output::Disconnect(_, why) => return Err(format!("the node says: {why}").into()),
            }
        }
        while let Some(bytes) = down.take(now) {
            let answer = download.received(now, &bytes)?;
            up.put(now, answer);
        }
    }
    if download.chain.last() != Some(&tip) {
        return Err("the download ended at another tip than the node's".into());
    }
    let seconds = now.since(Instant(0)).as_secs_f64();
    println!(
        "link: {} ms one way, {} Mbit/s each way, {IN_FLIGHT} blocks in flight",
        args.delay.as_millis(),
        args.mbit
    );
    println!("headers: {height} after {:.3} s", download.headers_at.since(Instant(0)).as_secs_f64());
    println!("blocks: {height} blocks, {} bytes after {seconds:.3} s", down.bytes);
    println!(
        "that is {:.1} Mbit/s, {:.0} % of the link; {} bytes were sent to the node",
        down.bytes as f64 * 8.0 / 1e6 / seconds,
        down.bytes as f64 * 800.0 / 1e6 / seconds / args.mbit,
        up.bytes
    );
    Ok(())
}

/// One direction of the link: bytes leave one after the other at its bandwidth and arrive after its delay.
struct Pipe {
    delay: Duration,
    /// Bits per microsecond.
    mbit: f64,
    free_at: Instant,
    flying: VecDeque<(Instant, Bytes)>,
    bytes: u64,
}

impl Pipe {
    fn new(args: &Args) -> Pipe {
        let (delay, mbit) = (args.delay, args.mbit);
        Pipe { delay, mbit, free_at: Instant(0), flying: VecDeque::new(), bytes: 0 }
    }

    fn put(&mut self, now: Instant, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len() as u64;
        let span = Duration::from_secs_f64(bytes.len() as f64 * 8.0 / (self.mbit * 1e6));
        self.free_at = self.free_at.max(now) + span;
        self.flying.push_back((self.free_at + self.delay, bytes));
    }

    /// When something arrives.
    fn next(&self) -> Instant {
        self.flying.front().map_or(Instant::FAR, |(at, _)| *at)
    }

    fn take(&mut self, now: Instant) -> Option<Bytes> {
        if self.next() > now {
            return None;
        }
        self.flying.pop_front().map(|(_, bytes)| bytes)
    }
}

/// Headers first, then blocks in order: sans-IO, as all protocol code of the house.
struct Download {
    /// Hashes by height.
    chain: Vec<Hash>,
    headers_at: Instant,
    /// Height of the next block to ask for.
    next: usize,
    in_flight: usize,
    /// Blocks here.
    blocks: u32,
    inbox: Vec<u8>,
}

impl Download {
    fn new(genesis: Hash) -> Download {
        Download {
            chain: vec![genesis],
            headers_at: Instant(0),
            next: 1,
            in_flight: 0,
            blocks: 0,
            inbox: Vec::new(),
        }
    }

    fn begin(&self) -> Bytes {
        let version = Version {
            version: PROTOCOL_VERSION,
            services: Services::empty(),
            time: START as i64,
            receiver: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            nonce: 1,
            user_agent: b"/breakwater-ibd:0.1.0/",
            start_height: 0,
            relay: false,
        };
        let mut out = Vec::new();
        write::version(&mut out, MAGIC, &version);
        Bytes::from(out)
    }

    /// Bytes have come; the answer.
    fn received(&mut self, now: Instant, bytes: &[u8]) -> Result<Bytes, Box<dyn Error>> {
        let (mut inbox, mut used, mut out) = (std::mem::take(&mut self.inbox), 0, Vec::new());
        inbox.extend_from_slice(bytes);
        loop {
            match wire::split(MAGIC, &inbox[used..]) {
                Step::Need(_) => break,
                Step::Drop { fault, .. } => return Err(fault.label().into()),
                Step::End(end) => return Err(end.label().into()),
                Step::Message { command, payload, used: bytes } => {
                    self.message(now, wire::parse(&command, payload)?, &mut out)?;
                    used += bytes;
                }
            }
        }
        inbox.drain(..used);
        self.inbox = inbox;
        Ok(Bytes::from(out))
    }

    fn message(
        &mut self,
        now: Instant,
        message: Message<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<dyn Error>> {
        match message {
            Message::Version(_) => write::empty(out, MAGIC, "verack"),
            Message::Verack => self.ask_headers(out),
            Message::Ping(nonce) => write::pong(out, MAGIC, nonce),
            Message::Headers(list) => self.headers(now, list, out)?,
            Message::Block(bytes) => {
                let expected = self.chain.get(self.blocks as usize + 1);
                if bytes.get(..80).map(wire::sha256d).as_ref() != expected {
                    return Err("a block came that was not asked for next".into());
                }
                (self.blocks, self.in_flight) = (self.blocks + 1, self.in_flight.saturating_sub(1));
                self.ask_blocks(out);
            }
            _ => {}
        }
        Ok(())
    }

    fn headers(
        &mut self,
        now: Instant,
        list: HeaderList<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<dyn Error>> {
        for header in list.iter() {
            if self.chain.last().is_none_or(|last| last[..] != header[4..36]) {
                return Err("a header does not link to the one before".into());
            }
            self.chain.push(wire::sha256d(header));
        }
        if list.len() == MAX_HEADERS {
            self.ask_headers(out);
        } else {
            self.headers_at = now;
            self.ask_blocks(out);
        }
        Ok(())
    }

    fn ask_headers(&self, out: &mut Vec<u8>) {
        write::locator(out, MAGIC, "getheaders", self.chain.iter().rev().take(1), &[0; 32]);
    }

    fn ask_blocks(&mut self, out: &mut Vec<u8>) {
        let most = IN_FLIGHT - self.in_flight;
        let ask: Vec<Inv> = self.chain[self.next.min(self.chain.len())..]
            .iter()
            .take(most)
            .map(|hash| Inv { kind: InvKind::WitnessBlock, hash: *hash })
            .collect();
        if !ask.is_empty() {
            (self.next, self.in_flight) = (self.next + ask.len(), self.in_flight + ask.len());
            write::inventory(out, MAGIC, "getdata", ask.into_iter());
        }
    }
}

/// What was typed.
struct Args {
    blocks: u32,
    block_bytes: usize,
    delay: Duration,
    /// Megabit per second.
    mbit: f64,
}

impl Args {
    fn parse() -> Result<Args, Box<dyn Error>> {
        if std::env::args().any(|arg| arg == "--help" || arg == "-h") {
            println!(
                "usage: initial_block_download [--blocks N] [--block-bytes N] [--delay-ms N] [--mbit N]"
            );
            std::process::exit(0);
        }
        let mut args =
            Args { blocks: 400, block_bytes: 200_000, delay: Duration::from_millis(50), mbit: 20.0 };
        let mut typed = std::env::args().skip(1);
        while let Some(name) = typed.next() {
            let value = typed.next().ok_or(format!("{name} needs a value"))?;
            let wrong = |error: &dyn Error| format!("{name} is {value}: {error}");
            match name.as_str() {
                "--blocks" => args.blocks = value.parse().map_err(|e| wrong(&e))?,
                "--block-bytes" => args.block_bytes = value.parse().map_err(|e| wrong(&e))?,
                "--delay-ms" => args.delay = Duration::from_millis(value.parse().map_err(|e| wrong(&e))?),
                "--mbit" => args.mbit = value.parse().map_err(|e| wrong(&e))?,
                _ => {
                    return Err(
                        format!("{name} is unknown: --blocks, --block-bytes, --delay-ms, --mbit").into()
                    );
                }
            }
        }
        if u64::from(args.blocks).saturating_mul(args.block_bytes as u64) > MOST_BYTES {
            return Err(format!(
                "--blocks times --block-bytes is above {MOST_BYTES}, the chain is in memory"
            )
            .into());
        }
        if args.blocks == 0 || !(0.001..=1e6).contains(&args.mbit) || args.delay > Duration::from_secs(60) {
            return Err(
                "expected --blocks from 1, --mbit from 0.001 to 1,000,000, --delay-ms to 60,000".into()
            );
        }
        Ok(args)
    }
}
