//! Which page a request gets. Pure but for asking the shards: no socket, no clock.

use std::fmt::Write;
use std::future::Future;

use serde::Serialize;
use serde_json::json;

use super::{Readiness, Shards, View};
use crate::exporter::memory::KeptTrace;
use crate::telemetry::exposition::{self, Exposition};
use crate::telemetry::{metrics, process};

/// Which address a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// `service.telemetry.metrics`: scrapers.
    Metrics,
    /// `service.engine.admin`: people and probes.
    Admin,
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

impl Page {
    fn json(status: u16, value: &impl Serialize) -> Page {
        let body = serde_json::to_string(value).expect("keys are text and numbers are finite");
        Page { status, content_type: JSON, body: body + "\n" }
    }

    /// For everything but GET and HEAD: pages show, they change nothing.
    pub(super) fn method_not_allowed() -> Page {
        Page::error(405, "pages are read with GET")
    }

    fn error(status: u16, why: impl Into<String>) -> Page {
        Page::json(status, &json!({ "error": why.into() }))
    }
}

impl Face {
    /// The page at `path`, without its query. The caller has checked that the method is GET or HEAD.
    pub async fn page<S: Shards>(self, view: &View<S>, path: &str) -> Page {
        let page = match (self, path) {
            (Face::Metrics, "/metrics") => metrics_page(view).await,
            (Face::Metrics, "/") => Ok(Page::error(404, "look at /metrics")),
            (Face::Admin, "/") => index_page(view).await,
            (Face::Admin, "/ledger") => ledger_page(view).await,
            (Face::Admin, "/traces") => traces_page(view).await,
            (Face::Admin, "/ready") => Ok(ready_page(view.readiness.get())),
            (Face::Admin, "/live") => live_page(view).await,
            (Face::Admin, path) => match path.strip_prefix("/traces/") {
                Some(id) => trace_page(view, id).await,
                None => Ok(Page::error(404, "no such page; / lists them all")),
            },
            (Face::Metrics, _) => Ok(Page::error(404, "look at /metrics")),
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
    process.extend(process::read().iter().flat_map(process::ProcessValues::samples));
    let exposition = Exposition {
        schema: &view.schema,
        shards: &shards,
        process: &process,
        resource: &view.resource,
        level: view.level,
    };
    Ok(Page { status: 200, content_type: exposition::CONTENT_TYPE, body: exposition.text() })
}

async fn ledger_page<S: Shards>(view: &View<S>) -> Result<Page, NoAnswer> {
    let books = view.books().await.ok_or(NoAnswer)?;
    let page = json!({
        "balanced": books.imbalance() == 0,
        "sentence": books.sentence(),
        "disagreements": books.disagreements(),
        "intake": books.intake,
        "accounts": books.accounts,
    });
    Ok(Page::json(200, &page))
}

async fn traces_page<S: Shards>(view: &View<S>) -> Result<Page, NoAnswer> {
    let parts = answered(view, view.shards.traces()).await?;
    let lines = KeptTrace::join(parts).into_iter().map(KeptTrace::without_spans);
    Ok(Page::json(200, &lines.collect::<Vec<_>>()))
}

/// The trace whose id starts with `id`, so that a person may type its first digits.
async fn trace_page<S: Shards>(view: &View<S>, id: &str) -> Result<Page, NoAnswer> {
    let id = id.to_ascii_lowercase();
    if id.is_empty() || id.len() > 32 || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(Page::error(400, "a trace id is up to 32 hexadecimal digits"));
    }
    let mut parts = answered(view, view.shards.traces()).await?;
    parts.retain(|part| part.trace_id.starts_with(&id));
    let found = KeptTrace::join(parts);
    Ok(match found.as_slice() {
        [] => Page::error(
            404,
            format!("no kept trace begins with {id}; it was dropped, is still undecided, or left for younger ones"),
        ),
        [trace] => Page::json(200, trace),
        several => Page::error(400, format!("{} kept traces begin with {id}", several.len())),
    })
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

async fn index_page<S: Shards>(view: &View<S>) -> Result<Page, NoAnswer> {
    const PAGES: [(&str, &str); 4] = [
        ("/ledger", "what came in and what became of it"),
        ("/traces", "the last kept traces; /traces/<id> shows one"),
        ("/ready", "200 while senders should send"),
        ("/live", "200 while every shard answers"),
    ];
    let sentence = view.books().await.ok_or(NoAnswer)?.sentence();
    let mut body = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Tracegate</title>\n<h1>Tracegate</h1>\n<p>{}</p>\n<ul>\n",
        escaped(&sentence)
    );
    for (path, what) in PAGES {
        writeln!(body, "<li><a href=\"{path}\">{path}</a>: {}</li>", escaped(what))
            .expect("writing to a string cannot fail");
    }
    body.push_str("</ul>\n");
    Ok(Page { status: 200, content_type: HTML, body })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::MetricsLevel;
    use crate::telemetry::cells::{Cells, Schema};
    use crate::telemetry::metrics::{BookSeries, ReceiverSeries};
    use serde_json::Value;
    use std::time::Duration;

    /// Two shards that answer at once, or never.
    struct Fixed {
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
    }

    fn view() -> View<Fixed> {
        let mut schema = Schema::default();
        let receiver = ReceiverSeries::declare(&mut schema, "otlp", "grpc");
        let book = BookSeries::declare(&mut schema, "traces", "memory");
        let snapshot = || {
            let cells = Cells::new(&schema);
            for counter in [receiver.offered, receiver.accepted, book.accepted, book.delivered] {
                cells.add(counter, 5);
            }
            cells.snapshot()
        };
        let trace =
            |id: &str| KeptTrace { trace_id: id.repeat(16), reason: "errors".to_owned(), ..KeptTrace::default() };
        let shards =
            Fixed { snapshots: vec![snapshot(), snapshot()], traces: vec![trace("a1"), trace("a2")], answer: true };
        let mut view = View::new(shards, schema, MetricsLevel::Normal, None, 7);
        view.answer_wait = Duration::from_millis(1);
        view
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
    fn a_shard_that_does_not_answer_gives_an_error_and_not_a_wait() {
        let mut view = view();
        view.shards.answer = false;
        for (face, path) in [(Face::Metrics, "/metrics"), (Face::Admin, "/live"), (Face::Admin, "/")] {
            assert_eq!(ask(face, &view, path).status, 503, "{path}");
        }
    }
}
