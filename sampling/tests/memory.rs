//! Memory of a sampler: bounded by what is pending, reused, given back after a burst.

mod common;
mod load;

use common::{ERRORS, SECOND, Span, request, settings, span, take};
use sampling::settings::{BYTES_PER_DROPPED, BYTES_PER_KEPT, Relief, Rule, Settings, StressRelief};
use sampling::{Limits, Release, Sampler, Select};

const WAIT: u64 = 10 * SECOND;
const CHUNK: usize = 256 * 1024;

/// One request per trace, 4 spans of 1 kB each.
fn insert_traces(sampler: &mut Sampler, now_ns: u64, traces: std::ops::Range<u128>, status: u8) {
    let mut out = Release::default();
    let spans: Vec<Span> = traces
        .flat_map(|trace| (0..4).map(move |n| Span { status, bytes: vec![n as u8; 1_000], ..span(trace + 1, n) }))
        .collect();
    let (index, segments) = request(&spans);
    sampler.insert(now_ns, &index, &segments, Select::All, &mut out);
}

/// Remembers so many traces of either kind.
fn remembering(decisions: u64, rules: &[Rule]) -> Settings {
    Settings {
        kept_memory_bytes: Some(decisions * BYTES_PER_KEPT as u64),
        dropped_memory_bytes: Some(decisions * BYTES_PER_DROPPED as u64),
        ..settings(rules)
    }
}

fn decide(sampler: &mut Sampler, now_ns: u64) -> Vec<Span> {
    let (mut out, mut kept) = (Release::default(), Vec::new());
    while sampler.decide_due(now_ns, 1_000, &mut out) {
        kept.extend(take(&mut out).into_iter().map(|(span, _)| span));
    }
    kept.extend(take(&mut out).into_iter().map(|(span, _)| span));
    kept
}

#[test]
fn memory_does_not_grow_over_many_cycles() {
    let mut sampler = Sampler::new(&remembering(600, &[ERRORS]), 3, 1);
    let mut held = Vec::new();
    for cycle in 0..40u64 {
        let first = u128::from(cycle) * 300;
        insert_traces(&mut sampler, cycle * WAIT, first..first + 300, if cycle % 10 == 0 { 2 } else { 0 });
        decide(&mut sampler, (cycle + 1) * WAIT);
        held.push(sampler.bytes_held());
    }
    assert_eq!(held[20..].iter().max(), held[..20].iter().max(), "{held:?}");
}

#[test]
fn a_burst_is_given_back_within_a_minute_and_what_is_in_use_stays() {
    let mut sampler = Sampler::new(&remembering(1_000, &[ERRORS]), 3, 1);
    insert_traces(&mut sampler, 0, 0..6_000, 0);
    let burst = sampler.bytes_held();
    assert!(burst > 24_000_000);
    decide(&mut sampler, WAIT);
    assert!(sampler.bytes_held() >= burst, "it is kept while the next burst may come");
    insert_traces(&mut sampler, WAIT + 1, 100_000..100_100, 2);
    for second in 10..=70 {
        for _ in 0..10 {
            sampler.shrink(second * SECOND);
        }
        if second == 15 {
            assert!(sampler.bytes_held() >= burst);
            assert_eq!(decide(&mut sampler, 20 * SECOND + 1).len(), 400);
        }
    }
    assert!(sampler.bytes_held() < 4_000_000, "{} bytes held", sampler.bytes_held());
    insert_traces(&mut sampler, 70 * SECOND, 200_000..200_100, 2);
    assert_eq!(decide(&mut sampler, 80 * SECOND).len(), 400);
}

#[test]
fn a_forgotten_burst_is_given_back_without_waiting() {
    let mut sampler = Sampler::new(&remembering(1_000, &[ERRORS]), 3, 1);
    insert_traces(&mut sampler, 0, 0..6_000, 0);
    decide(&mut sampler, WAIT);
    insert_traces(&mut sampler, WAIT, 100_000..100_100, 2);
    sampler.forget_bursts();
    while sampler.shrink(WAIT) {}
    assert!(sampler.bytes_held() < 4_000_000, "{} bytes held", sampler.bytes_held());
    assert_eq!(decide(&mut sampler, 2 * WAIT).len(), 400, "what is in use stays");
}

