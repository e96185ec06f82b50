//! How much of a pool was needed lately, so that what a burst left over can be given back.
//!
//! Two windows of time: what neither the current nor the previous one needed is surplus. A burst is therefore
//! forgotten after one window at the earliest and two at the latest.

/// The most units in use at once, in the current and in the previous window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watermark {
    current: usize,
    previous: usize,
}

impl Watermark {
    /// Notes that `in_use` units are in use now.
    #[inline]
    pub(crate) fn observe(&mut self, in_use: usize) {
        self.current = self.current.max(in_use);
    }

    /// Starts a new window, in which `in_use` units are in use so far.
    pub(crate) fn rotate(&mut self, in_use: usize) {
        self.previous = self.current;
        self.current = in_use;
    }

    /// Units worth keeping.
    pub(crate) fn needed(&self) -> usize {
        self.current.max(self.previous)
    }
}
