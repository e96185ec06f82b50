//! Reads Prometheus text from a loopback address.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest page that is read.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// How long a page may take.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// All samples of one scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Reads the text format; lines that are not samples are skipped.
    pub(crate) fn parse(text: &str) -> Metrics {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Metrics { samples: lines.filter_map(parse_sample).collect() }
    }

    /// The sum of all series of a counter with these labels, `_total` or not; `None` if there is no such series.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        let named = |sample: &&Sample| sample.name.strip_suffix("_total").unwrap_or(&sample.name) == name;
        let labelled = |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.iter().any(|(k, v)| k == key && v == value);
            labels.iter().all(has)
        };
        let values: Vec<f64> = self.samples.iter().filter(named).filter(labelled).map(|sample| sample.value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() as u64)
    }

    /// Bound of the bucket of a histogram below which this share of all values lies that were observed since `before`, over
    /// all series; `None` if there were none.
    pub(crate) fn below(&self, histogram: &str, share: f64, before: &Metrics) -> Option<f64> {
        let buckets = format!("{histogram}_bucket");
        let label = |sample: &Sample| sample.labels.iter().find(|(key, _)| key == "le").map(|(_, bound)| bound.clone());
        let mut bounds: Vec<String> =
            self.samples.iter().filter(|sample| sample.name == buckets).filter_map(label).collect();
        let number = |text: &String| text.parse::<f64>().unwrap_or(f64::INFINITY);
        bounds.sort_by(|a, b| number(a).total_cmp(&number(b)));
        let observed = |bound: &String| {
            let of = |metrics: &Metrics| metrics.sum(&buckets, &[("le", bound)]).unwrap_or(0);
            of(self).saturating_sub(of(before)) as f64
        };
        let wanted = share * observed(bounds.last()?);
        bounds.iter().find(|bound| wanted > 0.0 && observed(bound) >= wanted).map(number)
    }
}

/// Gets `/metrics`.
pub(crate) async fn scrape(address: SocketAddr) -> io::Result<Metrics> {
    let page = tokio::time::timeout(SCRAPE_TIMEOUT, read_page(address)).await??;
    let (head, body) = page.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("not an HTTP answer"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        return Err(io::Error::other(format!("the metrics address answers {status}")));
    }
    // Chunk sizes, if any, are lines that are no samples.
    Ok(Metrics::parse(body))
}

async fn read_page(address: SocketAddr) -> io::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    socket.take(PAGE_BYTES_MAX).read_to_string(&mut page).await?;
    Ok(page)
}

/// `name{label="value",...} value`
fn parse_sample(line: &str) -> Option<Sample> {
    let (series, value) = line.trim().rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return Some(Sample { name: series.to_owned(), labels: Vec::new(), value });
    };
    let mut rest = rest.strip_suffix('}')?;
    let mut labels = Vec::new();
    while let Some((key, after)) = rest.split_once("=\"") {
        let (value, after) = parse_label_value(after)?;
        labels.push((key.trim_start_matches(',').trim().to_owned(), value));
        rest = after;
    }
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Up to the closing quote; `\\`, `\"` and `\n` are escapes.
fn parse_label_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_are_not_asked() {
        let metrics = Metrics::parse(
            "# HELP sent spans\n# TYPE sent counter\nsent{exporter=\"otlp/a\",x=\"1\"} 3\n\
             sent{exporter=\"otlp/a\",x=\"2\"} 4\nsent{exporter=\"otlp/b\",x=\"}\\\" \"} 5\nplain_total 1.2e3\n",
        );
        assert_eq!(metrics.sum("sent", &[("exporter", "otlp/a")]), Some(7));
        assert_eq!(metrics.sum("sent", &[("x", "}\" ")]), Some(5));
        assert_eq!(metrics.sum("sent", &[]), Some(12));
        assert_eq!(metrics.sum("plain", &[]), Some(1_200));
        assert_eq!(metrics.sum("sent", &[("exporter", "otlp/c")]), None);
        assert_eq!(metrics.sum("absent", &[]), None);
    }

    #[test]
    fn most_values_of_a_histogram_lie_below_a_bucket() {
        let text = |[first, second, all]: [u64; 3]| {
            let line = |bound: &str, count: u64| format!("late_bucket{{processor=\"a\",le=\"{bound}\"}} {count}\n");
            Metrics::parse(&(line("+Inf", all) + &line("0.5", second) + &line("0.25", first)))
        };
        let (before, after) = (text([10, 10, 10]), text([109, 110, 110]));
        assert_eq!(after.below("late", 0.5, &before), Some(0.25));
        assert_eq!(after.below("late", 0.99, &before), Some(0.25));
        assert_eq!(after.below("late", 1.0, &before), Some(0.5));
        assert_eq!(text([10, 10, 11]).below("late", 0.99, &before), Some(f64::INFINITY));
        assert_eq!(before.below("late", 0.99, &before), None);
        assert_eq!(before.below("early", 0.99, &before), None);
    }
}
