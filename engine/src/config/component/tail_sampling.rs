//! `processors.tail_sampling`: when a trace is decided, and by which policies.

use std::collections::HashMap;

use sampling::settings::{
    BYTES_PER_DROPPED, BYTES_PER_KEPT, KEY_ATTRIBUTES_MAX, Policy, QUESTIONS_MAX, Rule, Settings,
};

use super::file_storage;
use super::stress_relief;
use super::tail_policies::{self, Within};
use crate::config::checked::ProcessorKind;
use crate::config::diagnostic::{Place, shown};
use crate::config::section::{Field, Idle, Section};

const DECISION_WAIT_NS: u64 = 30_000_000_000;
/// Each has metrics of its own, and is asked of every trace.
const POLICIES_MAX: usize = 256;
/// A policy's name is a label of its metrics.
const NAME_BYTES_MAX: usize = 256;

/// Remembered decisions of either kind: 800 MB of dropped traces, 6.4 GB of kept ones.
const DECISIONS_MAX: i128 = 100_000_000;
const COMPLETE_QUIET_NS: u64 = 1_000_000_000;

/// Reads the settings.
pub(crate) fn check(field: &Field<'_>) -> Option<ProcessorKind> {
    let section = field.section()?;
    let decision_wait_ns = section.duration_ns("decision_wait", DECISION_WAIT_NS);
    let after_root_ns = section.duration_ns("decision_wait_after_root_received", 0);
    let traces_max = section.field("num_traces").and_then(|field| field.int(1..=u32::MAX.into()));
    let trace_bytes_max = section.field("maximum_trace_size_bytes").and_then(|field| field.int(0..=u64::MAX.into()));
    let trace_bytes_max = trace_bytes_max.map(|bytes| u64::try_from(bytes).expect("the range says so"));
    let drop_pending_in_drain = section.boolean("drop_pending_traces_on_shutdown", false);
    let sample_on_first_match = section.boolean("sample_on_first_match", false);
    let decide_when_certain = section.boolean("decide_when_certain", false);
    let complete_quiet_ns = complete_quiet_ns(&section);
    let block_on_overflow = section.boolean("block_on_overflow", false);
    if block_on_overflow
        && traces_max.is_none()
        && let Some(field) = section.field("block_on_overflow")
    {
        field.warning("has no effect without `num_traces`", "set `num_traces`, or remove it: bytes limit the input");
    }
    let (kept_memory_bytes, dropped_memory_bytes) = decision_memory(&section);
    let write_threshold = section.boolean("write_threshold", false);
    let write_reason = section.boolean("write_reason", false);
    let stress_relief = stress_relief::check(&section, write_threshold);
    // Who names it is looked up with all other storages.
    file_storage::named_by(&section);
    keys_not_built(&section);
    let policies = policies(&section, write_threshold);
    let settings = Settings {
        decision_wait_ns,
        decision_wait_after_root_ns: Some(after_root_ns).filter(|wait| *wait > 0),
        traces_max: traces_max.map(|traces| u32::try_from(traces).expect("the range says so")),
        trace_bytes_max: trace_bytes_max.filter(|bytes| *bytes > 0),
        drop_pending_in_drain,
        write_threshold,
        write_reason,
        stress_relief,
        sample_on_first_match,
        decide_when_certain,
        complete_quiet_ns,
        block_on_overflow,
        kept_memory_bytes,
        dropped_memory_bytes,
        policies,
    };
    let questions = settings.questions();
    if questions > QUESTIONS_MAX
        && let Some(field) = section.field("policies")
    {
        field.error(
            format!("the policies ask {questions} different questions about attributes, at most {QUESTIONS_MAX} fit"),
            "put values that are asked of one attribute into one policy's list; equal questions count once",
        );
    }
    let keys = settings.key_attributes().len();
    if keys > KEY_ATTRIBUTES_MAX
        && let Some(field) = section.field("policies")
    {
        field.error(
            format!("the keys of the policies name {keys} different attributes, at most {KEY_ATTRIBUTES_MAX} fit"),
            "use the same attributes for several policies; equal ones count once",
        );
    }
    Some(ProcessorKind::TailSampling(settings))
}

