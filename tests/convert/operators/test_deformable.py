"""DeformableConvolution and its modulated form."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import Parameter, Value, lone
from operator_suite import Case, OperatorSuite
from sshconvert.arrays import Array
from sshconvert.graph import Shape

PLAIN, MODULATED = "_contrib_DeformableConvolution", "_contrib_ModulatedDeformableConvolution"


def moves(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    """Offsets of up to a few pixels; every third is whole, so that samples lie on pixels and on the image's border."""
    values: dict[str, Array] = {}
    if "offset" in shapes:
        offsets = random.normal(0, 2, shapes["offset"]).astype(np.float32)
        offsets.ravel()[::3] = offsets.ravel()[::3].round()
        values["offset"] = offsets
    return values


def deformable(operator: str, data: Shape, **attributes: Value) -> Case:
    """The case of a convolution of this image, with offsets and masks that fit."""
    kernel, groups = attributes["kernel"], attributes.get("num_deformable_group", 1)
    one, none = (1,) * 2, (0,) * 2
    windows = tuple(
        (size + 2 * pad - dilate * (length - 1) - 1) // stride + 1
        for size, length, stride, pad, dilate in zip(
            data[2:],
            kernel,
            attributes.get("stride", one),
            attributes.get("pad", none),
            attributes.get("dilate", one),
            strict=True,
        )
    )
    samples = groups * kernel[0] * kernel[1]
    inputs = {"data": data, "offset": (data[0], 2 * samples, *windows)}
    if operator == MODULATED:
        inputs["mask"] = (data[0], samples, *windows)
    return Case(operator, inputs, {"num_filter": 4, **attributes}, values=moves, free=(0,))


def named(name: str, operator: str, data: Shape = (2, 4, 7, 9), **attributes: Value) -> Parameter:
    return pytest.param(deformable(operator, data, **attributes), id=f"{operator} {name}")


@st.composite
def random_cases(draw: st.DrawFn) -> Case:
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups, offset_groups = draw(st.sampled_from((1, 2, 4))), draw(st.sampled_from((1, 2)))
    return deformable(
        draw(st.sampled_from((PLAIN, MODULATED))),
        (draw(st.integers(1, 2)), 4, draw(st.integers(7, 10)), draw(st.integers(7, 10))),
        kernel=draw(pair),
        stride=draw(pair),
        dilate=draw(pair),
        pad=draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        no_bias=draw(st.booleans()),
        num_group=groups,
        num_deformable_group=offset_groups,
    )


class TestDeformable(OperatorSuite):
    cases = (
        *(
            parameter
            for operator in (PLAIN, MODULATED)
            for parameter in (
                named("of one sample", operator, kernel=(1, 1), no_bias=True),
                named("with padding", operator, kernel=(3, 3), pad=(1, 1), num_filter=6),
                named("of a stride", operator, kernel=(3, 2), pad=(0, 2), stride=(2, 1), dilate=(1, 2)),
                named("of groups", operator, kernel=(3, 3), num_group=2, pad=(1, 1)),
                named("of deformable groups", operator, kernel=(3, 3), num_deformable_group=2, pad=(1, 1)),
                named("of both groups", operator, kernel=(2, 2), num_deformable_group=2, num_group=4),
            )
        ),
        named("as CenterNet has it", MODULATED, kernel=(3, 3), pad=(1, 1), layout="NCHW", im2col_step=64),
    )
    unsupported = (
        pytest.param(lone(PLAIN, 4, kernel="(3,)", num_filter="2"), "2 sizes", id="one axis"),
        pytest.param(lone(MODULATED, 5, kernel="(3, 3)"), "num_filter is missing", id="no filters"),
        pytest.param(lone(PLAIN, 4, kernel="(3, 3)", num_filter="2", layout="NHWC"), "layout", id="a layout"),
    )
    misshapen = (
        pytest.param(
            lone(PLAIN, 4, kernel="(3, 3)", num_filter="2"),
            {"data": (1, 4, 8, 8), "in1": (1, 9, 6, 6)},
            "offset has shape (1, 9, 6, 6), expected (1, 18, 6, 6)",
            id="offsets",
        ),
        pytest.param(
            lone(MODULATED, 5, kernel="(3, 3)", num_filter="2"),
            {"data": (1, 4, 8, 8), "in1": (1, 18, 6, 6), "in2": (1, 18, 6, 6)},
            "mask has shape (1, 18, 6, 6), expected (1, 9, 6, 6)",
            id="a mask",
        ),
        pytest.param(
            lone(PLAIN, 4, kernel="(3, 3)", num_filter="2", num_deformable_group="3"),
            {"data": (1, 4, 8, 8), "in1": (1, 54, 6, 6)},
            "3 deformable groups",
            id="groups",
        ),
    )
    random = random_cases()
