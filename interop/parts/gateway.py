"""The gateway as a child process: a generated configuration, free ports, a bounded wait for readiness, a clean stop.

The idea: a scenario says only what is particular about its configuration; receivers, addresses and the engine's section
are the same everywhere. What the gateway says about itself (metrics, ledger, exit code) is checked at every stop, so
that no scenario can forget it. Nothing here knows the gateway's insides: it is a program with a file and two pages.
"""

import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from parts.child import Child, indented
from parts.outcome import poll, require, require_equal
from parts.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
READY_SECONDS = 20.0
# The gateway's own limit is 25 s.
STOP_SECONDS = 35.0


def program():
    """Path of the gateway: TRACEGATE_BINARY, else what `cargo build` of TRACEGATE_PROFILE (release) left."""
    named = os.environ.get("TRACEGATE_BINARY")
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    path = Path(named) if named else target / os.environ.get("TRACEGATE_PROFILE", "release") / "tracegate"
    require(path.is_file(), f"no gateway at {path}: build it with `cargo build --release`, or set TRACEGATE_BINARY")
    return str(path.resolve())


def engine(**settings):
    """`service.engine` with the runtime that TRACEGATE_RUNTIME asks for; one shard unless said otherwise."""
    section = {"cores": 1, "pin": "false", "runtime": os.environ.get("TRACEGATE_RUNTIME", "auto")}
    return section | settings


