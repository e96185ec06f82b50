"""gRPC as other people's clients speak it: C-core's options, sizes and concurrency, and by hand what C-core never does.

Status codes are those of the Collector's receiver. After every refusal the connection and its neighbours go on working.
"""

import struct
from contextlib import contextmanager

import grpc
import h2.settings

from parts import load
from parts.gateway import Gateway
from parts.http2 import Http2Client, compress
from parts.load import RawClient
from parts.outcome import Failed, require, require_equal
from parts.sinks import EXPORT, GrpcSink

MIB = 1 << 20
UNIMPLEMENTED, RESOURCE_EXHAUSTED = grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED


@contextmanager
def running(**grpc_settings):
    """A gateway that batches into one sink; yields (gateway, arrived), where `arrived(made)` checks at the end."""
    with GrpcSink() as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "compression": "none", "tls": {"insecure": True}}}
        with Gateway(exporters, {"batch": {"timeout": "50ms"}}, grpc=grpc_settings) as gateway:
            expected = []
            yield gateway, expected.append
            spans = sum(made.span_count for made in expected)
            sink.wait_for_spans(spans)
            gateway.stop()
            require_equal(sink.span_count, spans, "spans at the sink")
            require_equal({trace for trace, _ in sink.spans()}, {trace for made in expected for trace in made.fates}, "traces")


def it_takes_hundreds_of_concurrent_calls_on_one_connection():
    """More calls at once than any limit on streams."""
    with running() as (gateway, arrived), RawClient(gateway.grpc) as client:
        made = load.make(traces=800, spans_per_request=10, seed=1)
        calls = [client.begin(request) for request in made.requests]
        for call in calls:
            require_equal(call.result(), b"", "answer")
        arrived(made)


def it_takes_messages_of_any_client_setting():
    """Large and small frames, windows without probing, another user agent: C-core's channel options."""
    options = {
        "largest frames": [("grpc.http2.max_frame_size", 16_777_215)],
        "no window probe": [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)],
        "small writes": [("grpc.http2.write_buffer_size", 4096)],
        "many small header tables": [("grpc.http2.hpack_table_size.encoder", 0), ("grpc.primary_user_agent", "x" * 2000)],
    }
    with running() as (gateway, arrived):
        for seed, (name, chosen) in enumerate(options.items()):
            made = load.make(traces=1000, spans_per_request=4000, seed=seed)
            with RawClient(gateway.grpc, chosen) as client:
                for request in made.requests:
                    require_equal(client.export(request), b"", name)
            arrived(made)


def it_answers_pings_between_calls():
    """A client that keeps its connection alive is answered, however often it asks."""
    with running() as (gateway, arrived), Http2Client(gateway.grpc_port) as client:
        made = load.make(traces=20, spans_per_request=40, seed=2)
        for request in made.requests:
            for _ in range(20):
                client.ping()
            require_equal(client.export(request).grpc_status, 0, "status")
        arrived(made)


def it_lives_with_keepalive_options_of_c_core():
    """Keepalive every 50 ms, also without calls, while one call follows another."""
    options = [("grpc.keepalive_time_ms", 50), ("grpc.keepalive_timeout_ms", 5000), ("grpc.keepalive_permit_without_calls", 1),
               ("grpc.http2.max_pings_without_data", 0), ("grpc.http2.min_ping_interval_without_data_ms", 50)]
    with running() as (gateway, arrived), RawClient(gateway.grpc, options) as client:
        made = load.make(traces=500, spans_per_request=10, seed=3)
        for request in made.requests:
            client.export(request)
        arrived(made)


