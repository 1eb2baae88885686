"""Detections in a Parquet file, read by PyArrow at the locked version."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from media import Media

pytestmark = [
    pytest.mark.consumer,
    pytest.mark.skipif(sys.platform != "linux", reason="the environment's folders are those of Linux"),
]


def test_parquet_is_what_arrow_reads(environment: Callable[..., Path], tmp_path: Path) -> None:
    found = Media(environment).script("parquet_results", tmp_path)
    types = {"image": "string", "frame": "int32", "time": "double", "width": "int32", "height": "int32"}
    types |= {"label": "string", **dict.fromkeys(("score", "x1", "y1", "x2", "y2"), "float")}
    assert found["types"] == types | {"landmarks": "list<element: float>", "mask": "float"}
    dog, cat, none, frame = found["rows"]
    place = {"image": "photos/a,b.jpg", "frame": None, "time": None, "width": 100, "height": 80}
    box = {"x1": 10, "y1": 20, "x2": 29, "y2": 49}
    assert dog == {**place, **box, "label": "dog", "score": 0.75, "landmarks": [15, 25.5], "mask": 0.25}
    assert (cat["label"], cat["image"]) == ("cat", "photos/a,b.jpg")
    assert (none["image"], none["label"], none["score"], none["landmarks"]) == ("photos/empty.jpg", None, None, None)
    assert (frame["image"], frame["frame"], frame["time"]) == ("clip\\xff.mp4", 12, 0.48)


def test_many_rows_are_in_several_groups_and_a_failure_leaves_the_old_file(
    environment: Callable[..., Path], tmp_path: Path
) -> None:
    found = Media(environment).script("parquet_results", tmp_path)
    assert found["many"] == {"rows": 25_000, "groups": 3}
    assert found["after a failure"] == "old"
