"""Small random networks over all supported operators, each given by its seed alone.

What is made here is sound by construction: the shapes of all tensors and parameters are worked out beside the nodes,
apart from `sshconvert.network`, so that they can be compared. Tensors are kept small, so that a network takes
milliseconds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sshconvert.graph import Shape

Array: TypeAlias = npt.NDArray[Any]
Document: TypeAlias = dict[str, Any]

MOST_ELEMENTS: Final = 4096
MOST_CHANNELS: Final = 12
LONGEST_AXIS: Final = 24
MOST_AXES: Final = 5
ACTIVATIONS: Final = ("relu", "sigmoid", "tanh", "softrelu", "softsign")


@dataclass(frozen=True)
class RandomGraph:
    """A symbol, and what has to come of it. `parameters` are shapes by name, `outputs` by the bare name, in order."""

    document: Document
    input_shape: Shape
    parameters: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    shapes: Sequence[Shape]  # of each node's output

    def arrays(self, seed: int) -> dict[str, Array]:
        """Seeded parameters with MXNet's prefixes, scaled so that values stay about 1 through all layers."""
        random = np.random.default_rng(seed)
        return {_prefixed(name): _values(name, shape, random) for name, shape in self.parameters.items()}


def random_graph(seed: int) -> RandomGraph:
    random = Random(seed)  # noqa: S311  # no secret
    shape = (random.randint(1, 2), random.randint(1, 6), random.randint(4, 12), random.randint(4, 12))
    builder = _Builder(random, shape)
    _convolution(builder, 0)  # so that a network has at least one layer with weights
    for _ in range(random.randint(3, 12)):
        random.choice(_OPERATORS)(builder, builder.pick())
    return builder.finish()


def with_odd_names(graph: RandomGraph, seed: int) -> RandomGraph:
    """The same network, whose operators share names with one another and with variables, or have none.

    Variables and outputs keep theirs: MXNet goes by them alone.
    """
    random = Random(seed)  # noqa: S311  # no secret
    document = copy.deepcopy(graph.document)
    names = [node["name"] for node in document["nodes"]]
    for node in document["nodes"]:
        if node["op"] != "null" and node["name"] not in graph.outputs and random.random() < 0.6:
            node["name"] = random.choice(("", random.choice(names), f"{random.choice(names)}_1"))
    return replace(graph, document=document)


def _prefixed(name: str) -> str:
    return f"aux:{name}" if name.endswith(("_moving_mean", "_moving_var")) else f"arg:{name}"


def _values(name: str, shape: Shape, random: np.random.Generator) -> Array:
    if name.endswith("_var"):
        values = random.uniform(0.2, 2, shape)
    elif name.endswith("_weight"):
        values = random.normal(0, 1, shape) / math.prod(shape[1:]) ** 0.5
    else:
        values = random.normal(0.5 if name.endswith("_gamma") else 0, 0.5, shape)
    return np.asarray(values, np.float32)


