//! `tracegate`: see the library's `cli` for what it does.

use std::process::ExitCode;

/// Buffers and indexes cross threads rarely and are reused; what is left is many small, short allocations. One in 512 KiB
/// is noted for the heap's profile.
#[global_allocator]
static ALLOCATOR: engine::profile::Sampling = engine::profile::Sampling;

fn main() -> ExitCode {
    engine::cli::main()
}
