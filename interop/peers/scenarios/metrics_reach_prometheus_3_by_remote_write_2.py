"""Every kind of metric goes to a Prometheus 3 by remote write 2.0, and PromQL answers what was sent.

The requests are written here, message by message, so that each kind is there with start times, metadata, exemplars and
an end. Deltas are sent too: the exporter adds them up.
"""

import json
import os
import time
import urllib.request

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags

from parts.gateway import Gateway
from parts.outcome import Skipped, poll, require, require_equal
from parts.prometheus import Prometheus

DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
SECOND = 1_000_000_000
TRACE = bytes(range(16))


def it_answers_for_every_kind_of_metric():
    """Gauge, counters, both kinds of histograms, also of deltas, and a summary; then the end of a series."""
    with prometheus_3() as prometheus, gateway_to(prometheus) as gateway:
        # Samples of the last minutes are what a query of now finds.
        now = time.time_ns() - 20 * SECOND
        start = now - 60 * SECOND
        send(gateway, first(now, start))
        send(gateway, second(now + 5 * SECOND, start))

        prometheus.wait_for_value('depth_ratio{queue="a"}', 0.5)
        require_equal(prometheus.value("orders_total"), 8, "a counter")
        require_equal(prometheus.value("clicks_total"), 5, "a counter of deltas")
        # Prometheus knows from the start time that there was nothing before.
        require_equal(prometheus.value("min_over_time(orders_total[5m])"), 0, "a counter at its start")
        require_equal(prometheus.value('duration_milliseconds_bucket{le="10.0"}') or
                      prometheus.value('duration_milliseconds_bucket{le="10"}'), 1, "durations up to 10 ms")
        require_equal(prometheus.value("duration_milliseconds_count"), 4, "durations")
        require_equal(prometheus.value("duration_milliseconds_sum"), 90, "sum of durations")
        require_equal(prometheus.value("histogram_quantile(0.5, duration_milliseconds_bucket)"), 55, "median")

        require_equal(prometheus.value("histogram_count(size_bytes)"), 7, "an exponential histogram")
        require_equal(prometheus.value("histogram_sum(size_bytes)"), 40, "its sum")
        # Three values in (1, 2], two in (2, 4], one at zero, one in [-2, -1).
        require_equal(prometheus.value("round(histogram_fraction(1, 2, size_bytes) * 7)"), 3, "its first bucket")
        require_equal(prometheus.value("round(histogram_fraction(2, 4, size_bytes) * 7)"), 2, "its second bucket")
        require_equal(prometheus.value("round(histogram_fraction(-2, -1, size_bytes) * 7)"), 1, "its negative bucket")
        # Three deltas of scale 1 and two of scale 0: five at scale 0.
        require_equal(prometheus.value("histogram_count(load_seconds)"), 5, "an exponential histogram of deltas")
        require_equal(prometheus.value("round(histogram_fraction(1, 2, load_seconds) * 5)"), 4, "its first bucket")
        require_equal(prometheus.value("round(histogram_fraction(2, 4, load_seconds) * 5)"), 1, "its second bucket")

        require_equal(prometheus.value('pause_seconds{quantile="0.5"}'), 2, "a quantile")
        require_equal(prometheus.value("pause_seconds_count"), 3, "count of a summary")
        require_equal(prometheus.value('count(target_info{job="shop/orders",instance="one",host_name="host"})'), 1,
                      "target_info")

        seen = prometheus.exemplars("orders_total")
        require([one["labels"].get("trace_id") for one in seen] == [TRACE.hex()], f"no exemplar of {TRACE.hex()}: {seen}")
        kinds = metadata(prometheus)
        for name, kind in (("orders_total", "counter"), ("depth_ratio", "gauge"), ("size_bytes", "histogram"),
                           ("pause_seconds", "summary")):
            require(kinds.get(name) in (None, kind), f"{name} is said to be a {kinds.get(name)}")

        send(gateway, ended(now + 10 * SECOND, start))
        poll(lambda: prometheus.value("orders_total") is None, "the counter to end", 60.0, 0.1)
        require_equal(prometheus.value("clicks_total"), 5, "another counter goes on")
        gateway.stop()


def prometheus_3():
    """A Prometheus 3 with an empty database."""
    folder = os.environ.get("TRACEGATE_INTEROP_PROMETHEUS_3")
    if not folder:
        raise Skipped("no Prometheus 3 is here: it is built where there is Go")
    return Prometheus(path=f"{folder}/prometheus", features=["exemplar-storage", "created-timestamp-zero-ingestion"])


def gateway_to(prometheus):
    """A gateway whose metrics go to this Prometheus by remote write 2.0."""
    exporter = {"endpoint": prometheus.remote_write, "protobuf_message": "io.prometheus.write.v2.Request",
                "delta_to_cumulative": {"enabled": True}}
    configuration = {
        "receivers": {"otlp": {"protocols": {"grpc": {}, "http": {}}}},
        "exporters": {"prometheus_remote_write": exporter},
        "service": {"pipelines": {"metrics": {"receivers": ["otlp"], "exporters": ["prometheus_remote_write"]}}},
    }
    path = prometheus.folder / "gateway.yaml"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    gateway = Gateway(None, files=[path])
    gateway.add_arguments(gateway.common_settings())
    return gateway


def send(gateway, request):
    """Sends one request over HTTP; it is answered when it lies in the exporter's queue."""
    body = request.SerializeToString()
    asked = urllib.request.Request(f"{gateway.http}/v1/metrics", body, {"content-type": "application/x-protobuf"})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        require_equal(answer.status, 200, "status of the request")


def request_of(now, start):
    """An empty request, and a function that adds a metric of one point to it."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    for key, value in (("service.name", "orders"), ("service.namespace", "shop"), ("service.instance.id", "one"),
                       ("host.name", "host")):
        group.resource.attributes.add(key=key).value.string_value = value
    scope = group.scope_metrics.add()

    def add(name, unit, kind, **settings):
        metric = scope.metrics.add(name=name, unit=unit, description=f"What {name} is")
        data = getattr(metric, kind)
        for key, value in settings.items():
            setattr(data, key, value)
        return data.data_points.add(start_time_unix_nano=start, time_unix_nano=now)

    return request, add


def first(now, start):
    """One point of each kind."""
    request, add = request_of(now, start)
    gauge = add("depth", "1", "gauge")
    gauge.as_double = 0.25
    gauge.attributes.add(key="queue").value.string_value = "a"
    add("orders", "", "sum", aggregation_temporality=CUMULATIVE, is_monotonic=True).as_int = 3
    add("clicks", "", "sum", aggregation_temporality=DELTA, is_monotonic=True).as_int = 2
    load = add("load", "s", "exponential_histogram", aggregation_temporality=DELTA)
    load.count, load.sum, load.scale = 3, 4.0, 1
    # At scale 1: one value in (1, 1.41], two in (1.41, 2].
    load.positive.offset = 0
    load.positive.bucket_counts.extend([1, 2])
    return request


def second(now, start):
    """The points that queries find."""
    request, add = request_of(now, start)
    gauge = add("depth", "1", "gauge")
    gauge.as_double = 0.5
    gauge.attributes.add(key="queue").value.string_value = "a"
    orders = add("orders", "", "sum", aggregation_temporality=CUMULATIVE, is_monotonic=True)
    orders.as_int = 8
    orders.exemplars.add(time_unix_nano=now, as_int=1, trace_id=TRACE, span_id=TRACE[:8])
    clicks = add("clicks", "", "sum", aggregation_temporality=DELTA, is_monotonic=True)
    clicks.as_int = 3
    duration = add("duration", "ms", "histogram", aggregation_temporality=CUMULATIVE)
    duration.count, duration.sum = 4, 90.0
    duration.explicit_bounds.extend([10, 100])
    duration.bucket_counts.extend([1, 2, 1])
    size = add("size", "By", "exponential_histogram", aggregation_temporality=CUMULATIVE)
    size.count, size.sum, size.scale, size.zero_count = 7, 40.0, 0, 1
    size.positive.offset = 0
    size.positive.bucket_counts.extend([3, 2])
    size.negative.offset = 0
    size.negative.bucket_counts.extend([1])
    load = add("load", "s", "exponential_histogram", aggregation_temporality=DELTA)
    load.count, load.sum, load.scale = 2, 5.0, 0
    load.positive.offset = 0
    load.positive.bucket_counts.extend([1, 1])
    pause = add("pause", "s", "summary")
    pause.count, pause.sum = 3, 6.0
    pause.quantile_values.add(quantile=0.5, value=2.0)
    return request


def ended(now, start):
    """The counter's series has no value any more."""
    request, add = request_of(now, start)
    add("orders", "", "sum", aggregation_temporality=CUMULATIVE, is_monotonic=True).flags = \
        DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
    return request


def metadata(prometheus):
    """Kind of each metric, as far as Prometheus keeps what remote write tells it."""
    found = prometheus.ask("metadata")
    return {name: entries[0]["type"] for name, entries in found.items() if entries}
