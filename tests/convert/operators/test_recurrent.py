"""Recurrent layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import lone, node, variable
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.arrays import Array
from sshconvert.errors import ShapeError
from sshconvert.export import export
from sshconvert.graph import Entry, Graph, Node, Shape
from sshconvert.network import resolve
from sshconvert.onnx.model import OnnxModel

MODES: Final = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def small(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    """Return values of about one, and small parameters, with which no state runs away."""
    return {name: random.normal(0, 0.3 if name.endswith("parameters") else 1, shape) for name, shape in shapes.items()}


def rnn(mode: str, layers: int, both: bool, states: bool, shape: Shape = (5, 2, 3), size: int = 4) -> Case:
    attributes = {"mode": mode, "num_layers": layers, "bidirectional": both, "state_outputs": states}
    return Case("RNN", {"data": shape}, {**attributes, "state_size": size}, values=small, free=(0,))


class TestRecurrent(OperatorSuite):
    cases = (
        *(
            pytest.param(rnn(mode, *options), id=f"RNN {mode}{''.join(f' {option}' for option in options)}")
            for mode in MODES
            for options in ((1, False, False), (1, True, True), (2, True, True), (3, False, True))
        ),
        pytest.param(rnn("lstm", 2, True, False, (1, 1, 1), 1), id="RNN of one step"),
        suite_case("of three parts", "_rnn_param_concat", (3,), (4,), (5,), num_args=3, dim=0),
    )
    unsupported = (
        pytest.param(lone("RNN", 3, mode="gru"), "attribute state_size is missing", id="no size"),
        pytest.param(
            lone("RNN", 4, mode="lstm", state_size="2", num_layers="1", projection_size="2"),
            "attribute projection_size='2' is not supported: expected None",
            id="a projection",
        ),
        pytest.param(
            lone("RNN", 3, mode="lstm", state_size="2", num_layers="1"), "3 inputs, expected 4", id="no cell state"
        ),
        pytest.param(
            lone("RNN", 3, mode="gru", state_size="2", num_layers="1", use_sequence_length="True"),
            "attribute use_sequence_length='True' is not supported",
            id="sequences of several lengths",
        ),
    )
    misshapen = (
        pytest.param(
            lone("RNN", 3, mode="gru", state_size="2", num_layers="1"), {"data": (2, 3)}, "is not [time", id="a matrix"
        ),
    )
    random = st.builds(
        rnn,
        st.sampled_from(MODES),
        st.integers(1, 3),
        st.booleans(),
        st.booleans(),
        st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4)),
        st.integers(1, 5),
    )


def first_state_read_twice() -> Graph:
    """A recurrent layer that begins with zeros, whose first and last states are added."""
    zeros = Node("_zeros", "zeros", {"shape": "(1, 0, 4)"})
    layer = node("RNN", "layer", (0, 1, 2), mode="gru", state_size="4", num_layers="1", state_outputs="True")
    nodes = (variable("data"), variable("parameters"), zeros, layer)
    added = Node("elemwise_add", "added", {}, (Entry(3, 1), Entry(2)))
    return Graph((*nodes, added), (Entry(3), Entry(4)), "model-symbol.json")


def exported(graph: Graph, batches: tuple[int, int]) -> OnnxModel:
    one, other = (resolve(graph, {"data": (5, batch, 3)}) for batch in batches)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in one.parameters({"data": ()}).items()}
    batch: int | str = "n" if one.shapes != other.shapes else batches[0]
    return export(one, arrays, {"data": (5, batch, 3)}, name="test", larger=other)


def test_zeros_of_a_free_size_serve_as_a_first_state_and_nothing_else() -> None:
    graph = first_state_read_twice()
    only_layer = Graph(graph.nodes[:4], (Entry(3),), graph.source)

    assert exported(only_layer, (2, 7)).outputs == {"layer": (5, "", 4)}
    assert exported(graph, (2, 2)).outputs == {"layer": (5, 2, 4), "added": (1, 2, 4)}
    with pytest.raises(ShapeError, match=r"zeros.*needs a fixed size"):
        exported(graph, (2, 7))
