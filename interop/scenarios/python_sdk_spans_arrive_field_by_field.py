"""The PyPI SDK sends spans with everything a span can carry; every sink gets them unchanged.

One gateway, six exporters in one pipeline: both protocols, each with no compression, gzip and zstd. The SDK sends over
gRPC and HTTP, plain and gzip. Each span is compared with its resource and scope, all fields of them, with what the same
exporter class sent to a sink directly.
"""

from contextlib import ExitStack

from opentelemetry.proto.common.v1 import common_pb2

from parts import sdk, spans
from parts.gateway import Gateway, tail_sampling
from parts.http2 import Http2Sink
from parts.outcome import require_equal
from parts.sinks import GrpcSink, HttpSink

PASS_THROUGH = {
    "memory_limiter": {"check_interval": "1s", "limit_mib": 512, "spike_limit_mib": 128},
    "batch": {"timeout": "100ms", "send_batch_size": 16},
    "resource": {"attributes": [{"key": "node.name", "value": "node-7", "action": "insert"},
                                {"key": "deployment.environment.name", "value": "never", "action": "insert"}]},
}
KEEP_ALL = {"memory_limiter": {"limit_mib": 512}, "tail_sampling": tail_sampling(100), "batch": {"timeout": "50ms"}}


def it_delivers_every_field_through_memory_limiter_batch_and_resource():
    """The agent's processors: only what `resource` inserts is added, and only where it was absent."""
    check(PASS_THROUGH, with_node_name)


def it_delivers_every_field_through_tail_sampling():
    """The gateway's processors at 100 %."""
    check(KEEP_ALL, lambda expected: expected)


def it_delivers_a_request_of_3_mb():
    """Each way to send: many HTTP/2 frames, and a window that must be opened again and again."""
    with GrpcSink() as sink:
        with Gateway({"otlp/plain": exporter("otlp/plain", "none", sink)}, KEEP_ALL) as gateway:
            expected = {}
            for way in ("grpc", "http"):
                for compression in ("none", "gzip"):
                    expected |= send(gateway, way, compression, sdk.large_load, batch=sdk.LARGE_SPANS)
            require_equal(len(expected), 4 * sdk.LARGE_SPANS, "spans at the witnesses")
            sink.wait_for_spans(len(expected))
            gateway.stop()
        spans.require_same(sink.spans(), expected, "the backend")


def check(processors, expectation):
    """All four ways to send, each against all six exporters."""
    with ExitStack() as stack:
        sinks = {
            "otlp/plain": ("none", stack.enter_context(GrpcSink())),
            "otlp/gzip": ("gzip", stack.enter_context(GrpcSink())),
            "otlp_grpc/zstd": ("zstd", stack.enter_context(Http2Sink())),
            "otlphttp/plain": ("none", stack.enter_context(HttpSink())),
            "otlphttp/gzip": ("gzip", stack.enter_context(HttpSink())),
            "otlp_http/zstd": ("zstd", stack.enter_context(HttpSink())),
        }
        exporters = {name: exporter(name, compression, sink) for name, (compression, sink) in sinks.items()}
        gateway = stack.enter_context(Gateway(exporters, processors))
        expected = {}
        for way in ("grpc", "http"):
            for compression in ("none", "gzip"):
                expected |= send(gateway, way, compression, shop)
        for _, sink in sinks.values():
            sink.wait_for_spans(len(expected))
        accepted = {way: gateway.metrics().total("otelcol_receiver_accepted_spans", receiver="otlp", transport=way)
                    for way in ("grpc", "http")}
        gateway.stop()
        require_equal(accepted, {way: len(expected) / 2 for way in accepted}, "accepted spans")
        for name, (compression, sink) in sinks.items():
            spans.require_same(sink.spans(), expectation(expected), name)
            require_encoding(name, compression, sink)


def exporter(name, compression, sink):
    """Settings of one exporter; names in both of the Collector's spellings."""
    if name.startswith(("otlphttp", "otlp_http")):
        return {"endpoint": sink.endpoint, "compression": compression}
    return {"endpoint": sink.endpoint, "compression": compression, "tls": {"insecure": True}}


def require_encoding(name, compression, sink):
    """The sinks that can see the encoding saw the configured one."""
    if not isinstance(sink, GrpcSink):
        plain = {"identity"} if isinstance(sink, Http2Sink) else {""}
        wanted = plain if compression == "none" else {compression}
        require_equal({request.encoding for request in sink.taken}, wanted, f"content encoding of {name}")


def shop(tracers):
    """One trace with everything, and one of each fate."""
    sdk.full_trace(tracers)
    for fate in ("ordinary", "error", "slow"):
        sdk.shop_trace(tracers, fate)


def send(gateway, way, compression, make, batch=7):
    """Makes spans, sends them to a sink and to the gateway; returns what the sink got."""
    kind, exporter_of = (GrpcSink, sdk.grpc_exporter) if way == "grpc" else (HttpSink, sdk.http_exporter)
    target = gateway.grpc if way == "grpc" else gateway.http
    with kind() as witness:
        exporters = [exporter_of(witness.endpoint, compression), exporter_of(target, compression)]
        with sdk.tracers(*exporters, batch=batch) as tracers:
            make(tracers)
        return witness.spans()


def with_node_name(expected):
    """The same spans with `node.name` at the end of each resource's attributes."""
    changed = {}
    for key, arrived in expected.items():
        resource = type(arrived.resource)()
        resource.CopyFrom(arrived.resource)
        resource.attributes.append(common_pb2.KeyValue(key="node.name", value={"string_value": "node-7"}))
        changed[key] = arrived._replace(resource=resource)
    return changed
