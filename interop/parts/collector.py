"""A real OpenTelemetry Collector and telemetrygen as child processes, where they were built (`interop/run --peers`)."""

import json
import os
import socket
import subprocess
from pathlib import Path

from parts.child import Child, indented
from parts.outcome import Skipped, require, require_equal
from parts.ports import free_port


def program(name):
    """Path of `otelcol` or `telemetrygen`."""
    if "TRACEGATE_INTEROP_PEERS" not in os.environ:
        raise Skipped("there is no toolchain for Go here")
    path = Path(os.environ["TRACEGATE_INTEROP_PEERS"]) / name
    require(path.is_file(), f"{path} was not built")
    return str(path)


def generate(*arguments, seconds=120):
    """Runs telemetrygen; it must end with success."""
    run = subprocess.run([program("telemetrygen"), *arguments], capture_output=True, text=True, timeout=seconds)
    require(run.returncode == 0, f"telemetrygen ended with {run.returncode}:\n{indented((run.stdout + run.stderr)[-3000:])}")


class Collector(Child):
    """One running Collector; a context manager."""

    def __init__(self, exporters, processors=None):
        """`exporters` and `processors` map ids to settings, in the pipeline's order."""
        super().__init__("the Collector")
        self.grpc_port, self.http_port = free_port(), free_port()
        protocols = {"grpc": {"endpoint": self.grpc}, "http": {"endpoint": f"127.0.0.1:{self.http_port}"}}
        pipeline = {"receivers": ["otlp"], "processors": list(processors or {}), "exporters": list(exporters)}
        configuration = {
            "receivers": {"otlp": {"protocols": protocols}},
            "processors": processors or {},
            "exporters": exporters,
            "service": {"telemetry": {"metrics": {"level": "none"}}, "pipelines": {"traces": pipeline}},
        }
        (self.folder / "collector.yaml").write_text(json.dumps(configuration, indent=2), encoding="utf-8")

    @property
    def grpc(self):
        """Where to send OTLP/gRPC: `host:port`."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http(self):
        """Base URL for OTLP/HTTP."""
        return f"http://127.0.0.1:{self.http_port}"

    def __enter__(self):
        self.launch([program("otelcol"), "--config", "collector.yaml"])
        self.wait_until(lambda: all(answers(port) for port in (self.grpc_port, self.http_port)), 30)
        return self

    def stop(self):
        """SIGTERM and a clean end: everything it holds has been sent then."""
        require_equal(self.terminate(60), 0, "exit code of the Collector")


def answers(port):
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False
