//! `breakwater-rig node`: regtest nodes of any size, to load a relay or clients without a real node.
//!
//! Purpose: a chain of a wanted length and block size, blocks at intervals, transactions at a rate, several instances that
//! tell each other. It validates only what it takes (see `breakwater::stub`) and knows no other network than regtest:
//! blocks of the others need proof of work.
//!
//! - `args`: times, addresses and what else a person may get wrong
//! - `fleet`: the nodes, to be used in the same process
//! - `instance`: one of them: tells the others and hears from them
//! - `maker`: blocks and transactions when they are due

mod args;
mod fleet;
mod instance;
mod maker;

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::maker::TXS_PER_BLOCK;

pub use self::fleet::{Fleet, MadeTxs, Mined, Numbers, Plan};
pub use self::instance::{Announcement, Kind, Observer};
pub use self::maker::{Made, Short};

/// From one report on standard error to the next.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// From one look at transactions that were not made to the next.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// Transactions that may wait for blocks (`breakwater::stub::mempool::MAX_TXS`).
const POOL: f64 = breakwater::stub::mempool::MAX_TXS as f64;

/// Stub nodes on regtest, to load a relay or clients without a real node.
///
/// The chain is kept in memory, one copy for all instances: 2,000 blocks of 1 MB take 2 GB and 10 s to make. Blocks made
/// later stay, too: at 2,000 transactions a second about 1 GB an hour.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// Only regtest: blocks of other networks need proof of work.
    #[arg(long, value_name = "NETWORK", default_value = "regtest")]
    network: String,
    /// Where the first instance listens; the next ones at the ports after it. Port 0: a free one for each.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Blocks at the start.
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    blocks: u32,
    /// Fill blocks up to this size, at most 3950000; 0: no filling. Before height 101 there are no coins to fill them with.
    #[arg(long, value_name = "B", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3_950_000))]
    block_bytes: u64,
    /// Mine a block this often, for example 5s, 500ms, 2m; without it none is mined after the start.
    #[arg(long, value_name = "TIME", value_parser = args::span)]
    block_every: Option<Duration>,
    /// Transactions made per second. A block confirms about 10,000; when more are made, 100,000 wait and the rest is
    /// counted as not made.
    #[arg(long, value_name = "R", default_value = "0", value_parser = args::rate)]
    tx_rate: f64,
    /// Nodes with the same chain.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    instances: u16,
    /// From one instance to another, for blocks and transactions.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = args::span)]
    relay_delay: Duration,
    /// Connections each instance takes; more are closed at once.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_peers: u32,
    /// Equal seeds give, on the same day (UTC), equal chains at the start, and equal transactions in equal order.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Listen where others than this host and private networks can connect.
    #[arg(long)]
    i_operate_this_target: bool,
}

/// Why it ends with another status than 0. The text is one sentence.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// Bad usage: status 2.
    #[error("{0}")]
    Usage(String),
    /// Anything else: status 1.
    #[error("{0}")]
    Other(String),
}

/// Runs nodes until SIGINT or SIGTERM.
///
/// # Errors
/// Bad usage, or what the host does not allow.
pub fn run(args: Args) -> Result<(), Failure> {
    let plan = args.plan().map_err(Failure::Usage)?;
    // Some hosts refuse to raise it; then connections are refused when it is reached, and counted.
    let _ = breakwater::ring::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Other(format!("the node cannot run: {error}")))?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    let (done, made) = tokio::sync::oneshot::channel();
    // On a thread of its own: a signal ends it also while a long chain is made.
    let wanted = plan.clone();
    std::thread::spawn(move || done.send(Fleet::start(&wanted)));
    let fleet = runtime.block_on(async {
        tokio::select! { made = made => Some(made), () = signals.any() => None }
    });
    let fleet = match fleet {
        None => return Ok(()),
        Some(Ok(made)) => made.map_err(Failure::Other)?,
        Some(Err(_)) => return Err(Failure::Other("the chain could not be made: its thread ended".into())),
    };
    say_ready(&fleet)?;
    warn_of_rate(&plan);
    let mut report = Report::new();
    loop {
        let ended = runtime.block_on(async {
            tokio::select! { () = signals.any() => true, () = tokio::time::sleep(REPORT_EVERY) => false }
        });
        if ended {
            // The process ends with its threads: giving back gigabytes one by one would take longer than a second.
            std::mem::forget(fleet);
            return Ok(());
        }
        let numbers = fleet.numbers().map_err(|gone| Failure::Other(gone.to_string()))?;
        report.show(&numbers);
    }
}

