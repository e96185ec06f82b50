//! What policies ask about the contents of a span, one bit per question.
//!
//! ```text
//! request arrives:  each resource's attributes -> bits            (once, for all its spans)
//! span arrives:     its attributes, its trace state -> bits       (one walk; only what its trace has not answered yet)
//! ```
//!
//! The idea: all questions about one attribute name are asked when the name is met, so that a span's attributes are
//! walked once however many policies there are. Equal questions share a bit. A question that a trace has answered with
//! yes is not asked again, and a span of a trace that has answered all is not looked into.
//!
//! ```text
//! for each attribute:                                  from where the index saw them, if they lie together
//!     length and last byte of its name: nobody's?      next one                       (nearly all end here)
//!     the name itself, compared with the one or two that are possible
//!     its value: each question about it that is still open
//! until the names of all open questions were met
//! ```

use std::ops::RangeInclusive;

use codecs::otlp::attributes::{Attribute, PlainAttributes, Value};
use codecs::otlp::{SpanItem, resource_attributes, span_attributes, span_trace_state};

use super::ottl_condition::OttlConditions;
use super::searched::Searched;
use super::trace_state;
use crate::settings::{AttributeTest, Number, Rule, Settings};

/// Bits of [`super::Conditions`] below it belong to statuses and flags.
const FIRST_BIT: usize = 4;

/// The most different questions that the policies of one sampler may ask about attributes and trace states.
pub const QUESTIONS_MAX: usize = 64 - FIRST_BIT;

/// A question, as it stands in a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Question<'a> {
    Attribute { key: &'a str, test: &'a AttributeTest },
    TraceState { key: &'a str, values: &'a [String] },
    Ottl { spans: &'a [String], span_events: &'a [String], counts_errors: bool },
}

/// The different questions of some policies; a question's position is its number.
#[derive(Debug, Default)]
pub(super) struct Catalogue<'a> {
    questions: Vec<Question<'a>>,
}

impl<'a> Catalogue<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        let mut catalogue = Self::default();
        settings.policies.iter().for_each(|policy| catalogue.add_all(&policy.rule));
        catalogue
    }

    pub(super) fn len(&self) -> usize {
        self.questions.len()
    }

    fn add_all(&mut self, rule: &'a Rule) {
        if let Some(question) = Question::of(rule) {
            if !self.questions.contains(&question) {
                self.questions.push(question);
            }
            return;
        }
        match rule {
            Rule::And(rules) | Rule::Drop(rules) => rules.iter().for_each(|rule| self.add_all(rule)),
            Rule::Not(rule) | Rule::DryRun(rule) => self.add_all(rule),
            Rule::Composite { parts, .. } => parts.iter().for_each(|part| self.add_all(&part.rule)),
            _ => {}
        }
    }

    /// The condition that stands for the question of `rule`.
    pub(super) fn condition(&self, rule: &Rule) -> u64 {
        let question = Question::of(rule);
        let number = self.questions.iter().position(|known| Some(*known) == question);
        bit(number.expect("the catalogue is made from the rules that ask"))
    }
}

fn bit(number: usize) -> u64 {
    1 << (FIRST_BIT + number)
}

impl<'a> Question<'a> {
    fn of(rule: &'a Rule) -> Option<Self> {
        match rule {
            Rule::Attribute { key, test, .. } => Some(Self::Attribute { key, test }),
            Rule::TraceState { key, values } => Some(Self::TraceState { key, values }),
            Rule::OttlCondition { spans, span_events, counts_errors } => {
                Some(Self::Ottl { spans, span_events, counts_errors: *counts_errors })
            }
            _ => None,
        }
    }
}

/// The questions, arranged for asking.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions {
    names: Names,
    about_attributes: u64,
    trace_states: Vec<WantedState>,
    about_trace_states: u64,
    conditions: OttlConditions,
}

/// The attribute names that are asked about, and which of them a name may be.
#[derive(Clone, Debug)]
struct Names {
    /// By [`place_of`] a name: where to begin in `keys`, or [`NOBODYS`].
    places: [u8; NAME_PLACES],
    keys: Vec<Key>,
}

