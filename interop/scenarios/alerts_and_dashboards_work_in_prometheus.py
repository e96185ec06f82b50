"""The alerts, objectives and the dashboard that are deployed, in a real Prometheus that scrapes a real gateway.

Windows are seconds instead of minutes, and limits of memory and CPU are small; the rest is as deployed. Nothing waits for time to pass: load
goes on until Prometheus says what it has to say.
"""

import json
import re

import yaml
from opentelemetry.trace import SpanKind, Status, StatusCode

from parts import load, sdk
from parts.gateway import REPOSITORY, Gateway
from parts.outcome import poll, require
from parts.prometheus import WINDOW, Prometheus, shortened
from parts.sinks import GrpcSink, Refusal

OBJECTIVES = {"SLOAvailabilityBreach", "SLOErrorRateBreach", "SLOLatencyBreach"}
JOB = "otel-collector"
# What the alerts on memory and CPU compare with, as deployed: a gateway of 4 GiB, and one of a core.
MEMORY_LIMIT = 'process_resident_memory_bytes{job="otel-collector"} > 3.5e9'
CPU_LIMIT = 'rate(process_cpu_seconds_total{job="otel-collector"}[5m]) > 0.9'
# And what the alert on the age of a queue compares with: two minutes, while an exporter tries for five.
AGE_LIMIT = "max by (job, namespace, pod, exporter, data_type) (tracegate_exporter_queue_oldest_age_seconds) > 120"
SPANS_A_ROUND = 400


def it_fires_on_missed_objectives_and_clears():
    """Server spans, counted before sampling under the names that the rules ask for: failing and slow, then well."""
    with GrpcSink() as sink, counting_gateway(sink) as gateway, watching(gateway) as prometheus:
        with sdk.tracers(sdk.grpc_exporter(gateway.grpc), batch=90) as (tracer, *_):
            def alerts_after(failing, milliseconds):
                serve(tracer, failing, milliseconds)
                return prometheus.firing() & OBJECTIVES

            poll(lambda: alerts_after(failing=True, milliseconds=800) == OBJECTIVES, "all objectives' alerts", 120.0, 0.2)
            poll(lambda: not alerts_after(failing=False, milliseconds=20), "the objectives' alerts to clear", 120.0, 0.2)
        gateway.stop()


def it_fires_on_failing_exports_and_clears():
    """A backend that refuses for good, then takes: what the alert on exports sees."""
    broken = {"yes": True}

    def answer(_):
        return Refusal("INVALID_ARGUMENT") if broken["yes"] else None

    with GrpcSink(answer) as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}}}
        with Gateway(exporters, {"batch": {"timeout": "50ms"}}) as gateway, watching(gateway) as prometheus:
            with sdk.tracers(sdk.grpc_exporter(gateway.grpc), batch=90) as (tracer, *_):
                def fires():
                    serve(tracer, failing=False, milliseconds=1)
                    return "OTELCollectorExportFailure" in prometheus.firing()

                poll(fires, "OTELCollectorExportFailure", 120.0, 0.2)
                broken["yes"] = False
                poll(lambda: not fires(), "OTELCollectorExportFailure to clear", 120.0, 0.2)
            gateway.stop(lost=True)


def it_fires_on_spans_that_a_processor_loses_and_clears():
    """A statement that fails behind `batch`, where no sender waits any more: what the alert on data loss sees."""
    statement = 'set(span.attributes["parsed"], ParseJSON(span.name)) where span.name == "broken"'
    processors = {"batch": {"timeout": "50ms"},
                  "transform": {"error_mode": "propagate", "trace_statements": [statement]}}
    with GrpcSink() as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}}}
        with Gateway(exporters, processors) as gateway, watching(gateway) as prometheus:
            with sdk.tracers(sdk.grpc_exporter(gateway.grpc), batch=90) as (tracer, *_):
                def fires(name):
                    serve(tracer, failing=False, milliseconds=1, name=name)
                    return "OTELCollectorDataLoss" in prometheus.firing()

                poll(lambda: fires("broken"), "OTELCollectorDataLoss", 120.0, 0.2)
                poll(lambda: not fires("GET /orders"), "OTELCollectorDataLoss to clear", 120.0, 0.2)
            gateway.stop(lost=True)


