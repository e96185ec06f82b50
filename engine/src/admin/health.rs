//! What the health_check extensions answer: whether senders should send here, in the two forms of the Collector.
//!
//! ```text
//! v1  path            200 or 503, {"status":"Server available","upSince":...,"uptime":...} or the configured text
//! v2  /status         200 or 503, {"start_time":...,"healthy":...,"status":"StatusOK","status_time":...}
//!     ?verbose        with every pipeline and its components
//!     ?pipeline=NAME  one pipeline; 404 if there is none of that name
//! ```
//!
//! Healthy is: ready, and every shard answers. A backend that is down does not make a gateway unhealthy: restarting it
//! would lose what waits for that backend.

use serde_json::{Map, Value, json};

use super::pages::Page;
use super::{Moment, PipelineNames, Readiness, Shards, View};
use crate::config::checked::{HealthCheckSettings, HealthCheckV2Settings};
use crate::telemetry::logs::timestamp;

/// How the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Starting,
    Ok,
    /// A shard does not answer.
    Stuck,
    Stopping,
}

impl Health {
    fn http_status(self) -> u16 {
        if self == Health::Ok { 200 } else { 503 }
    }

    /// In the words of component statuses.
    fn word(self) -> &'static str {
        match self {
            Health::Starting => "StatusStarting",
            Health::Ok => "StatusOK",
            Health::Stuck => "StatusFatalError",
            Health::Stopping => "StatusStopping",
        }
    }
}

impl<S: Shards> View<S> {
    pub(super) async fn health(&self) -> Health {
        match self.readiness.get() {
            Readiness::Starting => Health::Starting,
            Readiness::Draining => Health::Stopping,
            Readiness::Ready => match tokio::time::timeout(self.answer_wait, self.shards.snapshot()).await {
                Ok(_) => Health::Ok,
                Err(_) => Health::Stuck,
            },
        }
    }

    /// `health_check`.
    pub(super) async fn health_page(&self, settings: &HealthCheckSettings, path: &str) -> Page {
        if !covers(&settings.path, path) {
            return Page::error(404, format!("health is told at {}", settings.path));
        }
        let health = self.health().await;
        let configured = if health == Health::Ok { &settings.healthy_body } else { &settings.unhealthy_body };
        match configured {
            Some(text) => Page::text(health.http_status(), text.clone()),
            None => Page::json(health.http_status(), &self.availability(health)),
        }
    }

    fn availability(&self, health: Health) -> Value {
        if health != Health::Ok {
            return json!({ "status": "Server not available", "upSince": "0001-01-01T00:00:00Z", "uptime": "" });
        }
        let Moment { unix_ms, instant } = self.since.get();
        let uptime = go_duration(instant.elapsed().as_millis());
        json!({ "status": "Server available", "upSince": timestamp(unix_ms), "uptime": uptime })
    }

    /// `healthcheckv2`.
    pub(super) async fn status_page(&self, settings: &HealthCheckV2Settings, path: &str, query: &str) -> Page {
        let Some(status_path) = settings.status_path.as_deref().filter(|known| covers(known, path)) else {
            return Page::error(404, "no such page; the status is at http.status.path, by default /status");
        };
        debug_assert!(status_path.starts_with('/'));
        let query = Query::read(query);
        let chosen = match &query.pipeline {
            None => None,
            Some(name) => match self.pipelines.iter().find(|pipeline| pipeline.id == *name) {
                Some(pipeline) => Some(pipeline),
                None => return Page::error(404, "there is no pipeline of that name"),
            },
        };
        let health = self.health().await;
        let status = Status { health, since: timestamp(self.since.get().unix_ms) };
        let components = query.verbose.then(|| match chosen {
            Some(pipeline) => status.components_of(pipeline),
            None => status.all(&self.pipelines, self.extensions.iter().map(|(id, _)| id.to_string())),
        });
        let mut page = status.value(components);
        page["start_time"] = timestamp(self.started.unix_ms).into();
        if health == Health::Stuck {
            page["error"] = format!("a shard did not answer within {} s", self.answer_wait.as_secs()).into();
        }
        Page::json(health.http_status(), &page)
    }
}

