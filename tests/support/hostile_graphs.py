"""Parts of graphs that do harm, to be put into an honest model: one at random, or several, or one inside another.

Each is a way in which a runtime would run for ever, take gigabytes, remember something between two runs, differ from
run to run, or read another file.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from small_model import small_onnx
from sshconvert.models.registry import load_model

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
MODEL: Final = load_model("ssh-mxnet")
Harm = Callable[["Graph"], str]


class Graph:
    """A model in the making. `name` and `constant` give names that do not exist yet."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.model = small_onnx(MODEL)
        self._count = 0

    def name(self) -> str:
        self._count += 1
        return f"evil{self._count}"

    def constant(self, values: Any, kind: Any = np.int64) -> str:
        name = self.name()
        self.model.graph.initializer.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        return self.nodes(operator, inputs, 1, **attributes)[0]

    def nodes(self, operator: str, inputs: list[str], count: int, **attributes: Any) -> list[str]:
        names = [self.name() for _ in range(count)]
        self.model.graph.node.append(helper.make_node(operator, inputs, names, name=names[0], **attributes))
        return names

    def scalar(self) -> str:
        """A number that depends on the image."""
        mean = self.node("ReduceMean", ["data"], keepdims=0)
        return self.node("Mul", [mean, self.constant(0, np.float32)])

    def whole(self) -> str:
        """A whole number that depends on the image: int64 [1]."""
        return self.node("Unsqueeze", [self.node("Cast", [self.scalar()], to=INT64), self.constant([0])])

    def many(self) -> int:
        return self.chance.choice((1 << 27, 1 << 30, 3 << 30, 1 << 40))

    def imports(self, domain: str) -> None:
        self.model.opset_import.append(helper.make_opsetid(domain, 1))


def _body(graph: Graph, *, depth: int = 0) -> onnx.GraphProto:
    """Of a Loop: that adds a number to itself, by itself or in a Loop in it."""
    inside = helper.make_node("Add", ["v_in", "v_in"], ["v_out"])
    if depth:
        inside = helper.make_node("Loop", ["", "c_in", "v_in"], ["v_out"], body=_body(graph, depth=depth - 1))
    nodes = [helper.make_node("Identity", ["c_in"], ["c_out"]), inside]
    values = {"i": INT64, "c_in": BOOL, "v_in": FLOAT, "c_out": BOOL, "v_out": FLOAT}
    infos = {name: helper.make_tensor_value_info(name, kind, []) for name, kind in values.items()}
    return helper.make_graph(nodes, "b", [infos[n] for n in ("i", "c_in", "v_in")], [infos["c_out"], infos["v_out"]])


def _loop(graph: Graph) -> str:
    turns, go = graph.constant(1 << 62), graph.constant(True, np.bool_)
    return graph.node("Loop", [turns, go, graph.scalar()], body=_body(graph, depth=graph.chance.randrange(4)))


def _branch(graph: Graph) -> str:
    kind = helper.make_tensor_value_info("o", FLOAT, [])
    inner = helper.make_graph([helper.make_node("Identity", [graph.scalar()], ["o"])], "i", [], [kind])
    return graph.node("If", [graph.constant(True, np.bool_)], then_branch=inner, else_branch=inner)


def _scan(graph: Graph) -> str:
    infos = [helper.make_tensor_value_info(name, FLOAT, []) for name in ("a", "b", "c")]
    body = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "s", infos[:2], infos[2:])
    return graph.node("Scan", [graph.scalar(), "data"], body=body, num_scan_inputs=1)


def _function(graph: Graph) -> str:
    """Functions that call one another several times each, so many deep; or themselves."""
    deep, wide = graph.chance.randrange(1, 10), graph.chance.randrange(1, 11)
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("evil", 1)]
    for level in range(deep):
        last = level == deep - 1
        calls = [
            helper.make_node("Add" if last else f"F{level + 1}", ["x", "x"] if last else ["x"], [f"t{number}"])
            for number in range(wide)
        ]
        for call in calls:
            call.domain = "" if last else "evil"
        calls.append(helper.make_node("Identity", [f"t{wide - 1}"], ["y"]))
        graph.model.functions.append(helper.make_function("evil", f"F{level}", ["x"], ["y"], calls, imports))
    graph.imports("evil")
    return graph.node("F0", [graph.scalar()], domain="evil")


def _shadow(graph: Graph) -> str:
    """A function in the place of an operator of ONNX."""
    call = helper.make_node("Relu", ["x"], ["y"])
    graph.model.functions.append(helper.make_function("", "Exp", ["x"], ["y"], [call], [helper.make_opsetid("", 13)]))
    return graph.node("Exp", [graph.scalar()])


def _training(graph: Graph) -> str:
    graph.model.training_info.add().algorithm.name = "t"
    return graph.scalar()


def _sparse(graph: Graph) -> str:
    values = helper.make_tensor(graph.name(), FLOAT, [1], [1.0])
    indices = helper.make_tensor(graph.name(), INT64, [1], [0])
    graph.model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [graph.many()]))
    return graph.node("ReduceMax", [values.name], keepdims=0)


