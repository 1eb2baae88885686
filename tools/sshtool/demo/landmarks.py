"""The demo of anchors with landmarks and attributes: it stands in for RetinaFace, and detects drawn faces.

It is the network of the SSH demo with the model's own heads: scores and boxes from the fitted heads, landmarks that
follow from the boxes, and attributes that follow from the scores. A box's width is exp(dw) times the anchor's, about
1 + dw, so that a landmark at a share of the box is a linear function of the box's deltas, and needs no fit of its own.
A BatchNorm in front turns the model's input into SSH's, R, G, B minus the mean.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sshconvert.arrays import Floats
from sshconvert.cutting import SUFFIX
from sshconvert.errors import ModelError
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.anchors import AnchorHead
from sshtool.demo.checkpoint import FIRST, body, fitted_heads
from sshtool.demo.layers import Layer, symbol_json, variable
from sshtool.demo.seeding import parameter_shapes, seeded
from sshtool.demo.symbol import ssh_features

MXNET_VERSION: Final = 10100
BASE: Final = "ssh-mxnet"
EPSILON: Final = 2e-5
ANCHORS: Final = 2  # of each stride
SHARPENED: Final = 2.0  # of the fitted logits: on noise, most scores are then exactly 1 in every precision

# From a drawn face's centre, in shares of its width and height: eyes, nose and corners of the mouth (`scenes.face`).
POINTS: Final = ((-0.2, -0.085), (0.2, -0.085), (0.0, 0.09), (-0.18, 0.275), (0.18, 0.275))


def landmark_network(model: ModelSpec) -> tuple[str, dict[str, Floats]]:
    """The symbol's text, and the parameters by name. Raises ModelError for a model with other anchors than SSH's."""
    heads = _heads_of(model)
    data = _centred(variable(model.image_input.name))
    features = ssh_features(data)
    outputs = [layer for head in heads for layer in _outputs(features[head.stride], head, model)]
    symbol = symbol_json(outputs, MXNET_VERSION)
    base = load_model(BASE)
    known = body(base) | _input_parameters(model, base)
    fitted = fitted_heads()
    for head in heads:
        known |= _head_parameters(head, model, fitted)
    if model.image.color != base.image.color:
        known[FIRST] = known[FIRST][:, ::-1]
    shapes = parameter_shapes(symbol, model)
    random = seeded({name: shape for name, shape in shapes.items() if name not in known})
    return symbol, {name: (known | random)[name] for name in shapes}


def _heads_of(model: ModelSpec) -> tuple[AnchorHead, ...]:
    base = load_model(BASE).task
    assert isinstance(base, AnchorDetection)
    sizes = {head.stride: head.sizes for head in base.heads}
    task = model.task
    heads = task.heads if isinstance(task, AnchorDetection) and not model.image_input.is_channels_last else ()
    if not heads or any(head.sizes != sizes.get(head.stride) or head.points != len(POINTS) for head in heads):
        raise ModelError(
            f"{model.name}: --demo makes a detector with the anchors of {BASE} and {len(POINTS)} landmarks; give a "
            "checkpoint of this model with --checkpoint or --from-archive"
        )
    return heads


def _centred(data: Layer) -> Layer:
    statistics = tuple(variable(f"bn_data_{role}") for role in ("gamma", "beta", "moving_mean", "moving_var"))
    return Layer("BatchNorm", "bn_data", {"eps": str(EPSILON), "fix_gamma": "False"}, (data, *statistics))


def _input_parameters(model: ModelSpec, base: ModelSpec) -> dict[str, Floats]:
    """The BatchNorm from the model's input to the base's: the inverse of one preprocessing, then the other."""
    order = slice(None, None, -1 if model.image.color != base.image.color else 1)
    ones = np.ones(3, np.float32)
    return {
        "bn_data_gamma": np.array(model.image.divisors, np.float32),
        "bn_data_beta": np.array(model.image.mean, np.float32) - np.array(base.image.mean, np.float32)[order],
        "bn_data_moving_mean": 0 * ones,
        "bn_data_moving_var": (1 - EPSILON) * ones,
    }


def _outputs(features: Layer, head: AnchorHead, model: ModelSpec) -> list[Layer]:
    """The tensors of a head, in its order."""
    layers = [
        _probabilities(features, _tensor(model, head.scores), 2),
        _convolution(features, _tensor(model, head.boxes), 4 * ANCHORS),
    ]
    if head.landmarks:
        layers.append(_convolution(features, _tensor(model, head.landmarks), 2 * head.points * ANCHORS))
    if head.attributes:
        tensor = _tensor(model, head.attributes.tensor)
        layers.append(_probabilities(features, tensor, len(head.attributes.blocks)))
    return layers


def _probabilities(features: Layer, name: str, blocks: int) -> Layer:
    """A softmax over blocks of one channel for each anchor."""
    scores = _convolution(features, f"{name}_score", blocks * ANCHORS)
    apart = Layer("Reshape", f"{name}_apart", {"shape": f"(0, {blocks}, -1, 0)"}, (scores,))
    softmax = Layer("SoftmaxActivation", f"{name}_softmax", {"mode": "channel"}, (apart,))
    return Layer("Reshape", name, {"shape": f"(0, {blocks * ANCHORS}, -1, 0)"}, (softmax,))


def _head_parameters(head: AnchorHead, model: ModelSpec, fitted: dict[str, Floats]) -> dict[str, Floats]:
    parameters: dict[str, Floats] = {}
    boxes = {role: fitted[f"rpn_bbox_pred_stride{head.stride}_{role}"] for role in ("weight", "bias")}
    for role in ("weight", "bias"):
        scores = fitted[f"rpn_cls_score_stride{head.stride}_{role}"] * np.float32(SHARPENED)
        parameters[f"{_tensor(model, head.scores)}_score_{role}"] = scores
        deviations = np.tile(np.array(head.box_std, np.float32), ANCHORS).reshape(-1, *[1] * (boxes[role].ndim - 1))
        parameters[f"{_tensor(model, head.boxes)}_{role}"] = boxes[role] / deviations
        if head.landmarks:
            landmarks = _landmarks(boxes[role], constant=role == "bias") / np.float32(head.landmark_std)
            parameters[f"{_tensor(model, head.landmarks)}_{role}"] = landmarks
        if head.attributes:
            parameters[f"{_tensor(model, head.attributes.tensor)}_score_{role}"] = _attributes(head, scores)
    return parameters


def _landmarks(boxes: Floats, *, constant: bool) -> Floats:
    """The rows of the landmarks from those of the boxes: dx + share * (1 + dw), of which the bias holds the 1."""
    rows = []
    for anchor in boxes.reshape(ANCHORS, 4, *boxes.shape[1:]):
        for shares in POINTS:
            for axis, share in enumerate(shares):
                rows.append(anchor[axis] + np.float32(share) * (anchor[2 + axis] + np.float32(constant)))
    return np.array(rows, np.float32)


def _attributes(head: AnchorHead, scores: Floats) -> Floats:
    """The rows of the attributes from those of the scores: background first, then the face's, each block weaker."""
    assert head.attributes  # the caller checks it
    background, face = scores[:ANCHORS], scores[ANCHORS:]
    weaker = [face * np.float32(1 - number / 4) for number in range(len(head.attributes.blocks) - 1)]
    return np.concatenate([background, *weaker])


def _tensor(model: ModelSpec, output: str) -> str:
    """MXNet's name of a tensor."""
    return model.outputs.get(output, output).removesuffix(SUFFIX)


def _convolution(data: Layer, name: str, width: int) -> Layer:
    attributes = {"kernel": "(1, 1)", "num_filter": str(width)}
    return Layer("Convolution", name, attributes, (data, variable(f"{name}_weight"), variable(f"{name}_bias")))
