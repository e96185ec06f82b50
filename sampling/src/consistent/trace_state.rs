//! The member `ot` of a W3C trace state: what it says of sampling, and how it is written back.
//!
//! A text is taken apart without copying; what is not ours (other vendors' members, unknown keys of `ot`) leaves as it
//! came. A text that is malformed anywhere is malformed as a whole: nothing in it can be trusted then.

use super::{Randomness, Threshold};
use crate::policy::trace_state::{MEMBERS_MAX, VALUE_BYTES_MAX, member};

/// Longest text that is looked at (as the Collector).
const TEXT_BYTES_MAX: usize = 1024;

const OT: &[u8] = b"ot";
const RANDOMNESS: &[u8] = b"rv";
const THRESHOLD: &[u8] = b"th";

/// A trace state that was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceState<'a> {
    text: &'a [u8],
    ot: &'a [u8],
    randomness: Option<(Randomness, &'a [u8])>,
    threshold: Option<(Threshold, &'a [u8])>,
}

impl<'a> TraceState<'a> {
    /// `None` if the text is malformed: as a list, in `ot`, or in the values of `rv` and `th`.
    #[must_use]
    pub fn read(text: &'a [u8]) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut state = Self { text, ..Self::default() };
        let mut members = 0;
        for (key, value) in parts(text).map(member).map(Option::unwrap_or_default) {
            members += 1;
            if key.is_empty() || members > MEMBERS_MAX || (key == OT && !state.ot.is_empty()) {
                return None;
            }
            if key == OT {
                state.ot = value;
            }
        }
        for (key, value) in state.ot_members() {
            if !is_ot_key(key) || !is_ot_value(value) {
                return None;
            }
            match key {
                RANDOMNESS if state.randomness.is_none() => state.randomness = Some((Randomness::parse(value)?, value)),
                THRESHOLD if state.threshold.is_none() => state.threshold = Some((Threshold::parse(value)?, value)),
                RANDOMNESS | THRESHOLD => return None,
                _ => {}
            }
        }
        Some(state)
    }

    /// The randomness that arrived.
    #[must_use]
    pub fn randomness(&self) -> Option<Randomness> {
        self.randomness.map(|(randomness, _)| randomness)
    }

    /// The threshold that arrived.
    #[must_use]
    pub fn threshold(&self) -> Option<Threshold> {
        self.threshold.map(|(threshold, _)| threshold)
    }

    /// Appends the text with this threshold, and with `randomness` if none arrived.
    ///
    /// An arrived threshold is never lowered: the greater one is written; [`Threshold::NEVER`] writes none. `ot` comes
    /// first, in it `rv`, `th` and what else arrived, as far as it fits; then the other members in their order, of which
    /// the last gives way if the list would be too long.
    pub fn write(&self, randomness: Option<Randomness>, threshold: Update, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(b"ot=");
        let first = out.len();
        match self.randomness {
            Some((_, text)) => write_ot(first, RANDOMNESS, |out| out.extend_from_slice(text), out),
            None => {
                if let Some(randomness) = randomness {
                    write_ot(first, RANDOMNESS, |out| randomness.write(out), out);
                }
            }
        }
        match (self.threshold, threshold) {
            (Some((arrived, text)), Update::Raise(threshold)) if arrived > threshold => {
                write_ot(first, THRESHOLD, |out| out.extend_from_slice(text), out);
            }
            (_, Update::Raise(threshold) | Update::Replace(threshold)) if threshold != Threshold::NEVER => {
                write_ot(first, THRESHOLD, |out| threshold.write(out), out);
            }
            _ => {}
        }
        let others = self.ot_members().filter(|(key, _)| *key != RANDOMNESS && *key != THRESHOLD);
        for (key, value) in others {
            if out.len() - first + 1 + key.len() + 1 + value.len() <= VALUE_BYTES_MAX {
                write_ot(first, key, |out| out.extend_from_slice(value), out);
            }
        }
        let has_ot = out.len() > first;
        if !has_ot {
            out.truncate(start);
        }
        let others = parts(self.text).filter_map(member).filter(|(key, _)| *key != OT);
        for (key, value) in others.take(MEMBERS_MAX - usize::from(has_ot)) {
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(key);
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }

    fn ot_members(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let ot = self.ot;
        let members = ot.split(|byte| *byte == b';').filter(move |_| !ot.is_empty());
        members.map(|member| {
            let colon = member.iter().position(|byte| *byte == b':');
            // Without a colon there is no key, which is malformed.
            colon.map_or((&[][..], member), |colon| (&member[..colon], &member[colon + 1..]))
        })
    }
}

/// What becomes of the threshold in a trace state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// The greater one of what arrived and this.
    Raise(Threshold),
    /// This one: what arrived cannot be true.
    Replace(Threshold),
}

fn write_ot(first: usize, key: &[u8], value: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    if out.len() > first {
        out.push(b';');
    }
    out.extend_from_slice(key);
    out.push(b':');
    value(out);
}

/// What stands between commas and is more than blanks.
fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_blank = |part: &&[u8]| part.iter().all(|byte| matches!(byte, b' ' | b'\t'));
    text.split(|byte| *byte == b',').filter(move |part| !is_blank(part))
}

