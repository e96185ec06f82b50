//! Where a running gateway loses spans or holds them up: two readings of its metrics page in, findings out.
//!
//! ```text
//! senders -> receiver -> memory -> shards -> processors -> sampling -> queue -> exporter -> backend
//! ```
//!
//! The idea: what is lost is counted where it is lost, so a table of counters that must not grow finds most of it; the
//! rest (nothing arrives, a queue fills, decisions are late, one shard is busy) compares two figures. A failure shows
//! upstream too, as a backend that is down fills the queue and a full queue refuses at the edge; so the finding furthest
//! down the stream is the one to begin with. Works with the Collector's page as well: names are the same. Pure.

use std::collections::BTreeMap;

use super::finding::{Examination, Finding, Level};
use super::pages::{Growth, Labels, Pages};

/// Stages in the order in which data flows; the last one with a problem is where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Process,
    Receiver,
    Memory,
    Shard,
    Processor,
    Sampling,
    Queue,
    Exporter,
}

/// A counter that does not grow while all is well.
struct Rule {
    stage: Stage,
    /// Plain name; `{items}` stands for spans, metric_points and log_records.
    counter: &'static str,
    /// Label and value that a series must have.
    only: Option<(&'static str, &'static str)>,
    /// Not asked where the page has this metric, which says the same and why.
    unless: Option<&'static str>,
    /// Words of the place, and labels behind them.
    place: &'static str,
    by: &'static [&'static str],
    /// How bad it is when it grows.
    level: Level,
    /// What is counted.
    what: &'static str,
    /// What to do.
    remedy: &'static str,
}

/// What every rule of receivers has.
const RECEIVER: Rule = Rule {
    stage: Stage::Receiver,
    counter: "otelcol_receiver_rejected_requests",
    only: None,
    unless: None,
    place: "receiver",
    by: &["receiver", "transport"],
    level: Level::Problem,
    what: "",
    remedy: "",
};
const REFUSED: Rule = Rule { counter: "otelcol_receiver_refused_requests", ..RECEIVER };
const SAMPLING: Rule = Rule { stage: Stage::Sampling, place: "tail_sampling", by: &["processor"], ..RECEIVER };

