//! The binary: parse, run, exit code; nothing else.

mod cli;

use std::process::ExitCode;

/// Batches of rows are allocated and freed all the time, on all threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
