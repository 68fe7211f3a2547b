//! The load rig: parse, one match, call.

use std::process::ExitCode;

/// mimalloc as in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    breakwater_rig::rig::main()
}
