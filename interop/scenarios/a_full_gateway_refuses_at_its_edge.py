"""Beyond the soft limit requests are refused whole with a hint when to come back; what was taken is delivered.

UNAVAILABLE with RetryInfo over gRPC, 503 with Retry-After over HTTP. Once there is room, requests are taken again, and
clients that were refused come back on their own.
"""

import grpc
import requests
from google.rpc import status_pb2

from parts import clients, load, sdk, spans
from parts.full import SPANS_PER_REQUEST, full_gateway, require_hint
from parts.load import RawClient
from parts.outcome import poll, require, require_equal
from parts.sinks import GrpcSink, HttpSink


def it_refuses_with_a_hint_and_recovers():
    """The backend is busy until the gateway is full; then it takes everything, and so does the gateway."""
    with full_gateway() as full, RawClient(full.gateway.grpc) as client:
        later = load.make(traces=200, spans_per_request=SPANS_PER_REQUEST, seed=3, padding_bytes=2000)
        over_http(full.gateway, later.requests[0])
        require_equal(full.refused_others(), 1, "refused requests counted")
        full.relieve()
        for request in later.requests:
            poll(lambda request=request: takes(client, request), "the gateway to take requests again")
        expected = full.spans_taken + later.span_count
        full.sink.wait_for_spans(expected)
        full.gateway.stop()
        require_equal(full.sink.span_count, expected, "spans: all that were taken, none that were refused")


def it_gets_refused_spans_of_node_http_at_their_next_try():
    """The SDK for Node over HTTP obeys Retry-After; over gRPC it never tries again."""
    clients.check_retry(clients.NODE, "http/protobuf")


def it_gets_refused_spans_of_python_grpc_at_their_next_try():
    """The SDK for Python obeys RetryInfo."""
    with GrpcSink() as witness, full_gateway() as full:
        come_back(full, witness, sdk.grpc_exporter(witness.endpoint), sdk.grpc_exporter(full.gateway.grpc))


def it_gets_refused_spans_of_python_http_at_their_next_try():
    """The SDK for Python takes 503 for a reason to wait."""
    with HttpSink() as witness, full_gateway() as full:
        come_back(full, witness, sdk.http_exporter(witness.endpoint), sdk.http_exporter(full.gateway.http))


def come_back(full, witness, *exporters):
    """Sends while the gateway is full; once there is room everything arrives, equal to what the witness got."""
    with sdk.tracers(*exporters) as tracers:
        sdk.full_trace(tracers)
        full.wait_until_others_are_refused()
        full.relieve()
    sent = witness.spans()
    full.sink.wait_for_spans(full.spans_taken + len(sent))
    full.gateway.stop()
    require_equal(full.sink.span_count, full.spans_taken + len(sent), "spans at the backend")
    arrived = full.sink.spans()
    spans.require_same({key: arrived[key] for key in sent if key in arrived}, sent, "the backend")


def over_http(gateway, request):
    """The same refusal over HTTP."""
    headers = {"Content-Type": "application/x-protobuf"}
    answer = requests.post(f"{gateway.http}/v1/traces", data=request, headers=headers, timeout=20)
    require_equal(answer.status_code, 503, "status of a refusal over HTTP")
    require(0 <= int(answer.headers["Retry-After"]) <= 60, f"Retry-After {answer.headers['Retry-After']}")
    require_hint(status_pb2.Status.FromString(answer.content))


def takes(client, request):
    """Whether the request was taken."""
    try:
        client.export(request)
        return True
    except grpc.RpcError as error:
        require_equal(error.code(), grpc.StatusCode.UNAVAILABLE, error.details())
        return False
