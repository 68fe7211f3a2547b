//! The engine: rings full of clients, one thread each.
//!
//! A ring holds as many clients as RLIMIT_NOFILE allows (its file table may not be larger); a client costs no file descriptor
//! of the process. Connects are one chain of linked operations (socket, options, bind, connect), so nothing blocks.
//!
//! - `ring`: io_uring: what is submitted, what has completed       (the only unsafe code here)
//! - `slot`: what is kept per client; `aside`: beginnings of messages, and the transport
//! - `dial`, `shake`: handshakes of transports, a few a turn
//! - `plan`: what a client takes of memory
//! - `worker`: the loop; `begin`: what is due is begun; `socket`: bytes in and out; `end`: connections end
//!
//! Threads are not pinned: with more rings than cores the scheduler balances better than a fixed plan; use taskset to keep the
//! rig off the target's cores.

mod aside;
mod begin;
mod dial;
mod due;
mod end;
mod plan;
mod ring;
mod shake;
mod slot;
mod socket;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use breakwater::base::{Instant, UnixTime};
use breakwater::wire::Magic;

pub use self::plan::{Share, plan};

use super::behaviour::shared::Shared as Common;
use super::measure::{Board, Levels, Tally};
use super::origin::Origins;
use super::scenario::Scenario;
use crate::Outcome;
use crate::os::{self, Wake};

/// Most clients of one ring where RLIMIT_NOFILE allows more.
const PER_RING: u32 = 250_000;
/// Descriptors of the process left to everything but clients.
const SPARE_FILES: u64 = 300;
/// Commands that may wait for a worker.
const COMMANDS: usize = 64;

/// What all threads of a run share.
#[derive(Debug)]
pub struct Shared {
    /// When things came into the world.
    pub origins: Origins,
    /// What all clients have in common: chain, coins, transactions.
    pub common: Common,
    epoch: std::time::Instant,
    /// Unix time at `Instant(0)`.
    pub unix_start: UnixTime,
}

impl Shared {
    /// A clock that starts now.
    pub fn new(seed: u64, magic: Magic) -> Arc<Shared> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Arc::new(Shared {
            origins: Origins::default(),
            common: Common::new(seed, magic),
            epoch: std::time::Instant::now(),
            unix_start: since.map_or(0, |since| since.as_secs()),
        })
    }

    /// Now, on the clock of the run.
    pub fn now(&self) -> Instant {
        self.at(std::time::Instant::now())
    }

    /// A moment of the system's monotonic clock on the clock of the run.
    pub fn at(&self, moment: std::time::Instant) -> Instant {
        let since = moment.saturating_duration_since(self.epoch);
        Instant(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// What a worker is told while it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Command {
    /// Share of the clients that leave and come back each second.
    Churn(f64),
    /// Every ready client is pinged once in this time; zero: none.
    Ping(Duration),
    /// Nothing new is begun: no connections, no pings, no requests on a schedule.
    Quiet,
    /// All connections are closed, then the thread ends. `unreached`: who has never been ready is counted as refused.
    Close { unreached: bool },
}

/// Rings at work. Dropped, they close everything and end.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    boards: Vec<Arc<Board>>,
    commands: Vec<(SyncSender<Command>, Arc<Wake>)>,
    threads: Vec<JoinHandle<Outcome>>,
}

impl Engine {
    /// Starts the rings; the ramp begins now.
    ///
    /// # Errors
    /// The kernel lacks something, or a ring or thread could not be had: one sentence.
    pub fn start(scenario: Arc<Scenario>, shared: Arc<Shared>) -> Outcome<Engine> {
        let workers = rings(&scenario)?;
        // Each ring has its own; what is wrong with the files is known before the first.
        drop(dial::Dialer::new(&scenario)?);
        let start = shared.now();
        let mut engine = Engine { shared, boards: Vec::new(), commands: Vec::new(), threads: Vec::new() };
        let (ready, started) = mpsc::sync_channel(workers as usize);
        for index in 0..workers {
            let (board, wake) = (Arc::new(Board::default()), Arc::new(Wake::new()?));
            let (sender, receiver) = mpsc::sync_channel(COMMANDS);
            engine.boards.push(board.clone());
            engine.commands.push((sender, wake.clone()));
            let place = worker::Place { index, workers, start };
            let (scenario, shared) = (scenario.clone(), engine.shared.clone());
            let told = (wake, receiver, ready.clone());
            let run = move || work(place, &scenario, &shared, &board, &told);
            engine.threads.push(std::thread::Builder::new().name(format!("rig-{index}")).spawn(run)?);
        }
        drop(ready);
        for result in started.iter().take(workers as usize) {
            result?;
        }
        Ok(engine)
    }

