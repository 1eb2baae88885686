from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from sshconvert.arrays import Array
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.convert import convert, plan, to_onnx
from sshconvert.digest import file_sha256
from sshconvert.errors import OutputError, PrecisionError, PreprocessingError, ShapeError
from sshconvert.onnx.model import MAX_BYTES, OnnxModel, weights_path
from sshconvert.options import Options, Precision
from sshconvert.passes.fp16 import StoreWeightsAsFp16
from sshconvert.passes.preprocessing import BakePreprocessing
from sshtool.demo.scenes import draw_scene
from sshtool.runtimes.loading import load

ONNX_ONLY = Options(formats=("onnx",), precisions=(Precision.FP32, Precision.FP16), input_shape=(1, 3, 128, 128))


def written(model: OnnxModel, folder: Path) -> Path:
    path = folder / "model.onnx"
    model.write(path)
    return path


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.fixture(scope="module")
def fp32(plain_checkpoint: Checkpoint) -> OnnxModel:
    return to_onnx(plain_checkpoint, Options())


def test_the_file_passes_the_full_check_and_strict_shape_inference(fp32: OnnxModel, tmp_path: Path) -> None:
    for index, model in enumerate((fp32, StoreWeightsAsFp16().apply(fp32))):
        path = written(model, tmp_path / str(index))
        onnx.checker.check_model(str(path), full_check=True)
        inferred = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True, data_prop=True)
        shapes = {
            output.name: tuple(size.dim_value for size in output.type.tensor_type.shape.dim)
            for output in inferred.graph.output
        }
        assert shapes == dict(fp32.outputs)


def test_the_graph_is_clean(fp32: OnnxModel, tmp_path: Path) -> None:
    model = onnx.load(written(fp32, tmp_path))
    assert operators(model) == {
        "Conv": 37,
        "Relu": 25,
        "Reshape": 7,
        "MaxPool": 5,
        "Concat": 4,
        "Softmax": 3,
        "Add": 1,
        "ConvTranspose": 1,
        "Sub": 1,
        # Of the Crop, which follows the shapes of the run.
        "Shape": 1,
        "Gather": 1,
        "Slice": 1,
    }


def test_nodes_and_outputs_are_named_as_in_mxnet_in_the_order_of_the_model_card(
    fp32: OnnxModel, plain_checkpoint: Checkpoint
) -> None:
    mxnet_names = {node.name for node in plain_checkpoint.graph.nodes}
    own = {"data_minus_mean", *(f"crop0_{role}" for role in ("like", "size", "expected", "window"))}
    assert {node.name for node in fp32.nodes} - mxnet_names == own
    assert [node.output[0] for node in fp32.nodes] == [node.name for node in fp32.nodes]
    assert tuple(fp32.outputs) == plain_checkpoint.model.output_names
    assert list(fp32.outputs.values()) == [(1, channels, size, size) for size in (20, 40, 80) for channels in (4, 8)]


def test_an_input_too_small_for_the_network_is_refused_with_the_node(plain_checkpoint: Checkpoint) -> None:
    with pytest.raises(ShapeError, match="pooling0"):
        to_onnx(plain_checkpoint, Options(input_shape=(1, 3, 16, 640)))


