//! The verdict: a pure function of what was found.
//!
//! ```text
//! void    the run says nothing: the load missed its schedule, or traces were spread wider than the decision wait
//! failed  something was lost, doubled, partial, wrong, altered, or the books differ
//! ok      everything that was accepted became what its ids say
//! ```
//!
//! A fault that no timing explains (doubled, foreign, altered, unanswered) fails a run that is void as well. Lost,
//! partial and wrong traces are only held against the gateway if every trace reached it within its decision wait.

use std::rc::Rc;

use codecs::otlp::Signal;

use crate::items::ItemCycle;
use crate::load::{Log, Outcome};
use crate::measure::Latency;
use crate::sent::{Sent, noun};
use crate::sink::{Arrivals, ExporterArrivals};
use crate::traces::{Cycle, Judge, Place, Policies, Votes};

/// The 99th percentile of (sent - intended) may be this much.
pub(crate) const SCHEDULE_LATE_P99_MS_MAX: f64 = 50.0;

/// No request may leave later than this after its time.
pub(crate) const SCHEDULE_LATE_MS_MAX: f64 = 1_000.0;

/// The word a run ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    /// Exit code 0.
    Ok,
    /// Exit code 1.
    Failed,
    /// Exit code 3.
    Void,
}

/// A word and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The word.
    pub(crate) word: Word,
    /// Empty if ok.
    pub(crate) reasons: Vec<String>,
}

/// What the load did, against its schedule and the decision wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LoadFindings {
    /// Items sent: spans, points or records.
    pub(crate) offered_items: u64,
    /// Those of accepted requests.
    pub(crate) accepted_items: u64,
    /// Those of refused requests; they are not expected.
    pub(crate) refused_items: u64,
    /// Requests answered with an error that says never.
    pub(crate) rejected_requests: u64,
    /// Requests whose connection broke, or that were not answered in 30 s.
    pub(crate) unanswered_requests: u64,
    /// Requests that were due while the gateway already had more than half a gibibyte under way.
    pub(crate) held_back_requests: u64,
    /// Sent - intended, 99th percentile; 0 in a closed loop.
    pub(crate) late_p99_ms: f64,
    /// Sent - intended, largest.
    pub(crate) late_max_ms: f64,
    /// The longest time between the sending of a trace's first request and the answer to its last.
    pub(crate) apart_max_ms: f64,
    /// The bound for it; `None` without tail sampling.
    pub(crate) apart_limit_ms: Option<f64>,
}

/// What one exporter's sink saw: spans trace by trace, points and records one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExporterFindings {
    /// `type/name`.
    pub(crate) id: String,
    /// Items that arrived.
    pub(crate) items: u64,
    /// Items that had to arrive.
    pub(crate) expected_items: u64,
    /// Traces to be kept of which nothing arrived.
    pub(crate) lost_traces: u64,
    /// Traces to be kept of which some spans are missing.
    pub(crate) partial_traces: u64,
    /// Traces to be dropped of which something arrived, or spans of refused requests.
    pub(crate) wrong_traces: u64,
    /// Points or records that had to arrive and did not.
    pub(crate) lost_items: u64,
    /// Points or records of refused requests that arrived.
    pub(crate) wrong_items: u64,
    /// Samples that came behind a later one of their series.
    pub(crate) out_of_order_items: u64,
    /// Items that came more than once.
    pub(crate) doubled_items: u64,
    /// Items that were never sent.
    pub(crate) foreign_items: u64,
    /// Items that differ from what was sent.
    pub(crate) altered_items: u64,
}

/// What rate limits let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitFindings {
    /// Spans of traces that nothing but a rate limit wants.
    pub(crate) spans: u64,
    /// The most that full buckets and the time of the run allow.
    pub(crate) spans_max: u64,
}

/// One line of the comparison of books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LedgerLine {
    /// The gateway's metric with its labels.
    pub(crate) metric: String,
    /// What the harness counted.
    pub(crate) ours: u64,
    /// What the gateway says; `None`: no such series.
    pub(crate) gateway: Option<u64>,
}

