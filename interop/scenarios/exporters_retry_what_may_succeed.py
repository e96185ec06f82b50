"""A backend that is down, busy or broken: what may succeed later is sent again, what never will is counted as failed.

Delays are only checked from below: a retry may be late, never early.
"""

from parts import load
from parts.gateway import Gateway
from parts.load import RawClient
from parts.outcome import require, require_equal
from parts.ports import free_port
from parts.sinks import GrpcSink, HttpSink, Refusal

QUICK = {"enabled": True, "initial_interval": "50ms", "max_interval": "200ms", "max_elapsed_time": "60s"}


def exporter_of(sink, endpoint, **more):
    """Settings for the exporter of this kind of sink."""
    if sink is HttpSink:
        return {"otlphttp": {"endpoint": f"http://{endpoint}", "retry_on_failure": QUICK} | more}
    return {"otlp": {"endpoint": endpoint, "tls": {"insecure": True}, "retry_on_failure": QUICK} | more}


def it_delivers_after_an_outage_at_the_start():
    """Nobody listens; requests wait in the queue; when the backend comes up everything arrives, once."""
    for kind in (GrpcSink, HttpSink):
        port = free_port()
        made = load.make(traces=40, spans_per_request=32, seed=1)
        with Gateway(exporter_of(kind, f"127.0.0.1:{port}"), {}) as gateway:
            send(gateway, made)
            gateway.wait_for_metric("otelcol_exporter_queue_size", 10)
            with kind(port=port) as sink:
                sink.wait_for_spans(made.span_count)
                gateway.stop()
                require_equal({trace for trace, _ in sink.spans()}, set(made.fates), "traces")


def it_delivers_after_an_outage_in_between():
    """The backend goes away and comes back on the same port; connections that broke are made anew."""
    for kind in (GrpcSink, HttpSink):
        before, after = load.make(20, 32, seed=2), load.make(20, 32, seed=3)
        port = free_port()
        with Gateway(exporter_of(kind, f"127.0.0.1:{port}"), {}) as gateway:
            with kind(port=port) as first:
                send(gateway, before)
                # Until the answers have come back: what was taken but not acknowledged would be sent again.
                gateway.wait_for_metric("otelcol_exporter_sent_spans", before.span_count)
            send(gateway, after)
            gateway.wait_for_metric("otelcol_exporter_queue_size", len(after.requests))
            with kind(port=port) as second:
                second.wait_for_spans(after.span_count)
                gateway.stop()
                require_equal({trace for trace, _ in second.spans()}, set(after.fates), "traces")


def it_waits_as_long_as_the_backend_asks():
    """RetryInfo over gRPC, Retry-After over HTTP: the next attempt does not come earlier."""
    for kind, seconds in ((GrpcSink, 1.2), (HttpSink, 1)):
        made = load.make(traces=4, spans_per_request=32, seed=4)
        refusal = Refusal("UNAVAILABLE", retry_after_seconds=seconds)
        with kind(answer=lambda number, refusal=refusal: refusal if number == 0 else None) as sink:
            with Gateway(exporter_of(kind, f"127.0.0.1:{sink.port}"), {}) as gateway:
                send(gateway, made)
                sink.wait_for_spans(made.span_count)
                gateway.stop()
            waited = sink.taken[0].at - sink.refused[0].at
            require(waited >= seconds, f"{kind.__name__}: came back after {waited:.3f} s instead of {seconds} s")
            require_equal(sink.taken[0].body, sink.refused[0].body, "the request that was sent again")


def it_retries_exhausted_resources_only_with_a_hint():
    """RESOURCE_EXHAUSTED with RetryInfo is temporary, without it permanent; HTTP 429 is always temporary."""
    rows = ((GrpcSink, 0.05, True), (GrpcSink, None, False), (HttpSink, None, True))
    for kind, hint, comes_back in rows:
        check_refusal(kind, Refusal("RESOURCE_EXHAUSTED", hint), comes_back)


def it_retries_what_is_unavailable():
    """With and without a hint."""
    for kind in (GrpcSink, HttpSink):
        check_refusal(kind, Refusal("UNAVAILABLE"), comes_back=True)


def it_gives_up_at_once_what_will_never_be_taken():
    """Permanent errors: one attempt, counted as failed, and the ledger says so."""
    for kind in (GrpcSink, HttpSink):
        for code in ("INVALID_ARGUMENT", "INTERNAL"):
            check_refusal(kind, Refusal(code), comes_back=False)


def check_refusal(kind, refusal, comes_back):
    """The first request is refused so; it comes back, or it is counted as failed and all others arrive."""
    made = load.make(traces=4, spans_per_request=8, seed=5)
    with kind(answer=lambda number: refusal if number == 0 else None) as sink:
        with Gateway(exporter_of(kind, f"127.0.0.1:{sink.port}"), {}) as gateway:
            send(gateway, made)
            arriving = made.span_count - (0 if comes_back else 8)
            sink.wait_for_spans(arriving)
            failed = gateway.wait_for_metric("otelcol_exporter_send_failed_spans", made.span_count - arriving)
            gateway.wait_for_metric("otelcol_exporter_sent_spans", arriving)
            ending = gateway.stop(lost=not comes_back)
        what = f"{kind.__name__} with {refusal}"
        require_equal(failed, made.span_count - arriving, f"{what}: failed spans counted")
        require_equal((len(sink.refused), sink.span_count), (1, arriving), f"{what}: refused requests, spans taken")
        require(comes_back or "8" in ending.ledger, f"{what}: {ending.ledger}")


def it_gives_up_after_max_elapsed_time():
    """Temporary errors without end: failed after the configured time, not before."""
    made = load.make(traces=1, spans_per_request=8, seed=6)
    with GrpcSink(answer=lambda number: Refusal("UNAVAILABLE")) as sink:
        retry = {"enabled": True, "initial_interval": "100ms", "max_interval": "100ms", "max_elapsed_time": "1s"}
        with Gateway(exporter_of(GrpcSink, sink.endpoint, retry_on_failure=retry), {}) as gateway:
            send(gateway, made)
            failed = gateway.wait_for_metric("otelcol_exporter_send_failed_spans", 1)
            gateway.stop(lost=True)
        require_equal(failed, made.span_count, "failed spans")
        require(len(sink.refused) >= 3, f"{len(sink.refused)} attempts")


def it_answers_with_the_backends_error_where_no_queue_takes_ownership():
    """`sending_queue.enabled: false` and no batch: the sender learns what became of its spans."""
    import grpc

    made = load.make(traces=2, spans_per_request=8, seed=7)
    with GrpcSink(answer=lambda number: Refusal("INVALID_ARGUMENT") if number == 0 else None) as sink:
        more = {"sending_queue": {"enabled": False}}
        with Gateway(exporter_of(GrpcSink, sink.endpoint, **more), {}) as gateway, RawClient(gateway.grpc) as client:
            try:
                client.export(made.requests[0])
                raise AssertionError("a request was acknowledged that the backend had rejected")
            except grpc.RpcError as error:
                require(error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK), str(error))
            client.export(made.requests[1])
            sink.wait_for_spans(8)
            gateway.stop(lost=True)


def send(gateway, made):
    """All requests, one after the other; each must be taken."""
    with RawClient(gateway.grpc) as client:
        for request in made.requests:
            require_equal(client.export(request), b"", "answer")
