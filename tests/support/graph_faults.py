"""One fault each for a random network: what makes it unsound, and what the refusal has to say."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

import numpy as np

from random_graphs import Array, Document, RandomGraph
from sshconvert.errors import CheckpointError, ShapeError, SSHToolError, SymbolError, UnsupportedGraphError
from sshconvert.graph import Shape

NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "Activation": ("act_type",),
    "Concat": ("num_args",),
    "Convolution": ("kernel", "num_filter"),
    "Crop": ("num_args",),
    "Deconvolution": ("kernel", "num_filter"),
    "Pooling": ("kernel",),
    "Reshape": ("shape",),
    "UpSampling": ("scale", "sample_type"),
}


class NotApplicableError(Exception):
    """This network has nothing that the fault could damage."""


@dataclass
class Damaged:
    """A network that may be changed: its symbol, its parameters with MXNet's prefixes, and the source of chance."""

    document: Document
    arrays: dict[str, Array]
    shapes: list[Shape]
    random: Random

    @classmethod
    def copy(cls, graph: RandomGraph, arrays: Mapping[str, Array], seed: int) -> Damaged:
        return cls(copy.deepcopy(graph.document), dict(arrays), list(graph.shapes), Random(seed))  # noqa: S311  # no secret

    @property
    def nodes(self) -> list[Document]:
        nodes: list[Document] = self.document["nodes"]
        return nodes

    def choose(self, numbers: Iterable[int]) -> int:
        found = list(numbers)
        if not found:
            raise NotApplicableError
        return self.random.choice(found)

    def operators(self, *kinds: str) -> list[int]:
        """Numbers of the nodes of these kinds, or of all that are no variables."""
        return [n for n, node in enumerate(self.nodes) if node["op"] in kinds or (not kinds and node["op"] != "null")]

    def variables(self) -> list[int]:
        return self.operators("null")

    def shape_of(self, node: Document, place: int = 0) -> Shape:
        source: int = node["inputs"][place][0]
        return self.shapes[source]


Refusal: TypeAlias = tuple[type[SSHToolError], str]  # the error, and a part of its message
FAULTS: Final[dict[str, Callable[[Damaged], Refusal]]] = {}


def _fault(name: str) -> Callable[[Callable[[Damaged], Refusal]], Callable[[Damaged], Refusal]]:
    def register(plant: Callable[[Damaged], Refusal]) -> Callable[[Damaged], Refusal]:
        FAULTS[name] = plant
        return plant

    return register


def _place(damaged: Damaged, number: int) -> str:
    return f": node {number} ({damaged.nodes[number]['name']})"


def _operator_place(node: Document) -> str:
    return f"{node['name']} ({node['op']}): "


def _reconnect(damaged: Damaged, number: int, entry: object) -> str:
    """Give one input of a node another source; returns its place."""
    inputs = damaged.nodes[number]["inputs"]
    which = damaged.random.randrange(len(inputs))
    inputs[which] = entry
    return f"{_place(damaged, number)}, input {which}: "


def _set(node: Document, key: str, value: object) -> None:
    node.setdefault("attrs", {})[key] = value


@_fault("dangling input")
def _dangling(damaged: Damaged) -> Refusal:
    beyond = len(damaged.nodes) + damaged.random.choice((0, 1, 2**31, 2**63 - 1))
    place = _reconnect(damaged, damaged.choose(damaged.operators()), [beyond, 0, 0])
    return SymbolError, f"{place}refers to node {beyond}"


@_fault("forward reference")
def _forward(damaged: Damaged) -> Refusal:
    number = damaged.choose(damaged.operators()[:-1])
    later = damaged.random.randrange(number + 1, len(damaged.nodes))
    return SymbolError, f"{_reconnect(damaged, number, [later, 0, 0])}refers to node {later}, which is not before it"


@_fault("reference to itself")
def _itself(damaged: Damaged) -> Refusal:
    number = damaged.choose(damaged.operators())
    return SymbolError, f"{_reconnect(damaged, number, [number, 0, 0])}refers to node {number}"


@_fault("negative node number")
def _negative_node(damaged: Damaged) -> Refusal:
    return SymbolError, f"{_reconnect(damaged, damaged.choose(damaged.operators()), [-1, 0, 0])}expected [node, output]"


@_fault("negative output number")
def _negative_output(damaged: Damaged) -> Refusal:
    return SymbolError, f"{_reconnect(damaged, damaged.choose(damaged.operators()), [0, -1, 0])}expected [node, output]"


