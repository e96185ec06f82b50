//! Latencies in an HDR histogram: microseconds to minutes at three digits, the same memory for any number of values.

use hdrhistogram::Histogram;

/// Longest latency that is told apart.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// A histogram of latencies in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    histogram: Histogram<u64>,
}

/// The figures of a report, in milliseconds. All 0 if nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Percentiles {
    /// Half are at most this.
    pub(crate) p50: f64,
    /// 95 % are.
    pub(crate) p95: f64,
    /// 99 % are.
    pub(crate) p99: f64,
    /// 99.9 % are.
    pub(crate) p999: f64,
    /// All are.
    pub(crate) max: f64,
}

impl Latency {
    /// An empty histogram.
    pub(crate) fn new() -> Latency {
        let histogram = Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3);
        Latency { histogram: histogram.expect("the bounds are constants the histogram allows") }
    }

    /// Records one latency; longer ones than [`LATENCY_NS_MAX`] count as that.
    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.histogram.saturating_record(latency_ns);
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.histogram.reset();
    }

    /// At a share of 0 to 1, in milliseconds.
    pub(crate) fn at(&self, share: f64) -> f64 {
        self.histogram.value_at_quantile(share) as f64 / 1e6
    }

    /// The figures of a report.
    pub(crate) fn percentiles(&self) -> Percentiles {
        if self.histogram.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            p50: self.at(0.5),
            p95: self.at(0.95),
            p99: self.at(0.99),
            p999: self.at(0.999),
            max: self.histogram.max() as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut latency = Latency::new();
        assert_eq!(latency.percentiles(), Percentiles::default());
        (1..=100_000).for_each(|us| latency.record(us * 1_000));
        let percentiles = latency.percentiles();
        let near = |value: f64, expected: f64| assert!((value / expected - 1.0).abs() < 0.001, "{value} {expected}");
        near(percentiles.p50, 50.0);
        near(percentiles.p99, 99.0);
        near(percentiles.max, 100.0);
    }
}
