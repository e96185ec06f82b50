//! Faults planted one by one: each must be found, and found as what it is.

use std::rc::Rc;

use super::{Arrivals, Contents};
use crate::gateway::Work;
use crate::load::{Log, Outcome};
use crate::sent::Sent;
use crate::traces::{Cycle, CycleSettings, Place, Policies, Policy, Rule, Votes};
use crate::verdict::{Expectation, ExporterFindings, compare_traces};

const REQUESTS: u64 = 200;

/// A run in which everything was accepted, and the spans that have to arrive.
struct Run {
    sent: Rc<Sent>,
    log: Rc<Log>,
    policies: Policies,
}

impl Run {
    fn new(outcome: impl Fn(u64) -> Outcome) -> Run {
        let policy = |name: &str, rule| Policy { name: name.to_owned(), rule };
        let policies = vec![
            policy("errors", Rule::Error),
            policy("slow", Rule::LatencyMs(1_000)),
            policy("random", Rule::probabilistic(5.0, "")),
        ];
        Run::with(Policies { decision_wait_ns: 2_000_000_000, policies }, outcome)
    }

    /// A run of ten policies, in which everything was accepted.
    fn of_ten() -> Run {
        Run::with(Work::ten_policies(10).policies().unwrap(), |_| Outcome::Accepted)
    }

    fn with(policies: Policies, outcome: impl Fn(u64) -> Outcome) -> Run {
        let cycle = Cycle::new(CycleSettings {
            seed: 1,
            spans_per_request: 100,
            request_interval_ns: 2_000_000,
            start_unix_ns: 1_700_000_000_000_000_000,
            has_marks: policies.policies.len() == 10,
        });
        let log = Log::new();
        for number in 0..REQUESTS {
            log.send(number, number);
            log.answer(number, number + 1, outcome(number));
        }
        Run { sent: Rc::new(Sent::Traces(cycle)), log: Rc::new(log), policies }
    }

    fn cycle(&self) -> &Cycle {
        match &*self.sent {
            Sent::Traces(cycle) => cycle,
            Sent::Items(_) => panic!("made of traces above"),
        }
    }

    /// Spans that were accepted, by trace: (whether it must be kept, spans).
    fn traces(&self) -> Vec<(bool, Vec<Place>)> {
        self.voted().into_iter().map(|(votes, spans)| (votes.kept(), spans)).collect()
    }

    /// Spans that were accepted, by trace: (votes, spans).
    fn voted(&self) -> Vec<(Votes, Vec<Place>)> {
        let judge = self.policies.judge(self.cycle());
        let accepted = |place: &Place| {
            let request = self.cycle().request(*place).and_then(|request| self.log.record(request));
            request.is_some_and(|record| record.outcome == Outcome::Accepted)
        };
        let mut traces = Vec::new();
        for sequence in 0..self.cycle().sequences(REQUESTS) {
            let all = (0..self.cycle().spans(sequence) as u8).map(|span| Place { sequence, span });
            let spans: Vec<Place> = all.filter(accepted).collect();
            if !spans.is_empty() {
                let mask = spans.iter().fold(0, |mask, place| mask | 1 << place.span);
                traces.push((judge.votes(sequence, mask), spans));
            }
        }
        traces
    }

    fn kept(&self) -> Vec<Vec<Place>> {
        self.traces().into_iter().filter(|(kept, _)| *kept).map(|(_, spans)| spans).collect()
    }

    /// What a sink finds that is sent these spans, one a request.
    fn deliver(&self, spans: &[Place], change: impl Fn(usize, &mut Vec<u8>)) -> (Expectation, ExporterFindings) {
        let arrivals = self.arrivals(1);
        self.send(&arrivals, 0, spans, change);
        let ids = ["otlp/first".to_owned()];
        let (expectation, mut findings) =
            compare_traces(self.cycle(), &self.log, &arrivals, Some(&self.policies), &ids);
        (expectation, findings.remove(0))
    }

    fn arrivals(&self, exporters: usize) -> Arrivals {
        Arrivals::new(self.sent.clone(), self.log.clone(), exporters, Contents::Bytes, 2_000_000_000)
    }

    fn send(&self, arrivals: &Arrivals, exporter: usize, spans: &[Place], change: impl Fn(usize, &mut Vec<u8>)) {
        let mut scratch = Vec::new();
        for (number, place) in spans.iter().enumerate() {
            let expected = self.cycle().expected(*place, &mut scratch);
            let mut request = nest(2, expected.span, expected.scope_envelope);
            request = nest(2, &request, expected.resource_envelope);
            request = nest(1, &request, &[]);
            change(number, &mut request);
            arrivals.request(exporter, &request, 10);
        }
    }
}

