//! Identities: a trace id is a sequence number, mixed. The sink turns any id back into the number and so knows, without
//! a table, which spans the trace has, what must become of it and whether the id is ours at all.
//!
//! ```text
//! low  = mix(sequence ^ key)        a bijection: unmix(low) ^ key = sequence
//! high = mix(low + STEP)            64 bits of proof that the id is ours, and the trace's fate
//! trace id = high, low (big endian)
//! span id  = mix((sequence << 4 | span) ^ turned key)
//! ```
//!
//! It never looks at spans; what the fate does to them is in `shape.rs`.

use codecs::otlp::TraceId;

/// Most spans of one trace: span numbers take four bits of the span id, arrivals are 16-bit masks.
pub(crate) const TRACE_SPANS_MAX: usize = 16;

/// Added between the two halves of a trace id, so that they are different functions of the sequence number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// One percent of 2^16.
const ONE_PERCENT: u64 = 655;

/// Turns sequence numbers into ids and back. Two runs with the same seed use the same ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    key: u64,
}

/// What the id says must be special about its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Which span (modulo the number of spans) ends with status ERROR; 1 % of traces.
    pub(crate) error_span: Option<u16>,
    /// How long the root lasts instead of what its shape says, in milliseconds; 1 % of traces.
    pub(crate) slow_ms: Option<u32>,
}

impl Identity {
    /// The identities of a seed.
    pub(crate) fn new(seed: u64) -> Identity {
        Identity { key: mix(seed.wrapping_add(STEP)) }
    }

    /// The trace id of a sequence number below 2^60.
    pub(crate) fn trace(self, sequence: u64) -> TraceId {
        let low = mix(sequence ^ self.key);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&mix(low.wrapping_add(STEP)).to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        TraceId(id)
    }

    /// The sequence number of an id, or `None` if this seed never made it.
    pub(crate) fn sequence(self, id: TraceId) -> Option<u64> {
        let (high, low) = halves(id);
        let sequence = unmix(low) ^ self.key;
        (high == mix(low.wrapping_add(STEP)) && sequence < 1 << 60).then_some(sequence)
    }

    /// The id of span number `span` of a trace.
    pub(crate) fn span(self, sequence: u64, span: u8) -> [u8; 8] {
        mix((sequence << 4 | u64::from(span)) ^ self.key.rotate_left(32)).to_be_bytes()
    }

    /// Sequence number and span number of a span id. Always gives an answer: compare the sequence with the trace's.
    pub(crate) fn span_number(self, id: [u8; 8]) -> (u64, u8) {
        let number = unmix(u64::from_be_bytes(id)) ^ self.key.rotate_left(32);
        (number >> 4, (number & 15) as u8)
    }
}

/// What the id of a trace says about it.
pub(crate) fn fate(id: TraceId) -> Fate {
    let (high, _) = halves(id);
    Fate {
        error_span: (high & 0xffff < ONE_PERCENT).then_some((high >> 32 & 0xffff) as u16),
        slow_ms: ((high >> 16) & 0xffff < ONE_PERCENT).then_some(1_100 + (high >> 48) as u32 % 1_900),
    }
}

/// FNV-1a, 64 bits, over the salt and then the trace id: the hash of the Collector's `probabilistic` policy.
pub(crate) fn fnv1a(salt: &[u8], id: TraceId) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    salt.iter().chain(&id.0).fold(0xcbf2_9ce4_8422_2325, step)
}

fn halves(id: TraceId) -> (u64, u64) {
    let whole = u128::from_be_bytes(id.0);
    ((whole >> 64) as u64, whole as u64)
}

/// The finalizer of splitmix64: every bit of the input changes half of the output, and it can be undone.
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Undoes [`mix`]: the factors are the inverses modulo 2^64, the shifts are repeated until nothing is left.
fn unmix(mut x: u64) -> u64 {
    x = (x ^ x >> 31 ^ x >> 62).wrapping_mul(0x3196_42b2_d24d_8ec3);
    x = (x ^ x >> 27 ^ x >> 54).wrapping_mul(0x96de_1b17_3f11_9089);
    x ^ x >> 30 ^ x >> 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_leads_back_to_its_sequence_and_span() {
        for seed in [0, 1, u64::MAX] {
            let identity = Identity::new(seed);
            for sequence in (0..1 << 20).step_by(977).chain([(1 << 60) - 1]) {
                assert_eq!(identity.sequence(identity.trace(sequence)), Some(sequence));
                assert_eq!(identity.span_number(identity.span(sequence, 13)), (sequence, 13));
            }
        }
    }

    #[test]
    fn an_id_with_one_bit_changed_is_not_ours() {
        let identity = Identity::new(7);
        let id = identity.trace(123_456);
        for bit in 0..128 {
            let changed = TraceId((u128::from_be_bytes(id.0) ^ 1 << bit).to_be_bytes());
            assert_eq!(identity.sequence(changed), None, "bit {bit}");
        }
        assert_eq!(Identity::new(8).sequence(id), None);
    }

    #[test]
    fn one_percent_of_traces_fail_and_one_percent_are_slow() {
        let identity = Identity::new(1);
        let fates: Vec<Fate> = (0..1_000_000).map(|sequence| fate(identity.trace(sequence))).collect();
        let errors = fates.iter().filter(|fate| fate.error_span.is_some()).count();
        let slow = fates.iter().filter(|fate| fate.slow_ms.is_some()).count();
        let both = fates.iter().filter(|fate| fate.error_span.is_some() && fate.slow_ms.is_some()).count();
        assert!((9_500..=10_500).contains(&errors), "{errors}");
        assert!((9_500..=10_500).contains(&slow), "{slow}");
        assert!((50..=150).contains(&both), "{both}");
    }

    #[test]
    fn the_hash_is_the_one_of_the_reference_vectors() {
        let check = |id: u128, expected: u64| {
            assert_eq!(fnv1a(b"default-hash-seed", TraceId(id.to_be_bytes())), expected);
        };
        check(1, 0xe195_35ee_d1bb_aa8a);
        check(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0xa545_33ba_2e49_70b5);
        check(u128::MAX, 0x17be_c373_9634_fe2d);
    }
}
