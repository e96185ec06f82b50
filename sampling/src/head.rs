//! Head sampling: whether one item (a span or a log record) is kept, by its own randomness and a percentage.
//!
//! ```text
//! randomness: of the item's id, hashed or as it is | arrived | missing
//!      |  arrived threshold above it, nothing to go by, or a text that cannot be read: a fault -> all or nothing
//!      v
//! threshold of the mode -> a priority overrides it -> kept if threshold <= randomness -> what to write to the item
//! ```
//!
//! The decisions, the hash and what is written are those of the Collector's `probabilistic_sampler`, bit for bit.
//! Nothing here knows a signal: the caller reads ids, attributes and what arrived, and writes what comes back.

use codecs::otlp::TraceId;

use crate::consistent::{DIGITS_MAX, Randomness, Threshold, Update};

/// How an item's threshold comes about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// 14 bits of a seeded hash of the id are compared; an item that carries randomness or a threshold is a fault.
    #[default]
    HashSeed,
    /// The configured threshold, or the arrived one if that is greater: all items have one probability.
    Equalizing,
    /// The configured percentage of what arrives, whatever was left out before.
    Proportional,
}

/// Settings of a head sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadSettings {
    /// 0 to 100, in the precision that the Collector computes with; above counts as 100.
    pub percentage: f32,
    /// How thresholds come about.
    pub mode: Mode,
    /// Hashed before the id.
    pub hash_seed: u32,
    /// What happens to an item with a fault: dropped, or else kept.
    pub fails_closed: bool,
    /// Hexadecimal digits of thresholds, 1 to 14.
    pub precision: u8,
}

impl Default for HeadSettings {
    /// The Collector's defaults, with which nothing is kept.
    fn default() -> Self {
        Self { percentage: 0.0, mode: Mode::HashSeed, hash_seed: 0, fails_closed: true, precision: 4 }
    }
}

/// What is known of an item.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// What its randomness may come from if it carries none.
    pub id: Id<'a>,
    /// What it carries; `None` if that is malformed.
    pub arrived: Option<Arrived>,
    /// What its sender asked for.
    pub priority: Priority,
}

/// An item's own randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id<'a> {
    /// A trace id; all zero has no randomness, but has a hash.
    Trace(TraceId),
    /// Bytes of an attribute.
    Attribute(&'a [u8]),
    /// Nothing to go by.
    Missing,
}

/// Sampling information that an item carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// `rv`.
    pub randomness: Option<Randomness>,
    /// `th`.
    pub threshold: Option<Threshold>,
}

/// What an item's sender asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Priority {
    /// Nothing.
    Unset,
    /// To drop it.
    Never,
    /// To keep it.
    Always,
    /// To keep it with this probability, instead of the configured one.
    Probability(f64),
}

impl Priority {
    /// A span's, from the number in its attribute `sampling.priority`: 0 is never, above is always, all else is unset.
    #[must_use]
    pub fn of_span(number: f64) -> Self {
        match number {
            0.0 => Self::Never,
            number if number > 0.0 => Self::Always,
            _ => Self::Unset,
        }
    }

    /// A log record's, from a percentage: 0 and what is no percentage is unset.
    #[must_use]
    pub fn of_record(percentage: f64) -> Self {
        let probability = percentage / 100.0;
        let is_one = (crate::consistent::PROBABILITY_MIN..=1.0).contains(&probability);
        if is_one { Self::Probability(probability) } else { Self::Unset }
    }
}

/// What decided about an item; the position in [`Policy::ALL`] is its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A hash of its trace id.
    TraceIdHash,
    /// Its trace id.
    TraceId,
    /// Randomness that it carries.
    Randomness,
    /// What its sender asked for.
    Priority,
    /// It has no randomness.
    Missing,
    /// A hash of its attribute; never a span.
    Attribute,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::TraceIdHash, Self::TraceId, Self::Randomness, Self::Priority, Self::Missing, Self::Attribute];
}

