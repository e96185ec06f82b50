use super::*;
use crate::config;
use crate::telemetry::cells::Schema;
use bytes::Bytes;
use codecs::otlp::attributes::Fields;
use codecs::otlp::proto::{
    AnyValue as ProtoValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, ScopeSpans, Span, SpanStatus,
    Value as Proto, text,
};
use codecs::otlp::write_metrics::Temporality;
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeMap;
use std::fmt::Write;

const MS: u64 = 1_000_000;

/// The plan of a connector with these settings, in YAML's flow style.
fn plan(settings: &str) -> Arc<Plan> {
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nconnectors: {{span_metrics: {settings}}}\nservice: {{pipelines: \
         {{traces: {{receivers: [otlp], exporters: [span_metrics]}}}}}}\n"
    );
    let file = config::Source::File { name: "test.yaml".to_owned(), text };
    let loaded = config::load(&[file], &|_| None, &config::Machine { memory_bytes: 1 << 30 });
    let said = config::render(&loaded.diagnostics, false);
    let config = loaded.config.filter(|_| said.is_empty()).unwrap_or_else(|| panic!("{said}"));
    Arc::new(Plan::new(config.span_metrics[0].settings.clone()))
}

/// One shard of a connector.
struct Shard {
    span_metrics: SpanMetrics,
    cells: Cells,
    schema: Schema,
}

impl Shard {
    fn of(plan: &Arc<Plan>) -> Shard {
        let mut schema = Schema::default();
        let counters = SpanMetricsSeries::declare(&mut schema, "span_metrics");
        let cells = Cells::new(&schema);
        Shard { span_metrics: SpanMetrics::new(Arc::clone(plan), counters), cells, schema }
    }

    fn take(&mut self, now_ns: u64, request: &ExportTraceServiceRequest) -> &mut Self {
        let bytes = Bytes::from(request.encode_to_vec());
        let mut batch = Batch { segments: vec![bytes.clone()], ..Batch::default() };
        batch.index.read_request(&bytes, 0).expect("a sound request");
        self.span_metrics.take(now_ns, &self.cells, &batch);
        self
    }

    fn overflowed(&self) -> u64 {
        assert_eq!(self.schema.series().len(), 2);
        self.cells.read(self.span_metrics.counters.overflowed_spans)
    }
}

fn attribute(key: &str, value: Proto) -> KeyValue {
    KeyValue { key: key.into(), value: Some(ProtoValue { value: Some(value) }) }
}

fn string(key: &str, value: &str) -> KeyValue {
    attribute(key, Proto::String(value.into()))
}

fn server(name: &str, ms: u64, attributes: Vec<KeyValue>) -> Span {
    Span {
        name: name.into(),
        kind: 2,
        start_time_unix_nano: MS,
        end_time_unix_nano: MS + ms * MS,
        attributes,
        ..Span::default()
    }
}

fn failed(span: Span) -> Span {
    Span { status: Some(SpanStatus { code: 2, message: Vec::new() }), ..span }
}

fn request(resource: Vec<KeyValue>, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Some(Resource { attributes: resource, dropped_attributes_count: 0 });
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, ..Default::default() }] }
}

fn shop(spans: Vec<Span>) -> ExportTraceServiceRequest {
    request(vec![string("service.name", "shop")], spans)
}

fn page(plan: &Plan, shards: &[&Shard]) -> String {
    let mut page = String::new();
    write_page(&mut page, plan, &Merged::of(shards.iter().map(|shard| shard.span_metrics.snapshot(0))));
    page
}

