//! Following the best chain of headers: a height and a hash per client, the rest is in [`Chain`](super::shared::Chain).
//!
//! Asks with a locator that begins below the client's tip, because some nodes give no answer when they have nothing new.

use breakwater::base::Instant;
use breakwater::base::limits::MAX_HEADERS;
use breakwater::wire::{Hash, HeaderList, Message, write};

use super::request::Request;
use super::shared::Linked;
use crate::rig::client::Context;

/// Lists of headers in a row that follow no known block, before the target is given up.
const MAX_UNKNOWN: u8 = 10;

/// Where a client stands.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// Hash of the block at `height`; means nothing at genesis.
    tip: Hash,
    asked: Request,
    height: u32,
    unknown: u8,
    /// True exactly when the target has given all headers it has.
    synced: bool,
}

/// What a message has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing.
    Nothing,
    /// The tip, or that it is reached. Blocks up to the height `keep` are the same as before.
    Moved {
        /// See there.
        keep: u32,
    },
}

impl Follow {
    /// Begins at genesis.
    pub(super) fn begin_at_genesis(&mut self, cx: &mut Context<'_>) {
        *self = Follow::default();
        self.ask(cx);
    }

    /// Begins at the tip that the process knows, as a node that has the chain already.
    pub(super) fn begin_at_tip(&mut self, cx: &mut Context<'_>) {
        let (height, tip) = cx.shared.chain.tip();
        *self = Follow { tip, height, ..Follow::default() };
        self.ask(cx);
    }

    /// Height of its tip.
    pub(super) fn height(&self) -> u32 {
        self.height
    }

    /// True exactly when it has all headers the target has.
    pub(super) fn synced(&self) -> bool {
        self.synced
    }

    /// True exactly when the next `headers` is an answer.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_open()
    }

    /// When patience with the target ends.
    pub(super) fn due(&self) -> Instant {
        self.asked.due()
    }

    /// Asks for what follows its tip, unless it has asked.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>) {
        if self.asked.is_open() {
            return;
        }
        self.asked = Request::open(cx);
        let locator = cx.shared.chain.locator(self.height.saturating_sub(1));
        write::locator(cx.out, cx.magic, "getheaders", locator.iter(), &[0; 32]);
    }

    /// Headers, and blocks announced by inv. The error says what is wrong with the target.
    pub(super) fn message(
        &mut self,
        cx: &mut Context<'_>,
        message: &Message<'_>,
    ) -> Result<Heard, &'static str> {
        match message {
            Message::Headers(list) => self.headers(cx, list),
            Message::Inv(list) => {
                if list.iter().any(|inv| !inv.kind.is_tx() && inv.hash != self.tip) {
                    self.ask(cx);
                }
                Ok(Heard::Nothing)
            }
            _ => Ok(Heard::Nothing),
        }
    }

    /// The header of a compact block.
    pub(super) fn header(&mut self, cx: &mut Context<'_>, header: &[u8; 80]) -> Result<Heard, &'static str> {
        self.extend(cx, &[header])
    }

    fn headers(&mut self, cx: &mut Context<'_>, list: &HeaderList<'_>) -> Result<Heard, &'static str> {
        let answer = self.asked.answered(cx);
        let raw: Vec<&[u8; 80]> = list.iter().collect();
        let before = self.height;
        let mut heard = self.extend(cx, &raw)?;
        if raw.len() == MAX_HEADERS {
            self.ask(cx);
        } else if answer && !self.synced && !self.asked.is_open() {
            self.synced = true;
            if heard == Heard::Nothing {
                heard = Heard::Moved { keep: before };
            }
        }
        Ok(heard)
    }

    fn extend(&mut self, cx: &mut Context<'_>, raw: &[&[u8; 80]]) -> Result<Heard, &'static str> {
        match cx.shared.chain.link(self.height, raw)? {
            Linked::Unknown => {
                self.unknown += 1;
                if self.unknown > MAX_UNKNOWN {
                    return Err("headers that follow no known block");
                }
                self.ask(cx);
                Ok(Heard::Nothing)
            }
            Linked::Beside => Ok(Heard::Nothing),
            Linked::To { fork, height, tip } => {
                self.unknown = 0;
                let here = self.height == 0 || cx.shared.chain.hash(self.height) == Some(self.tip);
                if here && height <= self.height {
                    return Ok(Heard::Nothing);
                }
                let keep = if here { self.height } else { fork.min(self.height) };
                (self.height, self.tip) = (height, tip);
                Ok(Heard::Moved { keep })
            }
        }
    }
}
