"""UpSampling and BilinearResize2D."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import strategies as st

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve

RESIZE: Final = "_contrib_BilinearResize2D"
PARITIES: Final = ("to_even_down", "to_even_up", "to_odd_down", "to_odd_up")


def upsampling(**attributes: str) -> Graph:
    return lone("UpSampling", 1, **({"scale": "2", "sample_type": "nearest"} | attributes))


def resizing(inputs: int = 1, **attributes: str) -> Graph:
    return lone(RESIZE, inputs, **attributes)


def nearest(name: str, *shapes: Shape, scale: int, **attributes: Any) -> Any:
    attributes = {"scale": scale, "sample_type": "nearest", "num_args": len(shapes)} | attributes
    return suite_case(f"nearest {name}", "UpSampling", *shapes, **attributes)


@st.composite
def upsamplings(draw: st.DrawFn) -> Case:
    scale, batch, channels = draw(st.integers(1, 4)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    size = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    attributes: dict[str, Any] = {"scale": scale}
    if draw(st.integers(0, 2)) == 0:
        attributes |= {"sample_type": "bilinear", "num_filter": channels, "num_args": 2}
        return Case("UpSampling", {"data": (batch, channels, *size)}, attributes)
    mode = draw(st.sampled_from(("concat", "sum")))
    shapes: list[Shape] = [(batch, channels, *size)]
    for _ in range(draw(st.integers(0, 2))):
        factor = draw(st.sampled_from([each for each in range(1, scale + 1) if scale % each == 0]))
        others = channels if mode == "sum" else draw(st.integers(1, 3))
        shapes.append((batch, others, *(each * factor for each in size)))
    attributes |= {"sample_type": "nearest", "num_args": len(shapes), "multi_input_mode": mode}
    return Case("UpSampling", dict(zip(("data", "other", "third"), shapes, strict=False)), attributes)


@st.composite
def resizings(draw: st.DrawFn) -> Case:
    shape = draw(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(3, 8), st.integers(3, 8)))
    mode = draw(st.sampled_from(("size", "size", "scale", "odd_scale", "like", *PARITIES)))
    attributes: dict[str, Any] = {"align_corners": draw(st.booleans())}
    if mode == "size":
        attributes |= {"height": draw(st.integers(1, 12)), "width": draw(st.integers(1, 12))}
    if mode in ("scale", "odd_scale"):
        scales = st.sampled_from((0.4, 0.5, 1.0, 1.5, 2.0, 3.3))
        attributes |= {"scale_height": draw(scales), "scale_width": draw(scales)}
    attributes |= {"mode": mode} if mode != "scale" else {}
    inputs = {"data": shape}
    if mode == "like":
        inputs["like"] = draw(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))
    return Case(RESIZE, inputs, attributes)


class TestResizing(OperatorSuite):
    cases = (
        *(nearest(f"by {scale}", (2, 3, 4, 5), scale=scale) for scale in (1, 2, 3)),
        suite_case(
            "with its hints", "UpSampling", (1, 2, 3, 3), scale=2, sample_type="nearest", num_args=1, workspace=256
        ),
        nearest("of two", (1, 2, 3, 4), (1, 3, 6, 8), scale=2),
        nearest("of three", (1, 2, 3, 4), (1, 3, 6, 8), (1, 1, 12, 16), scale=4),
        nearest("sum of two", (1, 2, 3, 4), (1, 2, 6, 8), scale=2, multi_input_mode="sum"),
        nearest("sum of three", (2, 2, 3, 4), (2, 2, 6, 8), (2, 2, 3, 4), scale=2, multi_input_mode="sum"),
        *(
            suite_case(
                f"bilinear by {scale}",
                "UpSampling",
                (2, 3, 4, 5),
                scale=scale,
                sample_type="bilinear",
                num_filter=3,
                num_args=2,
            )
            for scale in (1, 2, 3, 4)
        ),
        *(
            suite_case(
                f"to {height}, {width} {corners}",
                RESIZE,
                (2, 3, 4, 5),
                height=height,
                width=width,
                align_corners=corners,
            )
            for height, width in ((8, 10), (3, 2), (4, 5), (1, 7), (7, 1), (9, 5))
            for corners in (True, False)
        ),
        suite_case("by default", RESIZE, (2, 3, 4, 5)),
        *(
            suite_case(f"by {scale} {mode}", RESIZE, (2, 3, 6, 5), scale_height=scale, scale_width=2.0, mode=mode)
            for scale in (0.5, 1.0, 1.7, 3.0)
            for mode in ("size", "odd_scale")
        ),
        *(
            suite_case(f"{mode} {shape}", RESIZE, shape, mode=mode)
            for mode in PARITIES
            for shape in ((1, 2, 4, 5), (1, 2, 3, 8))
        ),
        suite_case("like", RESIZE, (2, 3, 4, 5), (1, 2, 8, 7), mode="like", align_corners=False),
        suite_case("one scale without effect", RESIZE, (2, 3, 4, 5), scale_width=2.0, height=3, width=2),
        suite_case("scales without effect", RESIZE, (2, 3, 4, 5), scale_width=2.0, height=3, mode="to_odd_up"),
    )
    unsupported = (
        pytest.param(upsampling(sample_type="cubic"), "attribute sample_type='cubic'", id="cubic"),
        pytest.param(upsampling(sample_type="None"), "attribute sample_type is missing", id="no sample_type"),
        pytest.param(upsampling(scale="None"), "attribute scale is missing", id="no scale"),
        pytest.param(upsampling(scale="0"), "attribute scale='0'", id="scale 0"),
        pytest.param(upsampling(num_args="2"), "1 inputs, expected 2", id="two inputs"),
        pytest.param(resizing(mode="cubic"), "attribute mode='cubic'", id="cubic resizing"),
        pytest.param(resizing(height="0"), "attribute height='0'", id="height 0"),
        pytest.param(resizing(height="10001"), "attribute height='10001'", id="height 10001"),
        pytest.param(resizing(scale_height="2.0"), "scale_width is missing", id="one scale"),
        pytest.param(resizing(mode="odd_scale"), "scale_width is missing", id="no scales"),
        pytest.param(resizing(mode="like"), "1 inputs, expected 2", id="like nothing"),
    )
    misshapen = (
        pytest.param(
            upsampling(), {"data": (1, 4, 0, 8)}, "input data: shape (1, 4, 0, 8), expected sizes", id="size 0"
        ),
        pytest.param(
            upsampling(), {"data": (1, 4, -8, 8)}, "input data: shape (1, 4, -8, 8), expected", id="negative size"
        ),
        pytest.param(upsampling(), {"data": (1, 4, 2**31, 8)}, "input data: shape", id="input beyond 31 bits"),
        pytest.param(upsampling(), {"data": (1, 4, 8)}, "NCHW", id="upsampling of 3-D data"),
        pytest.param(
            lone("UpSampling", 2, scale="2", sample_type="nearest", num_args="2"),
            DATA | {"in1": (1, 4, 5, 8)},
            "does not fit beside",
            id="two sizes",
        ),
        pytest.param(
            lone("UpSampling", 2, scale="2", sample_type="bilinear"), DATA, "num_filter is missing", id="no num_filter"
        ),
        pytest.param(resizing(), {"data": (1, 4, 8)}, "NCHW", id="resizing of 3-D data"),
        pytest.param(resizing(2, mode="like"), DATA | {"in1": (8, 8)}, "NCHW", id="like a matrix"),
    )
    random = st.one_of(upsamplings(), resizings())


COSTS: Final = [
    pytest.param(upsampling(), 0, id="upsampling"),
    pytest.param(resizing(height="2", width="3"), 4 * 2 * 3 * 7, id="resizing"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations
