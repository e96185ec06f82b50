//! What an OpenTelemetry Collector says about itself on its metrics page, and what its traffic would need here.
//!
//! The idea: a counter is looked for under each name that the Collector has given it (with and without `_total` and
//! units), and the first name that is there is taken, so that a page with both spellings is not counted twice. Rates come
//! from two pages, or from one page and the process' uptime. Pure: pages and seconds in, figures out.

use std::ops::AddAssign;

use crate::telemetry::samples::Sample;

/// Nanoseconds of CPU that a span costs here, by the spans of a request. `perf/BUDGET.md` has the table and where the
/// figures come from; a test compares.
pub const COSTS: [Cost; 2] =
    [Cost { spans_per_request: 512, span_ns: 1_800 }, Cost { spans_per_request: 10, span_ns: 5_600 }];

/// One row of [`COSTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Spans that a sender puts into one request.
    pub spans_per_request: u64,
    /// Nanoseconds of one core for each span, from socket to socket.
    pub span_ns: u64,
}

/// Bytes that a gateway at rest may have.
pub const REST_BYTES: u64 = 40 << 20;
/// Bytes that a pending span holds: 370 of its own, its share of the trace's record, and half as much again because chunks
/// are charged whole.
pub const PENDING_SPAN_BYTES: u64 = 580;

/// Counters of one signal, or their rates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Taken by receivers.
    pub accepted: f64,
    /// Turned away by receivers.
    pub refused: f64,
    /// Taken by backends.
    pub sent: f64,
    /// Lost by exporters: given up, or not taken by a full queue.
    pub failed: f64,
}

/// One page.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Seconds of CPU since the start; `None` if the page does not say.
    pub cpu_seconds: Option<f64>,
    /// Seconds since the start; `None` if the page does not say.
    pub uptime_seconds: Option<f64>,
    /// Resident bytes; `None` if the page does not say.
    pub resident_bytes: Option<f64>,
    /// Spans since the start.
    pub spans: Flow,
    /// Data points and log records that were accepted since the start.
    pub other_items: f64,
}

/// What one or several gateways burn and move, each second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Seconds of CPU each second; `None` if a page does not say.
    pub cores: Option<f64>,
    /// Resident bytes; `None` if a page does not say.
    pub resident_bytes: Option<f64>,
    /// Spans each second.
    pub spans: Flow,
    /// Data points and log records each second.
    pub other_items: f64,
}

impl Reading {
    /// Reads a page. The error says that it is no Collector's; `unix_seconds` is the time of the reading.
    pub fn new(samples: &[Sample], unix_seconds: f64) -> Result<Reading, String> {
        if !samples.iter().any(|sample| sample.name.starts_with("otelcol_")) {
            return Err(
                "it has no series of a Collector (`otelcol_...`); is this the Collector's own metrics address?".into(),
            );
        }
        let sum = |names: &[&str]| sum(samples, names);
        let items = |what: &str| sum(&[what]).unwrap_or(0.0);
        let spans = Flow {
            accepted: items("otelcol_receiver_accepted_spans"),
            refused: items("otelcol_receiver_refused_spans"),
            sent: items("otelcol_exporter_sent_spans"),
            failed: items("otelcol_exporter_send_failed_spans") + items("otelcol_exporter_enqueue_failed_spans"),
        };
        let started = sum(&["process_start_time_seconds"]).map(|start| (unix_seconds - start).max(0.0));
        Ok(Reading {
            cpu_seconds: sum(&["otelcol_process_cpu_seconds", "process_cpu_seconds"]),
            uptime_seconds: sum(&["otelcol_process_uptime", "otelcol_process_uptime_seconds"]).or(started),
            resident_bytes: sum(&[
                "otelcol_process_memory_rss",
                "otelcol_process_memory_rss_bytes",
                "process_resident_memory_bytes",
            ]),
            spans,
            other_items: items("otelcol_receiver_accepted_metric_points")
                + items("otelcol_receiver_accepted_log_records"),
        })
    }