/// Everything a verdict follows from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// What was sent.
    pub(crate) signal: Signal,
    /// The load.
    pub(crate) load: LoadFindings,
    /// One for each exporter; empty without a sink of ours.
    pub(crate) exporters: Vec<ExporterFindings>,
    /// Faults noted while spans arrived, and examples in words.
    pub(crate) faults: (u64, Vec<String>),
    /// The books, if the gateway's could be read.
    pub(crate) ledger: Vec<LedgerLine>,
    /// What was kept for no reason but a rate limit; `None` without one.
    pub(crate) limited: Option<LimitFindings>,
    /// What the gateway did that ends a run: a crash, a drain that hung.
    pub(crate) broken: Vec<String>,
}

/// What had to be done: by the policies, counted over all traces, or with everything that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expectation {
    /// Traces of which at least one span was accepted.
    pub(crate) traces: u64,
    /// Those to be kept; of those that only a rate limit wants, the ones that some exporter sent something of.
    pub(crate) kept_traces: u64,
    /// Their spans; points and records that were accepted.
    pub(crate) kept_items: u64,
    /// For each policy, the traces it wants; 0 for rate limits, which choose for themselves.
    pub(crate) votes: Vec<u64>,
    /// For each policy, the kept traces of which it is the first that wants them.
    pub(crate) reasons: Vec<u64>,
    /// Kept traces that only a rate limit wants: they need not have been kept.
    pub(crate) limited_traces: u64,
    /// Their spans.
    pub(crate) limited_items: u64,
    /// Traces with a request that nobody knows the end of: not checked.
    pub(crate) uncertain_traces: u64,
}

/// Judges.
pub(crate) fn judge(findings: &Findings) -> Verdict {
    let void = void_reasons(&findings.load);
    let exact = !is_apart(&findings.load);
    let failed = failed_reasons(findings, exact);
    let (word, reasons) = match (failed.is_empty(), void.is_empty()) {
        (false, _) => (Word::Failed, failed.into_iter().chain(void).collect()),
        (true, false) => (Word::Void, void),
        (true, true) => (Word::Ok, Vec::new()),
    };
    Verdict { word, reasons }
}

fn is_apart(load: &LoadFindings) -> bool {
    load.apart_limit_ms.is_some_and(|limit| load.apart_max_ms > limit)
}

fn void_reasons(load: &LoadFindings) -> Vec<String> {
    let mut reasons = Vec::new();
    if load.held_back_requests > 0 {
        reasons.push(format!(
            "the gateway fell behind: {} requests were held back while 512 MiB of earlier ones were under way",
            load.held_back_requests
        ));
    } else if load.late_p99_ms > SCHEDULE_LATE_P99_MS_MAX || load.late_max_ms > SCHEDULE_LATE_MS_MAX {
        reasons.push(format!(
            "the load missed its schedule: {:.1} ms late at the 99th percentile, {:.1} ms at most (bounds \
             {SCHEDULE_LATE_P99_MS_MAX} and {SCHEDULE_LATE_MS_MAX})",
            load.late_p99_ms, load.late_max_ms
        ));
    }
    if let (true, Some(limit)) = (is_apart(load), load.apart_limit_ms) {
        reasons.push(format!(
            "spans of a trace were sent and taken up to {:.0} ms apart, the decision wait is {limit:.0} ms",
            load.apart_max_ms
        ));
    }
    if load.accepted_items == 0 && load.unanswered_requests == 0 && load.rejected_requests == 0 {
        reasons.push("nothing was accepted".to_owned());
    }
    reasons
}

