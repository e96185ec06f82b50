"""SDKs of other languages as programs that send a known set of spans: Node, Go, Java and Rust behind one command line.

    PROGRAM PROTOCOL COMPRESSION LOAD SINK GATEWAY

The idea: every span goes to a sink and to the gateway. What the sink holds is compared with what is written here, so that
a client cannot pass by sending little, and then with what came out of the gateway, field by field. A program prints
`{"spans": N, "failed": [...]}`: the spans it made, and the error of each export that failed after all its retries.

`small` is one trace over three services with everything that a span can carry, and 200 ordinary spans, in requests of at
most five spans; `large` is 2,800 spans in one request of about 3 MB, which takes many HTTP/2 frames and waits for windows.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import requests
from opentelemetry.proto.trace.v1 import trace_pb2

from parts import spans
from parts.child import indented
from parts.full import full_gateway
from parts.gateway import Gateway, tail_sampling
from parts.http2 import Http2Sink
from parts.outcome import Failed, Skipped, require, require_equal
from parts.sinks import GrpcSink, HttpSink, Refusal

NODE_SCRIPT = Path(__file__).resolve().parents[1] / "node" / "send_traces.mjs"
SECONDS_MAX = 120
SPANS = {"small": 207, "large": 2800}
SMALL_REQUESTS_MIN = 207 // 5
LARGE_BYTES_MIN = 2_800_000
SERVICES = {"shop-frontend", "shop-cart", "shop-payment"}
NO_SINK = "-"


class Client(NamedTuple):
    """One language's program."""

    name: str
    variable: str
    """Names the folder that `interop/run` installed it into; unset where there is no toolchain for it."""
    command: list
    """What to run; `{folder}` is that folder."""
    attributes: dict
    """What the attributes of `GET /cart` must be, beyond those that all languages can say."""


EVERYWHERE = {
    "text": "żółw 🐢", "text.empty": "", "bool.true": True, "bool.false": False, "int.zero": 0,
    "double": 3.141592653589793, "texts": ["a", "", "ü"], "bools": [True, False], "nothing": [],
}
WIDE = {"int.smallest": -(1 << 63), "int.largest": (1 << 63) - 1, "double.largest": 1.7976931348623157e308,
        "ints": [1, -1, 1 << 53], "doubles": [0.5, -2.5e300]}
NESTED = {"bytes": b"\x00\xff\x10\x80", "map": {"text": "ü", "inner": {"number": 1}}, "mixed": ["a", 1, True, 0.5]}
SAFE = {"int.smallest": -(1 << 53) + 1, "int.largest": (1 << 53) - 1, "double.tiny": 5e-324,
        "doubles": [0.5, -2.5]}

