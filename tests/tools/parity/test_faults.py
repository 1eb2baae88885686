from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest

from detections import anchor_task
from sshconvert.arrays import Floats
from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import Declaration
from sshconvert.convert import convert
from sshconvert.digest import file_sha256
from sshconvert.editable import EditableModel, NotThereError
from sshconvert.errors import ArtifactError, UsageError
from sshconvert.formats.registry import artifact_files, format_of
from sshconvert.graph import Shape
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options, Postprocessing, Precision
from sshconvert.tasks.faults import Fault, Stage
from sshtool.candidates import Candidate
from sshtool.parity.faults import FINE as FINE_FACTOR, faults_of, fine_faults
from sshtool.parity.reference import Answer, LiveReference, Reference
from sshtool.parity.samples import OTHER_SHAPE, draw_sample, other_size
from sshtool.parity.selftest import FaultResult, SelfTestReport, Verdict, self_test
from sshtool.parity.verify import _Chosen, groups, verify
from sshtool.runtimes.base import Runtime
from sshtool.runtimes.exact import Exact
from sshtool.runtimes.loading import load
from sshtool.runtimes.mxnet import Mxnet

MODEL: Final = load_model("ssh-mxnet")

# Small, and yet there are faces that overlap, and faces at the border.
SHAPE: Final = (1, 3, 128, 128)
SAMPLES: Final = ("scene-0", "noise", "colours")
FLIPPED: Final = "deconvolution kernel flipped"

# What has to see a fault, so that none counts as caught because something else went wrong.
TENSOR: Final = {"tensor"}
FACES: Final = {"detections", "corners", "scores"}
SEEN_BY: Final[Mapping[str, set[str]]] = {
    "channels not reversed": TENSOR,
    "means in the wrong order": TENSOR,
    "mean missing": TENSOR,
    "mean applied twice": TENSOR,
    "declares the wrong channel order": TENSOR,
    "declares the wrong mean": TENSOR,
    "two outputs swapped": {"tensor", "detections"},  # their shapes
    "output order changed": {"order"},
    "an output renamed": {"names"},
    "one weight with the wrong sign": TENSOR,
    "one weight not a number": TENSOR,
    "one bias zeroed": TENSOR,
    "two layers exchanged": TENSOR,
    "kernel transposed": TENSOR,
    FLIPPED: TENSOR,
    "crop offset by one": TENSOR,
    "softmax on the wrong axis": TENSOR,
    "pooling rounds up": {"load", "tensor"},  # shapes that do not fit
    "anchors exchanged": TENSOR,
    "background and face exchanged": TENSOR,
    "FP16 file in the FP32 place": {"precision"},
    "FP16 weights in a file that says FP32": TENSOR,
    "another checkpoint's weights": TENSOR,
    "declares another checkpoint": {"weights"},
    "file cut off in the middle": {"load"},
    "dw and dh exchanged": FACES,
    "dx and dy move the corner": FACES,
    "anchors without the +1": FACES,
    "NMS at the wrong threshold": FACES,
    "score threshold too high": FACES,
    "score threshold too low": FACES,
    "background score taken for face score": FACES,
    "boxes clipped to W instead of W - 1": FACES,
    "boxes not clipped": FACES,
    "first image's faces for the whole batch": FACES,
}
# In a file that gives faces itself, and in one that takes several images.
SEEN_IN_FACES: Final[Mapping[str, set[str]]] = {
    name: {"post-processing"}
    for name in (
        "scores not a number",
        "scores all 1",
        "scores halved",
        "two faces with each other's scores",
        "count one too high",
        "count one too low",
        "count in floats",
        "count in 64 bits",
        "a box behind the last face",
        "a score behind the last face",
        "not a number behind the last face",
        "scores in the reverse order",
        "boxes rounded to half a pixel",
        "the first row of stride 32 a row too low",
        "the first column of stride 32 a column too far",
        "no box above 62.5 times its anchor",
        "an anchor of stride 8 too large by 0.1 %",
        "suppression without the corner pixels",
        "nothing suppressed",
        "declares a score threshold 1 % higher",
        "declares 0.301 for an overlap of 0.3",
        "declares fewer detections than it gives",
    )
}
SEEN_IN_BATCHES: Final[Mapping[str, set[str]]] = {
    "first image's answer for the whole batch": {"detections", "corners", "scores", "tensor", "post-processing"},
    "batch reversed": {"detections", "corners", "scores", "tensor", "post-processing"},
    "last image of the batch gets another's answer": {"detections", "corners", "scores", "tensor", "post-processing"},
}
FINE: Final = tuple(fault.name for fault in fine_faults(MODEL))
FAULTS: Final = faults_of(MODEL)
BY_NAME: Final = {fault.name: fault for fault in FAULTS}


