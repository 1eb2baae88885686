from __future__ import annotations

import io
import json
import re
import shutil
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from rich.console import Console

from command_line import sshtool
from detections import SSH, detections, table
from reference_packs import computed_answers, empty_answers
from sshconvert.checkpoint import DEMO, Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import ArtifactError, ImageError, ReferencePackError, RuntimeUnavailableError, UsageError
from sshconvert.formats.registry import artifact_files
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Postprocessing, Precision
from sshconvert.tasks.comparison import DetectionComparison
from sshconvert.tasks.results import Detections
from sshconvert.tasks.tolerances import PROFILES, Overrides
from sshtool.candidates import Candidate, find_candidates
from sshtool.demo.scenes import draw_scene
from sshtool.parity.pack import write_pack
from sshtool.parity.reference import Answer, LiveReference, Reference, StoredAnswers
from sshtool.parity.samples import OTHER, Sample, draw_sample, sample_names
from sshtool.parity.verification import (
    ConvertedAgain,
    VerifyOptions,
    find_reference,
    user_images,
    verify_artifacts,
)
from sshtool.parity.verify import Rules, SampleComparison, VerifyReport, _Judge, verify
from sshtool.progress import silent
from sshtool.report.comparison import comparison_table
from sshtool.report.html import render_html
from sshtool.report.junit import render_junit
from sshtool.report.markdown import render_markdown
from sshtool.runtimes.base import Outputs
from sshtool.runtimes.exact import Exact
from sshtool.runtimes.mxnet import Mxnet
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.workspace import Workspace

MODEL = load_model("ssh-mxnet")
SIZE = (128, 128)
SMALL = (64, 64)
BOTH = (Precision.FP32, Precision.FP16)
LABELS = ["onnx FP32", "openvino FP32", "onnx FP16", "openvino FP16"]


