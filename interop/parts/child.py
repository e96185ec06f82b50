"""A server as a child process: started in a folder and a session of its own, stopped by its id, never left behind."""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from parts.outcome import Failed, Skipped, poll, require


class Child:
    """A context manager around one process; what it writes goes to a file that a failure shows."""

    def __init__(self, name):
        """`name` as in `the gateway`, for messages."""
        self.name = name
        # Processes that a child started may still write while its folder is being removed: what is left of a folder of
        # temporary files says nothing about the gateway.
        self._directory = tempfile.TemporaryDirectory(prefix="tracegate-interop-", ignore_cleanup_errors=True)
        self.folder = Path(self._directory.name)
        self._log_path = self.folder / "log"
        self._process = None

    def launch(self, arguments, environment=None, pass_fds=()):
        """Starts the process; the first argument is the program. `pass_fds` stay open in it."""
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                             env=os.environ | (environment or {}), pass_fds=pass_fds, start_new_session=True)

    def wait_until(self, ready, seconds):
        """Waits for `ready()`; fails at once when the process ends instead."""
        def alive_and_ready():
            require(self._process.poll() is None, f"{self.name} ended at its start:\n{indented(self.log())}")
            return ready()

        poll(alive_and_ready, f"{self.name} to become ready", seconds)

    def __exit__(self, kind, error, trace):
        if self._process is not None and self._process.poll() is None:
            # Its session: a browser starts processes by the dozen.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if kind is not None and not issubclass(kind, Skipped):
            print(f"    --- {self.name} said, at last:\n{indented(self.log()[-4000:])}")
        self._directory.cleanup()

    def log(self):
        """What it wrote so far."""
        return self._log_path.read_text(encoding="utf-8", errors="replace") if self._log_path.exists() else ""

    def terminate(self, seconds):
        """SIGTERM; returns the exit code, and fails if there is none within `seconds`."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds):
        """The exit code of a process that was asked to stop; fails if there is none within `seconds`."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not stop within {seconds:.0f} s of being asked") from None


def indented(text):
    """The text with a margin, for output under a failure."""
    return "\n".join(f"      {line}" for line in text.splitlines())
