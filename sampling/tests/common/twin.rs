//! The naive twin of a sampler: a map of vectors that walks all spans of a trace to decide it. It does what a sampler
//! should, without any of its structures, and never decides early what is certain.

#![allow(clippy::unwrap_used, reason = "the whole file is a test; clippy only knows the functions marked as such")]

use std::collections::HashMap;

use codecs::otlp::proto::{self, KeyValue, Value};
use prost::Message;
use sampling::counters::{Counters, Verdicts};
use sampling::release::CUT_MARK;
use sampling::settings::{AttributeTest, Number, Pattern, Rule, Settings};

use super::{SECOND, Span};

pub const FIRST_REASON: u16 = 40;

/// How much is remembered of decided traces.
#[derive(Clone, Copy, Debug)]
pub enum Memory {
    /// Everything.
    All,
    /// So many kept traces, and the last 16 dropped ones: one line of marks.
    Little { kept_max: u64 },
}

impl Memory {
    pub fn apply(self, settings: &mut Settings) {
        match self {
            // Far more than the worlds of these tests have.
            Self::All => settings.dropped_memory_bytes = Some(1 << 16),
            Self::Little { kept_max } => {
                settings.kept_memory_bytes = Some(kept_max * sampling::settings::BYTES_PER_KEPT as u64);
                settings.dropped_memory_bytes = Some(0);
            }
        }
    }
}

/// Dropped traces that one line of marks remembers.
const LINE_MARKS: usize = 16;

/// What the sampler should do, without any of its structures.
pub struct Twin {
    pub settings: Settings,
    /// Every generation of rules, the one in force last.
    rules: Vec<Rules>,
    pub giant_bytes: u64,
    memory: Memory,
    pub now_ns: u64,
    arrivals: u64,
    pub traces: HashMap<u128, Pending>,
    /// Kept traces with their policies, and when: the number of traces kept before, and of those remembered anew.
    kept_traces: HashMap<u128, (u16, u64)>,
    remembered: u64,
    /// Dropped traces, those without a span for longest first.
    dropped_traces: Vec<u128>,
    /// What left, with the reasons, since somebody looked.
    pub kept: Vec<(Span, u16)>,
    /// Sampled traces in the order of their decisions, with their reasons and whether they were cut.
    pub named: Vec<(u128, u16, bool)>,
    pub counters: Counters,
    spent: Spent,
}

struct Rules {
    settings: Settings,
    /// By policy: under which number it is counted, and where it notes what it has spent.
    numbers: Vec<u16>,
    places: Vec<String>,
}

/// What policies with a rate have spent, by their place among the policies.
#[derive(Default)]
struct Spent {
    /// Token buckets: billionths of tokens left, and when.
    tokens: HashMap<String, (u128, u64)>,
    /// Spans of a second.
    windows: HashMap<String, (u64, u64)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Sampled(u16),
    NotSampled,
    Dropped,
}

pub struct Pending {
    pub spans: Vec<Span>,
    pub deadline_ns: u64,
    /// Those that were in force when its first span came.
    rules: usize,
    after_root: bool,
    /// Order among equal deadlines: of arrival, or of the root's arrival.
    order: u64,
    /// Once the root has come.
    look: Option<Look>,
}

/// When the trace is looked at next, and what the last look saw.
struct Look {
    due_ns: u64,
    order: u64,
    spans: usize,
    incomplete: bool,
}

impl Twin {
    pub fn new(settings: &Settings, memory: Memory, giant_bytes: u64) -> Self {
        let mut twin = Self {
            settings: settings.clone(),
            rules: Vec::new(),
            giant_bytes,
            memory,
            now_ns: 0,
            arrivals: 0,
            traces: HashMap::new(),
            kept_traces: HashMap::new(),
            remembered: 0,
            dropped_traces: Vec::new(),
            kept: Vec::new(),
            named: Vec::new(),
            counters: Counters::default(),
            spent: Spent::default(),
        };
        let numbers: Vec<u16> = (0_u16..).take(settings.policies.len()).collect();
        twin.change_rules(settings, &numbers);
        twin
    }

    /// Other rules for traces that begin from now on.
    pub fn change_rules(&mut self, settings: &Settings, numbers: &[u16]) {
        let before = self.rules.last();
        let place = |(position, policy): (usize, &sampling::settings::Policy)| {
            // A policy that stays as it was goes on with what it has spent.
            let known = before.and_then(|before| {
                let at = before.settings.policies.iter().position(|known| known == policy)?;
                Some(before.places[at].clone())
            });
            known.unwrap_or_else(|| format!("{}:{position}", self.rules.len()))
        };
        let places = settings.policies.iter().enumerate().map(place).collect();
        self.rules.push(Rules { settings: settings.clone(), numbers: numbers.to_vec(), places });
        self.settings = settings.clone();
        let counted = numbers.iter().map(|number| usize::from(*number) + 1).max().unwrap_or(0);
        if counted > self.counters.policies.len() {
            self.counters.policies.resize(counted, Verdicts::default());
        }
    }

    pub fn insert(&mut self, span: &Span) {
        self.counters.spans_accepted += 1;
        if span.trace_id == 0 {
            match self.decide_spans(std::slice::from_ref(span), self.rules.len() - 1, false) {
                Fate::Sampled(policy) => {
                    self.counters.idless_spans_kept += 1;
                    self.keep(span, policy);
                }
                Fate::NotSampled | Fate::Dropped => {
                    self.counters.idless_spans_dropped += 1;
                    self.counters.spans_dropped += 1;
                }
            }
            return;
        }
        if !self.traces.contains_key(&span.trace_id) {
            match self.decided(span.trace_id) {
                Some(Some(policy)) => {
                    self.counters.late_spans_kept += 1;
                    return self.keep(span, policy);
                }
                Some(None) => {
                    self.counters.late_spans_dropped += 1;
                    self.counters.spans_dropped += 1;
                    return;
                }
                None => {}
            }
            let is_full = self.traces.len() >= self.settings.traces_max.map_or(usize::MAX, |traces| traces as usize);
            if is_full && !self.settings.block_on_overflow {
                self.counters.traces_decided_early += 1;
                let first = self.first().expect("a full twin has a trace");
                self.decide(first, false);
            }
            self.counters.traces_new += 1;
        }
        self.arrivals += 1;
        let pending = self.traces.entry(span.trace_id).or_insert(Pending {
            spans: Vec::new(),
            deadline_ns: self.now_ns + self.settings.decision_wait_ns,
            rules: self.rules.len() - 1,
            after_root: false,
            order: self.arrivals,
            look: None,
        });
        pending.spans.push(span.clone());
        let settings = &self.rules[pending.rules].settings;
        if let Some(wait_ns) = settings.decision_wait_after_root_ns
            && !span.has_parent
            && !pending.after_root
            && self.now_ns + wait_ns < pending.deadline_ns
        {
            pending.deadline_ns = self.now_ns + wait_ns;
            pending.after_root = true;
            pending.order = self.arrivals;
        }
        if let Some(quiet_ns) = settings.complete_quiet_ns
            && !span.has_parent
            && pending.look.is_none()
        {
            let (due_ns, spans) = (self.now_ns + quiet_ns, pending.spans.len());
            pending.look = Some(Look { due_ns, order: self.arrivals, spans, incomplete: false });
        }
        let bytes: usize = pending.spans.iter().map(|span| span.bytes.len()).sum();
        if settings.trace_bytes_max.is_some_and(|bytes_max| bytes as u64 > bytes_max) {
            self.counters.traces_too_large += 1;
            self.drop_undecided(span.trace_id);
        } else if bytes as u64 > self.giant_bytes {
            self.counters.traces_cut += 1;
            self.decide(span.trace_id, true);
        }
    }

    /// How the trace was decided, if that is remembered. Asked for a late span, so it is remembered for longer.
    fn decided(&mut self, id: u128) -> Option<Option<u16>> {
        let (kept_max, dropped_max) = match self.memory {
            Memory::All => (u64::MAX, usize::MAX),
            Memory::Little { kept_max } => (kept_max, LINE_MARKS),
        };
        if let Some((policy, at)) = self.kept_traces.get_mut(&id)
            && self.remembered - *at < kept_max
        {
            if self.remembered - *at >= kept_max.div_ceil(2) {
                self.remembered += 1;
                *at = self.remembered;
            }
            return Some(Some(*policy));
        }
        let position = self.dropped_traces.iter().rposition(|dropped| *dropped == id)?;
        let is_remembered = self.dropped_traces.len() - position <= dropped_max;
        is_remembered.then(|| {
            let id = self.dropped_traces.remove(position);
            self.dropped_traces.push(id);
            None
        })
    }

    fn drop_undecided(&mut self, id: u128) {
        let pending = self.traces.remove(&id).expect("only pending traces are dropped");
        self.counters.traces_not_sampled += 1;
        self.counters.spans_dropped += pending.spans.len() as u64;
        self.forget_and_drop(id);
    }

