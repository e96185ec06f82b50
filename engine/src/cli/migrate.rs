//! `tracegate migrate FILE [--from URL]`: what becomes of each part of a Collector's configuration here, what the old
//! gateway burns by its own account, and what the same traffic would need.
//!
//! The idea: the first half is a review of the file and needs nothing else; the second reads one page from the old gateway,
//! twice. Nothing is started, changed or sent anywhere. What is said of the file is what `validate` says.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::old_gateway::{self, COSTS, Figures, Reading};
use super::{ConfigArguments, Report};
use crate::config::review::{Part, Remark, Review, Verdict, review};
use crate::config::{self, Machine};
use crate::shard::hyper_io::HyperIo;
use crate::telemetry::samples;

/// Arguments of `tracegate migrate`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// The Collector's configuration; several are merged, as with --config
    #[arg(value_name = "FILE")]
    pub files: Vec<String>,
    /// Metrics page of the old gateway, `http://HOST:8888/metrics`; may be given once for each replica
    #[arg(long = "from", value_name = "URL")]
    pub from: Vec<String>,
    /// Seconds between two readings of that page; 0: one reading, averages since the old gateway started
    #[arg(long = "seconds", value_name = "SECONDS", default_value_t = 10)]
    pub seconds: u64,
}

/// How long connecting and answering may take, each.
const STEP_WAIT: Duration = Duration::from_secs(10);
/// Largest page that is read.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// Longest wait between two readings.
const SECONDS_MAX: u64 = 3600;
/// Exit code when something that is used is missing.
const MISSING: u8 = 1;
/// Exit code when there is no answer.
const NO_ANSWER: u8 = 2;

/// Reviews the configuration, and asks the old gateways if there are any.
pub fn run(
    config: &ConfigArguments,
    arguments: &Arguments,
    environment: &dyn Fn(&str) -> Option<String>,
    machine: &Machine,
) -> Report {
    let no_answer = |error: String| Report { exit_code: NO_ANSWER, output: String::new(), errors: error };
    let config = ConfigArguments { config: [&config.config[..], &arguments.files].concat(), set: config.set.clone() };
    if config.config.is_empty() {
        return no_answer(
            "error: no configuration: write `tracegate migrate FILE`, with the Collector's file\n".into(),
        );
    }
    let sources = match config.sources() {
        Ok(sources) => sources,
        Err(error) => return no_answer(format!("error: {error}\n")),
    };
    let review = review(&config::load(&sources, environment, machine));
    let mut report = Report { exit_code: 0, output: parts_text(&config.names(), &review), errors: String::new() };
    if review.lacks_something() {
        report.exit_code = MISSING;
    }
    if arguments.from.is_empty() {
        return report;
    }
    match ask_all(&arguments.from, arguments.seconds.min(SECONDS_MAX)) {
        Ok(figures) => report.output.push_str(&figures_text(&figures, arguments, review.decision_wait_ns)),
        Err(error) => {
            report.exit_code = NO_ANSWER;
            report.errors = format!("error: {error}\n");
        }
    }
    report
}

// The first half: the file.

fn parts_text(name: &str, review: &Review) -> String {
    let mut text = format!("{name}\n");
    for remark in &review.general {
        write_remark(&mut text, remark);
    }
    let mut section = "";
    for part in &review.parts {
        if part.section != section {
            section = part.section;
            let _ = write!(text, "\n{section}\n");
        }
        write_part(&mut text, part);
    }
    let _ = write!(text, "\n{}\n", conclusion(review));
    if !review.unset.is_empty() {
        let _ = writeln!(text, "Not set here, and empty in this review: {}.", review.unset.join(", "));
    }
    text
}

fn write_part(text: &mut String, part: &Part) {
    let verdict = match (part.verdict, part.used) {
        (Verdict::Same, true) => "the same",
        (Verdict::Same, false) => "the same, not used",
        (Verdict::Differs, true) => "differs",
        (Verdict::Differs, false) => "differs, not used",
        (Verdict::Missing, true) => "missing",
        (Verdict::Missing, false) => "missing, not used",
    };
    let _ = writeln!(text, "  {:30} {verdict}", part.id);
    part.remarks.iter().for_each(|remark| write_remark(text, remark));
}

fn write_remark(text: &mut String, remark: &Remark) {
    match remark.place.is_empty() {
        true => _ = writeln!(text, "      {}", remark.text),
        false => _ = writeln!(text, "      {}: {}", remark.place, remark.text),
    }
    if !remark.help.is_empty() {
        let _ = writeln!(text, "          instead: {}", remark.help);
    }
}