class Peer(Reference):
    """A runtime that takes the original's place. `load_at` gives it for an input shape."""

    def __init__(
        self, checkpoint: Checkpoint, load_at: Callable[[Shape], Runtime], names: Sequence[str], *, other: bool = True
    ) -> None:
        self.source, self.weights, self.checkpoint = "a peer", checkpoint.weights, checkpoint
        self._load_at, self._names, self._other = load_at, names, other

    @cache  # noqa: B019  # as long as the module's tests
    def answers(self, height: int, width: int) -> Sequence[Answer]:
        runtime = self._load_at((1, 3, height, width))
        samples = [draw_sample(name, MODEL, height, width) for name in self._names]
        return [Answer(sample, runtime.run(sample.images)) for sample in samples]

    @cache  # noqa: B019  # as above
    def other_size(self) -> Answer | None:
        sample = other_size()
        return Answer(sample, self._load_at(OTHER_SHAPE).run(sample.images)) if self._other else None


@dataclass(frozen=True)
class Bench:
    """A checkpoint's artifacts, what they are held to, and what it converts to at the other size.

    `bare` is the artifact without preprocessing, which the peer runs: it is there where MXNet is not.
    """

    reference: Peer
    hasty: Peer  # has one sample only
    candidates: tuple[Candidate, ...]
    others: Mapping[str, Path]
    bare: Path
    load_at: Callable[[Shape], Runtime]

    @property
    def whole(self) -> tuple[Candidate, ...]:
        """The artifacts without rounded weights."""
        return tuple(candidate for candidate in self.candidates if candidate.profile == "FP32")

    def again(self, candidate: Candidate, _declaration: Declaration) -> Path:
        return self.others[candidate.path.suffix]

    def test(
        self, *faults: Fault, candidates: Sequence[Candidate] = (), reference: Reference | None = None
    ) -> SelfTestReport:
        return self_test(
            MODEL,
            reference or self.hasty,
            candidates or self.whole,
            faults=faults,
            convert_again=self.again,
        )

    def hashes(self) -> list[str]:
        paths = (*(candidate.path for candidate in self.candidates), *self.others.values())
        return [file_sha256(file) for path in paths for file in artifact_files(path)]


def bench(checkpoint: Checkpoint, folder: Path) -> Bench:
    def bare(shape: Shape) -> Path:
        options = Options(("onnx",), (Precision.FP32,), shape, preprocessing=False)
        return convert(checkpoint, folder / "bare" / "x".join(map(str, shape)), options)[0].path

    def load_at(shape: Shape) -> Runtime:
        return load(bare(shape), MODEL)

    both = (Precision.FP32, Precision.FP16)
    own = convert(checkpoint, folder / "own", Options(precisions=both, input_shape=SHAPE))
    other = convert(checkpoint, folder / "other", Options(input_shape=OTHER_SHAPE))
    return Bench(
        Peer(checkpoint, load_at, SAMPLES),
        Peer(checkpoint, load_at, SAMPLES[:1], other=False),
        tuple(Candidate(artifact.path, artifact.precision.value) for artifact in own),
        {artifact.path.suffix: artifact.path for artifact in other},
        bare(SHAPE),
        load_at,
    )


