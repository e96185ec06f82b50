//! `always_sample`: every trace.

use super::Facts;

#[derive(Clone, Debug)]
pub(super) struct AlwaysSample;

impl AlwaysSample {
    #[inline]
    pub(super) fn samples(&self, _facts: &Facts) -> bool {
        true
    }
}