fn conclusion(review: &Review) -> String {
    let count = |verdict, used| review.parts.iter().filter(|part| part.verdict == verdict && part.used == used).count();
    let (same, differs, missing) =
        (count(Verdict::Same, true), count(Verdict::Differs, true), count(Verdict::Missing, true));
    let counts = format!("{same} the same, {differs} differ, {missing} missing");
    let unused = match count(Verdict::Missing, false) {
        0 => String::new(),
        count => format!(" {count} more missing and used by nothing: skipped at the start, with a warning."),
    };
    match review.lacks_something() {
        true => {
            format!("{counts}: write what stands behind `instead`, or leave that traffic with the Collector.{unused}")
        }
        false => format!("{counts}: this file runs as it is; change the image.{unused}"),
    }
}

// The second half: the old gateway.

/// All gateways together. They are read at the same time, so that the wait is paid once.
fn ask_all(urls: &[String], seconds: u64) -> Result<Figures, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime to ask with: {error}"))?;
    runtime.block_on(async {
        let asked = urls.iter().map(|url| ask(url, seconds));
        let mut sum: Option<Figures> = None;
        for figures in futures_util::future::join_all(asked).await {
            let figures = figures?;
            match &mut sum {
                Some(sum) => *sum += figures,
                None => sum = Some(figures),
            }
        }
        sum.ok_or_else(|| "no --from".to_owned())
    })
}

async fn ask(url: &str, seconds: u64) -> Result<Figures, String> {
    let at = |error: String| format!("{url}: {error}");
    let first = read(url).await.map_err(at)?;
    if seconds == 0 {
        return first.since_start().map_err(at);
    }
    let begun = Instant::now();
    sleep(Duration::from_secs(seconds)).await;
    let second = read(url).await.map_err(at)?;
    first.until(&second, begun.elapsed().as_secs_f64()).map_err(at)
}

async fn read(url: &str) -> Result<Reading, String> {
    let page = fetch(url).await?;
    let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Reading::new(&samples::parse(&page)?, unix_seconds)
}

/// One page over plain HTTP/1.1.
pub(super) async fn fetch(url: &str) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|error| format!("is no URL ({error}); write http://HOST:8888/metrics"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err("only http:// is read; forward the port (`kubectl port-forward`) and read it from there".into());
        }
        _ => return Err("is no URL; write http://HOST:8888/metrics".into()),
    }
    let host = uri.host().ok_or("has no host; write http://HOST:8888/metrics")?;
    let port = uri.port_u16().unwrap_or(80);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let late = |what: &str| format!("no {what} within {} s", STEP_WAIT.as_secs());
    let stream = timeout(STEP_WAIT, TcpStream::connect((host, port))).await.map_err(|_| late("connection"))?;
    let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
        "/" => "/metrics",
        path => path,
    };
    timeout(STEP_WAIT, exchange(stream, &format!("{host}:{port}"), path)).await.map_err(|_| late("answer"))?
}

