"""Softmax and its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.arrays import Array
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve


def lengths(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    """Lengths from 0 to 2, the smallest axis of the cases."""
    return {name: random.integers(0, 3, shape) for name, shape in shapes.items() if name == "length"}


def with_lengths(data: Shape, axis: int, dtype: str = "int32", **attributes: Any) -> Case:
    rows = tuple(size for number, size in enumerate(data) if number != axis % len(data))
    attributes = {"axis": axis, "use_length": True} | attributes
    return Case("softmax", {"data": data, "length": rows}, attributes, {"length": dtype}, values=lengths)


def large(shapes: Mapping[str, Shape], _: np.random.Generator) -> dict[str, Array]:
    values = np.array([1e30, 0, -1e30, 88, -104], np.float32)
    return {name: np.resize(values, shape) for name, shape in shapes.items()}


@st.composite
def random_softmax(draw: st.DrawFn) -> Case:
    shape = draw(st.lists(st.integers(2, 5), min_size=2, max_size=5).map(tuple))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    temperature = draw(st.sampled_from([None, 1.0, 0.5, 3.0]))
    if draw(st.integers(0, 3)) == 0:
        axis %= len(shape)  # with lengths, MXNet misreads axes below -1
        return with_lengths(shape, axis, draw(st.sampled_from(("int32", "int64"))), temperature=temperature)
    name = draw(st.sampled_from(("softmax", "softmin", "log_softmax")))
    return Case(name, {"data": shape}, {"axis": axis, "temperature": temperature})


class TestSoftmax(OperatorSuite):
    cases = (
        *(suite_case("by default", name, (2, 3, 4)) for name in ("softmax", "softmin", "log_softmax")),
        *(suite_case("of a vector", name, (5,)) for name in ("softmax", "softmin", "log_softmax")),
        *(suite_case("of channels", name, (2, 3, 4, 5), axis=1) for name in ("softmax", "softmin", "log_softmax")),
        *(suite_case("of the first axis", name, (2, 3), axis=-2) for name in ("softmax", "softmin", "log_softmax")),
        *(suite_case("hot", name, (2, 3), temperature=2.5) for name in ("softmax", "softmin", "log_softmax")),
        *(suite_case("float32", name, (2, 3), dtype="float32") for name in ("softmax", "softmin", "log_softmax")),
        *(suite_case("float64", name, (2, 3), dtype="float64") for name in ("softmax", "log_softmax")),
        suite_case("by another name", "_npx_softmax", (2, 3), axis=-1, temperature=None, dtype=None, use_length=False),
        pytest.param(Case("softmax", {"data": (2, 5)}, values=large), id="softmax of large values"),
        pytest.param(Case("log_softmax", {"data": (2, 5)}, values=large), id="log_softmax of large values"),
        pytest.param(Case("softmax", {"data": (2, 5)}, {"dtype": "float16"}, tolerance=1e-3), id="softmax float16"),
        pytest.param(with_lengths((3, 4), -1), id="softmax with lengths"),
        pytest.param(with_lengths((3, 4), 0, "int64"), id="softmax with lengths along the first axis"),
        pytest.param(with_lengths((2, 3, 4, 2), 1, temperature=0.5), id="softmax with lengths of channels"),
        suite_case("by default", "SoftmaxActivation", (2, 5)),
        pytest.param(
            Case(
                "SoftmaxActivation",
                {"data": (2, 2, 3, 5)},
                mxnet_differs="MXNet takes the last axis alone, against its documentation",
            ),
            id="SoftmaxActivation of images",
        ),
        suite_case("of vectors", "SoftmaxActivation", (2, 5, 7), mode="channel"),
        suite_case("of images", "SoftmaxActivation", (2, 2, 6, 5), mode="channel"),
    )
    unsupported = (
        pytest.param(lone("SoftmaxActivation", 1, mode="spatial"), "attribute mode='spatial'", id="mode"),
        pytest.param(lone("softmax", 1, axis="first"), "attribute axis='first'", id="axis"),
        pytest.param(lone("softmax", 1, temperature="0"), "attribute temperature='0'", id="temperature"),
        pytest.param(lone("softmax", 1, dtype="int32"), "attribute dtype='int32'", id="dtype"),
        pytest.param(lone("softmax", 1, use_length="True"), "1 inputs, expected 2", id="no lengths"),
        pytest.param(lone("softmin", 1, use_length="True"), "attribute use_length='True'", id="softmin with lengths"),
    )
    misshapen = (
        pytest.param(lone("softmax", 1, axis="4"), DATA, "axis 4 is not an axis", id="axis 4"),
        pytest.param(lone("softmax", 1, axis="-5"), DATA, "axis -5 is not an axis", id="axis -5"),
        pytest.param(lone("SoftmaxActivation", 1, mode="channel"), {"data": (1, 4)}, "no spatial axes", id="channels"),
        pytest.param(lone("SoftmaxActivation", 1), {"data": (4,)}, "has one axis", id="a vector"),
    )
    random = random_softmax()


COSTS: Final = [
    pytest.param(lone("SoftmaxActivation", 1, mode="channel"), 4 * 8 * 8 * 5, id="softmax activation"),
    pytest.param(lone("log_softmax", 1), 4 * 8 * 8 * 5, id="log_softmax"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations
