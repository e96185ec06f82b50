"""What a service measures is what PromQL answers: the PyPI SDK sends, the gateway writes remotely, Prometheus is asked.

The instruments are those of the seed's application, made with its names, units and attributes.
"""

import json

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from parts.gateway import Gateway
from parts.outcome import require, require_equal
from parts.prometheus import Prometheus

# Milliseconds; the third is recorded inside a span.
DURATIONS = (12.0, 40.0, 75.0, 220.0, 900.0)
SIZES = (3.0, 5.0, 17.0, 250.0)
# Exports happen when they are asked for.
NEVER_MILLISECONDS = 1e9


def it_answers_with_what_was_sent():
    """Counters, an explicit histogram with its quantile and an exemplar, an exponential histogram as a native one."""
    with Prometheus() as prometheus, gateway_to(prometheus) as gateway:
        trace = send(gateway)
        prometheus.wait_for_value('orders_created_total{order_type="book",region="eu"}', 3)
        prometheus.wait_for_value('orders_created_total{order_type="toy",region="us"}', 5)
        prometheus.wait_for_value('orders_errors_total{error_type="declined"}', 2)
        require_equal(prometheus.value("sum(orders_created_total)"), 8, "all orders")

        prometheus.wait_for_value('orders_duration_milliseconds_count{order_type="book"}', len(DURATIONS))
        require_equal(prometheus.value("orders_duration_milliseconds_sum"), sum(DURATIONS), "sum of durations")
        require_equal(prometheus.value('orders_duration_milliseconds_bucket{le="75"}'), 3, "durations up to 75 ms")
        # 0.5 x 5 = 2.5 of the values: half of the one between 50 and 75.
        require_equal(prometheus.value("histogram_quantile(0.5, orders_duration_milliseconds_bucket)"), 62.5, "median")

        prometheus.wait_for_value("histogram_count(orders_size_bytes)", len(SIZES))
        require_equal(prometheus.value("histogram_sum(orders_size_bytes)"), sum(SIZES), "sum of sizes")
        largest = prometheus.value("histogram_quantile(1, orders_size_bytes)")
        require(largest >= max(SIZES) and largest / max(SIZES) < 1.1, f"the largest of {SIZES} is said to be {largest}")

        require_equal(prometheus.value('count(target_info{job="orders",instance="one",deployment_environment="interop"})'),
                      1, "target_info")
        exemplars = prometheus.exemplars("orders_duration_milliseconds_bucket")
        seen = {(exemplar["labels"].get("trace_id"), float(exemplar["value"])) for exemplar in exemplars}
        require((trace, DURATIONS[2]) in seen, f"no exemplar of trace {trace}: {exemplars}")
        gateway.stop()


def gateway_to(prometheus):
    """A gateway whose metrics go to this Prometheus."""
    exporter = {"endpoint": prometheus.remote_write, "protobuf_message": "prometheus.WriteRequest"}
    configuration = {
        "receivers": {"otlp": {"protocols": {"grpc": {}, "http": {}}}},
        "processors": {"batch": {"timeout": "100ms"}},
        "exporters": {"prometheusremotewrite": exporter},
        "service": {"pipelines": {"metrics": {"receivers": ["otlp"], "processors": ["batch"],
                                              "exporters": ["prometheusremotewrite"]}}},
    }
    path = prometheus.folder / "gateway.yaml"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    gateway = Gateway(None, files=[path])
    gateway.add_arguments(gateway.common_settings())
    return gateway


def send(gateway):
    """Measures orders and sends them; returns the id of the trace in which one duration was recorded."""
    exporter = OTLPMetricExporter(endpoint=f"http://{gateway.grpc}", insecure=True, timeout=20)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=NEVER_MILLISECONDS)
    resource = Resource({"service.name": "orders", "service.instance.id": "one", "deployment.environment": "interop"})
    view = View(instrument_type=Histogram, instrument_name="orders.size", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], resource, views=[view])
    meter = provider.get_meter("shop")
    created = meter.create_counter("orders.created", description="Number of orders created")
    duration = meter.create_histogram("orders.duration", unit="ms", description="Order processing duration")
    errors = meter.create_counter("orders.errors", description="Number of order errors")
    size = meter.create_histogram("orders.size", unit="By")

    created.add(3, {"order.type": "book", "region": "eu"})
    created.add(5, {"order.type": "toy", "region": "us"})
    errors.add(2, {"error.type": "declined"})
    for number, milliseconds in enumerate(DURATIONS):
        if number != 2:
            duration.record(milliseconds, {"order.type": "book"})
    with TracerProvider().get_tracer("shop").start_as_current_span("create_order") as span:
        duration.record(DURATIONS[2], {"order.type": "book"})
        trace = f"{span.get_span_context().trace_id:032x}"
    for value in SIZES:
        size.record(value)
    require(provider.force_flush(30_000), "the SDK did not send its metrics within 30 s")
    provider.shutdown()
    return trace