/// Samples of a page without buckets, one a line.
fn short(page: &str) -> Vec<&str> {
    page.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{")).collect()
}

#[test]
fn calls_and_durations_are_counted_by_service_operation_kind_and_status() {
    let plan = plan("{histogram: {explicit: {buckets: [10ms, 1s]}}}");
    let mut shard = Shard::of(&plan);
    let internal = Span { kind: 1, ..server("load", 10, Vec::new()) };
    shard.take(0, &shop(vec![server("GET", 5, Vec::new()), failed(server("GET", 2_000, Vec::new())), internal]));
    shard.take(0, &shop(vec![server("GET", 11, Vec::new())]));
    assert_eq!(
        page(&plan, &[&shard]),
        r#"# HELP traces_span_metrics_calls_total Spans, as span_metrics counts them.
# TYPE traces_span_metrics_calls_total counter
traces_span_metrics_calls_total{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_ERROR"} 1
traces_span_metrics_calls_total{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_UNSET"} 2
traces_span_metrics_calls_total{service_name="shop",span_name="load",span_kind="SPAN_KIND_INTERNAL",status_code="STATUS_CODE_UNSET"} 1
# HELP traces_span_metrics_duration_milliseconds Durations of spans, as span_metrics counts them.
# TYPE traces_span_metrics_duration_milliseconds histogram
traces_span_metrics_duration_milliseconds_bucket{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_ERROR",le="10"} 0
traces_span_metrics_duration_milliseconds_bucket{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_ERROR",le="1000"} 0
traces_span_metrics_duration_milliseconds_bucket{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_ERROR",le="+Inf"} 1
traces_span_metrics_duration_milliseconds_sum{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_ERROR"} 2000
traces_span_metrics_duration_milliseconds_count{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_ERROR"} 1
traces_span_metrics_duration_milliseconds_bucket{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_UNSET",le="10"} 1
traces_span_metrics_duration_milliseconds_bucket{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_UNSET",le="1000"} 2
traces_span_metrics_duration_milliseconds_bucket{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_UNSET",le="+Inf"} 2
traces_span_metrics_duration_milliseconds_sum{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_UNSET"} 16
traces_span_metrics_duration_milliseconds_count{service_name="shop",span_name="GET",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_UNSET"} 2
traces_span_metrics_duration_milliseconds_bucket{service_name="shop",span_name="load",span_kind="SPAN_KIND_INTERNAL",status_code="STATUS_CODE_UNSET",le="10"} 1
traces_span_metrics_duration_milliseconds_bucket{service_name="shop",span_name="load",span_kind="SPAN_KIND_INTERNAL",status_code="STATUS_CODE_UNSET",le="1000"} 1
traces_span_metrics_duration_milliseconds_bucket{service_name="shop",span_name="load",span_kind="SPAN_KIND_INTERNAL",status_code="STATUS_CODE_UNSET",le="+Inf"} 1
traces_span_metrics_duration_milliseconds_sum{service_name="shop",span_name="load",span_kind="SPAN_KIND_INTERNAL",status_code="STATUS_CODE_UNSET"} 10
traces_span_metrics_duration_milliseconds_count{service_name="shop",span_name="load",span_kind="SPAN_KIND_INTERNAL",status_code="STATUS_CODE_UNSET"} 1
"#
    );
}

const ONLY: &str = "exclude_dimensions: [service.name, span.name, span.kind, status.code], histogram: {disable: true}, \
                    namespace: ''";

#[test]
fn a_dimension_is_looked_for_in_the_span_then_in_its_resource_then_the_default_counts() {
    let plan = plan(&format!("{{{ONLY}, dimensions: [{{name: region}}, {{name: 9.tier, default: none}}]}}"));
    let mut shard = Shard::of(&plan);
    let eu = || vec![string("region", "eu")];
    shard.take(0, &request(eu(), vec![server("a", 1, vec![string("region", "us")]), server("a", 1, Vec::new())]));
    // Numbers and truths are labels too, lists are none; a number and a text that look the same are one series.
    let list = Proto::Array(codecs::otlp::proto::ArrayValue { values: Vec::new() });
    let odd = vec![attribute("region", list), attribute("9.tier", Proto::Int(1))];
    shard.take(0, &request(Vec::new(), vec![server("a", 1, odd), server("a", 1, vec![string("9.tier", "1")])]));
    assert_eq!(
        short(&page(&plan, &[&shard])),
        [
            r#"calls_total{key_9_tier="1"} 2"#,
            r#"calls_total{region="eu",key_9_tier="none"} 1"#,
            r#"calls_total{region="us",key_9_tier="none"} 1"#,
        ]
    );
}

#[test]
fn what_finds_no_room_is_counted_together_and_said_to_be() {
    let plan = plan(&format!("{{{ONLY}, dimensions: [{{name: user}}], aggregation_cardinality_limit: 2}}"));
    let users = |users: &[&str]| shop(users.iter().map(|user| server("a", 1, vec![string("user", user)])).collect());
    let (mut first, mut second) = (Shard::of(&plan), Shard::of(&plan));
    first.take(0, &users(&["a", "b", "c", "a", "d"]));
    second.take(0, &users(&["a", "e", "c"]));
    assert_eq!((first.overflowed(), second.overflowed()), (2, 1));
    assert_eq!(
        short(&page(&plan, &[&first, &second])),
        [
            r#"calls_total{otel_metric_overflow="true"} 3"#,
            r#"calls_total{user="a"} 3"#,
            r#"calls_total{user="b"} 1"#,
            r#"calls_total{user="e"} 1"#,
        ],
        "the limit is one of each shard"
    );
}

#[test]
fn a_series_is_forgotten_by_all_shards_when_none_has_seen_a_span_of_it_for_long() {
    let plan = plan(&format!("{{{ONLY}, dimensions: [{{name: user}}], metrics_expiration: 1s}}"));
    const SECOND: u64 = 1_000_000_000;
    let user = |user: &str| shop(vec![server("a", 1, vec![string("user", user)])]);
    let (mut first, mut second) = (Shard::of(&plan), Shard::of(&plan));
    first.take(0, &user("gone")).take(0, &user("moved"));
    second.take(0, &user("gone")).take(2 * SECOND, &user("moved"));
    let held = first.span_metrics.bytes_held();
    let scrape = |now_ns: u64, shards: &mut [&mut Shard]| {
        let mut merged = Merged::of(shards.iter().map(|shard| shard.span_metrics.snapshot(now_ns)));
        if let Some(forgotten) = merged.forget_idle(&plan) {
            shards.iter_mut().for_each(|shard| shard.span_metrics.forget(&forgotten));
        }
        let mut page = String::new();
        write_page(&mut page, &plan, &merged);
        short(&page).join(" ")
    };
    assert_eq!(
        scrape(SECOND / 2, &mut [&mut first, &mut second]),
        r#"calls_total{user="gone"} 2 calls_total{user="moved"} 2"#
    );
    // One shard alone has had no span of `moved` for long; the sum must not fall.
    assert_eq!(scrape(2 * SECOND, &mut [&mut first, &mut second]), r#"calls_total{user="moved"} 2"#);
    assert_eq!(first.span_metrics.bytes_held(), held / 2 + 1, "the longer name is left");
    first.take(3 * SECOND, &user("gone"));
    assert_eq!(scrape(3 * SECOND, &mut [&mut first, &mut second]), r#"calls_total{user="gone"} 1"#);
}

#[test]
fn servers_of_http_have_the_series_that_alerts_on_objectives_ask_for() {
    let plan = plan("{names: http}");
    let mut shard = Shard::of(&plan);
    let http = |status: i64| {
        vec![string("http.request.method", "GET"), attribute("http.response.status_code", Proto::Int(status))]
    };
    let old =
        vec![string("http.method", "GET"), string("http.route", "/a"), attribute("http.status_code", Proto::Int(404))];
    let client = Span { kind: 3, ..server("GET", 1, http(200)) };
    let rpc = server("Call", 1, vec![string("rpc.system", "grpc")]);
    let broken = failed(server("GET", 1, vec![string("http.request.method", "GET")]));
    shard.take(0, &shop(vec![server("GET", 30, http(200)), server("GET", 700, http(503)), server("GET", 1, old)]));
    shard.take(0, &shop(vec![client, rpc, broken]));
    let page = page(&plan, &[&shard]);
    let calls: Vec<&str> = page.lines().filter(|line| line.starts_with("http_requests_total{")).collect();
    assert_eq!(
        calls,
        [
            r#"http_requests_total{service_name="shop",method="GET",route="/a",status="404"} 1"#,
            r#"http_requests_total{service_name="shop",method="GET",status="200"} 1"#,
            r#"http_requests_total{service_name="shop",method="GET",status="500"} 1"#,
            r#"http_requests_total{service_name="shop",method="GET",status="503"} 1"#,
        ]
    );
    let slow = r#"http_request_duration_seconds_bucket{service_name="shop",method="GET",status="503",le="0.5"} 0"#;
    assert!(page.contains(slow), "{page}");
    assert!(page.contains(r#"http_request_duration_seconds_sum{service_name="shop",method="GET",status="503"} 0.7"#));
}

#[test]
fn calls_and_durations_may_have_labels_of_their_own() {
    let settings = "exclude_dimensions: [service.name, span.kind, status.code], namespace: x, calls_dimensions: [{name: \
                    user}], histogram: {unit: s, explicit: {buckets: [1s]}, dimensions: [{name: shard}]}";
    let plan = plan(&format!("{{{settings}}}"));
    let mut shard = Shard::of(&plan);
    let labels = |user: &str| vec![string("user", user), string("shard", "1")];
    shard.take(0, &shop(vec![server("a", 1500, labels("x")), server("a", 500, labels("y"))]));
    assert_eq!(
        short(&page(&plan, &[&shard])),
        [
            r#"x_calls_total{span_name="a",user="x"} 1"#,
            r#"x_calls_total{span_name="a",user="y"} 1"#,
            r#"x_duration_seconds_sum{span_name="a",shard="1"} 2"#,
            r#"x_duration_seconds_count{span_name="a",shard="1"} 2"#,
        ]
    );
}

#[test]
fn an_exponential_histogram_has_powers_of_two_on_a_page_over_all_shards() {
    let plan =
        plan("{namespace: x, exclude_dimensions: [service.name, span.kind, status.code], histogram: {exponential: }}");
    let (mut first, mut second) = (Shard::of(&plan), Shard::of(&plan));
    first.take(0, &shop(vec![server("a", 0, Vec::new()), server("a", 4, Vec::new())]));
    second.take(0, &shop(vec![server("a", 5, Vec::new()), server("a", 100_000_000, Vec::new())]));
    let page = page(&plan, &[&first, &second]);
    let bucket = |bound: &str| {
        let line = format!("x_duration_milliseconds_bucket{{span_name=\"a\",le=\"{bound}\"}} ");
        let found = page.lines().find_map(|shown| shown.strip_prefix(&line));
        found.unwrap_or_else(|| panic!("no {line} in {page}")).to_owned()
    };
    let bounds = ["1", "4", "8", "4194304", "+Inf"].map(bucket);
    assert_eq!(bounds, ["1", "2", "3", "3", "4"]);
    assert_eq!(page.lines().filter(|line| line.contains("_bucket{")).count(), 24);
}

#[test]
fn a_long_text_is_cut_between_two_characters() {
    let plan = plan(&format!("{{{ONLY}, dimensions: [{{name: text}}]}}"));
    for (long, kept) in
        [("x".repeat(600), 509), ("é".repeat(300), 508), ("€".repeat(300), 507), ("😀".repeat(200), 508)]
    {
        let mut shard = Shard::of(&plan);
        shard.take(0, &shop(vec![server("a", 1, vec![string("text", &long)])]));
        let page = page(&plan, &[&shard]);
        let cut = &long[..kept];
        assert!(page.contains(&format!("calls_total{{text=\"{cut}\"}} 1\n")), "{page}");
    }
}

/// The bodies of the fields along a path of numbers, all of them.
fn at<'b>(message: &'b [u8], path: &[u32]) -> Vec<&'b [u8]> {
    let Some((number, rest)) = path.split_first() else {
        return vec![message];
    };
    Fields::of(message).filter(|field| field.tag.number == *number).flat_map(|field| at(field.body, rest)).collect()
}

#[test]
fn a_metrics_pipeline_is_given_series_by_resource_with_the_types_of_their_attributes() {
    let settings = "resource_metrics_key_attributes: [service.name, region], dimensions: [{name: code}], \
                    aggregation_cardinality_limit: 3";
    for histogram in ["explicit", "exponential"] {
        let plan = plan(&format!("{{{settings}, histogram: {{{histogram}: }}}}"));
        let mut shard = Shard::of(&plan);
        let of = |region: &str| vec![string("service.name", "shop"), string("region", region)];
        let coded = || vec![attribute("code", Proto::Int(7))];
        shard.take(0, &request(of("eu"), vec![server("a", 1, coded()), server("b", 1, Vec::new())]));
        shard.take(0, &request(of("us"), vec![server("a", 1, coded()), server("c", 1, Vec::new())]));
        let merged = Merged::of([shard.span_metrics.snapshot(0)]);
        let since = Since::FirstSpan { clock_zero_unix_ns: 1 };
        let bytes = to_otlp(&plan, &merged, Stamp { since, time_unix_ns: 2 });
        let resources: Vec<Vec<String>> = at(&bytes, &[1, 1])
            .into_iter()
            .map(|resource| at(resource, &[1, 2, 1]).into_iter().map(|value| text(value).into_owned()).collect())
            .collect();
        assert_eq!(resources, [vec![], vec!["shop".to_owned(), "eu".into()], vec!["shop".into(), "us".into()]]);
        let names: Vec<_> = at(&bytes, &[1, 2, 2, 1]).into_iter().map(text).collect();
        assert_eq!(names, ["traces.span.metrics.calls", "traces.span.metrics.duration"].repeat(3));
        let (field, attributes) = if histogram == "explicit" { (9, 9) } else { (10, 1) };
        for (field, attributes) in [(7, 7), (field, attributes)] {
            let points = at(&bytes, &[1, 2, 2, field, 1]);
            assert_eq!(points.len(), 4, "three series and what found no room");
            let keys: Vec<_> = at(points[1], &[attributes, 1]).into_iter().map(text).collect();
            assert_eq!(keys, ["service.name", "span.name", "span.kind", "status.code", "code"]);
            // AnyValue.int_value: field 3.
            assert_eq!(at(points[1], &[attributes, 2]).last().unwrap(), &[3 << 3, 7]);
            assert_eq!(at(points[0], &[attributes, 1]), [b"otel.metric.overflow"]);
        }
    }
}

/// A flush of all shards, as an owner makes it: the bytes of a request.
fn flush(flusher: &mut Flusher, shards: &mut [&mut Shard], now_ns: u64) -> Vec<u8> {
    let ask = flusher.begin(now_ns);
    let mut request = None;
    for shard in shards {
        assert_eq!(request, None, "nothing leaves before every shard has answered");
        request = flusher.answered(shard.span_metrics.answer(&ask, now_ns), EPOCH + now_ns);
    }
    request.expect("every shard has answered")
}

/// Where the tests' monotonic clock has its 0, in nanoseconds since 1970.
const EPOCH: u64 = 1_000_000;

/// The points of the counter in a request: start, time and value.
fn calls_of(request: &[u8]) -> Vec<(u64, u64, u64)> {
    let word = |point: &[u8], number: u32| {
        let field = Fields::of(point).find(|field| field.tag.number == number);
        field.map_or(0, |field| field.number)
    };
    at(request, &[1, 2, 2, 7, 1]).into_iter().map(|point| (word(point, 2), word(point, 3), word(point, 6))).collect()
}

#[test]
fn cumulative_points_begin_with_the_first_span_of_their_series_on_any_shard() {
    let plan = plan("{metrics_expiration: 100ns, dimensions: [{name: d}]}");
    let (mut one, mut two) = (Shard::of(&plan), Shard::of(&plan));
    let mut flusher = Flusher::new(Arc::clone(&plan), Temporality::Cumulative, 10, 2, EPOCH);
    assert_eq!(flusher.next_ns(), Some(10));
    let span = || shop(vec![server("a", 1, Vec::new())]);
    one.take(5, &span());
    two.take(3, &span());
    assert_eq!(calls_of(&flush(&mut flusher, &mut [&mut one, &mut two], 10)), [(EPOCH + 3, EPOCH + 10, 2)]);
    assert_eq!(flusher.next_ns(), Some(20));
    one.take(11, &span());
    assert_eq!(calls_of(&flush(&mut flusher, &mut [&mut one, &mut two], 35)), [(EPOCH + 3, EPOCH + 35, 3)]);
    assert_eq!(flusher.next_ns(), Some(45), "what was missed is not made up for");
    // Silent for longer than the settings allow, on all shards: gone, and anew with its next span.
    assert_eq!(calls_of(&flush(&mut flusher, &mut [&mut one, &mut two], 120)), []);
    assert_eq!(calls_of(&flush(&mut flusher, &mut [&mut one, &mut two], 130)), []);
    two.take(140, &span());
    assert_eq!(calls_of(&flush(&mut flusher, &mut [&mut one, &mut two], 150)), [(EPOCH + 140, EPOCH + 150, 1)]);
}

#[test]
fn a_time_of_day_that_was_set_back_gives_no_point_that_ends_before_it_began() {
    let plan = plan("{}");
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let mut shard = Shard::of(&plan);
        let mut flusher = Flusher::new(Arc::clone(&plan), temporality, 10, 1, EPOCH);
        for (now_ns, unix_ns) in [(10, EPOCH + 10), (20, EPOCH - 50), (30, EPOCH - 40)] {
            shard.take(now_ns, &shop(vec![server("a", 1, Vec::new())]));
            let ask = flusher.begin(now_ns);
            let answer = shard.span_metrics.answer(&ask, now_ns);
            let request = flusher.answered(answer, unix_ns).expect("the only shard");
            assert!(calls_of(&request).iter().all(|(start, time, _)| start <= time && *time >= EPOCH + 10));
        }
    }
}

/// What the page says of any spans, computed in the simplest way from structs.
fn expected_page(requests: &[ExportTraceServiceRequest]) -> String {
    let mut calls: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
    for resource_spans in requests.iter().flat_map(|request| &request.resource_spans) {
        let resource = &resource_spans.resource.as_ref().unwrap().attributes;
        let of = |attributes: &[KeyValue], key: &str| -> Option<String> {
            let found = attributes.iter().filter(|attribute| attribute.key == key.as_bytes());
            let mut shown = found.filter_map(|attribute| match attribute.value.as_ref()?.value.as_ref()? {
                Proto::String(value) => Some(text(value).into_owned()),
                Proto::Int(value) => Some(value.to_string()),
                Proto::Bool(value) => Some(value.to_string()),
                Proto::Double(value) => Some(value.to_string()),
                _ => None,
            });
            shown.next()
        };
        for span in resource_spans.scope_spans.iter().flat_map(|scope| &scope.spans) {
            let kinds = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
            let status = ["UNSET", "OK", "ERROR"][span.status.as_ref().map_or(0, |status| status.code as usize)];
            let labels = [
                ("service_name", of(resource, "service.name").unwrap_or_default()),
                ("span_name", text(&span.name).into_owned()),
                ("span_kind", format!("SPAN_KIND_{}", kinds.get(span.kind as usize).unwrap_or(&kinds[0]))),
                ("status_code", format!("STATUS_CODE_{status}")),
                ("a", of(&span.attributes, "a").or_else(|| of(resource, "a")).unwrap_or_else(|| "none".into())),
                ("b", of(&span.attributes, "b").or_else(|| of(resource, "b")).unwrap_or_default()),
            ];
            let labels: Vec<String> = labels
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| format!("{name}=\"{value}\""))
                .collect();
            let duration = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
            let of_series = calls.entry(labels.join(",")).or_default();
            *of_series = (of_series.0 + 1, of_series.1 + u64::from(duration <= 2 * MS), of_series.2 + duration);
        }
    }
    let mut page = String::new();
    for (labels, (count, ..)) in &calls {
        writeln!(page, "calls_total{{{labels}}} {count}").unwrap();
    }
    for (labels, (count, fast, sum)) in calls {
        writeln!(page, "duration_milliseconds_bucket{{{labels},le=\"2\"}} {fast}").unwrap();
        writeln!(page, "duration_milliseconds_bucket{{{labels},le=\"+Inf\"}} {count}").unwrap();
        writeln!(page, "duration_milliseconds_sum{{{labels}}} {}", sum as f64 / 1e6).unwrap();
        writeln!(page, "duration_milliseconds_count{{{labels}}} {count}").unwrap();
    }
    page
}

fn any_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let value = prop_oneof![
        3 => prop_oneof!["x", "y", "1", "é", ""].prop_map(|text| Proto::String(text.into())),
        1 => (0..3i64).prop_map(Proto::Int),
        1 => any::<bool>().prop_map(Proto::Bool),
        1 => Just(Proto::Double(0.5)),
        1 => Just(Proto::Bytes(vec![1])),
    ];
    let key = prop_oneof![Just("a"), Just("b"), Just("c"), Just("service.name")];
    prop::collection::vec((key, value).prop_map(|(key, value)| attribute(key, value)), 0..4)
}

fn any_request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let span = (prop_oneof!["GET", "PUT", ""], 0..8i32, 0..3i32, 0..5u64, 0..9u64, any_attributes());
    let span = span.prop_map(|(name, kind, code, start, end, attributes)| Span {
        name: name.into(),
        kind,
        status: (code > 0).then(|| SpanStatus { code, message: Vec::new() }),
        start_time_unix_nano: start * MS,
        end_time_unix_nano: end * MS,
        attributes,
        ..Span::default()
    });
    let resource = (any_attributes(), prop::collection::vec(span, 1..5));
    prop::collection::vec(resource, 0..4).prop_map(|resources| {
        let requests = resources.into_iter().map(|(resource, spans)| request(resource, spans));
        ExportTraceServiceRequest { resource_spans: requests.flat_map(|request| request.resource_spans).collect() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_spans_on_any_shards_are_counted_as_the_simplest_way_counts_them(
        requests in prop::collection::vec((any_request(), any::<bool>()), 0..6),
    ) {
        let plan = plan("{namespace: '', histogram: {explicit: {buckets: [2ms]}}, dimensions: [{name: a, default: none}, {name: b}]}");
        let (mut first, mut second) = (Shard::of(&plan), Shard::of(&plan));
        for (request, is_first) in &requests {
            if *is_first { &mut first } else { &mut second }.take(0, request);
        }
        let page = page(&plan, &[&first, &second]);
        let samples: String = page.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        let requests: Vec<_> = requests.into_iter().map(|(request, _)| request).collect();
        prop_assert_eq!(samples, expected_page(&requests));
    }

    #[test]
    fn any_flushes_of_any_shards_tell_every_span_once(
        rounds in prop::collection::vec(prop::collection::vec((any_request(), any::<bool>()), 0..3), 1..5),
        exponential in any::<bool>(),
    ) {
        let histogram = if exponential { "exponential: {max_size: 2}" } else { "explicit: {buckets: [2ms]}" };
        let plan = plan(&format!("{{histogram: {{{histogram}}}, aggregation_cardinality_limit: 4}}"));
        let (mut one, mut two) = (Shard::of(&plan), Shard::of(&plan));
        let mut cumulative = Flusher::new(Arc::clone(&plan), Temporality::Cumulative, 10, 2, EPOCH);
        let mut delta = Flusher::new(Arc::clone(&plan), Temporality::Delta, 10, 2, EPOCH);
        let field = if exponential { 10 } else { 9 };
        // Of the histogram's points: how many values they hold, and their sum.
        let durations = |request: &[u8]| {
            let word = |point: &[u8], number| Fields::of(point).find(|field| field.tag.number == number).unwrap().number;
            let points = at(request, &[1, 2, 2, field, 1]);
            points.iter().fold((0, 0.0), |(count, sum), point| {
                (count + word(point, 4), sum + f64::from_bits(word(point, 5)))
            })
        };
        let (mut spans, mut told, mut told_durations, mut before) = (0, 0, (0, 0.0), EPOCH);
        for (round, requests) in rounds.iter().enumerate() {
            let now_ns = 10 * (round as u64 + 1);
            for (request, is_one) in requests {
                if *is_one { &mut one } else { &mut two }.take(now_ns, request);
                let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
                spans += scopes.map(|scope| scope.spans.len() as u64).sum::<u64>();
            }
            let whole = flush(&mut cumulative, &mut [&mut one, &mut two], now_ns);
            prop_assert_eq!(calls_of(&whole).iter().map(|point| point.2).sum::<u64>(), spans);
            let news = flush(&mut delta, &mut [&mut one, &mut two], now_ns);
            for (start, time, value) in calls_of(&news) {
                prop_assert!((start, time) == (before, EPOCH + now_ns) && value > 0, "only what is new, since the last");
                told += value;
            }
            prop_assert_eq!(told, spans);
            let (count, sum) = durations(&news);
            told_durations = (told_durations.0 + count, told_durations.1 + sum);
            prop_assert_eq!(told_durations, durations(&whole));
            before = EPOCH + now_ns;
        }
    }
}
