"""Correlation."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, lone
from operator_suite import Case, OperatorSuite, suite_case

SMALL = (1, 3, 12, 13)


class TestCorrelation(OperatorSuite):
    cases = (
        suite_case("by default", "Correlation", IMAGE, IMAGE),
        suite_case("as FlowNet has it", "Correlation", SMALL, SMALL, max_displacement=4, stride2=2, pad_size=4),
        suite_case("of windows", "Correlation", SMALL, SMALL, kernel_size=3, max_displacement=2, pad_size=3),
        suite_case("of differences", "Correlation", SMALL, SMALL, is_multiply=False, max_displacement=2, stride1=2),
        suite_case("of strides", "Correlation", SMALL, SMALL, max_displacement=3, stride1=3, stride2=2, pad_size=1),
        suite_case("without a displacement", "Correlation", SMALL, SMALL, max_displacement=0, kernel_size=5),
    )
    unsupported = (
        pytest.param(lone("Correlation", 2, kernel_size="2"), "expected an odd number", id="an even kernel"),
        pytest.param(lone("Correlation", 2, corr_type="1"), "attribute corr_type='1' is not known", id="an attribute"),
    )
    misshapen = (
        pytest.param(lone("Correlation", 2), DATA | {"in1": (1, 4, 8, 9)}, "expected (1, 4, 8, 8)", id="two shapes"),
        pytest.param(
            lone("Correlation", 2, max_displacement="4"), DATA | {"in1": DATA["data"]}, "does not fit", id="a long way"
        ),
        pytest.param(
            lone("Correlation", 2, max_displacement="40", pad_size="40"),
            DATA | {"in1": DATA["data"]},
            "6561 displacements",
            id="many displacements",
        ),
    )
    random = st.builds(
        lambda size, attributes: Case("Correlation", {"data": (2, 3, *size), "other": (2, 3, *size)}, attributes),
        st.tuples(st.integers(12, 16), st.integers(12, 16)),
        st.fixed_dictionaries(
            {},
            optional={
                "kernel_size": st.sampled_from((1, 3)),
                "max_displacement": st.integers(0, 4),
                "stride1": st.integers(1, 3),
                "stride2": st.integers(1, 3),
                "pad_size": st.integers(0, 3),
                "is_multiply": st.booleans(),
            },
        ),
    )
