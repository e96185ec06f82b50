"""Export requests made here, with traces whose fate is known, and clients that send them as raw bytes.

The idea: who keeps the fate of every trace id can demand that exactly those arrive, whole and once. Spans of one trace
are dealt over requests and connections, as they are when several services report on their own.
"""

import random
from typing import NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from parts.outcome import require
from parts.sinks import EXPORT

MILLISECOND = 1_000_000
START = 1_700_000_000_000_000_000
SPANS_OF_A_TRACE = 8
SERVICES = ("frontend", "cart", "payment", "stock")


class Made(NamedTuple):
    """Requests as bytes, and what is known about their traces."""

    requests: list
    fates: dict
    """trace id in hex -> error, slow or ordinary."""

    @property
    def span_count(self):
        """Spans of all traces."""
        return len(self.fates) * SPANS_OF_A_TRACE

    def wanted(self):
        """Ids of the error and slow traces."""
        return {trace_id for trace_id, fate in self.fates.items() if fate != "ordinary"}


def make(traces, spans_per_request, seed, padding_bytes=100):
    """`traces` traces, every tenth with an error and every tenth slow, dealt over requests in a shuffled order."""
    chance = random.Random(seed)
    fates, spans = {}, []
    for number in range(traces):
        trace_id = chance.randbytes(16)
        fate = {0: "error", 5: "slow"}.get(number % 10, "ordinary")
        fates[trace_id.hex()] = fate
        spans += [(position, _span(chance, trace_id, fate, position, padding_bytes)) for position in range(SPANS_OF_A_TRACE)]
    chance.shuffle(spans)
    chunks = [spans[start : start + spans_per_request] for start in range(0, len(spans), spans_per_request)]
    return Made([_request(chunk) for chunk in chunks], fates)


def _span(chance, trace_id, fate, position, padding_bytes):
    start = START + position * (300 if fate == "slow" else 2) * MILLISECOND
    span = trace_pb2.Span(trace_id=trace_id, span_id=chance.randbytes(8), name=f"operation {position}",
                          start_time_unix_nano=start, end_time_unix_nano=start + MILLISECOND)
    if position > 0:
        span.parent_span_id = b"parent!!"
    if fate == "error" and position == 5:
        span.status.code = trace_pb2.Status.STATUS_CODE_ERROR
    span.attributes.add(key="padding").value.string_value = chance.randbytes(padding_bytes // 2).hex()
    return span


def _request(spans):
    request = trace_service_pb2.ExportTraceServiceRequest()
    groups = {}
    for position, span in spans:
        service = SERVICES[position % len(SERVICES)]
        if service not in groups:
            group = request.resource_spans.add(schema_url="https://example.test/schema")
            group.resource.attributes.add(key="service.name").value.string_value = service
            groups[service] = group.scope_spans.add()
            groups[service].scope.name = f"{service}.library"
        groups[service].spans.append(span)
    return request.SerializeToString()


def with_attributes(encoded):
    """The request with attributes that follow from the ids: a trace differs from others, and so do its spans."""
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(encoded)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                of_trace, of_span = span.trace_id, span.span_id
                span.attributes.add(key="tier").value.string_value = ("gold", "silver", "golden", "")[of_trace[0] % 4]
                span.attributes.add(key="vip").value.bool_value = of_trace[1] % 3 == 0 and of_span[0] % 4 == 0
                span.attributes.add(key="http.status").value.int_value = 200 + of_trace[2]
                route = ("/v12/users", "/vx/users", "/v1/a-b", "/list[1]")[of_trace[3] % 4] if of_span[1] % 4 == 0 else "/"
                span.attributes.add(key="route").value.string_value = route
                span.trace_state = ("", "vendor=a", "other=1, vendor=b", "vendor=c", "vendor=a,broken")[of_trace[4] % 5]
                span.flags = int(of_trace[5] % 2 == 0 and of_span[2] % 4 == 0)
    return request.SerializeToString()


class RawClient:
    """A C-core channel that sends bytes as they are and returns the answer's bytes."""

    def __init__(self, endpoint, options=(), compression=None):
        # Own sub-channels: two clients with equal options would otherwise share one connection.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", 1 << 28), *options]
        self.channel = grpc.insecure_channel(endpoint, options=options, compression=compression)
        self._export = self.channel.unary_unary(EXPORT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def export(self, request, timeout=20):
        """Sends one request; raises grpc.RpcError unless it was taken."""
        return self._export(request, timeout=timeout)

    def begin(self, request, timeout=60):
        """Sends one request without waiting; `.result()` of what is returned waits for its answer."""
        return self._export.future(request, timeout=timeout)


def require_taken(answer):
    """The answer must say that nothing was rejected; a Collector writes an empty partial success, we write nothing."""
    partial = trace_service_pb2.ExportTraceServiceResponse.FromString(answer).partial_success
    require(partial.rejected_spans == 0 and not partial.error_message, f"partial success: {partial}")


def send_over_connections(endpoint, requests, connections, in_flight=8):
    """Deals the requests over that many connections, at most `in_flight` unanswered on each; all must be taken."""
    clients = [RawClient(endpoint) for _ in range(connections)]
    pending = []
    for number, request in enumerate(requests):
        pending.append(clients[number % connections].begin(request))
        if len(pending) >= connections * in_flight:
            require_taken(pending.pop(0).result())
    for call in pending:
        require_taken(call.result())
    for client in clients:
        client.__exit__()