const RULES: &[Rule] = &[
    Rule {
        only: Some(("reason", "memory")),
        what: "requests refused because memory is short",
        remedy: "see what holds the memory below; raise memory_limiter.limit_mib and the container's limit, shorten \
                 tail_sampling.decision_wait, or add cores. Senders come again, so this is a loss only where they give up",
        ..REFUSED
    },
    Rule {
        only: Some(("reason", "queue")),
        what: "requests refused because a queue behind is full",
        remedy: "see the queue and the exporter below: the backend takes less than arrives",
        ..REFUSED
    },
    Rule {
        only: Some(("reason", "draining")),
        level: Level::Warning,
        what: "requests refused because the gateway is stopping",
        remedy: "nothing, if a new one takes over; else start it again",
        ..REFUSED
    },
    Rule {
        counter: "otelcol_receiver_refused_{items}",
        what: "{items} refused",
        remedy: "senders must retry (retry_on_failure); memory or a queue below says why",
        ..RECEIVER
    },
    Rule {
        only: Some(("reason", "malformed")),
        what: "requests rejected because they are no OTLP",
        remedy: "our answer names what is wrong and is in the sender's log; then its version, or what stands between it and here",
        ..RECEIVER
    },
    Rule {
        only: Some(("reason", "too_large")),
        what: "requests rejected because they are too large",
        remedy: "smaller batches at the sender (send_batch_max_size), or max_recv_msg_size_mib (grpc) and \
                 max_request_body_size (http) here",
        ..RECEIVER
    },
    Rule {
        only: Some(("reason", "compression")),
        what: "requests rejected because of their compression",
        remedy: "gzip or zstd at the sender; our answer names the encoding and is in its log",
        ..RECEIVER
    },
    Rule {
        only: Some(("reason", "route")),
        what: "requests rejected because nothing is served at their path",
        remedy: "/v1/traces, /v1/metrics or /v1/logs at the port for HTTP (4318), gRPC at 4317, and a pipeline for the signal",
        ..RECEIVER
    },
    Rule {
        only: Some(("reason", "auth")),
        what: "requests rejected because the sender is not known",
        remedy: "the sender's credentials, or receivers.*.protocols.*.auth here",
        ..RECEIVER
    },
    Rule {
        only: Some(("reason", "internal")),
        what: "requests rejected because of a defect of ours",
        remedy: "report the log line with the panic",
        ..RECEIVER
    },
    Rule {
        counter: "otelcol_receiver_rejected_{items}",
        unless: Some("otelcol_receiver_rejected_requests"),
        what: "{items} rejected",
        remedy: "the sender's log has our answer, which names the reason",
        ..RECEIVER
    },
    Rule {
        counter: "otelcol_receiver_failed_{items}",
        unless: Some("otelcol_receiver_rejected_requests"),
        what: "{items} that could not be taken",
        remedy: "the gateway's log names the reason",
        ..RECEIVER
    },
    Rule {
        stage: Stage::Memory,
        counter: "otelcol_processor_refused_{items}",
        place: "processor",
        by: &["processor"],
        what: "{items} refused by a processor, as memory_limiter does at its soft limit",
        remedy: "raise limit_mib and the container's limit, shorten tail_sampling.decision_wait, or add replicas",
        ..RECEIVER
    },
    Rule {
        stage: Stage::Memory,
        counter: "otelcol_processor_memory_limiter_refused_{items}",
        unless: Some("otelcol_receiver_refused_requests"),
        place: "memory_limiter",
        by: &["processor"],
        what: "requests refused at the soft limit",
        remedy: "raise limit_mib and the container's limit, or shorten tail_sampling.decision_wait",
        ..RECEIVER
    },
    Rule {
        stage: Stage::Shard,
        counter: "tracegate_shard_caught_panics",
        place: "shards",
        by: &[],
        what: "panics",
        remedy: "report the log line: each is a defect of ours",
        ..RECEIVER
    },
    Rule {
        stage: Stage::Processor,
        counter: "otelcol_processor_dropped_{items}",
        place: "processor",
        by: &["processor"],
        what: "{items} lost inside a processor",
        remedy: "the gateway's log says why",
        ..RECEIVER
    },
    Rule {
        stage: Stage::Processor,
        counter: "tracegate_pipeline_shed_spans",
        place: "pipeline",
        by: &["pipeline", "exporter"],
        what: "spans given up by overload",
        remedy: "see the queue and the exporter below",
        ..RECEIVER
    },
    Rule {
        counter: "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early",
        what: "traces lost before they were decided, because the table was full",
        remedy: "raise tail_sampling.num_traces above (new traces a second) x (decision_wait in seconds)",
        ..SAMPLING
    },
    Rule {
        counter: "tracegate_tail_sampling_traces_decided_early",
        level: Level::Warning,
        what: "traces decided before their wait was over, because the table was full",
        remedy: "raise tail_sampling.num_traces above (new traces a second) x (decision_wait in seconds)",
        ..SAMPLING
    },
    Rule {
        counter: "otelcol_processor_tail_sampling_traces_dropped_too_large",
        what: "traces dropped unasked because they are too large",
        remedy: "raise tail_sampling.maximum_trace_size_bytes, or find who reuses a trace id",
        ..SAMPLING
    },
    Rule {
        counter: "otelcol_processor_tail_sampling_sampling_policy_evaluation_error",
        what: "policies that failed on a trace",
        remedy: "`tracegate explain TRACE_ID` shows what each policy said of a trace",
        ..SAMPLING
    },
    Rule {
        counter: "tracegate_tail_sampling_spans_without_trace_id",
        level: Level::Warning,
        what: "spans without a trace id, decided one by one",
        remedy: "the sender's instrumentation",
        ..SAMPLING
    },
    Rule {
        stage: Stage::Queue,
        counter: "otelcol_exporter_enqueue_failed_{items}",
        place: "queue of exporter",
        by: &["exporter"],
        what: "{items} lost because the queue was full",
        remedy: "a backend that takes more (see its exporter), or sending_queue.queue_size for short peaks",
        ..RECEIVER
    },
    Rule {
        stage: Stage::Exporter,
        counter: "otelcol_exporter_send_failed_{items}",
        place: "exporter",
        by: &["exporter"],
        what: "{items} given up: refused for good by the backend, or retried for too long",
        remedy: "the gateway's log has the backend's words; if they are about time, retry_on_failure.max_elapsed_time and \
                 timeout; `tracegate doctor --config FILE` tries the backend",
        ..RECEIVER
    },
    Rule {
        stage: Stage::Exporter,
        counter: "tracegate_kept_spans_left_out",
        level: Level::Warning,
        place: "exporter",
        by: &["exporter"],
        what: "spans not kept in memory because their trace is too large",
        remedy: "look at the trace where it is stored",
        ..RECEIVER
    },
    Rule {
        stage: Stage::Process,
        counter: "tracegate_log_lines_lost",
        level: Level::Warning,
        place: "log",
        by: &[],
        what: "log lines lost because the terminal or disk was behind",
        remedy: "service.telemetry.logs.level: warn, or a faster place for the log",
        ..RECEIVER
    },
];