    /// Number of rings.
    pub fn rings(&self) -> usize {
        self.threads.len()
    }

    /// Adds to `totals` what was measured since the last call; the levels now.
    pub fn look(&self, totals: &mut [Tally]) -> Levels {
        let mut levels = Levels::default();
        for board in &self.boards {
            let noted = board.take();
            totals.iter_mut().zip(&noted.tallies).for_each(|(total, tally)| total.add(tally));
            levels.add(&noted.levels);
        }
        levels
    }

    /// Share of the clients that leave and come back each second, from now on.
    pub fn churn(&self, share: f64) {
        self.tell(Command::Churn(share));
    }

    /// Every ready client is pinged once in this time, from now on; zero: none.
    pub fn ping(&self, every: Duration) {
        self.tell(Command::Ping(every));
    }

    /// Nothing new is begun from now on.
    pub fn quiet(&self) {
        self.tell(Command::Quiet);
    }

    /// Closes all connections; see [`Engine::is_over`]. `unreached`: who has never been ready is counted as refused.
    pub fn close(&self, unreached: bool) {
        self.tell(Command::Close { unreached });
    }

    /// True once a ring has ended, which none does by itself: [`Engine::join`] says why.
    pub fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// True once every ring has ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for the rings; call after [`Engine::close`].
    ///
    /// # Errors
    /// What a ring ended with.
    pub fn join(mut self) -> Outcome {
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| "a ring's thread ended by a panic")??;
        }
        Ok(())
    }

    fn tell(&self, command: Command) {
        for (sender, wake) in &self.commands {
            // A worker that has ended needs no command; one that lives takes its commands several times a second.
            if sender.send(command).is_ok() {
                wake.wake();
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.close(false);
        }
    }
}

/// Rings for this many clients, with the limit of open files of this process.
fn rings(scenario: &Scenario) -> Outcome<u32> {
    let limit = breakwater::ring::raise_file_limit()?;
    let room = u32::try_from(limit.saturating_sub(SPARE_FILES)).unwrap_or(u32::MAX).min(PER_RING);
    if room == 0 {
        return Err(format!(
            "the limit of open files is {limit}, expected more than {SPARE_FILES} (ulimit -n)"
        )
        .into());
    }
    let least = scenario.clients.div_ceil(room);
    if scenario.rings != 0 && scenario.rings < least {
        let clients = scenario.clients;
        return Err(format!(
            "{} rings carry no {clients} clients: a ring holds {room} (ulimit -n)",
            scenario.rings
        )
        .into());
    }
    let cores = u32::try_from(os::cores()).unwrap_or(1);
    let wanted = if scenario.rings == 0 { cores.min(scenario.clients) } else { scenario.rings };
    Ok(wanted.max(least).min(scenario.clients))
}

fn work(
    place: worker::Place,
    scenario: &Scenario,
    shared: &Shared,
    board: &Board,
    (wake, commands, ready): &(Arc<Wake>, Receiver<Command>, SyncSender<Result<(), String>>),
) -> Outcome {
    let mut worker = match worker::Worker::new(place, scenario, shared, board) {
        Ok(worker) => worker,
        Err(error) => {
            // Told through `ready`, or nobody listens any more.
            let _ = ready.send(Err(error.to_string()));
            return Ok(());
        }
    };
    let _ = ready.send(Ok(()));
    worker.run(wake, commands)
}