class _Builder:
    def __init__(self, random: Random, input_shape: Shape) -> None:
        self.random = random
        self.nodes: list[Document] = []
        self.shapes: list[Shape] = []
        self.tensors: list[int] = []  # the nodes that hold data, not parameters
        self.read: set[int] = set()
        self.input_shape = input_shape
        self.tensors.append(self._add({"op": "null", "name": "data", "inputs": []}, input_shape))

    def _add(self, node: Document, shape: Shape) -> int:
        self.nodes.append(node)
        self.shapes.append(shape)
        return len(self.nodes) - 1

    def pick(self) -> int:
        """A tensor, more often one of the last three."""
        return self.random.choice(self.tensors[-3:] if self.random.random() < 0.6 else self.tensors)

    def parameter(self, name: str, shape: Shape) -> int:
        """A new variable, or now and then one that another layer has too."""
        role = name.rpartition("_")[2]
        shared = [
            number
            for number, node in enumerate(self.nodes)
            if node["op"] == "null" and self.shapes[number] == shape and node["name"].endswith(f"_{role}")
        ]
        if shared and self.random.random() < 0.1:
            return self.random.choice(shared)
        return self._add({"op": "null", "name": name, "inputs": []}, shape)

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Shape,
        attributes: Mapping[str, Any],
        *parameters: tuple[str, Shape],
    ) -> None:
        """Add a node and its parameters, unless it makes more data than these tests want."""
        spatial = shape[2:]
        if math.prod(shape) > MOST_ELEMENTS or len(shape) > MOST_AXES or max((0, *spatial)) > LONGEST_AXIS:
            return
        name = f"{kind.lower()}{len(self.nodes)}"
        weights = [self.parameter(f"{name}_{role}", size) for role, size in parameters]
        node: Document = {"op": kind, "name": name, "inputs": [[number, 0, 0] for number in (*inputs, *weights)]}
        if attributes:
            node["attrs"] = {key: self._spelt(value) for key, value in attributes.items()}
        self.tensors.append(self._add(node, shape))
        self.read.update(inputs)

    def _spelt(self, value: Any) -> str:
        if isinstance(value, bool):
            return self.random.choice((str(value), str(int(value))))
        if isinstance(value, tuple):
            begin, end = self.random.choice(("()", "[]"))
            last = "," if len(value) == 1 else ""
            return begin + self.random.choice((", ", ",")).join(map(str, value)) + last + end
        return str(value)

    def sometimes(self, **attributes: Any) -> dict[str, Any]:
        """Each attribute that says what is the default anyway, as it is or left out."""
        return {key: value for key, value in attributes.items() if self.random.random() < 0.5}

    def finish(self) -> RandomGraph:
        heads = [number for number in self.tensors if number not in self.read]
        inner = [number for number in self.tensors[1:] if number in self.read]
        if inner and self.random.random() < 0.3:
            heads.insert(self.random.randint(0, len(heads)), self.random.choice(inner))
        variables = [number for number, node in enumerate(self.nodes) if node["op"] == "null"]
        pointers = [0]
        for node in self.nodes:
            pointers.append(pointers[-1] + (3 if node["op"] == "BatchNorm" else 1))
        return RandomGraph(
            {
                "nodes": self.nodes,
                "arg_nodes": variables,
                "node_row_ptr": pointers,
                "heads": [[number, 0, 0] for number in heads],
                "attrs": {"mxnet_version": ["int", 10901]},
            },
            self.input_shape,
            {self.nodes[number]["name"]: self.shapes[number] for number in variables if number},
            {self.nodes[number]["name"]: self.shapes[number] for number in heads},
            self.shapes,
        )


