"""Broken symbols made by hand, each one edit away from a sound one: all are refused by name, in one short line."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pytest

from sshconvert.errors import ShapeError, SSHToolError, SymbolError, UnsupportedGraphError
from sshconvert.export import export
from sshconvert.mxnet.symbol import MAX_BYTES, MAX_VALUES
from sshconvert.network import parse_symbol, read_symbol, resolve
from sshconvert.onnx.model import OnnxModel
from symbol_mutations import LINUX_ONLY, try_in_little_memory

Json: TypeAlias = Any  # whatever `json.loads` can give
Document: TypeAlias = dict[str, Json]

INPUT: Final = {"data": (1, 3, 10, 10)}
LONGEST_MESSAGE: Final = 4000
BATCH_NORM: Final = ("bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var")


def node(operator: str, name: str, *inputs: int, **attributes: str) -> Document:
    return {"op": operator, "name": name, "attrs": attributes, "inputs": [[number, 0, 0] for number in inputs]}


def sound() -> Document:
    nodes = [
        node("null", "data"),
        node("null", "conv_weight"),
        node("Convolution", "conv", 0, 1, kernel="(3, 3)", num_filter="4", no_bias="True"),
        *(node("null", name) for name in BATCH_NORM),
        node("BatchNorm", "bn", 2, 3, 4, 5, 6, eps="1e-05"),
        node("Activation", "relu", 7, act_type="relu"),
        node("Pooling", "pool", 8, kernel="(2, 2)", stride="(2, 2)"),
        node("UpSampling", "up", 9, scale="2", sample_type="nearest"),
        node("Crop", "crop", 10, 8, num_args="2"),
        node("elemwise_add", "sum", 11, 8),
        node("Concat", "both", 12, 8, num_args="2"),
        node("Reshape", "rows", 13, shape="(0, 2, -1, 0)"),
        node("SoftmaxActivation", "prob", 14, mode="channel"),
    ]
    ends = [sum(3 if each["op"] == "BatchNorm" else 1 for each in nodes[:count]) for count in range(len(nodes) + 1)]
    return {
        "nodes": nodes,
        "arg_nodes": [0, 1, 3, 4, 5, 6],
        "node_row_ptr": ends,
        "heads": [[15, 0, 0], [7, 0, 0]],
        "attrs": {"mxnet_version": ["int", 10901]},
    }


NUMBERS: Final = {each["name"]: number for number, each in enumerate(sound()["nodes"])}


def edited(*path: str | int, to: Json) -> bytes:
    """The sound symbol with the value at `path` replaced. A path may begin with a node's name."""
    document = sound()
    first, *rest = path
    place: Json = document["nodes"][NUMBERS[first]] if first in NUMBERS else document
    steps = rest if first in NUMBERS else list(path)
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = to
    return json.dumps(document).encode()


def with_attributes(name: str, **attributes: str) -> bytes:
    return edited(name, "attrs", to=sound()["nodes"][NUMBERS[name]]["attrs"] | attributes)


def replaced(old: bytes, new: bytes) -> bytes:
    """The sound symbol with bytes replaced that `json` would not write."""
    raw = json.dumps(sound()).encode()
    assert raw.count(old) == 1
    return raw.replace(old, new)


def pointers(*numbers: int) -> bytes:
    return edited("node_row_ptr", to=list(numbers))


def convert(raw: bytes) -> OnnxModel:
    network = resolve(parse_symbol(raw, source="model-symbol.json"), INPUT)
    zero = np.zeros((), np.float32)
    weights = {name: np.broadcast_to(zero, shape) for name, shape in network.parameters(INPUT).items()}
    return export(network, weights, INPUT, name="model")


GOOD: Final = json.dumps(sound()).encode()
NINES: Final = "9" * 5000

