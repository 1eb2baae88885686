"""Real MXNet networks, and weights for those that have none.

The networks lie beside the repository (`project.SHARED`): `networks.tsv`, `symbols/NAME.json`, and `params/NAME.params`
for the few whose trained weights are there. `seeded_parameters` makes the weights of all others: He's deviation for
filters, divided by the expected magnitude of their input, so that activations stay near 1 in networks of any depth.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.params import read_params

# It leaves what was in memory for regions of another pyramid level: two plans of memory differ by 0.77.
UNDEFINED: Final = {"gluoncv-mask_rcnn_fpn_*": "MXNet contradicts itself"}
# Without it, the overlap of two boxes is 0.29999, and boxes are suppressed above 0.3.
SEEDS: Final = {"gluoncv-doublehead_rcnn_resnet50_v1b_voc": 1}
FEATURES: Final = 512  # before the recurrent layers of cnocr's networks


@dataclass(frozen=True)
class ZooNetwork:
    """One network: its files, its inputs, and the tensors at which its training heads are cut off."""

    name: str
    symbol: Path
    trained: Path | None
    inputs: Mapping[str, Shape]
    cuts: tuple[str, ...]  # MXNet's names; none if the network's own outputs are computed
    labels: Mapping[str, Shape]  # inputs that MXNet wants a shape for, and that no output depends on
    note: str  # what MXNet 1.9.1 says if it cannot load the network
    operators: tuple[str, ...]

    @property
    def nodes(self) -> Sequence[Mapping[str, Any]]:
        nodes: Sequence[Mapping[str, Any]] = json.loads(self.symbol.read_text("utf-8"))["nodes"]
        return nodes

    @property
    def undefined(self) -> str:
        """Why MXNet's outputs are arbitrary, "" if they are not."""
        return next((reason for pattern, reason in UNDEFINED.items() if fnmatchcase(self.name, pattern)), "")

    @property
    def noted_shapes(self) -> dict[str, Shape]:
        """The complete shapes of parameters that the symbol notes; recurrent layers leave their features open."""
        noted = {node["name"]: _attributes(node).get("__shape__", "(0,)") for node in self.nodes}
        shapes = {name: tuple(int(size) for size in re.findall(r"\d+", text)) for name, text in noted.items()}
        shapes |= {name: (shape[0], shape[1] or FEATURES) for name, shape in shapes.items() if "_i2h_weight" in name}
        return {name: shape for name, shape in shapes.items() if all(shape)}

    @property
    def is_quantized(self) -> bool:
        return any(name.startswith("_contrib_quantize") for name in self.operators)


@dataclass(frozen=True)
class _Missing:
    """What `networks.tsv` does not say about a network, because MXNet cannot run it as it is."""

    data: Shape
    cuts: tuple[str, ...] = ()
    labels: Mapping[str, Shape] | None = None


_MISSING: Final = {
    "cnocr-*": _Missing((4, 1, 32, 280), ("softmaxactivation0",)),
    "mtcnn-head-pnet-train": _Missing((4, 3, 12, 12), ("cls_prob", "bbox_pred")),
    "mxnet-ssd300-*-train-*": _Missing((1, 3, 300, 300), ("detection",), {"label": (1, 8, 6)}),
    "mxnet-ssd300-*": _Missing((1, 3, 300, 300), ("cls_prob",), {"label": (1, 8, 6)}),
    "gluoncv-slowfast*": _Missing((1, 3, 36, 224, 224)),
    "bmxnet-mnist*": _Missing((1, 1, 28, 28)),
    "bmxnet-cifar10-*": _Missing((1, 3, 32, 32)),
    "*": _Missing((1, 3, 224, 224)),
}


