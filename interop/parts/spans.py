"""What arrived, span by span, and how it differs from what was sent.

The idea: a span is compared together with its resource and its scope, because batching may regroup spans but must never
change which resource a span belongs to. Comparison is by the deterministic bytes of the parsed messages, so a NaN equals
itself and unknown fields count.
"""

import json
from typing import NamedTuple

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from parts import wire
from parts.outcome import Failed, require


class Arrived(NamedTuple):
    """One span with everything that was said about it; the members are protobuf messages and strings."""

    resource: object
    resource_schema_url: str
    scope: object
    scope_schema_url: str
    span: object

    def encoded(self):
        """Bytes that are equal exactly if every field is."""
        texts = (self.resource_schema_url, self.scope_schema_url)
        messages = (self.resource, self.scope, self.span)
        return tuple(m.SerializeToString(deterministic=True) for m in messages) + texts

    def readable(self):
        """Lines of JSON, for the message of a failed comparison."""
        shown = {
            "resource": json_format.MessageToDict(self.resource),
            "resource_schema_url": self.resource_schema_url,
            "scope": json_format.MessageToDict(self.scope),
            "scope_schema_url": self.scope_schema_url,
            "span": json_format.MessageToDict(self.span),
        }
        return json.dumps(shown, indent=1, sort_keys=True, ensure_ascii=False).splitlines()


def parse(request):
    """An export request from its bytes."""
    return trace_service_pb2.ExportTraceServiceRequest.FromString(request)


def by_id(requests):
    """Every span of the given request bytes by (trace id, span id); a span that arrived twice is a failure."""
    found = {}
    for request in requests:
        for group in parse(request).resource_spans:
            for scope_group in group.scope_spans:
                for span in scope_group.spans:
                    key = (span.trace_id.hex(), span.span_id.hex())
                    require(key not in found, f"span {key} arrived twice")
                    found[key] = Arrived(
                        group.resource, group.schema_url, scope_group.scope, scope_group.schema_url, span
                    )
    return found


def span_count(request):
    """Number of spans in one export request's bytes, which may hold text that generated classes refuse."""
    return wire.spans(request).total()


def trace_ids(arrived):
    """The traces of a `by_id` result."""
    return {trace_id for trace_id, _ in arrived}


def require_same(arrived, expected, where):
    """Fails with the first differing fields unless both `by_id` results hold the same spans, field by field."""
    missing = sorted(expected.keys() - arrived.keys())
    surplus = sorted(arrived.keys() - expected.keys())
    if missing or surplus:
        raise Failed(
            f"{where}: {len(arrived)} spans arrived, {len(expected)} expected; "
            f"{len(missing)} missing {missing[:3]}, {len(surplus)} not expected {surplus[:3]}"
        )
    for key, wanted in expected.items():
        if arrived[key].encoded() != wanted.encoded():
            seen, sent = arrived[key].readable(), wanted.readable()
            changes = [f"- {line}" for line in sent if line not in seen] + [f"+ {line}" for line in seen if line not in sent]
            raise Failed(f"{where}: span {key} changed on its way:\n" + "\n".join(changes[:40] or ["unknown fields"]))
