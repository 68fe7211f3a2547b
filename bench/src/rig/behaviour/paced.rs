//! Syncs at a pace of its own: the chain's headers first, then a question every so often, on a schedule that waits for nobody.
//!
//! What such a client gets depends on the target and not on how much CPU is left beside it, so a crowd of them shows whether
//! somebody else takes their share. Every eighth question is for all headers, the others for a block each, in turn.
//! At most [`MAX_BLOCKS_IN_FLIGHT`] blocks and one list of headers are under way; a question that is due beyond that is not
//! asked, and is missing in the answers.

use std::time::Duration;

use breakwater::base::Instant;
use breakwater::base::limits::MAX_BLOCKS_IN_FLIGHT;
use breakwater::wire::{InvKind, Message, sha256d, write};
use rand::Rng as _;

use super::follow::Follow;
use super::request::{Blocks, Request, TIMED_OUT};
use super::{Behaviour, Hello, Options, pause};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// From one question to the next.
const EVERY: Duration = Duration::from_millis(100);
/// Every so many-th question is for headers.
const HEADERS: u32 = 8;

#[derive(Debug)]
struct Paced {
    follow: Follow,
    blocks: Blocks,
    headers: Request,
    /// When the next question is due; far while the headers are not there.
    next: Instant,
    every_us: u32,
    /// Questions so far: decides what is asked next.
    turn: u32,
}

const _: () = assert!(size_of::<Paced>() <= 120);

impl Behaviour for Paced {
    fn hello(&self) -> Hello {
        Hello { relay: false, ..Hello::default() }
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        write::empty(cx.out, cx.magic, "sendheaders");
        self.turn = cx.number;
        self.follow.begin_at_genesis(cx);
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        match message {
            Message::Headers(_) if self.headers.answered(cx) => {}
            Message::Block(bytes) => {
                if let Some(header) = bytes.first_chunk::<80>() {
                    self.blocks.took(cx, &sha256d(header));
                }
            }
            Message::NotFound(list) => self.blocks.not_found(cx, list),
            _ => {
                if let Err(why) = self.follow.message(cx, message) {
                    return Flow::Broken(why);
                }
            }
        }
        if self.next == Instant::FAR && self.follow.synced() {
            // Spread, so that clients that connect together do not ask together.
            self.next = cx.now + Duration::from_micros(cx.rng.random_range(0..u64::from(self.every_us)));
        }
        Flow::Go
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.follow.due().min(self.blocks.due()).min(self.headers.due()) <= cx.now {
            return TIMED_OUT;
        }
        let every = Duration::from_micros(u64::from(self.every_us));
        for _ in 0..MAX_BLOCKS_IN_FLIGHT {
            if self.next > cx.now {
                return Flow::Go;
            }
            cx.tally.lateness.record(cx.now.since(self.next));
            self.next = self.next + every;
            self.ask(cx);
        }
        // Far behind: what was due is not made up for.
        self.next = self.next.max(cx.now);
        Flow::Go
    }

    fn next_wake(&self) -> Instant {
        self.next.min(self.follow.due()).min(self.blocks.due()).min(self.headers.due())
    }

    fn ended(&mut self, _: &mut Tally) {
        (self.follow, self.headers, self.next) = (Follow::default(), Request::default(), Instant::FAR);
        self.blocks.clear();
    }

    fn asks_headers(&self) -> bool {
        self.follow.is_asking() || self.headers.is_open()
    }
}

impl Paced {
    fn ask(&mut self, cx: &mut Context<'_>) {
        let (turn, height) = (self.turn, self.follow.height());
        self.turn = turn.wrapping_add(1);
        if turn.is_multiple_of(HEADERS) {
            if !self.asks_headers() {
                self.headers = Request::open(cx);
                let genesis = cx.shared.chain.hash(0).unwrap_or_default();
                write::locator(cx.out, cx.magic, "getheaders", [genesis].iter(), &[0; 32]);
            }
            return;
        }
        let wanted = 1 + turn % height.max(1);
        if let Some(hash) = cx.shared.chain.hash(wanted) {
            self.blocks.ask(cx, InvKind::WitnessBlock, [(wanted, hash)].into_iter());
        }
    }
}

pub(super) fn make(options: &Options) -> Box<dyn Behaviour> {
    Box::new(Paced {
        follow: Follow::default(),
        blocks: Blocks::default(),
        headers: Request::default(),
        next: Instant::FAR,
        every_us: pause(options, EVERY).max(1),
        turn: 0,
    })
}
