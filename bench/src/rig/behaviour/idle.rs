//! Listens, and says nothing but what it must. No state, no allocation.

use super::{Behaviour, Options};

#[derive(Debug)]
struct Idle;

impl Behaviour for Idle {}

pub(super) fn make(_: &Options) -> Box<dyn Behaviour> {
    Box::new(Idle)
}
