//! What a policy of `processors.tail_sampling` asks of a trace: one function per type, and the types that hold others.
//!
//! Each type keeps its settings under a key of its own name. `and`, `not`, `drop` and `composite` hold policies, never
//! deeper than two levels: which types may stand where is what the Collector allows.

use sampling::settings::{AttributeTest, CompositePart, Goal, Number, Pattern, Rule};

use ottl::Context;

use crate::config::checked::ErrorMode;
use crate::config::diagnostic::{nearest, shown};
use crate::config::scalar::Meaning;
use crate::config::section::{Field, Section};
use crate::config::statements;

/// Salt of the Collector where none is given.
const HASH_SALT: &str = "default-hash-seed";
/// Texts that one policy may look for; they are sorted and searched.
const VALUES_MAX: usize = 1024;
/// Patterns that one policy may search for, one after the other.
const PATTERNS_MAX: usize = 64;
/// Conditions of one list of an `ottl_condition`; each is asked of every span.
const CONDITIONS_MAX: usize = 64;
/// From one adjustment of shares to the next (as Refinery).
const ADJUSTMENT_INTERVAL_NS: u64 = 15_000_000_000;
/// Samplers exchange what they counted as often.
const INTERVAL_NS_MIN: u64 = 100_000_000;
/// Keys that are told apart (as Refinery).
const KEYS_DEFAULT: usize = 500;
/// All of them are looked at with each adjustment.
const KEYS_MAX: i128 = 100_000;
/// Policies that one policy may hold.
const INNER_MAX: usize = 64;

/// Types that may stand anywhere.
const SIMPLE: [&str; 13] = [
    "always_sample",
    "latency",
    "numeric_attribute",
    "probabilistic",
    "status_code",
    "string_attribute",
    "boolean_attribute",
    "rate_limiting",
    "bytes_limiting",
    "span_count",
    "trace_state",
    "trace_flags",
    "ottl_condition",
];
/// Ours: a share of each key's traces.
const KEYED: [&str; 2] = ["dynamic", "throughput"];
/// Types that hold others.
const HOLDING: [&str; 4] = ["and", "not", "drop", "composite"];

/// Where a policy stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    Policies,
    And,
    Not,
    Drop,
    Composite,
}

impl Within {
    fn allows(self, kind: &str) -> bool {
        SIMPLE.contains(&kind)
            || match self {
                Self::Policies => HOLDING.contains(&kind) || KEYED.contains(&kind),
                Self::And => kind == "not" || KEYED.contains(&kind),
                Self::Drop => kind == "not",
                Self::Not => false,
                Self::Composite => kind == "and",
            }
    }

    fn allowed(self) -> String {
        let all: Vec<&str> = SIMPLE.into_iter().chain(KEYED).chain(HOLDING).filter(|kind| self.allows(kind)).collect();
        all.join(", ")
    }

    fn name(self) -> &'static str {
        match self {
            Self::Policies => "policies",
            Self::And => "and",
            Self::Not => "not",
            Self::Drop => "drop",
            Self::Composite => "composite",
        }
    }
}

/// Reads `type` and the settings of that type. `section` is that of `field`.
pub(crate) fn rule(field: &Field<'_>, section: &Section<'_>, within: Within) -> Option<Rule> {
    let kind = section.field("type");
    let written = kind.as_ref().and_then(|kind| kind.text()).unwrap_or_default();
    let rule = match &kind {
        Some(kind) if !written.is_empty() && is_allowed(kind, &written, within) => of_type(section, &written),
        Some(_) if !written.is_empty() => None,
        _ => {
            field.error("`type` is missing", format!("add `type:` with one of {}", within.allowed()));
            None
        }
    };
    other_settings(section, &written);
    rule
}