def _filters(builder: _Builder, shape: Shape, largest_kernel: int) -> dict[str, Any]:
    """Random attributes of a convolution or deconvolution over `shape`."""
    random, axes = builder.random, len(shape) - 2
    groups = random.choice([count for count in range(1, shape[1] + 1) if shape[1] % count == 0])
    return {
        "kernel": tuple(random.randint(1, largest_kernel) for _ in range(axes)),
        "stride": tuple(random.randint(1, 3) for _ in range(axes)),
        "dilate": tuple(random.choice((1, 1, 2)) for _ in range(axes)),
        "pad": tuple(random.randint(0, 2) for _ in range(axes)),
        "num_filter": groups * random.randint(1, max(1, MOST_CHANNELS // 2 // groups)),
        "num_group": groups,
        "no_bias": random.random() < 0.4,
        **builder.sometimes(workspace=512, cudnn_tune="off", cudnn_off=False),
    }


def _with_bias(attributes: Mapping[str, Any], weight: Shape) -> list[tuple[str, Shape]]:
    bias = [] if attributes["no_bias"] else [("bias", (attributes["num_filter"],))]
    return [("weight", weight), *bias]


def _convolution(builder: _Builder, number: int) -> None:
    shape = builder.shapes[number]
    if not 3 <= len(shape) <= 5:
        return
    a = _filters(builder, shape, 3)
    spans = [dilate * (kernel - 1) + 1 for kernel, dilate in zip(a["kernel"], a["dilate"], strict=True)]
    a["pad"] = tuple(max(pad, span - size) for pad, span, size in zip(a["pad"], spans, shape[2:], strict=True))
    sizes = tuple(
        (size + 2 * pad - span) // stride + 1
        for size, pad, span, stride in zip(shape[2:], a["pad"], spans, a["stride"], strict=True)
    )
    weight = (a["num_filter"], shape[1] // a["num_group"], *a["kernel"])
    output = (shape[0], a["num_filter"], *sizes)
    builder.operator("Convolution", [number], output, a, *_with_bias(a, weight))


def _deconvolution(builder: _Builder, number: int) -> None:
    shape = builder.shapes[number]
    if not 3 <= len(shape) <= 4:
        return
    a = _filters(builder, shape, 4)
    a["adj"] = tuple(builder.random.randrange(stride) for stride in a["stride"])
    whole = [
        stride * (size - 1) + dilate * (kernel - 1) + 1 + adjust
        for size, kernel, stride, dilate, adjust in zip(
            shape[2:], a["kernel"], a["stride"], a["dilate"], a["adj"], strict=True
        )
    ]
    a["pad"] = tuple(min(pad, (size - 1) // 2) for pad, size in zip(a["pad"], whole, strict=True))
    sizes = tuple(size - 2 * pad for size, pad in zip(whole, a["pad"], strict=True))
    weight = (shape[1], a["num_filter"] // a["num_group"], *a["kernel"])
    output = (shape[0], a["num_filter"], *sizes)
    builder.operator("Deconvolution", [number], output, a, *_with_bias(a, weight))


def _batch_norm(builder: _Builder, number: int) -> None:
    shape, random = builder.shapes[number], builder.random
    if len(shape) < 2:
        return
    a = {
        **builder.sometimes(fix_gamma=random.random() < 0.5, eps=random.choice(("1e-05", "0.001", "2e-5"))),
        **builder.sometimes(momentum=0.9, use_global_stats=random.random() < 0.5, axis=1, output_mean_var=False),
    }
    roles = ("gamma", "beta", "moving_mean", "moving_var")
    builder.operator("BatchNorm", [number], shape, a, *((role, (shape[1],)) for role in roles))


def _pooling(builder: _Builder, number: int) -> None:
    shape, random = builder.shapes[number], builder.random
    if not 3 <= len(shape) <= 5:
        return
    a: dict[str, Any] = {"pool_type": random.choice(("max", "avg")), **builder.sometimes(cudnn_off=False)}
    if random.random() < 0.15:
        builder.operator("Pooling", [number], (*shape[:2], *(1 for _ in shape[2:])), a | {"global_pool": True})
        return
    full = random.random() < 0.5
    kernel, stride, pad, output = zip(*(_window(random, size, full=full) for size in shape[2:]), strict=True)
    hangs = any(
        (windows - 1) * step + width > size + 2 * border
        for windows, step, width, size, border in zip(output, stride, kernel, shape[2:], pad, strict=True)
    )
    if hangs and a["pool_type"] == "avg":
        a["pool_type"] = "max"  # ONNX would count what hangs over the edge
    if a["pool_type"] == "avg":
        a |= builder.sometimes(count_include_pad=random.random() < 0.5)
    a |= {"kernel": kernel, "stride": stride, "pad": pad}
    a |= {"pooling_convention": "full"} if full else builder.sometimes(pooling_convention="valid")
    builder.operator("Pooling", [number], (*shape[:2], *output), a)


def _window(random: Random, size: int, *, full: bool) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and number of windows along an axis; no window lies in the padding alone."""
    while True:
        kernel, stride = random.randint(1, 4), random.randint(1, 3)
        pad = random.randint(0, kernel - 1)
        room = size + 2 * pad - kernel
        windows = (room + (stride - 1 if full else 0)) // stride + 1
        if room >= 0 and (windows - 1) * stride < size + pad:
            return kernel, stride, pad, windows


def _activation(builder: _Builder, number: int) -> None:
    builder.operator("Activation", [number], builder.shapes[number], {"act_type": builder.random.choice(ACTIVATIONS)})


def _concat(builder: _Builder, number: int) -> None:
    first, random = builder.shapes[number], builder.random
    axis = 1 if random.random() < 0.6 and len(first) > 1 else random.randrange(len(first))
    fitting = [other for other in builder.tensors if _without(builder.shapes[other], axis) == _without(first, axis)]
    inputs = [number, *(random.choice(fitting) for _ in range(random.randint(0, 2)))]
    total = sum(builder.shapes[other][axis] for other in inputs)
    if axis == 1 and total > MOST_CHANNELS:
        return
    dim = builder.sometimes(dim=1) if axis == 1 else {"dim": axis}
    builder.operator("Concat", inputs, (*first[:axis], total, *first[axis + 1 :]), {"num_args": len(inputs), **dim})


def _without(shape: Shape, axis: int) -> tuple[int, Shape]:
    return len(shape), (*shape[:axis], *shape[axis + 1 :])


def _crop(builder: _Builder, number: int) -> None:
    shape, random = builder.shapes[number], builder.random
    if len(shape) != 4:
        return
    inputs = [number]
    a: dict[str, Any] = {}
    like = [other for other in builder.tensors if len(builder.shapes[other]) == 4]
    like = [other for other in like if all(s <= w for s, w in zip(builder.shapes[other][2:], shape[2:], strict=True))]
    if like and random.random() < 0.6:
        inputs.append(random.choice(like))
        size = builder.shapes[inputs[1]][2:]
    else:
        size = tuple(random.randint(1, whole) for whole in shape[2:])
        a["h_w"] = size
    if random.random() < 0.3:
        a["center_crop"] = True
    elif random.random() < 0.6:
        a["offset"] = tuple(random.randint(0, whole - part) for whole, part in zip(shape[2:], size, strict=True))
    builder.operator("Crop", inputs, (*shape[:2], *size), {"num_args": len(inputs), **a})


def _add(builder: _Builder, number: int) -> None:
    same = [other for other in builder.tensors if builder.shapes[other] == builder.shapes[number]]
    others = [other for other in same if other != number] or same
    builder.operator("elemwise_add", [number, builder.random.choice(others)], builder.shapes[number], {})


def _reshape(builder: _Builder, number: int) -> None:
    left, random = list(builder.shapes[number]), builder.random
    codes: list[int] = []
    shape: list[int] = []
    free = True  # -1 may still be used: once, and not behind -4, where MXNet misplaces it
    while left:
        kind = random.choice(("keep", "keep", "number", "rest", "join", "split", "infer", "flatten"))
        if kind == "rest":
            codes, shape, left = [*codes, -2], [*shape, *left], []
        elif kind == "join" and len(left) > 1:
            codes, shape = [*codes, -3], [*shape, left.pop(0) * left.pop(0)]
        elif kind == "split":
            free, whole = False, left.pop(0)
            part = random.choice([part for part in range(1, whole + 1) if whole % part == 0])
            pair = [part, whole // part]
            unknown = random.choice((None, 0, 1))
            codes += [-4, *(-1 if place == unknown else size for place, size in enumerate(pair))]
            shape += pair
        elif kind == "flatten" and free:
            codes, shape, left = [*codes, -1], [*shape, math.prod(left)], []
        elif kind == "infer" and free:
            free = False
            codes, shape = [*codes, -1], [*shape, left.pop(0)]
        else:
            codes, shape = [*codes, left[0] if kind == "number" else 0], [*shape, left.pop(0)]
    builder.operator("Reshape", [number], tuple(shape), {"shape": tuple(codes), **builder.sometimes(reverse=False)})


def _softmax(builder: _Builder, number: int) -> None:
    if len(builder.shapes[number]) > 2:
        builder.operator("SoftmaxActivation", [number], builder.shapes[number], {"mode": "channel"})


def _upsampling(builder: _Builder, number: int) -> None:
    shape = builder.shapes[number]
    if len(shape) != 4:
        return
    scale = builder.random.randint(1, 3)
    a = {"scale": scale, "sample_type": "nearest", "num_args": 1, **builder.sometimes(workspace=512)}
    builder.operator("UpSampling", [number], (*shape[:2], *(scale * size for size in shape[2:])), a)


_OPERATORS: Final[Sequence[Callable[[_Builder, int], None]]] = (
    _convolution,
    _convolution,
    _convolution,
    _deconvolution,
    _batch_norm,
    _pooling,
    _pooling,
    _activation,
    _concat,
    _concat,
    _crop,
    _add,
    _reshape,
    _softmax,
    _upsampling,
)
