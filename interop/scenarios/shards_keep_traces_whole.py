"""Two and four shards: spans of a trace come over many connections and requests, and meet again.

Every error and every slow trace arrives whole at both exporters, the same set at both; dropped traces send nothing.
"""

from parts import load, spans
from parts.gateway import Gateway, tail_sampling
from parts.load import SPANS_OF_A_TRACE, send_over_connections
from parts.outcome import require, require_equal
from parts.sinks import GrpcSink, HttpSink

DECIDED = "otelcol_processor_tail_sampling_global_count_traces_sampled"


def it_keeps_them_whole_on_2_shards():
    """Six connections of C-core."""
    check(shards=2, connections=6)


def it_keeps_them_whole_on_4_shards():
    """Eight connections of C-core; more shards than cores where there are two."""
    check(shards=4, connections=8)


def it_spreads_one_connection_over_4_shards():
    """All spans come in on one shard; three quarters of the traces belong to others."""
    check(shards=4, connections=1, traces=6000)


def it_loses_nothing_when_stopped_in_the_middle():
    """SIGTERM long before the decision wait is over: every trace is decided with what arrived, the ledger balances."""
    made = load.make(traces=600, spans_per_request=60, seed=9)
    with GrpcSink() as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}}}
        processors = {"tail_sampling": tail_sampling(0, decision_wait="600s"), "batch": {"timeout": "600s"}}
        with Gateway(exporters, processors, engine_settings={"cores": 4}) as gateway:
            send_over_connections(gateway.grpc, made.requests, connections=4)
            gateway.stop()
        require_whole(sink, made, made.wanted())


def check(shards, connections, traces=1500):
    """Sends, waits for all decisions, stops, and compares both sinks with the fates of the traces."""
    made = load.make(traces, spans_per_request=100, seed=shards * 100 + connections)
    with GrpcSink() as over_grpc, HttpSink() as over_http:
        exporters = {"otlp": {"endpoint": over_grpc.endpoint, "compression": "none", "tls": {"insecure": True}},
                     "otlphttp": {"endpoint": over_http.endpoint}}
        # The batch processor in front proves that order does not matter; behind is where it usually stands.
        processors = {"memory_limiter": {"limit_mib": 1024}, "batch/first": {"timeout": "20ms"},
                      "tail_sampling": tail_sampling(0, decision_wait="4s"), "batch": {"timeout": "100ms"}}
        with Gateway(exporters, processors, engine_settings={"cores": shards}) as gateway:
            send_over_connections(gateway.grpc, made.requests, connections)
            gateway.wait_for_metric(DECIDED, traces)
            metrics = gateway.metrics()
            require_equal(metrics.total(DECIDED), traces, "decided traces: each once, by one owner")
            require_equal(metrics.total(DECIDED, sampled="true"), len(made.wanted()), "kept traces")
            require(metrics.total("tracegate_mesh_sent_spans") > made.span_count / shards / 2, "spans crossed shards")
            gateway.stop()
        for sink in (over_grpc, over_http):
            require_whole(sink, made, made.wanted())
        require_equal(over_grpc.spans().keys(), over_http.spans().keys(), "the sets at both exporters")


def require_whole(sink, made, wanted):
    """Exactly the wanted traces, each with all its spans, none twice."""
    arrived = sink.spans()
    ids = spans.trace_ids(arrived)
    require(not ids - wanted, f"{len(ids - wanted)} dropped traces sent spans")
    require(not wanted - ids, f"{len(wanted - ids)} of {len(wanted)} wanted traces did not arrive")
    require_equal(len(arrived), len(wanted) * SPANS_OF_A_TRACE, f"spans of {len(wanted)} whole traces of {len(made.fates)}")
