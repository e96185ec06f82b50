//! The calls under way on a thread, by following frame pointers (`-Cforce-frame-pointers` in `.cargo/config.toml`).
//!
//! ```text
//! stack end  (learned at the thread's first allocation)
//!   ...
//!   [frame of the caller | return address] <--+
//!   ...                                       |
//!   [   --------------------------------------+ return address] <-- frame pointer
//! stack pointer
//! ```
//!
//! Code in C keeps no frame pointers and may have anything in that register. So nothing is believed: a frame is read only
//! if it lies between the stack pointer and the stack's end, and above the frame before it. All of that memory is the
//! thread's own stack, whatever its words mean; a wrong word costs the rest of the stack, or one frame that never was.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::mem::MaybeUninit;

/// A frame is two words: the caller's frame, and where the caller goes on.
const FRAME_BYTES: usize = 2 * size_of::<usize>();
/// No code lies in the first page.
const CODE_LOWEST: usize = 4096;

thread_local! {
    /// Where this thread's stack ends; 0 until that is known. Constant, without a destructor: a signal handler may read it.
    static STACK_END: Cell<usize> = const { Cell::new(0) };
}

/// Asks the system where this thread's stack ends. Without it stacks of this thread are one frame deep.
///
/// Takes locks of the C library, so it is not for a signal handler; allocates with the C library's allocator only.
pub(in crate::profile) fn learn_stack() {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut lowest, mut bytes) = (std::ptr::null_mut(), 0);
    // SAFETY: both calls that read `attributes` come after `pthread_getattr_np` has said that it wrote them; the other
    // pointers are to variables of this function. The attributes are destroyed once.
    let known = unsafe {
        libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) == 0 && {
            let known = libc::pthread_attr_getstack(attributes.as_ptr(), &mut lowest, &mut bytes) == 0;
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            known
        }
    };
    if known {
        STACK_END.set(lowest.addr() + bytes);
    }
}

/// Return addresses of the calls that led here, the innermost first; how many there are.
#[inline(never)]
pub(in crate::profile) fn here(out: &mut [usize]) -> usize {
    let frame: usize;
    // SAFETY: copies a register that frame pointers are kept in; touches no memory and no flags.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags));
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            frame = 0;
        }
    }
    let lowest = std::ptr::from_ref(&frame).addr();
    // SAFETY: `lowest` is the address of a variable in this call's frame, which is below everything that is under way.
    unsafe { walk(frame, lowest, out) }
}

/// Follows the frames from `frame` outwards and writes their return addresses; how many there are.
///
/// # Safety
/// - `lowest` is at or above this thread's stack pointer (or that of the code that a signal handler interrupted on this
///   thread), so that everything from there to the stack's end is mapped.
pub(super) unsafe fn walk(mut frame: usize, mut lowest: usize, out: &mut [usize]) -> usize {
    let end = STACK_END.get();
    let mut depth = 0;
    while depth < out.len() {
        let lies_on_the_stack = frame >= lowest && frame < end && end - frame >= FRAME_BYTES;
        if !lies_on_the_stack || !frame.is_multiple_of(align_of::<usize>()) {
            break;
        }
        let words = std::ptr::with_exposed_provenance::<[usize; 2]>(frame);
        // SAFETY: both words lie between `lowest` and the end of this thread's stack and are aligned, checked above; the
        // caller's contract says that this range is mapped. Volatile, because other frames own them.
        let [outer, return_address] = unsafe { words.read_volatile() };
        if return_address < CODE_LOWEST {
            break;
        }
        out[depth] = return_address;
        depth += 1;
        lowest = frame + FRAME_BYTES;
        frame = outer;
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn deeper(depth: usize, out: &mut [usize]) -> usize {
        let found = if depth == 0 { here(out) } else { deeper(depth - 1, out) };
        std::hint::black_box(found)
    }

    #[test]
    fn each_call_under_way_is_a_frame() {
        learn_stack();
        let mut out = [0; 256];
        let shallow = deeper(1, &mut out);
        let deep = deeper(31, &mut out);
        assert!(shallow > 2, "{shallow}");
        assert_eq!(deep, shallow + 30);
        assert_eq!(deeper(200, &mut out[..100]), 100, "no more than there is room for");
    }

    #[test]
    fn words_that_are_no_frames_end_the_walk() {
        learn_stack();
        let (mut stack, mut out) = ([0_usize; 64], [0; 16]);
        let lowest = std::ptr::from_mut(&mut stack).expose_provenance();
        let there = |index: usize| lowest + index * size_of::<usize>();
        stack[2..4].copy_from_slice(&[there(8), 0x10_0000]);
        stack[8..10].copy_from_slice(&[there(20), 0x20_0000]);
        stack[20..22].copy_from_slice(&[there(2), 0x30_0000]);
        let mut check = |frame: usize, expected: &[usize]| {
            // SAFETY: `lowest` is the address of a variable of this function.
            let depth = unsafe { walk(frame, lowest, &mut out) };
            assert_eq!(&out[..depth], expected);
        };
        check(there(2), &[0x10_0000, 0x20_0000, 0x30_0000]);
        check(there(30), &[]);
        check(0, &[]);
        check(usize::MAX - 3, &[]);
        check(lowest - 64, &[]);
        check(STACK_END.get() - 8, &[]);
        std::hint::black_box(&mut stack);
    }
}
