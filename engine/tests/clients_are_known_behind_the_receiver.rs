//! Several tenants send through one gateway, and each one's spans arrive at the backend with its own header: never with
//! another's, never mixed into one request, whichever shard took them.

mod common;

use common::gateway::wait_until_empty;
use common::grpc::Call;
use common::traces::{Kind, SpanId, Trace, request_of, spans_of};
use common::{Answer, Gateway, GrpcSender, HttpPeer, HttpSender, Sink};
use std::collections::{BTreeMap, BTreeSet};

/// A gateway with one receiver that keeps headers; `parts` are its extensions, processors and exporters, and the
/// pipeline's lists.
fn start(shards: usize, parts: &str) -> Gateway {
    Gateway::start(
        &format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: '127.0.0.1:0', include_metadata: true}}\n      \
             http: {{endpoint: '127.0.0.1:0', include_metadata: true}}\nservice:\n  engine: {{cores: {shards}, pin: \
             false, runtime: epoll, shutdown_timeout: 60s, admin: '127.0.0.1:0'}}\n  telemetry: {{metrics: {{address: \
             '127.0.0.1:0', level: detailed}}}}\n{parts}"
        ),
        &[],
    )
}

fn backend(sink: &Sink) -> String {
    let address = sink.address;
    format!("{{endpoint: 'http://{address}', compression: none, auth: {{authenticator: headers_setter}}}}")
}

fn trace(number: u64) -> Trace {
    Trace { number, spans: 3, kind: Kind::Plain }
}

/// The spans that came with each tenant's header.
fn by_tenant(sink: &Sink) -> BTreeMap<String, BTreeSet<SpanId>> {
    let mut tenants: BTreeMap<String, BTreeSet<SpanId>> = BTreeMap::new();
    for (message, headers) in sink.requests().iter().zip(sink.headers()) {
        let values: Vec<_> = headers.get_all("x-scope-orgid").iter().collect();
        assert_eq!(values.len(), 1, "one tenant per request: {values:?}");
        tenants.entry(values[0].to_str().expect("text").to_owned()).or_default().extend(spans_of(message));
    }
    tenants
}

#[test]
fn each_tenants_spans_arrive_with_its_own_header_and_batches_never_mix_them() {
    for shards in [1, 2] {
        let sink = Sink::start();
        let gateway = start(
            shards,
            &format!(
                "  extensions: [headers_setter]\n  pipelines:\n    traces: {{receivers: [otlp], processors: [batch], \
                 exporters: [otlp]}}\nextensions:\n  headers_setter: {{headers: [{{action: upsert, key: X-Scope-OrgID, \
                 from_context: X-Tenant, default_value: nobody}}]}}\nprocessors:\n  batch: {{timeout: 10s, \
                 send_batch_size: 100000, metadata_keys: [x-tenant]}}\nexporters:\n  otlp: {}\n",
                backend(&sink)
            ),
        );
        let grpc: Vec<GrpcSender> = (0..4).map(|_| GrpcSender::connect(gateway.grpc)).collect();
        let mut http = HttpSender::connect(gateway.http);
        let mut sent: BTreeMap<String, BTreeSet<SpanId>> = BTreeMap::new();
        for number in 0..60 {
            let tenant = ["acme", "shop", ""][number as usize % 3];
            let trace = trace(number);
            let message = request_of(&[trace]);
            let answer = if number % 2 == 0 {
                let call = Call::plain(&message);
                let call = if tenant.is_empty() { call } else { call.with("x-tenant", tenant) };
                grpc[number as usize % grpc.len()].begin(call).wait()
            } else {
                let typed = ("content-type", "application/x-protobuf");
                let headers = [typed, ("X-Tenant", tenant)];
                let headers = if tenant.is_empty() { &headers[..1] } else { &headers[..] };
                http.request("POST", "/v1/traces", headers, &message).answer()
            };
            assert_eq!(answer, Answer::Taken);
            let tenant = if tenant.is_empty() { "nobody" } else { tenant };
            sent.entry(tenant.to_owned()).or_default().extend(trace.span_ids());
        }
        // All of them wait in batches; stopping lets the batches go.
        let ending = gateway.stop();
        ending.assert_nothing_lost();
        assert_eq!(by_tenant(&sink), sent, "{shards} shards");
        assert!(sink.requests().len() <= 3 * shards, "batches are made: {}", sink.requests().len());
    }
}

