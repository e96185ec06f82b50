"""The same statements, actions and conditions on the same spans: a real Collector is the second opinion.

Statements and expressions are those of `ottl/tests/cases`, by the hundred: each has a span of its own, and a guard that
names it, so one process of each kind runs them all. What differs is listed here with its reason, and must differ.
"""

import re
from contextlib import ExitStack

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from parts import load, spans
from parts.collector import Collector
from parts.gateway import REPOSITORY, Gateway
from parts.load import send_over_connections
from parts.outcome import Failed, require, require_equal
from parts.sinks import GrpcSink

CASES = REPOSITORY / "ottl/tests/cases"
START = 1_700_000_000_000_000_000
# Another value at each call, or on each connection.
UNREPEATABLE = re.compile(r"\b(Now|UUID|UUIDv7)\(|\botelcol\.")
# Statements that a Collector refuses when it starts.
OURS_ALONE = re.compile(r"\bMask\(")
# Expressions that a Collector refuses when it starts, because it calls functions with constants once then. Here they fail
# where they are evaluated, as they do with values of spans.
REFUSED = {
    '-9223372036854775808',
    '"a" + 1',
    '1 + "a"',
    'nil + 1',
    'true + 1',
    'SEVERITY_NUMBER_ERROR',
    'Bool("maybe")',
    'Double("x")',
    'Int("1.5")',
    'TraceID(0x00)',
    'SpanID("xx01020304050607")',
    'IsBool("true")',
    'IsDouble(1)',
    'IsInCIDR("10.1.2.3", ["10.0.0.0/33"])',
    'Base64Decode("aGVsbG8=")',
    'Base64Decode("!")',
    'ParseKeyValue("k1=\\"v", " ")',
    'SliceToMap([{"n": "a", "v": 1}, {"n": "b", "v": 2}], ["n"], ["v"])',
    'SliceToMap([{"n": "a"}], ["n"])',
    'SliceToMap([{"n": 1}], ["n"])',
}
# Statements whose results differ on purpose; docs/ottl-parity.md says why.
DIFFERENT = {
    # nil: an attribute without a value there, no change here
    'set(attributes["new"], nil)',
    'set(attributes["new"], attributes["missing"])',
    'set(attributes["="], attributes["nested"]["x"]["c"])',
    'set(attributes["="], cache["x"])',
    'set(attributes["="], Bool(attributes["missing"]))',
    'set(attributes["="], String(attributes["missing"]))',
    'set(attributes["="], Coalesce([attributes["missing"]]))',
    # ids as values: without a value there, bytes here; as text: a list of numbers there, digits here
    'set(attributes["="], trace_id)',
    'set(attributes["="], parent_span_id)',
    'set(attributes["="], String(trace_id))',
    'set(attributes["="], TraceID(0x000102030405060708090a0b0c0d0e0f))',
    'set(attributes["="], TraceID("000102030405060708090a0b0c0d0e0f"))',
    'set(attributes["="], SpanID("0001020304050607"))',
    # hashes that fail, or of values that are no text: as they were there, deleted or hashed as text here
    'set(attributes["http.status"], SHA256(attributes["http.status"]))',
    'set(attributes["http.status"], Murmur3Hash128(attributes["http.status"]))',
    'set(attributes["tags"], SHA256(attributes["tags"]))',
    'set(attributes["nested"], SHA256(attributes["nested"]))',
    'set(attributes["raw"], SHA256(attributes["raw"]))',
    'set(attributes["flag"], SHA256(attributes["flag"]))',
    'set(attributes["ratio"], FNV(attributes["ratio"]))',
    'set(attributes["user.email"], SHA256(Substring(attributes["user.email"], 0, 99)))',
    'set(attributes["user.email"], Concat([SHA256(Substring(attributes["user.email"], 0, 99))], ""))',
    'set(attributes["nested"]["a"], SHA256(Substring(attributes["nested"]["a"], 0, 99)))',
    'set(attributes["tags"][0], SHA256(Substring(attributes["tags"][0], 0, 99)))',
    'set(attributes["user.email"], SHA256(attributes["user.email"])) where attributes["ratio"]["x"] == 1',
    'set(name, SHA256(Substring(name, 0, 99)))',
    # verbs that do not fit: a remark in the text there, a failure here
    'set(attributes["="], Format("%d", ["x"]))',
    'set(attributes["="], Format("%d", []))',
    'set(attributes["="], Format("none", [1]))',
    # what a field or an attribute cannot hold: cut or empty there, a failure here
    'set(attributes["t"], [Duration("1s")])',
    'set(kind, -1)',
}


