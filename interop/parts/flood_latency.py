"""How long calls of an honest client take beside each attack of docs/security.md, and without it, in one run.

Run by hand, since it measures time: TG=target/release/tracegate python3 interop/parts/flood_latency.py io_uring [WORD ...]

The idea: quiet and attacked seconds take turns, so that whatever else the machine does is in both. The gateway is on core 0,
client and attacker on core 1, each a process of its own. The first two run before all others where that is allowed (as
root), so that what a call waits for is the gateway, and not its turn on a core. The attacker repeats its attack without a pause,
on a new connection whenever the gateway has closed one. WORD: only attacks with this in their name. Needs no package.
"""

import contextlib
import gzip
import itertools
import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib

GRPC, HTTP, METRICS = 14417, 14418, 18988
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EXPORT = b"/opentelemetry.proto.collector.trace.v1.TraceService/Export"
ROUNDS, SECONDS = 4, 1.5
BURST = 20_000
BOMB_BYTES = 512 << 20
SLOW_CONNECTIONS = 300


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def fields(*pairs):
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs)


def call(stream, more=b"", flags=END_HEADERS, encoding=None):
    pairs = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", EXPORT), (b"content-type", b"application/grpc")]
    pairs += [(b"grpc-encoding", encoding)] if encoding else []
    return frame(HEADERS, flags, stream, fields(*pairs) + more)


def hello():
    """No window of the peer's ever stops us: what is measured is its work."""
    return PREFACE + frame(SETTINGS) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))


def message(stream, body, compressed=0):
    whole, out = struct.pack(">BI", compressed, len(body)) + body, b""
    for start in range(0, len(whole), 16_384):
        part = whole[start : start + 16_384]
        out += frame(DATA, END_STREAM if start + len(part) == len(whole) else 0, stream, part)
    return out


def field(number, payload):
    length, size = b"", len(payload)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


def request(spans):
    """An export request of spans with ids, name, times and an attribute."""
    made = b""
    for number in range(spans):
        times = b"\x39" + struct.pack("<Q", 1 << 60) + b"\x41" + struct.pack("<Q", (1 << 60) + 5_000_000)
        attribute = field(9, field(1, b"padding") + field(2, field(1, b"x" * 100)))
        made += field(2, field(1, os.urandom(16)) + field(2, os.urandom(8)) + field(5, b"operation %d" % number) + times + attribute)
    resource = field(1, field(1, field(1, b"service.name") + field(2, field(1, b"honest"))))
    return field(1, resource + field(2, made))


