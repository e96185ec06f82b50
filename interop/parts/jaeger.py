"""A real Jaeger as a child process: takes OTLP, keeps traces in memory, answers its query API."""

import os
from pathlib import Path

from parts.child import Child
from parts.gateway import fetch
from parts.outcome import Skipped
from parts.ports import free_port

READY_SECONDS = 60.0


class Jaeger(Child):
    """One `all-in-one` without a trace; a context manager."""

    def __init__(self):
        folder = os.environ.get("TRACEGATE_INTEROP_JAEGER")
        if not folder:
            raise Skipped("no Jaeger is here: it is built where there is Go")
        super().__init__("Jaeger")
        self._program = str(Path(folder) / "jaeger")
        self._query, self._otlp, self._health = free_port(), free_port(), free_port()

    def __enter__(self):
        # All that listens, by the names of its own settings.
        ports = {
            "query.http-server": self._query, "query.grpc-server": free_port(), "collector.otlp.grpc": self._otlp,
            "collector.otlp.http": free_port(), "collector.grpc-server": free_port(), "collector.http-server": free_port(),
            "admin.http": self._health,
        }
        settings = [f"--{name}.host-port=127.0.0.1:{port}" for name, port in ports.items()]
        self.launch([self._program, "--log-level=warn", *settings], {"SPAN_STORAGE_TYPE": "memory"})
        self.wait_until(lambda: fetch(f"http://127.0.0.1:{self._health}/")[0] == 200, READY_SECONDS)
        return self

    @property
    def otlp(self):
        """Where it takes OTLP/gRPC: `host:port`."""
        return f"127.0.0.1:{self._otlp}"

    @property
    def url(self):
        """Its query API."""
        return f"http://127.0.0.1:{self._query}"
