"""SDK -> a real Collector -> gateway -> sink: the Collector's own exporters (grpc-go, net/http) as our senders.

With each compression that they have in common with the gateway; what arrives equals what the Collector sends to a sink
directly.
"""

from contextlib import ExitStack

from parts import sdk, spans
from parts.clients import skip_unless_json_is_taken
from parts.collector import Collector
from parts.gateway import Gateway
from parts.sinks import GrpcSink


def it_takes_what_grpc_go_sends():
    """`otlp` with none, gzip and zstd."""
    check("otlp", lambda gateway: gateway.grpc)


def it_takes_what_net_http_sends():
    """`otlphttp` with none, gzip and zstd."""
    check("otlphttp", lambda gateway: gateway.http)


def it_takes_json_of_the_collector():
    """`otlphttp` with `encoding: json`, each compression; skipped where the gateway does not take JSON."""
    check("otlphttp", lambda gateway: gateway.http, encoding="json")


def check(exporter, address, **more):
    """One gateway and one sink per compression; a witness behind the same Collector."""
    with ExitStack() as stack:
        witness = stack.enter_context(GrpcSink())
        exporters = {"otlp/witness": {"endpoint": witness.endpoint, "tls": {"insecure": True}}}
        paths = {}
        for compression in ("none", "gzip", "zstd"):
            sink = stack.enter_context(GrpcSink())
            to_sink = {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}}}
            gateway = stack.enter_context(Gateway(to_sink, {"batch": {"timeout": "50ms"}}))
            if more.get("encoding") == "json":
                skip_unless_json_is_taken(gateway)
            settings = {"endpoint": address(gateway), "compression": compression, "tls": {"insecure": True}} | more
            exporters[f"{exporter}/{compression}"] = settings
            paths[compression] = (gateway, sink)
        with Collector(exporters) as collector:
            with sdk.tracers(sdk.grpc_exporter(collector.grpc)) as tracers:
                sdk.full_trace(tracers)
                for fate in ("ordinary", "error", "slow"):
                    sdk.shop_trace(tracers, fate)
            collector.stop()
        expected = witness.spans()
        for compression, (gateway, sink) in paths.items():
            sink.wait_for_spans(len(expected))
            gateway.stop()
            spans.require_same(sink.spans(), expected, f"{exporter} with {compression}")
