//! Attackers ([`raw`]: those from below the transport; [`visit`] and [`hammer`]: floods): each row of the table of bad input ([`rows`]), over and over. Whoever can still have a ping answered afterwards
//! was forgiven; the others were thrown out. What differs from the table is an error that names the row, so that the rig
//! can be used as a check.
//!
//! ```text
//!   connected --(handshake)--> the row's input, then a ping --pong--> forgiven: leaves, comes again after a pause
//!                                                           --end---> thrown out: comes again after the same pause
//! ```

pub mod hammer;
pub mod raw;
pub mod rows;
pub mod visit;

use std::time::Duration;

use breakwater::base::Instant;
use breakwater::base::limits::PROTOCOL_VERSION;
use breakwater::wire::{Framing, Inv, InvKind, Message, Services, Version, sha256d, write};
use rand::Rng as _;

use self::rows::{Expect, How, ROWS, Row};
use super::{Behaviour, OnEnd, Options, pause};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Pause between two attacks of one client.
const AGAIN: Duration = Duration::from_secs(1);
/// Neither a pong nor an end for so long is an error.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two bytes of the one that drips.
const DRIP: Duration = Duration::from_millis(100);
/// Times the greedy one asks for the same block at once.
const GREED: usize = 10_000;
/// Blocks after which the greedy one has had enough.
const ENOUGH: u16 = 40;

#[derive(Debug)]
struct Attacker {
    /// Nonce of the ping whose pong is awaited; 0 for none.
    ping: u64,
    /// Nonce of the target's last version, for the mirror; 0 for none.
    theirs: u64,
    /// When patience ends, or the next byte drips.
    wake: Instant,
    again_us: u32,
    /// Connections so far: decides which of a row's inputs comes next.
    round: u32,
    /// Blocks the greedy one has had, or bytes that have dripped.
    done: u16,
    /// Place in [`ROWS`].
    row: u8,
    /// True exactly when every connection is the next row.
    mixed: bool,
    /// True exactly when the input was sent and the outcome is open.
    open: bool,
}

const _: () = assert!(size_of::<Attacker>() <= 64);

impl Behaviour for Attacker {
    fn connected(&mut self, cx: &mut Context<'_>) -> Option<Flow> {
        if self.mixed {
            let next = cx.number.wrapping_add(self.round) as usize;
            let fits = |place: &usize| !(ROWS[place % ROWS.len()].v1 && cx.framing == Framing::V2);
            self.row = ((next..).find(fits).unwrap_or(next) % ROWS.len()) as u8;
        }
        self.round = self.round.wrapping_add(1);
        match self.row()?.how {
            How::Close => {
                self.say(cx);
                Some(Flow::Leave)
            }
            How::Early => {
                for input in cx.shared.inputs(usize::from(self.row)) {
                    cx.out.extend_from_slice(input);
                }
                self.wait(cx);
                None
            }
            How::Mirror if self.theirs != 0 => {
                let version = Version {
                    version: PROTOCOL_VERSION,
                    services: Services::empty(),
                    time: (cx.unix_start + u64::from(cx.now.secs())).cast_signed(),
                    receiver: cx.target,
                    nonce: std::mem::take(&mut self.theirs),
                    user_agent: b"/breakwater-rig:mirror/",
                    start_height: 0,
                    relay: false,
                };
                write::version(cx.out, cx.magic, &version);
                self.wait(cx);
                Some(Flow::Go)
            }
            _ => None,
        }
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        let Some(row) = self.row() else { return Flow::Leave };
        match row.how {
            How::Send | How::Header => self.say(cx),
            How::Part => {
                self.say(cx);
                return Flow::Leave;
            }
            // The first connection is only for the nonce.
            How::Mirror if !self.open => return Flow::Leave,
            How::Early | How::Mirror | How::Close => {}
            How::Drip => {
                self.ping = cx.rng.random_range(1..=u64::MAX);
                (self.open, self.wake) = (true, cx.now);
                return Flow::Go;
            }
            How::Greedy => {
                let genesis = cx.shared.chain.hash(0).unwrap_or_default();
                write::locator(cx.out, cx.magic, "getheaders", [genesis].iter(), &[0; 32]);
                self.wait(cx);
                return Flow::Go;
            }
        }
        self.wait(cx);
        self.ping = cx.rng.random_range(1..=u64::MAX);
        write::ping(cx.out, cx.magic, self.ping);
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        let greedy = self.open && self.row().is_some_and(|row| row.how == How::Greedy);
        match message {
            Message::Version(version) if !self.open => self.theirs = version.nonce,
            Message::Pong(nonce) if self.open && *nonce == self.ping && self.ping != 0 => {
                return self.forgiven(cx);
            }
            Message::Headers(list) if greedy && self.done == 0 => {
                if let Some(last) = list.iter().last() {
                    let inv = Inv { kind: InvKind::WitnessBlock, hash: sha256d(last) };
                    write::inventory(cx.out, cx.magic, "getdata", std::iter::repeat_n(inv, GREED));
                }
            }
            Message::Block(_) if greedy => {
                cx.tally.counts.blocks_received += 1;
                self.done += 1;
                self.wake = cx.now + PATIENCE;
                if self.done >= ENOUGH {
                    return self.forgiven(cx);
                }
            }
            _ => {}
        }
        Flow::Go
    }