fn failed_reasons(findings: &Findings, exact: bool) -> Vec<String> {
    let mut reasons = findings.broken.clone();
    let noun = noun(findings.signal);
    let mut count = |number: u64, what: &str| {
        if number > 0 {
            reasons.push(format!("{number} {what}"));
        }
    };
    count(findings.load.rejected_requests, "requests rejected");
    count(findings.load.unanswered_requests, "requests without an answer");
    for exporter in &findings.exporters {
        let id = &exporter.id;
        count(exporter.doubled_items, &format!("{noun} doubled ({id})"));
        count(exporter.foreign_items, &format!("{noun} that were never sent ({id})"));
        count(exporter.altered_items, &format!("{noun} altered ({id})"));
        count(exporter.lost_items, &format!("{noun} lost ({id})"));
        count(exporter.wrong_items, &format!("{noun} of refused requests arrived ({id})"));
        count(exporter.out_of_order_items, &format!("samples behind a later one of their series ({id})"));
        if exact {
            count(exporter.lost_traces, &format!("traces lost ({id})"));
            count(exporter.partial_traces, &format!("traces partial ({id})"));
            count(exporter.wrong_traces, &format!("traces sent that should have been dropped ({id})"));
        }
    }
    if let Some(LimitFindings { spans, spans_max }) = findings.limited
        && exact
        && spans > spans_max
    {
        count(spans, &format!("spans kept by rate limits that allow {spans_max}"));
    }
    let known = |exporter: &ExporterFindings| {
        exporter.doubled_items + exporter.foreign_items + exporter.altered_items + exporter.out_of_order_items
    };
    let explained: u64 = findings.exporters.iter().map(known).sum();
    if findings.faults.0 > explained {
        count(findings.faults.0 - explained, "broken connections or requests at the sink");
    }
    for line in &findings.ledger {
        let decided = line.metric.contains("tail_sampling");
        match line.gateway {
            Some(gateway) if gateway == line.ours => {}
            Some(_) if decided && !exact => {}
            Some(gateway) => reasons.push(format!("ledger: {} is {gateway}, counted here {}", line.metric, line.ours)),
            None => reasons.push(format!("ledger: {} is missing, counted here {}", line.metric, line.ours)),
        }
    }
    reasons
}

/// Compares what arrived with what had to, for all that was sent.
pub(crate) fn compare(
    sent: &Sent,
    log: &Log,
    arrivals: &Arrivals,
    policies: Option<&Policies>,
    ids: &[String],
) -> (Expectation, Vec<ExporterFindings>) {
    match sent {
        Sent::Traces(cycle) => compare_traces(cycle, log, arrivals, policies, ids),
        Sent::Items(cycle) => compare_items(cycle, log, arrivals, ids),
    }
}

/// What each exporter's book says by itself.
fn exporter_findings(arrivals: &Arrivals, ids: &[String]) -> Vec<ExporterFindings> {
    let books = arrivals.exporters();
    let findings = |(id, book): (&String, &ExporterArrivals)| ExporterFindings {
        id: id.clone(),
        items: book.items,
        doubled_items: book.doubled,
        foreign_items: book.foreign,
        altered_items: book.altered,
        out_of_order_items: book.out_of_order,
        ..ExporterFindings::default()
    };
    ids.iter().zip(books.iter()).map(findings).collect()
}

/// Compares points or records request by request: all of an accepted one have to arrive, none of another.
pub(crate) fn compare_items(
    cycle: &ItemCycle,
    log: &Log,
    arrivals: &Arrivals,
    ids: &[String],
) -> (Expectation, Vec<ExporterFindings>) {
    let mut expectation = Expectation::default();
    let mut exporters = exporter_findings(arrivals, ids);
    let items = cycle.items_per_request() as u64;
    for (request, record) in log.records().iter().enumerate() {
        let accepted = match record.outcome {
            Outcome::Accepted => items,
            Outcome::Refused | Outcome::Rejected => 0,
            // Nobody knows what became of it: whatever arrived of it is right.
            Outcome::Pending | Outcome::Unknown => continue,
        };
        expectation.kept_items += accepted;
        let first = request as u64 * items;
        for (findings, book) in exporters.iter_mut().zip(arrivals.exporters().iter()) {
            let arrived = book.arrived(first..first + items);
            findings.expected_items += accepted;
            findings.lost_items += accepted.saturating_sub(arrived);
            findings.wrong_items += arrived.saturating_sub(accepted);
        }
    }
    (expectation, exporters)
}

