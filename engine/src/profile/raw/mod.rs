//! The part of profiling that safe code cannot do: be the allocator, follow frame pointers, be interrupted by a timer.
//!
//! WHY UNSAFE: an allocator is an unsafe trait; a stack is read through addresses that registers hold; timers and signal
//! handlers are C. The alternatives are an allocator that samples by itself, which mimalloc does not, and a library that
//! unwinds inside a signal handler (docs/decisions/007-profiles-of-our-own.md). Everything that decides lies outside, in
//! safe files: these three only fetch and hand over.

mod allocator;
pub(super) mod frames;
pub(super) mod timers;

pub use allocator::Sampling;
