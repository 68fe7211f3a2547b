//! A host on a thread of its own, for owners that are not tasks: what they want done with it they send as errands.
//!
//! Bounded: errands wait in a short queue; who has one more waits, or is told (`try_errand`).

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};

use super::StubHost;
use crate::base::Instant;
use crate::stub::StubNode;

/// Errands that wait.
const ERRANDS: usize = 1_024;

/// What the node does of its own accord.
pub trait Work: Send + 'static {
    /// Called before each wait: does what is due. Returns when it wants to be called again; what happens on the
    /// connections calls it earlier.
    fn turn(&mut self, host: &mut StubHost) -> Instant;
}

/// Nothing: a node that only answers.
impl Work for () {
    fn turn(&mut self, _: &mut StubHost) -> Instant {
        Instant::FAR
    }
}

/// The thread of a stub node has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the thread of the stub node has ended")]
pub struct Gone;

/// Something to be done with host and work.
type Errand<W> = Box<dyn FnOnce(&mut StubHost, &mut W) + Send>;

/// A stub node that listens, on a thread of its own. Ends when dropped.
#[derive(Debug)]
pub struct StubServer<W: Work = ()> {
    address: SocketAddr,
    desk: Desk<W>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// Where errands are left; may be cloned.
#[derive(Debug)]
pub struct Desk<W: Work>(mpsc::Sender<Errand<W>>);

impl<W: Work> Clone for Desk<W> {
    fn clone(&self) -> Desk<W> {
        Desk(self.0.clone())
    }
}

impl<W: Work> Desk<W> {
    /// Leaves something to be done and does not wait for it. False when the queue is full or the node has ended.
    pub fn try_errand(&self, errand: impl FnOnce(&mut StubHost, &mut W) + Send + 'static) -> bool {
        self.0.try_send(Box::new(errand)).is_ok()
    }

    /// Has something done and waits for its result; what follows from it is sent to the peers at once. Not for tasks of
    /// a tokio runtime: it blocks.
    ///
    /// # Errors
    /// The node has ended.
    pub fn with<R: Send + 'static>(
        &self,
        errand: impl FnOnce(&mut StubHost, &mut W) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let (answer, result) = sync_channel(1);
        let errand: Errand<W> = Box::new(move |host, work| {
            // Nobody waits for it any more: then nobody needs it.
            let _ = answer.send(errand(host, work));
        });
        self.0.blocking_send(errand).map_err(|_| Gone)?;
        result.recv().map_err(|_| Gone)
    }
}

impl<W: Work> StubServer<W> {
    /// Binds and starts. `start`: `Instant(0)` of the node's clock.
    ///
    /// # Errors
    /// The address cannot be had, or the host gives no thread.
    pub fn start(
        node: StubNode,
        listen: SocketAddr,
        start: std::time::Instant,
        max_peers: usize,
        work: W,
    ) -> std::io::Result<StubServer<W>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(listen))?;
        let address = listener.local_addr()?;
        let (errands, queue) = mpsc::channel(ERRANDS);
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let host = StubHost::new(node, start, max_peers);
        let thread = std::thread::Builder::new()
            .name("stub-node".into())
            .spawn(move || run(&runtime, listener, host, work, queue, &stopped))?;
        Ok(StubServer { address, desk: Desk(errands), stop, thread: Some(thread) })
    }

    /// Where it listens, or did before it was closed.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where errands are left.
    pub fn desk(&self) -> &Desk<W> {
        &self.desk
    }

    /// Listens again at its address after `close` of the host.
    ///
    /// # Errors
    /// The address cannot be had, or the node has ended.
    pub fn reopen(&self) -> std::io::Result<()> {
        let listener = std::net::TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        // Turned into tokio's on the thread whose runtime it is for.
        let opened = self.desk.with(move |host, _| TcpListener::from_std(listener).map(|l| host.listen(l)));
        opened.map_err(std::io::Error::other)?
    }
}

impl<W: Work> Drop for StubServer<W> {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // Had it panicked, its errands would have said so.
            let _ = thread.join();
        }
    }
}

fn run<W: Work>(
    runtime: &Runtime,
    listener: TcpListener,
    mut host: StubHost,
    mut work: W,
    mut errands: mpsc::Receiver<Errand<W>>,
    stop: &Notify,
) {
    runtime.block_on(async {
        host.listen(listener);
        let mut stopped = pin!(stop.notified());
        loop {
            let wake = work.turn(&mut host);
            host.flush();
            let wait = wake.since(host.now()).min(super::LONGEST);
            let errand = tokio::select! {
                () = &mut stopped => return,
                errand = errands.recv() => errand,
                () = host.turn() => None,
                () = tokio::time::sleep(wait) => None,
            };
            if let Some(errand) = errand {
                errand(&mut host, &mut work);
                host.flush();
            }
        }
    });
}
