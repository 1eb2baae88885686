"""Detectors with landmarks and attributes: a real photograph, planted faults, and a package, with trained weights."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

from command_line import sshtool
from mask_detector import MASKED, TRAINED, masked_checkpoint, trained_checkpoint
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.digest import file_sha256
from sshconvert.models.registry import dump_model
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Dynamic, Options, Postprocessing
from sshconvert.tasks.detection import detection_task
from sshconvert.tasks.faults import Fault
from sshtool.candidates import Candidate
from sshtool.parity.faults import faults_of
from sshtool.parity.reference import Answer, LiveReference, Reference
from sshtool.parity.samples import draw_sample
from sshtool.parity.selftest import Verdict, self_test
from sshtool.parity.verify import verify
from sshtool.runtimes.base import Runtime
from sshtool.runtimes.loading import load

pytestmark = pytest.mark.independent

BOTH: Final = ("onnx", "openvino")
PHOTO_SHA256: Final = "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"
ANSWER: Final = "detections-retinaface/astronaut_512x512.npz"
SIDE: Final = 256


@pytest.fixture(scope="module")
def photo() -> Path:
    """NASA's photograph of Eileen Collins, as the package scikit-image brings it."""
    found = find_spec("skimage")
    if found is None or found.origin is None:
        pytest.skip("scikit-image, which brings the photograph, is not installed")
    path = Path(found.origin).parent / "data" / "astronaut.png"
    assert file_sha256(path) == PHOTO_SHA256
    return path


@pytest.fixture(scope="module")
def trained(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return trained_checkpoint(tmp_path_factory.mktemp("trained"), shared_data)


@pytest.fixture(scope="module")
def masked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return masked_checkpoint(tmp_path_factory.mktemp("masked"), shared_data)


@pytest.fixture(scope="module")
def answer(shared_data: Path) -> dict[str, Any]:
    """Upstream's head tensors, box and landmarks of the photograph."""
    return dict(np.load(shared_data / ANSWER))


def test_upstreams_head_tensors_give_upstreams_box_and_landmarks(answer: dict[str, Any]) -> None:
    (found,) = detection_task("", TRAINED.task).decode(answer, tuple(answer["image_size"].tolist()))
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes, answer["detections"][:, :4], atol=1e-3)
    np.testing.assert_allclose(found.scores, answer["detections"][:, 4], atol=1e-6)
    assert found.landmarks is not None
    np.testing.assert_allclose(found.landmarks, answer["landmarks"], atol=1e-3)


def found_in(image: Path, *options: str | Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sshtool("detect", image, *options, "--json").stdout)["detections"]
    return found


@pytest.mark.parametrize(
    ("precision", "form", "postprocess", "pixels"),
    [
        pytest.param("FP32", "onnx", False, 1e-3, id="FP32 ONNX"),
        pytest.param("FP16", "openvino", True, 0.01, id="FP16 IR, detections inside"),
        *(
            pytest.param(precision, form, inside, pixels, id=f"{precision} {form} {inside}", marks=pytest.mark.long)
            for precision, pixels in (("FP32", 1e-3), ("FP16", 0.01))
            for form in BOTH
            for inside in (False, True)
        ),
    ],
)
def test_a_real_photograph_gives_upstreams_box_and_landmarks(
    precision: str,
    form: str,
    postprocess: bool,
    pixels: float,
    photo: Path,
    trained: Checkpoint,
    answer: dict[str, Any],
    tmp_path: Path,
) -> None:
    inside = ("--postprocess",) if postprocess else ()
    place = ("--model", TRAINED.name, "-o", tmp_path)
    options = ("--checkpoint", trained.params_path.parent, "--precision", precision, "--format", form)
    sshtool("convert", *place, *options, "--input-shape", "1,3,512,512", *inside)
    suffix = {"onnx": "onnx", "openvino": "xml"}[form]
    artifact = tmp_path / TRAINED.name / precision / f"{TRAINED.name}.{suffix}"
    (face,) = found_in(photo, *place, "--artifact", artifact, "--save-images")
    np.testing.assert_allclose(face["box"], answer["detections"][0, :4], atol=pixels)
    np.testing.assert_allclose(face["landmarks"], answer["landmarks"][0], atol=pixels)
    assert face["score"] == pytest.approx(answer["detections"][0, 4], abs=1e-4)
    picture = np.asarray(Image.open(tmp_path / TRAINED.name / "detections" / "astronaut.png").convert("RGB"))
    for x, y in face["landmarks"]:
        assert tuple(picture[round(y), round(x)]) == (255, 90, 60)


