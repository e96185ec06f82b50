"""Backends that keep every byte they are sent: gRPC by grpcio's C-core, HTTP by the standard library.

The idea: a sink never parses on the way in (identity deserialiser, raw bodies), so what it holds is what was on the
wire after decompression, and both the PyPI schema and the schema-less reader can judge it afterwards. A sink can be told
how to answer: an outage or a refusal is a function of the request's number.
"""

import gzip
import http.server
import socket
import threading
import time
from concurrent import futures
from typing import NamedTuple

import grpc
import zstandard
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from parts import spans
from parts.outcome import Failed
from parts.ports import free_port

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
MESSAGE_BYTES_MAX = 64 << 20


class Request(NamedTuple):
    """One export call as it arrived."""

    body: bytes
    encoding: str
    headers: dict
    at: float


class Refusal(NamedTuple):
    """How to answer instead of taking a request: a gRPC code name, and when to come back (None: not said)."""

    code: str
    retry_after_seconds: float | None = None


class Kept:
    """Requests that were taken or refused, shared by all kinds of sinks."""

    def __init__(self, answer=None):
        """`answer(number)` returns a Refusal or None for the request with this number, counted from 0."""
        self._answer = answer or (lambda number: None)
        self._changed = threading.Condition()
        self._span_count = 0
        self.taken = []
        self.refused = []
        self.faults = []

    def judge(self, request):
        """Keeps the request; returns the Refusal it is to be answered with, if any."""
        count = spans.span_count(request.body)
        with self._changed:
            refusal = self._answer(len(self.taken) + len(self.refused))
            (self.taken if refusal is None else self.refused).append(request)
            if refusal is None:
                self._span_count += count
            self._changed.notify_all()
            return refusal

    @property
    def span_count(self):
        """Spans taken so far."""
        return self._span_count

    def spans(self):
        """All taken spans by id, see `spans.by_id`."""
        return spans.by_id(request.body for request in list(self.taken))

    def wait(self, condition, what, seconds=30.0):
        """Waits until `condition()` holds, looking whenever a request has been taken or refused."""
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                raise Failed(f"waited {seconds:.0f} s in vain for {what}; {self._span_count} spans in {len(self.taken)} "
                             f"requests were taken, {len(self.refused)} requests refused, faults of the sink: {self.faults}")

    def wait_for_spans(self, count, seconds=30.0):
        """Waits until at least `count` spans were taken."""
        self.wait(lambda: self._span_count >= count, f"{count} spans at a sink", seconds)


class GrpcSink(Kept):
    """OTLP/gRPC on grpcio's C-core."""

    def __init__(self, answer=None, credentials=None, port=None):
        super().__init__(answer)
        self.port = port or free_port()
        self._credentials = credentials
        self._server = None

    def __enter__(self):
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=options, handlers=[_Handlers(self)])
        address = f"127.0.0.1:{self.port}"
        if self._credentials is None:
            self._server.add_insecure_port(address)
        else:
            self._server.add_secure_port(address, self._credentials)
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(grace=None).wait()

    @property
    def endpoint(self):
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def export(self, body, context):
        """The handler of one call."""
        metadata = {key: value for key, value in context.invocation_metadata()}
        # grpcio hides grpc-encoding from handlers; C-core has undone it before this point.
        refusal = self.judge(Request(body, metadata.get("grpc-encoding", "?"), metadata, time.monotonic()))
        if refusal is not None:
            context.abort_with_status(_RichStatus(refusal))
        return b""


class _Handlers(grpc.GenericRpcHandler):
    """Knows one method; C-core answers UNIMPLEMENTED for all others."""

    def __init__(self, sink):
        self._sink = sink

    def service(self, handler_call_details):
        if handler_call_details.method != EXPORT:
            return None
        return grpc.unary_unary_rpc_method_handler(self._sink.export)


class _RichStatus(grpc.Status):
    """A refusal as a gRPC status with google.rpc details."""

    def __init__(self, refusal):
        self.code = getattr(grpc.StatusCode, refusal.code)
        self.details = f"the sink answers {refusal.code}"
        self.trailing_metadata = (("grpc-status-details-bin", rich_status(refusal)),)


def rich_status(refusal):
    """google.rpc.Status bytes of a refusal, with RetryInfo where it says when to come back."""
    status = status_pb2.Status(code=code_pb2.Code.Value(refusal.code), message=f"the sink answers {refusal.code}")
    if refusal.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(refusal.retry_after_seconds * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status.SerializeToString()


HTTP_CODES = {"UNAVAILABLE": 503, "RESOURCE_EXHAUSTED": 429, "INVALID_ARGUMENT": 400, "INTERNAL": 500}


class HttpSink(Kept):
    """OTLP/HTTP (protobuf) on http.server, with keep-alive."""

    def __init__(self, answer=None, ssl_context=None, port=None):
        super().__init__(answer)
        self.port = port or free_port()
        self._ssl_context = ssl_context
        self._server = None
        self.connections = set()

    def __enter__(self):
        sink = self

        class Handler(_HttpHandler):
            kept = sink

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        if self._ssl_context is not None:
            self._server.socket = self._ssl_context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        # A backend that goes away takes its open connections with it.
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @property
    def endpoint(self):
        """Base URL; the exporter appends /v1/traces."""
        return f"{'https' if self._ssl_context else 'http'}://127.0.0.1:{self.port}"


class _HttpHandler(http.server.BaseHTTPRequestHandler):
    """One connection of an HttpSink."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    kept = None

    def setup(self):
        super().setup()
        self.kept.connections.add(self.request)

    def finish(self):
        self.kept.connections.discard(self.request)
        super().finish()

    def do_POST(self):  # the name is http.server's
        body = self._body()
        encoding = self.headers.get("Content-Encoding", "")
        headers = {key.lower(): value for key, value in self.headers.items()}
        if self.path != "/v1/traces" or headers.get("content-type") != "application/x-protobuf":
            self._answer(404, b"", {})
            return
        refusal = self.kept.judge(Request(plain(body, encoding), encoding, headers, time.monotonic()))
        if refusal is None:
            self._answer(200, b"", {})
            return
        after = {} if refusal.retry_after_seconds is None else {"Retry-After": str(round(refusal.retry_after_seconds))}
        self._answer(HTTP_CODES[refusal.code], rich_status(refusal), after)

    def _body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status, body, headers):
        self.send_response(status)
        for key, value in ({"Content-Type": "application/x-protobuf", "Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


def plain(body, encoding):
    """Undoes a content encoding."""
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    if encoding in ("", "identity"):
        return body
    raise ValueError(f"content encoding {encoding}")