/// An attribute name and all that is asked of it.
#[derive(Clone, Debug)]
struct Key {
    name: Box<[u8]>,
    /// All its conditions.
    conditions: u64,
    tests: Vec<(u64, Test)>,
    /// Another one with the same place, or [`NOBODYS`].
    next: u8,
}

/// So many that a name which nobody asks for seldom has the place of one that somebody does.
const NAME_PLACES: usize = 256;

/// There are fewer names than questions.
const NOBODYS: u8 = u8::MAX;
const _: () = assert!(QUESTIONS_MAX < NOBODYS as usize, "each name has a number");

/// Names of one place are few: many begin alike, so their last byte and their length tell them apart.
#[inline(always)]
fn place_of(name: &[u8]) -> usize {
    let last = name.last().copied().unwrap_or(0);
    usize::from((name.len() as u8).wrapping_mul(37) ^ last)
}

#[derive(Clone, Debug)]
enum Test {
    /// Sorted.
    Text(Vec<Box<[u8]>>),
    Pattern(Searched),
    Number {
        /// The whole numbers that pass.
        whole: RangeInclusive<i64>,
        min: Option<Number>,
        max: Option<Number>,
    },
    Bool(bool),
}

#[derive(Clone, Debug)]
struct WantedState {
    condition: u64,
    key: Box<[u8]>,
    values: Vec<Box<[u8]>>,
}

impl Questions {
    pub(super) fn new(catalogue: &Catalogue<'_>) -> Self {
        assert!(catalogue.len() <= QUESTIONS_MAX, "settings ask at most QUESTIONS_MAX questions");
        let mut questions = Self::default();
        for (number, question) in catalogue.questions.iter().enumerate() {
            match *question {
                Question::Attribute { key, test } => questions.add_attribute(bit(number), key, test),
                Question::TraceState { key, values } => questions.add_trace_state(bit(number), key, values),
                Question::Ottl { spans, span_events, counts_errors } => {
                    questions.conditions.add(bit(number), spans, span_events, counts_errors);
                }
            }
        }
        questions
    }

    fn add_attribute(&mut self, condition: u64, key: &str, test: &AttributeTest) {
        self.about_attributes |= condition;
        self.names.add(condition, key.as_bytes(), Test::new(test));
    }

    fn add_trace_state(&mut self, condition: u64, key: &str, values: &[String]) {
        self.about_trace_states |= condition;
        let values = values.iter().map(|value| value.as_bytes().into()).collect();
        self.trace_states.push(WantedState { condition, key: key.as_bytes().into(), values });
    }

    pub(super) fn conditions(&self) -> &OttlConditions {
        &self.conditions
    }

    pub(super) fn ask_about_resources(&self) -> bool {
        self.about_attributes != 0
    }

    /// Memory of what was found in texts, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let tests = self.names.keys.iter().flat_map(|key| &key.tests);
        tests.map(|(_, test)| if let Test::Pattern(patterns) = test { patterns.bytes() } else { 0 }).sum()
    }

    /// What a resource answers.
    pub(super) fn ask_resource(&self, envelope: &[u8]) -> u64 {
        self.ask_attributes(resource_attributes(envelope), self.about_attributes)
    }

    /// What a span answers to questions that are not `answered` yet.
    #[inline]
    pub(super) fn ask_span(&self, item: &SpanItem, span: &[u8], answered: u64) -> u64 {
        let mut answers = 0;
        let asked = self.about_attributes & !answered;
        if asked != 0 {
            answers |= match item.attributes_at.in_span(span) {
                Some(attributes) => {
                    let answers = self.ask_plain(attributes, asked);
                    debug_assert_eq!(answers, self.ask_attributes(span_attributes(span), asked), "one span, two walks");
                    answers
                }
                None => self.ask_attributes(span_attributes(span), asked),
            };
        }
        let asked = self.about_trace_states & !answered;
        if asked != 0 {
            answers |= self.ask_trace_state(span_trace_state(span), asked);
        }
        answers
    }

    /// Asks attributes that lie together: values are not touched before somebody asks.
    #[inline]
    fn ask_plain(&self, attributes: PlainAttributes<'_>, asked: u64) -> u64 {
        let mut asking = Asking { asked, answers: 0 };
        for attribute in attributes {
            if let Some(key) = self.names.find(attribute.key, asking.asked) {
                asking.ask(key, attribute.value());
                if asking.asked == 0 {
                    break;
                }
            }
        }
        asking.answers
    }

    #[inline(never)]
    fn ask_attributes<'a>(&self, attributes: impl Iterator<Item = Attribute<'a>>, asked: u64) -> u64 {
        let mut asking = Asking { asked, answers: 0 };
        for attribute in attributes {
            if let Some(key) = self.names.find(attribute.key, asking.asked) {
                asking.ask(key, attribute.value);
                if asking.asked == 0 {
                    break;
                }
            }
        }
        asking.answers
    }

    #[cold]
    fn ask_trace_state(&self, text: &[u8], asked: u64) -> u64 {
        let mut answers = 0;
        if text.is_empty() {
            return answers;
        }
        let Some(members) = trace_state::members(text) else {
            return answers;
        };
        for wanted in self.trace_states.iter().filter(|wanted| asked & wanted.condition != 0) {
            let found = members.iter().find(|(key, _)| *key == &*wanted.key);
            if found.is_some_and(|(_, value)| wanted.values.iter().any(|wanted| **wanted == **value)) {
                answers |= wanted.condition;
            }
        }
        answers
    }
}

