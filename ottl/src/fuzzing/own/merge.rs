//! The twin's metrics made of metrics, and points merged, on structs and without any cleverness.

use codecs::otlp::proto::{self, MetricData as Data, NumberValue};

use super::Own;
use crate::histogram::{Explicit, Exponential};
use crate::{Aggregation, Derivation, Extract, Fault, Rebucketing, Reduction, Relabel};

impl Own {
    pub(in crate::fuzzing) fn attributes_of_points(&self) -> Vec<&Vec<proto::KeyValue>> {
        let Self::Metric(metric, _) = self else { return Vec::new() };
        match &metric.data {
            None => Vec::new(),
            Some(Data::Gauge(data)) => data.data_points.iter().map(|point| &point.attributes).collect(),
            Some(Data::Sum(data)) => data.data_points.iter().map(|point| &point.attributes).collect(),
            Some(Data::Histogram(data)) => data.data_points.iter().map(|point| &point.attributes).collect(),
            Some(Data::ExponentialHistogram(data)) => data.data_points.iter().map(|point| &point.attributes).collect(),
            Some(Data::Summary(data)) => data.data_points.iter().map(|point| &point.attributes).collect(),
        }
    }

    pub(in crate::fuzzing) fn derive(&self, derivation: &Derivation) -> Result<Option<proto::Metric>, Fault> {
        let Self::Metric(metric, place) = self else { return Err(Fault::invalid("only metrics are made of")) };
        let named = |suffix: &[u8], data| proto::Metric {
            name: [&*metric.name, suffix].concat(),
            description: metric.description.clone(),
            unit: metric.unit.clone(),
            data: Some(data),
            ..proto::Metric::default()
        };
        Ok(match derivation {
            Derivation::Copy { name, description, unit } => {
                let mut copy = metric.clone();
                for (field, text) in
                    [(&mut copy.name, name), (&mut copy.description, description), (&mut copy.unit, unit)]
                {
                    if let Some(text) = text {
                        *field = text.clone();
                    }
                }
                Some(copy)
            }
            Derivation::Extract(extracted) => {
                let (points, temporality) = match &metric.data {
                    Some(Data::Histogram(data)) => (
                        data.data_points
                            .iter()
                            .map(|it| {
                                let value = taken(extracted.part, it.count, it.sum);
                                number(&it.attributes, it.start_time_unix_nano, it.time_unix_nano, value)
                            })
                            .collect::<Vec<_>>(),
                        data.aggregation_temporality,
                    ),
                    Some(Data::ExponentialHistogram(data)) => (
                        data.data_points
                            .iter()
                            .map(|it| {
                                let value = taken(extracted.part, it.count, it.sum);
                                number(&it.attributes, it.start_time_unix_nano, it.time_unix_nano, value)
                            })
                            .collect(),
                        data.aggregation_temporality,
                    ),
                    Some(Data::Summary(data)) => (
                        data.data_points
                            .iter()
                            .map(|it| {
                                let value = taken(extracted.part, it.count, Some(it.sum));
                                number(&it.attributes, it.start_time_unix_nano, it.time_unix_nano, value)
                            })
                            .collect(),
                        2,
                    ),
                    _ => return Err(Fault::invalid("only histograms and summaries have a count and a sum")),
                };
                if temporality == 0 {
                    return Err(Fault::invalid("the metric has no aggregation temporality"));
                }
                let data_points: Vec<_> = points.into_iter().filter(|point| point.value.is_some()).collect();
                let is_monotonic = extracted.is_monotonic;
                let has_points = !data_points.is_empty();
                let data = Data::Sum(proto::Sum { data_points, aggregation_temporality: temporality, is_monotonic });
                let mut made = named(&extracted.suffix, data);
                if extracted.part == Extract::Count {
                    made.unit = b"1".to_vec();
                }
                has_points.then_some(made)
            }
            Derivation::ConvertPoint { temporality, extracted } => {
                let Some(Data::Summary(data)) = &metric.data else { return Ok(None) };
                let Some(it) = data.data_points.get(*place) else { return Ok(None) };
                let value = taken(extracted.part, it.count, Some(it.sum));
                let point = number(&it.attributes, it.start_time_unix_nano, it.time_unix_nano, value);
                let aggregation_temporality = *temporality as i32;
                let is_monotonic = extracted.is_monotonic;
                let sum = proto::Sum { data_points: vec![point], aggregation_temporality, is_monotonic };
                Some(named(&extracted.suffix, Data::Sum(sum)))
            }
            Derivation::Quantiles { key, suffix } => {
                let Some(Data::Summary(data)) = &metric.data else { return Ok(None) };
                let mut data_points = Vec::new();
                for it in &data.data_points {
                    for quantile in &it.quantile_values {
                        let value = Some(NumberValue::AsDouble(quantile.value));
                        let mut point = number(&it.attributes, it.start_time_unix_nano, it.time_unix_nano, value);
                        point.attributes.retain(|entry| entry.key != *key);
                        let value = Some(proto::AnyValue { value: Some(proto::Value::Double(quantile.quantile)) });
                        point.attributes.push(proto::KeyValue { key: key.clone(), value });
                        data_points.push(point);
                    }
                }
                let has_points = !data_points.is_empty();
                has_points.then(|| named(suffix, Data::Gauge(proto::Gauge { data_points })))
            }
            Derivation::Percentile { percentile, suffix } => {
                let mut data_points = Vec::new();
                match &metric.data {
                    Some(Data::Histogram(data)) => {
                        for it in &data.data_points {
                            let value = explicit(it).percentile(*percentile)?.map(NumberValue::AsDouble);
                            data_points.push(number(&it.attributes, it.start_time_unix_nano, it.time_unix_nano, value));
                        }
                    }
                    Some(Data::ExponentialHistogram(data)) => {
                        for it in &data.data_points {
                            let value = exponential(it).percentile(*percentile)?.map(NumberValue::AsDouble);
                            data_points.push(number(&it.attributes, it.start_time_unix_nano, it.time_unix_nano, value));
                        }
                    }
                    _ => {}
                }
                data_points.retain(|point| point.value.is_some());
                let has_points = !data_points.is_empty();
                let mut made = named(suffix, Data::Gauge(proto::Gauge { data_points }));
                made.description = crate::metric::described(&metric.description, *percentile);
                has_points.then_some(made)
            }
        })
    }

