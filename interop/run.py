"""Runs the scenarios: every function `it_...` of every file in a folder, one after the other.

A file is a story, a function one thing that must be true. The last line is `N passed, N failed, N skipped`; the exit
code is 1 if anything failed. Nothing is retried.
"""

import argparse
import importlib.util
import os
import signal
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from parts.outcome import Failed, Skipped  # noqa: E402 (the path comes first)

SECONDS_MAX = 180


def main():
    """Arguments, the scenarios, the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the scenarios are")
    parser.add_argument("words", nargs="*", help="only functions whose file or name contains one of these")
    parser.add_argument("--list", action="store_true", help="print what would run")
    arguments = parser.parse_args()
    chosen = list(chosen_cases(arguments.folder, arguments.words))
    if arguments.list:
        for name, _ in chosen:
            print(name)
        return 0
    signal.signal(signal.SIGALRM, out_of_time)
    outcomes = [run_one(name, case) for name, case in chosen]
    counts = {kind: outcomes.count(kind) for kind in ("passed", "failed", "skipped")}
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped", flush=True)
    return 1 if counts["failed"] or not counts["passed"] else 0


def chosen_cases(folder, words):
    """(name, function) of every case that a word matches, in the order of the files."""
    for path in sorted(folder.glob("*.py")):
        story = path.stem
        module = load(path)
        for attribute, case in vars(module).items():
            name = f"{story}: {attribute.removeprefix('it_').replace('_', ' ')}"
            if attribute.startswith("it_") and (not words or any(word in name or word in attribute for word in words)):
                yield name, case


def load(path):
    """The module of one file."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def run_one(name, case):
    """Runs one case with a time limit; prints and returns passed, failed or skipped."""
    began = time.monotonic()
    signal.alarm(SECONDS_MAX)
    try:
        case()
        outcome, remark = "passed", ""
    except Skipped as why:
        outcome, remark = "skipped", f": {why}"
    except Failed as why:
        outcome, remark = "failed", f": {why}"
    except Exception:  # what a client library raises is a failure of the scenario
        outcome, remark = "failed", "\n" + traceback.format_exc()
    finally:
        signal.alarm(0)
    print(f"{outcome:7} {time.monotonic() - began:5.1f} s  {name}{remark}", flush=True)
    return outcome


def out_of_time(*_):
    """The limit for one case is over."""
    raise Failed(f"not done after {SECONDS_MAX} s")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Threads of client libraries must not keep a finished run alive.
    os._exit(code)
