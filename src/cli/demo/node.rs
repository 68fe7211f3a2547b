//! The stub node on a thread of its own, over real sockets: mines, makes transactions, and hands some of them to wallets.
//!
//! Connections and their bounds are [`StubHost`]'s; here are the reasons why it says something.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bitcoin::Transaction;
use bitcoin::hashes::Hash as _;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::Phase;
use super::board::{Board, From};
use crate::base::Instant;
use crate::cli::Failure;
use crate::stub::client::{Headers, Kind};
use crate::stub::node::{Options, Output};
use crate::stub::{Client, MAGIC, PeerId, StubChain, StubNode};
use crate::stub_host::{StubHost, unix_time};

/// Blocks before the demo begins: coins are mature after 100.
const FIRST_BLOCKS: u32 = 150;
/// From one block to the next.
const BLOCK_EVERY: Duration = Duration::from_secs(3);
/// The node makes a transaction, and a wallet is given one, this often each.
const TX_EVERY: Duration = Duration::from_millis(400);
/// Transactions one wallet is given; below what it can hold.
const TXS_PER_WALLET: u32 = 900;
/// Connections the node takes; the relay needs a few.
const MAX_PEERS: usize = 64;

/// The node.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its headers at the start, for clients that have synchronised before.
    pub(super) headers: Headers,
    /// Ends with `Phase::Over`.
    pub(super) thread: JoinHandle<()>,
}

/// Starts it; `wallets`: who is given transactions to submit.
pub(super) fn start(
    board: Arc<Board>,
    phase: watch::Receiver<Phase>,
    wallets: Vec<mpsc::Sender<Transaction>>,
) -> Result<Node, Failure> {
    let failed = |error: std::io::Error| Failure::Other(format!("the demo's node cannot run: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let seed = rand::random();
    let unix_start = unix_time();
    let mut chain = StubChain::new(seed, unix_start.saturating_sub(u64::from(FIRST_BLOCKS)));
    chain.grow(FIRST_BLOCKS, unix_start);
    board.lock().height = chain.height();
    let options = Options { unix_start, ..Options::default() };
    let mut node = StubNode::new(chain, seed, options);
    let headers = headers(&mut node, board.now());
    let thread = std::thread::Builder::new().name("demo-node".into()).spawn(move || {
        let rng = SmallRng::seed_from_u64(seed);
        let given = vec![0; wallets.len()];
        runtime.block_on(async {
            let mut host = StubHost::new(node, board.start(), MAX_PEERS);
            host.listen(listener);
            Worker { board, host, rng, wallets, given }.work(phase).await;
        });
    });
    Ok(Node { address, headers, thread: thread.map_err(failed)? })
}

/// Synchronises one client with the node, in memory; what it knows is shared by those who connect to the relay.
fn headers(node: &mut StubNode, now: Instant) -> Headers {
    let (peer, mut up) = (PeerId(0), Vec::new());
    let mut client = Client::new(Kind::Listener, 0, MAGIC);
    client.start(now, &mut up);
    node.connected(now, peer, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    while !client.is_ready() && !up.is_empty() {
        node.received(now, peer, &std::mem::take(&mut up));
        while let Some(output) = node.next_output() {
            if let Output::Send(_, bytes) = output
                && client.received(now, &bytes, &mut up).is_err()
            {
                break;
            }
        }
    }
    node.disconnected(now, peer);
    while node.next_output().is_some() {}
    client.share_headers()
}

struct Worker {
    board: Arc<Board>,
    host: StubHost,
    rng: SmallRng,
    wallets: Vec<mpsc::Sender<Transaction>>,
    /// Transactions each wallet was given.
    given: Vec<u32>,
}

impl Worker {
    async fn work(mut self, mut phase: watch::Receiver<Phase>) {
        let mut block_at = self.board.now() + BLOCK_EVERY;
        let mut tx_at = block_at;
        loop {
            let now = self.board.now();
            match *phase.borrow_and_update() {
                Phase::Running => {
                    // Somebody must be there to hear of it.
                    if self.board.lock().ready() == 0 {
                        (block_at, tx_at) = (now + BLOCK_EVERY / 3, now + TX_EVERY);
                    }
                    if tx_at <= now {
                        tx_at = now + TX_EVERY;
                        self.make_txs();
                    }
                    if block_at <= now {
                        block_at = now + BLOCK_EVERY;
                        self.mine();
                    }
                }
                Phase::Settling | Phase::Leaving => {
                    (block_at, tx_at) = (Instant::FAR, Instant::FAR);
                    if self.board.lock().mined == 0 {
                        self.mine();
                    }
                }
                Phase::Over => return,
            }
            self.host.flush();
            self.report();
            let wake = block_at.min(tx_at).min(now + Duration::from_secs(60));
            tokio::select! {
                () = self.host.turn() => {}
                () = tokio::time::sleep(self.board.until(wake)) => {}
                _ = phase.changed() => {}
            }
        }
    }

    fn mine(&mut self) {
        let chain = self.host.node_mut().chain_mut();
        let hash = chain.mine(unix_time());
        let height = chain.height();
        self.board.lock().mined(self.board.now(), hash, height);
    }

    /// One transaction of the node's own, one for a wallet to submit.
    fn make_txs(&mut self) {
        let chain = self.host.node_mut().chain_mut();
        if let Some(tx) = chain.make_tx(&mut self.rng, 300)
            && chain.accept_tx(&tx).is_ok()
        {
            self.board.lock().tx(self.board.now(), hashes(&tx), From::Node);
        }
        if self.wallets.is_empty() {
            return;
        }
        let pick = self.rng.random_range(0..self.wallets.len());
        if self.given[pick] < TXS_PER_WALLET
            && self.wallets[pick].capacity() > 0
            && let Some(tx) = self.host.node_mut().chain_mut().make_tx(&mut self.rng, 300)
            // Only this thread sends, so that there is still room.
            && self.wallets[pick].try_send(tx).is_ok()
        {
            self.given[pick] += 1;
        }
    }

    fn report(&mut self) {
        let dropped = self.host.take_dropped();
        let mut numbers = self.board.lock();
        dropped.iter().for_each(|why| numbers.broke(format!("the node dropped the relay: {why}")));
        numbers.node = *self.host.node().counters();
        numbers.node_peers = self.host.peers();
    }
}

/// The two hashes of a transaction.
pub(super) fn hashes(tx: &Transaction) -> [crate::wire::Hash; 2] {
    [tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array()]
}
