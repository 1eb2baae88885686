"""Fit the demo's six heads to drawn scenes: a maintainer's command, `python -m sshtool.demo.fitting`.

ONNX Runtime computes the features of the frozen body for every scene. On these features, a logistic regression with
rounds of hard negatives fits the score of each anchor, and a ridge regression fits its box deltas. Both converge and
use no randomness: the same libraries on the same type of machine give the same file.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.arrays import Array, Flags, Floats
from sshconvert.boxes import overlaps
from sshconvert.digest import file_sha256
from sshconvert.export import export
from sshconvert.graph import Entry
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ModelSpec
from sshconvert.mxnet.params import write_params
from sshconvert.network import parse_symbol, resolve
from sshconvert.passes.preprocessing import BakePreprocessing
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.anchors import AnchorHead
from sshconvert.tasks.average_precision import average_precision
from sshconvert.tasks.results import Detections
from sshtool.demo import checkpoint as demo
from sshtool.demo.scenes import Scene, draw_scene
from sshtool.demo.symbol import ssh_vgg16_symbol
from sshtool.runtimes.onnxruntime import OnnxRuntime

# Tests, demo and benchmarks use other scenes, from 0 up.
TRAINING_SEEDS: Final = range(100_000, 100_240)
VALIDATION_SEEDS: Final = range(200_000, 200_030)

FEATURES: Final = {32: "ssh_m3_det_concat_relu", 16: "ssh_m2_det_concat_relu", 8: "ssh_m1_det_concat_relu"}
FACE_IOU: Final = 0.5  # the least overlap of an anchor that is a face
NEAR_IOU: Final = 0.3  # anchors between this overlap and FACE_IOU are neither face nor background
STEP_END: Final = 1e-6  # Newton's method ends when no coefficient changes by more


@dataclass(frozen=True)
class Sample:
    """One scene: its faces, and the features of each stride, float32 [cells, channels]."""

    faces: Floats
    features: dict[int, Floats]


def compute_features(model: ModelSpec, scenes: Sequence[Scene]) -> list[Sample]:
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


def _export_body(model: ModelSpec, path: Path) -> None:
    """Export the network from raw BGR up to the features that the heads read."""
    graph = parse_symbol(ssh_vgg16_symbol())
    numbers = {node.name: number for number, node in enumerate(graph.nodes)}
    graph = replace(graph, outputs=tuple(Entry(numbers[name]) for name in FEATURES.values()))
    inputs = model.input_shapes
    heads = {name: np.zeros(shape, np.float32) for name, shape in demo.parameter_shapes(model).items()}
    exported = export(resolve(graph, inputs), heads | demo.body(model), inputs, name="body")
    BakePreprocessing(model.image_input.name, model.image.mean).apply(exported).write(path)


@dataclass(frozen=True)
class FitSettings:
    """Hyperparameters of the fit."""

    score_penalty: float = 700.0
    delta_penalty: float = 100.0
    rounds: int = 4  # searches for hard backgrounds
    hardest: int = 200  # hard backgrounds to add per scene and round, at most
    hard_logit: float = -3.0  # the least logit of a hard background
    first_share: int = 60  # the fit starts with one background in this many
    margin: float = 1.0  # subtracted from every logit, since the fit sees few of the thousands of backgrounds


def fit(model: ModelSpec, samples: Sequence[Sample], settings: FitSettings = FitSettings()) -> dict[str, Floats]:
    """The parameters of all heads, by name."""
    parameters: dict[str, Floats] = {}
    for head in _task(model).heads:
        parameters |= _fit_head(model, head, samples, settings)
    return parameters


def _fit_head(
    model: ModelSpec, head: AnchorHead, samples: Sequence[Sample], settings: FitSettings
) -> dict[str, Floats]:
    mean, scale = _spread([sample.features[head.stride] for sample in samples])
    inputs = [_normalise(sample.features[head.stride], mean, scale) for sample in samples]
    height, width = (size // head.stride for size in model.image_shape[2:])
    boxes = head.anchors(height, width).reshape(height * width, -1, 4)
    scores, deltas = [], []
    for number in range(len(head.scales)):
        targets = [_targets(boxes[:, number], sample.faces) for sample in samples]
        scores.append(_fit_scores(inputs, targets, settings))
        deltas.append(_fit_deltas(inputs, targets, settings))
    # softmax(-x / 2, x / 2) is the logistic function of x.
    logits = np.stack(scores) / 2
    return _to_parameters(f"rpn_cls_score_stride{head.stride}", np.concatenate([-logits, logits]), mean, scale) | (
        _to_parameters(head.boxes, np.concatenate(deltas), mean, scale)
    )


@dataclass(frozen=True)
class _Targets:
    """The expected results of one anchor at each cell of a scene."""

    face: Flags
    background: Flags
    deltas: Array  # of the cells with a face


def _targets(boxes: Floats, faces: Floats) -> _Targets:
    table = overlaps(boxes, faces)
    best = table.max(axis=1, initial=0)
    face = best >= FACE_IOU
    target, anchor = faces[table.argmax(axis=1)[face]], boxes[face]
    sizes, target_sizes = anchor[:, 2:] - anchor[:, :2] + 1, target[:, 2:] - target[:, :2] + 1
    shifts = (target[:, :2] + target[:, 2:] - anchor[:, :2] - anchor[:, 2:]) / 2 / sizes
    return _Targets(face, best < NEAR_IOU, np.concatenate([shifts, np.log(target_sizes / sizes)], axis=1))


def _fit_scores(inputs: Sequence[Array], targets: Sequence[_Targets], settings: FitSettings) -> Array:
    """Logistic regression of face against background. Each round adds the backgrounds with the highest logits."""
    chosen = [np.flatnonzero(target.background)[:: settings.first_share] for target in targets]
    weights: Array = np.zeros(inputs[0].shape[1])
    for _ in range(settings.rounds):
        rows = [
            np.concatenate([np.flatnonzero(target.face), picked])
            for target, picked in zip(targets, chosen, strict=True)
        ]
        design = np.concatenate([cells[row] for cells, row in zip(inputs, rows, strict=True)]).astype(np.float64)
        labels = np.concatenate([target.face[row] for target, row in zip(targets, rows, strict=True)])
        weights = _logistic(design, labels.astype(np.float64), weights, settings.score_penalty)
        for index, (cells, target) in enumerate(zip(inputs, targets, strict=True)):
            logits = np.where(target.background, cells @ weights, -np.inf)
            hardest = np.argsort(-logits, kind="stable")[: settings.hardest]
            chosen[index] = np.union1d(chosen[index], hardest[logits[hardest] > settings.hard_logit])
    weights[-1] -= settings.margin
    return weights


def _logistic(design: Array, labels: Array, start: Array, penalty: float) -> Array:
    """Newton's method on the penalised likelihood. The last column is the constant, without penalty."""
    penalties = np.full(design.shape[1], penalty)
    penalties[-1] = 1e-6

    def cost(weights: Array) -> float:
        logits = design @ weights
        return float(np.sum(np.logaddexp(0, logits) - labels * logits) + penalties @ weights**2 / 2)

    weights, lowest = start, cost(start)
    for _ in range(50):
        likely = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (likely - labels) + penalties * weights
        curvature = (design * (likely * (1 - likely))[:, None]).T @ design + np.diag(penalties)
        step = np.linalg.solve(curvature, gradient)
        while (tried := cost(weights - step)) > lowest and np.abs(step).max() > STEP_END:
            step = step / 2  # Newton's step can overshoot far from the minimum
        if np.abs(step).max() <= STEP_END:
            break
        weights, lowest = weights - step, tried
    return weights