    fn forget_and_drop(&mut self, id: u128) {
        self.kept_traces.remove(&id);
        self.dropped_traces.push(id);
    }

    pub fn first(&self) -> Option<u128> {
        let key = |pending: &Pending| (pending.deadline_ns, pending.after_root, pending.rules, pending.order);
        self.traces.iter().min_by_key(|(_, pending)| key(pending)).map(|(id, _)| *id)
    }

    /// Looks, in their order, at all that may be complete.
    fn look(&mut self) {
        let is_due = |look: &Look, now_ns: u64| look.due_ns <= now_ns;
        loop {
            let looks =
                self.traces.iter().filter_map(|(id, pending)| Some((*id, pending.rules, pending.look.as_ref()?)));
            let due = looks.filter(|(_, _, look)| is_due(look, self.now_ns));
            let Some((id, rules, _)) = due.min_by_key(|(_, rules, look)| (look.due_ns, *rules, look.order)) else {
                break;
            };
            let quiet_ns = self.rules[rules].settings.complete_quiet_ns.expect("its traces are looked at");
            self.arrivals += 1;
            let (now_ns, order) = (self.now_ns, self.arrivals);
            let pending = self.traces.get_mut(&id).expect("found above");
            let look = pending.look.as_mut().expect("found above");
            if pending.deadline_ns <= now_ns {
                look.due_ns = u64::MAX;
                continue;
            }
            let is_quiet = look.spans == pending.spans.len();
            let ids: Vec<Vec<u8>> = pending.spans.iter().map(|span| span.span_id.to_be_bytes().to_vec()).collect();
            let parent = |span: &Span| proto::Span::decode(&*span.bytes).expect("well-formed").parent_span_id;
            let has_parent = |span: &Span| {
                let parent = parent(span);
                parent.iter().all(|byte| *byte == 0) || ids.contains(&parent)
            };
            if is_quiet && !look.incomplete && pending.spans.iter().all(has_parent) {
                self.counters.traces_complete += 1;
                self.decide(id, false);
                continue;
            }
            *look = Look { due_ns: now_ns + quiet_ns, order, spans: pending.spans.len(), incomplete: is_quiet };
        }
    }

    /// There may be fewer traces since the rules changed.
    fn decide_what_is_too_much(&mut self) {
        let traces_max = self.settings.traces_max.map_or(usize::MAX, |traces| traces as usize);
        while self.traces.len() > traces_max && !self.settings.block_on_overflow {
            self.counters.traces_decided_early += 1;
            let first = self.first().expect("it has too many");
            self.decide(first, false);
        }
    }

    pub fn tick(&mut self, everything: bool) {
        if !everything {
            self.decide_what_is_too_much();
        }
        self.look();
        while let Some(id) = self.first() {
            let pending = &self.traces[&id];
            if pending.deadline_ns <= self.now_ns {
                self.counters.traces_decided_after_root += u64::from(pending.after_root);
                let late_ns = self.now_ns - pending.deadline_ns;
                self.counters.lateness.sum_ns = self.counters.lateness.sum_ns.wrapping_add(late_ns);
                self.counters.lateness.max_ns = self.counters.lateness.max_ns.max(late_ns);
                let bucket = if late_ns == 0 { 0 } else { late_ns.ilog2() as usize + 1 };
                self.counters.lateness.buckets[bucket] += 1;
            } else if everything {
                self.counters.traces_decided_by_drain += 1;
            } else {
                break;
            }
            if everything && self.settings.drop_pending_in_drain {
                self.drop_undecided(id);
            } else {
                self.decide(id, false);
            }
        }
    }

    fn decide(&mut self, id: u128, is_cut: bool) {
        let pending = self.traces.remove(&id).expect("only pending traces are decided");
        let fate = self.decide_spans(&pending.spans, pending.rules, true);
        let mut kept_by = None;
        match fate {
            Fate::Sampled(policy) => {
                kept_by = Some(policy);
                self.counters.traces_sampled += 1;
                self.named.push((id, FIRST_REASON + policy, is_cut));
                for (position, span) in pending.spans.iter().enumerate() {
                    let mut span = span.clone();
                    if is_cut && position == 0 {
                        span.bytes.extend_from_slice(CUT_MARK);
                    }
                    self.keep(&span, policy);
                }
            }
            Fate::NotSampled => self.counters.traces_not_sampled += 1,
            Fate::Dropped => self.counters.traces_dropped += 1,
        }
        match kept_by {
            Some(policy) => {
                self.remembered += 1;
                self.kept_traces.insert(id, (policy, self.remembered));
            }
            None => {
                self.counters.spans_dropped += pending.spans.len() as u64;
                self.forget_and_drop(id);
            }
        }
    }