@pytest.fixture(scope="module")
def demo(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(demo_checkpoint, tmp_path_factory.mktemp("demo-bench"))


@pytest.fixture(scope="module")
def plain(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(plain_checkpoint, tmp_path_factory.mktemp("plain-bench"))


@pytest.fixture(scope="module")
def symmetric(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The plain checkpoint with a kernel of the deconvolution that stays the same when it is flipped."""
    name = "ssh_m2_red_upsampling_weight"
    kernel = plain_checkpoint.parameters[name]
    parameters = {**plain_checkpoint.parameters, name: kernel + kernel[..., ::-1, ::-1]}
    return bench(replace(plain_checkpoint, parameters=parameters), tmp_path_factory.mktemp("symmetric-bench"))


@pytest.fixture(scope="module", params=["plain", pytest.param("demo", marks=pytest.mark.long)])
def model(request: pytest.FixtureRequest) -> Bench:
    bench: Bench = request.getfixturevalue(request.param)
    return bench


@pytest.fixture(scope="module")
def tested(model: Bench) -> SelfTestReport:
    before = model.hashes()
    report = model.test(*(BY_NAME[name] for name in SEEN_BY), reference=model.reference)
    assert model.hashes() == before, "a fault was planted in an original"
    return report


def copied(original: Path, folder: Path) -> Path:
    for file in artifact_files(original):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / original.name


def of(report: SelfTestReport, fault: str) -> list[FaultResult]:
    return [result for result in report.faults if result.fault == fault]


def test_there_are_enough_faults_each_with_a_name_and_with_what_has_to_see_it() -> None:
    assert len(FAULTS) >= 24
    assert len(BY_NAME) == len(FAULTS)
    assert {*SEEN_BY, *FINE, *SEEN_IN_FACES, *SEEN_IN_BATCHES} == BY_NAME.keys()


def test_the_self_test_passes_and_the_healthy_artifacts_have_no_failure(tested: SelfTestReport) -> None:
    assert tested.passed
    assert [healthy.artifact for healthy in tested.healthy] == ["onnx FP32", "openvino FP32"]
    assert [healthy.failures for healthy in tested.healthy] == [(), ()]
    assert len(tested.faults) == 2 * len(SEEN_BY)


@pytest.mark.parametrize("fault", [name for name in SEEN_BY if name != FLIPPED])
def test_a_planted_fault_is_caught_in_both_formats_by_what_has_to_see_it(tested: SelfTestReport, fault: str) -> None:
    results = of(tested, fault)
    assert [result.verdict for result in results] == [Verdict.CAUGHT] * 2, results
    assert {result.check for result in results} <= SEEN_BY[fault], results
    assert all(result.message for result in results)


@pytest.mark.parametrize(
    "heads", [pytest.param(False, id="faces alone", marks=pytest.mark.long), pytest.param(True, id="with heads")]
)
def test_faults_of_faces_and_of_batches_are_caught_in_both_formats(
    heads: bool, plain: Bench, plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    options = Options(input_shape=(3, *SHAPE[1:]), postprocessing=Postprocessing(top_k=300, keep_heads=heads))
    made = [Candidate(item.path, item.precision.value) for item in convert(plain_checkpoint, tmp_path, options)]
    seen = SEEN_IN_BATCHES if heads else {**SEEN_IN_FACES, **SEEN_IN_BATCHES}
    report = plain.test(*(BY_NAME[name] for name in seen), candidates=made, reference=plain.reference)
    assert report.passed, report
    assert {(item.fault, item.verdict) for item in report.faults} == {(name, Verdict.CAUGHT) for name in seen}
    assert len(report.faults) == 2 * len(seen)
    for item in report.faults:
        assert item.check in seen[item.fault], item


@pytest.mark.parametrize(
    "names", [pytest.param(FINE[1:2], id="one"), pytest.param(FINE, id="all", marks=pytest.mark.long)]
)
def test_a_filter_that_is_off_by_a_thousandth_is_caught_by_its_tensor(names: Sequence[str], plain: Bench) -> None:
    report = plain.test(*(BY_NAME[name] for name in names))
    assert [(item.verdict, item.check) for item in report.faults] == [(Verdict.CAUGHT, "tensor")] * 2 * len(names)


@pytest.mark.parametrize("kind", [pytest.param("onnx", marks=pytest.mark.long), "openvino"])
def test_a_thousandth_of_the_boxes_shows_in_the_heads_of_a_file_that_gives_results_alone(
    kind: str, plain: Bench, plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    options = Options((kind,), input_shape=SHAPE, postprocessing=Postprocessing(top_k=300))
    (made,) = convert(plain_checkpoint, tmp_path, options)
    fault = BY_NAME["0.1 % of a filter behind rpn_bbox_pred_stride8"]
    (result,) = plain.test(fault, candidates=[Candidate(made.path, "FP32")]).faults
    assert (result.verdict, result.check) == (Verdict.CAUGHT, "tensor")


@pytest.mark.long
def test_a_filter_that_is_off_by_a_thousandth_is_caught_where_weights_are_rounded(
    plain: Bench, plain_checkpoint: Checkpoint
) -> None:
    exact = Exact(plain_checkpoint)
    reference = LiveReference(exact.in_float32(), MODEL, exact=exact, every=True)
    halves = [candidate for candidate in plain.candidates if candidate.profile == "FP16"]
    report = self_test(MODEL, reference, halves, faults=fine_faults(MODEL))
    assert report.passed, report
    assert {(item.fault, item.verdict) for item in report.faults} == {(name, Verdict.CAUGHT) for name in FINE}


@pytest.mark.parametrize("number", [0, 1, 2, 3], ids=["onnx FP32", "openvino FP32", "onnx FP16", "openvino FP16"])
def test_a_scaled_filter_is_the_only_one_that_changes(number: int, plain: Bench, tmp_path: Path) -> None:
    copy = copied(plain.candidates[number].path, tmp_path)
    edited = format_of(copy).edit(copy)
    edited.scale_filter("conv3_1", 5, FINE_FACTOR)
    edited.save()
    before, after = (format_of(path).edit(path).filters("conv3_1") for path in (plain.candidates[number].path, copy))
    changed = (before != after).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [5]
    assert np.linalg.norm(after[5]) / np.linalg.norm(before[5]) == pytest.approx(FINE_FACTOR, abs=1e-4)
    assert np.mean(after[5] != before[5]) > 0.99  # halves do not round it away
    with pytest.raises(NotThereError, match="deconvolution"):
        edited.filters("ssh_m2_red_upsampling")


# What spoils an output of a file that takes any number of images: nodes from "was" to "is".
Steps = Sequence[tuple[str, Sequence[str], str]]
NUMBERS: Final = {"minus_one": -1, "zero": 0, "one": 1, "two": 2, "three": 3, "before_all": -(2**31)}
SPOILT: Final[Mapping[str, Steps]] = {
    "batch reversed": [("Slice", ["was", "minus_one", "before_all", "zero", "minus_one"], "is")],
    "first image's answer for all": [
        ("Slice", ["was", "zero", "one", "zero"], "first"),
        ("Sub", ["was", "was"], "nothing"),
        ("Add", ["nothing", "first"], "is"),
    ],
    "third image's answer for the fourth": [
        ("Slice", ["was", "zero", "three", "zero"], "before"),
        ("Slice", ["was", "two", "minus_one", "zero"], "after"),
        ("Concat", ["before", "after"], "is"),
    ],
}


def spoil(path: Path, steps: Steps, target: Path) -> None:
    model = onnx.load(path)
    constants = [onnx.numpy_helper.from_array(np.array([value]), name) for name, value in NUMBERS.items()]
    model.graph.initializer.extend(constants)
    for output in [item.name for item in model.graph.output]:
        names = {"was": f"{output}_was", "is": output} | {name: name for name in NUMBERS}
        for node in model.graph.node:
            for tensors in (node.input, node.output):
                tensors[:] = [names["was"] if name == output else name for name in tensors]
        for operator, inputs, made in steps:
            found = [names.get(name, f"{output}_{name}") for name in (*inputs, made)]
            axis: dict[str, Any] = {"axis": 0} if operator == "Concat" else {}
            model.graph.node.append(onnx.helper.make_node(operator, found[:-1], found[-1:], **axis))
    onnx.save(model, target)


@pytest.fixture(scope="module")
def any_batch(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = Options(
        ("onnx",), input_shape=SHAPE, dynamic=Dynamic.BATCH, postprocessing=Postprocessing(top_k=300, keep_heads=True)
    )
    return convert(plain_checkpoint, tmp_path_factory.mktemp("any-batch"), options)[0].path


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.long)])
def test_a_file_that_takes_any_number_of_images_is_run_on_several(
    runtime: str, any_batch: Path, plain: Bench, tmp_path: Path
) -> None:
    reference = Peer(
        plain.reference.checkpoint, plain.load_at, ("scene-0", "noise", "texture", "gradients"), other=False
    )
    healthy = verify(MODEL, reference, [Candidate(any_batch, "FP32", runtime)])
    assert healthy.passed, healthy.failures
    assert {len(item.images) for item in healthy.artifacts[0].samples} == {1, 2, 4}
    for steps in SPOILT.values():
        spoil(any_batch, steps, tmp_path / any_batch.name)
        report = verify(MODEL, reference, [Candidate(tmp_path / any_batch.name, "FP32", runtime)])
        assert {failure.check for failure in report.failures} & {"tensor", "scores", "corners", "detections"}


def test_every_image_comes_in_every_place_beside_others() -> None:
    for number, batch in ((12, 4), (13, 8), (3, 8), (12, None), (2, None), (1, None), (1, 4)):
        sample = draw_sample("noise", MODEL, 4, 4)
        answers = [Answer(replace(sample, name=str(place)), {}) for place in range(number)]
        known = [[int(answer.sample.name) for answer in group] for group in groups(_Chosen(answers, ()), batch)]
        assert [group[0] for group in known][:number] == list(range(number))
        if batch is not None and number > 1:
            columns = list(zip(*known, strict=True))
            assert len(set(columns)) == batch  # no two places always have the same image
            if batch <= number:
                assert all(len(set(group)) == batch for group in known)
                assert all(set(column) == set(range(number)) for column in columns)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_reversed_batch_is_caught_in_a_file_that_takes_any_number_of_images(
    kind: str, plain: Bench, plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    options = Options((kind,), input_shape=SHAPE, dynamic=Dynamic.BATCH)
    (made,) = convert(plain_checkpoint, tmp_path, options)
    reference = Peer(plain_checkpoint, plain.load_at, SAMPLES, other=False)
    names = list(SEEN_IN_BATCHES)
    report = plain.test(
        *(BY_NAME[name] for name in names), candidates=[Candidate(made.path, "FP32")], reference=reference
    )
    assert {item.fault: item.verdict for item in report.faults if item.verdict is not Verdict.NOT_PLANTED} == {
        "batch reversed": Verdict.CAUGHT
    }


def test_what_only_faces_or_batches_can_have_is_not_planted_elsewhere(plain: Bench) -> None:
    report = plain.test(*(BY_NAME[name] for name in (*SEEN_IN_FACES, *SEEN_IN_BATCHES)))
    assert {item.verdict for item in report.faults} == {Verdict.NOT_PLANTED}


def test_a_fault_that_leaves_the_file_as_it_was_is_neither_caught_nor_missed(plain: Bench, symmetric: Bench) -> None:
    dense = plain.test(BY_NAME[FLIPPED]).faults
    assert [(result.verdict, result.check) for result in dense] == [(Verdict.CAUGHT, "tensor")] * 2
    for result in symmetric.test(BY_NAME[FLIPPED]).faults:
        assert result.verdict is Verdict.WITHOUT_EFFECT
        assert "weights" in result.reason


def test_messages_do_not_name_the_folder_of_the_copies(tested: SelfTestReport) -> None:
    messages = [
        result.message
        for name in ("declares another checkpoint", "file cut off in the middle")
        for result in of(tested, name)
    ]
    assert all(message.startswith("FP32") for message in messages), messages


def test_a_change_too_small_to_see_is_missed_in_both_formats_and_the_self_test_fails(plain: Bench) -> None:
    def change_what_does_not_matter(copy: EditableModel[Any]) -> None:
        copy.declare("license_note", "another")
        weight = copy.weight("conv3_1")
        copy.set_weight("conv3_1", np.nextafter(weight, np.float32(np.inf)))

    report = plain.test(Fault(Stage.FILE, "nothing that matters", change_what_does_not_matter))
    assert [result.verdict for result in report.faults] == [Verdict.MISSED] * 2, report.faults
    assert not report.passed


def test_nothing_is_planted_in_an_artifact_that_fails_as_it_is(symmetric: Bench, plain: Bench) -> None:
    report = plain.test(*FAULTS, candidates=plain.candidates[:1], reference=symmetric.hasty)
    assert not report.passed
    assert not report.healthy[0].passed
    assert report.faults == ()


def test_an_artifact_that_cannot_be_loaded_fails_as_it_is(plain: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "FP32" / "broken.onnx"
    broken.parent.mkdir()
    broken.write_bytes(b"no model")
    report = plain.test(*FAULTS, candidates=[Candidate(broken, "FP32")])
    assert [(item.artifact, item.failures[0].check) for item in report.healthy] == [("onnx FP32", "load")]
    assert not report.passed


def test_a_self_test_in_which_no_fault_was_caught_does_not_pass(symmetric: Bench) -> None:
    assert not symmetric.test(candidates=symmetric.candidates[:1]).passed
    assert not symmetric.test(BY_NAME[FLIPPED], candidates=symmetric.candidates[:1]).passed


def test_every_artifact_is_tested_by_format_and_from_the_highest_precision(plain: Bench) -> None:
    report = plain.test(BY_NAME["file cut off in the middle"], candidates=plain.candidates[::-1])
    assert [(result.artifact, result.verdict) for result in report.faults] == [
        (f"{kind} {precision}", Verdict.CAUGHT) for kind in ("onnx", "openvino") for precision in ("FP32", "FP16")
    ]


def test_without_an_artifact_that_can_be_edited_there_is_nothing_to_test(plain: Bench) -> None:
    with pytest.raises(UsageError, match="--self-test"):
        plain.test(*FAULTS, candidates=[Candidate(Path("sshb-0000.params"))])


def test_a_fault_that_needs_what_is_not_there_says_what(plain: Bench, tmp_path: Path) -> None:
    alone = tmp_path / "FP32" / "ssh-mxnet.onnx"
    alone.parent.mkdir()
    alone.write_bytes(plain.candidates[0].path.read_bytes())
    faults = [BY_NAME[name] for name in ("FP16 file in the FP32 place", "file cut off in the middle")]
    report = plain.test(*faults, candidates=[Candidate(alone, "FP32")])
    assert [(result.verdict, result.reason) for result in report.faults] == [
        (Verdict.NOT_PLANTED, "there is no FP16 file beside the artifact"),
        (Verdict.CAUGHT, ""),
    ]
    assert report.passed


def test_a_fault_of_another_size_needs_an_answer_and_a_file_of_that_size(plain: Bench) -> None:
    rounding, candidates = BY_NAME["pooling rounds up"], plain.candidates[:1]
    (without_answer,) = plain.test(rounding, candidates=candidates).faults
    assert (without_answer.verdict, without_answer.reason) == (Verdict.NOT_PLANTED, "a peer takes one size only")
    (without_file,) = self_test(MODEL, plain.reference, candidates, faults=[rounding]).faults
    assert without_file.verdict is Verdict.NOT_PLANTED
    assert "no checkpoint" in without_file.reason


def test_a_file_in_the_place_of_fp16_may_be_fp16(plain: Bench) -> None:
    halves = [candidate for candidate in plain.candidates if candidate.profile == "FP16"]
    report = plain.test(BY_NAME["FP16 file in the FP32 place"], candidates=halves)
    assert [(result.artifact, result.verdict) for result in report.faults] == [
        ("onnx FP16", Verdict.NOT_PLANTED),
        ("openvino FP16", Verdict.NOT_PLANTED),
    ]


def test_a_file_without_preprocessing_has_no_mean_to_spoil(plain: Bench) -> None:
    faults = [BY_NAME[name] for name in ("mean missing", "declares the wrong mean", "declares the wrong channel order")]
    report = plain.test(*faults, candidates=[Candidate(plain.bare, "FP32")])
    assert [result.verdict for result in report.faults] == [Verdict.NOT_PLANTED, Verdict.CAUGHT, Verdict.CAUGHT]
    assert report.faults[0].reason == "no mean is subtracted inside the file"


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_both_formats_show_the_same_weights_biases_and_mean(plain: Bench, precision: str) -> None:
    one, other = (format_of(item.path).edit(item.path) for item in plain.candidates if item.profile == precision)
    assert sorted(one.convolutions) == sorted(other.convolutions)
    assert one.deconvolutions == other.deconvolutions == ("ssh_m2_red_upsampling",)
    np.testing.assert_array_equal(one.mean(), other.mean())
    for name in one.convolutions:
        np.testing.assert_array_equal(one.weight(name).ravel(), other.weight(name).ravel(), err_msg=name)
        mine, yours = one.bias(name), other.bias(name)
        assert (mine is None) == (yours is None) == (name in one.deconvolutions)
        if mine is not None and yours is not None:
            np.testing.assert_array_equal(mine, yours, err_msg=name)
    for head in anchor_task(MODEL).heads:
        assert one.convolution_behind(head.boxes) == other.convolution_behind(head.boxes) == head.boxes
        assert one.convolution_behind(head.scores) == other.convolution_behind(head.scores)
    assert one.outputs == other.outputs == MODEL.output_names
    assert one.declared("precision") == other.declared("precision") == precision


def bias_of(model: EditableModel[Any], convolution: str) -> Floats:
    bias = model.bias(convolution)
    assert bias is not None
    return bias


@pytest.mark.parametrize("number", [0, 1, 2, 3], ids=["onnx FP32", "openvino FP32", "onnx FP16", "openvino FP16"])
def test_an_edit_changes_what_it_is_about_and_nothing_else(plain: Bench, number: int, tmp_path: Path) -> None:
    original = plain.candidates[number].path
    copy = copied(original, tmp_path)
    edited = format_of(copy).edit(copy)
    name = edited.convolution_behind(anchor_task(MODEL).heads[0].boxes)
    edited.set_weight("conv3_1", 2 * edited.weight("conv3_1"))
    edited.set_bias(name, bias_of(edited, name) + 1)
    edited.declare("weights", "other")
    edited.declare("new", "entry")
    edited.save()
    before, after = (format_of(path).edit(path) for path in (original, copy))
    for layer in before.convolutions:
        factor = 2 if layer == "conv3_1" else 1
        np.testing.assert_array_equal(after.weight(layer), factor * before.weight(layer))
        if before.bias(layer) is not None:
            np.testing.assert_array_equal(bias_of(after, layer), bias_of(before, layer) + (layer == name))
    np.testing.assert_array_equal(after.mean(), before.mean())
    assert (after.declared("weights"), after.declared("new")) == ("other", "entry")
    assert after.declared("model") == before.declared("model")
    assert after.outputs == before.outputs


def test_an_edit_to_what_is_there_already_writes_nothing(plain: Bench) -> None:
    for candidate in plain.candidates:
        edited = format_of(candidate.path).edit(candidate.path)
        edited.set_mean(edited.mean())
        edited.set_weight("conv1_2", edited.weight("conv1_2"))
        assert not edited.changed


def test_what_an_artifact_does_not_have_is_named(plain: Bench) -> None:
    for candidate in plain.candidates[:2]:
        edited = format_of(candidate.path).edit(candidate.path)
        with pytest.raises(NotThereError, match="conv9_9"):
            edited.weight("conv9_9")
        with pytest.raises(NotThereError, match="ssh_m2_red_upsampling"):
            edited.set_bias("ssh_m2_red_upsampling", np.zeros(128, np.float32))
    with pytest.raises(ArtifactError, match=r"ends in .*\.onnx or \.xml"):
        format_of(Path("sshb-0000.params"))


@pytest.mark.usefixtures("mxnet")
def test_held_to_mxnet_the_healthy_artifacts_pass_and_faults_are_caught(
    plain: Bench, plain_checkpoint: Checkpoint
) -> None:
    original = Mxnet(plain_checkpoint)
    names = ("channels not reversed", "mean missing", "pooling rounds up", "NMS at the wrong threshold")
    faults = [BY_NAME[name] for name in names]
    report = plain.test(
        *faults, candidates=plain.candidates[1:2], reference=Peer(plain_checkpoint, lambda _: original, SAMPLES)
    )
    assert report.passed, report
    assert report.count(Verdict.CAUGHT) == len(names)
