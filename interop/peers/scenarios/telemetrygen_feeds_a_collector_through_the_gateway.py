"""telemetrygen -> gateway -> a real Collector, which writes what it got to a file.

The load comes from grpc-go and Go's HTTP client; the Collector is the judge of what our exporters send.
"""

import json
from collections import Counter

from parts.collector import Collector, generate
from parts.gateway import Gateway, tail_sampling
from parts.outcome import require, require_equal

TRACES = 400
# A client span with one child each, as telemetrygen makes them.
SPANS_OF_A_TRACE = 2
FILE = "spans.jsonl"


def it_delivers_everything_in_each_compression():
    """`otlp` and `otlphttp`, each plain, gzip and zstd, to the same receiver: every span once per exporter."""
    check({"batch": {"timeout": "100ms"}}, status="Unset", kept=True)


def it_keeps_errors_at_0_percent():
    """telemetrygen's errors through tail sampling on two shards."""
    check({"tail_sampling": tail_sampling(0), "batch": {}}, status="Error", kept=True)


def it_drops_the_others_at_0_percent():
    """The same without errors: nothing arrives."""
    check({"tail_sampling": tail_sampling(0), "batch": {}}, status="Unset", kept=False)


def check(processors, status, kept):
    """Sends over gRPC and HTTP, stops the gateway and then the Collector, and counts spans in its file."""
    with Collector({"file": {"path": FILE}}) as collector:
        exporters = exporters_to(collector)
        with Gateway(exporters, processors, engine_settings={"cores": 2}) as gateway:
            common = ["traces", "--otlp-insecure", f"--traces={TRACES // 2}", "--workers=2", "--rate=0",
                      f"--status-code={status}", f"--child-spans={SPANS_OF_A_TRACE - 1}"]
            generate(*common, f"--otlp-endpoint={gateway.grpc}")
            generate(*common, f"--otlp-endpoint=127.0.0.1:{gateway.http_port}", "--otlp-http")
            # Each worker makes its number of traces.
            sent = TRACES * 2 * SPANS_OF_A_TRACE
            require_equal(gateway.metrics().total("otelcol_receiver_accepted_spans"), sent, "accepted spans")
            gateway.stop()
        collector.stop()
        found = spans_in(collector.folder / FILE)
    require_equal(found.total(), sent * len(exporters) if kept else 0, "spans in the Collector's file")
    require(set(found.values()) <= {len(exporters)}, "each span once per exporter")


def exporters_to(collector):
    """One exporter of each kind and compression."""
    exporters = {}
    for compression in ("none", "gzip", "zstd"):
        exporters[f"otlp/{compression}"] = {"endpoint": collector.grpc, "compression": compression,
                                            "tls": {"insecure": True}}
        exporters[f"otlphttp/{compression}"] = {"endpoint": collector.http, "compression": compression}
    return exporters


def spans_in(file):
    """How often each (trace id, span id) stands in a file of OTLP/JSON lines."""
    found = Counter()
    for line in file.read_text(encoding="utf-8").splitlines():
        for group in json.loads(line)["resourceSpans"]:
            for scope in group["scopeSpans"]:
                found.update((span["traceId"], span["spanId"]) for span in scope["spans"])
    return found
