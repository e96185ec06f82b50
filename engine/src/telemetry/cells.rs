//! Counters, gauges and histograms without sharing: a series is a range of numbers, a shard owns one cell per number,
//! a scrape copies each shard's cells and folds them.
//!
//! ```text
//! schema: [accepted][refused][queue_size][latency: bucket bucket bucket sum] ...   one, built before any shard starts
//! shard 0 cells: 12   0   3   4 1 0 88                                             a copy is a snapshot
//! shard 1 cells: 10   2   1   0 0 1 93
//! fold:          22   2   4   4 1 1 181                                            what a scrape shows
//! ```
//!
//! The schema is built from the configuration, so every series of a configured component exists at 0 from the start and
//! all shards agree on the numbers. Another configuration may add series behind the others, for which each shard has
//! spare cells; none is ever taken away. Nothing here is shared between threads; nothing allocates after `new`.

use std::cell::Cell;
use std::rc::Rc;

use crate::config::checked::MetricsLevel;

/// How a series is exposed and folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the process value is the sum over shards.
    Counter,
    /// Set by each shard; the process value is the sum over shards.
    Gauge,
    /// Set by each shard; the process value is the highest shard's, so that one full shard is visible in a total.
    Highest,
    /// Counts observations by size; summed over shards.
    Histogram(&'static Bounds),
}

/// Bucket bounds of a histogram.
#[derive(Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest value of each bucket, ascending; one more bucket without a bound follows.
    pub upper: &'static [u64],
    /// Observed units in one exposed unit: 1,000,000 where nanoseconds are observed and milliseconds shown.
    pub per_unit: u64,
}

/// One metric, declared once in `metrics`.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name in the Collector's plain spelling, without `_total`.
    pub name: &'static str,
    /// What it counts, as `/metrics` says it.
    pub help: &'static str,
    /// What only the reference says of it, or nothing.
    pub more: &'static str,
    /// What one of it is, in words: `spans`, `bytes`, `seconds`.
    pub unit: &'static str,
    /// Names of the labels of each of its series, in the order they are written.
    pub labels: &'static [&'static str],
    /// How it is exposed.
    pub kind: Kind,
    /// Shown from this level on.
    pub level: MetricsLevel,
}

/// A series: a metric with its label values.
#[derive(Clone, Debug)]
pub struct Series {
    /// Which metric.
    pub metric: &'static Metric,
    /// Label names and values, in the order they are written.
    pub labels: Vec<(&'static str, String)>,
    /// Position of its first cell in a snapshot.
    pub cell: usize,
}

impl Series {
    /// How many cells it takes: one, or for a histogram one per bucket and one for the sum.
    pub fn cell_count(&self) -> usize {
        match self.metric.kind {
            Kind::Counter | Kind::Gauge | Kind::Highest => 1,
            Kind::Histogram(bounds) => bounds.upper.len() + 2,
        }
    }

    /// Its cells in a snapshot of the schema it belongs to.
    pub fn values<'v>(&self, snapshot: &'v [u64]) -> &'v [u64] {
        &snapshot[self.cell..self.cell + self.cell_count()]
    }

    /// Value of the label `name`.
    pub fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| *label == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// All series of a process, in declaration order.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    series: Vec<Series>,
    cell_count: usize,
}

/// Cells of each shard for series that are declared while it runs: some thousand new policies. 32 KiB.
const SPARE_CELLS: usize = 4096;

/// Number of a counter series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter(pub u32);

/// Number of a gauge series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge(pub u32);

/// First number of a histogram series, and its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    first: u32,
    bounds: &'static Bounds,
}

