"""Convolution and deconvolution."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, Weights, need
from sshconvert.operators.registry import register
from sshconvert.operators.windows import need_axes, read_by_axis, read_kernel, window_counts

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@dataclass(frozen=True)
class _Filters(Operator):
    """The fields and the ONNX attributes that convolution and deconvolution share."""

    inputs = ("data", "weight", "bias")

    kernel: Shape
    stride: Shape
    dilate: Shape
    pad: Shape
    filters: int
    groups: int
    bias: bool

    def input_count(self) -> int:
        return 3 if self.bias else 2

    @abstractmethod
    def weight_shape(self, channels: int) -> Shape:
        """Return the shape of the weights for an input with `channels` channels."""

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        need_axes(self.kernel, data)
        need(
            data[1] % self.groups == 0 and self.filters % self.groups == 0,
            f"{data[1]} channels and {self.filters} filters do not divide into {self.groups} groups",
        )
        weight = self.weight_shape(data[1])
        return (weight, (self.filters,)) if self.bias else (weight,)

    def _onnx_attributes(self) -> dict[str, Any]:
        return {
            "kernel_shape": self.kernel,
            "strides": self.stride,
            "dilations": self.dilate,
            "pads": self.pad * 2,
            "group": self.groups,
        }


def _read_filters(attributes: Attributes, *, no_bias: bool) -> dict[str, Any]:
    """Read the fields of `_Filters`. `no_bias` is the operator's default."""
    kernel = read_kernel(attributes)
    return {
        "kernel": kernel,
        "stride": read_by_axis(attributes, "stride", kernel, 1, least=1),
        "dilate": read_by_axis(attributes, "dilate", kernel, 1, least=1),
        "pad": read_by_axis(attributes, "pad", kernel, 0),
        "filters": attributes.integer("num_filter", least=1),
        "groups": attributes.integer("num_group", 1, least=1),
        "bias": not attributes.boolean("no_bias", default=no_bias),
    }


@register
@dataclass(frozen=True)
class Convolution(_Filters):
    """Convolution with weights [filters, channels / groups, *kernel]."""

    name = "Convolution"
    weights = Weights("Conv", ("Convolution", "GroupConvolution"))

    @classmethod
    def read(cls, attributes: Attributes) -> Convolution:
        return cls(**_read_filters(attributes, no_bias=False))

    def weight_shape(self, channels: int) -> Shape:
        return (self.filters, channels // self.groups, *self.kernel)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        spans = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilate, strict=True)]
        return ((inputs[0][0], self.filters, *window_counts(inputs[0][2:], spans, self.stride, self.pad)),)

    def flops(self, *inputs: Shape) -> float:
        return 2 * math.prod(inputs[1][1:]) + self.bias

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Conv", build.inputs, **self._onnx_attributes())


@register
@dataclass(frozen=True)
class Deconvolution(_Filters):
    """Transposed convolution with weights [channels, filters / groups, *kernel]."""

    name = "Deconvolution"
    weights = Weights("ConvTranspose", ("ConvolutionBackpropData", "GroupConvolutionBackpropData"))
    restrictions = "Each `adj` is smaller than its `stride`."

    adjust: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> Deconvolution:
        filters = _read_filters(attributes, no_bias=True)
        # With a target shape, MXNet ignores pad and adj and chooses its own. No known detector uses one.
        attributes.choice("target_shape", ("()", "[]", "(0,)", "(0, 0)", "(0,0)"), "()")
        return cls(**filters, adjust=read_by_axis(attributes, "adj", filters["kernel"], 0))

    def weight_shape(self, channels: int) -> Shape:
        return (channels, self.filters // self.groups, *self.kernel)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        is_smaller = all(adjust < stride for adjust, stride in zip(self.adjust, self.stride, strict=True))
        need(is_smaller, f"adj {self.adjust} is not smaller than the stride {self.stride}")
        sizes = tuple(
            stride * (size - 1) + dilate * (kernel - 1) + 1 - 2 * pad + adjust
            for size, kernel, stride, dilate, pad, adjust in zip(
                inputs[0][2:], self.kernel, self.stride, self.dilate, self.pad, self.adjust, strict=True
            )
        )
        need(all(size > 0 for size in sizes), f"the padding {self.pad} removes all of the output for {inputs[0]}")
        return ((inputs[0][0], self.filters, *sizes),)

    def flops(self, *inputs: Shape) -> float:
        products = 2 * (inputs[0][1] // self.groups) * math.prod(self.kernel)
        return products / math.prod(self.stride) + self.bias

    def emit(self, build: NodeBuilder) -> None:
        build.finish("ConvTranspose", build.inputs, output_padding=self.adjust, **self._onnx_attributes())
