"""The export of random networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from random_graphs import Array, Document
from sshconvert.checkpoint import bind
from sshconvert.export import export
from sshconvert.graph import Shape
from sshconvert.models.registry import load_model
from sshconvert.network import parse_symbol, resolve
from sshconvert.onnx.model import OnnxModel

MODEL: Final = load_model("ssh-mxnet")

# Both sum a few hundred products of float32, in another order, in up to thirteen layers: at most 8e-6 of a tensor's
# largest value was measured in 10,000 networks.
TOLERANCE: Final = 1e-4


def converted(document: Document, arrays: Mapping[str, Array], input_shape: Shape) -> OnnxModel:
    """The way of `open_checkpoint` and `to_onnx`, for a network that is not the model's."""
    model = MODEL.model_copy(update={"inputs": (MODEL.image_input.model_copy(update={"shape": input_shape}),)})
    graph = parse_symbol(json.dumps(document).encode(), source="random-symbol.json")
    parameters = bind(graph, arrays, model, source=Path("random-0000.params"))
    inputs = {"data": input_shape}
    return export(resolve(graph, inputs), parameters, inputs, name="random")
