"""Backends behind TLS: C-core and Python's ssl with certificates of a private authority.

An `otlp` exporter without `tls.insecure` speaks TLS, as in the Collector. Who forgot that reads what to do in the log.
"""

from contextlib import ExitStack

from parts import load
from parts.authority import Authority
from parts.gateway import Gateway
from parts.load import RawClient
from parts.outcome import poll, require, require_equal
from parts.sinks import GrpcSink, HttpSink

QUICK = {"initial_interval": "50ms", "max_interval": "100ms"}


def it_verifies_backends_with_a_private_authority():
    """`ca_file` for gRPC and HTTPS; with a client certificate, which the backend demands."""
    with Authority() as authority, ExitStack() as stack:
        over_grpc = stack.enter_context(GrpcSink(credentials=authority.grpc_server(demand_client=True)))
        over_http = stack.enter_context(HttpSink(ssl_context=authority.ssl_server()))
        tls = {"ca_file": authority.path("ca.pem")}
        client = {"cert_file": authority.path("client.pem"), "key_file": authority.path("client.key")}
        exporters = {"otlp": {"endpoint": f"localhost:{over_grpc.port}", "tls": tls | client},
                     "otlphttp": {"endpoint": f"https://localhost:{over_http.port}", "tls": tls}}
        deliver(exporters, (over_grpc, over_http))


def it_accepts_any_certificate_where_told_to():
    """`insecure_skip_verify`."""
    with Authority() as authority, GrpcSink(credentials=authority.grpc_server()) as sink:
        deliver({"otlp": {"endpoint": sink.endpoint, "tls": {"insecure_skip_verify": True}}}, (sink,))


def it_does_not_send_to_a_backend_it_cannot_verify():
    """Without the authority nothing is sent, and the log names the reason."""
    with Authority() as authority, GrpcSink(credentials=authority.grpc_server()) as sink:
        made = load.make(traces=1, spans_per_request=8, seed=2)
        exporters = {"otlp": {"endpoint": f"localhost:{sink.port}", "retry_on_failure": {"enabled": False}}}
        with Gateway(exporters, {}) as gateway, RawClient(gateway.grpc) as client:
            client.export(made.requests[0])
            gateway.wait_for_metric("otelcol_exporter_send_failed_spans", 8)
            log = gateway.stop(lost=True).log
        require_equal(sink.span_count, 0, "spans sent to a stranger")
        require("certificate" in log.lower(), "the log does not name the certificate")


def it_says_what_to_do_when_the_backend_speaks_plain_text():
    """The most frequent mistake: no `tls.insecure` towards a backend without TLS."""
    with GrpcSink() as sink:
        made = load.make(traces=1, spans_per_request=8, seed=3)
        exporters = {"otlp": {"endpoint": sink.endpoint, "retry_on_failure": QUICK}}
        with Gateway(exporters, {}) as gateway, RawClient(gateway.grpc) as client:
            client.export(made.requests[0])
            poll(lambda: "insecure" in gateway.log(), "a log line that names tls.insecure")


def deliver(exporters, sinks):
    """A few traces must arrive at each sink."""
    made = load.make(traces=5, spans_per_request=8, seed=1)
    with Gateway(exporters, {"batch": {"timeout": "20ms"}}) as gateway, RawClient(gateway.grpc) as client:
        for request in made.requests:
            client.export(request)
        for sink in sinks:
            sink.wait_for_spans(made.span_count)
        gateway.stop()
    for sink in sinks:
        require_equal({trace for trace, _ in sink.spans()}, set(made.fates), "traces")
