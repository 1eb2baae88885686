"""OpenVINO's Model API opens the files that are for it, and finds what `detect` and `predict` find."""

from __future__ import annotations

import contextlib
import io
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

from environments import run
from sshconvert.arrays import Pixels
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.convert import convert
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Color, InputType, Layout, Options, Postprocessing
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.inside import OutputForm
from sshtool.demo.network import write_demo
from sshtool.demo.scenes import draw_scene
from sshtool.detector import Detector, DetectorOptions
from sshtool.package.layouts import LAYOUTS
from sshtool.package.packaged_model import packaged_model, read_contract
from sshtool.package.usage import examples
from sshtool.prediction import Classified, PredictOptions, predict
from sshtool.runtimes.base import Settings
from sshtool.workspace import Workspace

pytestmark = [pytest.mark.independent, pytest.mark.consumer]

NAME: Final = "model-api"
SIZE: Final = 320
SIZES: Final = ((320, 320), (500, 375), (190, 570), (700, 640), (610, 200))
INSIDE: Final = Postprocessing(form=OutputForm.MODEL_API)

# The two resize alike but for single pixels by one level, which moves boxes by 0.0005 and scores by 0.0004 (measured).
CORNER: Final = 0.01
SCORE: Final = 0.002

# Forms of the inputs and outputs of the SSH demo's files.
USUAL: Final = Options(input_shape=(1, 3, SIZE, SIZE), postprocessing=INSIDE)
IR: Final = replace(USUAL, formats=("openvino",))
ONNX: Final = replace(USUAL, formats=("onnx",))
FORMS: Final = {
    "ir": IR,
    "onnx": ONNX,
    "bytes": replace(IR, layout=Layout.NHWC, input_type=InputType.UINT8, color=Color.RGB),
    "original input": replace(ONNX, preprocessing=False, postprocessing=replace(INSIDE, keep_heads=True)),
}
# With landmarks, and without corner pixels. The weights of the second are random, and few scores reach its threshold.
OTHERS: Final = (("retinaface-mnet25", None), ("mobilefacedet-v1-mxnet", 0.1))


@pytest.fixture(scope="module")
def python(environment: Callable[..., Path]) -> Path:
    return environment(NAME)


@pytest.fixture(scope="module")
def scenes() -> dict[str, Pixels]:
    return {f"{height}x{width}": draw_scene(7, height, width).image for height, width in SIZES}


def demo(name: str, folder: Path, threshold: float | None = None) -> Checkpoint:
    model = load_model(name)
    model = model.model_copy(update={"task": model.task.with_thresholds(threshold)})
    folder.mkdir()
    write_demo(folder, model)
    return open_checkpoint(folder, model)


def results(python: Path, images: Mapping[str, Pixels], folder: Path, *files: Path) -> list[Any]:
    """What Model API says of each file."""
    arrays: dict[str, Any] = dict(images)  # numpy 2 types its flag among them
    np.savez(folder / "images.npz", **arrays)
    answers: list[Any] = run(python, "model_api_results", folder / "images.npz", *files)
    return answers


def is_same(answer: Any, images: Mapping[str, Pixels], path: Path, model: ModelSpec) -> bool:
    """Whether Model API's boxes are ours to the rounded pixel, with our scores and the label."""
    assert isinstance(model.task, DetectionTask)
    options = DetectorOptions(settings=Settings(threads=1), threshold=model.task.score_threshold)
    detector = Detector(path, model, options)
    same, count = answer["wrapper"] == "SSD", 0
    for name, image in images.items():
        (ours,) = detector.find([image])
        theirs, last = answer["results"][name], np.array(image.shape[1::-1] * 2) - detector.task.last_pixel
        same &= len(theirs) == len(ours) and all(row[5:] == [0, "face"] for row in theirs)
        if same:
            # Model API clips to the width, we to the last pixel.
            corners = np.minimum(np.array([row[:4] for row in theirs]).reshape(-1, 4), last)
            same &= bool((np.abs(corners - ours.boxes) <= 0.5 + CORNER).all())
            same &= np.allclose([row[4] for row in theirs], ours.scores, rtol=0, atol=SCORE)
        count += len(ours)
    return same and count >= len(images)


