"""Conversions between types, and copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, lone
from operands import positive, small_integers
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.cutting import cut
from sshconvert.network import resolve

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)
NUMBERS = ("float32", "int32", "int64", "int8", "uint8")


@st.composite
def random_cast(draw: Any) -> Case:
    name = draw(st.sampled_from(["Cast", "amp_cast", "_copy", "BlockGrad"]))
    # MXNet fails on amp_cast of int64.
    sources = ["float32", "int32"] if name == "amp_cast" else ["float32", "int32", "int64"]
    shape, source = draw(SHAPES), draw(st.sampled_from(sources))
    types = {} if source == "float32" else {"data": source}
    if name in ("_copy", "BlockGrad"):
        return Case(name, {"data": shape}, dtypes=types, values=small_integers)
    target = draw(st.sampled_from(NUMBERS)) if name == "Cast" else "float32"
    values = positive if source == "float32" or target == "uint8" else small_integers
    return Case(name, {"data": shape}, {"dtype": target}, dtypes=types, values=values)


class TestCasting(OperatorSuite):
    cases = (
        *(pytest.param(Case("Cast", {"data": IMAGE}, {"dtype": to}, values=positive), id=f"to {to}") for to in NUMBERS),
        pytest.param(
            Case("cast", {"data": (3, 4)}, {"dtype": "float32"}, {"data": "int64"}, small_integers), id="from int64"
        ),
        pytest.param(Case("Cast", {"data": (9,)}, {"dtype": "int32"}, values=small_integers), id="of negative numbers"),
        suite_case("to float32", "amp_cast", IMAGE, dtype="float32"),
        pytest.param(
            Case("amp_cast", {"data": (3, 4)}, {"dtype": "float32"}, {"data": "int32"}, small_integers),
            id="amp_cast of int32",
        ),
        suite_case("of two", "amp_multicast", IMAGE, (3,), num_outputs=2),
        suite_case("of two to the narrowest", "amp_multicast", (2,), (3,), num_outputs=2, cast_narrow=True),
        suite_case("of an image", "_copy", IMAGE),
        suite_case("of an image", "identity", IMAGE),
        suite_case("of an image", "BlockGrad", IMAGE),
        suite_case("of an image", "stop_gradient", IMAGE),
        suite_case("of an image", "_identity_with_attr_like_rhs", IMAGE, IMAGE),
    )
    unsupported = (
        pytest.param(lone("Cast", 1), "attribute dtype is missing", id="no type"),
        pytest.param(lone("Cast", 1, dtype="bool"), "attribute dtype='bool'", id="bool"),
        pytest.param(lone("Cast", 1, dtype="complex64"), "attribute dtype='complex64'", id="complex"),
    )
    random = random_cast()


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_other_floating_point_types_become_float32(dtype: str) -> None:
    network = resolve(lone("Cast", 1, dtype=dtype), DATA)

    assert network.dtypes[-1] == (np.dtype(np.float32),)


def test_integers_keep_their_last_bits() -> None:
    operator = resolve(lone("Cast", 1, dtype="uint8"), {"data": (3,)}).operators[-1]

    assert operator is not None
    np.testing.assert_array_equal(operator.evaluate(np.array([300.5, 255.0, 0.9]))[0], [44, 255, 0])


def test_cutting_removes_the_input_that_gives_attributes_of_storage() -> None:
    assert cut(lone("_identity_with_attr_like_rhs", 2)).variables == ("data",)