    /// A sampled fate names the policy's number.
    fn decide_spans(&mut self, spans: &[Span], rules: usize, count: bool) -> Fate {
        let mut fate = Fate::NotSampled;
        let Rules { settings, numbers, places } = &self.rules[rules];
        let policies = settings.policies.iter().enumerate();
        let (dry, policies): (Vec<_>, Vec<_>) =
            policies.partition(|(_, policy)| matches!(policy.rule, Rule::DryRun(_)));
        let (drops, others): (Vec<_>, Vec<_>) =
            policies.into_iter().partition(|(_, policy)| matches!(policy.rule, Rule::Drop(_)));
        for (position, policy) in dry.into_iter().chain(drops).chain(others) {
            let wanted = self.spent.samples(&policy.rule, &places[position], spans, self.now_ns);
            let is_dry = matches!(policy.rule, Rule::DryRun(_));
            let drops = match &policy.rule {
                Rule::DryRun(rule) => matches!(**rule, Rule::Drop(_)),
                rule => matches!(rule, Rule::Drop(_)),
            };
            if count {
                let verdicts = &mut self.counters.policies[usize::from(numbers[position])];
                *match (wanted, drops) {
                    (true, true) => &mut verdicts.dropped,
                    (true, false) => &mut verdicts.sampled,
                    (false, _) => &mut verdicts.not_sampled,
                } += 1;
            }
            if is_dry {
                continue;
            }
            if wanted && drops {
                return Fate::Dropped;
            }
            if wanted && fate == Fate::NotSampled {
                fate = Fate::Sampled(numbers[position]);
                if settings.sample_on_first_match {
                    break;
                }
            }
        }
        fate
    }

    fn keep(&mut self, span: &Span, policy: u16) {
        self.counters.spans_kept += 1;
        self.kept.push((span.clone(), FIRST_REASON + policy));
    }
}

impl Spent {
    /// `place` names the rule among all.
    fn samples(&mut self, rule: &Rule, place: &str, spans: &[Span], now_ns: u64) -> bool {
        let all = |spent: &mut Self, rules: &[Rule]| {
            let mut rules = rules.iter().enumerate();
            rules.all(|(at, rule)| spent.samples(rule, &format!("{place}.{at}"), spans, now_ns))
        };
        match rule {
            Rule::And(rules) | Rule::Drop(rules) => all(self, rules),
            Rule::Not(rule) => !self.samples(rule, &format!("{place}.not"), spans, now_ns),
            Rule::DryRun(rule) => self.samples(rule, &format!("{place}.dry"), spans, now_ns),
            Rule::RateLimiting { spans_per_second, burst_spans } => {
                self.take_tokens(place, now_ns, *spans_per_second, *burst_spans, spans.len() as u64)
            }
            Rule::BytesLimiting { bytes_per_second, burst_bytes } => {
                let bytes: usize = spans.iter().map(|span| span.bytes.len()).sum();
                self.take_tokens(place, now_ns, *bytes_per_second, *burst_bytes, bytes as u64)
            }
            Rule::Composite { spans_per_second_max, parts } => {
                let wanting = parts
                    .iter()
                    .enumerate()
                    .find(|(at, part)| self.samples(&part.rule, &format!("{place}.{at}"), spans, now_ns));
                let Some((at, part)) = wanting else {
                    return false;
                };
                let second = now_ns / SECOND;
                let mut spent = |place: &str| {
                    let window = self.windows.entry(place.to_owned()).or_default();
                    if window.0 != second {
                        *window = (second, 0);
                    }
                    window.1
                };
                let (own_place, cost) = (format!("{place}.{at} spent"), spans.len() as u64);
                let fits = spent(&own_place) + cost <= part.spans_per_second.into()
                    && spent(place) + cost <= (*spans_per_second_max).into();
                if fits {
                    self.windows.entry(own_place).or_default().1 += cost;
                    self.windows.entry(place.to_owned()).or_default().1 += cost;
                }
                fits
            }
            rule => samples(rule, spans),
        }
    }

    /// Exact for rates that divide a billion.
    fn take_tokens(&mut self, place: &str, now_ns: u64, per_second: u64, burst: u64, cost: u64) -> bool {
        let full = u128::from(burst) * u128::from(SECOND);
        let (left, at_ns) = self.tokens.entry(place.to_owned()).or_insert((full, now_ns));
        *left = full.min(*left + u128::from(now_ns - *at_ns) * u128::from(per_second));
        *at_ns = now_ns;
        let cost = u128::from(cost) * u128::from(SECOND);
        let fits = cost <= *left;
        if fits {
            *left -= cost;
        }
        fits
    }
}

