"""Detections from the network itself: both runtimes give those that `AnchorDetection.decode` finds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from command_line import sshtool
from detections import table
from head_tensors import KINDS, RULES, Size, heads_of
from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import declared
from sshconvert.convert import Artifact, convert
from sshconvert.errors import ArtifactError, DetectionError, UsageError
from sshconvert.graph import Dimensions
from sshconvert.libraries import import_openvino
from sshconvert.models.registry import load_model
from sshconvert.onnx.model import OnnxModel
from sshconvert.options import Dynamic, Options, Postprocessing
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.anchors import AnchorHead
from sshconvert.tasks.inside import OUTPUTS, Inside
from sshconvert.tasks.results import Detections
from sshtool.candidates import Candidate
from sshtool.demo.scenes import draw_scene
from sshtool.detector import Detector, DetectorOptions
from sshtool.parity.reference import LiveReference
from sshtool.parity.verify import verify
from sshtool.report.html import render_html
from sshtool.runtimes.loading import load

MODEL: Final = load_model("ssh-mxnet")
BOTH: Final = ("onnx", "openvino")
Tensors = Mapping[str, npt.NDArray[Any]]

SIZES: Final[list[Size]] = [(1, 32, 32), (2, 64, 96), (1, 320, 352), (3, 160, 640)]
RUNTIMES: Final = ("onnxruntime", "openvino")


@cache
def bare(size: Size | None, rules: AnchorDetection, top_k: int, *, keep: bool = False) -> bytes:
    """The pass alone, on heads that are fed: for that size, or for any."""
    number, height, width = size or ("n", "h", "w")
    inputs: dict[str, Dimensions] = {"data": (number, 3, height, width)}
    heads: dict[str, Dimensions] = {}
    for head in rules.heads:
        cells = (size[1] // head.stride, size[2] // head.stride) if size else ("", "")
        heads[head.scores] = (number, 2 * len(head.sizes), *cells)
        heads[head.boxes] = (number, 4 * len(head.sizes), *cells)
    model = OnnxModel("heads", (), {}, inputs | heads, heads)
    made = rules.append_to(model, input_name="data", top_k=top_k, keep_heads=keep)
    with TemporaryDirectory() as folder:
        made.write(Path(folder) / "model.onnx")
        return (Path(folder) / "model.onnx").read_bytes()


@cache
def in_onnxruntime(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of the image that a fixed size does not look at
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def in_openvino(model: bytes) -> Any:
    core = import_openvino().Core()
    return core.compile_model(core.read_model(model, b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def found_by(runtime: str, model: bytes, size: Size, heads: Tensors) -> dict[str, npt.NDArray[Any]]:
    number, height, width = size
    fed = {"data": np.zeros((number, 3, height, width), np.float32), **heads}
    if runtime == "onnxruntime":
        session = in_onnxruntime(model)
        names = [output.name for output in session.get_outputs()]
        answers = session.run(names, {item.name: fed[item.name] for item in session.get_inputs()})
        return dict(zip(names, answers, strict=True))
    compiled = in_openvino(model)
    answer = compiled({port.any_name: fed[port.any_name] for port in compiled.inputs})
    return {name: np.array(value) for port, value in answer.items() for name in port.names}


def assert_same_faces(found: Tensors, expected: Sequence[Detections]) -> None:
    assert found["count"].dtype == np.int32
    assert found["count"].tolist() == [len(boxes) for boxes in expected]
    for ours, rest, right in zip(RULES.decode_inside(found), found["boxes"], expected, strict=True):
        np.testing.assert_array_equal(ours.scores, right.scores)  # the same faces, in the same order
        np.testing.assert_allclose(ours.boxes, right.boxes, rtol=1e-5, atol=1e-3)
        assert not rest[len(right) :].any()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_pass_finds_what_detection_finds(size: Size, kind: str, runtime: str) -> None:
    for seed in range(2):
        heads = heads_of(kind, size, seed)
        expected = RULES.decode(heads, size[1:])
        for form in (size, None):
            assert_same_faces(found_by(runtime, bare(form, RULES, 5000), size, heads), expected)


@pytest.mark.long
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_pass_finds_what_detection_finds_in_500_cases(runtime: str) -> None:
    random: Any = np.random.RandomState(1)
    for seed in range(500):
        size = (int(random.randint(1, 4)), int(random.randint(32, 400)), int(random.randint(32, 400)))
        heads = heads_of(KINDS[seed % len(KINDS)], size, seed)
        expected = RULES.decode(heads, size[1:])
        assert_same_faces(found_by(runtime, bare(None, RULES, 5000), size, heads), expected)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_anchors_of_other_ratios_and_all_candidates_are_decoded_inside_too(runtime: str) -> None:
    head = AnchorHead(stride=16, base_size=12, scales=(1, 3), ratios=(0.5, 2), scores="prob", boxes="delta")
    task = AnchorDetection(kind="anchor_detection", score_threshold=0.3, iou_threshold=0.4, heads=(head,))
    random: Any = np.random.RandomState(0)
    size = (2, 96, 64)
    heads = {
        "prob": random.random_sample((2, 8, 6, 4)).astype(np.float32),
        "delta": (0.3 * random.standard_normal((2, 16, 6, 4))).astype(np.float32),
    }
    expected = task.decode(heads, size[1:])
    assert min(map(len, expected)) > 3
    assert_same_faces(found_by(runtime, bare(size, task, 1000), size, heads), expected)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("score", "overlap"), [(0.5, 0.3), (0.05, 0.7), (0.3, 0.05), (1.0, 1.0)], ids=str)
def test_the_thresholds_are_those_asked_for(score: float, overlap: float, runtime: str) -> None:
    size, rules = (2, 96, 64), RULES.with_thresholds(score, overlap)
    heads = heads_of("ties", size, 3)
    assert_same_faces(found_by(runtime, bare(size, rules, 1000), size, heads), rules.decode(heads, size[1:]))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", [(2, 96, 64), None], ids=["that size", "any size"])
@pytest.mark.parametrize("top_k", [1, 7])
def test_of_more_faces_than_wanted_the_best_are_kept(top_k: int, form: Size | None, runtime: str) -> None:
    size = (2, 96, 64)
    heads = heads_of("dense", size, 3)
    found = found_by(runtime, bare(form, RULES, top_k), size, heads)
    assert found["boxes"].shape == (2, top_k, 4)
    assert_same_faces(found, [boxes[:top_k] for boxes in RULES.decode(heads, size[1:])])


def test_the_outputs_are_faces_then_heads_if_they_are_kept() -> None:
    models = [onnx.load_from_string(bare((1, 64, 64), RULES, 9, keep=keep)) for keep in (False, True)]
    names = [[output.name for output in model.graph.output] for model in models]
    assert names == [list(OUTPUTS), [*OUTPUTS, *MODEL.output_names]]


@pytest.fixture(scope="module")
def artifacts(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, ...]:
    options = Options(BOTH, input_shape=(2, 3, 256, 256), postprocessing=Postprocessing(keep_heads=True))
    return convert(checkpoint, tmp_path_factory.mktemp("faces"), options)


def scenes() -> npt.NDArray[np.uint8]:
    return np.stack([draw_scene(seed, 256, 256).image for seed in (0, 118)])


def test_the_artifacts_are_sound_and_find_the_faces_of_their_own_heads(artifacts: tuple[Artifact, ...]) -> None:
    onnx.checker.check_model(onnx.load(artifacts[0].path), full_check=True)
    for artifact in artifacts:
        found = load(artifact.path, MODEL).run(scenes())
        assert list(found) == [*OUTPUTS, *MODEL.output_names]
        assert_same_faces(found, RULES.decode(found, (256, 256)))
        assert (found["count"] > 0).all()


def test_detect_takes_the_faces_as_they_come(
    artifacts: tuple[Artifact, ...], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    plain = convert(checkpoint, tmp_path, Options(("onnx",), input_shape=(2, 3, 256, 256)))[0]
    expected = Detector(plain.path, MODEL).find(list(scenes()))
    for artifact in artifacts:
        for ours, right in zip(Detector(artifact.path, MODEL).find(list(scenes())), expected, strict=True):
            np.testing.assert_allclose(table(ours), table(right), atol=1e-2)


def test_detect_cannot_find_what_the_file_leaves_out(checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = Options(("onnx",), input_shape=(1, 3, 64, 64), postprocessing=Postprocessing(score_threshold=0.6))
    path = convert(checkpoint, tmp_path, options)[0].path
    with pytest.raises(UsageError, match=r"0\.5.*ssh-mxnet"):
        Detector(path, MODEL, DetectorOptions(threshold=0.5))
    assert Detector(path, MODEL, DetectorOptions(threshold=0.7)).task.iou_threshold == RULES.iou_threshold


@pytest.mark.long
@pytest.mark.parametrize(
    "keep", [pytest.param(True, id="with heads", marks=pytest.mark.long), pytest.param(False, id="faces alone")]
)
def test_verify_holds_the_faces_to_the_original(keep: bool, demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    as_was = Options(("onnx",), input_shape=(1, 3, 128, 128), preprocessing=False)
    original = load(convert(demo_checkpoint, tmp_path / "original", as_was)[0].path, MODEL)
    reference = LiveReference(original, MODEL, scenes=1)
    options = Options(BOTH, input_shape=(1, 3, 128, 128), postprocessing=Postprocessing(keep_heads=keep))
    made = convert(demo_checkpoint, tmp_path, options)
    report = verify(MODEL, reference, [Candidate(item.path, "FP32") for item in made])
    assert report.passed, report.failures
    assert all(artifact.matched > 0 for artifact in report.artifacts)
    # The heads are compared inside the file too if it gives the results alone.
    assert all(sample.tensors for artifact in report.artifacts for sample in artifact.samples)
    assert "matched" in render_html(report, {})

    wrong = replace(options, formats=("onnx",), postprocessing=Postprocessing(iou_threshold=0.9, keep_heads=keep))
    path = convert(demo_checkpoint, tmp_path / "wrong", wrong)[0].path
    model = onnx.load(path)
    for entry in model.metadata_props:  # it says 0.3, and does 0.9
        entry.value = "0.3" if entry.key == "iou_threshold" else entry.value
    onnx.save(model, path)
    report = verify(MODEL, reference, [Candidate(path, "FP32")])
    assert "detections" in {failure.check for failure in report.failures}


@pytest.mark.parametrize("key", ["score_threshold", "iou_threshold", "top_k"])
@pytest.mark.parametrize(
    "value",
    ["", "x", "nan", "-nan", "inf", "-inf", "1e999", "-1", "0", "\u0661", "0_1", " 1", "1\n", "1" * 5000, None, 2e9],
)
def test_what_the_metadata_say_of_faces_must_be_numbers_within_bounds(key: str, value: object) -> None:
    right = {"postprocessing_inside": "boxes", "score_threshold": "0.05", "iou_threshold": "1.0", "top_k": "9"}
    assert declared(Path("a.onnx"), right, [1, 3, 64, 64]).faces == Inside(0.05, 1.0, 9)
    with pytest.raises(ArtifactError, match=f"a.onnx: .* {key} ") as error:
        declared(Path("a.onnx"), right | {key: value}, [1, 3, 64, 64])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("boxes", "scores", "count"),
    [
        pytest.param((1, 5, 4), (1, 5), [6], id="more faces than boxes"),
        pytest.param((5, 4), (5,), [5], id="boxes of no image"),
        pytest.param((1, 5, 6), (1, 5), [5], id="boxes of six numbers"),
        pytest.param((1, 5, 4), (1, 4), [4], id="a box without a score"),
        pytest.param((1, 5, 4), (1, 5), [5, 5], id="an image without boxes"),
    ],
)
def test_outputs_that_are_no_faces_are_refused(
    boxes: tuple[int, ...], scores: tuple[int, ...], count: list[int]
) -> None:
    with pytest.raises(DetectionError, match="boxes, scores, count"):
        RULES.decode_inside({"boxes": np.zeros(boxes), "scores": np.zeros(scores), "count": np.array(count)})


def test_faces_of_any_size_come_from_one_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = Options(BOTH, dynamic=Dynamic.ALL, postprocessing=Postprocessing(keep_heads=True))
    for artifact in convert(checkpoint, tmp_path, options):
        runtime = load(artifact.path, MODEL)
        for height, width in ((32, 33), (200, 131)):
            images = np.stack([draw_scene(seed, height, width).image for seed in (1, 2)])
            found = runtime.run(images)
            assert_same_faces(found, RULES.decode(found, (height, width)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--top-k", "5"), "--postprocess"),
        (("--postprocess", "--score-threshold", "0"), "--score-threshold: 0 is not above 0"),
        (("--postprocess", "--iou-threshold", "1.5"), "--iou-threshold"),
    ],
    ids=["alone", "score", "overlap"],
)
def test_options_that_mean_nothing_are_refused(options: Sequence[str], message: str, tmp_path: Path) -> None:
    assert message in sshtool("convert", "-o", tmp_path, *options, code=2).stderr


def test_the_command_says_what_is_inside(checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = ("--postprocess", "--score-threshold", "0.2", "--top-k", "50", "--input-shape", "1,3,64,64", "--json")
    result = sshtool("convert", "--checkpoint", checkpoint.params_path, "-o", tmp_path, *options)
    for artifact in json.loads(result.stdout)["result"]["artifacts"]:
        declaration = load(Path(artifact["path"]), MODEL).declaration
        assert declaration.faces is not None
        assert (declaration.faces.score_threshold, declaration.faces.top_k) == (0.2, 50)
