"""Concat and Reshape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from one_node import (
    DATA,
    Case,
    assert_like_mxnet,
    assert_misshapen,
    assert_same_at_every_size,
    assert_shapes_like_mxnet,
    assert_unsupported,
    case,
    export_zeros,
    lone,
)
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve

Mxnet: TypeAlias = Any


CASES: Final = [
    case("by default", "Concat", (1, 2, 3, 4), (1, 5, 3, 4)),
    *(case(f"axis {axis}", "Concat", (2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5), dim=axis) for axis in range(4)),
    case("different sizes", "Concat", (1, 2, 3, 4), (1, 2, 3, 1), (1, 2, 3, 6), dim=3),
    case("of one", "Concat", (1, 2, 3, 4)),
    case("of two dimensions", "Concat", (2, 3), (1, 3), dim=0),
    *(
        case(str(codes), "Reshape", (2, 4, 6, 5), shape=codes)
        for codes in (
            (2, 4, 30),
            (-1,),
            (0, -1),
            (0, 0, -1),
            (0, 2, -1, 0),
            (4, -1, 0, 0),
            (-2,),
            (0, -2),
            (-2, 1, 1),
            (0, -2, 1),
            (-3, 0, 0),
            (0, -3, 0),
            (-3, -2),
            (-3, -3),
            (-4, 1, 2, -2),
            (0, -4, -1, 2, -2),
            (0, -4, 2, -1, -3),
            (-1, 0, -4, 2, -1, 0),
            (-1, -4, 2, 2, 0, 0),
            (-3, -4, 2, 3, 0),
        )
    ),
]


@pytest.mark.parametrize("tested", CASES)
def test_it_computes_what_mxnet_computes(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_shapes_like_mxnet(tested, mxnet)
    assert_like_mxnet(mxnet, tested.symbol(mxnet), tested.inputs, tmp_path)


@pytest.mark.parametrize("tested", CASES)
def test_with_free_dimensions_it_computes_the_same_at_every_size(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_same_at_every_size(tested, mxnet, tmp_path)


UNSUPPORTED: Final = [
    pytest.param(lone("Concat", 2), "attribute num_args is missing", id="concat without num_args"),
    pytest.param(lone("Concat", 2, num_args="3"), "2 inputs, expected 3", id="concat of too few"),
    pytest.param(lone("Concat", 2, num_args="2", dim="-1"), "attribute dim='-1'", id="axis from the end"),
    pytest.param(lone("Reshape", 1), "attribute shape is missing", id="reshape to nothing"),
    pytest.param(lone("Reshape", 1, target_shape="(2, 0)"), "attribute shape is missing", id="0.8's target_shape"),
    pytest.param(lone("Reshape", 1, shape="(0, -5)"), "attribute shape='(0, -5)'", id="code -5"),
    pytest.param(lone("Reshape", 1, shape="(-4, 1, -1, -1, 0)"), "misplaces a -1", id="-1 behind -4"),
    pytest.param(lone("Reshape", 1, shape="(0, -2, -1)"), "MXNet misplaces a -1", id="-1 behind -2"),
    pytest.param(lone("Reshape", 1, shape="(-1,)", reverse="True"), "attribute reverse='True'", id="reverse"),
]


@pytest.mark.parametrize(("graph", "problem"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_with_file_and_node(graph: Graph, problem: str) -> None:
    assert_unsupported(graph, problem)


MISSHAPEN: Final = [
    pytest.param(
        lone("Concat", 2, num_args="2"), DATA | {"in1": (1, 4, 8, 7)}, "differ outside axis 1", id="concat of widths"
    ),
    pytest.param(
        lone("Concat", 2, num_args="2", dim="4"),
        DATA | {"in1": (1, 4, 8, 8)},
        "axis 4 is not an axis",
        id="concat axis",
    ),
    pytest.param(lone("Reshape", 1, shape="(3, -1)"), DATA, "cannot be reshaped by (3, -1)", id="no multiple of 3"),
    pytest.param(lone("Reshape", 1, shape="(-1, -1)"), DATA, "cannot be reshaped", id="two of -1"),
    pytest.param(lone("Reshape", 1, shape="(256, -1, -1)"), DATA, "cannot be reshaped", id="two of -1 that are 1"),
    pytest.param(lone("Reshape", 1, shape="(4, 8, 9)"), DATA, "cannot be reshaped", id="too many elements"),
    pytest.param(lone("Reshape", 1, shape="(0, 0)"), DATA, "cannot be reshaped", id="dimensions left over"),
    pytest.param(lone("Reshape", 1, shape="(-2, 0)"), DATA, "more dimensions than", id="0 after the last"),
    pytest.param(lone("Reshape", 1, shape="(0, 0, 0, -3)"), DATA, "more dimensions than", id="-3 over the last"),
    pytest.param(lone("Reshape", 1, shape="(0, -4, 2)"), DATA, "more dimensions than", id="-4 with one number"),
    pytest.param(lone("Reshape", 1, shape="(0, -4, -2, -2, -2)"), DATA, "of 4 does not split", id="-4 by -2 and -2"),
    pytest.param(lone("Reshape", 1, shape="(0, -4, 0, -1, -2)"), DATA, "of 4 does not split", id="-4 by 0"),
    pytest.param(lone("Reshape", 1, shape="(0, -4, 3, -1, -2)"), DATA, "of 4 does not split", id="-4 by 3"),
    pytest.param(lone("Reshape", 1, shape="(0, -4, -1, -1, -2)"), DATA, "does not split", id="-4 by -1 and -1"),
    pytest.param(lone("Concat", 2, num_args="2"), DATA, "the shapes of in1 are not known", id="unknown concat"),
]


@pytest.mark.parametrize(("graph", "inputs", "problem"), MISSHAPEN)
def test_shapes_that_do_not_fit_are_refused(graph: Graph, inputs: Mapping[str, Shape], problem: str) -> None:
    assert_misshapen(graph, inputs, problem)


COSTS: Final = [
    pytest.param(lone("Reshape", 1, shape="(0, -1)"), 0, id="reshape"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations


def test_mxnet_misplaces_a_minus_one_behind_a_split_which_is_why_it_is_refused(mxnet: Mxnet) -> None:
    reshaped = mxnet.sym.Reshape(mxnet.sym.Variable("data"), shape=(-4, 1, 2, -1, 0))

    assert reshaped.infer_shape(data=(2, 5, 1))[1] == [(1, 2, 1, 5)]  # its documentation says (1, 2, 5, 1)


RESHAPES: Final = {
    (0, 2, -1, 0): ([0, 2, -1, 0], set()),
    (-1, 0, 0, 0): ([-1, 0, 0, 0], set()),
    (0, 0, -3): ([0, 0, -1], set()),
    (0, 0, 0, -4, 2, -1): ([0, 0, 0, 2, -1], set()),
    (-2,): ([0, 0, 0, 0], set()),
    (1, 256): ([1, 256], set()),
    # OpenVINO does not count the elements of zeros beside numbers: the rest is fixed to its size.
    (1, -2): ([1, -1, 0, 0], {"Shape", "Gather", "Split"}),
    (1, 0, -4, -1, 1, 0): ([1, 0, 0, 1, -1], {"Shape", "Gather", "Split"}),
    (-3, -3): (None, {"Shape", "Gather", "Mul", "Concat", "Split"}),
    (-1, -4, 2, 2, 0, 0): ([-1, 0, 0, 0, 0], {"Shape", "Gather", "Concat", "Split"}),
}


@pytest.mark.parametrize("codes", RESHAPES, ids=str)
def test_a_reshape_names_no_size_that_it_can_leave_open(codes: Shape) -> None:
    model = export_zeros(lone("Reshape", 1, shape=str(codes)), DATA)

    shape, others = RESHAPES[codes]
    found = {node.op_type for node in model.nodes}
    assert found - {"Reshape"} == others
    assert shape is None or shape in [value.tolist() for value in model.initializers.values()], model.initializers