def tail_sampling(percentage, decision_wait="1s", threshold_ms=1000, **more):
    """The seed's three policies: errors, slow traces, a percentage of the rest."""
    policies = [
        {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
        {"name": "slow", "type": "latency", "latency": {"threshold_ms": threshold_ms}},
        {"name": "random", "type": "probabilistic", "probabilistic": {"sampling_percentage": percentage}},
    ]
    return {"decision_wait": decision_wait, "policies": policies} | more


class Ending(NamedTuple):
    """What was left when the gateway had stopped."""

    ledger: str
    log: str


class Gateway(Child):
    """One running gateway; a context manager."""

    def __init__(self, exporters, processors=None, files=None, environment=None, engine_settings=None, grpc=None,
                 http=None):
        """Writes the configuration. `exporters` and `processors` map ids to settings, in the pipeline's order.

        `files` takes the place of all that: the seed's files are run as they are, with `add_arguments` and variables.
        """
        super().__init__("the gateway")
        self._environment = {"RUST_BACKTRACE": "1", "NO_COLOR": "1"} | (environment or {})
        self.grpc_port, self.http_port = free_port(), free_port()
        self.metrics_port, self.admin_port = free_port(), free_port()
        if files is None:
            path = self.folder / "gateway.yaml"
            text = json.dumps(self._configuration(exporters, processors or {}, engine_settings or {}, grpc, http), indent=2)
            path.write_text(text, encoding="utf-8")
            files = [path]
        self._arguments = [argument for file in files for argument in ("--config", str(file))]

    def _configuration(self, exporters, processors, engine_settings, grpc, http):
        protocols = {
            "grpc": {"endpoint": f"127.0.0.1:{self.grpc_port}"} | (grpc or {}),
            "http": {"endpoint": f"127.0.0.1:{self.http_port}"} | (http or {}),
        }
        pipeline = {"receivers": ["otlp"], "processors": list(processors), "exporters": list(exporters)}
        return {
            "receivers": {"otlp": {"protocols": protocols}},
            "processors": processors,
            "exporters": exporters,
            "service": {
                "engine": engine(**engine_settings) | {"admin": f"127.0.0.1:{self.admin_port}"},
                "telemetry": {"metrics": {"address": f"127.0.0.1:{self.metrics_port}"}},
                "pipelines": {"traces": pipeline},
            },
        }

    def common_settings(self, **engine_settings):
        """`--set` arguments that move a file of the seed to this gateway's ports and this machine's engine."""
        settings = {
            "receivers.otlp.protocols.grpc.endpoint": f"127.0.0.1:{self.grpc_port}",
            "receivers.otlp.protocols.http.endpoint": f"127.0.0.1:{self.http_port}",
            "service.telemetry.metrics.address": f"127.0.0.1:{self.metrics_port}",
            "service.engine.admin": f"127.0.0.1:{self.admin_port}",
        }
        settings |= {f"service.engine.{key}": value for key, value in engine(**engine_settings).items()}
        return set_arguments(settings)

    def add_arguments(self, arguments):
        """More arguments, before the start."""
        self._arguments += arguments

    @property
    def grpc(self):
        """Where to send OTLP/gRPC: `host:port`."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http(self):
        """Base URL for OTLP/HTTP."""
        return f"http://127.0.0.1:{self.http_port}"

    def __enter__(self):
        self.launch([program(), *self._arguments], self._environment)
        self.wait_until(lambda: self.page("/ready")[0] == 200, READY_SECONDS)
        return self

    @property
    def admin(self):
        """Base URL of the admin page."""
        return f"http://127.0.0.1:{self.admin_port}"

    def resident_bytes(self):
        """What the process holds in memory, as the kernel counts it."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024

    def page(self, path):
        """(status, text) of an admin page; status 0 when nobody answers."""
        return fetch(f"http://127.0.0.1:{self.admin_port}{path}")

    def metrics(self):
        """All series of the metrics page."""
        status, text = fetch(f"http://127.0.0.1:{self.metrics_port}/metrics")
        require_equal(status, 200, "status of /metrics")
        return Metrics(text)

    def wait_for_metric(self, name, at_least, seconds=30.0, **labels):
        """Waits until the sum of the matching series reaches `at_least`; returns the sum."""
        def reached():
            return self.metrics().total(name, **labels) >= at_least

        poll(reached, f"{name}{labels or ''} to reach {at_least}", seconds, interval=0.05)
        return self.metrics().total(name, **labels)

    def stop(self, lost=False):
        """SIGTERM, and everything that must hold after it: exit code 0, a ledger that balances, and nothing lost
        unless `lost` says that this scenario loses spans on purpose. Returns the ledger's sentence and the log."""
        code = self.terminate(STOP_SECONDS)
        log = self.log()
        require_equal(code, 0, "exit code after SIGTERM")
        require("panicked" not in log, f"a panic:\n{indented(log[-3000:])}")
        ledger = next((line for line in reversed(log.splitlines()) if line.startswith("Received ")), "")
        require(ledger, f"no ledger at the end:\n{indented(log[-2000:])}")
        require("DOES NOT BALANCE" not in ledger, ledger)
        if not lost:
            require(ledger.endswith("nothing lost."), f"spans were lost: {ledger}")
        return Ending(ledger, log)


def set_arguments(settings):
    """`--set key=value` for each entry; values that are not text are written as JSON, which is YAML."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
    return [argument for key, text in texts.items() for argument in ("--set", f"{key}={text}")]


def fetch(url):
    """(status, text) of a page on loopback; status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError:
        return 0, ""


class Metrics:
    """One reading of a Prometheus page."""

    _SERIES = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
    _LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self._series = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                found = self._SERIES.match(line)
                require(found, f"a line of /metrics that is none: {line!r}")
                name, labels, number = found.groups()
                self._series.append((name, dict(self._LABEL.findall(labels or "")), float(number)))

    def matching(self, name, **labels):
        """(labels, value) of the series with this name and at least these labels."""
        wanted = labels.items()
        return [(found, value) for series, found, value in self._series if series == name and wanted <= found.items()]

    def total(self, name, **labels):
        """Their sum. A series that does not exist is a failure: it must be there at 0 from the start."""
        found = self.matching(name, **labels)
        require(found, f"/metrics has no {name} with {labels}")
        return sum(value for _, value in found)
