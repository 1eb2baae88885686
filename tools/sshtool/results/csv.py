"""CSV: a row for each detection, with a header."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sshconvert.files import staged
from sshconvert.messages import name_text
from sshtool.results.base import RESULTS, Meaning, ResultFormat, Write
from sshtool.results.outcomes import Detected, rounded


@RESULTS.register("csv")
class Csv(ResultFormat):
    """Columns: image, label, score, x1, y1, x2, y2, then x and y of each landmark, the attributes, frame and time.

    Numbers are those of `detect --json`. An image without detections has no row. The last two are empty for an image
    that is no frame.
    """

    place = "detections.csv"

    @classmethod
    @contextmanager
    def opened(cls, path: Path, meaning: Meaning) -> Iterator[Write]:
        """See `ResultFormat.opened`."""
        landmarks = [f"{axis}_landmark{number}" for number in range(1, meaning.points + 1) for axis in "xy"]
        with staged(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(
                ["image", "label", "score", "x1", "y1", "x2", "y2", *landmarks, *meaning.attributes, "frame", "time"]
            )

            def write(item: Detected) -> None:
                for detection in item.detections:
                    line = rounded(detection)
                    points = [value for point in line.get("landmarks", ()) for value in point]
                    attributes = line.get("attributes", {}).values()
                    label = detection.label or meaning.labels[0]
                    numbers = (line["score"], *line["box"], *points, *attributes)
                    rows.writerow([name_text(item.image), label, *numbers, item.frame, item.time])

            yield write
