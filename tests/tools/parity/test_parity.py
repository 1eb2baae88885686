from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, strategies as st
from onnxruntime.transformers.float16 import convert_float_to_float16

from detections import detections
from project import ROOT
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import UsageError
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Precision
from sshconvert.tasks.comparison import Thresholds, compare_detections, match
from sshconvert.tasks.results import Detections
from sshconvert.tasks.tolerances import FACTOR, MEAN_FACTOR, PROFILES, Overrides, Tolerance, parse_limits
from sshtool.demo.scenes import draw_scene
from sshtool.parity.layers import first_divergence
from sshtool.parity.samples import OTHER_SHAPE, draw_sample, other_size, sample_names
from sshtool.parity.tensors import DECADES, compare_tensor
from sshtool.runtimes.base import Outputs
from sshtool.runtimes.loading import load
from sshtool.runtimes.mxnet import Mxnet
from sshtool.runtimes.onnxruntime import OnnxRuntime

MODEL = load_model("ssh-mxnet")
BOTH = (Precision.FP32, Precision.FP16)
LARGEST = {Precision.FP32: 1e-5, Precision.FP16: 1e-2}
LIMIT = Tolerance(1e-3, 1e-2)
Floats = npt.NDArray[np.float32]


def worst(expected: Outputs, found: Outputs) -> float:
    assert list(found) == list(expected)
    compared = [compare_tensor(name, array, found[name], LIMIT).largest for name, array in expected.items()]
    return max(float("inf") if value is None else value for value in compared)


@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("demo", (256, 192)),
        ("plain", (500, 333)),
        pytest.param("demo", (640, 640), marks=pytest.mark.long),
        pytest.param("full", (500, 333), marks=pytest.mark.long),
    ],
)
def test_every_format_and_precision_computes_what_mxnet_computes(
    name: str, size: tuple[int, int], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    checkpoint: Checkpoint = request.getfixturevalue(f"{name}_checkpoint")
    images = draw_scene(3, *size).image[None]
    expected = Mxnet(checkpoint).run(images)
    for artifact in convert(checkpoint, tmp_path, Options(precisions=BOTH, input_shape=(1, 3, *size))):
        found = worst(expected, load(artifact.path, MODEL).run(images))
        assert found <= LARGEST[artifact.precision], (artifact.format, artifact.precision, found)


@pytest.mark.long
def test_stored_halves_are_at_most_as_far_from_fp32_as_a_full_fp16_conversion(
    demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    fp32, fp16 = convert(demo_checkpoint, tmp_path, Options(("onnx",), BOTH, (1, 3, 160, 160)))
    full = convert_float_to_float16(onnx.load(fp32.path), keep_io_types=True)
    onnx.save(full, tmp_path / "full.onnx")
    scenes = [draw_scene(seed, 160, 160).image[None] for seed in range(6)]
    expected, ours, theirs = (
        [runtime.run(images) for images in scenes]
        for runtime in map(OnnxRuntime, (fp32.path, fp16.path, tmp_path / "full.onnx"))
    )
    assert 0 < max(map(worst, expected, ours)) <= max(map(worst, expected, theirs))


def test_the_original_contract_computes_the_same_as_the_built_in_one(
    demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    images = draw_scene(4, 160, 96).image[None]
    outputs = []
    for preprocessing in (True, False):
        options = Options(input_shape=(1, 3, 160, 96), preprocessing=preprocessing)
        artifacts = convert(demo_checkpoint, tmp_path / str(preprocessing), options)
        outputs += [load(artifact.path, MODEL).run(images) for artifact in artifacts]
    assert all(worst(outputs[0], other) <= 1e-5 for other in outputs[1:])


def test_a_batch_gives_each_image_its_own_answer(demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    images = np.stack([draw_scene(seed, 128, 128).image for seed in (5, 6)])
    single, batch = (
        convert(demo_checkpoint, tmp_path / str(count), Options(input_shape=(count, 3, 128, 128))) for count in (1, 2)
    )
    for one, both in zip(single, batch, strict=True):
        together = load(both.path, MODEL).run(images)
        for index in range(2):
            alone = load(one.path, MODEL).run(images[index : index + 1])
            assert worst(alone, {name: array[index : index + 1] for name, array in together.items()}) <= 1e-5


def test_a_tensor_is_measured_against_numpys_rule_of_tolerance() -> None:
    expected = np.array([[1.0, 2.0, -4.0, 0.0]], np.float32)
    found = np.array([[1.0, 2.5, -4.03, 0.0]], np.float32)
    compared = compare_tensor("a", expected, found, LIMIT)
    assert not compared.passed
    assert compared.largest == 0.5
    assert compared.mean == pytest.approx(0.53 / 4)
    assert compared.relative == pytest.approx(0.5 / 6)
    assert compared.required_atol == pytest.approx(0.5 - 0.02)
    assert compared.worst == compared.first_beyond == (0, 1)
    assert compared.p99 == pytest.approx(np.percentile([0, 0.5, 0.03, 0], 99))
    assert compared.cosine == pytest.approx((1 + 5 + 16.12) / (21**0.5 * (1 + 6.25 + 4.03**2) ** 0.5))
    assert compare_tensor("a", expected, found, Tolerance(0.481, 1e-2)).passed
    assert not compare_tensor("a", expected, found, Tolerance(0.479, 1e-2)).passed


def test_the_first_position_beyond_the_tolerance_need_not_be_the_worst() -> None:
    expected = np.zeros((1, 2, 2), np.float32)
    found = np.array([[[0, 0.1], [0.01, 0.9]]], np.float32)
    compared = compare_tensor("a", expected, found, LIMIT)
    assert (compared.first_beyond, compared.worst) == ((0, 0, 1), (0, 1, 1))


@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=50))
def test_the_histogram_counts_every_element_once_in_its_decade(values: list[float]) -> None:
    found = np.array(values, np.float32)
    histogram = compare_tensor("a", np.zeros_like(found), found, LIMIT).histogram
    edges = (0.0, *DECADES, float("inf"))
    expected = [sum(low <= value < high for value in values) for low, high in pairwise(edges)]
    assert list(histogram) == expected


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (None, "missing"),
        (np.zeros(3, np.float32), r"shape \(3,\) instead of \(2,\)"),
        (np.zeros(2), "float64 instead of float32"),
        (np.array([0, np.nan], np.float32), "not finite"),
        (np.array([0, np.inf], np.float32), "not finite"),
    ],
    ids=["missing", "shape", "dtype", "nan", "inf"],
)
def test_a_tensor_that_cannot_be_compared_says_why(found: Floats | None, problem: str) -> None:
    compared = compare_tensor("a", np.zeros(2, np.float32), found, LIMIT)
    assert not compared.passed
    assert compared.largest is None
    assert re.fullmatch(problem, compared.problem)
    assert (compared.nan, compared.inf) == (
        int(found is not None and np.isnan(found).sum()),
        int(found is not None and np.isinf(found).sum()),
    )