UNREADABLE: Final = [
    pytest.param(b"\xef\xbb\xbf" + GOOD, "the file: is not valid JSON (Unexpected UTF-8 BOM", id="byte order mark"),
    pytest.param(GOOD.decode().encode("utf-16"), "the file: is not valid JSON (byte 0 is not UTF-8)", id="UTF-16"),
    pytest.param(replaced(b'"relu", "attrs"', b'"rel\xfc", "attrs"'), "is not UTF-8)", id="Latin-1"),
    pytest.param(replaced(b'"pool"', b'"\xed\xa0\x80"'), "is not UTF-8)", id="surrogate in UTF-8"),
    pytest.param(replaced(b'"pool"', b'"po\x00ol"'), "the file: is not valid JSON (Invalid control", id="raw NUL"),
    pytest.param(GOOD + b"\x00", "the file: is not valid JSON (Extra data", id="NUL behind the end"),
    pytest.param(edited("pool", "name", to="pool\x00"), "node 9: name 'pool\\x00' is longer", id="NUL in a name"),
    pytest.param(edited("pool", "name", to="po\nol"), "node 9: name 'po\\nol' is", id="line break in a name"),
    pytest.param(edited("pool", "name", to="\x1b[2J"), "node 9: name '\\x1b[2J' is", id="escape sequence as a name"),
    pytest.param(
        edited("pool", "name", to="\ud800"), "node 9: name '\\ud800' is", id="half a surrogate pair as a name"
    ),
    pytest.param(edited("pool", "name", to="p" * 257), "or not printable", id="name of 257 characters"),
    pytest.param(
        edited("pool", "op", to="Pooling\r"), "node 9: op 'Pooling\\r' is", id="carriage return in an operator"
    ),
    pytest.param(
        with_attributes("pool", **{"a\tb": "1"}), "node 9 (pool), attrs: attribute 'a\\tb'", id="tab in a key"
    ),
    pytest.param(
        with_attributes("pool", __note__="\udc00"),
        "node 9 (pool): attribute '__note__' is '\\udc00', with half a surrogate pair",
        id="half a surrogate pair as a value",
    ),
    pytest.param(
        replaced(b'"inputs": [[9, 0, 0]]', b'"inputs": [[1e999, 0, 0]]'),
        "node 10 (up), input 0: expected [node, output] or [node, output, version], found [inf, 0, 0]",
        id="node number 1e999",
    ),
    pytest.param(
        replaced(b'"inputs": [[9, 0, 0]]', b'"inputs": [[' + b"9" * 20 + b", 0, 0]]"),
        "the file: the number '99999999999999999999' has 20 digits",
        id="node number of 20 digits",
    ),
    pytest.param(replaced(b"10901", NINES.encode()), "' has 5000 digits", id="version of 5000 digits"),
    pytest.param(edited("up", "inputs", 0, 0, to=2**63), f"refers to node {2**63}", id="node number 2**63"),
    pytest.param(edited("up", "inputs", 0, 2, to=-1), "found [9, 0, -1]", id="negative version of an input"),
    pytest.param(edited("heads", to=[[0]] * MAX_VALUES), f"holds more than {MAX_VALUES} values", id="too many values"),
    pytest.param(
        b'{"nodes": ' + b"[" * 16 + b"]" * 16 + b"}", "is nested more than 16 deep", id="16 lists in one another"
    ),
    pytest.param(edited("pool", "control_deps", to=0), "node 9 (pool): control dependencies", id="control_deps 0"),
    pytest.param(edited("relu", "inputs", 0, to=[12, 0, 0]), "node 8 (relu), input 0: refers to node 12", id="cycle"),
    pytest.param(edited("sum", "inputs", 1, to=[12, 0, 0]), "node 12 (sum), input 1: refers to", id="cycle of one"),
    pytest.param(edited("sum", "inputs", 1, to=[8, 1, 0]), "output 1 of 'relu', which has 1", id="second output"),
    pytest.param(edited("sum", "inputs", 1, to=[7, 3, 0]), "output 3 of 'bn', which has 3", id="fourth output"),
    pytest.param(edited("heads", 0, to=[15, 1, 0]), "head 0: refers to output 1 of 'prob', which has 1", id="head"),
    pytest.param(pointers(*range(16)), "node_row_ptr: expected 17 numbers from 0", id="node_row_ptr too short"),
    pytest.param(pointers(*range(1, 18)), "node_row_ptr: expected 17 numbers from 0", id="node_row_ptr from 1"),
    pytest.param(
        pointers(0, *range(16)), "node_row_ptr: expected rising numbers", id="node_row_ptr with a node of no output"
    ),
    pytest.param(pointers(), "node_row_ptr: expected 17 numbers from 0", id="node_row_ptr empty"),
    pytest.param(edited("arg_nodes", to=[0, 1, 3, 4, 5]), "arg_nodes: is not the list", id="variable not in arg_nodes"),
]

