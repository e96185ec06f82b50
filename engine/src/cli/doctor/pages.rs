//! Two readings of one metrics page: what grew between them, and what stands at the end.
//!
//! The idea: a rule asks for a metric by its plain name and the labels it cares about; spellings (`_total`), series of
//! single shards and everything else that a page may have are added up here. A counter that was reset counts from
//! nothing. Pure: text in, figures out.

use std::collections::BTreeMap;

use crate::telemetry::samples::{self, Sample};

/// Both readings.
#[derive(Clone, Debug)]
pub struct Pages {
    before: Vec<Sample>,
    after: Vec<Sample>,
    /// Time between them.
    pub seconds: f64,
    /// The process of the second is not that of the first.
    pub has_restarted: bool,
}

/// The values of the labels that were asked for, in their order; empty where a series has none.
pub type Labels = Vec<String>;

/// How much a counter grew.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Growth {
    /// Between the readings; never negative.
    pub now: f64,
    /// Since the process started.
    pub ever: f64,
}

/// Metrics that say when the process started.
const START_TIME: &str = "process_start_time_seconds";
const UPTIMES: [&str; 2] = ["otelcol_process_uptime", "otelcol_process_uptime_seconds"];
/// A start time may be computed anew for each page.
const START_TOLERANCE_SECONDS: f64 = 2.0;

impl Pages {
    /// Reads both. The error says that a page is none, or none of a gateway.
    pub fn new(before: &str, after: &str, seconds: f64) -> Result<Pages, String> {
        let (before, after) = (samples::parse(before)?, samples::parse(after)?);
        if !after.iter().any(|sample| sample.name.starts_with("otelcol_")) {
            return Err("it has no series of a gateway (`otelcol_...`)".to_owned());
        }
        let single = |page: &[Sample], names: &[&str]| {
            let named = |sample: &&Sample| names.iter().any(|name| is_named(sample, name));
            page.iter().find(named).map(|sample| sample.value)
        };
        let both = |names: &[&str]| single(&before, names).zip(single(&after, names));
        let started_later = both(&[START_TIME]).is_some_and(|(old, new)| new > old + START_TOLERANCE_SECONDS);
        let ran_shorter = both(&UPTIMES).is_some_and(|(old, new)| new < old);
        let has_restarted = started_later || ran_shorter;
        let before = if has_restarted { Vec::new() } else { before };
        Ok(Pages { before, after, seconds, has_restarted })
    }

    /// Whether the page has such a metric.
    pub fn has(&self, name: &str) -> bool {
        self.after.iter().any(|sample| is_named(sample, name))
    }

    /// A counter's growth for each combination of these labels, without series whose label `only.0` is not `only.1`.
    pub fn growth(&self, name: &str, by: &[&str], only: Option<(&str, &str)>) -> BTreeMap<Labels, Growth> {
        let mut growth: BTreeMap<Labels, Growth> = BTreeMap::new();
        let before = sums(&self.before, name, by, only);
        for (labels, ever) in sums(&self.after, name, by, only) {
            let earlier = before.get(&labels).copied().unwrap_or(0.0);
            // Smaller than before without a new process: somebody cleared it.
            let now = if ever < earlier { ever } else { ever - earlier };
            growth.insert(labels, Growth { now, ever });
        }
        growth
    }

    /// A counter's growth over all its series.
    pub fn total(&self, name: &str) -> Growth {
        self.growth(name, &[], None).into_values().next().unwrap_or_default()
    }

    /// A gauge at the end, added up for each combination of these labels.
    pub fn gauge(&self, name: &str, by: &[&str]) -> BTreeMap<Labels, f64> {
        sums(&self.after, name, by, None)
    }

    /// A gauge at the beginning.
    pub fn gauge_before(&self, name: &str, by: &[&str]) -> BTreeMap<Labels, f64> {
        sums(&self.before, name, by, None)
    }

    /// The highest series of a gauge, at the end; at level `detailed` each shard has one.
    pub fn highest(&self, name: &str, by: &[&str]) -> BTreeMap<Labels, f64> {
        let mut highest = BTreeMap::new();
        for sample in self.after.iter().filter(|sample| is_named(sample, name) && sample.value.is_finite()) {
            let value = highest.entry(values(sample, by)).or_insert(sample.value);
            *value = sample.value.max(*value);
        }
        highest
    }
}

