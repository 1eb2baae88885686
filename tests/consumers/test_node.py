"""ONNX files in onnxruntime-node and in onnxruntime-web: the outputs are those of ONNX Runtime for Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest

from inference import in_browser, in_node, in_python, largest_difference
from mask_detector import trained_checkpoint
from pages import find_chromium
from sshconvert.arrays import Array
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.convert import convert
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Postprocessing, Precision
from sshtool.demo.network import write_demo
from sshtool.demo.scenes import draw_scene
from sshtool.quantization import QuantizationOptions, quantization_for

pytestmark = pytest.mark.independent

PACKAGES: Final = "onnxruntime"
TRAINED: Final = "retinaface-mnet25"
PRECISIONS: Final = ("FP32", "FP16", "INT8")
# Of the magnitude of an output. In the browser, float32 is rounded in another order: 0.000008 measured.
CLOSE: Final = 2e-5
# Where that turns a number between two layers of INT8 into the neighbouring of 256 levels: 0.072 measured.
TURNED: Final = 0.1


@dataclass(frozen=True)
class Case:
    """A network and the size of its input; "trained" weights lie beside the repository. `int8` limits INT8."""

    model: str
    size: tuple[int, int]
    trained: bool = False
    int8: float = CLOSE

    def close(self, precision: str) -> float:
        return self.int8 if precision == "INT8" else CLOSE

    def checkpoint(self, folder: Path, request: pytest.FixtureRequest) -> Checkpoint:
        model = load_model(self.model)
        if self.trained:
            return trained_checkpoint(folder, request.getfixturevalue("shared_data"))
        write_demo(folder, model)
        return open_checkpoint(folder, model)

    def __str__(self) -> str:
        return f"{self.model} {'trained' if self.trained else 'demo'}"


SMALL: Final = Case("face-recognition-mobilefacenet-arcface", (112, 112), int8=TURNED)
CASES: Final = (
    SMALL,
    Case("octave-resnet-26-0.25", (224, 224)),
    Case("ssh-mxnet", (320, 320)),
    Case(TRAINED, (320, 320)),
    Case(TRAINED, (640, 640), trained=True, int8=TURNED),
)


def written(case: Case, precision: str, folder: Path, request: pytest.FixtureRequest) -> Path:
    """Write one ONNX file; that of a detector has the faces and the heads as outputs."""
    (folder / "checkpoint").mkdir()
    checkpoint = case.checkpoint(folder / "checkpoint", request)
    detects = checkpoint.model.task.verb == "detect"
    options = Options(
        ("onnx",),
        (Precision(precision),),
        (1, 3, *case.size),
        postprocessing=Postprocessing(keep_heads=True) if detects else None,
    )
    levels = quantization_for(checkpoint, options, QuantizationOptions(calibration_images(folder, case)))
    (artifact,) = convert(checkpoint, folder / "out", options, quantization=levels)
    return artifact.path


def calibration_images(folder: Path, case: Case) -> Path:
    from PIL import Image

    (folder / "images").mkdir()
    for seed in range(4):
        Image.fromarray(draw_scene(300_000 + seed, *case.size).image).save(folder / "images" / f"{seed}.png")
    return folder / "images"


def inputs(model: Path, case: Case) -> dict[str, Array]:
    (tensor,) = onnx.load(model, load_external_data=False).graph.input
    image = draw_scene(7, *case.size).image
    return {tensor.name: np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)}


@pytest.mark.consumer
def test_a_small_network_gives_the_same_in_node(
    node_modules: Callable[..., Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    modules = node_modules(PACKAGES)
    model = written(SMALL, "FP16", tmp_path, request)
    feed = inputs(model, SMALL)
    expected = in_python(model, feed)
    assert largest_difference(in_node(modules, model, feed), expected) == 0
    # The comparison sees an image that is one grey level lighter.
    lighter = {name: array + 1 for name, array in feed.items()}
    assert largest_difference(in_node(modules, model, lighter), expected) > CLOSE


@pytest.mark.long
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_precision_gives_the_same_in_node_and_in_the_browser(
    case: Case, precision: str, node_modules: Callable[..., Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    modules, program = node_modules(PACKAGES), find_chromium()
    model = written(case, precision, tmp_path, request)
    feed = inputs(model, case)
    expected = in_python(model, feed)
    differences = {"node": largest_difference(in_node(modules, model, feed), expected)}
    if program:
        (tmp_path / "served").mkdir()
        found = in_browser(program, modules, model, feed, tmp_path / "served")
        differences["browser"] = largest_difference(found, expected)
    print(f"{case}, {precision}: {differences}")  # noqa: T201  # the figures of the guide
    assert differences["node"] == 0
    assert max(differences.values()) <= case.close(precision)
    # The comparison sees exchanged channels.
    exchanged = {name: np.ascontiguousarray(array[:, ::-1]) for name, array in feed.items()}
    assert largest_difference(in_node(modules, model, exchanged), expected) > case.close(precision)
