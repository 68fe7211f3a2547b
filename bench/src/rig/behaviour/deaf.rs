//! Those who ask for much and hardly read, or never: the slow reader and the stalled client.
//!
//! Both learn the chain's last blocks from headers and then ask for these blocks: the slow one for more as they come, the
//! stalled one for as many as fit a few questions, after which it reads nothing any more. To be ended is what they deserve.

use std::time::Duration;

use breakwater::base::Instant;
use breakwater::wire::{Hash, Inv, InvKind, Message, sha256d, write};

use super::{Behaviour, Hello, OnEnd, Options, pause};
use crate::rig::client::{Context, Flow, Reading};
use crate::rig::measure::Tally;

/// The slow reader's bytes at a time.
const SIP: u16 = 1_000;
/// The slow reader's pause between two sips.
const SIP_EVERY: Duration = Duration::from_millis(100);
/// Pause before one that was thrown out comes again.
const AGAIN: Duration = Duration::from_secs(1);
/// Blocks of one question, the newest.
const BLOCKS: usize = 16;
/// Questions of the stalled client: together they are answered by more than any socket holds, unless blocks are tiny.
const QUESTIONS: usize = 50;

#[derive(Debug)]
struct Deaf {
    reading: Reading,
    /// Blocks asked for and not yet here.
    awaited: u16,
    /// True exactly when the blocks have been asked for.
    asked: bool,
    /// True exactly when it reads as it wants, not as the handshake needs.
    deaf: bool,
    again_us: u32,
}

impl Behaviour for Deaf {
    fn hello(&self) -> Hello {
        Hello { relay: false, ..Hello::default() }
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        let genesis = cx.shared.chain.hash(0).unwrap_or_default();
        write::locator(cx.out, cx.magic, "getheaders", [genesis].iter(), &[0; 32]);
        cx.tally.counts.requests += 1;
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        match message {
            Message::Headers(list) if !self.asked => {
                let last: Vec<Hash> = list
                    .iter()
                    .skip(list.len().saturating_sub(BLOCKS))
                    .map(|header| sha256d(header))
                    .collect();
                if !last.is_empty() {
                    self.ask(cx, &last);
                }
            }
            Message::Block(bytes) if self.asked => {
                cx.tally.counts.blocks_received += 1;
                self.awaited = self.awaited.saturating_sub(1);
                if self.awaited == 0
                    && let Some(header) = bytes.first_chunk::<80>()
                {
                    self.ask(cx, &[sha256d(header); BLOCKS]);
                }
            }
            _ => {}
        }
        Flow::Go
    }

    fn wake(&mut self, _: &mut Context<'_>) -> Flow {
        self.deaf = true;
        Flow::Go
    }

    fn next_wake(&self) -> Instant {
        // At once: the caller asks how it reads after a wake.
        if self.asked && !self.deaf { Instant(0) } else { Instant::FAR }
    }

    fn reading(&self) -> Reading {
        if self.deaf { self.reading } else { Reading::All }
    }

    fn ended(&mut self, _: &mut Tally) {
        (self.awaited, self.asked, self.deaf) = (0, false, false);
    }

    fn on_end(&self) -> OnEnd {
        OnEnd::Deserved { again_us: self.again_us }
    }

    fn counts_blocks(&self) -> bool {
        false
    }

    fn asks_headers(&self) -> bool {
        !self.asked
    }
}

impl Deaf {
    fn ask(&mut self, cx: &mut Context<'_>, blocks: &[Hash]) {
        self.asked = true;
        let questions = if self.reading == Reading::Never { QUESTIONS } else { 1 };
        for _ in 0..questions {
            let list = blocks.iter().map(|hash| Inv { kind: InvKind::WitnessBlock, hash: *hash });
            write::inventory(cx.out, cx.magic, "getdata", list);
            cx.tally.counts.requests += 1;
        }
        // 16 a question, 50 questions.
        self.awaited = (questions * blocks.len()) as u16;
    }
}

pub(super) fn slow(options: &Options) -> Box<dyn Behaviour> {
    let bytes = u16::try_from(options.bytes).unwrap_or(u16::MAX);
    let every_us = pause(options, SIP_EVERY);
    make(
        Reading::Sips { bytes: if bytes == 0 { SIP } else { bytes }, every_us },
        pause(&Options::default(), AGAIN),
    )
}

pub(super) fn stalled(options: &Options) -> Box<dyn Behaviour> {
    make(Reading::Never, pause(options, AGAIN))
}

fn make(reading: Reading, again_us: u32) -> Box<dyn Behaviour> {
    Box::new(Deaf { reading, awaited: 0, asked: false, deaf: false, again_us })
}
