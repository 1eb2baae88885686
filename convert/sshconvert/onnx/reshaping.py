"""MXNet's Reshape in ONNX, by the shape of each run: what MXNet refuses at another size fails there too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshconvert.graph import Shape

if TYPE_CHECKING:
    from sshconvert.onnx.emitter import Emitter

KEEP, REST, COPY, JOIN, SPLIT = 0, -1, -2, -3, -4


def emit_reshape(emit: Emitter, codes: Sequence[int]) -> None:
    """Emit the current node as a Reshape by `codes` (`sshconvert.operators.Reshape`), which fit its input."""
    data, dimensions = emit.inputs[0], len(emit.input_shapes[0])
    if SPLIT in codes and _takes_the_rest(codes):
        # A dimension that takes what is left would take what a split leaves over, so the splits are made before it.
        splits, codes = _splits_apart(codes, dimensions)
        parts = _parts(splits, dimensions)
        data, dimensions = emit.step("split", "Reshape", [data, _shape(emit, "split", data, parts)]), len(parts)
    emit.node("Reshape", [data, _shape(emit, "shape", data, _parts(codes, dimensions))])


@dataclass(frozen=True)
class _Part:
    """One dimension of the output: the product of these axes of the input divided by `number`, or without axes
    `number` alone, which is -1 for what is left.
    """

    axes: Shape = ()
    number: int = 1


def _takes_the_rest(codes: Sequence[int]) -> bool:
    """Whether there is a -1 that is no part of a split."""
    left = iter(codes)
    for code in left:
        if code == SPLIT:
            next(left), next(left)
        elif code == REST:
            return True
    return False


def _splits_apart(codes: Sequence[int], dimensions: int) -> tuple[list[int], list[int]]:
    """Codes that split and keep everything else, and codes that do everything else afterwards."""
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


def _shape(emit: Emitter, role: str, data: str, parts: Sequence[_Part]) -> str:
    """The name of the shape: a constant of zeros and at most one -1 where that says it all, else computed."""
    codes = [_code(axis, part) for axis, part in enumerate(parts)]
    computed = [part for axis, part in enumerate(parts) if part.axes and part != _Part((axis,))]
    numbers = math.prod(part.number for part in parts if not part.axes)
    if not computed or (len(computed) == 1 and numbers == computed[0].number):
        return emit.integers(role, codes)
    before = emit.step(f"{role}_before", "Shape", [data])
    sizes = [_size(emit, f"{role}_size", before, part) for part in parts]
    return emit.step(role, "Concat", sizes, axis=0)


def _code(axis: int, part: _Part) -> int:
    """What stands for a part in a constant shape."""
    if not part.axes:
        return part.number
    return KEEP if part == _Part((axis,)) else REST


def _size(emit: Emitter, role: str, before: str, part: _Part) -> str:
    if not part.axes:
        return emit.integers(role, (part.number,))
    axes = (emit.integers(f"{role}_axis", (axis,)) for axis in part.axes)
    size, *others = (emit.step(role, "Gather", [before, axis]) for axis in axes)
    for other in others:
        size = emit.step(role, "Mul", [size, other])
    return size if part.number == 1 else emit.step(role, "Div", [size, emit.integers(f"{role}_by", (part.number,))])
