"""Bilinear sampling at computed places."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import strategies as st

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case

AFFINE: Final = {"transform_type": "affine"}
TRANSFORMER: Final = AFFINE | {"sampler_type": "bilinear"}
SIZE: Final = st.integers(1, 6)

RANDOM: Final = st.one_of(
    st.builds(
        lambda n, c, image, size: Case("BilinearSampler", {"data": (n, c, *image), "grid": (n, 2, *size)}),
        SIZE,
        SIZE,
        st.tuples(SIZE, SIZE),
        st.tuples(SIZE, SIZE),
    ),
    st.builds(
        lambda n, size: Case("GridGenerator", {"data": (n, 6)}, AFFINE | {"target_shape": size}),
        SIZE,
        st.tuples(st.integers(2, 6), st.integers(2, 6)),
    ),
    st.builds(
        lambda n, h, w: Case("GridGenerator", {"data": (n, 2, h + 1, w + 1)}, {"transform_type": "warp"}),
        SIZE,
        SIZE,
        SIZE,
    ),
    st.builds(
        lambda n, c, image, size: Case(
            "SpatialTransformer", {"data": (n, c, *image), "loc": (n, 6)}, TRANSFORMER | {"target_shape": size}
        ),
        SIZE,
        SIZE,
        st.tuples(SIZE, SIZE),
        st.tuples(st.integers(2, 6), st.integers(2, 6)),
    ),
)


class TestSampling(OperatorSuite):
    cases = (
        suite_case("of another size", "BilinearSampler", (2, 3, 5, 4), (2, 2, 3, 6)),
        suite_case("of one pixel", "BilinearSampler", (1, 2, 1, 1), (1, 2, 2, 2)),
        suite_case("affine", "GridGenerator", (2, 6), transform_type="affine", target_shape=(3, 4)),
        suite_case("warp", "GridGenerator", (2, 2, 3, 4), transform_type="warp"),
        suite_case("affine", "SpatialTransformer", (2, 3, 5, 4), (2, 6), target_shape=(4, 6), **TRANSFORMER),
    )
    unsupported = (
        pytest.param(
            lone("GridGenerator", 1, transform_type="affine", target_shape="(9999, 9999)"), "places", id="large grid"
        ),
        pytest.param(lone("GridGenerator", 1), "attribute transform_type is missing", id="no transform"),
        pytest.param(
            lone("GridGenerator", 1, transform_type="affine"), "attribute target_shape is missing", id="no target"
        ),
        pytest.param(
            lone("SpatialTransformer", 2, transform_type="warp", sampler_type="bilinear", target_shape="(2, 2)"),
            "attribute transform_type='warp'",
            id="warping transformer",
        ),
    )
    misshapen = (
        pytest.param(lone("BilinearSampler", 2), DATA | {"in1": (1, 3, 2, 2)}, "does not fit", id="grid"),
        pytest.param(
            lone("GridGenerator", 1, transform_type="affine", target_shape="(2, 2)"), DATA, "(batch, 6)", id="maps"
        ),
        pytest.param(lone("GridGenerator", 1, transform_type="warp"), DATA, "(batch, 2, height", id="offsets"),
        pytest.param(lone("GridGenerator", 1, transform_type="warp"), {"data": (1, 2, 1, 4)}, "no scale", id="one row"),
    )
    random = RANDOM