def original(checkpoint: Checkpoint, folder: Path) -> Runtime:
    """ONNX Runtime with a file of any size and without preprocessing, in the original's place."""
    options = Options(("onnx",), dynamic=Dynamic.ALL, preprocessing=False)
    return load(convert(checkpoint, folder, options)[0].path, checkpoint.model)


class Scenes(Reference):
    """The answers to two drawn scenes, with a face each."""

    def __init__(self, runtime: Runtime) -> None:
        self.source, self.weights, self.runtime = str(runtime), runtime.declaration.weights, runtime

    @cache  # noqa: B019  # as long as one test
    def answers(self, height: int, width: int) -> Sequence[Answer]:
        samples = [draw_sample(f"scene-{number}", MASKED, height, width) for number in range(2)]
        return [Answer(sample, self.runtime.run(sample.images)) for sample in samples]

    def other_size(self) -> Answer | None:
        return None


def own_faults(model: ModelSpec) -> list[Fault]:
    return [fault for fault in faults_of(model) if "landmarks" in fault.name or "attributes" in fault.name]


PLANTED: Final = {
    "landmarks with x and y exchanged",
    "landmarks scaled",
    "landmarks of another anchor",
    "attributes from the wrong channel block",
}
INSIDE: Final = {
    "x and y of the landmarks exchanged inside",
    "landmarks scaled inside",
    "landmarks of another face",
    "attributes halved inside",
    "attributes of another face",
}
DECODED: Final = {f"decoding of {name}" for name in PLANTED}


@pytest.mark.parametrize(
    ("postprocess", "formats"),
    [
        pytest.param(True, ("onnx",), id="detections inside, ONNX"),
        pytest.param(False, BOTH, id="heads, both", marks=pytest.mark.long),
        pytest.param(True, BOTH, id="detections inside, both", marks=pytest.mark.long),
    ],
)
def test_faults_of_landmarks_and_attributes_are_caught(
    postprocess: bool, formats: tuple[str, ...], masked: Checkpoint, tmp_path: Path
) -> None:
    options = Options(formats, input_shape=(1, 3, SIDE, SIDE), postprocessing=Postprocessing() if postprocess else None)
    made = [Candidate(item.path, "FP32") for item in convert(masked, tmp_path / "made", options)]
    reference = Scenes(original(masked, tmp_path / "original"))
    report = verify(MASKED, reference, made)
    assert report.passed, report.failures
    assert sum(image.landmarks for item in report.artifacts for one in item.samples for image in one.detections) >= 10
    planted = self_test(MASKED, reference, made, faults=own_faults(MASKED), verified=report)
    assert planted.passed
    caught = {(item.fault, item.artifact) for item in planted.faults if item.verdict is Verdict.CAUGHT}
    expected = PLANTED | (INSIDE if postprocess else DECODED)
    assert caught == {(name, f"{form} FP32") for name in expected for form in formats}
    checks = {item.fault: item.check for item in planted.faults if item.verdict is Verdict.CAUGHT}
    for name in DECODED & checks.keys():
        assert checks[name] == ("attributes" if "attributes" in name else "landmarks")


@pytest.mark.long
@pytest.mark.parametrize("postprocess", [False, pytest.param(True, id="detections inside")])
def test_the_whole_self_test_passes_for_a_detector_with_landmarks_and_attributes(
    postprocess: bool, masked: Checkpoint, tmp_path: Path
) -> None:
    options = Options(BOTH, input_shape=(1, 3, SIDE, SIDE), postprocessing=Postprocessing() if postprocess else None)
    made = [Candidate(item.path, "FP32") for item in convert(masked, tmp_path / "made", options)]
    reference = LiveReference(original(masked, tmp_path / "original"), MASKED)
    planted = self_test(MASKED, reference, made)
    assert planted.passed, [item for item in planted.faults if item.verdict is Verdict.MISSED]


