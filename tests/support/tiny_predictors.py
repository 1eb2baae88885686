"""Classifiers and embedders of a few nodes, converted to ONNX, in a workspace of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.checkpoint import open_checkpoint
from sshconvert.convert import convert
from sshconvert.models.registry import load_model
from sshconvert.options import Options
from sshtool.workspace import Workspace
from tiny_checkpoint import node, write_tiny_checkpoint

SIZE: Final = 32
CLASSES: Final = 6

_DESCRIPTION: Final = """\
name = "{name}"
inputs = [{{ name = "data", shape = [1, 3, {size}, {size}], image = {{ mean = [120, 110, 100], scale = 0.05 }} }}]
task = {{ {task} }}
"""
TASKS: Final = {
    "classifier": 'kind = "classification", output = "softmax", classes = 6, top_k = 3',
    "logits": 'kind = "classification", output = "fc1", probabilities = false',
    "embedder": 'kind = "embedding", output = "fc1"',
}


def write_predictor(folder: Path, name: str) -> Path:
    """Write a checkpoint of one of `TASKS` and its description, whose path is returned."""
    nodes = [node("null", "data"), node("null", "body_weight"), node("null", "body_bias")]
    nodes += [node("Convolution", "body", 0, 1, 2, kernel=(3, 3), pad=(1, 1), stride=(2, 2), num_filter=16)]
    nodes += [node("Activation", "relu", 3, act_type="relu")]
    nodes += [node("Pooling", "pool", 4, kernel=(8, 8), stride=(8, 8), pool_type="avg")]
    nodes += [node("null", "fc1_weight"), node("null", "fc1_bias")]
    nodes += [node("FullyConnected", "fc1", 5, 6, 7, num_hidden=CLASSES)]
    if name == "classifier":
        nodes += [node("null", "softmax_label"), node("SoftmaxOutput", "softmax", 8, 9)]
    write_tiny_checkpoint(folder, nodes, (len(nodes) - 1,), {"body": (16, 3, 3, 3), "fc1": (CLASSES, 64)}, scale=0.5)
    path = folder / f"{name}.toml"
    path.write_text(_DESCRIPTION.format(name=name, size=SIZE, task=TASKS[name]), encoding="utf-8")
    return path


def predictor_workspace(folder: Path, name: str, options: Options | None = None) -> Workspace:
    """Write and convert one of `TASKS`."""
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(str(write_predictor(folder, name)))
    workspace = Workspace(model, folder / "out")
    convert(open_checkpoint(folder, model), workspace.folder, options or Options(("onnx",)))
    return workspace


def pictures(count: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Smooth images of several sizes, which differ in colour and direction."""
    random = np.random.default_rng(1)
    images = []
    for number in range(count):
        height, width = 40 + 7 * number, 61 - 3 * number
        corners = random.integers(0, 256, (2, 2, 3)).astype(float)
        down, across = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
        top, bottom = (corners[row, 0] * (1 - across) + corners[row, 1] * across for row in (0, 1))
        images.append(np.rint(top * (1 - down) + bottom * down).astype(np.uint8))
    return images