#[test]
fn more_distinct_clients_than_the_limit_are_rejected_and_known_ones_are_still_taken() {
    let sink = Sink::start();
    let gateway = start(
        1,
        &format!(
            "  extensions: [headers_setter]\n  pipelines:\n    traces: {{receivers: [otlp], processors: [batch], \
             exporters: [otlp]}}\nextensions:\n  headers_setter: {{headers: [{{action: upsert, key: x-scope-orgid, \
             from_context: x-tenant}}]}}\nprocessors:\n  batch: {{metadata_keys: [x-tenant], \
             metadata_cardinality_limit: 2}}\nexporters:\n  otlp: {}\n",
            backend(&sink)
        ),
    );
    let sender = GrpcSender::connect(gateway.grpc);
    let send = |tenant: &str, number: u64| {
        sender.begin(Call::plain(&request_of(&[trace(number)])).with("x-tenant", tenant)).wait()
    };
    assert_eq!(send("a", 0), Answer::Taken);
    assert_eq!(send("b", 1), Answer::Taken);
    let answer = send("c", 2);
    let status = answer.status();
    assert_eq!(status.code, codecs::grpc::Code::Internal);
    assert_eq!(status.message, "too many batcher metadata-value combinations");
    assert_eq!(send("a", 3), Answer::Taken);
    sink.wait_for_spans(9);
    let ledger = wait_until_empty(&gateway, &["otlp"]);
    let intake = ["offered", "accepted", "refused", "rejected"].map(|term| ledger.intake(term));
    assert_eq!(intake, [12, 9, 0, 3]);
    assert_eq!(gateway.metrics().sum("otelcol_processor_batch_metadata_cardinality", &[]), 2.0);
    assert_eq!(by_tenant(&sink).keys().collect::<Vec<_>>(), ["a", "b"]);
    gateway.stop().assert_nothing_lost();
}

#[test]
fn a_resource_takes_values_of_the_client_and_keeps_them_behind_tail_sampling() {
    let sink = Sink::start();
    let gateway = start(
        2,
        &format!(
            "  pipelines:\n    traces: {{receivers: [otlp], processors: [resource, tail_sampling], exporters: \
             [otlp]}}\nprocessors:\n  resource: {{attributes: [{{key: tenant, from_context: metadata.x-tenant, action: \
             upsert, default_value: nobody}}, {{key: from, from_context: client.address, action: insert}}]}}\n  \
             tail_sampling: {{decision_wait: 10ms, policies: [{{name: all, type: always_sample}}]}}\nexporters:\n  otlp: \
             {{endpoint: 'http://{}', compression: none}}\n",
            sink.address
        ),
    );
    let sender = GrpcSender::connect(gateway.grpc);
    let calls = [Call::plain(&request_of(&[trace(0)])).with("x-tenant", "acme"), Call::plain(&request_of(&[trace(1)]))];
    for call in calls {
        assert_eq!(sender.begin(call).wait(), Answer::Taken);
    }
    sink.wait_for_spans(6);
    gateway.stop().assert_nothing_lost();
    let messages: Vec<u8> = sink.requests().concat();
    let holds = |text: &[u8]| messages.windows(text.len()).any(|part| part == text);
    for text in ["acme", "nobody", "127.0.0.1"] {
        assert!(holds(text.as_bytes()), "{text} is an attribute");
    }
}

#[test]
fn headers_are_set_for_http_backends_too_and_what_every_request_has_is_seen_by_the_actions() {
    let peer = HttpPeer::start(None);
    let gateway = start(
        1,
        &format!(
            "  extensions: [headers_setter]\n  pipelines:\n    traces: {{receivers: [otlp], exporters: \
             [otlphttp]}}\nextensions:\n  headers_setter: {{headers: [{{action: insert, key: x-one, value: set}}, \
             {{action: insert, key: x-two, value: set}}, {{action: update, key: x-three, from_context: x-tenant}}, \
             {{action: delete, key: x-four}}]}}\nexporters:\n  otlphttp: {{endpoint: 'http://{}', compression: none, \
             headers: {{x-one: own, x-three: own, x-four: own}}, auth: {{authenticator: headers_setter}}}}\n",
            peer.address
        ),
    );
    let sender = GrpcSender::connect(gateway.grpc);
    let call = Call::plain(&request_of(&[trace(0)])).with("x-tenant", "acme");
    assert_eq!(sender.begin(call).wait(), Answer::Taken);
    let asked = peer.wait_for(1);
    let values = ["x-one", "x-two", "x-three", "x-four"].map(|name| asked[0].header(name));
    assert_eq!(values, [Some("own"), Some("set"), Some("acme"), None]);
    gateway.stop().assert_nothing_lost();
}
