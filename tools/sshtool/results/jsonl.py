"""JSON lines: the lines of `detect --json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sshconvert.files import staged
from sshtool.document import plain
from sshtool.results.base import RESULTS, Meaning, ResultFormat, Write
from sshtool.results.outcomes import Detected, as_json


@RESULTS.register("jsonl")
class JsonLines(ResultFormat):
    """One document a line, of the schema `detect.schema.json`."""

    place = "detections.jsonl"

    @classmethod
    @contextmanager
    def opened(cls, path: Path, meaning: Meaning) -> Iterator[Write]:
        """See `ResultFormat.opened`."""
        with staged(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:

            def write(item: Detected) -> None:
                body = {"schema_version": 1, "verb": "detect", **as_json(item)}
                file.write(f"{json.dumps(plain(body), ensure_ascii=False)}\n")

            yield write
