"""Writes detections as Parquet and reads them with PyArrow: `parquet_results.py FOLDER`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from pyarrow import parquet

from sshtool.results.base import RESULTS, Meaning
from sshtool.results.outcomes import Detected, Detection
from sshtool.results.parquet import Parquet

MEANING = Meaning(("cat", "dog"), last_pixel=1, attributes=("mask",), points=1)
DOG = Detection((10, 20, 29, 49), 0.75, "dog", ((15.0, 25.5),), {"mask": 0.25})
CAT = Detection((0, 0, 99, 79), 0.5, "cat", ((1.0, 2.0),), {"mask": 0.5})


def image(name: str, *detections: Detection, frame: int | None = None, time: float | None = None) -> Detected:
    return Detected(Path(name), 100, 80, detections, None, "f32", Path(name).stem, (), frame, time)


def main(folder: Path) -> None:
    assert RESULTS["parquet"] is Parquet
    items = (image("photos/a,b.jpg", DOG, CAT), image("photos/empty.jpg"))
    path = folder / "new" / Parquet.place
    with Parquet.opened(path, MEANING) as write:
        for item in items:
            write(item)
        write(image("clip\udcff.mp4", CAT, frame=12, time=0.48))
    table = parquet.read_table(path)
    types = {field.name: str(field.type) for field in table.schema}

    many = folder / "many.parquet"
    with Parquet.opened(many, MEANING) as write:
        for _ in range(12_500):
            write(items[0])
    file = parquet.ParquetFile(many)

    old = folder / "old.parquet"
    old.write_text("old")
    with contextlib.suppress(ZeroDivisionError), Parquet.opened(old, MEANING) as write:
        write(items[0])
        _ = 1 / 0
    found = {
        "types": types,
        "rows": table.to_pylist(),
        "many": {"rows": file.metadata.num_rows, "groups": file.num_row_groups},
        "after a failure": old.read_text(),
    }
    print(json.dumps(found))  # noqa: T201  # a script


if __name__ == "__main__":
    main(Path(sys.argv[1]))
