//! Sends spans with the OpenTelemetry SDK for Rust (tonic, reqwest) to a sink, which shows what was sent, and to the
//! gateway. What it sends is told in parts/clients.py; nothing here knows how the SDK encodes it.
//!
//! ```text
//! send-traces PROTOCOL COMPRESSION LOAD SINK GATEWAY
//! ```
//!
//! PROTOCOL is grpc, http/protobuf or http/json, COMPRESSION none, gzip or zstd, LOAD small or large, SINK and GATEWAY
//! base URLs; `-` leaves the sink out. To the sink http/json is sent as http/protobuf. Prints what became of it as one line
//! of JSON.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::{
    Link, Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Array, Context, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_otlp::{Compression, Protocol, RetryPolicy, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
};

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.27.0";
const ORDINARY_SPANS: i64 = 200;
const LARGE_SPANS: usize = 2800;
const PADDING_BYTES: usize = 500;
const EXPORT_TIMEOUT: Duration = Duration::from_secs(60);
const END_TIMEOUT: Duration = Duration::from_secs(120);

/// The error of each export that failed.
type Failures = Arc<Mutex<Vec<String>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [protocol, compression, load, sink, gateway] = arguments.as_slice() else {
        return Err("usage: send-traces PROTOCOL COMPRESSION LOAD SINK GATEWAY".into());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    // tonic connects in the background, on this runtime.
    let _inside = runtime.enter();
    let failures = Failures::default();
    let mut targets = vec![Target { protocol, compression, url: gateway }];
    if sink != "-" {
        let protocol = if protocol == "http/json" { "http/protobuf" } else { protocol };
        targets.push(Target { protocol, compression, url: sink });
    }
    let mut providers = Vec::new();
    let mut tracer = |service: &str, batch: usize| -> Result<SdkTracer, Box<dyn Error>> {
        let provider = new_provider(service, &targets, &failures, batch)?;
        let scope = InstrumentationScope::builder(format!("{service}.library"))
            .with_version("0.9.1")
            .with_schema_url(SCHEMA_URL)
            .with_attributes([KeyValue::new("team", "core")])
            .build();
        let tracer = provider.tracer_with_scope(scope);
        providers.push(provider);
        Ok(tracer)
    };
    let spans = if load == "large" {
        send_large(&tracer("shop-frontend", 2 * LARGE_SPANS)?)
    } else {
        send_small(&[tracer("shop-frontend", 5)?, tracer("shop-cart", 5)?, tracer("shop-payment", 5)?])
    };
    for provider in providers {
        // Failed exports were counted when they failed.
        let _ = provider.shutdown_with_timeout(END_TIMEOUT);
    }
    let failed = failures.lock().map_err(|_| "an exporter panicked")?.clone();
    println!("{}", serde_json::json!({ "spans": spans, "failed": failed }));
    Ok(())
}

/// Where to send, and how.
struct Target<'a> {
    protocol: &'a str,
    compression: &'a str,
    url: &'a str,
}

impl Target<'_> {
    fn exporter(&self) -> Result<opentelemetry_otlp::SpanExporter, Box<dyn Error>> {
        let compression = match self.compression {
            "gzip" => Some(Compression::Gzip),
            "zstd" => Some(Compression::Zstd),
            _ => None,
        };
        // More tries than the default three: a gateway that is full may take a while.
        let retry = RetryPolicy::recommended().with_max_retries(20);
        let builder = opentelemetry_otlp::SpanExporter::builder();
        if self.protocol == "grpc" {
            let mut builder =
                builder.with_tonic().with_endpoint(self.url).with_timeout(EXPORT_TIMEOUT).with_retry_policy(retry);
            if let Some(compression) = compression {
                builder = builder.with_compression(compression);
            }
            return Ok(builder.build()?);
        }
        let protocol = if self.protocol == "http/json" { Protocol::HttpJson } else { Protocol::HttpBinary };
        let url = format!("{}/v1/traces", self.url);
        let mut builder = builder
            .with_http()
            .with_protocol(protocol)
            .with_endpoint(url)
            .with_timeout(EXPORT_TIMEOUT)
            .with_retry_policy(retry);
        if let Some(compression) = compression {
            builder = builder.with_compression(compression);
        }
        Ok(builder.build()?)
    }
}

fn new_provider(
    service: &str,
    targets: &[Target],
    failures: &Failures,
    batch: usize,
) -> Result<SdkTracerProvider, Box<dyn Error>> {
    let attributes = [
        KeyValue::new("service.name", service.to_owned()),
        KeyValue::new("service.version", "1.2.3"),
        KeyValue::new("host.cpu.count", 8),
        KeyValue::new("host.load", 0.25),
        KeyValue::new("host.virtual", true),
        KeyValue::new("process.command_args", strings(&["serve", "--port", "8080"])),
    ];
    let resource = Resource::builder_empty().with_schema_url(attributes, SCHEMA_URL).build();
    let mut builder = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_max_attributes_per_span(32)
        .with_max_events_per_span(4)
        .with_max_links_per_span(4);
    for target in targets {
        let exporter = Reporting { exporter: target.exporter()?, failures: failures.clone() };
        // Batches are cut by their size alone: the delay is longer than any run.
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(8192)
            .with_max_export_batch_size(batch)
            .with_scheduled_delay(Duration::from_secs(300))
            .build();
        builder = builder.with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(config).build());
    }
    Ok(builder.build())
}