@_fault("input that is no entry")
def _no_entry(damaged: Damaged) -> Refusal:
    entry = damaged.random.choice((None, 0, "0", [], [0], [0.0, 0], ["0", 0], [[0], 0], {"node": 0}, [True, 0]))
    return SymbolError, f"{_reconnect(damaged, damaged.choose(damaged.operators()), entry)}expected [node, output]"


def _read_second_output(damaged: Damaged, kinds: Iterable[int]) -> tuple[str, str, int]:
    """Place and name of a node that now reads output 1 of another, and which input it is."""
    sources = set(kinds)
    reads = [(n, which) for n in damaged.operators() for which, entry in enumerate(damaged.nodes[n]["inputs"])
             if entry[0] in sources]  # fmt: skip
    if not reads:
        raise NotApplicableError
    number, which = damaged.random.choice(reads)
    damaged.nodes[number]["inputs"][which][1] = 1
    return f"{_place(damaged, number)}, input {which}: refers to output 1 of ", damaged.nodes[number]["name"], which


@_fault("second output of an operator that has one, as node_row_ptr says")
def _second_by_pointers(damaged: Damaged) -> Refusal:
    single = [number for number in damaged.operators() if damaged.nodes[number]["op"] != "BatchNorm"]
    return SymbolError, _read_second_output(damaged, single)[0]


@_fault("second output of an operator")
def _second(damaged: Damaged) -> Refusal:
    del damaged.document["node_row_ptr"]
    return UnsupportedGraphError, f"{_read_second_output(damaged, damaged.operators())[1]}: output 1 of "


@_fault("second output of a variable")
def _second_of_variable(damaged: Damaged) -> Refusal:
    return SymbolError, f"{_read_second_output(damaged, damaged.variables())[0]}the variable "


@_fault("second output of an operator as the network's")
def _second_as_head(damaged: Damaged) -> Refusal:
    del damaged.document["node_row_ptr"]
    head = damaged.random.choice(damaged.document["heads"])
    head[1] = damaged.random.choice((1, 2**31))
    name = damaged.nodes[head[0]]["name"]
    return UnsupportedGraphError, f"the network's outputs: output {head[1]} of {name} is not supported"


@_fault("two variables of one name")
def _duplicate(damaged: Damaged) -> Refusal:
    number = damaged.random.choice(damaged.variables()[1:])
    name = damaged.nodes[damaged.random.choice([other for other in damaged.variables() if other < number])]["name"]
    damaged.nodes[number]["name"] = name
    return SymbolError, f": node {number}: an earlier variable has the name '{name}'"


@_fault("variable without a name")
def _unnamed_variable(damaged: Damaged) -> Refusal:
    number = damaged.random.choice(damaged.variables())
    damaged.nodes[number]["name"] = ""
    return SymbolError, f": node {number}: 'name' is missing, empty"


@_fault("output of a variable's name")
def _duplicate_output(damaged: Damaged) -> Refusal:
    output = damaged.random.choice(sorted({head[0] for head in damaged.document["heads"]}))
    name = damaged.nodes[damaged.random.choice(sorted(damaged.variables()))]["name"]
    damaged.nodes[output]["name"] = name
    return SymbolError, f": heads: an output and a variable have the same name '{name}'"


@_fault("name that cannot be printed")
def _unprintable(damaged: Damaged) -> Refusal:
    number = damaged.random.randrange(len(damaged.nodes))
    damaged.nodes[number]["name"] += damaged.random.choice(
        ("\n", "\0", "\x1b[2J", "\ud800", "\u2028", "\u202e", "\ufeff")
    )
    return SymbolError, f": node {number}: name '"


@_fault("name without end")
def _endless_name(damaged: Damaged) -> Refusal:
    number = damaged.random.randrange(len(damaged.nodes))
    damaged.nodes[number]["name"] = "x" * 5000
    return SymbolError, f": node {number}: name 'xxx"


@_fault("operator that is not known")
def _unknown_operator(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators())]
    node["op"] = damaged.random.choice(("Scarce", "_npi_hsplit", "convolution", "_", "BatchNorm_v9"))
    return UnsupportedGraphError, f"{node['name']}: operator {node['op']}"


@_fault("attribute that is not known")
def _unknown_attribute(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators())]
    _set(node, "colour", "red")
    return UnsupportedGraphError, f"{_operator_place(node)}attribute colour='red' is not known"