def it_runs_every_statement_of_the_cases():
    """Spans, their resources and scopes after each statement."""
    names = ("editors.txt", "language.txt", "paths.txt", "converters.txt", "masking.txt")
    statements = [statement for name in names for statement in statements_of(CASES / name)]
    require(len(statements) > 300, f"only {len(statements)} statements were found")
    requests = [item(number) for number in range(len(statements))]
    refused = set()
    while True:
        chosen = [guarded(statement, number) for number, statement in enumerate(statements) if number not in refused]
        groups = [{"context": "span", "error_mode": "ignore", "statements": chosen}]
        try:
            theirs, ours = through_both({"transform": {"trace_statements": groups}}, requests)
            break
        except Failed as why:
            now = {number for number, statement in enumerate(statements)
                   if number not in refused and is_named(statement, number, str(why))}
            if not now:
                raise
            refused |= now
    differing = {}
    for number, statement in enumerate(statements):
        key = (trace_id(number).hex(), span_id(number).hex())
        if number not in refused and normal(theirs.get(key)) != normal(ours.get(key)):
            differing[statement] = (normal(theirs.get(key)), normal(ours.get(key)))
    require_equal({statements[number] for number in refused}, {valued(expression) for expression in REFUSED},
                  "statements that the Collector refuses")
    unknown = {statement: both for statement, both in differing.items() if statement not in DIFFERENT}
    shown = "\n".join(f"{statement}\n  theirs {left}\n  ours   {right}" for statement, (left, right) in unknown.items())
    require(not unknown, f"{len(unknown)} of {len(statements)} statements differ:\n{shown}")
    require_equal(DIFFERENT - differing.keys(), set(), "statements that are listed as different and are not")


def it_does_every_action_on_attributes_and_resources():
    """insert, update, upsert, delete, hash, extract and convert, by key and by pattern, with properties."""
    actions = [
        {"action": "insert", "key": "tier", "value": "never"},
        {"action": "insert", "key": "new", "value": 7},
        {"action": "update", "key": "vip", "value": "a text"},
        {"action": "update", "key": "missing", "value": "never"},
        {"action": "upsert", "key": "copied", "from_attribute": "http.status"},
        {"action": "hash", "key": "padding"},
        {"action": "hash", "pattern": "^http"},
        {"action": "extract", "key": "route", "pattern": r"^/(?P<version>v\d+)/(?P<what>\w+)"},
        {"action": "convert", "key": "copied", "converted_type": "string"},
        {"action": "delete", "key": "tier"},
    ]
    require_alike({"attributes": {"actions": actions}})
    properties = {"match_type": "regexp", "services": ["ca.*", "stock"], "span_names": ["[0-5]$"]}
    require_alike({"attributes": {"include": properties, "actions": actions[:2]}})
    require_alike({"attributes": {"exclude": properties, "actions": actions[:2]}})
    of_resource = [{"action": "upsert", "key": "env", "value": "prod"}, {"action": "hash", "key": "service.name"},
                   {"action": "insert", "key": "copy", "from_attribute": "env"}]
    require_alike({"resource": {"attributes": of_resource}})


def it_drops_the_same_spans():
    """Conditions of both forms, and shares by the hash of the trace id and by its randomness."""
    require_alike({"filter": {"traces": {"span": ['attributes["tier"] == "gold"', 'IsMatch(name, "[37]$")']}}})
    require_alike({"filter": {"traces": {"span": ['resource.attributes["service.name"] == "cart"']}}})
    require_alike({"filter": {"traces": {"span": ['attributes["http.status"] > 300 and status.code == STATUS_CODE_ERROR']}}})
    for mode in ("hash_seed", "proportional", "equalizing"):
        for percentage in (1, 25, 60):
            require_alike({"probabilistic_sampler": {"mode": mode, "sampling_percentage": percentage, "fail_closed": False}})


def it_redacts_alike():
    """Keys that may stay, keys and values that are blocked, masks and hashes, with the summary."""
    require_alike({"redaction": {"allow_all_keys": True, "blocked_values": ["v[0-9]+", "list"], "summary": "debug"}})
    require_alike({"redaction": {"allowed_keys": ["tier", "route", "service.name"], "summary": "info"}})
    require_alike({"redaction": {"allow_all_keys": True, "blocked_key_patterns": ["tie.*"], "hash_function": "sha3",
                                 "blocked_values": ["users"], "summary": "silent"}})