fn is_allowed(kind: &Field<'_>, written: &str, within: Within) -> bool {
    if within.allows(written) {
        return true;
    }
    if HOLDING.contains(&written) || KEYED.contains(&written) {
        kind.error(
            format!("a policy of type `{written}` cannot stand in `{}`", within.name()),
            format!("use one of {}", within.allowed()),
        );
    } else {
        let help = match nearest(written, SIMPLE.into_iter().chain(KEYED).chain(HOLDING)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use one of {}", within.allowed()),
        };
        kind.error(format!("there is no policy of type {}", shown(written)), help);
    }
    false
}

fn of_type(section: &Section<'_>, written: &str) -> Option<Rule> {
    match written {
        "always_sample" => Some(Rule::AlwaysSample),
        "trace_flags" => Some(Rule::TraceFlags),
        "latency" => latency(&section.section_or_empty("latency")),
        "probabilistic" => probabilistic(&section.section_or_empty("probabilistic")),
        "status_code" => status_code(&section.section_or_empty("status_code")),
        "numeric_attribute" => numeric_attribute(&section.section_or_empty("numeric_attribute")),
        "string_attribute" => string_attribute(&section.section_or_empty("string_attribute")),
        "boolean_attribute" => boolean_attribute(&section.section_or_empty("boolean_attribute")),
        "span_count" => span_count(&section.section_or_empty("span_count")),
        "trace_state" => trace_state(&section.section_or_empty("trace_state")),
        "ottl_condition" => ottl_condition(&section.section_or_empty("ottl_condition")),
        "rate_limiting" => {
            let (spans_per_second, burst_spans) = rate(&section.section_or_empty("rate_limiting"), "spans_per_second")?;
            Some(Rule::RateLimiting { spans_per_second, burst_spans })
        }
        "bytes_limiting" => {
            let (bytes_per_second, burst_bytes) =
                rate(&section.section_or_empty("bytes_limiting"), "bytes_per_second")?;
            Some(Rule::BytesLimiting { bytes_per_second, burst_bytes })
        }
        "dynamic" => dynamic(&section.section_or_empty("dynamic"), goal_rate),
        "throughput" => dynamic(&section.section_or_empty("throughput"), goal_throughput),
        "and" => Some(Rule::And(inner(&section.section_or_empty("and"), "and_sub_policy", Within::And)?)),
        "drop" => Some(Rule::Drop(inner(&section.section_or_empty("drop"), "drop_sub_policy", Within::Drop)?)),
        "not" => not(&section.section_or_empty("not")),
        "composite" => composite(&section.section_or_empty("composite")),
        _ => unreachable!("is_allowed knows every type"),
    }
}

/// Settings under the keys of other types: a sign of a wrong `type`, and without effect in the Collector too.
fn other_settings(section: &Section<'_>, written: &str) {
    for key in SIMPLE.into_iter().chain(KEYED).chain(HOLDING) {
        let Some(field) = section.field(key) else {
            continue;
        };
        if key != written && !field.node.is_null() {
            field.warning(
                format!("has no effect: the policy's type is {}", shown(written)),
                format!("remove it, or write `type: {key}`"),
            );
        }
    }
}

fn latency(settings: &Section<'_>) -> Option<Rule> {
    let milliseconds = |key| whole(settings, key, i64::MAX as u64).unwrap_or(0);
    let threshold_ms = milliseconds("threshold_ms");
    let upper_threshold_ms = Some(milliseconds("upper_threshold_ms")).filter(|upper| *upper > 0);
    if upper_threshold_ms.is_some_and(|upper| upper <= threshold_ms)
        && let Some(field) = settings.field("upper_threshold_ms")
    {
        field.error(
            format!("the upper threshold is not above `threshold_ms` ({threshold_ms}); no trace would match"),
            format!("raise it above {threshold_ms}, or remove it"),
        );
    }
    Some(Rule::Latency { threshold_ms, upper_threshold_ms })
}