    pub(in crate::fuzzing) fn rebucket(&mut self, rebucketing: &Rebucketing) -> Result<(), Fault> {
        let Self::Metric(metric, _) = self else { return Err(Fault::invalid("only metrics have buckets")) };
        let Some(Data::ExponentialHistogram(data)) = &metric.data else { return Ok(()) };
        let explicit = |it: &proto::ExponentialHistogramDataPoint| proto::HistogramDataPoint {
            attributes: it.attributes.clone(),
            start_time_unix_nano: it.start_time_unix_nano,
            time_unix_nano: it.time_unix_nano,
            count: it.count,
            sum: it.sum,
            bucket_counts: rebucketing.counts(&exponential(it)),
            explicit_bounds: rebucketing.bounds.clone(),
            exemplars: it.exemplars.clone(),
            flags: it.flags,
            min: it.min,
            max: it.max,
        };
        let data_points = data.data_points.iter().map(explicit).collect();
        let aggregation_temporality = data.aggregation_temporality;
        metric.data = Some(Data::Histogram(proto::Histogram { data_points, aggregation_temporality }));
        Ok(())
    }

    pub(in crate::fuzzing) fn aggregate(&mut self, aggregation: &Aggregation) -> Result<(), Fault> {
        let Self::Metric(metric, _) = self else {
            return Err(Fault::invalid("only points of metrics are put together"));
        };
        let Aggregation { relabel, reduction } = aggregation;
        match &mut metric.data {
            None => {}
            Some(Data::Summary(_)) => return Err(Fault::invalid("summaries cannot be aggregated")),
            Some(Data::Gauge(data)) => numbers(&mut data.data_points, relabel, *reduction, false),
            Some(Data::Sum(data)) => {
                numbers(&mut data.data_points, relabel, *reduction, data.aggregation_temporality == 1);
            }
            Some(Data::Histogram(data)) => {
                histograms(&mut data.data_points, relabel, data.aggregation_temporality == 1);
            }
            Some(Data::ExponentialHistogram(data)) => {
                exponential_histograms(&mut data.data_points, relabel, data.aggregation_temporality == 1);
            }
        }
        Ok(())
    }
}

fn explicit(it: &proto::HistogramDataPoint) -> Explicit {
    Explicit {
        count: it.count,
        counts: it.bucket_counts.clone(),
        bounds: it.explicit_bounds.clone(),
        min: it.min,
        max: it.max,
    }
}

fn exponential(it: &proto::ExponentialHistogramDataPoint) -> Exponential {
    Exponential {
        count: it.count,
        scale: it.scale,
        zero_count: it.zero_count,
        zero_threshold: it.zero_threshold,
        positive: it.positive.clone().unwrap_or_default(),
        negative: it.negative.clone().unwrap_or_default(),
    }
}