UNSUPPORTED: Final = [
    pytest.param(
        with_attributes("up", scale="2147483647"), "attribute scale='2147483647'", id="enlargement beyond 2**31"
    ),
    pytest.param(edited("sum", "inputs", 1, to=[7, 1, 0]), "sum: output 1 of bn is not supported", id="mean of bn"),
    pytest.param(edited("heads", 1, to=[7, 2, 0]), "the network's outputs: output 2 of bn", id="variance as output"),
    pytest.param(edited("heads", 1, to=[15, 0, 0]), "outputs: prob appears more than once", id="output twice"),
    pytest.param(edited("heads", 1, to=[0, 0, 0]), "outputs: data is a variable", id="input as output"),
    pytest.param(edited("heads", 1, to=[1, 0, 0]), "outputs: conv_weight is a variable", id="weight as output"),
    pytest.param(
        with_attributes("conv", kernel="(99999999999999999999,1)"),
        "conv (Convolution): attribute kernel='(99999999999999999999,1)' is not supported: expected integers from 1",
        id="kernel beyond 64 bits",
    ),
    pytest.param(with_attributes("conv", kernel=f"({NINES}, 1)"), "attribute kernel='(999", id="kernel of 5000 digits"),
    pytest.param(
        with_attributes("conv", kernel="()"), "attribute kernel='()' is not supported: expected 1 to 3", id="no axes"
    ),
    pytest.param(with_attributes("conv", kernel="(1, 1, 1, 1)"), "attribute kernel='(1, 1, 1, 1)'", id="four axes"),
    pytest.param(with_attributes("conv", num_filter=str(10**18)), "attribute num_filter='1000", id="10**18 filters"),
    pytest.param(with_attributes("conv", stride="(-2, -2)"), "attribute stride='(-2, -2)'", id="negative stride"),
    pytest.param(with_attributes("conv", pad="(-1, 0)"), "attribute pad='(-1, 0)'", id="negative pad"),
    pytest.param(with_attributes("conv", pad="(4294967296, 0)"), "attribute pad='(4294967296, 0)'", id="pad of 2**32"),
    pytest.param(with_attributes("bn", eps="nan"), "bn (BatchNorm): attribute eps='nan'", id="eps nan"),
    pytest.param(with_attributes("bn", eps="1e999"), "bn (BatchNorm): attribute eps='1e999'", id="eps beyond float"),
    pytest.param(with_attributes("bn", eps="-1"), "bn (BatchNorm): attribute eps='-1'", id="negative eps"),
    pytest.param(with_attributes("both", num_args=str(2**31 - 1)), "2 inputs, expected 2147483647", id="two of 2**31"),
    pytest.param(with_attributes("rows", shape=f"({'1, ' * 33})"), "expected 1 to 32 integers", id="33 codes"),
    pytest.param(with_attributes("rows", shape="(0, -2, -1)"), "misplaces a -1", id="-1 that MXNet misplaces"),
    pytest.param(edited("pool", "op", to="_npi_hsplit"), "pool: operator _npi_hsplit", id="operator of many outputs"),
]

MISSHAPEN: Final = [
    pytest.param(
        with_attributes("conv", pad="(2147483647, 0)"),
        "conv (Convolution): 10 padded by 2147483647 is larger than 2147483647",
        id="pad of 2**31-1",
    ),
    pytest.param(
        with_attributes("conv", pad="(2147483647, 0)", stride="(2147483647, 1)"), "padded by", id="pad behind a stride"
    ),
    pytest.param(
        with_attributes("conv", dilate="(2147483647, 1)"), "conv (Convolution): a window of", id="wide dilate"
    ),
    pytest.param(with_attributes("conv", num_group="2147483647"), "2147483647 groups", id="groups"),
    pytest.param(
        with_attributes("rows", shape=f"(-2{', 1' * 30})"), "rows (Reshape): its output: 34 dimensions", id="34 axes"
    ),
    pytest.param(
        with_attributes("rows", shape="(-4, -2, -2, -2)"), "rows (Reshape): a dimension", id="split by -2, -2"
    ),
    pytest.param(with_attributes("pool", kernel="(2147483647, 1)"), "a window of 2147483647", id="window of 2**31-1"),
    pytest.param(
        edited("nodes", 2, to=node("Deconvolution", "conv", 0, 1, kernel="(2147483647, 2147483647)", num_filter="4")),
        "conv (Deconvolution): conv_weight: shape (3, 4, 2147483647, 2147483647), expected at most",
        id="weights beyond 64 bits",
    ),
    pytest.param(
        edited(
            "nodes",
            2,
            to=node("Deconvolution", "conv", 0, 1, kernel="(1, 1)", stride="(2147483647, 1)", num_filter="4"),
        ),
        "conv (Deconvolution): its output: shape (1, 4, 19327352824, 10)",
        id="stride of a deconvolution beyond 31 bits",
    ),
    pytest.param(
        edited("nodes", 2, to=node("Deconvolution", "conv", 0, 1, kernel="(1, 1)", num_filter="2147483647")),
        "both (Concat): its output: shape (1, 4294967294, 10, 10), expected sizes from 1 to 2147483647",
        id="sum of channels beyond 31 bits",
    ),
    pytest.param(
        edited("rows", "attrs", "shape", to="(0, -1)"),
        "(SoftmaxActivation): the input (1, 512) has no",
        id="flat softmax",
    ),
]
BROKEN: Final = [
    pytest.param(error, *parameter.values, id=parameter.id)
    for error, parameters in ((SymbolError, UNREADABLE), (UnsupportedGraphError, UNSUPPORTED), (ShapeError, MISSHAPEN))
    for parameter in parameters
]