# Queries of which both leave the same; docs/differences.md says of which they do not.
QUERIES = [
    ("mysql", "SELECT name FROM users_2024 WHERE id=42 AND name='O''Brien'"),
    ("mysql", "INSERT INTO t VALUES (1, 0xff, NULL, true)"),
    ("MySQL", "SELECT `t1`.`col2` FROM t1"),
    ("mysql", "select 'unclosed"),
    ("postgresql", "SELECT $1 FROM a.b_c WHERE x=$$secret$$ and y=$tag$z$tag$ and w::int=:name"),
    ("postgresql", "update T set j = j->>'key1' where k in (1,2,3)"),
    ("sqlite", "  SELECT   1 ;  "),
    ("redis", "GET"),
    ("memcached", "set key 0 0 5\r\nvalue\r\n"),
    ("mongodb", '{"find": "users", "filter": {"name": "ann", "age": [1, 2, {"x": null}], "e": [], "o": {}}, "n": 1.5}'),
]
URLS = ["https://example.com:8080/users/42?x=1", "/users/fdklsd/j4elk", "/api/v1/orders/ab12cd/items", "/a/b/c/d/e/f/g/h/i/j",
        "/static/app.min.js", "/qwrtzp", "/strengths/xylophon", "/aBcDeFgHiJkL", "/user@example.com", "/abekolim/zuvolati",
        "/v1/k6-test-runs/1", "/Benutzer/fdklsd/Arbeit/2#top", "?"]


def it_cleans_urls_and_queries_alike():
    """In the attributes that are named, and in names of spans."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    spans_of = request.resource_spans.add().scope_spans.add().spans
    for number, (system, query) in enumerate(QUERIES):
        span = spans_of.add(trace_id=trace_id(number), span_id=span_id(number), name=query, kind=3)
        text(span.attributes, "db.system", system)
        text(span.attributes, "db.statement", query)
        text(span.attributes, "other", query)
    for number, url in enumerate(URLS, start=len(QUERIES)):
        span = spans_of.add(trace_id=trace_id(number), span_id=span_id(number), name=f"GET {url}", kind=2)
        text(span.attributes, "http.url", url)
    enabled = {"enabled": True, "attributes": ["db.statement"]}
    processors = {"redaction": {
        "allow_all_keys": True,
        "summary": "debug",
        "url_sanitizer": {"enabled": True, "attributes": ["http.url"]},
        "db_sanitizer": {kind: enabled for kind in ("sql", "redis", "memcached", "mongo")},
    }}
    theirs, ours = through_both(processors, [request.SerializeToString()])
    require_equal(len(theirs), len(QUERIES) + len(URLS), "spans of the Collector")
    for key, arrived in theirs.items():
        left, right = normal(arrived), normal(ours[key])
        require(left == right, f"two results:\n  theirs {left}\n  ours   {right}")


def statements_of(path):
    """Statements of a file of cases that load, and its expressions as statements."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if not line.startswith(("> ", "= ")):
            continue
        behind = []
        for following in lines[number + 1 :]:
            if following.startswith(("> ", "= ", "# ")):
                break
            behind.append(following)
        # A caret shows where a statement that does not load is wrong.
        loads = not any(set(found.strip()) == {"^"} for found in behind)
        statement = line[2:] if line.startswith("> ") else valued(line[2:])
        if loads and not UNREPEATABLE.search(statement) and not OURS_ALONE.search(statement):
            yield statement


def valued(expression):
    """A statement that shows the value of an expression."""
    return f'set(attributes["="], {expression})'


def guarded(statement, number):
    """The statement for the span with this number alone."""
    guard = f'span_id.string == "{span_id(number).hex()}"'
    conditional = re.fullmatch(r"(.*\))\s*where\b\s*(.*)", statement, re.DOTALL)
    return f"{conditional[1]} where {guard} and ({conditional[2]})" if conditional else f"{statement} where {guard}"


def is_named(statement, number, log):
    """Whether a Collector that does not start says that this statement is why: by its guard, or by a place in it."""
    place = re.search(r"at 1:(\d+) near `([^`]*)`", log)
    if place is None or place[2] == "":
        return span_id(number).hex() in log
    return guarded(statement, number)[int(place[1]) - 1 :].startswith(place[2])


