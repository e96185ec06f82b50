//! Which shard owns a trace, and which the series of a resource.
//!
//! The one idea: a fixed function of the trace id (of a series: of what names its resource) and the number of shards, and of nothing else, so that every shard,
//! every process and every release sends the spans of a trace to the same place. It therefore has no seed: a sender
//! that chooses its ids can load one shard, which the budget bounds and the load metrics show.

use codecs::otlp::TraceId;

/// The shard, 0 to `shards - 1`, that owns a trace. `shards` is at least 1.
///
/// Ids are often not random where it matters: a time in front (X-Ray), a counter, 8 zero bytes before a 64-bit id
/// (older tracers). So all 16 bytes are mixed until each output bit depends on each input bit, and the range is reached
/// by a multiplication, whose bias is below `shards / 2^64`.
#[inline]
pub fn owner(trace_id: &TraceId, shards: usize) -> usize {
    debug_assert!(shards > 0, "spans need a shard to go to");
    ((u128::from(mix(trace_id)) * shards as u128) >> 64) as usize
}

/// Both halves, one after the other through the finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014). Each half
/// alone is mapped one to one, so ids that differ in one half never collide before the range is reduced.
#[inline]
fn mix(trace_id: &TraceId) -> u64 {
    let word = u128::from_le_bytes(trace_id.0);
    let (low, high) = (word as u64, (word >> 64) as u64);
    finalize(finalize(low.wrapping_add(STEP)) ^ high)
}

/// The shard, 0 to `shards - 1`, that owns the series of resources with this identity. `shards` is at least 1.
pub fn series_owner(identity: &[u8], shards: usize) -> usize {
    debug_assert!(shards > 0, "series need a shard to go to");
    let mut mixed = finalize(STEP.wrapping_add(identity.len() as u64));
    for chunk in identity.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mixed = finalize(mixed.wrapping_add(STEP) ^ u64::from_le_bytes(word));
    }
    ((u128::from(mixed) * shards as u128) >> 64) as usize
}

/// The step of splitmix64: 2^64 divided by the golden ratio, odd. It keeps the zero id from staying zero.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn finalize(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(hex: u128) -> TraceId {
        TraceId(hex.to_be_bytes())
    }

    /// Each of `shards` gets its share of `ids` within five standard deviations of what pure chance would give it.
    fn check_balance(ids: impl Fn(u64) -> TraceId, shards: usize) {
        const COUNT: u64 = 200_000;
        let mut loads = vec![0_u64; shards];
        for number in 0..COUNT {
            loads[owner(&ids(number), shards)] += 1;
        }
        let fair = COUNT as f64 / shards as f64;
        let allowed = 5.0 * (fair * (1.0 - 1.0 / shards as f64)).sqrt();
        for (shard, load) in loads.iter().enumerate() {
            let off = (*load as f64 - fair).abs();
            assert!(off <= allowed, "shard {shard} of {shards} got {load}, a fair share is {fair:.0} +- {allowed:.0}");
        }
    }

    #[test]
    fn the_function_is_fixed_for_ever() {
        let ids =
            [0, 1, 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, u128::MAX];
        let owners = |shards| ids.map(|hex| owner(&id(hex), shards));
        // Computed once by an independent program.
        let mixed = [
            0x4821_8226_ff3c_d4bf,
            0xd559_238f_a2cb_394b,
            0xb886_a37b_49be_cdc0,
            0x52dd_459c_6fcd_48e6,
            0x4650_bc0e_b331_2e23,
        ];
        assert_eq!(ids.map(|hex| mix(&id(hex))), mixed);
        assert_eq!(owners(1), [0; 5]);
        assert_eq!(owners(2), [0, 1, 1, 0, 0]);
        assert_eq!(owners(3), [0, 2, 2, 0, 0]);
        assert_eq!(owners(4), [1, 3, 2, 1, 1]);
        assert_eq!(owners(16), [4, 13, 11, 5, 4]);
        assert_eq!(owners(100), [28, 83, 72, 32, 27]);
    }

    #[test]
    fn shards_share_random_sequential_and_time_prefixed_ids_evenly() {
        for shards in [2, 3, 4, 7, 16, 64] {
            let mut random = fastrand::Rng::with_seed(7);
            let random: Vec<u128> = (0..200_000).map(|_| random.u128(..)).collect();
            check_balance(|number| id(random[number as usize]), shards);
            check_balance(|number| id(u128::from(number)), shards);
            check_balance(|number| id(u128::from(number) << 64), shards);
            check_balance(|number| id(u128::from(number) << 96), shards);
            let second = |number: u64| u128::from(1_795_000_000 + number / 1000) << 96;
            check_balance(|number| id(second(number) | random[number as usize] >> 32), shards);
        }
    }

    #[test]
    fn shards_share_numbered_and_random_identities_evenly() {
        const COUNT: u64 = 100_000;
        for shards in [1, 2, 3, 4, 16] {
            for identity in [|number| format!("shop/cart\0pod-{number}"), |number| format!("service {number}\0")] {
                let mut loads = vec![0_u64; shards];
                for number in 0..COUNT {
                    loads[series_owner(identity(number).as_bytes(), shards)] += 1;
                }
                let fair = COUNT as f64 / shards as f64;
                let allowed = 5.0 * fair.sqrt();
                assert!(loads.iter().all(|load| (*load as f64 - fair).abs() <= allowed), "{shards}: {loads:?}");
            }
        }
    }

    #[test]
    fn ids_that_differ_only_in_their_random_half_are_spread() {
        let mut random = fastrand::Rng::with_seed(11);
        let halves: Vec<u64> = (0..200_000).map(|_| random.u64(..)).collect();
        for shards in [2, 3, 16] {
            check_balance(|number| id(u128::from(halves[number as usize])), shards);
            check_balance(|number| id(u128::from(halves[number as usize]) << 64 | 0xabcd), shards);
        }
    }
}