/// What `{items}` stands for.
const ITEMS: [&str; 3] = ["spans", "metric_points", "log_records"];

/// Fill of a queue or of the budget that is worth a look, and that is one step from a loss.
const FILL_WARNING: f64 = 0.5;
const FILL_PROBLEM: f64 = 0.9;
/// Busy share of a shard, in percent, above which requests wait, and above which nothing is left.
const BUSY_WARNING: f64 = 80.0;
const BUSY_PROBLEM: f64 = 95.0;
/// Mean milliseconds of one tick of decisions; ticks come each second.
const TICK_WARNING_MS: f64 = 500.0;
const TICK_PROBLEM_MS: f64 = 1000.0;
/// Share of spans that come after their trace was decided.
const LATE_WARNING: f64 = 0.05;
/// Seconds for which a sender waits for its answer.
const ANSWER_WARNING_SECONDS: f64 = 1.0;
/// Age of what waits in a queue: past any peak, and before `max_elapsed_time` gives it up.
const AGE_WARNING_SECONDS: f64 = 60.0;
/// Mean seconds of one attempt to export.
const EXPORT_WARNING_SECONDS: f64 = 1.0;
/// Mean seconds by which decisions come late: a tick is one.
const LATENESS_WARNING_SECONDS: f64 = 2.0;
/// Readings this far apart show whether memory grows for ever rather than for a moment.
const GROWTH_SECONDS_MIN: f64 = 30.0;
/// Memory that grows so fast that the limit is this near is said.
const GROWTH_HORIZON_SECONDS: f64 = 3600.0;

/// Findings so far, with their stages.
struct Book<'a> {
    pages: &'a Pages,
    findings: Vec<(Stage, Finding)>,
}

/// Judges two readings.
pub fn examine(pages: &Pages) -> Examination {
    let mut book = Book { pages, findings: Vec::new() };
    book.process();
    RULES.iter().for_each(|rule| book.counter(rule));
    book.arrivals();
    book.answers();
    book.budget();
    book.resident_memory();
    book.shards();
    book.decisions();
    book.lateness();
    book.late_spans();
    book.queues();
    book.exporters();
    book.ledger();
    // The order of the stream; within a stage the order above.
    book.findings.sort_by_key(|(stage, _)| *stage);
    let conclusion = conclusion(&book.findings);
    Examination::new(book.findings.into_iter().map(|(_, finding)| finding).collect(), conclusion)
}

fn conclusion(findings: &[(Stage, Finding)]) -> String {
    let worst = findings.iter().map(|(_, finding)| finding.level).max().unwrap_or(Level::Ok);
    if worst == Level::Ok {
        return "Nothing is lost or late.".to_owned();
    }
    let mut bad = findings.iter().filter(|(_, finding)| finding.level == worst);
    let (first, last) = (bad.next(), bad.next_back());
    match (first, last) {
        (Some((upstream, _)), Some((stage, cause))) if upstream < stage => {
            format!("Begin with {}: what is above it may only follow from it.", cause.place)
        }
        (_, Some((_, finding))) | (Some((_, finding)), None) => format!("Begin with {}.", finding.place),
        (None, None) => unreachable!("the worst level is that of a finding"),
    }
}

