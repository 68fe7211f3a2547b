//! The binary: parse, one match, call.

use std::process::ExitCode;

/// Small and fast for many small things; the client path allocates next to nothing anyway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    breakwater::cli::main()
}
