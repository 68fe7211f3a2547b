//! Two thousand peers from one process, from several loopback addresses, who listen and count what they are told.
//!
//! Shows: [`breakwater::stub::Client`], sans-IO, on a current-thread tokio runtime; one synchronises headers, the others
//! share what it knows; every message is checked, the first error ends the program.
//!
//! ```text
//! cargo run --release -- demo --for 120s                                    (prints the relay's address)
//! cargo run --release --example two_thousand_peers -- 127.0.0.1:PORT
//! cargo run --release --example two_thousand_peers -- 127.0.0.1:18444 --peers 500 --seconds 60 --network regtest
//! ```
//! Talks to loopback addresses only, unless `--allow-remote` is given; then it has one source address, and whoever runs
//! the other side should know of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::time::Duration;

use bitcoin::Network;
use breakwater::base::Instant;
use breakwater::stub::Client;
use breakwater::stub::client::{Event, Headers, Kind};
use breakwater::wire::Hash;
use hdrhistogram::Histogram;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinSet, LocalSet};

/// Source addresses: 127.0.1.1 to 127.0.1.8.
const SOURCES: usize = 8;
/// Most peers: each is a descriptor of this process and a port of its source address.
const MOST_PEERS: usize = 100_000;
/// How long the first peer may take to synchronise headers.
const SYNC: Duration = Duration::from_secs(600);

/// Whatever went wrong.
type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let args = Args::parse()?;
    let limit = breakwater::ring::raise_file_limit()?;
    if limit < args.peers as u64 + 32 {
        return Err(format!("the limit of open files is {limit}, too low for {} peers", args.peers).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(args))
}

async fn run(args: Args) -> Result<(), Failure> {
    let magic = args.network.magic().to_bytes();
    let count = Rc::new(RefCell::new(Count::new()?));
    let first = Peer::connect(&args, 0, Client::new(Kind::Listener, 0, magic), count.clone()).await?;
    let (first, headers) = tokio::time::timeout(SYNC, first.synchronised()).await??;
    println!("headers known to height {}", headers.height());

    let mut peers = JoinSet::new();
    peers.spawn_local(first.live());
    for n in 1..args.peers {
        let kind = if n % 2 == 0 { Kind::Listener } else { Kind::InvListener };
        let client = Client::with_headers(kind, n as u64, magic, headers.clone());
        let peer = Peer::connect(&args, n, client, count.clone()).await?;
        peers.spawn_local(peer.live());
    }
    let addresses = if args.address.ip().is_loopback() { SOURCES.min(args.peers) } else { 1 };
    println!("{} peers from {addresses} addresses, listening for {} s", args.peers, args.span.as_secs());
    let end = tokio::time::sleep(args.span);
    tokio::select! {
        () = end => {}
        Some(ended) = peers.join_next() => return Err(ended?),
        _ = tokio::signal::ctrl_c() => {}
    }
    let count = count.borrow();
    println!("ready: {} of {} peers", count.ready, args.peers);
    println!("heard: {} blocks, {} announcements of blocks", count.blocks.len(), count.block_events);
    println!("heard: {} announcements of transactions", count.tx_events);
    if !count.spread.is_empty() {
        let ms = |micros: u64| micros as f64 / 1e3;
        let (half, most) = (count.spread.value_at_quantile(0.5), count.spread.value_at_quantile(0.99));
        println!(
            "after the first peer the others heard of a block: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            ms(half),
            ms(most),
            ms(count.spread.max())
        );
    }
    if count.ready < args.peers {
        return Err(format!("only {} of {} peers became ready", count.ready, args.peers).into());
    }
    Ok(())
}

/// What all peers have heard.
struct Count {
    start: std::time::Instant,
    ready: usize,
    /// When each block was heard of first. Grows with the blocks mined meanwhile.
    blocks: HashMap<Hash, Instant>,
    block_events: u64,
    tx_events: u64,
    /// From the first peer to each, microseconds.
    spread: Histogram<u64>,
}

impl Count {
    fn new() -> Result<Count, Failure> {
        Ok(Count {
            start: std::time::Instant::now(),
            ready: 0,
            blocks: HashMap::new(),
            block_events: 0,
            tx_events: 0,
            spread: Histogram::new_with_bounds(1, 600_000_000, 3)?,
        })
    }

