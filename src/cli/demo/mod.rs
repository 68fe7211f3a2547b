//! `breakwater demo`: the relay as `run` starts it, a regtest stub node that mines behind it, and clients of mixed kinds in
//! front, in one process, over real sockets of the loopback interface.
//!
//! - `board`: what everybody reports and the view shows
//! - `node`: the stub node on a thread of its own
//! - `relay`: the relay, its store in a temporary folder
//! - `clients`: the stub clients on two threads
//! - `transport`: how they reach the relay: plain, BIP324, TLS
//! - `view`: a live view, or lines; the summary
//!
//! Node and clients check what they are told; the demo succeeds exactly when nothing they forbid has happened and every
//! client has heard every block. It opens no address other than 127.0.0.1 and leaves no file.

mod board;
mod clients;
mod node;
mod relay;
mod transport;
mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use self::board::Board;
use self::relay::Relay;
use self::transport::Ways;
use self::view::View;
use super::{Failure, run};
use crate::control::logs;
use crate::ring;

/// After the last block, how long clients have to hear of it; also from connecting to ready.
const SETTLE: Duration = Duration::from_secs(15);
/// How often is looked whether everybody has settled.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// Descriptors of the process besides those of the clients.
const OTHER_FILES: u64 = 256;

/// What node and clients are doing. Only goes forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    /// Blocks and transactions are made.
    Running,
    /// No more of them; everybody may catch up.
    Settling,
    /// The relay drains: connections may end.
    Leaving,
    /// Threads end.
    Over,
}

/// Runs for `span` or until SIGINT or SIGTERM, then prints the summary.
///
/// # Errors
/// The host does not allow it, or a client missed a block or was told something wrong: one sentence.
pub(super) fn demo(span: Duration, clients: usize, plain: bool) -> Result<(), Failure> {
    logs::start(false, tracing::Level::WARN);
    ring::probe().map_err(|error| Failure::Other(error.to_string()))?;
    let files = run::file_limit()?;
    let needed = clients as u64 + OTHER_FILES;
    if files < needed {
        return Err(Failure::Other(format!(
            "the limit of open files is {files}, {clients} clients in this process need {needed} (ulimit -n)"
        )));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("the demo cannot run: {error}")))?;
    let signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    let size = Size { clients, files };
    show(&runtime, signals, span, size, View::new(plain))
}

/// How large it may be.
#[derive(Clone, Copy, Debug)]
struct Size {
    clients: usize,
    /// The limit of open files.
    files: u64,
}

/// Starts everything, shows it, ends everything. Only waiting is done inside the runtime.
fn show(
    runtime: &Runtime,
    mut signals: Signals,
    span: Duration,
    size: Size,
    mut view: View,
) -> Result<(), Failure> {
    let (phase, watched) = watch::channel(Phase::Running);
    let board = Arc::new(Board::new(clients::kinds(size.clients))?);
    let (wallets, feeds) = clients::feeds(size.clients);
    let node = node::start(board.clone(), watched.clone(), wallets)?;
    let relay = relay::start(&board, node.address, size.clients, size.files)?;
    let ways = Arc::new(Ways::new(relay.addresses, relay.certificate.clone())?);
    let crowd = clients::start(&board, &watched, &ways, &node.headers, feeds)?;
    view.begin(relay.addresses, node.address, size.clients, span);
    view.admin(&relay.admin);

    let stopped = runtime.block_on(watch_it(&board, &relay, &mut signals, span, &mut view));
    let _ = phase.send(Phase::Settling);
    runtime.block_on(async {
        // A second signal means: now.
        tokio::select! { () = settled(&board) => {} () = signals.any() => {} }
    });
    let followed = board.look();
    let _ = phase.send(Phase::Leaving);
    let drained = relay.drain();
    let _ = phase.send(Phase::Over);
    let threads_fine = crowd.into_iter().chain([node.thread]).all(|thread| thread.join().is_ok());
    drained?;
    view.end(&followed, &board.look(), stopped);
    match followed.complaint() {
        Some(complaint) => Err(Failure::Other(complaint)),
        None if !threads_fine => Err(Failure::Other("a thread of the demo ended by a panic".into())),
        None => Ok(()),
    }
}

/// Until the time is over, a signal comes (then true), or the relay ends by itself, whose reason comes when it is joined.
async fn watch_it(
    board: &Board,
    relay: &Relay,
    signals: &mut Signals,
    span: Duration,
    view: &mut View,
) -> bool {
    let end = Instant::now() + span;
    while !relay.has_ended() {
        tokio::select! {
            () = sleep_until(end) => return false,
            () = signals.any() => return true,
            () = sleep(view.pause()) => view.show(&board.look()),
        }
    }
    false
}

/// What ends the demo early.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let failed = |error| Failure::Other(format!("signals cannot be handled: {error}"));
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Signals { interrupt, terminate })
    }

    async fn any(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {} _ = self.terminate.recv() => {} }
    }
}

/// Waits until all clients know all blocks and the node all transactions, at most `SETTLE`.
async fn settled(board: &Board) {
    let until = Instant::now() + SETTLE;
    while !board.look().is_settled() && Instant::now() < until {
        sleep(SETTLE_PAUSE).await;
    }
}