/// A message with an envelope and one child.
fn nest(field: u8, child: &[u8], envelope: &[u8]) -> Vec<u8> {
    let mut message = envelope.to_vec();
    message.push(field << 3 | 2);
    let mut length = child.len();
    while length >= 0x80 {
        message.push(length as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(child);
    message
}

fn untouched(_: usize, _: &mut Vec<u8>) {}

fn faults(findings: &ExporterFindings) -> [u64; 6] {
    [
        findings.lost_traces,
        findings.partial_traces,
        findings.wrong_traces,
        findings.doubled_items,
        findings.foreign_items,
        findings.altered_items,
    ]
}

#[test]
fn a_perfect_gateway_has_no_faults_and_keeps_about_seven_percent() {
    let run = Run::new(|_| Outcome::Accepted);
    let kept = run.kept().concat();
    let (expectation, findings) = run.deliver(&kept, untouched);
    assert_eq!(faults(&findings), [0; 6]);
    assert_eq!(findings.items, expectation.kept_items);
    assert_eq!(expectation.traces as usize, run.traces().len());
    let share = expectation.kept_traces as f64 / expectation.traces as f64;
    assert!((0.05..0.09).contains(&share), "{share}");
    assert!(expectation.votes.iter().all(|votes| *votes > 0), "{:?}", expectation.votes);
}

#[test]
fn a_trace_that_does_not_arrive_is_lost() {
    let run = Run::new(|_| Outcome::Accepted);
    let (_, findings) = run.deliver(&run.kept()[1..].concat(), untouched);
    assert_eq!(faults(&findings), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_trace_without_one_of_its_spans_is_partial() {
    let run = Run::new(|_| Outcome::Accepted);
    let mut kept = run.kept();
    kept.iter_mut().find(|spans| spans.len() > 1).unwrap().pop();
    let (_, findings) = run.deliver(&kept.concat(), untouched);
    assert_eq!(faults(&findings), [0, 1, 0, 0, 0, 0]);
}

#[test]
fn a_span_that_comes_twice_is_doubled() {
    let run = Run::new(|_| Outcome::Accepted);
    let mut kept = run.kept().concat();
    kept.push(kept[3]);
    let (_, findings) = run.deliver(&kept, untouched);
    assert_eq!(faults(&findings), [0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_trace_that_no_policy_wants_is_wrong() {
    let run = Run::new(|_| Outcome::Accepted);
    let mut kept = run.kept().concat();
    let unwanted = run.traces().into_iter().find(|(kept, _)| !kept).unwrap();
    kept.extend(unwanted.1);
    let (_, findings) = run.deliver(&kept, untouched);
    assert_eq!(faults(&findings), [0, 0, 1, 0, 0, 0]);
}

#[test]
fn a_span_of_a_refused_request_is_wrong() {
    let run = Run::new(|number| if number % 7 == 3 { Outcome::Refused } else { Outcome::Accepted });
    let mut kept = run.kept().concat();
    let (_, findings) = run.deliver(&kept, untouched);
    assert_eq!(faults(&findings), [0; 6], "refusals leave an exact expectation");
    let refused = kept.iter().find_map(|place| {
        let others = (0..run.cycle().spans(place.sequence) as u8).map(|span| Place { span, ..*place });
        others
            .into_iter()
            .find(|other| run.cycle().request(*other).is_some_and(|request| request < REQUESTS && request % 7 == 3))
    });
    kept.push(refused.unwrap());
    let (_, findings) = run.deliver(&kept, untouched);
    assert_eq!(faults(&findings), [0, 0, 1, 0, 0, 0]);
}

#[test]
fn any_changed_byte_makes_a_span_altered_or_foreign() {
    let run = Run::new(|_| Outcome::Accepted);
    let kept = run.kept().concat();
    // The last byte belongs to the flags of the span.
    let (_, findings) = run.deliver(&kept, |number, request| {
        if number == 5 {
            *request.last_mut().unwrap() ^= 1;
        }
    });
    assert_eq!(faults(&findings), [0, 0, 0, 0, 0, 1]);
    let (_, findings) = run.deliver(&kept, |number, request| {
        if number == 5 {
            // A letter of the resource's first attribute.
            let at = request.windows(12).position(|window| window == b"service.name").unwrap();
            request[at] ^= 1;
        }
    });
    assert_eq!(faults(&findings), [0, 0, 0, 0, 0, 1]);
    let first = run.cycle().trace_id(kept[5].sequence);
    let (_, findings) = run.deliver(&kept, |number, request| {
        if number == 5 {
            let at = request.windows(16).position(|window| window == first.0).unwrap();
            request[at] ^= 1;
        }
    });
    assert_eq!(findings.foreign_items, 1);
    assert_eq!(findings.lost_traces + findings.partial_traces, 1);
}

#[test]
fn a_trace_with_an_unanswered_request_is_not_judged() {
    let run = Run::new(|number| if number == 50 { Outcome::Unknown } else { Outcome::Accepted });
    let (expectation, findings) = run.deliver(&run.kept().concat(), untouched);
    assert!(expectation.uncertain_traces > 0);
    assert_eq!([findings.lost_traces, findings.partial_traces, findings.wrong_traces], [0; 3]);
}

/// Number of a policy of the ten.
fn policy(run: &Run, name: &str) -> usize {
    run.policies.policies.iter().position(|policy| policy.name == name).unwrap()
}

#[test]
fn ten_policies_keep_about_ten_percent_and_each_for_a_reason_of_its_own() {
    let run = Run::of_ten();
    let (expectation, findings) = run.deliver(&run.kept().concat(), untouched);
    assert_eq!(faults(&findings), [0; 6]);
    assert_eq!(findings.items, expectation.kept_items);
    // This run is so short that most traces are cut at its ends; of whole ones the share is that of a long run.
    let judge = run.policies.judge(run.cycle());
    let whole = |sequence: &u64| judge.votes(*sequence, u16::MAX >> (16 - run.cycle().spans(*sequence))).kept();
    let share = (0..50_000).filter(whole).count() as f64 / 50_000.0;
    assert!((0.09..0.11).contains(&share), "{share}");
    assert_eq!(expectation.reasons.iter().sum::<u64>(), expectation.kept_traces);
    let (limit, others) = expectation.reasons.split_last().unwrap();
    assert_eq!((*limit, expectation.limited_traces), (0, 0), "no trace came that only the rate limit wants");
    assert!(others.iter().all(|count| *count > 0), "{others:?}");
}

#[test]
fn a_trace_that_one_policy_wants_and_that_does_not_arrive_is_missed() {
    let run = Run::of_ten();
    for name in ["refunds", "tenants", "probers", "exports", "failures", "large"] {
        let wanted = 1 << policy(&run, name);
        let voted = run.voted();
        let missed = voted.iter().position(|(votes, _)| votes.certain == wanted).unwrap();
        let others = voted.iter().enumerate().filter(|(number, (votes, _))| votes.kept() && *number != missed);
        let spans: Vec<Place> = others.flat_map(|(_, (_, spans))| spans.clone()).collect();
        let (_, findings) = run.deliver(&spans, untouched);
        assert_eq!(faults(&findings), [1, 0, 0, 0, 0, 0], "{name}");
    }
}

#[test]
fn a_trace_of_ten_policies_without_one_of_its_spans_is_incomplete() {
    let run = Run::of_ten();
    let mut kept = run.kept();
    kept.iter_mut().find(|spans| spans.len() > 1).unwrap().pop();
    let (_, findings) = run.deliver(&kept.concat(), untouched);
    assert_eq!(faults(&findings), [0, 1, 0, 0, 0, 0]);
}

#[test]
fn a_trace_without_a_rate_limit_that_no_policy_wants_is_wrong() {
    let mut run = Run::of_ten();
    run.policies.policies.pop();
    let mut kept = run.kept().concat();
    kept.extend(run.traces().into_iter().find(|(kept, _)| !kept).unwrap().1);
    let (_, findings) = run.deliver(&kept, untouched);
    assert_eq!(faults(&findings), [0, 0, 1, 0, 0, 0]);
}

#[test]
fn a_trace_that_only_a_rate_limit_wants_may_come_but_whole_and_once() {
    let run = Run::of_ten();
    let kept = run.kept().concat();
    let optional = run.voted().into_iter().find(|(votes, spans)| votes.optional() && spans.len() > 2).unwrap().1;
    let with = |more: &[Place]| run.deliver(&[&kept[..], more].concat(), untouched);

    let (expectation, findings) = with(&optional);
    assert_eq!(faults(&findings), [0; 6]);
    assert_eq!((expectation.limited_traces, expectation.limited_items), (1, optional.len() as u64));
    assert_eq!(expectation.reasons[policy(&run, "trickle")], 1);
    assert_eq!(faults(&with(&optional[1..]).1), [0, 1, 0, 0, 0, 0]);
    let twice = [&optional[..], &optional[..1]].concat();
    assert_eq!(faults(&with(&twice).1), [0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_trace_that_only_a_rate_limit_wants_comes_by_all_exporters_or_by_none() {
    let run = Run::of_ten();
    let kept = run.kept().concat();
    let optional = run.voted().into_iter().find(|(votes, _)| votes.optional()).unwrap().1;
    let arrivals = run.arrivals(2);
    run.send(&arrivals, 0, &[&kept[..], &optional].concat(), untouched);
    run.send(&arrivals, 1, &kept, untouched);
    let ids = ["otlp/first", "otlp/second"].map(str::to_owned);
    let (_, findings) = compare_traces(run.cycle(), &run.log, &arrivals, Some(&run.policies), &ids);
    assert_eq!(faults(&findings[0]), [0; 6]);
    assert_eq!(faults(&findings[1]), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn rate_limits_allow_what_was_there_at_first_and_what_came_since() {
    let run = Run::of_ten();
    assert_eq!(run.policies.limited_spans_max(0), Some(1_001));
    assert_eq!(run.policies.limited_spans_max(2_500_000_000), Some(1_251));
    assert_eq!(Run::new(|_| Outcome::Accepted).policies.limited_spans_max(0), None);
}