/// `decide_on_complete: {quiet: 1s}`; off unless it is written.
fn complete_quiet_ns(section: &Section<'_>) -> Option<u64> {
    let complete = section.section("decide_on_complete")?;
    let quiet_ns = complete.duration_ns("quiet", COMPLETE_QUIET_NS);
    if quiet_ns == 0
        && let Some(field) = complete.field("quiet")
    {
        field.error(
            "a trace is never quiet for 0",
            "write how long no span may come before a trace counts as complete, such as `1s`",
        );
    }
    Some(quiet_ns)
}

/// Bytes for kept and for dropped traces; `None`: as many as come with the sampler.
fn decision_memory(section: &Section<'_>) -> (Option<u64>, Option<u64>) {
    let Some(cache) = section.section("decision_cache") else {
        return (None, None);
    };
    let bytes = |key, bytes_per_trace: usize| {
        let traces = cache.field(key).and_then(|field| field.int(0..=DECISIONS_MAX)).filter(|traces| *traces > 0)?;
        Some(u64::try_from(traces).expect("the range says so") * bytes_per_trace as u64)
    };
    (bytes("sampled_cache_size", BYTES_PER_KEPT), bytes("non_sampled_cache_size", BYTES_PER_DROPPED))
}

fn keys_not_built(section: &Section<'_>) {
    // Tables grow as needed.
    section.u32("expected_new_traces_per_sec", 0, 0);
    section.no_effect("num_shards", Idle::Zero, "remove it; `service.engine.cores` says how many shards there are");
    let instead = "write `storage: file_storage/...`: what is undecided stays in memory, and on disk as well";
    section.unsupported("tail_storage", Idle::Zero, "pending traces outside of memory", instead);
    section.unsupported(
        "sampling_strategy",
        Idle::Text(&["trace-complete"]),
        "strategies other than `trace-complete`",
        "write `sampling_strategy: trace-complete`, or remove the key",
    );
}

fn policies(section: &Section<'_>, write_threshold: bool) -> Vec<Policy> {
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
    let mut salt = None;
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
        if write_threshold {
            has_a_threshold(&item, &policy.rule, &mut salt);
        }
        names.insert(policy.name.clone(), name_place);
        policies.push(policy);
    }
    if !policies.is_empty() && policies.iter().all(|policy| matches!(policy.rule, Rule::DryRun(_))) {
        field.error(
            "every policy has `dry_run: true`, so nobody decides; every trace would be dropped",
            "add one that decides, such as `- {name: all, type: always_sample}`",
        );
    }
    policies
}

/// With `write_threshold` each decision has one threshold. `salt` is that of the first policy that hashes trace ids.
fn has_a_threshold(field: &Field<'_>, rule: &Rule, salt: &mut Option<String>) {
    if rule.turns_chance_round() {
        field.error(
            "what is left over by chance has no threshold, which `write_threshold` needs",
            "let `not` and `drop` hold policies about contents only",
        );
    }
    for other in salts(rule) {
        if salt.get_or_insert_with(|| other.to_owned()) != other {
            field.warning(
                "`hash_salt` has no effect beside that of another policy: with `write_threshold` a trace has one randomness",
                "write the same `hash_salt` everywhere",
            );
        }
    }
}

fn salts(rule: &Rule) -> Vec<&str> {
    match rule {
        Rule::Probabilistic { hash_salt, .. } => vec![hash_salt],
        Rule::And(rules) | Rule::Drop(rules) => rules.iter().flat_map(salts).collect(),
        Rule::Not(rule) => salts(rule),
        Rule::Composite { parts, .. } => parts.iter().flat_map(|part| salts(&part.rule)).collect(),
        _ => Vec::new(),
    }
}

fn policy(field: &Field<'_>) -> Option<(Policy, Place)> {
    let section = field.section()?;
    let name_field = section.field("name");
    let name = name_field.as_ref().and_then(|field| field.text());
    let dry_run = section.boolean("dry_run", false);
    let rule = tail_policies::rule(field, &section, Within::Policies);
    let rule = rule.map(|rule| if dry_run { Rule::DryRun(Box::new(rule)) } else { rule });
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