@pytest.fixture(scope="module")
def output_dir(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    convert(checkpoint, folder, Options(precisions=BOTH, input_shape=(1, 3, *SIZE)))
    return folder


@pytest.fixture(scope="module")
def small_dir(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same at a smaller size, for the tests that run every sample again."""
    folder = tmp_path_factory.mktemp("artifacts")
    convert(checkpoint, folder, Options(precisions=BOTH, input_shape=(1, 3, *SMALL)))
    return folder


@pytest.fixture(scope="module")
def whole(checkpoint: Checkpoint, output_dir: Path) -> Reference:
    """MXNet, and where it cannot be installed the healthy ONNX file, on every sample."""
    try:
        return LiveReference(Mxnet(checkpoint), MODEL)
    except RuntimeUnavailableError:
        return LiveReference(OnnxRuntime(output_dir / MODEL.name / "FP32" / f"{MODEL.name}.onnx"), MODEL)


class FewSamples(Reference):
    """A part of a reference, for the tests where more samples show nothing more."""

    def __init__(self, whole: Reference) -> None:
        self.source, self.weights, self._whole = whole.source, whole.weights, whole

    def answers(self, *size: int) -> list[Answer]:
        return [answer for answer in self._whole.answers(*size) if answer.sample.name in ("scene-0", "noise")]

    def other_size(self) -> Answer | None:
        return self._whole.other_size()


@pytest.fixture(scope="module")
def reference(whole: Reference) -> Reference:
    return FewSamples(whole)


@pytest.fixture(scope="module")
def candidates(output_dir: Path) -> tuple[Candidate, ...]:
    return find_candidates(Workspace(MODEL, output_dir))


@pytest.fixture(scope="module")
def healthy(
    whole: Reference,
    candidates: tuple[Candidate, ...],
    checkpoint: Checkpoint,
    tmp_path_factory: pytest.TempPathFactory,
) -> VerifyReport:
    again = ConvertedAgain(MODEL, checkpoint, tmp_path_factory.mktemp("again"))
    return verify(MODEL, whole, candidates, convert_again=again.path)


def copied(candidate: Candidate, folder: Path) -> Path:
    target = folder / "FP32"
    target.mkdir(parents=True)
    for path in artifact_files(candidate.path):
        shutil.copy(path, target)
    return target / candidate.path.name


def planted(candidate: Candidate, folder: Path, change: Callable[[onnx.ModelProto], Any]) -> Candidate:
    """A copy of an ONNX artifact with a fault in it."""
    path = copied(candidate, folder)
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return Candidate(path, "FP32")


def add_to_weight(name: str, amount: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        stored = next(item for item in model.graph.initializer if item.name == name)
        array = onnx.numpy_helper.to_array(stored).copy()
        array.flat[array.size // 2] += amount
        stored.CopyFrom(onnx.numpy_helper.from_array(array, name))

    return change


def test_healthy_artifacts_pass_and_the_report_holds_every_figure(healthy: VerifyReport, whole: Reference) -> None:
    assert healthy.passed
    assert not healthy.failures
    assert [artifact.label for artifact in healthy.artifacts] == LABELS
    assert healthy.reference == whole.source
    for artifact in healthy.artifacts:
        names = [item.sample for item in artifact.samples]
        assert [*sample_names(), OTHER][: len(names)] == names
        assert all([tensor.output for tensor in item.tensors] == list(MODEL.output_names) for item in artifact.samples)
        assert artifact.largest is not None
        assert artifact.largest <= (1e-5 if artifact.profile.name == "FP32" else 1e-2)
        assert artifact.matched > 20
        assert artifact.missing == artifact.extra == 0
        assert len(artifact.files) == (1 if artifact.label.startswith("onnx") else 2)
        assert artifact.declaration.input_shape == (1, 3, *SIZE)


@pytest.mark.usefixtures("mxnet")
def test_a_fixed_shape_is_converted_again_for_the_batch_of_another_size(healthy: VerifyReport) -> None:
    for artifact in healthy.artifacts:
        last = artifact.samples[-1]
        assert (last.sample, last.converted_again) == (OTHER, True)
        assert len(last.detections) == 2
        assert not artifact.skipped
    notes = [note for note in healthy.notes if "converted again" in note]
    assert notes == [f"{', '.join(LABELS)}: the shape is fixed, so the checkpoint was converted again for {OTHER}"]


def test_without_a_checkpoint_the_batch_of_another_size_is_left_out_and_the_report_says_so(
    reference: Reference, candidates: tuple[Candidate, ...]
) -> None:
    report = verify(MODEL, reference, candidates[:1])
    assert report.passed
    assert OTHER in report.artifacts[0].skipped
    assert any(f"{OTHER} was left out" in note for note in report.notes)


def test_the_same_inputs_give_the_same_report(reference: Reference, candidates: tuple[Candidate, ...]) -> None:
    one, other = (verify(MODEL, reference, candidates[:2]) for _ in range(2))
    assert one == other


def test_the_report_is_json_without_surprises(healthy: VerifyReport) -> None:
    text = json.dumps(asdict(healthy), default=str, allow_nan=False)
    assert json.loads(text)["artifacts"][0]["samples"][0]["tensors"][0]["output"] == MODEL.output_names[0]


def test_an_fp16_file_in_the_place_of_fp32_is_found_by_its_word_and_by_its_numbers(
    reference: Reference, candidates: tuple[Candidate, ...]
) -> None:
    for half in candidates[2:]:
        report = verify(MODEL, reference, [Candidate(half.path, "FP32")])
        assert {"precision", "tensor"} <= {failure.check for failure in report.failures}
    assert verify(MODEL, reference, candidates[2:]).passed


def test_an_artifact_of_another_checkpoint_is_found_by_its_word(
    reference: Reference, candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    def rename(model: onnx.ModelProto) -> None:
        next(entry for entry in model.metadata_props if entry.key == "weights").value = "params-sha256:" + "0" * 64

    report = verify(MODEL, reference, [planted(candidates[0], tmp_path, rename)])
    assert [failure.check for failure in report.failures] == ["weights"]


def test_all_failures_are_collected_and_the_worst_comes_first(
    reference: Reference, candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    broken = tmp_path / "FP16" / "broken.onnx"
    broken.parent.mkdir()
    broken.write_bytes(candidates[0].path.read_bytes()[:1000])
    small = planted(candidates[0], tmp_path, add_to_weight("conv4_2_weight", 3.0))
    report = verify(MODEL, reference, [candidates[0], small, Candidate(broken, "FP16")])
    assert not report.passed
    assert [artifact.passed for artifact in report.artifacts] == [True, False]
    assert report.failures[0].check == "load"
    assert report.failures[0].artifact == "onnx FP16"
    excesses = [failure.excess for failure in report.failures if failure.excess is not None]
    assert excesses == sorted(excesses, reverse=True)
    assert {failure.sample for failure in report.failures} >= {"scene-0", "noise"}
    assert all("\n" not in failure.message for failure in report.failures)


def drop_output(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def swap_order(model: onnx.ModelProto) -> None:
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([outputs[1], outputs[0], *outputs[2:]])


def as_double(model: onnx.ModelProto) -> None:
    name = model.graph.output[1].name
    node = next(node for node in model.graph.node if name in node.output)
    node.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Cast", ["before"], [name], to=onnx.TensorProto.DOUBLE))
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("change", "checks", "message"),
    [
        (drop_output, {"names", "tensor", "detections"}, "outputs missing"),
        (swap_order, {"order"}, "come in the order rpn_bbox_pred_stride32"),
        (as_double, {"tensor"}, "float64 instead of float32"),
        (add_to_weight("rpn_bbox_pred_stride8_bias", float("nan")), {"tensor", "detections"}, "not finite"),
    ],
    ids=["missing", "order", "dtype", "nan"],
)
def test_names_order_type_and_finiteness_are_checked_before_any_figure(
    change: Callable[[onnx.ModelProto], Any],
    checks: set[str],
    message: str,
    reference: Reference,
    candidates: tuple[Candidate, ...],
    tmp_path: Path,
) -> None:
    report = verify(MODEL, reference, [planted(candidates[0], tmp_path, change)])
    assert {failure.check for failure in report.failures} <= checks
    assert report.failures[0].excess is None
    assert any(message in failure.message for failure in report.failures)


def faint(task: Any, outputs: Any, size: Any) -> Any:
    box = np.array([[1, 1, 30, 30, task.score_threshold + 1e-6]], np.float32)
    return [Detections.join([found, detections(box)]) for found in task.decode(outputs, size)]


def moved(task: Any, outputs: Any, size: Any) -> Any:
    return [detections(table(found) + np.array([0.5, 0, 0, 0, 0])) for found in task.decode(outputs, size)]


def test_a_detection_at_the_threshold_is_reported_apart_and_is_no_error(
    reference: Reference, candidates: tuple[Candidate, ...]
) -> None:
    report = verify(MODEL, reference, candidates[:1], Rules(decode=faint))
    assert report.passed
    assert report.artifacts[0].near_threshold == len(report.artifacts[0].samples)
    assert any("not counted as errors" in note for note in report.notes)


def test_a_box_that_matches_but_lies_elsewhere_is_an_error(
    reference: Reference, candidates: tuple[Candidate, ...]
) -> None:
    report = verify(MODEL, reference, candidates[:1], Rules(decode=moved))
    assert "corners" in {failure.check for failure in report.failures}


def test_limits_of_the_user_take_the_place_of_the_profiles(
    reference: Reference, candidates: tuple[Candidate, ...]
) -> None:
    name = "rpn_bbox_pred_stride8"
    strict = Overrides(atol={name: 0.0}, rtol={"": 0.0})
    report = verify(MODEL, reference, candidates[2:3], Rules(strict))
    assert {failure.output for failure in report.failures} == {name}
    assert all(failure.excess is None for failure in report.failures)
    assert not verify(MODEL, reference, candidates[2:3], Rules(Overrides(atol={"": 1e-6}))).passed
    assert verify(MODEL, reference, candidates[2:3], Rules(Overrides(atol={"": 1.0}))).passed


def test_a_hasty_verification_leaves_at_the_first_failing_sample(
    reference: Reference, candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    bad = planted(candidates[0], tmp_path, add_to_weight("conv4_2_weight", 3.0))
    report = verify(MODEL, reference, [bad], Rules(thorough=False))
    assert not report.passed
    assert len(report.artifacts[0].samples) == 1


def test_two_artifacts_never_share_a_name_in_the_report(
    reference: Reference, candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    other = Candidate(copied(candidates[0], tmp_path), "FP32")
    report = verify(MODEL, reference, [candidates[0], other, candidates[0]])
    labels = [artifact.label for artifact in report.artifacts]
    assert labels == [f"onnx FP32 ({candidates[0].path})", f"onnx FP32 ({other.path})"]


def test_an_artifact_for_batches_is_fed_batches(reference: Reference, checkpoint: Checkpoint, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path, Options(input_shape=(3, 3, *SIZE)))
    report = verify(MODEL, reference, find_candidates(Workspace(MODEL, tmp_path)))
    assert report.passed
    assert all(len(item.detections) == 3 for artifact in report.artifacts for item in artifact.samples)


def test_where_nothing_was_compared_nothing_was_proved(
    whole: Reference, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Biases that keep every score of a face near 0 leave no detection to compare; a runtime may not show the heads."""

    def show_nothing(*_: object) -> Outputs:
        raise ArtifactError("shows no inner tensors")

    biases = {f"rpn_cls_score_stride{head.stride}_bias": len(head.scales) for head in SSH.heads}
    background = {
        name: checkpoint.parameters[name] + np.repeat(np.array([50, 0], np.float32), pairs)
        for name, pairs in biases.items()
    }
    blind = replace(checkpoint, parameters={**checkpoint.parameters, **background})
    heads, faces = (
        Options(("onnx",), input_shape=(1, 3, *SIZE), postprocessing=faces) for faces in (None, Postprocessing())
    )
    reference = LiveReference(OnnxRuntime(convert(blind, tmp_path / "heads", heads)[0].path), MODEL)
    blind_file = Candidate(convert(blind, tmp_path / "blind", faces)[0].path)
    assert verify(MODEL, FewSamples(reference), [blind_file]).passed
    monkeypatch.setattr(OnnxRuntime, "tensors", show_nothing)
    report = verify(MODEL, FewSamples(reference), [blind_file])
    assert [failure.check for failure in report.failures] == ["evidence"]
    assert not report.passed
    seeing = convert(checkpoint, tmp_path / "seeing", faces)[0].path
    assert verify(MODEL, FewSamples(whole), [Candidate(seeing)]).passed


def crowd(number: int, score: float) -> Any:
    """Decoding that finds so many boxes more in each image, side by side."""

    def decode(task: Any, outputs: Any, size: Any) -> Any:
        places = np.arange(number) * 40.0
        boxes = np.stack([places, places * 0 + 1000, places + 30, places * 0 + 1030, places * 0 + score], axis=1)
        return [Detections.join([found, detections(boxes)]) for found in task.decode(outputs, size)]

    return decode


@pytest.mark.parametrize(("profile", "score"), [("FP32", 0.05001), ("FP16", 0.055), ("BF16", 0.1), ("INT8", 0.2)])
def test_no_more_is_excused_than_rounding_explains(
    profile: str, score: float, reference: Reference, candidates: tuple[Candidate, ...]
) -> None:
    held = replace(candidates[0], forced_profile=profile)
    few = PROFILES[profile].excused.few
    one_too_many = int(PROFILES[profile].excused.of(10**3)) + 1
    assert verify(MODEL, reference, [held], Rules(decode=crowd(few // 2, score))).passed
    report = verify(MODEL, reference, [held], Rules(decode=crowd(one_too_many, score)))
    assert {failure.check for failure in report.failures} == {"excused"}
    assert not report.artifacts[0].extra


def test_the_excused_are_counted_in_every_report(reference: Reference, candidates: tuple[Candidate, ...]) -> None:
    held = replace(candidates[0], forced_profile="INT8")
    for number in (1, 5600):
        report = verify(MODEL, reference, [held], Rules(decode=crowd(number, 0.2)))
        assert report.passed == (number == 1)
        excused = report.artifacts[0].near_threshold
        assert excused == number * len(report.artifacts[0].samples)
        console = Console(file=io.StringIO(), width=300)
        console.print(comparison_table(report, plain=True))
        assert isinstance(console.file, io.StringIO)
        for text in (console.file.getvalue(), render_html(report, {}), render_markdown(report), render_junit(report)):
            assert re.search(rf"\b{excused}\b|\b{excused:,}\b", text), text[:400]


def test_all_images_together_may_have_fewer_excuses_than_each_alone() -> None:
    for profile in PROFILES.values():
        near = DetectionComparison(
            expected=100, matched=100, near_threshold=((0.0,) * 5,) * int(profile.excused.of(100))
        )
        for images, checks in ((1, []), (40, ["excused"])):
            judge = _Judge("a", MODEL, LiveReference.__new__(LiveReference), Rules(), lambda *_: None, silent)
            judge.judge_results([SampleComparison("scene-0", ("scene-0",) * images, (), (near,) * images)], profile)
            assert [failure.check for failure in judge.failures] == checks


def test_an_image_is_read_when_it_is_needed_and_must_stay_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(draw_scene(1, 64, 64).image).save(path)
    (draw,) = user_images([str(path)], MODEL).values()
    assert draw(64, 64).images.tobytes() == draw(64, 64).images.tobytes()
    Image.fromarray(draw_scene(2, 64, 64).image).save(path)
    with pytest.raises(ImageError, match="was changed meanwhile"):
        draw(64, 64)


def test_answers_are_computed_once_and_few_are_in_memory() -> None:
    drawn: list[weakref.ref[Sample]] = []
    computed: list[int] = []

    def draw(number: int) -> Sample:
        sample = Sample(str(number), "", np.full((1, 8, 8, 3), number, np.uint8))
        drawn.append(weakref.ref(sample))
        return sample

    def compute(sample: Sample, number: int) -> Outputs:
        computed.append(number)
        return {"a": sample.images.astype(np.float32), "b": np.full((2, 3), number, np.float32)}

    answers = StoredAnswers([partial(draw, number) for number in range(50)], compute, kept=4, exact=[False] * 50)
    for _ in range(3):
        for number, answer in enumerate(answers):
            assert answer.sample.name == str(number)
            assert answer.outputs["a"].max() == answer.outputs["b"].max() == number
            assert sum(made() is not None for made in drawn) <= 6
    assert computed == list(range(50))
    assert [answer.sample.name for answer in answers[-2:]] == ["48", "49"]


@pytest.mark.parametrize(
    ("layer", "runtimes"),
    [
        pytest.param("conv1_1", ["onnxruntime"], marks=pytest.mark.long),
        ("conv4_2", ["openvino"]),
        pytest.param("rpn_bbox_pred_stride16", ["onnxruntime", "openvino"], marks=pytest.mark.long),
    ],
)
def test_the_first_layer_with_a_changed_weight_is_named(
    layer: str, runtimes: list[str], small_dir: Path, checkpoint: Checkpoint, pack: Path, tmp_path: Path
) -> None:
    """The faulty ONNX file becomes a faulty IR too: OpenVINO reads it."""
    original = small_dir / MODEL.name / "FP32" / f"{MODEL.name}.onnx"
    bad = planted(Candidate(original), tmp_path / "bad", add_to_weight(f"{layer}_weight", 3.0))
    rules = Rules(thorough=False)
    for runtime in runtimes:
        options = VerifyOptions((bad.path,), checkpoint.params_path, pack, runtime=runtime, layers=True, rules=rules)
        result = verify_artifacts(Workspace(MODEL, tmp_path), options)
        assert not result.passed
        assert [divergence.layer for divergence in result.divergences] == [layer]


@pytest.mark.long
@pytest.mark.usefixtures("mxnet")
def test_mxnet_itself_shows_where_a_layer_begins_to_differ(
    output_dir: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    original = output_dir / MODEL.name / "FP32" / f"{MODEL.name}.onnx"
    bad = planted(Candidate(original), tmp_path, add_to_weight("conv5_1_weight", 3.0))
    result = verify_artifacts(
        Workspace(MODEL, tmp_path), VerifyOptions((bad.path,), checkpoint.params_path, layers=True)
    )
    assert [divergence.layer for divergence in result.divergences] == ["conv5_1"]
    assert result.divergences[0].compared > 70


@pytest.fixture(scope="module")
def pack(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    write_pack(folder / "reference.npz", checkpoint, "ONNX", computed_answers(checkpoint, folder, SMALL))
    return folder / "reference.npz"


def test_a_pack_stands_in_for_the_original_and_the_checkpoint(small_dir: Path, pack: Path) -> None:
    options = VerifyOptions(reference=pack)
    result = verify_artifacts(Workspace(MODEL, small_dir), options)
    assert result.passed
    assert len(result.report.artifacts) == 4
    assert "reference pack reference.npz" in result.report.reference
    assert any("did not run here" in note for note in result.report.notes)


def claiming(
    weights: str, sha256: Mapping[str, str], answers: list[Answer], checkpoint: Checkpoint, path: Path
) -> Path:
    write_pack(path, replace(checkpoint, weights=weights, sha256=sha256), "MXNet 1.9.1", answers)
    return path


def test_a_pack_is_not_believed_what_can_be_computed_again(
    small_dir: Path, pack: Path, demo_checkpoint: Checkpoint, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Other answers under the demo's hashes, and under those of a checkpoint that is there."""
    first = small_dir / MODEL.name / "FP32" / f"{MODEL.name}.onnx"
    demo, answers = demo_checkpoint, empty_answers(SMALL)
    forged = claiming(DEMO, demo.sha256, answers, demo, tmp_path / "forged.npz")
    with pytest.raises(ReferencePackError, match=r"forged\.npz"):
        verify_artifacts(Workspace(MODEL, tmp_path), VerifyOptions((first,), reference=forged))
    with pytest.raises(ReferencePackError, match="other files"):
        verify_artifacts(
            Workspace(MODEL, tmp_path), VerifyOptions((first,), reference=pack, checkpoint=demo.params_path)
        )
    lying = claiming(checkpoint.weights, checkpoint.sha256, answers, checkpoint, tmp_path / "lying.npz")
    options = VerifyOptions((first,), reference=lying, checkpoint=checkpoint.params_path)
    with pytest.raises(ReferencePackError, match=r"lying\.npz"):
        verify_artifacts(Workspace(MODEL, tmp_path), options)
    report = verify_artifacts(Workspace(MODEL, tmp_path), replace(options, checkpoint=None)).report
    assert any(checkpoint.weights in note for note in report.notes)  # a claim


def test_another_checkpoint_in_the_output_folder_is_not_converted_for_a_pack(
    small_dir: Path, pack: Path, full_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    workspace = Workspace(MODEL, tmp_path)
    shutil.copytree(full_checkpoint.params_path.parent, workspace.checkpoint)
    options = VerifyOptions((small_dir / MODEL.name / "FP32" / f"{MODEL.name}.onnx",), reference=pack)
    result = verify_artifacts(workspace, options)
    assert result.passed, result.report.failures
    assert [*result.report.artifacts[0].skipped] == [OTHER]
    with pytest.raises(UsageError, match="--layers"):
        verify_artifacts(workspace, replace(options, layers=True))


@pytest.mark.usefixtures("mxnet")
def test_users_images_are_compared_too(output_dir: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    Image.fromarray(draw_scene(77, 300, 200).image[..., ::-1]).save(tmp_path / "mine.png")
    first = output_dir / MODEL.name / "FP32" / f"{MODEL.name}.xml"
    options = VerifyOptions((first,), checkpoint.params_path, images=(str(tmp_path),))
    report = verify_artifacts(Workspace(MODEL, output_dir), options).report
    assert report.passed
    assert str(tmp_path / "mine.png") in [sample.name for sample in report.samples]


def test_what_cannot_be_verified_is_refused_with_a_way_out(
    output_dir: Path, small_dir: Path, checkpoint: Checkpoint, pack: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=r"no artifacts; .*`sshtool convert`"):
        verify_artifacts(Workspace(MODEL, tmp_path), VerifyOptions(checkpoint=checkpoint.params_path))
    with pytest.raises(UsageError, match=r"--profile.*FP32"):
        verify_artifacts(Workspace(MODEL, output_dir), VerifyOptions(profile="FP8"))
    with pytest.raises(UsageError, match="--layers"):
        verify_artifacts(Workspace(MODEL, small_dir), VerifyOptions(reference=pack, layers=True))


def test_without_mxnet_the_demo_has_a_pack_and_other_checkpoints_the_exact_reference(
    demo_checkpoint: Checkpoint, plain_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mxnet", None)
    reference = find_reference(MODEL, demo_checkpoint, VerifyOptions())
    assert reference.source.endswith("(reference pack demo_reference.npz)")
    yardstick = reference.yardstick(640, 640)
    assert yardstick is not None
    assert yardstick.source == "MXNet 1.9.1"
    exact = find_reference(MODEL, plain_checkpoint, VerifyOptions())
    assert exact.source.startswith("exact evaluation")
    assert "double precision" in exact.note
    assert find_reference(MODEL, demo_checkpoint, VerifyOptions(against="exact")).source == exact.source
    with pytest.raises(RuntimeUnavailableError, match=r"MXNet.*--against exact"):
        find_reference(MODEL, plain_checkpoint, VerifyOptions(against="mxnet"))


def test_artifacts_agree_with_the_exact_reference_and_a_fault_does_not(
    small_dir: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    options = VerifyOptions(checkpoint=checkpoint.params_path, against="exact")
    result = verify_artifacts(Workspace(MODEL, small_dir), options)
    assert result.passed, result.report.failures
    assert {sample.sample for item in result.report.artifacts for sample in item.samples} >= {"scene-0", "noise", OTHER}
    original = Candidate(small_dir / MODEL.name / "FP32" / f"{MODEL.name}.onnx")
    bad = planted(original, tmp_path, add_to_weight("conv3_1_weight", 3.0))
    faulty = verify_artifacts(Workspace(MODEL, tmp_path), replace(options, artifacts=(bad.path,), layers=True))
    assert not faulty.passed
    assert faulty.divergences[0].layer == "conv3_1"


@pytest.mark.usefixtures("mxnet")
def test_the_exact_reference_computes_what_mxnet_computes(checkpoint: Checkpoint) -> None:
    images = draw_sample("scene-0", MODEL, *SMALL).images
    exact, original = (runtime.layers(images) for runtime in (Exact(checkpoint), Mxnet(checkpoint)))
    shared = original.keys() & exact.keys()
    assert len(shared) > 40
    for name in shared:
        np.testing.assert_allclose(original[name], exact[name], atol=1e-5 * np.abs(exact[name]).max(), err_msg=name)


def test_the_command_prints_a_table_and_writes_the_reports(small_dir: Path, pack: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"report.{name}" for name in ("html", "junit", "markdown")}
    options = [item for name, path in files.items() for item in (f"--{name}", path)]
    result = sshtool("verify", "-o", small_dir, "--reference", pack, *options)
    assert all(label in result.stdout for label in LABELS)
    assert "passed: the same detector" in result.stdout
    assert all(path.stat().st_size > 500 for path in files.values())
    assert files["html"].read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_the_command_gives_one_json_document_and_takes_limits_as_other_comparers_do(
    small_dir: Path, pack: Path
) -> None:
    artifact = small_dir / MODEL.name / "FP32" / f"{MODEL.name}.onnx"
    arguments = ("verify", "--artifact", artifact, "--reference", pack, "--json")
    assert json.loads(sshtool(*arguments).stdout)["ok"] is True
    limits = ("--runtime", "openvino", "--atol", "1e-5", "rpn_bbox_pred_stride8:0", "--rtol", "0")
    document = json.loads(sshtool(*arguments, *limits, code=3).stdout)
    assert document["ok"] is False
    assert {failure["output"] for failure in document["result"]["report"]["failures"]} == {"rpn_bbox_pred_stride8"}


def test_the_command_exits_with_3_and_names_the_layer(
    small_dir: Path, checkpoint: Checkpoint, pack: Path, tmp_path: Path
) -> None:
    original = Candidate(small_dir / MODEL.name / "FP32" / f"{MODEL.name}.onnx")
    bad = planted(original, tmp_path, add_to_weight("conv3_1_weight", 3.0))
    result = sshtool(
        "verify", "--artifact", bad.path, "--reference", pack, "--checkpoint", checkpoint.params_path,
        "--layers", code=3,
    )  # fmt: skip
    assert "DIFFERENT" in result.stdout
    assert "conv3_1 is the first" in result.stdout


@pytest.mark.usefixtures("mxnet")
def test_the_reference_command_writes_a_pack_that_verifies(
    small_dir: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "mine.npz"
    planned = sshtool("reference", "--checkpoint", checkpoint.params_path, "--file", path, "--dry-run", "--json")
    assert json.loads(planned.stdout)["result"]["bytes"] == 0
    assert not path.exists()
    shape = f"1,3,{SMALL[0]},{SMALL[1]}"
    result = sshtool(
        "reference", "--checkpoint", checkpoint.params_path, "--file", path, "--input-shape", shape,
        "--json",
    )  # fmt: skip
    document = json.loads(result.stdout)["result"]
    assert document["bytes"] == path.stat().st_size < 5_000_000
    assert document["source"].startswith("exact evaluation")
    artifact = small_dir / MODEL.name / "FP32" / f"{MODEL.name}.xml"
    assert "passed" in sshtool("verify", "--artifact", artifact, "--reference", path).stdout