def _fit_deltas(inputs: Sequence[Array], targets: Sequence[_Targets], settings: FitSettings) -> Array:
    """Ridge regression of the four deltas at anchors of faces: [4, inputs]."""
    cells_of_faces = [cells[target.face] for cells, target in zip(inputs, targets, strict=True)]
    design = np.concatenate(cells_of_faces).astype(np.float64)
    deltas = np.concatenate([target.deltas for target in targets])
    penalties = np.full(design.shape[1], settings.delta_penalty)
    penalties[-1] = 1e-6
    return np.asarray(np.linalg.solve(design.T @ design + np.diag(penalties), design.T @ deltas).T)


def _spread(features: Sequence[Floats]) -> tuple[Array, Array]:
    """Mean and scale of each channel.

    The scale adds the root mean square to the deviation. This limits the weights of channels with large values that
    vary little, which would amplify the runtimes' rounding errors.
    """
    sample = np.concatenate([cells[::5] for cells in features]).astype(np.float64)
    size = np.sqrt(np.mean(sample**2, axis=0))
    return sample.mean(axis=0), sample.std(axis=0) + size + 1e-3


def _normalise(features: Floats, mean: Array, scale: Array) -> Floats:
    normal = (features - mean) / scale
    return np.asarray(np.concatenate([normal, np.ones((len(normal), 1))], axis=1), np.float32)


def _to_parameters(name: str, coefficients: Array, mean: Array, scale: Array) -> dict[str, Floats]:
    """The parameters of a 1x1 convolution on raw features from coefficients on normalised features."""
    weights = coefficients[:, :-1] / scale
    bias = coefficients[:, -1] - weights @ mean
    return {f"{name}_weight": weights[:, :, None, None].astype(np.float32), f"{name}_bias": bias.astype(np.float32)}


def predict(model: ModelSpec, parameters: dict[str, Floats], sample: Sample) -> Detections:
    """Detections of one scene from its features."""
    outputs = {}
    height, width = model.image_shape[2:]
    for head in _task(model).heads:
        cells = (height // head.stride, width // head.stride)
        logits, deltas = (
            (sample.features[head.stride] @ parameters[f"{name}_weight"][:, :, 0, 0].T + parameters[f"{name}_bias"]).T
            for name in (f"rpn_cls_score_stride{head.stride}", head.boxes)
        )
        count = len(head.scales)
        face = 1 / (1 + np.exp(logits[:count] - logits[count:]))
        outputs[head.scores] = np.concatenate([1 - face, face]).reshape(1, -1, *cells)
        outputs[head.boxes] = deltas.reshape(1, -1, *cells)
    return _task(model).decode(outputs, (height, width))[0]


def _task(model: ModelSpec) -> AnchorDetection:
    assert isinstance(model.task, AnchorDetection)  # the demo is SSH
    return model.task


def main() -> None:
    """Fit the heads, write them into the package, and print their average precision on the validation scenes."""
    model = load_model("ssh-mxnet")
    samples = compute_features(model, [draw_scene(seed) for seed in TRAINING_SEEDS])
    parameters = fit(model, samples)
    path = Path(demo.__file__).with_name(demo.HEADS_FILE)
    write_params(path, {f"arg:{name}": array for name, array in parameters.items()})
    with tempfile.TemporaryDirectory() as folder:
        demo.write_checkpoint(Path(folder), model)
        sha256 = file_sha256(Path(folder) / model.checkpoint.params)
    unseen = compute_features(model, [draw_scene(seed) for seed in VALIDATION_SEEDS])
    figure = average_precision([predict(model, parameters, sample) for sample in unseen], [s.faces for s in unseen])
    sys.stdout.write(f"{path}: AP@0.5 on scenes {VALIDATION_SEEDS}: {figure:.4f}\n[demo] params_sha256 = {sha256}\n")


if __name__ == "__main__":
    main()
