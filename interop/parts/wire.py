"""Protobuf bytes, read and written without any schema.

The idea: a generated class may hide a field it does not know, so what must arrive unchanged is compared as bytes. A
request is taken apart only as far as its children's tags; every other byte belongs to an envelope.
"""

from collections import Counter
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# Field numbers of opentelemetry/proto/collector/trace/v1 and trace/v1.
REQUEST_RESOURCE_SPANS = 1
RESOURCE_SPANS_SCOPE_SPANS = 2
SCOPE_SPANS_SPANS = 2


def varint(number):
    """`number` as a base-128 varint; negative numbers take ten bytes, as in protobuf."""
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def field(number, wire_type, payload):
    """One field with its tag. `payload` is an integer for VARINT, bytes otherwise."""
    tag = varint(number << 3 | wire_type)
    if wire_type == VARINT:
        return tag + varint(payload)
    if wire_type == BYTES:
        return tag + varint(len(payload)) + payload
    return tag + payload


def message(number, *fields):
    """A nested message (or string, or bytes) made of the given encoded parts."""
    return field(number, BYTES, b"".join(fields))


class Field(NamedTuple):
    """A field as found: its number, its payload (nested bytes only), and all its bytes with tag and length."""

    number: int
    payload: bytes
    whole: bytes


def fields(encoded):
    """The fields of one message, in order. Raises ValueError on bytes that are no message."""
    position = 0
    found = []
    while position < len(encoded):
        start = position
        tag, position = _read_varint(encoded, position)
        payload = b""
        kind = tag & 7
        if kind == VARINT:
            _, position = _read_varint(encoded, position)
        elif kind == FIXED64:
            position += 8
        elif kind == FIXED32:
            position += 4
        elif kind == BYTES:
            length, position = _read_varint(encoded, position)
            payload = encoded[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {kind} at byte {start}")
        if position > len(encoded):
            raise ValueError(f"field at byte {start} goes past the end")
        found.append(Field(tag >> 3, payload, encoded[start:position]))
    return found


def _read_varint(encoded, position):
    number = shift = 0
    while True:
        if position >= len(encoded) or shift > 63:
            raise ValueError(f"no varint at byte {position}")
        byte = encoded[position]
        number |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return number, position


class SpanBytes(NamedTuple):
    """A span with the bytes of everything it lies in."""

    resource_envelope: bytes
    scope_envelope: bytes
    span: bytes


def spans(request):
    """Counts every span of an export request together with its envelopes, all as bytes."""
    found = Counter()
    for group in fields(request):
        if group.number != REQUEST_RESOURCE_SPANS:
            continue
        resource_envelope, scopes = _split(group.payload, RESOURCE_SPANS_SCOPE_SPANS)
        for scope in scopes:
            scope_envelope, children = _split(scope, SCOPE_SPANS_SPANS)
            for span in children:
                found[SpanBytes(resource_envelope, scope_envelope, span)] += 1
    return found


def _split(encoded, child):
    """All bytes of a message except its children numbered `child`, and those children's payloads."""
    parts = fields(encoded)
    envelope = b"".join(part.whole for part in parts if part.number != child)
    return envelope, [part.payload for part in parts if part.number == child]
