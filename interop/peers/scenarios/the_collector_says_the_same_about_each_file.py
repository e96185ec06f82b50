"""A real Collector accepts and refuses the files of the corpus as we do, and takes what we print for it.

Each file of `configs/corpus/` says what becomes of it here. What we lack (`not built yet`, `Tracegate has no ...`) the
Collector may accept; everything else it must judge as we do, or the file says why not (`# otelcol: accepts|refuses: REASON`).
Files with components that this Collector was built without are not judged; the run says how many.
"""

import re
import subprocess
import tempfile
from pathlib import Path

from parts import collector, gateway
from parts.gateway import REPOSITORY
from parts.outcome import require

CORPUS = REPOSITORY / "configs" / "corpus"
# Our words for what is not there; such an error says nothing about the file.
LACKING = re.compile(r"(is|are) not built yet|: not built yet: |: Tracegate has no ")
# The Collector's words for components that it was built without.
WITHOUT = re.compile(r"unknown type: |exporter has been deprecated")
JUDGED_MIN = 35


class Entry:
    """One file with what its head says."""

    def __init__(self, path):
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.variables = dict(line.split("=", 1) for line in self._lines("# variable: "))
        self.ours = self._lines("# tracegate: ")
        self.exceptions = self._lines("# otelcol: ")

    def _lines(self, prefix):
        return [line.removeprefix(prefix) for line in self.text.splitlines() if line.startswith(prefix)]

    @property
    def loads(self):
        """Whether we take it."""
        return self.ours == ["loads"]

    def expected(self):
        """(`accepts` or `refuses`, why the Collector is expected to say so)."""
        if self.exceptions:
            verdict, reason = self.exceptions[0].split(": ", 1)
            return verdict, reason
        if self.loads:
            return "accepts", "we load it"
        if all(LACKING.search(line) for line in self.ours):
            return "accepts", self.ours[0]
        return "refuses", next(line for line in self.ours if not LACKING.search(line))


def corpus():
    """Every file, in order."""
    entries = [Entry(path) for path in sorted(CORPUS.rglob("*.yaml"))]
    require(len(entries) >= 50, f"only {len(entries)} files below {CORPUS}")
    require(all(entry.ours for entry in entries), "every file says what becomes of it")
    return entries


def judged(path, variables):
    """(`accepts` or `refuses` or None where it lacks a component, what it said)."""
    run = subprocess.run([collector.program("otelcol"), "validate", "--config", str(path)], capture_output=True, text=True,
                         timeout=30, env={"PATH": "/usr/bin:/bin"} | variables)
    said = run.stdout + run.stderr
    if run.returncode == 0:
        return "accepts", said
    return None if WITHOUT.search(said) else "refuses", said


def it_accepts_and_refuses_the_same_files():
    """Word for word where the head of a file says otherwise, with the reason."""
    wrong, seen, differences = [], 0, []
    for entry in corpus():
        expected, reason = entry.expected()
        verdict, said = judged(entry.path, entry.variables)
        if verdict is None:
            continue
        seen += 1
        if verdict != expected:
            wrong.append(f"{entry.path.name}: {verdict}, and {expected} was expected ({reason}):\n{said}")
        elif (verdict == "accepts") != entry.loads:
            differences.append(f"      {entry.path.name}: the Collector {verdict}: {reason}")
    require(not wrong, "\n".join(wrong))
    require(seen >= JUDGED_MIN, f"only {seen} files were judged")
    print(f"    {seen} files judged; different answers:\n" + "\n".join(differences))


def it_takes_every_file_that_is_printed_for_it():
    """`print-config --for otelcol` of each file that loads here and of the configurations of this repository."""
    own = [REPOSITORY / "configs" / name for name in ("builtin.yaml", "agent.yaml", "gateway.yaml", "seed/agent.config.yaml")]
    files = [entry for entry in corpus() if entry.loads] + [Entry(path) for path in own]
    taken = 0
    with tempfile.TemporaryDirectory(prefix="tracegate-interop-") as folder:
        printed = Path(folder) / "otelcol.yaml"
        for entry in files:
            command = [gateway.program(), "print-config", "--for", "otelcol", "--mode", "unredacted", "--config", str(entry.path)]
            run = subprocess.run(command, capture_output=True, text=True, timeout=30)
            require(run.returncode == 0, f"{entry.path.name}: {run.stderr}")
            printed.write_text(run.stdout, encoding="utf-8")
            # The seed's agent asks for it; with an empty one the Collector refuses the action.
            verdict, said = judged(printed, {"NODE_NAME": "node-7"} | entry.variables)
            require(verdict != "refuses", f"{entry.path.name} as printed:\n{run.stdout}\n{said}")
            taken += verdict == "accepts"
    require(taken >= len(own) + 20, f"only {taken} files could be judged")
