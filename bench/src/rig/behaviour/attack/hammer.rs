//! The request flood: as many questions as it can get answered, headers, blocks and pings in turn, and reads everything.
//!
//! Questions for 256 answers are always under way; with each answer the next is asked. Unlike the greedy row of the table it
//! never has enough. A target that stops reading it is what it deserves; when it is ended it comes again.

use std::time::Duration;

use breakwater::base::limits::MAX_BLOCKS_IN_FLIGHT;
use breakwater::wire::{Hash, Inv, InvKind, Message, sha256d, write};

use crate::rig::behaviour::{Behaviour, Hello, OnEnd, Options, pause};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Answers that are awaited at a time.
const MOST: u32 = 256;
/// Pause before it comes again.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Hammer {
    /// The newest block it was told of.
    block: Hash,
    /// Answers awaited.
    awaited: u32,
    again_us: u32,
    /// Decides what is asked next.
    turn: u8,
    /// True exactly when it knows a block.
    knows: bool,
}

const _: () = assert!(size_of::<Hammer>() <= 64);

impl Behaviour for Hammer {
    fn hello(&self) -> Hello {
        Hello { relay: false, ..Hello::default() }
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        self.headers(cx);
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        match message {
            Message::Headers(list) => {
                if let Some(last) = list.iter().last() {
                    (self.block, self.knows) = (sha256d(last), true);
                }
                self.came(cx, 1);
            }
            Message::Block(_) => {
                cx.tally.counts.blocks_received += 1;
                self.came(cx, 1);
            }
            Message::NotFound(list) => self.came(cx, u32::try_from(list.iter().count()).unwrap_or(MOST)),
            Message::Pong(_) => self.came(cx, 1),
            _ => {}
        }
        Flow::Go
    }

    fn ended(&mut self, _: &mut Tally) {
        (self.awaited, self.knows) = (0, false);
    }

    fn on_end(&self) -> OnEnd {
        OnEnd::Deserved { again_us: self.again_us }
    }

    fn is_stubborn(&self) -> bool {
        true
    }

    fn counts_blocks(&self) -> bool {
        false
    }

    fn asks_headers(&self) -> bool {
        true
    }
}

impl Hammer {
    /// So many answers are here; the next questions are asked.
    fn came(&mut self, cx: &mut Context<'_>, answers: u32) {
        self.awaited = self.awaited.saturating_sub(answers);
        cx.tally.counts.answers += u64::from(answers);
        while self.knows && self.awaited < MOST {
            self.turn = self.turn.wrapping_add(1);
            match self.turn % 4 {
                0 => self.headers(cx),
                1 | 2 => {
                    let one = Inv { kind: InvKind::WitnessBlock, hash: self.block };
                    let list = std::iter::repeat_n(one, MAX_BLOCKS_IN_FLIGHT);
                    write::inventory(cx.out, cx.magic, "getdata", list);
                    self.asked(cx, MAX_BLOCKS_IN_FLIGHT as u32);
                }
                _ => {
                    // Not a nonce that the client itself has under way: those are times.
                    write::ping(cx.out, cx.magic, u64::MAX);
                    self.asked(cx, 1);
                }
            }
        }
    }

    fn headers(&mut self, cx: &mut Context<'_>) {
        let genesis = cx.shared.chain.hash(0).unwrap_or_default();
        write::locator(cx.out, cx.magic, "getheaders", [genesis].iter(), &[0; 32]);
        self.asked(cx, 1);
    }

    fn asked(&mut self, cx: &mut Context<'_>, answers: u32) {
        cx.tally.counts.requests += 1;
        self.awaited += answers;
    }
}

pub(in crate::rig::behaviour) fn make(options: &Options) -> Box<dyn Behaviour> {
    let again_us = pause(options, AGAIN);
    Box::new(Hammer { block: [0; 32], awaited: 0, again_us, turn: 0, knows: false })
}
