"""What the tests of pages share: a reader of HTML, and a real browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip
FLAGS = (
    *QUIET, "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=2000",
)  # fmt: skip
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"
# What Chromium asks for on its own account comes from nowhere.
NOBODY = "not an origin"
Pixels = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Browser:
    """Headless Chromium, with a new profile each time."""

    program: str
    folder: Path

    def run(self, page: str, *options: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "page.html").write_text(page, encoding="utf-8")
        shutil.rmtree(self.folder / "profile", ignore_errors=True)
        command = [self.program, *FLAGS, f"--user-data-dir={self.folder / 'profile'}", *options]
        address = (self.folder / "page.html").as_uri()
        return subprocess.run([*command, address], capture_output=True, text=True, check=True, timeout=120)

    def dom(self, page: str, *options: str) -> str:
        return self.run(page, "--dump-dom", *options).stdout

    def complaints(self, page: str) -> list[str]:
        """What the page, or its policy, says in the console, and whom the page calls."""
        log = self.folder / "net.json"
        errors = self.run(page, "--dump-dom", f"--log-net-log={log}").stderr
        events = json.loads(log.read_text(encoding="utf-8"))["events"]
        calls = [event["params"] for event in events if "initiator" in event.get("params", {})]
        return [
            *(line for line in errors.splitlines() if "CONSOLE" in line),
            *(call["url"] for call in calls if call["initiator"] != NOBODY),
        ]

    def screenshot(self, page: str, scheme: str, *, width: int = 1280, height: int = 6000) -> Pixels:
        picture = self.folder / "screenshot.png"
        self.run(page, scheme, f"--window-size={width},{height}", f"--screenshot={picture}")
        with Image.open(picture) as image:
            return np.asarray(image.convert("RGB"), np.int16)


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


VOID = frozenset({"meta", "br", "input", "img", "hr", "link"})


class Reader(HTMLParser):
    """Reads a page, and refuses one whose elements are not closed in the order in which they were opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if name in attributes]

    def count(self, tag: str, css_class: str = "") -> int:
        return sum(
            name == tag and (not css_class or css_class in attributes.get("class", "").split())
            for name, attributes in self.tags
        )
