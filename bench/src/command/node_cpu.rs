//! placeholder
use super::Common;
use crate::Outcome;
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
}
pub(super) fn run(_args: Args) -> Outcome {
    Ok(())
}
