"""elemwise_add."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, lone
from operator_suite import Case, OperatorSuite, suite_case

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)


class TestElementwise(OperatorSuite):
    cases = (
        suite_case("of images", "elemwise_add", IMAGE, IMAGE),
        suite_case("of vectors", "elemwise_add", (5,), (5,)),
    )
    unsupported = (
        pytest.param(lone("elemwise_add", 2, scalar="1"), "attribute scalar='1' is not known", id="an attribute"),
        pytest.param(lone("elemwise_add", 3), "3 inputs, expected 2", id="add of three"),
    )
    misshapen = (
        pytest.param(lone("elemwise_add", 2), DATA | {"in1": (1, 4, 8, 1)}, "differ", id="add does not broadcast"),
        pytest.param(lone("elemwise_add", 2), DATA, "in1", id="add of something unknown"),
    )
    random = SHAPES.map(lambda shape: Case("elemwise_add", {"data": shape, "other": shape}))
