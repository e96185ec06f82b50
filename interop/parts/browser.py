"""Chromium without a window, driven over a pipe with its DevTools protocol: clicks, keys, texts, screenshots.

The idea: messages are JSON with a zero byte behind each, over two file descriptors, so no library and no port is needed.
Errors of a page's script and breaches of its security policy are collected; a scenario asks for them at its end. The
browser may reach loopback and nothing else.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import time

from parts.child import Child
from parts.outcome import Failed, Skipped, poll, require

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ANSWER_SECONDS = 60.0
CLOSING_SECONDS = 20.0
# The protocol names keys by these.
KEY_CODES = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9}


def program():
    """Path of a Chromium; skips where there is none."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        raise Skipped("no Chromium is installed (Debian: apt-get install chromium)")
    return found


class Browser(Child):
    """One browser with one page; a context manager."""

    def __init__(self, width=1360, height=900):
        super().__init__("the browser")
        self._size = f"{width},{height}"
        self._number = 0
        self._unread = b""
        self._session = None
        self.complaints = []

    def __enter__(self):
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        # Out of the way of 3 and 4, which the browser expects.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs_in, theirs_out)]
        arguments = [program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                     "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
                     "--force-prefers-reduced-motion",
                     "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={self.folder}/profile",
                     f"--window-size={self._size}", "--remote-debugging-pipe", "about:blank"]
        shell = ["bash", "-c", f'exec "$@" 3<&{high[0]} 4>&{high[1]}', "bash", *arguments]
        self.launch(shell, pass_fds=high)
        for end in (theirs_in, theirs_out, *high):
            os.close(end)
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, kind, error, trace):
        self._close()
        super().__exit__(kind, error, trace)
        os.close(self._to)
        os.close(self._from)

    def _close(self):
        """Asks the browser to end, with its dozen processes; one that does not is killed like any other child."""
        self._session = None
        try:
            self._call("Browser.close")
            self.wait(CLOSING_SECONDS)
        except (Failed, OSError):
            pass

    def open(self, url):
        """Goes to a page; what it draws has to be waited for."""
        self._call("Page.navigate", url=url)

    def value(self, expression):
        """What a JavaScript expression gives on the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        require("exceptionDetails" not in answer, f"{expression}: {answer.get('exceptionDetails')}")
        return answer["result"].get("value")

    def wait_for(self, expression, what):
        """Waits until an expression gives something true, and returns that; elements may not be there yet."""
        guarded = f"(() => {{ try {{ return {expression}; }} catch {{ return null; }} }})()"
        return poll(lambda: self.value(guarded), what, seconds=60.0, interval=0.1)

    def click(self, selector):
        """Clicks into the middle of an element, as a mouse does."""
        place = self.value("(() => { const it = document.querySelector(%s); it.scrollIntoView({block: 'center', "
                           "behavior: 'instant'}); const box = it.getBoundingClientRect(); return [box.x + box.width / 2, "
                           "box.y + box.height / 2]; })()" % json.dumps(selector))
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def press(self, key):
        """Presses and lets go a key."""
        code = KEY_CODES.get(key, ord(key[0].upper()))
        text = {"text": key} if len(key) == 1 else {}
        self._call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def screenshot(self, path):
        """Writes what is seen as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            answer = self._message(deadline, method)
            if answer.get("id") == self._number:
                require("error" not in answer, f"{method}: {answer.get('error')}")
                return answer["result"]
            self._hear(answer)

    def _message(self, deadline, method):
        while b"\0" not in self._unread:
            readable, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            require(readable, f"the browser did not answer {method}")
            chunk = os.read(self._from, 1 << 16)
            require(chunk, f"the browser ended before it answered {method}")
            self._unread += chunk
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)

    def _hear(self, event):
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"])[:500])
        if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])
