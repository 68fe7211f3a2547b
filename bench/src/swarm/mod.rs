//! Thousands of clients on one ring, on a thread of their own. The germ of the load rig.
//!
//! A client costs no descriptor of the process (direct descriptors) and, while idle, about 120 bytes. One ring holds as
//! many clients as RLIMIT_NOFILE allows; start several swarms for more. Sources are 127.0.1.x, so that the
//! ports of one address do not run out.
//!
//! Does not check what it is told: it counts. Not for foreign hosts: sources and targets are loopback addresses.

mod driver;
mod heard;
mod peer;
pub mod raw;
mod secure;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use breakwater::base::End;
use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::Outcome;
use crate::os::{self, Wake};

pub use peer::Manner;
pub use secure::{Begin, Secure};

/// Commands that may wait for the swarm's thread; the sender waits while there are more.
const COMMANDS: usize = 1_024;

/// What a swarm does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to connect; an IPv4 loopback address.
    pub target: SocketAddr,
    /// Number of clients, at most RLIMIT_NOFILE.
    pub clients: u32,
    /// How they behave.
    pub manner: Manner,
    /// Last byte of their first source address, 127.0.1.x; one address serves 10,000 clients.
    pub source: u8,
    /// The core the swarm's thread is pinned to.
    pub core: usize,
    /// Pings on a schedule.
    pub pings: Option<Pings>,
}

/// Pings on a schedule that does not wait for answers, once all clients are ready.
#[derive(Clone, Copy, Debug)]
pub struct Pings {
    /// Pause between two pings of the whole swarm; the clients take turns.
    pub every: Duration,
    /// True: the thread runs before all ordinary ones, so that it measures the relay and not its own queueing.
    pub urgent: bool,
}

/// What the clients of a swarm have seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections that are open.
    pub connected: AtomicU64,
    /// TLS handshakes complete, full and resumed.
    pub handshakes: AtomicU64,
    /// Of these, resumed.
    pub resumed: AtomicU64,
    /// Clients whose handshake is complete.
    pub ready: AtomicU64,
    /// Connections that failed or have ended.
    pub ended: AtomicU64,
    /// Why the first TLS connection ended that failed.
    pub why: OnceLock<End>,
    /// Announcements of blocks: inv or headers.
    pub blocks: AtomicU64,
    /// Announcements of transactions: inv messages.
    pub txs: AtomicU64,
    /// Pongs.
    pub pongs: AtomicU64,
    /// Messages other than those of the handshake, of any kind.
    pub messages: AtomicU64,
}

/// What is known at the end of a swarm.
#[derive(Debug)]
pub struct Summary {
    /// Nanoseconds from the intended time of each ping to its pong.
    pub latency: Histogram<u64>,
    /// Nanoseconds from the intended time of each ping to its submission: the generator's own delay.
    pub lateness: Histogram<u64>,
    /// CPU time of the swarm's thread.
    pub cpu: Duration,
}

/// A message of the benchmark to a swarm.
#[derive(Debug)]
enum Command {
    /// One client sends this.
    Send { client: u32, bytes: Bytes },
    /// Pings begin, measured anew.
    Ping,
    /// Pings pause; what was measured is given.
    Pause(SyncSender<Summary>),
    /// The swarm ends.
    Stop,
}

/// A swarm at work. Ends with [`Swarm::stop`]; dropped without it, its thread ends as well.
#[derive(Debug)]
pub struct Swarm {
    clients: u32,
    seen: Arc<Seen>,
    commands: SyncSender<Command>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<Outcome<Summary>>>,
}

impl Swarm {
    /// Starts the thread, which begins to connect.
    ///
    /// # Errors
    /// No eventfd or no thread is to be had. What fails later is told by [`Swarm::check`].
    pub fn start(plan: Plan) -> Outcome<Swarm> {
        Swarm::over(plan, None)
    }

    /// As [`Swarm::start`], each connection inside TLS.
    ///
    /// # Errors
    /// As [`Swarm::start`].
    pub fn secure(plan: Plan, secure: Secure) -> Outcome<Swarm> {
        Swarm::over(plan, Some(secure))
    }

    fn over(plan: Plan, secure: Option<Secure>) -> Outcome<Swarm> {
        let (commands, receiver) = mpsc::sync_channel(COMMANDS);
        let (seen, wake) = (Arc::new(Seen::default()), Arc::new(Wake::new()?));
        let clients = plan.clients;
        let (told, bell) = (seen.clone(), wake.clone());
        let thread = std::thread::Builder::new().name(format!("swarm-{}", plan.source)).spawn(move || {
            os::pin(plan.core);
            driver::run(plan, secure, &told, &bell, &receiver)
        })?;
        Ok(Swarm { clients, seen, commands, wake, thread: Some(thread) })
    }

    /// Number of clients planned.
    pub fn clients(&self) -> u32 {
        self.clients
    }

    /// What they have seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// True once every client is ready.
    pub fn is_ready(&self) -> bool {
        self.seen.ready.load(Ordering::Acquire) >= u64::from(self.clients)
    }

    /// One client sends these bytes.
    pub fn send(&self, client: u32, bytes: Bytes) {
        self.command(Command::Send { client, bytes });
    }

    /// Begins the schedule of pings, measured anew.
    pub fn ping(&self) {
        self.command(Command::Ping);
    }

    /// Ends the schedule of pings and gives what was measured.
    ///
    /// # Errors
    /// The swarm's thread has ended.
    pub fn pause(&self) -> Outcome<Summary> {
        let (give, take) = mpsc::sync_channel(1);
        self.command(Command::Pause(give));
        take.recv().map_err(|_| "the swarm's thread has ended".into())
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.wake.wake();
        }
    }

    /// # Errors
    /// A connection has failed or ended, or the thread has.
    pub fn check(&self) -> Outcome {
        let ended = self.seen.ended.load(Ordering::Acquire);
        let over = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        if over || ended > 0 {
            let why =
                self.seen.why.get().map_or(String::new(), |end| format!(" (the first: {})", end.label()));
            return Err(format!("{ended} of {} clients have failed or ended{why}", self.clients).into());
        }
        Ok(())
    }

    /// Waits until `done`, at most `limit`.
    ///
    /// # Errors
    /// The limit has passed, or see [`Swarm::check`].
    pub fn wait(&self, what: &str, limit: Duration, mut done: impl FnMut(&Seen) -> bool) -> Outcome {
        let start = Instant::now();
        while !done(&self.seen) {
            self.check()?;
            if start.elapsed() > limit {
                return Err(format!("not within {limit:?}: {what}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Closes all connections.
    ///
    /// # Errors
    /// What the thread ended with.
    pub fn stop(mut self) -> Outcome<Summary> {
        self.command(Command::Stop);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(summary)) => summary,
            _ => Err("the swarm's thread ended by a panic".into()),
        }
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        // After `stop` nobody listens any more, which is as good.
        let _ = self.commands.try_send(Command::Stop);
        self.wake.wake();
    }
}

type Commands = Receiver<Command>;
