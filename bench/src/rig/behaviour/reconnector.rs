//! Comes, stays for 1 to 10 s, leaves, and comes back: the churn of phones and flaky networks.

use std::time::Duration;

use breakwater::base::Instant;
use rand::Rng as _;

use super::{Behaviour, Options, pause};
use crate::rig::client::{Context, Flow};
use crate::rig::measure::Tally;

/// Pause before it comes back.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it stays, milliseconds.
const STAY_MS: std::ops::RangeInclusive<u64> = 1_000..=10_000;

#[derive(Debug)]
struct Reconnector {
    leave: Instant,
    again_us: u32,
}

impl Behaviour for Reconnector {
    fn ready(&mut self, cx: &mut Context<'_>) -> Flow {
        self.leave = cx.now + Duration::from_millis(cx.rng.random_range(STAY_MS));
        Flow::Go
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.leave <= cx.now { Flow::Leave } else { Flow::Go }
    }

    fn next_wake(&self) -> Instant {
        self.leave
    }

    fn ended(&mut self, _: &mut Tally) {
        self.leave = Instant::FAR;
    }

    fn again_us(&self) -> Option<u32> {
        Some(self.again_us)
    }
}

pub(super) fn make(options: &Options) -> Box<dyn Behaviour> {
    Box::new(Reconnector { leave: Instant::FAR, again_us: pause(options, AGAIN) })
}
