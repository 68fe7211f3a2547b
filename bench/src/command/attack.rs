//! x
use crate::Outcome;
#[derive(clap::Args, Debug)]
pub(super) struct Args {}
pub(super) fn run(_: Args) -> Outcome { Ok(()) }
