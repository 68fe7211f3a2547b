//! A scanner as Bitnodes' crawler: shakes hands, asks for addresses, leaves with the first answer or after 10 s, and comes again.
//!
//! A node that has no addresses to give says nothing, which is no error.

use std::time::Duration;

use breakwater::base::Instant;
use breakwater::wire::{Message, write};

use super::request::Request;
use super::{Behaviour, Hello, Options, pause};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Waits so long for addresses.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two scans.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Scanner {
    asked: Request,
    leave: Instant,
    again_us: u32,
}

impl Behaviour for Scanner {
    fn hello(&self) -> Hello {
        Hello { relay: false, ..Hello::default() }
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        write::empty(cx.out, cx.magic, "getaddr");
        self.asked = Request::open(cx);
        self.leave = cx.now + PATIENCE;
        Flow::Go
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &Message<'_>) -> Flow {
        match message {
            Message::Addr(..) | Message::AddrV2(..) if self.asked.answered(cx) => Flow::Leave,
            _ => Flow::Go,
        }
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.leave <= cx.now { Flow::Leave } else { Flow::Go }
    }

    fn next_wake(&self) -> Instant {
        self.leave
    }

    fn ended(&mut self, _: &mut Tally) {
        (self.asked, self.leave) = (Request::default(), Instant::FAR);
    }

    fn again_us(&self) -> Option<u32> {
        Some(self.again_us)
    }

    fn counts_blocks(&self) -> bool {
        false
    }
}

pub(super) fn make(options: &Options) -> Box<dyn Behaviour> {
    Box::new(Scanner { asked: Request::default(), leave: Instant::FAR, again_us: pause(options, AGAIN) })
}
