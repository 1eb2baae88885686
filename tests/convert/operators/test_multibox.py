"""MultiBoxDetection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import Parameter, Value, lone, run_onnx
from operator_suite import Case, OperatorSuite, run_openvino
from sshconvert.arrays import Array
from sshconvert.evaluation import evaluate
from sshconvert.export import export
from sshconvert.graph import Shape

DETECTION = "_contrib_MultiBoxDetection"
SSD: Final[Mapping[str, Value]] = {"nms_threshold": 0.45, "nms_topk": 400, "variances": "(0.1, 0.1, 0.2, 0.2)"}


def predictions(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    """Scores, many of them equal, and anchors of which many overlap."""
    if "third" not in shapes:
        return {}
    scores = random.integers(0, 8, shapes["data"]) / 8
    corners = random.integers(0, 6, (*shapes["third"][:2], 2)) / 8
    sizes = random.integers(0, 4, (*shapes["third"][:2], 2)) / 8
    offsets = random.integers(-2, 3, shapes["other"]) * random.integers(0, 2, shapes["other"])
    return {"data": scores, "other": offsets, "third": np.concatenate([corners, corners + sizes], axis=2)}


def detection(images: int, classes: int, anchors: int, **attributes: Value) -> Case:
    inputs = {"data": (images, classes, anchors), "other": (images, 4 * anchors), "third": (1, anchors, 4)}
    return Case(DETECTION, inputs, attributes, values=predictions)


def named(name: str, images: int = 2, classes: int = 4, anchors: int = 40, **attributes: Value) -> Parameter:
    return pytest.param(detection(images, classes, anchors, **attributes), id=name)


class TestMultiBox(OperatorSuite):
    cases = (
        named("by default"),
        named("as SSD has it", **SSD),
        named("of the best", nms_topk=7),
        named("of all classes", force_suppress=True, nms_topk=20),
        named("of one class", 1, 2, 30, force_suppress=True),
        named("without clipping", clip=False, threshold=0.5),
        named("of one anchor", 1, 2, 1),
        named("without suppression", nms_threshold=0),
        named("with a threshold above 1", nms_threshold=1.5),
        named("of equal boxes", nms_threshold=1),
        named("of low scores", threshold=-2),
        named("without a detection", threshold=2),
        named("of another background", background_id=1),
    )
    unsupported = (
        pytest.param(lone(DETECTION, 3, keep_topk="1"), "attribute keep_topk='1' is not known", id="an attribute"),
        pytest.param(lone(DETECTION, 3, variances="(1, 1)"), "expected 4 numbers", id="two variances"),
    )
    misshapen = (
        pytest.param(
            lone(DETECTION, 3),
            {"data": (1, 2, 5), "in1": (1, 20), "in2": (1, 6, 4)},
            "do not fit scores",
            id="other anchors",
        ),
        pytest.param(
            lone(DETECTION, 3), {"data": (1, 1, 5), "in1": (1, 20), "in2": (1, 5, 4)}, "(N, classes", id="no class"
        ),
    )
    random = st.builds(
        lambda images, classes, anchors, attributes: detection(images, classes, anchors, **attributes),
        st.integers(1, 3),
        st.integers(2, 5),
        st.integers(1, 40),
        st.fixed_dictionaries(
            {},
            optional={
                "clip": st.booleans(),
                "threshold": st.sampled_from((-2, 0, 0.01, 0.25, 0.5)),
                "nms_threshold": st.sampled_from((-1, 0, 0.25, 1 / 3, 0.45, 0.5, 0.7, 1, 2)),
                "force_suppress": st.booleans(),
                "nms_topk": st.sampled_from((-1, 0, 1, 5, 20, 60)),
                "variances": st.sampled_from(("(0.1, 0.1, 0.2, 0.2)", "(1, 1, 1, 1)")),
            },
        ),
    )


def test_the_old_name_is_the_same_operator() -> None:
    tested = detection(1, 2, 3)
    old = Case("MultiBoxDetection", tested.inputs)

    assert old.network().operators == tested.network().operators


def test_with_a_free_batch_it_computes_the_same_for_every_number_of_images(tmp_path: Path) -> None:
    cases = [detection(images, 4, 40, nms_topk=20) for images in (1, 2, 3)]
    networks = [tested.network() for tested in cases]
    inputs = {"data": ("n", 4, 40), "other": ("n", 160), "third": (1, 40, 4)}

    model = export(networks[0], {}, inputs, name="test", larger=networks[1])

    for tested, network in zip(cases, networks, strict=True):
        values = tested.arrays(tested.inputs)
        (exact,) = evaluate(network, values).values()
        for outputs in (run_onnx(model, tmp_path, values), run_openvino(model, tmp_path, values)):
            np.testing.assert_allclose(outputs[0], exact, rtol=0, atol=1e-5)