def test_an_original_that_is_not_finite_proves_nothing() -> None:
    broken = np.array([np.nan], np.float32)
    assert not compare_tensor("a", broken, broken, LIMIT).passed


def faces(*boxes: tuple[float, ...]) -> Detections:
    return detections(boxes)


def compare(expected: Detections, found: Detections, score_tolerance: float = 0.01) -> tuple[int, int, int, int]:
    thresholds = Thresholds(0.05, score_tolerance, overlap=0.3, overlap_tolerance=0.01)
    compared = compare_detections(expected, found, overlap=0.9, scores=LIMIT, thresholds=thresholds)
    return compared.matched, len(compared.missing), len(compared.extra), len(compared.near_threshold)


BOX, NEAR, FAR = (0, 0, 99, 99, 0.9), (1, 0, 99, 99, 0.8), (200, 200, 250, 250, 0.7)


def test_detections_are_matched_one_to_one() -> None:
    assert compare(faces(BOX, FAR), faces(BOX, NEAR)) == (1, 1, 1, 0)
    assert compare(faces(BOX, FAR), faces(FAR, BOX)) == (2, 0, 0, 0)
    assert compare(faces(), faces(BOX)) == (0, 0, 1, 0)
    assert compare(faces(), faces()) == (0, 0, 0, 0)


def test_what_overlaps_most_belongs_together_whatever_the_scores() -> None:
    close, exact = (0, 0, 99, 101, 0.95), (0, 0, 99, 99, 0.2)
    assert match(faces(BOX), faces(close, exact), 0.9).tolist() == [[0, 1]]


def test_a_detection_that_the_tolerance_alone_decides_is_set_apart() -> None:
    faint = (300, 300, 350, 350, 0.055)
    assert compare(faces(BOX, faint), faces(BOX)) == (1, 0, 0, 1)
    assert compare(faces(BOX), faces(BOX, faint)) == (1, 0, 0, 1)
    assert compare(faces(BOX, faint), faces(BOX), score_tolerance=0.001) == (1, 1, 0, 0)
    assert compare(faces(BOX, faint), faces(BOX, faint)) == (2, 0, 0, 0)


@pytest.mark.parametrize(
    ("height", "score", "outcome"),
    [
        (30, 0.5, (1, 0, 0, 1)),  # overlap 0.3
        (31, 0.5, (1, 0, 0, 1)),  # 0.31, which is as far as the tolerance goes
        (33, 0.5, (1, 1, 0, 0)),  # clearly suppressed on the other side: by something else than rounding
        (20, 0.5, (1, 1, 0, 0)),  # clearly not suppressed
        (30, 0.95, (1, 1, 0, 0)),  # nothing worse suppresses it
    ],
)
def test_a_detection_at_the_edge_of_suppression_is_set_apart(
    height: int, score: float, outcome: tuple[int, ...]
) -> None:
    beside = (0, 0, 99, height - 1, score)  # inside the first box
    assert compare(faces(BOX, beside), faces(BOX)) == outcome


def test_how_far_matched_detections_are_and_who_overtook_whom() -> None:
    moved = (0.5, 0, 99, 98, 0.85)
    compared = compare_detections(
        faces(BOX, FAR),
        faces(FAR, moved),
        overlap=0.9,
        scores=Tolerance(0.01, 0.1),
        thresholds=Thresholds(0.05, 0, 0.3, 0),
    )
    assert compared.largest_corner == 1
    assert compared.largest_score == pytest.approx(0.05)
    assert compared.score_share == pytest.approx(0.05 / 0.1)
    assert compared.score_sums == pytest.approx((1.6, 1.55))
    assert compared.order_changes == 1


def test_limits_are_for_all_outputs_or_for_one() -> None:
    outputs = ("a", "b")
    limits = Overrides(parse_limits("--atol", ["1e-5", "b:1e-4"], outputs), parse_limits("--rtol", ["a:0"], outputs))
    profile = PROFILES["FP16"]
    assert limits.tolerance(profile, "a") == Tolerance(1e-5, 0)
    assert limits.tolerance(profile, "b") == Tolerance(1e-4, profile.tensors.rtol)
    assert Overrides().tolerance(profile, "b") == profile.tensors


@pytest.mark.parametrize("text", ["c:1", "a:", "x", "-1", "nan", "inf", "a:b:1"])
def test_a_limit_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--atol"):
        parse_limits("--atol", [text], ("a", "b"))


def test_every_profile_says_why_and_coarser_precisions_are_allowed_more() -> None:
    profiles = [PROFILES[name] for name in ("FP32", "FP16", "BF16", "INT8")]
    assert all(len(profile.reason) > 50 for profile in profiles)
    for fine, coarse in pairwise(profiles):
        assert fine.tensors.atol < coarse.tensors.atol
        assert fine.matched > coarse.matched
        assert fine.corner < coarse.corner


def test_there_are_at_least_twelve_samples_and_no_two_are_alike() -> None:
    drawn = [draw_sample(name, MODEL, 96, 128) for name in sample_names()]
    assert len(drawn) == 7
    assert all(sample.images.shape == (1, 96, 128, 3) and sample.images.dtype == np.uint8 for sample in drawn)
    assert len({sample.images.tobytes() for sample in drawn}) == len(drawn)
    assert all(sample.purpose for sample in drawn)
    assert other_size().images.shape == (2, *OTHER_SHAPE[2:], 3)


def test_the_areas_of_one_colour_are_each_channel_alone_black_white_and_the_mean_in_bgr() -> None:
    image = draw_sample("colours", MODEL, 5, 7).images[0]
    assert image[:2, ::3].tolist() == [[[0, 0, 255], [0, 255, 0], [255, 0, 0]]] * 2
    assert image[2:, ::3].tolist() == [[[0, 0, 0], [255, 255, 255], [104, 117, 124]]] * 3
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 6


def test_the_first_layer_that_differs_is_named_in_the_order_of_computation() -> None:
    expected = {name: np.array([0.0, 1.0], np.float32) for name in ("first", "second", "third", "fourth")}
    found = {**expected, "second": np.array([0, 1.00001], np.float32), "third": np.array([0, 1.1], np.float32)}
    found["fourth"] = found["third"]
    divergence = first_divergence("onnx FP32", "scene-0", expected, found, 1e-3)
    assert (divergence.layer, divergence.before, divergence.compared) == ("third", "second", 4)
    assert divergence.relative == pytest.approx(0.1)
    assert not first_divergence("onnx FP32", "scene-0", expected, expected, 1e-3).layer
    del found["third"]
    assert first_divergence("onnx FP32", "scene-0", expected, found, 1e-3).layer == "fourth"


def test_the_guide_gives_the_limits() -> None:
    readme = " ".join((ROOT / "tools" / "README.md").read_text(encoding="utf-8").split())
    assert f"more than {FACTOR:g} times as far from the exact result" in readme
    assert f"on average no more than {MEAN_FACTOR:g} times" in readme
    limits = (f"{PROFILES[name].tensors.atol:g} ({name})" for name in ("FP16", "INT8"))
    assert all(text in readme for text in (*limits, f"{PROFILES['BF16'].tensors.atol:g} (bf16)"))
    shares = [f"{100 * PROFILES[name].matched:g} %" for name in ("FP16", "BF16", "INT8")]
    assert f"{shares[0]}, {shares[1]} and {shares[2]} must match" in readme
    assert f"boxes within {PROFILES['FP32'].corner:g} pixel" in readme
