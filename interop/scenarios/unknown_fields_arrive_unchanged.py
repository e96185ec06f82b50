"""What a newer schema may add, at every level, leaves byte for byte as it came; so does text that is not UTF-8.

Requests are written without a schema and compared without one: the envelopes of resource and scope and the span itself,
as bytes. Unknown fields of the request message itself belong to no span and are not promised to anybody.
"""

from contextlib import ExitStack

import requests

from parts import wire
from parts.gateway import Gateway, tail_sampling
from parts.load import RawClient
from parts.outcome import Failed, require, require_equal
from parts.sinks import GrpcSink, HttpSink
from parts.wire import BYTES, FIXED32, FIXED64, VARINT, field, message

START = 1_700_000_000_000_000_000
# Of each wire type, with small, large and largest field numbers.
UNKNOWN = (field(200, VARINT, 7) + field(201, BYTES, b"later \xff\x00") + field(202, FIXED64, b"12345678")
           + field(203, FIXED32, b"1234") + field(536_870_911, BYTES, b"\x08\x96\x01") + field(204, BYTES, b""))


def it_passes_unknown_fields_at_every_level():
    """Through batch, and through tail sampling."""
    check(lambda number: request(number, UNKNOWN, b"plain text"))


def it_passes_text_that_is_not_utf_8():
    """In names, keys, values and messages."""
    check(lambda number: request(number, b"", b"caf\xe9 \xf0\x28\x8c\x28 \xed\xa0\x80 \x00"))


def it_passes_fields_in_an_unusual_order_and_padded_lengths():
    """Span fields back to front, a known field twice, and a length written in more bytes than needed."""
    check(unusual)


def check(make):
    """Sends each request over gRPC and HTTP through both kinds of pipelines; compares bytes at both exporters."""
    for processors in ({"batch": {"timeout": "50ms"}}, {"tail_sampling": tail_sampling(100), "batch": {"timeout": "50ms"}}):
        with ExitStack() as stack:
            over_grpc, over_http = stack.enter_context(GrpcSink()), stack.enter_context(HttpSink())
            exporters = {"otlp": {"endpoint": over_grpc.endpoint, "tls": {"insecure": True}},
                         "otlphttp": {"endpoint": over_http.endpoint}}
            gateway = stack.enter_context(Gateway(exporters, processors))
            sent = [make(number) for number in range(4)]
            with RawClient(gateway.grpc) as client:
                for encoded in sent[:2]:
                    client.export(encoded)
            for encoded in sent[2:]:
                post(gateway, encoded)
            expected = sum((wire.spans(encoded) for encoded in sent), start=wire.Counter())
            for sink in (over_grpc, over_http):
                sink.wait(lambda sink=sink: raw_spans(sink).total() >= expected.total(), "all spans")
            gateway.stop()
            for sink in (over_grpc, over_http):
                require_same_bytes(raw_spans(sink), expected)


def raw_spans(sink):
    """Every span that the sink took, as bytes."""
    return sum((wire.spans(request.body) for request in list(sink.taken)), start=wire.Counter())


def require_same_bytes(arrived, expected):
    """Fails with the first span whose bytes differ."""
    if arrived == expected:
        return
    missing, surplus = expected - arrived, arrived - expected
    shown = "\n".join(f"{name} {part.hex()}" for name, found in (("sent", missing), ("came", surplus))
                      for entry in list(found)[:1] for part in entry)
    raise Failed(f"{missing.total()} of {expected.total()} spans changed their bytes:\n{shown}")


def post(gateway, encoded):
    """Sends over HTTP; the answer must be an empty response."""
    answer = requests.post(f"{gateway.http}/v1/traces", data=encoded, headers={"Content-Type": "application/x-protobuf"},
                           timeout=20)
    require_equal((answer.status_code, answer.content), (200, b""), "answer")
    require(answer.headers["Content-Type"] == "application/x-protobuf", answer.headers["Content-Type"])


def attribute(key, text, unknown):
    """KeyValue with unknown fields in it and in its AnyValue, and one with an AnyValue of an unknown kind."""
    known = message(1, key) + message(2, message(1, text), unknown) + unknown
    return known, message(1, b"kind from later") + message(2, field(99, BYTES, b"x"))


def request(number, unknown, text):
    """Two resources, two scopes each, two spans each, with `unknown` added to each message."""
    return b"".join(resource_spans(number * 2 + half, unknown, text) for half in range(2))


def resource_spans(number, unknown, text):
    known, later = attribute(b"service.name", text + str(number).encode(), unknown)
    resource = message(1, message(1, known), message(1, later), field(2, VARINT, 3), unknown)
    scopes = [scope_spans(number * 2 + half, unknown, text) for half in range(2)]
    return message(1, resource, *scopes, message(3, b"https://example.test/" + text), unknown)


def scope_spans(number, unknown, text):
    known, later = attribute(b"team", text, unknown)
    scope = message(1, message(1, b"library " + text), message(2, b"1.0"), message(3, known), message(3, later), unknown)
    spans = [message(2, span(number * 2 + half, unknown, text)) for half in range(2)]
    return message(2, scope, *spans, message(3, b"https://example.test/scope"), unknown)


def span(number, unknown, text):
    known, later = attribute(b"key " + text, text, unknown)
    event = message(11, field(1, FIXED64, nanoseconds(5)), message(2, text), message(3, known), message(3, later), unknown)
    link = message(13, message(1, b"T" * 16), message(2, b"S" * 8), message(3, b"a=b"), message(4, known), unknown)
    status = message(15, message(2, text), field(3, VARINT, 1), unknown)
    return b"".join([
        message(1, trace_id(number)), message(2, number.to_bytes(8, "big")), message(3, b"a=b"), message(4, b"P" * 8),
        message(5, text), field(6, VARINT, 2), field(7, FIXED64, nanoseconds(0)), field(8, FIXED64, nanoseconds(9)),
        message(9, known), message(9, later), field(10, VARINT, 4), event, field(12, VARINT, 1), link,
        field(14, VARINT, 1), status, field(16, FIXED32, b"\x01\x03\x00\x00"), unknown,
    ])


def unusual(number):
    """A valid message that no generated code would write."""
    tags = [field(16, FIXED32, b"\x01\x00\x00\x00"), message(15, field(3, VARINT, 2)), field(8, FIXED64, nanoseconds(9)),
            field(7, FIXED64, nanoseconds(0)), message(5, b"first name"), message(5, b"second name"),
            message(2, (number + 1).to_bytes(8, "big")), message(1, b"\xaa" * 16), message(1, trace_id(number))]
    encoded = b"".join(tags)
    padded = wire.varint(2 << 3 | BYTES) + bytes([len(encoded) & 0x7F | 0x80, len(encoded) >> 7 | 0x80, 0]) + encoded
    # The schema's order is resource, scopes, schema_url; here it is turned around.
    return message(1, message(3, b"https://example.test/"), message(2, padded), message(1, message(1, message(1, b"k"))))


def trace_id(number):
    return b"unknown " + number.to_bytes(8, "big")


def nanoseconds(milliseconds):
    return (START + milliseconds * 1_000_000).to_bytes(8, "little")