    /// Rates since the process started. The error says that the page does not tell when that was.
    pub fn since_start(&self) -> Result<Figures, String> {
        let seconds = self.uptime_seconds.filter(|seconds| *seconds > 0.0);
        let seconds = seconds.ok_or("it does not say how long the process has been running; read it twice instead")?;
        Ok(Reading::default().rates(self, seconds))
    }

    /// Rates between this page and a `later` one. The error says that the process was restarted between them.
    pub fn until(&self, later: &Reading, seconds: f64) -> Result<Figures, String> {
        let shrank = |before: Option<f64>, after: Option<f64>| before.zip(after).is_some_and(|(old, new)| new < old);
        if shrank(self.cpu_seconds, later.cpu_seconds) || later.spans.accepted < self.spans.accepted {
            return Err("it was restarted between the two readings; try again".into());
        }
        let known = Reading { cpu_seconds: self.cpu_seconds.or(later.cpu_seconds), ..*self };
        Ok(known.rates(later, seconds))
    }

    fn rates(&self, later: &Reading, seconds: f64) -> Figures {
        let rate = |before: f64, after: f64| (after - before).max(0.0) / seconds;
        let (before, after) = (self.spans, later.spans);
        Figures {
            cores: later.cpu_seconds.map(|cpu| rate(self.cpu_seconds.unwrap_or(0.0), cpu)),
            resident_bytes: later.resident_bytes,
            spans: Flow {
                accepted: rate(before.accepted, after.accepted),
                refused: rate(before.refused, after.refused),
                sent: rate(before.sent, after.sent),
                failed: rate(before.failed, after.failed),
            },
            other_items: rate(self.other_items, later.other_items),
        }
    }
}

/// The sum of all series of the first of these names that is there, each with and without `_total`.
fn sum(samples: &[Sample], names: &[&str]) -> Option<f64> {
    names.iter().find_map(|name| {
        let total = format!("{name}_total");
        [name, total.as_str()].into_iter().find_map(|name| {
            let mut values = samples.iter().filter(|sample| sample.name == name && sample.value.is_finite()).peekable();
            values.peek()?;
            Some(values.map(|sample| sample.value).sum())
        })
    })
}

impl AddAssign for Figures {
    /// Several gateways together; what one of them does not say is unknown of all.
    fn add_assign(&mut self, other: Figures) {
        let both = |left: Option<f64>, right: Option<f64>| left.zip(right).map(|(left, right)| left + right);
        self.cores = both(self.cores, other.cores);
        self.resident_bytes = both(self.resident_bytes, other.resident_bytes);
        self.spans.accepted += other.spans.accepted;
        self.spans.refused += other.spans.refused;
        self.spans.sent += other.spans.sent;
        self.spans.failed += other.spans.failed;
        self.other_items += other.other_items;
    }
}

/// What spans at a rate would need here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Need {
    /// Cores for each row of [`COSTS`].
    pub cores: [f64; COSTS.len()],
    /// Bytes of memory.
    pub bytes: f64,
}

