"""ONNX nodes of MXNet's Reshape. They follow the shapes of each run, and fail for shapes that MXNet refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshconvert.graph import Shape

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

KEEP, INFER, COPY, JOIN, SPLIT = 0, -1, -2, -3, -4


def emit_reshape(build: NodeBuilder, codes: Sequence[int], *, reverse: bool = False) -> None:
    """Emit a Reshape by `codes` (`sshconvert.operators.shaping.Reshape`), which fit the input's shape."""
    data, dimensions = build.inputs[0], len(build.input_shapes[0])
    codes = codes[::-1] if reverse else codes  # in the order in which MXNet reads them
    splits, others = _separate_splits(codes, dimensions)
    if SPLIT in codes and INFER in others:
        # ONNX infers one dimension, and a split may need it too. So a Reshape of their own makes the splits.
        parts, codes = _parts(splits, dimensions, reverse=reverse), others
        operator, inputs, attributes = _reshape_node(build, "split", data, parts)
        data, dimensions = build.node("split", operator, inputs, **attributes), len(parts)
    operator, inputs, attributes = _reshape_node(build, "shape", data, _parts(codes, dimensions, reverse=reverse))
    build.finish(operator, inputs, **attributes)


@dataclass(frozen=True)
class _Part:
    """One dimension of the output: the product of the input's `axes`, divided by `number`.

    Without axes, the dimension is `number`; the Reshape infers -1.
    """

    axes: Shape = ()
    number: int = 1


def _separate_splits(codes: Sequence[int], dimensions: int) -> tuple[list[int], list[int]]:
    """Return codes that only split, and codes that then apply the other changes."""
    splits, others, remaining = [], [], list(codes)
    while remaining:
        code = remaining.pop(0)
        if code == SPLIT:
            splits += [SPLIT, remaining.pop(0), remaining.pop(0)]
            others += [KEEP, KEEP]
            dimensions -= 1
        else:
            consumed = {COPY: dimensions, JOIN: 2}.get(code, min(dimensions, 1))
            splits += [KEEP] * consumed
            others.append(code)
            dimensions -= consumed
    return [*splits, COPY] if dimensions else splits, others


def _parts(codes: Sequence[int], dimensions: int, *, reverse: bool) -> list[_Part]:
    """Return the dimensions that the codes make. In reverse, the first code is about the last dimension."""
    parts: list[_Part] = []
    remaining, axis = list(codes), 0
    while remaining:
        code = remaining.pop(0)
        if code == COPY:
            parts += (_Part((kept,)) for kept in range(axis, dimensions))
            axis = dimensions
        elif code == JOIN:
            parts.append(_Part((axis, axis + 1)))
            axis += 2
        elif code == SPLIT:
            pair = (remaining.pop(0), remaining.pop(0))
            parts += (_Part((axis,), max(pair)) if size == INFER else _Part(number=size) for size in pair)
            axis += 1
        else:
            parts.append(_Part((axis,)) if code == KEEP else _Part(number=code))
            axis += 1
    if reverse:
        return [_Part(tuple(dimensions - 1 - axis for axis in part.axes), part.number) for part in reversed(parts)]
    return parts


def _reshape_node(
    build: NodeBuilder, role: str, data: str, parts: Sequence[_Part]
) -> tuple[str, list[str], dict[str, int]]:
    """Return the last ONNX node: operator, inputs and attributes.

    If the shape holds zeros and numbers but no -1, OpenVINO does not count the elements and reads beyond its memory.
    So one dimension is -1. If a run can infer a wrong size for it, a Split into one part of the right size fails.
    """
    numbers = {axis: part.number for axis, part in enumerate(parts) if not part.axes}
    kept = [axis for axis, part in enumerate(parts) if part == _Part((axis,))]
    computed = [axis for axis in range(len(parts)) if axis not in numbers and axis not in kept]
    codes = [numbers.get(axis, KEEP) for axis in range(len(parts))]
    checked = None
    if INFER not in codes and (computed or (numbers and kept)):
        inferred = (computed or kept)[0]
        codes[inferred] = INFER
        # The size is certain if a split makes the dimension and its partner, and all other dimensions are kept.
        partner = [parts[inferred].number] if parts[inferred].number > 1 else []
        is_certain = computed == [inferred] and list(numbers.values()) == partner
        checked = None if is_certain else inferred
        computed = [axis for axis in computed if axis != inferred]
    before = build.node(f"{role}_before", "Shape", [data]) if computed or checked is not None else ""
    if computed:
        sizes = [
            _size(build, f"{role}_size", before, part) if axis in computed else build.integers(f"{role}_size", (code,))
            for axis, (part, code) in enumerate(zip(parts, codes, strict=True))
        ]
        shape = build.node(role, "Concat", sizes, axis=0)
    else:
        shape = build.integers(role, codes)
    if checked is None:
        return "Reshape", [data, shape], {}
    unchecked = build.node(f"{role}_unchecked", "Reshape", [data, shape])
    return "Split", [unchecked, _size(build, f"{role}_checked", before, parts[checked])], {"axis": checked}


def _size(build: NodeBuilder, role: str, before: str, part: _Part) -> str:
    if not part.axes:
        return build.integers(role, (part.number,))
    axes = (build.integers(f"{role}_axis", (axis,)) for axis in part.axes)
    size, *others = (build.node(role, "Gather", [before, axis]) for axis in axes)
    for other in others:
        size = build.node(role, "Mul", [size, other])
    return size if part.number == 1 else build.node(role, "Div", [size, build.integers(f"{role}_by", (part.number,))])
