"""box_decode and box_iou."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import DATA, Parameter, lone, run_onnx
from operator_suite import Case, OperatorSuite, run_openvino, suite_case
from sshconvert.arrays import Array
from sshconvert.evaluation import evaluate
from sshconvert.export import export
from sshconvert.graph import Shape

STDS = {"std0": 0.1, "std1": 0.1, "std2": 0.2, "std3": 0.2}


def grid_boxes(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    """Boxes whose corners lie on a small grid, so that many overlaps are equal, 0 or undefined."""
    return {name: random.integers(0, 5, shape).astype(np.float32) for name, shape in shapes.items()}


def overlap(name: str, *shapes: Shape, **attributes: str) -> Parameter:
    inputs = dict(zip(("data", "other"), shapes, strict=True))
    return pytest.param(Case("_contrib_box_iou", inputs, attributes, values=grid_boxes, free=(0,)), id=f"iou {name}")


decoded = st.builds(
    lambda batch, boxes, wide, attributes: Case(
        "_contrib_box_decode",
        {"data": (batch, boxes, 4), "other": (1, boxes, 4) if wide else (1, 1, boxes, 4)},
        attributes,
    ),
    st.integers(1, 3),
    st.integers(1, 9),
    st.booleans(),
    st.fixed_dictionaries(
        {},
        optional={
            **{f"std{number}": st.floats(-2, 2, width=32, allow_subnormal=False) for number in range(4)},
            "clip": st.sampled_from((-1, 0, 0.5, 4.42)),
            "format": st.sampled_from(("corner", "center")),
        },
    ),
)
leading = st.lists(st.integers(1, 4), min_size=1, max_size=3)
overlaps = st.builds(
    lambda left, right, form: Case(
        "_contrib_box_iou", {"data": (*left, 4), "other": (*right, 4)}, {"format": form}, values=grid_boxes
    ),
    leading,
    leading,
    st.sampled_from(("corner", "center")),
)


class TestBoxes(OperatorSuite):
    cases = (
        suite_case("of centres", "_contrib_box_decode", (2, 5, 4), (1, 5, 4), **STDS),
        suite_case("of corners", "_contrib_box_decode", (2, 5, 4), (1, 5, 4), format="corner", clip=-1, **STDS),
        suite_case("with a limit", "_contrib_box_decode", (1, 9, 4), (1, 9, 4), format="corner", clip=0.25),
        suite_case("of anchors in more axes", "_contrib_box_decode", (2, 6, 4), (2, 3, 4), format="center"),
        overlap("of corners", (7, 4), (9, 4)),
        overlap("of centres", (7, 4), (9, 4), format="center"),
        overlap("in many axes", (2, 3, 4), (1, 5, 2, 4)),
    )
    unsupported = (
        pytest.param(lone("_contrib_box_decode", 2, means="0"), "attribute means='0' is not known", id="an attribute"),
        pytest.param(lone("_contrib_box_iou", 2, format="xywh"), "format", id="a format"),
    )
    misshapen = (
        pytest.param(lone("_contrib_box_decode", 2), DATA | {"in1": (1, 8, 4)}, "(N, boxes, 4)", id="four axes"),
        pytest.param(
            lone("_contrib_box_decode", 2), {"data": (1, 8, 4), "in1": (1, 7, 4)}, "8 boxes", id="other anchors"
        ),
        pytest.param(lone("_contrib_box_iou", 2), {"data": (8, 4), "in1": (4,)}, "(…, 4)", id="one box without axes"),
    )
    random = st.one_of(decoded, overlaps)


def test_with_a_free_batch_boxes_are_decoded_from_the_same_anchors(tmp_path: Path) -> None:
    cases = [Case("_contrib_box_decode", {"data": (images, 5, 4), "other": (1, 5, 4)}, STDS) for images in (1, 2, 3)]
    networks = [tested.network() for tested in cases]

    model = export(networks[0], {}, {"data": ("n", 5, 4), "other": (1, 5, 4)}, name="test", larger=networks[1])

    for tested, network in zip(cases, networks, strict=True):
        values = tested.arrays(tested.inputs)
        (exact,) = evaluate(network, values).values()
        for outputs in (run_onnx(model, tmp_path, values), run_openvino(model, tmp_path, values)):
            np.testing.assert_allclose(outputs[0], exact, rtol=0, atol=1e-5)
