"""SequenceMask, SequenceReverse and SequenceLast."""

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
from sshconvert.graph import Shape
from sshconvert.network import resolve
from strategies import shapes

LENGTHS = {"use_sequence_length": "True"}


def lengths(inputs: Mapping[str, Shape], generator: np.random.Generator) -> Mapping[str, Array]:
    """Lengths from 1 to 3, with a fraction."""
    return {name: generator.integers(1, 4, inputs[name]) + 0.7 for name in inputs if name == "other"}


def from_zero(inputs: Mapping[str, Shape], generator: np.random.Generator) -> Mapping[str, Array]:
    return {name: generator.integers(0, 7, inputs[name]) for name in inputs if name == "other"}


def case(
    name: str, operator: str, *shapes: Shape, of: str = "float32", values: Any = lengths, **attributes: Any
) -> Any:
    inputs = dict(zip(("data", "other"), shapes, strict=False))
    attributes |= {"use_sequence_length": len(shapes) > 1}
    dtypes = {"other": of} if len(shapes) > 1 else {}
    return pytest.param(Case(operator, inputs, attributes, dtypes, values=values, free=(1,)), id=f"{operator} {name}")


@st.composite
def _random(draw: DrawFn) -> Case:
    operator = draw(st.sampled_from(("SequenceMask", "SequenceReverse", "SequenceLast")))
    axis = draw(st.integers(0, 0 if operator == "SequenceReverse" else 1))
    shape = [*draw(shapes(least=2, most=5))]
    shape[axis] += 3
    attributes: dict[str, Any] = {"axis": axis}
    if operator == "SequenceMask":
        attributes["value"] = draw(st.sampled_from((0, -1, 0.1)))
    if draw(st.booleans()):
        return Case(operator, {"data": tuple(shape)}, attributes)
    dtypes = {"other": draw(st.sampled_from(("float32", "int32", "int64")))}
    inputs = {"data": tuple(shape), "other": (shape[1 - axis],)}
    return Case(operator, inputs, attributes | LENGTHS, dtypes, values=lengths)


class TestSequences(OperatorSuite):
    cases = (
        case("without lengths", "SequenceMask", (4, 3)),
        case("by default", "SequenceMask", (4, 3, 2), (3,)),
        case("of a matrix", "SequenceMask", (4, 3), (3,), value=-1),
        case("along the second axis", "SequenceMask", (3, 4, 2), (3,), axis=1, value=0.1),
        case("from nothing to more than all", "SequenceMask", (5, 9, 2), (9,), values=from_zero),
        case("by integers", "SequenceMask", (4, 3, 2), (3,), of="int64"),
        case("without lengths", "SequenceReverse", (4, 3, 2)),
        case("with lengths", "SequenceReverse", (4, 3, 2), (3,)),
        case("of a matrix", "SequenceReverse", (4, 3), (3,)),
        case("by integers", "SequenceReverse", (4, 3, 2), (3,), of="int32"),
        case("without lengths", "SequenceLast", (4, 3, 2)),
        case("without lengths along the second axis", "SequenceLast", (4, 3, 2), axis=1),
        case("with lengths", "SequenceLast", (4, 3, 2), (3,)),
        case("of a matrix", "SequenceLast", (4, 3), (3,)),
        case("along the second axis", "SequenceLast", (3, 4, 2, 2), (3,), axis=1),
        case("by integers", "SequenceLast", (4, 3, 2), (3,), of="int32"),
        pytest.param(
            Case("SequenceMask", {"data": (4, 3), "other": (3,)}, LENGTHS, {"other": "int64"}, free=(0,)),
            id="SequenceMask of any number of steps",
        ),
    )
    unsupported = (
        pytest.param(lone("SequenceMask", 1, axis="2"), "attribute axis='2'", id="axis 2"),
        pytest.param(lone("SequenceReverse", 1, axis="1"), "attribute axis='1'", id="reverse along axis 1"),
        pytest.param(lone("SequenceLast", 1, **LENGTHS), "1 inputs, expected 2", id="no lengths"),
    )
    misshapen = (
        pytest.param(lone("SequenceMask", 1), {"data": (3,)}, "need 2 dimensions", id="a vector"),
        pytest.param(
            lone("SequenceLast", 2, **LENGTHS),
            DATA | {"in1": (8,)},
            "has shape (8,), expected (4,)",
            id="eight lengths",
        ),
    )
    random = _random()


def test_only_a_mask_with_lengths_counts_operations() -> None:
    assert resolve(lone("SequenceMask", 2, **LENGTHS), {"data": (3, 4), "in1": (4,)}).flops() == 12
    assert resolve(lone("SequenceLast", 1), {"data": (3, 4)}).flops() == 0
