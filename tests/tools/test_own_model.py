"""A user's own model: a TOML file of ten lines, and every verb takes it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from PIL import Image

from command_line import sshtool
from sshconvert.boxes import overlaps
from sshconvert.checkpoint import locate, open_checkpoint
from sshconvert.convert import convert
from sshconvert.errors import CheckpointError, ModelError, PreprocessingError
from sshconvert.models.registry import dump_model, load_model, parse_model
from sshconvert.models.spec import ImageSpec, Published
from sshconvert.mxnet.params import write_params
from sshconvert.options import Color, Options
from sshtool.demo.scenes import draw_scene

HEIGHT: Final = 384
WIDTH: Final = 512
RETINAFACE: Final = f"""\
name = "retinaface-16and32"
inputs = [{{ name = "data", shape = [1, 3, {HEIGHT}, {WIDTH}], image = {{}} }}]
[task]
kind = "anchor_detection"
score_threshold = 0.5
iou_threshold = 0.4
candidates_per_stride = 1000
heads = [
{{stride=32, scales = [32, 16], scores = "face_rpn_cls_prob_reshape_stride32", boxes = "face_rpn_bbox_pred_stride32"}},
{{stride=16, scales = [8, 4], scores = "face_rpn_cls_prob_reshape_stride16", boxes = "face_rpn_bbox_pred_stride16"}}]
"""
NAME: Final = "retinaface-16and32"


def result_of(*arguments: str | Path, code: int = 0) -> Any:
    return json.loads(sshtool(*arguments, "--json", code=code).stdout)["result"]


@pytest.fixture
def own(tmp_path: Path) -> tuple[str | Path, ...]:
    """Options that choose the model and a folder of its own."""
    (tmp_path / "mine.toml").write_text(RETINAFACE, encoding="utf-8")
    return "--model", tmp_path / "mine.toml", "--output-dir", tmp_path / "out"


@pytest.mark.long
def test_a_real_detector_of_ten_lines_goes_the_whole_way(
    own: tuple[str | Path, ...], shared_data: Path, tmp_path: Path
) -> None:
    assert len(RETINAFACE.splitlines()) == 10
    checkpoint = shared_data / NAME
    made = result_of("run", *own, "--checkpoint", checkpoint, "--precision", "FP32,FP16")
    by_mxnet = find_spec("mxnet") is not None
    assert len(made["artifacts"]) == 4
    assert made["report"]["reference"].startswith("exact evaluation")
    assert ("MXNet" in made["report"]["reference"]) == by_mxnet

    scene = draw_scene(2, HEIGHT, WIDTH)
    Image.fromarray(scene.image[..., ::-1]).save(tmp_path / "scene.png")
    for artifact in made["artifacts"][::3]:  # FP32 ONNX, FP16 IR
        command = ("detect", tmp_path / "scene.png", *own, "--artifact", artifact, "--json")
        detections = json.loads(sshtool(*command).stdout)["detections"]
        boxes = np.array([item["box"] for item in detections], np.float32)
        assert len(boxes) == 2
        assert overlaps(boxes, scene.faces).max(axis=1).min() > 0.6

    package = tmp_path / "out" / "releases" / f"{NAME}-flat"
    checked = result_of("check", package, "--rebuild", checkpoint)
    assert checked["findings"] == []
    assert "answers" in checked["checks"]
    assert load_model(str(package / "model.toml")) == load_model(str(tmp_path / "mine.toml"))
    card = (package / "README.md").read_text(encoding="utf-8")
    assert not {"Published", "VGG16", "mxnet-SSH", "license:"} & set(card.replace("[", " ").split())


def test_a_file_with_everything_reads_as_it_was_written() -> None:
    model = load_model("ssh-mxnet")
    assert parse_model(dump_model(model), source="model.toml") == model
    odd = model.model_copy(update={"title": '"\x7f\n\\ 模型 🙂', "published": Published(wider_percent={"a b": 1.5})})
    assert parse_model(dump_model(odd), source="model.toml") == odd


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(f'"{NAME}"', '"ssh-mxnet"', "ssh-mxnet", id="a name that ships"),
        pytest.param(f'"{NAME}"', '"../x"', "name: ", id="a name that leads elsewhere"),
        pytest.param(f'"{NAME}"', '"mödel"', "name: ", id="a name that packages cannot have"),
        pytest.param("[task]", "[task]\nevil = 1", "evil: Extra inputs", id="an unknown key"),
        pytest.param("[task]", "#" * 30_000, "more than 24576 bytes", id="a long file"),
        pytest.param("[task]", "a = " + "[" * 9000, "nested too deeply", id="a deep file"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RETINAFACE.replace(old, new), encoding="utf-8")
    with pytest.raises(ModelError, match=message) as caught:
        load_model(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_path_that_leads_nowhere_is_refused() -> None:
    for path in ("nowhere.toml", "no/where", "/dev/zero"):
        with pytest.raises(ModelError, match=f"{path}: cannot be read"):
            load_model(path)


def test_only_a_download_needs_an_archive(own: tuple[str | Path, ...]) -> None:
    for verb in ("download", "run"):
        assert sshtool(verb, *own, code=1).stderr.endswith(
            "names no archive; give the checkpoint's folder with --checkpoint\n"
        )


@pytest.mark.parametrize(
    "image",
    [
        pytest.param({"color": "bgr"}, id="nothing to do for BGR"),
        pytest.param({"color": "bgr", "mean": (104, 117, 123), "std": (58, 57, 56)}, id="BGR, mean and std"),
        pytest.param({"mean": (123, 117, 104), "scale": 0.0078125}, id="RGB, mean and scale"),
    ],
)
@pytest.mark.parametrize("color", Color)
def test_an_image_is_prepared_inside_as_the_description_says(
    image: dict[str, Any], color: Color, shared_data: Path, tmp_path: Path
) -> None:
    plain = parse_model(RETINAFACE.encode(), source="mine.toml")
    spec = ImageSpec(**image)
    model = plain.model_copy(update={"inputs": (plain.image_input.model_copy(update={"image": spec}),)})
    checkpoint = open_checkpoint(shared_data / NAME, plain)
    onnx = Options(formats=("onnx",), input_shape=(1, 3, 64, 96), color=color)
    original = convert(checkpoint, tmp_path / "original", replace(onnx, preprocessing=False))[0].path
    artifact = convert(replace(checkpoint, model=model), tmp_path, onnx)[0].path

    pixels = draw_scene(1, 64, 96).image[None]
    fed = pixels if color is Color.BGR else pixels[..., ::-1]
    expected = answers(original, spec.prepared(pixels))
    for found, wanted in zip(answers(artifact, fed.astype(np.float32)), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    if spec.divisors != (1, 1, 1):
        with pytest.raises(PreprocessingError, match="divides its image"):
            convert(replace(checkpoint, model=model), tmp_path, replace(onnx, preprocessing=False))


def answers(path: Path, images: npt.NDArray[np.float32]) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"data": np.ascontiguousarray(images.transpose(0, 3, 1, 2))}))


TWO_INPUTS: Final = """\
name = "two"
inputs = [{ name = "data", shape = [1, 3, 8, 8], image = {} }, { name = "state", shape = [1, 4, 8, 8] }]
task = { kind = "tensors", names = ["sum"] }
"""


def test_a_network_of_two_inputs_is_converted_and_refused_where_one_image_is_needed(tmp_path: Path) -> None:
    convolution = {"kernel": "(1, 1)", "num_filter": "4", "no_bias": "True"}
    nodes = [
        *({"op": "null", "name": name, "inputs": []} for name in ("data", "weight", "state")),
        {"op": "Convolution", "name": "conv", "attrs": convolution, "inputs": [[0, 0, 0], [1, 0, 0]]},
        {"op": "elemwise_add", "name": "sum", "inputs": [[3, 0, 0], [2, 0, 0]]},
    ]
    attributes = {"mxnet_version": ["int", 10900]}
    symbol = {"nodes": nodes, "arg_nodes": [0, 1, 2], "node_row_ptr": [*range(6)], "heads": [[4, 0, 0]]}
    (tmp_path / "two-symbol.json").write_text(json.dumps(symbol | {"attrs": attributes}), encoding="utf-8")
    write_params(tmp_path / "two-0000.params", {"arg:weight": np.ones((4, 3, 1, 1), np.float32)})
    path = tmp_path / "two.toml"
    path.write_text(TWO_INPUTS, encoding="utf-8")
    model = load_model(str(path))
    checkpoint = open_checkpoint(tmp_path, model)
    assert list(checkpoint.parameters) == ["weight"]
    assert parse_model(dump_model(model), source="model.toml") == model
    assert model.input_shapes == {"data": (1, 3, 8, 8), "state": (1, 4, 8, 8)}
    options = ("--model", path, "--checkpoint", tmp_path, "-o", tmp_path / "out")
    sshtool("convert", *options)
    described = json.loads(sshtool("info", *options, "--json").stdout)["result"]
    assert described["inputs"] == {"data": [1, 3, 8, 8], "state": [1, 4, 8, 8]}
    assert described["outputs"] == {"sum": [1, 4, 8, 8]}
    line = sshtool("detect", tmp_path, "--model", path, "-o", tmp_path / "out", "--quiet", code=2).stderr
    assert "tensors" in line


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(("a-0001.params", "a-symbol.json"), "", id="one pair"),
        pytest.param(("a.params", "a-symbol.json", "b-0000.params", "c-symbol.json"), "", id="one pair and others"),
        pytest.param(("a-0001.params", "b-symbol.json"), "found none", id="no pair"),
        pytest.param((), "found none", id="nothing"),
        pytest.param(("a-0001.params", "a-0002.params", "a-symbol.json"), "a-0001.params, a-0002.params", id="two"),
    ],
)
def test_without_names_a_folders_only_pair_is_the_checkpoint(
    files: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    model = parse_model(RETINAFACE.encode(), source="mine.toml")
    for name in files:
        (tmp_path / name).touch()
    if message:
        with pytest.raises(CheckpointError, match=message):
            locate(tmp_path, model)
    else:
        assert [path.name for path in locate(tmp_path, model)] == ["a-symbol.json", files[0]]
