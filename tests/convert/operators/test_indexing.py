"""Operators that choose elements by other tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite
from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.network import resolve
from strategies import shapes

Values = Callable[[Mapping[str, Shape], np.random.Generator], Mapping[str, Array]]


def condition(inputs: Mapping[str, Shape], generator: np.random.Generator) -> Mapping[str, Array]:
    """Zeros, fractions and numbers of both signs."""
    if "data" not in inputs:
        return {}
    return {"data": generator.choice(np.array([0, 0, 0.3, -0.3, 1, -2, -0.0]), inputs["data"])}


def inside(inputs: Mapping[str, Shape], generator: np.random.Generator) -> Mapping[str, Array]:
    """Indices of gather_nd in `other`, from the front and from the back."""
    if "data" not in inputs:
        return {}
    sizes = np.array(inputs["data"][: inputs["other"][0]])
    limits = sizes.reshape(-1, *(1,) * (len(inputs["other"]) - 1))
    return {"other": generator.integers(-limits, limits, inputs["other"])}


def case(
    name: str, operator: str, *shapes: Shape, values: Values, dtypes: Mapping[str, str] | None = None, **attributes: Any
) -> Any:
    inputs = dict(zip(("data", "other", "third"), shapes, strict=False))
    free = (0,) if operator == "where" else (1,)  # the indices have their number along the first axis
    return pytest.param(Case(operator, inputs, attributes, dtypes or {}, values, free=free), id=f"{operator} {name}")


@st.composite
def _where(draw: DrawFn) -> Case:
    shape = draw(shapes())
    chosen = draw(st.sampled_from((shape, shape[:1])))
    dtypes = {"data": draw(st.sampled_from(("float32", "int32", "int64")))}
    return Case("where", {"data": chosen, "other": shape, "third": shape}, {}, dtypes, values=condition)


@st.composite
def _gather_nd(draw: DrawFn) -> Case:
    shape = draw(shapes(most=4))
    indices = (draw(st.integers(1, len(shape))), *draw(shapes(most=3, largest=4)))
    dtypes = {"other": draw(st.sampled_from(("float32", "int32", "int64")))}
    return Case("gather_nd", {"data": shape, "other": indices}, {}, dtypes, values=inside)


def places(inputs: Mapping[str, Shape], generator: np.random.Generator) -> Mapping[str, Array]:
    """Different indices of scatter_nd in a shape of fives, and of index_copy in five rows."""
    if "other" not in inputs:
        return {}
    count, *others = inputs["other"] if len(inputs["other"]) > 1 else (1, *inputs["other"])
    flat = generator.permutation(5**count)[: int(np.prod(others))]
    indices = np.stack(np.unravel_index(flat, (5,) * count)).reshape(inputs["other"])
    return {"other": indices}


@st.composite
def _scatter(draw: DrawFn) -> Case:
    shape = (5,) * draw(st.integers(1, 3))
    count, many = draw(st.integers(1, len(shape))), draw(st.integers(1, 5))
    dtypes = {"other": draw(st.sampled_from(("float32", "int32", "int64")))}
    if draw(st.booleans()):
        inputs = {"data": (many, *shape[count:]), "other": (count, many)}
        return Case("scatter_nd", inputs, {"shape": shape}, dtypes, values=places)
    inputs = {"data": shape, "other": (many,), "third": (many, *shape[1:])}
    return Case("_contrib_index_copy", inputs, {}, dtypes, values=places)


class TestIndexing(OperatorSuite):
    cases = (
        case("of all", "where", (2, 3, 4), (2, 3, 4), (2, 3, 4), values=condition),
        case("of rows", "where", (4,), (4, 3, 2), (4, 3, 2), values=condition),
        case("of a vector", "where", (4,), (4,), (4,), values=condition),
        case("by integers", "where", (4, 5), (4, 5), (4, 5), values=condition, dtypes={"data": "int32"}),
        case("of integers", "where", (9,), (9,), (9,), values=condition, dtypes={"other": "int64", "third": "int64"}),
        case("of elements", "gather_nd", (4, 5), (2, 3), values=inside),
        case("of rows", "gather_nd", (4, 5), (1, 3), values=inside),
        case("of many", "gather_nd", (4, 5, 3), (2, 3, 2), values=inside),
        case("by integers", "gather_nd", (4, 5), (2, 7), values=inside, dtypes={"other": "int32"}),
        case("of integers", "gather_nd", (4, 5), (2, 7), values=inside, dtypes={"data": "int64"}),
        case("of elements", "scatter_nd", (4,), (2, 4), values=places, shape=(5, 5)),
        case("of rows", "scatter_nd", (3, 5), (1, 3), values=places, shape=(5, 5)),
        case("of many", "scatter_nd", (2, 2), (2, 2, 2), values=places, shape=(5, 5)),
        case("of integers", "scatter_nd", (4,), (1, 4), values=places, shape=5, dtypes={"data": "int64"}),
        case("of rows", "_contrib_index_copy", (5, 3), (2,), (2, 3), values=places, dtypes={"other": "int32"}),
        case("of elements", "_contrib_index_copy", (5,), (4,), (4,), values=places),
    )
    unsupported = (
        pytest.param(lone("scatter_nd", 2), "attribute shape is missing", id="scatter_nd without a shape"),
        pytest.param(lone("_contrib_boolean_mask", 2), "depends on the values", id="boolean_mask"),
        pytest.param(lone("where", 2), "2 inputs, expected 3", id="where of two"),
        pytest.param(lone("gather_nd", 2, axis="1"), "attribute axis='1' is not known", id="axis of gather_nd"),
    )
    misshapen = (
        pytest.param(
            lone("where", 3), {"data": (2, 3), "in1": (2, 3), "in2": (2, 1)}, "differ", id="where does not broadcast"
        ),
        pytest.param(
            lone("where", 3), {"data": (3,), "in1": (2, 3), "in2": (2, 3)}, "does not choose", id="where of columns"
        ),
        pytest.param(
            lone("scatter_nd", 2, shape="(5,)"), {"data": (3,), "in1": (2, 3)}, "more than the dimen", id="two indices"
        ),
        pytest.param(
            lone("scatter_nd", 2, shape="(5,)"),
            {"data": (3,), "in1": (3,)},
            "fewer than 2 dim",
            id="indices of a vector",
        ),
        pytest.param(
            lone("scatter_nd", 2, shape="(5,)"), {"data": (4,), "in1": (1, 3)}, "do not fit", id="four of three"
        ),
        pytest.param(
            lone("_contrib_index_copy", 3),
            {"data": (5, 3), "in1": (2,), "in2": (3, 3)},
            "do not fit",
            id="three of two",
        ),
        pytest.param(lone("gather_nd", 2), DATA | {"in1": (4,)}, "fewer than 2 dimensions", id="indices of 1-D"),
        pytest.param(lone("gather_nd", 2), DATA | {"in1": (5, 1)}, "more than the dimensions", id="five indices"),
    )
    random = st.one_of(_where(), _gather_nd(), _scatter())


def test_choosing_counts_no_operations() -> None:
    assert resolve(lone("gather_nd", 2), DATA | {"in1": (1, 1)}).flops() == 0
