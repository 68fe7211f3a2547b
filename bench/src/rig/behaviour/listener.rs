//! Says how it wants to hear of blocks, asks for headers once, and listens: the least a client does that keeps a session.
//!
//! `persistent` is the same, and comes again however it is received: a crowd of them keeps a house full.

use std::time::Duration;

use breakwater::wire::{Message, write};

use super::request::Request;
use super::{Behaviour, Hello, OnEnd, Options, pause};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Pause before a persistent one comes again.
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Listener {
    asked: Request,
    /// Microseconds until it comes again when it was ended; none for one that is lost then.
    again_us: Option<u32>,
}

impl Behaviour for Listener {
    fn hello(&self) -> Hello {
        Hello { relay: false, ..Hello::default() }
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        write::empty(cx.out, cx.magic, "sendheaders");
        self.asked = Request::open(cx);
        let (height, _) = cx.shared.chain.tip();
        let locator = cx.shared.chain.locator(height);
        write::locator(cx.out, cx.magic, "getheaders", locator.iter(), &[0; 32]);
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        if let Message::Headers(_) = message {
            self.asked.answered(cx);
        }
        Flow::Go
    }

    fn ended(&mut self, _: &mut Tally) {
        self.asked = Request::default();
    }

    fn on_end(&self) -> OnEnd {
        self.again_us.map_or(OnEnd::Lost, |again_us| OnEnd::Deserved { again_us })
    }

    fn again_us(&self) -> Option<u32> {
        self.again_us
    }

    fn is_stubborn(&self) -> bool {
        self.again_us.is_some()
    }

    fn asks_headers(&self) -> bool {
        self.asked.is_open()
    }
}

pub(super) fn make(_: &Options) -> Box<dyn Behaviour> {
    Box::new(Listener { asked: Request::default(), again_us: None })
}

pub(super) fn persistent(options: &Options) -> Box<dyn Behaviour> {
    Box::new(Listener { asked: Request::default(), again_us: Some(pause(options, AGAIN)) })
}
