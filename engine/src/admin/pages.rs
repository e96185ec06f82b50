//! Which page a request gets. Pure but for asking the shards: no socket, no clock.

use std::future::Future;

use serde::Serialize;
use serde_json::json;

use super::critical_path::{self, Analysis};
use super::{Readiness, Shards, View, overview};
use crate::config::checked::ExtensionKind;
use crate::connector::span_metrics::{self, Merged};
use crate::exporter::memory::KeptTrace;
use crate::processor::explanation::Explanation;
use crate::telemetry::exposition::{self, Exposition};
use crate::telemetry::{metrics, process};

/// Which address a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// `service.telemetry.metrics`: scrapers.
    Metrics,
    /// `service.engine.admin`: people and probes.
    Admin,
    /// An extension, by its number in the configuration.
    Extension(usize),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Content type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// The page for people: it asks for `/overview` each second and draws what it is told.
const ASSETS: [(&str, &str, &str); 3] = [
    ("/", HTML, include_str!("page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
];

impl Page {
    pub(super) fn text(status: u16, body: String) -> Page {
        Page { status, content_type: TEXT, body }
    }

    pub(super) fn json(status: u16, value: &impl Serialize) -> Page {
        let body = serde_json::to_string(value).expect("keys are text and numbers are finite");
        Page { status, content_type: JSON, body: body + "\n" }
    }

    /// For everything but GET and HEAD: pages show, they change nothing.
    pub(super) fn method_not_allowed() -> Page {
        Page::error(405, "pages are read with GET")
    }

    pub(super) fn error(status: u16, why: impl Into<String>) -> Page {
        Page::json(status, &json!({ "error": why.into() }))
    }
}

impl Face {
    /// Whether what is at `path` concerns people only: not probes, and not scrapers, who use names of services.
    pub(super) fn is_private<S>(self, view: &View<S>, path: &str) -> bool {
        match self {
            Face::Metrics => false,
            Face::Admin => !matches!(path, "/ready" | "/live"),
            Face::Extension(number) => {
                matches!(view.extensions[number].1, ExtensionKind::Zpages(_) | ExtensionKind::Pprof(_))
            }
        }
    }

    /// The page at `target`, a path and perhaps a query. The caller has checked that the method is GET or HEAD.
    pub async fn page<S: Shards>(self, view: &View<S>, target: &str) -> Page {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if let Face::Extension(number) = self {
            let (_, kind) = &view.extensions[number];
            return match kind {
                ExtensionKind::HealthCheck(settings) => view.health_page(settings, path).await,
                ExtensionKind::HealthCheckV2(settings) => view.status_page(settings, path, query).await,
                // Told over HTTP/2.
                ExtensionKind::HealthCheckGrpc(_) => Page::error(404, "ask grpc.health.v1.Health/Check over gRPC"),
                ExtensionKind::Zpages(_) => Face::Admin.served(view, path).await,
                // Not pages: `profiles` answers.
                ExtensionKind::Pprof(_) => Page::error(404, "look at /debug/pprof/"),
            };
        }
        self.served(view, path).await
    }

    async fn served<S: Shards>(self, view: &View<S>, path: &str) -> Page {
        let page = match (self, path) {
            (Face::Metrics, "/metrics") => metrics_page(view).await,
            (Face::Metrics, "/") => Ok(Page::error(404, "look at /metrics")),
            (Face::Admin, "/" | "/page.css" | "/page.js") => Ok(asset(path)),
            (Face::Admin, "/overview") => overview_page(view, None).await,
            (Face::Admin, "/ledger") => ledger_page(view).await,
            (Face::Admin, "/traces") => traces_page(view).await,
            (Face::Admin, "/ready") => Ok(ready_page(view.readiness.get())),
            (Face::Admin, "/live") => live_page(view).await,
            // Where zpages has what comes nearest.
            (Face::Admin, "/debug/servicez") => Ok(asset("/")),
            (Face::Admin, "/debug/pipelinez") => Ok(pipelines_page(view)),
            (Face::Admin, "/debug/extensionz") => Ok(extensions_page(view)),
            (Face::Admin, "/debug/featurez") => Ok(Page::json(200, &json!([]))),
            (Face::Admin, "/debug/tracez") => traces_page(view).await,
            (Face::Admin, path) => match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
                Some(("traces", id)) => trace_page(view, id).await,
                Some(("explain", id)) => explain_page(view, id).await,
                Some(("overview", name)) => overview_page(view, Some(name)).await,
                Some(_) | None => Ok(Page::error(404, "no such page; / shows them all")),
            },
            (Face::Metrics | Face::Extension(_), _) => Ok(Page::error(404, "look at /metrics")),
        };
        page.unwrap_or_else(|NoAnswer| {
            let wait = view.answer_wait.as_secs();
            Page::error(503, format!("a shard did not answer within {wait} s"))
        })
    }
}

/// A shard did not answer in time.
struct NoAnswer;

async fn answered<S, T>(view: &View<S>, asked: impl Future<Output = T>) -> Result<T, NoAnswer> {
    let answer = tokio::time::timeout(view.answer_wait, asked).await;
    answer.map_err(|_| NoAnswer)
}

async fn metrics_page<S: Shards>(view: &View<S>) -> Result<Page, NoAnswer> {
    let shards = answered(view, view.shards.snapshot()).await?;
    let mut process = Vec::new();
    if let Some(logs) = &view.logs {
        process.push((&metrics::LOG_LINES_SUPPRESSED, logs.suppressed() as f64));
        process.push((&metrics::LOG_LINES_LOST, logs.lost() as f64));
    }
    process.push((&metrics::TLS_RELOADS, view.certificates.replaced() as f64));
    process.push((&metrics::TLS_FAILED_RELOADS, view.certificates.refused() as f64));
    let configuration = view.configuration.borrow().clone();
    process.extend([
        (&metrics::CONFIG_RELOADS, configuration.reloads as f64),
        (&metrics::CONFIG_FAILED_RELOADS, configuration.failed_reloads as f64),
        (&metrics::CONFIG_REFUSED_RELOADS, configuration.refused_reloads as f64),
        (&metrics::CONFIG_IS_CURRENT, f64::from(u8::from(configuration.message.is_empty()))),
        (&metrics::CONFIG_GENERATION, configuration.generation as f64),
        (&metrics::CONFIG_APPLIED_TIME, configuration.applied_unix_ms as f64 / 1e3),
    ]);
    process.extend(process::read().iter().flat_map(process::ProcessValues::samples));
    let schema = view.schema();
    let exposition = Exposition {
        schema: &schema,
        shards: &shards,
        process: &process,
        resource: &view.resource,
        level: view.level,
        names: view.names,
    };
    let mut body = exposition.text();
    write_span_metrics(view, &mut body).await?;
    Ok(Page { status: 200, content_type: exposition::CONTENT_TYPE, body })
}

/// Sums the series of each connector over all shards, and lets them give up those that nobody adds to.
async fn write_span_metrics<S: Shards>(view: &View<S>, body: &mut String) -> Result<(), NoAnswer> {
    if view.span_metrics.is_empty() {
        return Ok(());
    }
    let mut shards: Vec<_> =
        answered(view, view.shards.span_metrics()).await?.into_iter().map(Vec::into_iter).collect();
    for (number, plan) in view.span_metrics.iter().enumerate() {
        let mut merged = Merged::of(shards.iter_mut().filter_map(Iterator::next));
        if let Some(forgotten) = merged.forget_idle(plan) {
            view.shards.forget(number, forgotten);
        }
        span_metrics::write_page(body, plan, &merged);
    }
    Ok(())
}

async fn ledger_page<S: Shards>(view: &View<S>) -> Result<Page, NoAnswer> {
    let books = view.books().await.ok_or(NoAnswer)?;
    Ok(Page::json(200, &overview::ledger(&books)))
}

async fn traces_page<S: Shards>(view: &View<S>) -> Result<Page, NoAnswer> {
    let parts = answered(view, view.shards.traces()).await?;
    let lines = KeptTrace::join(parts).into_iter().map(KeptTrace::without_spans);
    Ok(Page::json(200, &lines.collect::<Vec<_>>()))
}

/// The trace whose id starts with `id`, so that a person may type its first digits.
async fn trace_page<S: Shards>(view: &View<S>, id: &str) -> Result<Page, NoAnswer> {
    let Some(id) = digits_of(id) else {
        return Ok(not_an_id());
    };
    let mut parts = answered(view, view.shards.traces()).await?;
    parts.retain(|part| part.trace_id.starts_with(&id));
    let found = KeptTrace::join(parts);
    Ok(match found.as_slice() {
        [] => Page::error(
            404,
            format!("no kept trace begins with {id}; it was dropped, is still undecided, or left for younger ones"),
        ),
        [trace] => Page::json(200, &Analyzed { trace, analysis: critical_path::analyze(trace) }),
        several => Page::error(400, format!("{} kept traces begin with {id}", several.len())),
    })
}

/// The digits of a trace id in small letters; `None` if they are none.
fn digits_of(id: &str) -> Option<String> {
    let id = id.to_ascii_lowercase();
    (!id.is_empty() && id.len() <= 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(id)
}

fn not_an_id() -> Page {
    Page::error(400, "a trace id is up to 32 hexadecimal digits")
}

/// What each policy said of the traces whose ids start with `id`, the last decision first.
async fn explain_page<S: Shards>(view: &View<S>, id: &str) -> Result<Page, NoAnswer> {
    let Some(id) = digits_of(id) else {
        return Ok(not_an_id());
    };
    let mut found: Vec<Explanation> = Vec::new();
    for (pipeline, explanation) in answered(view, view.shards.explain(&id)).await? {
        let pipeline = view.pipelines.get(pipeline).map(|pipeline| pipeline.id.clone()).unwrap_or_default();
        found.push(Explanation { pipeline, ..explanation });
    }
    if found.is_empty() {
        return Ok(Page::error(
            404,
            format!(
                "nothing is noted of a trace that begins with {id}: it never came, no sampler looked at it, or younger \
                 ones took its place; a trace that still waits is found by all of its digits"
            ),
        ));
    }
    found.sort_by_key(|explanation| explanation.decided_ms_ago);
    Ok(Page::json(200, &found))
}

/// A trace and where its time went.
#[derive(Serialize)]
struct Analyzed<'t> {
    #[serde(flatten)]
    trace: &'t KeptTrace,
    analysis: Analysis,
}

fn ready_page(readiness: Readiness) -> Page {
    match readiness {
        Readiness::Ready => Page::json(200, &json!({ "ready": true })),
        Readiness::Starting => Page::error(503, "starting"),
        Readiness::Draining => Page::error(503, "draining"),
    }
}

async fn live_page<S: Shards>(view: &View<S>) -> Result<Page, NoAnswer> {
    let shards = answered(view, view.shards.snapshot()).await?;
    Ok(Page::json(200, &json!({ "live": true, "shards": shards.len() })))
}

fn pipelines_page<S>(view: &View<S>) -> Page {
    let pipelines = view.pipelines.iter().map(|pipeline| {
        json!({
            "pipeline": pipeline.id,
            "receivers": pipeline.receivers,
            "processors": pipeline.processors,
            "exporters": pipeline.exporters,
        })
    });
    Page::json(200, &pipelines.collect::<Vec<_>>())
}

fn extensions_page<S>(view: &View<S>) -> Page {
    let mut ids: Vec<String> = view.extensions.iter().map(|(id, _)| id.to_string()).collect();
    ids.dedup();
    Page::json(200, &ids)
}

fn asset(path: &str) -> Page {
    let found = ASSETS.iter().find(|(known, _, _)| *known == path);
    let (_, content_type, body) = found.expect("only paths of assets come here");
    Page { status: 200, content_type, body: (*body).to_owned() }
}

/// All views, or the one of this name: the same snapshot either way.
async fn overview_page<S: Shards>(view: &View<S>, name: Option<&str>) -> Result<Page, NoAnswer> {
    let all = view.overview().await.ok_or(NoAnswer)?;
    let Some(name) = name else { return Ok(Page::json(200, &all)) };
    let all = serde_json::to_value(all).expect("keys are text and numbers are finite");
    Ok(match all.get(name) {
        Some(one) => Page::json(200, one),
        None => {
            let names = all.as_object().map(|views| views.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
            Page::error(404, format!("there is no view of that name; there are {}", names.join(", ")))
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config;
    use crate::config::checked::Config;
    use crate::profile::tasks::Tasks;
    use crate::shard::runtime::tasks::TaskKind;
    use crate::telemetry::cells::{Cells, Schema};
    use crate::telemetry::metrics::{BookSeries, ReceiverSeries};
    use codecs::otlp::Signal;
    use serde_json::Value;
    use std::time::Duration;

    /// Two shards that answer at once, or never.
    pub(in crate::admin) struct Fixed {
        snapshots: Vec<Vec<u64>>,
        traces: Vec<KeptTrace>,
        answer: bool,
    }

    impl Shards for Fixed {
        async fn snapshot(&self) -> Vec<Vec<u64>> {
            if !self.answer {
                std::future::pending().await
            }
            self.snapshots.clone()
        }

        async fn traces(&self) -> Vec<KeptTrace> {
            self.traces.clone()
        }

        async fn explain(&self, digits: &str) -> Vec<(usize, Explanation)> {
            let traces = self.traces.iter().filter(|trace| trace.trace_id.starts_with(digits));
            let told = |trace: &KeptTrace| Explanation { trace_id: trace.trace_id.clone(), ..Explanation::default() };
            traces.map(|trace| (1, told(trace))).collect()
        }

        async fn span_metrics(&self) -> Vec<Vec<span_metrics::Snapshot>> {
            Vec::new()
        }

        async fn tasks(&self) -> Tasks {
            let kind =
                TaskKind { name: "engine::connect".to_owned(), file: "a.rs", line: 1, address: 1, live: 7, started: 9 };
            Tasks(vec![vec![kind], Vec::new()])
        }

        fn forget(&self, _: usize, _: span_metrics::Forgotten) {}
    }

    pub(in crate::admin) fn view() -> View<Fixed> {
        let mut schema = Schema::default();
        let receiver = ReceiverSeries::declare(&mut schema, "otlp", "grpc", &[Signal::Traces]);
        let book = BookSeries::declare(&mut schema, "traces", "memory", Signal::Traces);
        let snapshot = || {
            let (cells, intake) = (Cells::new(&schema), receiver.of(Signal::Traces));
            for counter in [intake.offered, intake.accepted, book.accepted, book.delivered] {
                cells.add(counter, 5);
            }
            cells.snapshot()
        };
        let trace =
            |id: &str| KeptTrace { trace_id: id.repeat(16), reason: "errors".to_owned(), ..KeptTrace::default() };
        let shards =
            Fixed { snapshots: vec![snapshot(), snapshot()], traces: vec![trace("a1"), trace("a2")], answer: true };
        let mut view = View::new(shards, schema, &configuration(), None, 7);
        view.answer_wait = Duration::from_millis(1);
        view
    }

    /// Three extensions, two pipelines of which one feeds the other.
    fn configuration() -> Config {
        let text = "\
receivers: {otlp: {protocols: {grpc: }}}
processors: {batch: }
exporters: {memory: }
connectors: {forward: }
extensions:
  health_check: {path: /health, response_body: {healthy: fine}}
  healthcheckv2: {use_v2: true, http: {endpoint: 'localhost:13134'}}
  zpages: {endpoint: 'localhost:1'}
  pprof:
service:
  extensions: [health_check, healthcheckv2, zpages, pprof]
  telemetry: {resource: {service.name: edge, service.version: null, deployment.environment: test}}
  pipelines:
    traces/in: {receivers: [otlp], processors: [batch], exporters: [forward]}
    traces/out: {receivers: [forward], exporters: [memory]}
";
        let file = config::Source::File { name: "test.yaml".to_owned(), text: text.to_owned() };
        let loaded = config::load(&[file], &|_| None, &config::Machine { memory_bytes: 1 << 30 });
        let said = config::render(&loaded.diagnostics, false);
        loaded.config.unwrap_or_else(|| panic!("{said}"))
    }

    fn ask(face: Face, view: &View<Fixed>, path: &str) -> Page {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(face.page(view, path))
    }

    fn value(page: &Page) -> Value {
        serde_json::from_str(&page.body).unwrap()
    }

    #[test]
    fn metrics_are_on_the_metrics_address_and_only_there() {
        let page = ask(Face::Metrics, &view(), "/metrics");
        assert_eq!(page.status, 200);
        assert!(page.body.contains("otelcol_receiver_accepted_spans{receiver=\"otlp\",transport=\"grpc\"} 10\n"));
        assert!(page.body.contains("\nprocess_resident_memory_bytes "));
        assert_eq!(ask(Face::Admin, &view(), "/metrics").status, 404);
        assert_eq!(ask(Face::Metrics, &view(), "/traces").status, 404);
    }

    #[test]
    fn the_ledger_is_summed_over_shards_and_says_whether_it_balances() {
        let page = value(&ask(Face::Admin, &view(), "/ledger"));
        assert_eq!(page["balanced"], true);
        assert_eq!(page["accounts"][0]["delivered"], 10);
        assert!(page["sentence"].as_str().unwrap().starts_with("Received 10 spans"));
    }

    #[test]
    fn a_trace_is_found_by_its_first_digits_in_any_case() {
        let found = ask(Face::Admin, &view(), "/traces/A1");
        assert_eq!(value(&found)["reason"], "errors");
        assert_eq!(ask(Face::Admin, &view(), "/traces/a").status, 400, "two begin with it");
        assert_eq!(ask(Face::Admin, &view(), "/traces/b").status, 404);
        assert_eq!(ask(Face::Admin, &view(), "/traces/xyz").status, 400);
        assert_eq!(value(&ask(Face::Admin, &view(), "/traces")).as_array().unwrap().len(), 2);
    }

    #[test]
    fn decisions_are_explained_with_their_pipeline() {
        let found = ask(Face::Admin, &view(), "/explain/A1");
        assert_eq!((found.status, value(&found)[0]["pipeline"].as_str()), (200, Some("traces/out")));
        assert_eq!(ask(Face::Admin, &view(), "/explain/b").status, 404);
        assert_eq!(ask(Face::Admin, &view(), "/explain/xyz").status, 400);
    }

    #[test]
    fn a_draining_gateway_is_not_ready_but_alive() {
        let view = view();
        assert_eq!(ask(Face::Admin, &view, "/ready").status, 503, "still starting");
        view.show(Readiness::Ready);
        assert_eq!(ask(Face::Admin, &view, "/ready").status, 200);
        view.show(Readiness::Draining);
        assert_eq!(ask(Face::Admin, &view, "/ready").status, 503);
        assert_eq!(ask(Face::Admin, &view, "/live").status, 200);
    }

    #[test]
    fn every_view_of_the_overview_has_its_own_page() {
        let view = view();
        view.show(Readiness::Ready);
        let all = value(&ask(Face::Admin, &view, "/overview"));
        assert_eq!(all["gateway"]["state"], "ready");
        assert_eq!(all["ledger"], value(&ask(Face::Admin, &view, "/ledger")));
        assert_eq!(all["shards"].as_array().unwrap().len(), 2);
        for name in all.as_object().unwrap().keys().filter(|name| *name != "gateway") {
            assert_eq!(value(&ask(Face::Admin, &view, &format!("/overview/{name}"))), all[name.as_str()], "{name}");
        }
        let unknown = value(&ask(Face::Admin, &view, "/overview/none"));
        assert!(unknown["error"].as_str().unwrap().ends_with("pipelines, policies, queues, refusals, shards"));
    }

    #[test]
    fn pipelines_are_shown_with_what_passed_each_component() {
        let pipelines = value(&ask(Face::Admin, &view(), "/overview/pipelines"));
        let [receiving, sending] = [&pipelines[0], &pipelines[1]];
        assert_eq!(
            receiving["receivers"][0],
            json!({
                "id": "otlp", "connector": false, "accepted": 10, "refused": 0, "rejected": 0,
            })
        );
        assert_eq!(receiving["exporters"][0]["connector"], true);
        assert_eq!(sending["receivers"][0]["connector"], true);
        assert_eq!(sending["signal"], "traces");
    }

    #[test]
    fn a_trace_carries_where_its_time_went() {
        let trace = value(&ask(Face::Admin, &view(), "/traces/a1"));
        assert_eq!(trace["analysis"]["trace_id"], trace["trace_id"]);
    }

    /// What peers sent is written as text: the script has no way to turn text into markup or code.
    #[test]
    fn the_page_comes_whole_from_here_and_writes_text_as_text() {
        let view = view();
        let [page, style, script] = ["/", "/page.css", "/page.js"].map(|path| ask(Face::Admin, &view, path));
        for page in [&page, &style, &script] {
            assert_eq!(page.status, 200);
            for outside in ["https://", "@import", "url("] {
                assert!(!page.body.contains(outside), "{outside}");
            }
        }
        for inline in ["style=", "onclick", "<style", "<script>", "javascript:"] {
            assert!(!page.body.contains(inline), "{inline} is what the security policy forbids");
        }
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"]
        {
            assert!(!script.body.contains(markup), "{markup}");
        }
        assert!(page.body.contains("src=\"/page.js\"") && page.body.contains("href=\"/page.css\""));
        assert_eq!(script.content_type, "text/javascript; charset=utf-8");
    }

    const HEALTH: Face = Face::Extension(0);
    const HEALTH_V2: Face = Face::Extension(1);
    const ZPAGES: Face = Face::Extension(2);

    #[test]
    fn health_is_503_before_the_gateway_is_ready_while_it_drains_and_with_a_stuck_shard() {
        let mut view = view();
        let check = |view: &View<Fixed>, status: u16, word: &str| {
            assert_eq!(ask(HEALTH, view, "/health").status, status, "{word}");
            let page = ask(HEALTH_V2, view, "/status");
            assert_eq!((page.status, value(&page)["status"].as_str()), (status, Some(word)));
            assert_eq!(value(&page)["healthy"], status == 200);
        };
        check(&view, 503, "StatusStarting");
        view.show(Readiness::Ready);
        check(&view, 200, "StatusOK");
        view.shards.answer = false;
        check(&view, 503, "StatusFatalError");
        view.shards.answer = true;
        check(&view, 200, "StatusOK");
        view.show(Readiness::Draining);
        check(&view, 503, "StatusStopping");
    }

    #[test]
    fn a_health_check_answers_with_the_configured_text_or_as_the_collector_does() {
        let view = view();
        let unavailable = value(&ask(HEALTH, &view, "/health"));
        assert_eq!(unavailable["status"], "Server not available");
        view.show(Readiness::Ready);
        assert_eq!(ask(HEALTH, &view, "/health?x=1").body, "fine");
        assert_eq!(ask(HEALTH, &view, "/other").status, 404);
    }

    #[test]
    fn the_second_health_check_names_pipelines_and_their_components() {
        let view = view();
        view.show(Readiness::Ready);
        let all = value(&ask(HEALTH_V2, &view, "/status?verbose"));
        assert_eq!(all["components"]["extensions"]["components"]["extension:health_check"]["status"], "StatusOK");
        assert_eq!(all["components"]["pipeline:traces/in"]["components"]["exporter:forward"]["healthy"], true);
        let one = value(&ask(HEALTH_V2, &view, "/status?pipeline=traces%2Fout&verbose"));
        let names: Vec<&String> = one["components"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["exporter:memory", "receiver:forward"]);
        assert!(value(&ask(HEALTH_V2, &view, "/status"))["components"].is_null());
        assert_eq!(ask(HEALTH_V2, &view, "/status?pipeline=traces/none").status, 404);
        assert_eq!(ask(HEALTH_V2, &view, "/").status, 404);
    }

    #[test]
    fn zpages_are_the_admin_pages() {
        let view = view();
        assert_eq!(ask(ZPAGES, &view, "/debug/servicez").body, ask(Face::Admin, &view, "/").body);
        assert_eq!(value(&ask(ZPAGES, &view, "/debug/pipelinez"))[1]["receivers"][0], "forward");
        assert_eq!(value(&ask(ZPAGES, &view, "/debug/extensionz"))[0], "health_check");
    }

    #[test]
    fn target_info_has_the_configured_resource() {
        let text = ask(Face::Metrics, &view(), "/metrics").body;
        let line = text.lines().find(|line| line.starts_with("target_info{")).unwrap();
        assert!(line.contains("service_name=\"edge\"") && line.contains("deployment_environment=\"test\""), "{line}");
        assert!(!line.contains("service_version") && line.contains("service_instance_id"), "{line}");
    }

    #[test]
    fn a_shard_that_does_not_answer_gives_an_error_and_not_a_wait() {
        let mut view = view();
        view.shards.answer = false;
        for (face, path) in [(Face::Metrics, "/metrics"), (Face::Admin, "/live"), (Face::Admin, "/overview")] {
            assert_eq!(ask(face, &view, path).status, 503, "{path}");
        }
        assert_eq!(ask(Face::Admin, &view, "/").status, 200, "the page itself says what it was answered");
    }
}
