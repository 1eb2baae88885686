"""Normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class BatchNorm(Operator):
    """Batch normalisation with stored statistics.

    MXNet's defaults differ from other frameworks: eps is 1e-3, and `fix_gamma` replaces gamma by 1.
    """

    name = "BatchNorm"
    inputs = ("data", "gamma", "beta", "moving_mean", "moving_var")
    auxiliaries = 2

    eps: float
    fix_gamma: bool

    @classmethod
    def read(cls, attributes: Attributes) -> BatchNorm:
        attributes.without_effect("momentum", "use_global_stats", "cudnn_off")
        attributes.integer("axis", 1, least=1, most=1)
        attributes.never("output_mean_var")
        return cls(attributes.number("eps", 1e-3), attributes.boolean("fix_gamma", default=True))

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        need(len(data) >= 2, f"{data} has no channels")
        return ((data[1],),) * 4

    def flops(self, *inputs: Shape) -> float:
        return 2

    def emit(self, build: NodeBuilder) -> None:
        data, gamma, *others = build.inputs
        if self.fix_gamma:
            gamma = build.constant("gamma", np.broadcast_to(np.float32(1), build.input_shapes[1]))
        build.finish("BatchNormalization", [data, gamma, *others], epsilon=self.eps)
