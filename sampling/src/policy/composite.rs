//! `composite`: a rate of spans divided among policies.
//!
//! The first part that wants a trace decides: the trace is sampled if it fits into what that part, and all parts
//! together, have left of this second. A part that has spent its own takes nothing from those behind it.
//!
//! The Collector compares the total with the count of one part only, and ignores the order that is configured; here both
//! mean what they say.

use super::{Compiled, Facts};
use crate::rates::Window;

#[derive(Clone, Debug)]
pub(super) struct Composite {
    total: Window,
    parts: Vec<(Compiled, Window)>,
}

impl Composite {
    pub(super) fn new(total: Window, parts: Vec<(Compiled, Window)>) -> Self {
        Self { total, parts }
    }

    pub(super) fn samples(&self, facts: &Facts) -> bool {
        let Some((_, window)) = self.parts.iter().find(|(policy, _)| policy.wants(facts)) else {
            return false;
        };
        if !window.take(facts.now_ns, facts.spans) {
            return false;
        }
        let fits = self.total.take(facts.now_ns, facts.spans);
        if !fits {
            window.give_back(facts.now_ns, facts.spans);
        }
        fits
    }
}
