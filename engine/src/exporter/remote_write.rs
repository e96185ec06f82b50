//! The `prometheusremotewrite` exporter: metrics as samples, over HTTP/1.1.
//!
//! ```text
//! batch --translate--> requests (snappy) --post, some at a time--> taken | never | not now: kept for the next attempt
//! next batch  --translate, while the posts wait for their answers--> kept until its turn
//! ```
//!
//! The one idea: a batch is translated once, and a retry sends only what is left of it. The queue in front has one consumer
//! on each shard, so a batch is settled before the next one is sent, and a series has one shard (`pipeline::Affinity`): its
//! samples leave in the order in which they came. Translating is work of milliseconds, so it is done in slices between which
//! the shard's other tasks run. It never waits or retries itself.

use super::check_duration;
use super::outcome::{self, ErrorWord, Outcome};
use crate::auth::backend::BackendHeaders;
use crate::config::checked::{ComponentId, RemoteWriteSettings};
use crate::pipeline::batch::Batch;
use crate::pipeline::client::Client;
use crate::queue::ExportRequest;
use crate::shard::ShardContext;
use crate::shard::runtime::yield_now;
use crate::telemetry::metrics::{REJECTING_STATUSES, RemoteWriteSeries};
use crate::transport::client::http1::{HttpClient, HttpResponse};
use crate::transport::client::{PeerSettings, host_and_port};
use crate::transport::tls::TlsClient;
use bytes::Bytes;
use codecs::compression::{Compression, Compressor};
use codecs::otlp::{Format, MetricIndex, SignalIndex, item_bytes};
use codecs::prometheus::{Counts, DropReason, Translator, WriteRequest};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;

/// Points of one slice: below a millisecond of work, and far more than it costs to give way.
const SLICE_POINTS: u32 = 1024;

const VERSION_HEADER: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// What is left of a batch that was translated.
#[derive(Debug, Default)]
pub struct RemoteWrite {
    parts: VecDeque<Part>,
    /// Points that are in no part.
    dropped: u64,
    /// Points in parts that the peer will never take, and its reason.
    failed: u64,
    message: String,
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
struct Part {
    /// Requests of one push have different series, so they may be under way at the same time; the next push waits.
    push: u32,
    body: Bytes,
    points: u64,
    samples: u64,
    histograms: u64,
    exemplars: u64,
}

/// A byte of a metric of a batch.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The metric, in the order of the index.
    number: usize,
    from: usize,
}

/// A remote write exporter on one shard.
#[derive(Debug)]
pub struct RemoteWriteExporter {
    id: ComponentId,
    client: HttpClient,
    /// What every request has beside its encoding.
    headers: HeaderMap,
    shown: Option<BackendHeaders>,
    /// Who answers whom, for errors.
    peer: String,
    parallel_requests: usize,
    /// Held from a batch's first slice to its last; who asks first is first.
    translating: Mutex<()>,
    state: RefCell<State>,
    series: Box<RemoteWriteSeries>,
}

#[derive(Debug)]
struct State {
    translator: Translator,
    compressor: Compressor,
    /// Room for the worst case of a compressed request, megabytes: used again, so that its pages are not cleared by the
    /// kernel for each request, and a part keeps only what it needs of it.
    compressed: Vec<u8>,
    /// What was already shown.
    counts: Counts,
    cache_bytes_peak: usize,
}

