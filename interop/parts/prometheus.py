"""A real Prometheus as a child process: it scrapes gateways every second, takes remote write, evaluates rules.

The idea: what a person would type into its page is a `query`, and what would page that person is in `firing`. Rules and
queries are those that are deployed; only their windows are shortened, from minutes to seconds.
"""

import json
import os
import re
import urllib.parse
from pathlib import Path

from parts.child import Child
from parts.gateway import fetch
from parts.outcome import Skipped, poll, require
from parts.ports import free_port

READY_SECONDS = 60.0
# At one scrape a second a rate over this has enough of them, also on a slow machine.
WINDOW = "10s"


def program():
    """Path of a Prometheus; skips where there is none."""
    folder = os.environ.get("TRACEGATE_INTEROP_PROMETHEUS")
    if not folder:
        raise Skipped("no Prometheus is here (Debian: apt-get install prometheus)")
    return str(Path(folder) / "prometheus")


class Prometheus(Child):
    """One server with an empty database; a context manager."""

    def __init__(self, scrapes=None, rules=None, path=None, features=("native-histograms", "exemplar-storage")):
        """`scrapes` maps names of jobs to ports on loopback, `rules` is the text of a rule file, `path` another program."""
        super().__init__("Prometheus")
        self._program = path or program()
        self._features = features
        self.port = free_port()
        jobs = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                for job, port in (scrapes or {}).items()]
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration = {"global": every, "scrape_configs": jobs}
        if rules is not None:
            (self.folder / "rules.yaml").write_text(rules, encoding="utf-8")
            configuration["rule_files"] = ["rules.yaml"]
        (self.folder / "prometheus.yaml").write_text(json.dumps(configuration), encoding="utf-8")

    def __enter__(self):
        self.launch([self._program, "--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=warn",
                     f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-remote-write-receiver",
                     f"--enable-feature={','.join(self._features)}"])
        self.wait_until(lambda: fetch(f"{self._url}/-/ready")[0] == 200, READY_SECONDS)
        return self

    @property
    def _url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def remote_write(self):
        """Where remote write goes."""
        return f"{self._url}/api/v1/write"

    def query(self, expression):
        """(labels, value) of each series that an expression gives now."""
        result = self.ask("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def value(self, expression):
        """The value of an expression that gives one series; None while it gives none."""
        found = self.query(expression)
        require(len(found) <= 1, f"{expression} gives {len(found)} series: {found}")
        return found[0][1] if found else None

    def wait_for_value(self, expression, expected):
        """Waits until an expression gives one series with this value."""
        poll(lambda: self.value(expression) == expected, f"{expression} to be {expected}", seconds=60.0, interval=0.1)

    def exemplars(self, selector):
        """All exemplars of the series that a selector names, in the last hour."""
        series = self.ask("query_exemplars", query=selector, start="0", end="9999999999")
        return [exemplar for one in series for exemplar in one["exemplars"]]

    def firing(self):
        """Names of alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}

    def ask(self, path, **parameters):
        """What the API answers below /api/v1/."""
        status, text = fetch(f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        require(status == 200, f"Prometheus answers {status} to {path} {parameters}: {text}")
        return json.loads(text)["data"]


def shortened(rules):
    """A rule file whose windows, intervals and patience are seconds instead of minutes."""
    rules = re.sub(r"\[\d+m\]", f"[{WINDOW}]", rules)
    rules = re.sub(r"interval: \w+", "interval: 1s", rules)
    return re.sub(r"for: \w+", "for: 1s", rules)