/// One walk over attributes: the conditions that are still to be asked for, and those that were met.
struct Asking {
    asked: u64,
    answers: u64,
}

impl Asking {
    /// Asks the value of the first attribute of this name; of several the first counts.
    #[inline]
    fn ask(&mut self, key: &Key, value: &[u8]) {
        let value = Value::read(value);
        for (condition, test) in &key.tests {
            if self.asked & condition != 0 && test.passes(value) {
                self.answers |= condition;
            }
        }
        self.asked &= !key.conditions;
    }
}

impl Default for Names {
    fn default() -> Self {
        Self { places: [NOBODYS; NAME_PLACES], keys: Vec::new() }
    }
}

impl Names {
    fn add(&mut self, condition: u64, name: &[u8], test: Test) {
        let number = self.keys.iter().position(|key| *key.name == *name).unwrap_or_else(|| {
            let number = self.keys.len();
            let place = &mut self.places[place_of(name)];
            let next = std::mem::replace(place, number as u8);
            self.keys.push(Key { name: name.into(), conditions: 0, tests: Vec::new(), next });
            number
        });
        let key = &mut self.keys[number];
        key.conditions |= condition;
        key.tests.push((condition, test));
    }

    /// The key of this name, if any of its conditions is `asked` for.
    #[inline(always)]
    fn find(&self, name: &[u8], asked: u64) -> Option<&Key> {
        let mut number = self.places[place_of(name)];
        // Nearly always ends at once. Each key has the number of one that was there before it, so it ends.
        while let Some(key) = self.keys.get(usize::from(number)) {
            if asked & key.conditions != 0 && *key.name == *name {
                return Some(key);
            }
            number = key.next;
        }
        None
    }
}

impl Test {
    fn new(test: &AttributeTest) -> Self {
        match test {
            AttributeTest::Text(values) => {
                let mut values: Vec<Box<[u8]>> = values.iter().map(|value| value.as_bytes().into()).collect();
                values.sort_unstable();
                Self::Text(values)
            }
            AttributeTest::Pattern(patterns) => Self::Pattern(Searched::new(patterns)),
            AttributeTest::Number { min, max } => {
                Self::Number { whole: whole_numbers_between(*min, *max), min: *min, max: *max }
            }
            AttributeTest::Bool(value) => Self::Bool(*value),
        }
    }

    #[inline]
    fn passes(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Text(_) | Self::Pattern(_), Value::String(b"")) => false,
            (Self::Text(values), Value::String(text)) => contains(values, text),
            (Self::Pattern(patterns), Value::String(text)) => patterns.is_any_found_in(text),
            (Self::Number { whole, .. }, Value::Int(number)) => whole.contains(&number),
            (Self::Number { min, max, .. }, Value::Double(number)) => is_between(Number::Double(number), *min, *max),
            (Self::Bool(wanted), Value::Bool(value)) => *wanted == value,
            _ => false,
        }
    }
}