    fn now(&self) -> Instant {
        Instant(self.start.elapsed().as_nanos() as u64)
    }

    fn heard(&mut self, event: &Event) {
        match event {
            Event::Ready { .. } => self.ready += 1,
            Event::Block { hash, at, .. } => {
                self.block_events += 1;
                let first = *self.blocks.entry(*hash).or_insert(*at);
                self.spread.saturating_record((at.since(first).as_micros() as u64).max(1));
            }
            Event::Tx { .. } => self.tx_events += 1,
            _ => {}
        }
    }
}

/// One peer and its socket.
struct Peer {
    client: Client,
    stream: TcpStream,
    count: Rc<RefCell<Count>>,
    out: Vec<u8>,
}

impl Peer {
    async fn connect(
        args: &Args,
        n: usize,
        mut client: Client,
        count: Rc<RefCell<Count>>,
    ) -> Result<Peer, Failure> {
        let socket = if args.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if args.address.ip().is_loopback() && args.address.is_ipv4() {
            let source = Ipv4Addr::new(127, 0, 1, 1 + (n % SOURCES) as u8);
            socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        }
        let connected = socket.connect(args.address).await;
        let stream = connected.map_err(|error| format!("peer {n} could not connect: {error}"))?;
        stream.set_nodelay(true)?;
        let mut out = Vec::new();
        client.start(count.borrow().now(), &mut out);
        Ok(Peer { client, stream, count, out })
    }

    /// Lives until headers are in step; they can be shared then.
    async fn synchronised(mut self) -> Result<(Peer, Headers), Failure> {
        while !self.client.is_ready() {
            self.step().await?;
        }
        let headers = self.client.share_headers();
        Ok((self, headers))
    }

    /// Lives until something is wrong; what.
    async fn live(mut self) -> Failure {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    /// Sends what is to be sent, then waits for bytes or for the time the client wants to do something.
    async fn step(&mut self) -> Result<(), Failure> {
        if !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            self.stream.write_all(&out).await?;
        }
        let (now, wake) = (self.count.borrow().now(), self.client.next_wake());
        tokio::select! {
            readable = self.stream.readable() => {
                readable?;
                self.read()
            }
            () = tokio::time::sleep(wake.since(now)), if wake != Instant::FAR => {
                self.client.tick(self.count.borrow().now(), &mut self.out);
                Ok(())
            }
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 16 * 1024];
        let n = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err("the other side closed the connection".into()),
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut count = self.count.borrow_mut();
        let result = self.client.received(count.now(), &buffer[..n], &mut self.out);
        self.client.events().iter().for_each(|event| count.heard(event));
        Ok(result?)
    }
}

/// What was typed.
struct Args {
    address: SocketAddr,
    network: Network,
    peers: usize,
    span: Duration,
}

impl Args {
    fn parse() -> Result<Args, Failure> {
        if std::env::args().any(|arg| arg == "--help" || arg == "-h") {
            println!(
                "usage: two_thousand_peers [--network NAME] [--peers N] [--seconds N] [--allow-remote] ADDRESS:PORT"
            );
            std::process::exit(0);
        }
        let (mut network, mut peers, mut seconds, mut remote, mut target) =
            (Network::Regtest, 2_000, 30, false, None);
        let mut typed = std::env::args().skip(1);
        while let Some(arg) = typed.next() {
            let mut value = || typed.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--network" => network = value()?.parse()?,
                "--peers" => peers = value()?.parse()?,
                "--seconds" => seconds = value()?.parse()?,
                "--allow-remote" => remote = true,
                _ => target = Some(arg),
            }
        }
        let name = target.ok_or(
            "usage: two_thousand_peers HOST:PORT [--peers N] [--seconds S] [--network NAME] [--allow-remote]",
        )?;
        let address = name.to_socket_addrs()?.next().ok_or(format!("{name} has no address"))?;
        if !address.ip().is_loopback() && !remote {
            return Err(format!("{address} is not a loopback address (--allow-remote permits it)").into());
        }
        if !(1..=MOST_PEERS).contains(&peers) {
            return Err(format!("--peers is {peers}, expected 1 to {MOST_PEERS}").into());
        }
        Ok(Args { address, network, peers, span: Duration::from_secs(seconds) })
    }
}
