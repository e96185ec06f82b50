"""`tracegate analyze` on what the query APIs of Tempo and Jaeger answer, as they document it.

A trace goes to the gateway, which keeps it in memory; a server on loopback answers with the same trace as the backend
would. Both analyses must be the same. A real Jaeger is asked by the scenario among the peers.
"""

import http.server
import json
import threading
from contextlib import contextmanager

from parts import analysis
from parts.gateway import Gateway
from parts.load import RawClient
from parts.outcome import poll, require, require_equal

TRACE = analysis.TRACE.hex()


def it_reads_tempos_protobuf():
    """Tempo's Trace has its batches under the number of an export request's resource_spans; asked for by `Accept`."""
    def answer(path, accepted):
        # A message `Trace { repeated ResourceSpans batches = 1; }`; without the header it would be JSON.
        if path != f"/api/traces/{TRACE}" or "application/protobuf" not in accepted:
            return 404, "text/plain", b""
        return 200, "application/protobuf", analysis.request().SerializeToString()

    with a_trace_in_memory() as expected, backend(answer) as url:
        require_equal(analysis.analyze(TRACE, "tempo", url), expected, "the analysis of Tempo's trace")
        missing = analysis.complaint("0b" + TRACE[2:], "tempo", url)
        require("Tempo at" in missing and "404" in missing, f"of a trace that is not there: {missing}")


def it_reads_jaegers_json():
    """Processes by key, references to parents, microseconds, and ids without the zeros in front."""
    def answer(path, _):
        found = path == f"/api/traces/{TRACE}"
        body = jaegers(analysis.SPANS) if found else {"data": None, "errors": [{"code": 404, "msg": "trace not found"}]}
        return 200 if found else 404, "application/json", json.dumps(body).encode()

    with a_trace_in_memory() as expected, backend(answer) as url:
        told = analysis.analyze(TRACE, "jaeger", url)
        require_equal(told, expected, "the analysis of Jaeger's trace")
        missing = analysis.complaint("0b" + TRACE[2:], "jaeger", url)
        require("Jaeger at" in missing and "404" in missing, f"of a trace that is not there: {missing}")


def jaegers(spans):
    """The answer of /api/traces/ID."""
    trace = TRACE.lstrip("0")
    services = list(dict.fromkeys(service for _, service, *_ in spans))
    keys = {service: f"p{number}" for number, service in enumerate(services, 1)}
    told = []
    for number, (name, service, parent, begin, end, fails) in enumerate(spans):
        references = [] if parent is None else [
            {"refType": "CHILD_OF", "traceID": trace, "spanID": analysis.span_id(parent).hex()}]
        tags = [{"key": "span.kind", "type": "string", "value": "server"}]
        if fails:
            tags += [{"key": "otel.status_code", "type": "string", "value": "ERROR"},
                     {"key": "error", "type": "bool", "value": True}]
        told.append({"traceID": trace, "spanID": analysis.span_id(number).hex(), "operationName": name,
                     "references": references, "startTime": analysis.START // 1000 + begin * 1000,
                     "duration": (end - begin) * 1000, "tags": tags, "logs": [], "processID": keys[service],
                     "warnings": None})
    processes = {key: {"serviceName": service, "tags": []} for service, key in keys.items()}
    return {"data": [{"traceID": trace, "spans": told, "processes": processes, "warnings": None}],
            "total": 0, "limit": 0, "offset": 0, "errors": None}


@contextmanager
def a_trace_in_memory():
    """Gives what is said of the trace in a gateway's own memory."""
    with Gateway({"memory": {}}) as gateway, RawClient(gateway.grpc) as client:
        client.export(analysis.request().SerializeToString())
        poll(lambda: gateway.page(f"/traces/{TRACE}")[0] == 200, "the trace in memory")
        expected = analysis.analyze(TRACE, "memory", gateway.admin)
        require_equal(len(expected["spans"]), len(analysis.SPANS), "spans in memory")
        yield expected
        gateway.stop()


@contextmanager
def backend(answer):
    """A server; `answer(path, accept)` gives status, content type and body."""
    class Asked(http.server.BaseHTTPRequestHandler):
        """One connection."""

        def do_GET(self):
            """Answers."""
            status, kind, body = answer(self.path, self.headers.get("accept", ""))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