def it_fires_on_a_queue_that_fills_and_clears():
    """A backend that is away, then there: what the alert on queues sees."""
    away = {"yes": True}

    def answer(_):
        return Refusal("UNAVAILABLE") if away["yes"] else None

    quick = {"initial_interval": "50ms", "max_interval": "100ms", "max_elapsed_time": 0}
    with GrpcSink(answer) as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}, "retry_on_failure": quick,
                              "sending_queue": {"queue_size": 20}}}
        with Gateway(exporters, {}) as gateway, watching(gateway) as prometheus:
            with sdk.tracers(sdk.grpc_exporter(gateway.grpc), batch=7) as (tracer, *_):
                serve(tracer, failing=False, milliseconds=1)
                poll(lambda: "OTELCollectorQueueFull" in prometheus.firing(), "OTELCollectorQueueFull", 120.0, 0.2)
                away["yes"] = False
                poll(lambda: "OTELCollectorQueueFull" not in prometheus.firing(), "it to clear", 120.0, 0.2)
            gateway.stop()


def it_fires_on_a_queue_that_grows_old_and_clears():
    """A backend that is away while a few requests wait for it, then there: what the alert on the age of a queue sees.

    The queue has room for thousands more, so nothing else says that they wait. The limit is moved to two seconds.
    """
    away = {"yes": True}

    def answer(_):
        return Refusal("UNAVAILABLE") if away["yes"] else None

    quick = {"initial_interval": "50ms", "max_interval": "100ms", "max_elapsed_time": 0}
    with GrpcSink(answer) as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}, "retry_on_failure": quick,
                              "sending_queue": {"queue_size": 5000}}}
        with Gateway(exporters, {}) as gateway, watching(gateway, {AGE_LIMIT: 2}) as prometheus:
            with sdk.tracers(sdk.grpc_exporter(gateway.grpc), batch=90) as (tracer, *_):
                serve(tracer, failing=False, milliseconds=1)
                poll(lambda: "TracegateQueueOld" in prometheus.firing(), "TracegateQueueOld", 120.0, 0.2)
                require("OTELCollectorQueueFull" not in prometheus.firing(), "the queue has room for more")
                away["yes"] = False
                # Also while requests come and go: none of them waits.
                def fires():
                    serve(tracer, failing=False, milliseconds=1)
                    return "TracegateQueueOld" in prometheus.firing()

                poll(lambda: not fires(), "it to clear", 120.0, 0.2)
            gateway.stop()


def it_fires_on_memory_beyond_its_limit_and_clears():
    """A backend that is away while a queue takes hundreds of megabytes, then there: what the alert on memory sees.

    The limit is moved to 100 MB above what this gateway needs when it has nothing to do.
    """
    away = {"yes": True}

    def answer(_):
        return Refusal("UNAVAILABLE") if away["yes"] else None

    quick = {"initial_interval": "50ms", "max_interval": "100ms", "max_elapsed_time": 0}
    requests = load.make(traces=1000, spans_per_request=2000, seed=1, padding_bytes=2000).requests
    with GrpcSink(answer) as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "compression": "none", "tls": {"insecure": True},
                              "retry_on_failure": quick, "sending_queue": {"queue_size": 1000}}}
        with Gateway(exporters, {}, grpc={"max_recv_msg_size_mib": 64}) as gateway:
            limit = gateway.resident_bytes() + 100_000_000
            with watching(gateway, {MEMORY_LIMIT: limit}) as prometheus:
                with load.RawClient(gateway.grpc) as client:
                    sent = 0
                    # The same bytes again and again: it is the queue that keeps them.
                    while sent < 300_000_000:
                        for request in requests:
                            load.require_taken(client.export(request))
                            sent += len(request)
                poll(lambda: "OTELCollectorHighMemory" in prometheus.firing(), "OTELCollectorHighMemory", 120.0, 0.2)
                away["yes"] = False
                poll(lambda: "OTELCollectorHighMemory" not in prometheus.firing(), "it to clear", 150.0, 0.2)
            gateway.stop()


