//! Metrics as text.

use super::*;
use codecs::otlp::proto::{
    Buckets, ExponentialHistogramDataPoint, ExportMetricsServiceRequest, HistogramDataPoint, Metric, MetricData,
    NumberDataPoint, NumberValue, SummaryDataPoint,
};

/// See [`super::render`].
pub(super) fn render(verbosity: Verbosity, request: &[u8]) -> String {
    let decoded = match ExportMetricsServiceRequest::decode(request) {
        Ok(decoded) => decoded,
        Err(error) => return format!("Metrics: {} bytes that cannot be shown: {error}\n", request.len()),
    };
    let scopes = decoded.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let metrics: Vec<&Metric> = scopes.flat_map(|scope| &scope.metrics).collect();
    let points: usize = metrics.iter().map(|metric| points(metric).len()).sum();
    let (resources, metrics) = (decoded.resource_metrics.len(), metrics.len());
    let basic =
        format!("Metrics\t{{\"resource metrics\": {resources}, \"metrics\": {metrics}, \"data points\": {points}}}\n");
    match verbosity {
        Verbosity::Basic => basic,
        Verbosity::Normal => format!("{basic}{}", Shown { request: &decoded, is_detailed: false }),
        Verbosity::Detailed => format!("{basic}{}", Shown { request: &decoded, is_detailed: true }),
    }
}

/// A data point of any kind.
enum Point<'a> {
    Number(&'a NumberDataPoint),
    Histogram(&'a HistogramDataPoint),
    Exponential(&'a ExponentialHistogramDataPoint),
    Summary(&'a SummaryDataPoint),
}

fn points(metric: &Metric) -> Vec<Point<'_>> {
    match &metric.data {
        None => Vec::new(),
        Some(MetricData::Gauge(gauge)) => gauge.data_points.iter().map(Point::Number).collect(),
        Some(MetricData::Sum(sum)) => sum.data_points.iter().map(Point::Number).collect(),
        Some(MetricData::Histogram(data)) => data.data_points.iter().map(Point::Histogram).collect(),
        Some(MetricData::ExponentialHistogram(data)) => data.data_points.iter().map(Point::Exponential).collect(),
        Some(MetricData::Summary(summary)) => summary.data_points.iter().map(Point::Summary).collect(),
    }
}

/// One line a data point, or every field.
struct Shown<'a> {
    request: &'a ExportMetricsServiceRequest,
    is_detailed: bool,
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, resource) in self.request.resource_metrics.iter().enumerate() {
            if self.is_detailed {
                writeln!(f, "ResourceMetrics #{number}")?;
                write_resource(f, resource.resource.as_ref(), &resource.schema_url)?;
            } else {
                write_resource_line(f, "ResourceMetrics", number, resource.resource.as_ref(), &resource.schema_url)?;
            }
            for (number, scope) in resource.scope_metrics.iter().enumerate() {
                if self.is_detailed {
                    writeln!(f, "ScopeMetrics #{number}")?;
                    writeln!(f, "ScopeMetrics SchemaURL: {}", Text(&scope.schema_url))?;
                    write_scope(f, scope.scope.as_ref().unwrap_or(&InstrumentationScope::default()))?;
                } else {
                    write_scope_line(f, "ScopeMetrics", number, scope.scope.as_ref(), &scope.schema_url)?;
                }
                for (number, metric) in scope.metrics.iter().enumerate() {
                    if self.is_detailed { write_metric(f, number, metric)? } else { write_lines(f, metric)? }
                }
            }
        }
        Ok(())
    }
}

/// `name{key=value} what it says`, once for each data point.
fn write_lines(f: &mut Formatter<'_>, metric: &Metric) -> fmt::Result {
    for point in points(metric) {
        let attributes = point.attributes();
        write!(f, "{}{{", Text(&metric.name))?;
        for (place, attribute) in attributes.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{}={}", Text(&attribute.key), Plain(attribute.value.as_ref()))?;
        }
        writeln!(f, "}} {}", Value(&point))?;
    }
    Ok(())
}

impl Point<'_> {
    fn attributes(&self) -> &[KeyValue] {
        match self {
            Point::Number(point) => &point.attributes,
            Point::Histogram(point) => &point.attributes,
            Point::Exponential(point) => &point.attributes,
            Point::Summary(point) => &point.attributes,
        }
    }

    /// Since when, and when.
    fn times(&self) -> (u64, u64) {
        match self {
            Point::Number(point) => (point.start_time_unix_nano, point.time_unix_nano),
            Point::Histogram(point) => (point.start_time_unix_nano, point.time_unix_nano),
            Point::Exponential(point) => (point.start_time_unix_nano, point.time_unix_nano),
            Point::Summary(point) => (point.start_time_unix_nano, point.time_unix_nano),
        }
    }

    fn heading(&self) -> &'static str {
        match self {
            Point::Number(_) => "NumberDataPoints",
            Point::Histogram(_) => "HistogramDataPoints",
            Point::Exponential(_) => "ExponentialHistogramDataPoints",
            Point::Summary(_) => "SummaryDataPoints",
        }
    }
}

/// What a point says, in one line.
struct Value<'a>(&'a Point<'a>);