/// Lengths are compared before bytes: a few values are sooner looked through than searched.
#[inline]
fn contains(sorted: &[Box<[u8]>], text: &[u8]) -> bool {
    const FEW: usize = 8;
    if sorted.len() <= FEW {
        return sorted.iter().any(|value| **value == *text);
    }
    sorted.binary_search_by(|value| (**value).cmp(text)).is_ok()
}

/// The whole numbers from `min` to `max`: settings bound them by doubles, too, and to compare the two is slow.
fn whole_numbers_between(min: Option<Number>, max: Option<Number>) -> RangeInclusive<i64> {
    const NONE: RangeInclusive<i64> = RangeInclusive::new(1, 0);
    let least = match min {
        None => i128::from(i64::MIN),
        Some(Number::Int(min)) => i128::from(min),
        Some(Number::Double(min)) if min.is_nan() => return NONE,
        // A cast of what is too large for 128 bits is the largest.
        Some(Number::Double(min)) => (min.ceil() as i128).max(i128::from(i64::MIN)),
    };
    let most = match max {
        None => i128::from(i64::MAX),
        Some(Number::Int(max)) => i128::from(max),
        Some(Number::Double(max)) if max.is_nan() => return NONE,
        Some(Number::Double(max)) => (max.floor() as i128).min(i128::from(i64::MAX)),
    };
    match (i64::try_from(least), i64::try_from(most)) {
        (Ok(least), Ok(most)) => least..=most,
        _ => NONE,
    }
}

/// A call of its own: the conversions of a double count as free of effects, and were made for every value, asked or not.
#[inline(never)]
fn is_between(number: Number, min: Option<Number>, max: Option<Number>) -> bool {
    min.is_none_or(|min| is_at_most(min, number)) && max.is_none_or(|max| is_at_most(number, max))
}

/// `a <= b`, exact for any pair; not a number is never at most anything.
fn is_at_most(a: Number, b: Number) -> bool {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => a <= b,
        (Number::Double(a), Number::Double(b)) => a <= b,
        // Between whole numbers and doubles lies the next whole number: |a| <= 2^63, so no cast below loses anything.
        (Number::Int(a), Number::Double(b)) => !b.is_nan() && i128::from(a) <= b.floor() as i128,
        (Number::Double(a), Number::Int(b)) => !a.is_nan() && a.ceil() as i128 <= i128::from(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_numbers_and_doubles_compare_exactly() {
        use Number::{Double, Int};
        let large = (1i64 << 53) + 1;
        for (a, b, expected) in [
            (Int(1), Int(1), true),
            (Int(2), Int(1), false),
            (Int(1), Double(1.0), true),
            (Int(1), Double(0.999), false),
            (Double(1.001), Int(1), false),
            (Double(-0.5), Int(0), true),
            (Int(large), Double((1i64 << 53) as f64), false),
            (Double((1i64 << 53) as f64), Int(large), true),
            (Int(i64::MAX), Double(f64::INFINITY), true),
            (Double(f64::NEG_INFINITY), Int(i64::MIN), true),
            (Double(f64::NAN), Int(0), false),
            (Int(0), Double(f64::NAN), false),
            (Double(0.0), Double(-0.0), true),
        ] {
            assert_eq!(is_at_most(a, b), expected, "{a:?} <= {b:?}");
        }
    }

    fn any_number() -> impl Strategy<Value = Option<Number>> {
        prop_oneof![
            Just(None),
            (-4..4i64).prop_map(|number| Some(Number::Int(number))),
            any::<i64>().prop_map(|number| Some(Number::Int(number))),
            (-8..8i32).prop_map(|halves| Some(Number::Double(f64::from(halves) / 2.0))),
            any::<i64>().prop_map(|number| Some(Number::Double(number as f64))),
            any::<f64>().prop_map(|number| Some(Number::Double(number))),
            prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2f64.powi(63), -(2f64.powi(63))])
                .prop_map(|number| Some(Number::Double(number))),
        ]
    }

    proptest! {
        #[test]
        fn the_whole_numbers_between_two_bounds_are_those_that_compare_so(
            min in any_number(),
            max in any_number(),
            number in prop_oneof![-5..5i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)],
        ) {
            let expected = is_between(Number::Int(number), min, max);
            prop_assert_eq!(whole_numbers_between(min, max).contains(&number), expected);
        }
    }
}
