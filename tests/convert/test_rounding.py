"""The rounding that an artifact declares, and the network computed with it: what its runtime is measured against."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest

from sshconvert.arrays import Array
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.convert import convert
from sshconvert.errors import PrecisionError
from sshconvert.formats.registry import format_of
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Precision
from sshconvert.passes import int8
from sshconvert.passes.int8 import Quantization, WeightLevels
from sshconvert.rounding import FLOAT_LIMIT, Half, Levels, Rounding
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


# --- INT8 -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def levels(normalised: Checkpoint) -> Quantization:
    """Levels of every convolution, whose steps follow from one image."""
    graph = normalised.resolve(normalised.model.input_shapes).graph
    tensors = Exact(normalised, single=True).layers(pixels(normalised))
    inputs: dict[int8.Place, int8.Levels] = {}
    weights: dict[str, WeightLevels] = {}
    for node in graph.nodes:
        if node.operator == "Convolution":
            source, weight = (graph.nodes[entry.node].name for entry in node.inputs[:2])
            largest = float(np.abs(tensors[source]).max())
            inputs[node.name, 0] = int8.Levels(largest / 127, 0, True, frozenset([node.name]))  # signed
            rows = np.abs(normalised.parameters[weight]).reshape(len(normalised.parameters[weight]), -1)
            weights[node.name] = WeightLevels((rows.max(1) / 127).astype(np.float32), 0)
    return Quantization(inputs, weights)


@pytest.fixture(scope="module")
def quantized(
    normalised: Checkpoint, levels: Quantization, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    options = Options(precisions=(Precision.INT8,))
    made = convert(normalised, tmp_path_factory.mktemp("quantized"), options, quantization=levels)
    return {artifact.format: artifact.path for artifact in made}


def followed(path: Path, checkpoint: Checkpoint) -> tuple[float, float]:
    """Return the error of the outputs, and the largest distance beyond half a level between layers, in its limit."""
    images, rounding = pixels(checkpoint), rounding_of(path, checkpoint)
    observed = load(path, checkpoint.model).tensors(images, rounding.tensors)
    following = rounding.following(observed)
    expected = Exact(checkpoint, rounding=following).run(images)
    limits = rounding.limits(checkpoint.resolve(checkpoint.model.input_shapes))
    assert following.beyond.keys() == limits.keys()
    assert all(FLOAT_LIMIT <= limit < 0.1 for limit in limits.values())
    return difference(expected, {name: observed[name] for name in expected}), max(
        following.beyond[place] / limit for place, limit in limits.items()
    )


@pytest.mark.independent
@pytest.mark.parametrize("kind", KINDS)
def test_every_level_that_a_runtime_chooses_is_the_nearest_to_what_follows_from_its_levels_before(
    kind: str, normalised: Checkpoint, quantized: dict[str, Path], levels: Quantization, yardstick: float
) -> None:
    rounding = rounding_of(quantized[kind], normalised)
    assert len(rounding.rules) == len(levels.inputs) + len(levels.weights)
    found, beyond = followed(quantized[kind], normalised)
    assert found < FACTOR * yardstick
    assert beyond < 1


@pytest.mark.independent
def test_a_step_of_a_filter_that_is_off_by_a_thousandth_moves_numbers_far_beyond_half_a_level(
    normalised: Checkpoint, quantized: dict[str, Path], levels: Quantization, tmp_path: Path
) -> None:
    model = onnx.load(quantized["onnx"])
    layer = list(levels.weights)[2]
    names = {node.name: node for node in model.graph.node}
    name = names[names[layer].input[1]].input[1]
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    steps = onnx.numpy_helper.to_array(tensor).copy()
    steps[steps.argmax()] *= FAULT
    tensor.CopyFrom(onnx.numpy_helper.from_array(steps, name))
    onnx.save(model, tmp_path / "faulty.onnx")
    assert followed(tmp_path / "faulty.onnx", normalised)[1] > 4


# --- the rules --------------------------------------------------------------------------------------------------------


def test_float16_rounds_the_product_with_the_factor_and_takes_the_stored_number_at_a_tie_alone() -> None:
    weights = np.array([1 + 2**-11 + 2**-30, 1 + 2**-12, 3.0])
    np.testing.assert_array_equal(Half().apply(weights), [1 + 2**-10, 1, 3])
    stored = np.array([1, 1 + 2**-10, 3.002], np.float16)
    np.testing.assert_array_equal(Half(stored=stored).apply(weights), [1, 1, 3])
    factor = np.array([3.0, 0, -0.1])
    expected = (weights * factor).astype(np.float16).astype(np.float64)
    np.testing.assert_array_equal(Half(factor).apply(weights) * factor, expected)
    assert Half().apply(weights.astype(np.float32)).dtype == np.float32


def test_levels_clip_at_their_ends_and_a_step_of_zero_is_a_channel_of_zeros() -> None:
    rule = Levels(scale=np.array(0.5), zero_point=np.array(10.0))
    np.testing.assert_array_equal(rule.apply(np.array([-9, -0.2, 0, 0.25, 0.75, 200])), [-5, 0, 0, 0, 1, 122.5])
    still = Levels(np.zeros((1, 1)), scale=np.zeros((1, 1)), least=-128, largest=127)
    np.testing.assert_array_equal(still.apply(np.ones((1, 3))), np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("chosen", "beyond"),
    [
        pytest.param([3, 4, 0], 0, id="the nearest, or either at a tie"),
        pytest.param([3, 6, 0], 1, id="the next but one at a tie"),
        pytest.param([4, 4, 0], 0.6, id="not the nearest"),
        pytest.param([3, 4, np.nan], np.inf, id="not a number"),
        pytest.param([3, 4], np.inf, id="another size"),
    ],
)
def test_a_level_is_as_far_beyond_the_nearest_as_the_runtime_chose_it(chosen: list[float], beyond: float) -> None:
    rule = Levels(scale=np.array(1.0), tensor="rounded")
    following = Rounding({("layer", 0): rule}).following({"rounded": np.array(chosen)})
    inputs = following.inputs("layer", [np.array([2.9, 4.5, -7])])
    assert following.beyond["layer", 0] == pytest.approx(beyond)
    if np.isfinite(beyond):
        np.testing.assert_array_equal(inputs[0], chosen)


def test_a_file_whose_rounding_is_not_the_networks_is_refused_by_name(
    normalised: Checkpoint, halved: dict[str, Path], tmp_path: Path
) -> None:
    model = onnx.load(halved["onnx"])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float16), "unknown"))
    onnx.save(model, tmp_path / "strange.onnx")
    with pytest.raises(PrecisionError, match=r"strange\.onnx: unknown: .*; convert again"):
        rounding_of(tmp_path / "strange.onnx", normalised)