fn probabilistic(settings: &Section<'_>) -> Option<Rule> {
    let hash_salt = settings.text("hash_salt").unwrap_or_else(|| HASH_SALT.to_owned());
    let written = settings.field("sampling_percentage");
    let Some(field) = written.filter(|field| !field.node.is_null()) else {
        settings.error(
            "`sampling_percentage` is missing; nothing would be sampled",
            "add `sampling_percentage:` under `probabilistic:`, from 0 to 100",
        );
        return None;
    };
    let percentage = field.float()?;
    if !(0.0..=100.0).contains(&percentage) {
        let bound = percentage.clamp(0.0, 100.0);
        field.warning(format!("{percentage} percent counts as {bound}"), "write a number from 0 to 100");
    }
    Some(Rule::Probabilistic { hash_salt, sampling_percentage: percentage.clamp(0.0, 100.0) })
}

fn status_code(settings: &Section<'_>) -> Option<Rule> {
    let codes = settings.field("status_codes").map(|field| field.texts()).unwrap_or_default();
    if codes.is_empty() {
        settings.error("no status code is given", "add `status_codes: [ERROR]` under `status_code:`");
        return None;
    }
    let (mut ok, mut error, mut unset) = (false, false, false);
    for (code, item) in codes {
        match code.as_str() {
            "OK" => ok = true,
            "ERROR" => error = true,
            "UNSET" => unset = true,
            _ => item.expected("one of OK, ERROR, UNSET", "write the code in capital letters"),
        }
    }
    Some(Rule::StatusCode { ok, error, unset })
}

fn numeric_attribute(settings: &Section<'_>) -> Option<Rule> {
    let key = key(settings, "the attribute");
    let min = settings.field("min_value").and_then(|field| number(&field));
    let max = settings.field("max_value").and_then(|field| number(&field));
    let invert_match = settings.boolean("invert_match", false);
    let double = |number| match number {
        Number::Int(number) => number as f64,
        Number::Double(number) => number,
    };
    if min.is_none() && max.is_none() {
        // A value that is no number was reported.
        let is_given = |key| settings.field(key).is_some_and(|field| !field.node.is_null());
        if !is_given("min_value") && !is_given("max_value") {
            settings.error("neither `min_value` nor `max_value` is given", "add one of them or both; 0 is a value");
        }
        return None;
    }
    if let (Some(min), Some(max)) = (min, max)
        && double(min) > double(max)
    {
        settings.error("`min_value` is above `max_value`; no number is between them", "exchange them");
    }
    Some(Rule::Attribute { key: key?, test: AttributeTest::Number { min, max }, invert_match })
}

fn string_attribute(settings: &Section<'_>) -> Option<Rule> {
    let key = key(settings, "the attribute");
    let is_pattern = settings.boolean("enabled_regex_matching", false);
    // Nothing is cached: an answer is found once per span, or per resource.
    settings.u32("cache_max_size", 0, 0);
    let invert_match = settings.boolean("invert_match", false);
    let values = values(settings, if is_pattern { PATTERNS_MAX } else { VALUES_MAX })?;
    let test = if is_pattern {
        let patterns = values.iter().filter_map(|(value, item)| match Pattern::new(value) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                item.error(format!("the pattern {error}"), "write it in the syntax of RE2, as for the Collector");
                None
            }
        });
        AttributeTest::Pattern(patterns.collect())
    } else {
        for (_, item) in values.iter().filter(|(value, _)| value.is_empty()) {
            item.warning("the empty text matches no attribute", "remove it");
        }
        AttributeTest::Text(values.into_iter().map(|(value, _)| value).filter(|value| !value.is_empty()).collect())
    };
    Some(Rule::Attribute { key: key?, test, invert_match })
}

fn boolean_attribute(settings: &Section<'_>) -> Option<Rule> {
    let key = key(settings, "the attribute");
    let test = AttributeTest::Bool(settings.boolean("value", false));
    let invert_match = settings.boolean("invert_match", false);
    Some(Rule::Attribute { key: key?, test, invert_match })
}

fn trace_state(settings: &Section<'_>) -> Option<Rule> {
    let key = key(settings, "a member of the trace state");
    let values = values(settings, VALUES_MAX)?.into_iter().map(|(value, _)| value).collect();
    Some(Rule::TraceState { key: key?, values })
}

