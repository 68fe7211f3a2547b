//! CPU of the full node behind: with nobody connected, with one direct peer, and with the relay and all its clients.
//!
//! Needs Bitcoin Core: `BITCOIND` names its bitcoind, bitcoin-cli lies beside it. The clients shake hands and fetch each
//! new block; in the first case nobody does, so that mining and RPC can be taken out of the other two.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Common, LOAD_CORE};
use crate::relay_process::{self, RelayProcess};
use crate::report::Report;
use crate::swarm::{Manner, Plan, Swarm};
use crate::{Outcome, os};

/// The node may spend this many times the CPU of one direct peer. Two links and the filters' questions are more than one
/// peer's; what matters is that it does not grow with the clients.
const TARGET: f64 = 3.0;
/// Time given to each block and its fan-out.
const PACE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Clients of the relay.
    #[arg(long, default_value_t = 20_000)]
    clients: u32,
    /// Blocks mined while the node's CPU is measured.
    #[arg(long, default_value_t = 40)]
    blocks: u32,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let Some(bitcoind) = std::env::var_os("BITCOIND").map(PathBuf::from) else {
        return Err("node-cpu needs Bitcoin Core: set BITCOIND=/path/to/bitcoind".into());
    };
    let (clients, blocks) = if args.common.tiny { (20, 3) } else { (args.clients, args.blocks) };
    let mut report =
        Report::new("node_cpu", json!({ "clients": clients, "blocks": blocks, "node": "Bitcoin Core" }));
    let nobody = measure(&bitcoind, blocks, |_| Ok(Vec::new()))?;
    let one = measure(&bitcoind, blocks, |p2p| Ok(vec![swarm(p2p, 1, 1)?]))?;
    let mut relay = None;
    let many = measure(&bitcoind, blocks, |p2p| {
        let address = relay.insert(RelayProcess::start(&relay_process::beside()?, &[p2p], &[])?).address();
        let half = clients / 2;
        Ok(vec![swarm(address, half, 10)?, swarm(address, clients - half, 100)?])
    })?;
    drop(relay);
    for (key, text, cpu) in [
        ("nobody_ms", "node's CPU per block, nobody connected", nobody),
        ("one_peer_ms", "node's CPU per block, one direct peer", one),
        ("relay_ms", "node's CPU per block, the relay and all its clients", many),
    ] {
        report.number(key, text, cpu, "ms");
    }
    report.number(
        "per_client_us",
        "of that, per client of the relay",
        (many - nobody) * 1e3 / f64::from(clients),
        "us",
    );
    report.ratio("relay against one direct peer, all included", many / one, TARGET);
    report.finish(args.common)
}

/// Milliseconds of CPU per block of a fresh node, with what `connect` connects to it. Everybody hears of every block.
fn measure(
    bitcoind: &Path,
    blocks: u32,
    connect: impl FnOnce(SocketAddr) -> Outcome<Vec<Swarm>>,
) -> Outcome<f64> {
    let folder = std::env::temp_dir().join(format!("breakwater-node-cpu-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("node"))?;
    let node = Node::start(bitcoind, &folder.join("node"))?;
    node.mine(10)?;
    let before = node.cpu()?;
    let swarms = connect(node.p2p)?;
    for swarm in &swarms {
        swarm.wait("all clients ready", PATIENCE, |seen| {
            seen.ready.load(std::sync::atomic::Ordering::Acquire) >= u64::from(swarm.clients())
        })?;
    }
    // In all three cases the same time passes: an idle node spends CPU, too.
    let start = Instant::now();
    for n in 1..=u64::from(blocks) {
        node.mine(1)?;
        for swarm in &swarms {
            swarm.wait("every client hears of the block", PATIENCE, |seen| {
                seen.blocks.load(std::sync::atomic::Ordering::Acquire) >= n * u64::from(swarm.clients())
            })?;
        }
    }
    std::thread::sleep((PACE * blocks).saturating_sub(start.elapsed()));
    let spent = node.cpu()?.saturating_sub(before);
    for swarm in swarms {
        swarm.stop()?;
    }
    drop(node);
    fs::remove_dir_all(&folder)?;
    Ok(spent.as_secs_f64() * 1e3 / f64::from(blocks))
}

fn swarm(target: SocketAddr, clients: u32, source: u8) -> Outcome<Swarm> {
    Swarm::start(Plan { target, clients, manner: Manner::Fetcher, source, core: LOAD_CORE, pings: None })
}

/// A bitcoind on regtest; killed when dropped.
struct Node {
    child: Child,
    cli: Cli,
    p2p: SocketAddr,
}

/// How bitcoin-cli is called.
struct Cli {
    program: PathBuf,
    rpc: u16,
}

impl Node {
    fn start(bitcoind: &Path, folder: &Path) -> Outcome<Node> {
        let (p2p, onion, rpc) = (free()?, free()?, free()?.port());
        let child = Command::new(bitcoind)
            .args(["-regtest", "-server=1", "-rpcuser=bench", "-rpcpassword=bench", "-listenonion=0"])
            .args(["-discover=0", "-dnsseed=0", "-fixedseeds=0", "-natpmp=0", "-printtoconsole=0"])
            .args(["-blockfilterindex=1", "-peerblockfilters=1"])
            .arg(format!("-datadir={}", folder.display()))
            .arg(format!("-rpcport={rpc}"))
            .arg(format!("-bind={onion}=onion"))
            .arg(format!("-whitebind=noban,relay,mempool,download,addr@{p2p}"))
            .spawn()?;
        let cli = Cli { program: bitcoind.with_file_name("bitcoin-cli"), rpc };
        let node = Node { child, cli, p2p };
        let start = Instant::now();
        while node.cli.call(&["getblockcount"]).is_err() {
            if start.elapsed() > PATIENCE {
                return Err("bitcoind does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(node)
    }

    fn mine(&self, blocks: u32) -> Outcome {
        self.cli.call(&["generatetodescriptor", &blocks.to_string(), "raw(51)"])
    }

    fn cpu(&self) -> Outcome<Duration> {
        os::process_cpu(self.child.id()).ok_or_else(|| "the node is gone".into())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cli {
    fn call(&self, words: &[&str]) -> Outcome {
        let status = Command::new(&self.program)
            .args(["-regtest", "-rpcuser=bench", "-rpcpassword=bench"])
            .arg(format!("-rpcport={}", self.rpc))
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if status.success() { Ok(()) } else { Err(format!("bitcoin-cli {words:?}: {status}").into()) }
    }
}

fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
