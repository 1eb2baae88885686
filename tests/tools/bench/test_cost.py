"""What a conversion costs, and that it grows no faster than the checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest

from command_line import json_of
from limited_process import folder_in_memory
from sshconvert.models.registry import load_model
from sshconvert.onnx.model import MAX_BYTES, weights_path
from sshtool.demo.scenes import draw_scene
from sshtool.runtimes.loading import load

MODEL: Final = load_model("ssh-mxnet")

MO: Final = 488  # MB that openvino-dev 2023.3's `mo` takes for one IR of the real network: tests/benchmarks
SMALL: Final = ("--input-shape", "1,3,64,64", "--precision", "FP32,FP16", "--quiet")


@contextmanager
def wide_checkpoint(width: str) -> Iterator[Path]:
    """A folder with one of `width` squared times 79 MB."""
    with folder_in_memory() as folder:
        assert json_of("scaled_checkpoint.py", folder, width)
        yield folder


def cost_of_conversion(folder: Path) -> Any:
    """Of all four artifacts, in a process of its own."""
    program = (sys.executable, "-m", "sshtool", "convert", "--checkpoint", folder, "--output-dir", folder / "out")
    return json_of("command_cost.py", *program, *SMALL, seconds=600)


def megabytes(folder: Path) -> float:
    return (folder / MODEL.checkpoint.params).stat().st_size / 2**20


def test_four_artifacts_take_at_most_half_of_the_memory_that_mo_takes_for_one() -> None:
    with wide_checkpoint("1") as folder:
        assert 70 < megabytes(folder) < 80
        assert cost_of_conversion(folder)["memory"] <= MO / 2


@pytest.mark.long
def test_cost_grows_with_the_checkpoint_and_no_faster() -> None:
    seconds = []
    for width in ("1", "2", "4"):
        with wide_checkpoint(width) as folder:
            size = megabytes(folder)
            cost = cost_of_conversion(folder)
            assert cost["memory"] <= 1.5 * size + 200, f"{size:.0f} MB"
            seconds.append(cost["cpu"] / size)
    assert size > 1200
    # Per megabyte. What every conversion costs, whatever its size, is half of the smallest one's.
    assert max(seconds) == seconds[0]
    assert seconds[2] <= 1.25 * seconds[1]


@pytest.mark.long
def test_weights_beyond_two_gigabytes_are_in_a_file_of_their_own_that_runtimes_load() -> None:
    with wide_checkpoint("11/2") as folder:
        cost = cost_of_conversion(folder)
        assert cost["memory"] <= 1.5 * megabytes(folder) + 200
        path = folder / "out" / MODEL.name / "FP32" / f"{MODEL.name}.onnx"
        assert weights_path(path).stat().st_size > MAX_BYTES
        onnx.checker.check_model(str(path))
        image = draw_scene(0, 64, 64).image[None]
        original = load(path.with_suffix(".xml"), MODEL).run(image)
        for key in ("onnxruntime", "openvino"):
            for name, values in load(path, MODEL, key=key).run(image).items():
                np.testing.assert_allclose(values, original[name], rtol=1e-3, atol=1e-3, err_msg=f"{key} {name}")
