"""How a scenario ends: it passes by returning, fails by `Failed`, and says `Skipped` when a program is not installed.

One idea: every wait is bounded and waits for the thing itself, never for time to pass.
"""

import time


class Failed(AssertionError):
    """What was promised did not happen; the message says what was seen instead."""


class Skipped(Exception):
    """This machine lacks what the scenario needs; the message says what."""


def require(condition, message):
    """Fails with `message` unless `condition` holds. Unlike `assert`, it cannot be switched off."""
    if not condition:
        raise Failed(message)


def require_equal(seen, expected, what):
    """Fails with both values unless they are equal."""
    require(seen == expected, f"{what}: expected {expected!r}, saw {seen!r}")


def poll(probe, what, seconds=30.0, interval=0.02):
    """Calls `probe` until it returns something true and returns that; fails naming `what` after `seconds`.

    Only for things that cannot tell by themselves that they changed (a metrics page, a process that starts).
    """
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        require(time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(interval)