/// What so many spans each second need; pending traces wait for `decision_wait_ns`.
pub fn need(spans_per_second: f64, decision_wait_ns: u64) -> Need {
    let pending = spans_per_second * decision_wait_ns as f64 / 1e9;
    Need {
        cores: COSTS.map(|cost| spans_per_second * cost.span_ns as f64 / 1e9),
        bytes: REST_BYTES as f64 + pending * PENDING_SPAN_BYTES as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::samples::parse;

    /// A page as the Collector writes it by default, and one with type and unit suffixes.
    const PLAIN: &str = "otelcol_process_cpu_seconds 40\notelcol_process_uptime 20\notelcol_process_memory_rss 1000\n\
        otelcol_receiver_accepted_spans{receiver=\"otlp\",transport=\"grpc\"} 60\n\
        otelcol_receiver_accepted_spans{receiver=\"otlp\",transport=\"http\"} 40\n\
        otelcol_receiver_refused_spans{receiver=\"otlp\"} 20\notelcol_exporter_sent_spans{exporter=\"otlp\"} 10\n\
        otelcol_exporter_send_failed_spans{exporter=\"otlp\"} 4\notelcol_exporter_enqueue_failed_spans{exporter=\"otlp\"} 2\n\
        otelcol_receiver_accepted_metric_points{receiver=\"otlp\"} 200\n";
    const SUFFIXED: &str = "otelcol_process_cpu_seconds_total{otel_scope_name=\"x\"} 40\n\
        otelcol_process_uptime_seconds_total 20\notelcol_process_memory_rss_bytes 1000\n\
        otelcol_receiver_accepted_spans_total{receiver=\"otlp\",transport=\"grpc\"} 100\n\
        otelcol_receiver_refused_spans_total{receiver=\"otlp\"} 20\notelcol_exporter_sent_spans_total 10\n\
        otelcol_exporter_send_failed_spans_total 4\notelcol_exporter_enqueue_failed_spans_total 2\n\
        otelcol_receiver_accepted_metric_points_total 200\n";

    fn reading(page: &str) -> Reading {
        Reading::new(&parse(page).unwrap(), 1_000_020.0).unwrap()
    }

    #[test]
    fn both_spellings_say_the_same_and_a_page_with_both_is_not_counted_twice() {
        let expected = Figures {
            cores: Some(2.0),
            resident_bytes: Some(1000.0),
            spans: Flow { accepted: 5.0, refused: 1.0, sent: 0.5, failed: 0.3 },
            other_items: 10.0,
        };
        for page in [PLAIN, SUFFIXED, &format!("{PLAIN}{SUFFIXED}")] {
            assert_eq!(reading(page).since_start(), Ok(expected), "{page}");
        }
    }

    #[test]
    fn a_page_without_an_uptime_is_helped_by_the_start_time() {
        let reading = reading(
            "otelcol_exporter_sent_spans 10\nprocess_start_time_seconds 1000000\nprocess_cpu_seconds_total 5\n",
        );
        let figures = reading.since_start().unwrap();
        assert_eq!((figures.cores, figures.spans.sent), (Some(0.25), 0.5));
        assert_eq!(figures.resident_bytes, None);
    }

    #[test]
    fn two_readings_give_the_rates_between_them() {
        let later = PLAIN.replace("cpu_seconds 40", "cpu_seconds 55").replace("\"grpc\"} 60", "\"grpc\"} 1060");
        let figures = reading(PLAIN).until(&reading(&later), 10.0).unwrap();
        assert_eq!((figures.cores, figures.spans.accepted, figures.spans.sent), (Some(1.5), 100.0, 0.0));
        assert!(reading(&later).until(&reading(PLAIN), 10.0).unwrap_err().contains("restarted"));
    }

    #[test]
    fn a_page_of_something_else_is_an_error() {
        let error = Reading::new(&parse("go_goroutines 5\n").unwrap(), 0.0).unwrap_err();
        assert!(error.contains("otelcol_"), "{error}");
        assert!(reading("otelcol_exporter_sent_spans 1\n").since_start().is_err());
    }

    #[test]
    fn several_gateways_add_up_and_an_unknown_stays_unknown() {
        let mut sum = reading(PLAIN).since_start().unwrap();
        sum += reading(SUFFIXED).since_start().unwrap();
        assert_eq!((sum.cores, sum.spans.accepted), (Some(4.0), 10.0));
        sum += Figures::default();
        assert_eq!(sum.cores, None);
    }

    #[test]
    fn what_a_span_needs_is_what_the_budget_says() {
        let page = include_str!("../../../perf/BUDGET.md");
        for cost in COSTS {
            let row = format!("| {} | {} |", cost.spans_per_request, cost.span_ns);
            assert!(page.contains(&row), "perf/BUDGET.md has no row {row}");
        }
        assert!(page.contains(&format!("{} MiB at rest", REST_BYTES >> 20)));
        assert!(page.contains(&format!("{PENDING_SPAN_BYTES} B for each pending span")));
        let need = need(50_000.0, 2_000_000_000);
        assert_eq!(need.cores.map(|cores| (cores * 1000.0).round()), [90.0, 280.0]);
        assert_eq!((need.bytes / f64::from(1 << 20)).round(), 95.0);
    }
}
