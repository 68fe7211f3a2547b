//! The stub clients over real sockets, one task each, on two threads.
//!
//! Bounded: one read buffer per thread; a wallet's transactions wait in a short queue.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bitcoin::Transaction;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::board::{Board, From};
use super::{Phase, node};
use crate::base::Instant;
use crate::cli::Failure;
use crate::stub::client::{Headers, Kind};
use crate::stub::{Client, MAGIC};
use crate::stub_host::Transport;
use crate::transport::Pipe;

/// Threads that clients share.
const THREADS: usize = 2;
/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Transactions that wait for a wallet.
const FEED: usize = 8;
/// Kinds in turn. With three clients there is a wallet, somebody who hears of its transactions, and a light client.
const TURN: [Kind; 10] = [
    Kind::Wallet,
    Kind::CompactNode,
    Kind::Light { every: 5 },
    Kind::Listener,
    Kind::Pinger { every: Duration::from_secs(1) },
    Kind::InvListener,
    Kind::Listener,
    Kind::InvListener,
    Kind::Listener,
    Kind::Listener,
];
/// Compact-block nodes at most: each keeps a mempool of its own.
const MAX_COMPACT: usize = 32;
/// Light clients that begin at genesis; the others have synchronised before.
const FROM_GENESIS: usize = 32;

/// The kinds of this many clients.
pub(super) fn kinds(count: usize) -> Vec<Kind> {
    let kind = |at: usize| match TURN[at % TURN.len()] {
        Kind::CompactNode if at / TURN.len() >= MAX_COMPACT => Kind::Listener,
        kind => kind,
    };
    (0..count).map(kind).collect()
}

/// For each client that is a wallet, a queue of transactions to submit: its ends for the node and for the clients.
pub(super) fn feeds(count: usize) -> (Vec<mpsc::Sender<Transaction>>, Vec<Option<Feed>>) {
    let mut senders = Vec::new();
    let receivers = kinds(count).into_iter().map(|kind| {
        (kind == Kind::Wallet).then(|| {
            let (sender, receiver) = mpsc::channel(FEED);
            senders.push(sender);
            receiver
        })
    });
    let receivers = receivers.collect();
    (senders, receivers)
}

/// Transactions for a wallet.
type Feed = mpsc::Receiver<Transaction>;

/// Starts the clients; the threads end with `Phase::Over`. `feeds` has one entry per client.
pub(super) fn start(
    board: &Arc<Board>,
    phase: &watch::Receiver<Phase>,
    relay: SocketAddr,
    headers: &Headers,
    feeds: Vec<Option<Feed>>,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let failed = |error: std::io::Error| Failure::Other(format!("the demo's clients cannot run: {error}"));
    let kinds = kinds(feeds.len());
    let mut shares: Vec<Vec<(usize, Kind, Option<Feed>)>> = (0..THREADS).map(|_| Vec::new()).collect();
    for (at, (kind, feed)) in kinds.into_iter().zip(feeds).enumerate() {
        // By whole turns, so that both threads have all kinds.
        shares[at / TURN.len() % THREADS].push((at, kind, feed));
    }
    let mut threads = Vec::new();
    for (n, share) in shares.into_iter().enumerate() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (board, phase, headers) = (board.clone(), phase.clone(), headers.clone());
        let thread = std::thread::Builder::new()
            .name(format!("demo-clients-{n}"))
            .spawn(move || LocalSet::new().block_on(&runtime, crowd(board, phase, relay, headers, share)));
        threads.push(thread.map_err(failed)?);
    }
    Ok(threads)
}

/// Connects one after the other and lets them live until all is over.
async fn crowd(
    board: Arc<Board>,
    mut phase: watch::Receiver<Phase>,
    relay: SocketAddr,
    headers: Headers,
    share: Vec<(usize, Kind, Option<Feed>)>,
) {
    let buffer = Rc::new(RefCell::new(vec![0; READ_BYTES]));
    let connect = async {
        for (number, kind, feed) in share {
            let stream = match TcpStream::connect(relay).await {
                Ok(stream) => stream,
                Err(error) => {
                    board.lock().broke(format!("a client could not connect: {error}"));
                    continue;
                }
            };
            // A failure costs a little time only.
            let _ = stream.set_nodelay(true);
            let from_genesis = matches!(kind, Kind::Light { .. }) && number / TURN.len() < FROM_GENESIS;
            let client = match from_genesis {
                true => Client::new(kind, number as u64, MAGIC),
                false => Client::with_headers(kind, number as u64, MAGIC, headers.clone()),
            };
            board.lock().begins(number, client.tip().0);
            let mut out = Vec::new();
            let pipe = match Transport::Plain.connect(MAGIC, &mut out) {
                Ok(pipe) => pipe,
                Err(end) => {
                    board.lock().broke(format!("a client could not begin: {end}"));
                    continue;
                }
            };
            let session = Session {
                board: board.clone(),
                number,
                client,
                stream,
                pipe,
                feed,
                buffer: buffer.clone(),
                out,
            };
            let phase = phase.clone();
            tokio::task::spawn_local(async move {
                let board = session.board.clone();
                let end = session.live().await;
                let mut numbers = board.lock();
                numbers.connected -= 1;
                if *phase.borrow() < Phase::Leaving {
                    numbers.broke(format!("{}: {end}", name(kind)));
                }
            });
        }
    };
    connect.await;
    // An error means that the demo has ended altogether.
    let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
}

