//! `probabilistic`: a fixed share of all trace ids, the same ids that the Collector's policy of this name takes.
//!
//! A trace is sampled if FNV-1a 64 of the salt and then the 16 bytes of its id is at most the share of all hashes. The
//! salt is hashed once, when the policy is made.

use codecs::otlp::TraceId;

use super::Facts;
use crate::consistent::{Randomness, Threshold};

/// The Collector's salt where none is configured.
const HASH_SALT_DEFAULT: &str = "default-hash-seed";

/// FNV-1a 64 (RFC 9923).
const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[derive(Clone, Debug)]
pub(super) struct Probabilistic {
    /// State of the hash after the salt.
    salted: u64,
    /// Largest sampled hash.
    hash_max: u64,
}

impl Probabilistic {
    pub(super) fn new(hash_salt: &str, sampling_percentage: f64) -> Self {
        let salt = if hash_salt.is_empty() { HASH_SALT_DEFAULT } else { hash_salt };
        Self {
            salted: fnv1a(FNV_OFFSET_BASIS, salt.as_bytes()),
            hash_max: share_of_all_hashes(sampling_percentage / 100.0),
        }
    }

    /// The randomness of traces that carry none, so that the same ones are kept as without a threshold.
    pub(super) fn randomness(&self, trace_id: &TraceId) -> Randomness {
        Randomness::of_hash(fnv1a(self.salted, &trace_id.0))
    }

    /// Admits [`Self::randomness`] where [`Self::samples`] says yes.
    pub(super) fn threshold(&self) -> Threshold {
        match self.hash_max {
            0 => Threshold::NEVER,
            hash_max => Threshold::rejecting(!hash_max >> 8),
        }
    }

    #[inline]
    pub(super) fn samples(&self, facts: &Facts) -> bool {
        fnv1a(self.salted, &facts.trace_id.0) <= self.hash_max
    }
}

#[inline]
fn fnv1a(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// `floor(ratio * (2^64 - 1))`, computed exactly: a double is an integer of 53 bits times a power of two, and their
/// product with 64 bits fits 128. Below 0 (and not a number): 0; from 1: all.
fn share_of_all_hashes(ratio: f64) -> u64 {
    if ratio.is_nan() || ratio <= 0.0 {
        return 0;
    }
    if ratio >= 1.0 {
        return u64::MAX;
    }
    const FRACTION_BITS: u32 = 52;
    const EXPONENT_BIAS: i32 = 1023;
    let bits = ratio.to_bits();
    let exponent = (bits >> FRACTION_BITS) as i32;
    if exponent == 0 {
        return 0; // subnormal: far below one hash in 2^64
    }
    let mantissa = bits & ((1 << FRACTION_BITS) - 1) | 1 << FRACTION_BITS;
    // ratio = mantissa * 2^(exponent - 1023 - 52), and it is below 1, so the shift is to the right.
    let shift = (EXPONENT_BIAS + FRACTION_BITS as i32 - exponent) as u32;
    let product = u128::from(mantissa) * u128::from(u64::MAX);
    product.checked_shr(shift).map_or(0, |share| share as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests;

    fn facts(id: u128) -> Facts {
        Facts { trace_id: TraceId(id.to_be_bytes()), ..tests::facts() }
    }

    #[test]
    fn the_hash_of_known_trace_ids_is_the_collectors() {
        let salted = Probabilistic::new("", 50.0).salted;
        for (id, hash) in [
            (1u128, 0xe195_35ee_d1bb_aa8a_u64),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0xa545_33ba_2e49_70b5),
            (u128::MAX, 0x17be_c373_9634_fe2d),
        ] {
            assert_eq!(fnv1a(salted, &id.to_be_bytes()), hash, "{id:032x}");
        }
    }

    #[test]
    fn known_trace_ids_are_sampled_from_their_fraction_on() {
        for (id, percentage, expected) in [
            (1u128, 88.11, false),
            (1, 88.12, true),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 64.55, false),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 64.56, true),
            (u128::MAX, 9.27, false),
            (u128::MAX, 9.28, true),
        ] {
            let policy = Probabilistic::new("default-hash-seed", percentage);
            assert_eq!(policy.samples(&facts(id)), expected, "{id:032x} at {percentage} %");
        }
    }

    #[test]
    fn a_share_of_100_000_random_ids_is_within_a_fifth_of_a_point() {
        for (salt, percentage, expected) in [
            ("", 0.0, 0.0),
            ("", 25.0, 25.0),
            ("", 33.0, 33.0),
            ("other salt", 33.0, 33.0),
            ("", 100.0, 100.0),
            ("", -50.0, 0.0),
            ("", 150.0, 100.0),
        ] {
            let policy = Probabilistic::new(salt, percentage);
            // Chance alone is off by 0.15 points here (one standard deviation), so the ids are always the same.
            let mut state = 1u64;
            let sampled = (0..100_000).filter(|_| {
                let upper = next_random(&mut state);
                policy.samples(&facts(u128::from(upper) << 64 | u128::from(next_random(&mut state))))
            });
            let share = sampled.count() as f64 / 1_000.0;
            assert!((share - expected).abs() <= 0.2, "{percentage} % gave {share} %");
        }
    }

    /// SplitMix64.
    fn next_random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    #[test]
    fn shares_are_exact() {
        for (ratio, expected) in [
            (0.5, u64::MAX / 2),
            (0.25, u64::MAX / 4),
            (1.0 / 18_446_744_073_709_551_616.0, 0),
            (1.0 / 9_223_372_036_854_775_808.0, 1),
            (1.0 - f64::EPSILON / 2.0, u64::MAX - (1 << 11)),
            (f64::MIN_POSITIVE, 0),
            (f64::MIN_POSITIVE / 2.0, 0),
            (f64::NAN, 0),
            (f64::INFINITY, u64::MAX),
        ] {
            assert_eq!(share_of_all_hashes(ratio), expected, "{ratio}");
        }
    }
}
