"""Take, pick, batch_take and one_hot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite
from sshconvert.arrays import Array
from sshconvert.errors import ShapeError
from sshconvert.evaluation import evaluate
from sshconvert.graph import Shape
from sshconvert.network import resolve
from strategies import axes_of, shapes

MATRIX = {"data": (3, 4)}
TYPES = ("float32", "float64", "float16", "int32", "int64", "int8", "uint8")


def around(inputs: Mapping[str, Shape], generator: np.random.Generator) -> Mapping[str, Array]:
    """Indices inside and outside of an axis, with fractions above 0."""
    whole = {name: generator.integers(-9, 10, shape) for name, shape in inputs.items()}
    return {name: array + np.where(array > 0, generator.choice([0, 0.7]), 0) for name, array in whole.items()}


def within(inputs: Mapping[str, Shape], generator: np.random.Generator) -> Mapping[str, Array]:
    """Indices that every axis of two or more has."""
    return {name: generator.integers(0, 2, shape) for name, shape in inputs.items()}


def case(name: str, operator: str, *shapes: Shape, of: str = "float32", values: Any = around, **attributes: Any) -> Any:
    """A case whose last input holds indices of the type `of`."""
    inputs = dict(zip(("data", "other"), shapes, strict=False))
    dtypes = {tuple(inputs)[-1]: of}
    return pytest.param(Case(operator, inputs, attributes, dtypes, values=values), id=f"{operator} {name}")


@st.composite
def _random(draw: DrawFn) -> Case:
    shape = draw(shapes(least=2, most=4))
    axis = draw(axes_of(shape))
    dtype = draw(st.sampled_from(("float32", "int32", "int64")))
    mode = draw(st.sampled_from(("clip", "wrap")))
    operator = draw(st.sampled_from(("take", "pick", "one_hot", "batch_take")))
    if operator == "one_hot":
        attributes: dict[str, Any] = {
            "depth": draw(st.integers(1, 6)),
            "on_value": 2.5,
            "off_value": draw(st.sampled_from((0, -1))),
        }
        attributes["dtype"] = draw(st.sampled_from(TYPES[:6] if attributes["off_value"] else TYPES))
        return Case(operator, {"data": shape}, attributes, {"data": dtype}, values=around)
    if operator == "batch_take":
        return Case(operator, {"data": shape[:2], "other": shape[:1]}, {}, {"other": "int32"}, values=around)
    if operator == "take":
        indices = draw(shapes(most=3))
        attributes = {"axis": axis, "mode": mode}
        return Case(operator, {"data": shape, "other": indices}, attributes, {"other": dtype}, values=around)
    keepdims = draw(st.booleans())
    rows = tuple(size for number, size in enumerate(shape) if number != axis % len(shape))
    attributes = {"axis": axis, "mode": mode, "keepdims": keepdims}
    return Case(operator, {"data": shape, "other": rows}, attributes, {"other": dtype}, values=around)


class TestTaking(OperatorSuite):
    cases = (
        *(
            case(f"{mode} along {axis}", "take", (3, 4, 5), (2, 6), axis=axis, mode=mode)
            for axis in (0, 1, -1)
            for mode in ("clip", "wrap")
        ),
        case("by default", "take", (7, 2), (9,)),
        case("of a vector", "take", (7,), (3, 3)),
        case("by integers", "take", (7, 2), (9,), of="int32", mode="wrap"),
        case("by long integers", "take", (7, 2), (9,), of="int64"),
        case("raise", "take", (7, 2), (9,), values=within, mode="raise"),
        *(
            case(f"{mode} along {axis}", "pick", (3, 4), ((3,), (4,))[axis == 0], axis=axis, mode=mode, keepdims=keep)
            for axis, keep in ((0, False), (1, True), (-1, False))
            for mode in ("clip", "wrap")
        ),
        case("by default", "pick", (3, 4, 5), (3, 4)),
        case("of a kept axis", "pick", (3, 4, 5), (3, 1, 5), axis=1),
        case("by integers", "pick", (3, 4), (3,), of="int64"),
        case("by its old name", "choose_element_0index", (3, 4), (3,)),
        case("of rows", "batch_take", (3, 4), (3,), of="int32"),
        *(case(f"of {dtype}", "one_hot", (9,), depth=5, dtype=dtype) for dtype in TYPES),
        case("by default", "one_hot", (3, 4), depth=6),
        case("of values", "one_hot", (3, 4), depth=3, on_value=0.1, off_value=-2.5),
        case("of cut values", "one_hot", (9,), depth=3, on_value=2.7, dtype="int32"),
        case("by integers", "one_hot", (9,), of="int32", depth=4),
    )
    unsupported = (
        pytest.param(lone("take", 2, mode="clamp"), "attribute mode='clamp'", id="mode clamp"),
        pytest.param(lone("pick", 2, mode="raise"), "attribute mode='raise'", id="mode raise of pick"),
        pytest.param(lone("pick", 2, axis="None"), "attribute axis='None'", id="pick without an axis"),
        pytest.param(lone("one_hot", 1), "attribute depth is missing", id="one_hot without a depth"),
        pytest.param(lone("one_hot", 1, depth="0"), "attribute depth='0'", id="one_hot of none"),
        pytest.param(lone("one_hot", 1, depth="3", dtype="bfloat16"), "attribute dtype='bfloat16'", id="bfloat16"),
    )
    misshapen = (
        pytest.param(lone("take", 2, axis="4"), DATA | {"in1": (2,)}, "axis 4 is not", id="take along axis 4"),
        pytest.param(lone("pick", 2), MATRIX | {"in1": (4,)}, "not one for each row", id="pick of columns"),
        pytest.param(lone("pick", 2, axis="2"), MATRIX | {"in1": (4,)}, "axis 2 is not", id="pick along axis 2"),
        pytest.param(lone("batch_take", 2), {"data": (3,), "in1": (3,)}, "needs a matrix", id="batch_take of a vector"),
        pytest.param(lone("batch_take", 2), MATRIX | {"in1": (4,)}, "not one for each row", id="too many indices"),
    )
    random = _random()


def test_an_index_outside_is_an_error_in_the_mode_raise() -> None:
    network = resolve(lone("take", 2, mode="raise"), {"data": (3,), "in1": (2,)})

    with pytest.raises(ShapeError, match="an index is outside an axis of 3"):
        evaluate(network, {"data": np.zeros(3), "in1": np.array([0, 3])})


def test_taking_counts_no_operations() -> None:
    assert resolve(lone("take", 2), DATA | {"in1": (1,)}).flops() == 0