/// What a kind is called in the summary.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Listener => "headers listener",
        Kind::InvListener => "inv listener",
        Kind::CompactNode => "compact-block node",
        Kind::Light { .. } => "light client",
        Kind::Wallet => "wallet",
        Kind::Pinger { .. } => "pinger",
    }
}

/// One client and its socket.
struct Session {
    board: Arc<Board>,
    number: usize,
    client: Client,
    stream: TcpStream,
    pipe: Pipe,
    feed: Option<Feed>,
    /// Shared by the thread's clients; borrowed between two waits only.
    buffer: Rc<RefCell<Vec<u8>>>,
    /// What is to be sent, sealed already.
    out: Vec<u8>,
}

impl Session {
    /// Lives until the connection ends or the relay breaks a rule; says which.
    async fn live(mut self) -> String {
        let mut said = Vec::new();
        self.client.start(self.board.now(), &mut said);
        self.pipe.send(&said, &mut self.out);
        loop {
            if !self.out.is_empty() {
                // Given away whole: an idle client keeps no buffer.
                let out = std::mem::take(&mut self.out);
                if let Err(error) = self.stream.write_all(&out).await {
                    return format!("the connection was lost: {error}");
                }
            }
            let wake = self.client.next_wake();
            let (ready, feed) = (self.client.is_ready(), &mut self.feed);
            tokio::select! {
                readable = self.stream.readable() => {
                    let end = match readable {
                        Ok(()) => self.read(),
                        Err(error) => Some(error.to_string()),
                    };
                    if let Some(end) = end {
                        return end;
                    }
                }
                () = tokio::time::sleep(self.board.until(wake)), if wake != Instant::FAR => {
                    let mut said = Vec::new();
                    self.client.tick(self.board.now(), &mut said);
                    self.pipe.send(&said, &mut self.out);
                }
                Some(tx) = next(feed), if ready => self.submit(&tx),
            }
        }
    }

    /// Reads what is there; says why the client ends.
    fn read(&mut self) -> Option<String> {
        let mut buffer = self.buffer.borrow_mut();
        let n = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Some("the relay closed the connection".to_owned()),
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(error) => return Some(format!("the connection was lost: {error}")),
        };
        let (mut frames, mut said) = (Vec::new(), Vec::new());
        let end = self.pipe.received_v1(&mut buffer[..n], &mut frames, &mut self.out);
        let result = self.client.received(self.board.now(), &frames, &mut said);
        self.pipe.send(&said, &mut self.out);
        let events = self.client.events();
        if !events.is_empty() {
            self.board.lock().seen(self.number, &events);
        }
        let end = end.err().map(|end| format!("the transport is over: {end}"));
        result.err().map(|broken| broken.to_string()).or(end)
    }

    fn submit(&mut self, tx: &Transaction) {
        let mut said = Vec::new();
        let submitted = self.client.submit(tx, &mut said);
        self.pipe.send(&said, &mut self.out);
        if submitted {
            self.board.lock().tx(self.board.now(), node::hashes(tx), From::Wallet);
        }
    }
}

/// The next transaction to submit; never for those who have no wallet.
async fn next(feed: &mut Option<Feed>) -> Option<Transaction> {
    match feed {
        Some(feed) => feed.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_clients_are_enough_for_all_there_is_to_show() {
        assert_eq!(kinds(3), [Kind::Wallet, Kind::CompactNode, Kind::Light { every: 5 }]);
        let (wallets, feeds) = feeds(300);
        assert_eq!((wallets.len(), feeds.len()), (30, 300));
        let compact = kinds(15_000).iter().filter(|kind| **kind == Kind::CompactNode).count();
        assert_eq!(compact, MAX_COMPACT);
    }
}