fn is_ot_key(key: &[u8]) -> bool {
    key.first().is_some_and(u8::is_ascii_lowercase)
        && key.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_ot_value(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, randomness: Option<&str>, update: Update, expected: &str) {
        let state = TraceState::read(text.as_bytes()).unwrap_or_else(|| panic!("{text} is well-formed"));
        let mut out = b"before".to_vec();
        state.write(randomness.map(|text| Randomness::parse(text.as_bytes()).unwrap()), update, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("before{expected}"), "{text}");
    }

    fn threshold(text: &str) -> Threshold {
        Threshold::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_arrived_is_kept_and_a_threshold_is_never_lowered() {
        let raise = |text| Update::Raise(threshold(text));
        check("", None, raise("8"), "ot=th:8");
        check("", Some("00000000000001"), raise("0"), "ot=rv:00000000000001;th:0");
        check("ot=th:c", None, raise("8"), "ot=th:c");
        check("ot=th:C", None, raise("8"), "ot=th:C");
        check("ot=th:80000000000000", None, raise("8"), "ot=th:8");
        check("ot=th:8", None, raise("c"), "ot=th:c");
        check("ot=th:c", None, Update::Replace(threshold("8")), "ot=th:8");
        check("ot=rv:ABCDEF01234567", Some("00000000000001"), raise("0"), "ot=rv:ABCDEF01234567;th:0");
    }

    #[test]
    fn what_is_not_ours_leaves_as_it_came_behind_ours() {
        check(
            "vendor=a b , ot=zz:1;th:8;k9:_.-,other=1",
            Some("12345678901234"),
            Update::Raise(threshold("9")),
            "ot=rv:12345678901234;th:9;zz:1;k9:_.-,vendor=a b,other=1",
        );
        check("a=1, ,b=2", None, Update::Raise(Threshold::NEVER), "a=1,b=2");
        check("ot=th:8", None, Update::Replace(Threshold::NEVER), "");
        let long = format!("ot=aa:{}", "x".repeat(240));
        check(&long, Some("12345678901234"), Update::Raise(threshold("8")), "ot=rv:12345678901234;th:8");
    }

    #[test]
    fn the_last_member_gives_way_in_a_full_list() {
        let full: Vec<String> = (0..32).map(|n| format!("k{n}=v")).collect();
        let expected = format!("ot=th:8,{}", full[..31].join(","));
        check(&full.join(","), None, Update::Raise(threshold("8")), &expected);
    }

    #[test]
    fn one_malformed_part_spoils_all() {
        for text in [
            "ot=th:",
            "ot=th:-1",
            "ot=th:800000000000000",
            "ot=rv:1234567890123",
            "ot=rv:123456789012345",
            "ot=th:8;",
            "ot=;th:8",
            "ot=th",
            "ot=T:8",
            "ot=9a:8",
            "ot=a:b:c",
            "ot=th:8;th:8",
            "ot=th:8,ot=th:8",
            "ot=th:8,nonsense",
            "ot=",
            "Ot=1",
        ] {
            assert!(TraceState::read(text.as_bytes()).is_none(), "{text}");
        }
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        assert!(TraceState::read(many.join(",").as_bytes()).is_none());
        assert!(TraceState::read(&[b','; 1025]).is_none());
        assert!(TraceState::read(&[b','; 1024]).is_some());
    }
}
