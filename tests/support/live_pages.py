"""Pages that run: a server of files on this machine, and Chromium controlled through DevTools."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from pages import QUIET

FLAGS: Final = (*QUIET, "--remote-debugging-pipe", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
# DevTools' pipes are the descriptors 3 and 4, which may be the others' numbers before.
START: Final = """\
import os, sys
for number, pipe in enumerate(map(int, sys.argv[1:3])):
    os.dup2(pipe, 103 + number)
for number in (3, 4):
    os.dup2(100 + number, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the files of a folder, as `python -m http.server` does, and give the URL of the folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class LivePage:
    """A page in headless Chromium. `messages` are the console's, `requests` the URLs that the page asked for."""

    def __init__(self, read: int, write: int, seconds: float) -> None:
        self._read, self._write, self._seconds = read, write, seconds
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.messages: list[str] = []
        self.requests: list[str] = []

    def open(self, url: str) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        end = time.monotonic() + self._seconds
        while (message := self._message(end)).get("method") != "Page.loadEventFired":
            self._note(message)

    def call(self, method: str, **parameters: Any) -> Any:
        """Give the result of a command of DevTools."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        end = time.monotonic() + self._seconds
        while (message := self._message(end)).get("id") != self._number:
            self._note(message)
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    def evaluate(self, expression: str) -> Any:
        """Give the value of an expression of JavaScript, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until an expression is true, and give its value."""
        end = time.monotonic() + self._seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} is not true: {self.evaluate('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def drop(self, *files: Path) -> None:
        """Drop files onto the middle of the page, as a person's pointer does."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=300, y=200, data=data)

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def press(self, key: str) -> None:
        codes = {"Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, "Enter": 13}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def screenshot(self, path: Path, scheme: str = "light", width: int = 1000, height: int = 1200) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.consoleAPICalled":
            self.messages.append(" ".join(str(item.get("value", item)) for item in parameters["args"]))
        elif message.get("method") == "Log.entryAdded":
            self.messages.append(parameters["entry"]["text"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.messages.append(str(parameters["exceptionDetails"]))
        elif message.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def _message(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(end - time.monotonic(), 0))
            assert ready, f"Chromium does not answer within {self._seconds} s"
            block = os.read(self._read, 1 << 20)
            assert block, "Chromium has ended"
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


@contextmanager
def live_page(
    program: str, folder: Path, url: str, flags: Sequence[str] = (), seconds: float = 120
) -> Iterator[LivePage]:
    """Open a page in Chromium with a new profile in `folder`. Every answer may take `seconds`."""
    (from_parent, write), (read, from_child) = os.pipe(), os.pipe()
    starter = [sys.executable, "-c", START, str(from_parent), str(from_child)]
    command = [*starter, program, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags]
    with subprocess.Popen(command, pass_fds=(from_parent, from_child), stderr=subprocess.DEVNULL) as process:
        os.close(from_parent)
        os.close(from_child)
        try:
            page = LivePage(read, write, seconds)
            page.open(url)
            yield page
        finally:
            os.close(write)  # Chromium ends
            os.close(read)
            process.kill()
