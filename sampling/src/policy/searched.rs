//! Texts searched for patterns, and what was found in those seen lately.
//!
//! ```text
//! text -> its place, by a few of its bytes -> the same text there?   yes: what was found then
//!                                                                    no:  search it, and leave it there
//! ```
//!
//! The idea: values of one attribute repeat, and to compare a text with the one seen before costs a tenth of a search.
//! Which texts share a place is up to whoever sends them; the worst that comes of it is a search.

use std::cell::RefCell;

use crate::pattern::Pattern;

/// Texts that are remembered. A power of two.
const TEXTS: usize = 64;

/// Longer texts are searched each time.
const TEXT_BYTES_MAX: usize = 126;

/// Patterns of which one is enough.
#[derive(Clone, Debug)]
pub(super) struct Searched {
    patterns: Vec<Pattern>,
    /// A lone thread looks here, and never while it looks already.
    seen: RefCell<Box<[Seen]>>,
}

/// A text, and whether any of the patterns is found in it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// 0: nothing was seen here; the empty text is not remembered.
    length: u8,
    is_found: bool,
    text: [u8; TEXT_BYTES_MAX],
}

const _: () = assert!(TEXTS.is_power_of_two() && size_of::<Seen>() == 128, "two cache lines each");

impl Searched {
    pub(super) fn new(patterns: &[Pattern]) -> Self {
        let nothing = Seen { length: 0, is_found: false, text: [0; TEXT_BYTES_MAX] };
        Self { patterns: patterns.to_vec(), seen: RefCell::new(vec![nothing; TEXTS].into()) }
    }

    /// Whether any of the patterns is found anywhere in `text`.
    #[inline]
    pub(super) fn is_any_found_in(&self, text: &[u8]) -> bool {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return self.search(text);
        }
        let seen = &mut self.seen.borrow_mut()[place_of(text)];
        // Lengths are compared before bytes, and no text that is looked for has none.
        if seen.text.get(..usize::from(seen.length)) == Some(text) {
            return seen.is_found;
        }
        seen.is_found = self.search(text);
        seen.length = text.len() as u8;
        seen.text[..text.len()].copy_from_slice(text);
        seen.is_found
    }

    #[inline(never)]
    fn search(&self, text: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_found_in(text))
    }

    /// Memory of what was seen, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.seen.borrow().len() * size_of::<Seen>()
    }
}

/// By the length and 16 bytes from the middle and the end: many texts of one attribute begin alike.
#[inline]
fn place_of(text: &[u8]) -> usize {
    let bits = match text.last_chunk() {
        Some(end) => {
            let middle = text[text.len() / 2 - 4..].first_chunk().copied().unwrap_or_default();
            u64::from_le_bytes(*end) ^ u64::from_le_bytes(middle).rotate_left(23)
        }
        None => text.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)),
    };
    let mixed = (bits ^ text.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - TEXTS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few short texts, so that most come again, and long ones that share a place or are too long to be remembered.
        #[test]
        fn what_was_seen_is_what_a_search_finds(
            texts in prop::collection::vec(prop_oneof![4 => "[ab1]{0,3}", 1 => "a{0,4}[b1]{0,130}"], 0..400),
        ) {
            let patterns = ["^ab", "1$", "b{30}"].map(|text| Pattern::new(text).unwrap());
            let searched = Searched::new(&patterns);
            for text in texts.iter().chain(&texts) {
                let expected = patterns.iter().any(|pattern| pattern.is_found_in(text.as_bytes()));
                prop_assert_eq!(searched.is_any_found_in(text.as_bytes()), expected, "{}", text);
            }
        }
    }

    #[test]
    fn texts_of_one_place_take_turns() {
        let searched = Searched::new(&[Pattern::new("^x").unwrap()]);
        // The first bytes of a long text say nothing about its place.
        let texts = [format!("x{}", "-".repeat(40)), format!("y{}", "-".repeat(40))];
        assert_eq!(place_of(texts[0].as_bytes()), place_of(texts[1].as_bytes()));
        for _ in 0..3 {
            assert!(searched.is_any_found_in(texts[0].as_bytes()));
            assert!(!searched.is_any_found_in(texts[1].as_bytes()));
        }
    }
}
