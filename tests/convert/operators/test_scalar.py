"""Functions of a tensor and a scalar."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import IMAGE, lone
from operands import positive_integers, small_integers, values_of
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.graph import Shape
from sshconvert.network import resolve
from sshconvert.operators.registry import OPERATORS

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)
SCALARS: Final = sorted({kind.name for name, kind in OPERATORS.items() if name.endswith("_scalar")})


def scalar_case(name: str, shape: Shape, scalar: float, dtype: str = "float32") -> Case:
    key = name.removeprefix("_").removesuffix("_scalar")
    values = values_of("power", dtype) if "power" in key else small_integers
    if dtype != "float32" and name in ("_rdiv_scalar", "_rmod_scalar", "_rpower_scalar"):
        values = positive_integers
    types = {} if dtype == "float32" else {"data": dtype}
    return Case(name, {"data": shape}, {"scalar": scalar}, dtypes=types, values=values)


@st.composite
def random_scalar(draw: Any) -> Case:
    name = draw(st.sampled_from(SCALARS))
    dtype = draw(st.sampled_from(["float32", *(["int32", "int64"] if name != "_hypot_scalar" else [])]))
    fractions = [0.5, 1.7] if "mod" in name else [0.5, 1.7, 2.0 / 3]  # 3 times 2/3 is almost 2
    scalar = draw(st.sampled_from([1.0, 2.0, 3.0, *fractions] if dtype == "float32" else [1, 2, 3, 2.5]))
    if "power" not in name and draw(st.booleans()):
        scalar = -scalar
    return scalar_case(name, draw(SHAPES), scalar, dtype)


class TestFunctionsOfATensorAndAScalar(OperatorSuite):
    cases = (
        *(pytest.param(scalar_case(name, IMAGE, 1.7), id=name) for name in SCALARS),
        *(
            pytest.param(scalar_case(name, (2, 5), 2.5, "int64"), id=f"{name} of int64")
            for name in (
                "_plus_scalar",
                "_div_scalar",
                "_rdiv_scalar",
                "_rmod_scalar",
                "_power_scalar",
                "_equal_scalar",
            )
        ),
        suite_case("by default", "_plus_scalar", (3,)),
        suite_case("of a negative scalar", "_mod_scalar", (3, 4), scalar=-0.7),
        suite_case("of zero", "_mod_scalar", (3, 4), scalar=0),
        suite_case("in MXNet 1.9's form", "_mul_scalar", (3, 4), scalar="0.1", is_int="False"),
        suite_case("of a large scalar", "_plus_scalar", (3, 4), scalar=-1e18),
    )
    unsupported = (
        pytest.param(lone("_plus_scalar", 1, scalar="many"), "attribute scalar='many'", id="no number"),
        pytest.param(lone("_plus_scalar", 1, scalar="1e39"), "attribute scalar='1e39'", id="beyond float32"),
        pytest.param(lone("_plus_scalar", 1, scalar="nan"), "attribute scalar='nan'", id="NaN"),
    )
    random = random_scalar()


def test_integers_with_a_fraction_become_floating_point_where_the_symbol_says_so() -> None:
    network = resolve(
        lone("_div_scalar", 1, scalar="2.5", is_int="False"), {"data": (2,)}, dtypes={"data": np.dtype(np.int64)}
    )
    operator = network.operators[-1]

    assert network.dtypes[-1] == (np.dtype(np.float32),)
    assert operator is not None
    np.testing.assert_array_equal(operator.evaluate(np.array([5, -7]))[0], [2, -2.8])