def refusal(raw: bytes) -> SSHToolError:
    with pytest.raises(SSHToolError) as caught:
        convert(raw)
    message = str(caught.value)
    assert message.isprintable()  # one line
    assert len(message) < LONGEST_MESSAGE
    return caught.value


def test_the_symbol_that_the_broken_ones_are_made_of_is_converted() -> None:
    model = convert(GOOD)

    assert model.outputs == {"prob": (1, 2, 32, 8), "bn": (1, 4, 8, 8)}
    assert len(BROKEN) >= 40


@pytest.mark.parametrize(("error", "raw", "problem"), BROKEN)
def test_a_broken_symbol_is_refused_with_file_and_place(error: type[SSHToolError], raw: bytes, problem: str) -> None:
    refused = refusal(raw)

    assert type(refused) is error
    assert str(refused).startswith("model-symbol.json: ")
    assert problem in str(refused)


def chain(length: int, operator: str) -> bytes:
    nodes = [node("null", "data"), *(node(operator, f"n{at}", at, act_type="relu") for at in range(length))]
    return json.dumps({"nodes": nodes, "arg_nodes": [0], "heads": [[length, 0]]}).encode()


def lone(operator: str, inputs: int, **attributes: str) -> bytes:
    nodes = [node("null", "data"), node(operator, "n", *(0,) * inputs, **attributes)]
    return json.dumps({"nodes": nodes, "arg_nodes": [0], "heads": [[1, 0]]}).encode()


