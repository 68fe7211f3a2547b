//! Submits valid transactions at a rate that holds for all submitters of the process together: announces by inv, gives on
//! `getdata`, announces once more when nobody asks.
//!
//! The latency called `request` is here that from the intended moment of submission to the target's `getdata`. How long the
//! others take to hear of it is measured by them (`tx_announce`), from the same intended moment.
//! Coins: see [`super::shared::Purse`]; they are those that pay to P2WSH of OP_TRUE, as the stub node's and the tests' do.

use std::collections::VecDeque;
use std::time::Duration;

use breakwater::base::Instant;
use breakwater::wire::{Hash, Inv, InvKind, InvList, Message, sha256d, write};

use super::follow::{Follow, Heard};
use super::request::{Blocks, TIMED_OUT};
use super::shared::Made;
use super::{Behaviour, Options};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Transactions per second unless the scenario says otherwise.
const RATE: f64 = 10.0;
/// Transactions one client holds; the oldest leaves.
const MAX_HELD: usize = 256;
/// Announced once more when nobody has asked after this; an error after as long again.
const AGAIN: Duration = Duration::from_secs(30);
/// A transaction stays this long, for those who ask twice.
const HOLD: Duration = Duration::from_secs(60);
/// How often a submitter without coins looks whether there are some, and a scout says that it lives.
const LOOK: Duration = Duration::from_secs(1);
/// Coins are looked for in a chain of at most this many blocks; a longer one is no test chain.
const MAX_CHAIN: u32 = 200_000;

/// The error of a submission that was due and could not be made.
const NO_COINS: &str = "no coins to spend: needs mature P2WSH(OP_TRUE) outputs, and a block now and then";

#[derive(Debug)]
struct Submitter {
    rate: f64,
    /// Intended time of the next submission, [`Instant::FAR`] while it has none.
    due: Instant,
    /// When it looks around; FAR when not connected.
    look: Instant,
    /// Oldest first, at most [`MAX_HELD`].
    held: VecDeque<Held>,
    scout: Option<Box<Scout>>,
    /// True exactly when the target announces and takes by wtxid.
    wtxid: bool,
    /// True exactly when the handshake is complete.
    ready: bool,
}

const _: () = assert!(size_of::<Submitter>() <= 100);

#[derive(Debug)]
struct Held {
    made: Made,
    /// Intended time of its submission.
    at: Instant,
    /// When it is announced again, or leaves.
    until: Instant,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Announced,
    AnnouncedAgain,
    Given,
}

/// Downloads blocks for the purse.
#[derive(Debug, Default)]
struct Scout {
    follow: Follow,
    blocks: Blocks,
}

impl Behaviour for Submitter {
    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        self.ready = true;
        self.held.iter_mut().for_each(|held| held.until = cx.now);
        self.look(cx);
        self.plan(cx);
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        match message {
            Message::WtxidRelay => self.wtxid = true,
            Message::GetData(list) => self.give(cx, list),
            _ => {
                if let Some(scout) = &mut self.scout
                    && let Err(why) = scout.message(cx, message)
                {
                    return Flow::Broken(why);
                }
            }
        }
        Flow::Go
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.scout.as_ref().is_some_and(|scout| scout.due() <= cx.now) {
            return TIMED_OUT;
        }
        if self.look <= cx.now {
            self.look(cx);
        }
        if self.due <= cx.now {
            self.submit(cx);
        }
        self.plan(cx);
        self.repeat(cx);
        Flow::Go
    }

    fn next_wake(&self) -> Instant {
        let held = self.held.iter().map(|held| held.until).min();
        let scout = self.scout.as_ref().map(|scout| scout.due());
        let due = if self.ready { self.due } else { Instant::FAR };
        due.min(self.look).min(scout.unwrap_or(Instant::FAR)).min(match held {
            Some(held) if self.ready => held,
            _ => Instant::FAR,
        })
    }

    fn ended(&mut self, _: &mut Tally) {
        // What it holds, and its place in the schedule, are for the next connection.
        (self.look, self.scout, self.wtxid, self.ready) = (Instant::FAR, None, false, false);
    }

    fn asks_headers(&self) -> bool {
        self.scout.as_ref().is_some_and(|scout| scout.follow.is_asking())
    }
}

impl Submitter {
    /// Looks whether it shall be the scout, or still is.
    fn look(&mut self, cx: &mut Context<'_>) {
        self.look = cx.now + LOOK;
        if !cx.shared.purse.scout(cx.number, cx.now) {
            self.scout = None;
        } else if self.scout.is_none() {
            let mut scout = Box::<Scout>::default();
            scout.follow.begin_at_tip(cx);
            self.scout = Some(scout);
        }
    }

    fn plan(&mut self, cx: &mut Context<'_>) {
        if self.due == Instant::FAR {
            self.due = cx.shared.purse.slot(cx.now, self.rate).unwrap_or(Instant::FAR);
        }
    }

    /// Makes and announces a transaction whose time has come.
    fn submit(&mut self, cx: &mut Context<'_>) {
        let due = std::mem::replace(&mut self.due, Instant::FAR);
        let Some(made) = cx.shared.purse.spend(cx.now) else {
            cx.tally.error(NO_COINS);
            return;
        };
        cx.tally.counts.txs_submitted += 1;
        cx.tally.lateness.record(cx.now.since(due));
        let inv = inv(&made, self.wtxid);
        cx.origins.tx(&inv.hash, due);
        write::inventory(cx.out, cx.magic, "inv", [inv].into_iter());
        if self.held.len() >= MAX_HELD
            && let Some(oldest) = self.held.pop_front()
            && oldest.state != State::Given
        {
            cx.tally.error("transaction not asked for");
        }
        self.held.push_back(Held { made, at: due, until: cx.now + AGAIN, state: State::Announced });
    }

    /// Announces again what nobody asked for, and forgets what is old.
    fn repeat(&mut self, cx: &mut Context<'_>) {
        let (now, wtxid) = (cx.now, self.wtxid);
        let mut again = Vec::new();
        self.held.retain_mut(|held| {
            if held.until > now {
                return true;
            }
            match held.state {
                State::Announced => {
                    again.push(inv(&held.made, wtxid));
                    (held.until, held.state) = (now + AGAIN, State::AnnouncedAgain);
                    true
                }
                State::AnnouncedAgain => {
                    cx.tally.error("transaction not asked for");
                    false
                }
                State::Given => false,
            }
        });
        if !again.is_empty() {
            write::inventory(cx.out, cx.magic, "inv", again.into_iter());
        }
    }

    fn give(&mut self, cx: &mut Context<'_>, list: &InvList<'_>) {
        let mut missing = Vec::new();
        for asked in list.iter().take(MAX_HELD) {
            let mine = |held: &&mut Held| held.made.wtxid == asked.hash || held.made.txid == asked.hash;
            let Some(held) = self.held.iter_mut().find(mine) else {
                missing.push(asked);
                continue;
            };
            write::raw(cx.out, cx.magic, "tx", &held.made.bytes);
            if held.state != State::Given {
                cx.tally.counts.txs_given += 1;
                cx.tally.request.record(cx.now.since(held.at));
                (held.state, held.until) = (State::Given, cx.now + HOLD);
            }
        }
        if !missing.is_empty() {
            write::inventory(cx.out, cx.magic, "notfound", missing.into_iter());
        }
    }
}

impl Scout {
    fn due(&self) -> Instant {
        self.follow.due().min(self.blocks.due())
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Result<(), &'static str> {
        match message {
            Message::Block(bytes) => {
                if let Some(header) = bytes.first_chunk::<80>()
                    && let Some(height) = self.blocks.took(cx, &sha256d(header))
                {
                    cx.shared.purse.block(height, bytes)?;
                }
            }
            Message::NotFound(list) => self.blocks.not_found(cx, list),
            _ => {
                if let Heard::Moved { keep } = self.follow.message(cx, message)? {
                    cx.shared.purse.rewind(keep);
                }
            }
        }
        self.advance(cx)
    }

    /// Asks for the next blocks when those before are here, so that they are looked at in order.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), &'static str> {
        if !self.follow.synced() || !self.blocks.is_empty() {
            return Ok(());
        }
        let (next, height) = (cx.shared.purse.next_height(), self.follow.height());
        if height > MAX_CHAIN {
            return Err("no coins to spend: the target's chain is too long to be a test's");
        }
        if next > height {
            cx.shared.purse.searched();
            return Ok(());
        }
        let last = height.min(next + self.blocks.room() as u32 - 1);
        let heights = next..=last;
        let wanted: Vec<(u32, Hash)> =
            heights.filter_map(|height| Some((height, cx.shared.chain.hash(height)?))).collect();
        self.blocks.ask(cx, InvKind::WitnessBlock, wanted.into_iter());
        Ok(())
    }
}

fn inv(made: &Made, by_wtxid: bool) -> Inv {
    match by_wtxid {
        true => Inv { kind: InvKind::Wtx, hash: made.wtxid },
        false => Inv { kind: InvKind::Tx, hash: made.txid },
    }
}

pub(super) fn make(options: &Options) -> Box<dyn Behaviour> {
    Box::new(Submitter {
        rate: if options.rate > 0.0 { options.rate } else { RATE },
        due: Instant::FAR,
        look: Instant::FAR,
        held: VecDeque::new(),
        scout: None,
        wtxid: false,
        ready: false,
    })
}