def _needed_attribute(damaged: Damaged, *, number: bool = False) -> tuple[Document, str]:
    node = damaged.nodes[damaged.choose(damaged.operators(*NEEDED))]
    keys = [key for key in NEEDED[node["op"]] if key in node["attrs"] and not (number and key.endswith("type"))]
    if not keys:
        raise NotApplicableError
    return node, damaged.random.choice(keys)


@_fault("attribute that cannot be read")
def _malformed(damaged: Damaged) -> Refusal:
    node, key = _needed_attribute(damaged)
    node["attrs"][key] = damaged.random.choice(
        ("(3, x)", "(", "", "3.5", "0x3", "NaN", "1e999", "((1, 1))", "\0", "\u0663")
    )
    return UnsupportedGraphError, f"{_operator_place(node)}attribute {key}="


@_fault("attribute beyond 31 bits")
def _huge(damaged: Damaged) -> Refusal:
    node, key = _needed_attribute(damaged, number=True)
    digits = damaged.random.choice(("2147483648", "1000000000000000000", "99999999999999999999", "9" * 5000))
    node["attrs"][key] = f"({digits}, 1)" if key in ("kernel", "shape") else digits
    return UnsupportedGraphError, f"{_operator_place(node)}attribute {key}="


@_fault("attribute below its least")
def _below(damaged: Damaged) -> Refusal:
    node, key = _needed_attribute(damaged, number=True)
    node["attrs"][key] = "(-5, 1)" if key in ("kernel", "shape") else damaged.random.choice(("-1", "0"))
    return UnsupportedGraphError, f"{_operator_place(node)}attribute {key}="


@_fault("negative stride")
def _negative_stride(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("Convolution", "Deconvolution", "Pooling"))]
    _set(node, "stride", "(-1, 1)")
    return UnsupportedGraphError, f"{_operator_place(node)}attribute stride='(-1, 1)'"


@_fault("attribute that is missing")
def _missing_attribute(damaged: Damaged) -> Refusal:
    node, key = _needed_attribute(damaged)
    del node["attrs"][key]
    return UnsupportedGraphError, f"{_operator_place(node)}attribute {key} is missing"


@_fault("attribute that is no string")
def _no_string(damaged: Damaged) -> Refusal:
    number = damaged.choose(damaged.operators())
    _set(damaged.nodes[number], "kernel", damaged.random.choice((3, [3, 3], None, True, {}, 1.5)))
    return SymbolError, f"{_place(damaged, number)}: attribute 'kernel' is "


@_fault("attribute with half a surrogate pair")
def _surrogate(damaged: Damaged) -> Refusal:
    number = damaged.choose(damaged.operators())
    _set(damaged.nodes[number], "__note__", "\udfff")
    return SymbolError, f"{_place(damaged, number)}: attribute '__note__' is '\\udfff', with half"


@_fault("attribute given twice, differently")
def _contradiction(damaged: Damaged) -> Refusal:
    number = damaged.choose(n for n in damaged.operators() if "attrs" in damaged.nodes[n])
    node = damaged.nodes[number]
    key = damaged.random.choice(list(node["attrs"]))
    node[damaged.random.choice(("attr", "param"))] = {key: "other"}
    return SymbolError, f"{_place(damaged, number)}: attribute '{key}' is both "


@_fault("one input too few")
def _too_few(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators())]
    node["inputs"].pop()
    return UnsupportedGraphError, f"{_operator_place(node)}{len(node['inputs'])} inputs, expected "


@_fault("one input too many")
def _too_many(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators())]
    node["inputs"].append([0, 0, 0])
    return UnsupportedGraphError, f"{_operator_place(node)}{len(node['inputs'])} inputs, expected "


@_fault("variable with an input")
def _fed_variable(damaged: Damaged) -> Refusal:
    number = damaged.choose(damaged.variables()[1:])
    damaged.nodes[number]["inputs"] = [[0, 0, 0]]
    return SymbolError, f"{_place(damaged, number)}: a variable cannot have inputs"


@_fault("control dependency")
def _control(damaged: Damaged) -> Refusal:
    number = damaged.choose(damaged.operators())
    damaged.nodes[number]["control_deps"] = damaged.random.choice(([0], [number], 0, None, "0"))
    return SymbolError, f"{_place(damaged, number)}: control dependencies are not supported"


@_fault("gradient node")
def _gradient(damaged: Damaged) -> Refusal:
    number = damaged.choose(damaged.operators())
    damaged.nodes[number]["backward_source_id"] = damaged.random.choice((0, -2, None, "x"))
    return SymbolError, f"{_place(damaged, number)}: backward_source_id "