fn taken(part: Extract, count: u64, sum: Option<f64>) -> Option<NumberValue> {
    match part {
        Extract::Count => Some(NumberValue::AsInt(count as i64)),
        Extract::Sum => sum.map(NumberValue::AsDouble),
    }
}

fn number(attributes: &[proto::KeyValue], start: u64, time: u64, value: Option<NumberValue>) -> proto::NumberDataPoint {
    proto::NumberDataPoint {
        attributes: attributes.to_vec(),
        start_time_unix_nano: start,
        time_unix_nano: time,
        value,
        ..proto::NumberDataPoint::default()
    }
}

fn added(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

fn with_buckets(one: Option<proto::Buckets>, other: Option<proto::Buckets>) -> Option<proto::Buckets> {
    let is_there = |buckets: &proto::Buckets| !buckets.bucket_counts.is_empty();
    let Some(other) = other.filter(is_there) else { return one };
    let Some(one) = one.filter(is_there) else { return Some(other) };
    let counts = |buckets: proto::Buckets| (i64::from(buckets.offset)..).zip(buckets.bucket_counts);
    let mut sums = std::collections::BTreeMap::new();
    for (place, count) in counts(one).chain(counts(other)) {
        *sums.entry(place).or_insert(0) += count;
    }
    let (first, last) = (*sums.first_key_value()?.0, *sums.last_key_value()?.0);
    let bucket_counts = (first..=last).map(|place| sums.get(&place).copied().unwrap_or(0)).collect();
    Some(proto::Buckets { offset: first as i32, bucket_counts })
}

fn relabeled(attributes: &mut Vec<proto::KeyValue>, relabel: &Relabel) {
    match relabel {
        Relabel::Keep => {}
        Relabel::Only(keys) => attributes.retain(|entry| keys.contains(&entry.key)),
        Relabel::Replace { key, values, value } => {
            let Some(first) = attributes.iter().position(|entry| entry.key == *key) else { return };
            let found = attributes[first].value.as_ref().and_then(|any| any.value.as_ref());
            if !matches!(found, Some(proto::Value::String(text)) if values.contains(text)) {
                return;
            }
            attributes[first].value = Some(proto::AnyValue { value: Some(proto::Value::String(value.clone())) });
            let mut place = 0;
            attributes.retain(|entry| {
                place += 1;
                place <= first + 1 || entry.key != *key
            });
        }
    }
}

/// The same entries in any order.
fn same_attributes(one: &[proto::KeyValue], other: &[proto::KeyValue]) -> bool {
    let shown = |entries: &[proto::KeyValue]| {
        let mut shown: Vec<String> = entries
            .iter()
            .map(|entry| {
                let value = super::to_value(entry.value.as_ref());
                format!("{:?} {}", entry.key, sorted(&value))
            })
            .collect();
        shown.sort();
        shown
    };
    shown(one) == shown(other)
}

fn sorted(value: &crate::Value<'_>) -> String {
    match value {
        crate::Value::List(items) => format!("{:?}", items.iter().map(sorted).collect::<Vec<_>>()),
        crate::Value::Map(entries) => {
            let mut shown: Vec<_> = entries.iter().map(|(key, value)| (key.to_vec(), sorted(value))).collect();
            shown.sort_by(|one, other| one.0.cmp(&other.0));
            format!("map {shown:?}")
        }
        other => format!("{other:?}"),
    }
}

fn numbers(points: &mut Vec<proto::NumberDataPoint>, relabel: &Relabel, reduction: Reduction, is_delta: bool) {
    let mut sets: Vec<Vec<proto::NumberDataPoint>> = Vec::new();
    for mut point in std::mem::take(points) {
        relabeled(&mut point.attributes, relabel);
        let same = sets.iter_mut().find(|set| {
            same_attributes(&set[0].attributes, &point.attributes)
                && set[0].time_unix_nano == point.time_unix_nano
                && (!is_delta || set[0].start_time_unix_nano == point.start_time_unix_nano)
        });
        match same {
            Some(set) => set.push(point),
            None => sets.push(vec![point]),
        }
    }
    for set in sets {
        let mut first = set[0].clone();
        first.start_time_unix_nano = set.iter().map(|point| point.start_time_unix_nano).min().unwrap_or(0);
        let values: Vec<NumberValue> = set.iter().filter_map(|point| point.value).collect();
        first.value = match values.first() {
            None => None,
            Some(NumberValue::AsInt(_)) => {
                let values = values.iter().map(|value| match value {
                    NumberValue::AsInt(value) => *value,
                    NumberValue::AsDouble(value) => *value as i64,
                });
                Some(NumberValue::AsInt(int(values.collect(), reduction)))
            }
            Some(NumberValue::AsDouble(_)) => {
                let values = values.iter().map(|value| match value {
                    NumberValue::AsInt(value) => *value as f64,
                    NumberValue::AsDouble(value) => *value,
                });
                Some(NumberValue::AsDouble(double(values.collect(), reduction)))
            }
        };
        points.push(first);
    }
}

fn int(mut values: Vec<i64>, reduction: Reduction) -> i64 {
    let count = values.len();
    values.sort_unstable();
    match reduction {
        Reduction::Sum => values.iter().fold(0, |sum: i64, value| sum.wrapping_add(*value)),
        Reduction::Mean => int(values, Reduction::Sum) / count as i64,
        Reduction::Min => values[0],
        Reduction::Max => values[count - 1],
        Reduction::Count => count as i64,
        Reduction::Median if count % 2 == 1 => values[count / 2],
        Reduction::Median => values[count / 2 - 1].wrapping_add(values[count / 2]) / 2,
    }
}

fn double(values: Vec<f64>, reduction: Reduction) -> f64 {
    let count = values.len();
    let mut in_order = values.clone();
    in_order.sort_by(f64::total_cmp);
    match reduction {
        Reduction::Sum => values.iter().sum(),
        Reduction::Mean => values.iter().sum::<f64>() / count as f64,
        Reduction::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
        Reduction::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Reduction::Count => count as f64,
        Reduction::Median if count % 2 == 1 => in_order[count / 2],
        Reduction::Median => (in_order[count / 2 - 1] + in_order[count / 2]) / 2.0,
    }
}

fn histograms(points: &mut Vec<proto::HistogramDataPoint>, relabel: &Relabel, is_delta: bool) {
    let mut out: Vec<proto::HistogramDataPoint> = Vec::new();
    for mut point in std::mem::take(points) {
        relabeled(&mut point.attributes, relabel);
        let same = out.iter_mut().find(|it| {
            same_attributes(&it.attributes, &point.attributes)
                && it.time_unix_nano == point.time_unix_nano
                && (!is_delta || it.start_time_unix_nano == point.start_time_unix_nano)
                && it.explicit_bounds == point.explicit_bounds
                && it.bucket_counts.len() == point.bucket_counts.len()
                && (it.min.is_some(), it.max.is_some()) == (point.min.is_some(), point.max.is_some())
                && it.flags == point.flags
        });
        let Some(sum) = same else {
            out.push(point);
            continue;
        };
        if point.count == 0 {
            continue;
        }
        sum.count += point.count;
        sum.sum = added(sum.sum, point.sum);
        sum.min = sum.min.zip(point.min).map(|(a, b)| a.min(b));
        sum.max = sum.max.zip(point.max).map(|(a, b)| a.max(b));
        sum.bucket_counts.iter_mut().zip(point.bucket_counts).for_each(|(a, b)| *a += b);
        sum.exemplars.extend(point.exemplars);
        sum.start_time_unix_nano = sum.start_time_unix_nano.min(point.start_time_unix_nano);
    }
    *points = out;
}

fn exponential_histograms(points: &mut Vec<proto::ExponentialHistogramDataPoint>, relabel: &Relabel, is_delta: bool) {
    let mut out: Vec<proto::ExponentialHistogramDataPoint> = Vec::new();
    for mut point in std::mem::take(points) {
        relabeled(&mut point.attributes, relabel);
        let same = out.iter_mut().find(|it| {
            same_attributes(&it.attributes, &point.attributes)
                && it.time_unix_nano == point.time_unix_nano
                && (!is_delta || it.start_time_unix_nano == point.start_time_unix_nano)
                && it.scale == point.scale
                && it.zero_threshold.to_bits() == point.zero_threshold.to_bits()
                && (it.min.is_some(), it.max.is_some()) == (point.min.is_some(), point.max.is_some())
                && it.flags == point.flags
        });
        let Some(sum) = same else {
            out.push(point);
            continue;
        };
        if point.count == 0 {
            continue;
        }
        sum.count += point.count;
        sum.zero_count += point.zero_count;
        sum.sum = added(sum.sum, point.sum);
        sum.min = sum.min.zip(point.min).map(|(a, b)| a.min(b));
        sum.max = sum.max.zip(point.max).map(|(a, b)| a.max(b));
        sum.positive = with_buckets(sum.positive.take(), point.positive);
        sum.negative = with_buckets(sum.negative.take(), point.negative);
        sum.exemplars.extend(point.exemplars);
        sum.start_time_unix_nano = sum.start_time_unix_nano.min(point.start_time_unix_nano);
    }
    *points = out;
}
