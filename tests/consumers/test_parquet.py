"""Detections in a Parquet file, read by PyArrow at the locked version."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from media import Media
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.options import Options

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


def test_the_verb_writes_the_detections_that_it_prints(
    environment: Callable[..., Path], plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    convert(plain_checkpoint, tmp_path, Options(("onnx",), input_shape=(1, 3, 64, 64)))
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 70, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    arguments = ("detect", tmp_path, "-o", tmp_path, "--threshold", "0.3", "--save-results", "parquet")
    lines = Media(environment).lines(*arguments)
    path = tmp_path / "ssh-mxnet" / "detections" / "detections.parquet"
    rows = Media(environment).script("parquet_rows", path)
    expected = [(line["image"], row["box"]) for line in lines for row in line["detections"]]
    assert expected
    assert [row["image"] for row in rows] == [image for image, _ in expected]
    for row, (_, box) in zip(rows, expected, strict=True):
        assert [row[name] for name in ("x1", "y1", "x2", "y2")] == pytest.approx(box, abs=0.001)
