//! `status_code`: traces with a span of one of the wanted statuses.

use codecs::otlp::StatusCode;

use super::Facts;

/// The bits of [`super::Conditions`] that statuses own.
const UNSET: u64 = 1 << 0;
const OK: u64 = 1 << 1;
const ERROR: u64 = 1 << 2;

/// The condition that a span of this status meets.
#[inline]
pub(super) fn condition_of(status: StatusCode) -> u64 {
    match status {
        StatusCode::Unset => UNSET,
        StatusCode::Ok => OK,
        StatusCode::Error => ERROR,
    }
}

#[derive(Clone, Debug)]
pub(super) struct StatusCodes {
    wanted: u64,
}

impl StatusCodes {
    pub(super) fn new(ok: bool, error: bool, unset: bool) -> Self {
        let mut wanted = 0;
        for (is_wanted, condition) in [(ok, OK), (error, ERROR), (unset, UNSET)] {
            if is_wanted {
                wanted |= condition;
            }
        }
        Self { wanted }
    }

    #[inline]
    pub(super) fn samples(&self, facts: &Facts) -> bool {
        facts.conditions.0 & self.wanted != 0
    }

    /// The conditions of which one is enough.
    pub(super) fn conditions(&self) -> u64 {
        self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Conditions;
    use crate::policy::tests::facts;

    fn check(policy: &StatusCodes, statuses: &[StatusCode], expected: bool) {
        let conditions = Conditions(statuses.iter().fold(0, |bits, status| bits | condition_of(*status)));
        let facts = Facts { conditions, ..facts() };
        assert_eq!(policy.samples(&facts), expected, "{statuses:?}");
    }

    #[test]
    fn one_span_of_a_wanted_status_is_enough() {
        use StatusCode::{Error, Ok, Unset};
        let errors = StatusCodes::new(false, true, false);
        check(&errors, &[Ok, Unset], false);
        check(&errors, &[Ok, Error, Unset], true);
        let set = StatusCodes::new(true, true, false);
        check(&set, &[Unset], false);
        check(&set, &[Unset, Ok], true);
        check(&StatusCodes::new(false, false, true), &[Ok, Error], false);
        check(&StatusCodes::new(false, false, true), &[Ok, Unset], true);
    }
}
