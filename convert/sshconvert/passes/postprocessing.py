"""The post-processing pass: the network computes the results of the task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx

from sshconvert.arrays import Array
from sshconvert.errors import UsageError
from sshconvert.onnx.builder import Builder, renamed
from sshconvert.onnx.model import OnnxModel
from sshconvert.options import Postprocessing
from sshconvert.passes.base import Pass
from sshconvert.tasks.base import Task
from sshconvert.tasks.inside import BOXES, COUNT, LABELS, NODES, OUTPUTS, SCORES, OutputForm

_WITH_SCORE: Final = 5


@dataclass(frozen=True)
class AppendPostprocessing(Pass):
    """Decode the outputs into the results of the task inside the network.

    Needs: the outputs of the task, and the input as [N, C, H, W].

    Changes: the outputs. With `options.keep_heads`, the original outputs follow the results.

    Keeps: the input.
    """

    input_name: str
    task: Task
    options: Postprocessing

    def apply(self, model: OnnxModel) -> OnnxModel:
        options = self.options
        results = self.task.append_to(
            model, input_name=self.input_name, top_k=options.top_k, keep_heads=options.keep_heads
        )
        return TakeModelApisForm().apply(results) if options.form is OutputForm.MODEL_API else results


@dataclass(frozen=True)
class TakeModelApisForm(Pass):
    """Change results from the plain form to that of Model API (`sshconvert.tasks.inside`).

    Needs: `boxes`, `scores` and `count`. Raises UsageError for a network with a tensor named `labels`.

    Changes: these outputs.

    Keeps: the input and the other outputs.
    """

    def apply(self, model: OnnxModel) -> OnnxModel:
        if LABELS in model.names:
            raise UsageError(f"--output-form: the network already has a tensor named {LABELS}; omit the option")
        build = Builder({*model.names, LABELS}, NODES)
        names = {name: build.name(f"plain_{name}") for name in (BOXES, SCORES)}
        nodes, initializers = _without_count(model)
        column = build.node("score_column", "Unsqueeze", [names[SCORES], build.integers("column_axis", [2])])
        build.output(BOXES, "Concat", [names[BOXES], column], axis=2)
        shape = build.node("labels_shape", "Shape", [names[SCORES]])
        build.output(LABELS, "Expand", [build.constant("label", np.zeros((1, 1), np.int32)), shape])
        images, most, _ = model.outputs[BOXES]
        outputs = {BOXES: (images, most, _WITH_SCORE), LABELS: (images, most)}
        types = {name: dtype for name, dtype in model.types.items() if name != COUNT}
        changed = replace(
            model,
            nodes=tuple(renamed(node, names) for node in nodes),
            initializers=initializers,
            outputs={**outputs, **{name: shape for name, shape in model.outputs.items() if name not in OUTPUTS}},
            types={**types, LABELS: np.int32},
        )
        return build.extend(changed)


def _without_count(model: OnnxModel) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Return the nodes without those that compute the count alone, and the initializers that remain in use."""
    used, nodes = {*model.outputs} - {COUNT}, []
    for node in reversed(model.nodes):
        if used & {*node.output}:
            used |= {*node.input}
            nodes.append(node)
    return nodes[::-1], {name: values for name, values in model.initializers.items() if name in used}