@_fault("node with a field that is not known")
def _unknown_field(damaged: Damaged) -> Refusal:
    number = damaged.random.randrange(len(damaged.nodes))
    damaged.nodes[number]["subgraphs"] = []
    return SymbolError, f": node {number}: holds subgraphs"


@_fault("node without a field")
def _missing_field(damaged: Damaged) -> Refusal:
    number = damaged.random.randrange(len(damaged.nodes))
    key = damaged.random.choice(("op", "name"))
    del damaged.nodes[number][key]
    return SymbolError, f": node {number}: '{key}' is missing"


@_fault("node without inputs")
def _missing_inputs(damaged: Damaged) -> Refusal:
    number = damaged.choose(damaged.operators())
    del damaged.nodes[number]["inputs"]
    return SymbolError, f"{_place(damaged, number)}: 'inputs' is missing"


@_fault("node that is no object")
def _no_object(damaged: Damaged) -> Refusal:
    number = damaged.random.randrange(len(damaged.nodes))
    damaged.document["nodes"][number] = damaged.random.choice((None, [], "node", 1))
    return SymbolError, f": node {number}: expected an object"


@_fault("output that does not exist")
def _head_beyond(damaged: Damaged) -> Refusal:
    heads = damaged.document["heads"]
    which = damaged.random.randrange(len(heads))
    heads[which] = [len(damaged.nodes), 0, 0]
    return SymbolError, f": head {which}: refers to node {len(damaged.nodes)}"


@_fault("output given twice")
def _head_twice(damaged: Damaged) -> Refusal:
    heads = damaged.document["heads"]
    head = damaged.random.choice(heads)
    heads.append(list(head))
    return UnsupportedGraphError, f"outputs: {damaged.nodes[head[0]]['name']} appears more than once"


@_fault("variable as an output")
def _head_variable(damaged: Damaged) -> Refusal:
    number = damaged.choose(damaged.variables())
    damaged.document["heads"].append([number, 0, 0])
    return UnsupportedGraphError, f"outputs: {damaged.nodes[number]['name']} is a variable"


@_fault("no output")
def _no_heads(damaged: Damaged) -> Refusal:
    damaged.document["heads"] = []
    return SymbolError, ": heads: is empty"


@_fault("variable that arg_nodes does not list")
def _unlisted(damaged: Damaged) -> Refusal:
    listed = damaged.document["arg_nodes"]
    listed.pop(damaged.random.randrange(len(listed)))
    return SymbolError, ": arg_nodes: is not the list of all nodes"


@_fault("node_row_ptr of another network")
def _pointers(damaged: Damaged) -> Refusal:
    pointers = damaged.document["node_row_ptr"]
    which = damaged.random.randrange(len(pointers))
    damaged.random.choice(
        (lambda: pointers.pop(which), lambda: pointers.insert(which, pointers[which]), lambda: pointers.insert(0, 7))
    )()
    return SymbolError, ": node_row_ptr: expected "


@_fault("window larger than the data")
def _large_window(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("Convolution", "Pooling"))]
    if "global_pool" in node["attrs"]:
        raise NotApplicableError
    node["attrs"]["kernel"] = str((99,) * (len(damaged.shape_of(node)) - 2))
    return ShapeError, f"{_operator_place(node)}a window of "


@_fault("padding beyond 31 bits")
def _deep_padding(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("Convolution", "Pooling"))]
    if "global_pool" in node["attrs"]:
        raise NotApplicableError
    node["attrs"]["pad"] = str((2**31 - 1,) * (len(damaged.shape_of(node)) - 2))
    return ShapeError, f"{_operator_place(node)}{damaged.shape_of(node)[2]} padded by 2147483647 is larger than"


@_fault("padding that leaves nothing")
def _nothing_left(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("Deconvolution"))]
    node["attrs"]["pad"] = str((99,) * (len(damaged.shape_of(node)) - 2))
    return ShapeError, f"{_operator_place(node)}the padding (99,"


@_fault("groups that do not divide the channels")
def _groups(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("Convolution", "Deconvolution"))]
    node["attrs"]["num_group"] = "97"
    return ShapeError, f"{_operator_place(node)}{damaged.shape_of(node)[1]} channels and "


@_fault("kernel of another number of axes")
def _kernel_axes(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("Convolution", "Deconvolution", "Pooling"))]
    axes = len(damaged.shape_of(node)) - 2
    if "global_pool" in node["attrs"]:
        raise NotApplicableError
    for key in ("kernel", "stride", "dilate", "pad", "adj"):
        node["attrs"].pop(key, None)
    node["attrs"]["kernel"] = "(1, 1)" if axes != 2 else "(1,)"
    return (
        ShapeError,
        f"{_operator_place(node)}a {len(node['attrs']['kernel'].split()) if axes != 2 else 1}-dimensional",
    )


