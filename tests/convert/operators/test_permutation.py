"""Transpose and SwapAxis."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, IMAGE, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.network import resolve
from strategies import axes_of, shapes


@st.composite
def _transpose(draw: DrawFn) -> Case:
    shape = draw(shapes(most=6))
    axes = draw(st.one_of(st.just(()), st.permutations(range(len(shape))).map(tuple)))
    return Case("transpose", {"data": shape}, {"axes": axes})


@st.composite
def _swap(draw: DrawFn) -> Case:
    shape = draw(shapes(least=2))
    first, second = draw(st.tuples(axes_of(shape), axes_of(shape)).filter(lambda pair: pair[0] != pair[1]))
    return Case(draw(st.sampled_from(("SwapAxis", "swapaxes"))), {"data": shape}, {"dim1": first, "dim2": second})


class TestPermutation(OperatorSuite):
    cases = (
        suite_case("to the last", "transpose", IMAGE, axes=(0, 2, 3, 1)),
        suite_case("to the first", "transpose", IMAGE, axes=(3, 0, 1, 2)),
        suite_case("in reverse", "transpose", IMAGE),
        suite_case("by an empty order", "transpose", (2, 3), axes=()),
        suite_case("of one dimension", "transpose", (5,), axes=(0,)),
        suite_case("of six dimensions", "transpose", (1, 2, 3, 2, 4, 2), axes=(0, 1, 4, 2, 5, 3)),
        pytest.param(Case("transpose", {"data": (2, 3)}, {}, {"data": "int64"}), id="transpose of integers"),
        suite_case("of two axes", "SwapAxis", IMAGE, dim1=1, dim2=2),
        suite_case("from the end", "swapaxes", IMAGE, dim1=0, dim2=-1),
    )
    unsupported = (
        pytest.param(lone("transpose", 1, axes="(0, -1)"), "attribute axes='(0, -1)'", id="a negative axis"),
        pytest.param(lone("SwapAxis", 1, dim1="x"), "attribute dim1='x'", id="an axis of letters"),
        pytest.param(lone("SwapAxis", 1, axes="(0, 1)"), "attribute axes='(0, 1)' is not known", id="axes of SwapAxis"),
    )
    misshapen = (
        pytest.param(lone("transpose", 1, axes="(0, 1)"), DATA, "are not the axes of", id="too few axes"),
        pytest.param(lone("transpose", 1, axes="(0, 1, 2, 2)"), DATA, "are not the axes of", id="an axis twice"),
        pytest.param(lone("SwapAxis", 1, dim1="4"), DATA, "axis 4 is not an axis", id="axis 4"),
    )
    random = st.one_of(_transpose(), _swap())


def test_a_permutation_counts_no_operations() -> None:
    assert resolve(lone("transpose", 1), DATA).flops() == 0