def _apart(tensor: onnx.TensorProto, location: str) -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def _other_file(graph: Graph) -> str:
    """Weights in another file: of the graph, of a Constant, in a branch, in a function."""
    location = graph.chance.choice(("../secret.bin", "/etc/passwd", "evil.onnx.data", "evil.onnx"))
    tensor = _apart(numpy_helper.from_array(np.zeros(108, np.float32), graph.name()), location)
    place = graph.chance.choice(("graph", "Constant", "branch", "function"))
    constant = helper.make_node("Constant", [], ["n"], value=tensor)
    if place == "graph":
        graph.model.graph.initializer.append(tensor)
        return graph.node("ReduceMax", [tensor.name], keepdims=0)
    if place == "Constant":
        return graph.node("ReduceMax", [graph.node("Constant", [], value=tensor)], keepdims=0)
    if place == "branch":
        inner = helper.make_graph([constant], "i", [], [helper.make_tensor_value_info("n", FLOAT, [108])])
        made = graph.node("If", [graph.constant(True, np.bool_)], then_branch=inner, else_branch=inner)
        return graph.node("ReduceMax", [made], keepdims=0)
    mean = helper.make_node("ReduceMean", ["n"], ["y"], keepdims=0)
    imports = [helper.make_opsetid("", 13)]
    graph.model.functions.append(helper.make_function("evil", "Ext", ["x"], ["y"], [constant, mean], imports))
    graph.imports("evil")
    return graph.node("Ext", [graph.scalar()], domain="evil")


def _texts(graph: Graph) -> str:
    graph.model.graph.initializer.append(
        onnx.TensorProto(name=graph.name(), data_type=TensorProto.STRING, dims=[1], string_data=[b"\x1b[2J"])
    )
    return graph.scalar()


def _random(graph: Graph) -> str:
    operator = graph.chance.choice(("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"))
    given = {} if operator.endswith("Like") else {"shape": [1]}
    made = graph.node(operator, [graph.scalar()] if operator.endswith("Like") else [], **given)
    return graph.node("ReduceMax", [made], keepdims=0)


def _training_mode(graph: Graph) -> str:
    weights = [graph.constant([1.0] * 3, np.float32) for _ in range(4)]
    made = graph.nodes("BatchNormalization", ["data", *weights], 3, training_mode=1)
    return graph.node("ReduceMax", [made[0]], keepdims=0)