def it_takes_messages_up_to_4_mib_and_not_a_byte_more():
    """The limit is on the message after decompression; beyond it RESOURCE_EXHAUSTED without a retry hint, since the same
    request will never fit."""
    with running() as (gateway, arrived), RawClient(gateway.grpc) as client:
        fits, sized = sized_request(4 * MIB, seed=4)
        require_equal(client.export(fits), b"", "a message of 4 MiB")
        arrived(sized)
        too_large, _ = sized_request(4 * MIB + 1, seed=5)
        refuse(lambda: client.export(too_large), RESOURCE_EXHAUSTED)
        refuse(lambda: client.export(sized_request(40 * MIB, seed=6)[0]), RESOURCE_EXHAUSTED)
        with RawClient(gateway.grpc, compression=grpc.Compression.Gzip) as compressing:
            refuse(lambda: compressing.export(b"\x0a\x00" * (30 * MIB)), RESOURCE_EXHAUSTED)
        made = load.make(traces=1, spans_per_request=8, seed=7)
        require_equal(client.export(made.requests[0]), b"", "the next message on the same connection")
        arrived(made)


def it_takes_larger_messages_where_configured():
    """`max_recv_msg_size_mib`."""
    with running(max_recv_msg_size_mib=8) as (gateway, arrived), RawClient(gateway.grpc) as client:
        fits, sized = sized_request(8 * MIB, seed=8)
        require_equal(client.export(fits), b"", "a message of 8 MiB")
        arrived(sized)
        refuse(lambda: client.export(sized_request(8 * MIB + 1, seed=9)[0]), RESOURCE_EXHAUSTED)


def it_says_unimplemented_for_what_it_does_not_know():
    """Other methods, other services, signals without a pipeline, encodings that are not built in."""
    with running() as (gateway, arrived), RawClient(gateway.grpc) as client:
        prefix = "/opentelemetry.proto.collector."
        for method in (prefix + "trace.v1.TraceService/Import", prefix + "metrics.v1.MetricsService/Export",
                       prefix + "logs.v1.LogsService/Export", "/nobody/Knows"):
            refuse(lambda method=method: client.channel.unary_unary(method)(b"", timeout=20), UNIMPLEMENTED)
        made = load.make(traces=1, spans_per_request=8, seed=10)
        with RawClient(gateway.grpc, compression=grpc.Compression.Deflate) as deflating:
            refuse(lambda: deflating.export(made.requests[0]), UNIMPLEMENTED)
        with Http2Client(gateway.grpc_port) as by_hand:
            # C-core keeps this header to itself.
            offered = by_hand.export(made.requests[0], "deflate").headers.get("grpc-accept-encoding", "")
            require({"gzip", "zstd"} <= set(offered.replace(" ", "").split(",")), f"grpc-accept-encoding is {offered!r}")
        require_equal(client.export(made.requests[0]), b"", "the next call")
        arrived(made)


def it_takes_gzip_of_c_core_and_zstd_by_hand():
    """Each compressed by a library that is not the gateway's; empty messages too."""
    with running() as (gateway, arrived), Http2Client(gateway.grpc_port) as by_hand:
        made = load.make(traces=300, spans_per_request=800, seed=11)
        with RawClient(gateway.grpc, compression=grpc.Compression.Gzip) as client:
            require_equal(client.export(made.requests[0]), b"", "gzip by C-core")
            require_equal(client.export(b""), b"", "an empty message")
        for encoding, request in zip(("zstd", "gzip", "zstd"), made.requests[1:]):
            answer = by_hand.export(compress(request, encoding), encoding)
            require_equal((answer.grpc_status, answer.body), (0, b"\0\0\0\0\0"), f"{encoding} by hand")
        # Sent plain under a name is allowed: the flag says so per message.
        require_equal(by_hand.export(b"", "zstd", compressed=False).grpc_status, 0, "an empty message")
        arrived(made)


