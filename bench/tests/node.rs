//! `breakwater-rig node` on real sockets: its contract with scripts, and its nodes behind the relay's own binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use breakwater::base;
use breakwater::stub::client::{Event, Kind};
use breakwater::stub::{Client, MAGIC};
use breakwater::wire::{Hash, Inv, InvKind, write};
use breakwater_rig::relay_process::RelayProcess;
use breakwater_rig::rig::node::{Announcement, Fleet, Kind as What, Plan};

const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap().success());
    }

    #[track_caller]
    fn end(&mut self) -> Option<i32> {
        until("the process ends", || self.0.try_wait().unwrap()).code()
    }
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn node(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater-rig"));
    command.arg("node").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts it and reads a ready line per instance.
fn start(instances: usize, args: &[&str]) -> (Process, Vec<String>) {
    let mut child = node(args).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let process = Process(child);
    let lines = (0..instances).map(|_| {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    });
    let lines = lines.collect();
    (process, lines)
}

/// A client that follows blocks and transactions.
struct Follower {
    stream: TcpStream,
    client: Client,
    start: Instant,
    blocks: Vec<Hash>,
    txs: usize,
    ended: bool,
}

impl Follower {
    fn connect(address: SocketAddr) -> Follower {
        let mut client = Client::new(Kind::InvListener, 7, MAGIC);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut out = Vec::new();
        client.start(base::Instant(0), &mut out);
        stream.write_all(&out).unwrap();
        let mut one =
            Follower { stream, client, start: Instant::now(), blocks: Vec::new(), txs: 0, ended: false };
        one.until("the client is ready", |one| one.client.is_ready());
        one
    }

    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&Follower) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE && !self.ended, "{what}: ended {}", self.ended);
            self.step();
        }
    }

    fn step(&mut self) {
        let now = base::Instant(self.start.elapsed().as_nanos() as u64);
        let (mut buffer, mut out) = (vec![0; 65_536], Vec::new());
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.client.received(now, &buffer[..count], &mut out).unwrap(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.ended = true,
        }
        self.client.tick(now, &mut out);
        let _ = self.stream.write_all(&out);
        for event in self.client.events() {
            match event {
                Event::Block { hash, .. } => self.blocks.push(hash),
                Event::Tx { .. } => self.txs += 1,
                _ => {}
            }
        }
    }
}