/// Compares every trace of the run.
pub(crate) fn compare_traces(
    cycle: &Cycle,
    log: &Log,
    arrivals: &Arrivals,
    policies: Option<&Policies>,
    ids: &[String],
) -> (Expectation, Vec<ExporterFindings>) {
    let count = policies.map_or(0, |policies| policies.policies.len());
    let mut expectation = Expectation { votes: vec![0; count], reasons: vec![0; count], ..Expectation::default() };
    let judge = policies.map(|policies| policies.judge(cycle));
    let books = arrivals.exporters();
    let mut exporters = exporter_findings(arrivals, ids);
    for sequence in 0..cycle.sequences(log.sent()) {
        let Some(accepted) = accepted_mask(cycle, log, sequence) else {
            expectation.uncertain_traces += 1;
            continue;
        };
        // What one exporter sent, all have to send: the decision comes before them.
        let arrived = books.iter().fold(0, |any, book| any | book.mask(sequence));
        let trace = SentTrace { sequence, accepted, arrived };
        let expected = expected_mask(trace, judge.as_ref(), &mut expectation);
        for (findings, book) in exporters.iter_mut().zip(books.iter()) {
            findings.expected_items += u64::from(expected.count_ones());
            let arrived = book.mask(sequence);
            findings.wrong_traces += u64::from(arrived & !expected != 0);
            match (expected & arrived, expected) {
                (_, 0) => {}
                (0, _) => findings.lost_traces += 1,
                (some, all) => findings.partial_traces += u64::from(some != all),
            }
        }
    }
    (expectation, exporters)
}

/// Which spans of a trace were accepted; `None` if that is not known of all of them.
fn accepted_mask(cycle: &Cycle, log: &Log, sequence: u64) -> Option<u16> {
    let mut mask = 0;
    for span in 0..cycle.spans(sequence) as u8 {
        let request = cycle.request(Place { sequence, span });
        match request.and_then(|request| log.record(request)).map(|record| record.outcome) {
            Some(Outcome::Accepted) => mask |= 1 << span,
            Some(Outcome::Pending | Outcome::Unknown) => return None,
            Some(Outcome::Refused | Outcome::Rejected) | None => {}
        }
    }
    Some(mask)
}

/// A trace, the spans of it that were accepted, and those that some exporter sent.
#[derive(Clone, Copy)]
struct SentTrace {
    sequence: u64,
    accepted: u16,
    arrived: u16,
}

/// Which spans of a trace have to arrive by each exporter, all that were accepted or none.
fn expected_mask(trace: SentTrace, judge: Option<&Judge<'_>>, expectation: &mut Expectation) -> u16 {
    let SentTrace { sequence, accepted, arrived } = trace;
    if accepted == 0 {
        return 0;
    }
    expectation.traces += 1;
    let all = Votes { certain: 1, possible: 0 };
    let votes = judge.map_or(all, |judge| judge.votes(sequence, accepted));
    for (policy, count) in expectation.votes.iter_mut().enumerate() {
        *count += u64::from(votes.of(policy));
    }
    // The gateway chose to keep it, and then it has to be whole.
    let chosen = votes.optional() && arrived & accepted != 0;
    if !votes.kept() && !chosen {
        return 0;
    }
    let spans = u64::from(accepted.count_ones());
    if chosen {
        expectation.limited_traces += 1;
        expectation.limited_items += spans;
    }
    let reason = votes.reason().and_then(|policy| expectation.reasons.get_mut(policy));
    if let Some(count) = reason {
        *count += 1;
    }
    expectation.kept_traces += 1;
    expectation.kept_items += spans;
    accepted
}

