//! One profile at a time, in the whole process: a second one would only measure the first.

use std::sync::atomic::{AtomicBool, Ordering};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Holding it proves that nobody else makes a profile. Given back when dropped.
#[derive(Debug)]
pub struct Permit(());

impl Permit {
    /// The permit, unless somebody has it.
    pub fn take() -> Option<Permit> {
        let free = TAKEN.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        // Made only if it was free: one that is dropped gives the real one back.
        free.then(|| Permit(()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}
