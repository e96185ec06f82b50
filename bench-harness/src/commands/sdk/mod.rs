//! `bench-harness sdk`: what spans cost the application that makes them, with the SDK of Rust and our receiver.
//!
//! The SDK is built only with the feature `sdk`: it brings a second gRPC stack that nothing else here needs.

#[cfg(feature = "sdk")]
mod measured;
#[cfg(any(test, feature = "sdk"))]
mod table;

use std::io;
use std::process::ExitCode;

use crate::cli::SdkArguments;

#[cfg(feature = "sdk")]
pub(super) use measured::run;

/// Says how to build it with.
#[cfg(not(feature = "sdk"))]
pub(super) fn run(_: &SdkArguments) -> io::Result<ExitCode> {
    Err(io::Error::other(
        "this harness was built without the SDK that it would measure; build it with: cargo run --release -p \
         bench-harness --features sdk -- sdk",
    ))
}
