//! What a sampler does as memory gets short, before the edge refuses: one step after the other.
//!
//! ```text
//! 0 .............. 75 % 80 % 85 % .......... 92 % ........ 96 % ..... 100 % of the soft limit (an example)
//!                     |<---- certain: decide what no later span can change ------------->|
//!                           |<-- compress: pack pending spans that wait long ----------->|
//!                                           |<-- shed: half, a quarter, ... of the traces >|
//!                                                          |<-- errors too, last ------->| then the edge refuses
//! ```
//!
//! Each step begins at one level and ends below a lower one, so that it does not begin and end with every request.
//!
//! Shedding is consistent: a trace is given up if its randomness does not reach a threshold, the same randomness that
//! policies compare, so all shards and gateways give up the same traces, and what is left says for how many it stands. It
//! is memory that is short, not time: what is pending is looked through again whenever a threshold rises.
//!
//! The ladder only knows levels; the sampler does the work.

use crate::consistent::Threshold;
use crate::settings::{Relief, StressRelief};

/// Records looked at in one call while what is pending is looked through.
pub(crate) const SWEEP_SLOTS: u32 = 2_048;

/// What is done now, for people who look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// What is certain is decided.
    pub certain: bool,
    /// What waits long is compressed.
    pub compress: bool,
    /// One trace without errors in `2^shed` is taken, and still pending; 0: all of them.
    pub shed: u8,
    /// The same of traces with errors.
    pub shed_errors: u8,
}

/// Where a sampler stands on its ladder.
#[derive(Debug)]
pub(crate) struct Ladder {
    settings: StressRelief,
    steps: Steps,
    /// The next slot to look at, while what is pending is looked through.
    sweep: Option<u32>,
}

impl Ladder {
    pub(crate) fn new(settings: StressRelief) -> Self {
        Self { settings, steps: Steps::default(), sweep: None }
    }

    /// The levels are others from now on; what began goes on until the next look at memory.
    pub(crate) fn change(&mut self, settings: StressRelief) {
        self.settings = settings;
    }

    /// Memory in use is this part of what may be used before the edge refuses.
    pub(crate) fn press(&mut self, pressure: f64) {
        let before = self.steps;
        let holds = |level: Option<Relief>, is_on: bool| {
            level.is_some_and(|level| pressure >= if is_on { level.until } else { level.from })
        };
        self.steps.certain = holds(self.settings.certain, before.certain);
        self.steps.compress = holds(self.settings.compress, before.compress);
        if let Some(shedding) = self.settings.shed {
            let halvings = shedding.halvings();
            let margin = shedding.relief.from - shedding.relief.until;
            let now = level(pressure, shedding.relief.from, halvings);
            // What began goes on until it would not begin with a margin more.
            let still = level(pressure + margin, shedding.relief.from, halvings);
            let reached = now.max(still.min(before.shed + before.shed_errors));
            self.steps.shed = reached.min(halvings);
            self.steps.shed_errors = reached - self.steps.shed;
        } else {
            (self.steps.shed, self.steps.shed_errors) = (0, 0);
        }
        let rises = self.steps.certain && !before.certain
            || self.steps.shed > before.shed
            || self.steps.shed_errors > before.shed_errors;
        if rises {
            self.sweep = Some(0);
        } else if !self.steps.certain && self.steps.shed == 0 {
            self.sweep = None;
        }
    }

    pub(crate) fn steps(&self) -> Steps {
        self.steps
    }

    /// The randomness from which on a trace is still taken, or stays pending; `None`: from 0 on.
    #[inline]
    pub(crate) fn threshold(&self, has_error: bool) -> Option<Threshold> {
        let halvings = if has_error { self.steps.shed_errors } else { self.steps.shed };
        (halvings > 0).then(|| Threshold::of_probability(0.5f64.powi(halvings.into())))
    }

