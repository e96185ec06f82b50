"""The SDK of npm (grpc-js and HTTP/protobuf) sends spans; sinks get them unchanged.

Skipped where node and npm are not installed.
"""

import os
import shutil
import subprocess
from pathlib import Path

from parts import spans
from parts.child import indented
from parts.gateway import Gateway, tail_sampling
from parts.outcome import Skipped, require, require_equal
from parts.sinks import GrpcSink, HttpSink

SCRIPT = Path(__file__).resolve().parents[1] / "node" / "send_traces.mjs"


def it_delivers_every_field_of_grpc_js():
    """@opentelemetry/exporter-trace-otlp-grpc, plain and gzip."""
    check("grpc", GrpcSink, lambda gateway: f"http://{gateway.grpc}")


def it_delivers_every_field_of_http_protobuf():
    """@opentelemetry/exporter-trace-otlp-proto, plain and gzip."""
    check("proto", HttpSink, lambda gateway: f"{gateway.http}/v1/traces")


def check(protocol, witness_kind, gateway_url):
    """Sends through a tail sampler that keeps all, to one exporter per protocol."""
    if "TRACEGATE_INTEROP_NODE" not in os.environ:
        raise Skipped("node or npm is not installed")
    with GrpcSink() as over_grpc, HttpSink() as over_http:
        exporters = {
            "otlp": {"endpoint": over_grpc.endpoint, "compression": "none", "tls": {"insecure": True}},
            "otlphttp": {"endpoint": over_http.endpoint, "compression": "zstd"},
        }
        with Gateway(exporters, {"tail_sampling": tail_sampling(100), "batch": {"timeout": "50ms"}}) as gateway:
            expected = {}
            for compression in ("none", "gzip"):
                with witness_kind() as witness:
                    witness_url = f"http://{witness.endpoint}" if protocol == "grpc" else f"{witness.endpoint}/v1/traces"
                    sent = run_node(protocol, compression, witness_url, gateway_url(gateway))
                    require_equal(witness.span_count, sent, "spans at the witness")
                    expected |= witness.spans()
            for sink in (over_grpc, over_http):
                sink.wait_for_spans(len(expected))
            gateway.stop()
        for sink in (over_grpc, over_http):
            spans.require_same(sink.spans(), expected, type(sink).__name__)


def run_node(*arguments):
    """Number of spans that the script says it sent."""
    run = subprocess.run([shutil.which("node"), str(SCRIPT), *arguments], capture_output=True, text=True, timeout=60)
    require(run.returncode == 0 and not run.stderr, f"node ended with {run.returncode}:\n{indented(run.stderr)}")
    return int(run.stdout)
