//! `tracegate`: see the library's `cli` for what it does.

use std::process::ExitCode;

/// Buffers and indexes cross threads rarely and are reused; what is left is many small, short allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    engine::cli::main()
}
