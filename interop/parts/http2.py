"""gRPC by hand on the PyPI package h2: what C-core will not do.

C-core neither speaks zstd nor lets a caller choose a wrong `grpc-encoding`, a path or a content type. Here every frame
is ours, and the HTTP/2 state machine is somebody else's. Blocking sockets, one thread per connection.
"""

import base64
import gzip
import socket
import struct
import threading
import time
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.settings
import zstandard

from parts.ports import free_port
from parts.sinks import EXPORT, Kept, Request, plain, rich_status
from parts.outcome import Failed, require

READ_BYTES = 1 << 16
CODES = {"UNAVAILABLE": 14, "RESOURCE_EXHAUSTED": 8, "INVALID_ARGUMENT": 3, "INTERNAL": 13}


class Http2Sink(Kept):
    """OTLP/gRPC that takes identity, gzip and zstd, and remembers which was used."""

    def __init__(self, answer=None):
        super().__init__(answer)
        self.port = free_port()
        self._listener = None

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        # A blocked accept is woken by a shutdown, not by a close.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def endpoint(self):
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def _accept(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        streams = {}
        try:
            with peer:
                peer.sendall(connection.data_to_send())
                while received := peer.recv(READ_BYTES):
                    for event in connection.receive_data(received):
                        self._take(connection, streams, event)
                    peer.sendall(connection.data_to_send())
        except Exception as fault:  # told by the next wait
            self.faults.append(repr(fault))

    def _take(self, connection, streams, event):
        if isinstance(event, h2.events.RequestReceived):
            streams[event.stream_id] = (dict(event.headers), bytearray())
        elif isinstance(event, h2.events.DataReceived):
            streams[event.stream_id][1].extend(event.data)
            connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            headers, body = streams.pop(event.stream_id)
            self._reply(connection, event.stream_id, headers, bytes(body))

    def _reply(self, connection, stream, headers, body):
        encoding = headers.get("grpc-encoding", "identity")
        compressed, length = struct.unpack(">BI", body[:5])
        require(length == len(body) - 5, "one message in one call")
        require(headers[":path"] == EXPORT, f"path {headers[':path']}")
        message = plain(body[5:], encoding if compressed else "")
        refusal = self.judge(Request(message, encoding if compressed else "identity", headers, time.monotonic()))
        head = [(":status", "200"), ("content-type", "application/grpc")]
        connection.send_headers(stream, head)
        if refusal is None:
            connection.send_data(stream, struct.pack(">BI", 0, 0))
            trailers = [("grpc-status", "0")]
        else:
            trailers = [("grpc-status", str(CODES[refusal.code])), ("grpc-message", refusal.code)]
            trailers.append(("grpc-status-details-bin", base64_unpadded(rich_status(refusal))))
        connection.send_headers(stream, trailers, end_stream=True)


def base64_unpadded(value):
    """The text of a `-bin` header."""
    return base64.b64encode(value).decode().rstrip("=")


class Answer(NamedTuple):
    """What a hand-made call got back; `headers` include trailers."""

    headers: dict
    body: bytes

    @property
    def grpc_status(self):
        """The gRPC code, or None."""
        return int(self.headers["grpc-status"]) if "grpc-status" in self.headers else None


class Http2Client:
    """One connection that sends exactly what it is told."""

    def __init__(self, port, settings=None):
        """`settings` are h2 SETTINGS sent first, e.g. a small INITIAL_WINDOW_SIZE."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._connection.initiate_connection()
        if settings:
            self._connection.update_settings(settings)
        self._flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def export(self, message, encoding=None, compressed=None, path=EXPORT, content_type="application/grpc", more=()):
        """One unary call with a ready (already compressed) message; `compressed` defaults to whether there is an
        encoding. Frames are cut to what the peer's window and frame size allow."""
        flag = bool(encoding) if compressed is None else compressed
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", content_type),
            ("te", "trailers"),
            *([("grpc-encoding", encoding)] if encoding else []),
            *more,
        ]
        return self.call(headers, struct.pack(">BI", flag, len(message)) + message)

    def call(self, headers, body):
        """One request of any kind."""
        stream = self._connection.get_next_available_stream_id()
        self._connection.send_headers(stream, headers)
        gathered, received = {}, bytearray()
        position, ended = 0, False
        while not ended:
            position = self._send_some(stream, body, position)
            chunk = self._socket.recv(READ_BYTES)
            if not chunk:
                raise Failed(f"the connection was closed before an answer; so far {gathered}")
            for event in self._connection.receive_data(chunk):
                if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                    gathered.update(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    received.extend(event.data)
                    self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                    ended = True
                    if isinstance(event, h2.events.StreamReset):
                        gathered.setdefault("reset", str(event.error_code))
                elif isinstance(event, h2.events.ConnectionTerminated):
                    raise Failed(f"GOAWAY {event.error_code} {event.additional_data}; so far {gathered}")
            self._flush()
        return Answer(gathered, bytes(received))

    def ping(self):
        """One PING; returns when its ACK has come."""
        self._connection.ping(b"interop!")
        self._flush()
        answered = False
        while not answered:
            chunk = self._socket.recv(READ_BYTES)
            require(chunk, "the connection was closed instead of a PING's ACK")
            events = self._connection.receive_data(chunk)
            answered = any(isinstance(event, h2.events.PingAckReceived) for event in events)
            gone = [event for event in events if isinstance(event, h2.events.ConnectionTerminated)]
            require(not gone, f"GOAWAY instead of a PING's ACK: {gone}")
        self._flush()

    def begin_and_vanish(self, headers, body, cut):
        """Sends the first `cut` bytes of what a call would send, and closes the connection."""
        stream = self._connection.get_next_available_stream_id()
        self._connection.send_headers(stream, headers)
        self._connection.send_data(stream, body[:16_000])
        self._socket.sendall(self._connection.data_to_send()[:cut])
        self._socket.close()

    def _send_some(self, stream, body, position):
        """Sends what flow control allows; ends the stream with the last byte. Returns the new position."""
        while position < len(body):
            room = min(
                self._connection.local_flow_control_window(stream), self._connection.max_outbound_frame_size
            )
            if room <= 0:
                break
            part = body[position : position + room]
            position += len(part)
            self._connection.send_data(stream, part, end_stream=position == len(body))
        self._flush()
        return position

    def _flush(self):
        self._socket.sendall(self._connection.data_to_send())


def compress(message, encoding):
    """A message in one encoding, by libraries that are not the gateway's."""
    if encoding == "gzip":
        return gzip.compress(message)
    if encoding == "zstd":
        return zstandard.ZstdCompressor().compress(message)
    return message
