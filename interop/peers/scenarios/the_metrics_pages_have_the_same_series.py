"""The Collector's metrics page and ours, after the same spans through the same pipeline: the same series, the same labels.

Both at level `detailed`. A name that we lack is listed here with its reason; docs/metrics.md lists the same.
"""

import re
import subprocess
from contextlib import ExitStack

from parts import gateway, sdk
from parts.child import Child
from parts.collector import answers, program
from parts.gateway import Gateway, Metrics, fetch, set_arguments
from parts.outcome import poll, require
from parts.ports import free_port
from parts.sinks import GrpcSink

LEFT_OUT = {
    "otelcol_processor_tail_sampling_sampling_policy_execution_time_sum": "a policy has no time of its own",
    "otelcol_processor_tail_sampling_sampling_late_span_age": "a decided trace leaves the table at once",
    "otelcol_processor_tail_sampling_sampling_trace_removal_age": "a decided trace leaves the table at once",
    "rpc_server_call_duration": "not built",
    "rpc_client_call_duration": "not built",
}
# Labels that are not ours to show, or not yet.
LABELS_LEFT_OUT = {"server_address", "server_port", "url_path", "error_type", "error_permanent"}
# At this level every series of ours carries the number of its shard, too.
LABELS_OURS = {"shard"}

# Without these keys a reader gives names their suffixes.
PLAIN = ", without_type_suffix: true, without_units: true, without_scope_info: true"
SUFFIXED = ""

CONFIGURATION = """
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:%(grpc)d"}}}}
processors:
  memory_limiter: {check_interval: 1s, limit_mib: 400}
  resource: {attributes: [{key: a, value: b, action: insert}]}
  tail_sampling: {decision_wait: 1s, policies: [{name: all, type: always_sample}]}
  batch: {timeout: 100ms}
exporters: {otlp: {endpoint: "%(sink)s", tls: {insecure: true}}}
service:
  telemetry:
    metrics:
      level: detailed
      readers:
        - pull: {exporter: {prometheus: {host: 127.0.0.1, port: %(metrics)d%(names)s}}}
  pipelines:
    traces: {receivers: [otlp], processors: [memory_limiter, resource, tail_sampling, batch], exporters: [otlp]}
"""


class Page(Child):
    """A Collector with a metrics page."""

    def __init__(self, sink, names=PLAIN):
        super().__init__("the Collector")
        self.ports = {"grpc": free_port(), "metrics": free_port(), "sink": sink.endpoint, "names": names}
        (self.folder / "collector.yaml").write_text(CONFIGURATION % self.ports, encoding="utf-8")

    def __enter__(self):
        self.launch([program("otelcol"), "--config", "collector.yaml"])
        self.wait_until(lambda: answers(self.ports["grpc"]), 30)
        return self

    @property
    def url(self):
        """Where the page is."""
        return f"http://127.0.0.1:{self.ports['metrics']}/metrics"

    def text(self):
        """The page."""
        return fetch(self.url)[1]


def series_of(text):
    """Name without the suffixes of histograms -> the set of its label names."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    found = {}
    for name, labels, _ in Metrics(text)._series:
        for suffix in ("_bucket", "_sum", "_count"):
            if kinds.get(name.removesuffix(suffix)) == "histogram":
                name = name.removesuffix(suffix)
        found.setdefault(name, set()).update(set(labels) - {"le"})
    return found


def it_shows_every_series_of_the_collector():
    """Names and labels; what is left out is listed above."""
    with ExitStack() as stack:
        theirs_sink, ours_sink = stack.enter_context(GrpcSink()), stack.enter_context(GrpcSink())
        theirs = stack.enter_context(Page(theirs_sink))
        ours = Gateway({})
        (ours.folder / "gateway.yaml").write_text(
            CONFIGURATION % (theirs.ports | {"sink": ours_sink.endpoint}), encoding="utf-8")
        ours.add_arguments(set_arguments({
            "receivers.otlp.protocols.grpc.endpoint": ours.grpc,
            "service.telemetry.metrics.address": f"127.0.0.1:{ours.metrics_port}",
            "service.engine": {"cores": 1, "pin": False, "admin": f"127.0.0.1:{ours.admin_port}"},
        }))
        stack.enter_context(ours)
        with sdk.tracers(sdk.grpc_exporter(f"127.0.0.1:{theirs.ports['grpc']}"), sdk.grpc_exporter(ours.grpc)) as tracers:
            for fate in ("ordinary", "error", "slow"):
                sdk.shop_trace(tracers, fate)
        ours.wait_for_metric("otelcol_exporter_sent_spans", 18)
        poll(lambda: Metrics(theirs.text()).matching("otelcol_exporter_sent_spans"), "spans sent by the Collector")
        expected = series_of(theirs.text())
        seen = series_of(fetch(f"http://127.0.0.1:{ours.metrics_port}/metrics")[1])
        ours.stop()
    missing = {name for name in expected if name not in seen and name not in LEFT_OUT}
    require(not missing, f"series of the Collector that we lack: {sorted(missing)}")
    for name in sorted(expected.keys() & seen.keys()):
        wanted, have = expected[name] - LABELS_LEFT_OUT, seen[name] - LABELS_OURS
        if name != "target_info":
            require(wanted == have, f"labels of {name}: the Collector has {sorted(wanted)}, we have {sorted(have)}")
    print(f"    {len(expected)} series of the Collector, {len(expected.keys() - seen.keys())} of them left out with a reason")


def it_is_read_by_migrate_whichever_names_it_has():
    """`tracegate migrate --from` finds CPU, memory and spans on a page with and without suffixes."""
    for names in (PLAIN, SUFFIXED):
        with ExitStack() as stack:
            sink = stack.enter_context(GrpcSink())
            collector = stack.enter_context(Page(sink, names))
            with sdk.tracers(sdk.grpc_exporter(f"127.0.0.1:{collector.ports['grpc']}")) as tracers:
                for _ in range(50):
                    sdk.shop_trace(tracers, "error")
            sink.wait_for_spans(300)
            command = [gateway.program(), "migrate", str(collector.folder / "collector.yaml"), "--from", collector.url, "--seconds", "0"]
            run = subprocess.run(command, capture_output=True, text=True, timeout=60)
            said = run.stdout + run.stderr
            require(run.returncode == 0, said)
            require("unknown" not in said, said)
            require(re.search(r"CPU +0\.\d+ cores\n", said), said)
            require(re.search(r"memory +[1-9]\d* MiB resident\n", said), said)
            require(re.search(r"spans +[1-9][\d.]*/s accepted, 0/s refused, [1-9][\d.]*/s sent, 0/s failed", said), said)