def _other_domain(graph: Graph) -> str:
    domain = graph.chance.choice(("evil", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.ml", "org.pytorch.aten"))
    graph.imports(domain)
    return graph.node(graph.chance.choice(("ATen", "Tokenizer", "Relu")), [graph.scalar()], domain=domain)


def _filled(graph: Graph) -> str:
    """As much as the data say."""
    size = graph.node("Add", [graph.whole(), graph.constant([graph.many()])])
    return graph.node("ReduceMax", [graph.node("ConstantOfShape", [size])], keepdims=0)


def _expanded(graph: Graph) -> str:
    size = graph.constant([graph.many()])
    if graph.chance.random() < 0.5:
        size = graph.node("Add", [graph.whole(), size])
    return graph.node("ReduceMax", [graph.node("Expand", [graph.scalar(), size])], keepdims=0)


def _squared(graph: Graph) -> str:
    """A size that arithmetic makes of an honest one."""
    size = graph.node("Gather", [graph.node("Shape", ["data"]), graph.constant([2, 3])])
    kind = graph.chance.choice((INT64, TensorProto.INT32, FLOAT))
    size = graph.node("Cast", [size], to=kind)
    for _ in range(graph.chance.randrange(1, 4)):
        size = graph.node("Mul", [size, size])
    size = graph.node("Cast", [size], to=INT64)
    return graph.node("ReduceMax", [graph.node("Expand", [graph.scalar(), size])], keepdims=0)


def _counted(graph: Graph) -> str:
    limit = graph.constant(graph.many())
    if graph.chance.random() < 0.5:
        limit = graph.node("Add", [graph.node("Cast", [graph.scalar()], to=INT64), limit])
    made = graph.node("Range", [graph.constant(0), limit, graph.constant(1)])
    return graph.node("ReduceMax", [graph.node("Cast", [made], to=FLOAT)], keepdims=0)


def _resized(graph: Graph) -> str:
    scales = graph.constant([1, 1, 1 << graph.chance.randrange(8, 14), 1 << graph.chance.randrange(8, 14)], np.float32)
    return graph.node("ReduceMax", [graph.node("Resize", ["data", "", scales], mode="nearest")], keepdims=0)


def _tiled(graph: Graph) -> str:
    counts = graph.constant([1, 1, 1 << 12, 1 << graph.chance.randrange(8, 40)])
    return graph.node("ReduceMax", [graph.node("Tile", ["data", counts])], keepdims=0)


def _wide_edges(graph: Graph) -> str:
    """An edge as wide as a constant, or arithmetic on sizes, decide."""
    widths = graph.constant([0, 0, 0, 0, 0, 0, 1 << 14, 1 << graph.chance.randrange(14, 40)])
    if graph.chance.random() < 0.5:
        size = graph.node("Shape", ["data"])
        both = graph.node("Concat", [size, size], axis=0)
        widths = graph.node("Mul", [both, graph.constant([0, 0, 0, 0, 0, 0, 99, 99])])
    made = graph.node("Pad", ["data", widths], mode=graph.chance.choice(("constant", "edge")))
    return graph.node("ReduceMax", [made], keepdims=0)


def _many_tensors(graph: Graph) -> str:
    """None of them too large, and all of them alive until the end."""
    big = graph.node("Expand", [graph.scalar(), graph.constant([1 << 22])])
    parts = [graph.node("Add", [big, graph.constant([float(number)], np.float32)]) for number in range(40)]
    while len(parts) > 1:
        parts = [*parts[2:], graph.node("Add", parts[:2])]
    return graph.node("ReduceMax", parts, keepdims=0)


def _padded(graph: Graph) -> str:
    pads = [1 << graph.chance.randrange(14, 24)] * 4
    kernel = graph.constant(np.zeros((1, 3, 1, 1)), np.float32)
    return graph.node("ReduceMax", [graph.node("Conv", ["data", kernel], pads=pads)], keepdims=0)


def _wide_windows(graph: Graph) -> str:
    """Little memory, and an hour of work."""
    side = graph.chance.choice((2049, 8193))
    made = graph.node("MaxPool", ["data"], kernel_shape=[side] * 2, pads=[side // 2] * 4, strides=[1, 1])
    return graph.node("ReduceMax", [made], keepdims=0)


def _many_boxes(graph: Graph) -> str:
    """A suppression of four million boxes, each by each."""
    boxes = graph.node("Expand", [graph.scalar(), graph.constant([1, 1 << 20, 4])])
    scores = graph.node("Expand", [graph.scalar(), graph.constant([1, 1, 1 << 20])])
    made = graph.node("NonMaxSuppression", [boxes, scores, graph.constant([1 << 20])])
    return graph.node("ReduceMax", [graph.node("Cast", [made], to=FLOAT)], keepdims=0)


def _regions(graph: Graph) -> str:
    """A region as wide as the data decide, or of a million bins."""
    regions = graph.node("Expand", [graph.scalar(), graph.constant([1, 4])])
    image = graph.constant([0])
    if graph.chance.random() < 0.5:
        made = graph.node("RoiAlign", ["data", regions, image], output_height=2, output_width=2)
    else:
        regions = graph.node("Expand", [graph.scalar(), graph.constant([64, 5])])
        made = graph.node("MaxRoiPool", ["data", regions], pooled_shape=[1 << 10, 1 << 10])
    return graph.node("ReduceMax", [made], keepdims=0)


def _multiplied(graph: Graph) -> str:
    """Large tensors, or small ones and much work."""
    side = graph.chance.choice((2000, 8000, 32000))
    big = graph.node("Expand", [graph.scalar(), graph.constant([side, side])])
    operator = graph.chance.choice(("Gemm", "MatMul"))
    for _ in range(3):
        big = graph.node(operator, [big, big], **{"transA": 1} if operator == "Gemm" else {})
    return graph.node("ReduceMax", [big], keepdims=0)


def _neighbours(graph: Graph) -> str:
    """A sum over more channels than there are, for which a runtime makes room."""
    size = (1 << graph.chance.randrange(12, 31)) - 1
    return graph.node("ReduceMax", [graph.node("LRN", ["data"], size=size)], keepdims=0)


def _data_decide(graph: Graph) -> str:
    operator = graph.chance.choice(("NonZero", "Unique", "Compress", "Tile", "Pad", "OneHot", "SequenceEmpty"))
    inputs = ["data", graph.whole(), graph.constant([0.0, 1.0], np.float32)]
    return graph.node(operator, inputs[: {"NonZero": 1, "Unique": 1, "SequenceEmpty": 0}.get(operator, 3)])


HARMS: Final[Mapping[str, Harm]] = {
    "a Loop": _loop,
    "an If": _branch,
    "a Scan": _scan,
    "functions": _function,
    "a function in an operator's place": _shadow,
    "training": _training,
    "sparse weights": _sparse,
    "weights in another file": _other_file,
    "texts": _texts,
    "chance": _random,
    "a normalisation that trains": _training_mode,
    "another domain": _other_domain,
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "a squared size": _squared,
    "Range": _counted,
    "Resize": _resized,
    "Tile": _tiled,
    "wide edges": _wide_edges,
    "many tensors": _many_tensors,
    "padding": _padded,
    "wide windows": _wide_windows,
    "many boxes": _many_boxes,
    "regions": _regions,
    "a product of matrices": _multiplied,
    "many neighbours": _neighbours,
    "sizes that data decide": _data_decide,
}


def with_harm(kinds: Sequence[str], seed: int) -> onnx.ModelProto:
    """The small model, with harm of these kinds, each with an output that needs it."""
    graph = Graph(random.Random(seed))  # noqa: S311  # repeatable, not secret
    for kind in kinds:
        made = HARMS[kind](graph)
        graph.model.graph.output.append(helper.make_tensor_value_info(made, FLOAT, None))
    return graph.model
