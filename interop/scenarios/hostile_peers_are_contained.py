"""Attacks of docs/security.md, one after the other: each ends with the documented answer, the gateway's memory stays
where it was, and an honest client on another connection never notices.

Memory is the resident set that the kernel reports, compared with what it was after honest requests of the same kind.
"""

import gzip
import select
import struct
import time
from contextlib import ExitStack, contextmanager

import zstandard

from parts import load
from parts.gateway import Gateway
from parts.hostile import (CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING, PREFACE,
                           RST_STREAM, SETTINGS, WINDOW_UPDATE, Bystander, Hostile, call, fields, frame, frames,
                           goaway, hello)
from parts.http2 import Http2Client
from parts.outcome import poll, require, require_equal

MIB = 1 << 20
# What one attack may add: a burst's buffers, which go back within a minute.
GROWTH_BYTES_MAX = 48 * MIB
IDLE_CONNECTIONS = 10_000
IDLE_BYTES_MAX = 60 * MIB
FLOOD_FRAMES = 20_000


@contextmanager
def running(**settings):
    """A gateway that throws away what it takes, with an honest client; its memory is checked at the end."""
    request = load.make(traces=4, spans_per_request=32, seed=1).requests[0]
    with Gateway({"nop": {}}, **settings) as gateway:
        with Bystander(gateway, request) as bystander:
            poll(lambda: bystander.taken > 50, "honest requests before the attack")
            before = gateway.resident_bytes()
            yield gateway
            after = gateway.resident_bytes()
            taken = bystander.taken
            poll(lambda: bystander.taken > taken + 50, "honest requests after the attack")
        require(after - before < GROWTH_BYTES_MAX, f"memory grew from {before >> 20} to {after >> 20} MiB")
        gateway.stop()


def ends(gateway, data, words=None, code=ENHANCE_YOUR_CALM):
    """Sends `data` after the usual beginning; the gateway must close with this GOAWAY."""
    with Hostile(gateway.grpc_port) as peer:
        peer.send(hello() + data)
        answer = goaway(peer.read_to_end())
        require(answer is not None, f"closed without GOAWAY; expected {code} {words}")
        require_equal(answer[0], code, f"error code of GOAWAY ({answer[1]})")
        if words is not None:
            require_equal(answer[1], words, "words of GOAWAY")


def it_ends_rapid_reset():
    """Calls that are opened and reset at once (CVE-2023-44487)."""
    with running() as gateway:
        resets = (call(2 * number + 1) + frame(RST_STREAM, 0, 2 * number + 1, struct.pack(">I", CANCEL))
                  for number in range(FLOOD_FRAMES))
        ends(gateway, b"".join(resets))


def it_ends_a_flood_of_continuation():
    """A list of headers without an end (CVE-2024-27316)."""
    with running() as gateway:
        more = fields(*[(b"x", b"y")] * 100)
        ends(gateway, call(1, flags=0) + frame(CONTINUATION, 0, 1, more) * FLOOD_FRAMES)


def it_ends_floods_of_frames_that_carry_nothing():
    """PING, SETTINGS, WINDOW_UPDATE and kinds that nobody knows."""
    with running() as gateway:
        for attack in (frame(PING, payload=b"flooding"), frame(SETTINGS), frame(WINDOW_UPDATE, payload=b"\0\0\0\1"),
                       frame(200)):
            ends(gateway, attack * FLOOD_FRAMES, "too_many_control_frames")
        ends(gateway, call(1) + frame(DATA, 0, 1) * FLOOD_FRAMES)


def it_refuses_header_bombs():
    """Headers beyond 16 KiB, in one frame and by repeating one entry of HPACK's table: the call fails, not the connection."""
    with running() as gateway:
        big = fields(*[(b"x-padding-%03d" % number, b"y" * 100) for number in range(150)])
        # An entry of 4 kB that one byte repeats: 16 kB of frame would be 60 MB of headers.
        entry = b"\x40\x01x" + b"\x7f" + bytes([0x80 | ((3900 - 127) & 0x7f), (3900 - 127) >> 7]) + b"z" * 3900
        for more in (big, entry + b"\xbe" * 12_000):
            with Hostile(gateway.grpc_port) as peer:
                peer.send(hello() + call(1, more[:10_000], 0) + frame(CONTINUATION, END_HEADERS, 1, more[10_000:])
                          + frame(PING, payload=b"are you?"))
                received = peer.wait_for_or_end(b"are you?")
                gone = goaway(received)
                answered = any(kind in (HEADERS, RST_STREAM) and stream == 1 for kind, _, stream, _ in frames(received))
                require(answered or gone, "a header bomb was neither refused nor ended")


