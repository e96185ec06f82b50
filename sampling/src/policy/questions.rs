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

use codecs::otlp::attributes::{Attribute, Value};
use codecs::otlp::{resource_attributes, span_attributes, span_trace_state};

use super::ottl_condition::OttlConditions;
use super::trace_state;
use crate::pattern::Pattern;
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
    keys: Vec<Key>,
    /// Bit `n`: a key has `n` bytes; the last bit: 63 or more. Most attributes are nobody's question and end here.
    key_lengths: u64,
    about_attributes: u64,
    trace_states: Vec<WantedState>,
    about_trace_states: u64,
    conditions: OttlConditions,
}

/// An attribute name and all that is asked of it.
#[derive(Clone, Debug)]
struct Key {
    name: Box<[u8]>,
    tests: Vec<(u64, Test)>,
}

#[derive(Clone, Debug)]
enum Test {
    /// Sorted.
    Text(Vec<Box<[u8]>>),
    Pattern(Vec<Pattern>),
    Number {
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
        let name = key.as_bytes();
        self.about_attributes |= condition;
        self.key_lengths |= length_bit(name);
        let position = self.keys.iter().position(|key| *key.name == *name).unwrap_or_else(|| {
            self.keys.push(Key { name: name.into(), tests: Vec::new() });
            self.keys.len() - 1
        });
        self.keys[position].tests.push((condition, Test::new(test)));
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

    /// What a resource answers.
    pub(super) fn ask_resource(&self, envelope: &[u8]) -> u64 {
        self.ask_attributes(resource_attributes(envelope), self.about_attributes)
    }

    /// What a span answers to questions that are not `answered` yet.
    #[inline]
    pub(super) fn ask_span(&self, span: &[u8], answered: u64) -> u64 {
        let mut answers = 0;
        let asked = self.about_attributes & !answered;
        if asked != 0 {
            answers |= self.ask_attributes(span_attributes(span), asked);
        }
        let asked = self.about_trace_states & !answered;
        if asked != 0 {
            answers |= self.ask_trace_state(span_trace_state(span), asked);
        }
        answers
    }

    #[inline]
    fn ask_attributes<'a>(&self, attributes: impl Iterator<Item = Attribute<'a>>, asked: u64) -> u64 {
        let mut answers = 0;
        // Of several attributes of one name the first counts. Keys are not more than questions, which are below 64.
        let mut met = 0u64;
        for attribute in attributes {
            if self.key_lengths & length_bit(attribute.key) == 0 {
                continue;
            }
            let Some(position) = self.keys.iter().position(|key| *key.name == *attribute.key) else {
                continue;
            };
            if met & 1 << position != 0 {
                continue;
            }
            met |= 1 << position;
            let value = Value::read(attribute.value);
            for (condition, test) in &self.keys[position].tests {
                if asked & condition != 0 && test.passes(value) {
                    answers |= condition;
                }
            }
        }
        answers
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

#[inline]
fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

impl Test {
    fn new(test: &AttributeTest) -> Self {
        match test {
            AttributeTest::Text(values) => {
                let mut values: Vec<Box<[u8]>> = values.iter().map(|value| value.as_bytes().into()).collect();
                values.sort_unstable();
                Self::Text(values)
            }
            AttributeTest::Pattern(patterns) => Self::Pattern(patterns.clone()),
            AttributeTest::Number { min, max } => Self::Number { min: *min, max: *max },
            AttributeTest::Bool(value) => Self::Bool(*value),
        }
    }

    #[inline]
    fn passes(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Text(_) | Self::Pattern(_), Value::String(b"")) => false,
            (Self::Text(values), Value::String(text)) => values.binary_search_by(|value| (**value).cmp(text)).is_ok(),
            (Self::Pattern(patterns), Value::String(text)) => patterns.iter().any(|pattern| pattern.is_found_in(text)),
            (Self::Number { min, max }, Value::Int(number)) => is_between(Number::Int(number), *min, *max),
            (Self::Number { min, max }, Value::Double(number)) => is_between(Number::Double(number), *min, *max),
            (Self::Bool(wanted), Value::Bool(value)) => *wanted == value,
            _ => false,
        }
    }
}

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
}
