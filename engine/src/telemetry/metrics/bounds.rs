//! Bucket bounds of histograms.
//!
//! The one idea: a bound is written in the unit that is observed, so that observing costs no division; `per_unit` makes
//! the unit that is shown of it.

use crate::telemetry::cells::Bounds;

/// Spans of a batch when it is sent (the Collector's bounds).
pub(super) static BATCH_SPANS: Bounds = Bounds {
    upper: &[
        10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 7_000, 8_000, 9_000, 10_000,
        20_000, 30_000, 50_000, 100_000,
    ],
    per_unit: 1,
};

/// Bytes of a batch or of a request in a queue (the Collector's bounds: powers of two).
pub(super) static REQUEST_BYTES: Bounds = Bounds {
    upper: &[
        1 << 7,
        1 << 8,
        1 << 9,
        1 << 10,
        1 << 11,
        1 << 12,
        1 << 13,
        1 << 14,
        1 << 15,
        1 << 16,
        1 << 17,
        1 << 18,
        1 << 19,
        1 << 20,
        1 << 21,
        1 << 22,
        1 << 23,
        1 << 24,
    ],
    per_unit: 1,
};

const MICROSECOND_NS: u64 = 1_000;
const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Time of one batch in one processor, observed in ns, shown in s. The Collector's bounds begin at 5 s and say nothing.
pub(super) static NODE_TIME: Bounds = Bounds {
    upper: &[
        MICROSECOND_NS,
        10 * MICROSECOND_NS,
        100 * MICROSECOND_NS,
        MILLISECOND_NS,
        10 * MILLISECOND_NS,
        100 * MILLISECOND_NS,
        SECOND_NS,
    ],
    per_unit: SECOND_NS,
};

/// Duration of one decision tick, observed in ns, shown in ms (the Collector's bounds).
pub(super) static DECISION_TICK: Bounds = Bounds {
    upper: &[
        MILLISECOND_NS,
        2 * MILLISECOND_NS,
        5 * MILLISECOND_NS,
        10 * MILLISECOND_NS,
        25 * MILLISECOND_NS,
        50 * MILLISECOND_NS,
        75 * MILLISECOND_NS,
        100 * MILLISECOND_NS,
        150 * MILLISECOND_NS,
        200 * MILLISECOND_NS,
        300 * MILLISECOND_NS,
        400 * MILLISECOND_NS,
        500 * MILLISECOND_NS,
        750 * MILLISECOND_NS,
        SECOND_NS,
        2 * SECOND_NS,
        3 * SECOND_NS,
        4 * SECOND_NS,
        5 * SECOND_NS,
        10 * SECOND_NS,
        20 * SECOND_NS,
        30 * SECOND_NS,
        50 * SECOND_NS,
    ],
    per_unit: MILLISECOND_NS,
};

/// From a whole request to its answer, or of one attempt to export: observed in ns, shown in s.
pub(super) static REQUEST_TIME: Bounds = Bounds {
    upper: &[
        100 * MICROSECOND_NS,
        250 * MICROSECOND_NS,
        500 * MICROSECOND_NS,
        MILLISECOND_NS,
        2 * MILLISECOND_NS,
        5 * MILLISECOND_NS,
        10 * MILLISECOND_NS,
        25 * MILLISECOND_NS,
        50 * MILLISECOND_NS,
        100 * MILLISECOND_NS,
        250 * MILLISECOND_NS,
        500 * MILLISECOND_NS,
        SECOND_NS,
        2 * SECOND_NS,
        5 * SECOND_NS,
        10 * SECOND_NS,
        30 * SECOND_NS,
        60 * SECOND_NS,
    ],
    per_unit: SECOND_NS,
};

/// How late decisions come, observed in ns, shown in s: from 1 ms to 34 s. Powers of two, because samplers count so
/// themselves, and their buckets are added to these.
pub(super) static LATENESS: Bounds = Bounds {
    upper: &[
        1 << 20,
        1 << 22,
        1 << 23,
        1 << 24,
        1 << 25,
        1 << 26,
        1 << 27,
        1 << 28,
        1 << 29,
        1 << 30,
        1 << 31,
        1 << 32,
        1 << 33,
        1 << 35,
    ],
    per_unit: SECOND_NS,
};
