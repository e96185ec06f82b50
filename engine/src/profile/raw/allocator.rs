//! The process's allocator: mimalloc, and beside it the heap's sample.

#![allow(unsafe_code)]

use super::super::heap;
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};

/// mimalloc with a sample of who allocates ([`heap`](crate::profile::heap)).
#[derive(Clone, Copy, Debug)]
pub struct Sampling;

// SAFETY: every method passes its arguments to `MiMalloc` unchanged and returns its result unchanged, so the contract of
// `GlobalAlloc` holds because it holds for `MiMalloc`. What is noted beside it neither reads nor writes the memory (it
// keeps the address as a number), does not allocate and does not unwind. A block is forgotten before it is freed or moved,
// so that a thread that gets its address next never finds it known.
unsafe impl GlobalAlloc for Sampling {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `MiMalloc.alloc`.
        let block = unsafe { MiMalloc.alloc(layout) };
        heap::allocated(block, layout.size());
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is that of `MiMalloc.alloc_zeroed`.
        let block = unsafe { MiMalloc.alloc_zeroed(layout) };
        heap::allocated(block, layout.size());
        block
    }

    /// The grown block counts as a new one. One that could not grow stays, and is missing in the sample.
    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        heap::freed(block);
        // SAFETY: `block` came from this allocator, so from `MiMalloc`, with this layout: the caller's contract.
        let block = unsafe { MiMalloc.realloc(block, layout, bytes) };
        heap::allocated(block, bytes);
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        heap::freed(block);
        // SAFETY: `block` came from this allocator, so from `MiMalloc`, with this layout: the caller's contract.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}