/// Under its plain name, or with the suffix of counters.
fn is_named(sample: &Sample, name: &str) -> bool {
    sample.name.strip_prefix(name).is_some_and(|suffix| suffix.is_empty() || suffix == "_total")
}

fn values(sample: &Sample, by: &[&str]) -> Labels {
    let value = |name: &&str| sample.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.clone());
    by.iter().map(|name| value(name).unwrap_or_default()).collect()
}

/// A page may have both spellings of a metric: only the first that is there counts.
fn sums(page: &[Sample], name: &str, by: &[&str], only: Option<(&str, &str)>) -> BTreeMap<Labels, f64> {
    let Some(spelled) = page.iter().find(|sample| is_named(sample, name)).map(|sample| &sample.name) else {
        return BTreeMap::new();
    };
    let is_wanted = |sample: &Sample| {
        only.is_none_or(|(label, value)| sample.labels.iter().any(|(name, found)| name == label && found == value))
    };
    let mut sums = BTreeMap::new();
    for sample in page.iter().filter(|sample| sample.name == *spelled && sample.value.is_finite() && is_wanted(sample))
    {
        *sums.entry(values(sample, by)).or_insert(0.0) += sample.value;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "otelcol_a{x=\"1\",y=\"p\"} 10\notelcol_a{x=\"1\",y=\"q\"} 1\notelcol_a{x=\"2\",y=\"p\"} 5\n\
        otelcol_process_uptime 60\n";
    const AFTER: &str = "otelcol_a_total{x=\"1\",y=\"p\"} 14\notelcol_a_total{x=\"1\",y=\"q\"} 1\n\
        otelcol_a_total{x=\"2\",y=\"p\"} 2\notelcol_process_uptime 65\n";

    fn labels(names: &[&str]) -> Labels {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn series_are_added_up_by_the_labels_that_were_asked_for() {
        let pages = Pages::new(BEFORE, AFTER, 5.0).unwrap();
        let growth = pages.growth("otelcol_a", &["x"], None);
        assert_eq!(growth[&labels(&["1"])], Growth { now: 4.0, ever: 15.0 });
        // A counter that fell counts from nothing.
        assert_eq!(growth[&labels(&["2"])], Growth { now: 2.0, ever: 2.0 });
        let only_q = pages.growth("otelcol_a", &["x"], Some(("y", "q")));
        assert_eq!(only_q.into_iter().collect::<Vec<_>>(), [(labels(&["1"]), Growth { now: 0.0, ever: 1.0 })]);
        assert_eq!(pages.highest("otelcol_a", &[])[&labels(&[])], 14.0);
        assert_eq!(pages.total("otelcol_none"), Growth::default());
    }

    #[test]
    fn a_page_with_both_spellings_is_not_counted_twice() {
        let both = format!("{AFTER}otelcol_a{{x=\"1\",y=\"p\"}} 14\n");
        let pages = Pages::new("", &both, 5.0).unwrap();
        assert_eq!(pages.growth("otelcol_a", &["x"], None)[&labels(&["1"])].ever, 15.0);
    }

    #[test]
    fn a_restart_is_seen_and_counts_from_nothing() {
        for (old, new) in [
            ("otelcol_process_uptime 9", "otelcol_process_uptime 2"),
            ("process_start_time_seconds 100", "process_start_time_seconds 200"),
        ] {
            let pages = Pages::new(&format!("otelcol_b 7\n{old}\n"), &format!("otelcol_b 9\n{new}\n"), 5.0).unwrap();
            assert!(pages.has_restarted);
            assert_eq!(pages.total("otelcol_b"), Growth { now: 9.0, ever: 9.0 });
        }
        assert!(!Pages::new(BEFORE, AFTER, 5.0).unwrap().has_restarted);
    }

    #[test]
    fn what_is_no_page_of_a_gateway_is_an_error() {
        assert!(Pages::new("go_goroutines 5\n", "go_goroutines 5\n", 5.0).unwrap_err().contains("otelcol_"));
        assert!(Pages::new("<html>", "<html>", 5.0).unwrap_err().contains("line 1"));
    }
}