impl Schema {
    /// Declares a counter series. The same metric and labels give the same number: components share a series by naming it.
    pub fn counter(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Counter {
        assert_eq!(metric.kind, Kind::Counter, "{} is a counter", metric.name);
        Counter(self.number(metric, labels))
    }

    /// Declares a gauge series, summed or highest.
    pub fn gauge(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Gauge {
        assert!(matches!(metric.kind, Kind::Gauge | Kind::Highest), "{} is a gauge", metric.name);
        Gauge(self.number(metric, labels))
    }

    /// Declares a histogram series.
    pub fn histogram(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Histogram {
        let Kind::Histogram(bounds) = metric.kind else {
            panic!("{} is a histogram", metric.name);
        };
        Histogram { first: self.number(metric, labels), bounds }
    }

    /// Most cells of a schema that goes on from this one, so that the cells made for this one have room for it.
    pub fn cells_max(&self) -> usize {
        self.cell_count + SPARE_CELLS
    }

    /// Cells of all series.
    pub fn cell_count(&self) -> usize {
        self.cell_count
    }

    /// All series, in declaration order.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// Process values: each series folded over all shards' snapshots as its kind says. Without shards all are 0.
    ///
    /// Every snapshot must come from cells of this schema, or of one that it goes on from.
    pub fn fold(&self, shards: &[Vec<u64>]) -> Vec<u64> {
        let mut total = vec![0u64; self.cell_count];
        for shard in shards {
            assert!(shard.len() >= self.cell_count, "a snapshot of another schema");
            for series in &self.series {
                let fold = match series.metric.kind {
                    Kind::Highest => u64::max,
                    Kind::Counter | Kind::Gauge | Kind::Histogram(_) => u64::wrapping_add,
                };
                for cell in series.cell..series.cell + series.cell_count() {
                    total[cell] = fold(total[cell], shard[cell]);
                }
            }
        }
        total
    }

    fn number(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> u32 {
        let wanted = || labels.iter().copied();
        let same = |series: &&Series| {
            let labels = series.labels.iter();
            std::ptr::eq(series.metric, metric) && labels.map(|(name, value)| (*name, value.as_str())).eq(wanted())
        };
        let known = self.series.iter().find(same).map(|series| series.cell);
        let cell = known.unwrap_or_else(|| {
            let labels = wanted().map(|(name, value)| (name, value.to_owned())).collect();
            let cell = self.cell_count;
            let series = Series { metric, labels, cell };
            self.cell_count += series.cell_count();
            self.series.push(series);
            cell
        });
        u32::try_from(cell).expect("series are bounded by the configuration")
    }
}

/// One shard's cells. Cloning shares them within the shard.
#[derive(Clone, Debug)]
pub struct Cells(Rc<[Cell<u64>]>);

impl Cells {
    /// All cells at 0, with spare ones.
    pub fn new(schema: &Schema) -> Cells {
        Cells((0..schema.cells_max()).map(|_| Cell::new(0)).collect())
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

    /// Raises a gauge: something came in.
    pub fn raise(&self, gauge: Gauge, amount: u64) {
        let cell = &self.0[gauge.0 as usize];
        cell.set(cell.get() + amount);
    }

    /// Lowers a gauge: something left. More than came in is a mistake of ours that the books then show.
    pub fn lower(&self, gauge: Gauge, amount: u64) {
        let cell = &self.0[gauge.0 as usize];
        debug_assert!(cell.get() >= amount, "more left a gauge than came in");
        cell.set(cell.get().wrapping_sub(amount));
    }

    /// Counts one observation.
    pub fn observe(&self, histogram: Histogram, value: u64) {
        let upper = histogram.bounds.upper;
        let first = histogram.first as usize;
        let bucket = &self.0[first + upper.partition_point(|bound| *bound < value)];
        bucket.set(bucket.get() + 1);
        let sum = &self.0[first + upper.len() + 1];
        sum.set(sum.get().wrapping_add(value));
    }

    /// Adds observations that somebody else has counted: how many of which size, and the sum of all.
    pub fn observe_counted(&self, histogram: Histogram, counts: impl Iterator<Item = (u64, u64)>, sum_of_all: u64) {
        let upper = histogram.bounds.upper;
        let first = histogram.first as usize;
        for (value, count) in counts {
            let bucket = &self.0[first + upper.partition_point(|bound| *bound < value)];
            bucket.set(bucket.get() + count);
        }
        let sum = &self.0[first + upper.len() + 1];
        sum.set(sum.get().wrapping_add(sum_of_all));
    }

    /// Reads a counter back, for the ledger's own assertions.
    pub fn read(&self, counter: Counter) -> u64 {
        self.0[counter.0 as usize].get()
    }

    /// Reads a gauge back.
    pub fn level(&self, gauge: Gauge) -> u64 {
        self.0[gauge.0 as usize].get()
    }

    /// Copies all cells for a scrape, spare ones too.
    pub fn snapshot(&self) -> Vec<u64> {
        self.0.iter().map(Cell::get).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SPANS: Metric = metric("spans", Kind::Counter);
    static DEPTH: Metric = metric("depth", Kind::Gauge);
    static FULLEST: Metric = metric("fullest", Kind::Highest);
    static LATENCY: Metric = metric("latency", Kind::Histogram(&Bounds { upper: &[10, 20], per_unit: 1 }));

    const fn metric(name: &'static str, kind: Kind) -> Metric {
        Metric { name, help: "", more: "", unit: "", labels: &[], kind, level: MetricsLevel::Basic }
    }

    #[test]
    fn naming_a_series_again_gives_the_same_cell() {
        let mut schema = Schema::default();
        let first = schema.counter(&SPANS, &[("exporter", "a")]);
        let other = schema.counter(&SPANS, &[("exporter", "b")]);
        assert_eq!(schema.counter(&SPANS, &[("exporter", "a")]), first);
        assert_ne!(first, other);
        assert_eq!(schema.series().len(), 2);
    }

    #[test]
    fn observations_that_were_counted_elsewhere_fall_into_the_same_buckets() {
        let mut schema = Schema::default();
        let latency = schema.histogram(&LATENCY, &[]);
        let [one_by_one, counted] = [(); 2].map(|()| Cells::new(&schema));
        for value in [0, 10, 11, 20, 20, 21] {
            one_by_one.observe(latency, value);
        }
        counted.observe_counted(latency, [(0, 1), (10, 1), (11, 1), (20, 2), (21, 1)].into_iter(), 82);
        assert_eq!(counted.snapshot(), one_by_one.snapshot());
        assert_eq!(schema.fold(&[counted.snapshot()]), [2, 3, 1, 82]);
    }

    #[test]
    fn counters_and_gauges_are_summed_and_a_highest_gauge_shows_the_fullest_shard() {
        let mut schema = Schema::default();
        let latency = schema.histogram(&LATENCY, &[]);
        let spans = schema.counter(&SPANS, &[]);
        let depth = schema.gauge(&DEPTH, &[]);
        let fullest = schema.gauge(&FULLEST, &[]);
        let shard = |amount: u64| {
            let cells = Cells::new(&schema);
            cells.add(spans, amount);
            cells.raise(depth, amount);
            cells.lower(depth, 1);
            cells.set(fullest, amount);
            cells.observe(latency, amount);
            cells.snapshot()
        };
        let total = schema.fold(&[shard(10), shard(11), shard(99)]);
        assert_eq!(total, [1, 1, 1, 120, 120, 117, 99], "buckets, sum, spans, depth, fullest");
        assert_eq!(schema.fold(&[]), [0; 7]);
    }
}