NODE = Client("Node", "TRACEGATE_INTEROP_NODE", ["node", str(NODE_SCRIPT)], SAFE)
GO = Client("Go", "TRACEGATE_INTEROP_CLIENT_GO", ["{folder}/send-traces"], WIDE | NESTED)
RUST = Client("Rust", "TRACEGATE_INTEROP_CLIENT_RUST", ["{folder}/send-traces"], WIDE)
JAVA = Client("Java", "TRACEGATE_INTEROP_CLIENT_JAVA",
              ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", "{folder}/jars/*:{folder}/classes", "SendTraces"],
              WIDE | NESTED)


class Report(NamedTuple):
    """What a program said at its end."""

    spans: int
    failed: list


class Running:
    """A program that was started; a context manager that leaves nothing behind."""

    def __init__(self, client, protocol, compression, load, sink_url, gateway_url, environment=None):
        if client.variable not in os.environ:
            raise Skipped(f"there is no toolchain for {client.name} here")
        command = [part.format(folder=os.environ[client.variable]) for part in client.command]
        self._what = f"{client.name} {protocol} {compression} {load}"
        arguments = [shutil.which(command[0]) or command[0], *command[1:], protocol, compression, load, sink_url, gateway_url]
        self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                         text=True, env=os.environ | (environment or {}))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def report(self):
        """Waits for the end, which must be a good one."""
        try:
            output, errors = self._process.communicate(timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self._what} did not end within {SECONDS_MAX} s") from None
        require_equal(self._process.returncode, 0, f"{self._what}: exit code, and it said:\n{indented(errors[-3000:])}\n")
        return Report(**json.loads(output))


def send(client, protocol, compression, load, sink_url, gateway_url):
    """Runs a program to its end."""
    with Running(client, protocol, compression, load, sink_url, gateway_url) as running:
        return running.report()


def address(gateway, protocol):
    """The base URL for a protocol of a gateway."""
    return f"http://{gateway.grpc}" if protocol.startswith("grpc") else gateway.http


def witness_for(protocol, compression):
    """A sink that a program sends to directly, and how to find its base URL. C-core has no zstd."""
    if protocol.startswith("grpc"):
        sink = Http2Sink() if compression == "zstd" else GrpcSink()
        return sink, f"http://{sink.endpoint}"
    sink = HttpSink()
    return sink, sink.endpoint


def check_delivery(client, protocol, compressions=("none", "gzip")):
    """Both loads with each compression through a tail sampler that keeps all, to one exporter per protocol."""
    with GrpcSink() as over_grpc, HttpSink() as over_http:
        exporters = {
            "otlp": {"endpoint": over_grpc.endpoint, "compression": "none", "tls": {"insecure": True}},
            "otlphttp": {"endpoint": over_http.endpoint, "compression": "zstd"},
        }
        with Gateway(exporters, {"tail_sampling": tail_sampling(100), "batch": {"timeout": "50ms"}}) as gateway:
            if protocol == "http/json":
                skip_unless_json_is_taken(gateway)
            expected = {}
            for compression in compressions:
                for load in ("small", "large"):
                    expected |= check_one(client, protocol, compression, load, gateway)
            transport = "grpc" if protocol.startswith("grpc") else "http"
            accepted = gateway.metrics().total("otelcol_receiver_accepted_spans", receiver="otlp", transport=transport)
            for sink in (over_grpc, over_http):
                sink.wait_for_spans(len(expected))
            gateway.stop()
        require_equal(accepted, len(expected), "accepted spans")
        for sink in (over_grpc, over_http):
            spans.require_same(sink.spans(), expected, type(sink).__name__)


def check_one(client, protocol, compression, load, gateway):
    """Sends once; returns what the witness got, which must be what this file promises."""
    witness, url = witness_for(protocol, compression)
    with witness:
        report = send(client, protocol, compression, load, url, address(gateway, protocol))
        what = f"{client.name} {protocol} {compression} {load}"
        require_equal(report.failed, [], f"{what}: failed exports")
        require_equal((report.spans, witness.span_count), (SPANS[load],) * 2, f"{what}: spans made, spans at the witness")
        sent = witness.spans()
        if load == "small":
            require(len(witness.taken) >= SMALL_REQUESTS_MIN, f"{what}: {len(witness.taken)} requests")
            require_known(sent, client)
        else:
            require_equal(len(witness.taken), 1, f"{what}: requests")
            size = len(witness.taken[0].body)
            require(size >= LARGE_BYTES_MIN, f"{what}: a request of {size} bytes")
        return sent


def check_retry(client, protocol):
    """A full gateway refuses the client, then has room: the client comes back by itself, and nothing is lost."""
    witness, url = witness_for(protocol, "none")
    with full_gateway() as full, witness:
        with Running(client, protocol, "none", "small", url, address(full.gateway, protocol)) as running:
            full.wait_until_others_are_refused()
            full.relieve()
            report = running.report()
        what = f"{client.name} {protocol}"
        require_equal((report.spans, report.failed), (SPANS["small"], []), f"{what}: spans made, failed exports")
        full.sink.wait_for_spans(full.spans_taken + report.spans)
        full.gateway.stop()
        require_equal(full.sink.span_count, full.spans_taken + report.spans, f"{what}: spans at the backend")
        sent, arrived = witness.spans(), full.sink.spans()
        spans.require_same({key: arrived[key] for key in sent if key in arrived}, sent, what)


def check_permanent(client, protocol):
    """Without a queue, the backend rejects one request for good: the client fails that export, once, and goes on."""
    with GrpcSink(answer=lambda number: Refusal("INVALID_ARGUMENT") if number == 3 else None) as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}, "sending_queue": {"enabled": False}}}
        with Gateway(exporters, {}) as gateway:
            report = send(client, protocol, "none", "small", NO_SINK, address(gateway, protocol))
            gateway.stop(lost=True)
        what = f"{client.name} {protocol}"
        require_equal((len(report.failed), len(sink.refused)), (1, 1), f"{what}: failed exports, tries {report.failed}")
        rejected = spans.span_count(sink.refused[0].body)
        require_equal(sink.span_count, report.spans - rejected, f"{what}: spans at the backend")


def check_too_large(client, protocol):
    """The large load does not fit through 1 MiB; the small one does, afterwards."""
    limits = {"grpc": {"max_recv_msg_size_mib": 1}, "http": {"max_request_body_size": 1 << 20}}
    with GrpcSink() as sink:
        with Gateway({"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}}}, {}, **limits) as gateway:
            large = send(client, protocol, "none", "large", NO_SINK, address(gateway, protocol))
            small = send(client, protocol, "none", "small", NO_SINK, address(gateway, protocol))
            sink.wait_for_spans(small.spans)
            gateway.stop()
        what = f"{client.name} {protocol}"
        require_equal((len(large.failed), small.failed), (1, []), f"{what}: failed exports {large.failed}")
        said = large.failed[0].replace("_", "").lower()
        require(("resourceexhausted" if protocol.startswith("grpc") else "400") in said, f"{what}: {said}")
        require_equal(sink.span_count, SPANS["small"], f"{what}: spans at the backend")


def skip_unless_json_is_taken(gateway):
    """OTLP/JSON is asked for only where the gateway does not answer 415 to it."""
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{gateway.http}/v1/traces", data=b'{"resourceSpans":[]}', headers=headers, timeout=20)
    if answer.status_code == 415:
        gateway.stop()
        raise Skipped("the gateway answers 415 to application/json")
    require_equal(answer.status_code, 200, "answer to an empty OTLP/JSON request")


def require_known(sent, client):
    """The small load as the head of this file tells it."""
    by_name = {}
    for arrived in sent.values():
        by_name.setdefault(arrived.span.name, []).append(arrived)
    services = {attributes_of(arrived.resource)["service.name"] for arrived in sent.values()}
    require_equal(services, SERVICES, "services")
    require_equal(len([name for name in by_name if name.startswith("ordinary ")]), 200, "names of ordinary spans")
    (root,) = by_name["GET /cart"]
    require_root(root.span, attributes_of(root.span), EVERYWHERE | client.attributes)
    steps = [arrived.span for name, found in by_name.items() if name.startswith("step ") for arrived in found]
    require_equal({span.kind for span in steps}, {1, 2, 3, 4, 5}, "kinds of spans")
    for span in steps:
        require_equal(span.status.code, trace_pb2.Status.STATUS_CODE_OK, "status of a step")
        require_equal(attributes_of(span.events[0])["names"], ["x", "y"], "attribute of an event")
    (charge,) = by_name["charge"]
    require_charge(charge.span)


def require_root(root, attributes, expected):
    """Parent, trace state, links, and attributes of every type."""
    parent = (root.trace_id.hex(), root.parent_span_id.hex(), root.trace_state)
    require_equal(parent, ("abcdef0123456789abcdef0123456789", "1122334455667788", "vendor=value,other=x"), "parent")
    require_equal([attributes_of(link) for link in root.links], [{"why": "retry", "attempt": 2}, {}], "links")
    seen = {key: attributes.get(key) for key in expected}
    require_equal(seen, expected, "attributes of every type")
    types = {key: type(value) for key, value in seen.items()}
    require_equal(types, {key: type(value) for key, value in expected.items()}, "types of attributes")


def require_charge(charge):
    """An error with its description, and counts of what the limits dropped."""
    require_equal(charge.status.code, trace_pb2.Status.STATUS_CODE_ERROR, "status of `charge`")
    require_equal(charge.status.message, "card declined: über limit", "description of the status")
    counts = (len(charge.attributes), charge.dropped_attributes_count, len(charge.events), charge.dropped_events_count)
    require_equal(counts, (32, 8, 4, 3), "attributes kept and dropped, events kept and dropped")


def attributes_of(message):
    """Attributes of a resource, span, event or link as Python's values."""
    return {item.key: plain(item.value) for item in message.attributes}


def plain(value):
    """An AnyValue as Python's value; None if it is empty."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: plain(item.value) for item in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)