class Peer:
    """A connection that says what it is told to, until the gateway has had enough."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send_and_forget(self, data):
        """Sends it all, and reads what has come, so that closing is seen as closing."""
        try:
            self.socket.sendall(data)
            while self.socket.recv(1 << 16, socket.MSG_DONTWAIT):
                pass
            return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self):
        self.socket.close()


def honest_calls(seconds, client, body):
    """Milliseconds that each call took, one after the other."""
    peer, streams = client
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        stream = next(streams)
        begun = time.perf_counter()
        peer.sendall(call(stream) + message(stream, body))
        read = b""
        while not answered(read, stream):
            more = peer.recv(1 << 16)
            if not more:
                raise SystemExit("the honest client was closed")
            read += more
        took.append((time.perf_counter() - begun) * 1000)
    return took


def answered(read, stream):
    while len(read) >= 9:
        length = int.from_bytes(read[:3], "big")
        if read[3] == HEADERS and read[4] & END_STREAM and int.from_bytes(read[5:9], "big") == stream:
            return True
        read = read[9 + length :]
    return False


# --- attacks: each makes its bytes, and returns what sends them for ever in a process of its own ---


def bursts(port, data):
    """The same bytes on one connection after the other."""
    def attack():
        while True:
            with contextlib.suppress(OSError):
                peer = Peer(port)
                peer.send_and_forget(data)
                peer.close()

    return attack


def rapid_reset():
    cancel = struct.pack(">I", 8)
    streams = range(1, 2 * BURST, 2)
    return bursts(GRPC, hello() + b"".join(call(stream) + frame(RST_STREAM, 0, stream, cancel) for stream in streams))


def continuation():
    more = fields(*[(b"x", b"y")] * 100)
    return bursts(GRPC, hello() + call(1, flags=0) + frame(CONTINUATION, 0, 1, more) * BURST)


def pings():
    return bursts(GRPC, hello() + frame(PING, payload=b"flooding") * BURST)


def settings():
    return bursts(GRPC, hello() + frame(SETTINGS) * BURST)


def window_updates():
    return bursts(GRPC, hello() + frame(WINDOW_UPDATE, payload=b"\0\0\0\1") * BURST)


def empty_data():
    return bursts(GRPC, hello() + call(1) + frame(DATA, 0, 1) * BURST)


def header_bombs():
    # An entry of 4 kB that one byte repeats: 16 kB of frame would be 60 MB of headers.
    entry = b"\x40\x01x" + b"\x7f" + bytes([0x80 | ((3900 - 127) & 0x7f), (3900 - 127) >> 7]) + b"z" * 3900
    more = entry + b"\xbe" * 12_000
    bomb = call(1, more[:10_000], 0) + frame(CONTINUATION, END_HEADERS, 1, more[10_000:])
    return bursts(GRPC, hello() + bomb)


def header_bombs_of_http1():
    return bursts(HTTP, b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n" + b"x-padding: " + b"y" * 60_000 + b"\r\n\r\n")


def slow_loris():
    """Heads over HTTP/1.1 and frames over HTTP/2, a byte at a time from each."""
    begun = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\nx: "
    half = hello() + call(1) + frame(DATA, 0, 1, bytes(9_999))[:20]
    def attack():
        peers = {}
        for number in itertools.cycle(range(SLOW_CONNECTIONS)):
            peer = peers.get(number)
            if peer is None or not peer.send_and_forget(b"x"):
                with contextlib.suppress(OSError):
                    peers[number] = Peer(HTTP if number % 2 else GRPC)
                    peers[number].send_and_forget(begun if number % 2 else half)

    return attack


def compressed(encoding, body):
    """Calls with this body, one after the other on a connection."""
    def attack():
        while True:
            with contextlib.suppress(OSError):
                peer = Peer(GRPC)
                peer.socket.sendall(hello())
                # What a stream may carry is larger once the gateway's SETTINGS are answered.
                peer.socket.recv(1 << 16)
                peer.socket.sendall(frame(SETTINGS, 1))
                for stream in range(1, 2001, 2):
                    peer.socket.sendall(call(stream, encoding=encoding) + message(stream, body, 1))
                    read = b""
                    while not answered(read, stream):
                        more = peer.socket.recv(1 << 16)
                        if not more:
                            raise OSError
                        read += more

    return attack


def gzip_bombs():
    return compressed(b"gzip", gzip.compress(bytes(BOMB_BYTES), 9))


def zstd_bombs():
    # Blocks that repeat one byte 128 KiB times (RFC 8878, 3.1.1.2), in a frame that does not say its length.
    blocks = BOMB_BYTES >> 17
    block = lambda last: ((1 << 17) << 3 | 1 << 1 | last).to_bytes(3, "little") + b"\0"
    return compressed(b"zstd", b"\x28\xb5\x2f\xfd\x00\x70" + block(0) * (blocks - 1) + block(1))


def snappy_bombs():
    # A framed chunk holds 64 KiB: a literal of one byte and copies of 64 of it.
    plain = 1 << 16
    body = b"\x80\x80\x04" + b"\x00\x00" + b"\xfe\x01\x00" * ((plain - 1) // 64) + bytes([(((plain - 1) % 64) - 1) << 2 | 2, 1, 0])
    crc = crc32c(bytes(plain))
    masked = ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff
    chunk = b"\0" + (len(body) + 4).to_bytes(3, "little") + struct.pack("<I", masked) + body
    return compressed(b"snappy", b"\xff\x06\0\0sNaPpY" + chunk * 100)


def crc32c(data):
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82f63b78 if number & 1 else 0)
        table.append(number)
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xffffffff


def posts(body, kind, encoding=None):
    """Requests over HTTP/1.1, one after the other; who is closed comes again."""
    coded = b"content-encoding: " + encoding + b"\r\n" if encoding else b""
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: " + kind + b"\r\n" + coded
    head += b"content-length: %d\r\n\r\n" % len(body)
    def attack():
        while True:
            with contextlib.suppress(OSError):
                peer = Peer(HTTP)
                while True:
                    peer.socket.sendall(head + body)
                    read = b""
                    while b"\r\n\r\n" not in read:
                        more = peer.socket.recv(1 << 16)
                        if not more:
                            raise OSError
                        read += more

    return attack


def deflate_bombs():
    return posts(zlib.compress(bytes(BOMB_BYTES), 9), b"application/x-protobuf", b"deflate")


def json_depth():
    return posts(b'{"resourceSpans":' + b"[" * (4 << 20), b"application/json")


def json_depth_of_values():
    nested = b'{"arrayValue":{"values":[' * 100_000
    return posts(b'{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":' + nested, b"application/json")


def json_numbers():
    return posts(b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":' + b"9" * (4 << 20) + b"}]}]}]}", b"application/json")


def never_reads():
    """Requests without end whose answers are not read."""
    def attack():
        while True:
            with contextlib.suppress(OSError):
                peer = socket.socket()
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.connect(("127.0.0.1", GRPC))
                peer.settimeout(2)
                peer.sendall(hello())
                for stream in itertools.count(1, 200):
                    peer.sendall(b"".join(call(each) + frame(DATA, END_STREAM, each, bytes(5)) for each in range(stream, stream + 200, 2)))

    return attack


ATTACKS = [rapid_reset, continuation, pings, settings, window_updates, empty_data, header_bombs, header_bombs_of_http1,
           slow_loris, gzip_bombs, zstd_bombs, snappy_bombs, deflate_bombs, json_depth, json_depth_of_values, json_numbers,
           never_reads]


def first(pid):
    """Runs a process before all others, where that is allowed."""
    with contextlib.suppress(PermissionError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(1))


def pin(pid, core):
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {core})


@contextlib.contextmanager
def gateway(runtime):
    configuration = f"""
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{GRPC}'}}, http: {{endpoint: '127.0.0.1:{HTTP}'}}}}}}}}
exporters: {{nop: }}
service:
  engine: {{cores: 1, pin: false, runtime: {runtime}, admin: none}}
  telemetry: {{metrics: {{address: '127.0.0.1:{METRICS}'}}, logs: {{level: error}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}
"""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(configuration)
        file.flush()
        child = subprocess.Popen([os.environ["TG"], "--config", file.name], stderr=subprocess.DEVNULL)
        try:
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", HTTP)).close()
                    break
                time.sleep(0.05)
            pin(child.pid, 0)
            first(child.pid)
            yield child
        finally:
            child.terminate()
            child.wait()


def attacked_by(attack):
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    attack()


def percentile(samples, share):
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) >> 10


def main():
    runtime, words = sys.argv[1], sys.argv[2:]
    body = request(32)
    pin(os.getpid(), 1)
    first(os.getpid())
    print(f"{'attack':24} {'p50 ms':>15} {'p99 ms':>17} {'times':>6} {'calls':>13} {'MiB':>9}")
    with gateway(runtime) as child:
        peer = socket.create_connection(("127.0.0.1", GRPC))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(hello())
        client = peer, itertools.count(1, 2)
        honest_calls(1, client, body)
        for make in ATTACKS:
            if words and not any(word in make.__name__ for word in words):
                continue
            attack = make()
            quiet, attacked, before = [], [], resident_mib(child.pid)
            for _ in range(ROUNDS):
                quiet += honest_calls(SECONDS, client, body)
                attacker = multiprocessing.Process(target=attacked_by, args=(attack,), daemon=True)
                attacker.start()
                honest_calls(0.3, client, body)
                attacked += honest_calls(SECONDS, client, body)
                attacker.kill()
                attacker.join()
                honest_calls(0.3, client, body)
            figures = [percentile(samples, share) for share in (0.5, 0.99) for samples in (quiet, attacked)]
            times = figures[3] / figures[2]
            print(f"{make.__name__:24} {figures[0]:6.2f} ->{figures[1]:6.2f} {figures[2]:7.2f} ->{figures[3]:7.2f} {times:6.1f}"
                  f" {len(quiet):6}{len(attacked):7} {before:4} {resident_mib(child.pid):4}", flush=True)


if __name__ == "__main__":
    main()