/// One trace over all services with everything a span can carry, and many ordinary spans.
fn send_small(tracers: &[SdkTracer; 3]) -> usize {
    let [frontend, cart, payment] = tracers;
    let elsewhere = SpanContext::new(
        TraceId::from(0xabcdef0123456789abcdef0123456789_u128),
        SpanId::from(0x1122334455667788_u64),
        TraceFlags::SAMPLED,
        true,
        TraceState::from_key_value([("vendor", "value"), ("other", "x")]).unwrap_or_default(),
    );
    let remote = Context::new().with_remote_span_context(elsewhere.clone());
    let reasons = vec![KeyValue::new("why", "retry"), KeyValue::new("attempt", 2)];
    let links = vec![Link::new(elsewhere.clone(), reasons, 0), Link::with_context(elsewhere)];
    let builder =
        frontend.span_builder("GET /cart").with_kind(SpanKind::Server).with_links(links).with_attributes(every_type());
    let mut root = frontend.build_with_context(builder, &remote);
    let inside = remote.with_remote_span_context(root.span_context().clone());
    let mut spans = 1;
    let kinds = [SpanKind::Internal, SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer];
    for (number, kind) in (1_i64..).zip(kinds) {
        let builder = cart.span_builder(format!("step {kind:?}")).with_kind(kind);
        let mut step = cart.build_with_context(builder, &inside);
        let details = vec![KeyValue::new("items", number), KeyValue::new("names", strings(&["x", "y"]))];
        step.add_event("found", details);
        step.set_status(Status::Ok);
        step.end();
        spans += 1;
    }
    let mut charge = payment.build_with_context(payment.span_builder("charge").with_kind(SpanKind::Client), &inside);
    charge.record_error(&std::io::Error::other("card declined"));
    for number in 0..6 {
        // Three more than the limit allows beside the error: the dropped counts travel too.
        charge.add_event(format!("try {number}"), vec![]);
    }
    for number in 0..40_i64 {
        charge.set_attribute(KeyValue::new(format!("attribute.{number}"), number));
    }
    charge.set_status(Status::error("card declined: über limit"));
    charge.end();
    root.end();
    spans += 1;
    for number in 0..ORDINARY_SPANS {
        let tracer = &tracers[spans % 3];
        let builder =
            tracer.span_builder(format!("ordinary {number}")).with_attributes([KeyValue::new("number", number)]);
        tracer.build_with_context(builder, &Context::new()).end();
        spans += 1;
    }
    spans
}

fn every_type() -> Vec<KeyValue> {
    vec![
        KeyValue::new("text", "żółw 🐢"),
        KeyValue::new("text.empty", ""),
        KeyValue::new("bool.true", true),
        KeyValue::new("bool.false", false),
        KeyValue::new("int.zero", 0),
        KeyValue::new("int.smallest", i64::MIN),
        KeyValue::new("int.largest", i64::MAX),
        KeyValue::new("double", std::f64::consts::PI),
        KeyValue::new("double.largest", f64::MAX),
        KeyValue::new("texts", strings(&["a", "", "ü"])),
        KeyValue::new("bools", Value::Array(Array::Bool(vec![true, false]))),
        KeyValue::new("ints", Value::Array(Array::I64(vec![1, -1, 1 << 53]))),
        KeyValue::new("doubles", Value::Array(Array::F64(vec![0.5, -2.5e300]))),
        KeyValue::new("nothing", strings(&[])),
    ]
}

fn strings(texts: &[&'static str]) -> Value {
    Value::Array(Array::String(texts.iter().map(|text| StringValue::from(*text)).collect()))
}

/// Spans that leave in one export of about 3 MB, which gzip cannot shrink to less than half.
fn send_large(tracer: &SdkTracer) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..LARGE_SPANS {
        let mut padding = String::with_capacity(2 * PADDING_BYTES + 16);
        while padding.len() < 2 * PADDING_BYTES {
            // xorshift: any noise will do.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            padding.push_str(&format!("{state:016x}"));
        }
        let builder =
            tracer.span_builder(format!("large {number}")).with_attributes([KeyValue::new("padding", padding)]);
        tracer.build_with_context(builder, &Context::new()).end();
    }
    LARGE_SPANS
}

/// Remembers what the exporter says of each export.
#[derive(Debug)]
struct Reporting {
    exporter: opentelemetry_otlp::SpanExporter,
    failures: Failures,
}

impl SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        if let (Err(error), Ok(mut failures)) = (&outcome, self.failures.lock()) {
            failures.push(error.to_string());
        }
        outcome
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