impl Args {
    fn plan(&self) -> Result<Plan, String> {
        if self.network != "regtest" {
            let network = &self.network;
            return Err(format!(
                "--network is {network}, expected regtest: blocks of other networks need proof of work, which is not to be had"
            ));
        }
        args::check_listen(self.listen, self.i_operate_this_target)?;
        fleet::address(self.listen, usize::from(self.instances) - 1)?;
        Ok(Plan {
            listen: self.listen,
            instances: usize::from(self.instances),
            blocks: self.blocks,
            block_bytes: usize::try_from(self.block_bytes).unwrap_or(usize::MAX),
            block_every: self.block_every,
            tx_rate: self.tx_rate,
            relay_delay: self.relay_delay,
            max_peers: self.max_peers as usize,
            seed: self.seed,
            observer: None,
        })
    }
}

/// One line per instance on standard output.
fn say_ready(fleet: &Fleet) -> Result<(), Failure> {
    let (height, filled) = (fleet.first_height(), fleet.filled());
    let size = match filled {
        Some((from, bytes)) => format!(", blocks of {bytes} bytes from height {from}"),
        None => String::new(),
    };
    let mut out = std::io::stdout().lock();
    for (number, address) in fleet.addresses().iter().enumerate() {
        writeln!(out, "node {number} listening on {address} height {height}{size}")
            .map_err(|error| Failure::Other(format!("standard output cannot be written: {error}")))?;
    }
    out.flush().map_err(|error| Failure::Other(format!("standard output cannot be written: {error}")))
}

/// Says at the start what cannot be kept up.
fn warn_of_rate(plan: &Plan) {
    let confirmed = plan.block_every.map_or(0.0, |every| TXS_PER_BLOCK / every.as_secs_f64());
    if plan.tx_rate > confirmed {
        let full = POOL / (plan.tx_rate - confirmed);
        eprintln!(
            "blocks confirm {confirmed:.0} transactions a second, --tx-rate is {}: after {full:.0} s the pool is full and the \
             rest is not made",
            plan.tx_rate
        );
    }
}

/// What is told on standard error from time to time.
struct Report {
    start: Instant,
    complained: Instant,
    missed: Made,
}

impl Report {
    fn new() -> Report {
        Report { start: Instant::now(), complained: Instant::now(), missed: Made::default() }
    }

    fn show(&mut self, numbers: &[Numbers]) {
        let seconds = self.start.elapsed().as_secs();
        for (number, n) in numbers.iter().enumerate() {
            eprintln!(
                "{seconds} s: node {number} height {} peers {} blocks announced {} transactions made {} not made {} waiting {} \
                 submitted {} bytes sent {} received {} connections refused {} slow peers dropped {}",
                n.height,
                n.peers,
                n.blocks,
                n.made.txs,
                n.made.missed(),
                n.mempool,
                n.node.txs_accepted,
                n.totals.bytes_out,
                n.totals.bytes_in,
                n.totals.refused,
                n.totals.slow,
            );
        }
        if self.complained.elapsed() >= COMPLAIN_EVERY {
            self.complained = Instant::now();
            self.complain(numbers.first().map_or_else(Made::default, |first| first.made));
        }
    }

    fn complain(&mut self, made: Made) {
        let before = std::mem::replace(&mut self.missed, made);
        let missed = made.missed() - before.missed();
        if missed > 0 {
            eprintln!(
                "--tx-rate was not kept: {missed} transactions of the last minute were not made ({} because the pool was full, \
                 {} for want of coins, {} because the host was busy)",
                made.pool_full - before.pool_full,
                made.no_coin - before.no_coin,
                made.late - before.late
            );
        }
    }
}

/// What ends it.
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
