"""Proposal and MultiProposal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import Parameter, Value, lone
from operator_suite import Case, OperatorSuite
from sshconvert.arrays import Array
from sshconvert.graph import Shape

ONE, MANY = "_contrib_Proposal", "_contrib_MultiProposal"
STRIDE = 16


def predictions(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    """Scores that all differ, small offsets, and images that fill the map."""
    if "data" not in shapes:
        return {}
    images, channels, height, width = shape = shapes["data"]
    scores = random.permutation(np.arange(1.0, 1 + np.prod(shape))).reshape(shape) / (1 + np.prod(shape))
    offsets = random.normal(0, 0.3, (images, 2 * channels, height, width))
    sizes = np.tile((height * STRIDE + 3, width * STRIDE + 9, 0.5), (images, 1))
    return {"data": scores, "other": offsets, "third": sizes}


def smaller_images(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    """Images that are smaller than the map, so that many regions get the score -1."""
    values = predictions(shapes, random)
    return {name: array * (0.6 if name == "third" else 1) for name, array in values.items()}


def proposal(operator: str, shape: Shape, *, small: bool = False, **attributes: Value) -> Case:
    images, channels, height, width = shape
    inputs = {"data": shape, "other": (images, 2 * channels, height, width), "third": (images, 3)}
    differs = "MXNet sorts the regions of the score -1 in any order" if small else ""
    values = smaller_images if small else predictions
    return Case(operator, inputs, {"rpn_min_size": 0, **attributes}, values=values, free=(0,), mxnet_differs=differs)


def named(name: str, operator: str, shape: Shape, *, small: bool = False, **attributes: Value) -> Parameter:
    return pytest.param(proposal(operator, shape, small=small, **attributes), id=f"{operator} {name}")


@st.composite
def random_cases(draw: st.DrawFn) -> Case:
    scales, ratios = (
        draw(st.lists(st.sampled_from(values), min_size=1, max_size=3)) for values in ((2, 4, 8.5), (0.5, 1, 2))
    )
    operator, small = draw(st.sampled_from((ONE, MANY))), draw(st.booleans())
    images = 1 if operator == ONE else draw(st.integers(1, 3))
    channels = 2 * len(scales) * len(ratios)
    return proposal(
        operator,
        (images, channels, draw(st.integers(2, 7)), draw(st.integers(2, 7))),
        small=small,
        scales=tuple(scales),
        ratios=tuple(ratios),
        rpn_pre_nms_top_n=draw(st.sampled_from((0, 10, 60, 6000))),
        rpn_post_nms_top_n=draw(st.sampled_from((1, 8, 40))),
        threshold=draw(st.sampled_from((0.3, 0.7, 1))),
        rpn_min_size=draw(st.sampled_from((0, 60))) if small else 0,
        output_score=draw(st.booleans()),
        iou_loss=draw(st.booleans()),
    )


class TestProposal(OperatorSuite):
    cases = (
        named("by default", ONE, (1, 24, 5, 6)),
        named("with scores", ONE, (1, 24, 5, 6), output_score=True, rpn_post_nms_top_n=20),
        named("of few candidates", ONE, (1, 6, 6, 7), scales=(4,), rpn_pre_nms_top_n=12, rpn_post_nms_top_n=30),
        named("of corners", ONE, (1, 6, 6, 7), scales="(8,)", iou_loss=True, output_score=True),
        named("of a small image", ONE, (1, 6, 6, 7), scales="(2,)", rpn_min_size=40, small=True, output_score=True),
        named("of images", MANY, (3, 12, 4, 5), ratios=(1, 2), scales=(2, 4, 8), output_score=True, threshold=0.5),
        named("of small images", MANY, (2, 6, 4, 5), scales=(4,), small=True, rpn_min_size=16),
        named("that never suppress", MANY, (2, 6, 4, 5), scales=(4,), threshold=1, rpn_post_nms_top_n=70),
    )
    unsupported = (
        pytest.param(lone(ONE, 3, threshold="-1"), "threshold='-1'", id="a negative threshold"),
        pytest.param(lone(MANY, 3, is_train="1"), "attribute is_train='1' is not known", id="an attribute"),
    )
    misshapen = (
        pytest.param(
            lone(ONE, 3), {"data": (2, 24, 5, 6), "in1": (2, 48, 5, 6), "in2": (2, 3)}, "of one image", id="two images"
        ),
        pytest.param(
            lone(MANY, 3), {"data": (2, 20, 5, 6), "in1": (2, 40, 5, 6), "in2": (2, 3)}, "12 anchors", id="channels"
        ),
        pytest.param(lone(MANY, 3), {"data": (2, 24, 5)}, "NCHW", id="a row"),
    )
    random = random_cases()
