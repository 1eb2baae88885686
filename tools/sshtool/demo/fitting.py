"""Fit the demo's six heads to drawn scenes: a maintainer's command, `python -m sshtool.demo.fitting`.

The body is frozen; its last features before the heads are computed once for every scene with ONNX Runtime. On them
each anchor gets a logistic regression for its score (with rounds of hard negatives) and a ridge regression for its box
deltas, both solved to convergence and without randomness: a second fit with the same libraries on the same kind of
machine gives the same file.
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

# Never used by tests, demo or benchmarks, which take scenes from 0 up.
TRAINING_SEEDS: Final = range(100_000, 100_240)
VALIDATION_SEEDS: Final = range(200_000, 200_030)

FEATURES: Final = {32: "ssh_m3_det_concat_relu", 16: "ssh_m2_det_concat_relu", 8: "ssh_m1_det_concat_relu"}
FACE_IOU: Final = 0.5  # an anchor that overlaps a face so much is one
STEP_END: Final = 1e-6  # Newton's method ends when no coefficient moves by more
NEAR_IOU: Final = 0.3  # one that overlaps it at least so much is neither face nor background


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
    """The network up to the features that the heads read, raw BGR in."""
    graph = parse_symbol(ssh_vgg16_symbol())
    numbers = {node.name: number for number, node in enumerate(graph.nodes)}
    graph = replace(graph, outputs=tuple(Entry(numbers[name]) for name in FEATURES.values()))
    inputs = model.input_shapes
    heads = {name: np.zeros(shape, np.float32) for name, shape in demo.parameter_shapes(model).items()}
    exported = export(resolve(graph, inputs), heads | demo.body(model), inputs, name="body")
    BakePreprocessing(model.image_input.name, model.image.mean).apply(exported).write(path)


@dataclass(frozen=True)
class Settings:
    """What the fit can be tuned by."""

    score_penalty: float = 700.0
    delta_penalty: float = 100.0
    rounds: int = 4  # of looking for backgrounds that are taken for faces
    hardest: int = 200  # of them, at most, from one scene in one round
    hard_logit: float = -3.0  # a background above it is hard
    first_share: int = 60  # one background in so many is there from the start
    margin: float = 1.0  # taken off every logit: a scene has thousands of backgrounds, the fit sees only the hard ones


def fit(model: ModelSpec, samples: Sequence[Sample], settings: Settings = Settings()) -> dict[str, Floats]:
    """The parameters of all heads, by name."""
    parameters: dict[str, Floats] = {}
    for head in _task(model).heads:
        parameters |= _fit_head(model, head, samples, settings)
    return parameters


def _fit_head(model: ModelSpec, head: AnchorHead, samples: Sequence[Sample], settings: Settings) -> dict[str, Floats]:
    mean, scale = _spread([sample.features[head.stride] for sample in samples])
    inputs = [_normalise(sample.features[head.stride], mean, scale) for sample in samples]
    height, width = (size // head.stride for size in model.image_input.shape[2:])
    boxes = head.anchors(height, width).reshape(height * width, -1, 4)
    scores, deltas = [], []
    for number in range(len(head.scales)):
        targets = [_targets(boxes[:, number], sample.faces) for sample in samples]
        scores.append(_fit_scores(inputs, targets, settings))
        deltas.append(_fit_deltas(inputs, targets, settings))
    # Softmax over (background, face) is the logistic function of their difference: half of it on either side.
    logits = np.stack(scores) / 2
    return _to_parameters(f"rpn_cls_score_stride{head.stride}", np.concatenate([-logits, logits]), mean, scale) | (
        _to_parameters(head.boxes, np.concatenate(deltas), mean, scale)
    )


@dataclass(frozen=True)
class _Targets:
    """What one anchor should answer at each cell of a scene."""

    face: Flags
    background: Flags
    deltas: Array  # of the cells where it is a face


def _targets(boxes: Floats, faces: Floats) -> _Targets:
    table = overlaps(boxes, faces)
    best = table.max(axis=1, initial=0)
    face = best >= FACE_IOU
    wanted, anchor = faces[table.argmax(axis=1)[face]], boxes[face]
    sizes, wanted_sizes = anchor[:, 2:] - anchor[:, :2] + 1, wanted[:, 2:] - wanted[:, :2] + 1
    shifts = (wanted[:, :2] + wanted[:, 2:] - anchor[:, :2] - anchor[:, 2:]) / 2 / sizes
    return _Targets(face, best < NEAR_IOU, np.concatenate([shifts, np.log(wanted_sizes / sizes)], axis=1))


def _fit_scores(inputs: Sequence[Array], targets: Sequence[_Targets], settings: Settings) -> Array:
    """Logistic regression of face against background, with the backgrounds that it gets wrong added in rounds."""
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
    """Newton's method on the penalised likelihood. The last column is the constant, and is not penalised."""
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


def _fit_deltas(inputs: Sequence[Array], targets: Sequence[_Targets], settings: Settings) -> Array:
    """Ridge regression of the four deltas where the anchor is a face: [4, inputs]."""
    design = np.concatenate([cells[target.face] for cells, target in zip(inputs, targets, strict=True)]).astype(
        np.float64
    )
    wanted = np.concatenate([target.deltas for target in targets])
    penalties = np.full(design.shape[1], settings.delta_penalty)
    penalties[-1] = 1e-6
    return np.asarray(np.linalg.solve(design.T @ design + np.diag(penalties), design.T @ wanted).T)


def _spread(features: Sequence[Floats]) -> tuple[Array, Array]:
    """Mean and scale of each channel. The scale is more than the deviation where values are large but vary little:
    weights on such channels would mostly amplify the rounding errors that runtimes differ by.
    """
    sample = np.concatenate([cells[::5] for cells in features]).astype(np.float64)
    size = np.sqrt(np.mean(sample**2, axis=0))
    return sample.mean(axis=0), sample.std(axis=0) + size + 1e-3


def _normalise(features: Floats, mean: Array, scale: Array) -> Floats:
    normal = (features - mean) / scale
    return np.asarray(np.concatenate([normal, np.ones((len(normal), 1))], axis=1), np.float32)


def _to_parameters(name: str, coefficients: Array, mean: Array, scale: Array) -> dict[str, Floats]:
    """A 1x1 convolution on the raw features from coefficients on the normalised ones."""
    weights = coefficients[:, :-1] / scale
    bias = coefficients[:, -1] - weights @ mean
    return {f"{name}_weight": weights[:, :, None, None].astype(np.float32), f"{name}_bias": bias.astype(np.float32)}


def predict(model: ModelSpec, parameters: dict[str, Floats], sample: Sample) -> Detections:
    """Detections of one scene from its features."""
    outputs = {}
    height, width = model.image_input.shape[2:]
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
    """Fit, write the heads into the package, and print what they reach on scenes that the fit did not see."""
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