impl Book<'_> {
    fn ok(&mut self, stage: Stage, place: impl Into<String>, found: impl Into<String>) {
        self.findings.push((stage, Finding::ok(place, found)));
    }

    fn bad(&mut self, stage: Stage, level: Level, place: impl Into<String>, said: [String; 3]) {
        self.findings.push((stage, Finding::new(level, place, said)));
    }

    fn grown(&self, growth: Growth) -> String {
        let (seconds, ever) = (self.pages.seconds, growth.ever);
        match growth.now > 0.0 {
            true => format!("{} in {seconds:.0} s ({:.0}/s), {ever} since the start", growth.now, growth.now / seconds),
            false => format!("none in {seconds:.0} s, but {ever} since the start"),
        }
    }

    /// One rule of the table, for each item that it is about.
    fn counter(&mut self, rule: &Rule) {
        if rule.unless.is_some_and(|name| self.pages.has(name)) {
            return;
        }
        let items = if rule.counter.contains("{items}") { &ITEMS[..] } else { &ITEMS[..1] };
        for item in items {
            let name = rule.counter.replace("{items}", item);
            let what = rule.what.replace("{items}", &item.replace('_', " "));
            for (labels, growth) in self.pages.growth(&name, rule.by, rule.only) {
                if growth.ever <= 0.0 {
                    continue;
                }
                // What does not go on is worth a word, no more.
                let level = if growth.now > 0.0 { rule.level } else { Level::Warning };
                let found = format!("{what}: {}", self.grown(growth));
                let said = [format!("none ({name} does not grow)"), found, rule.remedy.to_owned()];
                self.bad(rule.stage, level, place(rule.place, &labels), said);
            }
        }
    }

    fn process(&mut self) {
        if self.pages.has_restarted {
            let said = [
                "one process for both readings".to_owned(),
                "it was started anew between them".to_owned(),
                "why did it end? its log; `kubectl describe pod` says OOMKilled if memory was short (then limit_mib is \
                 too near to the container's limit)"
                    .to_owned(),
            ];
            self.bad(Stage::Process, Level::Problem, "process", said);
        }
    }

    /// What came in, or that nothing did.
    fn arrivals(&mut self) {
        let by = &["receiver", "transport"];
        let mut has_any = false;
        for item in ITEMS {
            let accepted = self.pages.growth(&format!("otelcol_receiver_accepted_{item}"), by, None);
            for (labels, growth) in accepted.into_iter().filter(|(_, growth)| growth.now > 0.0) {
                has_any = true;
                let found = format!("{} accepted: {}", item.replace('_', " "), self.grown(growth));
                self.ok(Stage::Receiver, place("receiver", &labels), found);
            }
        }
        let turned_away = [RECEIVER.counter, REFUSED.counter, "otelcol_receiver_refused_spans"];
        let has_tried = turned_away.iter().any(|name| self.pages.total(name).now > 0.0);
        if has_any || has_tried {
            return;
        }
        let ever = self.pages.total("otelcol_receiver_accepted_spans").ever;
        let said = [
            "spans arrive".to_owned(),
            format!("none in {:.0} s, {ever} since the start", self.pages.seconds),
            "the sender's endpoint and its log; `nc -zv HOST 4317` from the sender's machine; here `tracegate doctor` says \
             who has the ports"
                .to_owned(),
        ];
        self.bad(Stage::Receiver, Level::Warning, "receivers", said);
    }

    /// How long senders wait: by Little's law, what waits divided by what passes.
    fn answers(&mut self) {
        let by = &["receiver", "transport"];
        let accepted = self.pages.growth("otelcol_receiver_accepted_spans", by, None);
        for (labels, waiting) in self.pages.gauge("otelcol_receiver_unanswered_spans", by) {
            let passed = accepted.get(&labels).copied().unwrap_or_default().now / self.pages.seconds;
            let seconds = waiting / passed.max(f64::MIN_POSITIVE);
            if waiting > 0.0 && passed > 0.0 && seconds > ANSWER_WARNING_SECONDS {
                let said = [
                    format!("answers within {ANSWER_WARNING_SECONDS} s"),
                    format!("{waiting} spans wait for their answer, about {seconds:.1} s each"),
                    "the queue or shard below that holds them up".to_owned(),
                ];
                self.bad(Stage::Receiver, Level::Warning, place("receiver", &labels), said);
            }
        }
    }

    fn budget(&mut self) {
        let limit = self.pages.gauge("tracegate_budget_limit_bytes", &[]).into_values().next().unwrap_or(0.0);
        if limit <= 0.0 {
            return;
        }
        let holders = self.pages.gauge("tracegate_budget_bytes", &["holder"]);
        let charged: f64 = holders.values().sum();
        let largest = holders.iter().max_by(|left, right| left.1.total_cmp(right.1));
        let most = match largest {
            Some((labels, bytes)) if *bytes > 0.0 => {
                format!(", most of it by {} ({})", labels.join(" "), mebibytes(*bytes))
            }
            _ => String::new(),
        };
        let found = format!("{:.0} % of {} charged{most}", charged / limit * 100.0, mebibytes(limit));
        let Some(level) = filled(charged / limit) else { return self.ok(Stage::Memory, "memory budget", found) };
        let said = [
            format!("less than {:.0} %", FILL_WARNING * 100.0),
            found,
            "raise limit_mib (memory_limit_mib) and the container's limit; pending traces: shorter decision_wait; queues: \
             see the exporter"
                .to_owned(),
        ];
        self.bad(Stage::Memory, level, "memory budget", said);
    }

    /// Whether the process grows for ever. Seconds show nothing; half a minute does.
    fn resident_memory(&mut self) {
        const NAMES: [&str; 3] =
            ["process_resident_memory_bytes", "otelcol_process_memory_rss", "otelcol_process_memory_rss_bytes"];
        let Some(name) = NAMES.into_iter().find(|name| self.pages.has(name)) else { return };
        let single = |values: BTreeMap<Labels, f64>| values.into_values().next();
        let Some(after) = single(self.pages.gauge(name, &[])) else { return };
        let before = single(self.pages.gauge_before(name, &[])).unwrap_or(after);
        let a_second = (after - before) / self.pages.seconds;
        let is_fast = a_second * GROWTH_HORIZON_SECONDS > after;
        if self.pages.seconds < GROWTH_SECONDS_MIN || !is_fast {
            return self.ok(Stage::Memory, "memory", format!("{} resident", mebibytes(after)));
        }
        let said = [
            "memory that stays".to_owned(),
            format!("{} resident, {} more each minute", mebibytes(after), mebibytes(a_second * 60.0)),
            "after a start or a rise of load it grows until the first decision_wait is over; else look at \
             tracegate_budget_bytes by holder again in ten minutes, and at /debug/pprof/heap"
                .to_owned(),
        ];
        self.bad(Stage::Memory, Level::Warning, "memory", said);
    }

    fn shards(&mut self) {
        let Some(busiest) = self.pages.highest("tracegate_shard_busiest_percent", &[]).into_values().next() else {
            return;
        };
        let level = match busiest {
            BUSY_PROBLEM.. => Level::Problem,
            BUSY_WARNING.. => Level::Warning,
            _ => return self.ok(Stage::Shard, "busiest shard", format!("{busiest:.0} % busy")),
        };
        let cores = self.pages.total("process_cpu_seconds").now / self.pages.seconds;
        let said = [
            format!("below {BUSY_WARNING} %"),
            format!("{busiest:.0} % of its time; the whole process uses {cores:.1} cores"),
            "if the process uses fewer cores than it has shards, one connection is too heavy: more connections from the \
             senders, keepalive.server_parameters.max_connection_age; else more cores (service.engine.cores, CPU limit) or replicas; and is \
             the container throttled (cpu.stat)?"
                .to_owned(),
        ];
        self.bad(Stage::Shard, level, "busiest shard", said);
    }

    fn decisions(&mut self) {
        const TIMER: &str = "otelcol_processor_tail_sampling_sampling_decision_timer_latency";
        let growth = |end: &str| {
            let names = [format!("{TIMER}_{end}"), format!("{TIMER}_milliseconds_{end}")];
            names.iter().find(|name| self.pages.has(name)).map(|name| self.pages.total(name).now)
        };
        let Some((sum, ticks)) = growth("sum").zip(growth("count")).filter(|(_, ticks)| *ticks > 0.0) else { return };
        let mean = sum / ticks;
        let traces =
            self.pages.growth("otelcol_processor_tail_sampling_global_count_traces_sampled", &["sampled"], None);
        let of = |sampled: &str| traces.get(&vec![sampled.to_owned()]).copied().unwrap_or_default().now;
        let (kept, dropped) = (of("true"), of("false"));
        let level = match mean {
            TICK_PROBLEM_MS.. => Level::Problem,
            TICK_WARNING_MS.. => Level::Warning,
            _ => {
                let found = format!("{kept} traces kept, {dropped} dropped by policy; a tick takes {mean:.1} ms");
                return self.ok(Stage::Sampling, "tail_sampling", found);
            }
        };
        let said = [
            format!("ticks of less than {TICK_WARNING_MS} ms"),
            format!("{mean:.0} ms on average: decisions are late by as much"),
            "more cores or replicas, fewer or cheaper policies (regular expressions, ottl_condition)".to_owned(),
        ];
        self.bad(Stage::Sampling, level, "tail_sampling", said);
    }

    /// How much later than its wait a trace is decided.
    fn lateness(&mut self) {
        for (labels, late) in self.means("tracegate_tail_sampling_decision_lateness_seconds", &["processor"]) {
            if late < LATENESS_WARNING_SECONDS {
                continue;
            }
            let said = [
                format!("decisions within {LATENESS_WARNING_SECONDS:.0} s after decision_wait"),
                format!("traces are decided {late:.1} s late"),
                "more cores or replicas; what the shards do instead: `go tool pprof` on /debug/pprof/profile"
                    .to_owned(),
            ];
            self.bad(Stage::Sampling, Level::Warning, place("processor", &labels), said);
        }
    }

    /// Mean of what a histogram observed between the readings, for each combination of these labels.
    fn means(&self, name: &str, by: &[&str]) -> BTreeMap<Labels, f64> {
        let counts = self.pages.growth(&format!("{name}_count"), by, None);
        let sums = self.pages.growth(&format!("{name}_sum"), by, None);
        let mean = |(labels, sum): (Labels, Growth)| {
            let count = counts.get(&labels).map_or(0.0, |growth| growth.now);
            (count > 0.0).then(|| (labels, sum.now / count))
        };
        sums.into_iter().filter_map(mean).collect()
    }

    /// Spans that come after the decision: the wait is too short, or they were held up before.
    fn late_spans(&mut self) {
        let late = self.pages.total("otelcol_processor_tail_sampling_early_releases_from_cache_decision").now;
        let accepted = self.pages.total("otelcol_receiver_accepted_spans").now;
        if accepted <= 0.0 || late / accepted < LATE_WARNING {
            return;
        }
        let said = [
            format!("less than {:.0} % of the spans", LATE_WARNING * 100.0),
            format!("{late} of {accepted} spans came after their trace was decided"),
            "a longer tail_sampling.decision_wait, shorter batch timeouts and retries at the senders, or their clocks \
             and queues"
                .to_owned(),
        ];
        self.bad(Stage::Sampling, Level::Warning, "tail_sampling", said);
    }

    fn queues(&mut self) {
        let by = &["exporter", "data_type"];
        let sizes = self.pages.gauge("otelcol_exporter_queue_size", by);
        let before = self.pages.gauge_before("otelcol_exporter_queue_size", by);
        let fullest = self.pages.highest("tracegate_exporter_queue_fullest_shard_percent", by);
        let oldest = self.pages.highest("tracegate_exporter_queue_oldest_age_seconds", by);
        for (labels, capacity) in self.pages.gauge("otelcol_exporter_queue_capacity", by) {
            let size = sizes.get(&labels).copied().unwrap_or(0.0);
            let place = place("queue of exporter", &labels);
            let fullest_shard = fullest.get(&labels).copied().unwrap_or(0.0) / 100.0;
            let fill = (size / capacity.max(1.0)).max(fullest_shard);
            let rise = (size - before.get(&labels).copied().unwrap_or(size)) / self.pages.seconds;
            let mut found = format!("{size} of {capacity}");
            if fullest_shard > FILL_WARNING {
                found.push_str(&format!(", the fullest shard's part {:.0} %", fullest_shard * 100.0));
            }
            // A part that is full refuses already, whatever room the others have.
            if rise > 0.0 && size < capacity && fullest_shard < 1.0 {
                found.push_str(&format!(", full in about {:.0} s", (capacity - size) / rise));
            }
            let age = oldest.get(&labels).copied().unwrap_or(0.0);
            if age > 0.0 {
                found.push_str(&format!(", the oldest waits for {age:.0} s"));
            }
            let too_old = (age > AGE_WARNING_SECONDS).then_some(Level::Warning);
            let Some(level) = filled(fill).max(too_old) else {
                self.ok(Stage::Queue, place, found);
                continue;
            };
            let said = [
                format!(
                    "less than {:.0} % full, and nothing older than {AGE_WARNING_SECONDS:.0} s",
                    FILL_WARNING * 100.0
                ),
                found,
                "a backend that takes more (see its exporter), more sending_queue.num_consumers if it answers slowly, \
                 larger batches; a larger queue_size only for short peaks"
                    .to_owned(),
            ];
            self.bad(Stage::Queue, level, place, said);
        }
    }

    /// What each backend took; one that takes nothing while something waits is the cause of much.
    fn exporters(&mut self) {
        let waiting = self.pages.gauge("otelcol_exporter_queue_size", &["exporter"]);
        let waited = self.pages.gauge_before("otelcol_exporter_queue_size", &["exporter"]);
        let means = self.means("tracegate_exporter_export_seconds", &["exporter"]);
        let mut sent: BTreeMap<Labels, f64> = BTreeMap::new();
        let mut has_failed: BTreeMap<Labels, bool> = BTreeMap::new();
        for item in ITEMS {
            let failed = self.pages.growth(&format!("otelcol_exporter_send_failed_{item}"), &["exporter"], None);
            for (labels, growth) in failed {
                *has_failed.entry(labels).or_default() |= growth.now > 0.0;
            }
            for (labels, growth) in self.pages.growth(&format!("otelcol_exporter_sent_{item}"), &["exporter"], None) {
                *sent.entry(labels).or_default() += growth.now;
            }
        }
        for (labels, taken) in sent {
            let of = |sizes: &BTreeMap<Labels, f64>| sizes.get(&labels).copied().unwrap_or(0.0);
            let place = place("exporter", &labels);
            // What was given up is a finding already, and says more.
            if has_failed.get(&labels) == Some(&true) && taken <= 0.0 {
                continue;
            }
            if taken > 0.0 || of(&waiting) <= 0.0 || of(&waited) <= 0.0 {
                let mut found =
                    format!("{taken} delivered in {:.0} s ({:.0}/s)", self.pages.seconds, taken / self.pages.seconds);
                let lasted = means.get(&labels).copied();
                if let Some(seconds) = lasted {
                    found.push_str(&format!(", an export takes {}", milliseconds(seconds)));
                }
                if lasted.is_none_or(|seconds| seconds < EXPORT_WARNING_SECONDS) {
                    self.ok(Stage::Exporter, place, found);
                    continue;
                }
                let said = [
                    format!("exports of less than {EXPORT_WARNING_SECONDS:.0} s"),
                    found,
                    "why is the backend slow? until then more sending_queue.num_consumers, and larger batches"
                        .to_owned(),
                ];
                self.bad(Stage::Exporter, Level::Warning, place, said);
                continue;
            }
            let said = [
                "the backend takes what waits".to_owned(),
                format!("nothing delivered in {:.0} s, and {} requests wait", self.pages.seconds, of(&waiting)),
                "the gateway's log has the backend's words; `tracegate doctor --config FILE` tries to reach it; is it up, \
                 and does tls.insecure fit what it speaks?"
                    .to_owned(),
            ];
            self.bad(Stage::Exporter, Level::Problem, place, said);
        }
    }

    /// Books that differ by the same in both readings have lost something that no counter knows.
    fn ledger(&mut self) {
        let by = &["pipeline", "exporter"];
        let sums = |read: &dyn Fn(&str) -> BTreeMap<Labels, f64>| {
            let mut balance: BTreeMap<Labels, f64> = BTreeMap::new();
            let terms = ["accepted", "created", "delivered", "dropped", "shed", "failed", "in_flight"];
            for (place, term) in terms.into_iter().enumerate() {
                let sign = if place < 2 { 1.0 } else { -1.0 };
                for (labels, spans) in read(&format!("tracegate_pipeline_{term}_spans")) {
                    *balance.entry(labels).or_default() += sign * spans;
                }
            }
            balance
        };
        let before = sums(&|name| self.pages.gauge_before(name, by));
        let after = sums(&|name| self.pages.gauge(name, by));
        for (labels, missing) in after {
            // Spans that cross between shards while the page is made differ from reading to reading.
            if missing == 0.0 || before.get(&labels) != Some(&missing) {
                continue;
            }
            let said = [
                "accepted + created = delivered + dropped + shed + failed + in flight".to_owned(),
                format!("{missing} spans are in no column, in both readings"),
                "report it with the page: it is a defect of ours".to_owned(),
            ];
            self.bad(Stage::Processor, Level::Problem, place("ledger of", &labels), said);
        }
    }
}

