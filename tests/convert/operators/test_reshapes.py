"""What is made for one size, changed to another: it gives the original's answer there, or refuses; never nonsense."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from random_export import TOLERANCE, converted
from random_graphs import Array, random_graph
from sshconvert.calibration import CalibrationImages, calibrate
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import Artifact, convert
from sshconvert.errors import CheckpointError, ShapeError
from sshconvert.export import export
from sshconvert.graph import Shape
from sshconvert.ir import IntermediateRepresentation
from sshconvert.libraries import import_onnxruntime, import_openvino
from sshconvert.mxnet.params import read_params
from sshconvert.network import read_symbol, resolve
from sshconvert.onnx.model import OnnxModel
from sshconvert.options import InputType, Layout, Options, Postprocessing, Precision
from sshtool.runtimes.loading import load
from sshtool.runtimes.mxnet import Mxnet

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]
Images: TypeAlias = npt.NDArray[np.uint8]

BASE: Final = (1, 3, 64, 96)
# Another batch, sizes that nothing divides, the least there is, and the base's turned by a right angle.
SIZES: Final = [(3, 64, 96), (1, 250, 333), (2, 33, 47), (1, 96, 64)]
FORMS: Final = {
    "plain": Options(input_shape=BASE),
    "original": Options(input_shape=BASE, preprocessing=False),
    "frames and faces": Options(
        precisions=(Precision.FP16,),
        input_shape=BASE,
        layout=Layout.NHWC,
        input_type=InputType.UINT8,
        postprocessing=Postprocessing(keep_heads=True),
    ),
}
CASES: Final = [
    *(("plain", size) for size in SIZES),
    ("original", SIZES[2]),
    *(("frames and faces", size) for size in (SIZES[0], SIZES[2])),
]


def images_of(number: int, height: int, width: int) -> Images:
    return np.random.default_rng(height).integers(0, 256, (number, height, width, 3), np.uint8)


def fed(images: Images, options: Options, checkpoint: Checkpoint) -> npt.NDArray[Any]:
    """The images as the input of a file takes them."""
    values: npt.NDArray[Any] = images
    if not options.preprocessing:
        values = images[..., ::-1] - np.array(checkpoint.model.image.mean, np.float32)
    values = values if options.layout is Layout.NHWC else values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, np.uint8 if options.input_type is InputType.UINT8 else np.float32)


def in_onnxruntime(path: Path, values: npt.NDArray[Any], *, inner_outputs: bool = False) -> Tensors:
    """The file with other numbers in the declaration of its input, and nothing else changed; but outputs that are read
    inside too lose their declaration, which would contradict.
    """
    runtime, model = import_onnxruntime(), onnx.load(path)
    for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim, values.shape, strict=True):
        dimension.dim_value = size
    for output in model.graph.output if inner_outputs else ():
        output.type.tensor_type.ClearField("shape")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # it warns of the outputs' declarations
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: values}), strict=True))


def in_openvino(path: Path, values: npt.NDArray[Any], *, batch_alone: bool = False) -> Tensors:
    """The file after `reshape`, or `set_batch`, as model servers call them for `shape` and `batch_size: auto`."""
    core = import_openvino().Core()
    model = core.read_model(str(path))
    if batch_alone:
        import_openvino().set_batch(model, len(values))
    else:
        model.reshape(values.shape)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled([values])
    return {name: np.array(answer[port]) for port in compiled.outputs for name in port.get_names()}


def assert_same(found: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, npt.NDArray[Any]], name: str) -> None:
    for key, value in expected.items():
        assert found[key].shape == value.shape, (name, key)
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-3, err_msg=f"{name}, {key}")


@pytest.fixture(scope="module")
def made(
    plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Artifact, ...]]:
    return cache(lambda form: convert(plain_checkpoint, tmp_path_factory.mktemp("fixed"), FORMS[form]))


@pytest.mark.parametrize(("form", "size"), CASES, ids=str)
def test_a_file_of_one_size_follows_every_other(
    form: str,
    size: tuple[int, int, int],
    made: Callable[[str], tuple[Artifact, ...]],
    plain_checkpoint: Checkpoint,
    tmp_path: Path,
) -> None:
    options, images, (number, height, width) = FORMS[form], images_of(*size), size
    values = fed(images, options, plain_checkpoint)
    there = replace(options, formats=("onnx",), input_shape=(number, 3, height, width))
    expected = in_onnxruntime(convert(plain_checkpoint, tmp_path, there)[0].path, values)
    exported, ir = (artifact.path for artifact in made(form))
    found = {
        "ONNX": in_onnxruntime(exported, values, inner_outputs=bool(options.postprocessing)),
        "IR": in_openvino(ir, values),
    }
    if (height, width) == BASE[2:]:
        found["IR, batch alone"] = in_openvino(ir, values, batch_alone=True)
    for name, tensors in found.items():
        assert_same(tensors, expected, name)


@pytest.mark.parametrize("size", SIZES[1:3], ids=str)
def test_a_file_of_one_size_gives_the_originals_answer_at_others(
    size: tuple[int, int, int],
    made: Callable[[str], tuple[Artifact, ...]],
    plain_checkpoint: Checkpoint,
    mxnet: Any,  # noqa: ARG001  # without it, the test is skipped
) -> None:
    images = images_of(*size)
    expected = Mxnet(plain_checkpoint).run(images)
    exported, ir = (artifact.path for artifact in made("plain"))
    for run, path in ((in_onnxruntime, exported), (in_openvino, ir)):
        assert_same(run(path, fed(images, FORMS["plain"], plain_checkpoint)), expected, str(path))


def test_a_quantized_file_follows_other_sizes(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = Options(precisions=(Precision.INT8,), input_shape=BASE)
    pixels = CalibrationImages(2, lambda _: images_of(1, 64, 96)[0], {"calibration": "noise"})
    quantization = calibrate(plain_checkpoint, options, pixels)
    assert not [layer for layer in quantization.layers if layer.startswith("crop0")]  # which computes nothing
    images = images_of(2, 33, 47)
    there = replace(options, input_shape=(2, 3, 33, 47))
    for before, after in zip(
        convert(plain_checkpoint, tmp_path / "before", options, quantization=quantization),
        convert(plain_checkpoint, tmp_path / "after", there, quantization=quantization),
        strict=True,
    ):
        values = fed(images, options, plain_checkpoint)
        found = (in_onnxruntime if before.format == "onnx" else in_openvino)(before.path, values)
        expected = load(after.path, plain_checkpoint.model).run(images)
        for name, value in expected.items():
            assert found[name].shape == value.shape
            assert np.abs(found[name] - value).max() <= 0.05 * np.abs(value).max()


def as_ir(model: OnnxModel, folder: Path) -> Path:
    model.write(folder / "model.onnx")
    representation = IntermediateRepresentation(folder / "model.onnx", name="model")
    representation.save(folder / "model.xml", {})
    return folder / "model.xml"


def test_the_real_retinaface_follows_other_sizes(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "retinaface-16and32"
    graph = read_symbol(folder / "16and32-symbol.json")
    arrays = {name[4:]: array for name, array in read_params(folder / "16and32-0000.params").items()}

    def exported(shape: Shape) -> OnnxModel:
        return export(resolve(graph, {"data": shape}), arrays, {"data": shape}, name="retinaface")

    xml = as_ir(exported((1, 3, 64, 96)), tmp_path)
    for shape in ((3, 3, 64, 96), (1, 3, 125, 91), (2, 3, 33, 47)):
        values = np.random.default_rng(shape[0]).uniform(-120, 130, shape).astype(np.float32)
        exported(shape).write(tmp_path / "there.onnx")
        expected = in_onnxruntime(tmp_path / "there.onnx", values)
        assert_same(in_onnxruntime(tmp_path / "model.onnx", values), expected, "ONNX")
        assert_same(in_openvino(xml, values), expected, "IR")


# ONNX Runtime takes a window that is larger than its input; OpenVINO computes nothing of a crop of which only the shape
# is read.
LEFT_TO_RUNTIMES: Final = ("does not fit into", "is not inside")
DOSE: Final = 60
OPENVINO_EVERY: Final = 12


def other_shape(shape: Shape, seed: int) -> Shape:
    random = Random(seed)  # noqa: S311  # no secret
    number, channels, height, width = shape
    return random.choice(
        [
            (number + random.randint(1, 2), channels, height, width),
            (number, channels, height + random.randint(1, 5), width + random.randint(1, 5)),
            (number + 1, channels, max(1, height - 3), max(1, width - 2)),
            (number, channels, width, height),
        ]
    )


def follow(seed: int, folder: Path) -> str:
    """What a random network of one size says at another: "same", or that one of the two refuses."""
    graph = random_graph(seed)
    shape, arrays = other_shape(graph.input_shape, seed), graph.arrays(seed)
    values = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    model = converted(graph.document, arrays, graph.input_shape)
    try:
        expected: dict[str, Array] | None = _there(graph.document, arrays, shape, folder, values)
    except (ShapeError, CheckpointError) as error:
        if any(kind in str(error) for kind in LEFT_TO_RUNTIMES):
            return "left to the runtime"
        expected = None
    model.write(folder / "fixed.onnx")
    ways: list[Callable[[], Tensors]] = [lambda: in_onnxruntime(folder / "fixed.onnx", values, inner_outputs=True)]
    if seed % OPENVINO_EVERY == 0:
        ir = as_ir(model, folder)
        own = in_openvino(ir, np.zeros(graph.input_shape, np.float32))
        # Its plugin for CPUs gives padded convolutions of one pixel with strides, one behind the other, a wrong shape.
        if all(own[name].shape == right for name, right in graph.outputs.items()):
            ways.append(lambda: in_openvino(ir, values))
    outcome = ""
    for way in ways:
        try:
            found = way()
        except Exception:  # noqa: BLE001  # runtimes raise kinds of their own
            outcome = "refused by both" if expected is None else "refused"
            continue
        assert expected is not None, f"seed {seed}: {shape} gives an answer that the original has not"
        outcome = "same"
        for name, value in expected.items():
            assert found[name].shape == value.shape, f"seed {seed}, {name}"
            scale = TOLERANCE * max(np.abs(value).max(), 1e-3)
            np.testing.assert_allclose(found[name], value, rtol=0, atol=scale, err_msg=f"seed {seed}, {name}")
    return outcome


def _there(
    document: dict[str, Any], arrays: Mapping[str, Array], shape: Shape, folder: Path, values: Array
) -> dict[str, Array]:
    converted(json.loads(json.dumps(document)), arrays, shape).write(folder / "there.onnx")
    return in_onnxruntime(folder / "there.onnx", values)


def assert_random_networks_follow(seeds: range, folder: Path) -> None:
    outcomes = Counter(follow(seed, folder) for seed in seeds)
    # Poolings that round up, with padding or gaps, are fixed to their size.
    assert outcomes["refused"] <= 0.15 * len(seeds), outcomes
    assert outcomes["same"] >= 0.5 * len(seeds), outcomes


def test_random_networks_follow_or_refuse_another_size(tmp_path: Path) -> None:
    assert_random_networks_follow(range(DOSE), tmp_path)


@pytest.mark.long
def test_three_thousand_random_networks_follow_or_refuse_another_size(tmp_path: Path) -> None:
    assert_random_networks_follow(range(3000), tmp_path)
