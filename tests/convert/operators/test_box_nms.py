"""box_nms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import Parameter, Value, lone
from operator_suite import Case, OperatorSuite
from sshconvert.arrays import Array
from sshconvert.graph import Shape

NMS = "_contrib_box_nms"
ROWS = (2, 40, 6)
SSD: Final[Mapping[str, Value]] = {
    "overlap_thresh": 0.45,
    "valid_thresh": 0.01,
    "topk": 400,
    "id_index": 0,
    "score_index": 1,
    "coord_start": 2,
}


def candidates(shapes: Mapping[str, Shape], random: np.random.Generator, *, grid: bool = False) -> dict[str, Array]:
    """Rows of six or more columns: a class from -1 to 2, a score, some of them equal, and boxes of which many overlap.

    On the grid there are few boxes, so that overlaps are equal to thresholds; some have no or a negative size.
    """
    if "data" not in shapes:
        return {}
    shape = shapes["data"]
    values = random.normal(size=shape)
    values[..., 0] = random.integers(-1, 3, shape[:-1])
    values[..., 1] = random.integers(-3, 12, shape[:-1]) / 10 if grid else random.uniform(-0.2, 1, shape[:-1])
    if grid:
        values[..., 2:6] = random.integers(-1, 5, (*shape[:-1], 4))
    else:
        values[..., 2:4] = random.uniform(-0.2, 0.6, (*shape[:-1], 2))
        values[..., 4:6] = values[..., 2:4] + random.uniform(0, 0.6, (*shape[:-1], 2))
    return {"data": values}


def grid_candidates(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    return candidates(shapes, random, grid=True)


def turned(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    """The columns in another order: the box, the score, the class."""
    values = grid_candidates(shapes, random)
    return {name: np.concatenate([rows[..., 2:], rows[..., 1::-1]], axis=-1) for name, rows in values.items()}


def nothing_good(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    return {name: -abs(random.normal(size=shape)) for name, shape in shapes.items()}


TURNED: Final[Mapping[str, Value]] = {"coord_start": 0, "score_index": 4, "id_index": 5}


def nms(name: str, shape: Shape = ROWS, **attributes: Value) -> Parameter:
    tested = Case(NMS, {"data": shape}, attributes, values=grid_candidates, tolerance=0, free=(0,))
    return pytest.param(tested, id=name)


def replaced(parameter: Parameter, **changes: Value) -> Parameter:
    return pytest.param(replace(parameter.values[0], **changes), id=parameter.id)


attributes = st.fixed_dictionaries(
    {},
    optional={
        "overlap_thresh": st.sampled_from((0, 0.25, 0.3, 1 / 3, 0.45, 0.5, 0.7, 1, 1.5)),
        "valid_thresh": st.sampled_from((-1, 0, 0.01, 0.2, 0.5)),
        "topk": st.sampled_from((-1, 0, 1, 5, 20, 60)),
        "id_index": st.sampled_from((-1, 0)),
        "background_id": st.sampled_from((-1, 0, 2)),
        "force_suppress": st.booleans(),
        "out_format": st.sampled_from(("corner", "center")),
    },
)
leading = st.lists(st.integers(1, 3), max_size=3)


class TestSuppression(OperatorSuite):
    cases = (
        nms("by default"),
        nms("of classes", **SSD),
        nms("of the best of classes", **{**SSD, "topk": 12}),
        nms("of the best", topk=7, overlap_thresh=0.3),
        nms("of all classes", **{**SSD, "force_suppress": True}),
        nms("at a threshold that overlaps equal", (3, 40, 6), overlap_thresh=0.5, id_index=0),
        nms("without a background", id_index=0, background_id=2),
        nms("of one candidate", topk=1, id_index=0),
        nms("of none", topk=0),
        nms("of one row", (1, 1, 6), id_index=0),
        nms("of one image", (40, 6), **SSD),
        nms("of images in three axes", (2, 1, 2, 20, 7), **{**SSD, "topk": 9}),
        nms("with a negative score", valid_thresh=-0.25),
        nms("that never suppresses", overlap_thresh=1.5),
        nms("of touching boxes", overlap_thresh=0),
        nms("to centres", out_format="center"),
        replaced(nms("in another order of columns", **TURNED, out_format="center"), values=turned),
        replaced(nms("of centres", in_format="center", overlap_thresh=0.34), values=grid_candidates),
        replaced(nms("of random boxes", (2, 200, 6), **SSD), values=candidates),
        replaced(nms("of more images than at once", (27, 400, 6), id_index=0, overlap_thresh=0.5), values=candidates),
        replaced(nms("without a candidate"), values=nothing_good),
        replaced(nms("of any number of boxes", (2, 9, 6), **{**SSD, "topk": 15}), free=(1,)),
    )
    unsupported = (
        pytest.param(lone(NMS, 1, overlap_thresh="-0.1"), "overlap_thresh='-0.1'", id="a negative threshold"),
        pytest.param(lone(NMS, 1, in_format="xywh"), "in_format", id="a format"),
        pytest.param(lone(NMS, 1, nms="1"), "attribute nms='1' is not known", id="an attribute"),
    )
    misshapen = (
        pytest.param(lone(NMS, 1), {"data": (6,)}, "(…, boxes, columns)", id="one row"),
        pytest.param(lone(NMS, 1), {"data": (9, 5)}, "do not fit 5 columns", id="too few columns"),
        pytest.param(lone(NMS, 1, score_index="2"), {"data": (9, 6)}, "do not fit", id="a score among coordinates"),
        pytest.param(lone(NMS, 1, id_index="1"), {"data": (9, 6)}, "do not fit", id="a class that is the score"),
    )
    random = st.builds(
        lambda axes, boxes, columns, grid, attributes: Case(
            NMS,
            {"data": (*axes, boxes, columns)},
            attributes,
            values=grid_candidates if grid else candidates,
            tolerance=0 if attributes.get("out_format") != "center" else 1e-6,
        ),
        leading,
        st.integers(1, 40),
        st.integers(6, 8),
        st.booleans(),
        attributes,
    )
