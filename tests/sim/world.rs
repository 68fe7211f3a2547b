//! A run: the network behind, the relay, the clients in front, and what happens to them, all from one seed.
//!
//! First the storm: blocks, reorganisations, transactions, clients that come and go, nodes, disks and processes that
//! fail. Then the calm: no more faults, everybody is up. In the calm every client must arrive at the best tip and have
//! its answers within a bounded time, and the relay must come to rest. What must never happen is checked all along by
//! the witnesses, the truth and the simulated kernel.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use breakwater::base::Instant;
use breakwater::hub::store::Keep;
use breakwater::shard::HandshakeLimits;
use breakwater::stub::StubChain;
use breakwater::stub::node::{Form, Options};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::attack::Attack;
use super::backend::{Backend, FIRST_NODE};
use super::disk::{Fail, SimDisk};
use super::faults::Faults;
use super::front::Front;
use super::hostile::{FIRST_HOSTILE, Hostiles};
use super::kernel::SharedNet;
use super::net::{Net, News};
use super::relay::{HUB, Relay, Setup};
use super::transport::TlsClients;
use super::truth::{Truth, short};

/// Unix time at the beginning of every run.
const UNIX: u64 = 1_700_000_000;
/// Blocks there are at the beginning: enough for coinbases to mature.
const BLOCKS: u32 = 120;
/// In the calm everything must be settled after this: the longest stall, and then some.
const CALM: Duration = Duration::from_secs(400);
/// Attacks in the calm at most.
const MOST_TRIALS: u32 = 3;
/// An attack in the calm must be over after this: a record that never ends is waited for 120 s, and the timers have their steps.
const TRIAL: Duration = Duration::from_secs(200);

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Hash of the trace.
    pub hash: u64,
    /// Lines of the trace.
    pub lines: u64,
    /// The first of them.
    pub head: Vec<String>,
    /// Connections clients lost.
    pub cut: u64,
    /// Blocks announced to clients.
    pub block_news: u64,
    /// Transactions announced to clients.
    pub tx_invs: u64,
    /// Transactions submitted to nodes.
    pub submissions: usize,
    /// Starts of the relay.
    pub starts: u32,
    /// Attacks on transports that came to what they had to come to.
    pub hits: BTreeMap<(Attack, &'static str), u64>,
    /// TLS sessions, full and resumed, and sessions of BIP324 of the last process.
    pub sessions: [u64; 3],
    /// Times TLS listeners were held in the last process.
    pub held: u64,
}

/// What may happen in the storm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Mine,
    Reorganise,
    NodeTx,
    ClientTx,
    Come,
    Leave,
    HalfClose,
    ToggleReading,
    CrashNode,
    HangNode,
    SlowFilters,
    FailDisk,
    FillDisk,
    KillRelay,
    LosePower,
    Drain,
    JumpClock,
    Attack,
    Reload,
}

/// Each with its weight.
const ACTS: &[(Act, u32)] = &[
    (Act::Mine, 60),
    (Act::Reorganise, 12),
    (Act::NodeTx, 40),
    (Act::ClientTx, 40),
    (Act::Come, 30),
    (Act::Leave, 15),
    (Act::HalfClose, 4),
    (Act::ToggleReading, 8),
    (Act::CrashNode, 8),
    (Act::HangNode, 8),
    (Act::SlowFilters, 6),
    (Act::FailDisk, 6),
    (Act::FillDisk, 3),
    (Act::KillRelay, 2),
    (Act::LosePower, 2),
    (Act::Drain, 1),
    (Act::JumpClock, 2),
    (Act::Attack, 30),
    (Act::Reload, 2),
];

/// What undoes an act later.
#[derive(Debug)]
enum Undo {
    StartNode(usize),
    WakeNode(usize),
    EmptyDisk,
}

/// The world.
pub struct World {
    net: SharedNet,
    rng: SmallRng,
    truth: Truth,
    backend: Backend,
    relay: Relay,
    front: Front,
    hostiles: Hostiles,
    acts: Vec<(Act, u32)>,
    pace_us: u64,
    undo: BTreeMap<(Instant, u64), Undo>,
    undone: u64,
}

thread_local! {
    /// The chain all runs begin with; made once per thread.
    static CHAIN: StubChain = {
        let mut chain = StubChain::new(1, UNIX - 600 * u64::from(BLOCKS));
        chain.grow(BLOCKS, UNIX - 1_000);
        chain
    };
}

