"""The same spans and the same policies: the Collector's tail sampler and ours keep the same trace ids.

Every decision that depends on data or on the hash of the id; the Collector is the second opinion.
"""

from contextlib import ExitStack

from parts import load, spans
from parts.collector import Collector
from parts.gateway import Gateway
from parts.load import send_over_connections
from parts.outcome import require, require_equal
from parts.sinks import GrpcSink

TRACES = 2000


def policy(name, kind, **settings):
    """One policy."""
    return {"name": name, "type": kind} | ({kind: settings} if settings else {})


def it_agrees_on_probabilities():
    """Percentages with and without a salt, small and large."""
    for percentage in (0.1, 5, 33.3, 99.9):
        check([policy("random", "probabilistic", sampling_percentage=percentage)])
    check([policy("random", "probabilistic", sampling_percentage=20, hash_salt="salt of our own")])


def it_agrees_on_latency_and_status():
    """Thresholds around the durations that occur (15 and 2101 ms; not at them, see docs/interop.md), and each status."""
    for threshold_ms in (1, 14, 16, 2100, 2102):
        check([policy("slow", "latency", threshold_ms=threshold_ms)])
    for codes in (["ERROR"], ["UNSET"], ["OK"], ["OK", "ERROR"]):
        check([policy("status", "status_code", status_codes=codes)])


def it_agrees_on_all_policies_together():
    """The seed's three, and with stopping at the first match."""
    policies = [policy("errors", "status_code", status_codes=["ERROR"]), policy("slow", "latency", threshold_ms=1000),
                policy("random", "probabilistic", sampling_percentage=5)]
    check(policies)
    check(policies, sample_on_first_match=True)
    check([policy("all", "always_sample")])


def check(policies, **more):
    """Sends the same requests to both; the kept ids and their spans must be equal."""
    made = load.make(TRACES, spans_per_request=200, seed=len(str(policies)))
    settings = {"decision_wait": "600s", "num_traces": 50_000, "policies": policies} | more
    with ExitStack() as stack:
        theirs, ours = stack.enter_context(GrpcSink()), stack.enter_context(GrpcSink())
        collector = stack.enter_context(Collector(exporter_to(theirs), {"tail_sampling": settings}))
        gateway = stack.enter_context(Gateway(exporter_to(ours), {"tail_sampling": settings}, engine_settings={"cores": 2}))
        for target in (collector.grpc, gateway.grpc):
            send_over_connections(target, made.requests, connections=2)
        # Both decide when they are stopped: with all spans, however busy the machine.
        collector.stop()
        gateway.stop()
        kept_by_them, kept_by_us = spans.trace_ids(theirs.spans()), spans.trace_ids(ours.spans())
        differing = kept_by_them ^ kept_by_us
        require(not differing, f"{policies}: {len(differing)} traces decided differently, such as {sorted(differing)[:3]}")
        require_equal(ours.span_count, theirs.span_count, f"{policies}: spans of the kept traces")


def exporter_to(sink):
    """The `otlp` exporter towards a sink."""
    return {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}, "sending_queue": {"queue_size": 100_000}}}