/// As Go's router does it: a path with a `/` at its end stands for everything below it.
fn covers(known: &str, path: &str) -> bool {
    known == path || (known.ends_with('/') && path.starts_with(known))
}

/// Every component has the gateway's own status: they share its threads.
struct Status {
    health: Health,
    since: String,
}

impl Status {
    fn value(&self, components: Option<Value>) -> Value {
        let mut value = json!({
            "healthy": self.health == Health::Ok,
            "status": self.health.word(),
            "status_time": self.since,
        });
        if let Some(components) = components {
            value["components"] = components;
        }
        value
    }

    fn components_of(&self, pipeline: &PipelineNames) -> Value {
        let kinds =
            [("receiver", &pipeline.receivers), ("processor", &pipeline.processors), ("exporter", &pipeline.exporters)];
        let ids = kinds.iter().flat_map(|(kind, ids)| ids.iter().map(move |id| format!("{kind}:{id}")));
        Value::Object(ids.map(|id| (id, self.value(None))).collect())
    }

    fn all(&self, pipelines: &[PipelineNames], extensions: impl Iterator<Item = String>) -> Value {
        let extensions: Map<String, Value> =
            extensions.map(|id| (format!("extension:{id}"), self.value(None))).collect();
        let mut all = Map::new();
        all.insert("extensions".to_owned(), self.value(Some(Value::Object(extensions))));
        for pipeline in pipelines {
            let components = self.components_of(pipeline);
            all.insert(format!("pipeline:{}", pipeline.id), self.value(Some(components)));
        }
        Value::Object(all)
    }
}

/// What a status is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    pipeline: Option<String>,
    verbose: bool,
}

impl Query {
    fn read(query: &str) -> Query {
        let mut read = Query::default();
        for part in query.split('&') {
            match part.split_once('=').unwrap_or((part, "")) {
                ("pipeline", name) => read.pipeline = Some(unescaped(name)),
                ("verbose", value) => read.verbose = value != "false",
                _ => {}
            }
        }
        read
    }
}

/// `%2F` is a slash; what is no escape stays.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|digits| first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `1h2m3.004s`, as Go writes durations.
fn go_duration(milliseconds: u128) -> String {
    let (seconds, minutes) = (milliseconds % 60_000, milliseconds / 60_000);
    let mut text = match (minutes / 60, minutes % 60) {
        (0, 0) => String::new(),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    };
    text.push_str(&format!("{}s", seconds as f64 / 1000.0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_are_written_like_go() {
        for (milliseconds, text) in
            [(0, "0s"), (1_234, "1.234s"), (60_000, "1m0s"), (984_684, "16m24.684s"), (3_723_004, "1h2m3.004s")]
        {
            assert_eq!(go_duration(milliseconds), text);
        }
    }

    #[test]
    fn a_query_names_a_pipeline_and_asks_for_everything() {
        let check = |text: &str, pipeline: Option<&str>, verbose: bool| {
            assert_eq!(Query::read(text), Query { pipeline: pipeline.map(str::to_owned), verbose }, "{text}");
        };
        check("", None, false);
        check("verbose", None, true);
        check("pipeline=traces/eu&verbose=true", Some("traces/eu"), true);
        check("verbose=false&pipeline=traces%2feu%", Some("traces/eu%"), false);
        check("pipeline=%zz%4", Some("%zz%4"), false);
    }

    proptest::proptest! {
        #[test]
        fn no_query_panics(query in "[pipelnvrbos=&%/a0-9\\PC]{0,40}") {
            Query::read(&query);
        }
    }

    #[test]
    fn a_path_that_ends_with_a_slash_covers_what_is_below_it() {
        assert!(covers("/", "/anything"));
        assert!(covers("/health", "/health"));
        assert!(!covers("/health", "/health/x"));
        assert!(covers("/health/", "/health/x"));
        assert!(!covers("/health", "/"));
    }
}
