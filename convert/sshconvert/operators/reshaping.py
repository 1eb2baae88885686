"""MXNet's Reshape in ONNX nodes that follow the shapes of a run, and fail at those that MXNet refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshconvert.graph import Shape

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

KEEP, REST, COPY, JOIN, SPLIT = 0, -1, -2, -3, -4


def emit_reshape(build: NodeBuilder, codes: Sequence[int]) -> None:
    """Emit a Reshape by `codes` (`sshconvert.operators.shaping.Reshape`). The codes fit the input's shape."""
    data, dimensions = build.inputs[0], len(build.input_shapes[0])
    if SPLIT in codes and _takes_the_rest(codes):
        # ONNX has one dimension for the rest, which a split may need too. So a Reshape of its own makes the splits.
        splits, codes = _splits_apart(codes, dimensions)
        parts = _parts(splits, dimensions)
        operator, inputs, attributes = _reshaped(build, "split", data, parts)
        data, dimensions = build.node("split", operator, inputs, **attributes), len(parts)
    operator, inputs, attributes = _reshaped(build, "shape", data, _parts(codes, dimensions))
    build.finish(operator, inputs, **attributes)


@dataclass(frozen=True)
class _Part:
    """One dimension of the output: the product of these axes of the input, divided by `number`.

    Without axes, it is `number` alone, or with -1 the rest.
    """

    axes: Shape = ()
    number: int = 1


def _takes_the_rest(codes: Sequence[int]) -> bool:
    """Return whether there is a -1 outside of splits."""
    left = iter(codes)
    for code in left:
        if code == SPLIT:
            next(left), next(left)
        elif code == REST:
            return True
    return False


def _splits_apart(codes: Sequence[int], dimensions: int) -> tuple[list[int], list[int]]:
    """Return codes that split and keep all else, and codes that do the rest afterwards."""
    splits, others, left = [], [], list(codes)
    while left:
        code = left.pop(0)
        if code == SPLIT:
            splits += [SPLIT, left.pop(0), left.pop(0)]
            others += [KEEP, KEEP]
            dimensions -= 1
        else:
            taken = {COPY: dimensions, JOIN: 2}.get(code, min(dimensions, 1))
            splits += [KEEP] * taken
            others.append(code)
            dimensions -= taken
    return [*splits, COPY] if dimensions else splits, others


def _parts(codes: Sequence[int], dimensions: int) -> list[_Part]:
    parts: list[_Part] = []
    left, axis = list(codes), 0
    while left:
        code = left.pop(0)
        if code == COPY:
            parts += (_Part((kept,)) for kept in range(axis, dimensions))
            axis = dimensions
        elif code == JOIN:
            parts.append(_Part((axis, axis + 1)))
            axis += 2
        elif code == SPLIT:
            pair = (left.pop(0), left.pop(0))
            parts += (_Part((axis,), max(pair)) if size == REST else _Part(number=size) for size in pair)
            axis += 1
        else:
            parts.append(_Part((axis,)) if code == KEEP else _Part(number=code))
            axis += 1
    return parts


def _reshaped(
    build: NodeBuilder, role: str, data: str, parts: Sequence[_Part]
) -> tuple[str, list[str], dict[str, int]]:
    """Return the last ONNX node: operator, inputs and attributes.

    OpenVINO does not count the elements if the shape holds zeros beside numbers and no -1, and reads beyond the memory.
    So one dimension is -1. Where a run could give it a wrong size, a Split into one part of the right size fails.
    """
    numbers = {axis: part.number for axis, part in enumerate(parts) if not part.axes}
    kept = [axis for axis, part in enumerate(parts) if part == _Part((axis,))]
    computed = [axis for axis in range(len(parts)) if axis not in numbers and axis not in kept]
    codes = [numbers.get(axis, KEEP) for axis in range(len(parts))]
    checked = None
    if REST not in codes and (computed or (numbers and kept)):
        left = (computed or kept)[0]
        codes[left] = REST
        # The size is certain if a split makes the dimension and its partner, and all other dimensions are kept.
        own = [parts[left].number] if parts[left].number > 1 else []
        is_certain = computed == [left] and list(numbers.values()) == own
        checked = None if is_certain else left
        computed = [axis for axis in computed if axis != left]
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
    whole = build.node(f"{role}_unchecked", "Reshape", [data, shape])
    return "Split", [whole, _size(build, f"{role}_checked", before, parts[checked])], {"axis": checked}


def _size(build: NodeBuilder, role: str, before: str, part: _Part) -> str:
    if not part.axes:
        return build.integers(role, (part.number,))
    axes = (build.integers(f"{role}_axis", (axis,)) for axis in part.axes)
    size, *others = (build.node(role, "Gather", [before, axis]) for axis in axes)
    for other in others:
        size = build.node(role, "Mul", [size, other])
    return size if part.number == 1 else build.node(role, "Div", [size, build.integers(f"{role}_by", (part.number,))])