def test_a_detectors_boxes_are_ours_to_the_rounded_pixel(
    python: Path, scenes: dict[str, Pixels], demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    model = demo_checkpoint.model
    paths = {}
    for name, options in FORMS.items():
        (artifact,) = convert(demo_checkpoint, tmp_path / name, options)
        paths[name] = artifact.path
    first, *others = paths.values()
    (of_first,) = results(python, scenes, tmp_path, first)
    assert is_same(of_first, scenes, first, model)
    some = {name: scenes[name] for name in ("190x570", "610x200")}
    for path, answer in zip(others, results(python, some, tmp_path, *others), strict=True):
        assert is_same(answer, some, path, model), path
    (other,) = convert(demo_checkpoint, tmp_path / "plain", replace(IR, postprocessing=Postprocessing()))
    assert not is_same(of_first, scenes, other.path, model)  # another letterbox gives other boxes


@pytest.mark.parametrize(("name", "threshold"), OTHERS)
def test_other_detectors_are_ours_too(
    python: Path, scenes: dict[str, Pixels], name: str, threshold: float | None, tmp_path: Path
) -> None:
    checkpoint = demo(name, tmp_path / "checkpoint", threshold)
    (artifact,) = convert(checkpoint, tmp_path / "out", IR)
    (answer,) = results(python, scenes, tmp_path, artifact.path)
    assert is_same(answer, scenes, artifact.path, checkpoint.model)


def test_the_classes_and_scores_of_a_classifier_are_those_of_predict(python: Path, tmp_path: Path) -> None:
    """`predict` crops 224 of 256 pixels, Model API the whole square: it gets those 224 pixels."""
    checkpoint = demo("octave-resnet-26-0.25", tmp_path / "checkpoint")
    workspace = Workspace(checkpoint.model, tmp_path / "out")
    artifacts = convert(checkpoint, workspace.folder, Options())
    images = {str(seed): draw_scene(seed, 256, 256).image for seed in range(4)}
    for name, image in images.items():
        Image.fromarray(image[..., ::-1]).save(tmp_path / f"{name}.png")
    centres = {name: image[16:240, 16:240] for name, image in images.items()}
    for answer in results(python, centres, tmp_path, *(artifact.path for artifact in artifacts)):
        assert answer["wrapper"] == "Classification"
        result = predict(workspace, [tmp_path / f"{name}.png" for name in images], PredictOptions())
        for name, ours in zip(images, result.images, strict=True):
            assert isinstance(ours, Classified)
            assert [row[0] for row in answer["results"][name]] == [one.number for one in ours.classes]
            scores = [one.score for one in ours.classes]
            np.testing.assert_allclose([row[2] for row in answer["results"][name]], scores, rtol=1e-4, atol=1e-6)


def test_model_api_opens_no_other_file(python: Path, demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    shape = (1, 3, 64, 64)
    options = [Options(input_shape=shape), Options(input_shape=shape, postprocessing=Postprocessing())]
    made = [convert(demo_checkpoint, tmp_path / str(number), item) for number, item in enumerate(options)]
    embedder = demo("face-recognition-mobilefacenet-arcface", tmp_path / "embedder")
    made.append(convert(embedder, tmp_path / "embedding", Options()))
    files = [artifact.path for artifacts in made for artifact in artifacts]
    answers = results(python, {}, tmp_path, *files)
    assert len(answers) == 6
    assert all("There is no model with name" in answer.get("error", "") for answer in answers)


def test_the_program_of_the_model_card_runs(python: Path, demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = convert(demo_checkpoint, tmp_path, IR)[0].path
    item = packaged_model(path, read_contract(path), demo_checkpoint.model.name, LAYOUTS["flat"], verified=False)
    Image.fromarray(draw_scene(7, 400, 600).image[..., ::-1]).save(tmp_path / demo_checkpoint.model.name / "photo.jpg")
    (*_, (plain, decoding), (title, program)) = examples(demo_checkpoint.model, [item])
    assert (plain, title) == ("From the outputs to faces", "Model API")
    place = tmp_path / demo_checkpoint.model.name
    shown = subprocess.run([python, "-c", program], cwd=place, capture_output=True, text=True, check=True).stdout
    assert "(face): 0." in shown
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(decoding, {"np": np, "outputs": [np.array([[[1, 2, 3, 4, 0.9], [0] * 5]]), np.zeros((1, 2), np.int32)]})  # noqa: S102  # our own program
    assert printed.getvalue().strip() == "[[1.  2.  3.  4.  0.9]]"