def read_zoo(folder: Path) -> list[ZooNetwork]:
    """Return the networks of a zoo in the order of its table."""
    with (folder / "networks.tsv").open(encoding="utf-8") as file:
        return [_network(folder, row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def _network(folder: Path, row: Mapping[str, str]) -> ZooNetwork:
    name = row["name"]
    missing = next(missing for pattern, missing in _MISSING.items() if fnmatchcase(name, pattern))
    if row["input"]:
        missing = _Missing(tuple(int(size) for size in row["input"].partition(":")[2].split("x")))
    trained = row["trained_params"]
    return ZooNetwork(
        name=name,
        symbol=folder / "symbols" / f"{name}.json",
        trained=folder / "params" / f"{trained}.params" if trained else None,
        inputs={"data": missing.data},
        cuts=missing.cuts,
        labels=missing.labels or {},
        note=row["note"],
        operators=tuple(row["operators"].split(",")),
    )


def parameters(network: ZooNetwork, shapes: Mapping[str, Shape], auxiliaries: Sequence[str]) -> dict[str, Array]:
    """Return the network's weights by their full names: the trained ones, else seeded ones of these shapes."""
    if network.trained:
        return read_params(network.trained)
    values = seeded_parameters(network.nodes, shapes)
    return {f"{'aux' if name in auxiliaries else 'arg'}:{name}": value for name, value in values.items()}


def inputs(network: ZooNetwork) -> dict[str, Array]:
    """Return seeded inputs, float32: pixels 0 to 255 where the network begins with arithmetic, else around 0."""
    values = {}
    for name, shape in network.inputs.items():
        random = np.random.default_rng(crc32(name.encode()) + SEEDS.get(network.name, 0))
        if takes_pixels(network):
            values[name] = random.integers(0, 256, shape).astype(np.float32)
        elif network.name.startswith("cnocr"):
            values[name] = random.random(shape, np.float32)  # its networks read grey levels
        else:
            values[name] = random.standard_normal(shape, np.float32)
    return values


def takes_pixels(network: ZooNetwork) -> bool:
    return network.name == "retinaface-mnet25" or _begins_with_arithmetic(network.nodes)


def _begins_with_arithmetic(nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the network subtracts a mean from its input."""
    data = {number for number, node in enumerate(nodes) if node["name"] == "data"}
    for number, node in enumerate(nodes):
        if not (node["inputs"] and node["inputs"][0][0] in data):
            continue
        if node["op"] == "_copy":
            data.add(number)
        if node["op"] == "broadcast_sub" or (node["op"] == "_minus_scalar" and _scalar(_attributes(node)) > 1):
            return True
    return False


def _attributes(node: Mapping[str, Any]) -> Mapping[str, str]:
    """MXNet has called them by three names."""
    return {**node.get("param", {}), **node.get("attr", {}), **node.get("attrs", {})}


@dataclass(frozen=True)
class Moments:
    """What a tensor's values are expected to be like: rough, but right enough to keep activations near 1."""

    mean: float
    variance: float

    @classmethod
    def of(cls, mean: float, square: float) -> Moments:
        return cls(mean, max(square - mean**2, 1e-12))

    @property
    def square(self) -> float:
        return self.mean**2 + self.variance

    def scaled(self, factor: float) -> Moments:
        return Moments(self.mean * factor, self.variance * factor**2)

    def rectified(self) -> Moments:
        """Those of `max(x, 0)` for normal x."""
        deviation = math.sqrt(self.variance)
        ratio = self.mean / deviation
        below = math.erfc(-ratio / math.sqrt(2)) / 2
        density = math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
        mean = self.mean * below + deviation * density
        return Moments.of(mean, self.square * below + self.mean * deviation * density)

    def leaky(self, slope: float) -> Moments:
        positive, negative = self.rectified(), self.scaled(-1).rectified()
        return Moments.of(positive.mean - slope * negative.mean, positive.square + slope**2 * negative.square)


MEAN_RECIPROCAL: Final = math.log(3)  # of uniform numbers from 0.5 to 1.5
MEAN_SQUARE: Final = 13 / 12  # as above
PIXELS: Final = Moments(127.5, 5418)
WEIGHTED: Final = ("Convolution", "Deconvolution", "FullyConnected", "BatchNorm", "Embedding", "RNN")
SUMS: Final = ("elemwise_add", "_Plus", "_plus", "add_n", "broadcast_add")
PRODUCTS: Final = ("elemwise_mul", "broadcast_mul", "_mul")
SQUASHED: Final = {"sigmoid": Moments(0.5, 0.04), "tanh": Moments(0, 0.4), "L2Normalization": Moments(0, 1 / 400)}
AUXILIARIES: Final = ((3, "moving_mean"), (4, "moving_var"))  # of BatchNorm, with their places


def seeded_parameters(nodes: Sequence[Mapping[str, Any]], shapes: Mapping[str, Shape]) -> dict[str, Array]:
    """Return a value for each name of `shapes`, which are variables of the symbol's `nodes`. The same for the same."""
    values: dict[str, Array] = {}
    moments: list[Moments] = []  # of each node's output
    begins_with_pixels = _begins_with_arithmetic(nodes)
    for node in nodes:
        sources = [source[0] for source in node["inputs"]]
        names = {place: nodes[source]["name"] for place, source in enumerate(sources) if nodes[source]["op"] == "null"}
        if node["op"] == "BatchNorm" and len(sources) == 3:  # MXNet before 0.9 leaves the auxiliary states out
            names |= {place: f"{node['name']}_{suffix}" for place, suffix in AUXILIARIES}
        for place, name in sorted(names.items()):
            if name in shapes and name not in values:
                values[name] = value = _seeded(name, shapes[name], node, place, moments[sources[0]])
                if place < len(sources) and value.size:
                    wide = value.astype(np.float64)
                    moments[sources[place]] = Moments(float(wide.mean()), float(wide.var()))
        is_pixels = node["name"] == "data" and begins_with_pixels
        moments.append(PIXELS if is_pixels else _moments(node, [moments[source] for source in sources]))
    return values


def _moments(node: Mapping[str, Any], inputs: Sequence[Moments]) -> Moments:
    """Return the moments of a node's output from those of its inputs."""
    attributes = _attributes(node)
    operator = attributes.get("act_type", node["op"]) if node["op"] == "Activation" else node["op"]
    if not inputs or operator in WEIGHTED:
        return Moments(0, 1.02)  # with the biases
    first, last = inputs[0], inputs[-1]
    scalar = _scalar(attributes)
    return _combined(operator, inputs) or {
        "relu": first.rectified(),
        "clip": first.rectified(),
        "LeakyReLU": first.leaky(float(attributes.get("slope", 0.25))),
        "_mul_scalar": first.scaled(scalar),
        "_div_scalar": first.scaled(1 / scalar if scalar else 1),
        "_plus_scalar": Moments(first.mean + scalar, first.variance),
        "_minus_scalar": Moments(first.mean - scalar, first.variance),
        "broadcast_div": first.scaled(max(last.square, 1e-12) ** -0.5),
        "Pooling": _pooled(first, attributes),
        **SQUASHED,
    }.get(operator, first)


def _combined(operator: str, inputs: Sequence[Moments]) -> Moments | None:
    means, squares = [each.mean for each in inputs], [each.square for each in inputs]
    if operator in SUMS or operator in ("elemwise_sub", "_sub", "broadcast_sub"):
        total = sum(means) if operator in SUMS else means[0] - means[1]
        return Moments(total, sum(each.variance for each in inputs))
    if operator in PRODUCTS:
        return Moments.of(math.prod(means), 1.2 * math.prod(squares))  # a gate follows its tensor
    if operator == "Concat":
        return Moments.of(sum(means) / len(means), sum(squares) / len(squares))
    return inputs[0].scaled(2) if operator == "sum" else None


def _pooled(data: Moments, attributes: Mapping[str, str]) -> Moments:
    if attributes.get("pool_type", "max") != "max":
        return data
    return Moments(data.mean + 1.2 * math.sqrt(data.variance), 0.6 * data.variance)


def _scalar(attributes: Mapping[str, str]) -> float:
    return float(attributes.get("scalar", 1))


def _seeded(name: str, shape: Shape, consumer: Mapping[str, Any], place: int, data: Moments) -> Array:
    """Return a parameter's value by what reads it; `data` is the reader's first input."""
    random = np.random.default_rng(crc32(name.encode()))
    if ("anchor" in name or "offset_" in name) and not name.endswith(("weight", "bias")):
        return _grid(name, shape, random)
    low, high, scale = 0.5, 1.5, 1.0
    centre, deviation = 0.0, 0.0  # of normal numbers; without a deviation, the numbers are uniform
    if consumer["op"] == "BatchNorm" and place > 0:
        scale = {1: MEAN_SQUARE**-0.5, 4: MEAN_RECIPROCAL * data.variance}.get(place, 1.0)
        deviation = {2: 0.1, 3: 0.1 * math.sqrt(data.variance)}.get(place, 0.0)
        centre = data.mean if place == 3 else 0.0
    elif name.endswith(("bias", "beta")):
        deviation = 0.1
    elif name.endswith("weight"):
        deviation = _deviation(shape, consumer, data.square)
    elif consumer["op"] == "LeakyReLU":
        low, high = 0.1, 0.4
    elif name.endswith("scale") and len(shape) == 4 and shape[1] > 3:
        scale = 20.0  # of SSD's normalised features
    elif name.endswith(("init_mean", "init_scale")) and consumer["op"] in ("broadcast_sub", "broadcast_div"):
        scale = 127.0 if name.endswith("init_mean") else 64.0
    if deviation:
        return np.float32(centre) + np.float32(deviation) * random.standard_normal(shape, np.float32)
    return (scale * random.uniform(low, high, shape)).astype(np.float32)


def _deviation(shape: Shape, consumer: Mapping[str, Any], square: float) -> float:
    """Return He's deviation, for an output of mean square 1."""
    fan_in = max(math.prod(shape[1:]), 1)
    if consumer["op"] == "Deconvolution":
        strides = _attributes(consumer).get("stride", "(1, 1)").strip("()").split(",")
        groups = int(_attributes(consumer).get("num_group", 1))
        fan_in = max(shape[0] // groups * math.prod(shape[2:]) // math.prod(int(size) for size in strides if size), 1)
    return 1 / math.sqrt(fan_in * max(square, 1e-6))


def _grid(name: str, shape: Shape, random: np.random.Generator) -> Array:
    """Return a detector's constants: corners or centres of anchors on a grid, sizes of anchors, or the grid itself."""
    level = int(name[-1]) if name[-1].isdigit() else 0
    if shape[-1] == 2 and "anchor" in name:
        return random.uniform(10, 200, shape).astype(np.float32)
    rows, columns = np.meshgrid(np.arange(shape[2]), np.arange(shape[3]), indexing="ij")
    centres = np.stack([columns, rows], axis=-1)[None, None].astype(np.float32)
    if shape[-1] == 2:
        points: Array = np.broadcast_to(centres, shape).copy()
        return points
    boxes = (*shape[:-1], shape[-1] // 4, 2)
    in_pixels = "rpn" in name
    step = (4 if "mask" in name else 16) * 2**level if in_pixels else 2**level / 38
    sizes = random.uniform(16, 256, boxes) if in_pixels else random.uniform(0.05, 0.4, boxes)
    middles = np.broadcast_to((centres[..., None, :] + 0.5) * step, boxes)
    ends = (middles - sizes / 2, middles + sizes / 2) if in_pixels else (middles, sizes)
    values: Array = np.concatenate(ends, axis=-1).reshape(shape).astype(np.float32)
    return values


MOST_TIED: Final = 16  # rows that rank equally
ROUNDING: Final = 1e-5


def difference(expected: Sequence[Array], found: Sequence[Array], *, ordered: bool = True) -> float:
    """Return the worst difference of all outputs; infinite if a shape or the number of outputs differs.

    Rows that rank equally may change places (`tied_difference`). With `ordered=False`, each output is compared with the
    one that fits best: `mo` gives them other names and another order.
    """
    if len(expected) != len(found):
        return math.inf
    rest = list(found)
    worst = 0.0
    for values in expected:
        differences = [relative(values, other) for other in (rest[:1] if ordered else rest)]
        best = int(np.argmin(differences))
        worst = max(worst, differences[best])
        del rest[best]
    return min(worst, tied_difference(expected, found)) if ordered and worst > ROUNDING else worst


def tied_difference(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """Return the difference where rows that rank equally may change places: those of detectors' outputs, [1, K, …].

    A row may take the place of another if a value of both differs by less than the rounding: their score.
    """
    if len({array.shape[:2] for array in expected}) > 1 or any(
        one.ndim < 2 or one.shape != other.shape for one, other in zip(expected, found, strict=True)
    ):
        return math.inf
    scales = [np.abs(array).max(initial=0) or 1.0 for array in expected]
    rows, others = (
        np.concatenate([a.reshape(a.shape[1], -1) / scale for a, scale in zip(arrays, scales, strict=True)], axis=1)
        for arrays in (expected, found)
    )
    worst = 0.0
    free = set(range(len(others)))
    for number, row in enumerate(rows):
        near = sorted(free & set(range(number - MOST_TIED, number + MOST_TIED + 1)))
        tied = [other for other in near if other == number or np.abs(rows[other] - row).min() <= ROUNDING]
        differences = np.abs(others[tied] - row).max(axis=1)
        worst = max(worst, float(differences.min(initial=math.inf)))
        free -= {tied[int(differences.argmin())]} if tied else set()
    return worst


def relative(expected: Array, found: Array) -> float:
    """Return the largest difference relative to the largest absolute value expected."""
    if expected.shape != found.shape or not np.array_equal(np.isfinite(expected), np.isfinite(found)):
        return math.inf
    finite = np.isfinite(expected)
    if not finite.any():
        return 0.0
    wide, other = expected[finite].astype(np.float64), found[finite].astype(np.float64)
    return float(np.abs(wide - other).max() / (np.abs(wide).max() or 1.0))


def by_size(networks: Sequence[ZooNetwork]) -> Iterator[ZooNetwork]:
    """The smallest first."""
    yield from sorted(networks, key=lambda network: network.symbol.stat().st_size)
