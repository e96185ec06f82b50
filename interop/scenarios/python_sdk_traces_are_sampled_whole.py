"""Errors and slow traces arrive whole whatever the percentage; of the others all or none, at 100 % and 0 %.

Traces of the PyPI SDK: three services with a resource and an exporter of their own, so that the spans of a trace come in
several requests. Slow ones are only slow when all their spans are seen together.
"""

from parts import sdk, spans
from parts.gateway import Gateway, tail_sampling
from parts.outcome import require_equal
from parts.sinks import GrpcSink, HttpSink

TRACES_OF_EACH_FATE = 12


def it_keeps_only_errors_and_slow_traces_at_0_percent():
    """Dropped traces send nothing."""
    check(percentage=0, kept=("error", "slow"))


def it_keeps_every_trace_at_100_percent():
    """Nothing is lost or doubled when policies agree."""
    check(percentage=100, kept=("error", "slow", "ordinary"))


def check(percentage, kept):
    """Sends traces of all fates; exactly the kept ones arrive, whole, at both exporters."""
    with GrpcSink() as witness, GrpcSink() as over_grpc, HttpSink() as over_http:
        exporters = {
            "otlp": {"endpoint": over_grpc.endpoint, "tls": {"insecure": True}},
            "otlphttp": {"endpoint": over_http.endpoint, "compression": "none"},
        }
        processors = {"memory_limiter": {"limit_mib": 512}, "tail_sampling": tail_sampling(percentage), "batch": {}}
        with Gateway(exporters, processors) as gateway:
            fates = {}
            with sdk.tracers(sdk.grpc_exporter(witness.endpoint), sdk.grpc_exporter(gateway.grpc, "gzip")) as tracers:
                for number in range(TRACES_OF_EACH_FATE * 3):
                    fate = ("error", "slow", "ordinary")[number % 3]
                    fates[sdk.shop_trace(tracers, fate)] = fate
            # Decided by their own deadline, not by the stop.
            gateway.wait_for_metric("otelcol_processor_tail_sampling_global_count_traces_sampled", len(fates))
            gateway.stop()
        wanted = {key: span for key, span in witness.spans().items() if fates[key[0]] in kept}
        require_equal(len(wanted), TRACES_OF_EACH_FATE * len(kept) * 6, "spans that must be kept")
        for sink in (over_grpc, over_http):
            spans.require_same(sink.spans(), wanted, type(sink).__name__)
