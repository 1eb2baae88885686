"""Pooling into a given number of windows."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case


class TestAdaptive(OperatorSuite):
    cases = (
        # Of these sizes, none is a multiple in both axes: an AveragePool would round differently at a fixed size.
        *(
            suite_case(f"to {size}", "_contrib_AdaptiveAvgPooling2D", (2, 3, 7, 8), output_size=size)
            for size in ((), 1, (4,), (7, 8), (9, 10), (7, 1))
        ),
        *(
            pytest.param(
                Case("_contrib_AdaptiveAvgPooling2D", {"data": (2, 3, 6, 10)}, {"output_size": size}, free=(0,)),
                id=f"_contrib_AdaptiveAvgPooling2D evenly to {size}",
            )
            for size in (2, (3, 5), (1, 2), (6, 10), (7, 4), (4, 1))
        ),
        suite_case("by default", "_contrib_AdaptiveAvgPooling2D", (2, 3, 7, 8)),
    )
    unsupported = (
        pytest.param(
            lone("_contrib_AdaptiveAvgPooling2D", 1, output_size="0"), "attribute output_size='0'", id="output 0"
        ),
    )
    misshapen = (
        pytest.param(lone("_contrib_AdaptiveAvgPooling2D", 1), {"data": (1, 4, 8)}, "NCHW", id="adaptive in 1-D"),
        pytest.param(
            lone("_contrib_AdaptiveAvgPooling2D", 1, output_size="1001"), DATA, "more than 1000", id="many windows"
        ),
    )
    random = st.builds(
        lambda shape, size: Case("_contrib_AdaptiveAvgPooling2D", {"data": shape}, {"output_size": size}),
        st.tuples(*[st.integers(1, 9)] * 4),
        st.one_of(st.integers(1, 9), st.tuples(st.integers(1, 9), st.integers(1, 9))),
    )