    /// Whether what is pending is still to be looked through.
    pub(crate) fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// The slots to look at now, of `slots`.
    pub(crate) fn next_slots(&mut self, slots: u32) -> std::ops::Range<u32> {
        let Some(first) = self.sweep else { return 0..0 };
        let end = first.saturating_add(SWEEP_SLOTS).min(slots);
        self.sweep = Some(end).filter(|end| *end < slots);
        first..end
    }
}

/// How many levels are reached: from `from` on the first, at 1 the last of twice `halvings`.
fn level(pressure: f64, from: f64, halvings: u8) -> u8 {
    if pressure < from {
        return 0;
    }
    let levels = f64::from(2 * halvings);
    let part = ((pressure - from) / (1.0 - from)).clamp(0.0, 1.0);
    (1.0 + part * (levels - 1.0)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Shedding;

    fn ladder() -> Ladder {
        let relief = |from, until| Relief { from, until };
        Ladder::new(StressRelief {
            certain: Some(relief(0.8, 0.75)),
            compress: Some(relief(0.85, 0.8)),
            shed: Some(Shedding { relief: relief(0.9, 0.86), probability_min: 0.25 }),
        })
    }

    /// One after the other: the pressure, and what is done then.
    fn check(course: &[(f64, [u8; 4])]) {
        let mut ladder = ladder();
        for (pressure, expected) in course {
            ladder.press(*pressure);
            let Steps { certain, compress, shed, shed_errors } = ladder.steps();
            assert_eq!([certain.into(), compress.into(), shed, shed_errors], *expected, "at {pressure}");
        }
    }

    #[test]
    fn steps_begin_one_after_the_other_and_errors_are_shed_last() {
        check(&[
            (0.5, [0, 0, 0, 0]),
            (0.8, [1, 0, 0, 0]),
            (0.85, [1, 1, 0, 0]),
            (0.9, [1, 1, 1, 0]),
            (0.935, [1, 1, 2, 0]),
            (0.97, [1, 1, 2, 1]),
            (1.0, [1, 1, 2, 2]),
            (7.0, [1, 1, 2, 2]),
            (0.0, [0, 0, 0, 0]),
        ]);
    }

    #[test]
    fn a_step_ends_lower_than_it_began() {
        check(&[
            (0.9, [1, 1, 1, 0]),
            (0.87, [1, 1, 1, 0]),
            (0.859, [1, 1, 0, 0]),
            (0.87, [1, 1, 0, 0]),
            (0.81, [1, 1, 0, 0]),
            (0.79, [1, 0, 0, 0]),
            (0.84, [1, 0, 0, 0]),
            (0.74, [0, 0, 0, 0]),
            (0.79, [0, 0, 0, 0]),
        ]);
        check(&[(0.97, [1, 1, 2, 1]), (0.95, [1, 1, 2, 1]), (0.92, [1, 1, 2, 0]), (0.89, [1, 1, 1, 0])]);
    }

    #[test]
    fn a_step_that_is_no_longer_asked_for_ends() {
        let mut ladder = ladder();
        ladder.press(1.0);
        ladder.change(StressRelief::default());
        ladder.press(1.0);
        assert_eq!(ladder.steps(), Steps::default());
        assert!(!ladder.is_sweeping() && ladder.threshold(false).is_none());
    }

    #[test]
    fn what_is_pending_is_looked_through_once_whenever_more_is_asked() {
        let mut ladder = ladder();
        let mut slots = |pressure: f64| {
            ladder.press(pressure);
            let mut seen = 0;
            while ladder.is_sweeping() {
                seen += ladder.next_slots(5_000).len();
            }
            seen
        };
        let found: Vec<usize> = [0.7, 0.8, 0.82, 0.9, 0.9, 0.95, 0.88, 0.9, 0.7, 0.8].map(&mut slots).into();
        assert_eq!(found, [0, 5_000, 0, 5_000, 0, 5_000, 0, 0, 0, 5_000]);
    }
}