fn ottl_condition(settings: &Section<'_>) -> Option<Rule> {
    // The Collector's default is the empty text, which it takes for `silent`.
    let error_mode = statements::error_mode(settings, ErrorMode::Silent);
    let conditions = |key, context| {
        let items = settings.field(key).map(|field| field.items()).unwrap_or_default();
        if items.len() > CONDITIONS_MAX {
            settings.error(format!("more than {CONDITIONS_MAX} conditions"), "combine some of them by `or`");
            return None;
        }
        // Not one by one: what is wrong with each of them is to be said.
        let checked: Vec<_> = items.iter().map(|item| statements::senderless_condition(item, context)).collect();
        checked.into_iter().collect::<Option<Vec<String>>>()
    };
    let (spans, span_events) = (conditions("span", Context::Span), conditions("spanevent", Context::SpanEvent));
    let (spans, span_events) = (spans?, span_events?);
    if spans.is_empty() && span_events.is_empty() {
        settings.error("no condition is given", "add `span:` or `spanevent:` with a list of conditions");
        return None;
    }
    Some(Rule::OttlCondition { spans, span_events, counts_errors: error_mode == ErrorMode::Propagate })
}

fn span_count(settings: &Section<'_>) -> Option<Rule> {
    let spans_min = settings.u32("min_spans", 0, 0);
    let spans_max = Some(settings.u32("max_spans", 0, 0)).filter(|most| *most > 0);
    if spans_max.is_some_and(|most| most < spans_min)
        && let Some(field) = settings.field("max_spans")
    {
        field.error(
            format!("`max_spans` is below `min_spans` ({spans_min}); no trace would match"),
            format!("raise it to {spans_min} or more, or remove it"),
        );
    }
    Some(Rule::SpanCount { spans_min, spans_max })
}

/// A share of each key's traces; `goal` reads what is wanted of all of them.
fn dynamic(settings: &Section<'_>, goal: fn(&Section<'_>) -> Option<Goal>) -> Option<Rule> {
    let goal = goal(settings);
    let keys = settings.field("key_attributes").map(|field| field.texts()).unwrap_or_default();
    for (_, item) in keys.iter().filter(|(key, _)| key.is_empty()) {
        item.error("the name of an attribute is empty", "remove it");
    }
    if keys.is_empty() && goal.is_some() {
        settings.warning(
            "no `key_attributes`: all traces have one key, and none is rare",
            "add `key_attributes:` with attributes that tell kinds of traces apart, such as `[service.name, http.route]`",
        );
    }
    let interval_ns = settings.duration_ns("adjustment_interval", ADJUSTMENT_INTERVAL_NS);
    if let Some(field) = settings.field("adjustment_interval").filter(|_| interval_ns < INTERVAL_NS_MIN) {
        field.error("the shares are adjusted at most once in 100ms", "write `100ms` or more");
    }
    let keys_max = settings.field("max_keys").and_then(|field| field.int(1..=KEYS_MAX));
    let keys_max = keys_max.map_or(KEYS_DEFAULT, |keys| usize::try_from(keys).expect("the range says so"));
    let interval_ns = interval_ns.max(INTERVAL_NS_MIN);
    Some(Rule::Dynamic { goal: goal?, keys: keys.into_iter().map(|(key, _)| key).collect(), interval_ns, keys_max })
}

fn goal_rate(settings: &Section<'_>) -> Option<Goal> {
    let Some(field) = settings.field("goal_rate").filter(|field| !field.node.is_null()) else {
        settings.error("`goal_rate` is missing", "add `goal_rate: 10` to keep one of ten traces");
        return None;
    };
    let rate = field.float()?;
    if rate < 1.0 {
        field.error(format!("expected a number of 1 or more, found {rate}"), "write 10 to keep one of ten traces");
        return None;
    }
    Some(Goal::OneOf(rate))
}

