//! `processors.tail_sampling`: when a trace is decided, and by which policies.

use std::collections::HashMap;

use sampling::settings::{Policy, Rule, Settings};

use crate::config::checked::ProcessorKind;
use crate::config::diagnostic::{Place, nearest, shown};
use crate::config::section::{Field, Idle, Section};

const DECISION_WAIT_NS: u64 = 30_000_000_000;
/// Salt of the Collector where none is given.
const HASH_SALT: &str = "default-hash-seed";
/// Conditions are bits of a small fixed record.
const POLICIES_MAX: usize = 256;
/// A policy's name is a label of its metrics.
const NAME_BYTES_MAX: usize = 256;

/// Policy types that run.
const BUILT: [&str; 4] = ["always_sample", "latency", "probabilistic", "status_code"];
/// Policy types of the Collector that do not run yet; each keeps its settings under a key of its own name.
const LATER: [&str; 13] = [
    "numeric_attribute",
    "string_attribute",
    "boolean_attribute",
    "rate_limiting",
    "bytes_limiting",
    "span_count",
    "trace_state",
    "trace_flags",
    "ottl_condition",
    "and",
    "not",
    "drop",
    "composite",
];

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let decision_wait_ns = section.duration_ns("decision_wait", DECISION_WAIT_NS);
    let after_root_ns = section.duration_ns("decision_wait_after_root_received", 0);
    let traces_max = section.field("num_traces").and_then(|field| field.int(1..=u32::MAX.into()));
    let sample_on_first_match = section.boolean("sample_on_first_match", false);
    keys_not_built(&section);
    let policies = policies(&section);
    Some(ProcessorKind::TailSampling(Settings {
        decision_wait_ns,
        decision_wait_after_root_ns: Some(after_root_ns).filter(|wait| *wait > 0),
        traces_max: traces_max.map(|traces| u32::try_from(traces).expect("the range says so")),
        sample_on_first_match,
        policies,
    }))
}

fn keys_not_built(section: &Section<'_>) {
    // Tables grow as needed.
    section.u32("expected_new_traces_per_sec", 0, 0);
    section.no_effect("num_shards", Idle::Zero, "remove it; `service.engine.cores` says how many shards there are");
    section.no_effect(
        "block_on_overflow",
        Idle::Bool(false),
        "remove it: at `num_traces` the oldest trace is decided early",
    );
    section.no_effect("drop_pending_traces_on_shutdown", Idle::Bool(false), "remove it: pending traces are decided");
    section.no_effect("maximum_trace_size_bytes", Idle::Zero, "remove it; memory is bounded by the budget");
    if let Some(cache) = section.section("decision_cache") {
        for key in ["sampled_cache_size", "non_sampled_cache_size"] {
            cache.no_effect(key, Idle::Zero, "remove it: how long decisions are remembered is bounded in bytes");
        }
    }
    section.unsupported("tail_storage", Idle::Zero, "pending traces on disk", "remove it: they are kept in memory");
    section.unsupported(
        "sampling_strategy",
        Idle::Text(&["trace-complete"]),
        "strategies other than `trace-complete`",
        "write `sampling_strategy: trace-complete`, or remove the key",
    );
}

fn policies(section: &Section<'_>) -> Vec<Policy> {
    let Some(field) = section.field("policies") else {
        section.error(
            "`policies` is missing; every trace would be dropped",
            "add `policies:` with a list of `{name, type}`",
        );
        return Vec::new();
    };
    let items = field.items();
    if items.is_empty() {
        field.error(
            "there is no policy; every trace would be dropped",
            "add one, such as `- {name: all, type: always_sample}`",
        );
    }
    if items.len() > POLICIES_MAX {
        field.error(format!("more than {POLICIES_MAX} policies"), "combine policies of one type");
        return Vec::new();
    }
    let mut names: HashMap<String, Place> = HashMap::new();
    let mut policies = Vec::with_capacity(items.len());
    for item in items {
        let Some((policy, name_place)) = policy(&item) else {
            continue;
        };
        if let Some(first) = names.get(&policy.name) {
            item.report.error(
                &name_place,
                &item.path,
                format!("the name {} is taken", shown(&policy.name)),
                format!("give each policy a name of its own; the first is in line {}", first.line()),
            );
        }
        names.insert(policy.name.clone(), name_place);
        policies.push(policy);
    }
    policies
}

fn policy(field: &Field<'_>) -> Option<(Policy, Place)> {
    let section = field.section()?;
    let name_field = section.field("name");
    let name = name_field.as_ref().and_then(|field| field.text());
    let kind = section.field("type");
    let written = kind.as_ref().and_then(|field| field.text()).unwrap_or_default();
    let rule = match &kind {
        Some(kind) if !written.is_empty() => rule(&section, kind, &written),
        _ => {
            field.error("`type` is missing", format!("add `type:` with one of {}", BUILT.join(", ")));
            None
        }
    };
    other_settings(&section, &written);
    let (name, name_field) = name.zip(name_field).filter(|(name, _)| !name.is_empty()).or_else(|| {
        field.error(
            "`name` is missing",
            "add `name:`; it labels the policy's metrics and names the reason of its traces",
        );
        None
    })?;
    if name.len() > NAME_BYTES_MAX {
        name_field
            .error(format!("the name is longer than {NAME_BYTES_MAX} bytes"), "shorten it: it is a label of metrics");
    }
    Some((Policy { name, rule: rule? }, name_field.place().clone()))
}

fn rule(section: &Section<'_>, kind: &Field<'_>, written: &str) -> Option<Rule> {
    match written {
        "always_sample" => Some(Rule::AlwaysSample),
        "latency" => latency(section),
        "probabilistic" => probabilistic(section),
        "status_code" => status_code(section),
        written if LATER.contains(&written) => {
            kind.lacking(
                format!("policies of type `{written}` are not built yet"),
                format!("use one of {}", BUILT.join(", ")),
            );
            None
        }
        written => {
            let help = match nearest(written, BUILT.into_iter().chain(LATER)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of {}", BUILT.join(", ")),
            };
            kind.error(format!("there is no policy of type {}", shown(written)), help);
            None
        }
    }
}

/// Settings under the keys of other types: a sign of a wrong `type`, and without effect in the Collector too.
fn other_settings(section: &Section<'_>, written: &str) {
    for key in BUILT.into_iter().chain(LATER) {
        // Settings of a type that is not built are not looked into.
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

fn latency(section: &Section<'_>) -> Option<Rule> {
    let settings = section.section_or_empty("latency");
    let milliseconds = |key| {
        let number = settings.field(key).and_then(|field| field.int(0..=i64::MAX.into()));
        number.map_or(0, |number| u64::try_from(number).expect("the range says so"))
    };
    let threshold_ms = milliseconds("threshold_ms");
    let upper_threshold_ms = Some(milliseconds("upper_threshold_ms")).filter(|upper| *upper > 0);
    if upper_threshold_ms.is_some_and(|upper| upper < threshold_ms)
        && let Some(field) = settings.field("upper_threshold_ms")
    {
        field.error(
            format!("the upper threshold is below `threshold_ms` ({threshold_ms}); no trace would match"),
            format!("raise it above {threshold_ms}, or remove it"),
        );
    }
    Some(Rule::Latency { threshold_ms, upper_threshold_ms })
}

fn probabilistic(section: &Section<'_>) -> Option<Rule> {
    let settings = section.section_or_empty("probabilistic");
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

fn status_code(section: &Section<'_>) -> Option<Rule> {
    let settings = section.section_or_empty("status_code");
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