impl RemoteWriteExporter {
    /// `tls` is shared by all shards. Errors name the exporter and the setting.
    pub fn new(
        id: &ComponentId,
        settings: &RemoteWriteSettings,
        tls: Option<TlsClient>,
        shown: Option<BackendHeaders>,
        series: Box<RemoteWriteSeries>,
        shard: usize,
    ) -> Result<RemoteWriteExporter, String> {
        let sender = format!("exporter {id}");
        let http = &settings.http;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let peer = PeerSettings {
            sender: sender.clone(),
            endpoint: http.endpoint.clone(),
            tls,
            authority: None,
            headers: http.headers.clone(),
            proxy: http.proxy.clone(),
            timeout: check_duration(http.timeout_ns),
            first_address: shard,
            names: http.names,
        };
        let client =
            HttpClient::new(&peer, &http.path, Format::Protobuf).map_err(|error| format!("{sender}: {error}"))?;
        let mut headers = client.headers().clone();
        let protocol = settings.translation.protocol;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(protocol.content_type()));
        headers.insert(VERSION_HEADER, HeaderValue::from_static(protocol.version()));
        // Names come from clients, who must not know it.
        let translator = Translator::new(settings.translation.clone(), fastrand::u64(..));
        let state = State {
            translator,
            compressor: Compressor::default(),
            compressed: Vec::new(),
            counts: Counts::default(),
            cache_bytes_peak: 0,
        };
        Ok(RemoteWriteExporter {
            id: id.clone(),
            client,
            headers,
            shown,
            peer: format!("{sender} to {scheme}://{}{}", host_and_port(&http.endpoint), http.path),
            parallel_requests: settings.parallel_requests.max(1),
            translating: Mutex::new(()),
            state: RefCell::new(state),
            series,
        })
    }

    /// Translates the request, unless that was done before, so that its attempt only has to send. Requests are prepared in
    /// the order in which they are attempted: deltas add up in it.
    pub async fn prepare(&self, request: &ExportRequest, shard: &ShardContext) {
        let _until_the_last_slice = self.translating.lock().await;
        if !request.was_translated(&self.id) {
            let whole = self.translate(request.batch(), shard).await;
            request.keep_remote_write(&self.id, whole);
        }
    }

    /// Sends what is left of the request once.
    pub async fn attempt(&self, request: &ExportRequest, shard: &ShardContext) -> Outcome {
        self.prepare(request, shard).await;
        let rest = request.take_remote_write(&self.id);
        let mut rest = rest.expect("a request comes again only after an attempt that kept what is left of it");
        while let Some(push) = rest.parts.front().map(|part| part.push) {
            let together = rest.parts.iter().take_while(|part| part.push == push);
            let count = together.take(self.parallel_requests).count();
            let parts: Vec<Part> = rest.parts.drain(..count).collect();
            let client = request.batch().client.as_deref();
            let posts = parts.iter().map(|part| self.post(part, client));
            let outcomes = futures_util::future::join_all(posts).await;
            let mut retry = None;
            let mut again = Vec::new();
            for (part, outcome) in parts.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Permanent { reason, message } => self.reject(&part, reason, message, &mut rest, shard),
                    Outcome::Retry { .. } => {
                        retry = Some(later(retry, outcome));
                        again.push(part);
                    }
                    _ => self.count_taken(&part, shard),
                }
            }
            if let Some(retry) = retry {
                again.into_iter().rev().for_each(|part| rest.parts.push_front(part));
                request.keep_remote_write(&self.id, rest);
                return retry;
            }
        }
        if rest.dropped + rest.failed == 0 {
            return Outcome::Delivered;
        }
        Outcome::DeliveredInPart { dropped: rest.dropped, failed: rest.failed, message: rest.message }
    }

    /// Memory of labels and of what deltas were added up to. A cache that was emptied keeps its tables.
    pub fn cache_bytes(&self) -> u64 {
        let state = self.state.borrow();
        (state.cache_bytes_peak + state.translator.delta_bytes() + state.compressed.capacity()) as u64
    }

    /// Closes idle connections; attempts under way finish.
    pub async fn close(&self) {
        self.client.close().await;
    }

    async fn post(&self, part: &Part, client: Option<&Client>) -> Outcome {
        let mut headers = self.headers.clone();
        if let Some(Err(why)) = self.shown.as_ref().map(|shown| shown.apply(&mut headers, client)) {
            return Outcome::Permanent { reason: ErrorWord::Request, message: format!("{}: {why}", self.peer) };
        }
        match self.client.post(part.body.clone(), Compression::Snappy, Some(headers)).await {
            Ok(response) => judge(&self.peer, &response, SystemTime::now()),
            Err(error) => outcome::from_client_error(error),
        }
    }

    async fn translate(&self, batch: &Batch, shard: &ShardContext) -> RemoteWrite {
        let SignalIndex::Metrics(index) = &batch.index else {
            unreachable!("the configuration lets metrics only into this exporter");
        };
        self.state.borrow_mut().translator.at(shard.clock.now_ns());
        let (mut rest, mut push, mut slice_points) = (RemoteWrite::default(), 0, 0);
        let mut scope = None;
        for (number, item) in index.items.iter().enumerate() {
            if slice_points >= SLICE_POINTS {
                slice_points = 0;
                yield_now().await;
            }
            slice_points += item.points.max(1);
            let mut from = self.take_metric(index, batch, Place { number, from: 0 }, &mut scope);
            while let Some(next) = from {
                self.pack(push, &mut rest.parts, shard).await;
                push += 1;
                from = self.take_metric(index, batch, Place { number, from: next }, &mut scope);
            }
        }
        self.pack(push, &mut rest.parts, shard).await;
        let points: u64 = rest.parts.iter().map(|part| part.points).sum();
        // A metric without points counts as one item, and becomes none.
        rest.dropped = batch.items().saturating_sub(points);
        self.show(&mut self.state.borrow_mut(), shard);
        rest
    }

    /// Gives the translator the points of a metric from a place on. Returns where to go on behind a full push.
    fn take_metric(&self, index: &MetricIndex, batch: &Batch, at: Place, scope: &mut Option<u32>) -> Option<usize> {
        let translator = &mut self.state.borrow_mut().translator;
        let item = &index.items[at.number];
        if *scope != Some(item.scope) {
            translator.resource(index.resource_envelope(item.scope));
            translator.scope(index.scope_envelope(item.scope));
            *scope = Some(item.scope);
        }
        translator.metric(item_bytes(item, &batch.segments), at.from)
    }

    /// Ends a push: its requests become parts, one compressed at a time.
    async fn pack(&self, push: u32, parts: &mut VecDeque<Part>, shard: &ShardContext) {
        let mut written = Vec::new();
        self.state.borrow_mut().translator.finish(&mut written);
        shard.cells.add(self.series.series, written.iter().map(|request| request.series).sum());
        for request in written {
            yield_now().await;
            let State { translator, compressor, compressed, .. } = &mut *self.state.borrow_mut();
            compressed.clear();
            compressor.compress(Compression::Snappy, None, &request.body, compressed);
            let body = Bytes::copy_from_slice(compressed);
            let WriteRequest { points, samples, histograms, exemplars, .. } = request;
            parts.push_back(Part { push, body, points, samples, histograms, exemplars });
            translator.recycle(request.body);
        }
    }

    /// Shows what the translator counted since the last time, and names what it dropped.
    fn show(&self, state: &mut State, shard: &ShardContext) {
        let (now, before) = (state.translator.counts(), &state.counts);
        let cells = &shard.cells;
        cells.add(self.series.failed_translations, now.dropped_total() - before.dropped_total());
        for reason in DropReason::ALL {
            let at = reason as usize;
            cells.add(self.series.dropped[at], now.dropped[at] - before.dropped[at]);
        }
        cells.add(self.series.cache_clears, now.cache_clears - before.cache_clears);
        cells.add(self.series.label_sets_built, now.label_sets_built - before.label_sets_built);
        cells.set(self.series.cache_bytes, state.translator.cache_bytes() as u64);
        cells.set(self.series.delta_bytes, state.translator.delta_bytes() as u64);
        state.cache_bytes_peak = state.cache_bytes_peak.max(state.translator.cache_bytes());
        state.counts = now.clone();
        for notice in state.translator.take_notices() {
            tracing::warn!(
                exporter = %self.id,
                metric = notice.metric,
                reason = notice.reason.name(),
                "Data points are dropped: {}. Said once for this metric.",
                notice.reason.explanation()
            );
        }
    }

    fn count_taken(&self, part: &Part, shard: &ShardContext) {
        let cells = &shard.cells;
        cells.add(self.series.batches, 1);
        cells.add(self.series.samples, part.samples);
        cells.add(self.series.histograms, part.histograms);
        cells.add(self.series.exemplars, part.exemplars);
    }

    fn reject(&self, part: &Part, reason: ErrorWord, message: String, rest: &mut RemoteWrite, shard: &ShardContext) {
        let word = match reason {
            ErrorWord::Http(status) => status.to_string(),
            _ => String::new(),
        };
        let other = REJECTING_STATUSES.len() - 1;
        let at = REJECTING_STATUSES.iter().position(|status| *status == word).unwrap_or(other);
        shard.cells.add(self.series.rejected[at], part.points);
        rest.failed += part.points;
        rest.message = message;
    }
}

