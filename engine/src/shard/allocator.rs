//! What the allocator's pages are: small ones, and given back to the system also when nothing happens.
//!
//! The allocator gives pages back when it is called often enough. After a burst nobody calls it: ten thousand connections
//! that had come to rest kept 137 MiB resident, of which 46 were in use.
//!
//! WHY UNSAFE: the call is C's, and the allocator's crate offers it only with another crate beside it.

#![allow(unsafe_code)]

// The symbol is in this crate's library; without its name here a program that uses only ours would not be linked with it.
use mimalloc as _;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Lets the allocator give back what this thread has freed and nobody has wanted since. Some microseconds.
pub fn give_back() {
    // SAFETY: the function asks for nothing but a thread, looks only at memory that the allocator owns, and does nothing in a
    // program that allocates otherwise, as tests do.
    unsafe { mi_collect(false) }
}

/// Keeps this process to pages of 4 KiB, also where the system makes huge ones.
///
/// The allocator asks for huge pages. Each time it has given one back and wants it again, 2 MiB are cleared for the few
/// KiB that somebody needs: 600,000 spans/s cost a tenth to a third more of a core with them, and a gateway at rest held
/// 45 MiB instead of 16 (notes/019). Memory that exists already stays as it is, so this belongs before the first shard.
pub fn only_small_pages() {
    // A kernel that cannot (before 3.15) makes what it makes: slower, not wrong.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
