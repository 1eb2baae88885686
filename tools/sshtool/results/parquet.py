"""Parquet: a row for each detection, for large jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sshconvert.files import staged
from sshconvert.libraries import PYARROW, importing
from sshconvert.messages import name_text
from sshtool.results.base import RESULTS, Meaning, ResultFormat, Write
from sshtool.results.outcomes import Detected

ROWS_AT_ONCE: Final = 10_000  # in memory, and in a row group


@RESULTS.register("parquet")
class Parquet(ResultFormat):
    """Columns: image, frame, time, width, height, label, score, x1, y1, x2, y2, landmarks (x, y in turn), attributes.

    Numbers are float32, not rounded; times are float64. An image without detections has one row without a score. An
    image that is no frame has neither frame nor time.
    """

    place = "detections.parquet"
    needs = PYARROW

    @classmethod
    @contextmanager
    def opened(cls, path: Path, meaning: Meaning) -> Iterator[Write]:
        """See `ResultFormat.opened`. Raises RuntimeUnavailableError without PyArrow."""
        with importing(PYARROW):
            import pyarrow as pa
            from pyarrow import parquet
        number = pa.float32()
        fields = {
            "image": pa.string(),
            "frame": pa.int32(),
            "time": pa.float64(),
            "width": pa.int32(),
            "height": pa.int32(),
            "label": pa.string(),
            **dict.fromkeys(("score", "x1", "y1", "x2", "y2"), number),
            "landmarks": pa.list_(number),
            **dict.fromkeys(meaning.attributes, number),
        }
        schema = pa.schema(list(fields.items()))
        rows: list[dict[str, Any]] = []
        with staged(path) as part, parquet.ParquetWriter(part, schema) as file:

            def flush() -> None:
                file.write_table(pa.Table.from_pylist(rows, schema))
                rows.clear()

            def write(item: Detected) -> None:
                rows.extend(_rows(item, meaning))
                if len(rows) >= ROWS_AT_ONCE:
                    flush()

            yield write
            flush()


def _rows(item: Detected, meaning: Meaning) -> Iterator[dict[str, Any]]:
    place = {"image": name_text(item.image), "frame": item.frame, "time": item.time}
    image = {**place, "width": item.width, "height": item.height}
    if not item.detections:
        yield image
    for detection in item.detections:
        yield {
            **image,
            "label": detection.label or meaning.labels[0],
            "score": detection.score,
            **dict(zip(("x1", "y1", "x2", "y2"), detection.box, strict=True)),
            "landmarks": [value for point in detection.landmarks for value in point],
            **detection.attributes,
        }