/// Why an item could not be decided by its randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What it carries is malformed.
    Malformed,
    /// It has no randomness.
    Missing,
    /// The threshold that it carries is above its randomness: it should not be here.
    Inconsistent,
    /// It carries randomness or a threshold, which this mode does not compare.
    InUse,
}

/// The decision about an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it is kept.
    pub kept: bool,
    /// What decided.
    pub policy: Policy,
    /// What was wrong with it, kept or not.
    pub fault: Option<Fault>,
    /// What a kept item is to carry: randomness if it carries none, and the threshold. `None`: it stays as it is.
    pub written: Option<(Option<Randomness>, Update)>,
}

/// Decides item after item, and remembers none.
#[derive(Clone, Debug)]
pub struct HeadSampler {
    mode: Mode,
    hash_seed: u32,
    fails_closed: bool,
    precision: u8,
    probability: f64,
    /// That of the configured percentage.
    threshold: Threshold,
}

/// An item's randomness, and where it comes from.
type Found = (Option<Randomness>, Policy);

impl HeadSampler {
    /// # Panics
    /// The precision is not 1 to 14.
    #[must_use]
    pub fn new(settings: &HeadSettings) -> Self {
        assert!((1..=DIGITS_MAX).contains(&settings.precision), "the precision is 1 to 14 digits");
        let percentage = settings.percentage.min(100.0);
        let probability = f64::from(percentage) / 100.0;
        let threshold = match settings.mode {
            Mode::HashSeed => threshold_of_buckets(percentage),
            Mode::Equalizing | Mode::Proportional => Threshold::of_probability_rounded(probability, settings.precision),
        };
        Self {
            mode: settings.mode,
            hash_seed: settings.hash_seed,
            fails_closed: settings.fails_closed,
            precision: settings.precision,
            probability,
            threshold,
        }
    }

