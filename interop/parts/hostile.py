"""Peers that nobody invites: HTTP/2 frames and HTTP/1.1 bytes exactly as told, with no state machine that would object.

The idea: an attack is bytes. What follows is read until the gateway closes, and the last GOAWAY says why. A bystander
sends honest requests all the while, and each of them must be taken.
"""

import socket
import struct
import threading

from parts.load import RawClient
from parts.outcome import require
from parts.sinks import EXPORT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 0x1, 0x4
NO_ERROR, ENHANCE_YOUR_CALM, CANCEL = 0, 11, 8
# Stalled peers get 30 to 40 s, and a machine under load is slow.
CLOSE_SECONDS = 120


def frame(kind, flags=0, stream=0, payload=b""):
    """One frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def fields(*pairs):
    """HPACK without its tables: literal names and values below 127 bytes."""
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs)


def call(stream, more=b"", flags=END_HEADERS):
    """The headers of an export call."""
    pairs = fields((b":method", b"POST"), (b":scheme", b"http"), (b":path", EXPORT.encode()),
                   (b"content-type", b"application/grpc"))
    return frame(HEADERS, flags, stream, pairs + more)


def hello(settings=b""):
    """What a client says first; `settings` as pairs of a number and a value, packed."""
    return PREFACE + frame(SETTINGS, payload=settings)


class Hostile:
    """One connection; a context manager. Sending goes on until the gateway has had enough."""

    def __init__(self, port, receive_bytes=None):
        """`receive_bytes`: a small receive buffer, for a peer that does not read."""
        self._socket = socket.socket()
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(CLOSE_SECONDS)
        self._socket.connect(("127.0.0.1", port))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, data):
        """Sends all of it; False: the gateway has closed."""
        try:
            self._socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def send_what_fits(self, data):
        """Sends without waiting; returns how many bytes were taken, None when the gateway has closed."""
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            return None

    def read_to_end(self):
        """Everything until the gateway closes, which it must."""
        received = bytearray()
        try:
            while part := self._socket.recv(1 << 16):
                received += part
        except ConnectionResetError:
            pass
        return bytes(received)

    def wait_for(self, kind):
        """Reads until a whole frame of this kind has come; returns what was read."""
        received = bytearray()
        while not any(found == kind for found, *_ in frames(received)):
            more = self._socket.recv(1 << 16)
            require(more, f"closed before a frame of kind {kind}: {bytes(received)!r}")
            received += more
        return bytes(received)

    def wait_for_or_end(self, part):
        """Reads until `part` has come or the gateway has closed; returns what was read."""
        received = bytearray()
        try:
            while part not in received and (more := self._socket.recv(1 << 16)):
                received += more
        except ConnectionResetError:
            pass
        return bytes(received)


def frames(received):
    """(kind, flags, stream, payload) of every whole frame."""
    position, found = 0, []
    while position + 9 <= len(received):
        length = int.from_bytes(received[position : position + 3], "big")
        kind, flags, stream = struct.unpack(">BBI", received[position + 3 : position + 9])
        payload = received[position + 9 : position + 9 + length]
        position += 9 + length
        if position <= len(received):
            found.append((kind, flags, stream, payload))
    return found


def goaway(received):
    """(code, words) of the last GOAWAY, or None."""
    last = [payload for kind, _, _, payload in frames(received) if kind == GOAWAY][-1:]
    return (int.from_bytes(last[0][4:8], "big"), last[0][8:].decode()) if last else None


class Bystander:
    """An honest client in a thread of its own; at the end every one of its requests must have been taken."""

    def __init__(self, gateway, request):
        self.taken = 0
        self._fault = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(gateway.grpc, request), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stop.set()
        self._thread.join(CLOSE_SECONDS)
        if kind is None:
            require(self._fault is None, f"an honest request was not taken: {self._fault}")
            require(self.taken > 0, "no honest request was sent")

    def _send(self, endpoint, request):
        try:
            with RawClient(endpoint) as client:
                while not self._stop.is_set():
                    client.export(request)
                    self.taken += 1
        except Exception as fault:  # told at the end
            self._fault = fault
