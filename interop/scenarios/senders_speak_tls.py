"""Senders behind TLS: SDKs of PyPI and npm over gRPC and HTTP, with and without a client certificate.

The authority is private (PyPI's trustme). Who has no certificate where one is asked for is refused, and the gateway says
and counts why.
"""

from parts import sdk
from parts.authority import Authority
from parts.clients import NODE, Running
from parts.gateway import Gateway
from parts.outcome import poll, require, require_equal
from parts.sinks import GrpcSink

FAILED = "tracegate_receiver_failed_handshakes"


def it_takes_spans_of_the_python_sdk_over_tls():
    """grpcio (BoringSSL) and requests (OpenSSL), who trust the authority."""
    check_python(mutual=False)


def it_takes_spans_of_the_python_sdk_over_mutual_tls():
    """The same, with a client certificate."""
    check_python(mutual=True)


def it_takes_spans_of_the_node_sdk_over_tls():
    """grpc-js and node:https, who trust the authority."""
    check_node(mutual=False)


def it_takes_spans_of_the_node_sdk_over_mutual_tls():
    """The same, with a client certificate."""
    check_node(mutual=True)


def it_refuses_an_sdk_without_a_certificate_and_says_why():
    """The spans stay with the SDK; the gateway's log names the reason, once."""
    with Authority() as authority, GrpcSink() as sink, gateway_with(authority, True, sink) as gateway:
        exporter = sdk.grpc_exporter(f"localhost:{gateway.grpc_port}", credentials=authority.grpc_client(mutual=False))()
        with sdk.tracers(lambda: exporter) as tracers:
            sdk.shop_trace(tracers, "ordinary")
            gateway.wait_for_metric(FAILED, 2, receiver="otlp", transport="grpc", reason="no_certificate")
            exporter.shutdown()
        poll(lambda: "shows no client certificate" in gateway.log(), "a line in the log")
        require_equal(gateway.log().count("shows no client certificate"), 1, "lines in the log")
        require_equal(sink.span_count, 0, "spans of a stranger")
        gateway.stop()


def gateway_with(authority, mutual, sink):
    """Both protocols over TLS, everything to one sink."""
    protocol = {"tls": authority.receiver(mutual)}
    exporters = {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}}}
    return Gateway(exporters, {"batch": {"timeout": "50ms"}}, grpc=protocol, http=protocol)


def check_python(mutual):
    """A trace over each protocol."""
    with Authority() as authority, GrpcSink() as sink, gateway_with(authority, mutual, sink) as gateway:
        files = {"authority": authority.path("ca.pem")}
        if mutual:
            files |= {"certificate": authority.path("client.pem"), "key": authority.path("client.key")}
        over_grpc = sdk.grpc_exporter(f"localhost:{gateway.grpc_port}", "gzip", authority.grpc_client(mutual))
        over_http = sdk.http_exporter(f"https://localhost:{gateway.http_port}", "gzip", **files)
        for exporter in (over_grpc, over_http):
            before = sink.span_count
            with sdk.tracers(exporter) as tracers:
                sdk.full_trace(tracers)
            poll(lambda before=before: sink.span_count > before, "spans at the backend")
        require_opened(gateway)
        gateway.stop()


def check_node(mutual):
    """The large load over each protocol: many frames, and many records."""
    with Authority() as authority, GrpcSink() as sink, gateway_with(authority, mutual, sink) as gateway:
        environment = {"NODE_EXTRA_CA_CERTS": authority.path("ca.pem"),
                       "OTEL_EXPORTER_OTLP_CERTIFICATE": authority.path("ca.pem")}
        if mutual:
            environment |= {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": authority.path("client.pem"),
                            "OTEL_EXPORTER_OTLP_CLIENT_KEY": authority.path("client.key")}
        spans = 0
        for protocol, port in (("grpc", gateway.grpc_port), ("http/protobuf", gateway.http_port)):
            with Running(NODE, protocol, "gzip", "large", "-", f"https://localhost:{port}", environment) as running:
                report = running.report()
            require_equal(report.failed, [], f"{protocol}: failed exports")
            spans += report.spans
            sink.wait_for_spans(spans)
        require_opened(gateway)
        gateway.stop()


def require_opened(gateway):
    """Sessions over both protocols, and none that failed."""
    metrics = gateway.metrics()
    for transport in ("grpc", "http"):
        opened = metrics.total("tracegate_receiver_tls_handshakes", receiver="otlp", transport=transport)
        require(opened > 0, f"no TLS session over {transport}")
    require_equal(metrics.total(FAILED), 0, "failed handshakes")