    /// Whether only a priority can save an item.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        self.threshold == Threshold::NEVER
    }

    /// Decides about one item.
    #[must_use]
    pub fn decide(&self, item: &Item<'_>) -> Outcome {
        // Where nothing is kept, nothing is hashed.
        let hashes = self.mode == Mode::HashSeed && !self.keeps_nothing();
        let ((randomness, mut policy), fault) = if hashes { self.hashed(item) } else { self.carried(item) };
        let mut threshold = match (fault, self.fails_closed) {
            (None, _) => self.threshold_for(item.arrived.and_then(|arrived| arrived.threshold)),
            (Some(_), true) => Threshold::NEVER,
            (Some(_), false) => Threshold::ALWAYS,
        };
        match item.priority {
            Priority::Unset => {}
            Priority::Never => (threshold, policy) = (Threshold::NEVER, Policy::Priority),
            Priority::Always => (threshold, policy) = (Threshold::ALWAYS, Policy::Priority),
            Priority::Probability(probability) => {
                threshold = Threshold::of_probability_rounded(probability, self.precision);
                policy = Policy::Priority;
            }
        }
        let kept = threshold.admits(randomness.unwrap_or(Randomness::MAX));
        let written = match fault {
            Some(Fault::Malformed | Fault::InUse) => None,
            // What arrived cannot be true, so it does not count.
            Some(Fault::Inconsistent) => Some((None, Update::Replace(threshold))),
            Some(Fault::Missing) | None => Some((randomness.filter(|_| hashes), Update::Raise(threshold))),
        };
        Outcome { kept, policy, fault, written: written.filter(|_| kept) }
    }

    /// Randomness by hash: an item that carries anything of its own is none for this mode.
    fn hashed(&self, item: &Item<'_>) -> (Found, Option<Fault>) {
        let found = match item.id {
            Id::Trace(id) => (Some(self.hash(&id.0)), Policy::TraceIdHash),
            Id::Attribute(bytes) => (Some(self.hash(bytes)), Policy::Attribute),
            Id::Missing => (None, Policy::Missing),
        };
        let fault = match item.arrived {
            None => Some(Fault::Malformed),
            Some(arrived) if arrived != Arrived::default() => Some(Fault::InUse),
            Some(_) if found.0.is_none() => Some(Fault::Missing),
            Some(_) => None,
        };
        (found, fault)
    }

    /// Randomness that arrived, or that of the trace id.
    fn carried(&self, item: &Item<'_>) -> (Found, Option<Fault>) {
        let Some(arrived) = item.arrived else {
            return ((None, Policy::Missing), Some(Fault::Malformed));
        };
        let (randomness, policy) = match (arrived.randomness, item.id) {
            (Some(randomness), _) => (randomness, Policy::Randomness),
            (None, Id::Trace(id)) if id != TraceId::default() => (Randomness::of_trace_id(&id), Policy::TraceId),
            (None, Id::Attribute(bytes)) => (self.hash(bytes), Policy::Attribute),
            (None, Id::Trace(_) | Id::Missing) => return ((None, Policy::Missing), Some(Fault::Missing)),
        };
        let is_true = arrived.threshold.is_none_or(|threshold| threshold.admits(randomness));
        ((Some(randomness), policy), (!is_true).then_some(Fault::Inconsistent))
    }

    fn threshold_for(&self, arrived: Option<Threshold>) -> Threshold {
        match (self.mode, arrived) {
            (Mode::Equalizing, Some(arrived)) => self.threshold.max(arrived),
            (Mode::Proportional, Some(arrived)) => {
                Threshold::of_probability_rounded(arrived.probability() * self.probability, self.precision)
            }
            _ => self.threshold,
        }
    }

    /// The hash's lower 14 bits decide, so they come first, turned round: small hashes are kept, large randomness is. Its
    /// upper 14 bits fill what lies behind, twice, and the lower ones follow once more.
    fn hash(&self, bytes: &[u8]) -> Randomness {
        let hash = fnv1a_32(fnv1a_32(FNV_32_OFFSET_BASIS, &self.hash_seed.to_le_bytes()), bytes);
        let bucket = u64::from(hash % BUCKETS);
        let last = u64::from(hash >> (u32::BITS - BUCKETS.trailing_zeros()));
        let first = u64::from(BUCKETS - 1) - bucket;
        Randomness::from_bits(first << BUCKET_SHIFT | (last ^ (last << 10)) << BUCKETS.trailing_zeros() | bucket)
    }
}

/// The hash has so many values that are told apart.
const BUCKETS: u32 = 1 << 14;
/// From 14 bits to 56.
const BUCKET_SHIFT: u32 = 42;

/// FNV-1a 32 (RFC 9923).
const FNV_32_OFFSET_BASIS: u32 = 0x811c_9dc5;
const FNV_32_PRIME: u32 = 0x0100_0193;

fn fnv1a_32(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| (state ^ u32::from(*byte)).wrapping_mul(FNV_32_PRIME))
}