def it_fires_on_cores_that_are_used_up_and_clears():
    """Load without a pause, then none: what the alert on CPU sees.

    The limit is moved to a twentieth of a core, which a gateway that compresses has also on a machine that is busy with
    other things, and which one without work stays below.
    """
    requests = load.make(traces=400, spans_per_request=400, seed=1, padding_bytes=1000).requests
    with GrpcSink() as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "compression": "gzip", "tls": {"insecure": True}}}
        with Gateway(exporters, {}) as gateway, watching(gateway, {CPU_LIMIT: 0.05}) as prometheus:
            with load.RawClient(gateway.grpc) as client:
                def fires():
                    for request in requests:
                        load.require_taken(client.export(request))
                    return "OTELCollectorHighCPU" in prometheus.firing()

                poll(fires, "OTELCollectorHighCPU", 120.0, 0.01)
            poll(lambda: "OTELCollectorHighCPU" not in prometheus.firing(), "it to clear", 120.0, 0.2)
            gateway.stop()


def it_fires_on_a_configuration_that_is_not_applied_and_clears():
    """A file that is changed to a wrong one and corrected: what the alert on configurations sees."""
    with GrpcSink() as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}}}
        with Gateway(exporters) as gateway, watching(gateway) as prometheus:
            file = gateway.folder / "gateway.yaml"
            right = file.read_text(encoding="utf-8")
            file.write_text(right.replace('"insecure"', '"insecurely"'), encoding="utf-8")
            poll(lambda: "TracegateConfigNotApplied" in prometheus.firing(), "TracegateConfigNotApplied", 120.0, 0.2)
            file.write_text(right, encoding="utf-8")
            poll(lambda: "TracegateConfigNotApplied" not in prometheus.firing(), "it to clear", 120.0, 0.2)
            gateway.stop()


def it_shows_data_in_every_panel_of_the_dashboard():
    """Each expression of the dashboard gives at least one series for a gateway that samples."""
    dashboard = json.loads((REPOSITORY / "configs/grafana/tracegate.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    require(len(expressions) > 20, f"the dashboard has {len(expressions)} expressions")
    with GrpcSink() as sink, counting_gateway(sink) as gateway, watching(gateway) as prometheus:
        with sdk.tracers(sdk.grpc_exporter(gateway.grpc), batch=90) as (tracer, *_):
            serve(tracer, failing=True, milliseconds=10)
        for expression in expressions:
            for variable, text in (("$job", JOB), ("$pod", ".*"), ("$__rate_interval", WINDOW)):
                expression = expression.replace(variable, text)
            require("$" not in expression, f"a variable of the dashboard that is not known here: {expression}")
            poll(lambda: prometheus.query(expression), f"data for {expression}", 60.0, 0.1)
        gateway.stop()


def counting_gateway(sink):
    """A gateway that counts requests of HTTP servers before it samples: the file for objectives, with this sink."""
    gateway = Gateway(None, files=[REPOSITORY / "configs/objectives.yaml"])
    gateway.add_arguments(gateway.common_settings())
    gateway.add_arguments(["--set", f"exporters.otlp.endpoint={sink.endpoint}",
                           "--set", "processors.tail_sampling.decision_wait=100ms"])
    return gateway


def watching(gateway, limits=()):
    """A Prometheus that scrapes this gateway and evaluates the rules that are deployed; `limits` maps comparisons to smaller numbers."""
    manifest = yaml.safe_load((REPOSITORY / "configs/k8s/collector/rules.yaml").read_text(encoding="utf-8"))
    rules = yaml.safe_dump({"groups": manifest["spec"]["groups"]}, width=1000)
    for deployed, limit in dict(limits).items():
        require(rules.count(deployed + "\n") == 1, f"not one rule has {deployed}")
        expression, _ = deployed.split(" > ")
        rules = rules.replace(deployed + "\n", f"{expression} > {limit}\n")
    return Prometheus({JOB: gateway.metrics_port}, shortened(rules))


def serve(tracer, failing, milliseconds, name="GET /orders"):
    """Spans of an HTTP server: one in ten fails, if they do, and all last this long."""
    for number in range(SPANS_A_ROUND):
        span = tracer.start_span(name, kind=SpanKind.SERVER, start_time=sdk.START)
        fails = failing and number % 10 == 0
        span.set_attribute("http.request.method", "GET")
        span.set_attribute("http.response.status_code", 503 if fails else 200)
        if fails:
            span.set_status(Status(StatusCode.ERROR))
        span.end(sdk.START + milliseconds * sdk.MILLISECOND)
