//! The binary: parse, one match, call.

use std::process::ExitCode;

use breakwater_rig::alloc::Counting;

/// mimalloc as in the product, counted.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    match breakwater_rig::command::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("breakwater-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
