//! Where a running gateway spends its time and its memory, as files that `go tool pprof` reads.
//!
//! ```text
//! every allocation --countdown--> one in 512 KiB --> heap   (stacks, live) --+
//! nobody asks: no signals         asked: a timer per thread --> cpu (stacks) --+--> symbols --> proto --> .pb.gz
//! every task of a shard --counted where it starts, per shard-----------------+
//! ```
//!
//! The one idea: what is noted while the gateway works goes into tables of a fixed size made of atomics, written without a
//! lock and without allocating, because an allocator and a signal handler may do neither. Everything slow (names of
//! functions, the file's format) happens later, on a thread of its own, and only when somebody asks.
//!
//! `raw` is the only part with `unsafe`: the allocator, the walk along frame pointers, the timers. Nothing here touches a
//! span, and nothing here waits for a shard.

pub mod cpu;
mod elf;
pub mod heap;
mod live;
mod permit;
pub mod proto;
mod raw;
mod stacks;
mod symbols;
pub mod tasks;

pub use permit::Permit;
pub use raw::Sampling;

/// Addresses noted of one stack, the innermost first; what is further out is cut off. Tasks of a debug build are about
/// eighty frames deep.
const DEPTH_MAX: usize = 128;
