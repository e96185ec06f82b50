//! `bench-harness sdk`: what spans cost the application that makes them, with the SDK of Rust and our receiver.
//!
//! The SDK is built only with the feature `sdk`: it brings a second gRPC stack that nothing else here needs.

#[cfg(feature = "sdk")]
mod measured;
#[cfg(any(test, feature = "sdk"))]
mod table;

#[cfg(feature = "sdk")]
pub(super) use measured::run;

/// Says how to build it with.
#[cfg(not(feature = "sdk"))]
pub(super) fn run(_: &crate::cli::SdkArguments) -> std::io::Result<std::process::ExitCode> {
    Err(std::io::Error::other(
        "this harness was built without the SDK that it would measure; build it with: cargo run --release -p \
         bench-harness --features sdk -- sdk",
    ))
}
