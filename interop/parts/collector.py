"""A real OpenTelemetry Collector and telemetrygen as child processes, where they were built (`interop/run --peers`)."""

import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from parts.gateway import indented
from parts.outcome import poll, require, require_equal
from parts.ports import free_port


def program(name):
    """Path of `otelcol` or `telemetrygen`."""
    path = Path(os.environ["TRACEGATE_INTEROP_PEERS"]) / name
    require(path.is_file(), f"{path} was not built")
    return str(path)


def generate(*arguments, seconds=120):
    """Runs telemetrygen; it must end with success."""
    run = subprocess.run([program("telemetrygen"), *arguments], capture_output=True, text=True, timeout=seconds)
    require(run.returncode == 0, f"telemetrygen ended with {run.returncode}:\n{indented((run.stdout + run.stderr)[-3000:])}")


class Collector:
    """One running Collector; a context manager that never leaves a process behind."""

    def __init__(self, exporters, processors=None):
        """`exporters` and `processors` map ids to settings, in the pipeline's order."""
        self.grpc_port, self.http_port = free_port(), free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="tracegate-interop-otelcol-")
        self.folder = Path(self._directory.name)
        self._process = None
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
        with open(self.folder / "log", "wb") as log:
            arguments = [program("otelcol"), "--config", str(self.folder / "collector.yaml")]
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             cwd=self.folder)
        poll(self._listens, "the Collector to listen", 30)
        return self

    def __exit__(self, kind, error, trace):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if kind is not None:
            print(f"    --- the Collector said, at last:\n{indented(self.log()[-3000:])}")
        self._directory.cleanup()

    def _listens(self):
        require(self._process.poll() is None, f"the Collector ended at its start:\n{indented(self.log())}")
        return all(self._answers(port) for port in (self.grpc_port, self.http_port))

    def _answers(self, port):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            return False

    def log(self):
        """What it wrote so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def stop(self):
        """SIGTERM and a clean end: everything it holds has been sent then."""
        self._process.send_signal(signal.SIGTERM)
        require_equal(self._process.wait(60), 0, "exit code of the Collector")
