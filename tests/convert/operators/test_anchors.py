"""MultiBoxPrior."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, lone
from operator_suite import Case, OperatorSuite, suite_case

PRIOR = "_contrib_MultiBoxPrior"

shares = st.floats(0.0625, 2, width=32)
several = st.lists(shares, min_size=1, max_size=4).map(tuple)
places = st.floats(0, 1, width=32, allow_subnormal=False)
pairs = st.tuples(shares, shares)


class TestAnchors(OperatorSuite):
    cases = (
        suite_case("by default", PRIOR, IMAGE),
        suite_case("of several sizes", PRIOR, IMAGE, sizes="(0.2,0.276)", ratios="(1,2,0.5,3,0.333333333333)"),
        suite_case("of one number", PRIOR, IMAGE, sizes="(0.1)", ratios="(1,2,0.5)", clip=True),
        suite_case("of a number without parentheses", PRIOR, IMAGE, sizes="0.1"),
        suite_case("at steps", PRIOR, IMAGE, sizes=(0.4,), steps=(0.02666666666666667, 0.05), offsets=(0, 1)),
        suite_case("in one other ratio", PRIOR, IMAGE, sizes=(0.5, 0.25), ratios=(4, 1)),
        suite_case("at steps of 0", PRIOR, IMAGE, steps="(0, 0)"),
        suite_case("of one cell", PRIOR, (1, 3, 1, 1), sizes="(0.88,0.961)", steps="(1.0, 1.0)"),
        suite_case("of a volume", PRIOR, (1, 1, 2, 3, 4), ratios="(1, 2)"),
    )
    unsupported = (
        pytest.param(lone(PRIOR, 1, min_sizes="(1,)"), "attribute min_sizes='(1,)' is not known", id="an attribute"),
        pytest.param(lone(PRIOR, 1, steps="(1, 1, 1)"), "expected 2 numbers", id="three steps"),
        pytest.param(lone(PRIOR, 1, ratios="(1, -2)"), "ratios", id="a negative ratio"),
    )
    misshapen = (
        pytest.param(lone(PRIOR, 1), {"data": (1, 4, 8)}, "need an image", id="a row"),
        pytest.param(lone(PRIOR, 1, steps="(1, -1)"), DATA, "only one of the two", id="one step"),
        pytest.param(lone(PRIOR, 1, offsets="(0, 2)"), DATA, "from 0 to 1", id="an offset"),
    )
    random = st.builds(
        lambda size, attributes: Case(PRIOR, {"data": (1, 2, *size)}, attributes),
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        st.fixed_dictionaries(
            {},
            optional={
                "sizes": several,
                "ratios": several,
                "clip": st.booleans(),
                "steps": pairs,
                "offsets": st.tuples(places, places),
            },
        ),
    )


def test_the_old_name_is_the_same_operator() -> None:
    tested = Case("MultiBoxPrior", {"data": (1, 2, 3, 3)}, {"sizes": "(0.5,)"})

    assert tested.network().operators == Case(PRIOR, tested.inputs, tested.attributes).network().operators