#[test]
fn a_burst_of_short_traces_can_be_given_back_while_long_ones_lie_between_their_bytes() {
    let mut sampler =
        Sampler::new(&Settings { decision_wait_after_root_ns: Some(SECOND), ..settings(&[ERRORS]) }, 3, 1);
    let mut out = Release::default();
    for request_number in 0..60u64 {
        // Fifty traces whose root is missing get a span now and then; all others are complete and decided after a second.
        let long = (0..5u64).map(|n| (1 + u128::from((request_number * 5 + n) % 50), request_number * 5 + n, true));
        let first = u128::from(request_number) * 1_000 + 1_000;
        let short = (0..95u64).map(|n| (first + u128::from(n), n, false));
        let spans: Vec<Span> = long
            .chain(short)
            .map(|(trace_id, n, has_parent)| {
                let status = if has_parent { 2 } else { 0 };
                Span { has_parent, status, bytes: vec![n as u8; 4_000], ..span(trace_id, n) }
            })
            .collect();
        let (index, segments) = request(&spans);
        sampler.insert(0, &index, &segments, Select::All, &mut out);
    }
    sampler.decide_due(2 * SECOND, 100_000, &mut out);
    sampler.forget_bursts();
    for turn in 0..100 {
        sampler.decide_due(2 * SECOND, 100, &mut out);
        assert!(out.is_empty(), "turn {turn}");
    }
    assert_eq!(sampler.pending_traces(), 50);
    assert_eq!(decide(&mut sampler, WAIT).len(), 300, "the long ones are whole");
}

#[test]
fn one_call_gives_back_a_bounded_part() {
    let mut sampler = Sampler::new(&remembering(1_000, &[ERRORS]), 3, 1);
    insert_traces(&mut sampler, 0, 0..6_000, 0);
    decide(&mut sampler, WAIT);
    sampler.shrink(10 * SECOND);
    let before = sampler.bytes_held();
    let is_more = sampler.shrink(40 * SECOND);
    assert!(is_more);
    assert!(before - sampler.bytes_held() <= 64 * CHUNK + 3_000_000, "64 chunks, and records at once");
}

#[test]
fn a_few_long_traces_do_not_hold_the_memory_of_many_short_ones() {
    let mut sampler =
        Sampler::new(&Settings { decision_wait_after_root_ns: Some(SECOND), ..remembering(1_000, &[ERRORS]) }, 3, 1);
    let mut out = Release::default();
    // Of 20 traces one waits for its root; the others are decided after a second.
    let mut long = Vec::new();
    for request_number in 0..60u128 {
        let spans: Vec<Span> = (0..100u64)
            .map(|n| {
                let is_long = n % 20 == 0;
                let trace_id = 1 + request_number * 1_000 + u128::from(n);
                let span = span(trace_id, n);
                Span { has_parent: is_long, status: if is_long { 2 } else { 0 }, bytes: vec![n as u8; 4_000], ..span }
            })
            .collect();
        long.extend(spans.iter().filter(|span| span.has_parent).cloned());
        let (index, segments) = request(&spans);
        sampler.insert(0, &index, &segments, Select::All, &mut out);
    }
    let full = sampler.bytes_held();
    for turn in 0..400 {
        sampler.decide_due(2 * SECOND, 100, &mut out);
        assert!(out.is_empty(), "turn {turn}");
    }
    for second in 2..=9 {
        sampler.shrink(second * SECOND);
    }
    sampler.shrink(30 * SECOND);
    while sampler.shrink(60 * SECOND) {}
    assert_eq!(sampler.pending_spans(), long.len() as u64);
    assert!(sampler.bytes_held() < full / 3, "{} of {full} bytes held for a 20th of the spans", sampler.bytes_held());
    let mut kept = decide(&mut sampler, 61 * SECOND);
    kept.sort();
    long.sort();
    assert!(kept == long, "moved spans are what they were");
}

#[test]
fn envelopes_that_nobody_names_any_more_are_freed() {
    let mut sampler = Sampler::new(&remembering(100, &[Rule::AlwaysSample]), 3, 1);
    let mut out = Release::default();
    let mut held = Vec::new();
    for cycle in 0..40u64 {
        let spans: Vec<Span> = (0..50u64)
            .map(|n| Span {
                resource: vec![cycle as u8; 10_000 + n as usize],
                ..span(1 + u128::from(cycle * 50 + n), n)
            })
            .collect();
        let (index, segments) = request(&spans);
        sampler.insert(cycle * WAIT, &index, &segments, Select::All, &mut out);
        assert_eq!(decide(&mut sampler, (cycle + 1) * WAIT).len(), 50);
        held.push(sampler.bytes_held());
    }
    assert_eq!(held[39], held[10], "{held:?}");
}

