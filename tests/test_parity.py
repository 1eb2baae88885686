from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16

from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import Artifact, Format, Options, Precision, convert
from sshtool.parity.compare import compare_tensors, match_detections
from sshtool.runtimes import Outputs, Runtime, declared_contract, prepare
from sshtool.runtimes.mxnet import Mxnet
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.runtimes.openvino import OpenVino
from sshtool.scenes import draw_scene

BOTH = (Precision.FP32, Precision.FP16)
LARGEST = {Precision.FP32: 1e-5, Precision.FP16: 5e-2}
Images = npt.NDArray[np.uint8]


def load(artifact: Artifact) -> Runtime:
    return OnnxRuntime(artifact.path) if artifact.format is Format.ONNX else OpenVino(artifact.path)


def worst(expected: Outputs, found: Outputs) -> float:
    assert list(found) == list(expected)
    differences = [tensor.largest for tensor in compare_tensors(expected, found)]
    return max(float("inf") if value is None else value for value in differences)


@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize("size", [(640, 640), (500, 333)], ids=["640x640", "500x333"])
@pytest.mark.parametrize("name", ["demo", "plain"])
def test_every_format_and_precision_computes_what_mxnet_computes(
    name: str, size: tuple[int, int], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    checkpoint: Checkpoint = request.getfixturevalue(f"{name}_checkpoint")
    images = draw_scene(3, *size).image[None]
    expected = Mxnet(checkpoint).run(images)
    for artifact in convert(checkpoint, tmp_path, Options(precisions=BOTH, input_shape=(1, 3, *size))):
        found = worst(expected, load(artifact).run(images))
        assert found <= LARGEST[artifact.precision], (artifact.format, artifact.precision, found)


def test_stored_halves_are_at_most_as_far_from_fp32_as_a_full_fp16_conversion(
    demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    fp32, fp16 = convert(demo_checkpoint, tmp_path, Options((Format.ONNX,), BOTH, (1, 3, 160, 160)))
    full = convert_float_to_float16(onnx.load(fp32.path), keep_io_types=True)
    onnx.save(full, tmp_path / "full.onnx")
    scenes = [draw_scene(seed, 160, 160).image[None] for seed in range(6)]
    expected, ours, theirs = (
        [runtime.run(images) for images in scenes]
        for runtime in map(OnnxRuntime, (fp32.path, fp16.path, tmp_path / "full.onnx"))
    )
    assert 0 < max(map(worst, expected, ours)) <= max(map(worst, expected, theirs))


def test_the_original_contract_computes_the_same_as_the_built_in_one(
    demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    images = draw_scene(4, 160, 96).image[None]
    outputs = []
    for preprocessing in (True, False):
        options = Options(input_shape=(1, 3, 160, 96), preprocessing=preprocessing)
        artifacts = convert(demo_checkpoint, tmp_path / str(preprocessing), options)
        outputs += [load(artifact).run(images) for artifact in artifacts]
    assert all(worst(outputs[0], other) <= 1e-5 for other in outputs[1:])


def test_a_batch_gives_each_image_its_own_answer(demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    images = np.stack([draw_scene(seed, 128, 128).image for seed in (5, 6)])
    single, batch = (
        convert(demo_checkpoint, tmp_path / str(count), Options(input_shape=(count, 3, 128, 128))) for count in (1, 2)
    )
    for one, both in zip(single, batch, strict=True):
        together = load(both).run(images)
        for index in range(2):
            alone = load(one).run(images[index : index + 1])
            assert worst(alone, {name: array[index : index + 1] for name, array in together.items()}) <= 1e-5


@pytest.mark.parametrize("fault", ["RGB", "mean"])
def test_feeding_another_contract_than_the_declared_one_is_seen(
    fault: str, demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    options = Options((Format.ONNX,), (Precision.FP32,), (1, 3, 96, 96))
    runtime = OnnxRuntime(convert(demo_checkpoint, tmp_path, options)[0].path)
    images = draw_scene(7, 96, 96).image[None]
    expected = runtime.run(images)
    runtime._contract = {
        "color_order": "RGB" if fault == "RGB" else "BGR",
        "mean_values": (123.68, 116.779, 103.939) if fault == "mean" else (0, 0, 0),
    }
    assert worst(expected, runtime.run(images)) > 1e-2


def test_what_a_file_declares_is_what_it_is_fed() -> None:
    images: Images = np.array([[[[10, 20, 30]]]], np.uint8)
    bgr = prepare(images, **declared_contract({}))
    rgb = prepare(images, **declared_contract({"color_order": "RGB", "mean_values": "3 2 1"}))
    assert bgr.shape == (1, 3, 1, 1)
    assert bgr.ravel().tolist() == [10, 20, 30]
    assert rgb.ravel().tolist() == [27, 18, 9]


def test_differences_are_absolute_and_a_tensor_that_cannot_be_compared_has_none() -> None:
    expected = {"a": np.array([1.0, 2.0], np.float32), "b": np.zeros(2, np.float32), "c": np.zeros(2, np.float32)}
    found = {
        "a": np.array([1.5, 2.0], np.float32),
        "b": np.zeros(3, np.float32),
        "c": np.array([0, np.nan], np.float32),
    }
    first, *others = compare_tensors(expected, found)
    assert (first.largest, first.mean) == (0.5, 0.25)
    assert [(other.largest, other.mean) for other in others] == [(None, None)] * 2
    assert compare_tensors(expected, {})[0].largest is None


def test_detections_are_matched_one_to_one() -> None:
    box, near, far = [0, 0, 99, 99, 0.9], [1, 0, 99, 99, 0.8], [200, 200, 250, 250, 0.7]
    reference = np.array([box, far], np.float32)
    match = match_detections(reference, np.array([box, near], np.float32))
    assert (match.matched, match.missing, match.extra) == (1, 1, 1)
    assert match_detections(reference, reference).matched == 2
    assert match_detections(np.zeros((0, 5), np.float32), reference).extra == 2
