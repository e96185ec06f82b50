"""Heap, CPU time and tasks, fetched as a runbook fetches them: files that `go tool pprof` reads.

Without Go the files are read by the published field numbers; where a Go toolchain is installed, `go tool pprof -top`
reads the very same files.
"""

import contextlib
import gzip
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from parts import load
from parts.gateway import Gateway
from parts.load import RawClient
from parts.outcome import Failed, Skipped, poll, require, require_equal
from parts.wire import fields

# Field numbers of perftools.profiles.Profile and of what lies in it.
KIND, SAMPLE, LOCATION, FUNCTION, TEXT = 1, 2, 4, 5, 6
SAMPLE_LOCATIONS, SAMPLE_VALUES = 1, 2
ID, LINE = 1, 4
LINE_FUNCTION, FUNCTION_NAME = 1, 2

FETCH_SECONDS = 120


class Profile(NamedTuple):
    """What a file says: names of the values, and stacks of function names (the innermost first) with their values."""

    kinds: list
    stacks: list


def it_serves_profiles_on_the_metrics_port():
    """The runbook's lines: the heap, and tasks as text."""
    with working() as gateway:
        heap = poll(lambda: named(gateway, "heap"), "a heap with a function of the gateway", FETCH_SECONDS)
        require_equal(heap.kinds, ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"], "kinds of values")
        require(all(values[3] <= values[1] for _, values in heap.stacks), "more in use than was allocated")
        text = fetch(gateway, "goroutine?debug=1").decode()
        total = int(re.match(r"goroutine profile: total (\d+)\n", text)[1])
        counts = [int(count) for count in re.findall(r"^(\d+) @ 0x", text, re.MULTILINE)]
        require_equal(sum(counts), total, "tasks")
        require("engine::shard::run::Shard::connect" in text, text)
        tasks = read(fetch(gateway, "goroutine"))
        require_equal(tasks.kinds, ["goroutine"], "kinds of values")
        require(sum(values[0] for _, values in tasks.stacks) >= total - 2, "as many tasks in both forms")


def it_says_where_cpu_time_goes():
    """A gateway at work, for a second at a time until a sample names its code."""
    with working() as gateway:
        cpu = poll(lambda: named(gateway, "profile?seconds=1"), "a CPU profile with our functions", FETCH_SECONDS)
        require_equal(cpu.kinds, ["samples", "cpu"], "kinds of values")
        require(all(values[1] == values[0] * 10_000_000 for _, values in cpu.stacks), "10 ms a sample")


def it_is_read_by_go_tool_pprof():
    """`go tool pprof -top` reads all three and prints functions of the gateway."""
    go = shutil.which("go")
    if go is None:
        raise Skipped("no Go toolchain")
    with working() as gateway, tempfile.TemporaryDirectory() as folder:
        for path, unit in [("heap", "inuse_space"), ("profile?seconds=1", "cpu"), ("goroutine", "goroutine")]:
            def top(path=path):
                file = Path(folder) / "fetched.prof"
                file.write_bytes(fetch(gateway, path))
                command = [go, "tool", "pprof", "-top", "-cum", str(file)]
                run = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
                require_equal(run.returncode, 0, f"exit code for {path}: {run.stderr}")
                return run.stdout if "engine::" in run.stdout else None

            said = poll(top, f"a function of the gateway in {path}", FETCH_SECONDS)
            require(f"Type: {unit}\n" in said, said)


@contextlib.contextmanager
def working():
    """A gateway that takes requests as fast as one sender makes them, and forgets them."""
    made = load.make(traces=200, spans_per_request=100, seed=5)
    with Gateway({"nop": {}}) as gateway, RawClient(gateway.grpc) as client:
        done = threading.Event()

        def send():
            while not done.is_set():
                for request in made.requests:
                    client.export(request)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield gateway
        finally:
            done.set()
            sender.join()
        gateway.stop()


def fetch(gateway, path):
    """The body of a profile on the metrics port; what is said instead is a failure."""
    url = f"http://127.0.0.1:{gateway.metrics_port}/debug/pprof/{path}"
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise Failed(f"{path}: {error.code} {error.read().decode(errors='replace')}") from error


def named(gateway, path):
    """A profile, once a function of the gateway is in it."""
    profile = read(fetch(gateway, path))
    return profile if any("engine::" in name for stack, _ in profile.stacks for name in stack) else None


def read(file):
    """Takes a file apart."""
    parts = {}
    for part in fields(gzip.decompress(file)):
        parts.setdefault(part.number, []).append(part.payload)
    texts = [text.decode() for text in parts[TEXT]]
    require_equal(texts[0], "", "the first text")
    functions = {}
    for payload in parts.get(FUNCTION, []):
        numbers = varints(payload)
        functions[numbers[ID]] = texts[numbers[FUNCTION_NAME]]
    locations = {}
    for payload in parts.get(LOCATION, []):
        lines = [varints(line.payload) for line in fields(payload) if line.number == LINE]
        locations[varints(payload)[ID]] = [functions[line[LINE_FUNCTION]] for line in lines]
    stacks = []
    for payload in parts.get(SAMPLE, []):
        packed = {part.number: part.payload for part in fields(payload)}
        stack = [name for number in unpack(packed[SAMPLE_LOCATIONS]) for name in locations[number]]
        stacks.append((stack, unpack(packed[SAMPLE_VALUES])))
    return Profile([texts[varints(payload)[1]] for payload in parts[KIND]], stacks)


def varints(payload):
    """Numbers of a message by their field; fields of 0 may be there or not."""
    found = {number: 0 for number in range(1, 8)}
    for part in fields(payload):
        if part.payload == b"" and part.whole[0] & 7 == 0:
            found[part.number] = unpack(part.whole[1:])[0]
    return found


def unpack(packed):
    """Numbers that lie one after the other."""
    numbers, number, shift = [], 0, 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    return numbers