def it_rejects_what_is_no_grpc_without_hurting_the_connection():
    """Malformed bytes in every layer get an error of their own; the connection serves the next call."""
    made = load.make(traces=1, spans_per_request=8, seed=12)
    message = made.requests[0]
    cut = message[:-3]
    with running() as (gateway, arrived), Http2Client(gateway.grpc_port) as client:
        rows = {
            "a cut message": (lambda: client.export(cut), {3, 13}),
            "bytes that are no protobuf": (lambda: client.export(b"\xff" * 40), {3, 13}),
            "zstd that is none": (lambda: client.export(b"no frame", "zstd"), {3, 13}),
            "compressed without an encoding": (lambda: client.export(message, compressed=True), {13}),
            "an unknown encoding": (lambda: client.export(message, "brotli"), {12}),
            "a length past the end": (lambda: client.call(grpc_headers(), struct.pack(">BI", 0, 99) + message[:9]), {3, 13}),
            "two messages": (lambda: client.call(grpc_headers(), 2 * (struct.pack(">BI", 0, 0))), {12, 13, 3}),
            "no message": (lambda: client.call(grpc_headers(), b"\0\0"), {13, 3}),
        }
        for name, (call, codes) in rows.items():
            answer = call()
            require(answer.grpc_status in codes, f"{name}: {answer}, expected grpc-status in {codes}")
            require_equal(answer.headers.get(":status"), "200", f"HTTP status for {name}")
        answer = client.export(message, content_type="text/plain")
        require_equal(answer.headers.get(":status"), "415", "HTTP status for a content type that is not gRPC")
        require_equal(client.export(message).grpc_status, 0, "the call after all of them")
        arrived(made)
        rejected = gateway.metrics().total("otelcol_receiver_rejected_requests", transport="grpc")
        require(rejected >= len(rows), f"{rejected} rejected requests counted")


def it_respects_tiny_windows_of_the_client():
    """A client that gives one byte of window at a time still gets its whole answer."""
    settings = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1}
    with running() as (gateway, arrived), Http2Client(gateway.grpc_port, settings) as client:
        made = load.make(traces=50, spans_per_request=100, seed=13)
        for request in made.requests:
            answer = client.export(request)
            require_equal((answer.grpc_status, answer.body), (0, b"\0\0\0\0\0"), "answer")
        arrived(made)


def it_survives_clients_that_vanish():
    """Connections closed in the middle of a call, of a frame, of the preface: others do not notice."""
    made = load.make(traces=2, spans_per_request=8, seed=14)
    with running() as (gateway, arrived), RawClient(gateway.grpc) as client:
        client.export(made.requests[0])
        for cut in (0, 3, 30, 60, 200):
            with Http2Client(gateway.grpc_port) as vanishing:
                vanishing.begin_and_vanish(grpc_headers(), struct.pack(">BI", 0, len(made.requests[1])) + made.requests[1], cut)
        client.export(made.requests[1])
        arrived(made)


def grpc_headers():
    """Headers of a well-formed call."""
    return [(":method", "POST"), (":scheme", "http"), (":path", EXPORT), (":authority", "localhost"),
            ("content-type", "application/grpc"), ("te", "trailers")]


def sized_request(size, seed):
    """One trace's request of exactly `size` bytes, and what is known about it."""
    probe = load.make(traces=1, spans_per_request=8, seed=seed)
    # Each of the eight spans gets an equal part; the rest is an unknown field of the request message: a tag of two
    # bytes, a length, and bytes nobody reads.
    padding = (size - len(probe.requests[0])) // 8 // 2 * 2 - 200
    made = load.make(traces=1, spans_per_request=8, seed=seed, padding_bytes=padding)
    rest = size - len(made.requests[0])
    filler = b"".join((b"\x92\x3f", length_of_three(rest - 5), bytes(rest - 5)))
    request = made.requests[0] + filler
    require_equal(len(request), size, "size of a request made here")
    return request, made


def length_of_three(number):
    """A varint in exactly three bytes."""
    return bytes([number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14])


def refuse(call, code):
    """The call must fail with this code, and without a retry hint; returns the error."""
    try:
        answer = call()
    except grpc.RpcError as error:
        require_equal(error.code(), code, error.details() or "status")
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        require(b"RetryInfo" not in details, "a retry hint for what can never succeed")
        return error
    raise Failed(f"expected {code}, got the answer {answer!r}")
