"""Spans made by the OpenTelemetry SDK of PyPI, sent by its own exporters.

The idea: every span is given to two exporters of the same kind, one that sends to a sink directly and one that sends to
the gateway. What the first sink holds is what the gateway's sinks must hold; nothing here knows how the SDK encodes.
"""

import logging
import random
from contextlib import contextmanager

import requests
from grpc import Compression as GrpcCompression
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from parts.outcome import require

# Full attribute lists are on purpose here; what fails to arrive is found by the scenarios.
logging.getLogger("opentelemetry").setLevel(logging.ERROR)

MILLISECOND = 1_000_000
START = 1_700_000_000_000_000_000
SERVICES = ("shop-frontend", "shop-cart", "shop-payment")
LARGE_SPANS = 2800


def grpc_exporter(endpoint, compression="none", credentials=None):
    """Makes the SDK's gRPC exporter when called; `compression` is none or gzip, `credentials` C-core's where TLS is spoken."""
    kinds = {"none": GrpcCompression.NoCompression, "gzip": GrpcCompression.Gzip}
    scheme, plain = ("https", False) if credentials else ("http", True)
    return lambda: GrpcExporter(endpoint=f"{scheme}://{endpoint}", insecure=plain, credentials=credentials,
                                compression=kinds[compression], timeout=20)


def http_exporter(base_url, compression="none", authority=None, certificate=None, key=None):
    """Makes the SDK's HTTP/protobuf exporter when called; `compression` is none or gzip, the rest are files where TLS is
    spoken."""
    kinds = {"none": HttpCompression.NoCompression, "gzip": HttpCompression.Gzip}

    def make():
        session = requests.Session()
        # Else a REQUESTS_CA_BUNDLE of this machine would win over the file.
        session.trust_env = False
        return HttpExporter(endpoint=f"{base_url}/v1/traces", compression=kinds[compression], timeout=20, session=session,
                            certificate_file=authority, client_certificate_file=certificate, client_key_file=key)

    return make


@contextmanager
def tracers(*makers, batch=7):
    """One tracer per service, each with a resource of its own; on leaving, all spans have been sent.

    Every service has exporters of its own, as processes have: an exporter that is told UNAVAILABLE closes its channel and
    opens another, and what a second thread was sending over the first would be lost inside the SDK.
    At most `batch` spans a request; by default several requests per trace, as in production.
    """
    providers = [_provider(service, makers, batch) for service in SERVICES]
    yield [_tracer(provider, service) for provider, service in zip(providers, SERVICES)]
    for provider in providers:
        require(provider.force_flush(30_000), "the SDK did not send everything within 30 s")
    for provider in providers:
        provider.shutdown()


def _provider(service, makers, batch):
    attributes = {
        "service.name": service,
        "service.version": "1.2.3",
        "deployment.environment.name": "interop",
        "host.cpu.count": 8,
        "host.load": 0.25,
        "host.virtual": True,
        "process.command_args": ["serve", "--port", "8080"],
    }
    limits = SpanLimits(max_events=4, max_links=4, max_span_attributes=32)
    resource = Resource(attributes, schema_url="https://opentelemetry.io/schemas/1.27.0")
    provider = TracerProvider(resource=resource, span_limits=limits)
    for make in makers:
        # What fills a large batch must not be sent before it is full.
        delay = 100 if batch < 100 else 60_000
        provider.add_span_processor(BatchSpanProcessor(make(), schedule_delay_millis=delay, max_export_batch_size=batch,
                                                       max_queue_size=max(2048, batch)))
    return provider


def _tracer(provider, service):
    return provider.get_tracer(f"{service}.library", "0.9.1", "https://opentelemetry.io/schemas/1.26.0", {"team": "core"})


EVERY_TYPE = {
    "text": "żółw 🐢 \u0000 end",
    "text.empty": "",
    "bool.true": True,
    "bool.false": False,
    "int.zero": 0,
    "int.smallest": -(1 << 63),
    "int.largest": (1 << 63) - 1,
    "double": 3.141592653589793,
    "double.zero": 0.0,
    "double.tiny": 5e-324,
    "double.infinite": float("inf"),
    "double.none": float("nan"),
    "texts": ["a", "", "ü"],
    "bools": [True, False],
    "ints": [1, -1, 1 << 53],
    "doubles": [0.5, -2.5e300],
    "nothing": [],
}


def full_trace(tracers_of_services):
    """One trace over all services with everything a span can carry."""
    frontend, cart, payment = tracers_of_services
    elsewhere = SpanContext(0xABCDEF0123456789ABCDEF0123456789, 0x1122334455667788, True, TraceFlags(1),
                            TraceState([("vendor", "value"), ("other", "x")]))
    parent = trace.set_span_in_context(trace.NonRecordingSpan(elsewhere))
    root = frontend.start_span("GET /cart", context=parent, kind=SpanKind.SERVER, attributes=EVERY_TYPE, start_time=START,
                               links=[Link(elsewhere, {"why": "retry", "attempt": 2}), Link(elsewhere)])
    inside = trace.set_span_in_context(root)
    for number, kind in enumerate(SpanKind):
        child = cart.start_span(f"step {kind.name}", context=inside, kind=kind, start_time=START + number * MILLISECOND)
        child.add_event("found", {"items": number, "names": ["x", "y"]}, timestamp=START + number * MILLISECOND + 1)
        child.set_status(Status(StatusCode.OK))
        child.end(START + (number + 1) * MILLISECOND)
    failing = payment.start_span("charge", context=inside, kind=SpanKind.CLIENT, start_time=START)
    failing.record_exception(ValueError("card declined"), timestamp=START + 5)
    for number in range(6):
        # Two more than the limit: the dropped counts travel too.
        failing.add_event(f"try {number}", timestamp=START + 10 + number)
    for number in range(40):
        failing.set_attribute(f"attribute.{number}", number)
    failing.set_status(Status(StatusCode.ERROR, "card declined: über limit"))
    failing.end(START + 20 * MILLISECOND)
    root.end(START + 30 * MILLISECOND)


def shop_trace(tracers_of_services, fate):
    """A trace of six spans over all services; `fate` is ordinary, error or slow (longer than a second). Returns its id
    in hex. An error is on a leaf, slowness only between the first start and the last end."""
    frontend, cart, payment = tracers_of_services
    root = frontend.start_span("GET /checkout", kind=SpanKind.SERVER, start_time=START)
    inside = trace.set_span_in_context(root)
    for number, tracer in enumerate((cart, cart, payment, payment)):
        start = START + (number * 400 if fate == "slow" else number * 5) * MILLISECOND
        child = tracer.start_span(f"step {number}", context=inside, kind=SpanKind.CLIENT, start_time=start)
        child.set_attribute("step", number)
        if fate == "error" and number == 3:
            child.set_status(Status(StatusCode.ERROR, "declined"))
        child.end(start + 4 * MILLISECOND)
    frontend.start_span("render", context=inside, start_time=START).end(START + MILLISECOND)
    # The root ends early: only all spans together show that a slow trace is slow.
    root.end(START + 40 * MILLISECOND)
    return f"{root.get_span_context().trace_id:032x}"


def large_load(tracers_of_services):
    """Many spans of one service, about 3 MB that gzip cannot shrink to less than half."""
    frontend = tracers_of_services[0]
    chance = random.Random(1)
    for number in range(LARGE_SPANS):
        span = frontend.start_span(f"large {number}", attributes={"padding": chance.randbytes(500).hex()}, start_time=START)
        span.end(START + MILLISECOND)
