"""A gateway that is full and refuses, because its backend is busy; until the scenario lets the backend take everything.

The idea: refusal is reached by real requests against a small memory limit, never by a switch in the gateway. How many
requests were taken until then is known, so that in the end exactly those, and what is sent afterwards, must have arrived.
"""

from contextlib import contextmanager

import grpc
from google.rpc import error_details_pb2, status_pb2

from parts import load
from parts.gateway import Gateway
from parts.load import RawClient
from parts.outcome import Failed, poll, require, require_equal
from parts.sinks import GrpcSink, Refusal

QUICK = {"initial_interval": "50ms", "max_interval": "100ms", "max_elapsed_time": "0s"}
REQUESTS_MAX = 2000
SMALL_REQUESTS_MAX = 8000
SPANS_PER_REQUEST = 32


class Full:
    """A running gateway that has refused a request, and what is known about it."""

    def __init__(self, gateway, sink, client):
        self.gateway = gateway
        self.sink = sink
        self.spans_taken = 0
        self._client = client
        self._small = iter(load.make(traces=SMALL_REQUESTS_MAX // 8, spans_per_request=1, seed=2).requests)
        self._refused = 0

    def fill(self):
        """Takes all room, in two sizes: a small request may still fit where a large one did not."""
        large = load.make(traces=REQUESTS_MAX * 4, spans_per_request=SPANS_PER_REQUEST, seed=1, padding_bytes=2000)
        taken = self._offer(large.requests)
        require(50 < taken < REQUESTS_MAX, f"{taken} requests of 32 spans of 2 kB were taken with a limit of 48 MiB")
        self.spans_taken += taken * SPANS_PER_REQUEST
        self.top_up()

    def top_up(self):
        """Takes what room there is by now: memory of the gateway may shrink while it retries."""
        self.spans_taken += self._offer(self._small)

    def _offer(self, requests):
        """Sends until the first refusal, checks its hint; returns how many requests were taken."""
        for number, request in enumerate(requests):
            try:
                self._client.export(request)
            except grpc.RpcError as error:
                require_equal(error.code(), grpc.StatusCode.UNAVAILABLE, error.details())
                details = dict(error.trailing_metadata())["grpc-status-details-bin"]
                require_hint(status_pb2.Status.FromString(details))
                self._refused += 1
                return number
        raise Failed("requests without end were taken with a limit of 48 MiB")

    def refused_others(self):
        """How many requests the gateway has refused, but for those that filled it."""
        return self.gateway.metrics().total("otelcol_receiver_refused_requests") - self._refused

    def wait_until_others_are_refused(self):
        """Keeps the gateway full until it has refused somebody else's request."""
        def refused():
            self.top_up()
            return self.refused_others() >= 1

        poll(refused, "the gateway to refuse a client", interval=0.05)

    def relieve(self):
        """The backend takes everything from now on."""
        self.sink.busy = False


class BusySink(GrpcSink):
    """UNAVAILABLE to everything while `busy`."""

    def __init__(self):
        self.busy = True
        super().__init__(answer=lambda number: Refusal("UNAVAILABLE") if self.busy else None)


@contextmanager
def full_gateway():
    """Fills a gateway with a limit of 48 MiB until it refuses."""
    with BusySink() as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "compression": "none", "tls": {"insecure": True},
                              "retry_on_failure": QUICK, "sending_queue": {"queue_size": 100_000}}}
        processors = {"memory_limiter": {"limit_mib": 48, "spike_limit_mib": 16, "check_interval": "1s"},
                      "batch": {"timeout": "50ms", "send_batch_size": 512}}
        with Gateway(exporters, processors) as gateway:
            with RawClient(gateway.grpc) as client:
                full = Full(gateway, sink, client)
                full.fill()
                yield full


def require_hint(status):
    """RetryInfo of a second or a little more."""
    hints = [error_details_pb2.RetryInfo.FromString(detail.value) for detail in status.details
             if detail.type_url == "type.googleapis.com/google.rpc.RetryInfo"]
    require(len(hints) == 1, f"one RetryInfo in {status}")
    delay = hints[0].retry_delay.ToNanoseconds() / 1e9
    require(0 < delay <= 60, f"RetryInfo of {delay} s")