def it_enforces_the_ping_policy_in_the_collectors_words():
    """`keepalive.enforcement_policy`; clients of gRPC understand `too_many_pings` and double their interval."""
    policy = {"enforcement_policy": {"min_time": "1h", "permit_without_stream": True}}
    with running(grpc={"keepalive": policy}) as gateway:
        ends(gateway, frame(PING, payload=b"keepaliv") * 4, "too_many_pings")
        with Http2Client(gateway.grpc_port) as client:
            for _ in range(3):
                client.ping()


def it_gives_up_peers_that_stall():
    """All at once, since each gets half a minute: silence, half a frame, bodies and heads that dribble or stop, windows that
    stay closed, answers that are never read."""
    post = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 99999\r\n"
    no_window = struct.pack(">HI", 4, 0)
    message = frame(DATA, END_STREAM, 1, bytes(5))
    begun = frame(DATA, 0, 1, struct.pack(">BI", 0, 4 * MIB - 5))
    with running() as gateway, ExitStack() as stack:
        def peer(port, data):
            hostile = stack.enter_context(Hostile(port))
            hostile.send(data)
            return hostile

        grpc, http = gateway.grpc_port, gateway.http_port
        silent = {
            "silence on gRPC": peer(grpc, b""),
            "silence on HTTP": peer(http, b""),
            "half a preface": peer(grpc, PREFACE[:9]),
            "half a frame": peer(grpc, hello() + call(1)[:-1]),
            "half a head": peer(http, post),
            "half a body": peer(http, post + b"\r\nhalf"),
            "a closed window": peer(grpc, hello(no_window) + call(1) + message),
        }
        unread = stack.enter_context(Hostile(grpc, receive_bytes=4096))
        unread.send(hello())
        refused = peer(grpc, hello() + call(1) + begun)
        dribbling = {
            "a head that dribbles": peer(http, b"POST"),
            "a body that dribbles": peer(http, post + b"\r\n"),
            "a frame that dribbles": peer(grpc, hello() + frame(DATA, 0, 1, bytes(99_999))[:20]),
        }
        closed = feed(dribbling, unread)
        require_equal(closed, set(dribbling) | {"answers that are never read"}, "peers that were closed")
        for name, hostile in silent.items():
            received = hostile.read_to_end()
            if name in ("half a frame", "a closed window"):
                require_equal(goaway(received), (ENHANCE_YOUR_CALM, "stalled"), name)
        trailers = refused.wait_for(HEADERS)
        require(goaway(trailers) is None, "one slow message does not end its connection")


def feed(dribbling, unread):
    """Gives each peer a byte now and then until it is closed; `unread` asks as fast as it can and reads nothing. Returns
    the names of those that were closed."""
    closed, stream, deadline = set(), 1, time.monotonic() + 120
    pending = b""
    while len(closed) < len(dribbling) + 1 and time.monotonic() < deadline:
        for name, hostile in dribbling.items():
            if name not in closed and hostile.send_what_fits(b"x") is None:
                closed.add(name)
        if "answers that are never read" not in closed:
            if not pending:
                pending = b"".join(call(stream + 2 * n) + frame(DATA, END_STREAM, stream + 2 * n, bytes(5)) for n in range(100))
                stream += 200
            sent = unread.send_what_fits(pending)
            if sent is None:
                closed.add("answers that are never read")
            else:
                pending = pending[sent:]
        # Waits for nothing in particular: this is how often a byte is given.
        select.select([], [], [], 0.05)
    return closed


def it_refuses_compression_bombs():
    """A gigabyte of zeros in a megabyte, many at once: refused at the limit, in memory of the limit."""
    with running() as gateway, Http2Client(gateway.grpc_port) as client:
        zeros = bytes(64 * MIB)
        bombs = {"gzip": gzip.compress(zeros) * 16, "zstd": zstandard.ZstdCompressor().compress(zeros) * 16}
        for encoding, bomb in bombs.items():
            for _ in range(20):
                require_equal(client.export(bomb, encoding).grpc_status, 8, f"status of a {encoding} bomb")


def it_holds_ten_thousand_connections_that_say_nothing():
    """Half on gRPC, half on HTTP; honest requests pass beside them, and memory is counted."""
    with ExitStack() as stack, Gateway({"nop": {}}) as gateway:
        request = load.make(traces=4, spans_per_request=32, seed=1).requests[0]
        with Bystander(gateway, request) as bystander:
            poll(lambda: bystander.taken > 50, "honest requests before")
            before = gateway.resident_bytes()
            for number in range(IDLE_CONNECTIONS):
                stack.enter_context(Hostile(gateway.grpc_port if number % 2 else gateway.http_port))
            taken = bystander.taken
            poll(lambda: bystander.taken > taken + 50, "honest requests beside them")
            grown = gateway.resident_bytes() - before
        print(f"    {IDLE_CONNECTIONS} connections that say nothing: {grown / MIB:.1f} MiB")
        require(grown <= IDLE_BYTES_MAX, f"{grown / MIB:.1f} MiB for {IDLE_CONNECTIONS} connections")
        gateway.stop()
