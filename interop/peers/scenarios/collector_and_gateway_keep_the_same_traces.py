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
    """Thresholds at and around the durations that occur (15 and 2101 ms), and each status."""
    for threshold_ms in (1, 14, 15, 16, 2100, 2101, 2102):
        check([policy("slow", "latency", threshold_ms=threshold_ms)])
    for codes in (["ERROR"], ["UNSET"], ["OK"], ["OK", "ERROR"]):
        check([policy("status", "status_code", status_codes=codes)])


def it_agrees_on_attributes():
    """Texts, patterns, whole numbers and truths, of spans and of resources, and without any match."""
    for inverted in (False, True):
        check([policy("tier", "string_attribute", key="tier", values=["gold", "silver"], invert_match=inverted)])
        check([policy("status", "numeric_attribute", key="http.status", min_value=250, max_value=299, invert_match=inverted)])
        check([policy("route", "string_attribute", key="route", values=[r"^/v\d+/\w+$", r"\Q[1]\E"],
                      enabled_regex_matching=True, invert_match=inverted)])
    check([policy("vip", "boolean_attribute", key="vip", value=True)])
    check([policy("service", "string_attribute", key="service.name", values=["cart"])])
    check([policy("no service", "string_attribute", key="service.name", values=["bank"])])


def it_agrees_on_trace_context_and_counts():
    """Trace states, flags, and numbers of spans."""
    check([policy("vendor", "trace_state", key="vendor", values=["a", "b"])])
    check([policy("flags", "trace_flags")])
    for low, high in ((1, 7), (8, 8), (9, 0)):
        check([policy("count", "span_count", min_spans=low, max_spans=high)])


def it_agrees_on_policies_of_policies():
    """All of them, none of them, and dropped whatever others say."""
    gold = policy("gold", "string_attribute", key="tier", values=["gold"])
    errors = policy("errors", "status_code", status_codes=["ERROR"])
    some = policy("some", "probabilistic", sampling_percentage=50)
    not_gold = policy("not gold", "not", not_sub_policy=gold)
    check([policy("both", "and", and_sub_policy=[gold, some])])
    check([not_gold])
    check([errors, policy("away", "drop", drop_sub_policy=[not_gold, some])])
    check([some, policy("away", "drop", drop_sub_policy=[gold])], sample_on_first_match=True)


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
        requests = [load.with_attributes(request) for request in made.requests]
        for target in (collector.grpc, gateway.grpc):
            send_over_connections(target, requests, connections=2)
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
