"""As `hostile_graphs`, for OpenVINO IR: written by OpenVINO itself."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from hostile_graphs import MODEL
from small_model import write_small_models
from sshconvert.libraries import import_openvino


class Representation:
    """A model in the making."""

    def __init__(self, chance: random.Random) -> None:
        self.openvino = import_openvino()
        from openvino import opset13

        self.ops: Any = opset13
        self.chance = chance
        with tempfile.TemporaryDirectory() as folder:
            write_small_models(Path(folder), MODEL)
            self.model = self.openvino.Core().read_model(Path(folder) / "small.xml").clone()
        self.data = self.model.inputs[0].get_node()
        self.sinks: list[Any] = []

    def scalar(self) -> Any:
        """A number that depends on the image."""
        mean = self.ops.reduce_mean(self.data, self.whole([0, 1, 2, 3]))
        return self.ops.multiply(mean, self.ops.constant(np.float32(0)))

    def whole(self, values: Any) -> Any:
        return self.ops.constant(np.array(values, np.int64))

    def many(self) -> int:
        return self.chance.choice((1 << 27, 1 << 30, 3 << 30, 1 << 40))

    def largest(self, node: Any) -> Any:
        rank = node.output(0).partial_shape.rank.get_length()
        return self.ops.reduce_max(node, self.whole(list(range(rank))))


Harm = Callable[[Representation], Any]


def _loop(made: Representation) -> Any:
    ops = made.ops
    value = ops.parameter([], np.float32)
    go = ops.constant(np.bool_(True))
    body = made.openvino.Model([ops.add(value, value), go], [value], "body")
    loop = ops.loop(made.whole(-1), ops.constant(np.bool_(True)))
    loop.set_function(body)
    loop.set_special_body_ports([-1, 1])
    loop.set_merged_input(value, made.scalar().output(0), body.results[0].output(0))
    return loop.get_iter_value(body.results[0].output(0), -1).get_node()


def _branch(made: Representation) -> Any:
    ops = made.ops
    branch = ops.if_op(ops.constant(np.bool_(True)))
    results = []
    scalar = made.scalar().output(0)
    bodies = []
    for _ in range(2):
        value = ops.parameter([], np.float32)
        bodies.append((made.openvino.Model([ops.relu(value)], [value], "branch"), value))
    branch.set_then_body(bodies[0][0])
    branch.set_else_body(bodies[1][0])
    branch.set_input(scalar, bodies[0][1], bodies[1][1])
    results.append(branch.set_output(bodies[0][0].results[0], bodies[1][0].results[0]))
    return results[0].get_node()


def _state(made: Representation) -> Any:
    """Counts how often it was asked."""
    ops = made.ops
    name = f"count{len(made.sinks)}"
    before = ops.read_value(ops.constant(np.zeros(1, np.float32)), name, np.float32, [1])
    after = ops.add(before, ops.constant(np.ones(1, np.float32)))
    made.sinks.append(ops.assign(after, name))
    return made.largest(after)


def _chance(made: Representation) -> Any:
    ops = made.ops
    low, high = (ops.constant(np.float32(value)) for value in (0, 1))
    return made.largest(ops.random_uniform(made.whole([1]), low, high, "f32"))


def _broadcast(made: Representation) -> Any:
    size = made.whole([made.many()])
    if made.chance.random() < 0.5:
        more = made.ops.unsqueeze(made.ops.convert(made.scalar(), "i64"), made.whole([0]))
        size = made.ops.add(more, size)
    return made.largest(made.ops.broadcast(made.scalar(), size))


def _squared(made: Representation) -> Any:
    """A size that arithmetic makes of an honest one."""
    ops = made.ops
    size = ops.gather(ops.shape_of(made.data), made.whole([2, 3]), made.whole(0))
    size = ops.convert(size, made.chance.choice(("i64", "i32", "f32")))
    for _ in range(made.chance.randrange(1, 4)):
        size = ops.multiply(size, size)
    return made.largest(ops.broadcast(made.scalar(), ops.convert(size, "i64")))


def _range(made: Representation) -> Any:
    limit = made.whole(made.chance.choice((1 << 27, 1 << 30)))  # of more, OpenVINO makes nothing
    if made.chance.random() < 0.5:
        limit = made.ops.add(made.ops.convert(made.scalar(), "i64"), limit)
    numbers = made.ops.range(made.whole(0), limit, made.whole(1), "i64")
    return made.largest(made.ops.convert(numbers, "f32"))


def _interpolate(made: Representation) -> Any:
    sizes = made.whole([1 << made.chance.randrange(14, 18)] * 2)
    bigger = made.ops.interpolate(made.data, sizes, "nearest", "sizes", axes=made.whole([2, 3]))
    return made.largest(bigger)


def _tile(made: Representation) -> Any:
    return made.largest(made.ops.tile(made.data, made.whole([1, 1, 1 << 12, 1 << 12])))


def _wide_edges(made: Representation) -> Any:
    """An edge as wide as a constant, or arithmetic on sizes, decide."""
    ops = made.ops
    widths = made.whole([0, 0, 1 << made.chance.randrange(14, 20), 1 << 14])
    if made.chance.random() < 0.5:
        widths = ops.multiply(ops.shape_of(made.data), made.whole([0, 0, 99, 99]))
    return made.largest(ops.pad(made.data, made.whole([0] * 4), widths, "edge"))


def _padding(made: Representation) -> Any:
    pads = [1 << made.chance.randrange(14, 24)] * 2
    kernel = made.ops.constant(np.zeros((1, 3, 1, 1), np.float32))
    return made.largest(made.ops.convolution(made.data, kernel, [1, 1], pads, pads, [1, 1]))


def _wide_windows(made: Representation) -> Any:
    side = made.chance.choice((2049, 8193))
    pads = [side // 2] * 2
    pooled = made.ops.max_pool(made.data, [1, 1], [1, 1], pads, pads, [side] * 2)
    return made.largest(made.ops.relu(pooled.output(0)))


def _many_tensors(made: Representation) -> Any:
    big = made.ops.broadcast(made.scalar(), made.whole([1 << 22]))
    parts = [made.ops.add(big, made.ops.constant(np.float32(number))) for number in range(40)]
    while len(parts) > 1:
        parts = [*parts[2:], made.ops.add(*parts[:2])]
    return made.largest(parts[0])


def _product(made: Representation) -> Any:
    """Large tensors, or small ones and much work."""
    side = made.chance.choice((2000, 8000))
    big = made.ops.broadcast(made.scalar(), made.whole([side, side]))
    for _ in range(3):
        big = made.ops.matmul(big, big, transpose_a=made.chance.random() < 0.5, transpose_b=False)
    return made.largest(big)


def _regions(made: Representation) -> Any:
    """A region as wide as the data decide."""
    regions = made.ops.broadcast(made.scalar(), made.whole([1, 4]))
    image = made.whole([0])
    return made.largest(made.ops.roi_align(made.data, regions, image, 2, 2, 0, 1.0, "avg"))


def _nonzero(made: Representation) -> Any:
    return made.largest(made.ops.convert(made.ops.non_zero(made.data), "f32"))


HARMS: Final[Mapping[str, Harm]] = {
    "a Loop": _loop,
    "an If": _branch,
    "a state": _state,
    "chance": _chance,
    "Broadcast": _broadcast,
    "a squared size": _squared,
    "Range": _range,
    "Interpolate": _interpolate,
    "Tile": _tile,
    "wide edges": _wide_edges,
    "padding": _padding,
    "wide windows": _wide_windows,
    "many tensors": _many_tensors,
    "regions": _regions,
    "a product of matrices": _product,
    "sizes that data decide": _nonzero,
}


def write(path: Path, kinds: Sequence[str], seed: int) -> None:
    """Write the small model with harm of these kinds, each with an output that needs it."""
    made = Representation(random.Random(seed))  # noqa: S311  # repeatable, not secret
    results = [made.ops.result(HARMS[kind](made)) for kind in kinds]
    results = [*made.model.results, *results]
    model = made.openvino.Model(results, made.sinks, made.model.get_parameters(), "evil")
    made.openvino.serialize(model, path)
