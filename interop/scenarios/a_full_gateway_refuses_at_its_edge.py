"""Beyond the soft limit requests are refused whole with a hint when to come back; what was taken is delivered.

UNAVAILABLE with RetryInfo over gRPC, 503 with Retry-After over HTTP. Once there is room, requests are taken again.
"""

import grpc
import requests
from google.rpc import error_details_pb2, status_pb2

from parts import load
from parts.gateway import Gateway
from parts.load import RawClient
from parts.outcome import poll, require, require_equal
from parts.sinks import GrpcSink, Refusal

QUICK = {"initial_interval": "50ms", "max_interval": "100ms", "max_elapsed_time": "0s"}
REQUESTS_MAX = 2000


def it_refuses_with_a_hint_and_recovers():
    """The backend is busy until the gateway is full; then it takes everything, and so does the gateway."""
    busy = [True]
    with GrpcSink(answer=lambda number: Refusal("UNAVAILABLE") if busy[0] else None) as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "compression": "none", "tls": {"insecure": True},
                              "retry_on_failure": QUICK, "sending_queue": {"queue_size": 100_000}}}
        processors = {"memory_limiter": {"limit_mib": 48, "spike_limit_mib": 16, "check_interval": "1s"},
                      "batch": {"timeout": "50ms", "send_batch_size": 512}}
        with Gateway(exporters, processors) as gateway, RawClient(gateway.grpc) as client:
            made = load.make(traces=REQUESTS_MAX * 4, spans_per_request=32, seed=1, padding_bytes=2000)
            taken = fill(client, made.requests)
            over_http(gateway, made.requests[taken])
            refused = gateway.metrics().total("otelcol_receiver_refused_requests")
            require(refused >= 2, f"{refused} refused requests counted")
            busy[0] = False
            for request in made.requests[taken : taken + 50]:
                poll(lambda request=request: takes(client, request), "the gateway to take requests again")
            sink.wait_for_spans((taken + 50) * 32)
            gateway.stop()
            require_equal(sink.span_count, (taken + 50) * 32, "spans: all that were taken, none that were refused")


def fill(client, made):
    """Sends until the first refusal, checks its hint; returns how many requests were taken."""
    for number, request in enumerate(made):
        try:
            client.export(request)
        except grpc.RpcError as error:
            require_equal(error.code(), grpc.StatusCode.UNAVAILABLE, error.details())
            details = dict(error.trailing_metadata())["grpc-status-details-bin"]
            require_hint(status_pb2.Status.FromString(details))
            require(number > 50, f"refused after {number} requests already")
            return number
    raise AssertionError(f"{len(made)} requests of 32 spans of 2 kB were taken with a limit of 48 MiB")


def require_hint(status):
    """RetryInfo of a second or a little more."""
    hints = [error_details_pb2.RetryInfo.FromString(detail.value) for detail in status.details
             if detail.type_url == "type.googleapis.com/google.rpc.RetryInfo"]
    require(len(hints) == 1, f"one RetryInfo in {status}")
    delay = hints[0].retry_delay.ToNanoseconds() / 1e9
    require(0 < delay <= 60, f"RetryInfo of {delay} s")


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
