"""The verdict by the distance from the exact result."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, strategies as st

from command_line import sshtool
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import ReferencePackError, UsageError
from sshconvert.formats.registry import format_of
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Precision
from sshconvert.tasks.tolerances import FACTOR, FLOOR, UNIT, Yardstick
from sshtool.candidates import Candidate
from sshtool.parity.pack import read_pack, write_pack
from sshtool.parity.recompute import check_answers
from sshtool.parity.reference import LiveReference, Reference, all_answers, half_answers, measure
from sshtool.parity.samples import OTHER
from sshtool.parity.tensors import compare_tensor
from sshtool.parity.verification import VerifyOptions, find_reference, verify_artifacts
from sshtool.parity.verify import VerifyReport, verify
from sshtool.runtimes.base import Feed, Outputs
from sshtool.runtimes.exact import Exact
from sshtool.workspace import Workspace

MODEL = load_model("ssh-mxnet")
SIZE = (64, 64)
LAYER = "conv3_2"  # in the middle
ALL = (Precision.FP32, Precision.FP16)
pytestmark = pytest.mark.independent


@pytest.fixture(scope="module")
def folder(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    convert(plain_checkpoint, folder, Options(precisions=ALL, input_shape=(1, 3, *SIZE)))
    return folder


@pytest.fixture(scope="module")
def reference(plain_checkpoint: Checkpoint) -> Reference:
    return find_reference(MODEL, plain_checkpoint, VerifyOptions(against="exact"))


@pytest.fixture(scope="module")
def healthy(folder: Path, reference: Reference) -> VerifyReport:
    return verify(MODEL, reference, [candidate(folder, name) for name in ("FP32", "FP16")])


def candidate(folder: Path, precision: str, suffix: str = ".onnx") -> Candidate:
    return Candidate(folder / MODEL.name / precision / f"{MODEL.name}{suffix}", precision)


def faulty(original: Candidate, folder: Path, factor: float, layer: str = LAYER) -> Candidate:
    """A copy in which the strongest filter of a layer is scaled."""
    copy = folder / original.profile / original.path.name
    shutil.copytree(original.path.parent, copy.parent)
    edited = format_of(copy).edit(copy)
    weight = edited.weight(layer)
    weight[np.argmax(np.abs(weight).sum(axis=(1, 2, 3)))] *= np.float32(factor)
    edited.set_weight(layer, weight)
    edited.save()
    return replace(original, path=copy)


def test_healthy_artifacts_are_as_near_to_the_exact_result_as_float32_is(healthy: VerifyReport) -> None:
    assert healthy.passed, healthy.failures
    single, halved = healthy.artifacts
    assert single.times is not None
    assert halved.times is not None
    assert 0 < single.times <= FACTOR
    assert 0 < halved.times <= FACTOR
    assert (single.rounded, halved.rounded) == (False, True)
    assert healthy.yardsticks[0].source == "the same network in float32"
    # The cost of the precision is far more than the limit, and no failure.
    assert max(tensor.largest or 0 for item in halved.cost for tensor in item.tensors) > 1e-5


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".xml", marks=pytest.mark.long)])
@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_a_filter_that_is_off_by_a_thousandth_is_caught(
    precision: str, suffix: str, folder: Path, reference: Reference, tmp_path: Path
) -> None:
    original = candidate(folder, precision, suffix)
    fault = faulty(original, tmp_path, 1.001 if precision == "FP32" else 1.002)  # halves have steps of a thousandth
    report = verify(MODEL, reference, [fault])
    tensors = [failure.excess for failure in report.failures if failure.check == "tensor"]
    assert max(excess for excess in tensors if excess is not None) > 1.5


@pytest.mark.long
def test_random_weights_on_a_wide_image_pass_although_equal_scores_abound(
    plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    convert(plain_checkpoint, tmp_path, Options(input_shape=(1, 3, 64, 512)))
    options = VerifyOptions(checkpoint=plain_checkpoint.params_path, against="exact")
    report = verify_artifacts(Workspace(MODEL, tmp_path), options).report
    assert report.passed, report.failures
    assert all((artifact.certain or 0) > 0 for artifact in report.artifacts)


class Wrong(Exact):
    """A float32 original that contradicts the exact result, on all samples or on one."""

    only: float | None = None  # the mean of the images with wrong answers

    def run(self, feed: Feed) -> Outputs:
        outputs = super().run(feed)
        wrong = self.only is None or (isinstance(feed, np.ndarray) and abs(float(feed.mean()) - self.only) < 1e-6)
        return {name: array * np.float32(1.1 if wrong else 1) for name, array in outputs.items()}


def test_an_original_that_contradicts_the_exact_result_fails_the_verification(
    plain_checkpoint: Checkpoint, folder: Path
) -> None:
    exact = Exact(plain_checkpoint)
    reference = LiveReference(Wrong(plain_checkpoint), MODEL, exact=exact, every=True)
    report = verify(MODEL, reference, [candidate(folder, "FP32")])
    assert {failure.check for failure in report.failures} == {"reference"}


@pytest.mark.long
def test_a_sample_on_which_the_original_itself_is_far_away_proves_nothing(
    plain_checkpoint: Checkpoint, folder: Path
) -> None:
    original = Wrong(plain_checkpoint)
    reference = LiveReference(original, MODEL, exact=Exact(plain_checkpoint), every=True)
    noise = reference.answer("noise", *SIZE)
    assert noise is not None
    original.only = float(noise.sample.images.mean())
    report = verify(MODEL, reference, [candidate(folder, "FP32")])
    assert report.passed, report.failures
    assert any(note.startswith("onnx FP32: noise was left out: rounding decides") for note in report.notes)
    on_noise = next(item for item in report.artifacts[0].samples if item.sample == "noise")
    assert not {"rpn_bbox_pred_stride8"} & {tensor.output for tensor in on_noise.tensors}


def test_the_pack_of_a_machine_without_mxnet_holds_the_yardstick_and_the_answers_of_halves(
    plain_checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    pack = tmp_path / "pack.npz"
    options: list[str | Path] = ["--checkpoint", plain_checkpoint.params_path, "--input-shape", "1,3,64,64"]
    sshtool("reference", *options, "--file", pack, "-o", tmp_path, "--quiet")
    reference = read_pack(pack, MODEL)
    assert reference.yardstick(*SIZE) is not None
    assert all(OTHER in {packed.name for packed in group.samples} for group in reference.contents.halves)
    assert {"onnx", "openvino"} == {key for group in reference.contents.halves for key in group.formats}
    report = verify(MODEL, reference, [candidate(folder, "FP16")])
    assert report.passed, report.failures
    assert report.artifacts[0].rounded
    report = verify(MODEL, reference, [faulty(candidate(folder, "FP16"), tmp_path, 1.002)])
    assert "tensor" in {failure.check for failure in report.failures}


def test_false_answers_of_halves_are_not_proven(plain_checkpoint: Checkpoint, folder: Path, tmp_path: Path) -> None:
    exact = Exact(plain_checkpoint)
    live = LiveReference(exact.in_float32(), MODEL, exact=exact, every=True)
    halves = half_answers(live, [candidate(folder, "FP16").path], SIZE)
    for name, part in (("right.npz", 1.0), ("wrong.npz", 1.001)):
        answers = {
            formats: [
                replace(one, outputs={key: array * np.float32(part) for key, array in one.outputs.items()})
                for one in group
            ]
            for formats, group in halves.items()
        }
        write_pack(
            tmp_path / name,
            plain_checkpoint,
            "exact",
            all_answers(live, SIZE),
            yardstick=live.yardstick(*SIZE),
            halves=answers,
        )
    check_answers(read_pack(tmp_path / "right.npz", MODEL), plain_checkpoint)
    with pytest.raises(ReferencePackError, match="its answers are not those of the checkpoint"):
        check_answers(read_pack(tmp_path / "wrong.npz", MODEL), plain_checkpoint)


@pytest.mark.long
def test_a_seed_adds_samples_that_are_judged_too(plain_checkpoint: Checkpoint, folder: Path) -> None:
    options = VerifyOptions(
        artifacts=(candidate(folder, "FP32").path,),
        checkpoint=plain_checkpoint.params_path,
        against="exact",
        seed=7,
    )
    report = verify_artifacts(Workspace(MODEL, folder), options).report
    assert report.passed
    assert {"scene-7", "noise-7", "texture-7"} <= {item.sample for item in report.artifacts[0].samples}
    with pytest.raises(UsageError, match="--seed: a reference pack"):
        verify_artifacts(Workspace(MODEL, folder), replace(options, against="", reference=folder / "pack.npz"))


@pytest.mark.long
def test_a_file_with_weights_rounded_in_an_unknown_way_is_compared_by_constant_tolerances(
    folder: Path, reference: Reference, tmp_path: Path
) -> None:
    original = candidate(folder, "FP16")
    copy = tmp_path / "FP16" / original.path.name
    shutil.copytree(original.path.parent, copy.parent)
    model = onnx.load(copy)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float16), "unknown"))
    onnx.save(model, copy)
    report = verify(MODEL, reference, [replace(original, path=copy)])
    assert report.passed, report.failures
    assert any("constant tolerances decide, because its rounding is not understood" in note for note in report.notes)
    assert report.artifacts[0].times is None


def test_the_users_profile_has_its_constant_tolerances(folder: Path, reference: Reference, tmp_path: Path) -> None:
    fault = replace(faulty(candidate(folder, "FP16"), tmp_path, 1.002), forced_profile="FP16")
    report = verify(MODEL, reference, [fault])
    assert report.passed, report.failures
    assert "onnx FP16: constant tolerances decide, those of FP16, as --profile says" in report.notes


YARDSTICK = Yardstick("MXNet", {"a": 1e-6}, {"a": 1e-7}, {"a": 1.0})


@given(st.integers(-60, 60), st.sampled_from([0.5, 2.0, 7.9, 8.1, 30.0]))
def test_the_verdict_does_not_depend_on_the_scale_of_an_output(exponent: int, times: float) -> None:
    scale = 2.0**exponent
    expected = (scale * np.linspace(-1, 1, 50)).astype(np.float32)
    actual = expected.copy()
    actual[0] -= np.float32(scale * times * 1e-6)
    yardstick = replace(YARDSTICK, scales={"a": scale})
    tolerance = yardstick.tolerance("a", expected, saturates=False, exact=True)
    assert compare_tensor("a", expected, actual, tolerance).passed == (times < FACTOR)
    assert yardstick.times("a", expected, actual, saturates=False) == pytest.approx(times, rel=0.1)


def test_the_tolerance_of_a_probability_shrinks_as_its_logits_error_does() -> None:
    p = np.array([0.5, 0.9, 1e-4, 1 - 1e-6, 1.0], np.float32)
    allowed = YARDSTICK.tolerance("a", p, saturates=True, exact=True).at(p.astype(np.float64))
    assert allowed[:3] == pytest.approx([8e-6, 8e-6 * 0.36, FLOOR], rel=1e-3)
    assert (allowed[3:] == FLOOR).all()
    assert YARDSTICK.unit("unknown") == UNIT


def test_a_fault_that_is_small_everywhere_shows_in_the_mean() -> None:
    expected = np.linspace(-1, 1, 100, dtype=np.float32)
    tolerance = YARDSTICK.tolerance("a", expected, saturates=False, exact=True)
    compared = compare_tensor("a", expected, expected + np.float32(4e-6), tolerance)
    assert compared.first_beyond is None
    assert not compared.passed


@pytest.mark.long
def test_the_yardstick_is_the_largest_distance_over_the_samples(plain_checkpoint: Checkpoint) -> None:
    exact = Exact(plain_checkpoint)
    reference = LiveReference(exact.in_float32(), MODEL, exact=exact, every=True)
    answers = reference.answers(*SIZE)[:2]

    def largest(errors: Mapping[str, float]) -> float:
        return max(errors.values())

    both, *each = (measure(part, exact.in_float32(), MODEL) for part in (answers, answers[:1], answers[1:]))
    assert largest(both.distances) <= max(largest(one.distances) for one in each)
    assert 0 < largest(both.distances) < 1e-4
