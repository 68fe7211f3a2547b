//! Connects and says nothing; reads what comes. The other side of a floor.

use super::{Behaviour, OnEnd, Options};
use crate::rig::client::{Context, Flow};

/// Microseconds until it connects again when the target ends it.
const AGAIN_US: u32 = 1_000_000;

#[derive(Debug)]
struct Mute;

impl Behaviour for Mute {
    fn connected(&mut self, _: &mut Context<'_>) -> Option<Flow> {
        Some(Flow::Go)
    }

    fn unreadable(&mut self, _: &mut Context<'_>, _: &'static str) -> Flow {
        // What is sealed for nobody: its bytes are counted.
        Flow::Go
    }

    fn on_end(&self) -> OnEnd {
        OnEnd::Deserved { again_us: AGAIN_US }
    }

    fn counts_blocks(&self) -> bool {
        false
    }
}

pub(super) fn make(_: &Options) -> Box<dyn Behaviour> {
    Box::new(Mute)
}