fn goal_throughput(settings: &Section<'_>) -> Option<Goal> {
    let Some(field) = settings.field("goal_spans_per_second").filter(|field| !field.node.is_null()) else {
        settings.error("`goal_spans_per_second` is missing", "add `goal_spans_per_second:`, above 0");
        return None;
    };
    let goal = field.float()?;
    if goal <= 0.0 {
        field.error(format!("expected a number above 0, found {goal}"), "write how many spans of all keys to keep");
        return None;
    }
    Some(Goal::SpansPerSecond(goal))
}

/// The rate under `key`, and its burst.
fn rate(settings: &Section<'_>, key: &'static str) -> Option<(u64, u64)> {
    let burst = whole(settings, "burst_capacity", i64::MAX as u64).filter(|burst| *burst > 0);
    let per_second = whole(settings, key, i64::MAX as u64).filter(|per_second| *per_second > 0);
    let Some(per_second) = per_second else {
        settings
            .error(format!("`{key}` is missing or 0; nothing would be sampled"), format!("add `{key}:`, 1 or more"));
        return None;
    };
    Some((per_second, burst.unwrap_or(per_second.saturating_mul(2))))
}

/// The rules of a list of policies under `key`.
fn inner(settings: &Section<'_>, key: &'static str, within: Within) -> Option<Vec<Rule>> {
    let items = settings.field(key).map(|field| field.items()).unwrap_or_default();
    if !is_number_of_policies(settings, key, items.len()) {
        return None;
    }
    let rules = items.iter().map(|item| {
        let section = item.section()?;
        section.field("name");
        rule(item, &section, within)
    });
    // Not one by one: what is wrong with each of them is to be said.
    let rules: Vec<Option<Rule>> = rules.collect();
    rules.into_iter().collect()
}

fn is_number_of_policies(settings: &Section<'_>, key: &'static str, count: usize) -> bool {
    if count == 0 {
        settings.error(format!("no policy is given under `{key}`"), format!("add `{key}:` with a list of policies"));
    } else if count > INNER_MAX {
        settings.error(format!("more than {INNER_MAX} policies in one"), "divide them among several policies");
    }
    (1..=INNER_MAX).contains(&count)
}

fn not(settings: &Section<'_>) -> Option<Rule> {
    let Some(field) = settings.field("not_sub_policy").filter(|field| !field.node.is_null()) else {
        settings.error("no policy is given under `not_sub_policy`", "add `not_sub_policy: {name, type}`");
        return None;
    };
    let section = field.section()?;
    section.field("name");
    Some(Rule::Not(Box::new(rule(&field, &section, Within::Not)?)))
}

/// A part of a composite while it is read.
struct Part {
    name: String,
    rule: Option<Rule>,
    percent: Option<u32>,
}

fn composite(settings: &Section<'_>) -> Option<Rule> {
    let total = settings.u32("max_total_spans_per_second", 1, 0);
    if total == 0 {
        settings.error(
            "`max_total_spans_per_second` is missing; nothing would be sampled",
            "add `max_total_spans_per_second:`, 1 or more",
        );
    }
    let items = settings.field("composite_sub_policy").map(|field| field.items()).unwrap_or_default();
    if !is_number_of_policies(settings, "composite_sub_policy", items.len()) {
        settings.ignored(&["policy_order", "rate_allocation"]);
        return None;
    }
    let mut parts: Vec<Part> = items.iter().filter_map(part).collect();
    let is_complete = parts.len() == items.len();
    allocate(settings, &mut parts);
    let parts = in_order(settings, parts);
    let equal_share = total / u32::try_from(parts.len().max(1)).expect("at most 64");
    let parts = parts.into_iter().map(|part| {
        let share = |percent: u32| (u64::from(total) * u64::from(percent) / 100) as u32;
        let spans_per_second = part.percent.filter(|percent| *percent > 0).map_or(equal_share, share);
        Some(CompositePart { rule: part.rule?, spans_per_second })
    });
    let parts: Option<Vec<_>> = parts.collect();
    parts.filter(|_| is_complete && total > 0).map(|parts| Rule::Composite { spans_per_second_max: total, parts })
}

