"""YOLO's text format: a file for each image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sshconvert.files import staged
from sshtool.results.base import RESULTS, Meaning, ResultFormat, Write
from sshtool.results.outcomes import Detected

_DIGITS = 6


@RESULTS.register("yolo")
class Yolo(ResultFormat):
    """A line is `class x y width height score`: the class's number, the box's centre and size relative to the image.

    `classes.txt` holds the names of the classes. Files have the names of the images; an image without detections has an
    empty one.
    """

    place = "yolo"
    names_files = True

    @classmethod
    @contextmanager
    def opened(cls, path: Path, meaning: Meaning) -> Iterator[Write]:
        """See `ResultFormat.opened`; here each file appears with its image."""
        with staged(path / "classes.txt") as part:
            part.write_text("".join(f"{label}\n" for label in meaning.labels), encoding="utf-8", newline="\n")

        def write(item: Detected) -> None:
            lines = []
            for detection in item.detections:
                x1, y1, x2, y2 = detection.box
                right, bottom = x2 + meaning.last_pixel, y2 + meaning.last_pixel
                centre = (x1 + right) / 2 / item.width, (y1 + bottom) / 2 / item.height
                size = (right - x1) / item.width, (bottom - y1) / item.height
                numbers = " ".join(f"{value:.{_DIGITS}f}" for value in (*centre, *size, detection.score))
                lines.append(f"{meaning.class_id(detection.label)} {numbers}\n")
            with staged(path / "labels" / f"{item.name}.txt") as part:
                part.write_text("".join(lines), encoding="utf-8", newline="\n")

        yield write