fn samples(rule: &Rule, spans: &[Span]) -> bool {
    let decoded = || spans.iter().map(|span| proto::Span::decode(&*span.bytes).expect("spans here are well-formed"));
    match rule {
        Rule::AlwaysSample => true,
        Rule::TraceFlags => spans.iter().any(|span| span.flags % 2 == 1),
        Rule::SpanCount { spans_min, spans_max } => {
            spans.len() >= *spans_min as usize && spans_max.is_none_or(|most| spans.len() <= most as usize)
        }
        Rule::TraceState { key, values } => decoded().any(|span| {
            let text = String::from_utf8(span.trace_state).unwrap();
            let members: Vec<_> = text.split(',').map(|member| member.trim().split_once('=')).collect();
            let is_wanted = |(found, value): (&str, &str)| found == key && values.iter().any(|wanted| wanted == value);
            members.iter().all(|member| member.is_some()) && members.into_iter().flatten().any(is_wanted)
        }),
        Rule::Attribute { key, test, invert_match } => {
            let passes = |attributes: &[KeyValue]| {
                let found = attributes.iter().find(|attribute| attribute.key == key.as_bytes());
                let value = found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref());
                value.is_some_and(|value| passes(test, value))
            };
            let resource = |span: &Span| proto::ResourceSpans::decode(&*span.resource).unwrap().resource;
            let found = decoded().any(|span| passes(&span.attributes))
                || spans.iter().filter_map(resource).any(|resource| passes(&resource.attributes));
            found != *invert_match
        }
        Rule::StatusCode { ok, error, unset } => {
            spans.iter().any(|span| [*unset, *ok, *error][usize::from(span.status)])
        }
        Rule::Latency { threshold_ms, upper_threshold_ms } => {
            let starts = spans.iter().map(|span| span.start_ns).filter(|start_ns| *start_ns > 0);
            let Some(start_ns) = starts.min() else {
                return false;
            };
            let end_ns = spans.iter().map(|span| span.end_ns).max().unwrap_or(0);
            let duration_ms = (i128::from(end_ns) - i128::from(start_ns)).div_euclid(1_000_000);
            match upper_threshold_ms {
                None => duration_ms > i128::from(*threshold_ms),
                Some(upper) => duration_ms > i128::from(*threshold_ms) && duration_ms <= i128::from(*upper),
            }
        }
        Rule::Probabilistic { hash_salt, sampling_percentage } => {
            let id = spans[0].trace_id.to_be_bytes();
            let bytes = hash_salt.bytes().chain(id);
            let hash = bytes
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            hash as f64 / u64::MAX as f64 <= sampling_percentage / 100.0
        }
        rule => unreachable!("{rule:?} has a rate or parts"),
    }
}

fn passes(test: &AttributeTest, value: &Value) -> bool {
    let double = |number: &Number| match number {
        Number::Int(number) => *number as f64,
        Number::Double(number) => *number,
    };
    let is_between = |number: f64, min: &Option<Number>, max: &Option<Number>| {
        min.as_ref().is_none_or(|min| double(min) <= number) && max.as_ref().is_none_or(|max| number <= double(max))
    };
    match (test, value) {
        (AttributeTest::Bool(wanted), Value::Bool(value)) => wanted == value,
        (AttributeTest::Number { min, max }, Value::Int(number)) => is_between(*number as f64, min, max),
        (AttributeTest::Number { min, max }, Value::Double(number)) => is_between(*number, min, max),
        (AttributeTest::Text(wanted), Value::String(text)) => {
            !text.is_empty() && wanted.iter().any(|wanted| wanted.as_bytes() == text)
        }
        (AttributeTest::Pattern(patterns), Value::String(text)) => {
            let text = String::from_utf8(text.clone()).unwrap();
            let is_found =
                |pattern: &Pattern| match PATTERNS.iter().find(|known| *pattern == Pattern::new(known).unwrap()) {
                    Some(&"^a") => text.starts_with('a'),
                    Some(&"b$") => text.ends_with('b'),
                    Some(&r"\d") => text.bytes().any(|byte| byte.is_ascii_digit()),
                    _ => panic!("the twin does not know this pattern"),
                };
            !text.is_empty() && patterns.iter().any(is_found)
        }
        _ => false,
    }
}

/// The patterns that the twin knows.
pub const PATTERNS: [&str; 3] = ["^a", "b$", r"\d"];