fn part(item: &Field<'_>) -> Option<Part> {
    let section = item.section()?;
    let name = section.text("name");
    if name.is_none() {
        item.error("`name` is missing", "add `name:`; `policy_order` and `rate_allocation` call the policy by it");
    }
    let rule = rule(item, &section, Within::Composite);
    Some(Part { name: name.unwrap_or_default(), rule, percent: None })
}

/// Reads `rate_allocation` into the parts.
fn allocate(settings: &Section<'_>, parts: &mut [Part]) {
    let Some(field) = settings.field("rate_allocation") else {
        return;
    };
    let mut sum = 0;
    for item in field.items() {
        let Some(section) = item.section() else {
            continue;
        };
        let percent = section.field("percent").and_then(|field| field.int(0..=100)).unwrap_or(0) as u32;
        let Some(name_field) = section.field("policy") else {
            item.error("`policy` is missing", "add `policy:` with the name of a policy of this composite");
            continue;
        };
        let name = name_field.text().unwrap_or_default();
        let Some(part) = known_part(&name_field, &name, parts) else {
            continue;
        };
        if parts[part].percent.replace(percent).is_some() {
            name_field.error(format!("{} has an allocation already", shown(&name)), "remove one of them");
        }
        sum += percent;
    }
    if sum > 100 {
        field.warning(
            format!("the allocations add up to {sum} percent; all together stay below `max_total_spans_per_second`"),
            "lower them to 100 percent in sum",
        );
    }
}

/// The parts in the order of `policy_order`; what it does not name comes behind, as it stands.
fn in_order(settings: &Section<'_>, parts: Vec<Part>) -> Vec<Part> {
    let order = settings.field("policy_order").map(|field| field.texts()).unwrap_or_default();
    let mut named: Vec<usize> = Vec::new();
    for (name, item) in &order {
        match known_part(item, name, &parts) {
            Some(part) if named.contains(&part) => item.error(format!("{} is named twice", shown(name)), "remove one"),
            Some(part) => named.push(part),
            None => {}
        }
    }
    let place = |part: usize| named.iter().position(|named| *named == part).unwrap_or(usize::MAX);
    let mut parts: Vec<(usize, Part)> = parts.into_iter().enumerate().collect();
    // Stable.
    parts.sort_by_key(|(position, _)| place(*position));
    parts.into_iter().map(|(_, part)| part).collect()
}

fn known_part(field: &Field<'_>, name: &str, parts: &[Part]) -> Option<usize> {
    let position = parts.iter().position(|part| part.name == name);
    if position.is_none() {
        let help = match nearest(name, parts.iter().map(|part| part.name.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name a policy of `composite_sub_policy`".to_owned(),
        };
        field.error(format!("there is no policy called {} in this composite", shown(name)), help);
    }
    position
}

fn key(settings: &Section<'_>, of_what: &str) -> Option<String> {
    let key = settings.text("key");
    if key.is_none() {
        settings.error("`key` is missing", format!("add `key:` with the name of {of_what}"));
    }
    key
}

/// The texts under `values`, at least one.
fn values<'a>(settings: &Section<'a>, count_max: usize) -> Option<Vec<(String, Field<'a>)>> {
    let values = settings.field("values").map(|field| field.texts()).unwrap_or_default();
    if values.is_empty() {
        settings.error("no value is given", "add `values:` with a list of texts");
    } else if values.len() > count_max {
        settings.error(format!("more than {count_max} values"), "divide them among several policies");
    }
    (1..=count_max).contains(&values.len()).then_some(values)
}

/// A whole number of 0 or more.
fn whole(settings: &Section<'_>, key: &'static str, most: u64) -> Option<u64> {
    let number = settings.field(key)?.int(0..=most.into())?;
    Some(u64::try_from(number).expect("the range says so"))
}

/// A number of any kind, whole ones exactly.
fn number(field: &Field<'_>) -> Option<Number> {
    match field.meaning() {
        Some(Meaning::Int(number)) if i64::try_from(number).is_ok() => Some(Number::Int(number as i64)),
        _ => field.float().map(Number::Double),
    }
}