impl World {
    /// The world of a seed; `print`: show the trace as it grows.
    pub fn new(seed: u64, print: bool) -> World {
        let mut rng = SmallRng::seed_from_u64(seed);
        let faults = if rng.random_bool(0.1) { Faults::none() } else { Faults::draw(&mut rng) };
        let net: SharedNet = Rc::new(RefCell::new(Net::new(rng.random(), UNIX, faults, print)));
        let mut truth = Truth::default();
        let nodes = rng.random_range(1..=3);
        let options = (0..nodes).map(|_| options(&mut rng)).collect();
        let chain = CHAIN.with(StubChain::clone);
        let backend = Backend::new(net.clone(), chain, options, rng.random(), &mut truth);
        let setup = Setup {
            shards: 2,
            nodes,
            keep: if rng.random_bool(0.5) { Keep::All } else { Keep::Last(rng.random_range(10..60)) },
            segment_bytes: rng.random_range(4_000..60_000),
            max_clients: if rng.random_bool(0.2) { 12 } else { 1_000 },
            buffer_budget: 64 * 1024 * 1024,
            handshakes: handshakes(&mut rng),
            fleet: rng.random_bool(0.5),
        };
        net.borrow_mut().note(format_args!("seed {seed} {setup:?}"));
        let relay = Relay::start(net.clone(), SimDisk::new(), setup, rng.random());
        let tls = Rc::new(TlsClients::new(rng.random(), net.borrow().clock()));
        let front = Front::new(net.clone(), rng.random(), tls.clone());
        let hostiles = Hostiles::new(net.clone(), rng.random(), tls);
        let tame = |act| matches!(act, Act::Mine | Act::Come | Act::Leave);
        let acts = ACTS.iter().filter(|(act, _)| tame(*act) || rng.random_bool(0.6)).copied().collect();
        let pace_us = [50_000, 500_000, 2_000_000][rng.random_range(0..3)];
        World {
            net,
            rng,
            truth,
            backend,
            relay,
            front,
            hostiles,
            acts,
            pace_us,
            undo: BTreeMap::new(),
            undone: 0,
        }
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Result<Outcome, String> {
        let clients = self.rng.random_range(10..=30);
        for _ in 0..clients {
            self.front.come();
        }
        let acts = self.rng.random_range(20..150);
        for _ in 0..acts {
            let pause = Duration::from_micros(self.rng.random_range(0..2 * self.pace_us));
            self.live(pause)?;
            self.act();
        }
        self.calm()?;
        let (net, front) = (self.net.borrow(), &self.front);
        Ok(Outcome {
            hash: net.trace().hash(),
            lines: net.trace().lines(),
            head: net.trace().head().to_vec(),
            cut: front.cut,
            block_news: front.block_news,
            tx_invs: front.tx_invs,
            submissions: self.truth.submissions(),
            starts: self.relay.starts,
            hits: self.hostiles.hits.clone(),
            sessions: self.relay.sessions(),
            held: self.relay.held(),
        })
    }

    /// Lets time pass.
    fn live(&mut self, span: Duration) -> Result<(), String> {
        let end = self.net.borrow().now() + span;
        loop {
            self.hand_out_news()?;
            let parts = [self.backend.next_wake(), self.relay.next_wake(), self.front.next_wake()];
            let network = self.net.borrow().next_event();
            let undo = self.undo.keys().next().map(|(at, _)| *at);
            let next = parts.into_iter().chain(network).chain(undo).min().unwrap_or(Instant::FAR);
            if next > end {
                self.net.borrow_mut().run_until(end);
                return Ok(());
            }
            self.net.borrow_mut().run_until(next);
            self.hand_out_news()?;
            self.undo_due();
            self.backend.run(&mut self.truth)?;
            self.relay.run(&mut self.truth)?;
            self.judge()?;
            self.front.run();
        }
    }

    fn hand_out_news(&mut self) -> Result<(), String> {
        while let Some((actor, tcp, news)) = { self.net.borrow_mut().take_news() } {
            match actor {
                HUB => self.relay.hear(tcp, news),
                node if node >= FIRST_NODE => {
                    self.backend.hear((node - FIRST_NODE) as usize, tcp, news, &mut self.truth)?;
                }
                hostile if hostile >= FIRST_HOSTILE => {
                    self.hostiles.hear(hostile, tcp, news, &self.truth)?;
                }
                client => self.client_news(client, tcp, news)?,
            }
        }
        Ok(())
    }

    fn client_news(&mut self, client: u64, tcp: u32, news: News) -> Result<(), String> {
        self.front.hear(client, tcp, news, &self.truth)
    }

    /// Nobody is ended for what he has not done.
    fn judge(&mut self) -> Result<(), String> {
        for endings in self.relay.take_endings() {
            let possible =
                |tcp, end| self.relay.is_honest(end) || self.hostiles.may_end(tcp, end).unwrap_or(false);
            for (tcp, end) in endings.judge(possible)? {
                self.hostiles.ended(tcp, end);
            }
        }
        Ok(())
    }

    fn act(&mut self) {
        let total: u32 = self.acts.iter().map(|(_, weight)| weight).sum();
        let mut pick = self.rng.random_range(0..total);
        let chosen = self.acts.iter().find(|(_, weight)| {
            let hit = pick < *weight;
            pick = pick.saturating_sub(*weight);
            hit
        });
        let Some((act, _)) = chosen.copied() else { return };
        self.net.borrow_mut().note(format_args!("act {act:?}"));
        match act {
            Act::Mine => self.backend.mine(),
            Act::Reorganise => self.backend.reorganise(self.rng.random_range(1..=6)),
            Act::NodeTx => self.backend.send_tx(),
            Act::ClientTx => {
                let bytes = self.rng.random_range(200..3_000);
                if let Some(tx) = self.backend.make_tx(bytes) {
                    self.front.submit(&tx, self.relay.starts);
                }
            }
            Act::Come if self.front.len() < 40 => self.front.come(),
            Act::Come | Act::Leave => self.front.leave(),
            Act::HalfClose => self.front.half_close(),
            Act::ToggleReading => self.front.toggle_reading(),
            Act::CrashNode | Act::HangNode | Act::SlowFilters => self.node_fault(act),
            Act::FailDisk => {
                let fail = Fail::ALL[self.rng.random_range(0..Fail::ALL.len())];
                self.relay.disk().fail_next(fail);
            }
            Act::FillDisk => {
                self.relay.disk().set_space(Some(self.rng.random_range(0..2_000)));
                self.later(30_000_000, Undo::EmptyDisk);
            }
            Act::KillRelay => self.relay.crash(false, &mut self.truth),
            Act::LosePower => self.relay.crash(true, &mut self.truth),
            Act::Drain => self.relay.drain(),
            Act::JumpClock => self.jump(),
            Act::Attack => _ = self.hostiles.come(),
            Act::Reload => self.relay.reload(),
        }
    }

    fn node_fault(&mut self, act: Act) {
        let node = self.rng.random_range(0..self.backend.len());
        match act {
            Act::CrashNode => {
                self.backend.crash(node);
                self.later(40_000_000, Undo::StartNode(node));
            }
            Act::HangNode => {
                self.backend.set_silent(node, true, &mut self.truth);
                self.later(60_000_000, Undo::WakeNode(node));
            }
            _ => {
                let delay = Duration::from_millis(self.rng.random_range(0..6_000));
                self.backend.set_filter_delay(node, delay);
            }
        }
    }

    /// The clock jumps: everything due in between happens at once.
    fn jump(&mut self) {
        let most = [10, 200, 4_000][self.rng.random_range(0..3)];
        let seconds = self.rng.random_range(1..most);
        let to = self.net.borrow().now() + Duration::from_secs(seconds);
        self.net.borrow_mut().note(format_args!("clock jumps {seconds} s"));
        self.net.borrow_mut().run_until(to);
    }

    fn later(&mut self, most_us: u64, undo: Undo) {
        self.undone += 1;
        let at = self.net.borrow().now() + Duration::from_micros(self.rng.random_range(0..most_us));
        self.undo.insert((at, self.undone), undo);
    }

    fn undo_due(&mut self) {
        let now = self.net.borrow().now();
        while let Some(entry) = self.undo.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Undo::StartNode(node) => self.backend.start(node, &mut self.truth),
                Undo::WakeNode(node) => self.backend.set_silent(node, false, &mut self.truth),
                Undo::EmptyDisk => self.relay.disk().set_space(None),
            }
        }
    }

    /// Ends all faults and waits until everything is as it must be.
    fn calm(&mut self) -> Result<(), String> {
        self.net.borrow_mut().note(format_args!("calm"));
        self.net.borrow_mut().faults.on = false;
        self.undo.clear();
        self.relay.disk().no_faults();
        for node in 0..self.backend.len() {
            self.backend.start(node, &mut self.truth);
            self.backend.set_silent(node, false, &mut self.truth);
            self.backend.set_filter_delay(node, Duration::ZERO);
        }
        self.front.all_read();
        self.hostiles.leave();
        // A table of 12 that is left and rejoined with a margin holds 9 at all times, and one of them attacks.
        let room = self.relay.setup().shards as usize * (self.relay.setup().max_clients as usize - 4);
        while self.front.len() > room {
            self.front.leave();
        }
        self.live(Duration::from_secs(2))?;
        self.backend.mine();
        let end = self.net.borrow().now() + CALM;
        loop {
            // No round number: pings in step with it would be on their way each time.
            self.live(Duration::from_millis(777))?;
            let open = self.unsettled();
            if open.is_empty() {
                break;
            }
            if self.net.borrow().now() >= end {
                let (open, relay) = (open.join("\n  "), self.relay.describe());
                return Err(format!("not settled after {} s of calm:\n  {open}\n  {relay}", CALM.as_secs()));
            }
        }
        let cut = self.front.cut;
        for _ in 0..self.rng.random_range(0..=MOST_TRIALS) {
            self.trial()?;
        }
        self.live(Duration::from_secs(3))?;
        if self.front.cut > cut {
            return Err(format!("{} clients were cut off in the calm", self.front.cut - cut));
        }
        // A ping may be on its way just now; no rest at all is a leak.
        for _ in 0..50 {
            if self.relay.check_idle().is_ok() {
                break;
            }
            self.live(Duration::from_millis(37))?;
        }
        self.relay.check_idle()
    }

    /// One attack that nothing disturbs.
    fn trial(&mut self) -> Result<(), String> {
        let Some(actor) = self.hostiles.come() else { return Ok(()) };
        let end = self.net.borrow().now() + TRIAL;
        while !self.hostiles.check(actor)? {
            if self.net.borrow().now() >= end {
                return Err(format!(
                    "hostile {} was not ended in {} s",
                    actor - FIRST_HOSTILE,
                    TRIAL.as_secs()
                ));
            }
            self.live(Duration::from_millis(499))?;
        }
        self.hostiles.dismiss(actor);
        Ok(())
    }

    fn unsettled(&mut self) -> Vec<String> {
        let tip = self.backend.chain().tip_hash();
        let mut open = self.front.unsettled(&tip, self.relay.starts, &self.truth);
        let hub = self.relay.tip().map(|(_, hash)| hash);
        if hub != Some(tip) {
            open.push(format!("the hub is at {:?} instead of {}", hub.as_ref().map(short), short(&tip)));
        }
        if self.relay.clients() as usize != self.front.connected() {
            open.push(format!("{} clients, the relay has {}", self.front.connected(), self.relay.clients()));
        }
        if self.relay.ready != 1 {
            open.push(format!("the hub said Ready {} times", self.relay.ready));
        }
        open
    }
}

fn options(rng: &mut SmallRng) -> Options {
    Options {
        unix_start: UNIX,
        filter_delay: Duration::from_millis([0, 0, 50, 3_000][rng.random_range(0..4)]),
        tx_delay: Duration::from_millis([0, 0, 500][rng.random_range(0..3)]),
        feature: rng.random_bool(0.3),
        form: if rng.random_bool(0.2) { Form::InvOnly } else { Form::AsAsked },
        mempool: rng.random_bool(0.5),
        user_agent: ["/Satoshi:29.0.0/", "/bcoin:2.2.0/"][rng.random_range(0..2)].to_owned(),
        ..Options::default()
    }
}

/// Bounds of transport handshakes: in half of the runs so tight that everybody waits.
fn handshakes(rng: &mut SmallRng) -> HandshakeLimits {
    let mut rate = || if rng.random_bool(0.5) { 0 } else { rng.random_range(2..20) };
    let (full, resumed, v2) = (rate(), rate(), rate());
    let most = if rng.random_bool(0.5) { rng.random_range(1..8) } else { 1_024 };
    HandshakeLimits { most, full, resumed, v2 }
}