/// The multiplication is that of 32-bit floats, and what is behind the point is cut off: so the Collector does it.
fn threshold_of_buckets(percentage: f32) -> Threshold {
    let kept = (percentage * (BUCKETS as f32 / 100.0)) as u32;
    Threshold::rejecting(u64::from(BUCKETS - kept.min(BUCKETS)) << BUCKET_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consistent::TraceState;

    fn sampler(mode: Mode, percentage: f32, precision: u8, fails_closed: bool) -> HeadSampler {
        HeadSampler::new(&HeadSettings { percentage, mode, hash_seed: 0, fails_closed, precision })
    }

    fn item<'a>(id: u128, arrived: Option<Arrived>) -> Item<'a> {
        Item { id: Id::Trace(TraceId(id.to_be_bytes())), arrived, priority: Priority::Unset }
    }

    /// The trace state that a span with this one leaves with, if it is kept.
    fn pass(sampler: &HeadSampler, id: u128, text: &str, priority: Priority) -> Option<String> {
        let state = TraceState::read(text.as_bytes());
        let arrived = state.map(|state| Arrived { randomness: state.randomness(), threshold: state.threshold() });
        let outcome = sampler.decide(&Item { priority, ..item(id, arrived) });
        outcome.kept.then(|| match outcome.written {
            Some((randomness, update)) => {
                let mut out = Vec::new();
                state.expect("what is malformed stays as it is").write(randomness, update, &mut out);
                String::from_utf8(out).unwrap()
            }
            None => text.to_owned(),
        })
    }

    /// Seed, trace id, the hash's 14 bits, and the randomness that is written.
    #[test]
    fn the_hash_of_known_trace_ids_and_the_randomness_written_are_the_collectors() {
        for (hash_seed, id, bucket, written) in [
            (0, 1u128, 8898u32, "74f42e348fe2c2"),
            (4312, 1, 9802, "66d40aa7a9664a"),
            (22, 1, 11568, "4b3c1e4893ed30"),
            (0, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 141, "fdc80d0b42008d"),
            (4312, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 8789, "76a81c96246255"),
            (22, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 12395, "3e50158161306b"),
            (0, 0xfefe_fefe_fefe_fefe_fe80_0000_0000_0000, 43, "ff50350941002b"),
            (0, 0xe9eb_5481_0fcc_669c_1c65_58c1_0ba3_50ab, 10652, "598c066d9b299c"),
            (0, 0xd536_c938_eb85_2db7_9830_bd40_2e0b_335b, 5847, "a4a018b12dd6d7"),
        ] {
            let settings = HeadSettings { percentage: 100.0, hash_seed, ..HeadSettings::default() };
            let left = pass(&HeadSampler::new(&settings), id, "", Priority::Unset);
            assert_eq!(left, Some(format!("ot=rv:{written};th:0")), "{hash_seed} {id:032x}");
            // Kept from the first percentage on whose bucket lies above.
            for (percentage, expected) in [(bucket, false), (bucket + 1, true)] {
                let percentage = percentage as f32 * 100.0 / 16_384.0 + 0.001;
                let sampler = HeadSampler::new(&HeadSettings { percentage, ..settings.clone() });
                assert_eq!(sampler.decide(&item(id, Some(Arrived::default()))).kept, expected, "{percentage} %");
            }
        }
        let empty = fnv1a_32(FNV_32_OFFSET_BASIS, &[0; 4]);
        assert_eq!((empty % BUCKETS, fnv1a_32(empty, &[0; 16]) % BUCKETS), (0x3515, 0x2455));
    }

    #[test]
    fn thresholds_of_the_hash_are_the_collectors() {
        for (percentage, expected) in [
            (100.0f32, "0"),
            (99.0, "029"),
            (90.0, "199c"),
            (75.0, "4"),
            (66.6667, "5558"),
            (50.0, "8"),
            (40.0, "999c"),
            (100.0 / 3.0, "aaac"),
            (33.3, "aac4"),
            (25.0, "c"),
            (12.5, "e"),
            (10.0, "e668"),
            (5.0, "f334"),
            (1.0, "fd74"),
            (0.1, "ffc"),
            (0.01, "fffc"),
            (0.006, ""),
            (0.0, ""),
        ] {
            let mut out = Vec::new();
            threshold_of_buckets(percentage).write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{percentage} %");
        }
    }

    /// The last 7 bytes are 0x80 and zeros.
    const HALF: u128 = 0xfefe_fefe_fefe_fefe_fe80_0000_0000_0000;

    struct Row {
        id: u128,
        text: &'static str,
        percentage: f32,
        precision: u8,
        priority: Priority,
        equalizing: Option<&'static str>,
        proportional: Option<&'static str>,
    }

    fn row(text: &'static str, percentage: f32, both: Option<&'static str>) -> Row {
        let priority = Priority::Unset;
        Row { id: HALF, text, percentage, precision: 14, priority, equalizing: both, proportional: both }
    }

    #[test]
    fn known_spans_leave_with_the_collectors_trace_state() {
        let rows = [
            row("", 50.0, Some("ot=th:8")),
            row("", 49.0, None),
            Row { id: 0xdddd_dddd_dddd_dddd_ddc0_0000_0000_0000, ..row("", 25.0, Some("ot=th:c")) },
            Row { id: 0xdddd_dddd_dddd_dddd_ddb0_0000_0000_0000, ..row("", 25.0, None) },
            row("ot=rv:FD70A3D70A3D71", 1.0, Some("ot=rv:FD70A3D70A3D71;th:fd70a3d70a3d71")),
            Row { precision: 4, ..row("ot=rv:FD70A3D70A3D71", 1.0, Some("ot=rv:FD70A3D70A3D71;th:fd70a")) },
            row("ot=rv:FD70A3D70A3D70", 1.0, None),
            Row { priority: Priority::Always, ..row("", 1.0, Some("ot=th:0")) },
            Row { priority: Priority::Never, ..row("", 99.0, None) },
            Row {
                proportional: None,
                ..row("ot=rv:90000000000000;th:80000000000000", 50.0, Some("ot=rv:90000000000000;th:8"))
            },
            row("ot=th:8", 25.0, None),
            Row { id: u128::MAX, proportional: Some("ot=th:e"), ..row("ot=th:8", 25.0, Some("ot=th:c")) },
            Row {
                proportional: Some("ot=rv:c0000000000000;th:c"),
                ..row("ot=rv:c0000000000000;th:8", 50.0, Some("ot=rv:c0000000000000;th:8"))
            },
            row("ot=rv:40000000000000;th:8", 100.0, Some("ot=rv:40000000000000;th:0")),
            Row { precision: 3, ..row("ot=rv:a0000000000000", 40.0, Some("ot=rv:a0000000000000;th:99a")) },
            Row {
                id: 0xdddd_dddd_dddd_dddd_ddd0_0000_0000_0000,
                precision: 6,
                proportional: Some("ot=th:cccccd"),
                ..row("ot=th:8", 40.0, Some("ot=th:99999a"))
            },
            row("", 200.0, Some("ot=th:0")),
            Row {
                id: u128::MAX,
                proportional: Some("ot=th:fffffff"),
                ..row("ot=th:fffc", 100.0 / 16_384.0, Some("ot=th:fffc"))
            },
            // What an id of another vendor says stays.
            row("a=1,ot=th:0;x:y,b=2", 50.0, Some("ot=th:8;x:y,a=1,b=2")),
            // An arrived threshold is not lowered by a priority either.
            Row { priority: Priority::Always, ..row("ot=th:8", 1.0, Some("ot=th:8")) },
        ];
        for row in rows {
            for (mode, expected) in [(Mode::Equalizing, row.equalizing), (Mode::Proportional, row.proportional)] {
                let sampler = sampler(mode, row.percentage, row.precision, false);
                let left = pass(&sampler, row.id, row.text, row.priority);
                assert_eq!(left.as_deref(), expected, "{mode:?} {} % of {}", row.percentage, row.text);
            }
        }
    }

    #[test]
    fn what_cannot_be_decided_is_dropped_or_kept_as_configured() {
        use Fault::{InUse, Inconsistent, Malformed, Missing};
        let consistent: &[Mode] = &[Mode::Equalizing, Mode::Proportional];
        let hashing: &[Mode] = &[Mode::HashSeed];
        for (modes, id, text, fault, left_open) in [
            (consistent, 0, "", Missing, "ot=th:0"),
            (consistent, HALF, "ot=rv:1234567890123456", Malformed, "ot=rv:1234567890123456"),
            (consistent, HALF, "ot=th:1234567890123456", Malformed, "ot=th:1234567890123456"),
            (consistent, HALF, "ot=th:-1", Malformed, "ot=th:-1"),
            (consistent, HALF - 1, "ot=th:8", Inconsistent, "ot=th:0"),
            (consistent, HALF, "ot=th:8;rv:70000000000000", Inconsistent, "ot=rv:70000000000000;th:0"),
            (hashing, HALF, "ot=th:8", InUse, "ot=th:8"),
            (hashing, HALF, "ot=rv:ff000000000000", InUse, "ot=rv:ff000000000000"),
            (hashing, HALF, "ot=rv:f", Malformed, "ot=rv:f"),
        ] {
            for mode in modes {
                let arrived = TraceState::read(text.as_bytes());
                let arrived =
                    arrived.map(|state| Arrived { randomness: state.randomness(), threshold: state.threshold() });
                let closed = sampler(*mode, 100.0, 4, true);
                assert_eq!(closed.decide(&item(id, arrived)).fault, Some(fault), "{mode:?} {text}");
                assert_eq!(pass(&closed, id, text, Priority::Unset), None, "{mode:?} {text}");
                let open = sampler(*mode, 100.0, 4, false);
                assert_eq!(pass(&open, id, text, Priority::Unset).as_deref(), Some(left_open), "{mode:?} {text}");
                assert!(pass(&closed, id, text, Priority::Always).is_some(), "a priority saves it: {text}");
            }
        }
    }

    #[test]
    fn a_percentage_of_zero_keeps_only_what_has_a_priority() {
        for mode in [Mode::HashSeed, Mode::Equalizing, Mode::Proportional] {
            let sampler = sampler(mode, 0.0, 4, true);
            assert!(sampler.keeps_nothing());
            assert_eq!(pass(&sampler, u128::MAX, "", Priority::Unset), None);
            assert_eq!(pass(&sampler, u128::MAX, "", Priority::Always).as_deref(), Some("ot=th:0"));
        }
    }

    #[test]
    fn priorities_mean_what_the_collector_takes_them_for() {
        for (number, expected) in [
            (0.0, Priority::Never),
            (0.1, Priority::Always),
            (1.0, Priority::Always),
            (-1.0, Priority::Unset),
            (f64::NAN, Priority::Unset),
        ] {
            assert_eq!(Priority::of_span(number), expected, "{number}");
        }
        assert_eq!(Priority::of_record(100.0), Priority::Probability(1.0));
        assert_eq!(Priority::of_record(0.0), Priority::Unset);
        assert_eq!(Priority::of_record(101.0), Priority::Unset);
        // It replaces the configured percentage, up or down.
        let item = |priority| Item { priority, ..item(HALF, Some(Arrived::default())) };
        assert!(!sampler(Mode::Equalizing, 100.0, 4, true).decide(&item(Priority::Probability(0.4))).kept);
        assert!(sampler(Mode::Equalizing, 1.0, 4, true).decide(&item(Priority::Probability(0.5))).kept);
    }

    #[test]
    fn records_without_a_trace_id_are_decided_by_their_attribute() {
        let arrived = Some(Arrived::default());
        for mode in [Mode::HashSeed, Mode::Equalizing, Mode::Proportional] {
            let sampler = sampler(mode, 50.0, 4, true);
            let decide = |id: Id<'_>| sampler.decide(&Item { id, arrived, priority: Priority::Unset });
            let kept = (0..1_000u32).filter(|n| decide(Id::Attribute(n.to_string().as_bytes())).kept).count();
            assert!((450..550).contains(&kept), "{mode:?} kept {kept} of 1000");
            assert_eq!(decide(Id::Attribute(b"1")).policy, Policy::Attribute);
            assert_eq!((decide(Id::Missing).kept, decide(Id::Missing).fault), (false, Some(Fault::Missing)));
        }
    }
}