def trace_id(number):
    """Sixteen bytes."""
    return bytes([7] * 8) + (number + 1).to_bytes(8, "big")


def span_id(number):
    """Eight bytes."""
    return (number + 1).to_bytes(8, "big")


def item(number):
    """A request with the span that the cases run on."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    group = request.resource_spans.add()
    text(group.resource.attributes, "env", "prod")
    text(group.resource.attributes, "service.name", "shop")
    group.resource.dropped_attributes_count = 1
    scope_spans = group.scope_spans.add()
    scope_spans.scope.name, scope_spans.scope.version = "lib", "1.2"
    text(scope_spans.scope.attributes, "s", "scope")
    span = scope_spans.spans.add(trace_id=trace_id(number), span_id=span_id(number), trace_state="vendor=x,other=y",
                                 name="GET /users/42", kind=2, start_time_unix_nano=START,
                                 end_time_unix_nano=START + 1_500_000_000)
    text(span.attributes, "user.email", "ann@example.com")
    text(span.attributes, "user.phone", "+1 415 555 2671")
    span.attributes.add(key="http.status").value.int_value = 404
    span.attributes.add(key="ratio").value.double_value = 0.5
    span.attributes.add(key="flag").value.bool_value = True
    span.attributes.add(key="raw").value.bytes_value = b"\x00\xff"
    span.attributes.add(key="none").value.SetInParent()
    tags = span.attributes.add(key="tags").value.array_value
    tags.values.add().string_value, tags.values.add().string_value, tags.values.add().int_value = "b", "a", 3
    nested = span.attributes.add(key="nested").value.kvlist_value
    text(nested.values, "a", "one")
    nested.values.add(key="b").value.kvlist_value.values.add(key="c").value.int_value = 2
    event = span.events.add(time_unix_nano=START + 100_000_000, name="exception")
    text(event.attributes, "message", "boom")
    span.status.message, span.status.code = "not found", 2
    return request.SerializeToString()


def text(entries, key, value):
    """Adds an attribute."""
    entries.add(key=key).value.string_value = value


def require_alike(processors):
    """Both do the same to spans of made traces."""
    made = load.make(200, spans_per_request=100, seed=len(str(processors)))
    theirs, ours = through_both(processors, [load.with_attributes(request) for request in made.requests])
    require(theirs.keys() == ours.keys(), f"{processors}: they keep {len(theirs)} spans, we keep {len(ours)}")
    for key, arrived in theirs.items():
        left, right = normal(arrived), normal(ours[key])
        require(left == right, f"{processors} gives two results:\n  theirs {left}\n  ours   {right}")


def through_both(processors, requests):
    """What comes out of a Collector and out of the gateway with these processors, by id."""
    with ExitStack() as stack:
        theirs, ours = stack.enter_context(GrpcSink()), stack.enter_context(GrpcSink())
        collector = stack.enter_context(Collector(exporter_to(theirs), processors))
        gateway = stack.enter_context(Gateway(exporter_to(ours), processors))
        for target in (collector.grpc, gateway.grpc):
            send_over_connections(target, requests, connections=1)
        collector.stop()
        gateway.stop()
        return theirs.spans(), ours.spans()


def exporter_to(sink):
    """The `otlp` exporter towards a sink."""
    return {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}, "sending_queue": {"queue_size": 100_000}}}


def normal(arrived):
    """A span with its resource and scope in an order that says nothing: attributes by their keys, at every level."""
    if arrived is None:
        return None
    messages = []
    for message in (arrived.resource, arrived.scope, arrived.span):
        copy = type(message)()
        copy.CopyFrom(message)
        in_order(copy)
        messages.append(str(copy))
    return tuple(messages) + (arrived.resource_schema_url, arrived.scope_schema_url)


def in_order(message):
    """Sorts lists of attributes in a message and in all it holds; a status that says nothing goes."""
    if "status" in message.DESCRIPTOR.fields_by_name and message.HasField("status") and not message.status.ByteSize():
        message.ClearField("status")
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        # Maps and single messages alike: what is repeated has a length.
        held = list(value) if hasattr(value, "add") else [value]
        for one in held:
            in_order(one)
        if field.message_type.name == "KeyValue" and hasattr(value, "add"):
            ordered = sorted(held, key=lambda entry: entry.key)
            copies = [type(entry).FromString(entry.SerializeToString()) for entry in ordered]
            del value[:]
            value.extend(copies)