# Each has as many of something as fits into the limits, to find work that grows faster than the file.
CROWDED: Final[Mapping[str, tuple[Callable[[], bytes], str]]] = {
    "nodes": (
        lambda: chain(19_000, "Scarce"),
        "19000 unsupported operators, attributes or outputs: n0 and 18999 more: operator Scarce",
    ),
    "attributes": (
        lambda: lone("Pooling", 1, kernel="(1, 1)", **{f"a{number:06}": "" for number in range(190_000)}),
        "190000 unsupported operators, attributes or outputs: n (Pooling): attribute a000000='' is not known; ",
    ),
    "attributes for the trainer": (
        lambda: lone("Pooling", 1, kernel="(1, 1)", **{f"a{number}_lr_mult": "" for number in range(190_000)}),
        "190000 unsupported operators, attributes or outputs",
    ),
    "inputs": (lambda: lone("Concat", 45_000, num_args="3"), "45000 inputs, expected 3"),
    "outputs": (
        lambda: edited("heads", to=[[0, 0]] * 60_000),
        "2 unsupported operators, attributes or outputs: the network's outputs: data",
    ),
    "second outputs": (
        lambda: edited("heads", to=[[7, 1]] * 60_000),
        "60001 unsupported operators, attributes or outputs: the network's",
    ),
    "statistics left out by 0.8": (
        lambda: json.dumps(
            {
                "nodes": [node("null", "data"), *(node("BatchNorm", f"n{at}", 0, 0, 0) for at in range(9_000))],
                "arg_nodes": [0],
                "heads": [[9_000, 0]],
            }
        ).encode(),
        "n0 (BatchNorm): data has shape (1, 3, 10, 10), expected (3,)",
    ),
    "node_row_ptr": (lambda: edited("node_row_ptr", to=list(range(190_000))), "found [0, 1, 2, 3, 4, 5, ...]"),
    "repeated keys": (
        lambda: b"{" + b", ".join(b'"k%06d": 0' % (at // 2) for at in range(190_000)) + b"}",
        "the key 'k000000' appears",
    ),
    "digits": (lambda: b"9" * MAX_BYTES, f"has {MAX_BYTES} digits"),
    "digits of a fraction": (lambda: b'{"heads": ' + b"9" * (MAX_BYTES - 100) + b".5}", "'nodes' is missing"),
    "a key": (lambda: b'{"' + b"\\n" * (MAX_BYTES // 2 - 100) + b'": 0}', "unknown fields ['\\n"),
    "a wide key": (lambda: '{"😀'.encode() + b"9" * (MAX_BYTES // 4 - 100) + b'": 0}', "unknown fields ['😀9999"),
    "4 MB beyond ASCII": (lambda: '{"😀'.encode() + b" " * (MAX_BYTES // 4), "is larger than 4194304 bytes"),
    "spaces": (lambda: b" " * MAX_BYTES, "(Expecting value"),
    "depth": (lambda: b"[" * MAX_VALUES, "is nested more than 16 deep"),
    "depth of both kinds": (lambda: b'[{"a": ' * (MAX_VALUES // 2), "is nested more than 16 deep"),
    "spaces in a value": (
        lambda: edited("pool", "attrs", "kernel", to="(" + " " * 15_000_000),
        "attribute kernel='(  ",
    ),
    "brackets in a value": (
        lambda: edited("pool", "attrs", "kernel", to="(" + ") " * 7_000_000 + "x"),
        "attribute kernel='() )",
    ),
    "a tuple": (lambda: edited("pool", "attrs", "kernel", to=f"({'1,' * 190_000})"), "attribute kernel='(1,1,"),
    "a number in a value": (lambda: edited("bn", "attrs", "eps", to="1" * 15_000_000), "attribute eps='1111"),
}


@pytest.mark.parametrize("name", CROWDED)
def test_a_symbol_with_too_much_of_anything_is_refused_soon_and_briefly(name: str) -> None:
    make, problem = CROWDED[name]
    raw = make()
    assert len(raw) <= MAX_BYTES

    begin = time.process_time()
    refused = refusal(raw)

    assert time.process_time() - begin < 2
    assert problem in str(refused)


@pytest.mark.long
@LINUX_ONLY
def test_a_symbol_with_too_much_of_anything_is_refused_in_little_memory(tmp_path: Path) -> None:
    paths = []
    for number, (make, _) in enumerate(CROWDED.values()):
        paths.append(tmp_path / f"{number}-symbol.json")
        paths[-1].write_bytes(make())

    verdicts = try_in_little_memory(*paths)

    assert sum(verdicts.values()) == len(CROWDED)
    assert "converted" not in verdicts


def test_a_long_list_of_problems_is_cut_and_counted() -> None:
    nodes = [node("null", "data"), *(node(f"K{number}", f"n{number}", number) for number in range(1000))]
    raw = json.dumps({"nodes": nodes, "arg_nodes": [0], "heads": [[1000, 0]]}).encode()
    listed = str(refusal(raw)).split("; ")

    assert listed[0] == "model-symbol.json: 1000 unsupported operators, attributes or outputs: n0: operator K0"
    assert listed[39:] == ["n39: operator K39", "and 960 more"]


def test_every_kind_of_operator_is_named_however_many_there_are_of_others() -> None:
    """Each once, with its count, the most frequent first; the same problem of many nodes is one too."""
    kinds = ["Scarce"] * 50 + ["Rare"] + ["_npi_hsplit"] * 3 + ["Pooling"] * 40
    nodes = [node("null", "data"), *(node(kind, f"n{at}", at) for at, kind in enumerate(kinds))]
    raw = json.dumps({"nodes": nodes, "arg_nodes": [0], "heads": [[len(kinds), 0]]}).encode()

    assert str(refusal(raw)).split("; ") == [
        "model-symbol.json: 94 unsupported operators, attributes or outputs: n0 and 49 more: operator Scarce",
        "n51 and 2 more: operator _npi_hsplit",
        "n50: operator Rare",
        "n54 and 39 more (Pooling): attribute kernel is missing",
    ]


def test_a_network_of_thousands_of_nodes_converts() -> None:
    begin = time.process_time()
    model = convert(chain(15_000, "Activation"))

    assert len(model.nodes) == 15_000
    assert time.process_time() - begin < 10


@pytest.fixture
def restless_file(tmp_path: Path) -> Iterator[Path]:
    """A sound symbol whose time of change moves all the time."""
    path = tmp_path / "model-symbol.json"
    path.write_bytes(GOOD + b" " * 8_000_000)
    stop = threading.Event()

    def touch() -> None:
        at = 0
        while not stop.is_set():
            at += 1_000_000_000
            os.utime(path, ns=(at, at))

    thread = threading.Thread(target=touch)
    thread.start()
    yield path
    stop.set()
    thread.join()


def test_a_file_that_changes_while_it_is_read_is_refused(restless_file: Path) -> None:
    with pytest.raises(SymbolError) as caught:  # noqa: PT012  # a single time, it may be lucky
        for _ in range(200):
            read_symbol(restless_file)

    assert str(caught.value).startswith(f"{restless_file}: changed while it was read; try again when ")


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe-symbol.json"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(SymbolError, match=f"^{re.escape(str(path))}: "):
            read_symbol(path)
