"""OTLP/HTTP row by row: what the Collector answers, the gateway answers, and the next request is served.

Clients are the standard library's and the PyPI package requests, on connections that are kept alive.
"""

import gzip
import http.client
import socket
from contextlib import contextmanager

import requests
import zstandard
from google.rpc import status_pb2

from parts import load
from parts.gateway import Gateway
from parts.outcome import require, require_equal
from parts.sinks import HttpSink

PROTOBUF = "application/x-protobuf"
INVALID_ARGUMENT = 3
BODY_BYTES_MAX = 1 << 20


@contextmanager
def running(**http_settings):
    """A gateway and its sink; what was promised by `arrived` is checked at the end."""
    with HttpSink() as sink:
        exporters = {"otlphttp": {"endpoint": sink.endpoint, "compression": "none"}}
        with Gateway(exporters, {"batch": {"timeout": "50ms"}}, http=http_settings) as gateway:
            expected = []
            yield gateway, expected.append
            spans = sum(made.span_count for made in expected)
            sink.wait_for_spans(spans)
            gateway.stop()
            require_equal(sink.span_count, spans, "spans at the sink")


def it_answers_every_row_of_the_table():
    """Status, content type and body of each answer, all on one connection."""
    made = load.make(traces=7, spans_per_request=8, seed=1)
    good = iter(made.requests)
    proto = {"Content-Type": PROTOBUF}
    too_large = bytes(BODY_BYTES_MAX + 1)
    rows = [
        ("POST", "/v1/traces", proto, next(good), 200),
        ("POST", "/v1/traces", {"Content-Type": PROTOBUF + "; charset=utf-8"}, next(good), 200),
        ("POST", "/v1/traces", {"Content-Type": "Application/X-Protobuf"}, next(good), 200),
        ("POST", "/v1/traces", proto | {"Content-Encoding": "gzip"}, gzip.compress(next(good)), 200),
        ("POST", "/v1/traces", proto | {"Content-Encoding": "zstd"}, zstandard.compress(next(good)), 200),
        ("POST", "/v1/traces", proto | {"Content-Encoding": "identity"}, next(good), None),
        ("POST", "/v1/traces", proto, b"", 200),
        ("POST", "/v1/logs", proto, b"", 404),
        ("POST", "/v1/metrics", proto, b"", 404),
        ("POST", "/v1/traces/more", proto, b"", 404),
        ("GET", "/", {}, None, 404),
        ("GET", "/v1/traces", {}, None, 405),
        ("PUT", "/v1/traces", proto, b"", 405),
        ("DELETE", "/v1/traces", {}, None, 405),
        ("POST", "/v1/traces", {}, b"x", 415),
        ("POST", "/v1/traces", {"Content-Type": "text/plain"}, b"x", 415),
        ("POST", "/v1/traces", {"Content-Type": "application/grpc"}, b"x", 415),
        ("POST", "/v1/traces", proto, b"\xff\xff\xff", 400),
        ("POST", "/v1/traces", proto, made.requests[0][:-1], 400),
        ("POST", "/v1/traces", proto | {"Content-Encoding": "br"}, b"x", 400),
        ("POST", "/v1/traces", proto | {"Content-Encoding": "gzip"}, b"no gzip", 400),
        ("POST", "/v1/traces", proto | {"Content-Encoding": "gzip"}, gzip.compress(made.requests[0])[:-9], 400),
        ("POST", "/v1/traces", proto | {"Content-Encoding": "zstd"}, b"no zstd", 400),
        ("POST", "/v1/traces", proto | {"Content-Encoding": "gzip"}, gzip.compress(too_large), 400),
        ("POST", "/v1/traces", proto | {"Content-Encoding": "zstd"}, zstandard.compress(too_large), 400),
        ("POST", "/v1/traces", proto, too_large, 400),
        ("POST", "/v1/traces", proto, next(good), 200),
    ]
    with running(max_request_body_size=BODY_BYTES_MAX) as (gateway, arrived), requests.Session() as session:
        taken = 0
        for method, path, headers, body, expected in rows:
            answer = session.request(method, gateway.http + path, headers=headers, data=body, timeout=20)
            row = f"{method} {path} {headers} with {len(body or b'')} bytes"
            # An identity encoding is an unknown one for the Collector and a known one for RFC 9110; both are right.
            require_equal(answer.status_code, expected or answer.status_code, row)
            taken += answer.status_code == 200 and bool(body)
            check_body(row, answer)
        require(taken in (6, 7), f"{taken} requests taken")
        arrived(made if taken == 7 else load.Made(made.requests, dict(list(made.fates.items())[:6])))
        rejected = gateway.metrics().total("otelcol_receiver_rejected_requests", transport="http")
        require(rejected >= 9, f"{rejected} rejected requests counted")


def check_body(row, answer):
    """Protobuf for 200 and 400, the status message in the latter; a readable line for the others."""
    kind = answer.headers.get("Content-Type", "")
    if answer.status_code == 200:
        require_equal((kind, answer.content), (PROTOBUF, b""), row)
    elif answer.status_code == 400:
        require_equal(kind, PROTOBUF, row)
        status = status_pb2.Status.FromString(answer.content)
        require_equal(status.code, INVALID_ARGUMENT, row)
        require(status.message, f"{row}: a status without a message")
    else:
        require(kind.startswith("text/plain"), f"{row}: content type {kind!r}")
        require(answer.content, f"{row}: an empty body")


def it_takes_chunked_bodies_and_waits_for_continue():
    """Bodies without a length, and clients that ask before they send."""
    made = load.make(traces=3, spans_per_request=8, seed=2)
    with running() as (gateway, arrived), requests.Session() as session:
        chunks = (made.requests[0][start : start + 100] for start in range(0, len(made.requests[0]), 100))
        answer = session.post(f"{gateway.http}/v1/traces", data=chunks, headers={"Content-Type": PROTOBUF}, timeout=20)
        require_equal(answer.status_code, 200, "a chunked body")
        expect_continue(gateway, made.requests[1])
        one_byte_at_a_time(gateway, made.requests[2])
        arrived(made)


def expect_continue(gateway, body):
    """curl does this with bodies of a megabyte."""
    with socket.create_connection(("127.0.0.1", gateway.http_port), timeout=20) as connection:
        head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        require(connection.recv(100).startswith(b"HTTP/1.1 100 "), "100 Continue")
        connection.sendall(body)
        require(connection.recv(1000).startswith(b"HTTP/1.1 200 "), "200 after the body")


def one_byte_at_a_time(gateway, body):
    """A slow client."""
    with socket.create_connection(("127.0.0.1", gateway.http_port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\nContent-Length: {len(body)}\r\n\r\n"
        for byte in head.encode() + body:
            connection.sendall(bytes([byte]))
        require(connection.recv(1000).startswith(b"HTTP/1.1 200 "), "200 for a body in single bytes")


def it_serves_another_path_where_configured():
    """`traces_url_path`."""
    made = load.make(traces=1, spans_per_request=8, seed=3)
    with running(traces_url_path="/otlp/in") as (gateway, arrived):
        client = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=20)
        for path, expected in (("/v1/traces", 404), ("/otlp/in", 200)):
            client.request("POST", path, made.requests[0], {"Content-Type": PROTOBUF})
            answer = client.getresponse()
            answer.read()
            require_equal(answer.status, expected, path)
        client.close()
        arrived(made)
