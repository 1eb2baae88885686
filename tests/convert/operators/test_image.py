"""Transforms of images that Gluon exports as a part of the network."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case

NUMBERS = st.tuples(*[st.floats(0.125, 4, width=32)] * 3)


def normalize(shape: tuple[int, ...], **attributes: Any) -> Case:
    return Case("_image_normalize", {"data": shape}, attributes)


class TestImage(OperatorSuite):
    cases = (
        suite_case("of an image", "_image_to_tensor", (4, 5, 3)),
        suite_case("of a batch", "_image_to_tensor", (2, 4, 5, 3)),
        suite_case(
            "by channel", "_image_normalize", (2, 3, 4, 5), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        ),
        suite_case("by one number", "_image_normalize", (3, 4, 5), mean=(0.5,), std=(0.25,)),
        suite_case("of one channel", "_image_normalize", (1, 4, 5), mean=(0.5,), std=(2,)),
    )
    unsupported = (
        pytest.param(lone("_image_normalize", 1, std="(1, 0, 1)"), "attribute std has a 0", id="deviation of 0"),
        pytest.param(lone("_image_to_tensor", 1, layout="NHWC"), "attribute layout='NHWC'", id="layout"),
    )
    misshapen = (
        pytest.param(lone("_image_normalize", 1, mean="(1, 2, 3)"), DATA, "do not fit 4 channels", id="three means"),
        pytest.param(lone("_image_to_tensor", 1), {"data": (4, 5)}, "is no image", id="a matrix"),
    )
    random = st.builds(
        lambda batch, mean, std: normalize((*batch, 3, 4, 5), mean=mean, std=std),
        st.sampled_from(((), (1,), (2,))),
        NUMBERS,
        NUMBERS,
    )
