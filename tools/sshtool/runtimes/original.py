"""How the runtimes of the original network take their inputs, and what they declare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sshconvert.arrays import Array
from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import Declaration, Tensor
from sshconvert.models.spec import ModelSpec
from sshtool.runtimes.base import Feed


def original_inputs(model: ModelSpec, feed: Feed) -> Mapping[str, Array]:
    """Return the inputs by name as the original network takes them: float32, preprocessed, in its layout."""
    if not isinstance(feed, np.ndarray):
        return feed
    pixels, item = model.image.prepared(feed), model.image_input
    if not item.is_channels_last:
        pixels = pixels.transpose(0, 3, 1, 2)
    return {item.name: np.ascontiguousarray(pixels)}


def original_declaration(checkpoint: Checkpoint) -> Declaration:
    """Declare any size of an image. Tensors have the model's own shapes."""
    model = checkpoint.model
    declared = Declaration(precision="FP32", weights=checkpoint.weights)
    if model.takes_image:
        return replace(declared, color_order=model.image.color.upper(), mean_values=model.image.mean)
    first = model.inputs[0]
    return replace(
        declared,
        input_shape=first.shape,
        input_layout="",
        input_type=first.dtype,
        color_order="",
        mean_values=(),
        tensors=tuple(Tensor(item.name, item.dtype, item.shape) for item in model.inputs),
    )