fn filled(fill: f64) -> Option<Level> {
    match fill {
        FILL_PROBLEM.. => Some(Level::Problem),
        FILL_WARNING.. => Some(Level::Warning),
        _ => None,
    }
}

/// `receiver otlp (grpc)`.
fn place(words: &str, labels: &[String]) -> String {
    let mut given = labels.iter().filter(|label| !label.is_empty());
    let mut place = match given.next() {
        // `tail_sampling/eu` says itself what it is.
        Some(first) if first.starts_with(words) => first.clone(),
        Some(first) => format!("{words} {first}"),
        None => words.to_owned(),
    };
    let rest: Vec<&str> = given.map(String::as_str).collect();
    if !rest.is_empty() {
        place.push_str(&format!(" ({})", rest.join(", ")));
    }
    place
}

fn milliseconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Each file of `cases/`: a page, `--- SECONDS`, the later page, `--- says`, what the examination says. After a change
    /// that is meant: `UPDATE_CASES=1`, and read the difference.
    #[test]
    fn every_case_says_what_its_file_says() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/doctor/cases");
        let mut read = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let (before, rest) = text.split_once("\n--- ").unwrap();
            let (seconds, rest) = rest.split_once('\n').unwrap();
            let (after, said) = rest.split_once("\n--- says\n").unwrap();
            let pages = Pages::new(before, after, seconds.parse().unwrap()).unwrap();
            let examination = examine(&pages);
            let (says, exit_code) = (examination.text(), examination.exit_code());
            let says = format!("{says}exit code {exit_code}\n");
            if std::env::var_os("UPDATE_CASES").is_some() {
                let head = &text[..text.len() - said.len()];
                std::fs::write(&path, format!("{head}{says}")).unwrap();
            } else {
                assert_eq!(says, said, "{}", path.display());
            }
            read += 1;
        }
        assert!(read >= 8, "{read} cases");
    }

    #[test]
    fn our_own_page_at_rest_has_no_problem() {
        // There ten requests wait and none goes.
        let page = include_str!("../../telemetry/golden/exposition.txt").replace("data_type=\"traces\"} 10\n", "} 0\n");
        let examination = examine(&Pages::new(&page, &page, 5.0).unwrap());
        assert!(examination.findings.iter().all(|finding| finding.level != Level::Problem), "{examination:#?}");
    }

    #[test]
    fn every_counter_of_a_rule_that_is_ours_or_the_collectors_is_documented() {
        let documented = include_str!("../../../../docs/metrics.md");
        // Only the Collector shows this one.
        const FOREIGN: [&str; 1] = ["otelcol_processor_refused_spans"];
        for rule in RULES {
            let name = rule.counter.replace("{items}", "spans");
            assert!(documented.contains(&format!("`{name}`")) || FOREIGN.contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn pages_without_a_figure_to_divide_by_make_no_figure_up() {
        let page = "otelcol_exporter_queue_size{exporter=\"a\"} 0\notelcol_exporter_queue_capacity{exporter=\"a\"} 0\n\
            tracegate_budget_limit_bytes 0\notelcol_receiver_unanswered_spans{receiver=\"a\"} 5\n";
        let text = examine(&Pages::new(page, page, 5.0).unwrap()).text();
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