#[test]
fn more_scopes_than_are_interned_are_stored_with_their_spans() {
    let limits = Limits { scopes_max: 10, ..Limits::default() };
    let mut sampler = Sampler::with_limits(&settings(&[Rule::AlwaysSample]), 3, 1, limits);
    let spans: Vec<Span> =
        (0..100u64).map(|n| Span { scope: vec![n as u8; 30], ..span(1 + u128::from(n % 9), n) }).collect();
    let (index, segments) = request(&spans);
    let mut out = Release::default();
    sampler.insert(0, &index, &segments, Select::All, &mut out);
    let mut kept = decide(&mut sampler, WAIT);
    kept.sort_by_key(|span| span.span_id);
    assert!(kept == spans);
}

#[test]
fn a_span_larger_than_a_chunk_takes_its_own_memory_and_gives_it_back() {
    let mut sampler = Sampler::new(&settings(&[ERRORS]), 3, 1);
    let mut out = Release::default();
    let empty = sampler.bytes_held();
    let (index, segments) = request(&[Span { bytes: vec![1; 3_000_000], ..span(1, 1) }, span(1, 2)]);
    sampler.insert(0, &index, &segments, Select::All, &mut out);
    assert!(sampler.bytes_held() - empty > 3_000_000);
    decide(&mut sampler, WAIT);
    assert!(sampler.bytes_held() - empty < 2 * CHUNK);
}