/// Of two reasons to come back, the one that wants more time.
fn later(earlier: Option<Outcome>, outcome: Outcome) -> Outcome {
    let wait = |outcome: &Outcome| match outcome {
        Outcome::Retry { after, .. } => after.unwrap_or(Duration::ZERO),
        _ => Duration::ZERO,
    };
    match earlier {
        Some(earlier) if wait(&earlier) >= wait(&outcome) => earlier,
        _ => outcome,
    }
}

/// An answer, by the remote write specification ("Retries & Backoff"): 5xx and 429 mean later, other errors never.
fn judge(peer: &str, response: &HttpResponse, now: SystemTime) -> Outcome {
    let status = response.status;
    if status.is_success() {
        return Outcome::Delivered;
    }
    let said = outcome::peer_text(&String::from_utf8_lossy(&response.body));
    let colon = if said.is_empty() { "" } else { ": " };
    let message = format!("{peer}: the peer answers HTTP status {status}{colon}{said}");
    let reason = ErrorWord::Http(status.as_u16());
    if !status.is_server_error() && status != http::StatusCode::TOO_MANY_REQUESTS {
        return Outcome::Permanent { reason, message };
    }
    let hint = response.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    Outcome::Retry { after: hint.and_then(|text| outcome::retry_after(text, now)), reason, message }
}
