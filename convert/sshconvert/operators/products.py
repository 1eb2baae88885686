"""Products of matrices and of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.messages import shown
from sshconvert.mxnet.attributes import MAX_FLOAT32, MAX_INTEGER, Attributes
from sshconvert.operators.base import Operator, need, need_floats
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


def _moved(shape: Sequence[int], source: int, target: int) -> list[int]:
    """Return the order of the axes after one has moved."""
    order = [axis for axis in range(len(shape)) if axis != source % len(shape)]
    order.insert(target % len(shape), source % len(shape))
    return order


@dataclass(frozen=True)
class _Transposing(Operator):
    """A product of two tensors, each of which may be transposed first."""

    inputs = ("lhs", "rhs")

    transpose_lhs: bool
    transpose_rhs: bool

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(*inputs)
        return (inputs[0],)


def _read_transposed(attributes: Attributes) -> tuple[bool, bool]:
    return attributes.boolean("transpose_a", default=False), attributes.boolean("transpose_b", default=False)


@register
@dataclass(frozen=True)
class Dot(_Transposing):
    """Sums of products over the last axis of the first tensor and the first axis of the second.

    A transposition takes the first axis of the first tensor, and the last axis of the second.
    """

    name = "dot"
    restrictions = "With three or more dimensions in the second input, at most one size of the output is free."

    @classmethod
    def read(cls, attributes: Attributes) -> Dot:
        attributes.choice("forward_stype", ("None", "default"), "None")
        return cls(*_read_transposed(attributes))

    def _axes(self) -> tuple[int, int]:
        return (0 if self.transpose_lhs else -1), (-1 if self.transpose_rhs else 0)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        (lhs, rhs), (left, right) = inputs, self._axes()
        need(lhs[left] == rhs[right], f"{lhs[left]} columns and {rhs[right]} rows of {shown([lhs, rhs])} do not fit")
        is_transposed = self.transpose_lhs or self.transpose_rhs
        need(len(lhs) > 1 or len(rhs) > 1 or not is_transposed, "vectors cannot be transposed")
        kept = [size for number, size in enumerate(lhs) if number != left % len(lhs)]
        kept += [size for number, size in enumerate(rhs) if number != right % len(rhs)]
        return (tuple(kept) or (1,),)

    def flops(self, *inputs: Shape) -> float:
        return 2 * inputs[0][self._axes()[0]]

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        product = np.tensordot(inputs[0], inputs[1], axes=self._axes())
        return (np.asarray(product).reshape(product.shape or (1,)),)

    def emit(self, build: NodeBuilder) -> None:
        # Vectors become matrices: ONNX Runtime multiplies a transposed matrix by a vector wrongly.
        (lhs, rhs), (before, after) = build.inputs, build.input_shapes
        if self.transpose_lhs and len(before) > 1:
            lhs = build.node("columns", "Transpose", [lhs], perm=_moved(before, 0, -1))
        if self.transpose_rhs and len(after) > 1:
            rhs = build.node("rows", "Transpose", [rhs], perm=_moved(after, -1, 0))
        if len(before) == 1:
            lhs = build.node("row", "Reshape", [lhs, build.integers("row_shape", (1, -1))])
        if len(after) == 2 and len(before) > 1:
            build.finish("MatMul", [lhs, rhs])
            return
        need(sum(build.free_output) <= 1 and not any(build.free_input(1)), "needs a fixed size")
        rows = before[self._axes()[0]]
        matrix = build.node("matrix", "Reshape", [rhs, build.integers("matrix_shape", (rows, -1))])
        sizes = zip(build.output_shapes[0], build.free_output, strict=True)
        shape = build.integers("shape", [-1 if is_free else size for size, is_free in sizes])
        build.finish("Reshape", [build.node("products", "MatMul", [lhs, matrix]), shape])


@register
@dataclass(frozen=True)
class BatchDot(_Transposing):
    """Products of the matrices in the last two axes. All other axes are batches of the same sizes."""

    name = "batch_dot"

    @classmethod
    def read(cls, attributes: Attributes) -> BatchDot:
        attributes.choice("forward_stype", ("None", "default"), "None")
        return cls(*_read_transposed(attributes))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(min(map(len, inputs)) > 2, f"the inputs {shown(list(inputs))} have no batch")
        return (_product_shape(inputs[0], inputs[1], self.transpose_lhs, self.transpose_rhs),)

    def flops(self, *inputs: Shape) -> float:
        return 2 * inputs[0][-2 if self.transpose_lhs else -1]

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        flags = (self.transpose_lhs, self.transpose_rhs)
        lhs, rhs = (np.swapaxes(x, -1, -2) if is_on else x for x, is_on in zip(inputs, flags, strict=True))
        return (lhs @ rhs,)

    def emit(self, build: NodeBuilder) -> None:
        axes = list(range(len(build.input_shapes[0])))
        swapped = [*axes[:-2], axes[-1], axes[-2]]
        flags = zip(("lhs", "rhs"), build.inputs, (self.transpose_lhs, self.transpose_rhs), strict=True)
        build.finish("MatMul", [build.node(role, "Transpose", [x], perm=swapped) if on else x for role, x, on in flags])


def _product_shape(lhs: Shape, rhs: Shape, transpose_lhs: bool, transpose_rhs: bool) -> Shape:
    """Return the shape of products of the matrices in the last two axes. Raises ShapeError."""
    need(lhs[:-2] == rhs[:-2], f"the batches of {shown([lhs, rhs])} differ")
    rows, columns = lhs[-2:][::-1] if transpose_lhs else lhs[-2:]
    inner, width = rhs[-2:][::-1] if transpose_rhs else rhs[-2:]
    need(columns == inner, f"{columns} columns and {inner} rows of {shown([lhs, rhs])} do not fit")
    return (*lhs[:-2], rows, width)


@dataclass(frozen=True)
class _Gemm(_Transposing):
    """`alpha` times products of matrices, whose rows lie along `axis`, and columns along the last axis."""

    alpha: float
    axis: int

    def _row_axis(self, shape: Shape) -> int:
        axis = self.axis % len(shape) if -len(shape) <= self.axis < len(shape) else -1
        need(0 <= axis < len(shape) - 1, f"axis {self.axis} is not an axis of rows in {shape}")
        return axis

    def _arranged(self, shape: Shape) -> Shape:
        """Return the shape with the rows moved before the columns."""
        return tuple(shape[axis] for axis in _moved(shape, self._row_axis(shape), -2))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        lhs, rhs, *_ = inputs
        need(len(lhs) == len(rhs), f"the inputs {shown([lhs, rhs])} have different numbers of dimensions")
        axis = self._row_axis(lhs)
        shape = _product_shape(self._arranged(lhs), self._arranged(rhs), self.transpose_lhs, self.transpose_rhs)
        return (tuple(shape[i] for i in _moved(shape, -2, axis)),)

    def flops(self, *inputs: Shape) -> float:
        return 2 * self._arranged(inputs[0])[-2 if self.transpose_lhs else -1]

    def _products(self, lhs: Array, rhs: Array) -> Array:
        lhs, rhs = (np.moveaxis(x, self._row_axis(x.shape), -2) for x in (lhs, rhs))
        lhs = np.swapaxes(lhs, -1, -2) if self.transpose_lhs else lhs
        rhs = np.swapaxes(rhs, -1, -2) if self.transpose_rhs else rhs
        return np.moveaxis(np.float64(np.float32(self.alpha)) * (lhs @ rhs), -2, self.axis)

    def _emit_products(self, build: NodeBuilder) -> tuple[str, list[str]]:
        """Return the last operator of the nodes that compute the products, and its inputs."""
        shape = build.input_shapes[0]
        axis, sides = self._row_axis(shape), []
        flags = (self.transpose_lhs, self.transpose_rhs)
        for role, tensor, is_transposed in zip(("lhs", "rhs"), build.inputs, flags, strict=False):
            order = _moved(shape, axis, -2)
            order = [*order[:-2], order[-1], order[-2]] if is_transposed else order
            is_changed = order != sorted(order)
            sides.append(build.node(role, "Transpose", [tensor], perm=order) if is_changed else tensor)
        operator, inputs = "MatMul", sides
        if self.alpha != 1:
            inputs = [build.node("products", operator, inputs), build.floats("alpha", self.alpha)]
            operator = "Mul"
        if axis == len(shape) - 2:
            return operator, inputs
        return "Transpose", [build.node("arranged", operator, inputs)]

    def _order(self, build: NodeBuilder) -> dict[str, list[int]]:
        """Return the attributes of the last operator of `_emit_products`."""
        shape = build.input_shapes[0]
        axis = self._row_axis(shape)
        return {} if axis == len(shape) - 2 else {"perm": _moved(shape, -2, axis)}


def _read_gemm(attributes: Attributes) -> tuple[bool, bool, float, int]:
    transposed = _read_transposed(attributes)
    alpha = attributes.number("alpha", 1, least=-MAX_FLOAT32)
    return (*transposed, alpha, attributes.integer("axis", -2, least=-MAX_INTEGER))


@register
@dataclass(frozen=True)
class Gemm2(_Gemm):
    """`alpha` times products of matrices."""

    name = "_linalg_gemm2"
    aliases = ("linalg_gemm2",)

    @classmethod
    def read(cls, attributes: Attributes) -> Gemm2:
        return cls(*_read_gemm(attributes))

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (self._products(*inputs),)

    def emit(self, build: NodeBuilder) -> None:
        operator, inputs = self._emit_products(build)
        build.finish(operator, inputs, **self._order(build))


@register
@dataclass(frozen=True)
class Gemm(_Gemm):
    """`alpha` times products of matrices, plus `beta` times a third tensor."""

    name = "_linalg_gemm"
    aliases = ("linalg_gemm",)
    inputs = ("A", "B", "C")  # type: ignore[assignment]  # one more than the other products

    beta: float

    @classmethod
    def read(cls, attributes: Attributes) -> Gemm:
        return cls(*_read_gemm(attributes), attributes.number("beta", 1, least=-MAX_FLOAT32))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        (shape,) = super().output_shapes(*inputs)
        need(inputs[2] == shape, f"the third input has the shape {inputs[2]}, expected {shape}")
        return (shape,)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (self._products(*inputs[:2]) + np.float64(np.float32(self.beta)) * inputs[2],)

    def emit(self, build: NodeBuilder) -> None:
        operator, inputs = self._emit_products(build)
        products = build.node("product", operator, inputs, **self._order(build))
        other = build.inputs[2]
        if self.beta != 1:
            other = build.node("scaled", "Mul", [other, build.floats("beta", self.beta)])
        build.finish("Add", [products, other])


@register
@dataclass(frozen=True)
class Embedding(Operator):
    """A row of the weights [input_dim, output_dim] for each index. Indices outside take the first or the last row."""

    name = "Embedding"
    inputs = ("data", "weight")

    rows: int
    columns: int

    @classmethod
    def read(cls, attributes: Attributes) -> Embedding:
        attributes.without_effect("sparse_grad")
        attributes.choice("dtype", ("float32", "float16", "float64", "bfloat16"), "float32")
        return cls(attributes.integer("input_dim", least=1), attributes.integer("output_dim", least=1))

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        return ((self.rows, self.columns),)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((*inputs[0], self.columns),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (inputs[1],)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        indices = np.trunc(inputs[0]).astype(np.int64)
        return (inputs[1][np.clip(indices, 0, self.rows - 1)],)

    def emit(self, build: NodeBuilder) -> None:
        indices = build.cast("indices", build.inputs[0], np.int64)
        limits = [build.integers("first", 0), build.integers("last", self.rows - 1)]
        build.finish("Gather", [build.inputs[1], build.node("clipped", "Clip", [indices, *limits])], axis=0)


@register
@dataclass(frozen=True)
class KhatriRao(Operator):
    """Kronecker products of the columns of matrices with the same number of columns."""

    name = "khatri_rao"
    inputs = ()

    count: int

    @classmethod
    def read(cls, attributes: Attributes) -> KhatriRao:
        return cls(attributes.integer("num_args", least=1))

    def input_count(self) -> int:
        return self.count

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(all(len(shape) == 2 for shape in inputs), f"the inputs {shown(list(inputs))} are not all matrices")
        need(len({shape[1] for shape in inputs}) == 1, f"the columns of {shown(list(inputs))} differ in number")
        return ((math.prod(shape[0] for shape in inputs), inputs[0][1]),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(*inputs)
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return self.count - 1

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (reduce(lambda lhs, rhs: (lhs[:, None] * rhs).reshape(-1, lhs.shape[1]), inputs),)

    def emit(self, build: NodeBuilder) -> None:
        columns = build.input_shapes[0][1]
        need(not any(free[1] for free in map(build.free_input, range(self.count))), "needs a fixed size")
        product, *others = build.inputs
        for other in others:
            rows = build.node("rows", "Reshape", [product, build.integers("rows_shape", (-1, 1, columns))])
            pairs = build.node("pairs", "Mul", [rows, other])
            product = build.node("product", "Reshape", [pairs, build.integers("product_shape", (-1, columns))])
        build.finish("Identity", [product])
