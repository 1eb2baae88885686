"""WIDER FACE's text format of predictions: a file for each image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sshconvert.files import staged
from sshconvert.messages import name_text
from sshtool.results.base import RESULTS, Meaning, ResultFormat, Write
from sshtool.results.outcomes import Detected


@RESULTS.register("wider")
class Wider(ResultFormat):
    """The image's name, the number of detections, and a line `x y width height score` for each.

    A width is x2 - x1, as in upstream's predictions. Files lie in a folder with the name of the image's folder, as
    WIDER FACE's events do. `sshtool evaluate --save-predictions` writes them by the protocol's rules.
    """

    place = "wider"

    @classmethod
    @contextmanager
    def opened(cls, path: Path, meaning: Meaning) -> Iterator[Write]:
        """See `ResultFormat.opened`; here each file appears with its image."""

        def write(item: Detected) -> None:
            event = item.image.resolve().parent.name or "images"
            lines = [name_text(item.name), str(len(item.detections))]
            for detection in item.detections:
                x1, y1, x2, y2 = detection.box
                lines.append(f"{x1:.3f} {y1:.3f} {x2 - x1:.3f} {y2 - y1:.3f} {detection.score:.6f}")
            with staged(path / event / f"{item.name}.txt") as part:
                part.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")

        yield write
