"""`tracegate analyze --from jaeger` on a real Jaeger says what it says of the trace in the gateway's own memory."""

from parts import analysis
from parts.gateway import Gateway
from parts.jaeger import Jaeger
from parts.load import RawClient
from parts.outcome import poll, require, require_equal


def it_says_the_same_of_a_trace_in_jaeger_and_in_memory():
    """One trace of three services goes to both; names, times, errors, self times, path and bottleneck are the same."""
    with Jaeger() as jaeger:
        exporters = {"otlp": {"endpoint": jaeger.otlp, "tls": {"insecure": True}}, "memory": {}}
        with Gateway(exporters) as gateway, RawClient(gateway.grpc) as client:
            client.export(analysis.request().SerializeToString())
            gateway.wait_for_metric("otelcol_exporter_sent_spans", len(analysis.SPANS), exporter="otlp")
            trace = analysis.TRACE.hex()
            kept = poll(lambda: gateway.page(f"/traces/{trace}")[0] == 200, "the trace in memory")
            require(kept, "the trace in memory")
            expected = analysis.analyze(trace, "memory", gateway.admin)
            require_equal(len(expected["spans"]), len(analysis.SPANS), "spans in memory")
            told = analysis.analyze(trace, "jaeger", jaeger.url)
            require_equal(told, expected, "the analysis of Jaeger's trace")
            other = analysis.complaint("0b" + trace[2:], "jaeger", jaeger.url)
            require("no such trace" in other or "404" in other, f"of a trace that is not there: {other}")
            gateway.stop()
