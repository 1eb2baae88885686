"""Diag."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.network import resolve
from strategies import shapes


@st.composite
def _diag(draw: DrawFn) -> Case:
    shape = draw(shapes(most=4))
    if len(shape) == 1:
        return Case("diag", {"data": shape}, {"k": draw(st.integers(-3, 3))})
    rows, columns = draw(st.permutations(range(len(shape))))[:2]
    offset = draw(st.integers(1 - shape[rows], shape[columns] - 1))
    axes = {"axis1": rows - len(shape) * draw(st.integers(0, 1)), "axis2": columns}
    return Case("diag", {"data": shape}, {"k": offset, **axes})


class TestDiagonal(OperatorSuite):
    cases = (
        *(suite_case(f"{k}", "diag", (3, 5), k=k) for k in range(-2, 5)),
        *(suite_case(f"{k} of a vector", "diag", (3,), k=k) for k in (-2, 0, 1)),
        suite_case("by default", "diag", (4, 4)),
        suite_case("of one number", "diag", (1,)),
        suite_case("of the last axes", "diag", (2, 3, 4), axis1=-2, axis2=-1),
        suite_case("of exchanged axes", "diag", (2, 3, 4), axis1=2, axis2=1, k=1),
        suite_case("of four dimensions", "diag", (2, 3, 4, 5), axis1=1, axis2=3, k=-1),
    )
    unsupported = (pytest.param(lone("diag", 1, k="x"), "attribute k='x'", id="k of letters"),)
    misshapen = (
        pytest.param(lone("diag", 1, k="4"), {"data": (3, 4)}, "has no diagonal 4", id="right of all"),
        pytest.param(lone("diag", 1, k="-3"), {"data": (3, 4)}, "has no diagonal -3", id="left of all"),
        pytest.param(lone("diag", 1, axis1="1"), DATA, "are the same", id="one axis"),
        pytest.param(lone("diag", 1, axis2="4"), DATA, "axis 4 is not", id="axis 4"),
    )
    random = _diag()


def test_a_diagonal_counts_no_operations() -> None:
    assert resolve(lone("diag", 1), DATA).flops() == 0
