"""The rounding that an artifact declares, and the network computed with it: what its runtime is measured against."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from sshconvert.arrays import Array
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.convert import convert
from sshconvert.formats.registry import format_of
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Precision
from sshconvert.rounding import Rounding
from sshtool.demo.recognition import write_recognition_checkpoint
from sshtool.runtimes.base import Outputs
from sshtool.runtimes.exact import Exact
from sshtool.runtimes.loading import load

# A runtime's error, in that of the same evaluation in float32.
FACTOR: Final = 4
FAULT: Final = 1.001
RECOGNITION: Final = load_model("face-recognition-mobilefacenet-arcface")
KINDS: Final = ("onnx", "openvino")


def difference(expected: Outputs, found: Outputs) -> float:
    """Return the largest difference of all outputs, relative to the output's largest number."""
    assert list(expected) == list(found)
    return max(float(np.abs(found[name] - array).max() / np.abs(array).max()) for name, array in expected.items())


def pixels(checkpoint: Checkpoint) -> Array:
    _, _, height, width = checkpoint.model.image_shape
    return np.random.default_rng(7).integers(0, 256, (1, height, width, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def normalised(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A network whose convolutions have a BatchNorm behind them, which OpenVINO multiplies into the weights."""
    folder = tmp_path_factory.mktemp("normalised")
    write_recognition_checkpoint(folder, RECOGNITION)
    return open_checkpoint(folder, RECOGNITION)


@pytest.fixture(scope="module")
def halved(normalised: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    options = Options(precisions=(Precision.FP16,))
    made = convert(normalised, tmp_path_factory.mktemp("halved"), options)
    return {artifact.format: artifact.path for artifact in made}


@pytest.fixture(scope="module")
def yardstick(normalised: Checkpoint) -> float:
    images = pixels(normalised)
    return difference(Exact(normalised).run(images), Exact(normalised, single=True).run(images))


def rounding_of(path: Path, checkpoint: Checkpoint) -> Rounding:
    network = checkpoint.resolve(checkpoint.model.input_shapes)
    return format_of(path).read_rounding(path, network, checkpoint.parameters)


def error(path: Path, checkpoint: Checkpoint, rounding: Rounding) -> float:
    images = pixels(checkpoint)
    return difference(Exact(checkpoint, rounding=rounding).run(images), load(path, checkpoint.model).run(images))


@pytest.mark.independent
@pytest.mark.parametrize("kind", KINDS)
def test_an_fp16_file_is_as_near_to_the_network_with_its_rounding_as_float32_is_to_the_exact_one(
    kind: str, normalised: Checkpoint, halved: dict[str, Path], yardstick: float
) -> None:
    rounding = rounding_of(halved[kind], normalised)
    assert len(rounding.rules) > 15
    assert any(rule.factor is not None for rule in rounding.rules.values()) == (kind == "openvino")
    assert 0 < yardstick < 1e-5
    assert error(halved[kind], normalised, rounding) < FACTOR * yardstick
    assert error(halved[kind], normalised, Rounding()) > 20 * FACTOR * yardstick


@pytest.mark.independent
@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_of_an_fp16_file_that_is_off_by_a_thousandth_is_far_outside(
    kind: str, normalised: Checkpoint, halved: dict[str, Path], yardstick: float, tmp_path: Path
) -> None:
    shutil.copytree(halved[kind].parent, tmp_path / "faulty")
    path = tmp_path / "faulty" / halved[kind].name
    model = format_of(path).edit(path)
    layer = model.convolutions[len(model.convolutions) // 2]
    weight = model.weight(layer).copy()
    weight[int(np.abs(weight).reshape(len(weight), -1).sum(1).argmax())] *= FAULT
    model.set_weight(layer, weight)
    model.save()
    assert error(path, normalised, rounding_of(path, normalised)) > 2 * FACTOR * yardstick