/// 100,000 spans of 370 bytes, 8 a trace, which come two at a time.
#[test]
fn a_pending_span_costs_its_bytes_and_a_seventh_and_24_bytes() {
    const SPAN_BYTES: usize = 370;
    let early = Settings { decide_when_certain: true, complete_quiet_ns: Some(SECOND), ..settings(&[ERRORS]) };
    for settings in [settings(&[ERRORS]), early] {
        let mut sampler = Sampler::new(&settings, 3, 1);
        let mut out = Release::default();
        let empty = sampler.bytes_held();
        let mut spans = 0;
        for request_number in 0..200u128 {
            // Traces of four requests, 250 of them at a time.
            let first_trace = 1 + request_number / 4 * 250;
            let arriving: Vec<Span> = (0..500u64)
                .map(|n| {
                    let trace_id =
                        (first_trace + u128::from(n / 2)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
                    Span { bytes: vec![1; SPAN_BYTES], ..span(trace_id, n) }
                })
                .collect();
            spans += arriving.len();
            let (index, segments) = request(&arriving);
            sampler.insert(request_number as u64, &index, &segments, Select::All, &mut out);
        }
        assert_eq!((sampler.pending_spans(), sampler.pending_traces()), (spans as u64, spans / 8));
        let bytes = (sampler.bytes_held() - empty) as f64 / spans as f64;
        println!("{bytes} bytes a span");
        assert!(bytes <= SPAN_BYTES as f64 * 1.15 + 24.0, "{bytes} bytes a span");
    }
}

/// Compresses from 85 % on, down to 80 %.
fn compressing() -> Settings {
    let compress = Some(Relief { from: 0.85, until: 0.8 });
    Settings {
        decision_wait_ns: 30 * SECOND,
        stress_relief: StressRelief { compress, ..StressRelief::default() },
        ..settings(&[ERRORS])
    }
}

/// Lets the sampler work until nothing more is due, and gives back what is left over.
fn settle(sampler: &mut Sampler, now_ns: u64) {
    let mut out = Release::default();
    while sampler.decide_due(now_ns, 1_000, &mut out) {}
    assert!(out.is_empty());
    sampler.forget_bursts();
    while sampler.shrink(now_ns) {}
}

/// Some 100,000 spans as the load generator sends them.
#[test]
fn under_pressure_a_pending_span_costs_a_third_of_its_bytes_and_leaves_as_it_came() {
    let mut sampler = Sampler::new(&compressing(), 3, 1);
    let empty = sampler.bytes_held();
    let (mut out, mut came, mut wire_bytes) = (Release::default(), Vec::new(), 0);
    for (number, spans) in load::requests(12_500).into_iter().enumerate() {
        let (index, segments) = request(&spans);
        sampler.insert(number as u64 * 1_000_000, &index, &segments, Select::All, &mut out);
        wire_bytes += spans.iter().map(|span| span.bytes.len()).sum::<usize>();
        came.extend(spans);
    }
    let of_wire = |sampler: &Sampler| (sampler.bytes_held() - empty) as f64 / wire_bytes as f64;
    settle(&mut sampler, 2 * SECOND);
    println!("{} spans of {} bytes, held: {:.3} of that", came.len(), wire_bytes / came.len(), of_wire(&sampler));
    assert!(of_wire(&sampler) > 1.0);
    sampler.tell_pressure(0.86);
    settle(&mut sampler, 2 * SECOND);
    let counters = sampler.counters();
    let ratio = counters.bytes_compressed as f64 / counters.bytes_compressed_to as f64;
    println!("compressed {ratio:.2} times, held: {:.3} of the bytes of span messages", of_wire(&sampler));
    assert!(of_wire(&sampler) <= 0.35, "{:.3} of their bytes", of_wire(&sampler));

    let failed: std::collections::HashSet<u128> =
        came.iter().filter(|span| span.status == 2).map(|span| span.trace_id).collect();
    came.retain(|span| failed.contains(&span.trace_id));
    let mut kept = decide(&mut sampler, 31 * SECOND);
    kept.sort();
    came.sort();
    assert!(kept == came, "{} spans of {}", kept.len(), came.len());
    settle(&mut sampler, 31 * SECOND);
    // What remains is the memory of decisions and its like.
    assert!(of_wire(&sampler) < 0.15, "{:.3} of their bytes", of_wire(&sampler));
}

#[test]
fn what_is_young_and_what_is_due_soon_is_not_compressed() {
    let mut sampler = Sampler::new(&compressing(), 3, 1);
    insert_traces(&mut sampler, 0, 0..1_000, 0);
    sampler.tell_pressure(0.9);
    settle(&mut sampler, SECOND - 1);
    assert_eq!(sampler.counters().bytes_compressed, 0, "young");
    sampler.tell_pressure(0.79);
    sampler.tell_pressure(0.84);
    settle(&mut sampler, 2 * SECOND);
    assert_eq!(sampler.counters().bytes_compressed, 0, "memory is not short");
    sampler.tell_pressure(0.85);
    settle(&mut sampler, 29 * SECOND);
    assert_eq!(sampler.counters().bytes_compressed, 0, "due soon");
    insert_traces(&mut sampler, 29 * SECOND, 5_000..6_000, 0);
    sampler.tell_pressure(0.81);
    settle(&mut sampler, 30 * SECOND + SECOND / 2);
    let compressed = sampler.counters().bytes_compressed;
    assert!(compressed > 3_000_000, "{compressed} bytes: it goes on below where it began");
    sampler.tell_pressure(0.79);
    insert_traces(&mut sampler, 31 * SECOND, 7_000..8_000, 0);
    settle(&mut sampler, 33 * SECOND);
    assert_eq!(sampler.counters().bytes_compressed, compressed);
}

#[test]
fn a_few_long_traces_do_not_hold_the_compressed_memory_of_many_short_ones() {
    let Settings { decision_wait_ns, stress_relief, .. } = compressing();
    let decision_wait_after_root_ns = Some(3 * SECOND);
    let remembering = remembering(1_000, &[ERRORS]);
    let after_root = Settings { decision_wait_ns, decision_wait_after_root_ns, stress_relief, ..remembering };
    let mut sampler = Sampler::new(&after_root, 3, 1);
    let mut out = Release::default();
    let empty = sampler.bytes_held();
    let mut long = Vec::new();
    for request_number in 0..60u128 {
        let spans: Vec<Span> = (0..100u64)
            .map(|n| {
                // One span in fifty is of a trace that waits for its root.
                let is_long = n % 50 == 0;
                let bytes = (0..4_000u32).map(|at| (at % 500 * 7 + n as u32 * (at % 500) / 9) as u8).collect();
                let span = span(1 + request_number * 1_000 + u128::from(n), n);
                Span { has_parent: is_long, status: if is_long { 2 } else { 0 }, bytes, ..span }
            })
            .collect();
        long.extend(spans.iter().filter(|span| span.has_parent).cloned());
        let (index, segments) = request(&spans);
        sampler.insert(0, &index, &segments, Select::All, &mut out);
    }
    sampler.tell_pressure(0.9);
    settle(&mut sampler, 2 * SECOND);
    assert!(sampler.counters().bytes_compressed > 20_000_000);
    for _ in 0..200 {
        settle(&mut sampler, 4 * SECOND);
    }
    assert_eq!(sampler.pending_spans(), long.len() as u64);
    let held = sampler.bytes_held() - empty;
    assert!(held < 4 * 1024 * 1024, "{held} bytes held for {} spans of 4000 bytes", long.len());
    let mut kept = decide(&mut sampler, 31 * SECOND);
    kept.sort();
    long.sort();
    assert!(kept == long, "moved spans are what they were");
}
