"""A file's post-processing, tried on made-up heads: healthy files pass, and each planted fault is caught."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from sshconvert.checkpoint import open_checkpoint
from sshconvert.convert import convert
from sshconvert.editable import Arithmetic
from sshconvert.formats.registry import artifact_files, format_of
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Dynamic, InputType, Layout, Options, Postprocessing, Precision
from sshconvert.tasks.detection import detection_task
from sshconvert.tasks.faults import Editable, Fault, Stage
from sshtool.candidates import Candidate
from sshtool.demo.network import write_demo
from sshtool.parity.faults import faults_of
from sshtool.parity.postprocessing import check_postprocessing, untried
from sshtool.parity.reference import Answer, Reference
from sshtool.parity.samples import Sample
from sshtool.parity.verify import Failure, Rules, verify
from sshtool.runtimes.loading import load
from sshtool.sandbox import Limits, confine

pytestmark = pytest.mark.independent

SSH: Final = "ssh-mxnet"
MASKS: Final = "retinaface-anti-cov"  # with landmarks and an attribute
YOLO: Final = "mobilefacedet-v1-mxnet"
SIZE: Final = (128, 160)
OTHER: Final = (96, 96)
CHECK: Final = "post-processing"


class Shapes(Reference):
    """Answers of zeros, which have the shapes of the heads."""

    def __init__(self, model: ModelSpec) -> None:
        self.source, self.weights, self._task = "shapes", "", detection_task("", model.task)

    def answers(self, *size: int) -> Sequence[Answer]:
        return [self._at(size)]

    def other_size(self) -> Answer | None:
        return self._at(OTHER)

    def _at(self, size: tuple[int, ...]) -> Answer:
        sample = Sample("zeros", "", np.zeros((1, *size, 3), np.uint8))
        return Answer(sample, head_shapes(self._task, size))


def head_shapes(task: Any, size: tuple[int, ...]) -> dict[str, Any]:
    """Zeros of the shapes of a task's heads."""
    shapes = {}
    for head in task.heads:
        of_head = head.tensors if hasattr(head, "sizes") else ((head.output, 6),)
        anchors = len(head.sizes if hasattr(head, "sizes") else head.anchors)
        for name, channels in of_head:
            shapes[name] = np.zeros((1, channels * anchors, *(-(-side // head.stride) for side in size)), np.float32)
    return shapes


@dataclass(frozen=True, eq=False)
class Demo:
    """A model, and where its demo checkpoint and its files lie."""

    model: ModelSpec
    folder: Path

    @cached_property
    def checkpoint(self) -> Any:
        write_demo(self.folder, self.model)
        return open_checkpoint(self.folder, self.model)

    @cache  # noqa: B019  # as long as the module's tests
    def made(self, **options: Any) -> dict[str, Path]:
        """Convert with post-processing, and return the files by their suffixes."""
        options = {"input_shape": (1, 3, *SIZE), "postprocessing": Postprocessing(), **options}
        number = len(list(self.folder.iterdir()))
        folder = self.folder / f"made{number}"
        return {item.path.suffix: item.path for item in convert(self.checkpoint, folder, Options(**options))}


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Demo]:
    @cache
    def demo(name: str) -> Demo:
        return Demo(load_model(name), tmp_path_factory.mktemp(name))

    return demo


def found_in(path: Path, model: ModelSpec) -> list[str]:
    return [item.message for item in check_postprocessing(load(path, model), model, Shapes(model))]


FORMS: Final[dict[str, dict[str, Any]]] = {
    "fixed": {},
    "fp16": {"precisions": (Precision.FP16,)},
    "batch of 4, u8, NHWC, heads kept": {
        "input_shape": (4, 3, *SIZE),
        "layout": Layout.NHWC,
        "input_type": InputType.UINT8,
        "postprocessing": Postprocessing(keep_heads=True),
    },
    "few detections": {"postprocessing": Postprocessing(top_k=7)},
    "other thresholds": {"postprocessing": Postprocessing(score_threshold=0.62, iou_threshold=0.55)},
    "thresholds near 1": {"postprocessing": Postprocessing(score_threshold=0.999, iou_threshold=0.99, top_k=5000)},
    "thresholds near 0": {"postprocessing": Postprocessing(score_threshold=0.001, iou_threshold=0.001, top_k=3)},
    "thresholds of 1": {"postprocessing": Postprocessing(score_threshold=1.0, iou_threshold=1.0, top_k=1)},
    "smaller than a cell": {"input_shape": (1, 3, 32, 32)},
    "any number": {"dynamic": Dynamic.BATCH},
    "any size": {"dynamic": Dynamic.ALL},
}
SHORT: Final = {(MASKS, "fixed"), (YOLO, "batch of 4, u8, NHWC, heads kept")}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        pytest.param(name, form, marks=() if (name, form) in SHORT else pytest.mark.long)
        for name in (SSH, MASKS, YOLO)
        for form in FORMS
        # The loader refuses such a file: it keeps all candidates, of which a large image has too many.
        if (name, form) != (YOLO, "any size")
    ],
)
def test_a_healthy_file_gives_what_the_decoding_in_float64_gives(
    name: str, form: str, demos: Callable[[str], Demo]
) -> None:
    demo = demos(name)
    for path in demo.made(**FORMS[form]).values():
        assert found_in(path, demo.model) == []


@pytest.mark.long
def test_the_sandbox_runs_the_part_behind_the_heads_too(demos: Callable[[str], Demo]) -> None:
    demo = demos(YOLO)
    confine(Limits())
    for path in demo.made().values():
        assert found_in(path, demo.model) == []
        assert found_in(path, demo.model.model_copy(update={"task": spoilt(demo.model.task)})) != []


def spoilt(task: Any) -> Any:
    """Return a task whose anchors are a pixel wider."""
    heads = [
        head.model_copy(update={"anchors": tuple((width + 1, height) for width, height in head.anchors)})
        for head in task.heads
    ]
    return task.model_copy(update={"heads": tuple(heads)})


def test_bf16_which_rounds_coordinates_too_is_left_out_with_its_reason(demos: Callable[[str], Demo]) -> None:
    demo = demos(YOLO)
    runtime = load(demo.made()[".xml"], demo.model)
    assert untried(runtime, demo.model) == ""
    runtime.inference_precision = "bf16"
    assert "rounds the coordinates" in untried(runtime, demo.model)
    assert list(check_postprocessing(runtime, demo.model, Shapes(demo.model))) == []


# --- Planted faults ---------------------------------------------------------------------------------------------------


def inside_faults_of(model: ModelSpec) -> dict[str, Fault]:
    return {fault.name: fault for fault in faults_of(model) if fault.stage is Stage.INSIDE}


def failures_of(path: Path, model: ModelSpec) -> tuple[Failure, ...]:
    """What the verification says: it runs the network only if the post-processing is right."""
    return verify(model, Shapes(model), [Candidate(path, "FP32")], Rules(thorough=False)).failures


def planted(path: Path, plant: Callable[[Editable], None], folder: Path) -> Path:
    """Copy a file, and plant a fault in the copy."""
    copy = folder / path.name
    for file in artifact_files(path):
        shutil.copyfile(file, folder / file.name)
    edited = format_of(copy).edit(copy)
    plant(edited)
    edited.save()
    return copy


def grid(task: Any, axis: str) -> Callable[[Editable], None]:
    """Give the last row or column of the coarsest stride the place of the one before."""
    stride = max(head.stride for head in task.heads)
    number = SIZE[0 if axis == "rows" else 1] // stride
    values = np.array([number - 2], np.float32)
    return lambda copy: copy.combine(f"faces_stride{stride}_{axis}_float", Arithmetic.LESSER, values)


def declared(key: str, value: str) -> Callable[[Editable], None]:
    return lambda copy: copy.declare(key, value)


def further(task: Any) -> dict[str, Callable[[Editable], None]]:
    """Return smaller faults than the self-test's. A file that declares another number applies a wrong one."""
    score, overlap = task.score_threshold, task.iou_threshold
    return {
        "the last row of the coarsest stride": grid(task, "rows"),
        "the last column of the coarsest stride": grid(task, "columns"),
        "a score threshold a fifth too low": declared("score_threshold", str(score * 1.25)),
        "a score threshold 1e-5 too high": declared("score_threshold", str(score * (1 - 1e-5))),
        "an overlap 0.7 % too low": declared("iou_threshold", f"{overlap * 0.302 / 0.3:.6g}"),
        "an overlap 0.2 % too high": declared("iou_threshold", f"{overlap * 0.998:.6g}"),
        "more detections than declared": declared("top_k", "7"),
        "scores a unit in the last place too high": lambda copy: copy.combine(
            "scores", Arithmetic.MULTIPLY, np.full((1, 1), 1 + 2.0**-20, np.float32)
        ),
        "boxes larger by 15 in a million": lambda copy: copy.combine(
            "boxes", Arithmetic.MULTIPLY, np.full((1, 1, 1), 1 + 2.0**-16, np.float32)
        ),
    }


def caught(demo: Demo, suffix: str, plants: Mapping[str, Callable[[Editable], None]], folder: Path) -> set[str]:
    """Return the names of the faults that the test of the post-processing catches."""
    names = set()
    for number, (fault, plant) in enumerate(plants.items()):
        place = folder / str(number)
        place.mkdir()
        failures = failures_of(planted(demo.made()[suffix], plant, place), demo.model)
        if {failure.check for failure in failures} == {CHECK}:
            names.add(fault)
    return names


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_faults_that_no_sample_shows_are_caught(suffix: str, demos: Callable[[str], Demo], tmp_path: Path) -> None:
    demo = demos(YOLO)
    names = ("the last row of the coarsest stride", "an overlap 0.2 % too high", "boxes larger by 15 in a million")
    plants = further(demo.model.task)
    assert caught(demo, suffix, {name: plants[name] for name in names}, tmp_path) == {*names}


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize("name", [SSH, MASKS, YOLO])
def test_each_fault_in_the_post_processing_is_caught(
    name: str, suffix: str, demos: Callable[[str], Demo], tmp_path: Path
) -> None:
    demo = demos(name)
    of_self_test = {key: fault.plant for key, fault in inside_faults_of(demo.model).items() if fault.plant}
    plants = {**of_self_test, **further(demo.model.task)}
    assert len(plants) >= 27
    assert caught(demo, suffix, plants, tmp_path) == plants.keys()


def test_a_file_without_the_heads_is_a_named_failure(demos: Callable[[str], Demo], tmp_path: Path) -> None:
    demo = demos(YOLO)
    (head, *_) = demo.model.output_names

    def rename(copy: Any) -> None:
        copy.changed = True
        for node in copy._nodes:
            for names in (node.input, node.output):
                names[:] = ["another" if name == head else name for name in names]

    (failure,) = failures_of(planted(demo.made()[".onnx"], rename, tmp_path), demo.model)
    assert failure.check == CHECK
    assert f"computes no tensor {head}" in failure.message
