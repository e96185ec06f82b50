//! The benchmarks: a span, a span with attributes, a batch of spans to a gateway that acknowledges and discards.
//!
//! ```text
//! SDK --end--> Discard (counts nothing)                       creation, with attributes
//! SDK --end--> Collect --clone--> exporter --gRPC--> gateway  batch export: encoding, sending, the acknowledgement
//! ```
//!
//! The one idea: the whole process is counted around one operation that runs alone, so that what a library does behind
//! the caller's back counts as well. Costs are of the application, not of the gateway.

use std::hint::black_box;
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use codecs::otlp::Signal;
use opentelemetry::trace::{Span as _, SpanKind, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor};
use stats_alloc::Region;

use super::table::{self, Cost, Row};
use crate::cli::SdkArguments;
use crate::gateway::{Addresses, Configuration, Gateway, Launch, Work, release_binary, scrape};
use crate::output::print_line;

/// Attributes of a span that has some: what the figures given to the design amount to.
const ATTRIBUTES: usize = 5;
/// The SDK's default.
const BATCH_SPANS: usize = 512;
/// Each is measured alone; the one in the middle is shown.
const ROUNDS: usize = 7;
const SPANS_IN_ROUND: u64 = 200_000;
const BATCHES_IN_ROUND: u64 = 100;
/// For one export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// Measures, prints, and fails if the gateway has not taken every span.
pub(in crate::commands) fn run(arguments: &SdkArguments) -> io::Result<ExitCode> {
    let binary = arguments.gateway.clone().map_or_else(release_binary, Ok)?;
    let plain = spans_round(|tracer| tracer.start("GET /cart"))?;
    let attributed = spans_round(|tracer| {
        tracer.build_with_context(tracer.span_builder("GET /cart").with_attributes(attributes()), &Context::new())
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (batch, sent, accepted) = runtime.block_on(batches(arguments, binary))?;
    let rows = rows(plain, attributed, batch);
    print_line(&table::text(&rows));
    print_line(&format!("the gateway accepted {accepted} of {sent} spans in batches of {BATCH_SPANS}"));
    if let Some(path) = &arguments.json {
        std::fs::write(path, format!("{:#}\n", table::json(&rows, accepted)))?;
    }
    Ok(if accepted == sent { ExitCode::SUCCESS } else { ExitCode::from(super::super::EXIT_FAILED) })
}

/// The figures of the design's first page are of the SDK of Go, with 8 processors.
fn rows(plain: Cost, attributed: Cost, batch: Cost) -> Vec<Row> {
    let given = |ns, bytes, allocations| Some(Cost { ns, bytes, allocations });
    let row = |key, operation, operations, cost, expected| Row { key, operation, operations, cost, expected };
    vec![
        row("span_creation", "span: start, end", SPANS_IN_ROUND, plain, given(1_200.0, 480.0, 8.0)),
        row(
            "span_with_attributes",
            "span with 5 attributes: start, end",
            SPANS_IN_ROUND,
            attributed,
            given(2_400.0, 960.0, 16.0),
        ),
        row(
            "attribute",
            "  of that, each attribute",
            SPANS_IN_ROUND,
            attributed.beyond(plain, ATTRIBUTES as f64),
            None,
        ),
        row("batch_export", "batch of 512 spans: export over gRPC", BATCHES_IN_ROUND, batch, None),
        row(
            "batch_export_span",
            "  of that, each span",
            BATCHES_IN_ROUND,
            batch.divided(BATCH_SPANS as f64),
            given(12_000.0, 4_800.0, 32.0),
        ),
    ]
}

fn attributes() -> [KeyValue; ATTRIBUTES] {
    [
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("http.route", "/cart/{id}"),
        KeyValue::new("url.path", "/cart/4711".to_owned()),
        KeyValue::new("http.response.status_code", 200),
        KeyValue::new("app.cache.hit", true),
    ]
}

fn provider(processor: impl SpanProcessor + 'static) -> SdkTracerProvider {
    let resource = Resource::builder_empty().with_attribute(KeyValue::new("service.name", "sdk-benchmark")).build();
    SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_resource(resource)
        .with_span_processor(processor)
        .build()
}

/// One span started and ended, each round many times.
fn spans_round(start: impl Fn(&SdkTracer) -> Span) -> io::Result<Cost> {
    let provider = provider(Discard);
    let tracer = provider.tracer("sdk-benchmark");
    let one = || black_box(start(&tracer)).end();
    // Caches, lazily made state, the processor's clock.
    (0..SPANS_IN_ROUND / 10).for_each(|_| one());
    let rounds = (0..ROUNDS).map(|_| {
        let meter = Meter::start();
        (0..SPANS_IN_ROUND).for_each(|_| one());
        meter.read().cost(SPANS_IN_ROUND)
    });
    let cost = middle(rounds.collect());
    provider.shutdown().map_err(io::Error::other)?;
    Ok(cost)
}

/// One batch exported, each round many times; what was sent, and what the gateway says it accepted.
async fn batches(arguments: &SdkArguments, binary: std::path::PathBuf) -> io::Result<(Cost, u64, u64)> {
    let batch = collected()?;
    let gateway = start(arguments, binary).await?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(format!("http://{}", gateway.addresses().grpc))
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(io::Error::other)?;
    let mut rounds = Vec::new();
    // The first round warms up: the connection, the peer's caches.
    for round in 0..=ROUNDS {
        let mut spent = Spent::default();
        for _ in 0..BATCHES_IN_ROUND {
            let spans = batch.clone();
            let meter = Meter::start();
            exporter.export(spans).await.map_err(io::Error::other)?;
            spent.add(meter.read());
        }
        if round > 0 {
            rounds.push(spent.cost(BATCHES_IN_ROUND));
        }
    }
    let sent = (ROUNDS as u64 + 1) * BATCHES_IN_ROUND * BATCH_SPANS as u64;
    let metrics = scrape(gateway.addresses().metrics).await?;
    let accepted = metrics.sum("otelcol_receiver_accepted_spans", &[]).unwrap_or_default();
    gateway.stop().await?;
    Ok((middle(rounds), sent, accepted))
}

async fn start(arguments: &SdkArguments, binary: std::path::PathBuf) -> io::Result<Gateway> {
    let configuration = Configuration {
        work: Work::Discard(Signal::Traces),
        addresses: Addresses::free()?,
        sinks: Vec::new(),
        runtime: arguments.runtime,
        shards: 1,
        memory_limit_mib: None,
        sets: Vec::new(),
    };
    Gateway::start(&Launch { binary, wrapper: Vec::new(), configuration, cores: vec![0] }).await
}

/// What a batch processor would hand to an exporter.
fn collected() -> io::Result<Vec<SpanData>> {
    let collect = Collect::default();
    let provider = provider(collect.clone());
    let tracer = provider.tracer("sdk-benchmark");
    for _ in 0..BATCH_SPANS {
        let builder = tracer.span_builder("GET /cart").with_kind(SpanKind::Server).with_attributes(attributes());
        tracer.build_with_context(builder, &Context::new()).end();
    }
    provider.shutdown().map_err(io::Error::other)?;
    let spans = std::mem::take(&mut *collect.0.lock().expect("nobody panics with it"));
    Ok(spans)
}

/// The processor of an application that sends nothing: the span is built, handed over and forgotten.
#[derive(Debug)]
struct Discard;

impl SpanProcessor for Discard {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        drop(black_box(span));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Keeps what ends.
#[derive(Clone, Debug, Default)]
struct Collect(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Collect {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().expect("nobody panics with it").push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// From now on.
struct Meter {
    region: Region<'static, std::alloc::System>,
    began: Instant,
}

/// What was needed.
#[derive(Default)]
struct Spent {
    time: Duration,
    bytes: usize,
    allocations: usize,
}

impl Meter {
    fn start() -> Meter {
        Meter { region: Region::new(crate::ALLOCATOR), began: Instant::now() }
    }

    fn read(self) -> Spent {
        let time = self.began.elapsed();
        let stats = self.region.change();
        // A block that grows is counted with what it grew by.
        Spent { time, bytes: stats.bytes_allocated, allocations: stats.allocations + stats.reallocations }
    }
}

impl Spent {
    fn add(&mut self, more: Spent) {
        self.time += more.time;
        self.bytes += more.bytes;
        self.allocations += more.allocations;
    }

    fn cost(self, operations: u64) -> Cost {
        Cost { ns: self.time.as_nanos() as f64, bytes: self.bytes as f64, allocations: self.allocations as f64 }
            .divided(operations as f64)
    }
}

/// The round whose time lies in the middle.
fn middle(mut rounds: Vec<Cost>) -> Cost {
    rounds.sort_by(|one, other| one.ns.total_cmp(&other.ns));
    rounds[rounds.len() / 2]
}