@_fault("sum of different shapes")
def _sum(damaged: Damaged) -> Refusal:
    number = damaged.choose(damaged.operators("elemwise_add"))
    node = damaged.nodes[number]
    others = [
        n for n in range(number) if damaged.shapes[n] != damaged.shape_of(node) and n in (0, *damaged.operators())
    ]
    node["inputs"][1] = [damaged.choose(others), 0, 0]
    return ShapeError, f"has shape {damaged.shape_of(node, 1)}, expected {damaged.shape_of(node)}"


@_fault("concatenation of different shapes")
def _concatenation(damaged: Damaged) -> Refusal:
    number = damaged.choose(n for n in damaged.operators("Concat") if len(damaged.nodes[n]["inputs"]) > 1)
    node = damaged.nodes[number]
    axis = int(node["attrs"].get("dim", 1))
    shape = damaged.shape_of(node)
    others = [
        n
        for n in (0, *damaged.operators())
        if n < number
        and (len(damaged.shapes[n]) != len(shape) or any(
            mine != theirs for at, (mine, theirs) in enumerate(zip(shape, damaged.shapes[n], strict=True)) if at != axis
        ))
    ]  # fmt: skip
    node["inputs"][1] = [damaged.choose(others), 0, 0]
    return ShapeError, f"{_operator_place(node)}the inputs ["


@_fault("axis that the data does not have")
def _axis(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("Concat"))]
    node["attrs"]["dim"] = "9"
    return ShapeError, f"{_operator_place(node)}axis 9 is not an axis of {damaged.shape_of(node)}"


@_fault("crop outside the data")
def _outside(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("Crop"))]
    node["attrs"].pop("center_crop", None)
    node["attrs"]["offset"] = damaged.random.choice(("(99, 0)", "(0, 99)", "(2147483647, 2147483647)"))
    return ShapeError, f"{_operator_place(node)}{damaged.shapes[damaged.nodes.index(node)][2:]} at ("


@_fault("reshape to another number of elements")
def _elements(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("Reshape"))]
    node["attrs"]["shape"] = damaged.random.choice(("(7919, 1)", "(7919, -1)", "(-1, -1)", "(2147483647, 2147483647)"))
    return ShapeError, f"{_operator_place(node)}{damaged.shape_of(node)} cannot be reshaped by ("


@_fault("-1 that MXNet misplaces")
def _misplaced(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("Reshape"))]
    node["attrs"]["shape"] = damaged.random.choice(("(-2, -1)", "(-4, 1, -1, -1)"))
    return UnsupportedGraphError, f"{_operator_place(node)}attribute shape='{node['attrs']['shape']}' is not supported"


@_fault("enlargement beyond 31 bits")
def _enlargement(damaged: Damaged) -> Refusal:
    node = damaged.nodes[damaged.choose(damaged.operators("UpSampling"))]
    node["attrs"]["scale"] = "2147483647"
    return UnsupportedGraphError, "attribute scale='2147483647' is not supported"


@_fault("weights of another shape")
def _other_shape(damaged: Damaged) -> Refusal:
    name = damaged.random.choice(sorted(damaged.arrays))
    array = damaged.arrays[name]
    damaged.arrays[name] = damaged.random.choice((array[:0], array[..., None], np.concatenate([array, array])))
    return CheckpointError, f": {name[4:]} is float32 {damaged.arrays[name].shape}, expected float32 {array.shape}"


@_fault("weights of another type")
def _other_type(damaged: Damaged) -> Refusal:
    name = damaged.random.choice(sorted(damaged.arrays))
    damaged.arrays[name] = damaged.arrays[name].astype(damaged.random.choice(("float64", "float16", "int32")))
    return CheckpointError, f": {name[4:]} is {damaged.arrays[name].dtype} ("


@_fault("weights that are missing")
def _no_weights(damaged: Damaged) -> Refusal:
    name = damaged.random.choice(sorted(damaged.arrays))
    del damaged.arrays[name]
    return CheckpointError, f": missing {name[4:]}"


@_fault("weights that no node reads")
def _extra_weights(damaged: Damaged) -> Refusal:
    name = damaged.random.choice(("arg:extra_weight", "aux:extra_var", "extra_bias", "arg:data"))
    damaged.arrays[name] = np.zeros((1,), np.float32)
    return CheckpointError, f": unexpected {name}"
