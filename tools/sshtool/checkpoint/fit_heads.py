"""Fit the demo's six heads to drawn scenes: a maintainer's command, `python -m sshtool.checkpoint.fit_heads`.

The body is frozen; its last features before the heads are computed once for every scene with ONNX Runtime. On them
each anchor gets a logistic regression for its score (with rounds of hard negatives) and a ridge regression for its box
deltas, both in closed form or by Newton's method, without any randomness. Coefficients are rounded to 12 bits at the
end, far coarser than what another order of summation changes, so that a second fit gives the same file.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sshconvert.detection import anchors
from sshconvert.graph import Entry
from sshconvert.models import Head, Model, load_model
from sshconvert.mxnet.params import write_params
from sshconvert.mxnet.symbol import parse_symbol
from sshconvert.network import resolve
from sshconvert.onnx.export import export
from sshconvert.onnx.preprocessing import bake_preprocessing
from sshtool.checkpoint import demo
from sshtool.checkpoint.demo_symbol import ssh_vgg16_symbol
from sshtool.evaluate.average_precision import overlaps
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.scenes import Scene, draw_scene

Floats = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]

# Never used by tests, demo or benchmarks, which take scenes from 0 up.
TRAINING_SEEDS: Final = range(100_000, 100_200)

FEATURES: Final = {32: "ssh_m3_det_concat_relu", 16: "ssh_m2_det_concat_relu", 8: "ssh_m1_det_concat_relu"}
FACE_IOU: Final = 0.5  # an anchor that overlaps a face so much is one
NEAR_IOU: Final = 0.3  # one that overlaps it at least so much is neither face nor background


@dataclass(frozen=True)
class Sample:
    """One scene: its faces, and the features of each stride, float32 [cells, channels]."""

    faces: npt.NDArray[np.float32]
    features: dict[int, npt.NDArray[np.float32]]


def compute_features(model: Model, scenes: Sequence[Scene]) -> list[Sample]:
    """Run the frozen body over scenes of the model's input size."""
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "body.onnx"
        _export_body(model, path)
        runtime = OnnxRuntime(path)
        for scene in scenes:
            outputs = runtime.run(scene.image[None])
            features = {
                stride: np.ascontiguousarray(outputs[name][0].reshape(outputs[name].shape[1], -1).T)
                for stride, name in FEATURES.items()
            }
            samples.append(Sample(scene.faces, features))
    return samples


def _export_body(model: Model, path: Path) -> None:
    """The network up to the features that the heads read, raw BGR in."""
    graph = parse_symbol(ssh_vgg16_symbol())
    numbers = {node.name: number for number, node in enumerate(graph.nodes)}
    graph = replace(graph, outputs=tuple(Entry(numbers[name]) for name in FEATURES.values()))
    inputs = {model.input.name: model.input.shape}
    heads = {name: np.zeros(shape, np.float32) for name, shape in demo.parameter_shapes(model).items()}
    exported = export(resolve(graph, inputs), heads | demo.body(model), inputs, name="body")
    bake_preprocessing(exported, input_name=model.input.name, mean=model.input.mean).write(path)
