//! Initial block download: headers first, then every block from genesis to the tip, 16 in flight; then from the beginning, so
//! that the load is constant. With `once` it stays at the tip instead and takes new blocks as they come.
//!
//! Every block's hash is that of the chain; the merkle root of one in sixteen is checked.

use breakwater::base::Instant;
use breakwater::wire::{InvKind, Message, sha256d, write};

use super::follow::{Follow, Heard};
use super::request::{Blocks, TIMED_OUT};
use super::{Behaviour, Hello, Options, check_block, sampled};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Room for this many before more are asked for: a few large questions rather than many small.
const REFILL: usize = 8;

#[derive(Debug)]
struct Ibd {
    follow: Follow,
    blocks: Blocks,
    /// Height of the next block to ask for.
    next: u32,
    once: bool,
}

const _: () = assert!(size_of::<Ibd>() <= 100);

impl Behaviour for Ibd {
    fn hello(&self) -> Hello {
        // As Bitcoin Core while it is far behind: it asks for transactions only later, by feefilter; here never.
        Hello { relay: false, ..Hello::default() }
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        write::empty(cx.out, cx.magic, "sendheaders");
        self.begin(cx);
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        match self.handle(cx, message) {
            Ok(()) => Flow::Go,
            Err(why) => Flow::Broken(why),
        }
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.next_wake() <= cx.now { TIMED_OUT } else { Flow::Go }
    }

    fn next_wake(&self) -> Instant {
        self.follow.due().min(self.blocks.due())
    }

    fn ended(&mut self, _: &mut Tally) {
        self.follow = Follow::default();
        self.blocks.clear();
    }

    fn asks_headers(&self) -> bool {
        self.follow.is_asking()
    }
}

impl Ibd {
    fn begin(&mut self, cx: &mut Context<'_>) {
        self.next = 1;
        self.follow.begin_at_genesis(cx);
    }

    fn handle(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Result<(), &'static str> {
        match message {
            Message::Block(bytes) => {
                let Some(header) = bytes.first_chunk::<80>() else { return Ok(()) };
                if let Some(height) = self.blocks.took(cx, &sha256d(header))
                    && sampled(height, cx.number)
                {
                    check_block(bytes)?;
                }
            }
            Message::NotFound(list) => self.blocks.not_found(cx, list),
            _ => {
                if let Heard::Moved { keep } = self.follow.message(cx, message)? {
                    self.next = self.next.min(keep + 1);
                }
            }
        }
        self.advance(cx);
        Ok(())
    }

    fn advance(&mut self, cx: &mut Context<'_>) {
        if !self.follow.synced() {
            return;
        }
        let height = self.follow.height();
        if self.next <= height && self.blocks.room() >= REFILL {
            let chain = &cx.shared.chain;
            let last = height.min(self.next + self.blocks.room() as u32 - 1);
            let wanted: Vec<_> =
                (self.next..=last).filter_map(|height| Some((height, chain.hash(height)?))).collect();
            self.next = last + 1;
            self.blocks.ask(cx, InvKind::WitnessBlock, wanted.into_iter());
        } else if self.next > height && height > 0 && self.blocks.is_empty() && !self.once {
            self.begin(cx);
        }
    }
}

pub(super) fn make(options: &Options) -> Box<dyn Behaviour> {
    Box::new(Ibd { follow: Follow::default(), blocks: Blocks::default(), next: 1, once: options.once })
}
