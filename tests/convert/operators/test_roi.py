"""ROIAlign and ROIPooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import Parameter, Value, lone, run_onnx
from operator_suite import Case, OperatorSuite, run_openvino
from sshconvert.arrays import Array
from sshconvert.evaluation import evaluate
from sshconvert.export import export
from sshconvert.graph import Shape

ALIGN, POOLING, SENSITIVE = "_contrib_ROIAlign", "ROIPooling", "_contrib_PSROIPooling"
MAP = (2, 8, 9, 7)


def regions(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    """Regions in, beside and around maps of up to 160 pixels, some of which are no pixel wide."""
    if "rois" not in shapes:
        return {}
    images, count = shapes["data"][0], shapes["rois"][0]
    corners = random.uniform(-40, 160, (count, 4))
    corners[::3] = corners[::3].round()
    corners[:, 2:] = np.where(random.random((count, 2)) < 0.8, corners[:, :2] + abs(corners[:, 2:]), corners[:, 2:])
    return {"rois": np.concatenate([random.integers(0, images, (count, 1)), corners], axis=1)}


def positive_regions(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    values = regions(shapes, random)
    for rois in values.values():
        rois[:, 3:] = np.maximum(rois[:, 3:], rois[:, 1:3] + 1)
    return values


def region_case(operator: str, data: Shape, count: int, **attributes: Value) -> Case:
    values = positive_regions if attributes.get("aligned") else regions
    return Case(operator, {"data": data, "rois": (count, 5)}, attributes, values=values)


def named(name: str, operator: str, **attributes: Value) -> Parameter:
    attributes = {"pooled_size": (3, 2), "spatial_scale": 0.0625} | attributes
    return pytest.param(region_case(operator, MAP, 40, **attributes), id=f"{operator} {name}")


scales = st.sampled_from((0.0625, 0.25, 1 / 30, 1.0))
sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))
random_align = st.builds(
    lambda size, channels, height, width, attributes: region_case(
        ALIGN, (2, channels * size[0] * size[1], height, width), 9, pooled_size=size, **attributes
    ),
    sizes,
    st.integers(1, 2),
    st.integers(1, 12),
    st.integers(1, 12),
    st.fixed_dictionaries(
        {"spatial_scale": scales, "sample_ratio": st.integers(1, 3)},
        optional={
            "position_sensitive": st.booleans(),
            "aligned": st.booleans(),
        },
    ),
)
random_pooling = st.builds(
    lambda size, height, width, scale: region_case(
        POOLING, (2, 3, height, width), 9, pooled_size=size, spatial_scale=scale
    ),
    sizes,
    st.integers(1, 12),
    st.integers(1, 12),
    scales,
)


def sensitive(data: Shape, **attributes: Value) -> Case:
    """The case of a pooling of a map with as many images and pixels as `data`."""
    groups = attributes.get("group_size") or attributes["pooled_size"]
    shape = (data[0], attributes["output_dim"] * groups**2, *data[2:])
    return replace(region_case(SENSITIVE, shape, 9, **attributes), free=())


random_sensitive = st.builds(
    lambda height, width, attributes: sensitive((2, 0, height, width), **attributes),
    st.integers(1, 12),
    st.integers(1, 12),
    st.fixed_dictionaries(
        {"spatial_scale": scales, "pooled_size": st.integers(1, 4), "output_dim": st.integers(1, 3)},
        optional={"group_size": st.integers(0, 4)},
    ),
)


class TestRegions(OperatorSuite):
    cases = (
        named("of samples", ALIGN, sample_ratio=2),
        named("of one bin", ALIGN, sample_ratio=1, pooled_size=(1, 1)),
        named("of many samples", ALIGN, spatial_scale=0.1, sample_ratio=5),
        named("of a channel each", ALIGN, pooled_size=(2, 2), sample_ratio=2, position_sensitive=True),
        named("at centres", ALIGN, sample_ratio=2, aligned=True),
        named(
            "at centres of a channel each",
            ALIGN,
            sample_ratio=1,
            pooled_size=(4, 2),
            aligned=1,
            position_sensitive=1,
        ),
        named("of maxima", POOLING),
        named("of one maximum", POOLING, pooled_size="(1, 1)", spatial_scale=0.1),
        pytest.param(
            sensitive(MAP, pooled_size=3, output_dim=2, spatial_scale=0.0625), id="_contrib_PSROIPooling of means"
        ),
        pytest.param(
            sensitive(MAP, pooled_size=4, group_size=3, output_dim=1, spatial_scale=0.1),
            id="_contrib_PSROIPooling of fewer groups",
        ),
        named("of more bins than pixels", POOLING, pooled_size="(14, 14)"),
    )
    unsupported = (
        pytest.param(lone(ALIGN, 2, pooled_size="(7, 7)"), "spatial_scale is missing", id="no scale"),
        pytest.param(lone(ALIGN, 2, spatial_scale="1"), "pooled_size is missing", id="no size"),
        pytest.param(
            lone(ALIGN, 2, pooled_size="(7, 7)", spatial_scale="1", sample_ratio="-1"), "sample_ratio", id="by pixels"
        ),
        pytest.param(lone(POOLING, 2, pooled_size="(7, 7)", spatial_scale="1", mode="avg"), "mode", id="an attribute"),
    )
    misshapen = (
        pytest.param(
            lone(ALIGN, 2, pooled_size="(7, 7)", spatial_scale="1", sample_ratio="2"),
            {"data": MAP, "in1": (3, 4)},
            "(regions, 5)",
            id="regions without an image",
        ),
        pytest.param(
            lone(ALIGN, 2, pooled_size="(3, 3)", spatial_scale="1", sample_ratio="2", position_sensitive="1"),
            {"data": MAP, "in1": (3, 5)},
            "8 channels do not divide into 9 bins",
            id="a channel each",
        ),
        pytest.param(
            lone(SENSITIVE, 2, pooled_size="3", output_dim="1", spatial_scale="1"),
            {"data": MAP, "in1": (3, 5)},
            "8 channels, expected 9",
            id="channels of groups",
        ),
        pytest.param(
            lone(POOLING, 2, pooled_size="(3, 3)", spatial_scale="1"),
            {"data": (2, 3, 4), "in1": (3, 5)},
            "NCHW",
            id="a row",
        ),
    )
    random = st.one_of(random_align, random_pooling, random_sensitive)


@pytest.mark.parametrize("sensitive", [False, True])
def test_a_region_with_a_negative_image_is_0_and_the_others_keep_their_values(tmp_path: Path, sensitive: bool) -> None:
    """MXNet 1.9.1 leaves arbitrary numbers there."""
    attributes = {"pooled_size": (2, 2), "spatial_scale": 1, "sample_ratio": 2, "position_sensitive": sensitive}
    rois = np.array([[1, 1, 1, 6, 6], [-1, 1, 1, 6, 6], [0, 0, 0, 4, 4], [-0.5, 0, 0, 4, 4]], np.float32)
    network = Case(ALIGN, {"data": MAP, "rois": rois.shape}, attributes).network()
    values = {"data": np.random.default_rng(3).normal(size=MAP).astype(np.float32), "rois": rois}
    (exact,) = evaluate(network, values).values()

    model = export(network, {}, {"data": MAP, "rois": rois.shape}, name="test")

    np.testing.assert_array_equal(exact[1], 0)
    np.testing.assert_array_equal(exact[2], exact[3])
    for outputs in (run_onnx(model, tmp_path, values), run_openvino(model, tmp_path, values)):
        np.testing.assert_allclose(outputs[0], exact, rtol=0, atol=1e-5)
