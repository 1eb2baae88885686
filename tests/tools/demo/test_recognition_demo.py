"""The demos of embeddings and classifications: real architectures with seeded weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from sshconvert.checkpoint import open_checkpoint
from sshconvert.convert import convert
from sshconvert.errors import ModelError
from sshconvert.models.registry import load_model, parse_model
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Options
from sshtool.demo.classifier import COLOURS
from sshtool.demo.embedder import mobilefacenet_symbol
from sshtool.demo.recognition import recognition_demo, write_recognition_checkpoint
from sshtool.runtimes.loading import load

pytestmark = pytest.mark.independent

IMAGES: Final = {
    "embedding": (112, "{}"),
    "classification": (224, "{ mean = [124, 117, 104], scale = 0.0167 }"),
}
# The same bytes on every platform.
HASHES: Final = {
    "embedding": "285a85a4c213e5a03dd526b40afa28916e538076e95f99bfc304b7a93828fe0f",
    "classification": "bf09a016697cd35339d189b7d0484738e3a07a1b3f87a5abe3b0187a71232e45",
}


def model(kind: str, task: str) -> ModelSpec:
    size, image = IMAGES[kind]
    renamed = 'pre_fc1 = "fc1"' if "pre_fc1" in task else ""  # as Open Model Zoo names it
    text = f"""
name = "demo"
inputs = [{{ name = "data", shape = [1, 3, {size}, {size}], image = {image} }}]
checkpoint = {{ symbol = "demo-symbol.json", params = "demo-0000.params" }}
outputs = {{ {renamed} }}
task = {{ kind = "{kind}", {task} }}
"""
    return parse_model(text.encode(), source="demo.toml")


def outputs(folder: Path, spec: ModelSpec, images: Any) -> Any:
    write_recognition_checkpoint(folder, spec)
    (artifact,) = convert(open_checkpoint(folder, spec), folder / "out", Options(("onnx",)))
    runtime = load(artifact.path, spec)
    return np.concatenate([runtime.run(image[None])[spec.task.outputs()[0]] for image in images])


@pytest.mark.parametrize(("kind", "output"), [("embedding", "fc1"), ("classification", "softmax")])
def test_the_parameters_are_the_same_bytes_everywhere(kind: str, output: str, tmp_path: Path) -> None:
    spec = model(kind, f'output = "{output}"')
    write_recognition_checkpoint(tmp_path, spec)
    assert hashlib.sha256((tmp_path / "demo-0000.params").read_bytes()).hexdigest() == HASHES[kind]


def test_mobilefacenet_has_the_nodes_and_shapes_of_the_real_one(shared_data: Path) -> None:
    real = json.loads((shared_data / "zoo" / "symbols" / "mobilefacenet-y1.json").read_text("utf-8"))
    made = json.loads(mobilefacenet_symbol())

    def described(symbol: Any) -> list[Any]:
        names = [node["name"] for node in symbol["nodes"]]
        return [
            (
                node["op"],
                node["name"],
                {key: value for key, value in node.get("attrs", {}).items() if key != "workspace"},
                [names[entry[0]] for entry in node["inputs"] if "moving" not in names[entry[0]]],
            )
            for node in symbol["nodes"]
            if node["op"] != "null"
        ]

    renamed = [
        (op, name, attributes, ["pre_fc1_bias" if item == "fc1_bias" else item for item in inputs])
        for op, name, attributes, inputs in described(real)
    ]
    for one, other in zip(described(made), renamed, strict=True):
        assert one == other


def test_the_classifier_knows_its_colours(tmp_path: Path) -> None:
    spec = model("classification", 'output = "softmax"')
    random = np.random.default_rng(0)
    noise = random.integers(-30, 31, (len(COLOURS), 224, 224, 3))
    images = np.clip(np.array(list(COLOURS.values()))[:, None, None] + noise, 0, 255).astype(np.uint8)
    found = outputs(tmp_path, spec, images)
    assert found.shape == (len(COLOURS), 1000)
    assert found.argmax(axis=1).tolist() == list(range(len(COLOURS)))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("output", ["pre_fc1", "fc1", "embedding"])
@pytest.mark.parametrize("normalized", [True, False])
def test_the_embedder_has_any_output_and_size(output: str, normalized: bool, tmp_path: Path) -> None:
    if normalized and output != "embedding":
        return
    spec = model("embedding", f'output = "{output}", size = 32, normalized = {str(normalized).lower()}')
    images = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8)
    found = outputs(tmp_path, spec, images)
    assert found.shape == (2, 32)
    assert (abs(np.linalg.norm(found, axis=1) - 1) < 1e-5).all() == normalized


def test_a_classifier_of_few_labels_gives_logits_of_them(tmp_path: Path) -> None:
    spec = model("classification", 'output = "fc1", probabilities = false, labels = ["red", "orange", "yellow"]')
    red, blue = (np.full((1, 224, 224, 3), COLOURS[name], np.uint8) for name in ("red", "yellow"))
    assert outputs(tmp_path, spec, np.concatenate([red, blue])).argmax(axis=1).tolist() == [0, 2]


def test_a_model_of_another_task_has_no_such_demo() -> None:
    with pytest.raises(ModelError, match="has the task anchor_detection"):
        recognition_demo(load_model("ssh-mxnet"))
