"""What other programs make of our ONNX files: the table in tools/README.md states what is measured here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest

import environments
from consumer_table import Cell, rounded, rows_of, stated
from detections import anchor_task
from project import ROOT
from sshconvert.calibration import CalibrationImages, calibrate
from sshconvert.checkpoint import Checkpoint, CheckpointFiles, open_checkpoint
from sshconvert.convert import convert
from sshconvert.libraries import import_onnxruntime
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options, Postprocessing, Precision
from sshtool.demo.scenes import draw_scene

MODEL: Final = load_model("ssh-mxnet")
SIZE: Final = 128
OPTIONS: Final = Options(formats=("onnx",), input_shape=(1, 3, SIZE, SIZE))
KINDS: Final = {
    "fixed": OPTIONS,
    "dynamic": replace(OPTIONS, dynamic=Dynamic.ALL),
    "post-processed": replace(OPTIONS, postprocessing=Postprocessing()),
    "INT8": replace(OPTIONS, precisions=(Precision.INT8,)),
}
QUICK: Final = ("OpenCV's dnn", "tract", "onnxoptimizer", "ONNX Runtime, extended", "ONNX Runtime, all")


def write_files(checkpoint: Checkpoint, folder: Path) -> Path:
    scenes = CalibrationImages(4, lambda number: draw_scene(300_000 + number, SIZE, SIZE).image, {})
    quantization = calibrate(checkpoint, OPTIONS, scenes)
    for kind, options in KINDS.items():
        levels = quantization if kind == "INT8" else None
        (artifact,) = convert(checkpoint, folder / "made", options, quantization=levels)
        artifact.path.rename(folder / f"{kind}.onnx")
        shape = (1, 3, 160, 192) if kind == "dynamic" else (1, 3, SIZE, SIZE)
        random: Any = np.random.RandomState(0)
        np.save(folder / f"{kind}.npy", (random.rand(*shape) * 255).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def files(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nncf")
    return write_files(plain_checkpoint, tmp_path_factory.mktemp("files"))


def assert_stated(measured: Any) -> None:
    """The reasons and the equal cells are those of the table; a difference is at most what it states, nor far below."""
    table = stated((ROOT / "tools/README.md").read_text(encoding="utf-8"))
    for name, version, cells in rows_of(measured):
        assert table[name][0] == version
        for cell, text in zip(cells, table[name][1:], strict=True):
            assert matches(cell, text), (name, cell, text)


def matches(cell: Cell, text: str) -> bool:
    if isinstance(cell, str) or cell == 0 or text == "equal" or not text[0].isdigit():
        return rounded(cell) == text
    return float(text) / 1000 < cell <= float(text)


@pytest.mark.consumer
def test_consumers_take_the_files_or_refuse_them_as_the_table_states(
    files: Path, environment: Callable[..., Path]
) -> None:
    assert_stated(environments.run(environment("others"), "others", files, *QUICK))


@pytest.mark.long
def test_the_table_of_consumers_states_what_is_measured(files: Path, environment: Callable[..., Path]) -> None:
    measured = environments.run(environment("others"), "others", files, timeout=900)
    assert_stated(measured)
    assert {name for name, *_ in measured} == set(stated((ROOT / "tools/README.md").read_text(encoding="utf-8")))


@pytest.mark.long
def test_consumers_take_the_trained_weights_of_retinaface(
    shared_data: Path, tmp_path: Path, environment: Callable[..., Path]
) -> None:
    model = load_model("retinaface-mnet25")
    params = shared_data / "zoo/params/retinaface-mnet25.params"
    symbol = shared_data / "zoo/symbols/retinaface-mnet25.json"
    if not params.is_file() or not symbol.is_file():
        pytest.skip("the trained weights of retinaface-mnet25 are not there")
    write_files(open_checkpoint(CheckpointFiles(symbol, params), model), tmp_path)
    for name, _, cells in rows_of(environments.run(environment("others"), "others", tmp_path, timeout=900)):
        assert not isinstance(cells[0], str), name
        assert cells[0] < 1e-3 or name == "its `quantize_dynamic`", name


def test_a_difference_or_a_reason_that_the_table_does_not_state_is_found() -> None:
    assert matches(0.0, "equal")
    assert matches(3e-6, "1e-05")
    assert matches("it has no GatherND", "it has no GatherND")
    for cell, text in ((1e-9, "equal"), (2e-5, "1e-05"), ("it has no GatherND", "1e-05"), (0.0, "1e-05"), (1e-6, "no")):
        assert not matches(cell, text)


# --- INT8 with ONNX Runtime's optimisation ----------------------------------------------------------------------------


def session(model: onnx.ModelProto, level: str, saved: Path | None = None) -> Any:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, f"ORT_{level}")
    if saved:
        options.optimized_model_filepath = str(saved)
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.consumer
def test_optimised_int8_differs_by_rounded_biases_and_sums_of_integers_that_are_exact(
    files: Path, tmp_path: Path
) -> None:
    """The basic level rounds the biases; every fused convolution is the exact sum, so nothing saturates."""
    model, image = onnx.load(files / "INT8.onnx"), draw_scene(500_000, SIZE, SIZE).image.transpose(2, 0, 1)[None]
    fed = {"data": image.astype(np.float32)}
    off = session(model, "DISABLE_ALL").run(None, fed)
    basic = session(model, "ENABLE_BASIC", tmp_path / "basic.onnx").run(None, fed)
    assert any(not np.array_equal(one, other) for one, other in zip(off, basic, strict=True))
    rewritten = onnx.load(tmp_path / "basic.onnx")
    before, after = (
        sum(tensor.data_type == onnx.TensorProto.INT32 for tensor in graph.graph.initializer)
        for graph in (model, rewritten)
    )
    assert after - before >= 20  # the biases
    session(model, "ENABLE_EXTENDED", tmp_path / "extended.onnx")
    assert_exact_convolutions(onnx.load(tmp_path / "extended.onnx"), fed)


def assert_exact_convolutions(model: onnx.ModelProto, fed: dict[str, Any]) -> None:
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "QLinearConv"]
    assert len(layers) >= 20
    known = {value.name for value in model.graph.output}
    for name in dict.fromkeys(name for node in layers for name in (node.input[0], node.output[0])):
        if name not in known:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    values = dict(
        zip([value.name for value in model.graph.output], session(model, "DISABLE_ALL").run(None, fed), strict=True)
    )
    for node in layers:
        source, scale, zero, kernel, kernel_scale, _, output_scale, output_zero, bias = node.input
        taken, factors = (
            values[source].astype(np.float32) - np.float32(weights[zero]),
            weights[kernel].astype(np.float32),
        )
        assert convolved(node, np.abs(taken), np.abs(factors)).max() < 2**24  # float32 holds every partial sum exactly
        exact = convolved(node, taken, factors).astype(np.float64) + weights[bias].reshape(1, -1, 1, 1)
        step = float(weights[scale]) * weights[kernel_scale].astype(np.float64) / float(weights[output_scale])
        levels = np.rint(exact * step.reshape(1, -1, 1, 1)) + float(weights[output_zero])
        result = values[node.output[0]]
        bounds = np.iinfo(result.dtype)
        # A sum half-way between two levels may go to either, by the rounding of the float32 factor.
        assert (np.clip(levels, bounds.min, bounds.max) != result).mean() < 1e-4, node.name


def convolved(node: onnx.NodeProto, data: Any, kernel: Any) -> Any:
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    convolution = onnx.helper.make_node("Conv", ["data", "kernel"], ["sum"], **attributes)
    kinds = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("data", "kernel")]
    result = onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([convolution], "convolution", kinds, [result])
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=7)
    return session(model, "DISABLE_ALL").run(None, {"data": data, "kernel": kernel})[0]


LEVELS: Final = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_LAYOUT", "ENABLE_ALL")


@pytest.mark.long
def test_int8_keeps_its_accuracy_at_every_level_of_optimisation(demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    size, task = 320, anchor_task(MODEL).for_quality()
    options = replace(OPTIONS, input_shape=(1, 3, size, size))
    images = CalibrationImages(20, lambda number: draw_scene(300_000 + number, size, size).image, {})
    levels = calibrate(demo_checkpoint, options, images)
    precisions = replace(options, precisions=(Precision.FP32, Precision.INT8))
    files = {
        artifact.precision: onnx.load(artifact.path)
        for artifact in convert(demo_checkpoint, tmp_path, precisions, quantization=levels)
    }
    scenes = [draw_scene(500_000 + number, size, size) for number in range(30)]

    def accuracy(precision: Precision, level: str) -> float:
        loaded = session(files[precision], level)
        names = [output.name for output in loaded.get_outputs()]
        results = []
        for scene in scenes:
            fed = {"data": scene.image.transpose(2, 0, 1)[None].astype(np.float32)}
            results += task.decode(dict(zip(names, loaded.run(names, fed), strict=True)), (size, size))
        return 100 * task.quality(results, [scene.faces for scene in scenes])

    exact = accuracy(Precision.FP32, "DISABLE_ALL")
    reached = {level: accuracy(Precision.INT8, level) for level in LEVELS}
    assert min(reached.values()) > exact - 3, (exact, reached)
    assert max(reached.values()) - min(reached.values()) < 1, reached
