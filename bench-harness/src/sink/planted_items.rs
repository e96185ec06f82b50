//! Faults planted one by one in points, records and samples: each must be found, and found as what it is.

use std::rc::Rc;

use codecs::otlp::Signal;

use super::reader::{WriteSlices, read_samples};
use super::{Arrivals, Contents};
use crate::items::{ItemCycle, ItemSettings};
use crate::load::{Log, Outcome};
use crate::sent::Sent;
use crate::traces::{FRAME_PREFIX, wire};
use crate::verdict::{ExporterFindings, compare};

const ITEMS: u64 = 100;
const REQUESTS: u64 = 15;

/// A run in which request 7 was refused and everything else accepted.
struct Run {
    sent: Rc<Sent>,
    log: Rc<Log>,
    arrivals: Arrivals,
}

impl Run {
    fn new(signal: Signal) -> Run {
        Run::answered(signal, |number| number + 1)
    }

    /// Request number n is sent at n ns and answered when `answered` says.
    fn answered(signal: Signal, answered: impl Fn(u64) -> u64) -> Run {
        let sent = Rc::new(Sent::Items(ItemCycle::new(ItemSettings {
            signal,
            seed: 1,
            items_per_request: ITEMS as usize,
            series_min: 1_000,
            connections: 1,
            request_interval_ns: 1_000_000,
            start_unix_ns: 1_700_000_000_000_000_000,
        })));
        let log = Rc::new(Log::new());
        for number in 0..REQUESTS {
            log.send(number, number);
            log.answer(number, answered(number), if number == 7 { Outcome::Refused } else { Outcome::Accepted });
        }
        let arrivals = Arrivals::new(sent.clone(), log.clone(), 1, Contents::Bytes, 0);
        Run { sent, log, arrivals }
    }

    fn cycle(&self) -> &ItemCycle {
        match &*self.sent {
            Sent::Items(cycle) => cycle,
            Sent::Traces(_) => panic!("made of items above"),
        }
    }

    fn request(&self, number: u64) -> Vec<u8> {
        let mut bytes = self.sent.template_bytes(self.sent.template(number)).to_vec();
        self.sent.fill(number, &mut bytes);
        bytes.split_off(FRAME_PREFIX)
    }

    /// Delivers all that was accepted as it was sent, but for one request.
    fn deliver(&self, instead: (u64, Vec<Vec<u8>>)) {
        for number in (0..REQUESTS).filter(|number| *number != 7) {
            if number == instead.0 {
                instead.1.iter().for_each(|request| self.arrivals.request(0, request, 10));
            } else {
                self.arrivals.request(0, &self.request(number), 10);
            }
        }
    }

    /// One sample of each point of a request, as a remote write request.
    fn samples(&self, number: u64, change: impl Fn(u64, &mut f64)) -> Vec<u8> {
        let mut request = Vec::new();
        for item in number * ITEMS..(number + 1) * ITEMS {
            let mut value = self.cycle().value(item);
            change(item, &mut value);
            let time_ms = 1_700_000_000_000 + number;
            let mut sample = Vec::new();
            wire::fixed64(&mut sample, 1, value.to_bits());
            wire::integer(&mut sample, 2, time_ms);
            let mut series = self.cycle().labels(self.cycle().series_of(item)).to_vec();
            wire::bytes(&mut series, 2, &sample);
            wire::bytes(&mut request, 1, &series);
        }
        request
    }

    /// Lost, wrong, doubled, foreign, altered, out of order.
    fn faults(&self) -> [u64; 6] {
        let ids = ["backend".to_owned()];
        let (_, findings) = compare(&self.sent, &self.log, &self.arrivals, None, &ids);
        let ExporterFindings { lost_items, wrong_items, doubled_items, foreign_items, altered_items, .. } = findings[0];
        [lost_items, wrong_items, doubled_items, foreign_items, altered_items, findings[0].out_of_order_items]
    }
}

fn check(signal: Signal, instead: impl Fn(&Run) -> (u64, Vec<Vec<u8>>), expected: [u64; 6]) {
    let run = Run::new(signal);
    run.deliver(instead(&run));
    assert_eq!(run.faults(), expected, "{signal}");
}

fn changed(run: &Run, number: u64, needle: &[u8], by: usize) -> Vec<u8> {
    let mut request = run.request(number);
    let at = request.windows(needle.len()).position(|window| window == needle).unwrap();
    request[at + by] ^= 1;
    request
}

#[test]
fn what_is_lost_doubled_or_of_a_refused_request_is_found() {
    for signal in [Signal::Metrics, Signal::Logs] {
        check(signal, |run| (5, vec![run.request(5)]), [0; 6]);
        check(signal, |_| (5, Vec::new()), [ITEMS, 0, 0, 0, 0, 0]);
        check(signal, |run| (5, vec![run.request(5), run.request(5)]), [0, 0, ITEMS, 0, 0, 0]);
        check(signal, |run| (5, vec![run.request(5), run.request(7)]), [0, ITEMS, 0, 0, 0, 0]);
    }
}

