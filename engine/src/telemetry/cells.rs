//! Counters and gauges without sharing: a series is a number, a shard owns one cell per series, a scrape copies each
//! shard's cells and sums them.
//!
//! The schema is built once from the configuration, before any shard starts, so every series of a configured component
//! exists at 0 from the start and all shards agree on the numbers.

use std::cell::Cell;
use std::rc::Rc;

/// How a series is exposed and summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; process value is the sum over shards.
    Counter,
    /// Set by each shard; process value is the sum over shards.
    Gauge,
}

/// One metric, declared once in `metrics.rs`.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name in the Collector's plain spelling, without `_total`.
    pub name: &'static str,
    /// What it counts, with its unit.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
}

/// A series: a metric with its label values.
#[derive(Clone, Debug)]
pub struct Series {
    /// Which metric.
    pub metric: &'static Metric,
    /// Label names and values, in the order they are written.
    pub labels: Vec<(&'static str, String)>,
}

/// All series of a process, in declaration order.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// A series' position is its number.
    pub series: Vec<Series>,
}

/// Number of a counter series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter(pub u32);

/// Number of a gauge series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge(pub u32);

impl Schema {
    /// Declares a counter series. The same metric and labels give the same number: components share a series by naming it.
    pub fn counter(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Counter {
        assert_eq!(
            metric.kind,
            Kind::Counter,
            "{} is declared as a counter",
            metric.name
        );
        Counter(self.number(metric, labels))
    }

    /// Declares a gauge series.
    pub fn gauge(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Gauge {
        assert_eq!(
            metric.kind,
            Kind::Gauge,
            "{} is declared as a gauge",
            metric.name
        );
        Gauge(self.number(metric, labels))
    }

    fn number(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> u32 {
        let same = |series: &Series| {
            std::ptr::eq(series.metric, metric)
                && series
                    .labels
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .eq(labels.iter().copied())
        };
        let position = self.series.iter().position(same).unwrap_or_else(|| {
            let labels = labels
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect();
            self.series.push(Series { metric, labels });
            self.series.len() - 1
        });
        u32::try_from(position).expect("series are bounded by the configuration")
    }
}

/// One shard's cells. Cloning shares them within the shard.
#[derive(Clone, Debug)]
pub struct Cells(Rc<[Cell<u64>]>);

impl Cells {
    /// All cells at 0.
    pub fn new(schema: &Schema) -> Cells {
        Cells(schema.series.iter().map(|_| Cell::new(0)).collect())
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, amount: u64) {
        let cell = &self.0[counter.0 as usize];
        cell.set(cell.get() + amount);
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.0[gauge.0 as usize].set(value);
    }

    /// Reads a counter back, for the ledger's own assertions.
    pub fn read(&self, counter: Counter) -> u64 {
        self.0[counter.0 as usize].get()
    }

    /// Copies all cells for a scrape.
    pub fn snapshot(&self) -> Vec<u64> {
        self.0.iter().map(Cell::get).collect()
    }
}
