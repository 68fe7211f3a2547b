//! The binary: parse, one match, call.

use std::process::ExitCode;

use breakwater_rig::alloc::Counting;

/// mimalloc as in the product, counted.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    breakwater_rig::command::main()
}