/// How the load kept to its schedule, and how far apart the requests of a trace were.
pub(crate) fn examine_load(sent: &Sent, log: &Rc<Log>, policies: Option<&Policies>) -> LoadFindings {
    let items = sent.items_per_request() as u64;
    let records = log.records();
    let count = |wanted: Outcome| records.iter().filter(|record| record.outcome == wanted).count() as u64;
    let mut late = Latency::new();
    let mut apart_max_ns = 0;
    let width = sent.trace_requests_max() as usize;
    for (number, record) in records.iter().enumerate() {
        late.record(record.sent_ns - record.intended_ns);
        // Requests leave in order, so the oldest in reach was sent first.
        let first_sent_ns = records[number.saturating_sub(width)].sent_ns;
        if record.outcome == Outcome::Accepted {
            apart_max_ns = apart_max_ns.max(record.answered_ns - first_sent_ns);
        }
    }
    let late = late.percentiles();
    LoadFindings {
        offered_items: records.len() as u64 * items,
        accepted_items: count(Outcome::Accepted) * items,
        refused_items: count(Outcome::Refused) * items,
        rejected_requests: count(Outcome::Rejected),
        unanswered_requests: count(Outcome::Unknown) + count(Outcome::Pending),
        held_back_requests: log.held_back(),
        late_p99_ms: late.p99,
        late_max_ms: late.max,
        apart_max_ms: apart_max_ns as f64 / 1e6,
        apart_limit_ms: policies.map(|policies| policies.decision_wait_ns as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Findings {
        Findings {
            load: LoadFindings {
                offered_items: 100,
                accepted_items: 100,
                apart_limit_ms: Some(2_000.0),
                apart_max_ms: 500.0,
                ..LoadFindings::default()
            },
            exporters: vec![ExporterFindings {
                id: "otlp/first".to_owned(),
                items: 7,
                expected_items: 7,
                ..ExporterFindings::default()
            }],
            ledger: vec![LedgerLine {
                metric: "otelcol_receiver_accepted_spans".to_owned(),
                ours: 100,
                gateway: Some(100),
            }],
            ..Findings::default()
        }
    }

    fn check(change: impl Fn(&mut Findings), expected: Word) {
        let mut findings = clean();
        change(&mut findings);
        let verdict = judge(&findings);
        assert_eq!(verdict.word, expected, "{:?}", verdict.reasons);
        assert_eq!(verdict.reasons.is_empty(), expected == Word::Ok);
    }

    #[test]
    fn a_clean_run_is_ok_and_every_single_fault_fails_it() {
        check(|_| {}, Word::Ok);
        check(|findings| findings.exporters[0].lost_traces = 1, Word::Failed);
        check(|findings| findings.exporters[0].partial_traces = 1, Word::Failed);
        check(|findings| findings.exporters[0].wrong_traces = 1, Word::Failed);
        check(|findings| findings.exporters[0].doubled_items = 1, Word::Failed);
        check(|findings| findings.exporters[0].foreign_items = 1, Word::Failed);
        check(|findings| findings.exporters[0].altered_items = 1, Word::Failed);
        check(|findings| findings.faults.0 = 1, Word::Failed);
        check(|findings| findings.load.rejected_requests = 1, Word::Failed);
        check(|findings| findings.load.unanswered_requests = 1, Word::Failed);
        check(|findings| findings.ledger[0].gateway = Some(101), Word::Failed);
        check(|findings| findings.ledger[0].gateway = None, Word::Failed);
        check(|findings| findings.limited = Some(LimitFindings { spans: 101, spans_max: 100 }), Word::Failed);
        check(|findings| findings.broken.push("it crashed".to_owned()), Word::Failed);
    }

    #[test]
    fn what_a_rate_limit_allows_is_no_fault() {
        check(|findings| findings.limited = Some(LimitFindings { spans: 100, spans_max: 100 }), Word::Ok);
    }

    #[test]
    fn refusals_alone_fail_nothing() {
        check(|findings| findings.load.refused_items = 50, Word::Ok);
    }

    #[test]
    fn a_late_load_or_wide_traces_make_a_run_void() {
        check(|findings| findings.load.late_p99_ms = SCHEDULE_LATE_P99_MS_MAX + 1.0, Word::Void);
        check(|findings| findings.load.late_max_ms = SCHEDULE_LATE_MS_MAX + 1.0, Word::Void);
        check(|findings| findings.load.apart_max_ms = 2_001.0, Word::Void);
        check(|findings| findings.load.held_back_requests = 1, Word::Void);
        check(|findings| findings.load.accepted_items = 0, Word::Void);
    }

    #[test]
    fn faults_that_time_explains_are_not_held_against_a_gateway_whose_traces_came_too_wide() {
        let wide = |findings: &mut Findings| findings.load.apart_max_ms = 2_001.0;
        check(|findings| (wide(findings), findings.exporters[0].partial_traces = 1).1, Word::Void);
        check(|findings| (wide(findings), findings.exporters[0].doubled_items = 1).1, Word::Failed);
        check(|findings| (wide(findings), findings.ledger[0].gateway = Some(1)).1, Word::Failed);
    }
}
