//! One full node on regtest, whichever kind it is.
//!
//! It has its own temporary directory and its own ports, which it keeps over kill() and restart(). Blocks pay to
//! `chain::script()`, so that spending needs no wallet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, BlockHash, Transaction, Txid};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::Process;
use super::rpc::Rpc;
use super::{bcoin, chain, core, ports, wait};

/// From process start to the first answer: node.js compiles and opens its databases on a busy machine.
const START: Duration = Duration::from_secs(90);

/// Blocks per RPC call, so that no call comes near its time limit.
const MINE_AT_ONCE: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bcoin,
    Core,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Serve compact filters (NODE_COMPACT_FILTERS).
    pub filters: bool,
    /// Answer `mempool`: bcoin by NODE_BLOOM, Bitcoin Core by permission.
    pub mempool: bool,
    /// Connect to these and to nobody else (Bitcoin Core only).
    pub connect: Vec<SocketAddr>,
    /// Protocol version to claim (bcoin only), when not its own 70015.
    pub version: Option<u32>,
}

impl Default for Options {
    fn default() -> Options {
        Options { filters: true, mempool: false, connect: Vec::new(), version: None }
    }
}

pub struct Node {
    /// First, so that it is dropped before the directory it writes to.
    process: Option<Process>,
    kind: Kind,
    options: Options,
    dir: TempDir,
    p2p: SocketAddr,
    rpc_address: SocketAddr,
    rpc: Rpc,
}

impl Node {
    pub fn start(kind: Kind) -> Node {
        Node::start_with(kind, Options::default())
    }

    /// Starts a node on an empty directory and waits until it answers and listens.
    pub fn start_with(kind: Kind, options: Options) -> Node {
        let (p2p, rpc_address) = (ports::free(), ports::free());
        let dir = tempfile::tempdir().expect("temporary directory");
        let rpc = Rpc::new(rpc_address);
        let mut node = Node { process: None, kind, options, dir, p2p, rpc_address, rpc };
        node.restart();
        node
    }

    /// Starts the process again on the same directory and ports; the old one must be gone.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "the node is still running");
        let data = self.dir.path().join("data");
        std::fs::create_dir_all(&data).expect("data directory");
        let command = match self.kind {
            Kind::Bcoin => bcoin::command(&data, self.p2p, self.rpc_address, &self.options),
            Kind::Core => core::command(&data, self.p2p, self.rpc_address, &self.options),
        };
        let process = self.process.insert(Process::spawn(self.name(), command, &self.log_path()));
        let rpc = &self.rpc;
        wait::until("first answer of the node", START, || {
            if let Some(status) = process.ended() {
                panic!("the node ended at its start ({status}):\n{}", process.log_tail(20));
            }
            rpc.call("getblockcount", json!([])).ok()
        });
        let p2p = self.p2p;
        wait::until("listening node", START, || std::net::TcpStream::connect(p2p).ok());
    }

    /// SIGKILL: what a crash looks like to the relay. The chain is on disk before: Bitcoin Core would else come back
    /// with an empty one, because it writes its block index about once an hour.
    pub fn kill(&mut self) {
        if self.kind == Kind::Core {
            self.call("gettxoutsetinfo", json!(["none"]));
        }
        let mut process = self.process.take().expect("the node is not running");
        process.kill();
    }

    /// SIGSTOP: the process is there, its sockets stay open, and it says nothing more until thaw().
    pub fn freeze(&self) {
        self.process().stop();
    }

    pub fn thaw(&self) {
        self.process().resume();
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn p2p(&self) -> SocketAddr {
        self.p2p
    }

    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    pub fn cpu_seconds(&self) -> f64 {
        self.process().cpu_seconds()
    }

    pub fn log(&self) -> String {
        self.process().log()
    }

    /// Mines on the tip, with what is in the mempool; returns the new hashes.
    pub fn mine(&self, count: u32) -> Vec<BlockHash> {
        let mut hashes = Vec::new();
        while (hashes.len() as u32) < count {
            let some = MINE_AT_ONCE.min(count - hashes.len() as u32);
            let mined = self.call("generatetoaddress", json!([some, chain::address()]));
            hashes.extend(mined.as_array().expect("hashes").iter().map(parse::<BlockHash>));
        }
        hashes
    }

    pub fn height(&self) -> u32 {
        self.call("getblockcount", json!([])).as_u64().expect("height") as u32
    }

    pub fn tip(&self) -> BlockHash {
        parse(&self.call("getbestblockhash", json!([])))
    }

    pub fn hash_at(&self, height: u32) -> BlockHash {
        parse(&self.call("getblockhash", json!([height])))
    }

    pub fn block(&self, hash: BlockHash) -> Block {
        let hex = self.call("getblock", json!([hash.to_string(), false]));
        deserialize_hex(hex.as_str().expect("hex")).expect("block")
    }

    pub fn block_at(&self, height: u32) -> Block {
        self.block(self.hash_at(height))
    }

    /// Hands a block to the node. A block on a shorter fork is taken, too; a refusal is a panic.
    pub fn submit_block(&self, block: &Block) {
        let answer = self.call("submitblock", json!([serialize_hex(block)]));
        // Bitcoin Core says "inconclusive" for a good block that is not on the best chain, "duplicate" for a known one.
        let fine = answer.is_null() || answer == "inconclusive" || answer == "duplicate";
        assert!(fine, "block {} refused: {answer}", block.block_hash());
    }

    /// Puts a transaction into the node's mempool; panics if the node refuses it.
    pub fn send_raw(&self, tx: &Transaction) -> Txid {
        let txid = parse(&self.call("sendrawtransaction", json!([serialize_hex(tx)])));
        // bcoin answers before it has looked.
        wait::for_("transaction in the mempool of the node it was sent to", || self.has_in_mempool(txid));
        txid
    }

    pub fn mempool(&self) -> Vec<Txid> {
        let list = self.call("getrawmempool", json!([]));
        list.as_array().expect("txids").iter().map(parse::<Txid>).collect()
    }

    pub fn has_in_mempool(&self, txid: Txid) -> bool {
        self.mempool().contains(&txid)
    }

    /// `getpeerinfo`, as the node says it.
    pub fn peers(&self) -> Vec<Value> {
        self.call("getpeerinfo", json!([])).as_array().expect("peers").clone()
    }

    /// Any RPC method; panics on an error.
    #[track_caller]
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.rpc.call(method, params).unwrap_or_else(|e| panic!("{}: {e}", self.name()))
    }

    /// A coin that anyone may spend: the reward of the block at `height`, once 100 blocks are on top of it.
    pub fn coin(&self, height: u32) -> chain::Coin {
        chain::Coin::of(&self.block_at(height).txdata[0])
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("the node is not running")
    }

    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Bcoin => "bcoin",
            Kind::Core => "bitcoind",
        }
    }

    fn log_path(&self) -> PathBuf {
        Path::new(self.dir.path()).join("log")
    }
}

fn parse<T: std::str::FromStr>(value: &Value) -> T {
    match value.as_str().map(str::parse) {
        Some(Ok(parsed)) => parsed,
        _ => panic!("unexpected answer: {value}"),
    }
}