async fn exchange(stream: TcpStream, host: &str, path: &str) -> Result<String, String> {
    let broken = |error: hyper::Error| format!("does not answer as HTTP does: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(HyperIo(stream)).await.map_err(broken)?;
    let request = Request::get(path).header(header::HOST, host).header(header::ACCEPT, "text/plain;version=0.0.4");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| format!("cannot be asked for: {error}"))?;
    let page = async move {
        let answer = sender.send_request(request).await.map_err(broken)?;
        if !answer.status().is_success() {
            return Err(format!("answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the page cannot be read: {error}"))?;
        String::from_utf8(body.to_bytes().to_vec()).map_err(|_| "the page is not UTF-8".to_owned())
    };
    // The connection is driven beside the request, and ends with the sender that the request took.
    let (_, page) = futures_util::future::join(connection, page).await;
    page
}

fn figures_text(figures: &Figures, arguments: &Arguments, decision_wait_ns: u64) -> String {
    let gateways = match arguments.from.len() {
        1 => "The old gateway".to_owned(),
        count => format!("The {count} old gateways together"),
    };
    let over = match arguments.seconds {
        0 => "on average since the start".to_owned(),
        seconds => format!("over {seconds} s"),
    };
    let known = |value: Option<f64>, shown: fn(f64) -> String| value.map_or_else(|| "unknown".to_owned(), shown);
    let spans = figures.spans;
    let mut text = format!(
        "\n{gateways}, {over}\n  CPU       {}\n  memory    {} resident\n  spans     {} accepted, {} refused, {} sent, {} \
         failed\n",
        known(figures.cores, cores),
        known(figures.resident_bytes, mebibytes),
        rate(spans.accepted),
        rate(spans.refused),
        rate(spans.sent),
        rate(spans.failed),
    );
    if figures.other_items > 0.0 {
        let _ = writeln!(
            text,
            "  and       {} data points and log records, which are in its CPU and memory and not in what follows",
            rate(figures.other_items)
        );
    }
    // What was refused comes again, so it has to be carried too.
    let need = old_gateway::need(spans.accepted + spans.refused, decision_wait_ns);
    text.push_str("\nThe same spans here (perf/BUDGET.md says where the figures come from)\n");
    for (cost, needed) in COSTS.iter().zip(need.cores) {
        let _ = writeln!(
            text,
            "  CPU       {} if senders put {} spans into a request",
            cores(needed),
            cost.spans_per_request
        );
    }
    let _ = writeln!(
        text,
        "  memory    {}: spans of 370 B, pending for {} s; larger spans take more in proportion",
        mebibytes(need.bytes),
        decision_wait_ns as f64 / 1e9
    );
    text
}

fn cores(cores: f64) -> String {
    format!("{cores:.2} cores")
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

fn rate(rate: f64) -> String {
    if rate >= 10.0 || rate == 0.0 { format!("{rate:.0}/s") } else { format!("{rate:.2}/s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    const MACHINE: Machine = Machine { memory_bytes: 4 << 30 };

    fn migrate(file: &str, from: &[String], seconds: u64) -> Report {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(file);
        let files = vec![path.display().to_string()];
        let arguments = Arguments { files, from: from.to_vec(), seconds };
        run(&ConfigArguments::default(), &arguments, &|_| None, &MACHINE)
    }

    /// A Collector's metrics page that is served once for each text.
    fn old_gateway(pages: &[&str]) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pages: Vec<String> = pages.iter().map(|page| (*page).to_owned()).collect();
        std::thread::spawn(move || {
            for page in pages {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0_u8; 4096];
                let count = stream.read(&mut head).unwrap();
                assert!(head[..count].starts_with(b"GET /metrics HTTP/1.1\r\n"));
                // In chunks, as the Collector answers.
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{page}\r\n0\r\n\r\n",
                    page.len()
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        format!("http://{address}/metrics")
    }

    const PAGE: &str = "otelcol_process_cpu_seconds_total 300\notelcol_process_uptime_seconds_total 100\n\
        otelcol_process_memory_rss_bytes 2147483648\notelcol_receiver_accepted_spans_total{receiver=\"otlp\"} 4000000\n\
        otelcol_receiver_refused_spans_total 1000000\notelcol_exporter_sent_spans_total 280000\n\
        otelcol_exporter_send_failed_spans_total 50\n";

    #[test]
    fn every_part_of_the_file_is_named_with_its_verdict() {
        let report = migrate("agent.yaml", &[], 10);
        assert_eq!((report.exit_code, report.errors.as_str()), (0, ""), "{}", report.output);
        for line in ["receivers\n  otlp", "  batch ", "  resource ", "pipelines\n  traces ", "change the image"] {
            assert!(report.output.contains(line), "{line} not in\n{}", report.output);
        }
    }

    #[test]
    fn what_is_missing_is_exit_code_one_and_says_what_to_write_instead() {
        let report = migrate("corpus/through_kafka.yaml", &[], 10);
        assert_eq!(report.exit_code, 1, "{}", report.output);
        assert!(report.output.contains("missing\n") && report.output.contains("instead: "), "{}", report.output);
        assert!(report.output.contains("leave that traffic with the Collector"), "{}", report.output);
    }

    #[test]
    fn the_old_gateways_figures_stand_beside_what_is_needed_here() {
        let report = migrate("gateway.yaml", &[old_gateway(&[PAGE])], 0);
        assert_eq!((report.exit_code, report.errors.as_str()), (0, ""));
        for line in [
            "The old gateway, on average since the start",
            "CPU       3.00 cores\n",
            "memory    2048 MiB resident",
            "40000/s accepted, 10000/s refused, 2800/s sent, 0.50/s failed",
            "CPU       0.09 cores if senders put 512 spans into a request",
            "CPU       0.28 cores if senders put 10 spans into a request",
            "memory    317 MiB: spans of 370 B, pending for 10 s",
        ] {
            assert!(report.output.contains(line), "{line} not in\n{}", report.output);
        }
    }

    #[test]
    fn several_gateways_are_one_sum() {
        let report = migrate("gateway.yaml", &[old_gateway(&[PAGE]), old_gateway(&[PAGE])], 0);
        assert!(report.output.contains("The 2 old gateways together"), "{}", report.output);
        assert!(report.output.contains("CPU       6.00 cores\n"), "{}", report.output);
    }

    #[test]
    fn no_answer_is_exit_code_two_and_says_from_whom() {
        let page = old_gateway(&["<html>\n"]);
        let report = migrate("gateway.yaml", std::slice::from_ref(&page), 0);
        assert_eq!(report.exit_code, 2);
        assert!(report.errors.contains(&page) && report.errors.contains("<html>"), "{}", report.errors);
        for (url, told) in
            [("https://a/metrics", "port-forward"), ("nothing", "http://HOST"), ("http://127.0.0.1:1/", "connect")]
        {
            let report = migrate("gateway.yaml", &[url.to_owned()], 0);
            assert!(report.exit_code == 2 && report.errors.contains(told), "{}", report.errors);
        }
        let nothing = run(&ConfigArguments::default(), &Arguments::default(), &|_| None, &MACHINE);
        assert_eq!(nothing.exit_code, 2);
        assert!(nothing.errors.contains("migrate FILE"));
    }
}
