//! Remote write, from OTLP bytes to requests as an independent decoder reads them.

use codecs::fuzzing::remote_write::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_translator_agrees_with_its_naive_twin(choices in prop::collection::vec(any::<u8>(), 0..700)) {
        check_choices(&choices);
    }

    #[test]
    fn any_bytes_leave_every_point_accounted_for(choices in prop::collection::vec(any::<u8>(), 0..300)) {
        check_any_bytes(&choices);
    }
}