    fn unreadable(&mut self, cx: &mut Context<'_>, why: &'static str) -> Flow {
        if self.row().is_none_or(|row| row.how != How::Early) {
            return Flow::Broken(why);
        }
        // Bitcoin Core takes what does not begin with version for BIP324's handshake and answers in kind: no way back.
        self.open = false;
        cx.tally.counts.thrown_out += 1;
        Flow::Leave
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        let Some(row) = self.row().filter(|_| self.wake <= cx.now) else { return Flow::Go };
        if row.how == How::Drip && self.drip(cx) {
            return Flow::Go;
        }
        self.open = false;
        cx.tally.error(row.silent);
        Flow::Leave
    }

    fn next_wake(&self) -> Instant {
        self.wake
    }

    fn ended(&mut self, _: &mut Tally) {
        (self.ping, self.done, self.open, self.wake) = (0, 0, false, Instant::FAR);
    }

    fn on_end(&self) -> OnEnd {
        OnEnd::Deserved { again_us: self.again_us }
    }

    fn complaint(&self) -> Option<&'static str> {
        let row = self.row().filter(|row| self.open && row.expect == Expect::Forgiven)?;
        Some(row.out)
    }

    fn again_us(&self) -> Option<u32> {
        Some(self.again_us)
    }

    fn counts_blocks(&self) -> bool {
        false
    }

    fn is_mid_message(&self) -> bool {
        self.open && self.row().is_some_and(|row| row.how == How::Drip)
    }
}

impl Attacker {
    fn row(&self) -> Option<&'static Row> {
        ROWS.get(usize::from(self.row))
    }

    /// The next of the row's inputs.
    fn say(&self, cx: &mut Context<'_>) {
        let inputs = cx.shared.inputs(usize::from(self.row));
        // The first round is number 1. A mixed one comes to a row once in a while.
        let every = if self.mixed { ROWS.len() } else { 1 };
        let turn = self.round.wrapping_sub(1) as usize / every;
        if let Some(input) = inputs.get(turn.checked_rem(inputs.len()).unwrap_or(0)) {
            cx.out.extend_from_slice(input);
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        (self.open, self.wake) = (true, cx.now + PATIENCE);
    }

    /// One more byte of the ping; false when all are sent and patience has ended.
    fn drip(&mut self, cx: &mut Context<'_>) -> bool {
        let mut whole = Vec::with_capacity(32);
        write::ping(&mut whole, cx.magic, self.ping);
        let Some(byte) = whole.get(usize::from(self.done)) else { return false };
        cx.out.push(*byte);
        self.done += 1;
        let last = usize::from(self.done) == whole.len();
        self.wake = cx.now + if last { PATIENCE } else { DRIP };
        true
    }

    /// The target goes on as if nothing had been.
    fn forgiven(&mut self, cx: &mut Context<'_>) -> Flow {
        self.open = false;
        cx.tally.counts.forgiven += 1;
        if let Some(row) = self.row().filter(|row| row.expect == Expect::ThrownOut) {
            cx.tally.error(row.not_out);
        }
        Flow::Leave
    }
}

/// Every connection is the next row.
pub(super) fn mixed(options: &Options) -> Box<dyn Behaviour> {
    make(0, true, options)
}

/// One row, by its place in [`ROWS`].
pub(super) fn alone<const ROW: usize>(options: &Options) -> Box<dyn Behaviour> {
    const { assert!(ROW < ROWS.len()) };
    make(ROW as u8, false, options)
}

fn make(row: u8, mixed: bool, options: &Options) -> Box<dyn Behaviour> {
    Box::new(Attacker {
        ping: 0,
        theirs: 0,
        wake: Instant::FAR,
        again_us: pause(options, AGAIN),
        round: 0,
        done: 0,
        row,
        mixed,
        open: false,
    })
}
