"""Loss heads at inference."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case

HEADS = ("LinearRegressionOutput", "MAERegressionOutput", "LogisticRegressionOutput", "SVMOutput")
SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple)


def softmax(shape: tuple[int, ...], multi_output: bool, preserve_shape: bool) -> Case:
    differs = "oneDNN takes the last axis" if len(shape) == 4 and not (multi_output or preserve_shape) else ""
    attributes = {"multi_output": multi_output, "preserve_shape": preserve_shape}
    return Case("SoftmaxOutput", {"data": shape}, attributes, mxnet_differs=differs)


class TestHeads(OperatorSuite):
    cases = (
        suite_case("of classes", "SoftmaxOutput", (3, 5)),
        suite_case("under its old name", "Softmax", (3, 5), grad_scale=2.0),
        suite_case("of all axes but the first", "SoftmaxOutput", (2, 4, 3)),
        pytest.param(softmax((2, 4, 3, 5), False, False), id="SoftmaxOutput of images"),
        pytest.param(softmax((2, 4, 1, 1), False, False), id="SoftmaxOutput of images of one pixel"),
        suite_case("of each pixel", "SoftmaxOutput", (2, 4, 3, 5), multi_output=True, use_ignore=True),
        suite_case("over the last axis", "SoftmaxOutput", (2, 4, 5), preserve_shape=True),
        suite_case("over both", "SoftmaxOutput", (2, 4, 5), preserve_shape=True, multi_output=True),
        suite_case("of vectors", "LinearRegressionOutput", (3, 5), grad_scale=2),
        suite_case("of vectors", "MAERegressionOutput", (3, 5)),
        suite_case("of images", "LogisticRegressionOutput", (3, 5, 2, 2)),
        suite_case("of vectors", "SVMOutput", (3, 5), margin=2, use_linear=True),
    )
    unsupported = (
        pytest.param(lone("SoftmaxOutput", 2, axis="1"), "attribute axis='1' is not known", id="an attribute"),
        pytest.param(lone("MAERegressionOutput", 3), "3 inputs, expected 2", id="three inputs"),
    )
    misshapen = (pytest.param(lone("SoftmaxOutput", 1), {"data": (3,)}, "no axis of classes", id="a vector"),)
    random = st.one_of(
        st.builds(softmax, SHAPES, st.booleans(), st.booleans()),
        st.builds(lambda shape, head: Case(head, {"data": shape}), SHAPES, st.sampled_from(HEADS)),
    )


def test_a_label_is_no_input_of_the_network() -> None:
    assert "label" not in Case("SoftmaxOutput", DATA).network().parameters({})