#[test]
fn bad_usage_is_one_sentence_and_status_two() {
    for (args, word) in [
        (&["--listen", "127.0.0.1:0", "--network", "mainnet"][..], "--network"),
        (&["--listen", "0.0.0.0:0"], "--i-operate-this-target"),
        (&["--listen", "203.0.113.7:18444"], "--i-operate-this-target"),
        (&["--listen", "127.0.0.1:65535", "--instances", "2"], "65536"),
        (&["--listen", "nowhere"], "--listen"),
        (&["--listen", "127.0.0.1:0", "--block-every", "0s"], "--block-every"),
        (&["--listen", "127.0.0.1:0", "--tx-rate=-1"], "--tx-rate"),
        (&["--listen", "127.0.0.1:0", "--instances", "0"], "--instances"),
        (&["--listen", "127.0.0.1:0", "--block-bytes", "4000000"], "--block-bytes"),
        (&["--blocks", "5"], "--listen"),
    ] {
        let output = node(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert_eq!(text.trim().lines().count(), 1, "{args:?}: {text}");
        assert!(text.contains(word), "{args:?}: {text}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = node(&["--listen", &address, "--blocks", "1"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&address) && text.trim().lines().count() == 1, "{text}");
}

#[test]
fn a_client_of_the_second_instance_hears_what_the_first_makes_until_a_signal() {
    for signal in ["TERM", "INT"] {
        let (mut process, lines) = start(
            2,
            &[
                "--network",
                "regtest",
                "--listen",
                "127.0.0.1:0",
                "--blocks",
                "120",
                "--block-bytes",
                "20000",
                "--block-every",
                "300ms",
                "--tx-rate",
                "50",
                "--instances",
                "2",
                "--relay-delay",
                "5ms",
            ],
        );
        let mut addresses = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let rest = line.strip_prefix(&format!("node {number} listening on ")).expect(line);
            let (address, rest) = rest.split_once(" height 120").expect(line);
            assert!(rest.starts_with(", blocks of ") && rest.ends_with(" bytes from height 101"), "{line}");
            addresses.push(address.parse::<SocketAddr>().unwrap());
        }
        let mut follower = Follower::connect(addresses[1]);
        follower.until("blocks and transactions come", |one| one.blocks.len() >= 3 && one.txs >= 30);
        process.signal(signal);
        assert_eq!(process.end(), Some(0), "SIG{signal}");
    }
}

/// The relay's binary beside this test; built when only this test was.
fn relay_binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().unwrap().parent().unwrap().join("breakwater");
    if !path.exists() {
        let build = ["build", "--profile", "test", "--workspace", "--bin", "breakwater"];
        assert!(Command::new(env!("CARGO")).args(build).status().unwrap().success());
    }
    path
}

#[test]
fn a_relay_goes_on_with_the_other_instance() {
    let seen: Arc<Mutex<Vec<Announcement>>> = Arc::default();
    let noted = seen.clone();
    let plan = Plan {
        instances: 2,
        blocks: 130,
        relay_delay: Duration::from_millis(5),
        observer: Some(Arc::new(move |announcement| noted.lock().unwrap().push(*announcement))),
        ..Plan::default()
    };
    let fleet = Fleet::start(&plan).unwrap();
    let relay = RelayProcess::start(&relay_binary(), &fleet.addresses(), &[]).unwrap();
    let mut follower = Follower::connect(relay.address());
    let first = fleet.mine().unwrap();
    assert_eq!(first.height, 131);
    follower.until("the first block", |one| one.blocks.contains(&first.hash));
    let txs = fleet.make_txs(40).unwrap();
    assert_eq!((txs.hashes.len(), txs.short), (40, None));
    follower.until("transactions", |one| one.txs >= 40);
    let told = |node, what: What, hash: Hash| {
        let is = |a: &Announcement| a.node == node && a.kind == what && a.hash == hash;
        until("an announcement", || seen.lock().unwrap().iter().find(|a| is(a)).copied())
    };
    for node in 0..2 {
        assert!(told(node, What::Block(131), first.hash).at >= first.at);
        txs.hashes.iter().for_each(|[txid, wtxid]| assert_eq!(told(node, What::Tx, *txid).wtxid, *wtxid));
    }
    for dead in [0, 1] {
        fleet.close(dead).unwrap();
        let gone = until("its links are closed", || {
            Some(fleet.numbers().unwrap()).filter(|numbers| numbers[dead].peers == 0)
        });
        assert!(gone[dead].height >= 131);
        let block = fleet.mine().unwrap();
        follower.until("a block by way of the other", |one| one.blocks.contains(&block.hash));
        fleet.reopen(dead).unwrap();
        until("the relay comes back", || (fleet.numbers().unwrap()[dead].peers > 0).then_some(()));
    }
    let numbers = fleet.numbers().unwrap();
    assert_eq!((numbers[0].made.txs, numbers[0].made.missed(), numbers[1].made.txs), (40, 0, 0));
    assert!(numbers.iter().all(|n| n.height == 133 && n.blocks == 3 && n.conflicts == 0), "{numbers:?}");
    assert!(numbers.iter().all(|n| n.totals.bytes_out > 0 && n.totals.slow == 0), "{numbers:?}");
}

#[test]
fn who_reads_slowly_gets_everything_and_others_do_not_wait() {
    let plan = Plan { blocks: 140, block_bytes: 1_000_000, ..Plan::default() };
    let fleet = Fleet::start(&plan).unwrap();
    assert!(fleet.filled().is_some_and(|(from, bytes)| from == 101 && bytes > 900_000));
    let address = fleet.addresses()[0];
    let mut slow = Follower::connect(address);
    let mut other = Follower::connect(address);
    let wanted: Vec<Hash> = (0..3).map(|_| fleet.mine().unwrap().hash).collect();
    // Far more than windows and socket buffers hold, in requests that must wait for one another.
    let rounds = 60;
    let mut request = Vec::new();
    for _ in 0..rounds {
        let invs = wanted.iter().map(|hash| Inv { kind: InvKind::WitnessBlock, hash: *hash });
        write::inventory(&mut request, MAGIC, "getdata", invs);
    }
    slow.stream.write_all(&request).unwrap();
    for _ in 0..5 {
        let mined = fleet.mine().unwrap();
        other.until("the others hear of blocks", |one| one.blocks.contains(&mined.hash));
    }
    let waiting = fleet.numbers().unwrap()[0];
    let all = rounds * wanted.len() as u64;
    assert!(waiting.node.blocks_served < all / 2, "requests wait: {waiting:?}");
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
    slow.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while bytes < all * 900_000 {
        match slow.stream.read(&mut buffer).unwrap() {
            0 => panic!("dropped after {bytes} bytes"),
            count => bytes += count as u64,
        }
    }
    let end = until("all is served", || {
        Some(fleet.numbers().unwrap()[0]).filter(|numbers| numbers.node.blocks_served == all)
    });
    assert_eq!((end.totals.slow, end.totals.refused, end.peers), (0, 0, 2));
}

#[test]
fn equal_seeds_give_equal_chains_and_transactions() {
    let make = |seed| {
        let fleet = Fleet::start(&Plan { seed, blocks: 110, ..Plan::default() }).unwrap();
        fleet.make_txs(20).unwrap().hashes
    };
    assert_eq!(make(5), make(5));
    assert_ne!(make(5), make(6));
}