@pytest.mark.parametrize(
    "shape", [(1, 4, 64, 64), (3, 64, 64), (64, 3, 64)], ids=["channels", "dimensions", "dimensions of which one is 3"]
)
def test_an_input_that_is_no_batch_of_images_is_refused(plain_checkpoint: Checkpoint, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected N, 3, H, W"):
        to_onnx(plain_checkpoint, Options(input_shape=shape))


def test_metadata_says_what_the_file_is_and_how_to_feed_it(demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    (path, _) = (artifact.path for artifact in convert(demo_checkpoint, tmp_path, ONNX_ONLY))
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert found["weights"] == demo_checkpoint.weights
    assert found["color_order"] == "BGR"
    assert found["mean_values"] == "0 0 0"
    assert found["strides"] == "32 16 8"
    assert found["precision"] == "FP32"
    assert found["tool"].startswith("sshtool ")
    assert "not the trained detector" in found["license_weights"]
    plain = to_onnx(demo_checkpoint, replace(ONNX_ONLY, preprocessing=False)).metadata
    assert (plain["color_order"], plain["mean_values"]) == ("RGB", "123.68 116.779 103.939")


def test_the_same_checkpoint_gives_the_same_bytes(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    runs = [convert(plain_checkpoint, tmp_path / name, ONNX_ONLY) for name in ("first", "second")]
    for first, second in zip(*runs, strict=True):
        assert first.path.read_bytes() == second.path.read_bytes()


@pytest.fixture
def two_files(fp32: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is written of a model that is too large for one file."""
    monkeypatch.setattr("sshconvert.onnx.model.MAX_BYTES", 1 << 20)
    return written(fp32, tmp_path)


def test_of_more_than_one_file_can_hold_the_large_weights_are_in_another(
    fp32: OnnxModel, two_files: Path, tmp_path: Path
) -> None:
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["model.onnx", "model.onnx.data"]
    assert two_files.stat().st_size < 50_000
    onnx.checker.check_model(str(two_files), full_check=True)
    for tensor in onnx.load(two_files, load_external_data=False).graph.initializer:
        assert (tensor.data_location == onnx.TensorProto.EXTERNAL) == (fp32.initializers[tensor.name].nbytes >= 1024)
        assert all(int(entry.value) % 4096 == 0 for entry in tensor.external_data if entry.key == "offset")
    for tensor in onnx.load(two_files).graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), fp32.initializers[tensor.name])


def test_the_limit_is_that_of_the_file_and_not_of_its_weights(
    fp32: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = written(fp32, tmp_path).stat().st_size
    for limit, files in ((size, 1), (size - 1, 2)):
        monkeypatch.setattr("sshconvert.onnx.model.MAX_BYTES", limit)
        written(fp32, tmp_path)
        assert len(list(tmp_path.iterdir())) == files


def test_the_limit_is_what_protobuf_takes() -> None:
    assert MAX_BYTES == onnx.checker.MAXIMUM_PROTOBUF


def test_two_files_are_the_same_each_time_and_go_when_one_file_will_do(
    fp32: OnnxModel, two_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {path.name: file_sha256(path) for path in tmp_path.iterdir()}
    fp32.write(two_files)
    assert {path.name: file_sha256(path) for path in tmp_path.iterdir()} == first
    monkeypatch.undo()
    fp32.write(two_files)
    assert list(tmp_path.iterdir()) == [two_files]


def test_both_files_of_a_large_model_are_artifacts_and_its_ir_is_that_of_one_file(
    plain_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(input_shape=(1, 3, 64, 64))
    single = convert(plain_checkpoint, tmp_path / "single", options)
    monkeypatch.setattr("sshconvert.onnx.model.MAX_BYTES", 1 << 20)
    made = convert(plain_checkpoint, tmp_path / "two", options)
    assert [[path.name for path in artifact.files] for artifact in made] == [
        ["ssh-mxnet.onnx", "ssh-mxnet.onnx.data"],
        ["ssh-mxnet.xml", "ssh-mxnet.bin"],
    ]
    image = draw_scene(0, 64, 64).image[None]
    expected = load(single[0].path, plain_checkpoint.model).run(image)
    for key, path in (("onnxruntime", made[0].path), ("openvino", made[0].path), ("openvino", made[1].path)):
        runtime = load(path, plain_checkpoint.model, key=key)
        for name, values in runtime.run(image).items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4)
    layers = load(made[0].path, plain_checkpoint.model).layers(image)
    assert layers.keys() == load(single[0].path, plain_checkpoint.model).layers(image).keys()
    monkeypatch.undo()
    (again, _) = convert(plain_checkpoint, tmp_path / "two", options)
    assert again.files == (again.path,)
    assert not weights_path(again.path).exists()
    assert again.path.read_bytes() == single[0].path.read_bytes()


def test_a_checkpoint_gives_its_memory_back_when_it_is_told_to(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(plain_checkpoint.params_path.parent, plain_checkpoint.model)
    options = Options(input_shape=(1, 3, 64, 64))
    convert(checkpoint, tmp_path, options)
    assert checkpoint.parameters
    convert(checkpoint, tmp_path, options, release=True)
    assert not checkpoint.parameters


def test_a_linked_file_holds_the_same_weights_without_their_bytes(fp32: OnnxModel, tmp_path: Path) -> None:
    whole, linked = written(fp32, tmp_path), tmp_path / "linked.onnx"
    fp32.write_linked(linked, whole)
    assert linked.stat().st_size < 50_000
    one, other = onnx.load(whole), onnx.load(linked)
    assert list(one.graph.node) == list(other.graph.node)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in other.graph.initializer}
    assert arrays.keys() == fp32.initializers.keys()
    for tensor in one.graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), arrays[tensor.name])


def test_folding_the_reversal_changes_only_the_first_weights_and_adds_one_subtraction(
    plain_checkpoint: Checkpoint,
) -> None:
    plain = to_onnx(plain_checkpoint, Options(preprocessing=False))
    baked = BakePreprocessing("data", (1.0, 2.0, 3.0)).apply(plain)
    assert [node for node in baked.nodes if node.op_type == "Sub"] == [baked.nodes[0]]
    assert baked.initializers["data_mean"].ravel().tolist() == [3.0, 2.0, 1.0]
    changed = [name for name in plain.initializers if plain.initializers[name] is not baked.initializers[name]]
    assert changed == ["conv1_1_weight"]
    np.testing.assert_array_equal(baked.initializers["conv1_1_weight"], plain.initializers["conv1_1_weight"][:, ::-1])
    assert plain.nodes[0].input[0] == "data", "the pass must not change the model that it was given"


def conv(name: str, data: str, weight: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node("Conv", [data, weight], [name], name=name, **attributes)


def scalar(operator: str, name: str, data: str) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, [data, "half"], [name], name=name)


WEIGHTS = {
    "w": np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32),
    "w2": np.random.default_rng(2).normal(size=(4, 3, 1, 1)).astype(np.float32),
    "grouped": np.random.default_rng(3).normal(size=(3, 1, 1, 1)).astype(np.float32),
    "deep": np.random.default_rng(4).normal(size=(3, 3, 1, 1)).astype(np.float32),
    "half": np.array([0.5], np.float32),
    "channels": np.array([1, 2, 4], np.float32).reshape(1, 3, 1, 1),
}
RELU = onnx.helper.make_node("Relu", ["data"], ["a"], name="a")
PER_CHANNEL = onnx.helper.make_node("Mul", ["data", "channels"], ["x"], name="x")
# The nodes before the output "a", and whether the weights of the first convolution take the reversal.
FIRST_NODES = {
    "one convolution": ((conv("a", "data", "w", pads=[1] * 4),), True),
    "scalar arithmetic": ((scalar("Sub", "x", "data"), scalar("Mul", "y", "x"), conv("a", "y", "w2")), True),
    "two convolutions": (
        (conv("x", "data", "w2"), conv("y", "data", "w2"), onnx.helper.make_node("Add", ["x", "y"], ["a"], name="a")),
        False,
    ),
    "no convolution": ((RELU,), False),
    "arithmetic by channel": ((PER_CHANNEL, conv("a", "x", "w2")), False),
    "arithmetic with itself": (
        (onnx.helper.make_node("Mul", ["data", "data"], ["x"], name="x"), conv("a", "x", "w2")),
        False,
    ),
    "grouped": ((conv("a", "data", "grouped", group=3),), False),
    "shared weights": ((conv("x", "data", "deep"), conv("a", "x", "deep")), False),
}


@pytest.mark.parametrize(("nodes", "folded"), FIRST_NODES.values(), ids=FIRST_NODES)
@pytest.mark.parametrize("reverse", [True, False])
def test_preprocessing_is_exact_in_front_of_any_first_node(
    nodes: tuple[onnx.NodeProto, ...], folded: bool, reverse: bool, tmp_path: Path
) -> None:
    plain = OnnxModel("m", nodes, WEIGHTS, {"data": (1, 3, 8, 8)}, {"a": (1, "", "", "")})
    baked = BakePreprocessing("data", (1.0, 2.0, 3.0), (2.0, 4.0, 8.0), reverse=reverse).apply(plain)
    assert any(node.op_type == "Gather" for node in baked.nodes) == (reverse and not folded)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8)).astype(np.float32)
    seen = pixels[:, ::-1] if reverse else pixels
    mean, divisors = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in ((1, 2, 3), (2, 4, 8)))
    expected = in_onnxruntime(plain, (seen - mean) / divisors, tmp_path)
    actual = in_onnxruntime(baked, pixels, tmp_path)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def in_onnxruntime(model: OnnxModel, data: Array, folder: Path) -> Array:
    session = onnxruntime.InferenceSession(written(model, folder), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"data": data})
    return np.asarray(output)


def test_preprocessing_is_refused_where_no_node_reads_an_image() -> None:
    for nodes, channels in (((), 3), ((RELU,), 1)):
        model = OnnxModel("m", nodes, {}, {"data": (1, channels, 8, 8)}, {"a": (1, channels, 8, 8)})
        with pytest.raises(PreprocessingError, match="no node reads 3 channels of it; convert with --no-preprocessing"):
            BakePreprocessing("data", (1.0, 2.0, 3.0)).apply(model)


def test_fp16_is_at_most_51_percent_of_fp32_and_keeps_what_is_small(
    full_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    fp32, fp16 = (artifact.path for artifact in convert(full_checkpoint, tmp_path, ONNX_ONLY))
    assert fp16.stat().st_size <= 0.51 * fp32.stat().st_size
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(fp16).graph.initializer}
    halves = {name for name, kind in stored.items() if kind == onnx.TensorProto.FLOAT16}
    assert len(halves) == 30
    assert all(name.endswith("_weight_fp16") for name in halves)
    assert not any(name.startswith(("rpn_", "conv1_1_", "data_")) for name in halves)


def test_fp16_weights_are_the_nearest_halves(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    fp32 = to_onnx(plain_checkpoint, Options())
    fp16 = StoreWeightsAsFp16().apply(fp32)
    stored = {tensor.name: tensor for tensor in onnx.load(written(fp16, tmp_path)).graph.initializer}
    for name in ("conv4_2_weight", "conv5_3_weight"):
        halves = onnx.numpy_helper.to_array(stored[f"{name}_fp16"])
        np.testing.assert_array_equal(halves, fp32.initializers[name].astype(np.float16))


@pytest.mark.parametrize("around", [(), (np.nan, np.inf, -np.inf)], ids=["among numbers", "among others"])
@pytest.mark.parametrize("sign", [1, -1], ids=["above", "below"])
def test_weights_beyond_fp16_are_refused_by_name(
    plain_checkpoint: Checkpoint, sign: int, around: tuple[float, ...]
) -> None:
    fp32 = to_onnx(plain_checkpoint, Options())
    large = fp32.initializers["conv5_3_weight"].copy()
    model = replace(fp32, initializers={**fp32.initializers, "conv5_3_weight": large})
    large.flat[-1 - len(around) :] = sign * 65519.99, *around
    StoreWeightsAsFp16().apply(model)  # the nearest half is 65504
    large.flat[-1 - len(around)] = sign * 65520
    with pytest.raises(PrecisionError, match=r"conv5_3_weight.*65520"):
        StoreWeightsAsFp16().apply(model)


def test_nothing_is_written_if_one_of_the_targets_cannot_be(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = Options(("onnx", "openvino"), (Precision.FP32, Precision.FP16), (1, 3, 64, 64))
    blocked = plan(plain_checkpoint.model.name, tmp_path, options)[-1].path
    blocked.mkdir(parents=True)
    with pytest.raises(OutputError, match="is not a file"):
        convert(plain_checkpoint, tmp_path, options)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