@pytest.mark.parametrize(
    "inside", [pytest.param(False, id="heads"), pytest.param(True, id="inside", marks=pytest.mark.long)]
)
def test_a_package_of_a_detector_with_landmarks_is_checked_and_the_code_of_its_card_runs(
    inside: bool, photo: Path, masked: Checkpoint, answer: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "masked.toml").write_bytes(dump_model(MASKED))
    place = ("--model", tmp_path / "masked.toml", "-o", tmp_path / "out")
    post = ("--postprocess",) if inside else ()
    sshtool(
        "convert", *place, "--checkpoint", masked.params_path.parent, "--input-shape", "1,3,512,512", *post, "--quiet"
    )
    sshtool("package", *place, "--allow-unverified", "--quiet")
    folder = tmp_path / "out" / "releases" / "masked-flat"
    checked = json.loads(sshtool("check", folder, "--json", code=3).stdout)["result"]
    assert checked["findings"] == []  # but no answers of MXNet

    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "landmarks" in card
    assert "mask" in card
    parts = dict(re.findall(r"### ([^\n]+)\n\n```python\n(.*?)\n```", card, re.DOTALL))
    Image.open(photo).save(folder / "photo.png")
    expected = np.concatenate([answer["detections"][0], answer["landmarks"][0].ravel()])
    for title in ("ONNX Runtime", "OpenVINO"):
        end = "np.save('found.npy', faces)"
        if inside:
            end = "np.save('found.npy', np.concatenate([faces[0], outputs[3][0, 0].ravel(), outputs[4][0, 0]])[None])"
        program = "\n".join([parts[title], parts["From the outputs to faces"], end])
        subprocess.run(
            [sys.executable, "-c", program.replace("photo.jpg", "photo.png")],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (found,) = np.load(folder / "found.npy")
        np.testing.assert_allclose(found[:-1], expected, atol=1e-2)
        assert found[-1] == pytest.approx(0.339, abs=1e-3)


@pytest.mark.long
def test_int8_of_a_detector_with_landmarks_keeps_to_its_drop(trained: Checkpoint, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    image = Image.open(photo).convert("RGB")
    for number in range(30):  # parts and sizes of the photograph, so that faces of several sizes are among them
        left, top, side = 5 * number, 2 * number, 300 + 7 * number
        image.crop((left, top, left + side, top + side)).save(folder / f"{number}.png")
    place = ("--model", TRAINED.name, "-o", tmp_path / "out")
    options = ("--checkpoint", trained.params_path.parent, "--input-shape", "1,3,512,512", "--precision", "FP32,INT8")
    sshtool("convert", *place, *options, "--calibration-data", folder, "--max-drop", "5", "--quiet")
    for suffix in ("onnx", "xml"):
        found = []
        for precision in ("FP32", "INT8"):
            artifact = tmp_path / "out" / TRAINED.name / precision / f"{TRAINED.name}.{suffix}"
            (face,) = found_in(photo, *place, "--artifact", artifact)
            found.append(np.concatenate([face["box"], np.ravel(face["landmarks"])]))
        assert np.abs(found[0] - found[1]).max() < 4
    answers = original(trained, tmp_path / "original")
    made = [Candidate(path) for path in sorted((tmp_path / "out" / TRAINED.name / "INT8").glob("*.[ox][nm]*"))]
    report = verify(TRAINED, LiveReference(answers, TRAINED), made)
    assert report.passed, report.failures
    assert len(report.artifacts) == 2
    quick = ("--runs", "1", "--rounds", "1", "--mode", "latency", "--json")
    benched = json.loads(sshtool("bench", *place, *quick).stdout)["result"]
    labels = {item["label"] for item in benched["candidates"]}
    assert labels == {f"{form} {precision}" for form in BOTH for precision in ("FP32", "INT8")}
