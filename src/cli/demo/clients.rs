//! The stub clients over real sockets, one task each, on two threads.
//!
//! Bounded: one read buffer per thread; a wallet's transactions wait in a short queue.

use std::cell::RefCell;
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
use super::transport::{Transport, Ways};
use super::{Phase, node};
use crate::base::Instant;
use crate::cli::Failure;
use crate::stub::client::{Headers, Kind};
use crate::stub::{Client, MAGIC};
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
    ways: &Arc<Ways>,
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
        let (board, phase, ways, headers) = (board.clone(), phase.clone(), ways.clone(), headers.clone());
        let thread = std::thread::Builder::new()
            .name(format!("demo-clients-{n}"))
            .spawn(move || LocalSet::new().block_on(&runtime, crowd(board, phase, ways, headers, share)));
        threads.push(thread.map_err(failed)?);
    }
    Ok(threads)
}

/// Connects one after the other and lets them live until all is over.
async fn crowd(
    board: Arc<Board>,
    mut phase: watch::Receiver<Phase>,
    ways: Arc<Ways>,
    headers: Headers,
    share: Vec<(usize, Kind, Option<Feed>)>,
) {
    let buffer = Rc::new(RefCell::new(vec![0; READ_BYTES]));
    let connect = async {
        for (number, kind, feed) in share {
            let transport = Transport::of(number);
            ways.ticket(transport).await;
            let stream = match TcpStream::connect(ways.address(transport)).await {
                Ok(stream) => stream,
                Err(error) => {
                    board.lock().broke(format!("a client could not connect: {error}"));
                    continue;
                }
            };
            let mut out = Vec::new();
            let pipe = match ways.begin(transport, &mut out) {
                Ok(pipe) => pipe,
                Err(end) => {
                    board.lock().broke(format!(
                        "a client could not speak {}: {}",
                        transport.name(),
                        end.label()
                    ));
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
            let session = Session {
                board: board.clone(),
                number,
                client,
                pipe,
                stream,
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
                    numbers.broke(format!("{} over {}: {end}", name(kind), transport.name()));
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
    pipe: Pipe,
    stream: TcpStream,
    feed: Option<Feed>,
    /// Shared by the thread's clients; borrowed between two waits only.
    buffer: Rc<RefCell<Vec<u8>>>,
    /// As it goes to the socket.
    out: Vec<u8>,
}

impl Session {
    /// Lives until the connection ends or the relay breaks a rule; says which.
    async fn live(mut self) -> String {
        let mut frames = Vec::new();
        self.client.start(self.board.now(), &mut frames);
        self.pipe.send(&frames, &mut self.out);
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
                    let mut frames = Vec::new();
                    self.client.tick(self.board.now(), &mut frames);
                    self.pipe.send(&frames, &mut self.out);
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
        let (mut plain, mut frames) = (Vec::new(), Vec::new());
        let opened = self.pipe.received(&mut buffer[..n], &mut plain, &mut self.out);
        self.client.set_framing(self.pipe.framing());
        let result = self.client.received(self.board.now(), &plain, &mut frames);
        self.pipe.send(&frames, &mut self.out);
        let events = self.client.events();
        if !events.is_empty() {
            self.board.lock().seen(self.number, &events);
        }
        let end = opened.err().map(|end| format!("the relay ended the transport: {}", end.label()));
        result.err().map(|broken| broken.to_string()).or(end)
    }

    fn submit(&mut self, tx: &Transaction) {
        let mut frames = Vec::new();
        if self.client.submit(tx, &mut frames) {
            self.pipe.send(&frames, &mut self.out);
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