impl Display for Value<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let optional = |f: &mut Formatter<'_>, name: &str, value: Option<f64>| match value {
            Some(value) => write!(f, " {name}={value}"),
            None => Ok(()),
        };
        match self.0 {
            Point::Number(point) => match point.value {
                None => f.write_str("(no value)"),
                Some(NumberValue::AsDouble(value)) => write!(f, "{value}"),
                Some(NumberValue::AsInt(value)) => write!(f, "{value}"),
            },
            Point::Histogram(point) => {
                write!(f, "count={}", point.count)?;
                optional(f, "sum", point.sum)?;
                optional(f, "min", point.min)?;
                optional(f, "max", point.max)?;
                for (place, count) in point.bucket_counts.iter().enumerate() {
                    match point.explicit_bounds.get(place) {
                        Some(bound) => write!(f, " le{bound}={count}")?,
                        None => write!(f, " {count}")?,
                    }
                }
                Ok(())
            }
            Point::Exponential(point) => {
                write!(f, "count={} scale={} zeros={}", point.count, point.scale, point.zero_count)?;
                optional(f, "sum", point.sum)?;
                optional(f, "min", point.min)?;
                optional(f, "max", point.max)?;
                write_buckets(f, "positive", point.positive.as_ref())?;
                write_buckets(f, "negative", point.negative.as_ref())
            }
            Point::Summary(point) => {
                write!(f, "count={} sum={}", point.count, point.sum)?;
                point.quantile_values.iter().try_for_each(|at| write!(f, " q{}={}", at.quantile, at.value))
            }
        }
    }
}

fn write_buckets(f: &mut Formatter<'_>, name: &str, buckets: Option<&Buckets>) -> fmt::Result {
    match buckets {
        Some(buckets) if !buckets.bucket_counts.is_empty() => {
            write!(f, " {name}[{}..]={:?}", buckets.offset, buckets.bucket_counts)
        }
        _ => Ok(()),
    }
}

fn write_metric(f: &mut Formatter<'_>, number: usize, metric: &Metric) -> fmt::Result {
    const TEMPORALITIES: [&str; 3] = ["Unspecified", "Delta", "Cumulative"];
    let temporality = |number: i32| {
        usize::try_from(number).ok().and_then(|place| TEMPORALITIES.get(place)).copied().unwrap_or("Unspecified")
    };
    writeln!(f, "Metric #{number}\nDescriptor:")?;
    writeln!(f, "     -> Name: {}", Text(&metric.name))?;
    writeln!(f, "     -> Description: {}", Text(&metric.description))?;
    writeln!(f, "     -> Unit: {}", Text(&metric.unit))?;
    let (kind, settings) = match &metric.data {
        None => ("Empty", None),
        Some(MetricData::Gauge(_)) => ("Gauge", None),
        Some(MetricData::Sum(sum)) => ("Sum", Some((Some(sum.is_monotonic), sum.aggregation_temporality))),
        Some(MetricData::Histogram(data)) => ("Histogram", Some((None, data.aggregation_temporality))),
        Some(MetricData::ExponentialHistogram(data)) => {
            ("ExponentialHistogram", Some((None, data.aggregation_temporality)))
        }
        Some(MetricData::Summary(_)) => ("Summary", None),
    };
    writeln!(f, "     -> DataType: {kind}")?;
    if let Some((monotonic, number)) = settings {
        if let Some(monotonic) = monotonic {
            writeln!(f, "     -> IsMonotonic: {monotonic}")?;
        }
        writeln!(f, "     -> AggregationTemporality: {}", temporality(number))?;
    }
    for (number, point) in points(metric).iter().enumerate() {
        writeln!(f, "{} #{number}", point.heading())?;
        write_attributes(f, "Data point attributes:", 5, point.attributes())?;
        let (start, time) = point.times();
        writeln!(f, "StartTimestamp: {}", Time(start))?;
        writeln!(f, "Timestamp: {}", Time(time))?;
        writeln!(f, "Value: {}", Value(point))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::otlp::Signal;

    #[test]
    fn points_of_every_kind_are_shown_in_one_line_or_with_their_metric() {
        let json = include_bytes!("../../../../fuzz/corpus/signals/metrics_every_kind.json");
        let mut request = Vec::new();
        codecs::json::read_request(Signal::Metrics, json, &mut request).unwrap();
        let basic = "Metrics\t{\"resource metrics\": 1, \"metrics\": 6, \"data points\": 8}\n";
        assert_eq!(render(Verbosity::Basic, &request), basic);
        let normal = render(Verbosity::Normal, &request);
        for line in [
            "ResourceMetrics #0 service.name=shop\nScopeMetrics #0 meter@1 [https://schema]\n",
            "orders{region=eu} -3\norders{} NaN\n",
            "latency{} count=6 sum=0 min=-1.5 max=inf le0.5=1 le1000=2 3\n",
            "size{} count=9 scale=-2 zeros=1 sum=12.5 min=0 max=9 positive[-5..]=[1, 0, 18446744073709551615]\n",
            "rpc{} count=2 sum=3.5 q0.5=1 q1=2.5\n",
        ] {
            assert!(normal.contains(line), "{line} in {normal}");
        }
        let detailed = render(Verbosity::Detailed, &request);
        for line in [
            "     -> DataType: Sum\n     -> IsMonotonic: true\n     -> AggregationTemporality: Cumulative\n",
            "HistogramDataPoints #1\n",
            "Timestamp: 2023-11-14 22:13:20.000000000 +0000 UTC\nValue: -3\n",
        ] {
            assert!(detailed.contains(line), "{line} in {detailed}");
        }
    }
}
