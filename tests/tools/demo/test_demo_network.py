"""The demo of every model that ships: its own inputs and outputs, the same bytes everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from command_line import sshtool
from sshconvert.boxes import overlaps
from sshconvert.checkpoint import open_checkpoint
from sshconvert.convert import convert
from sshconvert.errors import ModelError
from sshconvert.models.registry import load_model, model_names, parse_model
from sshconvert.options import Options
from sshtool.demo.mtcnn import DET1, DET3, DET4, mtcnn_symbol
from sshtool.demo.network import check_demo, demo_checkpoint, write_demo
from sshtool.demo.scenes import draw_scene
from sshtool.runtimes.loading import load

# Models whose demo has other bytes than those of the others here.
DEMOS: Final = (
    "brain-tumor-segmentation-0001",
    "face-recognition-mobilefacenet-arcface",
    "face-recognition-resnet100-arcface",
    "mobilefacedet-v1-mxnet",
    "mtcnn-det1",
    "mtcnn-det2",
    "mtcnn-det3",
    "mtcnn-det4",
    "octave-resnet-50-0.125",
    "retinaface-anti-cov",
    "retinaface-resnet50",
)


@pytest.mark.independent
def test_every_model_that_ships_has_a_demo() -> None:
    models = [load_model(name) for name in model_names()]
    for model in models:
        check_demo(model)
    hashes = {model.demo.params_sha256 for model in models if model.demo}
    assert hashes == {load_model(name).demo.params_sha256 for name in (*DEMOS, "ssh-mxnet")}  # type: ignore[union-attr]  # every model has one
    assert all(model.demo for model in models)


@pytest.mark.independent
@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_is_known_by_its_hash_and_has_the_models_outputs(name: str, tmp_path: Path) -> None:
    model = load_model(name)
    write_demo(tmp_path, model)
    checkpoint = open_checkpoint(tmp_path, model)
    assert checkpoint.is_demo
    assert tuple(checkpoint.resolve(model.input_shapes).output_shapes()) == model.output_names


@pytest.mark.independent
@pytest.mark.parametrize(("outputs", "name"), [(DET1, "mtcnn-det1"), (DET3, "mtcnn-det3"), (DET4, "mtcnn-det4")])
def test_mtcnns_demo_is_its_own_network(outputs: tuple[str, ...], name: str, shared_data: Path) -> None:
    own = mtcnn_symbol(outputs)
    assert own is not None
    real = (shared_data / "zoo" / "symbols" / f"{name}-v1.4.json").read_text(encoding="utf-8")
    assert described(own) == described(real)


def described(text: str) -> dict[str, Any]:
    """Each operator by name: its kind, the nodes that it reads, and its sizes."""
    document = json.loads(text)
    names = [node["name"] for node in document["nodes"]]
    sizes = ("kernel", "stride", "num_filter", "num_hidden", "num_outputs", "pool_type", "pooling_convention")
    return {
        node["name"]: (
            node["op"],
            [(names[entry[0]], entry[1]) for entry in node["inputs"]],
            {key: value for key, value in (node.get("attrs") or {}).items() if key in sizes},
        )
        for node in document["nodes"]
        if node["op"] != "null"
    }


@pytest.mark.independent
def test_the_landmark_demo_finds_drawn_faces_and_their_features(tmp_path: Path) -> None:
    model = load_model("retinaface-resnet50")
    write_demo(tmp_path, model)
    options = Options(("openvino",), input_shape=(1, 3, 384, 512))
    (artifact,) = convert(open_checkpoint(tmp_path, model), tmp_path / "out", options)
    scene = draw_scene(2, 384, 512)
    outputs = load(artifact.path, model).run(scene.image[None])
    (detections,) = model.task.decode(outputs, (384, 512))
    found = np.array([item.box for item in detections]) if isinstance(detections, list) else detections.boxes
    shared = overlaps(found.astype(np.float32), scene.faces)
    assert shared.max(axis=0).min() > 0.6
    for box, landmarks in zip(found, detections.landmarks, strict=True):
        size = box[2:] - box[:2]
        shares = (landmarks - (box[:2] + box[2:]) / 2) / size
        assert np.abs(shares - [(-0.2, -0.085), (0.2, -0.085), (0, 0.09), (-0.18, 0.275), (0.18, 0.275)]).max() < 0.1


@pytest.mark.independent
def test_a_model_that_no_demo_fits_is_refused_before_anything_is_written() -> None:
    text = b"""
name = "two"
inputs = [{ name = "a", shape = [1, 4] }, { name = "b", shape = [1, 4] }]
task = { kind = "tensors", names = ["out"] }
"""
    with pytest.raises(ModelError, match=r"two: --demo makes networks of one float32 input"):
        demo_checkpoint(parse_model(text, source="two.toml"))


@pytest.mark.long
@pytest.mark.parametrize("postprocess", [(), ("--postprocess",)], ids=["heads", "detections inside"])
def test_the_demo_with_landmarks_and_attributes_goes_the_whole_way(
    postprocess: tuple[str, ...], tmp_path: Path
) -> None:
    place = ("--model", "retinaface-anti-cov", "-o", tmp_path)
    made = sshtool("run", "--demo", *place, "--input-shape", "1,3,256,256", *postprocess, "--json")
    report = json.loads(made.stdout)["result"]["report"]
    assert len(report["artifacts"]) == 4
    for artifact in report["artifacts"]:
        compared = [image for sample in artifact["samples"] for image in sample["detections"]]
        assert sum(image["landmarks"] for image in compared) > 20
        assert sum(image["attributes"] for image in compared) > 4


@pytest.mark.long
@pytest.mark.parametrize("name", model_names())
def test_every_model_that_ships_goes_the_whole_way_on_its_demo(name: str, tmp_path: Path) -> None:
    """In the environment with MXNet, up to a checked package; elsewhere the first artifact stands for the original."""
    made = json.loads(sshtool("run", "--demo", "--model", name, "-o", tmp_path, "--json").stdout)["result"]
    assert made["weights"] == "demo"
    assert made["report"]["passed"]
    assert len(made["artifacts"]) == 4
    if made["report"]["reference"].startswith("MXNet"):
        assert made["package"] is not None
