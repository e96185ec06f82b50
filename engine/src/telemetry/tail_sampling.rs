//! A sampler's own counters as series: the sampler is pure and knows no cells, so what it has counted since the last
//! turn is added to them here.

use sampling::{Counters, Sampler};

use super::cells::{Cells, Counter};
use super::metrics::TailSamplingSeries;

/// What one sampler has counted, as far as its shard's cells know it.
#[derive(Debug)]
pub struct TailSamplingReport {
    series: TailSamplingSeries,
    /// The sampler's counters at the last update.
    booked: Counters,
    /// Traces of this sampler in the gauge, which samplers of other pipelines share.
    traces_shown: u64,
}

impl TailSamplingReport {
    /// Nothing is booked yet.
    pub fn new(series: TailSamplingSeries) -> TailSamplingReport {
        TailSamplingReport { series, booked: Counters::default(), traces_shown: 0 }
    }

    /// Adds what the sampler has done since the last update.
    pub fn update(&mut self, cells: &Cells, sampler: &Sampler) {
        self.book(cells, sampler.counters(), sampler.pending_traces() as u64);
    }

    fn book(&mut self, cells: &Cells, counters: &Counters, traces: u64) {
        let (series, booked) = (&self.series, &self.booked);
        let pairs: [(Counter, u64, u64); 8] = [
            (series.decisions.sampled, counters.traces_sampled, booked.traces_sampled),
            (series.decisions.not_sampled, counters.traces_not_sampled, booked.traces_not_sampled),
            (series.early_releases.sampled, counters.late_spans_kept, booked.late_spans_kept),
            (series.early_releases.not_sampled, counters.late_spans_dropped, booked.late_spans_dropped),
            (series.new_trace_id_received, counters.traces_new, booked.traces_new),
            (series.policy_evaluation_error, counters.evaluation_errors, booked.evaluation_errors),
            (series.traces_decided_early, counters.traces_decided_early, booked.traces_decided_early),
            (series.spans_without_trace_id, spans_without_id(counters), spans_without_id(booked)),
        ];
        for (counter, now, before) in pairs {
            cells.add(counter, now - before);
        }
        for (place, (verdicts, series)) in counters.policies.iter().zip(&series.policies).enumerate() {
            let before = booked.policies.get(place).copied().unwrap_or_default();
            cells.add(series.sampled, verdicts.sampled - before.sampled);
            cells.add(series.not_sampled, verdicts.not_sampled - before.not_sampled);
        }
        cells.raise(series.traces_on_memory, traces);
        cells.lower(series.traces_on_memory, self.traces_shown);
        self.traces_shown = traces;
        self.booked.clone_from(counters);
    }
}

fn spans_without_id(counters: &Counters) -> u64 {
    counters.idless_spans_kept + counters.idless_spans_dropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::cells::Schema;
    use sampling::counters::Verdicts;

    fn counters(traces: u64) -> Counters {
        Counters {
            traces_new: 3 * traces,
            traces_sampled: traces,
            traces_not_sampled: 2 * traces,
            policies: vec![Verdicts { sampled: traces, not_sampled: 2 * traces, dropped: 0 }],
            ..Counters::default()
        }
    }

    #[test]
    fn each_update_adds_only_what_is_new() {
        let mut schema = Schema::default();
        let series = TailSamplingSeries::declare(&mut schema, "tail_sampling", &["errors".to_owned()]);
        let cells = Cells::new(&schema);
        let mut report = TailSamplingReport::new(series.clone());
        for (traces, pending) in [(10, 7), (10, 7), (15, 2)] {
            report.book(&cells, &counters(traces), pending);
        }
        assert_eq!(cells.read(series.decisions.sampled), 15);
        assert_eq!(cells.read(series.policies[0].not_sampled), 30);
        assert_eq!(cells.read(series.new_trace_id_received), 45);
        assert_eq!(cells.level(series.traces_on_memory), 2);
    }

    #[test]
    fn samplers_of_two_pipelines_share_the_gauge_of_their_processor() {
        let mut schema = Schema::default();
        let series = TailSamplingSeries::declare(&mut schema, "tail_sampling", &[]);
        let cells = Cells::new(&schema);
        let mut first = TailSamplingReport::new(series.clone());
        let mut second = TailSamplingReport::new(series.clone());
        first.book(&cells, &Counters::default(), 5);
        second.book(&cells, &Counters::default(), 8);
        first.book(&cells, &Counters::default(), 1);
        assert_eq!(cells.level(series.traces_on_memory), 9);
    }
}