#[test]
fn a_changed_byte_is_found_in_an_item_and_in_what_is_around_it() {
    // A letter of one record's body, of one point's method, of a metric's name, of a resource.
    check(Signal::Logs, |run| (5, vec![changed(run, 5, b"order ", 0)]), [0, 0, 0, 0, 1, 0]);
    check(Signal::Metrics, |run| (5, vec![changed(run, 5, b"POST", 0)]), [0, 0, 0, 0, 1, 0]);
    check(Signal::Metrics, |run| (5, vec![changed(run, 5, b"http.server", 0)]), [0, 0, 0, 0, 10, 0]);
    check(Signal::Metrics, |run| (5, vec![changed(run, 5, b"production", 0)]), [0, 0, 0, 0, ITEMS, 0]);
}

#[test]
fn an_item_that_was_never_sent_is_foreign() {
    let later = |run: &Run| (5, vec![run.request(5), run.request(REQUESTS)]);
    check(Signal::Metrics, later, [0, 0, 0, ITEMS, 0, 0]);
    check(Signal::Logs, later, [0, 0, 0, ITEMS, 0, 0]);
    // A point of another time, a record of another id.
    let time = (1_700_000_000_005_000_000_u64).to_le_bytes();
    let point = |run: &Run| (5, vec![changed(run, 5, &time, 0)]);
    check(Signal::Metrics, point, [1, 0, 0, 1, 0, 0]);
}

/// Takes a remote write request.
fn write(run: &Run, request: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(run.arrivals.write_request(0, request, 10));
}

#[test]
fn samples_of_requests_that_were_under_way_together_have_no_order() {
    let out_of_order = |answered: u64| {
        let run = Run::answered(Signal::Metrics, |number| if number == 3 { answered } else { number + 1 });
        let others = (0..REQUESTS).filter(|number| ![3, 7].contains(number));
        others.chain([3]).for_each(|number| write(&run, &run.samples(number, |_, _| {})));
        run.faults()[5]
    };
    // Request 13, with the same series, leaves at 13.
    assert_eq!(out_of_order(13), ITEMS);
    assert_eq!(out_of_order(14), 0);
}

#[test]
fn a_request_in_slices_is_whole_and_cut_between_series() {
    let run = Run::new(Signal::Metrics);
    let request: Vec<u8> = (0..10).flat_map(|number| run.samples(number, |_, _| {})).collect();
    let slices: Vec<&[u8]> = WriteSlices(&request).collect();
    assert!(slices.len() > 1);
    assert_eq!(slices.concat(), request);
    assert!(slices.iter().all(|slice| read_samples(slice, |_| {}) == Ok(0)));
    // The last series ends too early: its slice is there, and cannot be read.
    let cut = &request[..request.len() - 1];
    assert_eq!(WriteSlices(cut).collect::<Vec<_>>().concat(), cut);
    assert!(WriteSlices(cut).any(|slice| read_samples(slice, |_| {}).is_err()));
}

#[test]
fn samples_are_checked_for_values_labels_and_order() {
    let check = |steps: &dyn Fn(&Run), expected: [u64; 6]| {
        let run = Run::new(Signal::Metrics);
        (0..REQUESTS).filter(|number| ![3, 7, 13].contains(number)).for_each(|number| {
            write(&run, &run.samples(number, |_, _| {}));
        });
        steps(&run);
        assert_eq!(run.faults(), expected);
    };
    let write_samples = |run: &Run, number: u64| write(run, &run.samples(number, |_, _| {}));
    // Requests 3 and 13 carry the same series.
    check(&|run| (write_samples(run, 3), write_samples(run, 13)).1, [0; 6]);
    check(&|run| (write_samples(run, 13), write_samples(run, 3)).1, [0, 0, 0, 0, 0, ITEMS]);
    check(&|run| write_samples(run, 3), [ITEMS, 0, 0, 0, 0, 0]);
    let wrong_value = |run: &Run| {
        let request = run.samples(13, |item, value| *value += f64::from(u8::from(item == 1_305)));
        (write_samples(run, 3), write(run, &request)).1
    };
    check(&wrong_value, [0, 0, 0, 0, 1, 0]);
    let wrong_label = |run: &Run| {
        let mut request = run.samples(13, |_, _| {});
        let at = request.windows(4).position(|window| window == b"shop").unwrap();
        request[at] ^= 1;
        (write_samples(run, 3), write(run, &request)).1
    };
    check(&wrong_label, [0, 0, 0, 0, 1, 0]);
}
