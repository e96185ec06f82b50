"""What `tracegate analyze` says of a trace, from wherever it reads it.

The idea: the same trace is asked for at the gateway that kept it and at a backend, and both analyses must be the same.
"""

import json
import subprocess

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from parts.gateway import program
from parts.outcome import require

# With a zero in front, which some leave out.
TRACE = bytes([0x0a]) + bytes(range(1, 16))
START = 1_700_000_000_000_000_000
MILLISECOND = 1_000_000
# Name, service, parent, begin and end in milliseconds, fails. The payment is what the checkout waits for.
SPANS = [
    ("POST /checkout", "shop-frontend", None, 0, 120, False),
    ("load cart", "shop-cart", 0, 5, 25, False),
    ("charge", "shop-payment", 0, 30, 110, True),
    ("SELECT card", "shop-payment", 2, 35, 95, False),
    ("mail", "shop-frontend", 0, 40, 60, False),
]


def request(trace_id=TRACE):
    """The trace, each service with a resource of its own; times are whole microseconds, as Jaeger keeps them."""
    made = trace_service_pb2.ExportTraceServiceRequest()
    scopes = {}
    for number, (name, service, parent, begin, end, fails) in enumerate(SPANS):
        if service not in scopes:
            group = made.resource_spans.add()
            group.resource.attributes.add(key="service.name").value.string_value = service
            scopes[service] = group.scope_spans.add()
        span = scopes[service].spans.add(trace_id=trace_id, span_id=span_id(number), name=name, kind=2,
                                         start_time_unix_nano=START + begin * MILLISECOND,
                                         end_time_unix_nano=START + end * MILLISECOND)
        if parent is not None:
            span.parent_span_id = span_id(parent)
        if fails:
            span.status.code = trace_pb2.Status.STATUS_CODE_ERROR
    return made


def span_id(number):
    """The id of the span with this number."""
    return bytes([1] * 7 + [number + 1])


def analyze(trace, place, url):
    """The analysis as JSON; `trace` is an id in hexadecimal digits."""
    told = _run(trace, place, url)
    require(told.returncode == 0, f"analyze --from {place} ends with {told.returncode}: {told.stderr}")
    return json.loads(told.stdout)


def complaint(trace, place, url):
    """What is said where there is no analysis."""
    told = _run(trace, place, url)
    require(told.returncode == 1, f"analyze --from {place} ends with {told.returncode}: {told.stdout}")
    return told.stderr


def _run(trace, place, url):
    command = [program(), "analyze", trace, "--from", place, "--url", url, "--format", "json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
